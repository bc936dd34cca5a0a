//! Readers of a real log, without sockets: what they are given, and when.

use std::path::Path;

use jiff::Timestamp;
use tempfile::TempDir;

use super::form::LogForm;
use super::start::{Found, LogStart};
use super::tail::{Tail, Until, Wanted};
use crate::api::logs::{LogQuery, Record};
use crate::log_file::{Cursor, LogWriter};
use crate::model::log_limits::LogLimits;
use crate::model::log_line::{self, Filter, LogSource};
use crate::server::api_loop::application::{More, Recipient, Ticket};
use crate::wire::reactor::Token;

const EVERYTHING: LogLimits = LogLimits {
    bytes: 256 << 20,
    age: std::time::Duration::from_secs(7 * 24 * 3600),
};

fn lines(process: &str, numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut lines = Vec::new();
    for number in numbers {
        let at = Timestamp::from_second(1_000_000_000 + number as i64).unwrap();
        log_line::append(
            &mut lines,
            at,
            LogSource::App,
            process,
            number.to_string().as_bytes(),
        );
    }
    lines
}

fn write(folder: &Path, limits: LogLimits, lines: &[u8]) {
    LogWriter::open(folder, limits)
        .unwrap()
        .append(lines)
        .unwrap();
}

fn log(numbers: impl IntoIterator<Item = u64>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), EVERYTHING, &lines("run.1", numbers));
    folder
}

fn find(folder: &Path, query: &LogQuery, born: Option<Timestamp>) -> Found {
    let cursor = query.cursor.as_ref().map(|text| text.parse().unwrap());
    LogStart::of(query, cursor, born)
        .find(folder, &query.filter())
        .unwrap()
}

/// What a reader on this host, at the Unix socket, is to be given.
fn wanted(folder: &Path, query: &LogQuery, until: Until) -> Wanted {
    Wanted {
        to: Recipient {
            ticket: Ticket {
                connection: Token(1),
                serial: 1,
            },
            token: None,
        },
        app_id: "app".to_owned(),
        folder: folder.to_owned(),
        filter: query.filter(),
        until,
        form: LogForm::Records,
    }
}

/// A reader as `query` wants it; `dyno` ended already, if it is one to the end of a dyno.
fn open(folder: &Path, query: &LogQuery) -> Tail {
    let found = find(folder, query, None);
    let until = match (query.until_ended, query.tail) {
        (true, _) => Until::DynoEnds {
            id: "id".to_owned(),
            ended: false,
        },
        (false, true) => Until::Destroyed,
        (false, false) => Until::Reached {
            end: found.end,
            lines: found.lines,
        },
    };
    Tail::open(wanted(folder, query, until), found.begin).unwrap()
}

/// Everything that it is given, to its end (true) or until it waits (false); and the last cursor.
fn read(tail: &mut Tail) -> (Vec<String>, String, bool) {
    let (mut texts, mut last) = (Vec::new(), String::new());
    loop {
        match tail.more() {
            More::Bytes(bytes) if bytes.is_empty() => {}
            More::Bytes(bytes) => {
                let (record, length) = Record::first(&bytes).unwrap().unwrap();
                assert_eq!(length, bytes.len());
                last = record.cursor.to_owned();
                texts.extend(
                    record
                        .lines
                        .split_inclusive(|byte| *byte == b'\n')
                        .map(|line| {
                            let line = log_line::parse(line).unwrap();
                            String::from_utf8(line.text.to_vec()).unwrap()
                        }),
                );
            }
            end => return (texts, last, end == More::End),
        }
    }
}

fn numbers(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers
        .into_iter()
        .map(|number| number.to_string())
        .collect()
}

fn tail() -> LogQuery {
    LogQuery {
        tail: true,
        ..LogQuery::default()
    }
}

