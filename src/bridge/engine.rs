//! The bridge's loop, which passes each event on.
//!
//! A session is identified by the token of its client. The descriptors of its dyno have tokens of their own, which lead
//! to the session; after any event the session is driven, within its budget.

mod accepting;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::dyno::DynoSide;
use super::framed::FramedProtocol;
use super::piece::{BEFORE, PIECE};
use super::protocol::Protocol;
use super::secrets::Secrets;
use super::session::{BridgeSession, SessionStep, SessionTurn};
use super::visitor::Visitor;
use super::{BridgeSettings, FromBridge, SessionRequest, ToBridge};
use crate::wire::reactor::{Event, Interest, Reactor, Token};
use crate::wire::stream::Stream;
use accepting::RendezvousListener;

/// The most pieces that a session moves in one turn: so few that no one notices it in the echo of a key.
const PIECES_PER_TURN: u32 = 8;

/// How long clients may take to receive the last message when the bridge leaves.
const LEAVE_TIME: Duration = Duration::from_secs(1);

/// What clients are told when the server leaves.
const STOPPING: &str = "the server is stopping, and this session ends with it";

/// What clients are told whose token has come to its end.
const REVOKED: &str =
    "the token of this session was revoked, or has expired, and the session ends with it";

/// What a bridge is started with.
pub(super) struct BridgeParts {
    /// How many sessions and visitors there may be, and how long each step may take.
    pub settings: BridgeSettings,
    /// Passes a message to the server, from the bridge's thread.
    pub tell: Box<dyn Fn(FromBridge) + Send>,
    /// What the thread waits in; its waker says that `inbox` has something.
    pub reactor: Reactor,
    /// Messages of the server.
    pub inbox: Receiver<ToBridge>,
    /// The number of sessions, for other threads.
    pub count: Arc<AtomicUsize>,
}

/// The state of the bridge's thread: see the [module](self).
pub(super) struct Engine {
    settings: BridgeSettings,
    tell: Box<dyn Fn(FromBridge) + Send>,
    reactor: Reactor,
    inbox: Receiver<ToBridge>,
    count: Arc<AtomicUsize>,
    rendezvous: Vec<RendezvousListener>,
    /// Visitors, the oldest first: tokens are counted up.
    visitors: BTreeMap<Token, Visitor>,
    secrets: Secrets<SessionRequest>,
    /// The token whose deadline is the next expiry of a secret.
    secrets_token: Token,
    sessions: HashMap<Token, Held>,
    /// The session that a descriptor or deadline belongs to.
    parts: HashMap<Token, Token>,
    scratch: Box<[u8]>,
    /// When this turn began.
    now: Instant,
    /// How many reads from visitors are left in this turn.
    listens: u32,
    /// When the bridge ends at the latest, once it was told to leave.
    leave_by: Option<Instant>,
    leave_token: Token,
}

/// A session, and the tokens that lead to it: of its dyno's descriptors, and of its deadline.
struct Held {
    session: BridgeSession,
    /// The id of the token with which it was asked for.
    token: Option<String>,
    dyno: [Token; 4],
    timer: Token,
}

impl Engine {
    /// An engine without a session and without a rendezvous.
    pub fn new(start: BridgeParts) -> Self {
        let BridgeParts {
            settings,
            tell,
            mut reactor,
            inbox,
            count,
        } = start;
        Self {
            rendezvous: Vec::new(),
            visitors: BTreeMap::new(),
            secrets: Secrets::default(),
            secrets_token: reactor.token(),
            sessions: HashMap::new(),
            parts: HashMap::new(),
            scratch: vec![0; BEFORE + PIECE].into_boxed_slice(),
            now: Instant::now(),
            listens: 0,
            leave_by: None,
            leave_token: reactor.token(),
            settings,
            tell,
            reactor,
            inbox,
            count,
        }
    }

