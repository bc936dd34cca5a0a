//! The supervisor: one process per dyno, which lives as long as its dyno.
//!
//! It builds the sandbox, waits for the client, has init start the command, and performs what
//! [`Life`] decides. The server starts it, but it does not depend on the server: it writes the dyno's log lines and the exit
//! record itself, and listens on `sock` in the dyno's folder for a server that comes back. It has one
//! thread, since it forks.
//!
//! `supervisor/build.rs` makes the sandbox; `supervisor/session.rs` is the connection of a client;
//! `supervisor/output.rs` reads output that no client reads; `supervisor/inside.rs` has the commands of `dyno
//! run:inside`; `supervisor/stops.rs` handles a command that stops; `supervisor/port.rs` finds out whether a web dyno
//! listens; `supervisor/folder.rs` is the dyno's folder, which the server uses, too.

mod build;
mod folder;
mod inside;
mod output;
mod port;
mod session;
mod stops;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;
use mio::{Interest, Token};
use rustix::event::PollFlags;
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::error::tell;
use crate::kernel::listener::{self, Listener};
use crate::kernel::open_files;
use crate::kernel::sys::signal::{Signal, ignore};
use crate::kernel::unix_socket::{self, SocketType};
use crate::kernel::wait;
use crate::log_file::LogWriter;
use crate::model::dyno::env::shell_arguments;
use crate::model::dyno::life::{Action, Event, Life, Timer, lost_by, start_failed};
use crate::model::dyno::{
    ClientTerminal, DynoState, Exit, ExitRecord, Isolation, TerminalSettings,
};
use crate::model::log_line::{self, LogSource};
use crate::panics::{self, caught, caught_or};
use crate::sandbox::Launched;
use crate::sandbox::init::MAIN;
use crate::sandbox::stack::Stack;
use crate::wire::control::{
    self, CommandStreams, DynoSpec, FromInit, FromSupervisor, Shortage, ToInit, ToSupervisor,
};
use crate::wire::frame::{AttachRefusal, CommandEnd, Frame, Up};
use crate::wire::reactor::{self, Reactor};

pub use build::kill_leftovers;
pub use folder::{Claim, SCRATCH, SOCKET, claim, lost_record, read_record, sweep_scratch};
use folder::{LOCK, TRACKED, reserve_record, write_record};
use inside::Inside;
use output::Output;
use port::Port;
use session::ClientSession;
use stops::Stops;

/// The process title of a supervisor that has no dyno yet.
pub const WAITING: &str = "dyno: waits for a dyno";

/// The largest spec, in bytes: more than the bounds of its parts together.
const MAX_SPEC: u64 = 4 * 1024 * 1024;

/// The most sockets that init is asked about, and how long its answer may take.
const MOST_LISTENERS: usize = 256;
const ANSWER: Duration = Duration::from_secs(1);

/// The most servers that are connected at a time: the running one and its successor are two.
const MAX_SERVERS: usize = 4;

/// The soft limit on a supervisor's descriptors: some for itself, two for each command inside, some for servers.
const OPEN_FILES: u64 = 512;

/// `dyno __supervise`: standard output is a SEQPACKET socket to the server, on which the spec comes first. Returns when
/// the dyno is over.
pub fn run() -> Result<()> {
    // A session of its own, so that signals of the server's terminal do not reach it.
    let _ = rustix::process::setsid();
    crate::kernel::sys::title::set(WAITING);
    rustix::process::chdir("/")?;
    open_files::set_soft_limit(OPEN_FILES)?;
    // A file size limit is to be an error, like a full disk, instead of a signal.
    ignore(Signal::XFSZ);
    let server = take_standard_output().context("not started by a server")?;
    let Some((ToSupervisor::Begin, fds)) = control::receive(&server)? else {
        // The server has ended before it sent a dyno.
        return Ok(());
    };
    let mut fds = fds.into_iter();
    let spec = fds.next().context("no spec came along")?;
    let _port = fds.next();
    let spec = read_spec(spec)?;
    crate::kernel::sys::title::set(&format!("dyno: {} of {}", spec.name, spec.app));
    let folder = spec.folder.clone();
    let patience = spec.rules.attached.then_some(spec.rules.attach_timeout);
    let clients = server.try_clone()?;
    let began = caught_or(|| {
        panics::point("supervisor begin");
        Supervisor::new(spec, server)
    });
    // Without a log and a socket, the failure is told in the exit record, which the server logs, and to the client.
    let supervisor = began.inspect_err(|error| {
        let message = format!("{error:#}");
        let _ = write_record(&folder, &start_failed(message.clone()));
        if let Some(patience) = patience {
            refuse_client(&clients, message, patience);
        }
    })?;
    drop(clients);
    supervisor.run();
    Ok(())
}