#[test]
fn a_hundred_lines_are_usual_and_then_it_ends() {
    let folder = log(1..=250);
    let (texts, _, ended) = read(&mut open(folder.path(), &LogQuery::default()));
    assert_eq!((texts, ended), (numbers(151..=250), true));

    let none = LogQuery {
        lines: Some(0),
        ..LogQuery::default()
    };
    assert_eq!(read(&mut open(folder.path(), &none)).0, numbers([]));
}

#[test]
fn what_is_written_meanwhile_is_for_those_who_wait() {
    let folder = log(1..=3);
    let two = LogQuery {
        lines: Some(2),
        ..LogQuery::default()
    };
    let (mut now, mut later) = (open(folder.path(), &two), open(folder.path(), &tail()));
    write(folder.path(), EVERYTHING, &lines("run.1", 4..=5));
    assert_eq!(read(&mut now).0, numbers(2..=3));
    assert_eq!(read(&mut later).0, numbers(1..=5));
    assert!(later.waiting);
    write(folder.path(), EVERYTHING, &lines("run.1", 6..=7));
    assert_eq!(
        read(&mut later),
        (numbers(6..=7), read_end(folder.path()), false)
    );
    later.destroyed = true;
    assert!(read(&mut later).2);
}

fn read_end(folder: &Path) -> String {
    crate::log_file::end(folder).unwrap().to_string()
}

#[test]
fn a_number_of_lines_is_of_those_that_match_even_if_more_come_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    for number in 1..=20 {
        write(folder.path(), EVERYTHING, &lines("run.1", [number]));
        write(folder.path(), EVERYTHING, &lines("web.1", [number]));
    }
    let query = LogQuery {
        lines: Some(3),
        dyno: Some("web".to_owned()),
        ..LogQuery::default()
    };
    let found = find(folder.path(), &query, None);
    write(folder.path(), EVERYTHING, &lines("web.2", [21]));
    // As if they had come between the two looks.
    let until = Until::Reached {
        end: crate::log_file::end(folder.path()).unwrap(),
        lines: found.lines,
    };
    let mut tail = Tail::open(wanted(folder.path(), &query, until), found.begin).unwrap();
    assert_eq!(read(&mut tail).0, numbers(18..=20));
}

