//! The life of one dyno: what happens, and what is to be done about it.
//!
//! Pure: [`Life::step`] is given an event and the time, and answers with actions that the supervisor
//! performs in order. Nothing here reads a clock, a socket or a process, so that every path, time limits included, is
//! tested with a made-up clock. Log texts and figures: heroku-facts sections 1 to 3.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DynoState, EndReason, Exit, ExitRecord};

/// What becomes of a command whose PID 1 was killed.
const KILLED: Exit = Exit::Signal(9);

/// Time since the supervisor began.
pub type Moment = Duration;

/// What the dyno may do and for how long; fixed at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The command waits for a client, and is hung up when that is gone.
    pub attached: bool,
    /// How long to wait for the client.
    pub attach_timeout: Duration,
    /// Time between hang-ups after the client has gone.
    pub hangup_interval: Duration,
    /// How many hang-ups there are before the dyno is left alone.
    pub hangup_count: u32,
}

/// What can happen to a dyno.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The inside is built.
    SandboxReady,
    /// The inside could not be built, or the command could not be started.
    StartFailed { message: String },
    /// A client's connection has come.
    ClientAttached,
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
    /// The server asks the dyno to end within this grace period.
    StopRequested { grace: Duration },
    /// The deadline that was asked for has passed.
    Deadline,
}

/// A signal to everything in a dyno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The client is gone.
    Hup,
    /// The dyno is to end.
    Term,
}

impl Signal {
    /// Linux's number.
    pub fn number(self) -> i32 {
        match self {
            Self::Hup => 1,
            Self::Term => 15,
        }
    }
}

/// What the supervisor is to do.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write a line of the dyno manager (`heroku[run.1]`) to the log.
    Log(String),
    /// Tell the server the new state.
    Report(DynoState),
    /// Have init start the command.
    StartCommand,
    /// Give the client the command's streams.
    HandOver,
    /// Read the command's output into the log from now on.
    TakeOutput,
    /// Signal every process in the dyno.
    SignalAll(Signal),
    /// Kill PID 1, and so everything inside.
    KillAll,
    /// Tell the client how the command ended.
    TellExit(Exit),
    /// Tell the client why there is nothing to attach to.
    TellError(String),
    /// Wake up with [`Event::Deadline`] then; `None`: not any more.
    SetDeadline(Option<Moment>),
    /// Write the exit record, tell the server, clear away, leave.
    Finish(ExitRecord),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// The sandbox is being built.
    Building,
    /// Built; no client yet.
    AwaitingClient,
    /// Init has been asked to start the command.
    Launching,
    /// The command runs.
    Up(Running),
    /// The command has ended; what it wrote and left behind has not been dealt with.
    Ending {
        status: Exit,
        output_pending: bool,
        init_gone: bool,
    },
    /// There is no command and never will be; the client is still to be told.
    Failed { message: String },
    /// Done.
    Over,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Running {
    /// As it should be.
    Attended,
    /// The client has gone; so many hang-ups were sent.
    HungUp { sent: u32 },
    /// It was hung up and lives on, by its own wish.
    LeftAlone,
    /// SIGTERM was sent.
    Stopping,
    /// SIGKILL was sent.
    Killed,
}

