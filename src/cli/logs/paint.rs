//! Formats a log line for a terminal: in Heroku's colours, with control characters escaped.

use std::fmt::Write;

use crate::cli::terminal;
use crate::model::dyno::DynoState;
use crate::model::log_line::{self, ByUser, Line, LogSource, Story};

const RESET: &str = "\x1b[0m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const MAGENTA: &str = "\x1b[35m";
const CYAN: &str = "\x1b[36m";
const BRIGHT_GREEN: &str = "\x1b[92m";
const BRIGHT_YELLOW: &str = "\x1b[93m";
const COMMAND: &str = "\x1b[1;36m";

/// The colours of process types, in the order in which they are given.
const OF_TYPES: [&str; 10] = [
    YELLOW,
    GREEN,
    CYAN,
    MAGENTA,
    "\x1b[34m",
    "\x1b[1;32m",
    "\x1b[1;36m",
    "\x1b[1;35m",
    "\x1b[1;33m",
    "\x1b[1;34m",
];

/// Process types with fixed colours (Heroku's).
const FIRST_TYPES: [&str; 5] = ["run", "router", "web", "postgres", "heroku-postgres"];

/// Formats log lines, and remembers the colours of process types.
#[derive(Debug)]
pub struct Painter {
    colors: bool,
    types: Vec<String>,
}

impl Painter {
    /// A painter with or without colours.
    pub fn new(colors: bool) -> Self {
        Self {
            colors,
            types: FIRST_TYPES.map(str::to_owned).into(),
        }
    }

    /// Appends `line`, which may have its line feed, to `out`, with a line feed.
    pub fn paint(&mut self, line: &[u8], out: &mut String) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        match log_line::parse(line) {
            Some(parts) if self.colors => {
                let prefix = &line[..line.len() - parts.text.len()];
                out.push_str(self.color_of(parts.process));
                show(prefix.strip_suffix(b" ").unwrap_or(prefix), out);
                out.push_str(RESET);
                out.push(' ');
                paint_text(&parts, out);
            }
            _ => show(line, out),
        }
        out.push('\n');
    }

    /// The colour of a process, which all dynos of a type share.
    fn color_of(&mut self, process: &[u8]) -> &'static str {
        let of_type = process
            .split(|byte| *byte == b'.')
            .next()
            .unwrap_or_default();
        let known = self
            .types
            .iter()
            .position(|known| known.as_bytes() == of_type);
        let index = known.unwrap_or_else(|| {
            self.types
                .push(String::from_utf8_lossy(of_type).into_owned());
            self.types.len() - 1
        });
        OF_TYPES[index % OF_TYPES.len()]
    }
}

/// Appends the text, with colours in the platform's sentences.
fn paint_text(line: &Line<'_>, out: &mut String) {
    let platform = line.source == LogSource::Heroku || line.process == b"api";
    let text = str::from_utf8(line.text).ok().filter(|_| platform);
    let Some(text) = text else {
        return show(line.text, out);
    };
    let (story, user) = match ByUser::parse(text) {
        Some(ByUser { story, user }) => (story, Some(user)),
        None => (Story::parse(text), None),
    };
    let mut parts = colors_of(&story);
    parts.extend(user.map(|user| (user, GREEN)));
    let mut rest = text;
    for (part, color) in parts {
        // Each part follows a blank, unless it is the whole text.
        let at = match rest == part {
            true => Some(0),
            false => rest.find(&format!(" {part}")).map(|at| at + 1),
        };
        let Some(at) = at else { continue };
        show(&rest.as_bytes()[..at], out);
        colored(color, &part, out);
        rest = &rest[at + part.len()..];
    }
    show(rest.as_bytes(), out);
}

/// The parts of a sentence that have a colour, in their order.
fn colors_of(story: &Story) -> Vec<(String, &'static str)> {
    match story {
        Story::Starting { quoted } => vec![(quoted.clone(), COMMAND)],
        Story::StartingInside { command, .. } => vec![(format!("`{command}`"), COMMAND)],
        Story::StateChanged { from, to } => [from, to]
            .map(|state| (state.to_string(), of_state(*state)))
            .into(),
        Story::Exited(0) => vec![("0".to_owned(), BRIGHT_GREEN)],
        Story::Exited(status) => vec![(status.to_string(), RED)],
        Story::Terminating => vec![(story.to_string(), RED)],
        Story::Restarting => vec![(story.to_string(), YELLOW)],
        Story::Deploy(commit) => vec![(commit.clone(), CYAN)],
        Story::ReleaseCreated(version) | Story::ReleaseCommandFailed(version) => {
            vec![(version.to_string(), MAGENTA)]
        }
        _ => Vec::new(),
    }
}

