//! The lines of all processes as `dyno start` shows them: `12:01:02 web.1    | text`, as foreman does.
//!
//! On a terminal each process has a colour, and the app's own colours are kept; its other control characters are
//! escaped. Into a pipe or file the app's bytes are unchanged, and the command adds no colours.

use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::watch::{Change, how};
use crate::cli::logs::show;
use crate::cli::output::not_printed;
use crate::cli::terminal;
use crate::model::log_line::{Line, LogSource, Story};

const RESET: &str = "\x1b[0m";

/// The colours of processes, in the order in which they are given (foreman's).
const COLORS: [&str; 10] = [
    "\x1b[36m", "\x1b[33m", "\x1b[32m", "\x1b[35m", "\x1b[34m", "\x1b[96m", "\x1b[93m", "\x1b[92m",
    "\x1b[95m", "\x1b[94m",
];

/// The process name for lines of this command itself.
const OURSELVES: &str = "system";

/// The longest escape for a colour that is kept, in bytes.
const LONGEST_COLOR: usize = 40;

/// How lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Every byte as it is.
    Plain,
    /// On a terminal, without colours.
    Shown,
    /// On a terminal, with colours.
    Colored,
}

impl Form {
    /// The form for this stream of the process.
    pub fn of(stream: impl std::os::fd::AsFd) -> Self {
        match (terminal::is_terminal(stream), terminal::wants_colors()) {
            (false, _) => Self::Plain,
            (true, false) => Self::Shown,
            (true, true) => Self::Colored,
        }
    }
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Screen {
    form: Form,
    zone: TimeZone,
    /// The processes that have a colour, in the order of the colours.
    names: Vec<String>,
    width: usize,
}

impl Screen {
    /// A screen for processes with these names, and others that may come.
    pub fn new(form: Form, names: Vec<String>, zone: TimeZone) -> Self {
        let lengths = names.iter().map(String::len);
        Self {
            form,
            zone,
            width: lengths.fold(OURSELVES.len(), usize::max),
            names,
        }
    }

    /// A line of this command itself, with a line feed.
    pub fn own(&self, now: Timestamp, text: &str) -> String {
        let (time, width) = (self.time(now), self.width);
        format!("{time} {OURSELVES:width$} | {text}\n")
    }

    /// Appends a line of the log. `told` is the text to show instead, for a line of the platform.
    pub fn put(&mut self, line: &Line<'_>, told: Option<&str>, out: &mut Vec<u8>) {
        let (Ok(name), Ok(time)) = (str::from_utf8(line.process), str::from_utf8(line.time)) else {
            return;
        };
        let time = time
            .parse()
            .map_or_else(|_| String::new(), |at| self.time(at));
        self.width = self.width.max(name.len().min(40));
        let (color, reset) = match self.form {
            Form::Colored => (self.color_of(name), RESET),
            Form::Plain | Form::Shown => ("", ""),
        };
        let width = self.width;
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{color}{time} {name:width$} | {reset}");
        match (told, self.form) {
            (Some(told), Form::Plain) => out.extend_from_slice(told.as_bytes()),
            (None, Form::Plain) => out.extend_from_slice(line.text),
            (told, form) => {
                let text = told.map_or(line.text, str::as_bytes);
                let mut shown = String::new();
                show_text(text, form == Form::Colored, &mut shown);
                out.extend_from_slice(shown.as_bytes());
            }
        }
        out.push(b'\n');
    }

    fn time(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone())
            .strftime("%H:%M:%S")
            .to_string()
    }

    fn color_of(&mut self, name: &str) -> &'static str {
        let known = self.names.iter().position(|known| known == name);
        let index = known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        COLORS[index % COLORS.len()]
    }
}

/// Appends the app's text, with or without its colours, and with other control characters escaped.
fn show_text(text: &[u8], colors: bool, out: &mut String) {
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let (mut rest, mut colored) = (text, false);
    while let Some(at) = memchr::memmem::find(rest, b"\x1b[") {
        show(&rest[..at], out);
        rest = &rest[at..];
        let length = color_at(rest);
        if length == 0 {
            show(&rest[..2], out);
            rest = &rest[2..];
            continue;
        }
        if colors {
            out.push_str(str::from_utf8(&rest[..length]).unwrap_or_default());
            colored = true;
        }
        rest = &rest[length..];
    }
    show(rest, out);
    if colored {
        out.push_str(RESET);
    }
}

/// The length of the colour sequence at the beginning of `text`; 0 if there is none.
fn color_at(text: &[u8]) -> usize {
    let parameters = text[2..].iter().take(LONGEST_COLOR);
    let length = parameters
        .take_while(|byte| matches!(byte, b'0'..=b'9' | b';' | b':'))
        .count();
    match text.get(2 + length) {
        Some(b'm') => length + 3,
        _ => 0,
    }
}

