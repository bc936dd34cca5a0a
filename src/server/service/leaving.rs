//! When this server leaves: on a signal, once its last dyno has ended, or when it has had nothing to do for some time.

use std::io;
use std::time::{Duration, Instant};

use crate::server::process::signals::StopSignals;
use crate::wire::reactor::{Event, Reactor, Token};

/// Enough for the command that has started the server to connect to it.
const SHORTEST_STAY: Duration = Duration::from_millis(100);

/// See the [module](self).
pub(super) struct Leaving {
    signals: StopSignals,
    /// Whether the server starts no dyno any more, and leaves when the last one has ended.
    pub after_dynos: bool,
    /// Its deadline is the end of a server that has nothing to do.
    idle_token: Token,
    idle_since: Option<Instant>,
}

impl Leaving {
    /// Catches the signals from now on.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn catch(reactor: &mut Reactor) -> io::Result<Self> {
        Ok(Self {
            signals: StopSignals::catch(reactor)?,
            after_dynos: false,
            idle_token: reactor.token(),
            idle_since: None,
        })
    }

    /// Whether `event` is a signal to stop.
    pub fn is_signal(&mut self, event: Event) -> bool {
        self.signals.came(event)
    }

    /// Whether `event` means that the server has had nothing to do for long enough. A client may have come in this very turn.
    pub fn is_over(&mut self, event: Event) -> bool {
        let is_over = event == Event::Deadline(self.idle_token);
        if is_over {
            self.idle_since = None;
        }
        is_over
    }

    /// Notes whether the server has anything to do; without, it leaves after `linger`.
    pub fn note(&mut self, is_idle: bool, linger: Duration, reactor: &mut Reactor) {
        match (is_idle, self.idle_since) {
            (true, None) => {
                let now = Instant::now();
                self.idle_since = Some(now);
                let linger = linger.max(SHORTEST_STAY);
                reactor.set_deadline(self.idle_token, now + linger);
            }
            (false, Some(_)) => {
                self.idle_since = None;
                reactor.cancel_deadline(self.idle_token);
            }
            _ => {}
        }
    }
}
