//! The header fields of one message, kept in the bytes they came in.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use super::HttpRefusal;

/// A range of a head's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Where `part`, a piece of `whole`, lies in it.
    pub fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
        Self {
            start: start as u32,
            end: start.saturating_add(part.len()) as u32,
        }
    }

    /// The bytes of `whole` that the span is of.
    pub fn bytes(self, whole: &[u8]) -> &[u8] {
        let span = self.start as usize..self.end as usize;
        whole.get(span).unwrap_or_default()
    }

    /// The bytes as text; only for spans that the parser found to be UTF-8.
    pub fn text(self, whole: &[u8]) -> &str {
        std::str::from_utf8(self.bytes(whole)).unwrap_or_default()
    }
}

/// The header fields of a message, in their order. Names compare without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// The whole head.
    pub(super) head: Box<[u8]>,
    spans: Box<[(Span, Span)]>,
}

impl Fields {
    pub(super) fn new(head: &[u8], parsed: &[httparse::Header<'_>]) -> Self {
        let spans = parsed
            .iter()
            .map(|field| {
                (
                    Span::of(field.name.as_bytes(), head),
                    Span::of(field.value, head),
                )
            })
            .collect();
        Self {
            head: head.into(),
            spans,
        }
    }

    /// Every field: its name as it came, and its value without the white space around it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.spans
            .iter()
            .map(|(name, value)| (name.text(&self.head), value.bytes(&self.head)))
    }

    /// The values of every field called `name`.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The value of the only field called `name`, as text. None if there is no such field, or more
    /// than one, or if it is not UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (Some(value), None) => std::str::from_utf8(value).ok(),
            _ => None,
        }
    }

    /// Whether a field called `name`, which holds a list separated by commas, has `token` in it.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The declared length of the body. Two lengths are refused even if they agree: a proxy may have read them differently.
    pub(super) fn content_length(&self) -> Result<Option<u64>, HttpRefusal> {
        let mut values = self.all("content-length");
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(HttpRefusal::bad("more than one Content-Length"));
        }
        // No sign, no white space, no list; 19 digits always fit.
        if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
            return Err(HttpRefusal::bad("malformed Content-Length"));
        }
        let length = std::str::from_utf8(value)
            .ok()
            .and_then(|digits| digits.parse().ok());
        length
            .map(Some)
            .ok_or_else(|| HttpRefusal::bad("malformed Content-Length"))
    }

    /// Whether the body is chunked. No other transfer coding is understood, nor a list of them.
    pub(super) fn chunked(&self) -> Result<bool, HttpRefusal> {
        let mut values = self.all("transfer-encoding");
        match (values.next(), values.next()) {
            (None, _) => Ok(false),
            (Some(value), None) if value.eq_ignore_ascii_case(b"chunked") => Ok(true),
            _ => Err(HttpRefusal::bad("Transfer-Encoding is not `chunked`")),
        }
    }
}
