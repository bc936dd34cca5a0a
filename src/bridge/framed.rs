//! The protocol for dyno's own command line elsewhere: the command's streams in frames. No I/O.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use super::client_requests::ClientRequests;
use super::piece::{BEFORE, PIECE};
use crate::wire::frame::far::{
    Decoder, PROTOCOL, ReceiveWindow, SendWindow, StreamFrame, StreamPiece, data_head,
};
use crate::wire::frame::{BadFrame, Frame, Up};

/// The state of one session's protocol.
#[derive(Debug, Default)]
pub struct FramedProtocol {
    decoder: Decoder,
    /// How much of the command's input the client may send.
    input: ReceiveWindow,
    input_ended: bool,
    /// How much of each output may be sent.
    outputs: [SendWindow; 2],
}

/// The place of an output among the outputs; there is none for the input.
fn place(number: u8) -> usize {
    usize::from(number).wrapping_sub(1)
}

impl FramedProtocol {
    /// The response to the upgrade request.
    pub fn opening() -> Vec<u8> {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n"
        )
        .into_bytes()
    }

    /// The frame that says that the command runs.
    pub fn up(up: &Up) -> Vec<u8> {
        Frame::Up(up.clone()).encode()
    }

    /// Takes bytes from the client; those for the command are appended to `stdin`.
    ///
    /// # Errors
    /// When they are not valid, or more than was granted.
    pub fn input(
        &mut self,
        mut bytes: &[u8],
        stdin: &mut Vec<u8>,
    ) -> Result<ClientRequests, BadFrame> {
        let mut requests = ClientRequests::default();
        while let Some(piece) = self.decoder.next(&mut bytes)? {
            match piece {
                StreamPiece::Data(0, data) if !self.input_ended => {
                    self.input.take(data.len())?;
                    stdin.extend_from_slice(data);
                }
                StreamPiece::Word(StreamFrame::End(0)) => {
                    (self.input_ended, requests.end) = (true, true)
                }
                StreamPiece::Word(StreamFrame::Credit(number @ 1..=2, bytes)) => {
                    if let Some(output) = self.outputs.get_mut(place(number)) {
                        output.grant(bytes);
                    }
                }
                StreamPiece::Word(StreamFrame::Continue) => requests.go_on = true,
                StreamPiece::Word(StreamFrame::StopTyped) => requests.watch_for_stop = true,
                StreamPiece::Word(StreamFrame::Window(size)) => requests.window = Some(size),
                StreamPiece::Word(StreamFrame::Unread(number @ 1..=2)) => {
                    if let Some(unread) = requests.unread.get_mut(place(number)) {
                        *unread = true;
                    }
                }
                StreamPiece::Data(..) | StreamPiece::Word(_) => {
                    return Err(BadFrame::because("not a frame for clients to send"));
                }
            }
        }
        Ok(requests)
    }

    /// The frames that grant the client more input, after `bytes` were written to the command or discarded.
    pub fn given(&mut self, bytes: usize) -> Vec<u8> {
        let word = self.input.pass_on(0, bytes);
        word.map_or(Vec::new(), |word| word.encode())
    }

    /// How many bytes of an output may be sent.
    pub fn room(&self, number: u8) -> usize {
        let output = self.outputs.get(place(number));
        output.map_or(0, |credit| credit.left().min(PIECE))
    }

    /// Whether the client has granted nothing for some output.
    pub fn is_held_up(&self) -> bool {
        self.outputs.iter().any(|credit| credit.left() == 0)
    }

    /// The frame with bytes of an output: `length` bytes in `buffer`, from [`BEFORE`] on.
    pub fn output<'a>(&mut self, number: u8, buffer: &'a mut [u8], length: usize) -> &'a [u8] {
        if let Some(credit) = self.outputs.get_mut(place(number)) {
            credit.spend(length);
        }
        if let Some(head) = buffer.first_chunk_mut() {
            *head = data_head(number, length);
        }
        let end = BEFORE.saturating_add(length);
        buffer.get(..end).unwrap_or_default()
    }

    /// The frame that says that an output has ended.
    pub fn output_ended(number: u8) -> Vec<u8> {
        StreamFrame::End(number).encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::far::WINDOW;

    #[test]
    fn a_client_that_sends_more_than_it_may_is_none() {
        let (mut framed, mut stdin) = (FramedProtocol::default(), Vec::new());
        let piece = |length: usize| [&data_head(0, length)[..], &vec![b'x'; length]].concat();
        for _ in 0..8 {
            framed.input(&piece(WINDOW / 8), &mut stdin).unwrap();
        }
        assert_eq!(stdin.len(), WINDOW);
        assert_eq!(framed.given(1), b"");
        let credit = StreamFrame::Credit(0, WINDOW as u32 / 2 + 1).encode();
        assert_eq!(framed.given(WINDOW / 2), credit);
        framed.input(&piece(WINDOW / 2), &mut stdin).unwrap();
        assert!(framed.input(&piece(2), &mut stdin).is_err());
        for bad in [
            StreamFrame::Credit(0, 1),
            StreamFrame::End(1),
            StreamFrame::Frame(Frame::Exit(crate::model::dyno::Exit::Status(0).into())),
        ] {
            assert!(framed_says(&bad.encode()).is_err(), "{bad:?}");
        }
        // Nothing follows the end.
        assert!(framed_says(&[StreamFrame::End(0).encode(), piece(1)].concat()).is_err());
    }

    fn framed_says(bytes: &[u8]) -> Result<ClientRequests, BadFrame> {
        FramedProtocol::default().input(bytes, &mut Vec::new())
    }

    #[test]
    fn an_output_is_read_as_far_as_its_reader_has_room() {
        let mut framed = FramedProtocol::default();
        let mut buffer = vec![0; BEFORE + PIECE];
        let mut sent = 0;
        while framed.room(1) > 0 {
            let length = framed.room(1);
            assert_eq!(framed.output(1, &mut buffer, length).len(), BEFORE + length);
            sent += length;
        }
        assert_eq!((sent, framed.room(2)), (WINDOW, PIECE));
        let credit = StreamFrame::Credit(1, 100).encode();
        framed.input(&credit, &mut Vec::new()).unwrap();
        assert_eq!((framed.room(1), framed.room(0)), (100, 0));
    }
}
