//! Writers and readers together.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::model::log_line::{self, LogSource};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Segments of so many bytes, and as many as there may be.
fn segments_of(bytes: u64) -> LogLimits {
    LogLimits {
        bytes: bytes * SEGMENTS,
        age: WEEK,
    }
}

fn line(process: &str, text: &str) -> Vec<u8> {
    line_at(Timestamp::now(), process, text)
}

fn line_at(at: Timestamp, process: &str, text: &str) -> Vec<u8> {
    let mut line = Vec::new();
    log_line::append(&mut line, at, LogSource::App, process, text.as_bytes());
    line
}

/// Everything from `cursor` on, read in pieces.
fn read_from(folder: &Path, cursor: Option<Cursor>) -> String {
    let mut reader = LogReader::open(folder, cursor).unwrap();
    let mut text = Vec::new();
    while reader.read(&mut text, 100).unwrap() {}
    String::from_utf8(text).unwrap()
}

fn texts(log: &str) -> Vec<&str> {
    log.lines()
        .map(|line| line.split_once("]: ").unwrap().1)
        .collect()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_cursor_reads_as_it_is_written() {
    let cursor = Cursor {
        segment: 12,
        offset: 3456,
    };
    assert_eq!(cursor.to_string(), "12:3456");
    assert_eq!("12:3456".parse(), Ok(cursor));
    for nonsense in ["", "12", "12:", ":1", "1:-1", "1:2:3"] {
        assert!(nonsense.parse::<Cursor>().is_err(), "{nonsense}");
    }
}

#[test]
fn writers_and_readers_follow_the_log_through_its_segments() {
    let folder = tempfile::tempdir().unwrap();
    let mut writers: Vec<_> = (0..3)
        .map(|_| LogWriter::open(folder.path(), segments_of(1000)).unwrap())
        .collect();
    let lines: Vec<String> = (0..200).map(|n| format!("line {n:04}")).collect();
    for (n, text) in lines.iter().enumerate() {
        writers[n % 3].append(&line("run.1", text)).unwrap();
    }
    let log = read_from(folder.path(), None);
    assert_eq!(texts(&log), lines);
    let names = files(folder.path());
    assert!(names.len() > 8 && names[0] == "00000001.log", "{names:?}");
    for name in &names {
        assert!(fs::metadata(folder.path().join(name)).unwrap().len() <= 1000);
    }
}

#[test]
fn a_log_that_is_not_there_is_empty_and_may_come() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("app");
    let mut reader = LogReader::open(&folder, None).unwrap();
    let mut text = Vec::new();
    assert!(!reader.read(&mut text, 100).unwrap());
    assert_eq!(end(&folder).unwrap(), Cursor::default());
    assert_eq!(last_lines(&folder, 3, |_| true).unwrap(), Cursor::default());
    assert_eq!(since(&folder, Timestamp::now()).unwrap(), Cursor::default());
    enforce(&folder, LogLimits::default()).unwrap();
    let mut writer = LogWriter::open(&folder, LogLimits::default()).unwrap();
    assert!(!reader.read(&mut text, 100).unwrap());
    writer.append(&line("run.1", "hello")).unwrap();
    assert!(reader.read(&mut text, 1).unwrap());
    assert_eq!(texts(str::from_utf8(&text).unwrap()), ["hello"]);
    assert!(!reader.read(&mut text, 1).unwrap());
    assert_eq!(reader.cursor(), end(&folder).unwrap());
    assert_eq!(reader.take_skipped(), None);
}

#[test]
fn a_torn_line_swallows_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::open(folder.path(), segments_of(1000)).unwrap();
    writer.append(&line("run.1", "whole")).unwrap();
    let name = folder.path().join("00000001.log");
    let mut file = fs::OpenOptions::new().append(true).open(name).unwrap();
    file.write_all(b"2026-11-23T01:49:12.888054+00:00 app[run.1]: to")
        .unwrap();
    // Nobody sees it before it has an end.
    assert_eq!(texts(&read_from(folder.path(), None)), ["whole"]);
    assert_eq!(
        read_from(folder.path(), Some(end(folder.path()).unwrap())),
        ""
    );
    writer.append(&line("run.1", "next")).unwrap();
    assert_eq!(
        texts(&read_from(folder.path(), None)),
        ["whole", "to", "next"]
    );
}

