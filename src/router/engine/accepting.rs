//! New connections: how many, and whose place they take when there are too many.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::clients::Client;
use super::{Engine, TICK};
use crate::wire::reactor::{Interest, Token};

/// Connections accepted before others get their turn.
const BATCH: usize = 64;
/// Idle connections closed at once when there are too many, so that it need not be looked for one each time.
const EVICTED: usize = 64;

/// The listening socket.
#[derive(Debug)]
pub(super) struct Door {
    /// None: nobody is let in any more.
    listener: Option<TcpListener>,
    pub token: Token,
    /// Nobody is let in before somebody leaves.
    closed: bool,
    /// It is watched for who comes.
    watched: bool,
}

impl Door {
    /// `listener` is non-blocking.
    pub fn new(listener: TcpListener, token: Token) -> Self {
        Self {
            listener: Some(listener),
            token,
            closed: false,
            watched: false,
        }
    }

    /// Somebody may still be let in.
    pub fn is_open(&self) -> bool {
        self.listener.is_some()
    }

    /// Those who come are let in.
    pub fn lets_in(&self) -> bool {
        self.is_open() && self.watched
    }
}

impl Engine {
    /// Clients may come. Those who have come already are told of at once.
    pub(super) fn let_clients_in(&mut self) -> io::Result<()> {
        if let Some(listener) = &self.door.listener
            && !self.door.watched
        {
            self.reactor
                .register(listener, self.door.token, Interest::READABLE)?;
            self.door.watched = true;
        }
        Ok(())
    }

    /// Nobody can join those who wait to be let in any more.
    pub(super) fn bar_door(&mut self) {
        if let Some(listener) = &self.door.listener {
            // Without that, whoever comes in the moment before the socket is closed sees a reset.
            let _ = crate::kernel::sys::socket::let_no_more_connect(listener);
        }
    }

    /// Nobody is let in any more. Whoever has not been accepted yet sees a reset, unless another process has the socket.
    pub(super) fn shut_door(&mut self) {
        if let Some(listener) = self.door.listener.take()
            && self.door.watched
        {
            let _ = self.reactor.deregister(&listener, self.door.token);
        }
    }

    /// Takes new connections in.
    pub(super) fn accept(&mut self) {
        for _ in 0..BATCH {
            if self.clients.len() >= self.settings.clients && !self.evict() {
                return self.close_door();
            }
            let Some(listener) = &self.door.listener else {
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
                    // Whoever waits is served as soon as one of us can be spared.
                    if !self.evict() {
                        return self.close_door();
                    }
                }
                // A connection that has ended before it began.
                Err(_) => {}
            }
        }
        self.reactor.again(self.door.token);
    }

    /// The descriptors may be short for reasons of others; so it is tried again even if nobody leaves.
    fn close_door(&mut self) {
        self.door.closed = true;
        self.reactor.set_deadline(self.tick, self.now + TICK);
    }

    /// Somebody has left.
    pub(super) fn open_door(&mut self) {
        if std::mem::take(&mut self.door.closed) {
            self.reactor.again(self.door.token);
        }
    }

    /// Closes the connections that have been idle longest. False if none is.
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
                self.part_with(*token, client);
            }
        }
        true
    }
}
