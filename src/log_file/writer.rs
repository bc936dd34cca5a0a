//! Appends to a log, by the rule in the [parent module](super).

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use memchr::{memchr, memchr_iter, memrchr};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::folder::LogFolder;
use super::retention::{self, Dropped};
use crate::kernel::fail_point;
use crate::model::log_limits::LogLimits;
use crate::model::log_line::{self, LogSource};

/// How long a writer waits for the lock. Other writers hold it for as long as a write takes, which is long on a slow,
/// busy disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest pause between two tries for the lock.
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// One writer of an app's log.
#[derive(Debug)]
pub struct LogWriter {
    folder: LogFolder,
    limits: LogLimits,
    /// The size at which a segment is sealed, in bytes.
    pub(super) segment_size: u64,
    segment: Segment,
    /// How many lines could not be written, and since when.
    lost: Option<(u64, Timestamp)>,
    patience: Duration,
    /// Another process held the lock for longer than [`PATIENCE`], and probably still does.
    stuck: bool,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    file: File,
}

/// Why lines were not written, and how many bytes of them.
struct Unwritten {
    error: io::Error,
    bytes: usize,
}

impl LogWriter {
    /// Opens the log in `folder`, and makes it if it is missing.
    pub fn open(folder: &Path, limits: LogLimits) -> io::Result<Self> {
        Self::of(LogFolder::create(folder)?, limits)
    }

    /// A writer for a folder that is open already.
    pub(super) fn of(folder: LogFolder, limits: LogLimits) -> io::Result<Self> {
        Ok(Self {
            segment: newest(&folder, 1)?,
            folder,
            limits,
            segment_size: limits.segment(),
            lost: None,
            patience: PATIENCE,
            stuck: false,
        })
    }

    /// Sets how long to wait for other writers; lines that cannot be written by then are lost.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Appends `lines`, which must be whole lines, and drops old lines that take too much room. With no lines, it only
    /// writes how many were lost before, if any.
    ///
    /// # Errors
    /// When some could not be written. The log will say how many as soon as it can be written to; the caller need not
    /// do anything.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut dropped = None;
        let result = self
            .tell_lost()
            .and_then(|()| self.put(lines, &mut dropped));
        if let Some(notice) = dropped.and_then(|dropped| dropped.notice(Timestamp::now())) {
            let _ = self.put(&notice, &mut None);
        }
        result.map_err(|Unwritten { error, bytes }| {
            let lost = memchr_iter(b'\n', &lines[lines.len() - bytes.min(lines.len())..]).count();
            let (count, _) = self.lost.get_or_insert_with(|| (0, Timestamp::now()));
            *count += lost as u64;
            error
        })
    }

    /// How many lines could not be written, of which the log does not say so yet.
    pub fn lost(&self) -> u64 {
        self.lost.map_or(0, |(count, _)| count)
    }

    /// Writes the line that says how many were lost.
    fn tell_lost(&mut self) -> Result<(), Unwritten> {
        let Some((count, since)) = self.lost else {
            return Ok(());
        };
        let text = format!(
            "Error L13: {count} messages lost since {}.",
            log_line::time(since)
        );
        let mut line = Vec::new();
        log_line::append(
            &mut line,
            Timestamp::now(),
            LogSource::App,
            "log-shuttle",
            text.as_bytes(),
        );
        self.put(&line, &mut None).map_err(|unwritten| Unwritten {
            // If that fails, all lines after it are lost.
            bytes: usize::MAX,
            ..unwritten
        })?;
        self.lost = None;
        Ok(())
    }

    fn put(&mut self, mut lines: &[u8], dropped: &mut Option<Dropped>) -> Result<(), Unwritten> {
        while !lines.is_empty() {
            let bytes = lines.len();
            let failed = |error| Unwritten { error, bytes };
            fail_point::attempt("log.appending").map_err(failed)?;
            match self.write_some(lines)? {
                Progress::Written(count) => {
                    fail_point::reach("log.appended");
                    lines = &lines[count..];
                }
                Progress::Sealed => {
                    self.segment = newest(&self.folder, self.segment.number + 1).map_err(failed)?;
                }
                Progress::Full => {
                    fail_point::reach("log.sealed");
                    self.segment = newest(&self.folder, self.segment.number + 1).map_err(failed)?;
                    // What cannot be dropped now is dropped when the next segment is full.
                    let _ = retention::make_room(&self.folder, self.limits, dropped);
                }
            }
        }
        Ok(())
    }

    /// Takes the lock, and writes as many of `lines` as the segment has room for.
    fn write_some(&mut self, lines: &[u8]) -> Result<Progress, Unwritten> {
        let failed = |error| Unwritten {
            error,
            bytes: lines.len(),
        };
        self.wait_for_lock().map_err(failed)?;
        let _lock = Lock(&self.segment.file);
        let Segment { number, file } = &self.segment;
        // Checked in this order: segments are dropped oldest first.
        if self.folder.stat(number + 1).map_err(failed)?.is_some() {
            return Ok(Progress::Sealed);
        }
        let there = file.metadata().map_err(failed)?;
        if there.nlink() == 0 {
            return Ok(Progress::Sealed);
        }
        let room = self.segment_size.saturating_sub(there.size());
        let mut fitting = whole_lines(lines, room);
        if fitting == 0 {
            if there.size() > 0 && self.folder.make(number + 1).is_ok() {
                return Ok(Progress::Full);
            }
            // A line that is larger than a segment; or the disk has no room for a new file, but perhaps in this one.
            fitting = memchr(b'\n', lines).map_or(lines.len(), |end| end + 1);
        }
        if is_torn(file, there.size()).map_err(failed)? {
            write_all(file, b"\n").map_err(|(error, _)| failed(error))?;
        }
        match write_all(file, &lines[..fitting]) {
            Ok(()) => Ok(Progress::Written(fitting)),
            Err((error, written)) => Err(Unwritten {
                error,
                bytes: lines.len() - written,
            }),
        }
    }

    fn wait_for_lock(&mut self) -> io::Result<()> {
        let (mut began, mut pause) = (None, Duration::from_micros(20));
        loop {
            match rustix::fs::flock(&self.segment.file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    self.stuck = false;
                    return Ok(());
                }
                Err(Errno::WOULDBLOCK) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if self.stuck || began.get_or_insert_with(Instant::now).elapsed() > self.patience {
                self.stuck = true;
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another process keeps the log locked",
                ));
            }
            thread::sleep(pause);
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }
}

