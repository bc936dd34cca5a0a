//! How long a command goes on when there is no server: a server may stop, be killed or be replaced at any moment, and
//! the next one knows what this one knew.
//!
//! All such times stand here side by side, each with its reason.

use std::thread;
use std::time::{Duration, Instant};

/// How long something is tried, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The pause after the first try; doubled after each.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// From the first failure on: what fails after that time has failed.
    pub in_all: Duration,
}

/// A request that the server cannot have taken, since the server was just leaving: ten tries. The next server listens at
/// the same socket within milliseconds.
pub const UNTAKEN: Patience = milliseconds(1, 256, 500);

/// Finding a server and starting one if none runs, up to the first answer. The longest part is the start itself, on a
/// slow disk; the pauses are short, since a person waits for the command.
pub const START: Patience = milliseconds(1, 50, 10_000);

/// A server that was asked to leave. It gives five seconds to requests that it is answering.
pub const LEAVING: Patience = milliseconds(20, 20, 15_000);

/// Following a build whose push waits in git. A person watches, and the build goes on without the push; so this ends
/// soon, and the person sees why.
pub const PUSH: Patience = milliseconds(50, 50, 10_000);

/// Following a launch, like [`PUSH`]. The pauses are shorter, as what is waited for takes a moment only.
pub const LAUNCH: Patience = milliseconds(10, 10, 10_000);

/// Holding the app of `dyno start`: as long as a server may take to start on a host that has much to do. A server that has
/// started gives an app up that nobody holds within five seconds, so the pauses are short.
pub const HOLD: Patience = milliseconds(10, 500, 30_000);

/// Ending the app of `dyno start`. As long as the app may be held.
pub const END: Patience = milliseconds(50, 50, 30_000);

/// The end of a dyno, which may be hours away: whoever waits for it sits in a script, and should not fail because a
/// server is replaced slowly. The pauses grow, since starting a server again and again costs the host more than waiting.
pub const DYNO_END: Patience = milliseconds(20, 2_000, 60_000);

/// A log that is followed, for the same reasons as [`DYNO_END`].
pub const LOG: Patience = milliseconds(10, 2_000, 60_000);

/// How long whoever can do without a server for a moment leaves the start of the next one to others: a service manager, or
/// a command that replaces it. Less than a server takes to give up an app of `dyno start`.
pub const COMES_BACK: Duration = Duration::from_secs(2);

const fn milliseconds(first: u64, longest: u64, in_all: u64) -> Patience {
    Patience {
        first: Duration::from_millis(first),
        longest: Duration::from_millis(longest),
        in_all: Duration::from_millis(in_all),
    }
}

impl Patience {
    /// The pauses as such, until together they are as long as all may take.
    pub fn pauses(self) -> impl Iterator<Item = Duration> {
        let next = move |(pause, waited): &mut (Duration, Duration)| {
            let now = *pause;
            if *waited >= self.in_all {
                return None;
            }
            *waited += now;
            *pause = (now * 2).min(self.longest);
            Some(now)
        };
        let mut state = (self.first, Duration::ZERO);
        std::iter::from_fn(move || next(&mut state))
    }

    /// Begins to count with the first failure.
    pub fn tries(self) -> Tries {
        Tries {
            patience: self,
            since: None,
            pause: self.first,
        }
    }

    /// As much patience, and so much more.
    pub fn and(self, more: Duration) -> Self {
        Self {
            in_all: self.in_all + more,
            ..self
        }
    }
}

/// Tries of one thing.
#[derive(Debug)]
pub struct Tries {
    patience: Patience,
    /// The first failure.
    since: Option<Instant>,
    pause: Duration,
}

impl Tries {
    /// After a try that failed: waits until the next one is due. False if there is to be none.
    #[must_use]
    pub fn again(&mut self) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() > self.patience.in_all {
            return false;
        }
        thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(self.patience.longest);
        true
    }

    /// After a try that has brought something: the next failure is the first one.
    pub fn succeeded(&mut self) {
        *self = self.patience.tries();
    }

    /// How long ago the first failure was; zero if there was none.
    pub fn waited(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_sent_ten_times() {
        let pauses: Vec<_> = UNTAKEN.pauses().map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256]);
    }

    #[test]
    fn time_begins_with_the_first_failure_and_begins_anew_with_what_succeeds() {
        let mut tries = milliseconds(0, 0, 0).tries();
        assert_eq!(tries.waited(), Duration::ZERO);
        while tries.again() {}
        assert!(tries.waited() > Duration::ZERO);
        tries.succeeded();
        assert_eq!(tries.waited(), Duration::ZERO);
    }
}
