//! Inflating on a thread of its own: the tar stream of a slug, a chunk at a time.
//!
//! A few buffers circulate between the thread that inflates and the one that unpacks, which bounds how far one is
//! ahead. Errors of the gzip stream arise here; the reader, [`Members`](super::members::Members), bounds how much is
//! inflated. Used by unpacking.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use crossbeam_channel::{Receiver, Sender, bounded};
use flate2::bufread::GzDecoder;

use super::messages::bad_slug;
use crate::error::UserError;

/// Bytes of one buffer: it passes through the processor's cache from one thread to the other.
const CHUNK: usize = 256 * 1024;

const CHUNKS: usize = 8;

/// The reader's end. Dropping it ends the [`Inflater`].
#[derive(Debug)]
pub(super) struct Inflated {
    chunks: Receiver<io::Result<Vec<u8>>>,
    spent: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    used: usize,
}

/// The end of the thread that inflates: see [`run`](Self::run).
#[derive(Debug)]
pub(super) struct Inflater {
    chunks: Sender<io::Result<Vec<u8>>>,
    spent: Receiver<Vec<u8>>,
}

/// A connected pair of both ends.
pub(super) fn inflater() -> (Inflater, Inflated) {
    let (to_reader, chunks) = bounded(CHUNKS);
    let (spent, to_inflater) = bounded(CHUNKS);
    for _ in 0..CHUNKS {
        spent
            .send(vec![0; CHUNK])
            .expect("its receiver is at hand and has room");
    }
    (
        Inflater {
            chunks: to_reader,
            spent: to_inflater,
        },
        Inflated {
            chunks,
            spent,
            chunk: Vec::new(),
            used: 0,
        },
    )
}

impl Inflater {
    /// Inflates `tarball` to its end, its first error, or until the reader's end is dropped.
    pub(super) fn run(self, tarball: impl Read) {
        if let Err(error) = self.inflate(BufReader::with_capacity(CHUNK, tarball)) {
            // The reader may be gone.
            let _ = self.chunks.send(Err(error));
        }
    }

    fn inflate(&self, mut tarball: impl BufRead) -> io::Result<()> {
        expect_gzip(&mut tarball, "it is not gzipped")?;
        let mut gzip = GzDecoder::new(tarball);
        for mut chunk in &self.spent {
            chunk.resize(CHUNK, 0);
            let mut filled = 0;
            let mut is_end = false;
            while filled < CHUNK && !is_end {
                match gzip.read(&mut chunk[filled..]) {
                    Ok(0) => {
                        // Members may follow each other, as from `cat a.gz b.gz`; nothing else may.
                        let mut rest = gzip.into_inner();
                        is_end = rest.fill_buf()?.is_empty();
                        if !is_end {
                            expect_gzip(&mut rest, "something else follows the gzip stream")?;
                        }
                        gzip = GzDecoder::new(rest);
                    }
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            chunk.truncate(filled);
            if (filled > 0 && self.chunks.send(Ok(chunk)).is_err()) || is_end {
                break;
            }
        }
        Ok(())
    }
}

/// An error with the text `otherwise` if the first byte is not gzip's; the decoder reports an empty stream.
fn expect_gzip(tarball: &mut impl BufRead, otherwise: &'static str) -> io::Result<()> {
    match tarball.fill_buf()? {
        [] | [0x1f, ..] => Ok(()),
        _ => Err(io::Error::new(ErrorKind::InvalidData, otherwise)),
    }
}

impl Inflated {
    /// The inflated bytes that are next, at least one unless the stream is at its end.
    pub(super) fn fill(&mut self) -> anyhow::Result<&[u8]> {
        if self.used == self.chunk.len() {
            let next = match self.chunks.recv() {
                Ok(next) => next.map_err(|error| explain(&error))?,
                Err(_) => Vec::new(),
            };
            let spent = std::mem::replace(&mut self.chunk, next);
            self.used = 0;
            if !spent.is_empty() {
                // The inflater may have ended.
                let _ = self.spent.send(spent);
            }
        }
        Ok(&self.chunk[self.used..])
    }

    /// Takes `count` bytes off what [`fill`](Self::fill) showed.
    pub(super) fn consume(&mut self, count: usize) {
        self.used += count;
        debug_assert!(self.used <= self.chunk.len());
    }
}

fn explain(error: &io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => bad_slug("the gzip stream is truncated"),
        // The kind that flate2 gives all errors in the data.
        ErrorKind::InvalidInput => bad_slug(format!("the gzip stream is corrupt ({error})")),
        ErrorKind::InvalidData => bad_slug(error),
        _ => UserError::new(format!("cannot read the slug: {error}")).into(),
    }
}
