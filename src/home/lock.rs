//! Whether a server runs: it holds `server.lock` as long as it lives, and the kernel releases the lock when the process
//! ends, in whichever way.
//!
//! The file's content, the server's pid, is for error messages alone: only the lock counts.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::Home;
use crate::kernel::sys::held::Held;

/// The lock of the state folder, held by its server; released when dropped.
#[derive(Debug)]
pub struct ServerLock {
    file: File,
}

impl ServerLock {
    /// Takes the lock; None if another process has it.
    ///
    /// # Errors
    /// When the file cannot be made or written.
    pub fn take(home: &Home) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let lock = Self {
            file: options.open(home.server_lock())?,
        };
        match rustix::fs::flock(&lock.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        lock.sign()?;
        Ok(Some(lock))
    }

    /// The lock that an earlier server handed over; None if it is another folder's, or its file has been removed.
    pub fn left(fd: OwnedFd, home: &Home) -> Option<Self> {
        let file = File::from(fd);
        let (theirs, ours) = (
            file.metadata().ok()?,
            std::fs::metadata(home.server_lock()).ok()?,
        );
        let same = (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino());
        same.then_some(Self { file })
    }

    /// Writes this process's pid into the file.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn sign(&self) -> io::Result<()> {
        // The file position is shared with the server that handed the lock over.
        self.file.set_len(0)?;
        self.file
            .write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
    }

    /// A copy for the next server: the lock is held until both are closed.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }
}

/// The process that holds the lock, by a pidfd: a pid alone might be another process's by now.
#[derive(Debug)]
pub struct Holder {
    /// Its pid, for messages.
    pub pid: u32,
    process: Held,
}

impl Holder {
    /// The holder; None if no process holds the lock, or none that this user may inspect.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn find(home: &Home) -> io::Result<Option<Self>> {
        let Some(pid) = last_holder(home) else {
            return Ok(None);
        };
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let Some(process) = Held::take(number)? else {
            return Ok(None);
        };
        // The process is held by now: if the process with this pid has the lock and has not ended, it is the one that is held.
        let proven = has_lock(pid, home) && !process.has_ended_within(Duration::ZERO)?;
        Ok(proven.then_some(Self { pid, process }))
    }

    /// Asks the server to leave, by SIGTERM.
    ///
    /// # Errors
    /// When this user may not signal it. A server that has already left is no error.
    pub fn terminate(&self) -> io::Result<()> {
        self.process.signal(Signal::TERM)
    }

    /// Asks the server to make its socket anew, which may have been removed. The signal is one that is ignored by
    /// default, so it does no harm to a server that is just starting.
    pub fn remind(&self) {
        let _ = self.process.signal(Signal::CONT);
    }

    /// Waits until the server has ended; false if it has not ended within `patience`.
    ///
    /// # Errors
    /// When memory has run out.
    pub fn has_ended_within(&self, patience: Duration) -> io::Result<bool> {
        self.process.has_ended_within(patience)
    }
}

/// Whether, by the kernel's list of locks, process `pid` has the lock.
fn has_lock(pid: u32, home: &Home) -> bool {
    let (Ok(lock), Ok(fds)) = (
        std::fs::metadata(home.server_lock()),
        std::fs::read_dir(format!("/proc/{pid}/fd")),
    ) else {
        return false;
    };
    fds.flatten().any(|fd| {
        let same = std::fs::metadata(fd.path())
            .is_ok_and(|file| (file.dev(), file.ino()) == (lock.dev(), lock.ino()));
        let info = format!("/proc/{pid}/fdinfo/{}", fd.file_name().display());
        let locked = |info: String| info.lines().any(|line| line.starts_with("lock:"));
        same && std::fs::read_to_string(info).is_ok_and(locked)
    })
}

/// The pid of the server that holds the lock, or held it last.
pub fn last_holder(home: &Home) -> Option<u32> {
    std::fs::read_to_string(home.server_lock())
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn one_has_the_lock_and_the_next_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        assert_eq!(last_holder(&home), None);
        let lock = ServerLock::take(&home).unwrap().expect("free");
        assert!(ServerLock::take(&home).unwrap().is_none());
        assert_eq!(last_holder(&home), Some(std::process::id()));
        let holder = Holder::find(&home).unwrap().expect("this process");
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.has_ended_within(Duration::ZERO).unwrap());
        drop(lock);
        // A process that another test is just starting has a copy of every descriptor until it is another program.
        let deadline = Instant::now() + Duration::from_secs(10);
        while ServerLock::take(&home).unwrap().is_none() {
            assert!(Instant::now() < deadline, "the lock is still held");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_lock_that_is_left_to_another_is_never_free() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let lock = ServerLock::take(&home).unwrap().expect("free");
        let left = lock.try_clone().unwrap();
        std::fs::write(home.server_lock(), "4294967295\n").unwrap();
        drop(lock);
        assert!(ServerLock::take(&home).unwrap().is_none());
        let other = tempfile::tempdir().unwrap();
        let other = Home::open(other.path()).unwrap();
        std::fs::write(other.server_lock(), "").unwrap();
        assert!(ServerLock::left(left.try_clone().unwrap(), &other).is_none());
        let lock = ServerLock::left(left, &home).expect("this folder's");
        lock.sign().unwrap();
        assert_eq!(last_holder(&home), Some(std::process::id()));
        assert_eq!(
            Holder::find(&home).unwrap().unwrap().pid,
            std::process::id()
        );
    }

    #[test]
    fn a_number_alone_is_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        for left in [
            "",
            "0",
            "1",
            "4294967295",
            "nobody",
            &std::process::id().to_string(),
        ] {
            std::fs::write(home.server_lock(), left).unwrap();
            assert!(Holder::find(&home).unwrap().is_none(), "{left}");
        }
    }
}
