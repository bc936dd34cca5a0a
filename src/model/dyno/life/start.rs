//! From the sandbox to the command that is up, and what keeps a dyno from that.

use super::events::{Action, Moment, Timer};
use super::rules::{OfFormation, StopReason};
use super::{Life, Phase, Running, start_failed, state_change};
use crate::model::dyno::{DynoState, EndReason, Exit, ExitRecord, Spent};
use crate::model::log_line::Story;

impl Life {
    pub(super) fn sandbox_ready(&mut self, now: Moment) -> Vec<Action> {
        if !self.rules.attached {
            return self.start_command();
        }
        let mut actions = vec![Action::Log(Story::AwaitingClient)];
        if self.client {
            actions.extend(self.start_command());
        } else {
            self.phase = Phase::AwaitingClient;
            let until = now + self.rules.attach_timeout;
            actions.push(Action::SetDeadline(Timer::Phase, Some(until)));
        }
        actions
    }

    pub(super) fn start_command(&mut self) -> Vec<Action> {
        self.phase = Phase::Launching;
        vec![
            Action::SetDeadline(Timer::Phase, None),
            Action::Log(Story::starting(&self.command)),
            Action::StartCommand,
        ]
    }

    pub(super) fn started(&mut self, now: Moment) -> Vec<Action> {
        if let Some(OfFormation {
            boot_timeout: Some(time),
        }) = self.rules.formation
        {
            self.phase = Phase::Booting;
            return vec![
                Action::TakeOutput,
                Action::AwaitPort,
                Action::SetDeadline(Timer::Phase, Some(now + time)),
            ];
        }
        self.phase = Phase::Up(Running::Attended);
        let mut actions = vec![
            state_change(DynoState::Starting, DynoState::Up),
            Action::Report(DynoState::Up),
        ];
        if self.rules.attached && self.client {
            actions.push(Action::HandOver);
            actions.extend(self.await_activity(now));
        } else if self.rules.attached {
            actions.extend(self.hang_up(1, now));
        } else {
            actions.push(Action::TakeOutput);
        }
        actions
    }

    pub(super) fn listens(&mut self) -> Vec<Action> {
        self.phase = Phase::Up(Running::Attended);
        self.booted = true;
        vec![
            Action::SetDeadline(Timer::Phase, None),
            state_change(DynoState::Starting, DynoState::Up),
            Action::Report(DynoState::Up),
        ]
    }

    pub(super) fn boot_timed_out(&mut self) -> Vec<Action> {
        self.phase = Phase::Up(Running::Killed);
        self.ended_by = Some(EndReason::BootTimeout);
        let boot = self.rules.formation.and_then(|rules| rules.boot_timeout);
        let mut actions = vec![Action::Log(Story::BootTimeout(boot.unwrap_or_default()))];
        actions.extend(self.log_explanation());
        actions.extend([Action::Log(Story::KillingProcess), Action::KillAll]);
        actions
    }

    pub(super) fn nobody_came(&mut self) -> Vec<Action> {
        let mut actions = vec![Action::Log(Story::AttachError)];
        actions.extend(self.end_before_start(EndReason::AttachTimeout));
        actions
    }

    /// Ends a dyno whose command has not begun. 128 is what Heroku reports for a dyno without a client.
    pub(super) fn end_before_start(&mut self, reason: EndReason) -> Vec<Action> {
        self.phase = Phase::Over;
        let last = DynoState::Complete;
        let exit = Exit::Status(128);
        let record = ExitRecord {
            state: last,
            exit,
            reason,
            message: None,
            at_us: None,
            spent: Spent::default(),
        };
        let mut actions = vec![Action::Record(record.clone()), Action::KillAll];
        if self.client {
            actions.push(Action::TellError(
                "the dyno was stopped before its command began".to_owned(),
            ));
        }
        actions.extend([
            Action::Log(Story::Exited(exit.code())),
            state_change(DynoState::Starting, last),
            Action::Finish(record),
        ]);
        actions
    }

    /// As [`end_before_start`](Self::end_before_start), for a retired dyno of the formation, which logs no exit.
    pub(super) fn retire_before_start(&mut self, why: StopReason) -> Vec<Action> {
        self.phase = Phase::Over;
        let record = ExitRecord {
            state: DynoState::Down,
            exit: Exit::Status(128),
            reason: why.end(),
            message: None,
            at_us: None,
            spent: Spent::default(),
        };
        let mut actions = self.tell_retirement(why);
        actions.extend([
            Action::Record(record.clone()),
            Action::KillAll,
            Action::Finish(record),
        ]);
        actions
    }

    /// Ends a dyno that could not be started. A client that has not come yet is waited for, so that it can be told.
    pub(super) fn failed(&mut self, message: String, now: Moment) -> Vec<Action> {
        let mut actions = vec![
            Action::Record(start_failed(message.clone())),
            Action::Log(Story::LaunchFailed(message.clone())),
            state_change(DynoState::Starting, DynoState::Crashed),
            Action::KillAll,
            Action::Report(DynoState::Crashed),
        ];
        if self.client {
            actions.push(Action::TellError(message.clone()));
        }
        if self.client || !self.rules.attached {
            actions.extend(self.finish_failed(message));
        } else {
            self.phase = Phase::Failed { message };
            let until = now + self.rules.attach_timeout;
            actions.push(Action::SetDeadline(Timer::Phase, Some(until)));
        }
        actions
    }

    pub(super) fn finish_failed(&mut self, message: String) -> Vec<Action> {
        self.phase = Phase::Over;
        vec![Action::Finish(start_failed(message))]
    }
}