    /// Runs until the server tells it to leave.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::new();
        while !self.has_left() {
            self.reactor.poll(&mut events)?;
            self.now = Instant::now();
            self.begin_turn_of_visitors();
            for event in events.drain(..) {
                self.handle(event);
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) {
        let token = match event {
            Event::Woken => return self.hear_owner(),
            Event::Ready { token, .. } | Event::Again(token) | Event::Deadline(token) => token,
        };
        if self
            .rendezvous
            .iter()
            .any(|rendezvous| rendezvous.token == token)
        {
            crate::panics::point("bridge");
            return self.accept(token);
        }
        if token == self.secrets_token {
            self.secrets.expire(self.now);
            return self.await_secrets();
        }
        if self.visitors.contains_key(&token) {
            return self.hear_visitor(token, event);
        }
        let key = self.parts.get(&token).copied().unwrap_or(token);
        let Some(held) = self.sessions.get_mut(&key) else {
            return;
        };
        if let Event::Ready {
            readable,
            writable,
            end,
            ..
        } = event
        {
            match key == token {
                true => held.session.note_client(readable, writable, end),
                false => held.session.note_dyno(token, readable, writable),
            }
        }
        self.drive(key);
    }

    fn hear_owner(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                ToBridge::Expect {
                    secret,
                    until,
                    request,
                } => {
                    self.secrets.expect(&secret, until, request);
                    self.await_secrets();
                }
                ToBridge::Open(rendezvous) => self.open(rendezvous),
                ToBridge::Adopt {
                    client,
                    early,
                    request,
                } => self.adopt(client, &early, request),
                ToBridge::EndOfTokens(tokens) => self.end_of_tokens(&tokens),
                ToBridge::Leave => self.leave(),
            }
        }
    }

    /// Begins a session with a client whose connection came to the API.
    fn adopt(&mut self, client: Stream, early: &[u8], request: SessionRequest) {
        if self.sessions.len() >= self.settings.sessions {
            return;
        }
        accepting::keep_alive(client.socket());
        if let Ok(token) = self.watch(&client) {
            let protocol = Protocol::Framed(FramedProtocol::default());
            let _ = self.begin(token, client, early, request, protocol);
        }
    }

    fn await_secrets(&mut self) {
        match self.secrets.deadline() {
            Some(at) => self.reactor.set_deadline(self.secrets_token, at),
            None => self.reactor.cancel_deadline(self.secrets_token),
        }
    }

    /// Begins a session: makes its connection to the dyno, and has the server pass the other end to the supervisor. The
    /// client's `stream` is already watched with the token `client`; `early` is what it has sent.
    fn begin(
        &mut self,
        client: Token,
        stream: Stream,
        early: &[u8],
        request: SessionRequest,
        protocol: Protocol,
    ) -> io::Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let tokens = std::array::from_fn(|_| self.reactor.token());
        let dyno = DynoSide::new(ours, tokens, &self.reactor)?;
        let start_by = self.now + self.settings.start_time;
        let mut held = Held {
            session: BridgeSession::new(stream, dyno, protocol, start_by, self.now),
            token: request.token.clone(),
            dyno: tokens,
            timer: self.reactor.token(),
        };
        for part in held.dyno.iter().chain([&held.timer]) {
            self.parts.insert(*part, client);
        }
        // A client whose first bytes are not valid is dropped.
        held.session.take(early, self.now, &mut self.reactor)?;
        self.sessions.insert(client, held);
        self.count.store(self.sessions.len(), Ordering::Relaxed);
        (self.tell)(FromBridge::Arrived {
            request,
            connection: theirs,
        });
        self.drive(client);
        Ok(())
    }

    /// Drives a session as far as possible.
    fn drive(&mut self, key: Token) {
        let Some(held) = self.sessions.get_mut(&key) else {
            return;
        };
        let mut turn = SessionTurn {
            now: self.now,
            reactor: &mut self.reactor,
            scratch: &mut self.scratch,
            budget: PIECES_PER_TURN,
        };
        match held.session.drive(&mut turn) {
            SessionStep::Over => return self.end(key),
            SessionStep::Again => self.reactor.again(key),
            SessionStep::Wait => {}
        }
        match held.session.deadline() {
            Some(at) => self.reactor.set_deadline(held.timer, at),
            None => self.reactor.cancel_deadline(held.timer),
        }
    }

    fn end(&mut self, key: Token) {
        let Some(mut held) = self.sessions.remove(&key) else {
            return;
        };
        held.session.end(&mut self.reactor);
        for part in held.dyno.iter().chain([&held.timer]) {
            self.parts.remove(part);
            self.reactor.forget(*part);
        }
        let _ = self.reactor.deregister(held.session.client().socket(), key);
        self.count.store(self.sessions.len(), Ordering::Relaxed);
        (self.tell)(FromBridge::Left);
    }

    /// Accepts no more visitors, and tells all clients that the bridge leaves.
    fn leave(&mut self) {
        if self.leave_by.is_some() {
            return;
        }
        let leave_by = self.now + LEAVE_TIME;
        self.leave_by = Some(leave_by);
        self.reactor.set_deadline(self.leave_token, leave_by);
        self.close_rendezvous();
        self.cut_off(STOPPING, |_| true);
    }

    /// Ends what was asked for with the tokens of these ids.
    fn end_of_tokens(&mut self, tokens: &[String]) {
        let ends = |token: &Option<String>| token.as_ref().is_some_and(|it| tokens.contains(it));
        self.secrets.retain(|request| !ends(&request.token));
        self.await_secrets();
        self.cut_off(REVOKED, |held| ends(&held.token));
    }

    /// Tells the clients of some sessions why these end.
    fn cut_off(&mut self, why: &str, which: impl Fn(&Held) -> bool) {
        let some = self.sessions.iter().filter(|(_, held)| which(held));
        let keys: Vec<_> = some.map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(held) = self.sessions.get_mut(&key) {
                let mut turn = SessionTurn {
                    now: self.now,
                    reactor: &mut self.reactor,
                    scratch: &mut self.scratch,
                    budget: PIECES_PER_TURN,
                };
                held.session.cut_off(why, &mut turn);
            }
            self.drive(key);
        }
    }

    fn has_left(&self) -> bool {
        self.leave_by
            .is_some_and(|leave_by| self.sessions.is_empty() || self.now >= leave_by)
    }

    /// Watches a client's socket.
    fn watch(&mut self, stream: &Stream) -> io::Result<Token> {
        let token = self.reactor.token();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.reactor.register(stream.socket(), token, interest)?;
        Ok(token)
    }
}
