//! The conversation with PID 1: what it says of the dyno's commands and sockets, what it is told, and its end.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Supervisor;
use super::folder::NETWORK;
use super::perform::end;
use super::reach::Service;
use crate::kernel::fail_point;
use crate::kernel::listener;
use crate::model::dyno::life::{Event, Timer};
use crate::model::dyno::{DynoState, Exit, Isolation};
use crate::sandbox::init::MAIN;
use crate::sandbox::network::NetworkEnds;
use crate::sandbox::outbound;
use crate::sandbox::plan::NetworkPlan;
use crate::wire::control::{self, FromInit, Shortage, ToInit};
use crate::wire::frame::CommandEnd;

/// The most sockets that PID 1 is asked about at the boot time-out.
const MOST_LISTENERS: usize = 256;

/// How long PID 1 may take to answer that.
const ANSWER: Duration = Duration::from_secs(1);

impl Supervisor {
    pub(super) fn hear_init(&mut self) {
        loop {
            let Some(sandbox) = &self.sandbox else { return };
            match control::receive::<FromInit>(&sandbox.control) {
                Ok(Some((message, fds))) => self.init_said(message, fds),
                Ok(None) => {
                    let _ = self.reactor.deregister(&sandbox.control, self.init_token);
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    let message = format!("cannot understand PID 1: {error}");
                    return self.step(Event::Broken { message });
                }
            }
        }
    }

    pub(super) fn init_said(&mut self, message: FromInit, fds: Vec<OwnedFd>) {
        let event = match message {
            FromInit::Ready => {
                if let Err(error) = self.take_network() {
                    let message = format!("{error:#}");
                    return self.step(Event::StartFailed { message });
                }
                self.inside_is_ready = true;
                self.disk.begin(&mut self.reactor);
                if std::mem::take(&mut self.files_are_old) {
                    self.renew_files();
                }
                Event::SandboxReady
            }
            FromInit::Started { id: MAIN } => {
                self.streams = fds.into_iter().enumerate().collect();
                fail_point::reach("supervisor.started");
                Event::Started
            }
            FromInit::SetUpFailed { message } | FromInit::ExecFailed { id: MAIN, message } => {
                Event::StartFailed { message }
            }
            FromInit::Broken { message } => {
                let message = format!("PID 1 failed: {message}");
                Event::Broken { message }
            }
            FromInit::Stopped { id: MAIN } => {
                let session = self.session.as_mut().filter(|_| self.life.is_up());
                if let Some(wish) = self.stops.stopped(MAIN, self.spec.streams, session) {
                    let _ = self.tell_init(&wish);
                }
                return;
            }
            FromInit::Stopped { id } => return self.inside.stopped(id, &self.sandbox),
            FromInit::Exited {
                id: MAIN,
                status,
                cause,
                shared_memory,
            } => {
                self.tell_exhausted();
                let short = shared_memory.and_then(|it| self.short_of(it, status));
                if let Some(why) = cause.map(|cause| not_executed(&cause)).or(short) {
                    self.life.explain(why);
                }
                Event::Exited(status)
            }
            FromInit::Sockets { ours } => {
                if !self.life.is_booting() {
                    return;
                }
                let own = self.listeners.iter().filter(|it| ours.contains(&it.inode));
                let own: Vec<_> = own.map(|it| it.address).collect();
                self.life.explain(self.port.elsewhere(&own));
                Event::Deadline(Timer::Phase)
            }
            FromInit::Socket { inode, ours } => {
                if !self.port.answered(inode, ours, &mut self.reactor) {
                    return;
                }
                // A dyno that was up already has a new socket.
                if self.state == DynoState::Up {
                    self.report(&self.snapshot());
                }
                Event::Listening
            }
            FromInit::Started { id } => {
                return self
                    .inside
                    .started(id, &fds, &mut self.reactor, &self.sandbox);
            }
            FromInit::ExecFailed { id, message } => {
                return self.inside.failed(id, message, &mut self.reactor);
            }
            FromInit::Exited {
                id,
                status,
                cause,
                shared_memory,
            } => {
                let short = shared_memory.and_then(|it| self.short_of(it, status));
                let why = cause.map(|cause| not_executed(&cause)).or(short);
                let ended = CommandEnd { exit: status, why };
                return self.inside.exited(id, ended, &mut self.reactor);
            }
        };
        self.step(event);
    }

