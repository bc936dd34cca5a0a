//! What the client of a command with a terminal says of its own, so that the command's begins as that is.

use serde::{Deserialize, Serialize};

/// A client's terminal, beside its size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The settings that the command's is to begin with.
    #[serde(default)]
    pub settings: Option<TerminalSettings>,
    /// The client wants to hear when the command has stopped, and says when it is to go on.
    #[serde(default)]
    pub job_control: bool,
}

/// The settings of a terminal that another one can take over: what its keys mean and how lines are read and shown. Not how
/// reads wait (`VMIN`, `VTIME`), nor what only a serial line has. The bits are Linux's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSettings {
    /// `c_iflag`.
    pub input: u32,
    /// `c_oflag`.
    pub output: u32,
    /// `c_lflag`.
    pub local: u32,
    /// In the order that `pty` has for them; those of a newer program may be more.
    pub keys: Vec<u8>,
    /// In bits per second, which some programs still go by.
    pub speed: u32,
}