#[test]
fn what_is_too_much_is_dropped_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let limits = LogLimits {
        bytes: 32_000,
        age: WEEK,
    };
    let mut writer = LogWriter::open(folder.path(), limits).unwrap();
    let mut reader = LogReader::open(folder.path(), None).unwrap();
    let first = line("run.1", "line 0000");
    writer.append(&first).unwrap();
    assert!(reader.read(&mut Vec::new(), 10).unwrap());
    for n in 1..3000 {
        writer
            .append(&line("run.1", &format!("line {n:04}")))
            .unwrap();
        let size = |name| fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(files(folder.path()).iter().map(size).sum::<u64>() <= limits.bytes);
    }
    let log = read_from(folder.path(), None);
    let (notices, lines): (Vec<&str>, Vec<&str>) =
        log.lines().partition(|line| line.contains("logplex"));
    assert!(lines.len() > 400);
    assert!(lines[lines.len() - 1].ends_with("app[run.1]: line 2999"));
    // Each line is there, or was dropped; so were notices.
    let first_there: usize = texts(lines[0])[0][5..].parse().unwrap();
    assert_eq!(first_there + lines.len(), 3000);
    let parts: Vec<_> = notices.last().unwrap().split(' ').collect();
    assert_eq!(
        parts[1..6].join(" "),
        "heroku[logplex]: Error L10 (output buffer"
    );
    assert_eq!(parts[8..11].join(" "), "messages dropped since");
    assert!(parts[7].parse::<usize>().unwrap() > 30);

    // Who read too slowly is told, too.
    let mut rest = Vec::new();
    while reader.read(&mut rest, 1000).unwrap() {}
    let skipped = reader.take_skipped().unwrap();
    assert_eq!((skipped.from.segment, skipped.to.offset), (1, 0));
    assert!(rest.ends_with(log.as_bytes()));
    assert_eq!(reader.take_skipped(), None);
}

#[test]
fn what_is_too_old_is_dropped_even_if_nobody_writes() {
    let folder = tempfile::tempdir().unwrap();
    let limits = LogLimits {
        bytes: 1 << 20,
        age: Duration::from_secs(160),
    };
    let ago = |seconds| Timestamp::now() - Duration::from_secs(seconds);
    let mut writer = LogWriter::open(folder.path(), limits).unwrap();
    writer.append(&line_at(ago(5), "run.1", "young")).unwrap();
    enforce(folder.path(), limits).unwrap();
    assert_eq!(files(folder.path()), ["00000001.log"]);
    fs::remove_file(folder.path().join("00000001.log")).unwrap();

    // A segment is not written to for longer than a part of the time, so that its lines can go while later ones stay.
    let one = line_at(ago(200), "run.1", "one");
    writer.append(&one).unwrap();
    writer.append(&line_at(ago(190), "run.1", "two")).unwrap();
    enforce(folder.path(), limits).unwrap();
    assert_eq!(files(folder.path()), ["00000002.log", "00000003.log"]);
    assert_eq!(texts(&read_from(folder.path(), None)), ["one", "two"]);
    let last_written_long_ago = |name: &str| {
        let file = fs::File::options()
            .append(true)
            .open(folder.path().join(name))
            .unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(162))
            .unwrap();
    };
    last_written_long_ago("00000002.log");
    enforce(folder.path(), limits).unwrap();
    let since = str::from_utf8(&one[..32]).unwrap();
    let said = format!("Error L10 (output buffer overflow): 2 messages dropped since {since}.");
    let log = read_from(folder.path(), None);
    assert_eq!(texts(&log), [said]);

    // That nothing but this was said is not worth saying a second time.
    let log = log_line::time(ago(200)) + &log[32..];
    fs::write(folder.path().join("00000003.log"), log).unwrap();
    last_written_long_ago("00000003.log");
    for _ in 0..3 {
        enforce(folder.path(), limits).unwrap();
        assert_eq!(files(folder.path()), ["00000004.log"]);
        assert_eq!(read_from(folder.path(), None), "");
    }
    // A writer that was away meanwhile finds its way.
    writer.append(&line("run.1", "three")).unwrap();
    assert_eq!(texts(&read_from(folder.path(), None)), ["three"]);
}

#[test]
fn a_log_that_somebody_keeps_locked_loses_lines_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let patience = Duration::from_millis(50);
    let mut writer = LogWriter::open(folder.path(), LogLimits::default())
        .unwrap()
        .with_patience(patience);
    let file = fs::File::open(folder.path().join("00000001.log")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let two = [line("run.1", "one"), line("run.1", "two")].concat();
    let error = writer.append(&two).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    // Nobody waits for it a second time.
    let began = std::time::Instant::now();
    for _ in 0..100 {
        writer.append(&line("run.1", "three")).unwrap_err();
    }
    assert!(began.elapsed() < 50 * patience);
    assert_eq!(writer.lost(), 102);
    // Closing it would not do: a process that another test is just starting has it, too, until it executes its program.
    rustix::fs::flock(&file, rustix::fs::FlockOperation::Unlock).unwrap();
    writer.append(&line("run.1", "four")).unwrap();
    assert_eq!(writer.lost(), 0);
    let log = read_from(folder.path(), None);
    let log = texts(&log);
    assert!(
        log[0].starts_with("Error L13: 102 messages lost since 2"),
        "{log:?}"
    );
    assert_eq!(log[1..], ["four"]);
}

