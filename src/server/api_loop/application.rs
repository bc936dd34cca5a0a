//! What the API's loop and the server's handlers promise each other.
//!
//! An [`Application`] answers requests; the [loop](crate::server::api_loop) owns the sockets. Handlers run
//! on the loop's thread, one at a time, so they may use the store without a lock and must be short.
//! What is slow goes to a [worker](Reply::Worker), what waits for an event is answered
//! [later](Reply::Later), what has no end in sight is [streamed](Reply::Stream), what stops being HTTP is
//! [given away](Reply::Upgrade).

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::pipe::PipeFlags;

use crate::kernel::fail_point;
use crate::model::token::Token as AccessToken;
use crate::wire::handover::{Handover, Part};
use crate::wire::http::{RequestHead, Response};
use crate::wire::reactor::{Event, Reactor, Token};
use crate::wire::stream::Stream;

use crate::server::api_loop::body_stream::BodyReader;
use crate::server::api_loop::listener::{ApiListener, SocketFile};
use crate::server::api_loop::via::Via;
use crate::server::api_loop::workers::Workers;

/// The server behind the API.
pub trait Application: Sized + 'static {
    /// How the body of a request is to be taken, asked before any of it is read.
    fn body_plan(&mut self, _head: &RequestHead, _via: Via) -> BodyPlan {
        BodyPlan::Memory
    }

    /// Answers a request.
    fn request(&mut self, request: Request, ctx: &mut Ctx<Self>) -> Reply<Self>;

    /// A response to this request with the header fields that every one has, whichever way it came about. Asked once, when it
    /// is about to be written.
    fn with_headers(&mut self, _ticket: Ticket, response: Response) -> Response {
        response
    }

    /// What was asked for with this target has failed by a panic, whose words are these: a mistake of the server's.
    fn failed(&mut self, _target: &str, _why: &str) {}

    /// An event of a token that the application took from [`Ctx::reactor`], or [`Event::Woken`].
    ///
    /// Events of tokens it has forgotten come here too, and are to be ignored.
    fn event(&mut self, _event: Event, _ctx: &mut Ctx<Self>) {}

    /// How the streamed response to a request goes on. Asked when the client has taken all that came before, so a
    /// slow one is asked for seldom, and never has more than one piece waiting here. After [`More::Later`] it is asked
    /// again once [`Ctx::resume`] was called, and at times for no reason.
    fn more(&mut self, _ticket: Ticket, _ctx: &mut Ctx<Self>) -> More {
        More::End
    }

    /// The client of a request that was to be answered later has gone, or wants no more of a streamed response. What
    /// is said to it now is dropped. May be said twice.
    fn client_gone(&mut self, _ticket: Ticket, _ctx: &mut Ctx<Self>) {}

    /// Everything that came in at once has been seen to: the place to look at the whole (is there
    /// anything left to do?) and to set a deadline.
    fn turn_ended(&mut self, _ctx: &mut Ctx<Self>) {}
}

/// How the body of a request is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyPlan {
    /// As a whole, before the request is handed over, up to
    /// [`ConnectionLimits::memory_body`](crate::server::api_loop::connection_limits::ConnectionLimits::memory_body).
    Memory,
    /// Bit by bit, by the worker that the request is answered with. It is handed over at once, with
    /// an empty body; an answer without a worker leaves the body unread and ends the connection.
    Stream {
        /// Bytes at most; one more and the client gets a `413`, the worker an error.
        limit: u64,
    },
    /// Not at all: the request will be refused. The request is handed over at once, as for a stream.
    Unread,
}

/// A request that wants an answer.
#[derive(Debug)]
pub struct Request {
    /// Its head.
    pub head: RequestHead,
    /// Its body, unless that is streamed.
    pub body: Vec<u8>,
    /// How it came.
    pub via: Via,
    /// What to answer it by, for [`Reply::Later`].
    pub ticket: Ticket,
    /// The token that it was let in with, or with which its signed address was asked for. The application notes it.
    pub token: Option<Arc<AccessToken>>,
}

/// Whom a response goes to that takes its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The request.
    pub ticket: Ticket,
    /// The token with which it was let in; the response ends with it.
    pub token: Option<Arc<AccessToken>>,
}

impl Recipient {
    /// Whether it was let in with one of the tokens of these ids.
    pub fn came_with(&self, tokens: &[String]) -> bool {
        let token = self.token.as_ref();
        token.is_some_and(|token| tokens.contains(&token.id))
    }
}

/// Where a request came from, as far as an answer depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The way.
    pub via: Via,
    /// The name and port by which the client knows this server: its `Host`.
    pub host: Option<&'a str>,
    /// The token that the request was let in with.
    pub token: Option<&'a Arc<AccessToken>>,
}

