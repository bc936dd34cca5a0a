//! The conversation with servers: the one that started the supervisor and those that come later. What they ask for is
//! done, and each hears of every change of the dyno's state.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::Result;
use mio::{Interest, Token};

use super::{Supervisor, folder};
use crate::error::tell;
use crate::kernel::peer::{self, Admission};
use crate::kernel::unix_socket;
use crate::model::dyno::life::Event;
use crate::panics;
use crate::wire::control::{self, FromSupervisor, ToInit, ToSupervisor};

/// The most servers that are connected at a time: the running one and its successor are two.
pub(super) const MAX_SERVERS: usize = 4;

impl Supervisor {
    pub(super) fn accept_servers(&mut self) -> Result<()> {
        while let Ok(server) = unix_socket::accept(&self.listener) {
            if self.servers.len() < MAX_SERVERS && is_welcome(&server) {
                let token = self.reactor.token();
                self.reactor.register(&server, token, Interest::READABLE)?;
                if control::send(&server, &self.snapshot(), &[]).is_ok() {
                    self.servers.push((token, server));
                    self.kept.found_server(&mut self.reactor);
                }
            }
        }
        Ok(())
    }

    pub(super) fn hear_server(&mut self, token: Token) {
        loop {
            let Some((_, server)) = self.servers.iter().find(|(known, _)| *known == token) else {
                return;
            };
            match control::receive::<ToSupervisor>(server) {
                Ok(Some((ToSupervisor::Attach { merged }, fds))) => self.attach(fds, merged),
                Ok(Some((ToSupervisor::Stop { grace, why, drain }, _))) => {
                    let [grace, drain] = [grace, drain].map(|seconds| {
                        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
                    });
                    self.step(Event::StopRequested { grace, why, drain });
                    panics::point("supervisor stopping");
                }
                Ok(Some((ToSupervisor::OpenDoor, fds))) => {
                    if let Some(sandbox) = &self.sandbox {
                        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                        let _ = control::send(&sandbox.control, &ToInit::OpenDoor, &fds);
                    }
                }
                Ok(Some((ToSupervisor::CheckPort, _))) => {
                    self.port.watch(&mut self.reactor);
                    self.look_at_port();
                }
                Ok(Some((ToSupervisor::RenewFiles, _))) => self.renew_files(),
                Ok(Some((ToSupervisor::KeepSockets { names, turn_away }, fds))) => {
                    self.kept.keep(&names, fds, turn_away);
                }
                Ok(Some((ToSupervisor::ReturnSockets, _))) => {
                    let (names, fds) = self.kept.named();
                    let fds: Vec<_> = fds.into_iter().map(AsFd::as_fd).collect();
                    let _ = control::send(server, &FromSupervisor::Sockets { names }, &fds);
                }
                Ok(Some((
                    ToSupervisor::Inside {
                        shell_command,
                        env,
                        streams,
                        terminal,
                    },
                    fds,
                ))) => self.run_inside(shell_command, env, (streams, terminal), fds),
                Ok(Some((
                    ToSupervisor::Begin | ToSupervisor::Prepare | ToSupervisor::Unknown,
                    _,
                ))) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(None) | Err(_) => {
                    let _ = self.reactor.deregister(server, token);
                    self.servers.retain(|(known, _)| *known != token);
                    if self.servers.is_empty() {
                        self.kept.await_server(&mut self.reactor);
                    }
                    return;
                }
            }
        }
    }

    /// There has been no server for a while: turns away the clients that wait for one.
    pub(super) fn turn_clients_away(&mut self) -> Result<()> {
        // One may have come that this process has not heard of yet.
        self.accept_servers()?;
        if !self.servers.is_empty() {
            return Ok(());
        }
        match folder::has_server(&self.spec.folder) {
            true => self.kept.look_later(&mut self.reactor),
            false => self.kept.turn_away(&mut self.reactor),
        }
        Ok(())
    }

    /// Renews the dyno's copies of the host's files, such as its name servers.
    pub(super) fn renew_files(&mut self) {
        if !self.inside_is_ready {
            self.files_are_old = true;
            return;
        }
        let namespaces = self.sandbox.as_mut().and_then(|it| it.namespaces.as_mut());
        if let Some(namespaces) = namespaces
            && let Err(error) = namespaces.renew(&self.stack.host_files(&self.spec.id))
        {
            tell!("{}: {error:#}", self.spec.name);
        }
    }

    pub(super) fn snapshot(&self) -> FromSupervisor {
        FromSupervisor::State {
            dyno: self.spec.id.clone(),
            state: self.state,
            at_us: self.since.as_microsecond(),
            // In a network of its own, others may have the same.
            port: (self.spec.network.is_none()).then_some(self.spec.port),
            listener: self.port.listener(),
            keeps_sockets: self.kept.are_there(),
        }
    }

    /// Sends a message to all servers. One that does not get it asks again when it comes back.
    pub(super) fn report(&self, message: &FromSupervisor) {
        for (_, server) in &self.servers {
            let _ = control::send(server, message, &[]);
        }
    }
}

/// Whether a process that has connected may be a server: none of a dyno is.
fn is_welcome(server: &OwnedFd) -> bool {
    matches!(peer::admission(server), Ok(Admission::Welcome))
}
