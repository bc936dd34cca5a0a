//! The router's lines in the apps' logs: their text, and when they are written.
//!
//! `heroku[router]: at=info method=GET path="/" host=… request_id=… fwd="…" dyno=web.1 connect=1ms service=18ms
//! status=200 bytes=13 protocol=http`, as Heroku has it. Lines are written together: the first of a quiet time at the
//! end of the loop's turn, those that follow it a few milliseconds later, so a busy router does not pay for each.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::failure::Failure;
use crate::error::tell;
use crate::log_file::LogWriter;
use crate::model::log_limits::LogLimits;
use crate::model::log_line::{LogSource, Prefix};

/// How long the router waits for another writer of a log; all requests stand still meanwhile.
const PATIENCE: Duration = Duration::from_millis(100);
/// The most logs that are kept open.
const MAX_OPEN: usize = 64;
/// The longest texts of a line, in bytes, so that all together fit.
const MAX_METHOD: usize = 32;
const MAX_PATH: usize = 7000;
const MAX_HOST: usize = 255;
const MAX_FORWARDED: usize = 1000;
/// How many bytes of lines may wait before they are written at once.
const MAX_WAITING: usize = 256 * 1024;

/// What a log line says about a request.
#[derive(Debug)]
pub(super) struct LogEntry<'a> {
    /// Why it failed; None if it did not.
    pub failure: Option<&'a Failure>,
    /// The method of the request.
    pub method: &'a str,
    /// The path, with the query.
    pub path: &'a str,
    /// The `Host` of the request.
    pub host: &'a str,
    /// Its `X-Request-ID`.
    pub request_id: &'a str,
    /// Its `X-Forwarded-For`, with the client's address last.
    pub forwarded_for: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The dyno's name, if the request was sent to one.
    pub dyno: Option<&'a str>,
    /// How long it took to connect to the dyno; None if no dyno accepted.
    pub connect: Option<Duration>,
    /// How long the request took from its beginning to its end; None if it was not sent to a dyno.
    pub service: Option<Duration>,
    /// The status of the response, or of the failure; 0 if no response came that far.
    pub status: u16,
    /// Bytes of the body that the client got.
    pub bytes: u64,
}

