//! When a session is looked at though nothing happens, and what has taken too long then.

use std::time::{Duration, Instant};

use super::{LINGER, Phase, Session, Turn};
use crate::bridge::protocol::Outcome;
use crate::error::EXIT_DYNO_FAILED;
use crate::kernel::sys::socket::unacknowledged;
use crate::wire::frame::Refusal;

/// How long output may take to end when the command has: somebody outside of its dyno may keep it open.
const LAST_OUTPUT: Duration = Duration::from_secs(10);

/// The same when the supervisor died: its sandbox dies with it.
const LOST_OUTPUT: Duration = Duration::from_secs(1);

impl Session {
    /// When it is to be driven, whether something happens or not.
    pub fn deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Starting { by } => Some(by),
            Phase::Up if self.outcome.is_some() => Some(self.moved + self.last_output()),
            Phase::Up => None,
            Phase::Parting if self.has_room() => self.protocol.settles_at(),
            Phase::Parting => Some(self.moved + self.idle_timeout),
            Phase::Lingering { until } => Some(until),
            Phase::Over => None,
        };
        let pause = self.protocol.deadline().filter(|_| self.phase == Phase::Up);
        [phase, pause, self.report_at()].into_iter().flatten().min()
    }

    /// What has taken too long.
    pub(super) fn look_at_time(&mut self, turn: &mut Turn<'_>) -> bool {
        match self.phase {
            Phase::Starting { .. } if self.outcome.is_some() => self.part(turn),
            Phase::Starting { by } if turn.now >= by => {
                let refusal = Refusal {
                    exit_code: Some(EXIT_DYNO_FAILED),
                    ..Refusal::new("Timeout awaiting process")
                };
                self.outcome = Some(Outcome::Error(refusal));
                self.part(turn);
            }
            Phase::Up if self.outcome.is_some() && self.has_room() => {
                if turn.now < self.moved + self.last_output() {
                    return false;
                }
                self.part(turn);
            }
            Phase::Parting
                if self.has_room()
                    && self.protocol.settles_at().is_none_or(|at| at <= turn.now) =>
            {
                // What cannot be said because the client is gone is found out by reading.
                let _ = self.linger(turn.now);
            }
            _ => return false,
        }
        true
    }

    /// How long after the last byte of a command that has ended no other is waited for.
    fn last_output(&self) -> Duration {
        match &self.outcome {
            _ if !self.has_room() || self.protocol.is_held_up() => self.idle_timeout,
            Some(Outcome::Exit(_)) => LAST_OUTPUT,
            _ => LOST_OUTPUT,
        }
    }

    /// Whether some of what was said is still on its way to the client, who may take his time: closed now, the kernel would
    /// soon give it up. Then it is waited for once more.
    fn is_still_taking(&mut self, now: Instant) -> bool {
        let Phase::Lingering { until } = self.phase else {
            return false;
        };
        let unsent = unacknowledged(self.client.socket()).is_ok_and(|bytes| bytes > 0);
        let taking = unsent && until <= now && now < self.moved + self.idle_timeout;
        if taking {
            self.phase = Phase::Lingering {
                until: now + LINGER,
            };
        }
        taking
    }

    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        match self.phase {
            Phase::Over => true,
            Phase::Lingering { until } => now >= until && !self.is_still_taking(now),
            Phase::Parting => now >= self.moved + self.idle_timeout,
            Phase::Up if self.outcome.is_some() && !self.has_room() => {
                now >= self.moved + self.idle_timeout
            }
            _ => false,
        }
    }

    /// When the supervisor is to be told that bytes went through.
    fn report_at(&self) -> Option<Instant> {
        let interval = self.report_interval?;
        let is_news = self.told.is_none_or(|told| told < self.moved);
        (is_news && self.outcome.is_none() && self.dyno.is_some())
            .then(|| self.told.map_or(self.moved, |told| told + interval))
    }

    pub(super) fn report(&mut self, now: Instant) {
        if self.report_at().is_some_and(|at| at <= now)
            && let Some(dyno) = &self.dyno
        {
            dyno.tell_active();
            self.told = Some(now);
        }
    }
}
