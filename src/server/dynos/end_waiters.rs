//! Which requests wait for the end of which dyno, and until when. Knows no dyno: the service asks.

use std::time::{Duration, Instant};

use crate::server::api_loop::application::{Recipient, Ticket};
use crate::wire::reactor::{Event, Reactor, Token};

/// The longest that a request waits; its client may ask again. So a client that has left without a word, or a dyno that
/// never tells its end, holds nothing for ever.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A request that waits for the end of a dyno.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndWaiter {
    /// Whom to answer.
    pub to: Recipient,
    /// The dyno's id.
    pub dyno: String,
    /// When it is answered even so.
    pub until: Instant,
}

/// See the [module](self). There are no more of them than the API has connections.
#[derive(Debug)]
pub struct EndWaiters {
    /// Its deadline is that of the request that has waited longest.
    token: Token,
    waiters: Vec<EndWaiter>,
}

impl EndWaiters {
    /// No request waits yet. `token` is theirs from now on.
    pub fn new(token: Token) -> Self {
        Self {
            token,
            waiters: Vec::new(),
        }
    }

    /// Whether `event` means that one may have waited long enough.
    pub fn came(&self, event: Event) -> bool {
        event == Event::Deadline(self.token)
    }

    /// Sets the deadline to that of the next one.
    pub fn set_deadline(&self, reactor: &mut Reactor) {
        reactor.set_or_cancel_deadline(self.token, self.deadline());
    }

    /// Adds a request.
    pub fn add(&mut self, waiter: EndWaiter) {
        self.waiters.push(waiter);
    }

    /// Forgets a request whose client has gone.
    pub fn forget(&mut self, ticket: Ticket) {
        self.waiters.retain(|waiter| waiter.to.ticket != ticket);
    }

    /// Takes those that are to be answered: their dyno is among `ended`, or their time is up.
    pub fn take(&mut self, ended: &[String], now: Instant) -> Vec<EndWaiter> {
        self.waiters
            .extract_if(.., |waiter| {
                waiter.until <= now || ended.contains(&waiter.dyno)
            })
            .collect()
    }

    /// Takes those that came with one of these tokens.
    pub fn take_of_tokens(&mut self, tokens: &[String]) -> Vec<EndWaiter> {
        self.waiters
            .extract_if(.., |waiter| waiter.to.came_with(tokens))
            .collect()
    }

    /// Takes all.
    pub fn take_all(&mut self) -> Vec<EndWaiter> {
        std::mem::take(&mut self.waiters)
    }

    /// When the next one's time is up.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiters.iter().map(|waiter| waiter.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiter_is_taken_once_at_the_end_or_in_time_or_never() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let waiter = |serial, dyno: &str, seconds| EndWaiter {
            to: Recipient {
                ticket: Ticket {
                    connection: Token(1),
                    serial,
                },
                token: None,
            },
            dyno: dyno.to_owned(),
            until: at(seconds),
        };
        let mut waiters = EndWaiters::new(Token(7));
        assert_eq!(waiters.deadline(), None);
        for waiter in [
            waiter(1, "a", 60),
            waiter(2, "b", 10),
            waiter(3, "a", 20),
            waiter(4, "c", 60),
        ] {
            waiters.add(waiter);
        }
        assert_eq!(waiters.deadline(), Some(at(10)));
        assert_eq!(waiters.take(&[], at(9)), []);
        assert_eq!(waiters.take(&[], at(10)), [waiter(2, "b", 10)]);
        let ended = ["a".to_owned(), "x".to_owned()];
        let both = [waiter(1, "a", 60), waiter(3, "a", 20)];
        assert_eq!(waiters.take(&ended, at(11)), both);
        waiters.add(waiter(5, "c", 70));
        waiters.forget(waiter(4, "c", 60).to.ticket);
        assert_eq!(waiters.take_all(), [waiter(5, "c", 70)]);
        assert_eq!(waiters.deadline(), None);
    }
}