impl Request {
    /// The value of a header field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.fields.get(name)
    }

    /// Where it came from.
    pub fn caller(&self) -> Caller<'_> {
        Caller {
            via: self.via,
            host: self.field("host"),
            token: self.token.as_ref(),
        }
    }

    /// Whom its answer goes to.
    pub fn recipient(&self) -> Recipient {
        Recipient {
            ticket: self.ticket,
            token: self.token.clone(),
        }
    }

    /// The `Range`, which says what part of a list is wanted; empty if it has none.
    pub fn range(&self) -> &str {
        self.field("range").unwrap_or_default()
    }
}

/// How a streamed response goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum More {
    /// With these bytes: some ten thousand at most, for they are kept until the client has taken them. None at all mean
    /// that it took work to find that there are none yet: ask again when others have had their turn.
    Bytes(Vec<u8>),
    /// Not yet.
    Later,
    /// It does not; the client sees a complete response. (One that is cut off by the server's end is seen to be
    /// incomplete.)
    End,
    /// It cannot; the client sees that it broke off.
    Broken,
}

/// One request of one connection. Never given twice; one whose client has gone is still safe to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    /// Its connection, by the token in the reactor.
    pub connection: Token,
    /// How many requests of that connection came before.
    pub serial: u64,
}

/// What a worker leaves for the loop to do: it sees the application again and makes the answer. Runs
/// even if the client has gone in the meantime.
pub type Completion<A> = Box<dyn FnOnce(&mut A, &mut Ctx<A>) -> Reply<A> + Send>;

/// Slow work for a thread of the pool. The reader has the rest of the request's body, if that is
/// streamed, and is at its end otherwise.
pub type Job<A> = Box<dyn FnOnce(&mut BodyReader) -> Completion<A> + Send>;

/// What is done with a connection that is given away, on the loop. The stream is not watched any more; the bytes were read from it after the request's head. Nothing of an answer has
/// been written.
pub type Upgrade<A> = Box<dyn FnOnce(&mut A, &mut Ctx<A>, Stream, Vec<u8>)>;

/// The answer to a request.
pub enum Reply<A: Application> {
    /// This.
    Now(Response),
    /// Whatever comes of this work. When all workers are busy and enough jobs wait, the client gets
    /// a `503` instead and the job is dropped.
    Worker(Job<A>),
    /// This head, and a body of which [`Application::more`] gives piece after piece. It takes as long as it takes; only
    /// a client that takes nothing of what is there for it is hung up on, after
    /// [`ConnectionLimits::write_time`](crate::server::api_loop::connection_limits::ConnectionLimits::write_time).
    Stream(Response),
    /// No HTTP any more. Dropped, without being called, if the client has gone.
    Upgrade(Upgrade<A>),
    /// [`Ctx::answer`] will say, some day. The application bounds the time.
    Later,
}

impl<A: Application> Reply<A> {
    /// [`Reply::Worker`] without the boxes.
    pub fn worker<D>(job: impl FnOnce(&mut BodyReader) -> D + Send + 'static) -> Self
    where
        D: FnOnce(&mut A, &mut Ctx<A>) -> Self + Send + 'static,
    {
        Self::Worker(Box::new(move |body| Box::new(job(body))))
    }

    /// [`Reply::Upgrade`] without the box.
    pub fn upgrade(take: impl FnOnce(&mut A, &mut Ctx<A>, Stream, Vec<u8>) + 'static) -> Self {
        Self::Upgrade(Box::new(take))
    }
}

/// What a worker sends back: whose request it was, if it was one's, and what to do on the loop.
/// The words of its panic if the job panicked.
pub struct Finished<A: Application> {
    /// The request that the work is for; None if no client waits for it.
    pub ticket: Option<Ticket>,
    /// What to do on the loop; the words of the panic if the job panicked.
    pub completion: Result<Completion<A>, String>,
}

/// The loop as its application sees it.
pub struct Ctx<A: Application> {
    /// What the loop waits in.
    pub reactor: Reactor,
    /// The threads for slow work.
    pub workers: Workers<Finished<A>>,
    /// Those that take bodies from a network, however slow that is.
    pub remote_uploads: Workers<Finished<A>>,
    /// Replies to requests that were to be answered later, for the loop to send.
    pub answers: VecDeque<(Ticket, Reply<A>)>,
    /// How many clients are connected.
    pub connections: usize,
    /// Whether the loop is to stop.
    pub stopping: bool,
    /// Listeners that are to be served from the next turn on.
    pub listeners: Vec<ApiListener>,
    /// What an earlier server has left and no part of this one has taken yet.
    pub inherited: Handover,
    /// What the next server could go on with: copies of the descriptors.
    pub estate: Handover,
    /// The number of the estate's present state: it grows with every change.
    pub estate_state: u64,
    /// Whether another server goes on with the sockets, now or as soon as there is one.
    pub heir: Heir,
    /// Where clients on this host find the server.
    pub place: Option<SocketFile>,
}

/// Who has the sockets after this server.
#[derive(Debug)]
pub enum Heir {
    /// No process.
    None,
    /// The service manager keeps them for the next server that it starts.
    Manager,
    /// The supervisors of live dynos keep those at ports, for the next server.
    Dynos,
    /// A server that is started at this moment. It waits for the end of this pipe.
    Server {
        /// Closed when this server uses the state no more.
        _until: OwnedFd,
    },
}

impl<A: Application> Ctx<A> {
    /// The reactor, for descriptors and deadlines of the application's own.
    pub fn reactor(&mut self) -> &mut Reactor {
        &mut self.reactor
    }