#[test]
fn whoever_comes_back_with_a_cursor_gets_what_is_missing() {
    let folder = log(1..=1000);
    let mut first = open(folder.path(), &tail());
    let cursors: Vec<String> = (0..2)
        .map(|_| match first.more() {
            More::Bytes(bytes) => Record::first(&bytes).unwrap().unwrap().0.cursor.to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    // It was told where it is before the first line came.
    for (cursor, expected) in [
        (&cursors[0], numbers(901..=1000)),
        (&cursors[1], numbers([])),
    ] {
        let query = LogQuery {
            cursor: Some(cursor.clone()),
            ..tail()
        };
        assert_eq!(read(&mut open(folder.path(), &query)).0, expected);
    }
}

#[test]
fn since_says_where_to_begin() {
    let folder = log(1..=500);
    let since = |lines| LogQuery {
        since: Some(Timestamp::from_second(1_000_000_300).unwrap()),
        lines,
        ..LogQuery::default()
    };
    assert_eq!(
        read(&mut open(folder.path(), &since(None))).0,
        numbers(300..=500)
    );
    assert_eq!(
        read(&mut open(folder.path(), &since(Some(5)))).0,
        numbers(496..=500)
    );
    assert_eq!(
        read(&mut open(folder.path(), &since(Some(400)))).0,
        numbers(300..=500)
    );
}

#[test]
fn a_dyno_is_read_from_its_birth_to_its_end() {
    let folder = log(1..=300);
    let query = LogQuery {
        until_ended: true,
        dyno: Some("run.1".to_owned()),
        ..LogQuery::default()
    };
    let born = Timestamp::from_second(1_000_000_050).unwrap();
    let begin = find(folder.path(), &query, Some(born)).begin;
    let until = Until::DynoEnds {
        id: "id".to_owned(),
        ended: false,
    };
    let mut tail = Tail::open(wanted(folder.path(), &query, until), begin).unwrap();
    let (texts, _, ended) = read(&mut tail);
    assert_eq!((texts, ended), (numbers(50..=300), false));
    write(folder.path(), EVERYTHING, &lines("run.1", [301]));
    tail.until = Until::DynoEnds {
        id: "id".to_owned(),
        ended: true,
    };
    let (texts, _, ended) = read(&mut tail);
    assert_eq!((texts, ended), (numbers([301]), true));
}

#[test]
fn who_waits_for_a_rare_line_is_told_how_far_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let rare = LogQuery {
        dyno: Some("web".to_owned()),
        ..tail()
    };
    let mut tail = open(folder.path(), &rare);
    assert!(matches!(tail.more(), More::Bytes(bytes) if bytes == b"0:0 0\n"));
    write(folder.path(), EVERYTHING, &lines("run.1", 1..=100_000));
    let (texts, cursor, _) = read(&mut tail);
    assert_eq!(texts, numbers([]));
    let told: Cursor = cursor.parse().unwrap();
    let end = crate::log_file::end(folder.path()).unwrap();
    assert!(end.offset - told.offset <= 1 << 20, "{told} of {end}");
}

#[test]
fn lines_that_were_dropped_unread_are_told_of() {
    let little = LogLimits {
        bytes: 16 * 1024,
        ..EVERYTHING
    };
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), little, &lines("run.1", 1..=10));
    let mut tail = open(folder.path(), &tail());
    assert_eq!(read(&mut tail).0, numbers(1..=10));
    let mut writer = LogWriter::open(folder.path(), little).unwrap();
    for number in 11..=1000 {
        writer.append(&lines("run.1", [number])).unwrap();
    }
    crate::log_file::enforce(folder.path(), little).unwrap();
    let (texts, _, ended) = read(&mut tail);
    let seen = texts
        .iter()
        .position(|text| text.starts_with("L11"))
        .unwrap();
    // It still had the segment that it had begun.
    let last = texts[..seen]
        .last()
        .map_or(10, |text| text.parse().unwrap());
    let last = Timestamp::from_second(1_000_000_000 + last).unwrap();
    let since = log_line::time(last);
    assert_eq!(
        texts[seen],
        format!("L11 (Tail buffer overflow) -> This tail session dropped messages since {since}")
    );
    assert!(!ended);
    // The log itself says, too, what was dropped of it.
    let after: Vec<u64> = texts[seen + 1..]
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    assert_eq!(after.last(), Some(&1000));
    assert!(after.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[test]
fn filters_go_by_name_type_and_source() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for (source, process) in [
        (LogSource::App, "run.1"),
        (LogSource::Heroku, "run.1"),
        (LogSource::App, "run.12"),
        (LogSource::App, "api"),
        (LogSource::Heroku, "router"),
    ] {
        let text = format!("{} {process}", source.as_str());
        log_line::append(
            &mut all,
            Timestamp::UNIX_EPOCH,
            source,
            process,
            text.as_bytes(),
        );
    }
    write(folder.path(), EVERYTHING, &all);
    for (dyno, source, expected) in [
        (Some("run.1"), None, &["app run.1", "heroku run.1"][..]),
        (
            Some("run"),
            Some(LogSource::App),
            &["app run.1", "app run.12"],
        ),
        (Some("router"), None, &["heroku router"]),
        (
            None,
            Some(LogSource::App),
            &["app run.1", "app run.12", "app api"],
        ),
        (Some("run.1.2"), None, &[]),
    ] {
        let query = LogQuery {
            dyno: dyno.map(str::to_owned),
            source,
            ..LogQuery::default()
        };
        assert_eq!(
            query.filter() == Filter::default(),
            dyno.is_none() && source.is_none()
        );
        assert_eq!(
            read(&mut open(folder.path(), &query)).0,
            expected,
            "{dyno:?}"
        );
    }
}