/// One dyno's life.
#[derive(Debug)]
pub struct Life {
    rules: Rules,
    /// The command as the log shows it.
    command: String,
    phase: Phase,
    client: bool,
    /// The supervisor reads the output itself.
    reads_output: bool,
    /// It has read all that there will be, which a command may see to long before it ends.
    drained: bool,
    stopped: bool,
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
            stopped: false,
        }
    }

    /// Takes one event; answers with what is to be done, in order. Events that come too late to matter
    /// are answered with nothing.
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
            (Phase::AwaitingClient, Event::Deadline) => self.nobody_came(),
            (Phase::Building | Phase::AwaitingClient, Event::ClientGone) => {
                self.end_before_start(EndReason::Disconnected)
            }
            (
                Phase::Building | Phase::AwaitingClient | Phase::Launching,
                Event::StopRequested { .. },
            ) => {
                self.stopped = true;
                self.end_before_start(EndReason::Stopped)
            }
            (Phase::Launching, Event::Started) => self.started(now),
            (Phase::Building | Phase::Launching, Event::StartFailed { message }) => {
                self.failed(message, now)
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
            (Phase::Failed { message }, Event::Deadline | Event::ClientGone) => {
                let message = std::mem::take(message);
                self.finish_failed(message)
            }
            (Phase::Up(Running::Attended), Event::ClientGone) => self.hang_up(1, now),
            (Phase::Up(Running::HungUp { sent }), Event::Deadline) => {
                let sent = *sent;
                if sent < self.rules.hangup_count {
                    self.hang_up(sent + 1, now)
                } else {
                    self.leave_alone()
                }
            }
            (
                Phase::Up(Running::Attended | Running::HungUp { .. } | Running::LeftAlone),
                Event::StopRequested { grace },
            ) => {
                self.stopped = true;
                if grace.is_zero() {
                    self.phase = Phase::Up(Running::Killed);
                    return vec![
                        Action::Log("Stopping all processes with SIGKILL".to_owned()),
                        Action::KillAll,
                    ];
                }
                self.phase = Phase::Up(Running::Stopping);
                vec![
                    Action::Log("Stopping all processes with SIGTERM".to_owned()),
                    Action::SignalAll(Signal::Term),
                    Action::SetDeadline(Some(now + grace)),
                ]
            }
            (Phase::Up(up @ Running::Stopping), Event::Deadline) => {
                *up = Running::Killed;
                vec![
                    Action::Log(
                        "Error R12 (Exit timeout) -> At least one process failed to exit within 30 \
                         seconds of SIGTERM"
                            .to_owned(),
                    ),
                    Action::Log("Stopping remaining processes with SIGKILL".to_owned()),
                    Action::KillAll,
                ]
            }
            (Phase::Up(Running::Stopping), Event::ClientGone) => {
                self.reads_output = true;
                vec![Action::TakeOutput]
            }
            (Phase::Up(_), Event::Exited(status)) => self.exited(status, false),
            (Phase::Up(_), Event::InitGone) => self.exited(KILLED, true),
            (Phase::Ending { init_gone, .. }, Event::InitGone) => {
                *init_gone = true;
                self.finish_when_done()
            }
            (Phase::Ending { output_pending, .. }, Event::Drained) => {
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
        let mut actions = vec![Action::Log("Awaiting client".to_owned())];
        if self.client {
            actions.extend(self.start_command());
        } else {
            self.phase = Phase::AwaitingClient;
            actions.push(Action::SetDeadline(Some(now + self.rules.attach_timeout)));
        }
        actions
    }

    fn start_command(&mut self) -> Vec<Action> {
        self.phase = Phase::Launching;
        vec![
            Action::SetDeadline(None),
            Action::Log(format!("Starting process with command `{}`", self.command)),
            Action::StartCommand,
        ]
    }

    fn started(&mut self, now: Moment) -> Vec<Action> {
        self.phase = Phase::Up(Running::Attended);
        let mut actions = vec![
            state_change(DynoState::Starting, DynoState::Up),
            Action::Report(DynoState::Up),
        ];
        if self.rules.attached && self.client {
            actions.push(Action::HandOver);
        } else if self.rules.attached {
            actions.extend(self.hang_up(1, now));
        } else {
            actions.push(Action::TakeOutput);
        }
        actions
    }

    fn hang_up(&mut self, sent: u32, now: Moment) -> Vec<Action> {
        self.phase = Phase::Up(Running::HungUp { sent });
        let mut actions = Vec::new();
        if !self.reads_output {
            self.reads_output = true;
            actions.push(Action::TakeOutput);
        }
        actions.extend([
            Action::Log("Client connection closed. Sending SIGHUP to all processes".to_owned()),
            Action::SignalAll(Signal::Hup),
            Action::SetDeadline(Some(now + self.rules.hangup_interval)),
        ]);
        actions
    }

    fn leave_alone(&mut self) -> Vec<Action> {
        self.phase = Phase::Up(Running::LeftAlone);
        vec![Action::Log(
            "Error R16 (Detached) -> An attached process is not responding to SIGHUP after its \
             external connection was closed."
                .to_owned(),
        )]
    }

    fn nobody_came(&mut self) -> Vec<Action> {
        let mut actions = vec![Action::Log(
            "Error R13 (Attach error) -> Failed to attach to process".to_owned(),
        )];
        actions.extend(self.end_before_start(EndReason::AttachTimeout));
        actions
    }

    /// There was no command to end. 128 is what Heroku reports for a dyno that nobody attached to.
    fn end_before_start(&mut self, reason: EndReason) -> Vec<Action> {
        self.phase = Phase::Over;
        let mut actions = vec![Action::KillAll];
        if self.client {
            actions.push(Action::TellError(
                "the dyno was stopped before its command began".to_owned(),
            ));
        }
        actions.extend([
            Action::Log("Process exited with status 128".to_owned()),
            state_change(DynoState::Starting, DynoState::Complete),
            Action::Finish(ExitRecord {
                state: DynoState::Complete,
                exit: Exit::Status(128),
                reason,
                message: None,
            }),
        ]);
        actions
    }

    /// The client is owed an answer: if it has not come yet, it gets as long as it would have had.
    fn failed(&mut self, message: String, now: Moment) -> Vec<Action> {
        let mut actions = vec![
            Action::Log(format!(
                "Error R99 (Platform error) -> Failed to launch the dyno: {message}"
            )),
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
            actions.push(Action::SetDeadline(Some(now + self.rules.attach_timeout)));
        }
        actions
    }

    fn finish_failed(&mut self, message: String) -> Vec<Action> {
        self.phase = Phase::Over;
        vec![Action::Finish(ExitRecord {
            state: DynoState::Crashed,
            exit: Exit::Unknown,
            reason: EndReason::StartFailed,
            message: Some(message),
        })]
    }

    fn exited(&mut self, status: Exit, init_gone: bool) -> Vec<Action> {
        self.phase = Phase::Ending {
            status,
            output_pending: self.reads_output && !self.drained,
            init_gone,
        };
        let mut actions = vec![Action::SetDeadline(None)];
        if self.client {
            actions.push(Action::TellExit(status));
        }
        actions.extend(self.finish_when_done());
        actions
    }

    /// The last lines come after the last line of output.
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
        let reason = if self.stopped {
            EndReason::Stopped
        } else {
            EndReason::Exited
        };
        vec![
            Action::Log(format!("Process exited with status {}", status.code())),
            state_change(DynoState::Up, DynoState::Complete),
            Action::Finish(ExitRecord {
                state: DynoState::Complete,
                exit: status,
                reason,
                message: None,
            }),
        ]
    }
}

