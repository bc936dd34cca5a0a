//! A dyno, as stored, with the state that its supervisor reported.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use signal_hook::low_level::signal_name;

use super::{DynoName, DynoState, Spent};
use crate::model::app::AppName;
use crate::model::release::Version;

/// Whether and how a client attaches to a dyno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// No client; its output goes to the log.
    Detached,
    /// With a terminal.
    Terminal,
    /// With three pipes.
    Pipes,
}

impl Attach {
    /// The word for this in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Detached => "detached",
            Self::Terminal => "terminal",
            Self::Pipes => "pipes",
        }
    }

    /// The value with this word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Detached, Self::Terminal, Self::Pipes]
            .into_iter()
            .find(|attach| attach.as_str() == word)
    }
}

/// How a dyno's command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// Its command exited with this status.
    Status(u8),
    /// A signal with this number killed its command.
    Signal(u8),
    /// Not known: the dyno never ran its command, or its supervisor was lost.
    Unknown,
}

impl Exit {
    /// The code that a shell would report: the status, or 128 + the signal's number. 128 if it is not known, as on
    /// Heroku for a dyno that never ran.
    pub fn code(self) -> u8 {
        match self {
            Self::Status(status) => status,
            Self::Signal(number) => 128u8.saturating_add(number),
            Self::Unknown => 128,
        }
    }
}

/// Why a dyno ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Its command ended.
    Exited,
    /// A user stopped it.
    Stopped,
    /// No client came (R13).
    AttachTimeout,
    /// Its client left before the command began.
    Disconnected,
    /// It could not be started.
    StartFailed,
    /// It reached the lifetime of dynos.
    Cycled,
    /// It reached the time to live of its request.
    TimeToLive,
    /// It was replaced by a new dyno.
    Restarted,
    /// The formation was scaled down.
    ScaledDown,
    /// It did not listen on its port in time (R10).
    BootTimeout,
    /// It had vastly more memory than its quota (R15).
    OutOfMemory,
    /// It had more on disk than its size allows.
    OutOfDisk,
    /// Its supervisor ended without a record.
    Lost,
}

impl EndReason {
    /// Whether a dyno of the formation that ended so has crashed, as far as this alone tells.
    pub fn is_crash(self) -> bool {
        matches!(
            self,
            Self::Exited | Self::BootTimeout | Self::OutOfMemory | Self::OutOfDisk
        )
    }

    /// The word for this in the store; None for the usual end.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Exited => None,
            Self::Stopped => Some("stopped"),
            Self::AttachTimeout => Some("R13"),
            Self::Disconnected => Some("disconnected"),
            Self::StartFailed => Some("R99"),
            Self::Cycled => Some("cycled"),
            Self::TimeToLive => Some("ttl"),
            Self::Restarted => Some("restarted"),
            Self::ScaledDown => Some("scaled down"),
            Self::BootTimeout => Some("R10"),
            Self::OutOfMemory => Some("R15"),
            Self::OutOfDisk => Some("disk"),
            Self::Lost => Some("lost"),
        }
    }
}

/// How a dyno ended, as its supervisor reports it and writes it to the dyno's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The last state.
    pub state: DynoState,
    /// How the command ended.
    pub exit: Exit,
    /// Why the dyno ended.
    pub reason: EndReason,
    /// What went wrong, for example when it could not be started.
    pub message: Option<String>,
    /// When it ended, in microseconds since 1970; None if its supervisor was lost.
    #[serde(default)]
    pub at_us: Option<i64>,
    /// What it took until then.
    #[serde(default)]
    pub spent: Spent,
}

/// A dyno, alive or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dyno {
    /// A uuid, which, unlike the name, is never reused.
    pub id: String,
    /// The app's uuid.
    pub app_id: String,
    /// The app's name.
    pub app_name: AppName,
    /// The uuid of its release.
    pub release_id: String,
    /// That release's number.
    pub release_version: Version,
    /// Its name within the app.
    pub name: DynoName,
    /// The command as the user gave it, without its process type replaced.
    pub command: String,
    /// Its size, by name.
    pub size: String,
    /// Its state.
    pub state: DynoState,
    /// Whether and how a client attaches to it.
    pub attach: Attach,
    /// Whether it belongs to the formation.
    pub formation: bool,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its state last changed.
    pub updated_at: Timestamp,
    /// When and how it ended.
    pub ended: Option<DynoEnd>,
}

