//! `dyno run:detached`: a command in a one-off dyno that nobody is attached to; its output goes to the app's log.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use super::attach::{StatusLine, timeout_awaiting_process};
use super::context::{Context, app_path};
use super::one_off::{OneOff, tell_isolation};
use super::say;
use crate::api::dyno::Dyno;
use crate::dyno::DynoState;
use crate::error::{EXIT_DYNO_FAILED, UserError};

/// Run a command in a one-off dyno in the background; its output goes to the log.
///
/// The dyno goes on when this command has ended, when you log out, and when the server is restarted.
#[derive(Debug, Args)]
pub struct RunDetached {
    /// Print nothing but the dyno's name
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    one_off: OneOff,
}

impl RunDetached {
    /// Starts it.
    pub fn perform(self, context: &mut Context) -> Result<u8> {
        let request = self.one_off.request()?;
        let app = self.one_off.app(context, self.quiet)?;
        let dyno = OneOff::start(context, &app, &request)?;
        if !self.quiet {
            tell_isolation(&context.home);
        }
        let mut status = StatusLine::begin(&request.command, "", self.quiet);
        status.starting(&dyno.name);
        let dyno = until_started(context, &app, dyno)?;
        status.up(&dyno.name);
        match self.quiet {
            true => say!("{}", dyno.name)?,
            false => say!("Use 'dyno logs -p {}' to view the log output.", dyno.name)?,
        }
        Ok(0)
    }
}

/// How often a dyno that starts is looked at: a few times while it does, as a rule.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Waits until the command runs, or has run.
fn until_started(context: &mut Context, app: &str, mut dyno: Dyno) -> Result<Dyno> {
    let deadline = Instant::now() + context.settings.attach_timeout;
    while dyno.state == DynoState::Starting {
        if Instant::now() > deadline {
            return Err(timeout_awaiting_process(&dyno.name).into());
        }
        thread::sleep(LOOK_AGAIN);
        let target = app_path(app, &format!("/dynos/{}", dyno.id));
        dyno = context.client()?.get(&target)?;
    }
    if dyno.state == DynoState::Crashed {
        let error = UserError::new(format!("`{}` could not be started", dyno.name))
            .hint(format!("`dyno logs -p {}` says why", dyno.name))
            .exit_code(EXIT_DYNO_FAILED);
        return Err(error.into());
    }
    Ok(dyno)
}