fn state_change(from: DynoState, to: DynoState) -> Action {
    Action::Log(format!("State changed from {from} to {to}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        attached: true,
        attach_timeout: Duration::from_secs(30),
        hangup_interval: Duration::from_secs(5),
        hangup_count: 3,
    };

    fn seconds(n: u64) -> Moment {
        Duration::from_secs(n)
    }

    fn attached() -> Life {
        Life::new(RULES, "bash".to_owned())
    }

    fn running() -> Life {
        let mut life = attached();
        let _ = life.step(Event::SandboxReady, seconds(0));
        let _ = life.step(Event::ClientAttached, seconds(0));
        let _ = life.step(Event::Started, seconds(0));
        life
    }

    fn logged(actions: &[Action]) -> Vec<&str> {
        actions
            .iter()
            .filter_map(|a| {
                if let Action::Log(line) = a {
                    Some(&**line)
                } else {
                    None
                }
            })
            .collect()
    }

    #[test]
    fn an_attached_run_waits_for_its_client_and_ends_with_its_command() {
        let mut life = attached();
        let waiting = life.step(Event::SandboxReady, seconds(0));
        assert_eq!(
            waiting,
            [
                Action::Log("Awaiting client".into()),
                Action::SetDeadline(Some(seconds(30)))
            ]
        );
        let starting = life.step(Event::ClientAttached, seconds(1));
        assert!(starting.contains(&Action::StartCommand));
        assert_eq!(logged(&starting), ["Starting process with command `bash`"]);
        let up = life.step(Event::Started, seconds(1));
        assert_eq!(up.last(), Some(&Action::HandOver));
        let exited = life.step(Event::Exited(Exit::Status(3)), seconds(9));
        assert!(exited.contains(&Action::TellExit(Exit::Status(3))));
        let gone = life.step(Event::InitGone, seconds(9));
        assert_eq!(
            logged(&gone),
            [
                "Process exited with status 3",
                "State changed from up to complete"
            ]
        );
        assert!(
            matches!(gone.last(), Some(Action::Finish(ended)) if ended.exit == Exit::Status(3))
        );
        assert_eq!(life.step(Event::ClientGone, seconds(9)), []);
    }

    #[test]
    fn a_client_that_comes_first_is_not_waited_for() {
        let mut life = attached();
        assert_eq!(life.step(Event::ClientAttached, seconds(0)), []);
        assert!(
            life.step(Event::SandboxReady, seconds(0))
                .contains(&Action::StartCommand)
        );
    }

    #[test]
    fn nobody_comes() {
        let mut life = attached();
        let _ = life.step(Event::SandboxReady, seconds(0));
        let actions = life.step(Event::Deadline, seconds(30));
        assert_eq!(
            logged(&actions)[0],
            "Error R13 (Attach error) -> Failed to attach to process"
        );
        assert!(actions.contains(&Action::KillAll));
        assert!(
            matches!(actions.last(), Some(Action::Finish(e)) if e.reason == EndReason::AttachTimeout)
        );
    }

    #[test]
    fn a_lost_client_is_three_hang_ups_and_then_left_alone() {
        let mut life = running();
        let mut actions = life.step(Event::ClientGone, seconds(100));
        assert_eq!(actions[0], Action::TakeOutput);
        for hangup in 0..3 {
            assert!(
                actions.contains(&Action::SignalAll(Signal::Hup)),
                "{hangup}"
            );
            let due = seconds(105 + 5 * hangup);
            assert_eq!(actions.last(), Some(&Action::SetDeadline(Some(due))));
            actions = life.step(Event::Deadline, due);
        }
        assert!(logged(&actions)[0].starts_with("Error R16 (Detached)"));
        assert!(!actions.contains(&Action::KillAll));
        // It may go on for hours, and its output is still read before its end is told.
        assert_eq!(
            life.step(Event::Exited(Exit::Status(0)), seconds(9000)),
            [Action::SetDeadline(None)]
        );
        assert_eq!(life.step(Event::InitGone, seconds(9000)), []);
        let end = life.step(Event::Drained, seconds(9001));
        assert!(matches!(end.last(), Some(Action::Finish(_))));
    }

    #[test]
    fn a_client_lost_while_the_command_starts_is_a_hang_up() {
        let mut life = attached();
        let _ = life.step(Event::SandboxReady, seconds(0));
        let _ = life.step(Event::ClientAttached, seconds(0));
        assert_eq!(life.step(Event::ClientGone, seconds(0)), []);
        let actions = life.step(Event::Started, seconds(0));
        assert!(actions.contains(&Action::SignalAll(Signal::Hup)));
        assert!(actions.contains(&Action::TakeOutput));
    }

    #[test]
    fn a_sandbox_that_fails_tells_its_client_now_or_later() {
        let failed = || Event::StartFailed {
            message: "no room".into(),
        };
        let mut early = attached();
        let _ = early.step(Event::ClientAttached, seconds(0));
        assert!(
            early
                .step(failed(), seconds(0))
                .contains(&Action::TellError("no room".into()))
        );
        let mut late = attached();
        assert!(
            !late
                .step(failed(), seconds(0))
                .iter()
                .any(|a| matches!(a, Action::Finish(_)))
        );
        let told = late.step(Event::ClientAttached, seconds(1));
        assert_eq!(told[0], Action::TellError("no room".into()));
        assert!(matches!(told[1], Action::Finish(_)));
    }

    #[test]
    fn stopping_is_term_then_kill() {
        let mut life = running();
        let actions = life.step(Event::StopRequested { grace: seconds(30) }, seconds(0));
        assert!(actions.contains(&Action::SignalAll(Signal::Term)));
        let actions = life.step(Event::Deadline, seconds(30));
        assert!(logged(&actions)[0].starts_with("Error R12 (Exit timeout)"));
        assert!(actions.contains(&Action::KillAll));
        let actions = life.step(Event::InitGone, seconds(30));
        assert!(actions.contains(&Action::TellExit(Exit::Signal(9))));
        assert_eq!(logged(&actions)[0], "Process exited with status 137");
    }

    #[test]
    fn output_that_ends_before_its_command_is_not_waited_for() {
        let mut life = running();
        let _ = life.step(Event::ClientGone, seconds(1));
        assert_eq!(life.step(Event::Drained, seconds(1)), []);
        let _ = life.step(Event::Exited(Exit::Signal(1)), seconds(1));
        let end = life.step(Event::InitGone, seconds(1));
        assert!(
            matches!(end.last(), Some(Action::Finish(record)) if record.exit == Exit::Signal(1))
        );
    }

    #[test]
    fn a_stop_without_grace_kills_at_once() {
        let mut life = running();
        let actions = life.step(
            Event::StopRequested {
                grace: Duration::ZERO,
            },
            seconds(0),
        );
        assert_eq!(logged(&actions), ["Stopping all processes with SIGKILL"]);
        assert!(actions.contains(&Action::KillAll));
    }

    #[test]
    fn a_killed_init_is_an_exit_by_sigkill() {
        let mut life = running();
        let actions = life.step(Event::InitGone, seconds(5));
        assert!(actions.contains(&Action::TellExit(Exit::Signal(9))));
        assert!(matches!(actions.last(), Some(Action::Finish(_))));
    }
}
