//! The dyno's side of a session: the connection to its supervisor, like that of a client on this host, and the
//! command's streams.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::termios::LocalModes;

use crate::kernel::unix_socket;
use crate::kernel::wait::is_readable;
use crate::model::window::WindowSize;
use crate::pty;
use crate::wire::frame::attachment::Attachment;
use crate::wire::frame::{
    ACTIVE, AttachRefusal, CONTINUE, CommandEnd, Frame, INTERRUPT, STOP_TYPED, Up, closing,
};
use crate::wire::reactor::{Interest, Reactor, Token};

/// The dyno's side of a session: see the [module](self).
#[derive(Debug)]
pub(super) struct DynoSide {
    supervisor: OwnedFd,
    token: Token,
    attachment: Attachment,
    fds: Vec<OwnedFd>,
    readable: bool,
    /// Whether the supervisor has closed the connection.
    closed: bool,
    terminal: bool,
    /// The tokens of the streams, in their order.
    tokens: [Token; 3],
    input: Option<usize>,
    streams: [Option<Stream>; 3],
    /// Outputs that have ended since the last call of [`ended`](Self::ended).
    ended: Vec<u8>,
}

/// One of the command's streams.
#[derive(Debug)]
struct Stream {
    fd: OwnedFd,
    is_output: bool,
    readable: bool,
    writable: bool,
}

/// A message of the supervisor.
#[derive(Debug)]
pub(super) enum DynoEvent {
    /// The command runs, and its streams have come.
    Up(Up),
    /// The command has stopped.
    Stopped,
    /// The command has ended.
    Exit(CommandEnd),
    /// There is no command, or none any more.
    Error(AttachRefusal),
    /// The supervisor has ended without a message.
    Lost,
}

