//! An app's log on disk: whole lines, appended by many processes at once, read by a cursor.
//!
//! The log is a folder of numbered segments, `00000001.log`, `00000002.log`, …: plain text, without any other state.
//! Lines are only ever appended, and only to the newest segment; a segment is sealed once it has a successor.
//! Everything follows from one rule:
//!
//! **A process that appends to a segment, or makes its successor, holds the lock (`flock`) on it, and has checked,
//! under the lock, whether the successor exists.**
//!
//! - So once a successor exists, a segment does not change. A reader that has come to the end of one looks for the
//!   successor, reads once more, and goes on. A cursor (segment, offset) points to one line for ever, in any process.
//! - Making the successor is one system call, so there is no state in between to be repaired: after a crash at any
//!   point the successor either exists or not, and the next writer goes on from there. The kernel releases the locks of
//!   a process that has ended.
//! - Segments are dropped oldest first, and the newest never is. A writer whose segment was dropped together with the
//!   successor sees that its file has no name any more.
//! - A writer that was killed in the middle of a line leaves an incomplete one. The next writer sees that the last byte
//!   is no line feed, and begins with one. (To cut the incomplete line off would change bytes that a reader may be
//!   reading.)
//!
//! The kernel lets one process at a time write to a file in any case, so the lock, which is held for one batch of
//! lines, costs no speed. Since a process that was stopped (SIGSTOP, a debugger) keeps it, a writer waits for a limited
//! time: lines that cannot be written, for this reason or because the disk is full, are lost, and a line in the log
//! says how many as soon as it can be written to again. So no dyno is ever blocked for good by its log.
//!
//! `log_file/writer.rs` appends, `retention.rs` drops, `upkeep.rs` has that done where no process appends, `reader.rs`
//! follows, `search.rs` finds where to begin, `folder.rs` names the segments.

mod folder;
mod reader;
mod retention;
mod search;
#[cfg(test)]
mod tests;
mod upkeep;
mod writer;

use std::fmt;
use std::str::FromStr;

use crate::model::log_limits::LogLimits;

pub use reader::LogReader;
pub use search::{end, last_lines, since};
pub use upkeep::enforce;
pub use writer::LogWriter;

/// How many segments a full log has; one segment is dropped at a time.
const SEGMENTS: u64 = 16;

/// How many bytes are read at once, and so the longest line: what is longer (a power failure may leave zeros) is cut.
/// Log lines are far shorter.
const BLOCK: usize = 64 * 1024;

impl LogLimits {
    /// The size at which a segment is sealed, in bytes.
    fn segment(&self) -> u64 {
        (self.bytes / SEGMENTS).max(1)
    }
}

/// A position between two lines of a log. The default is before the oldest line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The segment's number, from 1; 0 is before all segments.
    pub segment: u64,
    /// Bytes from the beginning of the segment.
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
