//! The server's one loop: accepts clients, moves their bytes, has the application answer.
//!
//! It only routes: [`Connection`] says what its bytes mean, [`Application`] what is to be answered.
//! After a connection was touched its deadline is derived anew, in one place
//! ([`drive`](ApiLoop::drive)), so no path can forget it.

pub mod application;
pub mod body_stream;
pub mod connection;
pub mod connection_limits;
pub mod listener;
pub mod via;
pub mod workers;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::api::{ApiError, ErrorKind};
use crate::error::tell;
use crate::home::lock::ServerLock;
use crate::panics::{self, caught};
use crate::wire::handover::{Handover, Part};
use crate::wire::http::Response;
use crate::wire::reactor::{Event, Interest, Reactor, Token};

use crate::server::api_loop::application::{
    Application, Ctx, Finished, Heir, Job, More, Reply, Ticket, Upgrade,
};
use crate::server::api_loop::body_stream::{BodyReader, PIECE, RoomBell};
use crate::server::api_loop::connection::{Connection, Step, Turn};
use crate::server::api_loop::connection_limits::ConnectionLimits;
use crate::server::api_loop::listener::{ApiListener, NewClient};
use crate::server::api_loop::workers::Workers;

/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Reads and responses of one connection in one turn; a piece of a streamed response counts for several.
const BUDGET_PER_TURN: u32 = 16;
/// How long a loop that stops waits for the first request of clients who have just come.
const GREET_TIME: Duration = Duration::from_millis(100);
/// How long not to accept when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// See the [module](self).
pub struct ApiLoop<A: Application> {
    app: A,
    ctx: Ctx<A>,
    limits: ConnectionLimits,
    /// None of them once the loop is to stop.
    listeners: HashMap<Token, ApiListener>,
    connections: HashMap<Token, Connection>,
    /// How many of them came from a network.
    remote: usize,
    /// Tokens of connections whose worker has made room. At most one for each of them at a time.
    room: (Sender<Token>, Receiver<Token>),
    scratch: Box<[u8]>,
    stop_by: Option<Instant>,
    stop_token: Token,
    _lock: Option<ServerLock>,
}

impl<A: Application> ApiLoop<A> {
    /// A loop that serves `listener`, under `lock`. `make` makes the application, which may register descriptors
    /// and set deadlines at once, and take what it needs of what an earlier server has left.
    ///
    /// # Errors
    /// What `make` says, or when descriptors have run out.
    pub fn new(
        listener: impl Into<ApiListener>,
        lock: Option<ServerLock>,
        inherited: Handover,
        limits: ConnectionLimits,
        make: impl FnOnce(&mut Ctx<A>) -> anyhow::Result<A>,
    ) -> anyhow::Result<Self> {
        let mut reactor = Reactor::new()?;
        let stop_token = reactor.token();
        let workers = |threads| Workers::new(threads, limits.queued_jobs, reactor.waker());
        let (workers, remote_uploads) = (workers(limits.workers), workers(limits.remote_uploads));
        let mut ctx = Ctx {
            reactor,
            workers,
            remote_uploads,
            answers: VecDeque::new(),
            connections: 0,
            stopping: false,
            listeners: vec![listener.into()],
            inherited,
            estate: Handover::default(),
            estate_state: 1,
            heir: Heir::None,
            place: None,
        };
        if let Some(lock) = &lock {
            ctx.estate.put(Part::Lock, lock.try_clone()?);
        }
        let mut api = Self {
            app: make(&mut ctx)?,
            ctx,
            limits,
            listeners: HashMap::new(),
            connections: HashMap::new(),
            remote: 0,
            room: crossbeam_channel::unbounded(),
            scratch: vec![0; PIECE].into_boxed_slice(),
            stop_by: None,
            stop_token,
            _lock: lock,
        };
        // What no part of this server has taken is of no use to it.
        api.ctx.inherited = Handover::default();
        api.begin_to_listen()?;
        Ok(api)
    }

    /// The application of a loop that has served.
    pub fn into_application(self) -> A {
        self.app
    }

