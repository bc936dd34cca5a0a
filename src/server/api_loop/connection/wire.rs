//! The stream of a connection, and the bytes on this side of it.

use std::io;

use crate::wire::stream::Stream;
use crate::wire::unsent::Unsent;

/// See the [module](self).
pub(super) struct Wire {
    /// The connection, in the clear or over TLS.
    pub stream: Stream,
    /// The client is gone, or, of one that came from a network, has said that it will send nothing more.
    pub gone: bool,
    /// The client will send no more.
    ended: bool,
    /// Bytes that were read and are not used up.
    pub input: Vec<u8>,
    unsent: Unsent,
}

/// What an attempt to read came to.
pub(super) enum Fill {
    Some,
    Blocked,
    BudgetSpent,
    End,
}

impl Wire {
    /// A connection from which nothing was read.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            gone: false,
            ended: false,
            input: Vec::new(),
            unsent: Unsent::default(),
        }
    }

    /// What is to be written next is appended here.
    pub fn output(&mut self) -> &mut Vec<u8> {
        self.unsent.buffer()
    }

    /// Whether all of the output was written.
    pub fn is_flushed(&self) -> bool {
        self.unsent.is_empty() && self.stream.is_flushed()
    }

    /// Says that nothing more will be written.
    pub fn shut_down(&mut self) {
        let _ = self.stream.shut_down();
    }

    /// Reads some more input by way of `scratch`, unless `budget` is spent.
    pub fn fill(&mut self, scratch: &mut [u8], budget: &mut u32) -> Fill {
        while !self.ended {
            if *budget == 0 {
                return Fill::BudgetSpent;
            }
            *budget -= 1;
            match self.stream.read(scratch) {
                Ok(0) => {}
                Ok(length) => {
                    self.input.extend_from_slice(&scratch[..length]);
                    return Fill::Some;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // It cost next to nothing.
                    *budget += 1;
                    return Fill::Blocked;
                }
                // A reset, or no TLS: the end, as far as reading goes.
                Err(_) => {}
            }
            self.ended = true;
        }
        Fill::End
    }

    /// Writes what the stream takes; true if it took any.
    pub fn flush(&mut self) -> io::Result<bool> {
        let stream = &mut self.stream;
        let moved = self.unsent.flush(|bytes| {
            loop {
                match stream.write(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                    done => return done,
                }
            }
        })?;
        match self.stream.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(moved),
        }
    }
}
