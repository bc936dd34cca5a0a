//! What all commands that start a one-off dyno have in common: their options, the request, and the app.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::attach::timeout_awaiting_process;
use super::context::{Context, app_path, current_folder};
use super::deploy::procfile::required;
use super::deploy::release::{Purpose, from_folder};
use super::deploy::root_for;
use super::new_app;
use crate::api::dyno::{CreateDyno, Dyno, MAX_TIME_TO_LIVE};
use crate::api::dyno_size::DynoSize;
use crate::api::link::Link;
use crate::api::target;
use crate::error::{UserError, tell};
use crate::kernel::fail_point;
use crate::model::command_line;
use crate::model::config_var::check_env_name;
use crate::model::size::Size;
use crate::model::time_span;
use crate::slug::{Elsewhere, procfile_elsewhere, tree_is_newer_than};

/// How long to wait for the check of the folder while the dyno starts, which takes longer.
pub const WHILE_IT_STARTS: Duration = Duration::from_millis(1);

/// How long to wait for the check of the folder when the command has ended.
pub const AFTERWARDS: Duration = Duration::ZERO;

/// How many files are looked at to find out whether the folder is newer than the release.
const GLANCE: u64 = 2_000;

/// The options for a one-off dyno.
#[derive(Debug, Args)]
pub struct OneOff {
    /// Size of the dyno, such as 1X, 2X, standard-2x
    #[arg(short, long, value_name = "SIZE")]
    size: Option<String>,
    /// Environment variables, `K=V` or `A=1;B=2`; may be repeated
    #[arg(short, long, value_name = "K=V")]
    env: Vec<String>,
    /// What the dyno's name begins with, instead of `run`
    #[arg(long, value_name = "TYPE")]
    r#type: Option<String>,
    /// End the dyno after this time at the latest, like `90s`, `10m`, `2h`
    #[arg(long, value_name = "TIME", value_parser = time_span::parse)]
    ttl: Option<Duration>,
    /// Deploy this folder first
    #[arg(long)]
    deploy: bool,
    /// The command and its arguments, or a process type of the Procfile
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    words: Vec<String>,
}

impl OneOff {
    /// The words of the command.
    #[cfg(test)]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The request to the server; detached, unless the caller changes that. A size that is not Heroku's is asked the server for,
    /// so that a wrong one is an error before a folder is deployed.
    ///
    /// # Errors
    /// When an option or the command is not valid.
    pub fn request(&self, context: &mut Context) -> Result<CreateDyno> {
        let command = command_line::join(&self.words);
        command_line::check(&command)?;
        let mut request = CreateDyno::new(command);
        request.env = environment(&self.env)?;
        if let Some(size) = &self.size {
            request.size = known_size(context, size)?;
        }
        if let Some(process_type) = &self.r#type {
            request.r#type.clone_from(process_type);
        }
        request.time_to_live = self.ttl.map(seconds_to_live).transpose()?;
        Ok(request)
    }

    /// Has the server start the dyno on `app`.
    ///
    /// # Errors
    /// The server's error; `Timeout awaiting process` when it does not answer in time.
    pub fn start(context: &mut Context, app: &str, request: &CreateDyno) -> Result<Dyno> {
        let timeout = context.settings.attach_timeout;
        let client = context.client()?;
        client.set_patience(Some(timeout))?;
        let made = client.post(&app_path(app, "/dynos"), request);
        let made = made.map_err(|error| in_time(error, app))?;
        fail_point::reach("client.created");
        Ok(made)
    }

    /// The app to run on: named, linked, or created from a folder with a Procfile; and a check of whether the folder is
    /// newer than its release. `quiet`: without output.
    ///
    /// # Errors
    /// When there is no app, or the folder cannot be deployed.
    pub fn app(&self, context: &mut Context, quiet: bool) -> Result<(String, Option<FolderCheck>)> {
        if let Some(app) = context.named_app().map(str::to_owned) {
            if self.deploy {
                let root = root_for(context, &app)?;
                from_folder(context, &app, &root, Purpose::Run { quiet })?;
            }
            return Ok((app, None));
        }
        match context.own_link(&current_folder()?)? {
            Some(link) => {
                let root = Path::new(&link.path);
                let mut look = None;
                if self.deploy || link.app.slug_size.is_none() {
                    from_folder(context, &link.app.name, root, Purpose::Run { quiet })?;
                } else if !quiet && link.packed_at.is_none() {
                    tell!("{}", unknown(&link));
                } else if !quiet {
                    look = FolderCheck::begin(&link);
                }
                Ok((link.app.name, look))
            }
            None => {
                context.check_here()?;
                let here = current_folder()?;
                if !here.join("Procfile").is_file() {
                    if let Some(Elsewhere::Named(_)) = procfile_elsewhere(&here) {
                        required(&here)?;
                    }
                    return Err(context.no_app().into());
                }
                let (app, _) = new_app::of_folder(context, &here, Purpose::Run { quiet })?;
                Ok((app, None))
            }
        }
    }
}

