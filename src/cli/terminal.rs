//! The user's own terminal: raw while a dyno has it, and given back exactly as it was.
//!
//! The settings are saved once, as a whole, and restored once: by [`RawMode`]'s drop, by [`restore`]
//! before the process exits, or by the panic hook, whichever comes first. A signal that ends the program
//! is turned into an ordinary exit by the caller, so that it comes through here, too.

mod modes;
pub mod terminfo;

use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, Once, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcsetattr,
};

pub use modes::Modes;

use crate::kernel::sys::signal::{self, Signal};
use crate::pty::{self, Size};

/// What the terminal was before; empty when there is nothing to restore.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// While it lives, the terminal on standard input passes every key on and shows every byte as it is.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Makes the terminal raw. There is one terminal: a second call before the first guard's end
    /// changes nothing.
    pub fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let default = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                default(panic);
            }));
        });
        let mut saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
        if saved.is_none() {
            let stdin = rustix::stdio::stdin();
            let before = tcgetattr(stdin)?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(stdin, OptionalActions::Drain, &raw)?;
            *saved = Some(before);
        }
        Ok(Self(()))
    }

    /// Gives the terminal its settings back while this process is stopped.
    pub fn leave_for_now(&self) {
        let saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = saved.as_ref() {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, before);
        }
    }

    /// Makes the terminal raw once more: whoever had it meanwhile may have left it otherwise.
    pub fn enter_again(&self) {
        let saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = saved.as_ref() {
            let mut raw = before.clone();
            raw.make_raw();
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw);
        }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal its settings back, if they were changed and have not been given back yet.
pub fn restore() {
    if let Some(before) = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // From the background this would stop the process for good. No program is started after this.
        signal::ignore(Signal::TTOU);
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &before);
    }
}

/// The key that stops programs in the user's terminal (`stty susp`), if one does.
pub fn stop_key() -> Option<u8> {
    let saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
    let now = || tcgetattr(rustix::stdio::stdin()).ok();
    let settings = saved.clone().or_else(now)?;
    // 0 is none.
    Some(settings.special_codes[SpecialCodeIndex::VSUSP]).filter(|key| *key != 0)
}

/// The most that was typed ahead and is asked for, in bytes: many times what a terminal keeps.
const MOST_AHEAD: usize = 64 * 1024;

/// The lines that were typed already, to be asked for before the terminal is raw: the end of an input (Ctrl-D) in them would
/// read as a NUL afterwards. Never waits. What is left of a line follows when the terminal is raw.
pub fn typed_ahead() -> Vec<u8> {
    let stdin = rustix::stdio::stdin();
    let (mut ahead, mut line) = (Vec::new(), [0; 4096]);
    let in_lines = tcgetattr(stdin).is_ok_and(|it| it.local_modes.contains(LocalModes::ICANON));
    while in_lines && is_foreground() && ahead.len() < MOST_AHEAD {
        let mut fds = [PollFd::from_borrowed_fd(stdin, PollFlags::IN)];
        let polled = poll(&mut fds, Some(&Timespec::default()));
        if polled.is_err() || fds[0].revents() != PollFlags::IN {
            break;
        }
        let Ok(length) = rustix::io::read(stdin, &mut line) else {
            break;
        };
        ahead.extend_from_slice(&line[..length]);
        if !line[..length].ends_with(b"\n") {
            ahead.push(END_KEY);
        }
    }
    ahead
}

/// Ctrl-D.
const END_KEY: u8 = 0x04;

/// Whether `fd` is a terminal.
pub fn is_terminal(fd: impl AsFd) -> bool {
    isatty(fd)
}

/// The size of the user's terminal: standard output's, or that of whichever stream is one.
pub fn size() -> Option<Size> {
    pty::size(rustix::stdio::stdout())
        .or_else(|| pty::size(rustix::stdio::stdin()))
        .or_else(|| pty::size(rustix::stdio::stderr()))
}

/// Whether this process may change the terminal on standard input without being stopped for it.
pub fn is_foreground() -> bool {
    rustix::termios::tcgetpgrp(rustix::stdio::stdin())
        .is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Whether a terminal may take a character for an order: control characters, and what turns the direction of writing
/// or breaks the line.
pub fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text as one line that a terminal shows and does not obey, what it would obey written as in Rust: `\n`, `\u{1b}`.
pub fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => visible.extend(c.escape_debug()),
            c if is_obeyed(c) => visible.extend(c.escape_unicode()),
            c => visible.push(c),
        }
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        for (text, shown) in [
            ("bash -c 'a  b'", "bash -c 'a  b'"),
            ("naïve – 日本 🚀 \\n", "naïve – 日本 🚀 \\n"),
            ("a\nb\tc\rd\0", r"a\nb\tc\rd\0"),
            ("\u{1b}[2J\u{7f}\u{9b}", r"\u{1b}[2J\u{7f}\u{9b}"),
            ("\u{202e}\u{2028}", r"\u{202e}\u{2028}"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }
}
