//! The transport of a client's bytes: a Unix socket, or a stream to another host.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::net::sockopt::{self, Timeout};

use crate::kernel::unix_socket::{self, SocketType};
use crate::kernel::wait;
use crate::wire::stream::Stream;

/// How many bytes are read ahead at most.
const AHEAD: usize = 64 * 1024;

/// One connection; blocking.
#[derive(Debug)]
pub(super) enum Transport {
    /// To a server on this host.
    Unix(OwnedFd),
    /// To a server elsewhere.
    Far(Box<FarSocket>),
}

impl Transport {
    /// Connects to the Unix socket of a server on this host, which may take `patience`.
    pub fn connect(socket: &Path, patience: Duration) -> io::Result<Self> {
        unix_socket::connect(socket, SocketType::STREAM, patience).map(Self::Unix)
    }

    /// Sets how long a read or write may take; `WouldBlock` after that.
    pub fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Unix(socket) => {
                sockopt::set_socket_timeout(socket, Timeout::Recv, patience)?;
                sockopt::set_socket_timeout(socket, Timeout::Send, patience)?;
            }
            Self::Far(far) => far.set_patience(patience),
        }
        Ok(())
    }

    /// Writes all of `bytes`.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(socket) => {
                while !bytes.is_empty() {
                    bytes = &bytes[unix_socket::send(&*socket, bytes, &[])?..];
                }
                Ok(())
            }
            Self::Far(far) => far.write(bytes),
        }
    }

    /// Reads some bytes, and the descriptors that came with them; 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => unix_socket::receive(&*socket, buffer, fds),
            Self::Far(far) => far.read(buffer),
        }
    }

    /// Whether a read would return at once: with bytes, or with the end.
    pub fn has_input(&mut self) -> io::Result<bool> {
        match self {
            Self::Unix(socket) => {
                let now = Some(Instant::now());
                Ok(wait::until(socket, PollFlags::IN, now)?.is_some())
            }
            Self::Far(far) => far.has_input(),
        }
    }

    /// The socket, to wait for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(socket) => socket.as_fd(),
            Self::Far(far) => far.stream.socket(),
        }
    }

    /// Whether a reset of this connection means that the server had not read all bytes.
    pub fn tells_unread(&self) -> bool {
        matches!(self, Self::Unix(_))
    }
}

/// A non-blocking stream, with blocking calls.
#[derive(Debug)]
pub(super) struct FarSocket {
    stream: Stream,
    patience: Cell<Option<Duration>>,
    /// Bytes that were read ahead.
    ahead: Vec<u8>,
    ended: bool,
}

impl FarSocket {
    /// A connection over `stream`, which does not block; reads and writes wait for ever until a patience is set.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            patience: Cell::new(None),
            ahead: Vec::new(),
            ended: false,
        }
    }

    /// How long each read and write waits; None: for ever.
    pub fn set_patience(&self, patience: Option<Duration>) {
        self.patience.set(patience);
    }

    /// Over TLS: completes the handshake, with the check of the server's certificate.
    ///
    /// # Errors
    /// `InvalidData` if the server cannot be trusted; `UnexpectedEof` if it closes the connection meanwhile.
    pub fn shake_hands(&mut self) -> io::Result<()> {
        let deadline = self.deadline();
        while self.stream.is_handshaking() {
            let _ = self.stream.flush();
            if self.read_ahead()? {
                continue;
            }
            if self.ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.wait(deadline)?;
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = self.deadline();
        loop {
            match self.stream.write(bytes) {
                Ok(length) => bytes = &bytes[length..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Over TLS, writing may need something to be read.
                    if self.ahead.len() >= AHEAD || !self.read_ahead()? {
                        self.wait(deadline)?;
                    }
                }
                Err(error) => return Err(error),
            }
            if bytes.is_empty() {
                break;
            }
        }
        while let Err(error) = self.stream.flush() {
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(error);
            }
            self.wait(deadline)?;
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let deadline = self.deadline();
        while self.ahead.is_empty() && !self.ended {
            if !self.read_ahead()? && !self.ended {
                self.wait(deadline)?;
            }
        }
        let length = buffer.len().min(self.ahead.len());
        buffer[..length].copy_from_slice(&self.ahead[..length]);
        self.ahead.drain(..length);
        Ok(length)
    }

    fn has_input(&mut self) -> io::Result<bool> {
        if self.ahead.is_empty() && !self.ended {
            self.look()?;
            self.read_ahead()?;
        }
        Ok(self.ended || !self.ahead.is_empty())
    }

    /// Reads ahead; whether any bytes came, even if they were TLS's own.
    fn read_ahead(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(length) => {
                self.ahead.extend_from_slice(&buffer[..length]);
                return Ok(true);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(false)
    }

    fn deadline(&self) -> Option<Instant> {
        self.patience
            .get()
            .map(|patience| Instant::now() + patience)
    }

    /// Waits until the socket is ready.
    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let mut flags = PollFlags::IN;
        if !self.stream.is_flushed() {
            flags |= PollFlags::OUT;
        }
        match wait::until(self.stream.socket(), flags, deadline)? {
            Some(flags) => self.note(flags),
            None => return Err(io::ErrorKind::WouldBlock.into()),
        }
        Ok(())
    }

    /// Asks the kernel for the socket's present readiness.
    fn look(&mut self) -> io::Result<()> {
        let flags = PollFlags::IN | PollFlags::OUT;
        if let Some(flags) = wait::until(self.stream.socket(), flags, Some(Instant::now()))? {
            self.note(flags);
        }
        Ok(())
    }

    fn note(&mut self, flags: PollFlags) {
        let other = flags.intersects(PollFlags::ERR | PollFlags::HUP);
        let readable = other || flags.contains(PollFlags::IN);
        let writable = other || flags.contains(PollFlags::OUT);
        self.stream.note(readable, writable);
    }

    /// The stream, and the bytes that were read ahead.
    pub fn into_parts(self) -> (Stream, Vec<u8>) {
        (self.stream, self.ahead)
    }
}
