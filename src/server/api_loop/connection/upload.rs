//! A request's body on its way to a worker.

use crate::server::api_loop::body_stream::{BodySender, NotSent};
use crate::wire::http::{BodyDecoder, Decoded, HttpRefusal};

/// How many bytes a body may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    limit: u64,
    left: u64,
}

impl Allowance {
    /// At most `limit`, of which none has come.
    pub fn new(limit: u64) -> Self {
        let left = limit;
        Self { limit, left }
    }

    /// Counts bytes that have come or are announced.
    ///
    /// # Errors
    /// When they are too many.
    pub fn take(&mut self, bytes: u64) -> Result<(), HttpRefusal> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or_else(|| HttpRefusal::over(413, "bytes in the body", self.limit))?;
        Ok(())
    }
}

/// See the [module](self).
pub(super) struct Upload {
    decoder: BodyDecoder,
    left: Allowance,
    /// The client waits for `100 Continue`.
    pub expect_continue: bool,
    /// A worker was found for it.
    pub opened: bool,
    /// None before it is opened, when all is sent, and when the worker stopped reading.
    pub sender: Option<BodySender>,
    /// What the worker had no room for.
    piece: Vec<u8>,
    /// All of it was read.
    pub complete: bool,
}

/// What can be done about an upload.
pub(super) enum Progress {
    /// Something was passed on; try again.
    Some,
    /// The worker has no room.
    Full,
    /// The worker has all that came.
    Starved,
    /// The worker has all there is.
    Done,
}

impl Upload {
    /// An upload of at most `left` bytes, of which none was read.
    pub fn new(decoder: BodyDecoder, left: Allowance, expect_continue: bool) -> Self {
        Self {
            decoder,
            left,
            expect_continue,
            opened: false,
            sender: None,
            piece: Vec::new(),
            complete: false,
        }
    }

    /// Passes what `input` has of the body on.
    ///
    /// # Errors
    /// A body that is malformed or too long.
    pub fn pass_on(&mut self, input: &mut Vec<u8>) -> Result<Progress, HttpRefusal> {
        if !self.deliver() {
            return Ok(Progress::Full);
        }
        if self.complete {
            return Ok(Progress::Done);
        }
        self.complete = decode(&mut self.decoder, input, &mut self.piece, &mut self.left)?;
        Ok(match self.complete || !self.piece.is_empty() {
            true => Progress::Some,
            false => Progress::Starved,
        })
    }

    /// Gives the worker what is there for it; false while it has no room.
    fn deliver(&mut self) -> bool {
        let Some(sender) = &self.sender else {
            return true;
        };
        if !self.piece.is_empty() {
            match sender.send(std::mem::take(&mut self.piece)) {
                Ok(()) => {}
                Err(NotSent::Full(piece)) => {
                    self.piece = piece;
                    return false;
                }
                Err(NotSent::Gone) => self.sender = None,
            }
        }
        if self.complete
            && self
                .sender
                .as_ref()
                .is_some_and(|sender| sender.end() != Err(full()))
        {
            self.sender = None;
        }
        !(self.complete && self.sender.is_some())
    }
}

/// What [`BodySender::end`] says when the worker has no room.
fn full() -> NotSent {
    NotSent::Full(Vec::new())
}

/// Moves what belongs to the body from `input` to `body`; true when the body is complete.
pub(super) fn decode(
    decoder: &mut BodyDecoder,
    input: &mut Vec<u8>,
    body: &mut Vec<u8>,
    left: &mut Allowance,
) -> Result<bool, HttpRefusal> {
    let mut rest = &input[..];
    let complete = loop {
        match decoder.decode(&mut rest)? {
            Decoded::Data(data) => {
                left.take(data.len() as u64)?;
                body.extend_from_slice(data);
            }
            Decoded::NeedMore => break false,
            Decoded::End => break true,
        }
    };
    let used = input.len() - rest.len();
    input.drain(..used);
    Ok(complete)
}
