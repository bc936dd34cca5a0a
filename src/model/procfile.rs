//! The Procfile: which process types an app has and the command of each.
//!
//! Read once, when an app is deployed; the process types then belong to the release and the file in the slug is not
//! looked at again (facts, section 9). Lines are read as foreman reads them: name, colon, blanks, rest of the line.
//! Where foreman skips a line that it does not understand, this is an error that names the line, because a mistyped
//! `web` would be noticed only when no dyno listens.
//!
//! Pure: the caller reads the file. Called by deploys in the CLI and by the server.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::fmt;

use crate::error::{UserError, shown};

/// The largest Procfile, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// The most process types one app may have.
pub const MAX_PROCESS_TYPES: usize = 128;

/// The longest name of a process type, in characters.
pub const MAX_NAME: usize = 128;

/// One process type and the shell command that starts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessType {
    /// ASCII letters, digits, `-` and `_`; see [`is_process_type_name`].
    pub name: String,
    /// The rest of the line, as written; never blank.
    pub command: String,
}

/// Whether `name` can be a process type: 1 to [`MAX_NAME`] ASCII letters, digits, `-` and `_`.
pub fn is_process_type_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Reads a Procfile into its process types, in the order of the file.
///
/// Blank lines and lines whose first visible character is `#` are allowed, CRLF counts as LF, a
/// byte order mark is dropped. A file without process types is valid.
///
/// # Errors
/// The first line that is not valid, a second definition of a name, or a bound that is passed.
pub fn parse(text: &[u8]) -> Result<Vec<ProcessType>, ProcfileError> {
    if text.len() > MAX_BYTES {
        return Err(ProcfileError::TooLarge);
    }
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let mut found: Vec<(usize, ProcessType)> = Vec::new();
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let bad = |why| ProcfileError::BadLine {
            number,
            line: shown(line, 60),
            why,
        };
        let line = std::str::from_utf8(line).map_err(|_| bad(Why::NotUtf8))?;
        if line.contains('\0') {
            return Err(bad(Why::Nul));
        }
        if line.trim_start().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let (name, command) = line.split_once(':').ok_or_else(|| bad(Why::NoColon))?;
        if !is_process_type_name(name) {
            return Err(bad(Why::BadName));
        }
        let command = command.trim_start();
        if command.is_empty() {
            return Err(bad(Why::NoCommand));
        }
        if let Some((first, _)) = found.iter().find(|(_, earlier)| earlier.name == name) {
            return Err(ProcfileError::Duplicate {
                name: name.to_owned(),
                first: *first,
                second: number,
            });
        }
        if found.len() == MAX_PROCESS_TYPES {
            return Err(ProcfileError::TooManyTypes { number });
        }
        found.push((
            number,
            ProcessType {
                name: name.to_owned(),
                command: command.to_owned(),
            },
        ));
    }
    Ok(found
        .into_iter()
        .map(|(_, process_type)| process_type)
        .collect())
}

/// Why a Procfile was refused. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcfileError {
    /// A line that is neither a process type, a comment nor blank.
    BadLine {
        /// The line's number.
        number: usize,
        /// Its beginning, made printable.
        line: String,
        /// What is wrong with it.
        why: Why,
    },
    /// The same name on two lines.
    Duplicate {
        /// The name.
        name: String,
        /// The line that defined it.
        first: usize,
        /// The line that defines it again.
        second: usize,
    },
    /// More than [`MAX_BYTES`].
    TooLarge,
    /// More than [`MAX_PROCESS_TYPES`].
    TooManyTypes {
        /// The line of the first process type too many.
        number: usize,
    },
}

/// What is wrong with one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It has no colon.
    NoColon,
    /// The text before the colon is no valid name.
    BadName,
    /// There is no command after the colon.
    NoCommand,
    /// It is not UTF-8.
    NotUtf8,
    /// It has a NUL byte, which no command line can contain.
    Nul,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoColon => f.write_str("it has no colon"),
            Self::BadName => write!(
                f,
                "a process type is 1 to {MAX_NAME} ASCII letters, digits, `-` and `_`, \
                 directly followed by the colon"
            ),
            Self::NoCommand => f.write_str("no command follows the colon"),
            Self::NotUtf8 => f.write_str("it is not UTF-8"),
            Self::Nul => f.write_str("it has a NUL byte"),
        }
    }
}

