//! The commands of `dyno run:inside`, which run beside the dyno's own, each with a client of its own.
//!
//! They have no state and no log lines, end when their clients leave, and at the latest with the dyno. A client gets
//! its command's streams and the supervisor keeps no copy, so they are closed when the client ends; SIGHUP tells
//! processes that do not use them.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::{Interest, Token};

use super::session::ClientSession;
use super::stops::Stops;
use crate::model::dyno::Exit;
use crate::sandbox::Launched;
use crate::sandbox::init::MAIN;
use crate::wire::command_streams::CommandStreams;
use crate::wire::control::{self, ToInit};
use crate::wire::frame::{AttachRefusal, CommandEnd, Frame, Up};
use crate::wire::reactor::Reactor;

/// The most commands at a time in one dyno.
const MAX_COMMANDS: usize = 64;

/// The commands of `dyno run:inside` and their clients: see the [module](self).
#[derive(Debug)]
pub struct Inside {
    idle_timeout: Duration,
    last_id: u32,
    commands: Vec<Command>,
}

#[derive(Debug)]
struct Command {
    id: u32,
    token: Token,
    session: ClientSession,
    stops: Stops,
    streams: CommandStreams,
}

impl Inside {
    /// No commands. Connections are closed when they were idle for `idle_timeout`, unless that is zero.
    pub fn new(idle_timeout: Duration) -> Self {
        Self {
            idle_timeout,
            last_id: MAIN,
            commands: Vec::new(),
        }
    }

    /// Has init start a command, with a new number, for the client of `session`.
    pub fn start(
        &mut self,
        (mut session, stops): (ClientSession, Stops),
        mut exec: ToInit,
        reactor: &mut Reactor,
        sandbox: &Option<Launched>,
    ) {
        if self.commands.len() >= MAX_COMMANDS {
            let message =
                format!("{MAX_COMMANDS} commands run inside this dyno, which is the limit");
            let refusal = AttachRefusal::new(message).hint("end one of them first");
            let _ = session.tell(&Frame::Error(refusal), &[]);
            return;
        }
        let ToInit::Exec { id, streams, .. } = &mut exec else {
            return;
        };
        self.last_id += 1;
        *id = self.last_id;
        let command = Command {
            id: self.last_id,
            token: reactor.token(),
            session,
            stops,
            streams: *streams,
        };
        let connection = command.session.connection();
        let watched = reactor.register(connection, command.token, Interest::READABLE);
        if watched.is_ok() {
            self.commands.push(command);
            if let Err(error) = tell(sandbox, &exec) {
                self.failed(self.last_id, error.to_string(), reactor);
            }
        }
    }

    /// Whether `token` belongs to the client of one of these commands.
    pub fn knows(&self, token: Token) -> bool {
        self.commands.iter().any(|command| command.token == token)
    }

    /// Handles a client's messages.
    pub fn hear_client(&mut self, token: Token, reactor: &mut Reactor, sandbox: &Option<Launched>) {
        let Some(index) = self.index_of(token) else {
            return;
        };
        let news = self.commands[index].session.hear();
        if news.gone {
            let id = self.remove(index, reactor);
            let _ = tell(sandbox, &ToInit::HangUp { id });
            return;
        }
        let command = &mut self.commands[index];
        for wish in command.stops.hear(command.id, &news) {
            let _ = tell(sandbox, &wish);
        }
        if news.interrupt {
            let id = self.commands[index].id;
            let _ = tell(sandbox, &ToInit::Interrupt { id });
        }
        if news.active {
            self.await_activity(token, reactor);
        }
    }

    /// Closes a client's connection that was idle for too long.
    pub fn idle(&mut self, token: Token, reactor: &mut Reactor, sandbox: &Option<Launched>) {
        let Some(index) = self.index_of(token) else {
            return;
        };
        let refusal = AttachRefusal::idle(self.idle_timeout.as_secs_f64());
        let _ = self.commands[index]
            .session
            .tell(&Frame::Error(refusal), &[]);
        let id = self.remove(index, reactor);
        let _ = tell(sandbox, &ToInit::HangUp { id });
    }

    /// Passes the streams of a started command to its client, or hangs it up if the client has left.
    pub fn started(
        &mut self,
        id: u32,
        fds: &[OwnedFd],
        reactor: &mut Reactor,
        sandbox: &Option<Launched>,
    ) {
        let idle_timeout = self.idle_timeout.as_secs_f64();
        let told = self.find(id).map(|command| {
            let up = Frame::Up(Up {
                terminal: matches!(command.streams, CommandStreams::Terminal(_)),
                one_output: command.streams == CommandStreams::Merged,
                job_control: command.stops.are_told(),
                idle_timeout,
            });
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            (command.token, command.session.tell(&up, &fds))
        });
        if let Some((token, Ok(()))) = told {
            self.await_activity(token, reactor);
        } else {
            let _ = tell(sandbox, &ToInit::HangUp { id });
        }
    }

    /// Handles that a command has stopped.
    pub fn stopped(&mut self, id: u32, sandbox: &Option<Launched>) {
        let Some(command) = self.find(id) else {
            return;
        };
        let client = Some(&mut command.session);
        if let Some(wish) = command.stops.stopped(id, command.streams, client) {
            let _ = tell(sandbox, &wish);
        }
    }

    /// Tells a client that its command could not be started.
    pub fn failed(&mut self, id: u32, message: String, reactor: &mut Reactor) {
        self.tell_last(id, &Frame::Error(AttachRefusal::new(message)), reactor);
    }

    /// Tells a client that its command has ended.
    pub fn exited(&mut self, id: u32, ended: CommandEnd, reactor: &mut Reactor) {
        self.tell_last(id, &Frame::Exit(ended), reactor);
    }

    /// Tells all clients that their commands were killed with the dyno.
    pub fn end(&mut self) {
        for command in &mut self.commands {
            let _ = command
                .session
                .tell(&Frame::Exit(Exit::Signal(9).into()), &[]);
        }
        self.commands.clear();
    }

    fn tell_last(&mut self, id: u32, frame: &Frame, reactor: &mut Reactor) {
        let index = self.commands.iter().position(|command| command.id == id);
        if let Some(index) = index {
            let _ = self.commands[index].session.tell(frame, &[]);
            self.remove(index, reactor);
        }
    }

    fn await_activity(&self, token: Token, reactor: &mut Reactor) {
        if !self.idle_timeout.is_zero() {
            reactor.set_deadline(token, Instant::now() + self.idle_timeout);
        }
    }

    fn remove(&mut self, index: usize, reactor: &mut Reactor) -> u32 {
        let command = self.commands.swap_remove(index);
        let _ = reactor.deregister(command.session.connection(), command.token);
        command.id
    }

    fn find(&mut self, id: u32) -> Option<&mut Command> {
        self.commands.iter_mut().find(|command| command.id == id)
    }

    fn index_of(&self, token: Token) -> Option<usize> {
        self.commands
            .iter()
            .position(|command| command.token == token)
    }
}

fn tell(sandbox: &Option<Launched>, message: &ToInit) -> std::io::Result<()> {
    let sandbox = sandbox.as_ref().ok_or(std::io::ErrorKind::NotConnected)?;
    control::send(&sandbox.control, message, &[])
}
