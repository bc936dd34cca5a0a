//! `dyno server:stop`: stops the server; dynos go on, or are stopped first.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;

use super::context::Context;
use crate::api::server::{StartedBy, StopServer, StoppingServer};
use crate::cli::client::patience::LEAVING;
use crate::error::{UserError, tell, tell_part};
use crate::home::lock::Holder;

/// How many dynos of an app are named at most.
const NAMED: usize = 10;

/// Stop the server; dynos go on
///
/// Returns when it is gone. The next command starts another, which finds the dynos again; so a server is replaced or
/// made to read its settings anew. Until then visitors wait, ten seconds at most.
#[derive(Debug, Args)]
pub struct Stop {
    /// End all dynos first: SIGTERM, after a while SIGKILL. They stay down until `ps:restart`, a deploy or `dyno server`
    #[arg(long)]
    all: bool,
}

impl Stop {
    /// Stops the server, and prints what happens to the dynos.
    ///
    /// # Errors
    /// When it does not leave.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        // After a crash, dynos may be alive without a server; a new server can stop them.
        if self.all && context.running().is_ok_and(|server| server.is_none()) && has_dynos(context)
        {
            context.client()?;
        }
        // Between any two of these steps, a server may leave by itself and another one start.
        let deadline = Instant::now() + LEAVING.in_all;
        let mut asked = false;
        while Instant::now() < deadline {
            let holder = Holder::find(&context.home)?;
            let stopping = match context.running() {
                Ok(Some((client, _))) => {
                    let request = StopServer { all: self.all };
                    match client.post::<StoppingServer>("/server/actions/stop", &request) {
                        Ok(stopping) => stopping,
                        Err(error) if error.is::<UserError>() => return Err(error),
                        Err(_) => continue,
                    }
                }
                Ok(None) => {
                    match asked {
                        true => tell!("the server has left"),
                        false => {
                            tell!("no server runs for `{}`", context.home.path().display())
                        }
                    }
                    return Ok(());
                }
                Err(error) => {
                    self.terminate(holder.ok_or(error)?)?;
                    if !self.all || !has_dynos(context) {
                        return Ok(());
                    }
                    // A new server stops the dynos that this one left.
                    context.client()?;
                    continue;
                }
            };
            match holder.filter(|holder| holder.pid == stopping.pid) {
                Some(holder) => return self.wait(&holder, &stopping),
                // The server that answered has just started, or cannot be inspected by this user.
                None => {
                    asked = true;
                    thread::sleep(LEAVING.first);
                }
            }
        }
        Err(UserError::new("the server does not leave")
            .hint("`dyno server:status` says which it is")
            .into())
    }

    /// Waits until a server that was asked to leave has left.
    fn wait(&self, server: &Holder, stopping: &StoppingServer) -> Result<()> {
        let ends = self.all && !stopping.dynos.is_empty();
        let mut patience = LEAVING.in_all;
        if ends {
            let grace = Duration::try_from_secs_f64(stopping.stop_grace).unwrap_or_default();
            patience += grace;
            let grace = crate::model::time_span::rough(grace);
            let dynos = list(&stopping.dynos);
            tell!("Ending {dynos} with SIGTERM, after {grace} with SIGKILL");
        }
        tell_part!("Stopping the server (process {})... ", server.pid);
        if !server.has_ended_within(patience)? {
            tell!("!");
            return Err(stuck(server.pid).into());
        }
        tell!("done");
        if !ends && !stopping.dynos.is_empty() {
            tell!("dynos that go on: {}", list(&stopping.dynos));
        }
        let by_systemd = matches!(stopping.started_by, StartedBy::Systemd { .. });
        let is_web = |name: &String| name.starts_with("web.");
        if !self.all && !by_systemd && stopping.dynos.values().flatten().any(is_web) {
            tell!(
                "visitors wait for the next server, ten seconds at most: the next command starts one, and so does `dyno server`"
            );
        }
        let mut all_back = "`dyno server`".to_owned();
        if let StartedBy::Systemd { unit, user } = &stopping.started_by {
            let systemctl = if *user {
                "systemctl --user"
            } else {
                "systemctl"
            };
            tell!("systemd starts it again; `{systemctl} stop {unit}` stops it for good");
            all_back = format!("`{systemctl} restart {unit}`");
        }
        if self.all && stopping.asleep > 0 {
            tell!(
                "formations stay down until they are told to come back: `dyno ps:restart -a APP`, a deploy or `ps:scale` of the app, or {all_back} for all"
            );
        }
        Ok(())
    }

    /// Terminates a server that does not answer.
    fn terminate(&self, server: Holder) -> Result<()> {
        tell_part!(
            "The server (process {}) does not answer. Sending SIGTERM... ",
            server.pid
        );
        server.terminate().context("cannot send SIGTERM")?;
        if !server.has_ended_within(LEAVING.in_all)? {
            tell!("!");
            return Err(stuck(server.pid).into());
        }
        tell!("done");
        Ok(())
    }
}

fn stuck(pid: u32) -> UserError {
    UserError::new(format!("the server (process {pid}) does not leave"))
        .hint(format!("`kill -9 {pid}` ends it at once; dynos go on"))
}

/// Whether any dyno has a folder.
fn has_dynos(context: &Context) -> bool {
    fs::read_dir(context.home.path().join("dynos")).is_ok_and(|mut dynos| dynos.next().is_some())
}

/// The dynos by app: `run.1, run.2 of shop; run.1 of blog`.
fn list(dynos: &BTreeMap<String, Vec<String>>) -> String {
    let of_apps = dynos.iter().map(|(app, names)| {
        let named = names[..names.len().min(NAMED)].join(", ");
        match names.len().saturating_sub(NAMED) {
            0 => format!("{named} of {app}"),
            more => format!("{named} and {more} more of {app}"),
        }
    });
    of_apps.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynos_are_listed_by_app() {
        let names = |numbers: std::ops::RangeInclusive<u32>| {
            numbers.map(|number| format!("run.{number}")).collect()
        };
        let dynos = BTreeMap::from([
            ("blog".to_owned(), names(1..=2)),
            ("shop".to_owned(), names(1..=13)),
        ]);
        let listed = list(&dynos);
        assert!(
            listed.starts_with("run.1, run.2 of blog; run.1, "),
            "{listed}"
        );
        assert!(listed.ends_with(", run.10 and 3 more of shop"), "{listed}");
    }
}
