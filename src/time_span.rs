//! Lengths of time as people write them: `90`, `30s`, `10m`, `24h`, `7d`, `1h30m`.

use std::time::Duration;

use crate::error::UserError;

/// The units, with their seconds, longest first.
const UNITS: [(char, f64); 4] = [('d', 86_400.0), ('h', 3_600.0), ('m', 60.0), ('s', 1.0)];

/// The longest that anybody can mean: a thousand years.
const LONGEST: f64 = 1_000.0 * 366.0 * 86_400.0;

/// Reads one. A number without a unit is seconds.
///
/// # Errors
/// When it is no length of time, or more than a thousand years.
pub fn parse(text: &str) -> Result<Duration, UserError> {
    seconds(text)
        .filter(|seconds| (0.0..=LONGEST).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| {
            UserError::new(format!("`{text}` is not a length of time"))
                .hint("write it like `90`, `30s`, `10m`, `24h`, `7d` or `1h30m`")
        })
}

fn seconds(text: &str) -> Option<f64> {
    if let Some(seconds) = number(text) {
        return Some(seconds);
    }
    let (mut total, mut rest, mut units) = (0.0, text, UNITS.iter());
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let unit = rest[end..].chars().next()?;
        // Each unit once, the longer ones first: `1m1h` is a slip of the finger.
        let (_, of_unit) = units.find(|(known, _)| *known == unit)?;
        total += number(&rest[..end])? * of_unit;
        rest = &rest[end + 1..];
    }
    (!text.is_empty()).then_some(total)
}

/// Digits, with a point perhaps; none of the other things that are numbers to Rust (`inf`, `1e9`, `-1`).
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
