//! The router's loop, which passes each event on. See `engine/clients.rs` for the clients' side, `engine/placing.rs`
//! for the way to a dyno, `engine/relaying.rs` for the bytes in between.
//!
//! The loop drives the connections of clients; a connection to the dyno that serves a client belongs to that client's.
//! After any event, [`drive`](Engine::drive) goes on as far as the sockets allow.

mod accepting;
mod clients;
mod ending;
mod leaving;
mod placing;
mod relaying;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use crossbeam_channel::Receiver;

use super::doors::Doors;
use super::log::Logs;
use super::pool::{DynoConnection, Pool};
use super::settings::RouterSettings;
use super::table::{DynoKey, RequestEnd, Table};
use super::{FromRouter, Leave, Route, ToRouter};
use crate::kernel::listener::Listeners;
use crate::kernel::random;
use crate::model::uuid::uuid;
use crate::wire::reactor::{Event, Reactor, Token};
use accepting::ClientListeners;
use clients::Client;
use leaving::Leaving;

/// Bytes that are read at a time, and the most that wait in memory for a slow receiver.
const SCRATCH: usize = 64 * 1024;
/// Connections that wait to be accepted; the kernel's own bound may be lower.
const BACKLOG: i32 = 4096;
/// How often waiting requests are looked at without another reason.
const TICK: Duration = Duration::from_secs(1);

/// What a router is started with.
pub(super) struct RouterParts {
    /// Where visitors come; non-blocking. The first is at the router's address.
    pub listeners: Vec<TcpListener>,
    /// Its limits and times.
    pub settings: RouterSettings,
    /// Passes a message to the server, from the router's thread.
    pub tell: Box<dyn Fn(FromRouter) + Send>,
    /// What the thread waits in; its waker says that `inbox` has something.
    pub reactor: Reactor,
    /// Messages of the server.
    pub inbox: Receiver<ToRouter>,
}

/// The state of the router's thread: see the [module](self).
pub(super) struct Engine {
    settings: RouterSettings,
    tell: Box<dyn Fn(FromRouter) + Send>,
    reactor: Reactor,
    inbox: Receiver<ToRouter>,
    client_listeners: ClientListeners,
    address: SocketAddr,
    clients: Map<Box<Client>>,
    /// What each connection to a dyno is used for.
    links: Map<Holder>,
    state: State,
    listeners: Listeners,
    /// The last random number.
    random: u64,
    /// When this turn began.
    now: Instant,
    wall: Option<SystemTime>,
    tick: Token,
    log_tick: Token,
    /// How far its end is, once it was told to leave.
    leaving: Option<Leaving>,
    leave_tick: Token,
    lent: Lent,
}

/// What only the router's own thread uses.
struct State {
    table: Table,
    pool: Pool,
    doors: Doors,
    logs: Logs,
    /// Apps whose dynos may have room for waiting requests.
    released: Vec<Rc<str>>,
    /// A request was put back to the front of the queue.
    put_back: bool,
}

/// Buffers that are lent to the connection that is being driven.
#[derive(Debug, Default)]
struct Lent {
    /// The buffer that reads fill.
    scratch: Vec<u8>,
    /// The buffer in which writes are put together.
    out: Vec<u8>,
}

/// What a connection to a dyno is used for.
#[derive(Debug, Clone, Copy)]
enum Holder {
    Client(Token),
    Pool(DynoKey),
    /// It is no connection: its door.
    Door(DynoKey),
}

type Map<T> = HashMap<Token, T, BuildHasherDefault<TokenHasher>>;

/// A hasher for tokens, which this program counts up itself: no client can choose them to collide.
#[derive(Debug, Default)]
struct TokenHasher(u64);

impl Hasher for TokenHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0.rotate_left(8) ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Whether a connection can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There is more to be done now.
    Go,
    /// Nothing can be done before the next event.
    Wait,
    Close,
}

