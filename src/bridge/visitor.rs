//! A connection to the rendezvous that has not sent its secret yet.

use std::io;

use super::secrets::LENGTH;
use crate::wire::stream::Stream;

/// The longest first line, in bytes; a line with a secret is a tenth of it.
const LONGEST_LINE: usize = 1024;

/// A connection that has not sent its secret yet: see the [module](self).
#[derive(Debug)]
pub(super) struct Visitor {
    /// The connection, in the clear or over TLS.
    pub stream: Stream,
    said: Vec<u8>,
}

/// The result of [`Visitor::listen`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The line is incomplete; nothing more to read before the next event.
    Wait,
    /// The line is incomplete, and there is more to read.
    Again,
    /// The line, and the bytes after it.
    Line { line: Vec<u8>, rest: Vec<u8> },
    /// The connection has ended, or is not one of a client.
    Leave,
}

impl Visitor {
    /// A visitor that has just connected.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            said: Vec::new(),
        }
    }

    /// Whether a whole secret has come, without the end of the line, which may still be on its way.
    pub fn has_bare_secret(&self) -> bool {
        let rest = bare(&self.said).map(|end| &self.said[end..]);
        matches!(rest, Some(b"" | b"\r"))
    }

    /// Takes the secret of a visitor whose line has not ended.
    pub fn take_bare_secret(&mut self) -> Vec<u8> {
        secret(&std::mem::take(&mut self.said)).to_vec()
    }

    /// Reads once.
    pub fn listen(&mut self) -> Heard {
        let mut buffer = [0; LONGEST_LINE];
        match self.stream.read(&mut buffer) {
            Ok(0) if self.has_bare_secret() => {
                return Heard::Line {
                    line: self.take_bare_secret(),
                    rest: Vec::new(),
                };
            }
            Ok(0) => return Heard::Leave,
            Ok(length) => self.said.extend_from_slice(&buffer[..length]),
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock => Heard::Wait,
                    io::ErrorKind::Interrupted => Heard::Again,
                    _ => Heard::Leave,
                };
            }
        }
        if let Some(end) = bare(&self.said)
            && !matches!(self.said[end..], [] | [b'\r' | b'\n' | b'?' | b' ', ..])
        {
            // A client that does not end the line and sends data at once.
            let rest = self.said.split_off(end);
            return Heard::Line {
                line: self.take_bare_secret(),
                rest,
            };
        }
        match memchr::memchr(b'\n', &self.said) {
            Some(end) => {
                let rest = self.said.split_off(end + 1);
                Heard::Line {
                    line: secret(&self.said).to_vec(),
                    rest,
                }
            }
            None if self.said.len() > LONGEST_LINE => Heard::Leave,
            None => Heard::Again,
        }
    }
}

/// The length of the secret at the beginning of the bytes, if there is one.
fn bare(said: &[u8]) -> Option<usize> {
    let slash = usize::from(said.first() == Some(&b'/'));
    let text = said[slash..].get(..LENGTH)?;
    text.iter()
        .all(u8::is_ascii_hexdigit)
        .then_some(slash + LENGTH)
}

/// The secret in the first line: the path of the URL without its slash, and without a query.
fn secret(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii();
    let line = line.strip_prefix(b"/").unwrap_or(line);
    let end = memchr::memchr(b'?', line).unwrap_or(line.len());
    &line[..end]
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_first_line_is_the_secret_however_it_is_written() {
        for line in ["abc", "abc\r\n", "abc\n", "/abc?x=1\r\n", "abc?x=1"] {
            assert_eq!(secret(line.as_bytes()), b"abc", "{line}");
        }
        assert_eq!(secret(b"\r\n"), b"");
    }

    #[test]
    fn a_secret_needs_no_end_of_its_line() {
        let secret = "0123456789abcdef".repeat(4);
        let heard = |said: &str, ends: bool| {
            let (mut client, ours) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let mut visitor = Visitor::new(Stream::plain(ours.into()));
            client.write_all(said.as_bytes()).unwrap();
            let _kept = (!ends).then_some(client);
            let heard = loop {
                match visitor.listen() {
                    Heard::Again => {}
                    other => break other,
                }
            };
            let bare = visitor
                .has_bare_secret()
                .then(|| visitor.take_bare_secret());
            (heard, bare)
        };
        let line = |rest: &str| Heard::Line {
            line: secret.clone().into_bytes(),
            rest: rest.as_bytes().to_vec(),
        };
        for said in [secret.clone(), format!("/{secret}"), format!("{secret}\r")] {
            let expected = (Heard::Wait, Some(secret.clone().into_bytes()));
            assert_eq!(heard(&said, false), expected, "{said:?}");
            assert_eq!(heard(&said, true), (line(""), None), "{said:?}");
        }
        for end in ["\n", "\r\n", "?x=1\n"] {
            assert_eq!(
                heard(&format!("{secret}{end}ls\n"), false),
                (line("ls\n"), None),
                "{end:?}"
            );
        }
        assert_eq!(heard(&format!("{secret}ls\n"), false), (line("ls\n"), None));
        assert_eq!(heard(&secret[..63], false), (Heard::Wait, None));
        assert_eq!(
            heard(&format!("{}g", &secret[..63]), false),
            (Heard::Wait, None)
        );
    }

    #[test]
    fn what_comes_after_the_line_is_kept_and_a_line_without_end_is_not() {
        let visitor = || {
            let (client, ours) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            (client, Visitor::new(Stream::plain(ours.into())))
        };
        let (mut client, mut waiting) = visitor();
        assert_eq!(waiting.listen(), Heard::Wait);
        client.write_all(b"abc").unwrap();
        waiting.stream.note(true, false);
        assert_eq!(waiting.listen(), Heard::Again);
        client.write_all(b"\r\nls\n").unwrap();
        let (line, rest) = (b"abc".to_vec(), b"ls\n".to_vec());
        assert_eq!(waiting.listen(), Heard::Line { line, rest });

        let (mut client, mut waiting) = visitor();
        client.write_all(&[b'x'; 2 * LONGEST_LINE]).unwrap();
        assert_eq!(waiting.listen(), Heard::Again);
        assert_eq!(waiting.listen(), Heard::Leave);

        let (client, mut waiting) = visitor();
        drop(client);
        assert_eq!(waiting.listen(), Heard::Leave);
    }
}
