//! Bodies of every framing: one decoder that says what is data and where the end is.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use super::chunk::{ChunkDecoder, Decoded};
use super::{Framing, HttpRefusal};

/// Finds the end of one body.
#[derive(Debug, Clone)]
pub struct BodyDecoder(State);

#[derive(Debug, Clone)]
enum State {
    Length { left: u64 },
    Chunked(ChunkDecoder),
    UntilClose,
}

impl BodyDecoder {
    /// At the beginning of a body with this framing.
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::None => State::Length { left: 0 },
            Framing::Length(left) => State::Length { left },
            Framing::Chunked => State::Chunked(ChunkDecoder::new()),
            Framing::UntilClose => State::UntilClose,
        })
    }

    /// Takes the next piece from the front of `input`. To be called until it says
    /// [`NeedMore`](Decoded::NeedMore) or [`End`](Decoded::End).
    ///
    /// # Errors
    /// A malformed body; the connection is of no further use.
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Decoded<'a>, HttpRefusal> {
        let length = match &mut self.0 {
            State::Chunked(chunks) => return chunks.decode(input),
            State::Length { left: 0 } => return Ok(Decoded::End),
            _ if input.is_empty() => return Ok(Decoded::NeedMore),
            State::Length { left } => {
                let length = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(input.len());
                *left = left.saturating_sub(length as u64);
                length
            }
            State::UntilClose => input.len(),
        };
        let (data, rest) = input.split_at(length);
        *input = rest;
        Ok(Decoded::Data(data))
    }

    /// Whether the body is complete; for chunks, once their last line was decoded.
    pub fn is_complete(&self) -> bool {
        match &self.0 {
            State::Length { left } => *left == 0,
            State::Chunked(chunks) => chunks.is_complete(),
            State::UntilClose => false,
        }
    }

    /// Whether a connection that was closed before [`End`](Decoded::End) completes the body.
    pub fn ends_at_close(&self) -> bool {
        matches!(self.0, State::UntilClose)
    }
}
