//! How much of a command's output a session reads at a time, and the room that it leaves before it.

use crate::wire::stream::RECORD;

/// Bytes that are left free before those read from the command, for a frame's head.
pub const BEFORE: usize = 5;

/// The most bytes that are read at a time: with the head, one TLS record.
pub const PIECE: usize = RECORD - BEFORE;
