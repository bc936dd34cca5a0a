//! `dyno run:inside`: a second command in a running dyno.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;

use super::attach::{AttachConnection, StatusLine, attach};
use super::context::{Context, app_path};
use super::one_off::{environment, in_time};
use super::run::{StreamOptions, add_terminal, origin};
use crate::api::dyno::RunInside as Request;
use crate::api::target;
use crate::model::command_line;
use crate::model::dyno::ClientTerminal;

/// Run a command inside a dyno that is running.
///
/// It sees the dyno's own files and processes, and ends with the dyno at the latest.
#[derive(Debug, Args)]
pub struct RunInside {
    #[command(flatten)]
    streams: StreamOptions,
    /// Environment variables over the dyno's, `K=V` or `A=1;B=2`; may be repeated
    #[arg(short, long, value_name = "K=V")]
    env: Vec<String>,
    /// Do not print what happens
    #[arg(short, long)]
    quiet: bool,
    /// For Heroku's habit: the command's exit status is always passed on
    #[arg(short = 'x', long)]
    exit_code: bool,
    /// The dyno's name, like `run.1`
    #[arg(value_name = "NAME")]
    dyno: String,
    /// The command and its arguments, or a process type of the Procfile
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    words: Vec<String>,
}

impl RunInside {
    /// Runs the command; returns its exit code.
    pub fn perform(self, mut context: Context) -> Result<u8> {
        let command = command_line::join(&self.words);
        command_line::check(&command)?;
        let mut env: BTreeMap<_, _> = environment(&self.env)?;
        let with_terminal = self.streams.with_terminal();
        if with_terminal {
            add_terminal(&mut env, context.is_far());
        }
        let terminal = match with_terminal {
            true => origin(),
            false => ClientTerminal::default(),
        };
        let app = context.app()?;
        let timeout = context.settings.attach_timeout;
        context.client()?.set_patience(Some(timeout))?;
        let request = Request {
            command,
            force_no_tty: !with_terminal,
            one_output: self.streams.with_one_output(),
            terminal,
            env,
        };
        let status = StatusLine::begin(&request.command, " attached to terminal", self.quiet);
        let dyno = target::encode(&self.dyno);
        let target = app_path(&app, &format!("/dynos/{dyno}/inside"));
        let upgraded = context.take_client()?.attach_with(&target, &request);
        let upgraded = upgraded.map_err(|error| in_time(error, &self.dyno))?;
        let connection = AttachConnection {
            socket: upgraded.socket,
            early: upgraded.received,
            fds: upgraded.fds,
        };
        attach(connection, &self.dyno, status, timeout)
    }
}
