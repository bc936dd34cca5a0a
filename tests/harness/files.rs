//! Files of tests: written, copied, read, removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// An overlay's work folder has no permissions at all, which stops an ordinary user's `remove_dir_all`.
pub fn make_removable(folder: &Path) {
    let Ok(metadata) = fs::symlink_metadata(folder) else {
        return;
    };
    if !metadata.is_dir() {
        return;
    }
    if metadata.permissions().mode() & 0o700 != 0o700 {
        let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        make_removable(&entry.path());
    }
}

/// Writes a file, with the folders above it.
pub fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Copies a tree with modes and links. A link that leads out of it, to what several fixtures share, is copied as that.
pub fn copy_tree(from: &Path, to: &Path) {
    let metadata = fs::symlink_metadata(from)
        .unwrap_or_else(|error| panic!("no `{}`: {error}", from.display()));
    if metadata.is_symlink() && fs::read_link(from).unwrap().starts_with("..") {
        fs::copy(from, to).unwrap();
    } else if metadata.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from).unwrap(), to).unwrap();
    } else if metadata.is_dir() {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy_tree(&from.join(&name), &to.join(&name));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}

/// The text of the log in `folder`: its segments, one after the other.
pub fn log_text(folder: &Path) -> Vec<u8> {
    let mut segments: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    segments.sort();
    // The oldest may be dropped under our hands.
    segments
        .iter()
        .flat_map(|segment| fs::read(segment).unwrap_or_default())
        .collect()
}
