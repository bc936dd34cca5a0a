//! Drops the oldest lines of a log, and leaves a line that says so.

use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use memchr::memchr_iter;

use super::BLOCK;
use super::folder::LogFolder;
use crate::kernel::fail_point;
use crate::model::log_limits::LogLimits;
use crate::model::log_line::{self, LogSource};

/// The process named in that line.
const SPEAKER: &str = "logplex";

/// Lines that were dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Dropped {
    lines: u64,
    /// The time of the first, as in the line.
    since: String,
    /// The only line was itself a notice of dropped lines.
    only_a_notice: bool,
}

impl Dropped {
    /// The line that says how many were dropped. None if only such a line was: else a log without a writer would
    /// announce for ever that its last notice was dropped.
    pub fn notice(&self, at: Timestamp) -> Option<Vec<u8>> {
        if self.only_a_notice {
            return None;
        }
        let text = format!(
            "Error L10 (output buffer overflow): {} messages dropped since {}.",
            self.lines, self.since
        );
        let mut line = Vec::new();
        log_line::append(&mut line, at, LogSource::Heroku, SPEAKER, text.as_bytes());
        Some(line)
    }
}

/// Drops the oldest segments as long as all together, with the newest at its full size, are too large, or the oldest is
/// too old, and adds their lines to `dropped`. If several processes do so at once, the one that removes a segment
/// counts its lines.
pub fn make_room(
    folder: &LogFolder,
    limits: LogLimits,
    dropped: &mut Option<Dropped>,
) -> io::Result<()> {
    let mut segments = folder.segments()?;
    segments.pop();
    let mut sealed = Vec::new();
    for number in segments {
        sealed.extend(folder.stat(number)?.map(|stat| (number, stat)));
    }
    let (mut total, now) = (limits.segment(), now());
    total += sealed
        .iter()
        .map(|(_, stat)| stat.st_size as u64)
        .sum::<u64>();
    for (number, stat) in sealed {
        if total <= limits.bytes && !is_older(stat.st_mtime, limits.age, now) {
            break;
        }
        total -= stat.st_size as u64;
        let Some(file) = folder.reader(number)? else {
            continue;
        };
        if folder.remove(number)? {
            fail_point::reach("log.dropped");
            count(file, dropped)?;
        }
    }
    Ok(())
}

fn count(mut file: File, dropped: &mut Option<Dropped>) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    loop {
        let read = match file.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(read) => &block[..read],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let dropped = dropped.get_or_insert_with(|| {
            let first = read.split(|&byte| byte == b'\n').next().unwrap_or_default();
            let first = log_line::parse(first);
            Dropped {
                lines: 0,
                since: first.map_or("its beginning".to_owned(), |line| {
                    String::from_utf8_lossy(line.time).into_owned()
                }),
                only_a_notice: first.is_some_and(|line| line.process == SPEAKER.as_bytes()),
            }
        });
        dropped.lines += memchr_iter(b'\n', read).count() as u64;
        dropped.only_a_notice &= dropped.lines == 1;
    }
}

fn is_older(modified: i64, age: Duration, now: Duration) -> bool {
    Duration::from_secs(modified.max(0) as u64) + age < now
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