    /// Takes the ends of the dyno's own network, if it has one.
    fn take_network(&mut self) -> anyhow::Result<()> {
        let Some(sandbox) = &mut self.sandbox else {
            return Ok(());
        };
        let Some(control) = sandbox.network.take() else {
            return Ok(());
        };
        let network = self.spec.network.as_ref();
        let plan = network.map(NetworkPlan::from).unwrap_or_default();
        let ends = NetworkEnds::receive(&control, &plan)?;
        let process = sandbox.pid.as_raw_nonzero().get();
        if let Some(outbound) = network.and_then(|it| it.outbound.as_ref()) {
            // First, so that whoever finds the dyno without its supervisor knows of it.
            let text = serde_json::to_vec(outbound)?;
            std::fs::write(self.spec.folder.join(NETWORK), text)
                .context("cannot note the way out of the dyno's network")?;
            let connected = outbound::connect(outbound, &ends, process);
            self.way_out = Some(connected.context("cannot connect the dyno's network")?);
        }
        self.port.be_in(process, ends.listeners);
        let mut places: Vec<_> = ends
            .reach
            .into_iter()
            .map(|(address, listener)| (Service::At(address), listener))
            .collect();
        if let Some((udp, tcp)) = ends.names {
            places.push((Service::Names, tcp));
            self.names
                .open(udp, &mut self.reactor)
                .context("cannot answer what the dyno asks of names")?;
        }
        self.reach
            .open(places, &mut self.reactor)
            .context("cannot serve what the dyno is to reach")
    }

    pub(super) fn init_gone(&mut self) {
        self.tell_exhausted();
        let Some(sandbox) = &mut self.sandbox else {
            return;
        };
        let _ = self.reactor.deregister(&sandbox.pidfd, self.pidfd_token);
        end(sandbox, &self.spec.name);
        let event = match sandbox.init_failure() {
            // Otherwise the command would be reported with a status that is not its own.
            Some(message) if self.life.has_command() => Event::Broken { message },
            _ => Event::InitGone,
        };
        self.step(event);
    }

    /// At the boot time-out, asks init where the dyno listens instead, before the dyno is killed. True if it was asked;
    /// the dyno is killed after the answer, or a moment without one.
    pub(super) fn asks_where_it_listens(&mut self) -> bool {
        if !self.life.is_booting() || !self.listeners.is_empty() {
            return false;
        }
        self.listeners = listener::all(self.port.process(), MOST_LISTENERS);
        let inodes: Vec<_> = self.listeners.iter().map(|it| it.inode).collect();
        if inodes.is_empty() || self.tell_init(&ToInit::FindSockets { inodes }).is_err() {
            return false;
        }
        let phase = self
            .timer_tokens
            .iter()
            .find(|(timer, _)| *timer == Timer::Phase);
        if let Some((_, token)) = phase {
            self.reactor.set_deadline(*token, Instant::now() + ANSWER);
        }
        true
    }

    /// The explanation of an exit with full shared memory: a program that writes to it dies of SIGBUS, which few people know.
    fn short_of(&self, shared_memory: Shortage, exit: Exit) -> Option<String> {
        let size = format!(
            "/dev/shm holds {} MB here (the setting shm_size, or `shm` of its size)",
            self.spec.shared_memory
        );
        // Without namespaces, shared memory is the host's.
        (self.spec.isolation == Isolation::Namespaces).then(|| match shared_memory {
            Shortage::BusError if exit.code() == 135 => {
                format!("Status 135 is SIGBUS, as when shared memory is full: {size}")
            }
            Shortage::BusError => {
                format!("A process has died of SIGBUS, as when shared memory is full: {size}")
            }
            Shortage::Full => {
                format!("Shared memory is full, and a process that writes more to it dies of SIGBUS: {size}")
            }
        })
    }

    pub(super) fn tell_init(&self, message: &ToInit) -> io::Result<()> {
        let sandbox = self.sandbox.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        control::send(&sandbox.control, message, &[])
    }
}

/// The sentence about a command that could not be executed, with the cause.
fn not_executed(cause: &str) -> String {
    format!("The command could not be executed: {cause}")
}