impl fmt::Display for ProcfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadLine { number, line, why } => {
                write!(f, "bad Procfile line {number}, `{line}`: {why}")
            }
            Self::Duplicate {
                name,
                first,
                second,
            } => {
                write!(
                    f,
                    "bad Procfile line {second}: `{name}` is already defined on line {first}"
                )
            }
            Self::TooLarge => {
                write!(
                    f,
                    "the Procfile has more than the {MAX_BYTES} bytes allowed"
                )
            }
            Self::TooManyTypes { number } => write!(
                f,
                "bad Procfile line {number}: more than the {MAX_PROCESS_TYPES} process types allowed"
            ),
        }
    }
}

impl std::error::Error for ProcfileError {}

impl From<ProcfileError> for UserError {
    fn from(error: ProcfileError) -> Self {
        let hint = match &error {
            ProcfileError::BadLine { .. } => {
                "every line is `TYPE: COMMAND`, such as `web: ./server`; comments begin with `#`"
            }
            ProcfileError::Duplicate { .. } => "remove or rename one of the two",
            ProcfileError::TooLarge => "move long commands into scripts",
            ProcfileError::TooManyTypes { .. } => "run rarely used commands with `dyno run`",
        };
        Self::new(error.to_string()).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes())
            .unwrap()
            .into_iter()
            .map(|t| (t.name, t.command))
            .collect()
    }

    fn message(text: &[u8]) -> String {
        parse(text).unwrap_err().to_string()
    }

    fn pair(name: &str, command: &str) -> (String, String) {
        (name.to_owned(), command.to_owned())
    }

    #[test]
    fn reads_types_in_the_order_of_the_file() {
        let text = "web: ./server -p $PORT\nmy-worker_2:python dowork.py\nclock:\t  a: b # c\n";
        assert_eq!(
            types(text),
            [
                pair("web", "./server -p $PORT"),
                pair("my-worker_2", "python dowork.py"),
                pair("clock", "a: b # c"),
            ]
        );
    }

    #[test]
    fn line_endings_blank_lines_comments_and_a_byte_order_mark_do_not_matter() {
        let text = "\u{feff}web: a\r\n\r\n  # a comment: no type\n\t\nworker: b";
        assert_eq!(types(text), [pair("web", "a"), pair("worker", "b")]);
        assert_eq!(types(""), []);
    }

    #[test]
    fn a_line_that_is_no_process_type_is_named_with_its_number() {
        assert_eq!(
            message(b"web: a\n\nnonsense\n"),
            "bad Procfile line 3, `nonsense`: it has no colon"
        );
        for name in ["", "my type", "w\u{e9}b", " web", "web ", &"x".repeat(129)] {
            let error = parse(format!("{name}: a").as_bytes()).unwrap_err();
            assert!(
                matches!(
                    error,
                    ProcfileError::BadLine {
                        number: 1,
                        why: Why::BadName,
                        ..
                    }
                ),
                "{name}: {error}"
            );
        }
        assert!(message(b"web: \t\r\n").ends_with("no command follows the colon"));
        assert!(message(b"a: b\nweb: \xff").contains("line 2"));
        assert!(message(b"web: a\0b").ends_with("it has a NUL byte"));
    }

    #[test]
    fn a_second_definition_names_both_lines() {
        assert_eq!(
            message(b"web: a\nworker: b\nweb: c\n"),
            "bad Procfile line 3: `web` is already defined on line 1"
        );
    }

    #[test]
    fn bounds_are_named() {
        let huge = vec![b'#'; MAX_BYTES + 1];
        assert_eq!(
            message(&huge),
            "the Procfile has more than the 65536 bytes allowed"
        );
        let many: String = (0..=MAX_PROCESS_TYPES)
            .map(|n| format!("t{n}: x\n"))
            .collect();
        assert!(message(many.as_bytes()).contains("line 129: more than the 128 process types"));
    }

    #[test]
    fn a_message_shows_one_short_printable_line() {
        let line = format!("\u{1b}[31m{}", "x".repeat(500));
        let text = message(line.as_bytes());
        assert!(!text.contains('\u{1b}') && text.len() < 300, "{text}");
    }

    #[test]
    fn the_error_a_person_sees_has_a_hint() {
        let error = UserError::from(parse(b"x").unwrap_err());
        assert!(error.hint.is_some() && error.message.contains("line 1"));
    }
}
