//! The supervisor: one process per dyno, which lives as long as its dyno.
//!
//! It builds the sandbox, waits for the client, has init start the command, and performs what
//! [`Life`] decides. The server starts it, but it does not depend on the server: it writes the dyno's log lines and the exit
//! record itself, and listens on `sock` in the dyno's folder for a server that comes back. It has one
//! thread, since it forks.
//!
//! What it does by itself: `begin` (it gets its dyno), `build` (the sandbox), `prepared` (the sandbox, ahead), `perform`
//! (what [`Life`] decides), `output` (reads output that no client reads), `port` (whether a web dyno listens), `reach` (what of
//! the host is reached from a network of the dyno's own) and `names` (what is asked there), `keeping` (the server's sockets, for the next
//! one). With whom it speaks: `servers`; `pid1`, the init inside; `clients`, whose connections are `session`s, with
//! `inside` for the commands of `dyno run:inside` and `stops` for a command that stops. The server uses two, too: `folder`,
//! what is on disk of a dyno, and `leftovers`, what is left of one that was killed.

mod begin;
mod build;
mod clients;
mod disk;
mod folder;
mod inside;
mod keeping;
mod leftovers;
mod memory;
mod metrics;
mod names;
mod output;
mod perform;
mod pid1;
mod port;
mod prepared;
mod reach;
mod servers;
mod session;
mod stops;

use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context, Result};
use jiff::Timestamp;
use mio::{Interest, Token};

use crate::error::tell;
use crate::kernel::fail_point;
use crate::kernel::listener::Listener;
use crate::kernel::unix_socket::{self, SocketType};
use crate::log_file::LogWriter;
use crate::model::dyno::life::{Event, Life, Timer, lost_by};
use crate::model::dyno::{DynoState, ExitRecord};
use crate::panics::{self, caught, caught_or};
use crate::sandbox::Launched;
use crate::sandbox::outbound::Connected;
use crate::sandbox::stack::Stack;
use crate::wire::control::{DynoSpec, FromInit, ToInit};
use crate::wire::reactor::{self, Reactor};

pub use begin::{WAITING, run};
use disk::Disk;
use folder::reserve_record;
pub use folder::{Claim, SCRATCH, SOCKET, claim, lost_record, read_record};
use inside::Inside;
use keeping::KeptSockets;
pub use leftovers::{end_leftovers, sweep_prepared, sweep_scratch};
use memory::Memory;
use metrics::Metrics;
use names::Names;
use output::Output;
use port::Port;
use prepared::Prepared;
use reach::Reach;
use servers::MAX_SERVERS;
use session::ClientSession;
use stops::Stops;

struct Supervisor {
    spec: DynoSpec,
    reactor: Reactor,
    began: Instant,
    life: Life,
    state: DynoState,
    /// When that changed.
    since: Timestamp,
    log: LogWriter,
    stack: Stack,
    lock: OwnedFd,
    listener: OwnedFd,
    /// The sandbox, if it was made ahead, until the dyno is built.
    prepared: Option<Prepared>,
    sandbox: Option<Launched>,
    servers: Vec<(Token, OwnedFd)>,
    session: Option<ClientSession>,
    /// The supervisor's ends of the command's streams once it runs, by their number in the command; a terminal is number 0.
    streams: Vec<(usize, OwnedFd)>,
    output: Output,
    stops: Stops,
    /// The commands beside the dyno's own, with their clients.
    inside: Inside,
    memory: Memory,
    disk: Disk,
    metrics: Metrics,
    port: Port,
    /// The way out of a network of its own.
    way_out: Option<Connected>,
    /// Where a dyno with a network of its own asks for names.
    names: Names,
    /// What of the host a dyno with a network of its own reaches.
    reach: Reach,
    /// The server's sockets, kept for the next one.
    kept: KeptSockets,
    /// The sockets that listened on this host at the boot time-out.
    listeners: Vec<Listener>,
    listen_token: Token,
    init_token: Token,
    pidfd_token: Token,
    client_token: Token,
    /// One for each of the life's timers: phase, idle, lifetime.
    timer_tokens: [(Timer, Token); 3],
    /// Whether init has reported that the inside is ready.
    inside_is_ready: bool,
    /// Whether the host's files changed while the inside was being made.
    files_are_old: bool,
    finished: bool,
    /// The exit record, once it is written.
    recorded: Option<ExitRecord>,
    /// Its deadline is when a dyno that is up gives back memory that it does not need.
    rest_token: Token,
}

