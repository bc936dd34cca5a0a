//! Sessions whose client is not on this host, or cannot be handed a command's streams: the bridge moves their bytes.
//!
//! A thread with a [`Reactor`](crate::wire::reactor::Reactor) of its own, which knows neither the store nor the server. To a
//! dyno's supervisor it is what a local client is: it has a connection, on which come frames and the command's own
//! streams. To its client it speaks as that wants it (`bridge/protocol.rs`): Heroku's CLI meets its dyno at the rendezvous
//! (`bridge/rendezvous.rs`), our own gets the streams in frames (`bridge/framed.rs`). The server tells it whom to expect, and passes the connections that it makes on to
//! supervisors.
//!
//! `bridge/visitor.rs` is whoever has not said the secret yet, `secrets.rs` what that may be, `session.rs` one session (`session/timing.rs` its times),
//! `dyno.rs` its dyno's side; `engine.rs` is the loop. `docs/rendezvous.md` tells users what to expect.

mod dyno;
mod engine;
mod framed;
mod protocol;
mod rendezvous;
pub mod secrets;
mod session;
mod visitor;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam_channel::Sender;
use rustls::ServerConfig;

use crate::error::tell;
use crate::fault;
use crate::wire::control::ToSupervisor;
use crate::wire::reactor::{Reactor, Waker};
use crate::wire::stream::Stream;

/// Times and limits.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Sessions at once, of all kinds.
    pub sessions: usize,
    /// Visitors at once who have not said a secret; of more, those go who have been there longest.
    pub visitors: usize,
    /// How long a visitor may take for TLS.
    pub handshake_time: Duration,
    /// How long one may take for the secret after that: a person may type it.
    pub secret_time: Duration,
    /// How long a command may take to run once its client is there.
    pub start_time: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sessions: 1000,
            visitors: 256,
            handshake_time: Duration::from_secs(10),
            secret_time: Duration::from_secs(30),
            start_time: Duration::from_secs(30),
        }
    }
}

/// Where Heroku's CLI comes to.
#[derive(Debug)]
pub struct Rendezvous {
    /// The listening socket.
    pub listener: TcpListener,
    /// What is shown to those who come.
    pub tls: Arc<ServerConfig>,
}

/// What is to be done with a session's dyno.
#[derive(Debug, Clone)]
pub struct Seat {
    /// The dyno's id.
    pub dyno: String,
    /// What its supervisor is asked: to attach the client to its command, or to run another one inside.
    pub ask: ToSupervisor,
    /// The client wants to be told the command's exit status.
    pub wants_status: bool,
}

/// What the bridge is told.
#[derive(Debug)]
pub enum ToBridge {
    /// Clients may come to this rendezvous; to one.
    Open(Rendezvous),
    /// Somebody may come with this secret.
    Expect {
        /// From [`secrets::fresh`].
        secret: String,
        /// From then on nobody may.
        until: Instant,
        /// What for.
        seat: Seat,
    },
    /// A client of our own has asked for its dyno's streams over the API.
    Adopt {
        /// Its connection, watched by nobody.
        client: Stream,
        /// What it has sent already.
        early: Vec<u8>,
        /// What it wants.
        seat: Seat,
    },
    /// All sessions end, and so does the bridge.
    Leave,
}

/// What the bridge tells.
#[derive(Debug)]
pub enum FromBridge {
    /// A client has come for this seat: the connection is to be passed on to the dyno's supervisor.
    Arrived {
        /// Which one.
        seat: Seat,
        /// The end of the connection that is the supervisor's.
        connection: OwnedFd,
    },
    /// A session is over.
    Left,
    /// The bridge has ended, though nobody told it to: by a mistake of its own. Somebody is to start another.
    Ended,
}

/// A running bridge. Dropping it ends its sessions, and waits until their clients have been told.
#[derive(Debug)]
pub struct Bridge {
    sender: Sender<ToBridge>,
    waker: Waker,
    /// Sessions at this moment.
    sessions: Arc<AtomicUsize>,
    most: usize,
    thread: Option<JoinHandle<()>>,
}

impl Bridge {
    /// A bridge without sessions. `tell` is called on its thread, and must be quick.
    ///
    /// # Errors
    /// When the kernel gives no descriptors or no thread.
    pub fn start(
        settings: Settings,
        tell: impl Fn(FromBridge) + Send + Sync + 'static,
    ) -> Result<Self> {
        let reactor = Reactor::new().context("cannot make the bridge's poll loop")?;
        let waker = reactor.waker();
        let (sender, inbox) = crossbeam_channel::unbounded();
        let sessions = Arc::new(AtomicUsize::new(0));
        let most = settings.sessions;
        let tell = Arc::new(tell);
        let tell_end = Arc::clone(&tell);
        let start = engine::Start {
            settings,
            tell: Box::new(move |news| tell(news)),
            reactor,
            inbox,
            count: Arc::clone(&sessions),
        };
        let mut engine = engine::Engine::new(start);
        let count = Arc::clone(&sessions);
        let thread = std::thread::Builder::new()
            .name("bridge".into())
            .spawn(move || {
                // Nothing of it is looked at after a panic, which has been told already.
                match fault::caught(|| engine.run()) {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => tell!("the bridge has ended: {error}"),
                    Err(_) => {}
                }
                // Another one is to have its address.
                drop(engine);
                count.store(0, Ordering::Relaxed);
                tell_end(FromBridge::Ended);
            })
            .context("cannot start the bridge's thread")?;
        Ok(Self {
            sender,
            waker,
            sessions,
            most,
            thread: Some(thread),
        })
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Whether there may be one more.
    pub fn has_room(&self) -> bool {
        self.sessions() < self.most
    }

    /// Tells it something; what was told first counts first.
    pub fn send(&self, message: ToBridge) {
        // A bridge that has ended needs to know nothing.
        let _ = self.sender.send(message);
        self.waker.wake();
    }

    /// Has it end its sessions, without waiting for that.
    pub fn leave(&self) {
        self.send(ToBridge::Leave);
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.send(ToBridge::Leave);
            let _ = thread.join();
        }
    }
}