impl DynoSide {
    /// The dyno at the other end of `supervisor`, which is non-blocking. `tokens` are for the supervisor and the streams.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub fn new(
        supervisor: OwnedFd,
        [token, tokens @ ..]: [Token; 4],
        reactor: &Reactor,
    ) -> io::Result<Self> {
        reactor.register(&supervisor, token, Interest::READABLE)?;
        Ok(Self {
            supervisor,
            token,
            attachment: Attachment::before_response(),
            fds: Vec::new(),
            readable: true,
            closed: false,
            terminal: false,
            tokens,
            input: None,
            streams: [None, None, None],
            ended: Vec::new(),
        })
    }

    /// Stores the readiness that the kernel reported for one of its descriptors.
    pub fn note(&mut self, token: Token, readable: bool, writable: bool) {
        if token == self.token {
            self.readable |= readable;
        }
        let index = self.tokens.iter().position(|known| *known == token);
        if let Some(stream) = index.and_then(|index| self.streams[index].as_mut()) {
            stream.readable |= readable;
            stream.writable |= writable;
        }
    }

    /// The next message of the supervisor.
    pub fn hear(&mut self, reactor: &mut Reactor) -> Option<DynoEvent> {
        if self.closed {
            return None;
        }
        loop {
            match self.attachment.next_frame() {
                Ok(Some(Frame::Up(up))) => {
                    return Some(match self.take_streams(&up, reactor) {
                        Ok(()) => DynoEvent::Up(up),
                        Err(_) => self.lose(),
                    });
                }
                Ok(Some(Frame::Stopped)) => return Some(DynoEvent::Stopped),
                Ok(Some(Frame::Exit(exit))) => return Some(DynoEvent::Exit(exit)),
                Ok(Some(Frame::Error(refusal))) => return Some(DynoEvent::Error(refusal)),
                Ok(None) if !self.readable => return None,
                Ok(None) => {}
                Err(_) => return Some(self.lose()),
            }
            let mut buffer = [0; 4096];
            match unix_socket::receive(&self.supervisor, &mut buffer, &mut self.fds) {
                Ok(0) => return Some(self.lose()),
                Ok(length) => self.attachment.receive(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(_) => return Some(self.lose()),
            }
        }
    }

    fn lose(&mut self) -> DynoEvent {
        self.closed = true;
        self.attachment.close();
        DynoEvent::Lost
    }

    /// Takes the command's streams: a terminal; or pipes for input and output, and perhaps one for errors.
    fn take_streams(&mut self, up: &Up, reactor: &Reactor) -> io::Result<()> {
        let fds = std::mem::take(&mut self.fds);
        let fits = if up.terminal {
            fds.len() == 1
        } else {
            (2..=3).contains(&fds.len())
        };
        if !fits {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.terminal = up.terminal;
        self.input = Some(0);
        for (index, fd) in fds.into_iter().enumerate() {
            rustix::io::ioctl_fionbio(&fd, true)?;
            let interest = match (up.terminal, index) {
                (true, _) => Interest::READABLE | Interest::WRITABLE,
                (false, 0) => Interest::WRITABLE,
                (false, _) => Interest::READABLE,
            };
            reactor.register(&fd, self.tokens[index], interest)?;
            self.streams[index] = Some(Stream {
                fd,
                is_output: interest.is_readable(),
                readable: true,
                writable: true,
            });
        }
        Ok(())
    }

    /// Whether the command has an open input.
    pub fn has_input(&self) -> bool {
        self.input.is_some()
    }

    /// Whether the command's output has not ended yet.
    pub fn has_output(&self) -> bool {
        self.streams.iter().flatten().any(|stream| stream.is_output)
    }

    /// Whether the command's terminal, if it has one, is in canonical mode at this moment.
    pub fn reads_lines(&self) -> bool {
        let master = self.streams[0].as_ref().filter(|_| self.terminal);
        master
            .and_then(|master| rustix::termios::tcgetattr(&master.fd).ok())
            .is_some_and(|modes| modes.local_modes.contains(LocalModes::ICANON))
    }

    /// Writes to the command's input; returns how many bytes it took. Closes an input that the command no longer reads.
    pub fn write(&mut self, bytes: &[u8], reactor: &mut Reactor) -> usize {
        let Some(stream) = self.input.and_then(|index| self.streams[index].as_mut()) else {
            return bytes.len();
        };
        if !stream.writable {
            return 0;
        }
        match rustix::io::retry_on_intr(|| rustix::io::write(&stream.fd, bytes)) {
            Ok(length) => length,
            Err(Errno::AGAIN) => {
                stream.writable = false;
                0
            }
            Err(_) => {
                self.close_input(reactor);
                bytes.len()
            }
        }
    }

    /// Closes the command's input, unless it is a terminal, in which a character says so.
    pub fn close_input(&mut self, reactor: &mut Reactor) {
        self.input = None;
        if !self.terminal {
            self.close(0, reactor);
        }
    }

    /// Reads from an output, as much as `room` (of its number) allows: its number, and how many bytes. None if there
    /// are none at present. Closes an output that has ended.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        room: impl Fn(u8) -> usize,
        reactor: &mut Reactor,
    ) -> Option<(u8, usize)> {
        for index in 0..self.streams.len() {
            let number = self.number(index);
            let room = room(number).min(buffer.len());
            if room == 0 {
                continue;
            }
            while let Some(stream) = self.streams[index]
                .as_mut()
                .filter(|stream| stream.is_output && stream.readable)
            {
                match pty::read(&stream.fd, &mut buffer[..room]) {
                    Ok(0) => self.end_output(index, reactor),
                    Ok(length) => return Some((number, length)),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        // A terminal also reports the end while another reader is just closing it, and makes no second event.
                        stream.readable = is_readable(&stream.fd);
                        if stream.readable {
                            reactor.again(self.token);
                            break;
                        }
                    }
                    Err(_) => self.end_output(index, reactor),
                }
            }
        }
        None
    }

    /// The number of an output: 1 for a terminal, which has all output.
    fn number(&self, index: usize) -> u8 {
        if self.terminal { 1 } else { index as u8 }
    }

    fn end_output(&mut self, index: usize, reactor: &mut Reactor) {
        self.ended.push(self.number(index));
        self.close(index, reactor);
    }

    /// The number of an output that has ended; each is returned once.
    pub fn ended(&mut self) -> Option<u8> {
        self.ended.pop()
    }

    /// Closes an output that the client no longer reads, so that the command gets a broken pipe.
    pub fn leave_output(&mut self, number: u8, reactor: &mut Reactor) {
        if !self.terminal && (1..=2).contains(&number) {
            let _ = rustix::io::write(&self.supervisor, &[closing(number.into())]);
            self.end_output(number.into(), reactor);
        }
    }

    /// Resizes the command's terminal, if it has one.
    pub fn resize(&self, size: WindowSize) {
        if let Some(master) = self.streams[0].as_ref().filter(|_| self.terminal) {
            let _ = pty::resize(&master.fd, size);
        }
    }

    /// Has the supervisor interrupt the command.
    pub fn interrupt(&self) {
        let _ = rustix::io::write(&self.supervisor, &[INTERRUPT]);
    }

    /// Has the supervisor continue the stopped command.
    pub fn go_on(&self) {
        let _ = rustix::io::write(&self.supervisor, &[CONTINUE]);
    }

    /// Tells the supervisor that Ctrl-Z was typed.
    pub fn watch_for_stop(&self) {
        let _ = rustix::io::write(&self.supervisor, &[STOP_TYPED]);
    }

    /// How long the connection may be idle; None if that is not limited, or not known yet.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.attachment.idle_timeout()
    }

    /// When the supervisor is to be told that bytes went through, the last ones at `moved`. None if it was.
    pub fn report_at(&self, moved: Instant) -> Option<Instant> {
        self.attachment.report_at(moved)
    }

    /// Tells the supervisor that bytes went through, if that is due.
    pub fn report(&mut self, moved: Instant, now: Instant) {
        if self.attachment.report(moved, now) {
            let _ = rustix::io::write(&self.supervisor, &[ACTIVE]);
        }
    }

    fn close(&mut self, index: usize, reactor: &mut Reactor) {
        if let Some(stream) = self.streams[index].take() {
            let _ = reactor.deregister(&stream.fd, self.tokens[index]);
        }
        if self.input == Some(index) {
            self.input = None;
        }
    }

    /// Closes the connection; the supervisor hangs the command up if it still runs.
    pub fn leave(mut self, reactor: &mut Reactor) {
        for index in 0..self.streams.len() {
            self.close(index, reactor);
        }
        let _ = reactor.deregister(&self.supervisor, self.token);
    }
}