/// The name of the size, as the server has it.
fn known_size(context: &mut Context, size: &str) -> Result<String> {
    if let Some(herokus) = Size::of_heroku(size) {
        return Ok(herokus.name.clone().into_owned());
    }
    let path = format!("/dyno-sizes/{}", target::encode(size));
    let known: DynoSize = context.client()?.get(&path)?;
    Ok(known.name)
}

/// The note about a folder that was linked to an app after its deploy.
fn unknown(link: &Link) -> String {
    format!(
        "{} was linked to {} after its last deploy, which is what runs; `dyno run --deploy` deploys the folder first",
        link.path, link.app.name
    )
}

/// Checks, beside the start of a dyno, whether the folder has changed since its release was packed: the release runs,
/// which may surprise a person who has just changed a file. The start must not wait for it.
#[derive(Debug)]
pub struct FolderCheck {
    answer: Receiver<bool>,
    words: String,
    told: bool,
}

impl FolderCheck {
    fn begin(link: &Link) -> Option<Self> {
        let packed_at = link.packed_at?.0.into();
        let path = PathBuf::from(&link.path);
        let words = format!(
            "{} has changed since {} was deployed; `dyno run --deploy` deploys it first",
            link.path, link.app.name
        );
        let (sender, answer) = mpsc::sync_channel(1);
        let look = move || {
            let newer = tree_is_newer_than(&path, packed_at, GLANCE);
            let _ = sender.send(newer.is_ok_and(|newer| newer));
        };
        // Without a thread there is no check, which would only make a hint.
        let begun = thread::Builder::new().name("look".to_owned()).spawn(look);
        begun.is_ok().then_some(Self {
            answer,
            words,
            told: false,
        })
    }

    /// Prints the note, once, if the folder is newer and that is known within `patience`.
    pub fn tell(look: &mut Option<Self>, patience: Duration) {
        if let Some(look) = look
            && !look.told
            && let Ok(newer) = look.answer.recv_timeout(patience)
        {
            look.told = true;
            if newer {
                tell!("{}", look.words);
            }
        }
    }
}

/// The variables of `-e` options; the last value of a name counts.
///
/// # Errors
/// When one is not valid.
pub fn environment(options: &[String]) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for option in options {
        for (name, value) in command_line::split_env(option)? {
            check_env_name(&name)?;
            all.insert(name, value);
        }
    }
    Ok(all)
}

/// A time to live for the API: whole seconds, from 1.
fn seconds_to_live(time: Duration) -> Result<u32, UserError> {
    let seconds = time.as_secs_f64().ceil();
    if (1.0..=f64::from(MAX_TIME_TO_LIVE)).contains(&seconds) {
        return Ok(seconds as u32);
    }
    let given = time_span::exact(time);
    Err(
        UserError::new(format!("a time to live of {given} is out of bounds"))
            .hint("--ttl takes from `1s` to `24h`"),
    )
}

/// Turns a time-out into the error of Heroku's client.
pub fn in_time(error: anyhow::Error, whom: &str) -> anyhow::Error {
    let late = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| {
            matches!(
                cause.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            )
        });
    if late {
        timeout_awaiting_process(whom).into()
    } else {
        error
    }
}
