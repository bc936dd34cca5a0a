//! What the client's bytes go over: a Unix socket, for now.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::sockopt::{self, Timeout};

use crate::unix_socket::{self, SocketType};

/// One connection; blocking.
#[derive(Debug)]
pub(super) enum Transport {
    /// To a server on this host.
    Unix(OwnedFd),
}

impl Transport {
    pub fn connect(socket: &Path, patience: Duration) -> io::Result<Self> {
        unix_socket::connect(socket, SocketType::STREAM, patience).map(Self::Unix)
    }

    /// How long a read or write may take; `WouldBlock` after that.
    pub fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        sockopt::set_socket_timeout(self.fd(), Timeout::Recv, patience)?;
        sockopt::set_socket_timeout(self.fd(), Timeout::Send, patience)?;
        Ok(())
    }

    /// Writes all of `bytes`.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let Self::Unix(socket) = self;
            bytes = &bytes[unix_socket::send(socket, bytes, &[])?..];
        }
        Ok(())
    }

    /// Reads some bytes, and the descriptors that came with them; 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let Self::Unix(socket) = self;
        unix_socket::receive(socket, buffer, fds)
    }

    /// Whether a read would return at once: with bytes, or with the end.
    pub fn has_input(&self) -> io::Result<bool> {
        let mut fds = [PollFd::from_borrowed_fd(self.fd(), PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        Ok(rustix::event::poll(&mut fds, Some(&now))? > 0)
    }

    pub fn into_socket(self) -> OwnedFd {
        let Self::Unix(socket) = self;
        socket
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        let Self::Unix(socket) = self;
        socket.as_fd()
    }
}
