//! Accepts visitors at the rendezvous, and bounds how many wait for how long without a secret.
//!
//! A TLS handshake takes almost a millisecond, so only a few are done in a turn, between which sessions have their turns.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, sockopt};
use rustls::ServerConfig;

use super::Engine;
use crate::bridge::RendezvousAddress;
use crate::bridge::first_line::Heard;
use crate::bridge::protocol::Protocol;
use crate::bridge::visitor::Visitor;
use crate::error::tell;
use crate::wire::reactor::{Event, Interest, Reactor, Token};
use crate::wire::stream::Stream;

/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 16;

/// The most reads from visitors in one turn.
const LISTENS_PER_TURN: u32 = 16;

/// How long the end of the line may take after a whole secret: one that comes later counts as typed input.
const LINE_END_TIME: Duration = Duration::from_millis(100);

/// How long accepting is suspended when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// TCP keep-alive: idle time, interval and count. A host that was switched off is noticed within ten minutes.
const KEEPALIVE: (Duration, Duration, u32) =
    (Duration::from_secs(300), Duration::from_secs(30), 10);

/// The listening socket.
pub(super) struct RendezvousListener {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    /// By which the reactor names the socket.
    pub token: Token,
}

impl RendezvousListener {
    /// Has the reactor watch the rendezvous.
    ///
    /// # Errors
    /// When descriptors or memory have run out.
    pub fn open(rendezvous: RendezvousAddress, reactor: &mut Reactor) -> io::Result<Self> {
        let RendezvousAddress { listener, tls } = rendezvous;
        listener.set_nonblocking(true)?;
        // Connections inherit these from the listening socket (tcp(7)).
        let _ = sockopt::set_tcp_nodelay(&listener, true);
        keep_alive(listener.as_fd());
        let token = reactor.token();
        reactor.register(&listener, token, Interest::READABLE)?;
        Ok(Self {
            listener,
            tls,
            token,
        })
    }
}

/// Turns TCP keep-alive on. A failure does not matter.
pub(super) fn keep_alive(socket: BorrowedFd<'_>) {
    let (after, interval, times) = KEEPALIVE;
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, after);
    let _ = sockopt::set_tcp_keepintvl(socket, interval);
    let _ = sockopt::set_tcp_keepcnt(socket, times);
}

impl Engine {
    /// Begins to accept visitors.
    pub(super) fn open(&mut self, rendezvous: RendezvousAddress) {
        match RendezvousListener::open(rendezvous, &mut self.reactor) {
            Ok(rendezvous) => self.rendezvous.push(rendezvous),
            Err(error) => tell!("cannot watch the rendezvous: {error}"),
        }
    }

    /// Accepts new visitors. The kernel reports waiting ones only once, so the loop comes back by itself.
    pub(super) fn accept(&mut self, token: Token) {
        for _ in 0..ACCEPTS_PER_TURN {
            let of_token = |rendezvous: &&RendezvousListener| rendezvous.token == token;
            let Some(rendezvous) = self.rendezvous.iter().find(of_token) else {
                return;
            };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match rustix::net::accept_with(&rendezvous.listener, flags) {
                Ok(socket) => {
                    // A visitor that cannot be served is closed.
                    if let Ok(stream) = Stream::accept(socket, Arc::clone(&rendezvous.tls)) {
                        self.welcome(stream);
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.dismiss_oldest();
                    return self.reactor.set_deadline(token, self.now + PAUSE);
                }
                // The visitor has closed the connection before it was accepted.
                Err(_) => {}
            }
        }
        self.reactor.again(token);
    }

    fn welcome(&mut self, stream: Stream) {
        if self.visitors.len() >= self.settings.visitors {
            self.dismiss_oldest();
        }
        let Ok(token) = self.watch(&stream) else {
            return;
        };
        self.visitors.insert(token, Visitor::new(stream));
        self.reactor
            .set_deadline(token, self.now + self.settings.handshake_time);
    }

    /// Begins a turn, with a new budget of reads from visitors.
    pub(super) fn begin_turn_of_visitors(&mut self) {
        self.listens = LISTENS_PER_TURN;
    }

    /// Handles an event of a visitor.
    pub(super) fn hear_visitor(&mut self, token: Token, event: Event) {
        let Some(visitor) = self.visitors.get_mut(&token) else {
            return;
        };
        match event {
            Event::Ready {
                readable, writable, ..
            } => visitor.stream.note(readable, writable),
            Event::Deadline(_) if visitor.said.has_bare_secret() => {
                let secret = visitor.said.take_bare_secret();
                return self.admit(token, &secret, Vec::new());
            }
            Event::Deadline(_) => return self.dismiss(token),
            _ => {}
        }
        let was_handshaking = visitor.stream.is_handshaking();
        let heard = loop {
            if self.listens == 0 {
                break Heard::Again;
            }
            self.listens -= 1;
            match visitor.listen() {
                Heard::Again => {}
                other => break other,
            }
        };
        if was_handshaking && !visitor.stream.is_handshaking() {
            // The secret has a time of its own after the handshake's.
            self.reactor
                .set_deadline(token, self.now + self.settings.secret_time);
        }
        match heard {
            // A client that does not end the line sends nothing more: it waits for the dyno.
            Heard::Wait if visitor.said.has_bare_secret() => {
                self.reactor.set_deadline(token, self.now + LINE_END_TIME);
            }
            Heard::Wait => {}
            Heard::Again => self.reactor.again(token),
            Heard::Leave => self.dismiss(token),
            Heard::Line { line, rest } => self.admit(token, &line, rest),
        }
    }

    /// Begins a session if a visitor's secret is valid.
    fn admit(&mut self, token: Token, secret: &[u8], rest: Vec<u8>) {
        let full = self.sessions.len() >= self.settings.sessions;
        let request = self.secrets.take(secret, self.now).filter(|_| !full);
        self.await_secrets();
        let Some(request) = request else {
            return self.dismiss(token);
        };
        if let Some(visitor) = self.visitors.remove(&token) {
            self.reactor.cancel_deadline(token);
            // If descriptors have run out, the connection is closed.
            let protocol = Protocol::Rendezvous {
                session: None,
                wants_status: request.wants_status,
            };
            let _ = self.begin(token, visitor.stream, &rest, request, protocol);
        }
    }

    fn dismiss_oldest(&mut self) {
        if let Some(oldest) = self.visitors.keys().next().copied() {
            self.dismiss(oldest);
        }
    }

    fn dismiss(&mut self, token: Token) {
        if let Some(mut visitor) = self.visitors.remove(&token) {
            let _ = self.reactor.deregister(visitor.stream.socket(), token);
            let _ = visitor.stream.shut_down();
        }
    }

    /// Accepts no more visitors.
    pub(super) fn close_rendezvous(&mut self) {
        for rendezvous in std::mem::take(&mut self.rendezvous) {
            let _ = self
                .reactor
                .deregister(&rendezvous.listener, rendezvous.token);
        }
        while !self.visitors.is_empty() {
            self.dismiss_oldest();
        }
    }
}
