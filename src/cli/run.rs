//! `dyno run`: a command in a one-off dyno, on this terminal or between these pipes.

use std::collections::BTreeMap;
use std::env;

use anyhow::Result;
use clap::Args;
use rustix::fs::{Stat, fstat};

use super::attach::{AttachConnection, StatusLine, attach};
use super::context::{Context, app_path};
use super::notices::tell_isolation;
use super::one_off::{AFTERWARDS, FolderCheck, OneOff, WHILE_IT_STARTS, in_time};
use crate::cli::terminal::{self, terminfo};
use crate::model::dyno::ClientTerminal;
use crate::pty;

/// Run a command in a one-off dyno.
///
/// Options before the command are dyno's; from the first word of the command on, everything is the command's.
/// A single word is shell text; several arrive as they are.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    streams: StreamOptions,
    /// Do not print what happens
    #[arg(short, long)]
    quiet: bool,
    /// For Heroku's habit: the command's exit status is always passed on
    #[arg(short = 'x', long)]
    exit_code: bool,
    #[command(flatten)]
    one_off: OneOff,
}

/// The options for an attached command's streams.
#[derive(Debug, Args)]
pub struct StreamOptions {
    /// Give the command a terminal even if there is none here
    #[arg(long, overrides_with = "no_tty")]
    tty: bool,
    /// Use pipes even on a terminal
    #[arg(long)]
    no_tty: bool,
}

impl StreamOptions {
    /// Whether the command gets a terminal.
    pub fn with_terminal(&self) -> bool {
        let on_terminal = terminal::is_terminal(rustix::stdio::stdin())
            && terminal::is_terminal(rustix::stdio::stdout());
        self.tty || (on_terminal && !self.no_tty)
    }

    /// Whether the command, without a terminal, gets one pipe for stdout and stderr: if both go to one file, only one
    /// pipe keeps their order.
    pub fn with_one_output(&self) -> bool {
        let [stdout, stderr] = [rustix::stdio::stdout(), rustix::stdio::stderr()].map(fstat);
        let is_one = |stdout: Stat, stderr: Stat| {
            (stdout.st_dev, stdout.st_ino) == (stderr.st_dev, stderr.st_ino)
        };
        stdout.is_ok_and(|stdout| stderr.is_ok_and(|stderr| is_one(stdout, stderr)))
    }
}

impl Run {
    /// The words of the command.
    #[cfg(test)]
    pub fn words(&self) -> &[String] {
        self.one_off.words()
    }

    /// Runs the command; returns its exit code.
    pub fn perform(self, mut context: Context) -> Result<u8> {
        let mut request = self.one_off.request(&mut context)?;
        request.attach = true;
        let with_terminal = self.streams.with_terminal();
        request.force_no_tty = !with_terminal;
        request.one_output = self.streams.with_one_output();
        if with_terminal {
            add_terminal(&mut request.env, context.is_far());
            request.terminal = origin();
        }

        let (app, mut look) = self.one_off.app(&mut context, self.quiet)?;
        let dyno = OneOff::start(&mut context, &app, &request)?;
        if !self.quiet {
            tell_isolation(&context);
        }
        FolderCheck::tell(&mut look, WHILE_IT_STARTS);
        let mut status = StatusLine::begin(&request.command, " attached to terminal", self.quiet);
        status.starting(&dyno.name);
        let timeout = context.settings.attach_timeout;
        let target = app_path(&app, &format!("/dynos/{}/attach", dyno.id));
        let upgraded = context.take_client()?.attach(&target);
        let upgraded = upgraded.map_err(|error| in_time(error, &dyno.name))?;
        let connection = AttachConnection {
            socket: upgraded.socket,
            early: upgraded.received,
            fds: upgraded.fds,
        };
        let code = attach(connection, &dyno.name, status, timeout);
        FolderCheck::tell(&mut look, AFTERWARDS);
        code
    }
}

/// What the server is told about this terminal, so that the command's terminal begins with its settings.
pub fn origin() -> ClientTerminal {
    ClientTerminal {
        settings: pty::settings(rustix::stdio::stdin()),
        job_control: true,
    }
}

/// Adds the variables that Heroku's client sends about its terminal, and the terminal's terminfo entry if the dyno
/// would not have it, which is `far` or here.
pub fn add_terminal(env: &mut BTreeMap<String, String>, far: bool) {
    let term = env::var("TERM").ok().filter(|term| !term.is_empty());
    let term = env
        .entry("TERM".to_owned())
        .or_insert_with(|| term.unwrap_or_else(|| "xterm".to_owned()))
        .clone();
    if let Some(entry) = terminfo::value(&term, far, |name| env::var_os(name)) {
        env.entry("TERMINFO".to_owned()).or_insert(entry);
    }
    if let Some(size) = terminal::size() {
        env.entry("COLUMNS".to_owned())
            .or_insert_with(|| size.columns.to_string());
        env.entry("LINES".to_owned())
            .or_insert_with(|| size.rows.to_string());
    }
}
