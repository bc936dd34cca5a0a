//! The HTTP router: gives requests for `APP.localhost` to a random web dyno of that app that is up, and to nothing
//! else.
//!
//! It has a thread and a [`Reactor`](crate::wire::reactor::Reactor) of its own, and knows neither the store nor the server.
//! What it knows of apps comes as whole snapshots ([`Route`]); what it has to say goes through a function that the
//! server gives it ([`FromRouter`]). `router/table.rs` decides which dyno gets a request, `exchange.rs` what is awaited
//! and until when, `headers.rs` what is said; `engine.rs` and the files under it move the bytes. `docs/router.md`
//! tells users what to expect.

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
use crate::fault;
use crate::kernel::listener::Listener;
use crate::wire::reactor::{Reactor, Waker};

pub use settings::Settings;

/// What the router knows of one app: always a whole snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The app's name, which is the first label of its host name.
    pub app: String,
    /// The folder of its log.
    pub logs: PathBuf,
    /// How much of the log is kept.
    pub log_limits: crate::model::log_limits::LogLimits,
    /// Whether everybody is told that the app is being worked on (H80).
    pub maintenance: bool,
    /// No slug was released yet (H81).
    pub blank: bool,
    /// Its web dynos, in any order.
    pub backends: Vec<Backend>,
}

/// A web dyno.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its id, which no other dyno ever has.
    pub dyno: String,
    /// Its name, such as `web.1`, which its successor has too.
    pub name: String,
    /// What may be asked of it.
    pub state: BackendState,
}

/// What may be asked of a web dyno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendState {
    /// Nobody listens on its port yet. Requests wait for it.
    Starting,
    /// It gets requests, through this socket and no other.
    Up(Listener),
    /// It gets no new request; those that it has go on. [`FromRouter::Drained`] tells when there are none.
    Draining(Listener),
    /// It ended, and was not started again yet.
    Crashed,
}

/// What the router is told.
#[derive(Debug)]
pub enum ToRouter {
    /// All there is to know of an app, in place of what was known. Requests in flight are not disturbed.
    App {
        /// The app's name.
        app: String,
        /// None: there is no such app.
        route: Option<Route>,
    },
    /// It has been told of every app: clients may come in. Until then they wait to be accepted, for to be told that there
    /// is no such app would be wrong.
    Ready,
    /// To let nobody in any more, and to end when those who are there have their answers, or after a while.
    Leave(Leave),
}

/// What becomes of the socket when the router leaves, and of those who have just come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It is closed: those who have come are served, all others are refused. [`Settings::leave_time`] is what there is.
    ForGood,
    /// The service manager has it: those who come wait for the next router, which starts when this one has ended. The
    /// time is the same.
    ToManager,
    /// Another router has it: this one may take [`Settings::succeeded_time`].
    ToSuccessor,
}

/// What the router tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromRouter {
    /// A draining dyno has no request in flight any more. Connections that speak another protocol by now (WebSockets),
    /// and streams of events, do not count: they end with the dyno.
    Drained {
        /// Its id.
        dyno: String,
    },
    /// The socket behind a dyno's port is not the one that the route names. Its supervisor knows whose it is; until
    /// there is a new snapshot the dyno gets no request.
    Doubted {
        /// Its id.
        dyno: String,
    },
    /// The router has ended, though nobody told it to: by a mistake of its own. Somebody is to start another.
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
    /// Serves the connections that are made to `listener`. `tell` is called on the router's thread, and must be quick.
    ///
    /// # Errors
    /// When the socket is of no use, or the kernel gives no descriptors or no thread.
    pub fn start(
        listener: TcpListener,
        settings: Settings,
        tell: impl Fn(FromRouter) + Send + Sync + 'static,
    ) -> Result<Self> {
        let address = listener
            .local_addr()
            .context("the router's socket has no address")?;
        let reactor = Reactor::new().context("cannot make the router's poll loop")?;
        let waker = reactor.waker();
        let (sender, inbox) = crossbeam_channel::unbounded();
        let tell = Arc::new(tell);
        let tell_end = Arc::clone(&tell);
        let start = engine::Start {
            listener,
            settings,
            tell: Box::new(move |news| tell(news)),
            reactor,
            inbox,
        };
        let seed = engine::prepare(&start)?;
        let thread = std::thread::Builder::new()
            .name("router".into())
            .spawn(move || {
                // Nothing of it is looked at after a panic, which has been told already.
                match fault::caught(|| engine::run(start, seed)) {
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells it something; what was told first counts first.
    pub fn send(&self, message: ToRouter) {
        // A router that has ended needs to know nothing.
        let _ = self.sender.send(message);
        self.waker.wake();
    }

    /// The same by name.
    #[cfg(test)]
    pub fn stop(mut self) {
        self.end();
    }

    /// Has it leave, without waiting for it.
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
