//! What is asked at the door of a dyno with a network of its own, and what comes out: sockets that are not connected yet.
//!
//! A door is a SEQPACKET pair between the router and init. The router asks for some sockets of a family; the answer repeats the
//! request, and the sockets come along, as many as there are to be had.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The most sockets of one answer.
pub const MOST_SOCKETS: usize = 8;

/// What is asked at a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// For IPv6 rather than IPv4.
    pub v6: bool,
    /// How many, at most [`MOST_SOCKETS`].
    pub count: u8,
}

impl Ask {
    /// The length of a request and of an answer, in bytes.
    pub const LENGTH: usize = 2;

    /// The request as bytes.
    pub fn write(self) -> [u8; Self::LENGTH] {
        [u8::from(self.v6), self.count]
    }

    /// A request or an answer of these bytes; None if they are neither.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        match *bytes {
            [v6 @ (0 | 1), count] => Some(Self { v6: v6 == 1, count }),
            _ => None,
        }
    }
}

/// The router's end of a door. Those that are the same socket are equal.
#[derive(Debug, Clone)]
pub struct Door(Arc<OwnedFd>);

impl From<OwnedFd> for Door {
    fn from(end: OwnedFd) -> Self {
        Self(Arc::new(end))
    }
}

impl PartialEq for Door {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Door {}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written_and_nothing_else_is_one() {
        for (v6, count) in [(false, 0), (true, 8), (false, 255)] {
            let ask = Ask { v6, count };
            assert_eq!(Ask::read(&ask.write()), Some(ask));
        }
        for bytes in [&[][..], &[0], &[2, 1], &[0, 1, 1]] {
            assert_eq!(Ask::read(bytes), None, "{bytes:?}");
        }
    }
}
