//! How long a command goes on when there is no server. A server may stop, be killed or be replaced at any moment, and
//! its successor has all of its state.
//!
//! These times stand here side by side, each with its reason; how long one connection may take to be made stands with it.

use std::thread;
use std::time::{Duration, Instant};

/// How long and how often something is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The pause after the first try; doubled after each.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// The time from the first failure until a failure is final.
    pub in_all: Duration,
}

/// For a request that the server cannot have taken, as the server was just leaving: ten tries. The next server listens at
/// the socket within milliseconds.
pub const UNTAKEN: Patience = milliseconds(1, 256, 500);

/// For finding a server, or starting one, up to its first response. The time is for a start from a slow disk; the pauses are
/// short, since a person waits for the command.
pub const START: Patience = milliseconds(1, 50, 10_000);

/// For a server that was asked to leave. It gives five seconds to requests in progress.
pub const LEAVING: Patience = milliseconds(20, 20, 15_000);

/// For following a build. A person watches, and sees soon that there is no server: the build has ended with it.
pub const PUSH: Patience = milliseconds(50, 50, 10_000);

/// For following a launch, like [`PUSH`]. The pauses are shorter, as a launch takes a moment only.
pub const LAUNCH: Patience = milliseconds(10, 10, 10_000);

/// For holding the app of `dyno start`: as long as the start of a server may take on a busy host. A server that has started
/// destroys the app if no client holds it within five seconds, so the pauses are short.
pub const HOLD: Patience = milliseconds(10, 500, 30_000);

/// For ending the app of `dyno start`: as long as it may be held.
pub const END: Patience = milliseconds(50, 50, 30_000);

/// For the end of a dyno, which may be hours away: a script that waits for it is not to fail because a server is replaced
/// slowly. The pauses grow, since each try may start a server.
pub const DYNO_END: Patience = milliseconds(20, 2_000, 60_000);

/// For following a log, for the reasons of [`DYNO_END`].
pub const LOG: Patience = milliseconds(10, 2_000, 60_000);

/// How long a command that needs no response at once leaves the start of the next server to others: to a service manager, or
/// to the command that replaces the server. Shorter than the time in which the app of `dyno start` is to be held again.
pub const COMES_BACK: Duration = Duration::from_secs(2);

const fn milliseconds(first: u64, longest: u64, in_all: u64) -> Patience {
    Patience {
        first: Duration::from_millis(first),
        longest: Duration::from_millis(longest),
        in_all: Duration::from_millis(in_all),
    }
}

impl Patience {
    /// The pauses, until their sum is the whole time.
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

    /// Waits for the longest pause, where a server is there and has nothing for this command yet.
    pub fn rest(self) {
        thread::sleep(self.longest);
    }

    /// Begins to try; the time runs from the first failure.
    pub fn tries(self) -> Tries {
        Tries {
            patience: self,
            since: None,
            pause: self.first,
        }
    }

    /// This patience with a longer whole time.
    pub fn and(self, more: Duration) -> Self {
        Self {
            in_all: self.in_all + more,
            ..self
        }
    }
}

/// The tries of one request.
#[derive(Debug)]
pub struct Tries {
    patience: Patience,
    /// The time of the first failure.
    since: Option<Instant>,
    pause: Duration,
}

impl Tries {
    /// After a failed try: waits until the next one is due. False if the time is over.
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

    /// After a try that has succeeded: the time begins anew with the next failure.
    pub fn succeeded(&mut self) {
        *self = self.patience.tries();
    }

    /// The time since the first failure; zero if there was none.
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
