//! The clients of a dyno's commands: the one that is attached to the dyno's own, and those of the commands beside it
//! (`dyno run:inside`).

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use mio::Interest;

use super::session::ClientSession;
use super::stops::Stops;
use super::{Supervisor, build};
use crate::model::dyno::env::shell_arguments;
use crate::model::dyno::life::Event;
use crate::model::dyno::{ClientTerminal, TerminalSettings};
use crate::sandbox::init::MAIN;
use crate::wire::command_streams::CommandStreams;
use crate::wire::control::ToInit;
use crate::wire::frame::{AttachRefusal, Frame};

impl Supervisor {
    pub(super) fn attach(&mut self, fds: Vec<OwnedFd>, merged: bool) {
        for connection in fds {
            let Ok(mut session) = ClientSession::begin(connection) else {
                continue;
            };
            if !self.life.awaits_client() {
                let message = match self.spec.rules.attached {
                    true => format!("`{}` has had its client", self.spec.name),
                    false => format!("`{}` runs detached", self.spec.name),
                };
                let hint = format!(
                    "`dyno run:inside {} bash` gives a shell in it",
                    self.spec.name
                );
                let _ = session.tell(&Frame::Error(AttachRefusal::new(message).hint(hint)), &[]);
                continue;
            }
            let registered =
                self.reactor
                    .register(session.connection(), self.client_token, Interest::READABLE);
            if registered.is_ok() {
                self.session = Some(session);
                if merged && self.spec.streams == CommandStreams::Pipes {
                    self.spec.streams = CommandStreams::Merged;
                }
                self.step(Event::ClientAttached);
            }
        }
    }

    /// Starts a command beside the dyno's own, for the client whose connection came with the message.
    pub(super) fn run_inside(
        &mut self,
        shell_command: String,
        env: BTreeMap<String, String>,
        (streams, terminal): (CommandStreams, ClientTerminal),
        fds: Vec<OwnedFd>,
    ) {
        let Some(mut session) = fds.into_iter().find_map(|fd| ClientSession::begin(fd).ok()) else {
            return;
        };
        if !self.life.is_up() {
            let message = format!("`{}` is not up", self.spec.name);
            let _ = session.tell(&Frame::Error(AttachRefusal::new(message)), &[]);
            return;
        }
        let mut all = self.spec.env.clone();
        all.extend(env);
        let exec = self.exec(&shell_command, all, streams, terminal.settings);
        let stops = Stops::new(terminal.job_control);
        self.inside
            .start((session, stops), exec, &mut self.reactor, &self.sandbox);
    }

    /// The message that has init run shell text as the dyno's own command; for another command, the caller changes the number.
    pub(super) fn exec(
        &self,
        shell_command: &str,
        env: BTreeMap<String, String>,
        streams: CommandStreams,
        settings: Option<TerminalSettings>,
    ) -> ToInit {
        ToInit::Exec {
            id: MAIN,
            program: self.stack.shell().to_owned(),
            args: shell_arguments(
                self.stack.shell(),
                shell_command,
                &self.spec.tree,
                &build::app_folder(&self.spec),
            ),
            env: env.into_iter().collect(),
            streams,
            settings,
            open_files: self.spec.open_files,
        }
    }

    pub(super) fn hear_client(&mut self) {
        let Some(session) = &mut self.session else {
            return;
        };
        let news = session.hear();
        // The supervisor's copy was kept for the log, but the command is to get a broken pipe when its reader has left.
        self.streams
            .retain(|(number, _)| !news.closed.contains(number));
        if news.interrupt {
            let _ = self.tell_init(&ToInit::Interrupt { id: MAIN });
        }
        for wish in self.stops.hear(MAIN, &news) {
            let _ = self.tell_init(&wish);
        }
        if news.active {
            self.step(Event::ClientActive);
        }
        if news.gone {
            self.end_session();
            self.step(Event::ClientGone);
        }
    }

    pub(super) fn tell_client(&mut self, frame: &Frame) {
        if let Some(session) = &mut self.session {
            let _ = session.tell(frame, &[]);
        }
    }

    pub(super) fn end_session(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = self
                .reactor
                .deregister(session.connection(), self.client_token);
        }
    }

    pub(super) fn has_terminal(&self) -> bool {
        matches!(self.spec.streams, CommandStreams::Terminal(_))
    }

    pub(super) fn close_input(&mut self) {
        if !self.has_terminal() && self.streams.len() > 1 {
            self.streams.retain(|(number, _)| *number != 0);
        }
    }
}