    /// Answers a request that was to be answered later, once the current call has returned. An
    /// answer too many, or one whose client has gone, is dropped.
    pub fn answer(&mut self, ticket: Ticket, reply: Reply<A>) {
        self.answers.push_back((ticket, reply));
    }

    /// There is more of a streamed response: have [`Application::more`] asked in the next turn.
    pub fn resume(&mut self, ticket: Ticket) {
        self.reactor.again(ticket.connection);
    }

    /// Has slow work done that no client waits for; `job` returns what then happens on the loop.
    /// False if too much work waits already.
    pub fn work<D>(&mut self, job: impl FnOnce() -> D + Send + 'static) -> bool
    where
        D: FnOnce(&mut A, &mut Self) + Send + 'static,
    {
        self.workers.submit(Box::new(move || {
            let done = crate::panics::caught(job);
            Finished {
                ticket: None,
                completion: done.map(|done| -> Completion<A> {
                    Box::new(move |app, ctx| {
                        done(app, ctx);
                        Reply::Later
                    })
                }),
            }
        }))
    }

    /// Has slow work done that no client waits for, and after which nothing is left to do. It is not done at all if too much
    /// work waits already.
    pub fn work_and_forget(&mut self, job: impl FnOnce() + Send + 'static) {
        self.work(move || {
            job();
            |_: &mut A, _: &mut Self| {}
        });
    }

    /// Serves one more listener from the next turn on.
    pub fn listen(&mut self, listener: impl Into<ApiListener>) {
        self.listeners.push(listener.into());
    }

    /// Notes a part that the next server could go on with.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn bequeath(&mut self, part: Part, socket: impl AsFd) -> io::Result<()> {
        self.estate.put(part, socket.as_fd().try_clone_to_owned()?);
        self.estate_state += 1;
        Ok(())
    }

    /// Adds what was left elsewhere to what an earlier server has left, as far as that is not there.
    pub fn inherit(&mut self, mut left: Handover) {
        left.put_all(std::mem::take(&mut self.inherited));
        self.inherited = left;
    }

    /// Has a part of this server that begins again find its own sockets among those that were left.
    pub fn inherit_own<const N: usize>(&mut self, parts: [Part; N]) {
        for part in parts {
            if let Some(Ok(socket)) = self.estate.get(part).map(OwnedFd::try_clone) {
                self.inherited.put(part, socket);
            }
        }
    }

    /// The number of the estate's present state, from 1 on; it grows with every change.
    pub fn estate_state(&self) -> u64 {
        self.estate_state
    }

    /// The supervisors of live dynos keep the sockets at ports.
    pub fn leave_to_dynos(&mut self) {
        self.heir = Heir::Dynos;
    }

    /// What the next server could go on with.
    pub fn estate(&self) -> &Handover {
        &self.estate
    }

    /// The service manager keeps the sockets.
    pub fn leave_to_manager(&mut self) {
        self.heir = Heir::Manager;
    }

    /// Whether clients on this host find the server's socket.
    pub fn is_found(&self) -> bool {
        self.place.as_ref().is_some_and(SocketFile::is_there)
    }

    /// Who has the sockets after this server.
    pub fn heir(&self) -> &Heir {
        &self.heir
    }

    /// Leaves all parts to another server, which the client of this connection starts, and stops.
    ///
    /// # Errors
    /// When the connection does not take them. Then nothing has happened.
    pub fn hand_over(&mut self, connection: impl AsFd) -> io::Result<()> {
        let (reader, until) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        self.estate.put(Part::Left, reader);
        let sent = self.estate.send(connection);
        self.estate.take(Part::Left);
        sent?;
        fail_point::reach("server.handed_over");
        self.heir = Heir::Server { _until: until };
        self.stop();
        Ok(())
    }

    /// Clients that are connected, whether they have asked for something or not.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Jobs that are waiting, running, or done and not yet seen to.
    pub fn jobs(&self) -> usize {
        self.workers.outstanding() + self.remote_uploads.outstanding()
    }

    /// What a thread has left.
    pub fn finished(&mut self) -> Option<Finished<A>> {
        let uploaded = || self.remote_uploads.finished();
        self.workers.finished().or_else(uploaded)
    }

    /// Whether the loop is about to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Stops the loop in order: no new connections, idle ones are closed, requests that are being
    /// answered get a little time.
    pub fn stop(&mut self) {
        self.stopping = true;
    }
}
