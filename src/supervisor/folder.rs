//! A dyno's folder: what is in it, whether anybody is still there, and how the dyno ended.
//!
//! Its lock means the whole dyno. The supervisor takes it before it does anything else, init keeps a copy, and the
//! kernel lets go of it when both are gone, however they went. So whoever can take it knows that nothing of the dyno is
//! left and that nothing of it can begin any more: a supervisor that comes late finds the lock taken, or no folder.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::build::end_strays;
use crate::model::dyno::{DynoState, EndReason, Exit, ExitRecord};

/// The name of the exit record in a dyno's folder.
const EXIT_RECORD: &str = "exit.json";

/// What becomes the exit record, until it is written.
const RESERVED: &str = "exit.json.new";

/// The room for a record, in bytes. One that tells at length why a dyno could not be started may be longer.
const RECORD_SIZE: usize = 1024;

/// The name of the socket in a dyno's folder.
pub const SOCKET: &str = "sock";

/// The name of the folder of what the dyno writes in a dyno's folder; it belongs to the dyno's user.
pub const SCRATCH: &str = "scratch";

/// The name of the file in a dyno's folder which says that there may be processes of the dyno that the kernel does not
/// end by itself.
pub(super) const TRACKED: &str = "tracked";

/// The name of the lock in a dyno's folder.
pub(super) const LOCK: &str = "lock";

/// The right to a dyno's folder; given back when dropped.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
}

/// Takes the lock of the dyno in `folder`; None while somebody has it.
///
/// # Errors
/// `NotFound` if there is no such folder; else when the lock cannot be made, as on a full disk.
pub fn claim(folder: &Path) -> io::Result<Option<Claim>> {
    let mut options = File::options();
    let options = options.write(true).create(true).truncate(false);
    let lock = options.open(folder.join(LOCK))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Claim { _lock: lock })),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes what ended dynos below `folder` wrote and their supervisors, killed, could not clear away. Nobody needs
/// it, and a server may need the room before it can even open its state.
pub fn sweep_scratch(folder: &Path) {
    for dyno in fs::read_dir(folder).into_iter().flatten().flatten() {
        // A folder without a lock has no scratch yet, so one that cannot be made is no loss.
        if let Ok(Some(_claim)) = claim(&dyno.path()) {
            end_strays(&dyno.path());
            let _ = crate::slug::remove_tree(&dyno.path().join(SCRATCH));
        }
    }
}

/// Writes the exit record, whole or not at all.
///
/// # Errors
/// When the disk does not take it.
pub(super) fn write_record(folder: &Path, record: &ExitRecord) -> Result<()> {
    let aside = folder.join(RESERVED);
    let mut json = serde_json::to_vec(record)?;
    // Blanks are nothing to JSON, and overwriting needs no room that is not there.
    json.resize(json.len().max(RECORD_SIZE), b' ');
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false);
    file.open(&aside)?.write_all_at(&json, 0)?;
    fs::rename(&aside, folder.join(EXIT_RECORD))?;
    Ok(())
}

/// Makes room for the exit record while there is some: the disk may be full when the dyno ends.
pub(super) fn reserve_record(folder: &Path) -> io::Result<()> {
    fs::write(folder.join(RESERVED), [b' '; RECORD_SIZE])
}

/// The exit record in a dyno's folder.
///
/// # Errors
/// When there is none, or something else is in its place.
pub fn read_record(folder: &Path) -> Result<ExitRecord> {
    let path = folder.join(EXIT_RECORD);
    let json = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_slice(&json).with_context(|| format!("`{}` is no exit record", path.display()))
}

/// The end of a dyno whose supervisor is gone without a record.
pub fn lost_record() -> ExitRecord {
    ExitRecord {
        state: DynoState::Crashed,
        exit: Exit::Unknown,
        reason: EndReason::Lost,
        message: Some("its supervisor is gone".to_owned()),
        at_us: None,
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
    fn only_what_nobody_lives_in_is_swept() {
        let dynos = tempfile::tempdir().unwrap();
        for dyno in ["alive", "dead"] {
            fs::create_dir_all(dynos.path().join(dyno).join(SCRATCH)).unwrap();
        }
        let _alive = claim(&dynos.path().join("alive")).unwrap().unwrap();
        sweep_scratch(dynos.path());
        assert!(dynos.path().join("alive").join(SCRATCH).exists());
        assert!(!dynos.path().join("dead").join(SCRATCH).exists());
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read_record(folder.path()).is_err());
        write_record(folder.path(), &lost_record()).unwrap();
        assert_eq!(read_record(folder.path()).unwrap(), lost_record());
    }
}
