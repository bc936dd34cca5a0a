//! `dyno ps:stop`, `ps:restart`, `ps:wait`: the end of dynos.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::context::{Context, app_path};
use super::launch;
use super::wait::{ended_within, exit_code, now, until_ended};
use crate::api::app::App;
use crate::api::dyno::{Dyno, Stopping};
use crate::api::formation::Formation;
use crate::api::release::Release;
use crate::error::{UserError, tell, tell_part};
use crate::model::dyno::DynoName;
use crate::model::time_span;

/// How long a stop usually takes at most. After that, the command prints what it waits for.
const SOON: Duration = Duration::from_secs(2);

/// Stop dynos. One-off dynos are gone then; those of the formation start again.
///
/// All processes in the dyno get SIGTERM; what is left of them after 30 seconds gets SIGKILL.
#[derive(Debug, Args)]
pub struct Stop {
    /// Do not wait until they are gone
    #[arg(long)]
    no_wait: bool,
    /// Dynos, like `run.1`, or process types: all dynos of the type
    #[arg(required = true, value_name = "DYNO|TYPE")]
    dynos: Vec<String>,
}

impl Stop {
    /// Stops the dynos.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        end("Stopping", &self.dynos, self.no_wait, context).map(drop)
    }
}

/// Restart the app's dynos. One-off dynos are stopped, and only if they are named.
#[derive(Debug, Args)]
pub struct Restart {
    /// Do not wait until they are gone
    #[arg(long)]
    no_wait: bool,
    /// Dynos, like `run.1`, or process types: all dynos of the type
    #[arg(value_name = "DYNO|TYPE")]
    dynos: Vec<String>,
}

impl Restart {
    /// Ends the dynos that are named.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        if self.dynos.is_empty() {
            let app = context.app()?;
            tell_part!("Restarting dynos on {app}... ");
            let restarted = context.client()?.delete(&app_path(&app, "/dynos"));
            let _: serde_json::Value = restarted.inspect_err(|_| tell!("failed"))?;
            tell!("done");
            return Ok(());
        }
        if wake(&self.dynos, context)? {
            return Ok(());
        }
        let ended = end("Restarting", &self.dynos, self.no_wait, context)?;
        if ended.iter().any(|dyno| !dyno.formation) {
            tell!("One-off dynos end by a restart, and do not start again.");
        }
        Ok(())
    }
}

/// Wait until a one-off dyno has ended, and exit with its status; without one, until the newest release is what runs.
#[derive(Debug, Args)]
pub struct Wait {
    /// The dyno, like `run.1`; it may have ended already
    #[arg(value_name = "DYNO")]
    dyno: Option<String>,
}

impl Wait {
    /// Whether its exit status is that of a dyno.
    pub fn is_for_dyno(&self) -> bool {
        self.dyno.is_some()
    }

    /// Waits; returns the dyno's exit code.
    pub fn perform(self, context: &mut Context) -> Result<u8> {
        let Some(name) = self.dyno else {
            return until_launched(context).map(|()| 0);
        };
        let name: DynoName = name.parse()?;
        let app = context.app()?;
        let dyno = now(context, &app, &name.to_string())?;
        if dyno.formation && dyno.ended_at.is_none() {
            let message = format!("`{name}` is one of the formation, which has no end");
            return Err(UserError::new(message)
                .hint(
                    "`dyno ps:wait` without a name waits until all of them run the newest release",
                )
                .into());
        }
        tell_part!("Waiting for {name}... ");
        let ended = until_ended(context, &app, &name.to_string()).inspect_err(|_| tell!(""))?;
        tell!(
            "{}",
            ended
                .ended()
                .map_or_else(String::new, |how| how.to_string())
        );
        let code = exit_code(&ended)?;
        if let Some(message) = &ended.end_message {
            tell!("dyno: {message}");
        }
        Ok(code)
    }
}

/// Waits until every dyno of the formation runs the newest release.
fn until_launched(context: &mut Context) -> Result<()> {
    let app = context.app()?;
    let mut releases: Vec<Release> = context.client()?.get_list(&app_path(&app, "/releases"))?;
    let Some(newest) = releases.pop() else {
        return Ok(());
    };
    let release = launch::until_released(context, &app, newest)?;
    let story = format!("Waiting for every dyno to be running v{}", release.version);
    launch::until_up(context, &app, &release, &story)
}

