//! Reads a log from a cursor on, across segments.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use memchr::{memchr, memrchr};

use super::folder::LogFolder;
use super::{BLOCK, Cursor};

/// Lines that were dropped before they could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// The cursor of the first of them.
    pub from: Cursor,
    /// The cursor at which reading went on.
    pub to: Cursor,
}

/// One reader of an app's log. It goes from segment to segment, and never waits: to follow the log, the caller asks again.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    folder: Option<LogFolder>,
    /// The cursor after the last line that was read.
    at: Cursor,
    /// The segment of `at`.
    file: Option<File>,
    skipped: Option<Skipped>,
}

impl LogReader {
    /// A reader of the log in `folder` from `cursor` on, or else from the oldest line. A log that does not exist yet is empty.
    ///
    /// # Errors
    /// When the folder cannot be opened.
    pub fn open(folder: &Path, cursor: Option<Cursor>) -> io::Result<Self> {
        Ok(Self {
            path: folder.to_owned(),
            folder: LogFolder::open(folder)?,
            at: cursor.unwrap_or_default(),
            file: None,
            skipped: None,
        })
    }

    /// The cursor after the last line that was read.
    pub fn cursor(&self) -> Cursor {
        self.at
    }

    /// The lines that were dropped before they could be read, since the last call.
    pub fn take_skipped(&mut self) -> Option<Skipped> {
        self.skipped.take()
    }

    /// Appends the next whole lines to `into`, about `max` bytes at most. False when there are no more at present.
    pub fn read(&mut self, into: &mut Vec<u8>, max: usize) -> io::Result<bool> {
        while self.enter()? {
            if self.read_segment(into, max, false)? {
                return Ok(true);
            }
            // A segment is complete once its successor exists, so look for the successor before reading.
            let (Some(folder), Some(file)) = (&self.folder, &self.file) else {
                break;
            };
            let next = self.at.segment + 1;
            if folder.stat(next)?.is_some() {
                if self.read_segment(into, max, true)? {
                    return Ok(true);
                }
                self.at = Cursor {
                    segment: next,
                    offset: 0,
                };
            } else if file.metadata()?.nlink() > 0 {
                return Ok(false);
            }
            // Otherwise the segment was dropped, and its successor with it.
            self.file = None;
        }
        Ok(false)
    }

    /// Opens the segment of the cursor, or the oldest one if that was dropped. False if there is none.
    fn enter(&mut self) -> io::Result<bool> {
        if self.file.is_some() {
            return Ok(true);
        }
        if self.folder.is_none() {
            self.folder = LogFolder::open(&self.path)?;
        }
        let Some(folder) = &self.folder else {
            return Ok(false);
        };
        if let Some(file) = folder.reader(self.at.segment)? {
            self.at.offset = line_start(&file, self.at.offset)?;
            self.file = Some(file);
            return Ok(true);
        }
        while let Some(&oldest) = folder.segments()?.first() {
            // This one may be dropped meanwhile, too.
            if let Some(file) = folder.reader(oldest)? {
                let to = Cursor {
                    segment: oldest,
                    offset: 0,
                };
                if self.at.segment > 0 {
                    let from = self.skipped.map_or(self.at, |before| before.from);
                    self.skipped = Some(Skipped { from, to });
                }
                self.at = to;
                self.file = Some(file);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads whole lines of this segment. If it is `sealed`, an incomplete line at its end counts, too.
    fn read_segment(&mut self, into: &mut Vec<u8>, max: usize, sealed: bool) -> io::Result<bool> {
        let Some(file) = &self.file else {
            return Ok(false);
        };
        let (begin, mut wanted) = (into.len(), max.max(1));
        loop {
            into.resize(begin + wanted, 0);
            let read = match file.read_at(&mut into[begin..], self.at.offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    into.truncate(begin);
                    return Err(error);
                }
                Ok(read) => read,
            };
            let whole = memrchr(b'\n', &into[begin..begin + read]).map(|end| end + 1);
            if whole.is_none() && read == wanted && read < BLOCK {
                // The line is longer than what was asked for.
                wanted = BLOCK;
                continue;
            }
            // An incomplete or overlong line is returned as a line.
            let torn = whole.is_none() && read > 0 && (sealed || read >= BLOCK);
            let count = if torn { read } else { whole.unwrap_or(0) };
            into.truncate(begin + count);
            self.at.offset += count as u64;
            if torn {
                into.push(b'\n');
            }
            return Ok(count > 0);
        }
    }
}

/// The first beginning of a line from `offset` on: `offset` itself, if it is at one, as every cursor is.
pub fn line_start(file: &File, offset: u64) -> io::Result<u64> {
    let size = file.metadata()?.size();
    if offset == 0 || offset >= size {
        return Ok(offset.min(size));
    }
    let mut block = vec![0; BLOCK];
    let read = file.read_at(&mut block, offset - 1)?;
    Ok(memchr(b'\n', &block[..read]).map_or(offset, |end| offset + end as u64))
}