    /// Serves until the application [stops](Ctx::stop) it.
    ///
    /// # Errors
    /// When the kernel refuses to poll, which only a bug can cause.
    pub fn serve(&mut self) -> anyhow::Result<()> {
        let mut events = Vec::new();
        while !self.stopped() {
            self.ctx.reactor.poll(&mut events)?;
            for event in &events {
                self.route(*event);
            }
            self.perform_answers();
            self.app.turn_ended(&mut self.ctx);
            self.perform_answers();
            self.begin_to_listen()?;
        }
        Ok(())
    }

    fn begin_to_listen(&mut self) -> io::Result<()> {
        for listener in std::mem::take(&mut self.ctx.listeners) {
            self.ctx.bequeath(listener.part(), listener.socket())?;
            self.ctx.place = listener.place().or(self.ctx.place.take());
            let token = self.ctx.reactor.token();
            self.ctx
                .reactor
                .register(listener.socket(), token, Interest::READABLE)?;
            self.listeners.insert(token, listener);
        }
        Ok(())
    }

    fn route(&mut self, event: Event) {
        let token = match event {
            Event::Woken => {
                self.collect();
                return self.app.event(event, &mut self.ctx);
            }
            Event::Ready { token, .. } | Event::Again(token) | Event::Deadline(token) => token,
        };
        if self.listeners.contains_key(&token) {
            return self.accept(token);
        }
        let now = Instant::now();
        let Some(connection) = self.connections.get_mut(&token) else {
            return self.app.event(event, &mut self.ctx);
        };
        match event {
            Event::Ready {
                readable,
                writable,
                end,
                hangup,
                ..
            } => {
                connection.note(readable, writable, end, hangup);
            }
            Event::Deadline(_)
                if connection
                    .deadline()
                    .is_some_and(|deadline| deadline <= now) =>
            {
                let turn = turn(now, &self.limits, &mut self.scratch);
                if connection.expire(&turn) {
                    return self.close(token);
                }
            }
            _ => {}
        }
        self.drive(token);
    }