/// The result of a try to write.
enum Progress {
    /// This many bytes have been written.
    Written(usize),
    /// Another process has sealed the segment: there are newer ones.
    Sealed,
    /// This writer has sealed the segment.
    Full,
}

/// A held lock. It is released explicitly: closing the file would not release it while a child that is just being
/// started has a copy of the descriptor.
struct Lock<'a>(&'a File);

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}

/// The newest segment; if there is none, makes number `least`.
fn newest(folder: &LogFolder, least: u64) -> io::Result<Segment> {
    loop {
        let Some(&number) = folder.segments()?.last() else {
            // Other processes may begin at another number; the next turn finds the newest.
            folder.make(least)?;
            continue;
        };
        // It may have been dropped meanwhile; then there are newer ones.
        if let Some(file) = folder.appender(number)? {
            return Ok(Segment { number, file });
        }
    }
}

/// Seals the newest segment, if `wanted` is true of it and no process is just writing to it.
pub fn seal_newest(
    folder: &LogFolder,
    wanted: impl FnOnce(&File) -> io::Result<bool>,
) -> io::Result<()> {
    let Some(&number) = folder.segments()?.last() else {
        return Ok(());
    };
    let Some(file) = folder.appender(number)? else {
        return Ok(());
    };
    if !wanted(&file)? {
        return Ok(());
    }
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let _lock = Lock(&file);
    // Another process may have sealed it before, and its successors may even have been dropped with it.
    if folder.stat(number + 1)?.is_none() && file.metadata()?.nlink() > 0 {
        folder.make(number + 1)?;
    }
    Ok(())
}

/// The length of the whole lines at the beginning of `lines` that fit into `room` bytes.
fn whole_lines(lines: &[u8], room: u64) -> usize {
    match usize::try_from(room) {
        Ok(room) if room < lines.len() => memrchr(b'\n', &lines[..room]).map_or(0, |end| end + 1),
        _ => lines.len(),
    }
}

/// Whether a file's last line has no line feed.
fn is_torn(file: &File, size: u64) -> io::Result<bool> {
    let mut last = [b'\n'];
    if size > 0 {
        file.read_at(&mut last, size - 1)?;
    }
    Ok(last != [b'\n'])
}

/// Writes all bytes; an error says how many were written.
fn write_all(mut file: &File, bytes: &[u8]) -> Result<(), (io::Error, usize)> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err((io::ErrorKind::WriteZero.into(), written)),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((error, written)),
        }
    }
    Ok(())
}
