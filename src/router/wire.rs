//! A socket of the router with its readiness, and the bytes that are still to be written to it.
//!
//! Its bytes on the way out are kept as the server's connections keep theirs ([`Unsent`]). Reading is its own: it goes into
//! one buffer that the router lends to each connection in turn, so that an idle one has none; and a short read counts as
//! the last unless the kernel has announced the end, which saves one of three calls for each head and each response.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use crate::kernel::sys::socket::unacknowledged;
use crate::wire::unsent::Unsent;

/// A non-blocking socket with its readiness and unsent bytes: see the [module](self).
#[derive(Debug)]
pub(super) struct Wire {
    socket: OwnedFd,
    /// The readiness that the kernel reported; cleared only when a call would block.
    readable: bool,
    writable: bool,
    /// The other side has ended, so a short read does not mean that nothing is left.
    end: bool,
    /// All was read, up to the end.
    drained: bool,
    /// Both directions are closed.
    hangup: bool,
    unsent: Unsent,
}

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Bytes(usize),
    Blocked,
    /// The other side has closed.
    End,
    /// The connection was reset, or failed otherwise.
    Broken,
}

impl Wire {
    /// A wire over `socket`, which is non-blocking and watched for reading and writing.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            readable: false,
            writable: true,
            end: false,
            drained: false,
            hangup: false,
            unsent: Unsent::default(),
        }
    }

    /// A wire over a socket that is still connecting: nothing can be written yet.
    pub fn connecting(socket: OwnedFd) -> Self {
        Self {
            writable: false,
            ..Self::new(socket)
        }
    }

    /// The socket, to be watched.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Stores the readiness that the kernel reported.
    pub fn note(&mut self, readable: bool, writable: bool, end: bool, hangup: bool) {
        self.readable |= readable;
        self.writable |= writable;
        self.end |= end;
        self.hangup |= hangup;
    }

    /// Whether there may be bytes or an end to read.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether the kernel may take more output.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether the other side will send nothing beside what can be read now.
    pub fn has_ended(&self) -> bool {
        self.end || self.drained
    }

    /// Whether the connection is over in both directions.
    pub fn is_hung_up(&self) -> bool {
        self.hangup
    }

    /// Reads once. A short read means that nothing is left, which saves a system call.
    pub fn read(&mut self, into: &mut [u8]) -> Read {
        if self.drained {
            return Read::End;
        }
        if !self.readable {
            return Read::Blocked;
        }
        loop {
            let room = into.len();
            match rustix::net::recv(&self.socket, &mut *into, RecvFlags::empty()) {
                Ok((_, 0)) => {
                    self.drained = true;
                    return Read::End;
                }
                Ok((_, length)) => {
                    self.readable = length == room || self.end;
                    return Read::Bytes(length);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.readable = false;
                    return Read::Blocked;
                }
                Err(_) => {
                    (self.drained, self.hangup) = (true, true);
                    return Read::Broken;
                }
            }
        }
    }

    /// Whether an idle connection has neither a byte nor an end to read.
    pub fn is_silent(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let answer = rustix::net::recv(&self.socket, &mut [0u8; 1][..], flags);
        !self.end && matches!(answer, Err(Errno::AGAIN))
    }

    /// Writes `bytes` after those that wait already; what the socket does not take is kept.
    pub fn send(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        self.flush()?;
        while self.unsent.is_empty() && self.writable && !bytes.is_empty() {
            let length = self.write(bytes)?;
            bytes = &bytes[length..];
        }
        self.unsent.buffer().extend_from_slice(bytes);
        Ok(())
    }

    /// Writes the bytes that wait; true if any were written.
    pub fn flush(&mut self) -> Result<bool, Errno> {
        if self.unsent.is_empty() || !self.writable {
            return Ok(false);
        }
        let mut unsent = std::mem::take(&mut self.unsent);
        let moved = unsent.flush(|bytes| self.write(bytes));
        self.unsent = unsent;
        moved
    }

    /// Whether the kernel has taken all output.
    pub fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Writes once; 0 when the socket takes nothing now.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        while self.writable {
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(length) => {
                    self.writable = length == bytes.len();
                    return Ok(length);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.writable = false,
                Err(error) => return Err(error),
            }
        }
        Ok(0)
    }

    /// Whether the other side closed the connection without having read all that was written to it.
    ///
    /// By the other side's kernel: bytes that arrive at a closed socket are not acknowledged, and a socket that is
    /// closed with unread bytes sends a reset. Bytes that were read were acknowledged, with the end at the latest.
    pub fn was_not_read(&self, end: Read) -> bool {
        end == Read::Broken || unacknowledged(&self.socket).map_or(true, |bytes| bytes > 0)
    }

    /// Shuts the socket down for writing.
    pub fn shut_down(&self) {
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
    }
}
