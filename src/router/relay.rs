//! A body on its way from one connection to another.

use super::headers::Coding;
use crate::wire::http::chunk;
use crate::wire::http::{BodyDecoder, Decoded, Framing, HttpRefusal};

/// Follows a body to its end, and writes it in the receiver's framing.
#[derive(Debug)]
pub(super) struct BodyRelay {
    decoder: BodyDecoder,
    coding: Coding,
    done: bool,
}

impl BodyRelay {
    /// A relay for a body with this framing, sent on with this coding.
    pub fn new(framing: Framing, coding: Coding) -> Self {
        Self {
            decoder: BodyDecoder::new(framing),
            coding,
            done: framing == Framing::None,
        }
    }

    /// A relay for the body of a request. Chunks are written anew, without extensions and trailers, which could mean
    /// something to a program and escape a proxy.
    pub fn of_request(framing: Framing) -> Self {
        Self::new(
            framing,
            match framing {
                Framing::Chunked => Coding::Chunks,
                _ => Coding::Raw,
            },
        )
    }

    /// Takes the body's bytes off the front of `input`, and adds their length to `bytes`. Returns bytes that can be
    /// sent as they are; if they have to be rewritten, appends them to `out` and returns none.
    ///
    /// # Errors
    /// A malformed body.
    pub fn pass<'a>(
        &mut self,
        input: &mut &'a [u8],
        out: &mut Vec<u8>,
        bytes: &mut u64,
    ) -> Result<&'a [u8], HttpRefusal> {
        let whole = *input;
        while !self.done {
            match self.decoder.decode(input)? {
                Decoded::Data(data) => {
                    *bytes += data.len() as u64;
                    match self.coding {
                        Coding::Raw => {}
                        Coding::Chunks => chunk::encode(data, out),
                        Coding::Data => out.extend_from_slice(data),
                    }
                }
                Decoded::NeedMore => break,
                Decoded::End => self.end(out),
            }
            // A body of known length ends with its last byte, not with the first after it.
            if input.is_empty() && self.decoder.is_complete() {
                self.end(out);
            }
        }
        match self.coding {
            Coding::Raw => Ok(&whole[..whole.len() - input.len()]),
            Coding::Chunks | Coding::Data => Ok(&[]),
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.done, true) && self.coding == Coding::Chunks {
            out.extend_from_slice(chunk::LAST);
        }
    }

    /// Notes that the connection has ended; true if that completes the body.
    pub fn close(&mut self, out: &mut Vec<u8>) -> bool {
        if self.decoder.ends_at_close() {
            self.end(out);
        }
        self.done
    }

    /// Whether the whole body was passed on.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the client learns of the body's end only by that of the connection.
    pub fn ends_with_connection(&self) -> bool {
        self.coding == Coding::Data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes out, what is left over, and how many bytes of data there were.
    fn pass(framing: Framing, coding: Coding, pieces: &[&str]) -> (String, String, u64, bool) {
        let mut relay = BodyRelay::new(framing, coding);
        let (mut sent, mut bytes, mut left) = (Vec::new(), 0, "");
        for piece in pieces {
            let (mut input, mut out) = (piece.as_bytes(), Vec::new());
            let raw = relay.pass(&mut input, &mut out, &mut bytes).unwrap();
            sent.extend_from_slice(raw);
            sent.extend_from_slice(&out);
            left = std::str::from_utf8(input).unwrap();
        }
        let done = relay.is_done();
        (String::from_utf8(sent).unwrap(), left.into(), bytes, done)
    }

    #[test]
    fn bodies_go_on_in_the_coding_that_the_other_side_knows() {
        let chunks = ["3;x=y\r\nab", "c\r\n0\r\nX: y\r\n\r\nGET"];
        let raw = pass(Framing::Chunked, Coding::Raw, &chunks);
        assert_eq!(
            raw,
            (
                "3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n".into(),
                "GET".into(),
                3,
                true
            )
        );
        let anew = pass(Framing::Chunked, Coding::Chunks, &chunks);
        assert_eq!(
            anew,
            (
                "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n".into(),
                "GET".into(),
                3,
                true
            )
        );
        let data = pass(Framing::Chunked, Coding::Data, &chunks);
        assert_eq!(data, ("abc".into(), "GET".into(), 3, true));
        let length = pass(Framing::Length(3), Coding::Raw, &["ab", "c"]);
        assert_eq!(length, ("abc".into(), "".into(), 3, true));
        let open = pass(Framing::UntilClose, Coding::Chunks, &["ab"]);
        assert_eq!(open, ("2\r\nab\r\n".into(), "".into(), 2, false));
        assert_eq!(
            pass(Framing::None, Coding::Raw, &["GET"]),
            ("".into(), "GET".into(), 0, true)
        );
    }

    #[test]
    fn only_a_body_without_an_end_ends_with_the_connection() {
        let mut out = Vec::new();
        assert!(BodyRelay::new(Framing::UntilClose, Coding::Chunks).close(&mut out));
        assert_eq!(out, b"0\r\n\r\n");
        assert!(!BodyRelay::new(Framing::Length(1), Coding::Raw).close(&mut out));
        assert!(!BodyRelay::new(Framing::Chunked, Coding::Raw).close(&mut out));
    }
}
