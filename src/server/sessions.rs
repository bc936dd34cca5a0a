//! The short-lived apps of `dyno start`: which client holds each, and how far it is from its end.
//!
//! An app lives as long as the connection on which it was asked for. When that breaks, its dynos end and it is destroyed.
//! A server that finds such an app from before waits a few seconds for its client to come back. What is in
//! here is decided without I/O; the [service](crate::server::service) performs it.

pub mod start_extras;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::server::api_loop::application::{More, Ticket};
use crate::store;
use crate::wire::reactor::{Event, Reactor, Token};

/// How long the app of an earlier server waits to be claimed.
const CLAIM_TIME: Duration = Duration::from_secs(5);

/// What is known of one.
#[derive(Debug)]
struct Held {
    /// The session's own id.
    id: String,
    /// The request that holds it. None: no client has claimed it yet, or the one that held it has gone.
    ticket: Option<Ticket>,
    /// What the holder is still to be told.
    greeting: Vec<u8>,
    /// Until when it may be claimed.
    claim_by: Option<Instant>,
    phase: Phase,
    /// What ends is not started again.
    once: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// As it should be.
    Runs,
    /// No dyno starts any more, and it is destroyed as soon as none is alive.
    Ends,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Sessions {
    /// Its deadline is the end of the time in which the app of an earlier server may be claimed.
    token: Token,
    /// By the ids of their apps.
    held: HashMap<String, Held>,
}

/// Whether a folder can be started in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A client holds it.
    Held,
    /// It will be gone in a moment.
    Ending,
}

impl Sessions {
    /// Those that an earlier server had. `token` is theirs from now on.
    pub fn left(sessions: &[store::StartedApp], now: Instant, token: Token) -> Self {
        let held = sessions.iter().map(|session| {
            let held = Held {
                id: session.id.clone(),
                ticket: None,
                greeting: Vec::new(),
                claim_by: Some(now + CLAIM_TIME),
                phase: Phase::Runs,
                once: false,
            };
            (session.app_id.clone(), held)
        });
        Self {
            token,
            held: held.collect(),
        }
    }

    /// Whether `event` means that there may be [unclaimed](Self::unclaimed) ones.
    pub fn came(&self, event: Event) -> bool {
        event == Event::Deadline(self.token)
    }

