//! What commands print on standard output: lines for people, JSON for people and programs.

use crate::error::UserError;

/// Prints a line of a command's result. Unlike `println!`, it returns an error for a full disk or a reader that has left.
macro_rules! say {
    ($($text:tt)*) => {
        std::io::Write::write_fmt(
            &mut std::io::stdout().lock(),
            format_args!("{}\n", format_args!($($text)*)),
        )
        .map_err($crate::cli::output::not_printed)
    };
}
pub(super) use say;

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
