//! Sessions whose client is elsewhere, or cannot take the command's streams as descriptors: the bridge moves their bytes.
//!
//! A thread with a [`Reactor`](crate::wire::reactor::Reactor) of its own, which knows neither the store nor the server.
//! To a dyno's supervisor it is a client on this host: it has a connection with frames and the command's own streams.
//! To its client it speaks one of two protocols (`bridge/protocol.rs`): Heroku's CLI connects to the rendezvous
//! (`bridge/rendezvous.rs`), dyno's own command line gets the streams in frames (`bridge/framed.rs`). The server tells
//! it which clients to expect, and passes its connections to supervisors.
//!
//! `bridge/visitor.rs` is a connection that has not sent a secret yet (`first_line.rs` what it sends), `secrets.rs` the secrets, `session.rs` one
//! session (`session/timing.rs` its times), `dyno.rs` its dyno's side; `engine.rs` is the loop. `docs/rendezvous.md` is
//! for users.

mod client_requests;
mod dyno;
mod engine;
mod first_line;
mod framed;
mod piece;
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
use crate::panics;
use crate::wire::control::ToSupervisor;
use crate::wire::reactor::{Reactor, Waker};
use crate::wire::stream::Stream;

/// The bridge's times and limits.
#[derive(Debug, Clone)]
pub struct BridgeSettings {
    /// The most sessions at a time.
    pub sessions: usize,
    /// The most visitors at a time; beyond that, the oldest are dropped.
    pub visitors: usize,
    /// How long a visitor's TLS handshake may take.
    pub handshake_time: Duration,
    /// How long a visitor may take after that to send the secret, which a person may type.
    pub secret_time: Duration,
    /// How long the start of the command may take once its client has come.
    pub start_time: Duration,
}

impl Default for BridgeSettings {
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

/// An address to which Heroku's CLI connects.
#[derive(Debug)]
pub struct RendezvousAddress {
    /// The listening socket.
    pub listener: TcpListener,
    /// The TLS configuration for its clients.
    pub tls: Arc<ServerConfig>,
}

/// The dyno of a session, and what to ask its supervisor.
#[derive(Debug, Clone)]
pub struct SessionRequest {
    /// The dyno's id.
    pub dyno: String,
    /// The request to its supervisor: to attach the client to the dyno's command, or to run another command inside.
    pub ask: ToSupervisor,
    /// Whether the client wants the command's exit status.
    pub wants_status: bool,
    /// The id of the token with which it was asked for; the session ends with it.
    pub token: Option<String>,
}

/// A message of the server to the bridge.
#[derive(Debug)]
pub enum ToBridge {
    /// Accept clients at this address, too.
    Open(RendezvousAddress),
    /// Accept one client with this secret.
    Expect {
        /// The secret, from [`secrets::fresh`].
        secret: String,
        /// When the secret expires.
        until: Instant,
        /// What the client gets.
        request: SessionRequest,
    },
    /// Serve a client that has asked for a dyno's streams over the API.
    Adopt {
        /// Its connection, which no reactor watches.
        client: Stream,
        /// The bytes that it has already sent.
        early: Vec<u8>,
        /// What the client gets.
        request: SessionRequest,
    },
    /// End the sessions that were asked for with the tokens of these ids, and expect no more of their clients.
    EndOfTokens(Vec<String>),
    /// End all sessions and the bridge.
    Leave,
}

/// A message of the bridge to the server.
#[derive(Debug)]
pub enum FromBridge {
    /// A session has begun: its connection is to be passed to the dyno's supervisor.
    Arrived {
        /// The dyno, and what to ask its supervisor.
        request: SessionRequest,
        /// The supervisor's end of the connection.
        connection: OwnedFd,
    },
    /// A session has ended.
    Left,
    /// The bridge has failed and ended. The server is to start another.
    Ended,
}

/// A running bridge. Dropping it ends its sessions, and waits until their clients have been told so.
#[derive(Debug)]
pub struct Bridge {
    sender: Sender<ToBridge>,
    waker: Waker,
    /// The present number of sessions.
    sessions: Arc<AtomicUsize>,
    most: usize,
    thread: Option<JoinHandle<()>>,
}

impl Bridge {
    /// A bridge without sessions. `tell` is called on its thread, and must not block.
    ///
    /// # Errors
    /// When the kernel gives no descriptors or no thread.
    pub fn start(
        settings: BridgeSettings,
        tell: impl Fn(FromBridge) + Send + Sync + 'static,
    ) -> Result<Self> {
        let reactor = Reactor::new().context("cannot make the bridge's poll loop")?;
        let waker = reactor.waker();
        let (sender, inbox) = crossbeam_channel::unbounded();
        let sessions = Arc::new(AtomicUsize::new(0));
        let most = settings.sessions;
        let tell = Arc::new(tell);
        let tell_end = Arc::clone(&tell);
        let start = engine::BridgeParts {
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
                // After a panic, which has been printed, its state is not used any more.
                match panics::caught(|| engine.run()) {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => tell!("the bridge has ended: {error}"),
                    Err(_) => {}
                }
                // The next bridge needs its address.
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

    /// The present number of sessions.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Whether one more session is allowed.
    pub fn has_room(&self) -> bool {
        self.sessions() < self.most
    }

    /// Sends the bridge a message; messages are handled in order.
    pub fn send(&self, message: ToBridge) {
        // A bridge that has ended needs no messages.
        let _ = self.sender.send(message);
        self.waker.wake();
    }

    /// Tells the bridge to leave, without waiting until it has.
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