/// Waits for the dyno's client and tells it why there is no dyno.
fn refuse_client(server: &OwnedFd, message: String, patience: Duration) {
    let deadline = Instant::now() + patience;
    loop {
        let Ok(Some(_)) = wait::until(server, PollFlags::IN, Some(deadline)) else {
            return;
        };
        match control::receive::<ToSupervisor>(server) {
            Ok(Some((ToSupervisor::Attach { .. }, fds))) => {
                for mut session in fds.into_iter().flat_map(ClientSession::begin) {
                    let _ = session.tell(&Frame::Error(AttachRefusal::new(message.clone())), &[]);
                }
                return;
            }
            Ok(Some((ToSupervisor::Stop { .. }, _))) | Ok(None) | Err(_) => return,
            Ok(Some(_)) => {}
        }
    }
}

/// Takes the socket to the server off descriptor 1, where a program of the dyno could find it.
fn take_standard_output() -> Result<OwnedFd> {
    let server = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(server)
}

/// Reads the spec from the server's file in memory.
fn read_spec(file: OwnedFd) -> Result<DynoSpec> {
    let (mut file, mut json) = (File::from(file), Vec::new());
    file.rewind()?;
    file.take(MAX_SPEC).read_to_end(&mut json)?;
    serde_json::from_slice(&json).context("cannot read the dyno's spec")
}

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
    lock: File,
    listener: OwnedFd,
    sandbox: Option<Launched>,
    servers: Vec<(Token, OwnedFd)>,
    session: Option<ClientSession>,
    /// The supervisor's ends of the command's streams once it runs, by their number in the command; a terminal is number 0.
    streams: Vec<(usize, OwnedFd)>,
    output: Output,
    stops: Stops,
    /// The commands beside the dyno's own, with their clients.
    inside: Inside,
    port: Port,
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
    /// Whether the dyno is up and unused memory was released.
    settled: bool,
}

impl Supervisor {
    fn new(spec: DynoSpec, server: OwnedFd) -> Result<Self> {
        let lock = File::create(spec.folder.join(LOCK)).context("cannot make the dyno's lock")?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .context("the dyno has a supervisor already")?;
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
            stack: Stack::host(),
            began: Instant::now(),
            state: DynoState::Starting,
            since: Timestamp::now(),
            sandbox: None,
            servers: vec![(server_token, server)],
            session: None,
            streams: Vec::new(),
            output: Output::of(&spec.name, &mut reactor),
            stops: Stops::new(spec.terminal.job_control),
            inside: Inside::new(spec.rules.idle_timeout),
            port: Port::new(spec.port, &mut reactor),
            inside_is_ready: false,
            files_are_old: false,
            listeners: Vec::new(),
            finished: false,
            recorded: None,
            settled: false,
            spec,
            reactor,
            lock,
            listener,
            listen_token,
            init_token,
            pidfd_token,
            client_token,
            timer_tokens,
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
        if let Err(error) = self.build() {
            self.step(Event::StartFailed {
                message: format!("{error:#}"),
            });
        }
    }

    fn go_on(&mut self) -> Result<()> {
        let mut events = Vec::new();
        while !self.finished {
            self.reactor.poll(&mut events)?;
            for event in &events {
                self.dispatch(*event)?;
            }
            if std::mem::take(&mut self.settled) {
                crate::kernel::sys::memory::release_program();
            }
        }
        Ok(())
    }

    /// Makes the sandbox; init reports when the inside is ready.
    fn build(&mut self) -> Result<()> {
        panics::point("supervisor build");
        let sandbox = build::build(&self.spec, &self.stack, &self.lock)?;
        rustix::io::ioctl_fionbio(&sandbox.control, true)?;
        self.reactor
            .register(&sandbox.control, self.init_token, Interest::READABLE)?;
        self.reactor
            .register(&sandbox.pidfd, self.pidfd_token, Interest::READABLE)?;
        self.sandbox = Some(sandbox);
        Ok(())
    }

    fn dispatch(&mut self, event: reactor::Event) -> Result<()> {
        match event {
            reactor::Event::Deadline(token) => {
                let timers = self.timer_tokens;
                let timer = timers.iter().find(|(_, known)| *known == token);
                match timer {
                    Some((Timer::Phase, _)) if self.asks_where_it_listens() => {}
                    Some((timer, _)) => self.step(Event::Deadline(*timer)),
                    None if token == self.port.token() => self.look_at_port(),
                    None if self.inside.knows(token) => {
                        self.inside.idle(token, &mut self.reactor, &self.sandbox);
                    }
                    None => self.output.deadline(token, &mut self.reactor),
                }
            }
            reactor::Event::Ready { token, .. } | reactor::Event::Again(token) => {
                self.ready(token)?
            }
            reactor::Event::Woken => {}
        }
        Ok(())
    }

