//! A response that is read as it comes.

use std::io;
use std::os::fd::BorrowedFd;

use super::connection::{Connection, lost};
use crate::wire::http::BodyDecoder;

/// A response that comes bit by bit, for as long as the server likes.
#[derive(Debug)]
pub struct Streamed {
    connection: Connection,
    decoder: BodyDecoder,
    ended: bool,
}

impl Streamed {
    /// The rest of what comes over `connection`, behind its head.
    pub(super) fn new(connection: Connection, decoder: BodyDecoder) -> Self {
        Self {
            connection,
            decoder,
            ended: false,
        }
    }

    /// Appends what has come to `body`, and waits for some more if nothing has. False at the end of the response.
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

    /// What to wait for until there is something to [read](Self::read). None if that does not wait.
    pub fn waits_for(&mut self) -> Option<BorrowedFd<'_>> {
        let waits = !self.ended
            && self.connection.input.is_empty()
            // An error is found by reading.
            && self.connection.transport.has_input().is_ok_and(|has_input| !has_input);
        waits.then(|| self.connection.transport.fd())
    }
}
