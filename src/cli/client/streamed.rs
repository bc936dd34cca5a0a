//! A response that is read as it comes.

use std::io;
use std::os::fd::BorrowedFd;

use super::connection::{Connection, lost};
use crate::wire::http::BodyDecoder;

/// A response whose body the server streams, possibly without end.
#[derive(Debug)]
pub struct Streamed {
    connection: Connection,
    decoder: BodyDecoder,
    ended: bool,
}

impl Streamed {
    /// The body of a response whose head was read from `connection`.
    pub(super) fn new(connection: Connection, decoder: BodyDecoder) -> Self {
        Self {
            connection,
            decoder,
            ended: false,
        }
    }

    /// Appends received bytes to `body`; waits if there are none. False at the end of the response.
    ///
    /// # Errors
    /// When it breaks off before its end ([`is_lost`](super::is_lost)), or is malformed.
    pub fn read(&mut self, body: &mut Vec<u8>) -> anyhow::Result<bool> {
        let before = body.len();
        loop {
            self.ended |= self.connection.decode(&mut self.decoder, body)?;
            if self.ended || body.len() > before {
                return Ok(body.len() > before);
            }
            if self.connection.fill_or_end()? {
                if !self.decoder.ends_at_close() {
                    return Err(lost(io::ErrorKind::UnexpectedEof.into()));
                }
                self.ended = true;
            }
        }
    }

    /// The descriptor to wait for before a [read](Self::read); None if a read would not wait.
    pub fn waits_for(&mut self) -> Option<BorrowedFd<'_>> {
        let waits = !self.ended
            && self.connection.input.is_empty()
            // An error shows when reading.
            && self.connection.transport.has_input().is_ok_and(|has_input| !has_input);
        waits.then(|| self.connection.transport.fd())
    }
}
