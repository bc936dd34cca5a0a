//! `dyno run`: a command in a one-off dyno, on this terminal or between these pipes.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::path::Path;

use anyhow::Result;
use clap::Args;

use super::attach::{Connection, StatusLine, attach, timeout_awaiting_process};
use super::context::{Context, app_path, current_folder, folder, no_app};
use super::deploy;
use crate::api::app::{App, CreateApp};
use crate::api::dyno::{CreateDyno, Dyno};
use crate::api::link::Link;
use crate::command_line;
use crate::config_var::check_env_name;
use crate::frame::PROTOCOL;
use crate::size::Size;
use crate::slug::tree_is_newer_than;
use crate::terminal;

/// How many files are looked at to say that the tree is newer than the release: a glance.
const GLANCE: u64 = 2_000;

/// Run a command in a one-off dyno.
///
/// Options before the command are dyno's; from the first word of the command on, everything is the command's.
/// A single word is shell text; several arrive as they are.
#[derive(Debug, Args)]
pub struct Run {
    /// Size of the dyno, such as 1X, 2X, standard-2x
    #[arg(short, long, value_name = "SIZE")]
    size: Option<String>,
    /// Environment variables, `K=V` or `A=1;B=2`; may be repeated
    #[arg(short, long, value_name = "K=V")]
    env: Vec<String>,
    /// What the dyno's name begins with, instead of `run`
    #[arg(long, value_name = "TYPE")]
    r#type: Option<String>,
    /// Give the command a terminal even if there is none here
    #[arg(long, overrides_with = "no_tty")]
    tty: bool,
    /// Use pipes even on a terminal
    #[arg(long)]
    no_tty: bool,
    /// Do not say what happens
    #[arg(short, long)]
    quiet: bool,
    /// For Heroku's habit: the command's exit status is always passed on
    #[arg(short = 'x', long)]
    exit_code: bool,
    /// Deploy this folder first
    #[arg(long)]
    deploy: bool,
    /// The command and its arguments, or a process type of the Procfile
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    words: Vec<String>,
}

impl Run {
    /// The command's words.
    #[cfg(test)]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Runs it; the result is its exit code.
    pub fn perform(self, mut context: Context) -> Result<u8> {
        let command = command_line::join(&self.words);
        command_line::check(&command)?;
        let mut request = CreateDyno::new(command);
        request.attach = true;
        request.env = self.environment()?;
        if let Some(size) = &self.size {
            request.size = Size::lookup(size)?;
        }
        if let Some(process_type) = &self.r#type {
            request.r#type.clone_from(process_type);
        }
        let on_terminal = terminal::is_terminal(rustix::stdio::stdin())
            && terminal::is_terminal(rustix::stdio::stdout());
        let with_terminal = self.tty || (on_terminal && !self.no_tty);
        request.force_no_tty = !with_terminal;
        if with_terminal {
            add_terminal(&mut request.env);
        }

        let app = self.app(&mut context)?;
        let timeout = context.settings.attach_timeout;
        let client = context.client()?;
        client.set_patience(Some(timeout))?;
        let made = client.post(&app_path(&app, "/dynos"), &request);
        let dyno: Dyno = made.map_err(|error| in_time(error, &app))?;
        let mut status = StatusLine::begin(&request.command, self.quiet);
        status.starting(&dyno.name);
        let target = app_path(&app, &format!("/dynos/{}/attach", dyno.id));
        let upgraded = context.into_client()?.upgrade(&target, PROTOCOL);
        let upgraded = upgraded.map_err(|error| in_time(error, &dyno.name))?;
        let connection = Connection {
            socket: upgraded.socket,
            early: upgraded.received,
            fds: upgraded.fds,
        };
        attach(connection, &dyno.name, status, timeout)
    }

    fn environment(&self) -> Result<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        for argument in &self.env {
            for (name, value) in command_line::split_env(argument)? {
                check_env_name(&name)?;
                all.insert(name, value);
            }
        }
        Ok(all)
    }

    /// The app to run on: named, linked, or made on the spot from a folder with a Procfile.
    fn app(&self, context: &mut Context) -> Result<String> {
        if let Some(app) = context.named_app().map(str::to_owned) {
            if self.deploy {
                let root = deploy::root_for(context, &app)?;
                deploy::from_folder(context, &app, &root, self.quiet)?;
            }
            return Ok(app);
        }
        match context.link()? {
            Some(link) => {
                let root = Path::new(&link.path);
                if self.deploy || link.app.slug_size.is_none() {
                    deploy::from_folder(context, &link.app.name, root, self.quiet)?;
                } else if !self.quiet {
                    self.say_if_newer(&link);
                }
                Ok(link.app.name)
            }
            None => {
                let here = current_folder()?;
                if !here.join("Procfile").is_file() {
                    return Err(no_app().into());
                }
                let request = CreateApp {
                    name: None,
                    folder: Some(folder(&here)?),
                    unless_linked: true,
                };
                // A Procfile that makes no sense leaves no app behind.
                deploy::process_types(&here)?;
                let app: App = context.client()?.post("/apps", &request)?;
                if !self.quiet {
                    eprintln!("Creating {}... done", app.name);
                }
                deploy::from_folder(context, &app.name, &here, self.quiet)?;
                Ok(app.name)
            }
        }
    }

    /// The release is what runs; a person who has just changed a file may think otherwise.
    fn say_if_newer(&self, link: &Link) {
        let Some(packed_at) = link.packed_at else {
            return;
        };
        let newer = tree_is_newer_than(Path::new(&link.path), packed_at.0.into(), GLANCE);
        if newer.is_ok_and(|newer| newer) {
            eprintln!(
                "{} has changed since {} was deployed; `dyno run --deploy` deploys it first",
                link.path, link.app.name
            );
        }
    }
}

/// A server or supervisor that does not answer in time is what Heroku's client says of it.
fn in_time(error: anyhow::Error, whom: &str) -> anyhow::Error {
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

/// What Heroku's client tells of its terminal.
fn add_terminal(env: &mut BTreeMap<String, String>) {
    let term = env::var("TERM").ok().filter(|term| !term.is_empty());
    env.entry("TERM".to_owned())
        .or_insert_with(|| term.unwrap_or_else(|| "xterm".to_owned()));
    if let Some(size) = terminal::size() {
        env.entry("COLUMNS".to_owned())
            .or_insert_with(|| size.columns.to_string());
        env.entry("LINES".to_owned())
            .or_insert_with(|| size.rows.to_string());
    }
}
