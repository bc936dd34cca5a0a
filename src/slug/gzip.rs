//! Gzip on every core: one stream, deflated in independent blocks.
//!
//! The producer fills blocks of a fixed size on the calling thread; workers deflate them; a sink thread puts them
//! together in order and hashes what it writes. Every block but the last ends with a sync flush, which ends on a byte,
//! so that blocks deflated apart may stand side by side in one ordinary gzip member. Where a block ends depends on the
//! bytes alone, and no block sees another, so the result does not depend on the number of threads. Used by
//! [`pack`](super::pack).

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use sha2::{Digest as _, Sha256};

use super::id::SlugId;
use super::messages::failed;

/// Bytes deflated as one piece. A new 32 KiB window per MiB costs well under 1 % of size.
const BLOCK: usize = 1024 * 1024;

/// The most threads that deflate: more would only wait for the thread that reads the files.
const MAX_WORKERS: usize = 16;

/// The gzip header: no flags, no time, no name, unknown file system, so nothing that differs between machines.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// The digest of the file, and its size in bytes.
#[derive(Debug)]
pub(super) struct Gzipped {
    pub(super) id: SlugId,
    pub(super) bytes: u64,
}

struct Job {
    block: Vec<u8>,
    is_last: bool,
    done: Sender<Deflated>,
}

struct Deflated {
    bytes: Vec<u8>,
    crc: Crc,
    is_last: bool,
}

/// What a file has before the gzip stream: its digest so far, and its bytes. A gzip stream may follow another.
#[derive(Debug, Clone, Default)]
pub(super) struct Before {
    pub(super) hasher: Sha256,
    pub(super) bytes: u64,
}

/// Gzips what `produce` writes into `out`, at `level` (0 to 9). Digest and size are those of the file, with what it has `before`.
///
/// # Errors
/// The error of `produce`, or that `out` cannot be written to.
pub(super) fn gzip<T>(
    out: impl Write + Send,
    level: u32,
    before: Before,
    produce: impl FnOnce(&mut Blocks) -> anyhow::Result<T>,
) -> anyhow::Result<(T, Gzipped)> {
    let workers = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_WORKERS);
    let (jobs, work) = bounded::<Job>(workers);
    // One receiver for each block, in the order of the stream. The bound also limits memory.
    let (order, in_order) = bounded::<Receiver<Deflated>>(2 * workers);
    thread::scope(|scope| {
        for _ in 0..workers {
            let work = work.clone();
            scope.spawn(move || deflate_blocks(&work, level));
        }
        let sink = scope.spawn(move || write_stream(out, before, &in_order));
        let mut blocks = Blocks {
            block: Vec::new(),
            filled: 0,
            sent: 0,
            jobs,
            order,
        };
        let produced = produce(&mut blocks).and_then(|value| {
            blocks.send(true)?;
            Ok(value)
        });
        drop(blocks);
        let written = sink
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // The sink's error first: without the sink, the producer only knows that its blocks are not taken.
        let gzipped = written.map_err(|error| failed("write the tarball", error))?;
        Ok((produced?, gzipped))
    })
}

/// The producer's end: bytes in, blocks out.
pub(super) struct Blocks {
    /// Empty, or [`BLOCK`] long with the first `filled` bytes in use.
    block: Vec<u8>,
    filled: usize,
    sent: u64,
    jobs: Sender<Job>,
    order: Sender<Receiver<Deflated>>,
}

impl Blocks {
    /// Bytes taken so far.
    pub(super) fn bytes(&self) -> u64 {
        self.sent + self.filled as u64
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let space = self.space()?;
            let count = bytes.len().min(space.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// One `read` straight into the block. Returns the bytes read, and whether there was room for more.
    pub(super) fn read_from(&mut self, file: impl AsFd) -> io::Result<(usize, bool)> {
        let space = self.space()?;
        let room = space.len();
        let count = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut *space))?;
        self.filled += count;
        Ok((count, count < room))
    }

    fn space(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == BLOCK {
            self.send(false)?;
        }
        if self.block.is_empty() {
            self.block = vec![0; BLOCK];
        }
        Ok(&mut self.block[self.filled..])
    }

    fn send(&mut self, is_last: bool) -> io::Result<()> {
        let mut block = std::mem::take(&mut self.block);
        block.truncate(self.filled);
        self.sent += self.filled as u64;
        self.filled = 0;
        let (done, deflated) = bounded(1);
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.order.send(deflated).map_err(|_| gone())?;
        self.jobs
            .send(Job {
                block,
                is_last,
                done,
            })
            .map_err(|_| gone())
    }
}

