//! Whether a server runs: it holds `server.lock` as long as it lives, and the kernel lets go of the
//! lock when it dies, however it dies.
//!
//! The file's content, the server's pid, is for error messages alone: only the lock counts.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::Home;

/// The right to be the server; given back when dropped.
#[derive(Debug)]
pub struct ServerLock {
    _file: File,
}

impl ServerLock {
    /// Takes the lock; None if somebody has it.
    ///
    /// # Errors
    /// When the file cannot be made or written.
    pub fn take(home: &Home) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(home.server_lock())?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Some(Self { _file: file }))
    }
}

/// Who held the lock last; the holder, if there is one.
pub fn last_holder(home: &Home) -> Option<u32> {
    std::fs::read_to_string(home.server_lock())
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn one_has_the_lock_and_the_next_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        assert_eq!(last_holder(&home), None);
        let lock = ServerLock::take(&home).unwrap().expect("free");
        assert!(ServerLock::take(&home).unwrap().is_none());
        assert_eq!(last_holder(&home), Some(std::process::id()));
        drop(lock);
        // A process that another test is just starting has a copy of every descriptor until it is another program.
        let deadline = Instant::now() + Duration::from_secs(10);
        while ServerLock::take(&home).unwrap().is_none() {
            assert!(Instant::now() < deadline, "the lock is still held");
            std::thread::yield_now();
        }
    }
}
