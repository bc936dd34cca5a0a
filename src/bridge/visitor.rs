//! A connection to the rendezvous that has not sent its secret yet.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::io;

use super::first_line::{FirstLine, Heard, LONGEST_LINE};
use crate::wire::stream::Stream;

/// A connection that has not sent its secret yet: see the [module](self).
#[derive(Debug)]
pub(super) struct Visitor {
    /// The connection, in the clear or over TLS.
    pub stream: Stream,
    /// What it has sent.
    pub said: FirstLine,
}

impl Visitor {
    /// A visitor that has just connected.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            said: FirstLine::default(),
        }
    }

    /// Reads once.
    pub fn listen(&mut self) -> Heard {
        let mut buffer = [0; LONGEST_LINE];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.said.end(),
            Ok(length) => self.said.take(buffer.get(..length).unwrap_or_default()),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Heard::Wait,
                io::ErrorKind::Interrupted => Heard::Again,
                _ => Heard::Leave,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

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
                .said
                .has_bare_secret()
                .then(|| visitor.said.take_bare_secret());
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
