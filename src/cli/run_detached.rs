//! `dyno run:detached`: a command in a one-off dyno without a client; its output goes to the app's log.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use super::attach::{StatusLine, timeout_awaiting_process};
use super::context::Context;
use super::logs::follow_dyno;
use super::notices::tell_isolation;
use super::one_off::{AFTERWARDS, FolderCheck, OneOff, WHILE_IT_STARTS};
use super::output::say;
use super::wait::{exit_code, now, until_ended};
use crate::api::dyno::Dyno;
use crate::error::tell;
use crate::model::dyno::DynoState;

/// Run a command in a one-off dyno in the background; its output goes to the log.
///
/// The dyno goes on when this command has ended, when you log out, and when the server is restarted.
#[derive(Debug, Args)]
pub struct RunDetached {
    /// Print nothing but the dyno's name
    #[arg(short, long)]
    quiet: bool,
    /// Print what the dyno writes to the log until it has ended, and exit with its status
    #[arg(short, long)]
    tail: bool,
    /// Wait until the dyno has ended, and exit with its status
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    one_off: OneOff,
}

impl RunDetached {
    /// Starts the dyno; returns 0, or the dyno's exit code if that is waited for.
    pub fn perform(self, context: &mut Context) -> Result<u8> {
        let request = self.one_off.request(context)?;
        let (app, mut look) = self.one_off.app(context, self.quiet)?;
        let dyno = OneOff::start(context, &app, &request)?;
        if !self.quiet {
            tell_isolation(context);
        }
        FolderCheck::tell(&mut look, WHILE_IT_STARTS);
        let mut status = StatusLine::begin(&request.command, "", self.quiet);
        status.starting(&dyno.name);
        let dyno = until_started(context, &app, dyno)?;
        status.up(&dyno.name);
        FolderCheck::tell(&mut look, AFTERWARDS);
        // Output of this command would come between the lines of the log.
        match (self.tail, self.quiet) {
            (true, _) => {}
            (false, true) => say!("{}", dyno.name)?,
            (false, false) => {
                // A command that is pasted into another shell must name the app.
                let app = match context.is_app_given() {
                    true => format!("-a {app} "),
                    false => String::new(),
                };
                let name = &dyno.name;
                say!("Use 'dyno logs {app}-p {name}' to view the log output.")?;
            }
        }
        if self.tail {
            follow_dyno(context, &dyno)?;
        }
        if !(self.tail || self.wait) {
            return Ok(0);
        }
        let ended = until_ended(context, &app, &dyno.id)?;
        let code = exit_code(&ended)?;
        // The log has the message.
        if let (Some(message), false) = (&ended.end_message, self.tail) {
            tell!("dyno: {message}");
        }
        Ok(code)
    }
}

/// The pause between two looks at a starting dyno.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Waits until the command runs, or has ended.
fn until_started(context: &mut Context, app: &str, mut dyno: Dyno) -> Result<Dyno> {
    let deadline = Instant::now() + context.settings.attach_timeout;
    while dyno.state == DynoState::Starting {
        if Instant::now() > deadline {
            return Err(timeout_awaiting_process(&dyno.name).into());
        }
        thread::sleep(LOOK_AGAIN);
        dyno = now(context, app, &dyno.id)?;
    }
    if dyno.state == DynoState::Crashed {
        exit_code(&dyno)?;
    }
    Ok(dyno)
}
