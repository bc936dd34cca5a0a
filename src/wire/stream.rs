//! A stream of bytes over a socket that does not block, in the clear or over TLS: one interface for servers and clients
//! of both.
//!
//! It knows no reactor. Its owner watches [`socket`](Stream::socket) for reading and writing, hands what the kernel says
//! to [`note`](Stream::note), and after that, in any order, [`read`](Stream::read)s until that would block and
//! [`flush`](Stream::flush)es what was not sent. Over TLS each of the two may need the other (a handshake reads *and*
//! writes), so both are to be called after any event, whatever the event was; that is all there is to know of TLS.
//!
//! - **Readiness** is remembered here and taken back only when a call would block, so an owner whose budget is spent
//!   can go on in another turn.
//! - **Memory is bounded.** Nothing is read that was not asked for, but for one record (16 KiB). [`write`](Stream::write)
//!   takes nothing while something that was written before is unsent, and 64 KiB at most; so that much waits here.
//! - **Records.** As each write begins only when all before it is sent, bytes of one write never share a TLS record
//!   with those of another; and up to [`RECORD`] bytes of one write are one record.
//! - **The end.** [`shut_down`](Stream::shut_down) says that nothing follows (`close_notify` and FIN), after all that
//!   was written. To drop a stream with unread bytes in its socket resets the connection, and the other side may lose
//!   what it was sent: read until the end, for a while, before.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

/// How many bytes of one write are one TLS record at most.
pub const RECORD: usize = 16 * 1024;

/// How many bytes a write takes at most over TLS.
const PIECE: usize = 4 * RECORD;

/// The first byte that a TLS client sends: the type of a handshake record. No other protocol that dyno serves begins with it.
const HANDSHAKE: u8 = 0x16;

/// A stream of bytes over a non-blocking socket, in the clear or over TLS: see the [module](self).
#[derive(Debug)]
pub struct Stream {
    socket: OwnedFd,
    layer: Layer,
    /// What the kernel last said.
    readable: bool,
    writable: bool,
    /// The other side has said that nothing follows.
    ended: bool,
    closing: Closing,
}

#[derive(Debug)]
enum Layer {
    Plain,
    /// The client's first byte says which.
    Undecided(Arc<ServerConfig>),
    Tls {
        connection: Box<Connection>,
        /// Bytes were written before the end of the handshake; rustls keeps them until then.
        early: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    Asked,
    Done,
}

impl Stream {
    /// A stream in the clear.
    pub fn plain(socket: OwnedFd) -> Self {
        Self::new(socket, Layer::Plain)
    }

    /// The server's side of a connection over TLS.
    ///
    /// # Errors
    /// When the configuration is of no use, which only a bug can cause.
    pub fn accept(socket: OwnedFd, config: Arc<ServerConfig>) -> io::Result<Self> {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Self::new(socket, Layer::tls(connection.into())))
    }

    /// The server's side of a connection with or without TLS; the client's first byte decides.
    pub fn accept_either(socket: OwnedFd, config: Arc<ServerConfig>) -> Self {
        Self::new(socket, Layer::Undecided(config))
    }

