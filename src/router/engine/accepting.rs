//! Accepts connections of clients, and closes idle ones when there are too many.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::clients::Client;
use super::{Engine, TICK};
use crate::wire::reactor::{Interest, Token};

/// The most connections accepted in one turn.
const BATCH: usize = 64;
/// How many idle connections are closed at once when there are too many, so that they need not be searched each time.
const EVICTED: usize = 64;

/// The listening sockets: at the router's address, and at the same port of the other loopback address.
#[derive(Debug)]
pub(super) struct ClientListeners {
    /// By which the reactor names each socket, and it; none of them once no client is accepted any more.
    sockets: Vec<(Token, TcpListener)>,
    /// Whether accepting is suspended until a client leaves.
    closed: bool,
    /// Whether the reactor watches the sockets.
    watched: bool,
}

impl ClientListeners {
    /// Accepts clients of these, which do not block; the reactor names them by their tokens.
    pub fn new(sockets: Vec<(Token, TcpListener)>) -> Self {
        Self {
            sockets,
            closed: false,
            watched: false,
        }
    }

    /// Whether clients can still be accepted, now or later.
    pub fn is_open(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// Whether the token is that of a listening socket.
    pub fn knows(&self, token: Token) -> bool {
        self.sockets.iter().any(|(known, _)| *known == token)
    }

    /// Whether clients are accepted now.
    pub fn is_accepting(&self) -> bool {
        self.is_open() && self.watched
    }
}

impl Engine {
    /// Begins to accept clients, those that have already connected first.
    pub(super) fn start_accepting(&mut self) -> io::Result<()> {
        if !self.client_listeners.watched {
            for (token, listener) in &self.client_listeners.sockets {
                self.reactor
                    .register(listener, *token, Interest::READABLE)?;
            }
            self.client_listeners.watched = true;
        }
        Ok(())
    }

    /// Accepts clients of one more socket, unless the router is leaving.
    pub(super) fn add_listener(&mut self, listener: TcpListener) -> io::Result<()> {
        if self.client_listeners.is_open() {
            super::make_ready(&listener)?;
            let token = self.reactor.token();
            if self.client_listeners.watched {
                self.reactor
                    .register(&listener, token, Interest::READABLE)?;
            }
            self.client_listeners.sockets.push((token, listener));
        }
        Ok(())
    }

    /// Lets no new client into the queue of connections to accept.
    pub(super) fn stop_new_handshakes(&mut self) {
        for (_, listener) in &self.client_listeners.sockets {
            // Without this, a client that connects right before the socket is closed gets a reset.
            let _ = crate::kernel::sys::socket::let_no_more_connect(listener);
        }
    }

    /// Closes the listening sockets. A client that has not been accepted yet gets a reset, unless another process has
    /// the socket.
    pub(super) fn close_listeners(&mut self) {
        for (token, listener) in std::mem::take(&mut self.client_listeners.sockets) {
            if self.client_listeners.watched {
                let _ = self.reactor.deregister(&listener, token);
            }
        }
    }

    /// Accepts new connections of all sockets.
    pub(super) fn accept_all(&mut self) {
        let tokens = self.client_listeners.sockets.iter();
        let tokens: Vec<_> = tokens.map(|(token, _)| *token).collect();
        tokens.into_iter().for_each(|token| self.accept(token));
    }

    /// Accepts new connections of one socket.
    pub(super) fn accept(&mut self, token: Token) {
        for _ in 0..BATCH {
            if self.clients.len() >= self.settings.clients && !self.evict() {
                return self.suspend_accepting();
            }
            let sockets = &mut self.client_listeners.sockets.iter();
            let Some((_, listener)) = sockets.find(|(known, _)| *known == token) else {
                return;
            };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match rustix::net::acceptfrom_with(listener, flags) {
                Ok((socket, peer)) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    let token = self.reactor.token();
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    if let (Some(peer), Ok(())) =
                        (peer, self.reactor.register(&socket, token, interest))
                    {
                        let mut client = Box::new(Client::new(socket, peer, self.now));
                        self.arm(token, &mut client);
                        self.clients.insert(token, client);
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    // The waiting client is accepted as soon as an idle connection can be closed.
                    if !self.evict() {
                        return self.suspend_accepting();
                    }
                }
                // The client has closed the connection before it was accepted.
                Err(_) => {}
            }
        }
        self.reactor.again(token);
    }

    /// Suspends accepting. Retried after a while even if no client leaves: other processes may have used up the descriptors.
    fn suspend_accepting(&mut self) {
        self.client_listeners.closed = true;
        self.reactor.set_deadline(self.tick, self.now + TICK);
    }

    /// Resumes accepting after a client has left.
    pub(super) fn resume_accepting(&mut self) {
        if std::mem::take(&mut self.client_listeners.closed) {
            for (token, _) in &self.client_listeners.sockets {
                self.reactor.again(*token);
            }
        }
    }

    /// Closes the connections that have been idle longest; false if none is idle.
    fn evict(&mut self) -> bool {
        let idle = self.clients.iter().filter(|(_, client)| client.is_idle());
        let mut idle: Vec<_> = idle.map(|(token, client)| (client.since, *token)).collect();
        if idle.is_empty() {
            return false;
        }
        let most = EVICTED.min(self.settings.clients / 8 + 1).min(idle.len());
        idle.select_nth_unstable(most - 1);
        for (_, token) in &idle[..most] {
            if let Some(client) = self.clients.remove(token) {
                self.close_client(*token, client);
            }
        }
        true
    }
}