fn of_state(state: DynoState) -> &'static str {
    match state {
        DynoState::Down | DynoState::Crashed => RED,
        DynoState::Up | DynoState::Complete => BRIGHT_GREEN,
        DynoState::Starting => BRIGHT_YELLOW,
        DynoState::Idle => "",
    }
}

fn colored(color: &str, text: &str, out: &mut String) {
    out.push_str(color);
    show(text.as_bytes(), out);
    if !color.is_empty() {
        out.push_str(RESET);
    }
}

/// Appends `bytes` for a terminal, with control characters escaped as `\x1b`, and invalid UTF-8 as `\xff`. Tabs are kept.
pub fn show(bytes: &[u8], out: &mut String) {
    // Writing to a String cannot fail.
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let _ = match c {
                '\t' => out.write_char(c),
                '\r' => out.write_str("\\r"),
                c if c.is_ascii_control() => write!(out, "\\x{:02x}", u32::from(c)),
                c if terminal::is_obeyed(c) => write!(out, "\\u{{{:x}}}", u32::from(c)),
                c => out.write_char(c),
            };
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2022-05-05T11:15:40.779338+00:00";

    fn painted(colors: bool, lines: &[&str]) -> Vec<String> {
        let mut painter = Painter::new(colors);
        lines
            .iter()
            .map(|line| {
                let mut out = String::new();
                painter.paint(format!("{TIME} {line}\n").as_bytes(), &mut out);
                let line = out.strip_prefix(TIME).map(str::to_owned);
                line.unwrap_or_else(|| out.replace(TIME, "TIME"))
                    .trim_end_matches('\n')
                    .to_owned()
            })
            .collect()
    }

    #[test]
    fn types_have_herokus_colours_and_the_text_is_plain() {
        assert_eq!(
            painted(
                true,
                &[
                    "app[run.12]: hello",
                    "app[web.1]: hi",
                    "app[worker.1]: ho",
                    "app[clock.1]: tick",
                    "app[worker.2]: ha",
                ]
            ),
            [
                "\x1b[33mTIME app[run.12]:\x1b[0m hello",
                "\x1b[36mTIME app[web.1]:\x1b[0m hi",
                "\x1b[1;32mTIME app[worker.1]:\x1b[0m ho",
                "\x1b[1;36mTIME app[clock.1]:\x1b[0m tick",
                "\x1b[1;32mTIME app[worker.2]:\x1b[0m ha",
            ]
        );
    }

    #[test]
    fn a_dynos_life_is_coloured_but_not_what_an_app_says_of_it() {
        let after = |line: &str| {
            let painted = painted(true, &[line]).remove(0);
            painted.split_once("\x1b[0m ").unwrap().1.to_owned()
        };
        for (line, text) in [
            (
                "heroku[run.1]: State changed from starting to up",
                "State changed from \x1b[93mstarting\x1b[0m to \x1b[92mup\x1b[0m",
            ),
            (
                "heroku[run.1]: Process exited with status 7",
                "Process exited with status \x1b[31m7\x1b[0m",
            ),
            (
                "heroku[run.1]: Starting process with command `a ` by user b`",
                "Starting process with command \x1b[1;36m`a `\x1b[0m by user \x1b[32mb`\x1b[0m",
            ),
            (
                "heroku[run.1]: Starting process with command `ls`",
                "Starting process with command \x1b[1;36m`ls`\x1b[0m",
            ),
            (
                "app[api]: Release v1 created by user dyno@localhost",
                "Release \x1b[35mv1\x1b[0m created by user \x1b[32mdyno@localhost\x1b[0m",
            ),
            ("heroku[run.1]: Awaiting client", "Awaiting client"),
            (
                "app[run.1]: State changed from up to down",
                "State changed from up to down",
            ),
        ] {
            assert_eq!(after(line), text);
        }
    }

    #[test]
    fn nothing_is_obeyed() {
        let mut out = String::new();
        show(
            b"\x1b[2J\x07\r\x7f\xff\xc3\t\xc2\x9b31m \xe2\x80\xae \xc3\xa9\xf0\x9f\x98\x80",
            &mut out,
        );
        assert_eq!(
            out,
            "\\x1b[2J\\x07\\r\\x7f\\xff\\xc3\t\\u{9b}31m \\u{202e} é😀"
        );
        assert_eq!(
            painted(false, &["app[run.1]: \x1b[31mred"]),
            [" app[run.1]: \\x1b[31mred"]
        );
        // A line of nobody's, and a command that would hide the rest.
        assert_eq!(painted(true, &["\x1b]0;x\x07"]), [" \\x1b]0;x\\x07"]);
        let hidden = painted(
            true,
            &["heroku[run.1]: Starting process with command `\x1b[8m`"],
        );
        assert!(hidden[0].contains("`\\x1b[8m`"));
    }
}
