//! What a client tells about its terminal, so that the command's terminal begins with its settings.

use serde::{Deserialize, Serialize};

/// A client's terminal, beside its size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientTerminal {
    /// The settings that the command's terminal is to begin with.
    #[serde(default)]
    pub settings: Option<TerminalSettings>,
    /// Whether the client wants to be told when the command stops, and says when to continue it.
    #[serde(default)]
    pub job_control: bool,
}

/// The settings of a terminal that are copied to another: keys, and how lines are read and shown. Not how reads wait
/// (`VMIN`, `VTIME`), nor those of serial lines. The bits are Linux's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSettings {
    /// `c_iflag`.
    pub input: u32,
    /// `c_oflag`.
    pub output: u32,
    /// `c_lflag`.
    pub local: u32,
    /// The special characters, in the order of `pty`; a newer client may send more.
    pub keys: Vec<u8>,
    /// The speed in bits per second, which some programs still use.
    pub speed: u32,
}
