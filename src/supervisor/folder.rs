//! A dyno's folder: its files, whether the dyno still has processes, and how it ended.
//!
//! Its lock stands for the whole dyno. The server that makes the folder takes it, and sends it along with the dyno's spec; init
//! keeps a copy, and the kernel releases it when supervisor and init are gone. So a server that can take it knows that
//! the dyno has neither any more, and that none can begin, even if another server is just starting it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::home::Home;
use crate::home::lock::Holder;
use crate::kernel::open_files::seen;
use crate::model::dyno::{DynoState, EndReason, Exit, ExitRecord, Spent};

/// The name of the exit record in a dyno's folder.
const EXIT_RECORD: &str = "exit.json";

/// The name of the file that is renamed to the exit record once it is written.
const RESERVED: &str = "exit.json.new";

/// The room that is reserved for a record, in bytes. A record with a long reason why a dyno could not be started may be longer.
const RECORD_SIZE: usize = 1024;

/// The name of the socket in a dyno's folder.
pub const SOCKET: &str = "sock";

/// The name of the folder for what the dyno writes, in a dyno's folder; it belongs to the dyno's user.
pub const SCRATCH: &str = "scratch";

/// The name of the file in a dyno's folder that marks a dyno without a PID namespace, whose processes the kernel does
/// not end by itself.
pub(super) const TRACKED: &str = "tracked";

/// The name of the file in a dyno's folder that says where its control group is.
pub(super) const GROUPS: &str = "groups";

/// The name of the file in a dyno's folder that says how other hosts are reached from its own network.
pub(super) const NETWORK: &str = "network";

/// The name of the lock in a dyno's folder.
const LOCK: &str = "lock";

/// The lock of a dyno's folder; released when dropped.
#[derive(Debug)]
pub struct Claim {
    lock: File,
}

impl AsFd for Claim {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

/// Takes the lock of the dyno in `folder`; None while another process has it.
///
/// # Errors
/// `NotFound` if there is no such folder; else when the lock cannot be made, as on a full disk.
pub fn claim(folder: &Path) -> io::Result<Option<Claim>> {
    let mut options = File::options();
    let options = options.write(true).create(true).truncate(false);
    let lock = options.open(folder.join(LOCK))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Claim { lock })),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes the exit record, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write_record(folder: &Path, record: &ExitRecord) -> Result<()> {
    let aside = folder.join(RESERVED);
    let mut json = serde_json::to_vec(record)?;
    // JSON may end with blanks, and overwriting the reserved file needs no more room.
    json.resize(json.len().max(RECORD_SIZE), b' ');
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false);
    file.open(&aside)?.write_all_at(&json, 0)?;
    fs::rename(&aside, folder.join(EXIT_RECORD))?;
    Ok(())
}

/// Reserves room for the exit record: the disk may be full when the dyno ends.
pub(super) fn reserve_record(folder: &Path) -> io::Result<()> {
    fs::write(folder.join(RESERVED), [b' '; RECORD_SIZE])
}

/// The exit record in a dyno's folder; None if there is none, or it is not valid.
///
/// # Errors
/// When this process cannot look now.
pub fn read_record(folder: &Path) -> io::Result<Option<ExitRecord>> {
    let json = seen(fs::read(folder.join(EXIT_RECORD)))?;
    Ok(json.and_then(|json| serde_json::from_slice(&json).ok()))
}

/// Whether a server runs for the state that the dyno in `folder` belongs to.
pub(super) fn has_server(folder: &Path) -> bool {
    let state = folder.parent().and_then(Path::parent);
    let home = state.and_then(|state| Home::open(state).ok());
    home.is_some_and(|home| matches!(Holder::find(&home), Ok(Some(_))))
}

/// The record for a dyno whose supervisor has ended without writing one.
pub fn lost_record() -> ExitRecord {
    ExitRecord {
        state: DynoState::Crashed,
        exit: Exit::Unknown,
        reason: EndReason::Lost,
        message: Some("its supervisor is gone".to_owned()),
        at_us: None,
        spent: Spent::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_claimed_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = claim(folder.path()).unwrap().expect("free");
        assert!(claim(folder.path()).unwrap().is_none());
        drop(first);
        // A process that another test is just starting has a copy of every descriptor until it is another program.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while claim(folder.path()).unwrap().is_none() {
            assert!(std::time::Instant::now() < deadline, "still held");
            std::thread::yield_now();
        }
        let none = claim(&folder.path().join("gone")).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_record(folder.path()).unwrap(), None);
        write_record(folder.path(), &lost_record()).unwrap();
        assert_eq!(read_record(folder.path()).unwrap(), Some(lost_record()));
    }
}
