//! What a command reads and writes, as server, supervisor and PID 1 tell each other.

use serde::{Deserialize, Serialize};

use crate::model::window::WindowSize;

/// What a command's standard streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandStreams {
    /// One terminal for all three, of this size at the start.
    Terminal(WindowSize),
    /// Three pipes.
    Pipes,
    /// Two pipes: both outputs go into one, in the order in which they are written.
    Merged,
    /// No input; both outputs go into one pipe.
    Output,
    /// Both outputs go into one pipe, and the input does not end: a program that reads it waits as long as the dyno lives.
    OutputAndOpenInput,
    /// Those of the process that made the sandbox.
    Inherited,
}
