//! What commands print on standard output: lines for people, JSON for people and programs.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;

use crate::cli::logs::show;
use crate::cli::terminal;
use crate::error::UserError;

/// Prints a line of a command's result. Unlike `println!`, it returns an error for a full disk or a reader that has left. On a
/// terminal, what a terminal would obey is written out: most of what is printed was chosen by others.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::cli::output::print_line(format_args!($($text)*))
            .map_err($crate::cli::output::not_printed)
    };
}
pub(super) use say;

/// Prints a line on standard output; see [`say`].
///
/// # Errors
/// When standard output cannot be written to.
pub fn print_line(line: fmt::Arguments<'_>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match terminal::is_terminal(&stdout) {
        true => writeln!(stdout, "{}", written_out(&line.to_string())),
        false => writeln!(stdout, "{line}"),
    }
}

/// Lines for a terminal: line feeds and tabs are kept, all else that it would obey is escaped.
fn written_out(text: &str) -> String {
    let pieces = text.split_inclusive(['\n', '\t']);
    let pieces = pieces.map(|piece| match piece.char_indices().next_back() {
        Some((at, end @ ('\n' | '\t'))) => format!("{}{end}", terminal::visible(&piece[..at])),
        _ => terminal::visible(piece),
    });
    pieces.collect()
}

/// A value of others in a line for people, which it must not leave: on a terminal its line feeds are escaped, too.
pub fn in_one_line(value: &str) -> Cow<'_, str> {
    match terminal::is_terminal(rustix::stdio::stdout()) {
        true => Cow::Owned(terminal::visible(value)),
        false => Cow::Borrowed(value),
    }
}

/// The error when standard output cannot be written to. A reader that has left keeps its error kind.
pub fn not_printed(error: std::io::Error) -> std::io::Error {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return error;
    }
    let place = std::fs::read_link("/proc/self/fd/1");
    let place = place.map_or(String::new(), |place| format!(" (`{}`)", place.display()));
    let message = format!("cannot write to standard output{place}: {error}");
    let told = UserError::new(message).hint("send it elsewhere, or make room there");
    std::io::Error::new(error.kind(), told)
}

/// Prints a result as JSON for people and programs. Control characters are written as JSON's escapes.
///
/// # Errors
/// When standard output cannot be written to.
pub fn say_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut json = String::new();
    for c in serde_json::to_string_pretty(value)?.chars() {
        match crate::cli::terminal::is_obeyed(c) && c != '\n' {
            true => json += &format!("\\u{:04x}", u32::from(c)),
            false => json.push(c),
        }
    }
    Ok(say!("{json}")?)
}

/// What programs have printed, passed on as it comes; on a terminal in whole lines, without control characters.
pub struct ProgramOutput<W> {
    out: W,
    is_terminal: bool,
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl<W: Write + AsFd> ProgramOutput<W> {
    /// To be printed there.
    pub fn to(out: W) -> Self {
        let is_terminal = terminal::is_terminal(&out);
        Self {
            out,
            is_terminal,
            rest: Vec::new(),
        }
    }

    /// Prints what has come.
    ///
    /// # Errors
    /// When nothing can be written any more.
    pub fn print(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.is_terminal {
            self.out.write_all(bytes)?;
            return self.out.flush();
        }
        self.rest.extend_from_slice(bytes);
        // Whole lines, so that no character is cut in two.
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n');
        let whole: Vec<u8> = self.rest.drain(..whole.map_or(0, |at| at + 1)).collect();
        self.show(&whole)
    }

    /// Prints the last line, which has no end.
    ///
    /// # Errors
    /// As [`print`](Self::print).
    pub fn end(mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.rest);
        self.show(&rest)
    }

    fn show(&mut self, lines: &[u8]) -> io::Result<()> {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let (line, end) = match line.strip_suffix(b"\n") {
                Some(line) => (line, "\n"),
                None => (line, ""),
            };
            let mut text = String::new();
            show(line, &mut text);
            write!(self.out, "{text}{end}")?;
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_stay_and_nothing_else_is_obeyed() {
        assert_eq!(
            written_out("A:\t\x1b]52;c;eA==\x07\nB:\u{9b}2J\r"),
            "A:\t\\u{1b}]52;c;eA==\\u{7}\nB:\\u{9b}2J\\r"
        );
        assert_eq!(written_out("naïve\n\n"), "naïve\n\n");
    }
}
