//! The socket of a connection, and the bytes on this side of it.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};

/// See the [module](self).
pub(super) struct Wire {
    pub socket: OwnedFd,
    /// What the kernel last said; taken back only when a call would block.
    readable: bool,
    writable: bool,
    /// The client is gone in both directions.
    pub hangup: bool,
    /// The client will send no more.
    ended: bool,
    /// Bytes that were read and are not used up.
    pub input: Vec<u8>,
    /// Bytes to be written, and how many were.
    output: Vec<u8>,
    written: usize,
}

/// What an attempt to read came to.
pub(super) enum Fill {
    Some,
    Blocked,
    BudgetSpent,
    End,
}

impl Wire {
    /// `socket` is non-blocking.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            readable: true,
            writable: true,
            hangup: false,
            ended: false,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
        }
    }

    /// Remembers what the kernel said.
    pub fn note(&mut self, readable: bool, writable: bool, hangup: bool) {
        self.readable |= readable;
        self.writable |= writable;
        self.hangup |= hangup;
    }

    /// What is to be written next is appended here.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Whether all of the output was written.
    pub fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    /// Says that nothing more will be written.
    pub fn shut_down(&self) {
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
    }

    /// Reads some more input by way of `scratch`, unless `budget` is spent.
    pub fn fill(&mut self, scratch: &mut [u8], budget: &mut u32) -> Fill {
        if self.ended {
            return Fill::End;
        }
        if !self.readable {
            return Fill::Blocked;
        }
        if *budget == 0 {
            return Fill::BudgetSpent;
        }
        *budget -= 1;
        loop {
            match rustix::io::read(&self.socket, &mut *scratch) {
                Ok(0) => {}
                Ok(length) => {
                    self.input.extend_from_slice(&scratch[..length]);
                    return Fill::Some;
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    self.readable = false;
                    return Fill::Blocked;
                }
                // A reset: the end, as far as reading goes.
                Err(_) => {}
            }
            self.ended = true;
            return Fill::End;
        }
    }

    /// Writes what the socket takes; true if it took any.
    pub fn flush(&mut self) -> Result<bool, Errno> {
        let mut moved = false;
        while self.writable && !self.output.is_empty() {
            let rest = &self.output[self.written..];
            match rustix::net::send(&self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(length) => {
                    self.written += length;
                    moved = true;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.writable = false,
                Err(error) => return Err(error),
            }
            if self.written == self.output.len() {
                (self.output, self.written) = (Vec::new(), 0);
            }
        }
        Ok(moved)
    }
}
