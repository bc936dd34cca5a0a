//! What one server hands over to the next: the sockets that clients connect to, and the lock, so that no client is
//! refused in between.
//!
//! A server that is replaced by a newer build sends these to the command that asked, with a pipe that ends once the
//! server no longer uses the state; the command starts the next server with a socket as its standard input, and sends
//! them on. A service manager keeps the sockets while there is no server at all, and passes them by the protocol of
//! `sd_listen_fds(3)`. The supervisors of live dynos keep those at ports, so that no dyno can take a port in between.
//!
//! A message is a line, the parts' names with blanks between them, and the descriptors come with its first byte.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::FdFlags;

use crate::kernel::unix_socket;

/// The protocol's name in `Upgrade:` of the request that has a server hand over its parts.
pub const PROTOCOL: &str = "dyno-handover/1";

/// The longest line of part names, in bytes.
const LONGEST: usize = 256;

/// Something that is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The lock of the state folder.
    Lock,
    /// The reading end of a pipe; its end says that the earlier server uses the state no more.
    Left,
    /// The API's Unix socket.
    Api,
    /// The router's socket.
    Router,
    /// The API's TCP socket.
    Listen,
    /// The rendezvous's TCP socket.
    Rendezvous,
    /// The router's socket at the same port of the other loopback address.
    RouterTwin,
    /// The API's, likewise.
    ListenTwin,
    /// The rendezvous's, likewise.
    RendezvousTwin,
}

impl Part {
    /// The sockets that clients connect to.
    pub const SOCKETS: [Self; 7] = [
        Self::Api,
        Self::Router,
        Self::Listen,
        Self::Rendezvous,
        Self::RouterTwin,
        Self::ListenTwin,
        Self::RendezvousTwin,
    ];

    /// Those at ports, which any process of this host could take while no process has them.
    pub const PORTS: [Self; 6] = [
        Self::Router,
        Self::Listen,
        Self::Rendezvous,
        Self::RouterTwin,
        Self::ListenTwin,
        Self::RendezvousTwin,
    ];

    const ALL: [Self; 9] = [
        Self::Lock,
        Self::Left,
        Self::Api,
        Self::Router,
        Self::Listen,
        Self::Rendezvous,
        Self::RouterTwin,
        Self::ListenTwin,
        Self::RendezvousTwin,
    ];

    /// The part's name on the wire and towards the service manager.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Left => "left",
            Self::Api => "api",
            Self::Router => "router",
            Self::Listen => "listen",
            Self::Rendezvous => "rendezvous",
            Self::RouterTwin => "router-twin",
            Self::ListenTwin => "listen-twin",
            Self::RendezvousTwin => "rendezvous-twin",
        }
    }

    /// The socket at the same port of the other loopback address; None for a part that has none.
    pub fn twin(self) -> Option<Self> {
        match self {
            Self::Router => Some(Self::RouterTwin),
            Self::Listen => Some(Self::ListenTwin),
            Self::Rendezvous => Some(Self::RendezvousTwin),
            _ => None,
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }
}

/// Parts with their descriptors; at most one of each.
#[derive(Debug, Default)]
pub struct Handover {
    parts: Vec<(Part, OwnedFd)>,
}

impl Handover {
    /// Adds a part, in place of an earlier one of its kind.
    pub fn put(&mut self, part: Part, fd: OwnedFd) {
        self.parts.retain(|(there, _)| *there != part);
        self.parts.push((part, fd));
    }

    /// Adds all parts of another.
    pub fn put_all(&mut self, other: Self) {
        for (part, fd) in other.parts {
            self.put(part, fd);
        }
    }

    /// Takes a part out.
    pub fn take(&mut self, part: Part) -> Option<OwnedFd> {
        let at = self.parts.iter().position(|(there, _)| *there == part)?;
        Some(self.parts.swap_remove(at).1)
    }

    /// The descriptor of a part, if it is there.
    pub fn get(&self, part: Part) -> Option<&OwnedFd> {
        let there = self.parts.iter().find(|(there, _)| *there == part);
        there.map(|(_, fd)| fd)
    }