/// Every line once, in the order of its writer, whatever the others do; a reader that begins anew at its cursor
/// again and again reads the same.
#[test]
fn no_line_is_lost_or_doubled_among_many_writers() {
    const WRITERS: usize = 4;
    const LINES: usize = 2000;
    let folder = tempfile::tempdir().unwrap();
    let limits = LogLimits {
        bytes: 1 << 30,
        age: WEEK,
    };
    let done = AtomicBool::new(false);
    let log = thread::scope(|scope| {
        let writers: Vec<_> = (1..=WRITERS)
            .map(|n| {
                let folder = folder.path();
                scope.spawn(move || {
                    let mut writer = LogWriter::open(folder, limits).unwrap();
                    writer.segment_size = 2000;
                    let mut random = n as u64;
                    let mut next = 0;
                    while next < LINES {
                        random = random
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1);
                        let batch: Vec<_> = (next..LINES.min(next + 1 + (random >> 60) as usize))
                            .map(|line_number| line(&format!("run.{n}"), &line_number.to_string()))
                            .collect();
                        next += batch.len();
                        writer.append(&batch.concat()).unwrap();
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let (mut log, mut random) = (Vec::new(), 7u64);
            let mut reader = LogReader::open(folder.path(), None).unwrap();
            loop {
                let last_turn = done.load(Ordering::SeqCst);
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let more = reader.read(&mut log, (random >> 54) as usize).unwrap();
                if (random >> 40).is_multiple_of(3) {
                    let cursor = reader.cursor().to_string().parse().unwrap();
                    reader = LogReader::open(folder.path(), Some(cursor)).unwrap();
                }
                if !more && last_turn {
                    return String::from_utf8(log).unwrap();
                }
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    let mut next = [0; WRITERS];
    for line in log.lines() {
        let line = log_line::parse(line.as_bytes()).unwrap();
        let writer: usize = str::from_utf8(&line.process[4..]).unwrap().parse().unwrap();
        let number: usize = str::from_utf8(line.text).unwrap().parse().unwrap();
        assert_eq!(number, next[writer - 1], "of run.{writer}");
        next[writer - 1] += 1;
    }
    assert_eq!(next, [LINES; WRITERS]);
    assert!(files(folder.path()).len() > 50);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    /// The places that are found are those that looking at every line finds.
    #[test]
    fn searching_finds_what_looking_at_all_lines_finds(
        lines in proptest::collection::vec((0u32..3, 0usize..300, prop::bool::ANY), 0..300),
        segment in prop_oneof![Just(200u64), Just(3000), Just(100_000)],
        count in 0usize..20, ago in 0i64..1000,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(folder.path(), segments_of(1 << 30)).unwrap();
        writer.segment_size = segment;
        let base = 1_800_000_000_000_000i64;
        let mut now = base;
        let mut written = Vec::new();
        for (step, length, wanted) in lines {
            now += i64::from(step) * 1_000_000;
            let process = if wanted { "web.1" } else { "run.1" };
            let at = Timestamp::from_microsecond(now).unwrap();
            let line = line_at(at, process, &"x".repeat(length * 10));
            writer.append(&line).unwrap();
            written.push(line);
        }
        let matches = |line: &[u8]| log_line::parse(line).unwrap().process == b"web.1";
        let from = last_lines(folder.path(), count, matches).unwrap();
        let wanted: Vec<_> = written.iter().filter(|line| matches(line)).collect();
        let first = wanted.len().saturating_sub(count);
        let expected = wanted.get(first).map_or(String::new(), |first| {
            let first = written.iter().position(|line| std::ptr::eq(line, *first)).unwrap();
            String::from_utf8(written[first..].concat()).unwrap()
        });
        prop_assert_eq!(read_from(folder.path(), Some(from)), expected);

        let time = Timestamp::from_microsecond(base + ago * 500_000).unwrap();
        let from = since(folder.path(), time).unwrap();
        let first = written.iter().position(|line| log_line::parse(line).unwrap().time >= log_line::time(time).as_bytes());
        let expected = String::from_utf8(written[first.unwrap_or(written.len())..].concat()).unwrap();
        prop_assert_eq!(read_from(folder.path(), Some(from)), expected);
    }
}
