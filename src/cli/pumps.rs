//! The pumps of an attached run: bytes between the user's streams and the dyno's.
//!
//! Each direction has a thread of its own, which may block, so that no stream can hold up another. Between pipes the
//! kernel moves the pages (`splice`) and no byte is copied here.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, splice};

use crate::kernel::wait;
use crate::pty;

/// The most bytes that one call moves.
const CHUNK: usize = 1024 * 1024;

/// The size that the user's pipes are set to, in bytes: that of the dyno's pipes.
const PIPE_SIZE: usize = 256 * 1024;

/// The size of the buffer where bytes must be copied, in bytes: the most that a terminal or socket gives at a time.
const BUFFER: usize = 64 * 1024;

/// How a pump ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All bytes were written.
    Complete,
    /// The reader has left.
    BrokenPipe,
}

/// Moves bytes until the end of `from`, and sets `active` whenever some were moved.
///
/// Uses `splice` only from pipe to pipe. To a file, `splice` reads the position before it waits and stores it
/// afterwards, so that two writers of one file (`>log 2>&1`) overwrite each other; from a terminal, it keeps the dyno's
/// pipe locked until a key is typed, and the process at the other end hangs.
///
/// # Errors
/// Reading or writing failed for another reason than a broken pipe (a full disk, say).
pub fn pump(from: BorrowedFd<'_>, to: BorrowedFd<'_>, active: &AtomicBool) -> io::Result<End> {
    if !(is_pipe(from) && is_pipe(to)) {
        return copy(from, to, |_| {
            active.store(true, Ordering::Relaxed);
            Some(())
        });
    }
    // Larger pipes mean fewer wake-ups: with the shell's usual 64 KiB, moving data through a dyno takes half as long
    // again. A refusal costs only that.
    for pipe in [from, to] {
        if fcntl_getpipe_size(pipe).is_ok_and(|size| size < PIPE_SIZE) {
            let _ = fcntl_setpipe_size(pipe, PIPE_SIZE);
        }
    }
    loop {
        match splice(from, None, to, None, CHUNK, SpliceFlags::MOVE) {
            Ok(0) => return Ok(End::Complete),
            Ok(_) => active.store(true, Ordering::Relaxed),
            Err(Errno::INTR) => {}
            Err(Errno::PIPE) => return Ok(End::BrokenPipe),
            Err(Errno::AGAIN) => {
                wait_readable(from)?;
                wait_writable(to)?;
            }
            // Some filters of system calls and user-space kernels do not allow it.
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => {
                return copy(from, to, |_| {
                    active.store(true, Ordering::Relaxed);
                    Some(())
                });
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_pipe(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

/// Copies bytes until the end of `from`, or until `pass` refuses a piece. What `pass` returns is held while the piece
/// is written.
pub fn copy<Held>(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    mut pass: impl FnMut(&[u8]) -> Option<Held>,
) -> io::Result<End> {
    let mut buffer = vec![0u8; BUFFER];
    loop {
        match pty::read(from, &mut buffer) {
            Ok(0) => return Ok(End::Complete),
            Ok(count) => {
                let Some(_held) = pass(&buffer[..count]) else {
                    return Ok(End::Complete);
                };
                if write_all(to, &buffer[..count])? == End::BrokenPipe {
                    return Ok(End::BrokenPipe);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_readable(from)?,
            Err(error) => return Err(error),
        }
    }
}

/// Writes all bytes, unless the reader has left.
pub fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<End> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            // EIO: a terminal that is gone.
            Err(Errno::PIPE | Errno::IO) => return Ok(End::BrokenPipe),
            Err(Errno::AGAIN) => wait_writable(to)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(End::Complete)
}

// A process that shares the user's streams may have made them non-blocking, which must stay so.

fn wait_readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    wait_for(fd, rustix::event::PollFlags::IN)
}

fn wait_writable(fd: BorrowedFd<'_>) -> io::Result<()> {
    wait_for(fd, rustix::event::PollFlags::OUT)
}

fn wait_for(fd: BorrowedFd<'_>, flags: rustix::event::PollFlags) -> io::Result<()> {
    wait::until(fd, flags, None).map(drop)
}

/// The keys that end a terminal's input after this last byte: Ctrl-D, or, in the middle of a line, where the first one
/// only submits the text, two.
pub fn end_of_keys(last: Option<u8>) -> &'static [u8] {
    match last {
        None | Some(b'\n' | b'\r' | 0x04) => b"\x04",
        Some(_) => b"\x04\x04",
    }
}

/// Recognises the escape from a session that does not answer: Ctrl-C four times within a second.
#[derive(Debug, Default)]
pub struct Escape {
    recent: std::collections::VecDeque<Instant>,
}

impl Escape {
    const PRESSES: usize = 4;
    const WITHIN: Duration = Duration::from_secs(1);

    /// Takes the typed bytes; true when they complete the escape.
    pub fn typed(&mut self, keys: &[u8], now: Instant) -> bool {
        for _ in keys.iter().filter(|&&key| key == 0x03) {
            self.recent.push_back(now);
            if self.recent.len() > Self::PRESSES {
                self.recent.pop_front();
            }
        }
        self.recent.len() == Self::PRESSES
            && self
                .recent
                .front()
                .is_some_and(|first| now.duration_since(*first) <= Self::WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn four_ctrl_c_within_a_second_are_the_escape() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut escape = Escape::default();
        assert!(!escape.typed(b"\x03", at(0)));
        assert!(!escape.typed(b"\x03\x03", at(100)));
        assert!(!escape.typed(b"\x03", at(1200)));
        assert!(!escape.typed(b"\x03", at(1250)));
        assert!(escape.typed(b"\x03\x03", at(1300)));
    }

    #[test]
    fn a_pump_moves_everything_between_pipes_and_files() {
        let text: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        let (reader, writer) = std::io::pipe().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        let sent = text.clone();
        let feeder = std::thread::spawn(move || (&writer).write_all(&sent).unwrap());
        assert_eq!(
            pump(reader.as_fd(), file.as_fd(), &AtomicBool::default()).unwrap(),
            End::Complete
        );
        feeder.join().unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut got = Vec::new();
        file.read_to_end(&mut got).unwrap();
        assert!(got == text);
    }

    #[test]
    fn two_pumps_into_one_file_keep_out_of_each_others_way() {
        let (out, mut feed_out) = std::io::pipe().unwrap();
        let (err, mut feed_err) = std::io::pipe().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        let to = file.as_fd();
        std::thread::scope(|scope| {
            scope.spawn(move || pump(err.as_fd(), to, &AtomicBool::default()).unwrap());
            scope.spawn(move || pump(out.as_fd(), to, &AtomicBool::default()).unwrap());
            // Each is seen in the file before the next is written.
            let mut expected = 0;
            for round in 0..20u8 {
                let (to_out, to_err) = (&mut feed_out, &mut feed_err);
                let feed: &mut dyn Write = if round % 2 == 0 { to_out } else { to_err };
                feed.write_all(b"0123456789").unwrap();
                expected += 10;
                let deadline = Instant::now() + Duration::from_secs(10);
                while rustix::fs::fstat(to).unwrap().st_size < expected {
                    assert!(Instant::now() < deadline, "round {round}");
                    std::thread::yield_now();
                }
            }
            drop((feed_out, feed_err));
        });
        std::io::Seek::rewind(&mut file).unwrap();
        let mut got = Vec::new();
        file.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"0123456789".repeat(20));
    }

    #[test]
    fn a_reader_that_left_is_a_broken_pipe() {
        let (from, mut feed) = std::io::pipe().unwrap();
        let (gone, to) = std::io::pipe().unwrap();
        drop(gone);
        feed.write_all(b"x").unwrap();
        assert_eq!(
            pump(from.as_fd(), to.as_fd(), &AtomicBool::default()).unwrap(),
            End::BrokenPipe
        );
    }
}
