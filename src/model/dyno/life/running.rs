//! A command that runs: its client, the signals that it gets, its retirement and the end of its lifetime.

use std::time::Duration;

use super::events::{Action, DynoSignal, Moment, Timer};
use super::rules::StopReason;
use super::{Life, Phase, Running, kill_at_once, state_change};
use crate::model::dyno::{DynoState, EndReason};
use crate::model::log_line::Story;

impl Life {
    /// Sets the idle deadline of the connection.
    pub(super) fn await_activity(&self, now: Moment) -> Vec<Action> {
        if !self.client || self.rules.idle_timeout.is_zero() {
            return Vec::new();
        }
        let until = now + self.rules.idle_timeout;
        vec![Action::SetDeadline(Timer::Idle, Some(until))]
    }

    pub(super) fn hang_up(&mut self, sent: u32, now: Moment) -> Vec<Action> {
        self.phase = Phase::Up(Running::HungUp { sent });
        let mut actions = Vec::new();
        if !self.reads_output {
            self.reads_output = true;
            actions.push(Action::TakeOutput);
        }
        actions.extend([
            Action::Log(Story::ClientGone),
            Action::SignalAll(DynoSignal::Hup),
            Action::SetDeadline(Timer::Idle, None),
            Action::SetDeadline(Timer::Phase, Some(now + self.rules.hangup_interval)),
        ]);
        actions
    }

    pub(super) fn leave_alone(&mut self) -> Vec<Action> {
        self.phase = Phase::Up(Running::LeftAlone);
        vec![Action::Log(Story::Detached)]
    }

    pub(super) fn measured(&mut self, used: u64) -> Vec<Action> {
        if used > self.rules.memory.limit {
            return self.out_of_memory(used);
        }
        if used <= self.rules.memory.quota {
            return Vec::new();
        }
        vec![self.memory_use(used), Action::Log(Story::MemoryExceeded)]
    }

    pub(super) fn out_of_memory(&mut self, used: u64) -> Vec<Action> {
        self.phase = Phase::Up(Running::Killed);
        // That it was being retired is known better than why it ended before its time.
        self.ended_by.get_or_insert(EndReason::OutOfMemory);
        vec![
            self.memory_use(used),
            Action::Log(Story::MemoryVastlyExceeded),
            Action::Log(Story::KillingProcess),
            Action::KillAll,
        ]
    }

    pub(super) fn out_of_disk(&mut self, written: u64, limit: u64) -> Vec<Action> {
        self.phase = Phase::Up(Running::Killed);
        self.ended_by.get_or_insert(EndReason::OutOfDisk);
        let text = format!(
            "The dyno had {} MB of files on disk, and its size allows {} MB",
            written >> 20,
            limit >> 20
        );
        self.explanation = Some(text.clone());
        vec![
            Action::Log(Story::Other(text)),
            Action::Log(Story::KillingProcess),
            Action::KillAll,
        ]
    }

    fn memory_use(&self, used: u64) -> Action {
        let quota = self.rules.memory.quota.max(1);
        let permille = u128::from(used) * 1000 / u128::from(quota);
        Action::Log(Story::MemoryUse {
            mib: used >> 20,
            permille: u64::try_from(permille).unwrap_or(u64::MAX),
        })
    }

    /// Begins to stop the dyno: first, it gets no new requests.
    pub(super) fn retire(
        &mut self,
        grace: Duration,
        why: StopReason,
        drain: Duration,
        now: Moment,
    ) -> Vec<Action> {
        self.ended_by = Some(why.end());
        let mut actions = self.tell_retirement(why);
        if self.booted && !drain.is_zero() {
            self.phase = Phase::Up(Running::Draining { grace });
            actions.push(Action::SetDeadline(Timer::Phase, Some(now + drain)));
        } else {
            actions.extend(self.stop(grace, now));
        }
        actions
    }

    /// The log lines of a retired dyno of the formation, as on Heroku: its state changes before it has ended.
    pub(super) fn tell_retirement(&mut self, why: StopReason) -> Vec<Action> {
        if self.rules.formation.is_none() {
            return Vec::new();
        }
        self.last_state_logged = true;
        let now = match self.booted {
            true => DynoState::Up,
            false => DynoState::Starting,
        };
        let (story, next) = match why {
            // A stopped dyno is not replaced: the server or the app ends, too.
            StopReason::ScaledDown | StopReason::Stopped => (None, DynoState::Down),
            StopReason::Cycled => (Some(Story::Cycling), DynoState::Starting),
            StopReason::Restarted => (Some(Story::Restarting), DynoState::Starting),
        };
        let mut actions: Vec<_> = story.map(Action::Log).into_iter().collect();
        actions.extend((now != next).then(|| state_change(now, next)));
        actions.push(Action::Report(DynoState::Down));
        actions
    }

    pub(super) fn stop(&mut self, grace: Duration, now: Moment) -> Vec<Action> {
        if grace.is_zero() {
            self.phase = Phase::Up(Running::Killed);
            return kill_at_once();
        }
        self.phase = Phase::Up(Running::Stopping { grace });
        vec![
            Action::Log(Story::Terminating),
            Action::SignalAll(DynoSignal::Term),
            Action::SetDeadline(Timer::Idle, None),
            Action::SetDeadline(Timer::Phase, Some(now + grace)),
        ]
    }

    /// Stops a dyno that has reached its lifetime. As on Heroku, the log has this and the dyno's last state before the signals.
    pub(super) fn cycle(&mut self, now: Moment) -> Vec<Action> {
        let reason = self.lived_enough();
        self.ended_by = Some(reason);
        let mut actions = Vec::new();
        if self.rules.formation.is_some() {
            actions.extend(self.tell_retirement(StopReason::Cycled));
        } else if reason == EndReason::Cycled {
            self.last_state_logged = true;
            actions.extend([
                Action::Log(Story::Cycling),
                state_change(DynoState::Up, DynoState::Complete),
            ]);
        } else {
            actions.push(Action::Log(Story::TimeToLiveOver));
        }
        actions.extend(self.stop(self.rules.stop_grace, now));
        actions
    }

    /// Which of the two limits on its life has passed.
    pub(super) fn lived_enough(&self) -> EndReason {
        match self.rules.time_to_live {
            Some(time) if time < self.rules.lifetime => EndReason::TimeToLive,
            _ => EndReason::Cycled,
        }
    }
}
