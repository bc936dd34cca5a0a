//! Patterns of file names, as `glob(3)` has them.

use std::ffi::{CString, OsStr};

/// The most `*` in a pattern: with more, the C library's matching takes exponential time.
const MAX_STARS: usize = 8;

/// Whether `name`, one part of a path, matches `pattern`: `*`, `?`, `[0-9]`, `[[:digit:]]`, a backslash. As in a shell,
/// a leading dot is matched only by a dot.
pub fn is_meant(pattern: &OsStr, name: &OsStr) -> bool {
    let bytes = |text: &OsStr| CString::new(text.as_encoded_bytes());
    let stars = pattern
        .as_encoded_bytes()
        .iter()
        .filter(|byte| **byte == b'*');
    let (Ok(pattern), Ok(name), 0..=MAX_STARS) = (bytes(pattern), bytes(name), stars.count())
    else {
        return false;
    };
    let flags = libc::FNM_PERIOD;
    // SAFETY: both are C strings that live for the call, which only reads them.
    unsafe { libc::fnmatch(pattern.as_ptr(), name.as_ptr(), flags) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_a_shells() {
        for (pattern, name, meant) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", false),
            ("*", "a", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("abc", "abc", true),
            ("*.conf", "a.conf~", false),
            ("[0-9]*.conf", "10.conf", true),
            ("[!0-9]*", "10.conf", false),
            ("[[:digit:]]*", "1", true),
            (r"10\-a", "10-a", true),
            (".*", ".x", true),
            ("*********", "x", false),
        ] {
            assert_eq!(
                is_meant(OsStr::new(pattern), OsStr::new(name)),
                meant,
                "{pattern} {name}"
            );
        }
    }
}