    /// At the boot time-out, asks init where the dyno listens instead, before the dyno is killed. True if it was asked;
    /// the dyno is killed after the answer, or a moment without one.
    fn asks_where_it_listens(&mut self) -> bool {
        if !self.life.is_booting() || !self.listeners.is_empty() {
            return false;
        }
        self.listeners = listener::all(MOST_LISTENERS);
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

    fn hear_init(&mut self) {
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

    fn init_said(&mut self, message: FromInit, fds: Vec<OwnedFd>) {
        let event = match message {
            FromInit::Ready => {
                self.inside_is_ready = true;
                if std::mem::take(&mut self.files_are_old) {
                    self.renew_files();
                }
                Event::SandboxReady
            }
            FromInit::Started { id: MAIN } => {
                self.streams = fds.into_iter().enumerate().collect();
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

    fn init_gone(&mut self) {
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

    fn accept_servers(&mut self) -> Result<()> {
        while let Ok(server) = unix_socket::accept(&self.listener) {
            if self.servers.len() < MAX_SERVERS {
                let token = self.reactor.token();
                self.reactor.register(&server, token, Interest::READABLE)?;
                if control::send(&server, &self.snapshot(), &[]).is_ok() {
                    self.servers.push((token, server));
                }
            }
        }
        Ok(())
    }

    fn hear_server(&mut self, token: Token) {
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
                Ok(Some((ToSupervisor::CheckPort, _))) => {
                    self.port.watch(&mut self.reactor);
                    self.look_at_port();
                }
                Ok(Some((ToSupervisor::RenewFiles, _))) => self.renew_files(),
                Ok(Some((
                    ToSupervisor::Inside {
                        shell_command,
                        env,
                        streams,
                        terminal,
                    },
                    fds,
                ))) => self.run_inside(shell_command, env, (streams, terminal), fds),
                Ok(Some((ToSupervisor::Begin | ToSupervisor::Unknown, _))) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(None) | Err(_) => {
                    let _ = self.reactor.deregister(server, token);
                    return self.servers.retain(|(known, _)| *known != token);
                }
            }
        }
    }

    /// Renews the dyno's copies of the host's files, such as its name servers.
    fn renew_files(&mut self) {
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

    fn attach(&mut self, fds: Vec<OwnedFd>, merged: bool) {
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
    fn run_inside(
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
    fn exec(
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

    fn hear_client(&mut self) {
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

    fn has_terminal(&self) -> bool {
        matches!(self.spec.streams, CommandStreams::Terminal(_))
    }

    fn close_input(&mut self) {
        if !self.has_terminal() && self.streams.len() > 1 {
            self.streams.retain(|(number, _)| *number != 0);
        }
    }

    fn end_session(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = self
                .reactor
                .deregister(session.connection(), self.client_token);
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

    /// The explanation of an exit with full shared memory: a program that writes to it dies of SIGBUS, which few people know.
    fn short_of(&self, shared_memory: Shortage, exit: Exit) -> Option<String> {
        let size = format!(
            "/dev/shm holds {} MB here (the setting shm_size)",
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

    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Log(story) => {
                let (mut line, text) = (Vec::new(), story.to_string());
                let (now, name) = (Timestamp::now(), &self.spec.name);
                log_line::append(&mut line, now, LogSource::Heroku, name, text.as_bytes());
                let _ = self.log.append(&line);
            }
            Action::Report(state) => {
                (self.state, self.since) = (state, Timestamp::now());
                self.settled = state == DynoState::Up;
                self.report(&self.snapshot());
                if state == DynoState::Up {
                    panics::point("supervisor up");
                }
            }
            Action::StartCommand => {
                let exec = self.exec(
                    &self.spec.shell_command,
                    self.spec.env.clone(),
                    self.spec.streams,
                    self.spec.terminal.settings.clone(),
                );
                let sent = self.tell_init(&exec);
                // If init has ended, its last message or its end will be handled.
                let left = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
                let refused = sent.err().filter(|error| !left.contains(&error.kind()));
                return refused.map(|error| Event::StartFailed {
                    message: error.to_string(),
                });
            }
            Action::HandOver => {
                let fds: Vec<BorrowedFd<'_>> =
                    self.streams.iter().map(|(_, fd)| fd.as_fd()).collect();
                let up = Frame::Up(Up {
                    terminal: self.has_terminal(),
                    one_output: self.spec.streams == CommandStreams::Merged,
                    job_control: self.stops.are_told(),
                    idle_timeout: self.spec.rules.idle_timeout.as_secs_f64(),
                });
                let told = self.session.as_mut()?.tell(&up, &fds);
                // The client's copy is now the only one, so that closing it is the end of input.
                self.close_input();
                return told.is_err().then(|| {
                    self.end_session();
                    Event::ClientGone
                });
            }
            Action::TakeOutput => {
                // No process will write to a standard input that no client has got.
                self.close_input();
                let streams = std::mem::take(&mut self.streams)
                    .into_iter()
                    .map(|(_, fd)| fd);
                let drained = self.output.take(streams, &mut self.reactor);
                return drained.then_some(Event::Drained);
            }
            Action::SignalAll(signal) => {
                let _ = self.tell_init(&ToInit::Signal {
                    signal: signal.number(),
                });
            }
            Action::KillAll => {
                if let Some(sandbox) = &self.sandbox {
                    sandbox.kill();
                }
            }
            Action::TellExit(exit, why) => self.tell_client(&Frame::Exit(CommandEnd { exit, why })),
            Action::TellError(message) => {
                let hint = Some(
                    "`dyno doctor` says what this host offers, and how to get more".to_owned(),
                );
                self.tell_client(&Frame::Error(AttachRefusal {
                    hint,
                    ..AttachRefusal::new(message)
                }));
            }
            Action::CloseIdle => {
                let refusal = AttachRefusal::idle(self.spec.rules.idle_timeout.as_secs_f64());
                self.tell_client(&Frame::Error(refusal));
                self.end_session();
            }
            Action::SetDeadline(timer, at) => {
                let token = self.timer_tokens.iter().find(|(known, _)| *known == timer);
                match (token, at) {
                    (Some((_, token)), Some(at)) => {
                        self.reactor.set_deadline(*token, self.began + at);
                    }
                    (Some((_, token)), None) => self.reactor.cancel_deadline(*token),
                    (None, _) => {}
                }
            }
            Action::AwaitPort => self.port.watch(&mut self.reactor),
            Action::Record(record) => self.write_down(&record),
            Action::Finish(record) => self.finish(&record),
        }
        None
    }

    fn tell_init(&self, message: &ToInit) -> io::Result<()> {
        let sandbox = self.sandbox.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        control::send(&sandbox.control, message, &[])
    }

    fn tell_client(&mut self, frame: &Frame) {
        if let Some(session) = &mut self.session {
            let _ = session.tell(frame, &[]);
        }
    }

    fn snapshot(&self) -> FromSupervisor {
        FromSupervisor::State {
            dyno: self.spec.id.clone(),
            state: self.state,
            at_us: self.since.as_microsecond(),
            port: Some(self.spec.port),
            listener: self.port.listener(),
        }
    }

    /// Sends a message to all servers. One that does not get it asks again when it comes back.
    fn report(&self, message: &FromSupervisor) {
        for (_, server) in &self.servers {
            let _ = control::send(server, message, &[]);
        }
    }

    /// Writes the exit record, with the time, once; retried if the disk was full.
    fn write_down(&mut self, record: &ExitRecord) {
        if self.recorded.is_none() {
            let record = ExitRecord {
                at_us: Some(Timestamp::now().as_microsecond()),
                ..record.clone()
            };
            match write_record(&self.spec.folder, &record) {
                Ok(()) => self.recorded = Some(record),
                Err(error) => tell!(
                    "{}: cannot write the exit record: {error:#}",
                    self.spec.name
                ),
            }
        }
    }

    /// Ends the dyno: writes the record first, so that it is kept whatever happens next, and then removes the dyno's
    /// files. The server removes the folder with the record.
    fn finish(&mut self, record: &ExitRecord) {
        self.finished = true;
        self.write_down(record);
        self.end_session();
        self.inside.end();
        if let Some(mut sandbox) = self.sandbox.take() {
            end(&mut sandbox, &self.spec.name);
        }
        let _ = fs::remove_file(self.spec.folder.join(TRACKED));
        let _ = crate::kernel::tree::remove_tree(&self.spec.folder.join(SCRATCH));
        // The dyno's own files may have filled the disk.
        self.write_down(record);
        let _ = self.log.append(&[]);
        if self.log.lost() > 0 {
            tell!(
                "{}: {} messages could not be logged",
                self.spec.name,
                self.log.lost()
            );
        }
        let record = self.recorded.take().unwrap_or_else(|| record.clone());
        let dyno = self.spec.id.clone();
        self.report(&FromSupervisor::Ended { dyno, record });
    }
}

/// The sentence about a command that could not be executed, with the cause.
fn not_executed(cause: &str) -> String {
    format!("The command could not be executed: {cause}")
}

/// Ends all processes of the sandbox; prints an error if one is left.
fn end(sandbox: &mut Launched, name: &str) {
    if let Err(error) = sandbox.end() {
        tell!("{name}: {error}");
    }
}
