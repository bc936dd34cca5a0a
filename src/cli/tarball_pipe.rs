//! A pipe in memory between the thread that packs a tarball and the thread that sends it.

use std::io::{self, Read, Write};

use crossbeam_channel::{Receiver, Sender};

/// The most pieces that wait to be read; each is at most [`LONGEST`] bytes.
const PIECES: usize = 8;

const LONGEST: usize = 256 * 1024;

/// A piece of the tarball, or its end.
enum Piece {
    Bytes(Vec<u8>),
    End,
    Failed,
}

/// Both ends of a pipe.
pub fn pieces() -> (Pieces, Arriving) {
    let (sender, pieces) = crossbeam_channel::bounded(PIECES);
    let arriving = Arriving {
        pieces,
        current: Vec::new(),
        at: 0,
        ended: false,
        failed: false,
    };
    (Pieces(sender), arriving)
}

/// The writing side.
pub struct Pieces(Sender<Piece>);

impl Pieces {
    /// Ends the tarball; `whole` says whether it is complete.
    pub fn end(self, whole: bool) {
        let _ = self.0.send(if whole { Piece::End } else { Piece::Failed });
    }
}

impl Write for &Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(LONGEST)];
        let sent = self.0.send(Piece::Bytes(bytes.to_vec()));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The reading side. An incomplete tarball must not look complete, so only an explicit end counts as one.
pub struct Arriving {
    pieces: Receiver<Piece>,
    current: Vec<u8>,
    at: usize,
    ended: bool,
    /// Whether the writing side has failed.
    pub failed: bool,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() && !self.ended {
            match self.pieces.recv() {
                Ok(Piece::Bytes(bytes)) => (self.current, self.at) = (bytes, 0),
                Ok(Piece::End) => self.ended = true,
                Ok(Piece::Failed) | Err(_) => {
                    self.failed = true;
                    return Err(io::Error::other("packing failed"));
                }
            }
        }
        let count = buffer.len().min(self.current.len() - self.at);
        buffer[..count].copy_from_slice(&self.current[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_arrives_or_an_error_does() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
        for whole in [true, false] {
            let (pieces, mut arriving) = pieces();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    (&pieces).write_all(&bytes).unwrap();
                    pieces.end(whole);
                });
                let mut arrived = Vec::new();
                let result = arriving.read_to_end(&mut arrived);
                assert!(arrived == bytes);
                assert_eq!((result.is_ok(), arriving.failed), (whole, !whole));
            });
        }
        let (sender, mut arriving) = pieces();
        drop(sender);
        assert!(arriving.read(&mut [0]).is_err());
    }
}
