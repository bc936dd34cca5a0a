//! An app's log on disk: whole lines, appended by many processes at once, read by a cursor.
//!
//! The log is a folder of numbered segments, `00000001.log`, `00000002.log`, …: plain text, and all the state there is.
//! Lines are only ever appended, and only to the newest segment; that a segment has a successor is what
//! seals it. All rests on one rule:
//!
//! **Whoever appends to a segment, or makes its successor, holds the lock (`flock`) on it, and has looked, under the
//! lock, whether the successor is there.**
//!
//! - So once a successor is seen, what is in a segment is final. A reader that has come to the end of one looks for the
//!   successor, reads once more, and goes on. A cursor (segment, offset) means the same line for ever, in any process.
//! - Making the successor is one system call, so there is no state in between to be repaired: after a crash at any
//!   point, either it is there or it is not, and the next writer goes on from there. The kernel drops the locks of the dead.
//! - Segments are dropped oldest first, and the newest never is. A writer that was away so long that its segment was
//!   dropped together with the successor sees that its file has no name any more.
//! - A writer that was killed in the middle of a line leaves a torn one. The next one sees that the last byte is no line
//!   feed, and begins with one. (To cut the torn line off would change bytes that a reader may be reading.)
//!
//! The kernel lets one process at a time write to a file in any case, so the lock takes no speed away, and it is held
//! for one batch of lines. Since a process that was stopped (SIGSTOP, a debugger) keeps it, nobody
//! waits for it for ever: lines that cannot be written, for this reason or because the disk is full, are lost, counted,
//! and told of in the log as soon as it can be written to again. No dyno is ever held up for good by its log.
//!
//! `log_file/writer.rs` appends, `retention.rs` drops, `reader.rs` follows, `search.rs` finds where to begin, `folder.rs`
//! knows the names.

mod folder;
mod reader;
mod retention;
mod search;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::str::FromStr;

use crate::model::log_limits::LogLimits;

pub use reader::LogReader;
pub use retention::enforce;
pub use search::{end, last_lines, since};
pub use writer::LogWriter;

/// How many segments a full log has: what is dropped at a time is this part of it.
const SEGMENTS: u64 = 16;

/// What is read in one go, and so the longest line that a reader takes for one. Lines of ours are far shorter; what is
/// longer (a power cut may leave zeros) is cut.
const BLOCK: usize = 64 * 1024;

impl LogLimits {
    /// The size at which a segment is sealed, in bytes.
    fn segment(&self) -> u64 {
        (self.bytes / SEGMENTS).max(1)
    }
}

/// A place between two lines of a log. The default is before the oldest line, whichever that is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The segment's number, from 1; 0 is before all.
    pub segment: u64,
    /// How many bytes of it lie before.
    pub offset: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

impl FromStr for Cursor {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (segment, offset) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self {
            segment: segment.parse()?,
            offset: offset.parse()?,
        })
    }
}
