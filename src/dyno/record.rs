//! A dyno as the store has it: a mirror of what its supervisor says.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DynoName, DynoState};
use crate::app::AppName;
use crate::release::Version;

/// How a dyno is tied to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// Not at all; its output goes to the log.
    Detached,
    /// By a terminal.
    Terminal,
    /// By three pipes.
    Pipes,
}

impl Attach {
    /// The word of the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Detached => "detached",
            Self::Terminal => "terminal",
            Self::Pipes => "pipes",
        }
    }

    /// The kind of this word.
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
    /// Its command left with this status.
    Status(u8),
    /// A signal of this number ended its command.
    Signal(u8),
    /// Nobody knows: the dyno never ran its command, or what watched it is gone.
    Unknown,
}

impl Exit {
    /// What a shell would report: the status, or 128 + the signal's number. For an end that nobody saw,
    /// 128, as Heroku has it for a dyno that never ran.
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
    /// Its command did.
    Exited,
    /// Somebody stopped it.
    Stopped,
    /// No client came (R13).
    AttachTimeout,
    /// Its client left before the command began.
    Disconnected,
    /// It could not be started.
    StartFailed,
    /// It had lived for as long as any dyno may.
    Cycled,
    /// It had lived for as long as whoever asked for it wanted.
    TimeToLive,
    /// Its supervisor is gone.
    Lost,
}

impl EndReason {
    /// The word of the store; none for the usual end.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Exited => None,
            Self::Stopped => Some("stopped"),
            Self::AttachTimeout => Some("R13"),
            Self::Disconnected => Some("disconnected"),
            Self::StartFailed => Some("R99"),
            Self::Cycled => Some("cycled"),
            Self::TimeToLive => Some("ttl"),
            Self::Lost => Some("lost"),
        }
    }
}

/// A supervisor's last word on its dyno, which it also leaves in the dyno's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The last state: complete, or crashed.
    pub state: DynoState,
    /// How the command ended.
    pub exit: Exit,
    /// Why.
    pub reason: EndReason,
    /// What went wrong, if it could not be started.
    pub message: Option<String>,
    /// When it ended, in microseconds since 1970; unknown of one whose supervisor was lost.
    #[serde(default)]
    pub at_us: Option<i64>,
}

/// A dyno, alive or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dyno {
    /// A uuid, unlike the name never used again.
    pub id: String,
    /// The app's uuid.
    pub app_id: String,
    /// The app's name.
    pub app_name: AppName,
    /// The uuid of the release it runs.
    pub release_id: String,
    /// That release's number.
    pub release_version: Version,
    /// Its name within the app.
    pub name: DynoName,
    /// The command as it was given, a process type not replaced.
    pub command: String,
    /// Its size, by name.
    pub size: String,
    /// Where it is in its life.
    pub state: DynoState,
    /// How it is tied to a client.
    pub attach: Attach,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its state last changed.
    pub updated_at: Timestamp,
    /// When and how it ended.
    pub ended: Option<Ended>,
}

/// The end of a dyno.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// How.
    pub exit: Exit,
    /// Why, where the command's own end is not the reason: `R13`, `stopped`, `lost`.
    pub reason: Option<String>,
}
