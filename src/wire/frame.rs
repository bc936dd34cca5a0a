//! What a dyno's supervisor and its attached client tell each other.
//!
//! On a local connection the client is handed the command's streams themselves, as descriptors that come with
//! [`Frame::Up`]: the supervisor relays no byte, and a pipe through a dyno is as fast as a pipe. Frames carry the rest.
//! Each is a kind (u8), a length (u32, big-endian) and that many bytes of JSON. A client sends single bytes: `1` or `2`
//! when it no longer reads that output of the command, which then gets a broken pipe; `a` now and then while bytes go
//! through, which only the client sees; `i` to interrupt a command without a terminal; `c` to continue a stopped
//! command, and `z` when Ctrl-Z was typed, if `Up` says that the supervisor understands these. When the client closes
//! the connection, the command is hung up.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod attachment;
pub mod far;

use serde::{Deserialize, Serialize};

use crate::model::dyno::Exit;

/// The protocol's name in `Upgrade:`; a change that an older side could misread gets a new number.
pub const PROTOCOL: &str = "dyno-attach/1";

/// The longest payload; more is a protocol error.
pub const MAX_PAYLOAD: usize = 64 * 1024;

const HEADER: usize = 5;

/// The byte by which a client says that it does not read output `stream` (1 or 2) any more.
pub fn closing(stream: usize) -> u8 {
    if stream == 1 { b'1' } else { b'2' }
}

/// The output (1 or 2) that a client closes with this byte; None for any other byte.
pub fn closed_stream(byte: u8) -> Option<usize> {
    match byte {
        b'1' => Some(1),
        b'2' => Some(2),
        _ => None,
    }
}

/// The byte by which a client says that the command's streams are in use.
pub const ACTIVE: u8 = b'a';

/// The byte by which a client says that the command is to be interrupted, as by Ctrl-C.
pub const INTERRUPT: u8 = b'i';

/// The byte by which a client says that the stopped command is to be continued.
pub const CONTINUE: u8 = b'c';

/// The byte by which a client says that Ctrl-Z was typed, so that the supervisor looks whether it stops a process.
pub const STOP_TYPED: u8 = b'z';

/// The byte by which a client elsewhere says that its window has a new size: columns and lines follow, each a u16,
/// big-endian. A client on this host resizes the terminal itself.
pub const RESIZE: u8 = b'w';

/// One message of a supervisor to its client.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// The command runs. Comes with its streams as descriptors: the terminal's master, or the other ends of stdin,
    /// stdout and stderr, in this order.
    Up(Up),
    /// The command has stopped, and waits for [`CONTINUE`]. Sent only if `Up` has `job_control`.
    Stopped,
    /// The command has ended; nothing follows, but what it wrote may still be on its way.
    Exit(CommandEnd),
    /// The client gets no command, or its connection to it is closed; nothing follows.
    Error(AttachRefusal),
}

/// That the command runs, and how the client is connected to it: see [`Frame::Up`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Up {
    /// The streams are one terminal rather than pipes.
    pub terminal: bool,
    /// There are two pipes rather than three: stdout and stderr share one.
    #[serde(default)]
    pub one_output: bool,
    /// The client is told when the command stops, and may send [`CONTINUE`] and [`STOP_TYPED`].
    #[serde(default)]
    pub job_control: bool,
    /// After how many seconds without [`ACTIVE`] the connection is closed; 0: never.
    #[serde(default)]
    pub idle_timeout: f64,
}

/// How the command has ended: see [`Frame::Exit`]. On the wire it is `exit` alone where there is no `why`, as older
/// builds have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WireEnd", into = "WireEnd")]
pub struct CommandEnd {
    /// Its status, or the signal that ended it.
    pub exit: Exit,
    /// Why the command could not be executed, or was ended, for the person at the terminal.
    pub why: Option<String>,
}

impl From<Exit> for CommandEnd {
    fn from(exit: Exit) -> Self {
        Self { exit, why: None }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WireEnd {
    Alone(Exit),
    Explained { exit: Exit, why: String },
}

impl From<WireEnd> for CommandEnd {
    fn from(wire: WireEnd) -> Self {
        match wire {
            WireEnd::Alone(exit) => exit.into(),
            WireEnd::Explained { exit, why } => Self {
                exit,
                why: Some(why),
            },
        }
    }
}

impl From<CommandEnd> for WireEnd {
    fn from(CommandEnd { exit, why }: CommandEnd) -> Self {
        match why {
            None => Self::Alone(exit),
            Some(why) => Self::Explained { exit, why },
        }
    }
}

/// Why there is no command, or none any more: see [`Frame::Error`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRefusal {
    /// Why, for the person at the terminal.
    pub message: String,
    /// What to do next.
    #[serde(default)]
    pub hint: Option<String>,
    /// The client's exit code, if not that of a failure of dyno itself (125).
    #[serde(default)]
    pub exit_code: Option<u8>,
}

impl AttachRefusal {
    /// A refusal with a message alone.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            exit_code: None,
        }
    }

    /// Adds a hint what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The refusal that closes a connection that was idle for `seconds`. The command gets SIGHUP, and the client exits
    /// as after a SIGHUP.
    pub fn idle(seconds: f64) -> Self {
        Self {
            message: format!("the connection was closed after {seconds} s without input or output"),
            hint: Some("`idle_timeout` sets how long it may be idle: `dyno settings`".to_owned()),
            exit_code: Some(128 + 1),
        }
    }
}

