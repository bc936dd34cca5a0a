//! Where in a log a reader begins, and where one that does not wait for more ends.

use std::io;
use std::path::Path;

use jiff::Timestamp;

use crate::api::logs::{LogQuery, USUAL_LINES};
use crate::log_file::{self, Cursor};
use crate::model::log_line::Filter;

/// What is known before the log was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStart {
    cursor: Option<Cursor>,
    since: Option<Timestamp>,
    lines: Option<u32>,
}

/// What was found in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where to begin.
    pub begin: Cursor,
    /// The end, when it was looked for.
    pub end: Cursor,
    /// How many lines are wanted at most: more may come between the two looks.
    pub lines: Option<u32>,
}

impl LogStart {
    /// What `query` says, with its cursor read. `born`: when the dyno was made that is to be read to its end.
    pub fn of(query: &LogQuery, cursor: Option<Cursor>, born: Option<Timestamp>) -> Self {
        if cursor.is_some() {
            return Self {
                cursor,
                since: None,
                lines: None,
            };
        }
        let since = match query.lines {
            None => query.since.or(born),
            Some(_) => query.since,
        };
        let usual = since.is_none().then_some(USUAL_LINES);
        Self {
            cursor: None,
            since,
            lines: query.lines.or(usual),
        }
    }

    /// What need not be looked for, but for the end.
    pub fn known(&self) -> Option<Found> {
        self.cursor.map(|begin| Found {
            begin,
            end: Cursor::default(),
            lines: None,
        })
    }

    /// Looks for it in the log in `folder`. May take long.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn find(&self, folder: &Path, filter: &Filter) -> io::Result<Found> {
        let mut begin = self.cursor.unwrap_or_default();
        if let Some(time) = self.since {
            begin = log_file::since(folder, time)?;
        }
        if let Some(lines) = self.lines {
            let matches = |line: &[u8]| filter.matches(line);
            begin = begin.max(log_file::last_lines(folder, lines as usize, matches)?);
        }
        Ok(Found {
            begin,
            end: log_file::end(folder)?,
            lines: self.lines,
        })
    }
}
