//! The life of one dyno: a state machine of events and actions.
//!
//! Pure: [`Life::step`] is given an event and the time, and answers with actions that the supervisor
//! performs in order. Nothing here reads a clock, a socket or a process, so that every path, time limits included, is
//! tested with a made-up clock. The figures are those of the Heroku Dev Center ("One-off Dynos", "Dyno
//! Restarts", "Heroku Error Codes").

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DynoState, EndReason, Exit, ExitRecord};
use crate::model::log_line::Story;

/// The exit of a command whose PID 1 was killed.
const KILLED: Exit = Exit::Signal(9);

/// How long the output of a dyno is read when all its processes have ended. What they wrote is in the pipe already, so
/// this takes milliseconds, unless a process outside holds the other end open.
const LAST_OUTPUT: Duration = Duration::from_secs(10);

/// Time since the supervisor began.
pub type Moment = Duration;

/// The dyno's times and conditions; fixed at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rules {
    /// Whether the command waits for a client, and is hung up when the client is gone.
    pub attached: bool,
    /// How long to wait for the client.
    pub attach_timeout: Duration,
    /// Time between hang-ups after the client has gone.
    pub hangup_interval: Duration,
    /// How many hang-ups are sent before the dyno is left running.
    pub hangup_count: u32,
    /// How long its connection may be without a byte in either direction; zero: no limit.
    pub idle_timeout: Duration,
    /// How long it lives before it is cycled, which ends a one-off dyno.
    pub lifetime: Duration,
    /// Its time to live, if its request gave one.
    pub time_to_live: Option<Duration>,
    /// Time from SIGTERM to SIGKILL when one of the two is over.
    pub stop_grace: Duration,
    /// Set for a dyno of the formation, whose end is a crash unless it was retired. None for a one-off dyno.
    pub formation: Option<OfFormation>,
}

/// The rules that only dynos of the formation have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OfFormation {
    /// How long it may take until it listens on its port, which makes it up. None if it need not listen.
    pub boot_timeout: Option<Duration>,
}

/// Why a dyno is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// A user or the server stops it.
    #[default]
    Stopped,
    /// It is replaced by a new one, for a new release or a restart.
    Restarted,
    /// The formation was scaled down.
    ScaledDown,
    /// It has reached its lifetime, and is replaced by a new one.
    Cycled,
}

impl StopReason {
    fn end(self) -> EndReason {
        match self {
            Self::Stopped => EndReason::Stopped,
            Self::Restarted => EndReason::Restarted,
            Self::ScaledDown => EndReason::ScaledDown,
            Self::Cycled => EndReason::Cycled,
        }
    }
}

/// What can happen to a dyno.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The inside is built.
    SandboxReady,
    /// The inside could not be built, or the command could not be started.
    StartFailed { message: String },
    /// The supervisor or PID 1 itself has failed; how the command would have ended is not known.
    Broken { message: String },
    /// A client's connection has come.
    ClientAttached,
    /// The client says that bytes went through, in one direction or the other.
    ClientActive,
    /// The client's connection has ended.
    ClientGone,
    /// The command runs.
    Started,
    /// The command has ended; output may still be on its way.
    Exited(Exit),
    /// PID 1 has ended, and with it everything inside.
    InitGone,
    /// All output that the supervisor reads has been read.
    Drained,
    /// The dyno listens on its port.
    Listening,
    /// The server stops the dyno, or tells it again.
    StopRequested {
        /// From SIGTERM to SIGKILL.
        grace: Duration,
        /// Why; only the first reason counts.
        why: StopReason,
        /// How long requests in flight may take before SIGTERM. A second event ends the wait at once.
        drain: Duration,
    },
    /// The deadline of this timer has passed.
    Deadline(Timer),
}

/// The timers of a dyno. Each has a deadline, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timer {
    /// The next step of the present phase: a client, another hang-up, SIGKILL.
    Phase,
    /// The connection's idle time.
    Idle,
    /// The dyno's lifetime.
    Lifetime,
}

/// A signal to all processes of a dyno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynoSignal {
    /// The client is gone.
    Hup,
    /// The dyno is to end.
    Term,
}

impl DynoSignal {
    /// The signal's number in Linux.
    pub fn number(self) -> i32 {
        match self {
            Self::Hup => 1,
            Self::Term => 15,
        }
    }
}

