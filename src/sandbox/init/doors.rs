//! Doors of a dyno with a network of its own: by one, a process outside gets sockets of the inside.
//!
//! A TCP socket stays in the network that it was made in, whoever has it. So init makes sockets that are not connected yet, and
//! passes them out on request; the router then connects them, as it would its own, and no byte of a visitor's goes through init.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::kernel::unix_socket;
use crate::wire::door::{Ask, MOST_SOCKETS};

/// The most doors that are open: those of the server's that runs, and of one that takes over from it, with their routers.
const MOST: usize = 4;

/// The doors that are open.
#[derive(Debug, Default)]
pub struct Doors(Vec<OwnedFd>);

impl Doors {
    /// Opens one more, in the place of the oldest if there are too many.
    pub fn open(&mut self, door: OwnedFd) {
        if rustix::io::ioctl_fionbio(&door, true).is_err() {
            return;
        }
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(door);
    }

    /// The doors, at which somebody may knock.
    pub fn all(&self) -> &[OwnedFd] {
        &self.0
    }

    /// Answers what was asked at these doors, by their places. One that was closed outside is closed.
    pub fn answer(&mut self, knocked: &[usize]) {
        let mut place = 0;
        self.0.retain(|door| {
            place += 1;
            !knocked.contains(&(place - 1)) || answer(door).is_ok()
        });
    }
}

/// Answers one request.
fn answer(door: &OwnedFd) -> Result<(), Errno> {
    let mut word = [0u8; Ask::LENGTH + 1];
    let length = match unix_socket::receive(door, &mut word, &mut Vec::new()) {
        Ok(0) => return Err(Errno::PIPE),
        Ok(length) => length,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
        Err(_) => return Err(Errno::PIPE),
    };
    let ask = Ask::read(&word[..length]).ok_or(Errno::INVAL)?;
    let count = usize::from(ask.count).min(MOST_SOCKETS);
    // As many as the kernel gives; none tells whoever asked that there are none to be had.
    let sockets: Vec<OwnedFd> = (0..count).map_while(|_| socket(ask.v6).ok()).collect();
    let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    let sent = unix_socket::send(door, &ask.write(), &fds);
    sent.map(drop).map_err(|_| Errno::PIPE)
}

/// A socket as the router connects it.
fn socket(v6: bool) -> Result<OwnedFd, Errno> {
    let family = match v6 {
        true => AddressFamily::INET6,
        false => AddressFamily::INET,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}
