//! One reader of a log: what it is given next.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use memchr::memrchr;

use super::form::{KEEP_ALIVE, LogForm};
use crate::error::tell;
use crate::log_file::{Cursor, LogReader};
use crate::model::log_line::{self, Filter, LogSource};
use crate::server::api_loop::application::{More, Recipient};

/// Bytes that are read of a log at a time.
const PIECE: usize = 64 * 1024;

/// After how many bytes that held nothing for it the reader is told how far it has come. So one that waits for a rare
/// line and loses its connection does not ask for what was dropped meanwhile.
const REMIND: u64 = 1 << 20;

/// See the [module](self).
pub struct Tail {
    /// Who reads.
    pub to: Recipient,
    /// The app whose log is read.
    pub app_id: String,
    /// The folder of that log.
    pub folder: PathBuf,
    /// When the reader has had enough.
    pub until: Until,
    /// The app is no more; nothing new will come.
    pub destroyed: bool,
    /// The reader's token is good no more.
    pub refused: bool,
    /// It has all there is.
    pub waiting: bool,
    /// It has waited for long: something that says nothing is to be sent.
    pub keep_alive: bool,
    form: LogForm,
    greeted: bool,
    reader: LogReader,
    filter: Filter,
    /// The place that the reader was told last.
    told: Cursor,
    /// The time of the last line that was read, as the line has it.
    last_time: Vec<u8>,
    /// What was read, to be used again.
    block: Vec<u8>,
}

/// What a reader is to be given.
pub struct Wanted {
    /// Who reads.
    pub to: Recipient,
    /// The app whose log is read.
    pub app_id: String,
    /// The folder of that log.
    pub folder: PathBuf,
    /// Which lines.
    pub filter: Filter,
    /// When the reader has had enough.
    pub until: Until,
    /// In what form it takes them.
    pub form: LogForm,
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
    /// Its token is good no more, and it has been told so.
    Refused,
}

impl Tail {
    /// A reader from `begin` on.
    ///
    /// # Errors
    /// When the folder cannot be looked into.
    pub fn open(wanted: Wanted, begin: Cursor) -> io::Result<Self> {
        let Wanted {
            to,
            app_id,
            folder,
            filter,
            until,
            form,
        } = wanted;
        Ok(Self {
            reader: LogReader::open(&folder, Some(begin))?,
            to,
            app_id,
            folder,
            until,
            destroyed: false,
            refused: false,
            waiting: false,
            keep_alive: false,
            form,
            greeted: false,
            filter,
            told: begin,
            last_time: Vec::new(),
            block: Vec::new(),
        })
    }

    /// Whether it goes on when it has read what is there.
    pub fn waits_for_more(&self) -> bool {
        !matches!(self.until, Until::Reached { .. })
    }

    /// Whether its client is to hear something now and then.
    pub fn wants_keep_alive(&self) -> bool {
        matches!(self.form, LogForm::Events { .. })
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
        if !self.greeted {
            // From here on nothing is lost, even if the connection is before the first line.
            self.greeted = true;
            return Ok(More::Bytes(self.form.greeting(self.told)));
        }
        if self.refused {
            return Ok(self.last_words());
        }
        if std::mem::take(&mut self.keep_alive) {
            return Ok(More::Bytes(KEEP_ALIVE.to_vec()));
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
        let mut piece = Vec::new();
        if self.reader.take_skipped().is_some() {
            self.say_that_lines_are_missing(self.begin_of(block), &mut piece);
        }
        if found {
            self.pick(block, &mut piece);
            if let Some(last) = last_line(block) {
                self.last_time.clear();
                self.last_time.extend_from_slice(last.time);
            }
        }
        let at = self.reader.cursor();
        if !piece.is_empty() {
            self.told = at;
            return More::Bytes(self.form.piece(at, piece));
        }
        match found {
            true if self.is_far() => {
                self.told = at;
                More::Bytes(self.form.reminder(at))
            }
            true => More::Bytes(Vec::new()),
            false if over || !self.waits_for_more() => More::End,
            false => More::Later,
        }
    }

    /// Where the lines of `block` begin, which were read last. (A torn one has a line feed more than the log.)
    fn begin_of(&self, block: &[u8]) -> Cursor {
        let Cursor { segment, offset } = self.reader.cursor();
        Cursor {
            segment,
            offset: offset.saturating_sub(block.len() as u64),
        }
    }

    /// Appends what is wanted of `block` to `piece`.
    fn pick(&mut self, block: &[u8], piece: &mut Vec<u8>) {
        let form = self.form;
        let all = self.filter == Filter::default()
            && matches!(self.until, Until::DynoEnds { .. } | Until::Destroyed);
        if all && matches!(form, LogForm::Records | LogForm::Lines) {
            return piece.extend_from_slice(block);
        }
        let end = self.reader.cursor();
        let mut left = match self.until {
            Until::Reached {
                lines: Some(left), ..
            } => left,
            _ => u32::MAX,
        };
        let mut rest = block;
        for line in block.split_inclusive(|byte| *byte == b'\n') {
            rest = &rest[line.len()..];
            if left == 0 {
                break;
            }
            if self.filter.matches(line) {
                let after = Cursor {
                    offset: end.offset.saturating_sub(rest.len() as u64),
                    ..end
                };
                form.put(line, after, piece);
                left -= 1;
            }
        }
        if let Until::Reached {
            lines: Some(lines), ..
        } = &mut self.until
        {
            *lines = left;
        }
    }

    /// What a reader is told whose token is good no more; then nothing.
    fn last_words(&mut self) -> More {
        if std::mem::replace(&mut self.until, Until::Refused) == Until::Refused {
            return More::End;
        }
        let mut line = Vec::new();
        let text = b"This session has ended: its token was revoked, or has expired";
        log_line::append(
            &mut line,
            Timestamp::now(),
            LogSource::Heroku,
            "logplex",
            text,
        );
        let (at, mut piece) = (self.reader.cursor(), Vec::new());
        self.form.put(&line, at, &mut piece);
        More::Bytes(self.form.piece(at, piece))
    }

    /// Heroku's words, but for their number, which is not known.
    fn say_that_lines_are_missing(&self, before: Cursor, piece: &mut Vec<u8>) {
        let mut text = b"L11 (Tail buffer overflow) -> This tail session dropped messages".to_vec();
        // One that comes back after they were dropped knows no time.
        if !self.last_time.is_empty() {
            text.extend_from_slice(b" since ");
            text.extend_from_slice(&self.last_time);
        }
        let mut line = Vec::new();
        let now = Timestamp::now();
        log_line::append(&mut line, now, LogSource::Heroku, "logplex", &text);
        self.form.put(&line, before, piece);
    }

    /// Whether much was read since the reader was told where it is.
    fn is_far(&self) -> bool {
        let at = self.reader.cursor();
        let far = at.offset.saturating_sub(self.told.offset) >= REMIND;
        at.segment != self.told.segment || far
    }
}

/// The last line of whole lines, if it is one of ours.
fn last_line(block: &[u8]) -> Option<log_line::Line<'_>> {
    let body = block.strip_suffix(b"\n")?;
    let start = memrchr(b'\n', body).map_or(0, |feed| feed + 1);
    log_line::parse(&body[start..])
}
