//! An app's log over the API, `/apps/A/logs`: what is asked for, and the records that it comes in. All of it is ours;
//! the names of the parameters are those of Heroku's log sessions.
//!
//! The body is a row of records: a line `SEGMENT:OFFSET LENGTH`, and LENGTH bytes of whole log lines. The cursor in front
//! is the place behind those lines (and behind others that were not asked for). A client that has read a record whole
//! and loses the connection asks for what follows with that cursor, and misses nothing and sees nothing twice.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use jiff::{SignedDuration, Timestamp};

use super::ApiError;
use crate::model::log_line::{Filter, LogSource};

/// How many lines there are when nothing is said (Heroku's figure).
pub const USUAL_LINES: u32 = 100;

/// The content type of server-sent events, a form in which Heroku's client reads logs.
pub const EVENT_STREAM: &str = "text/event-stream";

/// Bytes of a record's lines at most; what is announced as longer is no record.
const LONGEST: usize = 1 << 20;

/// Bytes of a record's first line at most: three numbers, a colon, a blank and the line feed.
const LONGEST_HEAD: usize = 3 * 20 + 3;

/// What is asked of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// How many of the last lines that match.
    pub lines: Option<u32>,
    /// Whether to go on with what is written later.
    pub tail: bool,
    /// Only lines of this source.
    pub source: Option<LogSource>,
    /// Only lines of the dyno of this name, or, without a dot, of all dynos of this type. `api` and `router` count as
    /// names.
    pub dyno: Option<String>,
    /// Only lines that were written since.
    pub since: Option<Timestamp>,
    /// Only what stands behind this place, the cursor of an earlier record. Nothing else then says where to begin.
    pub cursor: Option<String>,
    /// Goes on until the dyno has ended and its last line was sent. Needs the full name of a dyno; without another
    /// beginning it is the dyno's.
    pub until_ended: bool,
}

impl LogQuery {
    /// The parameters that say so.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let flag = |set: bool| set.then(|| "1".to_owned());
        [
            ("lines", self.lines.map(|lines| lines.to_string())),
            ("tail", flag(self.tail)),
            (
                "source",
                self.source.map(|source| source.as_str().to_owned()),
            ),
            ("dyno", self.dyno.clone()),
            ("since", self.since.map(|since| since.to_string())),
            ("cursor", self.cursor.clone()),
            ("until_ended", flag(self.until_ended)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }

    /// Which lines match.
    pub fn filter(&self) -> Filter {
        Filter {
            dyno: self.dyno.clone(),
            source: self.source,
        }
    }

    /// Reads parameters, those of other names not at all. `since` is a time, or seconds before `now`.
    ///
    /// # Errors
    /// When one is not valid or is out of its bounds.
    pub fn read<'a>(
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        let mut query = Self::default();
        for (name, value) in parameters {
            let wanted = |what: &str| {
                ApiError::invalid(format!("`{name}={value}` is not valid: it takes {what}"))
            };
            match name {
                "lines" => {
                    let lines = value.parse().ok();
                    let bounds = format!("a number from 0 to {}", u32::MAX);
                    query.lines = Some(lines.ok_or_else(|| wanted(&bounds))?);
                }
                "tail" => query.tail = flag(value).ok_or_else(|| wanted("1 or 0"))?,
                "until_ended" => query.until_ended = flag(value).ok_or_else(|| wanted("1 or 0"))?,
                "source" => {
                    let source = value.parse().map_err(|()| wanted("`app` or `heroku`"))?;
                    query.source = Some(source);
                }
                "since" => {
                    let since = time(value, now);
                    query.since =
                        Some(since.ok_or_else(|| {
                            wanted("seconds, or a time like 2012-01-01T12:00:00Z")
                        })?);
                }
                "dyno" => query.dyno = Some(value.to_owned()),
                "cursor" => query.cursor = Some(value.to_owned()),
                _ => {}
            }
        }
        if query.until_ended && !query.dyno.as_ref().is_some_and(|name| name.contains('.')) {
            let message = "`until_ended` needs `dyno`, the full name of a dyno";
            return Err(ApiError::invalid(message));
        }
        Ok(query)
    }
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

fn time(value: &str, now: Timestamp) -> Option<Timestamp> {
    match value.parse() {
        Ok(time) => Some(time),
        Err(_) => {
            let seconds: u32 = value.parse().ok()?;
            now.checked_sub(SignedDuration::from_secs(seconds.into()))
                .ok()
        }
    }
}

/// Appends a record of `lines`, behind which the log goes on at `cursor`.
pub fn put_record(cursor: impl std::fmt::Display, lines: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{cursor} {}\n", lines.len()).as_bytes());
    out.extend_from_slice(lines);
}

/// Some lines of a log, and the place behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What to ask for to go on from here.
    pub cursor: &'a str,
    /// Whole lines; perhaps none.
    pub lines: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record at the front of `bytes`, and its length there. None if it is not there as a whole.
    ///
    /// # Errors
    /// When it is none.
    pub fn first(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, NoRecord> {
        let window = bytes.get(..LONGEST_HEAD).unwrap_or(bytes);
        let Some(head) = window.iter().position(|byte| *byte == b'\n') else {
            return match window.len() < LONGEST_HEAD {
                true => Ok(None),
                false => Err(NoRecord),
            };
        };
        let (text, behind) = bytes.split_at(head);
        let text = str::from_utf8(text).map_err(|_| NoRecord)?;
        let (cursor, length) = text.split_once(' ').ok_or(NoRecord)?;
        let length: usize = length.parse().map_err(|_| NoRecord)?;
        if length > LONGEST {
            return Err(NoRecord);
        }
        let lines = behind.get(1..).and_then(|behind| behind.get(..length));
        let whole = head.saturating_add(1).saturating_add(length);
        Ok(lines.map(|lines| (Self { cursor, lines }, whole)))
    }
}

/// The bytes that were read are no record of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRecord;

impl std::fmt::Display for NoRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("what the server sent of the log is not valid")
    }
}