    /// Sets the deadline to the end of the next one's time.
    pub fn set_deadline(&self, reactor: &mut Reactor) {
        reactor.set_or_cancel_deadline(self.token, self.claim_by());
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether an app is one of these.
    pub fn has(&self, app_id: &str) -> bool {
        self.held.contains_key(app_id)
    }

    /// How things are with the one of this app.
    pub fn standing(&self, app_id: &str) -> Option<Standing> {
        let held = self.held.get(app_id)?;
        Some(match held.ticket.is_some() && held.phase == Phase::Runs {
            true => Standing::Held,
            false => Standing::Ending,
        })
    }

    /// Whether dynos of an app may start: of any that is none of these, and of one that is held and does not end.
    pub fn may_start(&self, app_id: &str) -> bool {
        self.standing(app_id)
            .is_none_or(|standing| standing == Standing::Held)
    }

    /// The app of the session of this id.
    pub fn app_of(&self, id: &str) -> Option<&str> {
        self.held
            .iter()
            .find(|(_, held)| held.id == id)
            .map(|(app_id, _)| app_id.as_str())
    }

    /// Whether a dyno of this app that has ended is not started again.
    pub fn is_once(&self, app_id: &str) -> bool {
        self.held.get(app_id).is_some_and(|held| held.once)
    }

    /// Has what ends in this app not be started again.
    pub fn only_once(&mut self, app_id: &str) {
        if let Some(held) = self.held.get_mut(app_id) {
            held.once = true;
        }
    }

    /// The request `ticket` holds a session from now on, instead of another one before. It is answered with `greeting`.
    pub fn hold(&mut self, app_id: &str, id: &str, ticket: Ticket, greeting: Vec<u8>) {
        let phase = self.held.get(app_id).map_or(Phase::Runs, |held| held.phase);
        let held = Held {
            id: id.to_owned(),
            ticket: Some(ticket),
            greeting,
            claim_by: None,
            phase,
            once: false,
        };
        self.held.insert(app_id.to_owned(), held);
    }

    /// How the response goes on, if it is one of these.
    pub fn more(&mut self, ticket: Ticket) -> Option<More> {
        let mut held = self.held.values_mut();
        let held = held.find(|held| held.ticket == Some(ticket))?;
        Some(match held.greeting.is_empty() {
            true => More::Later,
            false => More::Bytes(std::mem::take(&mut held.greeting)),
        })
    }

    /// The connection has broken: the app whose end it is.
    pub fn broken(&mut self, ticket: Ticket) -> Option<String> {
        let mut held = self.held.iter_mut();
        let (app_id, held) = held.find(|(_, held)| held.ticket == Some(ticket))?;
        held.ticket = None;
        Some(app_id.clone())
    }

    /// The app is to be destroyed. True if it was before.
    pub fn end(&mut self, app_id: &str) -> bool {
        let Some(held) = self.held.get_mut(app_id) else {
            return true;
        };
        held.claim_by = None;
        std::mem::replace(&mut held.phase, Phase::Ends) == Phase::Ends
    }

    /// The apps that are to be destroyed.
    pub fn ending(&self) -> Vec<String> {
        let ending = self.held.iter().filter(|(_, it)| it.phase == Phase::Ends);
        ending.map(|(app_id, _)| app_id.clone()).collect()
    }

    /// The apps that no client has claimed in time.
    pub fn unclaimed(&self, now: Instant) -> Vec<String> {
        let late = |held: &Held| held.claim_by.is_some_and(|by| by <= now);
        let late = self.held.iter().filter(|(_, held)| late(held));
        late.map(|(app_id, _)| app_id.clone()).collect()
    }

    /// Until when the next one may be claimed.
    pub fn claim_by(&self) -> Option<Instant> {
        self.held.values().filter_map(|held| held.claim_by).min()
    }

    /// Forgets an app that was destroyed. The response to the request that is returned is to end.
    pub fn forget(&mut self, app_id: &str) -> Option<Ticket> {
        self.held.remove(app_id)?.ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(serial: u64) -> Ticket {
        Ticket {
            connection: Token(1),
            serial,
        }
    }

    #[test]
    fn an_app_hangs_on_the_connection_that_holds_it() {
        let mut sessions = Sessions::left(&[], Instant::now(), Token(7));
        sessions.hold("app", "id", ticket(1), b"hello".to_vec());
        assert!(sessions.may_start("app") && sessions.may_start("other"));
        assert_eq!(
            sessions.more(ticket(1)),
            Some(More::Bytes(b"hello".to_vec()))
        );
        assert_eq!(sessions.more(ticket(1)), Some(More::Later));
        assert_eq!(sessions.more(ticket(2)), None);
        // A client that comes back takes it over; what becomes of the old connection does not matter any more.
        sessions.hold("app", "id", ticket(2), Vec::new());
        assert_eq!(sessions.broken(ticket(1)), None);
        assert_eq!(sessions.broken(ticket(2)).as_deref(), Some("app"));
        assert_eq!(sessions.standing("app"), Some(Standing::Ending));
        assert!(!sessions.may_start("app"));
        assert!(!sessions.end("app") && sessions.end("app"));
        assert_eq!(sessions.ending(), ["app"]);
        sessions.forget("app");
        assert!(sessions.is_empty());
    }

    #[test]
    fn one_that_ends_starts_nothing_though_it_is_taken_over() {
        let mut sessions = Sessions::left(&[], Instant::now(), Token(7));
        sessions.hold("app", "id", ticket(1), Vec::new());
        sessions.end("app");
        assert_eq!(sessions.app_of("id"), Some("app"));
        sessions.hold("app", "id", ticket(2), Vec::new());
        assert_eq!(sessions.standing("app"), Some(Standing::Ending));
        assert!(!sessions.may_start("app"));
        assert_eq!(sessions.forget("app"), Some(ticket(2)));
    }

    #[test]
    fn what_an_earlier_server_left_is_claimed_in_time_or_ends() {
        let start = Instant::now();
        let left = ["a", "b"].map(|app| store::StartedApp {
            id: format!("id-{app}"),
            app_id: app.to_owned(),
            path: format!("/{app}"),
            live: true,
        });
        let mut sessions = Sessions::left(&left, start, Token(7));
        assert!(!sessions.may_start("a") && sessions.has("b"));
        assert_eq!(sessions.app_of("id-a"), Some("a"));
        sessions.hold("a", "id-a", ticket(1), Vec::new());
        assert!(sessions.may_start("a"));
        assert_eq!(sessions.claim_by(), Some(start + CLAIM_TIME));
        assert!(sessions.unclaimed(start).is_empty());
        assert_eq!(sessions.unclaimed(start + CLAIM_TIME), ["b"]);
        sessions.end("b");
        assert_eq!(sessions.claim_by(), None);
    }
}
