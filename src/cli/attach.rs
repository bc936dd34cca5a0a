//! An attached run, from the moment it is connected: the status line, the streams, the user's terminal, signals, and
//! the exit code.
//!
//! The supervisor passes the command's own streams with `Up` (see `frame`); two or three threads then move bytes
//! (`streams`) while this one waits for messages of the supervisor and the threads, and for signals.

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, Sender};
use mio::{Interest, Token};
use rustix::event::PollFlags;
use rustix::fs::FileType;
use rustix::process::Signal;
use signal_hook::consts::{
    SIGABRT, SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2,
    SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::pumps::{self, End, Escape};
use crate::cli::terminal::{self, Modes, RawMode};
use crate::error::{EXIT_DYNO_FAILED, UserError, shown, tell};
use crate::kernel::fail_point;
use crate::kernel::sys::signal::unless_ignored;
use crate::kernel::unix_socket;
use crate::kernel::wait;
use crate::model::dyno::Exit;
use crate::panics;
use crate::pty;
use crate::wire::frame::attachment::{Attachment, LOST_OUTPUT};
use crate::wire::frame::{self, AttachRefusal, CommandEnd, Frame};
use crate::wire::reactor::{Event, Reactor, Waker};

/// The columns of the status line beside the command, with the ellipsis of a shortened command.
const STATUS_COLUMNS: usize = "Running … attached to terminal... starting, scheduler.12345".len();

/// How many characters of a command are shown at most.
const LONGEST_COMMAND: usize = 200;

/// Signals that would end the program with the terminal still in raw mode. Those of a broken program (SIGSEGV and the
/// like) cannot be handled in an orderly way. A signal that was ignored from the start stays ignored.
const ENDING: [i32; 13] = [
    SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGABRT, SIGALRM, SIGIO, SIGPROF, SIGUSR1, SIGUSR2,
    SIGVTALRM, SIGXCPU, SIGXFSZ,
];

/// `Running bash attached to terminal... up, run.1` on standard error; live where that is a terminal.
#[derive(Debug)]
pub struct StatusLine {
    command: String,
    how: &'static str,
    quiet: bool,
    live: bool,
    open: bool,
}

impl StatusLine {
    /// Prints the beginning, `Running COMMAND` and `how`; with `quiet`, prints nothing at all.
    pub fn begin(command: &str, how: &'static str, quiet: bool) -> Self {
        let live = terminal::is_terminal(rustix::stdio::stderr());
        // Control characters in the command must not break the line.
        let one_line = command.replace(char::is_control, " ");
        let room = match terminal::size() {
            // A live line must not wrap, or it could not be written over.
            Some(size) if live => usize::from(size.columns)
                .saturating_sub(STATUS_COLUMNS)
                .max(8),
            _ => LONGEST_COMMAND,
        };
        let command = shown(one_line.as_bytes(), room.min(LONGEST_COMMAND));
        let line = Self {
            command,
            how,
            quiet,
            live,
            open: true,
        };
        line.print("");
        line
    }

    /// Shows that the dyno has a name and is starting.
    pub fn starting(&mut self, name: &str) {
        if self.live {
            self.print(&format!("starting, {name}"));
        }
    }

    /// Shows that the command runs.
    pub fn up(&mut self, name: &str) {
        match self.live {
            true => self.print(&format!("up, {name}\n")),
            false => self.write(&format!("up, {name}\n")),
        }
        self.open = false;
    }

    /// Ends the line, so that an error begins on a line of its own.
    pub fn fail(&mut self) {
        if std::mem::take(&mut self.open) {
            match self.live {
                true => self.print("\n"),
                false => self.write("\n"),
            }
        }
    }

    fn print(&self, state: &str) {
        let again = if self.live { "\r\x1b[K" } else { "" };
        self.write(&format!(
            "{again}Running {}{}... {state}",
            self.command, self.how
        ));
    }

    fn write(&self, text: &str) {
        if !self.quiet {
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.fail();
    }
}

/// The connection to the supervisor, with what came with the response to the upgrade request.
#[derive(Debug)]
pub struct AttachConnection {
    /// The socket.
    pub socket: OwnedFd,
    /// Bytes that came after the head of the response.
    pub early: Vec<u8>,
    /// Descriptors that came with the response.
    pub fds: Vec<OwnedFd>,
}

/// Runs the session with dyno `name` to its end; returns the exit code.
///
/// # Errors
/// `Timeout awaiting process` when the command does not run within `timeout`; and when the dyno could not
/// be started or was lost.
pub fn attach(
    connection: AttachConnection,
    name: &str,
    mut status: StatusLine,
    timeout: Duration,
) -> Result<u8> {
    // Never dropped: if the connection closed before the pumps have ended, they would take output of the hung-up
    // command, which belongs in the log. When the process exits, the kernel ends its threads first and closes its
    // descriptors afterwards.
    let mut session = ManuallyDrop::new(AttachedRun::new(connection, name, timeout)?);
    let outcome = session.run(&mut status);
    // Before anything is printed about the outcome, and before an `exit`.
    session.leave_terminal();
    if let Some(why) = session.exit.as_ref().and_then(|ended| ended.why.as_ref()) {
        tell!("dyno: {why}");
    }
    outcome
}

/// Heroku's error for a dyno that does not come up in time.
pub fn timeout_awaiting_process(whom: &str) -> UserError {
    UserError::new("Timeout awaiting process")
        .hint(format!(
            "`{whom}` did not answer in time; `dyno doctor` checks this host"
        ))
        .exit_code(EXIT_DYNO_FAILED)
}

/// A message of a pump thread.
enum PumpMessage {
    /// An output has ended: all of it is written, or its reader has left.
    Output(usize, io::Result<End>),
    /// The user typed the escape: Ctrl-C four times.
    Escape,
    /// The user typed Ctrl-Z.
    StopTyped,
    /// The user's terminal is gone.
    TerminalGone,
}

struct AttachedRun<'a> {
    name: &'a str,
    reactor: Reactor,
    socket: OwnedFd,
    attachment: Attachment,
    fds: Vec<OwnedFd>,
    signals: SignalDelivery<UnixStream, SignalOnly>,
    socket_token: Token,
    signal_token: Token,
    timeout_token: Token,
    activity_token: Token,
    /// Whether bytes went through since the supervisor was last told so.
    active: Arc<AtomicBool>,
    news: (Sender<PumpMessage>, Receiver<PumpMessage>),
    /// The terminal's master, if there is one, to set its size.
    master: Option<Arc<OwnedFd>>,
    /// The dyno is elsewhere, and the window's size is sent over the connection.
    relayed: bool,
    raw: Option<RawMode>,
    /// What was printed on the user's terminal, if it is one.
    screen: Option<Arc<Mutex<Screen>>>,
    /// The supervisor says when the command stops.
    job_control: bool,
    exit: Option<CommandEnd>,
    outputs: usize,
    /// The supervisor has closed the connection.
    closed: bool,
    lost: bool,
}

impl<'a> AttachedRun<'a> {
    fn new(connection: AttachConnection, name: &'a str, timeout: Duration) -> Result<Self> {
        let mut reactor = Reactor::new()?;
        let (reader, writer) = UnixStream::pair()?;
        let mut signals = SignalDelivery::with_pipe(
            reader,
            writer,
            SignalOnly,
            unless_ignored(ENDING).chain([SIGWINCH, SIGCONT]),
        )?;
        let [socket_token, signal_token, timeout_token, activity_token] =
            std::array::from_fn(|_| reactor.token());
        rustix::io::ioctl_fionbio(&connection.socket, true)?;
        reactor.register(&connection.socket, socket_token, Interest::READABLE)?;
        reactor.register(signals.get_read_mut(), signal_token, Interest::READABLE)?;
        reactor.set_deadline(timeout_token, Instant::now() + timeout);
        // Bytes that came with the response make no event of their own.
        reactor.again(socket_token);
        let mut attachment = Attachment::default();
        attachment.receive(&connection.early);
        Ok(Self {
            name,
            reactor,
            socket: connection.socket,
            attachment,
            fds: connection.fds,
            signals,
            socket_token,
            signal_token,
            timeout_token,
            activity_token,
            active: Arc::new(AtomicBool::new(false)),
            news: crossbeam_channel::unbounded(),
            master: None,
            relayed: false,
            raw: None,
            screen: None,
            job_control: false,
            exit: None,
            outputs: 0,
            closed: false,
            lost: false,
        })
    }

    fn run(&mut self, status: &mut StatusLine) -> Result<u8> {
        let mut events = Vec::new();
        loop {
            self.reactor.poll(&mut events)?;
            for event in &events {
                match event {
                    Event::Ready { token, .. } | Event::Again(token)
                        if *token == self.socket_token =>
                    {
                        self.hear_supervisor(status)?;
                    }
                    Event::Ready { token, .. } if *token == self.signal_token => {
                        if let Some(code) = self.take_signals() {
                            return Ok(code);
                        }
                    }
                    Event::Deadline(token) if *token == self.activity_token => {
                        self.tell_active();
                    }
                    Event::Deadline(_) if self.lost => return Err(self.lost_error()),
                    Event::Deadline(_) => {
                        return Err(timeout_awaiting_process(self.name).into());
                    }
                    Event::Woken => {
                        if let Some(code) = self.take_news()? {
                            return Ok(code);
                        }
                    }
                    Event::Ready { .. } | Event::Again(_) => {}
                }
            }
            match (&self.exit, self.outputs) {
                (Some(ended), 0) => return Ok(ended.exit.code()),
                (None, 0) if self.lost => return Err(self.lost_error()),
                _ => {}
            }
        }
    }

    fn lost_error(&self) -> anyhow::Error {
        UserError::new(format!("`{}` was lost: its supervisor is gone", self.name))
            .hint("the dyno and everything in it has ended; the server's log may say more")
            .exit_code(EXIT_DYNO_FAILED)
            .into()
    }

    fn hear_supervisor(&mut self, status: &mut StatusLine) -> Result<()> {
        // A turn may have several events of a socket, and the first may have read its end.
        let mut open = !std::mem::replace(&mut self.closed, true);
        if !open {
            return Ok(());
        }
        while open {
            while let Some(frame) = self.attachment.next_frame()? {
                self.take_frame(frame, status)?;
            }
            match self.receive() {
                Ok(0) => open = false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.closed = false;
                    return Ok(());
                }
                Err(_) => open = false,
            }
        }
        self.reactor.deregister(&self.socket, self.socket_token)?;
        self.lost = self.attachment.close();
        if self.lost {
            self.reactor
                .set_deadline(self.timeout_token, Instant::now() + LOST_OUTPUT);
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<usize> {
        let mut buffer = [0u8; 4096];
        let length = unix_socket::receive(&self.socket, &mut buffer, &mut self.fds)?;
        self.attachment.receive(&buffer[..length]);
        Ok(length)
    }

    fn take_frame(&mut self, frame: Frame, status: &mut StatusLine) -> Result<()> {
        match frame {
            Frame::Up(up) => {
                self.job_control = up.job_control;
                self.reactor.cancel_deadline(self.timeout_token);
                status.up(self.name);
                self.tell_active();
                let fds = std::mem::take(&mut self.fds);
                fail_point::reach("client.attached");
                if up.terminal {
                    self.use_terminal(fds)
                } else {
                    self.use_pipes(fds)
                }
            }
            Frame::Stopped => {
                self.stop();
                Ok(())
            }
            Frame::Exit(ended) => {
                fail_point::reach("client.status");
                self.exit = Some(ended);
                Ok(())
            }
            Frame::Error(AttachRefusal {
                message,
                hint,
                exit_code,
            }) => {
                let error = UserError {
                    message,
                    hint,
                    exit_code: exit_code.or(Some(EXIT_DYNO_FAILED)),
                };
                Err(error.into())
            }
        }
    }

    /// Reports activity: the supervisor relays no bytes, so only the client knows whether the connection is idle.
    fn tell_active(&mut self) {
        let Some(interval) = self.attachment.report_interval() else {
            return;
        };
        let now = Instant::now();
        if self.active.load(Ordering::Relaxed) && self.attachment.report(now, now) {
            self.active.store(false, Ordering::Relaxed);
            let _ = rustix::io::write(&self.socket, &[frame::ACTIVE]);
        }
        self.reactor
            .set_deadline(self.activity_token, now + interval);
    }

    fn use_terminal(&mut self, fds: Vec<OwnedFd>) -> Result<()> {
        let Ok([master]) = <[OwnedFd; 1]>::try_from(fds) else {
            bail!("the dyno's terminal did not come along");
        };
        // For a dyno elsewhere, the terminal's master is a socket.
        self.relayed = rustix::fs::fstat(&master)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket);
        let master = Arc::new(master);
        self.master = Some(Arc::clone(&master));
        self.resize();
        let typing = terminal::is_terminal(rustix::stdio::stdin());
        let mut ahead = Vec::new();
        if typing {
            ahead = terminal::typed_ahead();
            self.raw = Some(RawMode::enter().context("cannot make the terminal raw")?);
        }
        self.outputs = 1;
        let (news, waker) = (self.news.0.clone(), self.reactor.waker());
        let shown = Arc::clone(&master);
        let active = Arc::clone(&self.active);
        let screen = Arc::new(Mutex::new(Screen::default()));
        if terminal::is_terminal(rustix::stdio::stdout()) {
            self.screen = Some(Arc::clone(&screen));
        }
        spawn(move || {
            let end = pumps::copy(shown.as_fd(), rustix::stdio::stdout(), |bytes| {
                active.store(true, Ordering::Relaxed);
                let mut screen = screen.lock().unwrap_or_else(PoisonError::into_inner);
                screen.modes.feed(bytes);
                (!screen.left).then_some(screen)
            });
            tell(&news, &waker, PumpMessage::Output(1, end));
        })?;
        let (news, waker) = (self.news.0.clone(), self.reactor.waker());
        let active = Arc::clone(&self.active);
        let job_control = self.job_control;
        let stop_keys = [Some(STOP_KEY), terminal::stop_key()];
        let stop_keys: Vec<u8> = stop_keys.into_iter().flatten().collect();
        spawn(move || {
            let mut escape = Escape::default();
            let mut escaped = false;
            let mut last = None;
            let _ = pumps::write_all(master.as_fd(), &ahead);
            let _ = pumps::copy(rustix::stdio::stdin(), master.as_fd(), |keys| {
                active.store(true, Ordering::Relaxed);
                last = keys.last().copied();
                escaped = typing && escape.typed(keys, Instant::now());
                if job_control && keys.iter().any(|key| stop_keys.contains(key)) {
                    tell(&news, &waker, PumpMessage::StopTyped);
                }
                (!escaped).then_some(())
            });
            match (escaped, typing) {
                (true, _) => tell(&news, &waker, PumpMessage::Escape),
                (false, true) => tell(&news, &waker, PumpMessage::TerminalGone),
                // A terminal's input ends with Ctrl-D, not with an end of file.
                (false, false) => drop(rustix::io::write(&master, pumps::end_of_keys(last))),
            }
        })
    }

    fn use_pipes(&mut self, fds: Vec<OwnedFd>) -> Result<()> {
        let mut fds = fds.into_iter();
        let (Some(stdin), Some(stdout), stderr) = (fds.next(), fds.next(), fds.next()) else {
            bail!("the dyno's streams did not come along");
        };
        // This thread is not waited for: a command need not read all of its input.
        let active = Arc::clone(&self.active);
        spawn(move || {
            let _ = pumps::pump(rustix::stdio::stdin(), stdin.as_fd(), &active);
        })?;
        let outputs = [Some((1, stdout)), stderr.map(|stderr| (2, stderr))];
        for (number, fd) in outputs.into_iter().flatten() {
            let (news, waker) = (self.news.0.clone(), self.reactor.waker());
            let active = Arc::clone(&self.active);
            self.outputs += 1;
            spawn(move || {
                let to = match number {
                    1 => rustix::stdio::stdout(),
                    _ => rustix::stdio::stderr(),
                };
                panics::point("command line pump");
                let end = pumps::pump(fd.as_fd(), to, &active);
                drop(fd);
                tell(&news, &waker, PumpMessage::Output(number, end));
            })?;
        }
        Ok(())
    }

    /// Handles messages of the pumps; returns the exit code if the session ends.
    fn take_news(&mut self) -> Result<Option<u8>> {
        while let Ok(news) = self.news.1.try_recv() {
            match news {
                PumpMessage::Output(number, end) => {
                    self.outputs -= 1;
                    match end {
                        Ok(End::Complete) => {}
                        // The user's terminal takes no more output: as if it had been closed.
                        Ok(End::BrokenPipe) if self.master.is_some() => return Ok(Some(HANGUP)),
                        // The command gets a broken pipe of its own.
                        Ok(End::BrokenPipe) => {
                            let _ = rustix::io::write(&self.socket, &[frame::closing(number)]);
                        }
                        Err(error) => {
                            return Err(error)
                                .context(format!("cannot write the output of `{}`", self.name));
                        }
                    }
                }
                PumpMessage::StopTyped => {
                    let _ = rustix::io::write(&self.socket, &[frame::STOP_TYPED]);
                }
                PumpMessage::TerminalGone => return Ok(Some(HANGUP)),
                PumpMessage::Escape => {
                    self.leave_terminal();
                    let _ = io::stderr().write_all(b"\nforcing dyno disconnect\n");
                    return Ok(Some(INTERRUPTED));
                }
            }
        }
        Ok(None)
    }

    /// Handles signals; returns the exit code if one ends the session. Leaving hangs the command up.
    fn take_signals(&mut self) -> Option<u8> {
        let mut code = None;
        for signal in self.signals.pending().collect::<Vec<_>>() {
            match signal {
                SIGWINCH => self.resize(),
                SIGCONT => {
                    if let Some(raw) = self.raw.as_ref().filter(|_| terminal::is_foreground()) {
                        raw.enter_again();
                    }
                    self.resize();
                }
                other => code = Some(128 + other as u8),
            }
        }
        code
    }

    /// Stops this process, with all of its job, since the command has stopped: the user has their own shell again. When
    /// the shell continues it, the command is continued, too. Where there is no shell to do so, the kernel drops the
    /// signal, and both are continued at once.
    fn stop(&self) {
        // The group of a session's first process is no job, and keeps the terminal.
        let is_job = rustix::process::getsid(None).is_ok_and(|it| it != rustix::process::getpgrp());
        if is_job {
            if let Some(raw) = self.raw.as_ref().filter(|_| terminal::is_foreground()) {
                raw.leave_for_now();
            }
            let _ = rustix::process::kill_current_process_group(Signal::TSTP);
            if let Some(raw) = self.raw.as_ref().filter(|_| terminal::is_foreground()) {
                raw.enter_again();
            }
        }
        let _ = rustix::io::write(&self.socket, &[frame::CONTINUE]);
    }

    /// Restores the user's terminal. If the command did not end by itself, also switches off the modes that it had switched on.
    fn leave_terminal(&mut self) {
        let exit = self.exit.as_ref().map(|ended| ended.exit);
        let by_itself = matches!(exit, Some(Exit::Status(0..=128)));
        if let Some(screen) = self.screen.take().filter(|_| !by_itself) {
            tidy_up(&screen);
        }
        drop(self.raw.take());
    }

    fn resize(&self) {
        let (Some(master), Some(size)) = (&self.master, terminal::size()) else {
            return;
        };
        match self.relayed {
            false => drop(pty::resize(master.as_ref(), size)),
            true => {
                let mut word = vec![frame::RESIZE];
                word.extend(size.columns.to_be_bytes());
                word.extend(size.rows.to_be_bytes());
                let _ = rustix::io::write(&self.socket, &word);
            }
        }
    }
}

/// What was printed on the user's terminal.
#[derive(Debug, Default)]
struct Screen {
    modes: Modes,
    /// The session is over, and no more is to be printed.
    left: bool,
}

/// Switches off the terminal modes that are on. Does not wait for a terminal that takes no more output.
fn tidy_up(screen: &Mutex<Screen>) {
    let give_up = Instant::now() + LAST_MODES;
    loop {
        match screen.try_lock() {
            Ok(mut screen) => {
                screen.left = true;
                let off = screen.modes.off();
                let stdout = rustix::stdio::stdout();
                let give_up = Some(Instant::now() + LAST_MODES);
                let takes = || matches!(wait::until(stdout, PollFlags::OUT, give_up), Ok(Some(_)));
                if !off.is_empty() && takes() {
                    let _ = rustix::io::write(stdout, &off);
                }
                return;
            }
            Err(_) if Instant::now() < give_up => thread::sleep(Duration::from_millis(1)),
            Err(_) => return,
        }
    }
}

/// How long writing the sequences that switch modes off may take.
const LAST_MODES: Duration = Duration::from_millis(200);

/// Ctrl-Z, even if the user's terminal has another key that stops programs.
const STOP_KEY: u8 = 0x1a;

/// The exit code of a session whose terminal is gone: as if SIGHUP had ended it.
const HANGUP: u8 = 129;

/// The exit code of a session that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<()> {
    thread::Builder::new()
        .stack_size(256 * 1024)
        .spawn(move || {
            // After a panic, the loop would wait for its message for ever. The panic hook has restored the terminal.
            if let Err(why) = panics::caught(work) {
                tell!("error: dyno itself has failed: {why}");
                std::process::exit(EXIT_DYNO_FAILED.into());
            }
        })
        .context("cannot start a thread")?;
    Ok(())
}

fn tell(news: &Sender<PumpMessage>, waker: &Waker, what: PumpMessage) {
    let _ = news.send(what);
    waker.wake();
}
