//! The error a person sees: what failed, what to do next, and the exit code.
//!
//! Inside the program errors are `anyhow` chains, defined where they arise. Where the person at the
//! terminal can do something about it, the chain carries a [`UserError`]; `main` finds it, prints it
//! once and leaves with its code. Nothing else in the program prints an error.

use std::fmt;

/// Prints a line on standard error. Unlike `eprintln!` it ignores a failure to write, so a full disk under the server's
/// log costs no dyno.
macro_rules! tell {
    ($($text:tt)*) => {
        $crate::error::tell_part!("{}\n", format_args!($($text)*))
    };
}
pub(crate) use tell;

/// Like `tell!`, without a line feed.
macro_rules! tell_part {
    ($($text:tt)*) => {{
        let text = format!($($text)*);
        // In one write, so that lines of other processes do not come in between.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
    }};
}
pub(crate) use tell_part;

/// Exit code when dyno itself failed, rather than the command that it ran; as in `docker run` and `env`.
pub const EXIT_DYNO_FAILED: u8 = 125;

/// Exit code of a failed command of dyno that runs no command of an app.
pub const EXIT_FAILED: u8 = 1;

/// Exit code when the command line is not valid (as clap has it).
pub const EXIT_USAGE: u8 = 2;

/// An error with advice. Printed as `error: MESSAGE` and, if there is one, `hint: HINT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserError {
    /// What failed, with the value in backquotes: ``no app named `shop` ``. Lower case, no full stop.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// The exit code, where the command's default does not fit.
    pub exit_code: Option<u8>,
}

impl UserError {
    /// An error without advice; add some with [`hint`](Self::hint).
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            exit_code: None,
        }
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Leaves with `code` instead of the command's default.
    #[must_use]
    pub fn exit_code(mut self, code: u8) -> Self {
        self.exit_code = Some(code);
        self
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for UserError {}

/// The beginning of foreign text, safe to print in a message: one line of at most `longest` characters, without control
/// characters.
pub fn shown(text: &[u8], longest: usize) -> String {
    let text = String::from_utf8_lossy(text);
    let harmless = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    let mut shown: String = text.chars().take(longest).map(harmless).collect();
    if text.chars().nth(longest).is_some() {
        shown.push('…');
    }
    shown
}
