//! What is left of a dyno whose supervisor was killed: its files and its control group, and its processes, where no PID
//! namespace ends them and init was killed, too.

use std::fs;
use std::io;
use std::path::Path;

use super::folder::{NETWORK, SCRATCH, TRACKED, claim};
use super::memory;
use crate::error::tell;
use crate::kernel::open_files::{are_exhausted, seen};
use crate::kernel::tree::remove_tree;
use crate::sandbox::outbound;
use crate::sandbox::tracked::Tracker;

/// Removes the scratch folders of ended dynos below `folder` whose supervisors were killed. A server may need the room
/// before it can open its state.
pub fn sweep_scratch(folder: &Path) {
    for dyno in fs::read_dir(folder).into_iter().flatten().flatten() {
        // A folder without a lock file has no scratch folder yet, so failing to make one does not matter.
        if let Ok(Some(_claim)) = claim(&dyno.path())
            && end_leftovers(&dyno.path()).is_ok()
        {
            let _ = remove_tree(&dyno.path().join(SCRATCH));
        }
    }
}

/// Removes what is left below `folder` of sandboxes that were made ahead, and whose supervisors were killed.
pub fn sweep_prepared(folder: &Path) {
    for dyno in fs::read_dir(folder).into_iter().flatten().flatten() {
        // A supervisor that is there still removes it when it leaves.
        if let Ok(Some(_claim)) = claim(&dyno.path())
            && end_leftovers(&dyno.path()).is_ok()
        {
            let _ = remove_tree(&dyno.path());
        }
    }
}

/// Ends what is left of a dyno whose supervisor was killed, but for its files. `folder` is the dyno's own; its name is the
/// dyno's id.
///
/// # Errors
/// When this process cannot look for it now, for want of descriptors or memory: what is left must not be forgotten.
pub fn end_leftovers(folder: &Path) -> io::Result<()> {
    if folder.join(TRACKED).exists() {
        kill_processes(folder)?;
    }
    memory::remove_group(folder)?;
    disconnect(folder)
}

/// Removes the way out of a dyno's own network.
///
/// # Errors
/// When this process cannot look for it now.
pub(super) fn disconnect(folder: &Path) -> io::Result<()> {
    let file = folder.join(NETWORK);
    if let Some(text) = seen(fs::read(&file))? {
        if let Ok(outbound) = serde_json::from_slice(&text) {
            outbound::disconnect(&outbound);
        }
        let _ = fs::remove_file(file);
    }
    Ok(())
}

/// Kills the remaining processes of a dyno without a PID namespace.
fn kill_processes(folder: &Path) -> io::Result<()> {
    let scratch = fs::metadata(folder.join(SCRATCH));
    let uid = scratch.map_or(rustix::process::geteuid().as_raw(), |scratch| {
        std::os::unix::fs::MetadataExt::uid(&scratch)
    });
    let Some(id) = folder.file_name().and_then(|name| name.to_str()) else {
        return Ok(());
    };
    match Tracker::by_mark(id, uid).end() {
        Err(error) if are_exhausted(&error) => return Err(error),
        Err(error) => tell!("{id}: {error}"),
        Ok(()) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
