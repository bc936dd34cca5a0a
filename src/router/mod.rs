//! The HTTP router: sends requests for `APP.localhost` to a random web dyno of that app that is up.
//!
//! It has a thread and a [`Reactor`](crate::wire::reactor::Reactor) of its own, and knows neither the store nor the
//! server. The server tells it about apps in whole snapshots ([`Route`]); it reports through a function that the server
//! passes ([`FromRouter`]). `router/table.rs` decides which dyno gets a request, `exchange.rs` what a request waits for
//! and until when, `headers.rs` the heads; `engine.rs` and the files under it move the bytes. `docs/router.md` is for
//! users.

mod doors;
mod engine;
mod error_page;
mod exchange;
mod failure;
mod forwarded;
mod headers;
mod log;
mod pool;
mod relay;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod wire;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use crossbeam_channel::Sender;

use crate::error::tell;
use crate::kernel::listener::Listener;
use crate::panics;
use crate::wire::door::Door;
use crate::wire::reactor::{Reactor, Waker};

pub use settings::RouterSettings;

/// What the router knows about one app: always a whole snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The app's name, which is the first label of its host name.
    pub app: String,
    /// The folder of its log.
    pub logs: PathBuf,
    /// How much of the log is kept.
    pub log_limits: crate::model::log_limits::LogLimits,
    /// Whether the app is in maintenance mode (H80).
    pub maintenance: bool,
    /// Whether no slug was released yet (H81).
    pub blank: bool,
    /// Its web dynos, in any order.
    pub backends: Vec<Backend>,
}

/// A web dyno that requests are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The dyno's id, a uuid.
    pub dyno: String,
    /// The dyno's name, such as `web.1`, which its successor will have, too.
    pub name: String,
    /// Whether it gets requests.
    pub state: BackendState,
    /// Where sockets of its own network come from; None: it is in that of the host.
    pub door: Option<Door>,
}

/// Whether a web dyno gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendState {
    /// It does not listen on its port yet. Requests wait for it.
    Starting,
    /// It gets requests, through this socket and no other.
    Up(Listener),
    /// It gets no new requests; those in flight go on. [`FromRouter::Drained`] says when there are none.
    Draining(Listener),
    /// It crashed, and was not restarted yet.
    Crashed,
}

/// A message of the server to the router.
#[derive(Debug)]
pub enum ToRouter {
    /// A new snapshot of an app. Requests in flight are not disturbed.
    App {
        /// The app's name.
        app: String,
        /// The snapshot; None if there is no such app any more.
        route: Option<Route>,
    },
    /// Accept clients of this socket, too.
    Listen(TcpListener),
    /// All apps have been sent, so clients can be accepted. Before that, the router would answer that there is no such app.
    Ready,
    /// To accept no more clients, and to end when those that are connected have their responses, or after a while.
    Leave(Leave),
}

/// What becomes of the listening socket, and of clients that have just connected, when the router leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It is closed: clients that have connected are served, all others are refused. Takes [`RouterSettings::leave_time`] at most.
    ForGood,
    /// The service manager keeps it, or supervisors do: new clients wait for the next router, which starts when this one has
    /// ended. Takes [`RouterSettings::leave_time`] at most.
    ToKeeper,
    /// Another router has it. Takes [`RouterSettings::succeeded_time`] at most.
    ToSuccessor,
}

/// A message of the router to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromRouter {
    /// A draining dyno has no request in flight any more. Upgraded connections (WebSockets) and streams of events do
    /// not count: they end with the dyno.
    Drained {
        /// The dyno's id.
        dyno: String,
    },
    /// The socket behind a dyno's port is not the one that the route names. The dyno gets no request until a new
    /// snapshot comes; its supervisor can find out which process the socket belongs to.
    Doubted {
        /// The dyno's id.
        dyno: String,
    },
    /// The router has failed and ended. The server is to start another.
    Ended,
}

/// A running router. Dropping it has it [leave](ToRouter::Leave), and waits until it has ended.
#[derive(Debug)]
pub struct Router {
    address: SocketAddr,
    sender: Sender<ToRouter>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Router {
    /// Serves the connections that are made to `listeners`, of which the first is at the router's address. `tell` is
    /// called on the router's thread, and must not block.
    ///
    /// # Errors
    /// When the socket cannot be used, or the kernel gives no descriptors or no thread.
    pub fn start(
        listeners: Vec<TcpListener>,
        settings: RouterSettings,
        tell: impl Fn(FromRouter) + Send + Sync + 'static,
    ) -> Result<Self> {
        let address = listeners
            .first()
            .ok_or(std::io::ErrorKind::NotFound)
            .map_err(Into::into)
            .and_then(TcpListener::local_addr)
            .context("the router's socket has no address")?;
        let reactor = Reactor::new().context("cannot make the router's poll loop")?;
        let waker = reactor.waker();
        let (sender, inbox) = crossbeam_channel::unbounded();
        let tell = Arc::new(tell);
        let tell_end = Arc::clone(&tell);
        let start = engine::RouterParts {
            listeners,
            settings,
            tell: Box::new(move |news| tell(news)),
            reactor,
            inbox,
        };
        let seed = engine::prepare(&start)?;
        let thread = std::thread::Builder::new()
            .name("router".into())
            .spawn(move || {
                // After a panic, which has been printed, its state is not used any more.
                match panics::caught(|| engine::run(start, seed)) {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => tell!("the router has ended: {error}"),
                    Err(_) => {}
                }
                tell_end(FromRouter::Ended);
            })
            .context("cannot start the router's thread")?;
        Ok(Self {
            address,
            sender,
            waker,
            thread: Some(thread),
        })
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends the router a message; messages are handled in order.
    pub fn send(&self, message: ToRouter) {
        // A router that has ended needs no messages.
        let _ = self.sender.send(message);
        self.waker.wake();
    }

    /// Drops the router.
    #[cfg(test)]
    pub fn stop(mut self) {
        self.end();
    }

    /// Tells the router to leave, without waiting until it has.
    pub fn leave(&self, leave: Leave) {
        self.send(ToRouter::Leave(leave));
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.send(ToRouter::Leave(Leave::ForGood));
            let _ = thread.join();
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.end();
    }
}
