//! Whether a client that may have a file already, or wants a part of it, gets all of it (RFC 9110, sections 13 and 14).

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::wire::http::fields::Fields;

/// What tells one version of a file from another. In a release, whoever has built it has given each file that has changed another time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its entity tag, with quotes.
    pub tag: String,
    /// When it was changed, in whole seconds.
    pub changed: SystemTime,
    /// Its bytes.
    pub length: u64,
}

impl Version {
    /// That of a file with these times and bytes.
    pub fn new(changed: SystemTime, length: u64) -> Self {
        let seconds = changed
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        Self {
            tag: format!("\"{seconds:x}-{length:x}\""),
            changed: UNIX_EPOCH + Duration::from_secs(seconds),
            length,
        }
    }
}

/// What is sent of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// All of it.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Nothing: the client has it.
    NotModified,
    /// Nothing: it does not have the bytes that were asked for.
    Unsatisfiable,
}

/// What is sent of a file of this version to a request with these fields.
pub fn sent(fields: &Fields, version: &Version) -> Sent {
    let named = |text: &str| {
        let tag = text.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == version.tag
    };
    let is_there = match fields.get("if-none-match") {
        Some(tags) => tags.split(',').any(named),
        None => date(fields, "if-modified-since").is_some_and(|since| version.changed <= since),
    };
    if is_there {
        return Sent::NotModified;
    }
    let is_same = match fields.get("if-range") {
        None => true,
        Some(text) if text.starts_with('"') => text.trim() == version.tag,
        Some(_) => date(fields, "if-range") == Some(version.changed),
    };
    match fields.get("range").filter(|_| is_same) {
        Some(range) => part(range, version.length),
        None => Sent::Whole,
    }
}

fn date(fields: &Fields, name: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(fields.get(name)?.trim()).ok()
}

/// One range is a part; several, and what is none, may be answered with the whole.
fn part(range: &str, length: u64) -> Sent {
    let Some((first, last)) = range
        .trim()
        .strip_prefix("bytes=")
        .and_then(|it| it.split_once('-'))
    else {
        return Sent::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let range = match (first, last) {
        ("", "") => return Sent::Whole,
        ("", last) => match number(last) {
            Some(0) => return Sent::Unsatisfiable,
            Some(last) => length.saturating_sub(last)..length,
            None => return Sent::Whole,
        },
        (first, "") => match number(first) {
            Some(first) => first..length,
            None => return Sent::Whole,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
            _ => return Sent::Whole,
        },
    };
    match range.is_empty() {
        true => Sent::Unsatisfiable,
        false => Sent::Part(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::{HeadLimits, HeadReader};

    fn asked(lines: &str) -> Sent {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let (head, _) = HeadReader::new(HeadLimits::API)
            .request(head.as_bytes())
            .unwrap()
            .unwrap();
        let changed = UNIX_EPOCH + Duration::from_millis(1_000_000_000_500);
        sent(&head.fields, &Version::new(changed, 100))
    }

    #[test]
    fn a_client_gets_what_it_does_not_have() {
        let tag = "\"3b9aca00-64\"";
        for (lines, expected) in [
            (String::new(), Sent::Whole),
            (format!("If-None-Match: {tag}\r\n"), Sent::NotModified),
            (
                format!("If-None-Match: \"x\", W/{tag}\r\n"),
                Sent::NotModified,
            ),
            ("If-None-Match: *\r\n".into(), Sent::NotModified),
            (
                "If-None-Match: \"x\"\r\nIf-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\n"
                    .into(),
                Sent::Whole,
            ),
            (
                "If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\n".into(),
                Sent::NotModified,
            ),
            (
                "If-Modified-Since: Sun, 09 Sep 2001 01:46:39 GMT\r\n".into(),
                Sent::Whole,
            ),
            ("Range: bytes=0-9\r\n".into(), Sent::Part(0..10)),
            ("Range: bytes=90-\r\n".into(), Sent::Part(90..100)),
            ("Range: bytes=-5\r\n".into(), Sent::Part(95..100)),
            ("Range: bytes=-500\r\n".into(), Sent::Part(0..100)),
            (
                "Range: bytes=50-99999999999999999999\r\n".into(),
                Sent::Part(50..100),
            ),
            ("Range: bytes=100-\r\n".into(), Sent::Unsatisfiable),
            ("Range: bytes=-0\r\n".into(), Sent::Unsatisfiable),
            ("Range: bytes=9-0\r\n".into(), Sent::Whole),
            ("Range: bytes=0-1,3-4\r\n".into(), Sent::Whole),
            ("Range: lines=0-1\r\n".into(), Sent::Whole),
            (
                format!("If-Range: {tag}\r\nRange: bytes=0-9\r\n"),
                Sent::Part(0..10),
            ),
            (
                "If-Range: \"x\"\r\nRange: bytes=0-9\r\n".into(),
                Sent::Whole,
            ),
            (
                "If-Range: Sun, 09 Sep 2001 01:46:40 GMT\r\nRange: bytes=0-9\r\n".into(),
                Sent::Part(0..10),
            ),
        ] {
            assert_eq!(asked(&lines), expected, "{lines}");
        }
    }
}