/// Runs a router until it is told to stop.
pub(super) fn run(start: RouterParts, seed: u64) -> io::Result<()> {
    Engine::new(start, seed)?.run()
}

/// Prepares the sockets before there is a thread, so that the caller gets the errors.
pub(super) fn prepare(start: &RouterParts) -> Result<u64> {
    for listener in &start.listeners {
        make_ready(listener).context("cannot make the router's socket non-blocking")?;
    }
    let seed = random::bytes().context("the kernel gives no random number")?;
    Ok(u64::from_ne_bytes(seed))
}

fn make_ready(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    // Clients that connect while no server runs wait in the kernel's queue; the library's default is 128.
    let _ = rustix::net::listen(listener, BACKLOG);
    // Connections inherit it from the listening socket (tcp(7)).
    let _ = rustix::net::sockopt::set_tcp_nodelay(listener, true);
    Ok(())
}

impl Engine {
    fn new(start: RouterParts, seed: u64) -> io::Result<Self> {
        let RouterParts {
            listeners,
            settings,
            tell,
            mut reactor,
            inbox,
        } = start;
        let main = listeners.first().ok_or(io::ErrorKind::NotFound)?;
        let address = main.local_addr()?;
        let sockets = listeners.into_iter();
        let sockets = sockets
            .map(|listener| (reactor.token(), listener))
            .collect();
        let state = State {
            table: Table::default(),
            pool: Pool::default(),
            doors: Doors::default(),
            logs: Logs::new(settings.log_interval),
            released: Vec::new(),
            put_back: false,
        };
        Ok(Self {
            client_listeners: ClientListeners::new(sockets),
            address,
            clients: Map::default(),
            links: Map::default(),
            state,
            listeners: Listeners::open(),
            random: seed,
            now: Instant::now(),
            wall: None,
            tick: reactor.token(),
            log_tick: reactor.token(),
            leaving: None,
            leave_tick: reactor.token(),
            lent: Lent {
                scratch: vec![0; SCRATCH],
                out: Vec::with_capacity(SCRATCH),
            },
            settings,
            tell,
            reactor,
            inbox,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::new();
        loop {
            self.reactor.poll(&mut events)?;
            self.now = Instant::now();
            self.wall = None;
            self.state.logs.begin_turn();
            for event in events.drain(..) {
                match event {
                    Event::Woken => self.listen_to_owner()?,
                    event => self.handle(event),
                }
            }
            self.serve_waiting();
            if self.has_left_all() {
                self.state.logs.write_all();
                return Ok(());
            }
            if let Some(at) = self.state.logs.write(self.now) {
                self.reactor.set_deadline(self.log_tick, at);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let (Event::Ready { token, .. } | Event::Again(token) | Event::Deadline(token)) = event
        else {
            return;
        };
        if self.client_listeners.knows(token) {
            crate::panics::point("router");
            return self.accept(token);
        }
        if token == self.tick {
            return self.look_after_waiting();
        }
        if let Some(client) = self.clients.get_mut(&token) {
            match event {
                Event::Ready {
                    readable,
                    writable,
                    end,
                    hangup,
                    ..
                } => client.wire.note(readable, writable, end, hangup),
                Event::Deadline(_) => return self.expire(token),
                _ => {}
            }
            return self.drive(token);
        }
        match self.links.get(&token).copied() {
            Some(Holder::Client(client)) => self.hear_dyno(client, token, event),
            Some(Holder::Pool(dyno)) => self.hear_idle(dyno, token, event),
            Some(Holder::Door(dyno)) => self.hear_door(dyno),
            None => {}
        }
    }

    /// An event of a connection to a dyno that serves a client.
    fn hear_dyno(&mut self, client: Token, link: Token, event: Event) {
        let there = self.clients.get_mut(&client);
        if let Some(held) = there.and_then(|client| client.link(link)) {
            match event {
                Event::Ready {
                    readable,
                    writable,
                    end,
                    hangup,
                    ..
                } => held.wire.note(readable, writable, end, hangup),
                Event::Deadline(_) => held.armed = false,
                _ => {}
            }
            self.drive(client);
        }
    }

    /// An event of an idle connection to a dyno: whatever it is, the connection cannot be used any more.
    fn hear_idle(&mut self, dyno: DynoKey, link: Token, event: Event) {
        let pool = &mut self.state.pool;
        match event {
            Event::Ready {
                readable: false,
                end: false,
                ..
            }
            | Event::Again(_) => return,
            Event::Deadline(_) => {
                let Some(link) = pool.get_mut(dyno, link) else {
                    return;
                };
                let until = link.since + self.settings.pooled_time;
                link.armed = until > self.now;
                if link.armed {
                    return self.reactor.set_deadline(link.token, until);
                }
            }
            _ => {}
        }
        if let Some(link) = pool.remove(dyno, link) {
            self.close_link(link);
        }
    }

    /// Closes a connection to a dyno.
    fn close_link(&mut self, link: DynoConnection) {
        self.links.remove(&link.token);
        self.reactor.forget(link.token);
    }

    /// Takes the messages of the server.
    fn listen_to_owner(&mut self) -> io::Result<()> {
        use crossbeam_channel::TryRecvError;
        loop {
            match self.inbox.try_recv() {
                Ok(ToRouter::App { app, route }) => self.update(&app, route),
                Ok(ToRouter::Ready) => self.start_accepting()?,
                Ok(ToRouter::Listen(listener)) => self.add_listener(listener)?,
                Ok(ToRouter::Leave(leave)) => self.leave(leave),
                Err(TryRecvError::Disconnected) => {
                    self.leave(Leave::ForGood);
                    return Ok(());
                }
                Err(TryRecvError::Empty) => return Ok(()),
            }
        }
    }

    fn update(&mut self, app: &str, route: Option<Route>) {
        let known = self.state.table.app(app).cloned();
        let name = known.unwrap_or_else(|| app.into());
        let waiting = match &route {
            Some(route) => {
                let logs = &mut self.state.logs;
                logs.set(&name, route.logs.clone(), route.log_limits);
                Vec::new()
            }
            None => self.state.table.all_waiting(app),
        };
        let changes = self.state.table.update(&name, route.as_ref());
        for dyno in changes.purge {
            for link in self.state.pool.purge(dyno) {
                self.close_link(link);
            }
            for client in self.close_door(dyno) {
                self.drive(client);
            }
        }
        for dyno in changes.drained {
            (self.tell)(FromRouter::Drained { dyno });
        }
        for client in waiting {
            self.wake(client);
        }
        if route.is_none() {
            self.state.logs.remove(app);
        }
        self.state.released.push(name);
    }

    /// A dyno has one request less.
    fn release(&mut self, dyno: DynoKey) {
        if let Some(app) = self.state.table.app_of(dyno)
            && self.state.table.has_waiting(app)
        {
            self.state.released.push(app.clone());
        }
        let RequestEnd { drained, gone } = self.state.table.release(dyno);
        if gone {
            for link in self.state.pool.purge(dyno) {
                self.close_link(link);
            }
            // Nobody waits at the door of a dyno without requests.
            self.close_door(dyno);
        }
        if let Some(dyno) = drained {
            (self.tell)(FromRouter::Drained { dyno });
        }
    }

    /// The time of day, read once in a turn.
    fn wall(&mut self) -> SystemTime {
        *self.wall.get_or_insert_with(SystemTime::now)
    }

    /// A new id for a request.
    fn request_id(&mut self) -> String {
        let numbers = [self.random(), self.random()].map(u64::to_be_bytes);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(numbers.as_flattened());
        uuid(bytes, 4)
    }

    /// A random number that may be guessed (splitmix64).
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.random;
        number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ number >> 31
    }
}
