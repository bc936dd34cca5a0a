//! Time spans as people write and read them: `90`, `30s`, `10m`, `24h`, `7d`, `1h30m`.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

use std::time::Duration;

use crate::error::{UserError, shown};

/// The units, with their lengths in seconds, longest first.
const UNITS: [(char, f64); 4] = [('d', 86_400.0), ('h', 3_600.0), ('m', 60.0), ('s', 1.0)];

/// The longest time span: a thousand years, in seconds.
const LONGEST: f64 = 1_000.0 * 366.0 * 86_400.0;

/// How many characters of an invalid text are shown.
const SHOWN: usize = 60;

/// Parses a time span. A number without a unit is seconds.
///
/// # Errors
/// When it is no time span, or more than a thousand years.
pub fn parse(text: &str) -> Result<Duration, UserError> {
    seconds(text)
        .filter(|seconds| (0.0..=LONGEST).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| {
            let text = shown(text.as_bytes(), SHOWN);
            UserError::new(format!("`{text}` is not a length of time"))
                .hint("write it like `90`, `30s`, `10m`, `24h`, `7d` or `1h30m`")
        })
}

/// Formats a time span for [`parse`], in the largest unit of which it is a multiple: `90s`, `10m`, `24h`, `7d`.
pub fn exact(time: Duration) -> String {
    let seconds = time.as_secs();
    // "24h" is clearer than "1d".
    let fits = |(unit, size): &&(char, f64)| {
        seconds.is_multiple_of(*size as u64)
            && seconds >= *size as u64
            && (*unit, seconds) != ('d', 86_400)
    };
    match UNITS.iter().find(fits) {
        Some((unit, size)) if time.subsec_nanos() == 0 => {
            format!("{}{unit}", seconds / *size as u64)
        }
        _ => format!("{}s", time.as_secs_f64()),
    }
}

fn seconds(text: &str) -> Option<f64> {
    if let Some(seconds) = number(text) {
        return Some(seconds);
    }
    let (mut total, mut rest, mut units) = (0.0, text, UNITS.iter());
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let unit = rest[end..].chars().next()?;
        // Each unit once, the longer ones first: `1m1h` is a typing error.
        let (_, of_unit) = units.find(|(known, _)| *known == unit)?;
        total += number(&rest[..end])? * of_unit;
        rest = &rest[end + 1..];
    }
    (!text.is_empty()).then_some(total)
}

/// Formats a time span in its two largest units: `0s`, `59s`, `1m30s`, `2h`, `7d1h`. The rest is dropped; below a
/// second there are tenths: `0.2s`.
pub fn rough(time: Duration) -> String {
    if (Duration::from_millis(50)..Duration::from_secs(1)).contains(&time) {
        return format!("{:.1}s", time.as_secs_f64());
    }
    let (mut left, mut text) = (time.as_secs(), String::new());
    let mut units = UNITS.iter().map(|(name, seconds)| (name, *seconds as u64));
    let first = units
        .find(|(_, of_unit)| left >= *of_unit)
        .unwrap_or((&'s', 1));
    for (name, of_unit) in std::iter::once(first).chain(units.next()) {
        if left >= of_unit || text.is_empty() {
            text += &format!("{}{name}", left / of_unit);
        }
        left %= of_unit;
    }
    text
}

/// Digits, which may have a point; not Rust's other numbers (`inf`, `1e9`, `-1`).
fn number(text: &str) -> Option<f64> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_length_is_shown_as_one_short_line() {
        let message = |text: &str| parse(text).unwrap_err().message;
        assert_eq!(message("1\u{1b}c"), "`1\u{fffd}c` is not a length of time");
        assert!(message(&"9m".repeat(5000)).len() < 100);
    }

    #[test]
    fn lengths_are_shown_in_the_largest_whole_unit() {
        let shown = |seconds: f64| exact(Duration::from_secs_f64(seconds));
        assert_eq!(
            [
                0.0, 0.1, 90.0, 600.0, 12_960.0, 86_400.0, 604_800.0, 604_801.0
            ]
            .map(shown),
            ["0s", "0.1s", "90s", "10m", "216m", "24h", "7d", "604801s"]
        );
    }

    #[test]
    fn lengths_are_shown_as_people_write_them() {
        for (seconds, text) in [
            (0.0, "0s"),
            (0.04, "0s"),
            (0.25, "0.2s"),
            (1.9, "1s"),
            (59.0, "59s"),
            (60.0, "1m"),
            (90.0, "1m30s"),
            (3605.0, "1h"),
            (5400.0, "1h30m"),
            (86_400.0 * 7.0 + 3600.0, "7d1h"),
            (86_400.0 + 59.0, "1d"),
        ] {
            assert_eq!(rough(Duration::from_secs_f64(seconds)), text);
            assert!(parse(text).is_ok());
        }
    }

    #[test]
    fn lengths_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("90", 90.0),
            ("0", 0.0),
            ("0.5", 0.5),
            ("30s", 30.0),
            ("10m", 600.0),
            ("1h30m", 5400.0),
            ("7d", 604_800.0),
            ("1.5h", 5400.0),
        ] {
            assert_eq!(
                parse(text).unwrap(),
                Duration::from_secs_f64(seconds),
                "{text}"
            );
        }
        for bad in [
            "", "s", "-1", "inf", "1e9", "10 m", "1m1h", "1h1h", "5x", "h5", "1h5", ".", "9999999d",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
