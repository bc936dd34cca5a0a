//! Bytes in the pieces in which a connection may bring them.

/// Cuts `bytes` into pieces of 1 to 64 bytes, or of one length, as `seed` says.
pub fn pieces(seed: u8, bytes: &[u8]) -> Pieces<'_> {
    Pieces {
        left: bytes,
        state: seed.into(),
    }
}

/// See [`pieces`].
pub struct Pieces<'a> {
    left: &'a [u8],
    state: u32,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left.is_empty() {
            return None;
        }
        let length = match self.state {
            // Below this, all pieces have that length, so that each can be tried.
            one @ 0..32 => one + 1,
            _ => {
                self.state = self
                    .state
                    .wrapping_mul(1_664_525)
                    .wrapping_add(1_013_904_223)
                    | 32;
                (self.state >> 16) % 64 + 1
            }
        };
        let (piece, rest) = self.left.split_at(self.left.len().min(length as usize));
        self.left = rest;
        Some(piece)
    }
}

/// The first byte, which says how something is tried, and the bytes after it.
pub fn first(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(first, rest)| (*first, rest))
}
