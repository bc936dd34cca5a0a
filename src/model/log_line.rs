//! The format of a log line: writes, parses and filters lines. Heroku's format, to the letter
//! (Heroku Dev Center, "Logging"): `2022-05-05T11:15:40.779338+00:00 app[run.1]: text`.
//!
//! `log_line/splitter.rs` cuts a dyno's output into the texts of lines; `log_line/story.rs` has the texts of the platform's own.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod splitter;
mod story;

use std::io::Write;
use std::str::FromStr;

use jiff::Timestamp;

pub use splitter::Splitter;
pub use story::{ByUser, Story};

/// The longest text of one line in bytes; a longer one is cut into pieces, each a line (Heroku's figure).
pub const MAX_TEXT: usize = 10_000;

/// The length of the first piece of a text that is too long for a line: [`MAX_TEXT`] bytes, or a little less so that no
/// UTF-8 character is cut in two. Invalid UTF-8 is cut anywhere.
fn first_piece(text: &[u8]) -> usize {
    let is_inside = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    if !text.get(MAX_TEXT).is_some_and(is_inside) {
        return text.len().min(MAX_TEXT);
    }
    // A character has at most three bytes after its first.
    let begin = (MAX_TEXT - 3..MAX_TEXT).rfind(|at| !is_inside(&text[*at]));
    let length = |first: u8| match first {
        0b1100_0000..0b1110_0000 => 2,
        0b1110_0000..0b1111_0000 => 3,
        0b1111_0000..0b1111_1000 => 4,
        _ => 1,
    };
    begin
        .filter(|at| at + length(text[*at]) > MAX_TEXT)
        .unwrap_or(MAX_TEXT)
}

/// The length of the time at the beginning of a line, in bytes.
const TIME: usize = "2022-05-05T11:15:40.779338+00:00".len();

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    /// The app's own output, and what its users did through the API.
    App,
    /// The platform: dyno manager and router.
    Heroku,
}

impl LogSource {
    /// `app` or `heroku`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Heroku => "heroku",
        }
    }
}

impl FromStr for LogSource {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "app" => Ok(Self::App),
            "heroku" => Ok(Self::Heroku),
            _ => Err(()),
        }
    }
}

/// A time as text for a line. All have one length, so that they compare like the times.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}

/// The part of a line before its text, which lines with one time share.
#[derive(Debug)]
pub struct Prefix(Vec<u8>);

impl Prefix {
    /// The prefix for lines of `process` (`run.1`) at this time.
    pub fn new(at: Timestamp, source: LogSource, process: &str) -> Self {
        Self(format!("{} {}[{process}]: ", time(at), source.as_str()).into_bytes())
    }

    /// Changes the time.
    pub fn set_time(&mut self, at: Timestamp) {
        let mut place = &mut self.0[..TIME];
        let _ = write!(place, "{}", at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00"));
    }

    /// Appends one whole line to `out`. `text` has no line feed and no more than [`MAX_TEXT`] bytes.
    pub fn append(&self, out: &mut Vec<u8>, text: &[u8]) {
        out.reserve(self.0.len() + text.len() + 1);
        out.extend_from_slice(&self.0);
        out.extend_from_slice(text);
        out.push(b'\n');
    }
}

/// Appends one whole line, with its line feed, to `out`. A `text` that is too long is cut, and control characters in it become
/// blanks: what a client has chosen begins no line of its own, and moves no cursor.
pub fn append(out: &mut Vec<u8>, at: Timestamp, source: LogSource, process: &str, text: &[u8]) {
    let length = first_piece(text);
    Prefix::new(at, source, process).append(out, &text[..length]);
    let begin = out.len() - 1 - length;
    let end = out.len() - 1;
    blank_controls(&mut out[begin..end]);
}

/// Replaces control characters by blanks, those of Unicode's second block (`U+0080` to `U+009F`) too.
fn blank_controls(text: &mut [u8]) {
    for at in 0..text.len() {
        let is_second = at > 0 && text[at - 1] == 0xc2 && matches!(text[at], 0x80..=0x9f);
        if is_second {
            text[at - 1] = b' ';
        }
        if is_second || text[at].is_ascii_control() {
            text[at] = b' ';
        }
    }
}

/// A parsed line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// When it was written: 32 bytes that compare like the times. See [`time`].
    pub time: &'a [u8],
    /// Who wrote it.
    pub source: LogSource,
    /// A dyno's name, `api`, `router`, …
    pub process: &'a [u8],
    /// The rest, without the line feed; may be any bytes.
    pub text: &'a [u8],
}

/// Parses a line, with or without its line feed. `None` if it does not have the format.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let (time, rest) = line.split_at_checked(TIME)?;
    if time[10] != b'T' || time[19] != b'.' || !time.ends_with(b"+00:00") {
        return None;
    }
    let (source, rest) = if let Some(rest) = rest.strip_prefix(b" app[") {
        (LogSource::App, rest)
    } else {
        (LogSource::Heroku, rest.strip_prefix(b" heroku[")?)
    };
    let end = memchr::memchr(b']', rest)?;
    Some(Line {
        time,
        source,
        process: &rest[..end],
        text: rest[end..].strip_prefix(b"]: ")?,
    })
}

/// Which lines to show; the default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those of this dyno (`run.1`), or of all dynos of this process type (`run`). `router` and `api` count as names.
    pub dyno: Option<String>,
    /// Only those of this source.
    pub source: Option<LogSource>,
}

