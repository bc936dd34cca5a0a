//! A command that has ended, or was lost: its last output and log lines, its exit record, what its client is told.

use super::events::{Action, Timer};
use super::{Life, Phase, state_change};
use crate::model::dyno::{DynoState, EndReason, Exit, ExitRecord, Spent};
use crate::model::log_line::Story;

impl Life {
    pub(super) fn exited(&mut self, status: Exit, init_gone: bool) -> Vec<Action> {
        self.phase = Phase::Ending {
            status,
            output_pending: self.reads_output && !self.drained,
            init_gone,
        };
        let timers = [Timer::Phase, Timer::Idle, Timer::Lifetime];
        let mut actions: Vec<_> = timers.map(|timer| Action::SetDeadline(timer, None)).into();
        // Recorded now, so that the client is told what the record says.
        actions.push(Action::Record(self.record(status)));
        // So that the dyno does not count any more when the client asks for the next one.
        if self.rules.formation.is_none() {
            actions.push(Action::Report(DynoState::Complete));
        }
        if self.client {
            actions.push(Action::TellExit(status, self.why()));
        }
        actions.extend(self.finish_when_done());
        actions
    }

    /// Kills the command after a failure of the supervisor or PID 1; its exit is not known.
    pub(super) fn broken(&mut self, message: String) -> Vec<Action> {
        self.phase = Phase::Over;
        let mut record = lost_by(message.clone());
        let retired = self.rules.formation.is_some() && self.ended_by.is_some();
        if retired {
            record.state = DynoState::Down;
        }
        let mut actions = vec![
            Action::Record(record.clone()),
            Action::KillAll,
            Action::Log(Story::Lost(message.clone())),
        ];
        if !self.last_state_logged {
            let before = match self.booted {
                true => DynoState::Up,
                false => DynoState::Starting,
            };
            actions.push(state_change(before, record.state));
        }
        if self.client {
            actions.push(Action::TellError(message));
        }
        actions.push(Action::Finish(record));
        actions
    }

    /// The explanation for the client, beside the status.
    pub(super) fn why(&self) -> Option<String> {
        match self.ended_by {
            None | Some(EndReason::OutOfDisk) => self.explanation.clone(),
            Some(EndReason::TimeToLive) => Some("Time to live (--ttl) is over".to_owned()),
            Some(EndReason::Cycled) => {
                Some("The dyno has reached the lifetime of dynos".to_owned())
            }
            Some(EndReason::Stopped) => Some("The dyno was stopped".to_owned()),
            Some(EndReason::OutOfMemory) => Some(format!(
                "The dyno had more memory than its size allows, {} MB (R15)",
                self.rules.memory.limit >> 20
            )),
            Some(_) => None,
        }
    }

    pub(super) fn log_explanation(&self) -> Option<Action> {
        let text = self.explanation.clone()?;
        Some(Action::Log(Story::Other(text)))
    }

    /// Finishes once the output is read, so that the last log lines come after it.
    pub(super) fn finish_when_done(&mut self) -> Vec<Action> {
        let Phase::Ending {
            status,
            output_pending: false,
            init_gone: true,
        } = self.phase
        else {
            return Vec::new();
        };
        self.phase = Phase::Over;
        let mut actions = Vec::new();
        // The explanation about its port was logged before.
        if self.ended_by.is_none() {
            actions.extend(self.log_explanation());
        }
        actions.push(Action::Log(Story::Exited(status.code())));
        let record = self.record(status);
        if !self.last_state_logged {
            let before = match self.booted {
                true => DynoState::Up,
                false => DynoState::Starting,
            };
            actions.push(state_change(before, record.state));
        }
        actions.push(Action::Finish(record));
        actions
    }

    /// The exit record. A dyno of the formation that ends without being retired has crashed, even with status 0.
    pub(super) fn record(&self, exit: Exit) -> ExitRecord {
        let reason = self.ended_by.unwrap_or(EndReason::Exited);
        let state = match (self.rules.formation, reason.is_crash()) {
            (None, _) => DynoState::Complete,
            (Some(_), true) => DynoState::Crashed,
            (Some(_), false) => DynoState::Down,
        };
        ExitRecord {
            state,
            exit,
            reason,
            message: self.explanation.clone(),
            at_us: None,
            spent: Spent::default(),
        }
    }
}

/// The record for a dyno that was lost, with the reason.
pub fn lost_by(message: String) -> ExitRecord {
    ExitRecord {
        state: DynoState::Crashed,
        exit: Exit::Unknown,
        reason: EndReason::Lost,
        message: Some(message),
        at_us: None,
        spent: Spent::default(),
    }
}

/// The record for a dyno that could not be started, with the reason.
pub fn start_failed(message: String) -> ExitRecord {
    ExitRecord {
        state: DynoState::Crashed,
        exit: Exit::Unknown,
        reason: EndReason::StartFailed,
        message: Some(message),
        at_us: None,
        spent: Spent::default(),
    }
}