    /// Takes new clients, as many as are allowed. The kernel tells of the others only once, so we
    /// come back by ourselves: in the next turn, when a client leaves, or after a pause.
    fn accept(&mut self, token: Token) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(&token) else {
                return;
            };
            if self.connections.len() >= self.limits.connections
                || (listener.is_remote() && self.remote >= self.limits.remote_connections())
            {
                return;
            }
            match listener.accept() {
                Ok(None) => {}
                Ok(Some(client)) => self.welcome(client),
                Err(error) => match error.kind() {
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return,
                    // Out of descriptors, most likely.
                    _ => {
                        return self
                            .ctx
                            .reactor
                            .set_deadline(token, Instant::now() + ACCEPT_PAUSE);
                    }
                },
            }
        }
        self.ctx.reactor.again(token);
    }

    fn accept_again(&mut self) {
        for token in self.listeners.keys() {
            self.ctx.reactor.again(*token);
        }
    }

    fn welcome(&mut self, NewClient { stream, via }: NewClient) {
        let token = self.ctx.reactor.token();
        let interest = Interest::READABLE | Interest::WRITABLE;
        // If it cannot be watched it is dropped, and the client sees the end.
        let watched = self.ctx.reactor.register(stream.socket(), token, interest);
        if watched.is_ok() {
            self.remote += usize::from(via.is_remote());
            let connection = Connection::new(stream, via, token, &self.limits, Instant::now());
            self.connections.insert(token, connection);
            self.drive(token);
        }
    }

    /// Lets a connection go on as far as it can, and does what it asks for on the way.
    fn drive(&mut self, token: Token) {
        let now = Instant::now();
        let mut budget = BUDGET_PER_TURN;
        while let Some(connection) = self.connections.get_mut(&token) {
            let mut turn = Turn {
                budget,
                ..turn(now, &self.limits, &mut self.scratch)
            };
            let step = connection.advance(&mut turn);
            budget = turn.budget;
            match step {
                Step::Head(head) => {
                    let plan = self.app.body_plan(&head, connection.via());
                    connection.begin(*head, plan, &turn);
                }
                Step::Request(request) => {
                    self.ctx.connections = self.connections.len();
                    let ticket = request.ticket;
                    panics::point(format_args!("server loop {}", request.head.target()));
                    // A mistake in one handler is that client's: the store has undone what was begun.
                    let reply = caught(|| {
                        panics::point(format_args!("server handler {}", request.head.target()));
                        self.app.request(*request, &mut self.ctx)
                    });
                    let reply = reply.unwrap_or_else(|why| self.failed(ticket, &why));
                    self.perform(ticket, reply);
                }
                Step::More(ticket) => {
                    let more = self.app.more(ticket, &mut self.ctx);
                    if more == More::Broken {
                        return self.close(token);
                    }
                    if !connection.stream(&more, &turn) {
                        return self.wait(token);
                    }
                }
                Step::Close => return self.close(token),
                Step::Wait => return self.wait(token),
                Step::Again => {
                    self.ctx.reactor.again(token);
                    return self.wait(token);
                }
            }
        }
    }

    /// A connection has gone as far as it could: until its deadline.
    fn wait(&mut self, token: Token) {
        match self.connections.get(&token).and_then(Connection::deadline) {
            Some(deadline) => self.ctx.reactor.set_deadline(token, deadline),
            None => self.ctx.reactor.cancel_deadline(token),
        }
    }

    /// Does with a request what the application decided. The connection is driven on by the caller.
    fn perform(&mut self, ticket: Ticket, reply: Reply<A>) {
        let waiting = self.connections.get_mut(&ticket.connection);
        let Some(connection) = waiting.filter(|waiting| waiting.handling() == Some(ticket)) else {
            if matches!(reply, Reply::Stream(_)) {
                // It was told before that the client is gone, but could not know yet that it would stream.
                self.app.client_gone(ticket, &mut self.ctx);
            }
            return;
        };
        let turn = turn(Instant::now(), &self.limits, &mut self.scratch);
        match reply {
            Reply::Later => {}
            Reply::Now(response) => {
                let response = self.app.with_headers(ticket, response);
                connection.respond(&response, self.ctx.stopping, &turn);
            }
            Reply::Stream(response) => {
                let response = self.app.with_headers(ticket, response);
                if !connection.begin_stream(&response, self.ctx.stopping, &turn) {
                    self.app.client_gone(ticket, &mut self.ctx);
                }
            }
            Reply::Upgrade(upgrade) => self.give_away(ticket, upgrade),
            Reply::Worker(job) => {
                let bell = RoomBell {
                    token: ticket.connection,
                    tokens: self.room.0.clone(),
                    waker: self.ctx.reactor.waker(),
                };
                let body = connection.open_upload(bell, &turn);
                let workers = match connection.is_uploading_from_afar() {
                    true => &mut self.ctx.remote_uploads,
                    false => &mut self.ctx.workers,
                };
                if !workers.submit(work(ticket, job, body)) {
                    connection.respond(&busy(), false, &turn);
                }
            }
        }
    }

    fn give_away(&mut self, ticket: Ticket, upgrade: Upgrade<A>) {
        let token = ticket.connection;
        let Some(mut connection) = self.connections.remove(&token) else {
            return;
        };
        let Some(bytes) = connection.give_away() else {
            let error = ApiError::bad_request("a request for an upgrade has its body in memory");
            let turn = turn(Instant::now(), &self.limits, &mut self.scratch);
            connection.respond(&Response::json(400, &error), true, &turn);
            self.connections.insert(token, connection);
            return;
        };
        self.left(token, &connection);
        upgrade(
            &mut self.app,
            &mut self.ctx,
            connection.into_stream(),
            bytes,
        );
    }

    fn close(&mut self, token: Token) {
        if let Some(connection) = self.connections.remove(&token) {
            self.left(token, &connection);
            if let Some(ticket) = connection.unfinished() {
                self.app.client_gone(ticket, &mut self.ctx);
            }
        }
    }

    /// A connection is not ours any more.
    fn left(&mut self, token: Token, connection: &Connection) {
        // It was registered when it came; failing here would mean that it is not watched either.
        let _ = self.ctx.reactor.deregister(connection.socket(), token);
        self.ctx.connections = self.connections.len();
        let remote = connection.via().is_remote();
        let was_full = self.connections.len() + 1 == self.limits.connections
            || (remote && self.remote == self.limits.remote_connections());
        self.remote -= usize::from(remote);
        if was_full {
            self.accept_again();
        }
    }

    /// Takes what the workers have left.
    fn collect(&mut self) {
        while let Ok(token) = self.room.1.try_recv() {
            self.drive(token);
        }
        while let Some(Finished { ticket, completion }) = self.ctx.finished() {
            let reply = match completion {
                Ok(completion) => completion(&mut self.app, &mut self.ctx),
                Err(why) => match ticket {
                    Some(ticket) => self.failed(ticket, &why),
                    None => Reply::Later,
                },
            };
            if let Some(ticket) = ticket {
                self.ctx.answer(ticket, reply);
            }
        }
    }

    /// The answer to a request whose handler, or whose job, has panicked.
    fn failed(&mut self, ticket: Ticket, why: &str) -> Reply<A> {
        let target = self.connections.get(&ticket.connection);
        let target = target.map_or("", Connection::target).to_owned();
        tell!("{target}: {why}");
        self.app.failed(&target, why);
        let error = ApiError::internal(format!(
            "Error R99 (Platform error) -> the server failed: {why}"
        ));
        let error = error.hint("this is a mistake in dyno, and the server's log says more");
        Reply::Now(Response::json(500, &error))
    }

    fn perform_answers(&mut self) {
        while let Some((ticket, reply)) = self.ctx.answers.pop_front() {
            self.perform(ticket, reply);
            self.drive(ticket.connection);
        }
    }

    /// Whether everything is done. The first time that the application wants to stop, the listener
    /// goes and so do the clients who want no more; the others get a little time. Those who are streamed to
    /// stay until the end: they come back at once, and the next server should be there by then.
    fn stopped(&mut self) -> bool {
        if !self.ctx.stopping {
            return false;
        }
        let now = Instant::now();
        let stop_time = self.limits.stop_time;
        let stop_by = *self.stop_by.get_or_insert_with(|| now + stop_time);
        let greet_by = (stop_by - stop_time) + GREET_TIME.min(stop_time);
        for (token, mut listener) in self.listeners.drain() {
            let _ = self.ctx.reactor.deregister(listener.socket(), token);
            if matches!(self.ctx.heir, Heir::Manager | Heir::Server { .. }) {
                listener.leave();
            }
        }
        let next = if now < greet_by { greet_by } else { stop_by };
        self.ctx.reactor.set_deadline(self.stop_token, next);
        let idle: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, open)| open.is_idle() && (now >= greet_by || !open.is_new()))
            .collect();
        let idle: Vec<_> = idle.into_iter().map(|(token, _)| *token).collect();
        idle.into_iter().for_each(|token| self.close(token));
        let done = self.connections.values().all(Connection::is_streaming) && self.ctx.jobs() == 0;
        done || now >= stop_by
    }
}

fn turn<'a>(now: Instant, limits: &'a ConnectionLimits, scratch: &'a mut [u8]) -> Turn<'a> {
    Turn {
        now,
        limits,
        scratch,
        budget: BUDGET_PER_TURN,
    }
}

/// A job of the application's as one for the pool.
fn work<A: Application>(
    ticket: Ticket,
    job: Job<A>,
    mut body: BodyReader,
) -> Box<dyn FnOnce() -> Finished<A> + Send> {
    Box::new(move || Finished {
        ticket: Some(ticket),
        completion: caught(|| {
            panics::point("server worker");
            job(&mut body)
        }),
    })
}

fn busy() -> Response {
    let message = "the server has too much to do at the moment";
    let error = ApiError::new(ErrorKind::Busy, message);
    Response::json(error.status(), &error).with("Retry-After", "1")
}