impl Filter {
    /// Whether the filter lets `line` through. Text that is no line of the format passes only an empty filter.
    pub fn matches(&self, line: &[u8]) -> bool {
        if *self == Self::default() {
            return true;
        }
        let Some(line) = parse(line) else {
            return false;
        };
        self.source.is_none_or(|source| source == line.source)
            && self
                .dyno
                .as_deref()
                .is_none_or(|dyno| is_or_is_of_type(line.process, dyno.as_bytes()))
    }
}

/// Whether `process` is the wanted name or of the wanted type: `run.1` is `run.1`, and of the type `run`. Types have no dots.
fn is_or_is_of_type(process: &[u8], wanted: &[u8]) -> bool {
    match process.strip_prefix(wanted) {
        Some([]) => true,
        Some([b'.', ..]) => !wanted.contains(&b'.'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_of_the_platforms_has_no_control_characters() {
        let at = Timestamp::UNIX_EPOCH;
        let mut out = Vec::new();
        let text = "a\r2026 heroku[web.1]: FAKED\n\x1b[2J\u{9b}2J\tå\x7f";
        append(&mut out, at, LogSource::Heroku, "web.1", text.as_bytes());
        let line = parse(&out).unwrap();
        assert_eq!(
            line.text,
            "a 2026 heroku[web.1]: FAKED  [2J  2J å ".as_bytes()
        );
    }

    #[test]
    fn a_line_looks_like_herokus() {
        let at: Timestamp = "2022-05-05T11:15:40.779338Z".parse().unwrap();
        let mut out = Vec::new();
        append(&mut out, at, LogSource::App, "run.1", b"hello");
        assert_eq!(out, b"2022-05-05T11:15:40.779338+00:00 app[run.1]: hello\n");
        assert_eq!(out[..TIME], *time(at).as_bytes());
    }

    #[test]
    fn a_prefix_goes_with_the_time() {
        let mut prefix = Prefix::new(Timestamp::UNIX_EPOCH, LogSource::Heroku, "web.1");
        let later: Timestamp = "2022-05-05T11:15:40.000001Z".parse().unwrap();
        prefix.set_time(later);
        let (mut one, mut other) = (Vec::new(), Vec::new());
        prefix.append(&mut one, b"x");
        append(&mut other, later, LogSource::Heroku, "web.1", b"x");
        assert_eq!(one, other);
    }

    #[test]
    fn a_command_of_many_lines_is_one_line_in_the_log() {
        let mut out = Vec::new();
        let long = "x\n".repeat(MAX_TEXT);
        append(
            &mut out,
            Timestamp::UNIX_EPOCH,
            LogSource::Heroku,
            "run.1",
            long.as_bytes(),
        );
        assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);
        assert!(out.len() < MAX_TEXT + 100);
    }

    #[test]
    fn what_is_no_line_is_not_taken_apart() {
        for line in [
            "",
            "\n",
            "hello",
            "2022-05-05T11:15:40.779338+00:00",
            "2022-05-05T11:15:40.779338+00:00 app[run.1] hello",
            "2022-05-05T11:15:40.779338+00:00 nginx[run.1]: hello",
            "2022-05-05T11:15:40.779338+00:00 app[run.1",
            "2022-05-05 11:15:40.779338+00:00 app[run.1]: hello",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_filter_knows_names_types_and_sources() {
        let line = |source, process: &str| {
            let mut out = Vec::new();
            append(&mut out, Timestamp::UNIX_EPOCH, source, process, b"x]: y");
            out
        };
        let filter = |dyno: &str, source: &str| Filter {
            dyno: (!dyno.is_empty()).then(|| dyno.to_owned()),
            source: source.parse().ok(),
        };
        let run = line(LogSource::App, "run.12");
        for (dyno, source, wanted) in [
            ("", "", true),
            ("run.12", "", true),
            ("run", "", true),
            ("run.1", "", false),
            ("ru", "", false),
            ("run.", "", false),
            ("", "app", true),
            ("", "heroku", false),
            ("run.12", "heroku", false),
            ("run", "app", true),
        ] {
            let filter = filter(dyno, source);
            assert_eq!(filter.matches(&run), wanted, "{filter:?}");
        }
        assert!(filter("router", "").matches(&line(LogSource::Heroku, "router")));
        assert!(filter("api", "app").matches(&line(LogSource::App, "api")));
        assert!(filter("", "").matches(b"rubbish\n") && !filter("run", "").matches(b"rubbish\n"));
    }

    proptest! {
        #[test]
        fn a_line_reads_as_it_was_written(
            at in 0i64..4_000_000_000_000_000, heroku: bool, process in "[-a-z_]{1,9}(\\.[0-9]{1,5})?",
            text in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let source = if heroku { LogSource::Heroku } else { LogSource::App };
            let at = Timestamp::from_microsecond(at).unwrap();
            let mut out = Vec::new();
            append(&mut out, at, source, &process, &text);
            let line = parse(&out).unwrap();
            let time = time(at);
            prop_assert_eq!((line.time, line.source), (time.as_bytes(), source));
            prop_assert_eq!(line.process, process.as_bytes());
            let mut shown = text.clone();
            blank_controls(&mut shown);
            prop_assert_eq!(line.text, &shown);
            prop_assert!(!String::from_utf8_lossy(line.text).contains(char::is_control));
            let kept = text.iter().zip(&shown).filter(|(_, shown)| **shown != b' ');
            prop_assert!(kept.into_iter().all(|(byte, shown)| byte == shown));
        }

        #[test]
        fn times_compare_as_texts(a in 0i64..4_000_000_000_000_000, b in 0i64..4_000_000_000_000_000) {
            let text = |us| time(Timestamp::from_microsecond(us).unwrap());
            prop_assert_eq!(a.cmp(&b), text(a).cmp(&text(b)));
        }
    }
}
