//! What a dyno leaves in its folder: the exit record, and what it wrote.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::FlockOperation;

use super::{LOCK, SCRATCH};
use crate::dyno::{DynoState, EndReason, Exit, ExitRecord};

/// The name of the exit record in a dyno's folder.
const EXIT_RECORD: &str = "exit.json";

/// Writes it aside and renames it, so that a record that is there is whole.
pub(super) fn write_record(folder: &Path, record: &ExitRecord) -> Result<()> {
    let aside = folder.join("exit.json.new");
    fs::write(&aside, serde_json::to_vec(record)?)?;
    fs::rename(&aside, folder.join(EXIT_RECORD))?;
    Ok(())
}

/// Removes what ended dynos below `folder` wrote and their supervisors, killed, could not clear away. Nobody needs
/// it, and a server may need the room before it can even open its state.
pub fn sweep_scratch(folder: &Path) {
    for dyno in fs::read_dir(folder).into_iter().flatten().flatten() {
        let lock = File::open(dyno.path().join(LOCK));
        let over = lock.map_or(true, |lock| {
            rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_ok()
        });
        if over {
            super::end_strays(&dyno.path());
            let _ = crate::slug::remove_tree(&dyno.path().join(SCRATCH));
        }
    }
}

/// The exit record in a dyno's folder.
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
