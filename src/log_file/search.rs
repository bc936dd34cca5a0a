//! Finds the cursor in a log at which to begin reading.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use memchr::{memchr_iter, memrchr, memrchr_iter};

use super::folder::LogFolder;
use super::reader::line_start;
use super::{BLOCK, Cursor};
use crate::model::log_line;

/// How much later a line may stand after one with a later time: a line gets its time before its writer waits for the lock.
const DISORDER: SignedDuration = SignedDuration::from_secs(2);

/// The cursor after the last line of the log in `folder`. A log that does not exist is empty.
pub fn end(folder: &Path) -> io::Result<Cursor> {
    last_lines(folder, 0, |_| true)
}

/// The cursor of the last `count` lines for which `matches` is true; of the first such line if there are fewer; the end
/// of the log if there are none. The caller has to filter the lines from there on again.
///
/// The log is read backwards, in blocks, no farther than needed.
pub fn last_lines(
    folder: &Path,
    count: usize,
    mut matches: impl FnMut(&[u8]) -> bool,
) -> io::Result<Cursor> {
    let Some(folder) = LogFolder::open(folder)? else {
        return Ok(Cursor::default());
    };
    let (mut found, mut missing, mut block) = (None, count, vec![0; BLOCK]);
    for segment in folder.segments()?.into_iter().rev() {
        // Dropped meanwhile, and all before it.
        let Some(file) = folder.reader(segment)? else {
            break;
        };
        let mut end = file.metadata()?.size();
        if found.is_none() {
            // A line without a line feed is still being written.
            end = whole_until(&file, end, &mut block)?;
            found = Some(Cursor {
                segment,
                offset: end,
            });
        }
        while end > 0 && missing > 0 {
            let start = end.saturating_sub(BLOCK as u64);
            let block = &mut block[..(end - start) as usize];
            file.read_exact_at(block, start)?;
            let mut line_end = block.len();
            // The last byte ends the last line; each line feed before it ends the one before.
            for feed in memrchr_iter(b'\n', &block[..line_end - 1]) {
                if missing > 0 && matches(&block[feed + 1..line_end]) {
                    missing -= 1;
                    found = Some(Cursor {
                        segment,
                        offset: start + feed as u64 + 1,
                    });
                }
                line_end = feed + 1;
            }
            // The beginning of the first line is in the block before, unless there is none, or the line is longer than a block.
            if start == 0 || line_end == block.len() && block.len() == BLOCK {
                if missing > 0 && matches(&block[..line_end]) {
                    missing -= 1;
                    found = Some(Cursor {
                        segment,
                        offset: start,
                    });
                }
                line_end = 0;
            }
            end = start + line_end as u64;
        }
        if missing == 0 {
            break;
        }
    }
    Ok(found.unwrap_or_default())
}

/// The offset after the last line feed before `end`.
fn whole_until(file: &File, end: u64, block: &mut [u8]) -> io::Result<u64> {
    let start = end.saturating_sub(block.len() as u64);
    let block = &mut block[..(end - start) as usize];
    file.read_exact_at(block, start)?;
    Ok(memrchr(b'\n', block).map_or(start, |feed| start + feed as u64 + 1))
}

/// The cursor of the first line that was written at `time` or later; the end of the log if there is none.
///
/// Lines stand almost in the order of their times, so only a few have to be looked at.
pub fn since(folder: &Path, time: Timestamp) -> io::Result<Cursor> {
    let path = folder;
    let Some(folder) = LogFolder::open(path)? else {
        return Ok(Cursor::default());
    };
    let wanted = log_line::time(time);
    let early = log_line::time(time.saturating_sub(DISORDER).unwrap_or(Timestamp::MIN));
    let mut block = vec![0; BLOCK];
    // The line may be in the last segment whose first line is too early.
    let segments = folder.segments()?;
    let begins_early = |&segment: &u64| {
        // A segment that was dropped meanwhile was the oldest.
        folder.reader(segment).is_ok_and(|file| {
            file.is_none_or(|file| {
                first_line(&file, 0, &mut block, |_| true)
                    .is_ok_and(|first| first.is_some_and(|(_, at)| at < early))
            })
        })
    };
    let first = segments.partition_point(begins_early).saturating_sub(1);
    for &segment in &segments[first..] {
        let Some(file) = folder.reader(segment)? else {
            continue;
        };
        // The line at `low` is too early, or the first; the next line from `high` on is not, or does not exist.
        let (mut low, mut high) = (0, file.metadata()?.size());
        while high - low > BLOCK as u64 {
            let middle = low + (high - low) / 2;
            match first_line(&file, line_start(&file, middle)?, &mut block, |_| true)? {
                Some((start, at)) if start < high && at < early => low = start,
                _ => high = middle,
            }
        }
        let found = first_line(&file, low, &mut block, |at| at >= wanted.as_bytes())?;
        if let Some((offset, _)) = found {
            return Ok(Cursor { segment, offset });
        }
    }
    end(path)
}

/// The time of the first line of a segment, as in the line.
pub fn first_time(file: &File) -> io::Result<Option<String>> {
    let first = first_line(file, 0, &mut vec![0; BLOCK], |_| true)?;
    Ok(first.map(|(_, time)| time))
}

/// The first line from the line at `offset` on whose time `wanted` accepts: its offset and its time. Lines without a
/// time are skipped.
fn first_line(
    file: &File,
    mut offset: u64,
    block: &mut [u8],
    wanted: impl Fn(&[u8]) -> bool,
) -> io::Result<Option<(u64, String)>> {
    loop {
        let read = file.read_at(block, offset)?;
        let mut begin = 0;
        for feed in memchr_iter(b'\n', &block[..read]) {
            if let Some(line) = log_line::parse(&block[begin..feed])
                && wanted(line.time)
            {
                let time = String::from_utf8_lossy(line.time).into_owned();
                return Ok(Some((offset + begin as u64, time)));
            }
            begin = feed + 1;
        }
        // A block without a line feed is skipped whole.
        let passed = if begin == 0 { read } else { begin };
        if passed == 0 || begin == 0 && read < block.len() {
            return Ok(None);
        }
        offset += passed as u64;
    }
}