/// The text to show for a line of the platform; None if it is not shown. `again` says that crashed processes are restarted.
pub fn told(
    line: &Line<'_>,
    change: Option<&Change>,
    port: Option<u16>,
    again: bool,
) -> Option<String> {
    let text = str::from_utf8(line.text).ok()?;
    if line.source == LogSource::App {
        return None;
    }
    Some(match change {
        Some(Change::Starting) => {
            let Story::Starting { quoted } = Story::parse(text) else {
                return None;
            };
            match port {
                Some(port) => format!("starting {quoted} on port {port}"),
                None => format!("starting {quoted}"),
            }
        }
        Some(Change::Up) => {
            let is_web = line.process.starts_with(b"web.");
            format!("listening on port {}", port.filter(|_| is_web)?)
        }
        Some(Change::Crashed(None)) => text.to_owned(),
        Some(Change::Crashed(status)) => match again {
            true => format!("{}; starting it again", how(*status)),
            false => how(*status),
        },
        // 128: stopped before its command began.
        Some(Change::Ended(128 | 143)) => "stopped".to_owned(),
        Some(Change::Ended(status)) => how(Some(*status)),
        None => match Story::parse(text) {
            Story::StateChanged { .. }
            | Story::Exited(_)
            | Story::AwaitingClient
            | Story::Terminating
            | Story::Killing => return None,
            story => story.to_string(),
        },
    })
}

/// Writes all of it to standard output.
///
/// # Errors
/// When the reader has left, or a disk is full.
pub fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(not_printed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(process: &'a str, text: &'a [u8]) -> Line<'a> {
        Line {
            time: b"2022-05-05T11:15:40.779338+00:00",
            source: LogSource::App,
            process: process.as_bytes(),
            text,
        }
    }

    fn shown(form: Form, lines: &[(&str, &[u8])]) -> Vec<String> {
        let names = ["web.1", "worker.1"].map(str::to_owned).into();
        let mut screen = Screen::new(form, names, TimeZone::UTC);
        let put = |(process, text): &(&str, &[u8])| {
            let mut out = Vec::new();
            screen.put(&line(process, text), None, &mut out);
            String::from_utf8(out).unwrap()
        };
        lines.iter().map(put).collect()
    }

    #[test]
    fn lines_are_aligned_and_each_process_has_a_colour() {
        let lines: [(&str, &[u8]); 4] = [
            ("web.1", b"a"),
            ("worker.1", b"b"),
            ("run.1", b"c"),
            ("web.1", b"d"),
        ];
        assert_eq!(
            shown(Form::Colored, &lines),
            [
                "\x1b[36m11:15:40 web.1    | \x1b[0ma\n",
                "\x1b[33m11:15:40 worker.1 | \x1b[0mb\n",
                "\x1b[32m11:15:40 run.1    | \x1b[0mc\n",
                "\x1b[36m11:15:40 web.1    | \x1b[0md\n",
            ]
        );
        assert_eq!(shown(Form::Plain, &lines)[0], "11:15:40 web.1    | a\n");
        let screen = Screen::new(Form::Plain, vec!["web.1".into()], TimeZone::UTC);
        assert_eq!(
            screen.own(Timestamp::UNIX_EPOCH, "x"),
            "00:00:00 system | x\n"
        );
    }

    #[test]
    fn the_apps_colours_are_kept_and_nothing_else_is_obeyed() {
        let text = b"\x1b[1;31mred\x1b[2J\x07\xff\x1b[m\r".as_slice();
        let text_of = |form| shown(form, &[("web.1", text)]).remove(0);
        let after = |shown: String| shown.split_once("| ").unwrap().1.to_owned();
        assert_eq!(
            after(text_of(Form::Colored)),
            "\x1b[0m\x1b[1;31mred\\x1b[2J\\x07\\xff\x1b[m\x1b[0m\n"
        );
        assert_eq!(after(text_of(Form::Shown)), "red\\x1b[2J\\x07\\xff\n");
        let mut out = Vec::new();
        let mut screen = Screen::new(Form::Plain, Vec::new(), TimeZone::UTC);
        screen.put(&line("web.1", text), None, &mut out);
        assert!(out.ends_with(&[text, b"\n"].concat()));
    }

    #[test]
    fn the_platform_says_what_somebody_at_work_wants_to_know() {
        let of = |process: &str, text: &str, change: Option<Change>, again| {
            let line = Line {
                source: LogSource::Heroku,
                ..line(process, text.as_bytes())
            };
            told(&line, change.as_ref(), Some(5000), again)
        };
        let starting = "Starting process with command `./web`";
        for (told, wanted) in [
            (
                of("web.1", starting, Some(Change::Starting), true),
                Some("starting `./web` on port 5000"),
            ),
            (
                of("web.1", "", Some(Change::Up), true),
                Some("listening on port 5000"),
            ),
            (of("worker.1", "", Some(Change::Up), true), None),
            (
                of("web.1", "", Some(Change::Crashed(Some(3))), true),
                Some("exited with status 3; starting it again"),
            ),
            (
                of("web.1", "", Some(Change::Crashed(Some(3))), false),
                Some("exited with status 3"),
            ),
            (
                of("web.1", "", Some(Change::Ended(143)), true),
                Some("stopped"),
            ),
            (
                of("web.1", "State changed from up to down", None, true),
                None,
            ),
            (
                of("web.1", "Error R10 (Boot timeout) -> x", None, true),
                Some("Error R10 (Boot timeout) -> x"),
            ),
        ] {
            assert_eq!(told.as_deref(), wanted);
        }
    }
}
