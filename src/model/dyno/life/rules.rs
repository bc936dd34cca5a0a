//! The times and conditions of one dyno's life, and why it is stopped.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::dyno::EndReason;

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
    /// How much memory it may have.
    pub memory: MemoryRule,
}

/// How much memory a dyno may have, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MemoryRule {
    /// Above this, the log says so (R14).
    pub quota: u64,
    /// Above this, the dyno is killed (R15).
    pub limit: u64,
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
    pub(super) fn end(self) -> EndReason {
        match self {
            Self::Stopped => EndReason::Stopped,
            Self::Restarted => EndReason::Restarted,
            Self::ScaledDown => EndReason::ScaledDown,
            Self::Cycled => EndReason::Cycled,
        }
    }
}