    /// The client's side of a connection over TLS to a server of this name.
    ///
    /// # Errors
    /// When the configuration is of no use, which only a bug can cause.
    pub fn connect(
        socket: OwnedFd,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self::new(socket, Layer::tls(connection.into())))
    }

    fn new(socket: OwnedFd, layer: Layer) -> Self {
        Self {
            socket,
            layer,
            readable: true,
            writable: true,
            ended: false,
            closing: Closing::No,
        }
    }

    /// The socket, to be watched for reading and writing.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The socket of a stream in the clear, to be passed to another process; over TLS it is useless without the keys.
    ///
    /// # Errors
    /// The stream itself, over TLS.
    pub fn into_socket(self) -> Result<OwnedFd, Self> {
        match self.layer {
            Layer::Plain => Ok(self.socket),
            _ => Err(self),
        }
    }

    /// Remembers that the kernel said the socket can be read or written.
    pub fn note(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// Whether the bytes are encrypted. False until the first byte of a client that may use TLS or not was read.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.layer, Layer::Tls { .. })
    }

    /// Whether the TLS handshake is not complete yet.
    pub fn is_handshaking(&self) -> bool {
        match &self.layer {
            Layer::Plain => false,
            Layer::Undecided(_) => true,
            Layer::Tls { connection, .. } => connection.is_handshaking(),
        }
    }

    /// Reads what has arrived; 0 at the end, also at one without `close_notify`.
    ///
    /// # Errors
    /// `WouldBlock` until the next event. `Interrupted` when what was read gave no byte yet: call again, in this turn
    /// or the next. `InvalidData` if the other side does not speak valid TLS; else as `read(2)`.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Layer::Undecided(config) = &self.layer {
            let config = Arc::clone(config);
            self.decide(config)?;
        }
        let Layer::Tls { connection, .. } = &mut self.layer else {
            return match self.ended {
                true => Ok(0),
                false => self.read_socket(buffer),
            };
        };
        match connection.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
            done => return done,
        }
        if self.ended {
            return Ok(0);
        }
        self.take_record()?;
        let Layer::Tls { connection, .. } = &mut self.layer else {
            return Err(io::ErrorKind::Interrupted.into());
        };
        match connection.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::Interrupted.into())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            done => done,
        }
    }

    /// Sends bytes and returns how many were taken; over TLS, up to [`RECORD`] bytes are taken whole or not at all.
    ///
    /// # Errors
    /// `WouldBlock` while bytes of an earlier write are unsent. Else as `send(2)`, without a signal.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if matches!(self.layer, Layer::Undecided(_)) {
            // A client that has sent nothing yet is answered in the clear.
            self.layer = Layer::Plain;
        }
        if matches!(self.layer, Layer::Plain) {
            return self.write_socket(&[IoSlice::new(bytes)]);
        }
        self.flush_or_start()?;
        let Layer::Tls { connection, early } = &mut self.layer else {
            return Ok(0);
        };
        *early |= connection.is_handshaking();
        let taken = connection
            .writer()
            .write(&bytes[..bytes.len().min(PIECE)])?;
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ if taken == 0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(taken),
        }
    }

    /// Whether all that was written is sent.
    pub fn is_flushed(&self) -> bool {
        match &self.layer {
            Layer::Tls { connection, early } => !early && !connection.wants_write(),
            _ => true,
        }
    }

    /// Sends what is left of earlier writes.
    ///
    /// # Errors
    /// `WouldBlock` if some of it is still unsent. Else as `send(2)`.
    pub fn flush(&mut self) -> io::Result<()> {
        self.send_records()?;
        if let Layer::Tls { connection, early } = &mut self.layer {
            *early &= connection.is_handshaking();
        }
        if !self.is_flushed() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.closing == Closing::Asked {
            self.closing = Closing::Done;
            // If the other side is gone, reading will say so.
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
        }
        Ok(())
    }

    /// Says that nothing follows what was written. [`flush`](Self::flush) goes on with it if it cannot be sent at once.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn shut_down(&mut self) -> io::Result<()> {
        if self.closing == Closing::No {
            self.closing = Closing::Asked;
            if let Layer::Tls { connection, .. } = &mut self.layer {
                connection.send_close_notify();
            }
        }
        self.flush()
    }

    /// Looks at the first byte.
    fn decide(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        if !self.readable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut first = [0];
        match rustix::net::recv(&self.socket, &mut first[..], RecvFlags::PEEK) {
            Ok(_) if first == [HANDSHAKE] => {
                let connection = ServerConnection::new(config).map_err(io::Error::other)?;
                self.layer = Layer::tls(connection.into());
            }
            Ok(_) => self.layer = Layer::Plain,
            Err(error) => return Err(self.not_read(error)),
        }
        Ok(())
    }

    /// Reads once from the socket, and sends the answers that TLS itself asks for.
    fn take_record(&mut self) -> io::Result<()> {
        let Layer::Tls { connection, .. } = &mut self.layer else {
            return Ok(());
        };
        if !self.readable {
            // TLS may still have an alert to send.
            self.send_or_wait()?;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match connection.read_tls(&mut Socket(&self.socket)) {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                self.send_or_wait()?;
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        let processed = connection.process_new_packets();
        if let Err(error) = processed {
            // Tries to tell the other side why.
            let _ = self.send_records();
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        self.send_or_wait()
    }

    fn send_or_wait(&mut self) -> io::Result<()> {
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Sends what was written before; bytes that wait for the handshake do not count as unsent.
    fn flush_or_start(&mut self) -> io::Result<()> {
        self.send_records()?;
        match &self.layer {
            Layer::Tls { connection, .. } if connection.wants_write() => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            _ => Ok(()),
        }
    }

    fn send_records(&mut self) -> io::Result<()> {
        let Layer::Tls { connection, .. } = &mut self.layer else {
            return Ok(());
        };
        while self.writable && connection.wants_write() {
            match connection.write_tls(&mut Socket(&self.socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    fn read_socket(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.readable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match rustix::io::read(&self.socket, &mut *buffer) {
            Ok(length) => {
                self.ended = length == 0 && !buffer.is_empty();
                Ok(length)
            }
            Err(error) => Err(self.not_read(error)),
        }
    }

    fn not_read(&mut self, error: Errno) -> io::Error {
        self.readable &= error != Errno::AGAIN;
        error.into()
    }

    fn write_socket(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.writable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let sent = Socket(&self.socket).write_vectored(slices);
        if matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.writable = false;
        }
        sent
    }
}

impl Layer {
    fn tls(connection: Connection) -> Self {
        Self::Tls {
            connection: Box::new(connection),
            early: false,
        }
    }
}

/// The socket as rustls sees it.
struct Socket<'a>(&'a OwnedFd);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0, buffer)?)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut control = SendAncillaryBuffer::default();
        loop {
            match rustix::net::sendmsg(self.0, slices, &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