/// What the supervisor performs.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write a line of the dyno manager (`heroku[run.1]`) to the log.
    Log(Story),
    /// Tell the server the new state.
    Report(DynoState),
    /// Have init start the command.
    StartCommand,
    /// Give the client the command's streams.
    HandOver,
    /// Read the command's output into the log from now on.
    TakeOutput,
    /// Signal every process in the dyno.
    SignalAll(DynoSignal),
    /// Kill PID 1, and so everything inside.
    KillAll,
    /// Tell the client how the command ended, with an explanation.
    TellExit(Exit, Option<String>),
    /// Tell the client why there is nothing to attach to.
    TellError(String),
    /// Tell the client that its connection was idle for too long, and close it.
    CloseIdle,
    /// Answer with [`Event::Listening`] once the dyno listens on its port.
    AwaitPort,
    /// Send [`Event::Deadline`] at this time; `None` cancels it.
    SetDeadline(Timer, Option<Moment>),
    /// Write the exit record: from here on the end is known, whatever happens to the supervisor.
    Record(ExitRecord),
    /// Write the exit record if that has not been done, tell the server, clean up and exit.
    Finish(ExitRecord),
}

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

    fn sandbox_ready(&mut self, now: Moment) -> Vec<Action> {
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

    fn start_command(&mut self) -> Vec<Action> {
        self.phase = Phase::Launching;
        vec![
            Action::SetDeadline(Timer::Phase, None),
            Action::Log(Story::starting(&self.command)),
            Action::StartCommand,
        ]
    }

    fn started(&mut self, now: Moment) -> Vec<Action> {
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

    fn listens(&mut self) -> Vec<Action> {
        self.phase = Phase::Up(Running::Attended);
        self.booted = true;
        vec![
            Action::SetDeadline(Timer::Phase, None),
            state_change(DynoState::Starting, DynoState::Up),
            Action::Report(DynoState::Up),
        ]
    }

    fn boot_timed_out(&mut self) -> Vec<Action> {
        self.phase = Phase::Up(Running::Killed);
        self.ended_by = Some(EndReason::BootTimeout);
        let boot = self.rules.formation.and_then(|rules| rules.boot_timeout);
        let mut actions = vec![Action::Log(Story::BootTimeout(boot.unwrap_or_default()))];
        actions.extend(self.log_explanation());
        actions.extend([Action::Log(Story::KillingUnbound), Action::KillAll]);
        actions
    }

    /// Begins to stop the dyno: first, it gets no new requests.
    fn retire(
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
    fn tell_retirement(&mut self, why: StopReason) -> Vec<Action> {
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

    /// Sets the idle deadline of the connection.
    fn await_activity(&self, now: Moment) -> Vec<Action> {
        if !self.client || self.rules.idle_timeout.is_zero() {
            return Vec::new();
        }
        let until = now + self.rules.idle_timeout;
        vec![Action::SetDeadline(Timer::Idle, Some(until))]
    }

    fn hang_up(&mut self, sent: u32, now: Moment) -> Vec<Action> {
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

    fn leave_alone(&mut self) -> Vec<Action> {
        self.phase = Phase::Up(Running::LeftAlone);
        vec![Action::Log(Story::Detached)]
    }

    fn stop(&mut self, grace: Duration, now: Moment) -> Vec<Action> {
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
    fn cycle(&mut self, now: Moment) -> Vec<Action> {
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
    fn lived_enough(&self) -> EndReason {
        match self.rules.time_to_live {
            Some(time) if time < self.rules.lifetime => EndReason::TimeToLive,
            _ => EndReason::Cycled,
        }
    }

    fn nobody_came(&mut self) -> Vec<Action> {
        let mut actions = vec![Action::Log(Story::AttachError)];
        actions.extend(self.end_before_start(EndReason::AttachTimeout));
        actions
    }

    /// Ends a dyno whose command has not begun. 128 is what Heroku reports for a dyno without a client.
    fn end_before_start(&mut self, reason: EndReason) -> Vec<Action> {
        self.phase = Phase::Over;
        let last = DynoState::Complete;
        let exit = Exit::Status(128);
        let record = ExitRecord {
            state: last,
            exit,
            reason,
            message: None,
            at_us: None,
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
    fn retire_before_start(&mut self, why: StopReason) -> Vec<Action> {
        self.phase = Phase::Over;
        let record = ExitRecord {
            state: DynoState::Down,
            exit: Exit::Status(128),
            reason: why.end(),
            message: None,
            at_us: None,
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
    fn failed(&mut self, message: String, now: Moment) -> Vec<Action> {
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

    fn finish_failed(&mut self, message: String) -> Vec<Action> {
        self.phase = Phase::Over;
        vec![Action::Finish(start_failed(message))]
    }

    /// Kills the command after a failure of the supervisor or PID 1; its exit is not known.
    fn broken(&mut self, message: String) -> Vec<Action> {
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

    fn exited(&mut self, status: Exit, init_gone: bool) -> Vec<Action> {
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

    /// The explanation for the client, beside the status.
    fn why(&self) -> Option<String> {
        match self.ended_by {
            None => self.explanation.clone(),
            Some(EndReason::TimeToLive) => Some("Time to live (--ttl) is over".to_owned()),
            Some(EndReason::Cycled) => {
                Some("The dyno has reached the lifetime of dynos".to_owned())
            }
            Some(EndReason::Stopped) => Some("The dyno was stopped".to_owned()),
            Some(_) => None,
        }
    }

    fn log_explanation(&self) -> Option<Action> {
        let text = self.explanation.clone()?;
        Some(Action::Log(Story::Other(text)))
    }

    /// Finishes once the output is read, so that the last log lines come after it.
    fn finish_when_done(&mut self) -> Vec<Action> {
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
    fn record(&self, exit: Exit) -> ExitRecord {
        let reason = self.ended_by.unwrap_or(EndReason::Exited);
        let crashed = matches!(reason, EndReason::Exited | EndReason::BootTimeout);
        let state = match (self.rules.formation, crashed) {
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
