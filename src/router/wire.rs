//! A socket of the router's, what the kernel last said of it, and what is still to be written to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use crate::kernel::sys::socket::unacknowledged;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Wire {
    socket: OwnedFd,
    /// What the kernel last said; taken back only when a call would block.
    readable: bool,
    writable: bool,
    /// The other side has ended: what was read does not say that nothing is left.
    end: bool,
    /// All was read, to the end.
    drained: bool,
    /// It is gone in both directions.
    hangup: bool,
    output: Vec<u8>,
    written: usize,
}

/// What an attempt to read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Bytes(usize),
    Blocked,
    /// The other side has closed.
    End,
    /// The connection was reset, or worse.
    Broken,
}

impl Wire {
    /// `socket` is non-blocking, and is watched for reading and writing.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            readable: false,
            writable: true,
            end: false,
            drained: false,
            hangup: false,
            output: Vec::new(),
            written: 0,
        }
    }

    /// The same for a connection that is still being made: nothing can be written yet.
    pub fn connecting(socket: OwnedFd) -> Self {
        Self {
            writable: false,
            ..Self::new(socket)
        }
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Remembers what the kernel said.
    pub fn note(&mut self, readable: bool, writable: bool, end: bool, hangup: bool) {
        self.readable |= readable;
        self.writable |= writable;
        self.end |= end;
        self.hangup |= hangup;
    }

    /// There may be something to read, an end for example.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// The other side will send nothing any more, beside what can be read now.
    pub fn has_ended(&self) -> bool {
        self.end || self.drained
    }

    pub fn is_hung_up(&self) -> bool {
        self.hangup
    }

    /// Reads once. After a read that got less than it asked for nothing is left, which saves the call that says so.
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

    /// Whether a connection that should be silent is: no byte to be read, no end.
    pub fn is_silent(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let answer = rustix::net::recv(&self.socket, &mut [0u8; 1][..], flags);
        !self.end && matches!(answer, Err(Errno::AGAIN))
    }

    /// Writes `bytes` after what waits already; what the socket does not take is kept.
    pub fn send(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        self.flush()?;
        while self.output.is_empty() && self.writable && !bytes.is_empty() {
            let length = self.write(bytes)?;
            bytes = &bytes[length..];
        }
        self.output.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes what waits; true if something went out.
    pub fn flush(&mut self) -> Result<bool, Errno> {
        let mut moved = false;
        while self.writable && !self.output.is_empty() {
            let output = std::mem::take(&mut self.output);
            let result = self.write(&output[self.written..]);
            self.output = output;
            let length = result?;
            moved |= length > 0;
            self.written += length;
            if self.written == self.output.len() {
                // Whoever waits for nothing holds no memory.
                (self.output, self.written) = (Vec::new(), 0);
            }
        }
        Ok(moved)
    }

    pub fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        loop {
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(length) => {
                    self.writable = length == bytes.len();
                    return Ok(length);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.writable = false;
                    return Ok(0);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the other side, which has closed, did so without having read all that was written to it.
    ///
    /// The kernel there is the witness. Bytes that come to a socket that was closed are not acknowledged, and a socket
    /// that is closed over bytes which nobody has read says so by a reset. What was read was acknowledged, with the end
    /// at the latest.
    pub fn was_not_read(&self, end: Read) -> bool {
        end == Read::Broken || unacknowledged(&self.socket).map_or(true, |bytes| bytes > 0)
    }

    /// Says that nothing more will be written.
    pub fn shut_down(&self) {
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
    }
}