/// The end of a dyno. Displayed in a word or two for people: `complete`, `exit 3`, `SIGKILL`, `stopped`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynoEnd {
    /// When it ended.
    pub at: Timestamp,
    /// How the command ended.
    pub exit: Exit,
    /// Why the dyno ended, if not because its command did: `R13`, `stopped`, `lost`.
    pub reason: Option<String>,
    /// What went wrong, if the dyno or its command could not be started, or it did not listen on its port.
    pub message: Option<String>,
    /// What it took until then.
    pub spent: Spent,
}

impl DynoEnd {
    /// Whether it ended for this reason.
    pub fn is_for(&self, reason: EndReason) -> bool {
        self.reason.as_deref() == reason.as_str()
    }

    /// Whether the command's exit only shows that it was told to end.
    fn as_told(&self) -> bool {
        /// The code that `Life` records for a command that was never started.
        const NEVER_STARTED: u8 = 128;
        matches!(
            self.exit,
            Exit::Signal(15) | Exit::Status(143 | NEVER_STARTED) | Exit::Unknown
        )
    }
}

impl fmt::Display for DynoEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.reason.as_deref() {
            None => return self.exit.fmt(f),
            Some("R13") => return f.write_str("no client came (R13)"),
            Some("R10") => return f.write_str("did not listen on $PORT in time (R10)"),
            Some("R99") => return f.write_str("could not be started (R99)"),
            Some("disconnected") => return f.write_str("its client left"),
            Some("lost") => return f.write_str("lost"),
            Some("disk") => "had more on disk than its size allows",
            Some("ttl") => "its time was up",
            Some(reason) => reason,
        };
        match self.as_told() {
            true => f.write_str(why),
            false => write!(f, "{why}, {}", self.exit),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(0) => f.write_str("complete"),
            Self::Status(status) => write!(f, "exit {status}"),
            Self::Signal(number) => match signal_name(i32::from(*number)) {
                Some(name) => f.write_str(name),
                None => write!(f, "signal {number}"),
            },
            Self::Unknown => f.write_str("ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_a_word_or_two() {
        let told = |exit, reason: Option<&str>| {
            let reason = reason.map(str::to_owned);
            DynoEnd {
                at: Timestamp::UNIX_EPOCH,
                exit,
                reason,
                message: None,
                spent: Spent::default(),
            }
            .to_string()
        };
        for (exit, reason, words) in [
            (Exit::Status(0), None, "complete"),
            (Exit::Status(3), None, "exit 3"),
            (Exit::Signal(9), None, "SIGKILL"),
            (Exit::Signal(42), None, "signal 42"),
            (Exit::Unknown, None, "ended"),
            (Exit::Signal(15), Some("stopped"), "stopped"),
            (Exit::Status(128), Some("stopped"), "stopped"),
            (Exit::Status(0), Some("stopped"), "stopped, complete"),
            (Exit::Signal(9), Some("stopped"), "stopped, SIGKILL"),
            (Exit::Status(128), Some("R13"), "no client came (R13)"),
            (Exit::Unknown, Some("R99"), "could not be started (R99)"),
            (Exit::Unknown, Some("lost"), "lost"),
            (Exit::Signal(15), Some("ttl"), "its time was up"),
            (
                Exit::Signal(9),
                Some("disk"),
                "had more on disk than its size allows, SIGKILL",
            ),
            (Exit::Signal(9), Some("cycled"), "cycled, SIGKILL"),
            (Exit::Status(7), Some("newer"), "newer, exit 7"),
        ] {
            assert_eq!(told(exit, reason), words);
        }
    }

    #[test]
    fn an_end_is_for_its_reason() {
        let ended = |reason: EndReason| DynoEnd {
            at: Timestamp::UNIX_EPOCH,
            exit: Exit::Unknown,
            reason: reason.as_str().map(str::to_owned),
            message: None,
            spent: Spent::default(),
        };
        assert!(ended(EndReason::Exited).is_for(EndReason::Exited));
        assert!(ended(EndReason::Lost).is_for(EndReason::Lost));
        assert!(!ended(EndReason::Lost).is_for(EndReason::Exited));
    }
}
