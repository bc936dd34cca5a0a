//! The life of one dyno: a state machine of events and actions.
//!
//! Pure: [`Life::step`] is given an event and the time, and answers with actions that the supervisor
//! performs in order. Nothing here reads a clock, a socket or a process, so that every path, time limits included, is
//! tested with a made-up clock. The figures are those of the Heroku Dev Center ("One-off Dynos", "Dyno
//! Restarts", "Heroku Error Codes").
//!
//! This file has the phases and the table of what an event means in each. `life/events.rs` has the events and actions,
//! `life/rules.rs` the times; `life/start.rs`, `life/running.rs` and `life/end.rs` say what is done, in the order of a life.

mod end;
mod events;
mod rules;
mod running;
mod start;

use std::time::Duration;

use super::{DynoState, EndReason, Exit};
use crate::model::log_line::Story;

pub use end::{lost_by, start_failed};
pub use events::{Action, Event, Moment, Timer};
pub use rules::{MemoryRule, OfFormation, Rules, StopReason};

/// The exit of a command whose PID 1 was killed.
const KILLED: Exit = Exit::Signal(9);

/// How long the output of a dyno is read when all its processes have ended. What they wrote is in the pipe already, so
/// this takes milliseconds, unless a process outside holds the other end open.
const LAST_OUTPUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    /// The sandbox is being built.
    Building,
    /// Built; no client yet.
    AwaitingClient,
    /// Init has been asked to start the command.
    Launching,
    /// The command runs, and does not listen on its port yet.
    Booting,
    /// The command runs.
    Up(Running),
    /// The command has ended; its output and its other processes are still being handled.
    Ending {
        status: Exit,
        output_pending: bool,
        init_gone: bool,
    },
    /// There is no command, and the client is still to be told so.
    Failed { message: String },
    /// Done.
    Over,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Running {
    /// It runs with its client, or needs none.
    Attended,
    /// The client has gone; this many hang-ups were sent.
    HungUp { sent: u32 },
    /// It ignores the hang-ups and is left running.
    LeftAlone,
    /// It gets no new requests; SIGTERM follows when those in flight are answered.
    Draining { grace: Duration },
    /// SIGTERM was sent; SIGKILL follows after this time.
    Stopping { grace: Duration },
    /// SIGKILL was sent.
    Killed,
}

/// The state machine of one dyno.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Life {
    rules: Rules,
    /// The command as the log shows it.
    command: String,
    phase: Phase,
    client: bool,
    /// The supervisor reads the output itself.
    reads_output: bool,
    /// All output has been read; a command may close it long before it ends.
    drained: bool,
    /// Why the dyno ends, if not because its command ended.
    ended_by: Option<EndReason>,
    /// Whether its last state is logged already: for a cycled dyno, before its command's end.
    last_state_logged: bool,
    /// Whether it has listened on its port.
    booted: bool,
    /// Why its command could not be executed, or where it listens instead of on its port.
    explanation: Option<String>,
}

impl Life {
    /// A dyno whose sandbox is about to be built.
    pub fn new(rules: Rules, command: String) -> Self {
        Self {
            rules,
            command,
            phase: Phase::Building,
            client: false,
            reads_output: !rules.attached,
            drained: false,
            ended_by: None,
            last_state_logged: false,
            booted: rules
                .formation
                .is_none_or(|formation| formation.boot_timeout.is_none()),
            explanation: None,
        }
    }

    /// The first actions, at time zero.
    pub fn begin(&self) -> Vec<Action> {
        let limit = match self.rules.time_to_live {
            Some(time) => time.min(self.rules.lifetime),
            None => self.rules.lifetime,
        };
        vec![Action::SetDeadline(Timer::Lifetime, Some(limit))]
    }

    /// Whether the command waits for its client. There is never a second one.
    pub fn awaits_client(&self) -> bool {
        let not_begun = matches!(
            self.phase,
            Phase::Building | Phase::AwaitingClient | Phase::Failed { .. }
        );
        self.rules.attached && !self.client && not_begun
    }

