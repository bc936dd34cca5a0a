//! The server's sockets at ports, which every supervisor keeps: so no process of the host, a dyno least of all, can take
//! the port of the API, the router or the rendezvous after a server has stopped, crashed or been killed.
//!
//! A client that connects meanwhile waits in the kernel's queue for the next server. When there has been none for
//! [`PATIENCE`], clients are turned away: their connections are accepted and reset, unread. Under a service manager they
//! wait as long as that takes. When no dyno lives, no process keeps the sockets.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::Token;
use rustix::net::{SocketFlags, sockopt};

use crate::wire::handover::{Handover, Part};
use crate::wire::reactor::Reactor;

/// How long clients wait for the next server.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks for clients after that.
const PAUSE: Duration = Duration::from_secs(2);

/// The most clients of one socket that are turned away at a time.
const BATCH: usize = 1024;

/// The kept sockets: see the [module](self).
#[derive(Debug)]
pub(super) struct KeptSockets {
    sockets: Handover,
    turn_away: bool,
    token: Token,
}

impl KeptSockets {
    /// None yet.
    pub fn new(reactor: &mut Reactor) -> Self {
        Self {
            sockets: Handover::default(),
            turn_away: false,
            token: reactor.token(),
        }
    }

    /// The token of the deadlines at which [`turn_away`](Self::turn_away) is to be called.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Whether there are any.
    pub fn are_there(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// Keeps these sockets from now on, and no others.
    pub fn keep(&mut self, names: &[String], fds: Vec<OwnedFd>, turn_away: bool) {
        let names = names.iter().map(String::as_str);
        let Some(mut sockets) = Handover::of(names, fds) else {
            return;
        };
        self.sockets = Handover::default();
        for part in Part::PORTS {
            if let Some(socket) = sockets.take(part) {
                self.sockets.put(part, socket);
            }
        }
        self.turn_away = turn_away;
    }

    /// The names and descriptors for the next server.
    pub fn named(&self) -> (Vec<String>, Vec<&OwnedFd>) {
        let named = self.sockets.parts();
        named.map(|(part, fd)| (part.name().to_owned(), fd)).unzip()
    }

    /// The last server has gone: the next one has a while.
    pub fn await_server(&self, reactor: &mut Reactor) {
        if self.turn_away && self.are_there() {
            reactor.set_deadline(self.token, Instant::now() + PATIENCE);
        }
    }

    /// A server is there.
    pub fn found_server(&self, reactor: &mut Reactor) {
        reactor.cancel_deadline(self.token);
    }

    /// Turns away the clients that wait, and comes back for the next ones.
    pub fn turn_away(&self, reactor: &mut Reactor) {
        for (_, socket) in self.sockets.parts() {
            for _ in 0..BATCH {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let Ok(client) = rustix::net::accept_with(socket.as_fd(), flags) else {
                    break;
                };
                // A reset, which tells the client at once, and leaves nothing behind at the port.
                let _ = sockopt::set_socket_linger(&client, Some(Duration::ZERO));
            }
        }
        reactor.set_deadline(self.token, Instant::now() + PAUSE);
    }

    /// A server runs, although none is connected.
    pub fn look_later(&self, reactor: &mut Reactor) {
        reactor.set_deadline(self.token, Instant::now() + PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_client_is_reset_and_the_port_stays_taken() {
        let mut reactor = Reactor::new().unwrap();
        let mut kept = KeptSockets::new(&mut reactor);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        kept.keep(&names(&["router"]), vec![listener.into()], true);
        assert!(kept.are_there());
        let mut client = TcpStream::connect(address).unwrap();
        kept.turn_away(&mut reactor);
        let reset = client.read(&mut [0]).unwrap_err();
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
        let taken = TcpListener::bind(address).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn what_came_before_is_closed_and_what_is_no_port_is_not_kept() {
        let mut reactor = Reactor::new().unwrap();
        let mut kept = KeptSockets::new(&mut reactor);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        kept.keep(&names(&["listen"]), vec![writer], false);
        let lock = OwnedFd::from(tempfile::tempfile().unwrap());
        kept.keep(&names(&["lock"]), vec![lock], false);
        assert!(!kept.are_there());
        // The pipe has no writer any more.
        assert_eq!(rustix::io::read(&reader, &mut [0u8; 1]).unwrap(), 0);
        // A message that does not fit changes nothing.
        let router = OwnedFd::from(tempfile::tempfile().unwrap());
        kept.keep(&names(&["router"]), vec![router], false);
        kept.keep(&names(&["router"]), Vec::new(), false);
        assert_eq!(kept.named().0, ["router"]);
    }
}
