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

/// The listening socket.
#[derive(Debug)]
pub(super) struct ClientListener {
    /// None once no client is accepted any more.
    listener: Option<TcpListener>,
    /// By which the reactor names the socket.
    pub token: Token,
    /// Whether accepting is suspended until a client leaves.
    closed: bool,
    /// Whether the reactor watches the socket.
    watched: bool,
}

impl ClientListener {
    /// Accepts clients of `listener`, which does not block; the reactor names it by `token`.
    pub fn new(listener: TcpListener, token: Token) -> Self {
        Self {
            listener: Some(listener),
            token,
            closed: false,
            watched: false,
        }
    }

    /// Whether clients can still be accepted, now or later.
    pub fn is_open(&self) -> bool {
        self.listener.is_some()
    }

    /// Whether clients are accepted now.
    pub fn is_accepting(&self) -> bool {
        self.is_open() && self.watched
    }
}

impl Engine {
    /// Begins to accept clients, those that have already connected first.
    pub(super) fn start_accepting(&mut self) -> io::Result<()> {
        if let Some(listener) = &self.client_listener.listener
            && !self.client_listener.watched
        {
            self.reactor
                .register(listener, self.client_listener.token, Interest::READABLE)?;
            self.client_listener.watched = true;
        }
        Ok(())
    }

    /// Lets no new client into the queue of connections to accept.
    pub(super) fn stop_new_handshakes(&mut self) {
        if let Some(listener) = &self.client_listener.listener {
            // Without this, a client that connects right before the socket is closed gets a reset.
            let _ = crate::kernel::sys::socket::let_no_more_connect(listener);
        }
    }

    /// Closes the listening socket. A client that has not been accepted yet gets a reset, unless another process has
    /// the socket.
    pub(super) fn close_listener(&mut self) {
        if let Some(listener) = self.client_listener.listener.take()
            && self.client_listener.watched
        {
            let _ = self
                .reactor
                .deregister(&listener, self.client_listener.token);
        }
    }

    /// Accepts new connections.
    pub(super) fn accept(&mut self) {
        for _ in 0..BATCH {
            if self.clients.len() >= self.settings.clients && !self.evict() {
                return self.suspend_accepting();
            }
            let Some(listener) = &self.client_listener.listener else {
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
        self.reactor.again(self.client_listener.token);
    }

    /// Suspends accepting. Retried after a while even if no client leaves: other processes may have used up the descriptors.
    fn suspend_accepting(&mut self) {
        self.client_listener.closed = true;
        self.reactor.set_deadline(self.tick, self.now + TICK);
    }

    /// Resumes accepting after a client has left.
    pub(super) fn resume_accepting(&mut self) {
        if std::mem::take(&mut self.client_listener.closed) {
            self.reactor.again(self.client_listener.token);
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
