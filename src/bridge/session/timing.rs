//! The deadlines of a session.

use std::time::{Duration, Instant};

use super::{BridgeSession, LINGER, Phase, SessionTurn};
use crate::bridge::protocol::SessionOutcome;
use crate::error::EXIT_DYNO_FAILED;
use crate::kernel::sys::socket::unacknowledged;
use crate::wire::frame::AttachRefusal;
use crate::wire::frame::attachment::LOST_OUTPUT;

/// How long the output may stay open after the end of the command: a process outside of its dyno may hold it.
const LAST_OUTPUT: Duration = Duration::from_secs(10);

impl BridgeSession {
    /// When the session is to be driven even without an event.
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

    /// Handles deadlines that have passed.
    pub(super) fn look_at_time(&mut self, turn: &mut SessionTurn<'_>) -> bool {
        match self.phase {
            Phase::Starting { .. } if self.outcome.is_some() => self.part(turn),
            Phase::Starting { by } if turn.now >= by => {
                let refusal = AttachRefusal {
                    exit_code: Some(EXIT_DYNO_FAILED),
                    ..AttachRefusal::new("Timeout awaiting process")
                };
                self.outcome = Some(SessionOutcome::Error(refusal));
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
                // If the client is gone, reading will show it.
                let _ = self.linger(turn.now);
            }
            _ => return false,
        }
        true
    }

    /// How long to wait for more output after the last byte of a command that has ended.
    fn last_output(&self) -> Duration {
        match &self.outcome {
            _ if !self.has_room() || self.protocol.is_held_up() => self.idle_timeout,
            Some(SessionOutcome::Exit(_)) => LAST_OUTPUT,
            _ => LOST_OUTPUT,
        }
    }

    /// Whether sent bytes are not acknowledged yet by a slow client: after a close, the kernel would soon give them up.
    /// If so, extends the wait once more.
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

    /// When the supervisor is to be told next that bytes went through.
    fn report_at(&self) -> Option<Instant> {
        let dyno = self.dyno.as_ref().filter(|_| self.outcome.is_none())?;
        dyno.report_at(self.moved)
    }

    pub(super) fn report(&mut self, now: Instant) {
        if let Some(dyno) = self.dyno.as_mut().filter(|_| self.outcome.is_none()) {
            dyno.report(self.moved, now);
        }
    }
}