impl Supervisor {
    /// The supervisor of a dyno that has the lock of its folder.
    fn new(
        spec: DynoSpec,
        lock: OwnedFd,
        server: OwnedFd,
        prepared: Option<Prepared>,
    ) -> Result<Self> {
        let lock = match &prepared {
            // Its folder is the dyno's by now.
            Some(prepared) => prepared.lock.try_clone()?,
            None => lock,
        };
        fail_point::attempt("supervisor.locked")?;
        // With a full disk, the dyno can still run, and the record may find room in the end.
        let _ = reserve_record(&spec.folder);
        let listener = unix_socket::listen(
            &spec.folder.join(SOCKET),
            SocketType::SEQPACKET,
            MAX_SERVERS as i32,
        )
        .context("cannot make the dyno's socket")?;
        let mut reactor = Reactor::new()?;
        let [
            listen_token,
            init_token,
            pidfd_token,
            client_token,
            server_token,
            rest_token,
        ] = std::array::from_fn(|_| reactor.token());
        let timer_tokens =
            [Timer::Phase, Timer::Idle, Timer::Lifetime].map(|timer| (timer, reactor.token()));
        reactor.register(&listener, listen_token, Interest::READABLE)?;
        rustix::io::ioctl_fionbio(&server, true)?;
        reactor.register(&server, server_token, Interest::READABLE)?;
        Ok(Self {
            life: Life::new(spec.rules, spec.command.clone()),
            log: LogWriter::open(&spec.logs, spec.log_limits)
                .context("cannot open the app's log")?,
            stack: build::stack(&spec),
            began: Instant::now(),
            state: DynoState::Starting,
            since: Timestamp::now(),
            prepared,
            sandbox: None,
            servers: vec![(server_token, server)],
            session: None,
            streams: Vec::new(),
            output: Output::of(&spec.name, &mut reactor),
            stops: Stops::new(spec.terminal.job_control),
            inside: Inside::new(spec.rules.idle_timeout),
            memory: Memory::new(&spec, &mut reactor),
            disk: Disk::new(&spec, &mut reactor),
            metrics: Metrics::new(&spec, &mut reactor),
            port: Port::new(spec.port, &mut reactor),
            way_out: None,
            names: Names::default(),
            reach: Reach::default(),
            kept: KeptSockets::new(&mut reactor),
            inside_is_ready: false,
            files_are_old: false,
            listeners: Vec::new(),
            finished: false,
            recorded: None,
            spec,
            reactor,
            lock,
            listener,
            listen_token,
            init_token,
            pidfd_token,
            client_token,
            timer_tokens,
            rest_token,
        })
    }

    /// Runs until the dyno has ended. A panic or an unexpected error ends the dyno as a platform error, whose client
    /// may still be waited for; after a second one, nothing is waited for.
    fn run(mut self) {
        let first = caught_or(|| {
            for action in self.life.begin() {
                let _ = self.perform(action);
            }
            self.begin_build();
            self.go_on()
        });
        let Err(error) = first else { return };
        let message = format!("the supervisor failed: {error:#}");
        tell!("{}: {message}", self.spec.name);
        let broken = Event::Broken {
            message: message.clone(),
        };
        let second = caught_or(|| {
            self.step(broken);
            self.go_on()
        });
        if second.is_err() {
            let _ = caught(|| self.finish(&lost_by(message)));
        }
    }

    fn begin_build(&mut self) {
        let is_ready = self.prepared.is_some();
        match self.build() {
            // It has said so while there was no dyno.
            Ok(()) if is_ready => self.init_said(FromInit::Ready, Vec::new()),
            Ok(()) => {}
            Err(error) => self.step(Event::StartFailed {
                message: format!("{error:#}"),
            }),
        }
    }

