//! A dyno: its name, its state, and how it ended.

use serde::{Deserialize, Serialize};

/// The state of a dyno, as the API says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DynoState {
    /// Being built, or waiting for its client.
    Starting,
    /// Its command runs.
    Up,
    /// Asleep.
    Idle,
    /// Its command ended, or it did.
    Crashed,
    /// Scaled away.
    Down,
    /// A one-off that has ended.
    Complete,
}

/// How a dyno ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// What `dyno run` exits with.
    pub exit_code: u8,
}
