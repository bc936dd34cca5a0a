//! What is left of a dyno whose supervisor was killed: its files and its control group, and its processes, where no PID
//! namespace ends them and init was killed, too.

use std::fs;
use std::path::Path;

use super::folder::{NETWORK, SCRATCH, TRACKED, claim};
use super::memory;
use crate::error::tell;
use crate::kernel::tree::remove_tree;
use crate::sandbox::outbound;
use crate::sandbox::tracked::Tracker;

/// Removes the scratch folders of ended dynos below `folder` whose supervisors were killed. A server may need the room
/// before it can open its state.
pub fn sweep_scratch(folder: &Path) {
    for dyno in fs::read_dir(folder).into_iter().flatten().flatten() {
        // A folder without a lock file has no scratch folder yet, so failing to make one does not matter.
        if let Ok(Some(_claim)) = claim(&dyno.path()) {
            end_leftovers(&dyno.path());
            let _ = remove_tree(&dyno.path().join(SCRATCH));
        }
    }
}

/// Removes what is left below `folder` of sandboxes that were made ahead, and whose supervisors were killed.
pub fn sweep_prepared(folder: &Path) {
    for dyno in fs::read_dir(folder).into_iter().flatten().flatten() {
        // A supervisor that is there still removes it when it leaves.
        if let Ok(Some(_claim)) = claim(&dyno.path()) {
            end_leftovers(&dyno.path());
            let _ = remove_tree(&dyno.path());
        }
    }
}

/// Ends what is left of a dyno whose supervisor was killed, but for its files. `folder` is the dyno's own; its name is the
/// dyno's id.
pub fn end_leftovers(folder: &Path) {
    if folder.join(TRACKED).exists() {
        kill_processes(folder);
    }
    memory::remove_group(folder);
    disconnect(folder);
}

/// Removes the way out of a dyno's own network.
pub(super) fn disconnect(folder: &Path) {
    let file = folder.join(NETWORK);
    if let Ok(text) = fs::read(&file) {
        if let Ok(outbound) = serde_json::from_slice(&text) {
            outbound::disconnect(&outbound);
        }
        let _ = fs::remove_file(file);
    }
}

/// Kills the remaining processes of a dyno without a PID namespace.
fn kill_processes(folder: &Path) {
    let scratch = fs::metadata(folder.join(SCRATCH));
    let uid = scratch.map_or(rustix::process::geteuid().as_raw(), |scratch| {
        std::os::unix::fs::MetadataExt::uid(&scratch)
    });
    if let Some(id) = folder.file_name().and_then(|name| name.to_str())
        && let Err(error) = Tracker::by_mark(id, uid).end()
    {
        tell!("{id}: {error}");
    }
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