fn deflate_blocks(work: &Receiver<Job>, level: u32) {
    let mut deflater = Compress::new(Compression::new(level), false);
    for Job {
        block,
        is_last,
        done,
    } in work
    {
        deflater.reset();
        let mut crc = Crc::new();
        crc.update(&block);
        let bytes = deflate(&mut deflater, &block, is_last);
        // The block is not wanted any more: the sink failed and has said why.
        let _ = done.send(Deflated {
            bytes,
            crc,
            is_last,
        });
    }
}

fn deflate(deflater: &mut Compress, block: &[u8], is_last: bool) -> Vec<u8> {
    let flush = if is_last {
        FlushCompress::Finish
    } else {
        FlushCompress::Sync
    };
    let mut out = Vec::with_capacity(block.len() / 2 + 1024);
    loop {
        let rest = &block[deflater.total_in() as usize..];
        let status = deflater
            .compress_vec(rest, &mut out, flush)
            .expect("deflating into a growing buffer has no way to fail");
        // A sync flush is over when it leaves room behind; finishing says so.
        let is_done = if is_last {
            status == Status::StreamEnd
        } else {
            out.len() < out.capacity()
        };
        if is_done {
            return out;
        }
        out.reserve(block.len() / 2 + 1024);
    }
}

/// Writes the blocks in order. If the producer fails midway, the stream ends incomplete.
fn write_stream(
    mut out: impl Write,
    before: Before,
    in_order: &Receiver<Receiver<Deflated>>,
) -> io::Result<Gzipped> {
    let (mut hasher, mut written) = (before.hasher, before.bytes);
    let mut put = |bytes: &[u8]| {
        hasher.update(bytes);
        written += bytes.len() as u64;
        out.write_all(bytes)
    };
    put(&HEADER)?;
    let mut crc = Crc::new();
    for block in in_order.iter().filter_map(|deflated| deflated.recv().ok()) {
        put(&block.bytes)?;
        crc.combine(&block.crc);
        if block.is_last {
            put(&crc.sum().to_le_bytes())?;
            put(&crc.amount().to_le_bytes())?;
        }
    }
    out.flush()?;
    Ok(Gzipped {
        id: SlugId::of(hasher),
        bytes: written,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        // Not the multi-member decoder: there must be one member.
        let mut decoder = flate2::bufread::GzDecoder::new(bytes);
        decoder.read_to_end(&mut out).unwrap();
        assert!(decoder.into_inner().is_empty(), "bytes after the member");
        out
    }

    #[test]
    fn any_length_comes_back_as_one_member() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17] {
            for level in [0, 1, 6, 9] {
                // Noise and repetition in turns, so that stored blocks come up as well.
                let input: Vec<u8> = (0..length as u32)
                    .map(|n| {
                        if n & 0x8000 == 0 {
                            n as u8
                        } else {
                            (n.wrapping_mul(2654435761) >> 13) as u8
                        }
                    })
                    .collect();
                let mut out = Vec::new();
                let ((), gzipped) = gzip(&mut out, level, Before::default(), |blocks| {
                    Ok(blocks.write(&input)?)
                })
                .unwrap();
                assert!(gunzip(&out) == input, "{length} bytes at level {level}");
                assert_eq!(gzipped.bytes, out.len() as u64);
                let mut hasher = Sha256::new();
                hasher.update(&out);
                assert_eq!(gzipped.id, SlugId::of(hasher));
            }
        }
    }

    #[test]
    fn the_size_of_the_writes_leaves_no_trace() {
        let input = vec![7; 2 * BLOCK + 5];
        let digest = |piece: usize| {
            gzip(io::sink(), 6, Before::default(), |blocks| {
                input
                    .chunks(piece)
                    .try_for_each(|bytes| blocks.write(bytes))?;
                Ok(())
            })
            .unwrap()
            .1
            .id
        };
        assert_eq!(digest(1000), digest(BLOCK + 1));
    }

    #[test]
    fn a_failing_writer_ends_the_producer_and_is_what_is_reported() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(28))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let block = vec![0; BLOCK];
        let error = gzip(Full, 6, Before::default(), |blocks| -> anyhow::Result<()> {
            loop {
                blocks.write(&block)?;
            }
        })
        .unwrap_err();
        assert!(error.to_string().starts_with("disk full: "), "{error}");
    }

    #[test]
    fn a_failing_producer_is_reported() {
        let result = gzip(
            io::sink(),
            6,
            Before::default(),
            |_| -> anyhow::Result<()> { anyhow::bail!("no more") },
        );
        assert_eq!(result.unwrap_err().to_string(), "no more");
    }
}
