//! `dyno server:status`: whether a server runs, and what it does.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};

use super::context::Context;
use super::output::say;
use crate::api::server::{ServerStatus, StartedBy};
use crate::model::time_span;

/// The exit code when no server runs, as of `systemctl status`.
const NOT_RUNNING: u8 = 3;

/// Show whether a server runs, and what it does
///
/// Exits with 0 when one runs and with 3 when none does. Starts none.
#[derive(Debug, Args)]
pub struct Show {
    /// As a JSON object; `{"running": false}` when none runs
    #[arg(long)]
    json: bool,
}

impl Show {
    /// Prints the status; returns the exit code.
    ///
    /// # Errors
    /// When a server holds the lock but does not answer.
    pub fn perform(self, context: &mut Context) -> Result<u8> {
        let Some((client, server)) = context.running()? else {
            match self.json {
                true => say!("{}", serde_json::json!({ "running": false }))?,
                false => say!("no server runs for `{}`", context.home.path().display())?,
            }
            return Ok(NOT_RUNNING);
        };
        let status: ServerStatus = client.get("/server/status")?;
        if self.json {
            let mut json = serde_json::to_value(&status)?;
            json["running"] = true.into();
            say!("{}", serde_json::to_string_pretty(&json)?)?;
            return Ok(0);
        }
        let ours = crate::kernel::executable::build();
        let build = match () {
            () if server.build.is_newer_than(&ours) => ", of a newer build than this command",
            () if ours.is_newer_than(&server.build) => ", of an older build than this command",
            () if ours.id != server.build.id => ", of another build than this command",
            () => "",
        };
        let socket = context.home.api_socket();
        say!("server:       running (process {}){build}", server.pid)?;
        say!("version:      {}", server.build)?;
        say!("since:        {}", since(status.started_at.0))?;
        say!("started by:   {}", started_by(&status))?;
        say!("state:        {}", status.home.display())?;
        say!("socket:       {}", socket.display())?;
        say!(
            "router:       {}",
            status.router.as_deref().unwrap_or("none")
        )?;
        say!("API over TCP: {}", status.api.as_deref().unwrap_or("none"))?;
        say!(
            "rendezvous:   {}",
            status.rendezvous.as_deref().unwrap_or("none")
        )?;
        for missing in &status.missing {
            say!("missing:      {missing}; it is tried again every second")?;
        }
        say!("clients:      {}", status.connections)?;
        say!("dynos:        {}", dynos(&status))?;
        say!(
            "memory:       {:.1} MiB",
            status.memory as f64 / f64::from(1 << 20)
        )?;
        let (open, most) = (status.descriptors, status.max_descriptors);
        say!("descriptors:  {open} of {most}")?;
        say!("isolation:    {}", status.isolation)?;
        Ok(0)
    }
}

/// The local time of the start, and how long ago it was.
fn since(started: Timestamp) -> String {
    let local = started.to_zoned(TimeZone::system());
    let ago = Timestamp::now().duration_since(started).as_secs();
    let ago = time_span::rough(Duration::from_secs(ago.try_into().unwrap_or(0)));
    let local = local.round(Unit::Second).unwrap_or(local);
    format!("{} ({ago} ago)", local.strftime("%Y-%m-%d %H:%M:%S %:z"))
}

fn started_by(status: &ServerStatus) -> String {
    let is_reached = status.api.is_some() || status.rendezvous.is_some();
    match &status.started_by {
        StartedBy::Command if is_reached => "a command; stays, since it listens".to_owned(),
        StartedBy::Command => "a command; leaves when there is nothing to do".to_owned(),
        StartedBy::Systemd { unit, user: false } => format!("systemd, as `{unit}`"),
        StartedBy::Systemd { unit, user: true } => format!("systemd, as `{unit}` of this user"),
        StartedBy::Hand => "hand, with `dyno server`".to_owned(),
    }
}

fn dynos(status: &ServerStatus) -> String {
    let of_apps: Vec<_> = status
        .dynos
        .iter()
        .map(|(app, count)| format!("{count} of {app}"))
        .collect();
    match &of_apps[..] {
        [] => "none alive".to_owned(),
        _ => format!(
            "{} alive: {}",
            status.dynos.values().sum::<usize>(),
            of_apps.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_told_with_its_age() {
        let told = since(Timestamp::now() - jiff::SignedDuration::from_secs(9000));
        assert!(told.ends_with(" (2h30m ago)"), "{told}");
    }
}
