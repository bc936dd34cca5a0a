//! What can happen to a dyno, and what the supervisor performs in consequence.

use std::time::Duration;

use super::rules::StopReason;
use crate::model::dyno::{DynoState, Exit, ExitRecord};
use crate::model::log_line::Story;

/// Time since the supervisor began.
pub type Moment = Duration;

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
    /// The dyno was found to have this much memory, in bytes. Comes as often as the log is to say that it is too much.
    MemoryMeasured(u64),
    /// The dyno has tried to have more memory than its limit; it has this much, in bytes.
    MemoryExhausted(u64),
    /// The dyno has more on disk than it may have, both in bytes.
    DiskExhausted {
        /// What it has written, and not removed.
        written: u64,
        /// What it may have.
        limit: u64,
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