    /// The parts that are there.
    pub fn parts(&self) -> impl Iterator<Item = (Part, &OwnedFd)> {
        self.parts.iter().map(|(part, fd)| (*part, fd))
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether this part is there.
    pub fn has(&self, part: Part) -> bool {
        self.get(part).is_some()
    }

    /// Sends all parts over a Unix socket.
    ///
    /// # Errors
    /// As [`unix_socket::send`]; also when the socket does not take it at once.
    pub fn send(&self, socket: impl AsFd) -> io::Result<()> {
        let names: Vec<_> = self.parts.iter().map(|(part, _)| part.name()).collect();
        let line = names.join(" ") + "\n";
        let fds: Vec<_> = self.parts.iter().map(|(_, fd)| fd.as_fd()).collect();
        match unix_socket::send(socket, line.as_bytes(), &fds)? {
            sent if sent == line.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Receives what [`send`](Self::send) sent. `line` and `fds` are what has already been received of it.
    ///
    /// # Errors
    /// When the sender has gone before the end, or what came is no such message.
    pub fn receive(
        socket: impl AsFd,
        mut line: Vec<u8>,
        mut fds: Vec<OwnedFd>,
    ) -> io::Result<Self> {
        while line.last() != Some(&b'\n') {
            let mut buffer = [0; LONGEST];
            match unix_socket::receive(&socket, &mut buffer, &mut fds)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => line.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            }
            if line.len() > LONGEST {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        let line = str::from_utf8(&line).map_err(|_| io::ErrorKind::InvalidData)?;
        Self::of(line.split_ascii_whitespace(), fds).ok_or(io::ErrorKind::InvalidData.into())
    }

    /// Descriptors by the names of their parts. One with an unknown name is closed: another build may hand over more. None if
    /// there are not as many names as descriptors.
    pub fn of<'a>(names: impl Iterator<Item = &'a str>, fds: Vec<OwnedFd>) -> Option<Self> {
        let names: Vec<_> = names.collect();
        let mut parts = Self::default();
        if names.len() != fds.len() {
            return None;
        }
        for (name, fd) in names.into_iter().zip(fds) {
            if let Some(part) = Part::of(name) {
                parts.put(part, fd);
            }
        }
        Some(parts)
    }

    /// The parts that the service manager has passed to this process, if any: see `sd_listen_fds(3)`. To be called once, early.
    pub fn of_service_manager() -> Self {
        let variable = |name| std::env::var(name).ok();
        let (Some(pid), Some(count)) = (variable("LISTEN_PID"), variable("LISTEN_FDS")) else {
            return Self::default();
        };
        let Ok(count) = count.parse::<usize>() else {
            return Self::default();
        };
        if pid != std::process::id().to_string() {
            return Self::default();
        }
        let fds = crate::kernel::sys::process::take_passed_fds(count);
        for fd in &fds {
            let _ = rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC);
        }
        let names = variable("LISTEN_FDNAMES").unwrap_or_default();
        let mut parts = Self::of(names.split(':'), fds).unwrap_or_default();
        // A service manager keeps sockets alone: a lock from it is dropped.
        parts.parts.retain(|(part, _)| Part::SOCKETS.contains(part));
        parts
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn parts_arrive_under_their_names() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let files: Vec<File> = (0..3).map(|_| tempfile::tempfile().unwrap()).collect();
        let inode = |fd: &OwnedFd| {
            File::from(fd.try_clone().unwrap())
                .metadata()
                .unwrap()
                .ino()
        };
        let mut sent = Handover::default();
        for (part, file) in [(Part::Router, 0), (Part::Lock, 1), (Part::Router, 2)] {
            sent.put(part, files[file].try_clone().unwrap().into());
        }
        sent.send(&ours).unwrap();
        let mut received = Handover::receive(&theirs, Vec::new(), Vec::new()).unwrap();
        for (part, file) in [(Part::Router, 2), (Part::Lock, 1)] {
            assert_eq!(
                inode(received.get(part).unwrap()),
                files[file].metadata().unwrap().ino()
            );
        }
        assert!(received.take(Part::Lock).is_some());
        assert!(received.take(Part::Lock).is_none());
        assert!(received.get(Part::Api).is_none());
        // Nothing is a message, too.
        Handover::default().send(&ours).unwrap();
        let nothing = Handover::receive(&theirs, Vec::new(), Vec::new()).unwrap();
        assert!(nothing.parts.is_empty());
    }

    #[test]
    fn what_another_build_hands_over_beside_is_left() {
        let fd = || OwnedFd::from(tempfile::tempfile().unwrap());
        let parts = Handover::of(["router", "keys"].into_iter(), vec![fd(), fd()]).unwrap();
        assert!(parts.get(Part::Router).is_some() && parts.parts.len() == 1);
        assert!(Handover::of(["router"].into_iter(), Vec::new()).is_none());
        assert!(Handover::of([].into_iter(), vec![fd()]).is_none());
    }

    #[test]
    fn half_a_message_is_none() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        unix_socket::send(&ours, b"router", &[]).unwrap();
        drop(ours);
        assert!(Handover::receive(&theirs, Vec::new(), Vec::new()).is_err());
        let (ours, theirs) = UnixStream::pair().unwrap();
        unix_socket::send(&ours, &[b'x'; 2 * LONGEST], &[]).unwrap();
        assert!(Handover::receive(&theirs, Vec::new(), Vec::new()).is_err());
    }
}