/// Bytes that are no frame, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFrame(&'static str);

impl BadFrame {
    /// The error with this reason.
    pub fn because(why: &'static str) -> Self {
        Self(why)
    }
}

impl std::fmt::Display for BadFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bad attach frame: {}", self.0)
    }
}

impl std::error::Error for BadFrame {}

impl Frame {
    /// The frame's bytes on the wire. A refusal's message is cut to [`MAX_PAYLOAD`].
    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Self::Up(up) => (b'U', serde_json::to_vec(up)),
            Self::Stopped => (b'S', Ok(Vec::new())),
            Self::Exit(exit) => (b'X', serde_json::to_vec(exit)),
            Self::Error(refusal) => {
                // JSON makes at most six bytes of one.
                let message = refusal
                    .message
                    .chars()
                    .take(MAX_PAYLOAD / 6 - 1024)
                    .collect();
                (
                    b'E',
                    serde_json::to_vec(&AttachRefusal {
                        message,
                        ..refusal.clone()
                    }),
                )
            }
        };
        let payload = payload.unwrap_or_default();
        let mut bytes = Vec::with_capacity(HEADER.saturating_add(payload.len()));
        bytes.push(kind);
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// The first frame in `bytes` and its length; `None` while it is not all there.
    ///
    /// # Errors
    /// When `bytes` cannot become a frame whatever follows.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, BadFrame> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = *header;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_PAYLOAD {
            return Err(BadFrame("longer than 64 KiB"));
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = match kind {
            b'U' => serde_json::from_slice(payload).map(Self::Up),
            b'S' => Ok(Self::Stopped),
            b'X' => serde_json::from_slice(payload).map(Self::Exit),
            b'E' => serde_json::from_slice(payload).map(Self::Error),
            _ => return Err(BadFrame("unknown kind")),
        };
        frame
            .map(|frame| Some((frame, HEADER.saturating_add(length))))
            .map_err(|_| BadFrame("the payload is not valid for its kind"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<Frame> {
        vec![
            Frame::Up(Up {
                terminal: true,
                one_output: false,
                job_control: true,
                idle_timeout: 3600.0,
            }),
            Frame::Stopped,
            Frame::Exit(Exit::Status(3).into()),
            Frame::Exit(Exit::Signal(9).into()),
            Frame::Exit(CommandEnd {
                exit: Exit::Status(127),
                why: Some("no such file".to_owned()),
            }),
            Frame::Error(AttachRefusal::new("no \"room\"").hint("make some")),
        ]
    }

    #[test]
    fn frames_survive_any_split() {
        let bytes: Vec<u8> = frames().iter().flat_map(Frame::encode).collect();
        for cut in 0..bytes.len() {
            let (mut got, mut held) = (Vec::new(), Vec::new());
            for part in [&bytes[..cut], &bytes[cut..]] {
                held.extend_from_slice(part);
                while let Some((frame, length)) = Frame::decode(&held).unwrap() {
                    got.push(frame);
                    held.drain(..length);
                }
            }
            assert_eq!((got, held.len()), (frames(), 0));
        }
    }

    #[test]
    fn garbage_is_an_error_and_not_a_wait() {
        assert!(Frame::decode(b"Z\0\0\0\0").is_err());
        assert!(Frame::decode(b"X\xff\xff\xff\xff").is_err());
        assert!(Frame::decode(b"X\0\0\0\x02{}").is_err());
        assert_eq!(Frame::decode(b"X\0\0"), Ok(None));
    }

    #[test]
    fn the_longest_refusal_keeps_the_bound() {
        let message = "\u{1}".repeat(200_000);
        let bytes = Frame::Error(AttachRefusal::new(message)).encode();
        assert!(bytes.len() <= MAX_PAYLOAD + HEADER);
        assert!(matches!(
            Frame::decode(&bytes),
            Ok(Some((Frame::Error(_), _)))
        ));
    }
}
