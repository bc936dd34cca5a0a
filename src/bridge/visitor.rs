//! Somebody who has come to the rendezvous and has not said the secret yet.

use std::io;

use crate::stream::Stream;

/// The longest first line, in bytes; ours is a tenth of it.
const LONGEST_LINE: usize = 1024;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Visitor {
    pub stream: Stream,
    said: Vec<u8>,
}

/// What became of listening to one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Not all yet, until the next event.
    Wait,
    /// Not all yet, and there is more to be read.
    Again,
    /// The line, and what came after it.
    Line { line: Vec<u8>, rest: Vec<u8> },
    /// No client, or none any more.
    Leave,
}

impl Visitor {
    /// One that has just come.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            said: Vec::new(),
        }
    }

    /// Listens once.
    pub fn listen(&mut self) -> Heard {
        let mut buffer = [0; LONGEST_LINE];
        match self.stream.read(&mut buffer) {
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
