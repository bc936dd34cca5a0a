//! The pumps of an attached run: bytes between the user's streams and the dyno's.
//!
//! Each direction has a thread of its own and blocks as it likes, so that no stream can hold another up. Between
//! pipes the kernel moves the pages (`splice`) and no byte is copied here.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};

use crate::pty;

/// The most that one call moves, in bytes.
const CHUNK: usize = 1024 * 1024;

/// The buffer where bytes must be copied: what a terminal or socket gives at most at a time.
const BUFFER: usize = 64 * 1024;

/// How a pump ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All that there was has been written.
    Complete,
    /// The reader does not want more.
    BrokenPipe,
}

/// Moves bytes until the end of `from`.
///
/// # Errors
/// Reading or writing failed for another reason than a broken pipe (a full disk, say).
pub fn pump(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<End> {
    loop {
        match splice(from, None, to, None, CHUNK, SpliceFlags::MOVE) {
            Ok(0) => return Ok(End::Complete),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::PIPE) => return Ok(End::BrokenPipe),
            // Neither is a pipe, or the file cannot do it (append mode, some devices).
            Err(Errno::INVAL) => return copy(from, to, |_| true),
            Err(Errno::AGAIN) => wait(from, to)?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Copies bytes until the end of `from`, or until `pass` refuses a piece.
pub fn copy(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    mut pass: impl FnMut(&[u8]) -> bool,
) -> io::Result<End> {
    let mut buffer = vec![0u8; BUFFER];
    loop {
        match pty::read(from, &mut buffer) {
            Ok(0) => return Ok(End::Complete),
            Ok(count) => {
                if !pass(&buffer[..count]) {
                    return Ok(End::Complete);
                }
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

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<End> {
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

/// The user's streams may be non-blocking, by whoever shares them; that is not ours to change.
fn wait(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    wait_readable(from)?;
    wait_writable(to)
}

fn wait_readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    wait_for(fd, rustix::event::PollFlags::IN)
}

fn wait_writable(fd: BorrowedFd<'_>) -> io::Result<()> {
    wait_for(fd, rustix::event::PollFlags::OUT)
}

fn wait_for(fd: BorrowedFd<'_>, flags: rustix::event::PollFlags) -> io::Result<()> {
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd.as_fd(), flags)];
    match rustix::event::poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Sees the way out of a session that does not answer any more: Ctrl-C four times within a second.
#[derive(Debug, Default)]
pub struct Escape {
    recent: std::collections::VecDeque<Instant>,
}

impl Escape {
    const PRESSES: usize = 4;
    const WITHIN: Duration = Duration::from_secs(1);

    /// Takes what was typed; true when this completes the escape.
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

    #[test]
    fn four_ctrl_c_within_a_second_are_the_escape() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut escape = Escape::default();
        assert!(!escape.typed(b"\x03", at(0)));
        assert!(!escape.typed(b"\x03\x03", at(100)));
        assert!(!escape.typed(b"\x03", at(1200)));
        assert!(escape.typed(b"\x03", at(1250)) == false);
        assert!(escape.typed(b"\x03\x03", at(1300)));
    }

    #[test]
    fn a_pump_moves_everything_between_pipes_and_files() {
        let text: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        let (reader, writer) = std::io::pipe().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        let sent = text.clone();
        let feeder = std::thread::spawn(move || (&writer).write_all(&sent).unwrap());
        assert_eq!(pump(reader.as_fd(), file.as_fd()).unwrap(), End::Complete);
        feeder.join().unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut got = Vec::new();
        file.read_to_end(&mut got).unwrap();
        assert!(got == text);
    }

    #[test]
    fn a_reader_that_left_is_a_broken_pipe() {
        let (from, mut feed) = std::io::pipe().unwrap();
        let (gone, to) = std::io::pipe().unwrap();
        drop(gone);
        feed.write_all(b"x").unwrap();
        assert_eq!(pump(from.as_fd(), to.as_fd()).unwrap(), End::BrokenPipe);
    }
}
