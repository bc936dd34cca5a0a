//! The user's own terminal: in raw mode while a dyno uses it, and then restored exactly.
//!
//! The settings are saved once, as a whole, and restored once: by [`RawMode`]'s drop, by [`restore`]
//! before the process exits, or by the panic hook, whichever comes first. A signal that ends the program
//! is turned into an ordinary exit by the caller, so that it comes through here, too.

mod modes;
pub mod terminfo;

use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcsetattr,
};

pub use modes::Modes;

use crate::kernel::sys::signal::{self, Signal};
use crate::kernel::wait;
use crate::model::window::WindowSize;
use crate::pty;

/// The terminal's settings from before; None when there is nothing to restore.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// While it lives, the terminal on standard input is in raw mode.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Puts the terminal into raw mode. A second call before the first guard is dropped changes nothing.
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

    /// Restores the terminal while this process is stopped.
    pub fn leave_for_now(&self) {
        let saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = saved.as_ref() {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, before);
        }
    }

    /// Puts the terminal into raw mode again, after another program may have changed it.
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

/// Restores the terminal's settings, if they were changed and not restored yet.
pub fn restore() {
    if let Some(before) = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // From the background, this would otherwise stop the process. No program is started after this.
        signal::ignore(Signal::TTOU);
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &before);
    }
}

/// The key that stops programs in the user's terminal (`stty susp`), if there is one.
pub fn stop_key() -> Option<u8> {
    let saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
    let now = || tcgetattr(rustix::stdio::stdin()).ok();
    let settings = saved.clone().or_else(now)?;
    // 0 is none.
    Some(settings.special_codes[SpecialCodeIndex::VSUSP]).filter(|key| *key != 0)
}

/// The most typed-ahead bytes that are read: many times what a terminal keeps.
const MOST_AHEAD: usize = 64 * 1024;

/// The lines that were typed ahead; to be called before raw mode, in which a Ctrl-D in them would read as a NUL. Never
/// waits. The rest of an incomplete line follows in raw mode.
pub fn typed_ahead() -> Vec<u8> {
    let stdin = rustix::stdio::stdin();
    let (mut ahead, mut line) = (Vec::new(), [0; 4096]);
    let in_lines = tcgetattr(stdin).is_ok_and(|it| it.local_modes.contains(LocalModes::ICANON));
    while in_lines && is_foreground() && ahead.len() < MOST_AHEAD {
        let Ok(Some(PollFlags::IN)) = wait::until(stdin, PollFlags::IN, Some(Instant::now()))
        else {
            break;
        };
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

/// Whether the user wants colours on a terminal (<https://no-color.org>), and it has some.
pub fn wants_colors() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}

/// The size of the user's terminal: that of standard output, or of another standard stream.
pub fn size() -> Option<WindowSize> {
    pty::size(rustix::stdio::stdout())
        .or_else(|| pty::size(rustix::stdio::stdin()))
        .or_else(|| pty::size(rustix::stdio::stderr()))
}

/// Whether this process is in the foreground of the terminal on standard input, so that it can change it without being stopped.
pub fn is_foreground() -> bool {
    rustix::termios::tcgetpgrp(rustix::stdio::stdin())
        .is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Whether a character can change how a terminal shows text: control characters, and those that change the direction of
/// writing or break the line.
pub fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text as one line for a terminal, with the characters of [`is_obeyed`] escaped as in Rust: `\n`, `\u{1b}`.
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