/// Starts a formation again that was stopped with the server, as there are no dynos to restart; it always starts as a
/// whole. Returns whether it was stopped so.
fn wake(names: &[String], context: &mut Context) -> Result<bool> {
    let app = context.app()?;
    let client = context.client()?;
    let known: App = client.get(&app_path(&app, ""))?;
    if !known.asleep {
        return Ok(false);
    }
    let formation: Vec<Formation> = client.get_list(&app_path(&app, "/formation"))?;
    let is_of_it = |name: &String| {
        formation
            .iter()
            .any(|entry| match name.parse::<DynoName>() {
                Ok(dyno) => entry.r#type == dyno.process_type && dyno.number <= entry.quantity,
                Err(_) => entry.r#type == *name && entry.quantity > 0,
            })
    };
    if !names.iter().all(is_of_it) {
        return Ok(false);
    }
    tell!("`server:stop --all` had ended the formation of {app}; all of it comes back");
    tell_part!("Restarting dynos on {app}... ");
    let restarted = client.delete(&app_path(&app, "/dynos"));
    let _: serde_json::Value = restarted.inspect_err(|_| tell!("failed"))?;
    tell!("done");
    Ok(true)
}

/// Dynos that are stopped together, with one line of output.
struct Group {
    /// `run.1`, or `run` for all of a type.
    named: String,
    dynos: Vec<Dyno>,
}

/// Stops the dynos with these names. If a name is unknown, none is stopped. All are told before the first is waited
/// for, so that their grace periods run together.
fn end(verb: &str, names: &[String], no_wait: bool, context: &mut Context) -> Result<Vec<Dyno>> {
    let app = context.app()?;
    let alive: Vec<Dyno> = context.client()?.get_list(&app_path(&app, "/dynos"))?;
    let mut groups = Vec::new();
    for name in names {
        groups.push(meant(name, &alive, &app, context)?);
    }
    let mut grace = Duration::ZERO;
    for dyno in groups.iter().flat_map(|group| &group.dynos) {
        grace = grace.max(stop(dyno, &app, context)?);
    }
    for group in &groups {
        let what = match group.named.contains('.') {
            true => "process",
            false => "processes",
        };
        tell_part!("{verb} {} {what}... ", group.named);
        if !no_wait {
            let gone = until_gone(group, grace, &app, context);
            // An error begins on a line of its own.
            gone.inspect_err(|_| tell!(""))?;
        }
        tell!("{}", if no_wait { "SIGTERM sent" } else { "done" });
    }
    Ok(groups.into_iter().flat_map(|group| group.dynos).collect())
}

fn until_gone(group: &Group, grace: Duration, app: &str, context: &mut Context) -> Result<()> {
    let mut explained = false;
    for dyno in &group.dynos {
        let then = ended_within(context, app, &dyno.id, Some(SOON))?;
        if then.ended_at.is_some() {
            continue;
        }
        if !explained {
            let grace = time_span::rough(grace);
            tell_part!("SIGTERM sent, SIGKILL follows {grace} later... ");
            explained = true;
        }
        until_ended(context, app, &dyno.id)?;
    }
    Ok(())
}

/// The dynos that a name stands for: one, or all of a process type.
fn meant(name: &str, alive: &[Dyno], app: &str, context: &mut Context) -> Result<Group> {
    let full: Result<DynoName, _> = name.parse();
    let dynos: Vec<Dyno> = alive
        .iter()
        .filter(|dyno| dyno.name == name || (full.is_err() && dyno.r#type == name))
        .cloned()
        .collect();
    let named = name.to_owned();
    match (dynos.is_empty(), full) {
        (false, _) => Ok(Group { named, dynos }),
        (true, Err(_)) => Err(no_dynos_of(name, app).into()),
        (true, Ok(_)) => {
            let target = app_path(app, &format!("/dynos/{name}"));
            let dyno: Dyno = context.client()?.get(&target)?;
            match dyno.ended() {
                Some(ended) => Err(
                    UserError::new(format!("`{name}` has ended already: {ended}"))
                        .hint("`dyno ps` lists those that run")
                        .into(),
                ),
                // It has started after the dynos were listed.
                None => Ok(Group {
                    named,
                    dynos: vec![dyno],
                }),
            }
        }
    }
}

/// The error when no dyno of a process type is alive.
pub fn no_dynos_of(process_type: &str, app: &str) -> UserError {
    UserError::new(format!("`{app}` has no dyno of type `{process_type}`"))
        .hint("`dyno ps` lists those that run")
}

/// Has the server stop a dyno; returns how long that may take. A dyno that has ended meanwhile is no error.
fn stop(dyno: &Dyno, app: &str, context: &mut Context) -> Result<Duration> {
    let target = app_path(app, &format!("/dynos/{}/actions/stop", dyno.id));
    let client = context.client()?;
    match client.request("POST", &target, None::<&()>) {
        Ok(Stopping { grace }) => Ok(Duration::try_from_secs_f64(grace).unwrap_or_default()),
        Err(error) => {
            let since: Dyno = client.get(&app_path(app, &format!("/dynos/{}", dyno.id)))?;
            match since.ended_at {
                Some(_) => Ok(Duration::ZERO),
                None => Err(error),
            }
        }
    }
}