    fn go_on(&mut self) -> Result<()> {
        let mut events = Vec::new();
        while !self.finished {
            self.reactor.poll(&mut events)?;
            for event in &events {
                self.dispatch(*event)?;
            }
        }
        Ok(())
    }

    /// Makes the sandbox, unless it is ready already; else init reports that.
    fn build(&mut self) -> Result<()> {
        panics::point("supervisor build");
        let (sandbox, group) = match self.prepared.take() {
            Some(prepared) => (prepared.sandbox, prepared.group),
            None => build::build(&self.spec, &self.stack, &self.lock)?,
        };
        rustix::io::ioctl_fionbio(&sandbox.control, true)?;
        self.reactor
            .register(&sandbox.control, self.init_token, Interest::READABLE)?;
        self.reactor
            .register(&sandbox.pidfd, self.pidfd_token, Interest::READABLE)?;
        self.memory.begin(group, &mut self.reactor);
        self.metrics.begin(&mut self.reactor);
        self.sandbox = Some(sandbox);
        Ok(())
    }

    fn dispatch(&mut self, event: reactor::Event) -> Result<()> {
        match event {
            reactor::Event::Ready { token, .. }
            | reactor::Event::Again(token)
            | reactor::Event::Deadline(token)
                if self.names.knows(token) =>
            {
                self.names.hear(event, &mut self.reactor);
            }
            reactor::Event::Deadline(token) => {
                let timers = self.timer_tokens;
                let timer = timers.iter().find(|(_, known)| *known == token);
                match timer {
                    Some((Timer::Phase, _)) if self.asks_where_it_listens() => {}
                    Some((timer, _)) => self.step(Event::Deadline(*timer)),
                    None if token == self.rest_token => {
                        crate::kernel::sys::memory::rest();
                    }
                    None if token == self.port.token() => self.look_at_port(),
                    None if self.memory.knows(token) => self.look_at_memory(),
                    None if token == self.disk.token() => self.look_at_disk(),
                    None if token == self.metrics.token() => self.look_at_metrics(),
                    None if token == self.kept.token() => self.turn_clients_away()?,
                    None if self.inside.knows(token) => {
                        self.inside.idle(token, &mut self.reactor, &self.sandbox);
                    }
                    None => self.output.deadline(token, &mut self.reactor),
                }
            }
            reactor::Event::Ready { token, .. } | reactor::Event::Again(token)
                if self.reach.knows(token) =>
            {
                self.reach.hear(event, &mut self.reactor);
            }
            reactor::Event::Ready { token, .. } | reactor::Event::Again(token) => {
                self.ready(token)?
            }
            reactor::Event::Woken => {}
        }
        Ok(())
    }

    fn ready(&mut self, token: Token) -> Result<()> {
        if token == self.init_token {
            self.hear_init();
        } else if token == self.pidfd_token {
            // Init's last messages must be handled before its end.
            self.hear_init();
            self.init_gone();
        } else if token == self.client_token {
            self.hear_client();
        } else if token == self.listen_token {
            self.accept_servers()?;
        } else if self.servers.iter().any(|(server, _)| *server == token) {
            self.hear_server(token);
        } else if self.inside.knows(token) {
            self.inside
                .hear_client(token, &mut self.reactor, &self.sandbox);
        } else if self.memory.knows(token) {
            self.look_at_memory();
        } else if self.output.knows(token) {
            let drained = self.output.read(token, &mut self.reactor, |lines| {
                // A full disk costs log lines, not the dyno.
                let _ = self.log.append(lines);
            });
            if drained {
                self.step(Event::Drained);
            }
        }
        Ok(())
    }

    fn look_at_port(&mut self) {
        if !self.life.is_up() {
            return self.port.leave(&mut self.reactor);
        }
        let before = self.port.listener();
        if let Some(inode) = self.port.look(&mut self.reactor) {
            let _ = self.tell_init(&ToInit::FindSocket { inode });
        } else if before.is_some() {
            // No process listens any more.
            self.report(&self.snapshot());
        }
    }

    /// Passes an event to [`Life`] and performs its actions.
    fn step(&mut self, event: Event) {
        for action in self.life.step(event, self.began.elapsed()) {
            if let Some(consequence) = self.perform(action) {
                self.step(consequence);
            }
        }
    }
}
