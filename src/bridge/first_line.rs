//! The first line of a connection to the rendezvous, in which its client sends the secret. No I/O.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use super::secrets::LENGTH;

/// The longest first line, in bytes; a line with a secret is a tenth of it.
pub const LONGEST_LINE: usize = 1024;

/// What a client has said of its first line.
#[derive(Debug, Default)]
pub struct FirstLine {
    said: Vec<u8>,
}

/// What has been heard of a visitor.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// The line is incomplete; nothing more to read before the next event.
    Wait,
    /// The line is incomplete, and there may be more to read.
    Again,
    /// The line, and the bytes after it.
    Line { line: Vec<u8>, rest: Vec<u8> },
    /// The connection has ended, or is not one of a client.
    Leave,
}

impl FirstLine {
    /// Whether a whole secret has come, without the end of the line, which may still be on its way.
    pub fn has_bare_secret(&self) -> bool {
        let rest = bare(&self.said).and_then(|end| self.said.get(end..));
        matches!(rest, Some(b"" | b"\r"))
    }

    /// Takes the secret of a client whose line has not ended.
    pub fn take_bare_secret(&mut self) -> Vec<u8> {
        secret(&std::mem::take(&mut self.said)).to_vec()
    }

    /// Takes bytes, [`LONGEST_LINE`] at most.
    pub fn take(&mut self, bytes: &[u8]) -> Heard {
        self.said.extend_from_slice(bytes);
        if let Some((_, behind)) = bare(&self.said).and_then(|end| self.said.split_at_checked(end))
            && !matches!(behind, [] | [b'\r' | b'\n' | b'?' | b' ', ..])
        {
            // A client that does not end the line and sends data at once.
            let rest = behind.to_vec();
            self.said
                .truncate(self.said.len().saturating_sub(rest.len()));
            return Heard::Line {
                line: self.take_bare_secret(),
                rest,
            };
        }
        let mut parts = self.said.splitn(2, |byte| *byte == b'\n');
        match (parts.next(), parts.next()) {
            (Some(line), Some(rest)) => Heard::Line {
                line: secret(line).to_vec(),
                rest: rest.to_vec(),
            },
            _ if self.said.len() > LONGEST_LINE => Heard::Leave,
            _ => Heard::Again,
        }
    }

    /// Notes that nothing follows.
    pub fn end(&mut self) -> Heard {
        match self.has_bare_secret() {
            true => Heard::Line {
                line: self.take_bare_secret(),
                rest: Vec::new(),
            },
            false => Heard::Leave,
        }
    }
}

/// The length of the secret at the beginning of the bytes, if there is one.
fn bare(said: &[u8]) -> Option<usize> {
    let slash = usize::from(said.first() == Some(&b'/'));
    let text = said.get(slash..)?.get(..LENGTH)?;
    text.iter()
        .all(u8::is_ascii_hexdigit)
        .then(|| said.len().min(slash.saturating_add(LENGTH)))
}

/// The secret in the first line: the path of the URL without its slash, and without a query.
fn secret(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii();
    let line = line.strip_prefix(b"/").unwrap_or(line);
    line.split(|byte| *byte == b'?').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_secret_however_it_is_written() {
        for line in ["abc", "abc\r\n", "abc\n", "/abc?x=1\r\n", "abc?x=1"] {
            assert_eq!(secret(line.as_bytes()), b"abc", "{line}");
        }
        assert_eq!(secret(b"\r\n"), b"");
    }
}