impl std::error::Error for NoRecord {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parameters: &[(&str, &str)]) -> Result<LogQuery, ApiError> {
        LogQuery::read(parameters.iter().copied(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_is_asked_arrives() {
        for query in [
            LogQuery::default(),
            LogQuery {
                lines: Some(u32::MAX),
                tail: true,
                source: Some(LogSource::Heroku),
                dyno: Some("run.1".to_owned()),
                since: Some("2026-11-23T01:49:12.888054Z".parse().unwrap()),
                cursor: Some("1:2".to_owned()),
                until_ended: true,
            },
        ] {
            let parameters = query.parameters();
            let parameters = parameters
                .iter()
                .map(|(name, value)| (*name, value.as_str()));
            assert_eq!(LogQuery::read(parameters, Timestamp::UNIX_EPOCH), Ok(query));
        }
    }

    #[test]
    fn seconds_count_from_now() {
        let since = read(&[("since", "90")]).unwrap().since.unwrap();
        assert_eq!(since.as_second(), -90);
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_bounds() {
        for (name, value) in [
            ("lines", "4294967296"),
            ("lines", "-1"),
            ("tail", "yes"),
            ("source", "nginx"),
            ("since", "10 minutes"),
            ("until_ended", "1"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(error.message.contains(name), "{error}");
        }
        let error = read(&[("lines", "4294967296")]).unwrap_err();
        assert!(error.message.contains("from 0 to 4294967295"), "{error}");
        assert!(read(&[("until_ended", "1"), ("dyno", "run")]).is_err());
        assert!(read(&[("until_ended", "1"), ("dyno", "run.1")]).is_ok());
    }

    #[test]
    fn records_are_read_as_they_were_written_whatever_pieces_they_come_in() {
        let mut bytes = Vec::new();
        let written = [
            ("1:0", &b""[..]),
            ("1:12", b"one\ntwo\n"),
            ("2:5", b"three\n"),
        ];
        for (cursor, lines) in written {
            put_record(cursor, lines, &mut bytes);
        }
        for cut in 0..bytes.len() {
            let (mut read, mut at) = (Vec::new(), 0);
            for end in [cut, bytes.len()] {
                while let Some((record, length)) = Record::first(&bytes[at..end]).unwrap() {
                    read.push((record.cursor, record.lines));
                    at += length;
                }
            }
            assert_eq!(read, written, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bytes in [
            &b"\n"[..],
            b"1:2\n",
            b"1:2 x\n",
            b"1:2 -1\n",
            b"1:2 99999999\n",
            b"\xff 1\n",
            &[b'1'; 100],
        ] {
            assert_eq!(Record::first(bytes), Err(NoRecord));
        }
    }
}
