//! One reader of a log: what it is given next.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use memchr::memrchr;

use crate::api::logs::put_record;
use crate::error::tell;
use crate::log_file::{Cursor, LogReader};
use crate::log_line::{self, Filter, Source};
use crate::server::application::More;

/// Bytes that are read of a log at a time.
const PIECE: usize = 64 * 1024;

/// After how many bytes that held nothing for it the reader is told how far it has come. So one that waits for a rare
/// line and loses its connection does not ask for what was dropped meanwhile.
const REMIND: u64 = 1 << 20;

/// See the [module](self).
pub struct Tail {
    pub app_id: String,
    pub folder: PathBuf,
    pub until: Until,
    /// The app is no more; nothing new will come.
    pub destroyed: bool,
    /// It has all there is.
    pub waiting: bool,
    reader: LogReader,
    filter: Filter,
    /// What the reader was told last; nothing yet.
    told: Option<Cursor>,
    /// The time of the last line that was read, as the line has it.
    last_time: Vec<u8>,
    /// What was read, to be used again.
    block: Vec<u8>,
}

/// When a reader has had enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Until {
    /// At this place, or after so many lines.
    Reached { end: Cursor, lines: Option<u32> },
    /// When this dyno has ended, and everything that was in the log by then was read.
    DynoEnds { id: String, ended: bool },
    /// When the app is destroyed.
    Destroyed,
}

impl Tail {
    /// A reader from `begin` on.
    ///
    /// # Errors
    /// When the folder cannot be looked into.
    pub fn open(
        app_id: String,
        folder: PathBuf,
        begin: Cursor,
        filter: Filter,
        until: Until,
    ) -> io::Result<Self> {
        Ok(Self {
            reader: LogReader::open(&folder, Some(begin))?,
            app_id,
            folder,
            until,
            destroyed: false,
            waiting: false,
            filter,
            told: None,
            last_time: Vec::new(),
            block: Vec::new(),
        })
    }

    /// Whether it goes on when it has read what is there.
    pub fn waits_for_more(&self) -> bool {
        !matches!(self.until, Until::Reached { .. })
    }

    /// The next piece. A log that cannot be read any more ends here; the client may come again.
    pub fn more(&mut self) -> More {
        self.try_more().unwrap_or_else(|error| {
            tell!(
                "cannot read the log in `{}`: {error}",
                self.folder.display()
            );
            More::End
        })
    }

    fn try_more(&mut self) -> io::Result<More> {
        if self.told.is_none() {
            // From here on nothing is lost, even if the connection is before the first line.
            return Ok(self.record(&[]));
        }
        // What is said after this look may be about lines that come after it.
        let over = self.destroyed || matches!(self.until, Until::DynoEnds { ended: true, .. });
        let Some(max) = self.room() else {
            return Ok(More::End);
        };
        let mut block = std::mem::take(&mut self.block);
        block.clear();
        let found = self.reader.read(&mut block, max);
        let more = found.map(|found| self.take(&block, found, over));
        self.block = block;
        if matches!(more, Ok(More::Later)) {
            self.waiting = true;
            // Who waits holds no memory.
            self.block = Vec::new();
        }
        more
    }

    /// How much may be read. None if that is nothing.
    fn room(&self) -> Option<usize> {
        let Until::Reached { end, lines } = &self.until else {
            return Some(PIECE);
        };
        let at = self.reader.cursor();
        if at >= *end || *lines == Some(0) {
            return None;
        }
        // In an earlier segment, the end of that is in the way.
        let left = match at.segment == end.segment {
            true => usize::try_from(end.offset - at.offset).unwrap_or(PIECE),
            false => PIECE,
        };
        Some(left.min(PIECE))
    }

    fn take(&mut self, block: &[u8], found: bool, over: bool) -> More {
        let mut lines = Vec::new();
        if self.reader.take_skipped().is_some() {
            self.say_that_lines_are_missing(&mut lines);
        }
        if found {
            self.pick(block, &mut lines);
            if let Some(last) = last_line(block) {
                self.last_time.clear();
                self.last_time.extend_from_slice(last.time);
            }
        }
        if !lines.is_empty() {
            return self.record(&lines);
        }
        match found {
            true if self.is_far() => self.record(&[]),
            true => More::Bytes(Vec::new()),
            false if over || !self.waits_for_more() => More::End,
            false => More::Later,
        }
    }

    /// Appends what is wanted of `block` to `lines`.
    fn pick(&mut self, block: &[u8], lines: &mut Vec<u8>) {
        let wanted = block
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| self.filter.matches(line));
        match &mut self.until {
            Until::Reached {
                lines: Some(left), ..
            } => {
                for line in wanted.take(*left as usize) {
                    lines.extend_from_slice(line);
                    *left -= 1;
                }
            }
            _ if self.filter == Filter::default() => lines.extend_from_slice(block),
            _ => wanted.for_each(|line| lines.extend_from_slice(line)),
        }
    }

    /// Heroku's words, but for their number, which nobody knows.
    fn say_that_lines_are_missing(&self, lines: &mut Vec<u8>) {
        let mut text = b"L11 (Tail buffer overflow) -> This tail session dropped messages".to_vec();
        // One that comes back after they were dropped knows no time.
        if !self.last_time.is_empty() {
            text.extend_from_slice(b" since ");
            text.extend_from_slice(&self.last_time);
        }
        let now = Timestamp::now();
        log_line::append(lines, now, Source::Heroku, "logplex", &text);
    }

    /// Whether much was read since the reader was told where it is.
    fn is_far(&self) -> bool {
        let (at, told) = (self.reader.cursor(), self.told.unwrap_or_default());
        at.segment != told.segment || at.offset - told.offset >= REMIND
    }

    fn record(&mut self, lines: &[u8]) -> More {
        let cursor = self.reader.cursor();
        let mut record = Vec::with_capacity(lines.len() + 32);
        put_record(cursor, lines, &mut record);
        self.told = Some(cursor);
        More::Bytes(record)
    }
}

/// The last line of whole lines, if it is one of ours.
fn last_line(block: &[u8]) -> Option<log_line::Line<'_>> {
    let body = block.strip_suffix(b"\n")?;
    let start = memrchr(b'\n', body).map_or(0, |feed| feed + 1);
    log_line::parse(&body[start..])
}
