//! The body of a request on its way from the loop to a worker, with back-pressure.
//!
//! The loop never waits: when the worker is slow and the channel full, the loop keeps the one piece
//! it has and stops reading the socket, until the worker has made room and wakes it.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::wire::reactor::{Token, Waker};

/// Bytes of one piece at most.
pub const PIECE: usize = 64 * 1024;
/// Pieces on the way.
const PIECES: usize = 4;

enum Piece {
    Bytes(Vec<u8>),
    End,
}

/// The loop's end.
pub struct BodySender {
    pieces: Sender<Piece>,
    starved: Arc<AtomicBool>,
}

/// The worker's end: reads the body as it comes in. An error means that it did not come whole.
pub struct BodyReader {
    pieces: Option<Receiver<Piece>>,
    current: Vec<u8>,
    read: usize,
    starved: Arc<AtomicBool>,
    room: Option<RoomBell>,
}

/// How a worker tells the loop which connection may go on.
pub struct RoomBell {
    /// The connection whose body it is.
    pub token: Token,
    /// The connections that may go on, for the loop.
    pub tokens: Sender<Token>,
    /// Wakes the loop.
    pub waker: Waker,
}

/// Why a piece was not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum NotSent {
    /// There will be a ring of the bell when there is room for this one.
    Full(Vec<u8>),
    /// The worker does not read any more.
    Gone,
}

/// A stream from a connection to a worker.
pub fn body_stream(room: RoomBell) -> (BodySender, BodyReader) {
    let (sender, receiver) = crossbeam_channel::bounded(PIECES);
    let starved = Arc::new(AtomicBool::new(false));
    let reader = BodyReader {
        pieces: Some(receiver),
        current: Vec::new(),
        read: 0,
        starved: Arc::clone(&starved),
        room: Some(room),
    };
    (
        BodySender {
            pieces: sender,
            starved,
        },
        reader,
    )
}

impl BodySender {
    /// Passes the next bytes on.
    pub fn send(&self, bytes: Vec<u8>) -> Result<(), NotSent> {
        self.offer(Piece::Bytes(bytes))
    }

    /// Says that the body is complete. Without it the reader ends with an error.
    pub fn end(&self) -> Result<(), NotSent> {
        self.offer(Piece::End)
    }

    fn offer(&self, piece: Piece) -> Result<(), NotSent> {
        let piece = match self.pieces.try_send(piece) {
            Err(TrySendError::Full(piece)) => piece,
            result => return result.map_err(|_| NotSent::Gone),
        };
        // Between that answer and this flag the worker may have made room without a ring: look again.
        self.starved.store(true, Ordering::SeqCst);
        match self.pieces.try_send(piece) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(Piece::Bytes(bytes))) => Err(NotSent::Full(bytes)),
            Err(TrySendError::Full(Piece::End)) => Err(NotSent::Full(Vec::new())),
            Err(TrySendError::Disconnected(_)) => Err(NotSent::Gone),
        }
    }
}

impl BodyReader {
    /// The reader of a request whose body is not streamed: at its end.
    pub fn empty() -> Self {
        Self {
            pieces: None,
            current: Vec::new(),
            read: 0,
            starved: Arc::default(),
            room: None,
        }
    }

    /// The next piece with something in it; false at the end.
    fn next_piece(&mut self) -> io::Result<bool> {
        while self.read == self.current.len() {
            let Some(pieces) = &self.pieces else {
                return Ok(false);
            };
            let Ok(piece) = pieces.recv() else {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the upload broke off",
                ));
            };
            if self.starved.swap(false, Ordering::SeqCst)
                && let Some(room) = &self.room
                && room.tokens.send(room.token).is_ok()
            {
                room.waker.wake();
            }
            match piece {
                Piece::Bytes(bytes) => (self.current, self.read) = (bytes, 0),
                Piece::End => self.pieces = None,
            }
        }
        Ok(true)
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || !self.next_piece()? {
            return Ok(0);
        }
        let length = buffer.len().min(self.current.len() - self.read);
        buffer[..length].copy_from_slice(&self.current[self.read..self.read + length]);
        self.read += length;
        Ok(length)
    }
}