    /// Whether the command runs, as far as is known.
    pub fn has_command(&self) -> bool {
        matches!(self.phase, Phase::Booting | Phase::Up(_))
    }

    /// Whether the command runs and has not been asked to end.
    pub fn is_up(&self) -> bool {
        matches!(
            self.phase,
            Phase::Booting
                | Phase::Up(Running::Attended | Running::HungUp { .. } | Running::LeftAlone)
        )
    }

    /// Whether the command runs and does not listen on its port yet.
    pub fn is_booting(&self) -> bool {
        self.phase == Phase::Booting
    }

    /// Adds an explanation of the command's exit.
    pub fn explain(&mut self, why: String) {
        self.explanation = Some(why);
    }

    /// Takes an event; returns the actions to perform, in order. Events that come too late return none.
    pub fn step(&mut self, event: Event, now: Moment) -> Vec<Action> {
        match event {
            Event::ClientAttached => self.client = true,
            Event::ClientGone => self.client = false,
            Event::Drained => self.drained = true,
            _ => {}
        }
        match (&mut self.phase, event) {
            (Phase::Building, Event::SandboxReady) => self.sandbox_ready(now),
            (Phase::AwaitingClient, Event::ClientAttached) => self.start_command(),
            (Phase::AwaitingClient, Event::Deadline(Timer::Phase)) => self.nobody_came(),
            (Phase::Building | Phase::AwaitingClient, Event::ClientGone) => {
                self.end_before_start(EndReason::Disconnected)
            }
            (
                Phase::Building | Phase::AwaitingClient | Phase::Launching,
                Event::StopRequested { why, .. },
            ) => match self.rules.formation {
                Some(_) => self.retire_before_start(why),
                None => self.end_before_start(why.end()),
            },
            (
                Phase::Building | Phase::AwaitingClient | Phase::Launching,
                Event::Deadline(Timer::Lifetime),
            ) => match self.rules.formation {
                Some(_) => self.retire_before_start(StopReason::Cycled),
                None => {
                    let reason = self.lived_enough();
                    self.end_before_start(reason)
                }
            },
            (Phase::Launching, Event::Started) => self.started(now),
            (Phase::Building | Phase::Launching, Event::StartFailed { message })
            | (
                Phase::Building | Phase::AwaitingClient | Phase::Launching,
                Event::Broken { message },
            ) => self.failed(message, now),
            (Phase::Failed { message }, Event::Broken { .. }) => {
                let message = std::mem::take(message);
                self.finish_failed(message)
            }
            (Phase::Booting | Phase::Up(_), Event::Broken { message }) => self.broken(message),
            // How the command ended is known already.
            (
                Phase::Ending {
                    output_pending,
                    init_gone,
                    ..
                },
                Event::Broken { message },
            ) => {
                (*output_pending, *init_gone) = (false, true);
                let mut actions = vec![Action::Log(Story::Lost(message)), Action::KillAll];
                actions.extend(self.finish_when_done());
                actions
            }
            (Phase::Building | Phase::AwaitingClient | Phase::Launching, Event::InitGone) => {
                self.failed("the sandbox ended before the command began".to_owned(), now)
            }
            (Phase::Failed { message }, Event::ClientAttached) => {
                let message = std::mem::take(message);
                let mut actions = vec![Action::TellError(message.clone())];
                actions.extend(self.finish_failed(message));
                actions
            }
            (Phase::Failed { message }, Event::Deadline(Timer::Phase) | Event::ClientGone) => {
                let message = std::mem::take(message);
                self.finish_failed(message)
            }
            (Phase::Up(Running::Attended), Event::ClientActive) => self.await_activity(now),
            (Phase::Up(Running::Attended), Event::Deadline(Timer::Idle)) if self.client => {
                self.client = false;
                let mut actions = vec![Action::CloseIdle];
                actions.extend(self.hang_up(1, now));
                actions
            }
            (Phase::Up(Running::Attended), Event::ClientGone) => self.hang_up(1, now),
            (Phase::Up(Running::HungUp { sent }), Event::Deadline(Timer::Phase)) => {
                let sent = *sent;
                if sent < self.rules.hangup_count {
                    self.hang_up(sent + 1, now)
                } else {
                    self.leave_alone()
                }
            }
            (Phase::Booting, Event::Listening) => self.listens(),
            (Phase::Booting, Event::Deadline(Timer::Phase)) => self.boot_timed_out(),
            (
                Phase::Booting
                | Phase::Up(Running::Attended | Running::HungUp { .. } | Running::LeftAlone),
                Event::StopRequested { grace, why, drain },
            ) => self.retire(grace, why, drain, now),
            (
                Phase::Booting
                | Phase::Up(Running::Attended | Running::HungUp { .. } | Running::LeftAlone),
                Event::Deadline(Timer::Lifetime),
            ) => self.cycle(now),
            (Phase::Up(Running::Draining { .. }), Event::StopRequested { grace, .. }) => {
                self.stop(grace, now)
            }
            (Phase::Up(Running::Draining { grace }), Event::Deadline(Timer::Phase)) => {
                let grace = *grace;
                self.stop(grace, now)
            }
            // A second request without a grace period shortens the first one.
            (Phase::Up(up @ Running::Stopping { .. }), Event::StopRequested { grace, .. })
                if grace.is_zero() =>
            {
                *up = Running::Killed;
                kill_at_once()
            }
            (Phase::Up(Running::Stopping { grace }), Event::Deadline(Timer::Phase)) => {
                let grace = *grace;
                self.phase = Phase::Up(Running::Killed);
                vec![
                    Action::Log(Story::ExitTimeout(grace)),
                    Action::Log(Story::KillingRemaining),
                    Action::KillAll,
                ]
            }
            (Phase::Up(Running::Stopping { .. }), Event::ClientGone) => {
                self.reads_output = true;
                vec![Action::TakeOutput]
            }
            // Of a dyno that is being killed it does not matter.
            (
                Phase::Up(Running::Killed),
                Event::MemoryMeasured(_) | Event::MemoryExhausted(_) | Event::DiskExhausted { .. },
            ) => Vec::new(),
            (Phase::Booting | Phase::Up(_), Event::DiskExhausted { written, limit }) => {
                self.out_of_disk(written, limit)
            }
            (Phase::Booting | Phase::Up(_), Event::MemoryMeasured(used)) => self.measured(used),
            (Phase::Booting | Phase::Up(_), Event::MemoryExhausted(used)) => {
                self.out_of_memory(used)
            }
            (Phase::Booting | Phase::Up(_), Event::Exited(status)) => self.exited(status, false),
            (Phase::Booting | Phase::Up(_), Event::InitGone) => {
                let mut actions = self.exited(KILLED, true);
                if matches!(self.phase, Phase::Ending { .. }) {
                    let until = now + LAST_OUTPUT;
                    actions.push(Action::SetDeadline(Timer::Phase, Some(until)));
                }
                actions
            }
            (Phase::Ending { init_gone, .. }, Event::InitGone) => {
                *init_gone = true;
                let mut actions = self.finish_when_done();
                if actions.is_empty() {
                    actions = vec![Action::SetDeadline(Timer::Phase, Some(now + LAST_OUTPUT))];
                }
                actions
            }
            // A process that still holds the output open is not in the dyno.
            (
                Phase::Ending { output_pending, .. },
                Event::Drained | Event::Deadline(Timer::Phase),
            ) => {
                *output_pending = false;
                self.finish_when_done()
            }
            _ => Vec::new(),
        }
    }
}

fn kill_at_once() -> Vec<Action> {
    vec![Action::Log(Story::Killing), Action::KillAll]
}

fn state_change(from: DynoState, to: DynoState) -> Action {
    Action::Log(Story::state_changed(from, to))
}

#[cfg(test)]
mod tests;
