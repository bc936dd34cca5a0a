//! Keeps a log that no process writes to within its limits.

use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::folder::LogFolder;
use super::retention::make_room;
use super::writer::{self, LogWriter};
use super::{SEGMENTS, search};
use crate::model::log_limits::LogLimits;
use crate::model::log_line;

/// Drops the lines of the log in `folder` that are too old or too many. Writers keep to the size themselves; this is
/// for a log without a writer, and for changed limits. A log that does not exist is no error.
pub fn enforce(folder: &Path, limits: LogLimits) -> io::Result<()> {
    let Some(folder) = LogFolder::open(folder)? else {
        return Ok(());
    };
    // Only whole sealed segments are dropped, so a segment is sealed once its lines span a part of the time.
    let before = Timestamp::now()
        .checked_sub(limits.age / SEGMENTS as u32)
        .map_or(String::new(), log_line::time);
    writer::seal_newest(&folder, |newest| {
        Ok(search::first_time(newest)?.is_some_and(|first| first < before))
    })?;
    let mut dropped = None;
    make_room(&folder, limits, &mut dropped)?;
    match dropped.and_then(|dropped| dropped.notice(Timestamp::now())) {
        Some(notice) => LogWriter::of(folder, limits)?.append(&notice),
        None => Ok(()),
    }
}
