//! HTTP/1.1 without I/O: bytes in, facts out. Server side and client side.
//!
//! The caller owns the socket and the buffer. [`HeadReader`] finds and reads the head of a message,
//! [`BodyDecoder`] takes its body apart, [`Response`] and [`chunk`] write. Syntax of lines is left to
//! `httparse`; what makes two parties disagree about where a message ends (bare LF, folded lines,
//! two lengths, chunk extensions) is decided here, strictly: such a message is refused, never
//! repaired. Used by the API's loop, the command line's client and the router.

pub mod body;
pub mod chunk;
pub mod fields;
pub mod head;
mod lines;
pub mod message;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

pub use body::BodyDecoder;
pub use chunk::Decoded;
pub use head::{Framing, HeadReader, RequestHead, ResponseHead};
pub use message::{RequestLine, Response};

/// Bounds on the head of an HTTP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the first line and of each header line, without its CRLF.
    pub line: usize,
    /// Bytes of the whole head, with every CRLF. Less than 4 GiB.
    pub head: usize,
    /// Header lines.
    pub fields: usize,
}

impl HeadLimits {
    /// The bounds of the API, for requests and responses: lines of 8 KiB, heads of 64 KiB, 100 header lines.
    pub const API: Self = Self {
        line: 8 * 1024,
        head: 64 * 1024,
        fields: 100,
    };
}

/// A message that is refused. A request is answered with [`status`](Self::status), and its connection is closed, since
/// it is not known where the next message would begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRefusal {
    /// The status to answer with. Means nothing for a refused response.
    pub status: u16,
    /// What is wrong with the message; if it passes a bound, which one.
    pub why: Cow<'static, str>,
}

impl HttpRefusal {
    /// A refusal with `400 Bad Request`.
    pub(crate) const fn bad(why: &'static str) -> Self {
        Self::new(400, why)
    }

    /// A refusal with any other status.
    pub(crate) const fn new(status: u16, why: &'static str) -> Self {
        let why = Cow::Borrowed(why);
        Self { status, why }
    }

    /// A refusal because `what` passes its bound `most`.
    pub(crate) fn over(status: u16, what: &str, most: impl fmt::Display) -> Self {
        let why = Cow::Owned(format!("too many {what}: {most} at most"));
        Self { status, why }
    }
}

impl fmt::Display for HttpRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for HttpRefusal {}
