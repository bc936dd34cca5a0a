//! Panics of this program. A panic is caught where a part's work begins and becomes an error with a message, so that it
//! is never mistaken for the end of a dyno's command.
//!
//! In debug builds a test can have each part panic at a named [`point`]: `DYNO_TEST_PANIC` in the environment of the
//! server names it. Commands never have that environment, and a release build has no such points.

use std::panic::{self, AssertUnwindSafe};

/// What `work` returns, or, if it panicked, the panic's message; the panic hook has already printed it.
///
/// # Errors
/// The panic's message. Whether what `work` changed half-way can still be used is for the caller to judge.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let words = panic
            .downcast_ref::<&str>()
            .map(|words| (*words).to_owned());
        let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
        format!("panic: {}", words.as_deref().unwrap_or("without words"))
    })
}

/// Like [`caught`], for `work` that returns a `Result`.
///
/// # Errors
/// The error of `work`, or the message of its panic.
pub fn caught_or<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    caught(work).unwrap_or_else(|panic| Err(anyhow::Error::msg(panic)))
}

/// A named place at which a test can make the program panic, once in each process.
pub fn point(name: impl std::fmt::Display) {
    #[cfg(debug_assertions)]
    armed::point(&name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// The environment variable that names the point to panic at; None in a release build, which has no points.
pub fn variable() -> Option<&'static std::ffi::OsStr> {
    #[cfg(debug_assertions)]
    return Some(std::ffi::OsStr::new(armed::VARIABLE));
    #[cfg(not(debug_assertions))]
    None
}

/// The variable and its value, if set, for a process that is started with an otherwise empty environment.
pub fn inherited() -> Option<(&'static std::ffi::OsStr, std::ffi::OsString)> {
    let name = variable()?;
    std::env::var_os(name).map(|value| (name, value))
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// The name of the point.
    pub const VARIABLE: &str = "DYNO_TEST_PANIC";

    static ARMED: OnceLock<Option<String>> = OnceLock::new();
    static FIRED: AtomicBool = AtomicBool::new(false);

    /// Panics if [`VARIABLE`] names this point, once in a process.
    pub fn point(name: &dyn std::fmt::Display) {
        let armed = ARMED.get_or_init(|| std::env::var(VARIABLE).ok());
        let Some(armed) = armed else { return };
        if *armed == name.to_string() && !FIRED.swap(true, Ordering::Relaxed) {
            panic!("a test wants it at `{name}`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_words() {
        assert_eq!(caught(|| 2), Ok(2));
        let words = |text: &'static str| Err::<(), _>(format!("panic: {text}"));
        assert_eq!(caught(|| panic!("plain")), words("plain"));
        let number = 3;
        assert_eq!(caught(|| panic!("with {number}")), words("with 3"));
        assert_eq!(caught(|| std::panic::panic_any(3)), words("without words"));
        let error = caught_or(|| -> anyhow::Result<()> { panic!("both") });
        assert_eq!(error.unwrap_err().to_string(), "panic: both");
    }
}