/// Appends the text of the line.
pub(super) fn write(entry: &LogEntry<'_>, out: &mut String) {
    match entry.failure {
        None => out.push_str("at=info"),
        Some(failure) => {
            let (level, code) = (failure.level(), failure.code());
            let description = failure.description();
            put(
                out,
                format_args!("{level} code={code} desc=\"{description}\""),
            );
            if let Failure::H26 { cause, .. } = failure {
                out.push_str(" cause=\"");
                quote(cause, MAX_HOST, out);
                out.push('"');
            }
        }
    }
    out.push_str(" method=");
    quote(entry.method, MAX_METHOD, out);
    out.push_str(" path=\"");
    quote(entry.path, MAX_PATH, out);
    out.push_str("\" host=");
    quote(entry.host, MAX_HOST, out);
    put(out, format_args!(" request_id={} fwd=\"", entry.request_id));
    quote(entry.forwarded_for, MAX_FORWARDED, out);
    put(
        out,
        format_args!("\" dyno={} connect=", entry.dyno.unwrap_or_default()),
    );
    milliseconds(entry.connect, out);
    out.push_str(" service=");
    milliseconds(entry.service, out);
    put(
        out,
        format_args!(
            " status={} bytes={} protocol={}",
            entry.status, entry.bytes, entry.scheme
        ),
    );
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

fn milliseconds(time: Option<Duration>, out: &mut String) {
    if let Some(time) = time {
        put(out, format_args!("{}ms", time.as_millis()));
    }
}

/// Appends text of at most `most` bytes, so that it can end neither the line nor the quotes.
fn quote(text: &str, most: usize, out: &mut String) {
    let begin = out.len();
    for c in text.chars() {
        if out.len() - begin + c.len_utf8() + 6 > most {
            out.push_str("...");
            return;
        }
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => put(out, format_args!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
}

/// The logs of all apps.
#[derive(Debug)]
pub(super) struct Logs {
    apps: HashMap<Rc<str>, AppLog>,
    /// Apps with lines that are not written yet.
    waiting: Vec<Rc<str>>,
    open: usize,
    interval: Duration,
    written: Option<Instant>,
    prefix: Option<Prefix>,
    text: String,
}

#[derive(Debug)]
struct AppLog {
    folder: PathBuf,
    limits: LogLimits,
    writer: Option<LogWriter>,
    lines: Vec<u8>,
}

impl Logs {
    /// Logs whose lines are written once per `interval` at most.
    pub fn new(interval: Duration) -> Self {
        Self {
            apps: HashMap::new(),
            waiting: Vec::new(),
            open: 0,
            interval,
            written: None,
            prefix: None,
            text: String::new(),
        }
    }

    /// Sets the folder and limits of an app's log.
    pub fn set(&mut self, app: &Rc<str>, folder: PathBuf, limits: LogLimits) {
        if let Some(log) = self.apps.get(app)
            && log.folder == folder
            && log.limits == limits
        {
            return;
        }
        self.remove(app);
        let log = AppLog {
            folder,
            limits,
            writer: None,
            lines: Vec::new(),
        };
        self.apps.insert(app.clone(), log);
    }

    /// Forgets the log of an app that was destroyed.
    pub fn remove(&mut self, app: &str) {
        if let Some(log) = self.apps.remove(app)
            && log.writer.is_some()
        {
            self.open -= 1;
        }
    }

    /// Begins a turn of the loop, in which lines get a new time.
    pub fn begin_turn(&mut self) {
        self.prefix = None;
    }

    /// Adds a line to an app's log.
    pub fn add(&mut self, app: &str, entry: &LogEntry<'_>) {
        let Some((name, _)) = self.apps.get_key_value(app) else {
            return;
        };
        let name = name.clone();
        let Some(log) = self.apps.get_mut(app) else {
            return;
        };
        if log.lines.is_empty() {
            self.waiting.push(name);
        }
        self.text.clear();
        write(entry, &mut self.text);
        let prefix = self
            .prefix
            .get_or_insert_with(|| Prefix::new(Timestamp::now(), LogSource::Heroku, "router"));
        prefix.append(&mut log.lines, self.text.as_bytes());
    }

    /// Writes the waiting lines, if it is time; else returns when it will be.
    pub fn write(&mut self, now: Instant) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        let full = || {
            self.waiting.iter().any(|app| {
                self.apps
                    .get(app)
                    .is_some_and(|log| log.lines.len() > MAX_WAITING)
            })
        };
        match self.written.map(|written| written + self.interval) {
            Some(next) if next > now && !full() => return Some(next),
            _ => {}
        }
        self.write_all();
        self.written = Some(now);
        None
    }

    /// Writes all waiting lines.
    pub fn write_all(&mut self) {
        for app in std::mem::take(&mut self.waiting) {
            let Some(log) = self.apps.get_mut(&app) else {
                continue;
            };
            if log.writer.is_none() {
                match LogWriter::open(&log.folder, log.limits) {
                    Ok(writer) => {
                        log.writer = Some(writer.with_patience(PATIENCE));
                        self.open += 1;
                    }
                    Err(error) => tell!("cannot open the log of {app}: {error}"),
                }
            }
            if let Some(writer) = &mut log.writer {
                // Lines that are lost are counted, and the log says so later.
                let _ = writer.append(&log.lines);
            }
            log.lines.clear();
        }
        if self.open > MAX_OPEN {
            for log in self.apps.values_mut() {
                log.writer = log.writer.take().filter(|writer| writer.lost() > 0);
            }
            self.open = self
                .apps
                .values()
                .filter(|log| log.writer.is_some())
                .count();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> LogEntry<'static> {
        LogEntry {
            failure: None,
            method: "GET",
            path: "/",
            host: "shop.localhost",
            request_id: "id",
            forwarded_for: "127.0.0.1",
            scheme: "http",
            dyno: Some("web.1"),
            connect: Some(Duration::from_millis(1)),
            service: Some(Duration::from_micros(18_900)),
            status: 200,
            bytes: 13,
        }
    }

    fn text(entry: &LogEntry<'_>) -> String {
        let mut text = String::new();
        write(entry, &mut text);
        text
    }

    #[test]
    fn lines_read_as_on_heroku() {
        assert_eq!(
            text(&entry()),
            "at=info method=GET path=\"/\" host=shop.localhost request_id=id fwd=\"127.0.0.1\" dyno=web.1 \
             connect=1ms service=18ms status=200 bytes=13 protocol=http"
        );
        let failed = LogEntry {
            failure: Some(&Failure::H14),
            dyno: None,
            connect: None,
            service: None,
            status: 503,
            bytes: 0,
            ..entry()
        };
        assert_eq!(
            text(&failed),
            "at=error code=H14 desc=\"No web processes running\" method=GET path=\"/\" host=shop.localhost \
             request_id=id fwd=\"127.0.0.1\" dyno= connect= service= status=503 bytes=0 protocol=http"
        );
        let begins = |failure: Failure, begin: &str| {
            let failed = LogEntry {
                failure: Some(&failure),
                ..entry()
            };
            assert!(text(&failed).starts_with(begin), "{}", text(&failed));
        };
        begins(
            Failure::H27,
            "sock=client at=warning code=H27 desc=\"Client Request Interrupted\" method=",
        );
        begins(Failure::H18, "sock=backend at=error code=H18 ");
        begins(Failure::H80, "at=info code=H80 desc=\"Maintenance mode\" ");
        let cause = "bad \"header\"".into();
        begins(
            Failure::H26 { status: 400, cause },
            "at=error code=H26 desc=\"Request Error\" cause=\"bad \\\"header\\\"\" method=",
        );
    }

    #[test]
    fn no_request_writes_more_than_one_line_or_leaves_its_quotes() {
        let long = "a\n\"".repeat(8000);
        let hostile = LogEntry {
            method: &long,
            path: "/\"\r\n\u{1b}[31m\\",
            host: &long,
            forwarded_for: &long,
            ..entry()
        };
        let hostile = text(&hostile);
        assert!(hostile.contains("path=\"/\\\"\\u000d\\u000a\\u001b[31m\\\\\""));
        assert!(!hostile.contains(char::is_control));
        let path = LogEntry {
            path: &long,
            host: &long,
            forwarded_for: &long,
            method: &long,
            ..entry()
        };
        assert!(text(&path).len() < crate::model::log_line::MAX_TEXT);
    }

    #[test]
    fn lines_that_come_soon_after_others_wait_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut logs = Logs::new(Duration::from_secs(1));
        let app: Rc<str> = "shop".into();
        logs.set(&app, folder.path().into(), LogLimits::default());
        let lines = || {
            std::fs::read_to_string(folder.path().join("00000001.log"))
                .unwrap_or_default()
                .lines()
                .count()
        };
        let now = Instant::now();
        logs.add("shop", &entry());
        logs.add("shop", &entry());
        logs.add("unknown", &entry());
        assert_eq!((logs.write(now), lines()), (None, 2));
        logs.add("shop", &entry());
        let next = now + Duration::from_secs(1);
        assert_eq!((logs.write(now), lines()), (Some(next), 2));
        assert_eq!((logs.write(next), lines()), (None, 3));
    }
}
