//! Inflating on a thread of its own: the tar stream of a slug, a chunk at a time.
//!
//! A few buffers go round between the thread that inflates and the one that unpacks, so each may be
//! a little ahead and neither far. What is wrong with the gzip is said here; how much it may inflate
//! to is watched by the reader, [`Members`](super::members::Members). Used by unpacking.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read};

use crossbeam_channel::{Receiver, Sender, bounded};
use flate2::bufread::MultiGzDecoder;

use super::bad_slug;
use crate::error::UserError;

/// Bytes of one buffer: it passes through the processor's cache from one thread to the other.
const CHUNK: usize = 256 * 1024;

const CHUNKS: usize = 8;

/// The reader's end. Dropping it ends the other one.
#[derive(Debug)]
pub(super) struct Inflated {
    chunks: Receiver<io::Result<Vec<u8>>>,
    spent: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    used: usize,
}

/// What the inflating thread runs.
#[derive(Debug)]
pub(super) struct Inflater {
    chunks: Sender<io::Result<Vec<u8>>>,
    spent: Receiver<Vec<u8>>,
}

/// Both ends.
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
    /// Inflates `tarball` to its end, its first error, or until nobody reads any more.
    pub(super) fn run(self, tarball: impl Read) {
        let mut tarball = BufReader::with_capacity(CHUNK, tarball);
        let is_gzip = match tarball.fill_buf() {
            Ok(start) => start.is_empty() || start.starts_with(&[0x1f]),
            Err(error) => return self.report(error),
        };
        if !is_gzip {
            return self.report(io::Error::new(ErrorKind::InvalidData, "it is not gzipped"));
        }
        // Members may follow each other, as from `cat a.gz b.gz`; anything else may not.
        let mut gzip = MultiGzDecoder::new(tarball);
        for mut chunk in &self.spent {
            chunk.resize(CHUNK, 0);
            let mut filled = 0;
            while filled < CHUNK {
                match gzip.read(&mut chunk[filled..]) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return self.report(error),
                }
            }
            chunk.truncate(filled);
            if filled == 0 || self.chunks.send(Ok(chunk)).is_err() {
                return;
            }
        }
    }

    fn report(&self, error: io::Error) {
        // Nobody may be left to hear it.
        let _ = self.chunks.send(Err(error));
    }
}

impl Inflated {
    /// The bytes at hand, at least one unless the stream is at its end.
    pub(super) fn fill(&mut self) -> anyhow::Result<&[u8]> {
        if self.used == self.chunk.len() {
            let next = match self.chunks.recv() {
                Ok(next) => next.map_err(|error| explain(&error))?,
                Err(_) => Vec::new(),
            };
            let spent = std::mem::replace(&mut self.chunk, next);
            self.used = 0;
            if !spent.is_empty() {
                // The inflater is gone once it has come to the end.
                let _ = self.spent.send(spent);
            }
        }
        Ok(&self.chunk[self.used..])
    }

    /// Passes over `count` of the bytes at hand.
    pub(super) fn consume(&mut self, count: usize) {
        self.used += count;
        debug_assert!(self.used <= self.chunk.len());
    }
}

fn explain(error: &io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => bad_slug("the gzip stream is truncated"),
        // How flate2 says that what follows the gzip stream is not another one.
        ErrorKind::InvalidInput if error.to_string() == "invalid gzip header" => {
            bad_slug("something that is not gzip follows the gzip stream")
        }
        ErrorKind::InvalidInput => bad_slug(format!("the gzip stream is corrupt ({error})")),
        ErrorKind::InvalidData => bad_slug(error),
        _ => UserError::new(format!("cannot read the slug: {error}")).into(),
    }
}
