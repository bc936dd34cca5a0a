//! Removing a tree of files that other processes have filled.
//!
//! What a dyno leaves behind may be read-only, of mode 000 (as overlay's work directory always is),
//! nested thousands of levels deep, or with paths too long to be written down. Every step is taken
//! from the descriptor of the directory above, so no symlink is followed wherever it may point.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, chmod, fchmod, fstat, openat, renameat, unlinkat,
};
use rustix::io::Errno;

/// How deep removal descends before it moves deeper directories up to the top. Each level takes one of the 1,024
/// descriptors that a process has by default.
const MAX_DEPTH: usize = 64;

/// Removes `path` and, if it is a directory, all that is in it. A missing path is no error.
///
/// Changes the mode of directories of this process's own user if that is needed to remove their contents.
///
/// # Errors
/// The first entry that cannot be removed: another user's, a mount point, or one that a process
/// keeps making anew. What was removed before it stays removed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let bad_path = || io::Error::from(io::ErrorKind::InvalidInput);
    let name = path.file_name().ok_or_else(bad_path)?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(CWD, parent, flags, Mode::empty()) {
        Ok(parent) => Ok(remove_at(parent.as_fd(), name.as_bytes())?),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// As [`remove_tree`], for the entry `name` of an open directory.
///
/// # Errors
/// As [`remove_tree`].
pub fn remove_at(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error),
    }
    let top = open_directory(parent, name)?;
    loop {
        let mut parked = 0;
        empty(Dir::read_from(&top)?, top.as_fd(), 0, &mut parked)?;
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            // Directories that were moved to the top are removed in the next round.
            Err(Errno::NOTEMPTY) if parked > 0 => {}
            done => return done,
        }
    }
}

fn empty(
    mut listing: Dir,
    top: BorrowedFd<'_>,
    depth: usize,
    parked: &mut u64,
) -> rustix::io::Result<()> {
    while let Some(entry) = listing.read() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let here = listing.fd()?;
        if entry.file_type() != FileType::Directory {
            // Some file systems do not give the type.
            match unlinkat(here, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR) => {}
                Err(error) => return Err(error),
            }
        }
        let child = open_directory(here, name.to_bytes())?;
        if depth == MAX_DEPTH {
            park(here, name.to_bytes(), top, parked)?;
        } else {
            empty(Dir::new(child)?, top, depth + 1, parked)?;
            unlinkat(here, name, AtFlags::REMOVEDIR)?;
        }
    }
    Ok(())
}

/// Moves a directory up to the top, under a name that is free there.
fn park(
    here: BorrowedFd<'_>,
    name: &[u8],
    top: BorrowedFd<'_>,
    parked: &mut u64,
) -> rustix::io::Result<()> {
    loop {
        *parked += 1;
        match renameat(here, name, top, format!(".parked-{parked}")) {
            // The name is taken. (An empty directory would be replaced by the rename.)
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            done => return done,
        }
    }
}

/// Opens a directory to empty it, changing its mode if needed.
fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |access| openat(parent, name, flags | access, Mode::empty());
    let directory = match open(OFlags::RDONLY) {
        Err(Errno::ACCESS) => {
            // A directory that may not be opened can still be named by an `O_PATH` descriptor, whose link in /proc is a
            // path that no symlink can redirect.
            let named = open(OFlags::PATH)?;
            let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&named));
            chmod(link, Mode::RWXU)?;
            open(OFlags::RDONLY)?
        }
        opened => opened?,
    };
    let mode = Mode::from_raw_mode(fstat(&directory)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        match fchmod(&directory, Mode::RWXU) {
            // Another user's. If it is empty, it can still be removed.
            Err(Errno::PERM) => {}
            done => done?,
        }
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_is_not_there_is_removed_already() {
        let dir = tempfile::tempdir().unwrap();
        remove_tree(&dir.path().join("none")).unwrap();
        remove_tree(&dir.path().join("none/below")).unwrap();
    }

    #[test]
    fn read_only_and_closed_directories_go() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        for (name, mode) in [("read-only", 0o555), ("work", 0o000), ("no-search", 0o600)] {
            fs::create_dir_all(tree.join(name).join("below")).unwrap();
            fs::write(tree.join(name).join("file"), "x").unwrap();
            fs::set_permissions(tree.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o000)).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn symlinks_go_and_what_they_point_at_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        fs::create_dir(&tree).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "x").unwrap();
        symlink("../outside", tree.join("link")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && outside.join("file").exists());
        symlink("outside", &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(fs::symlink_metadata(&tree).is_err() && outside.join("file").exists());
    }

    #[test]
    fn a_tree_deeper_than_any_path_goes() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join(".parked-1"), "in the way").unwrap();
        let name = "d".repeat(100);
        let mut at = openat(
            CWD,
            &tree,
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        )
        .unwrap();
        for _ in 0..1000 {
            rustix::fs::mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
            rustix::fs::symlinkat("x", &at, "link").unwrap();
            at = openat(
                &at,
                name.as_str(),
                OFlags::RDONLY | OFlags::DIRECTORY,
                Mode::empty(),
            )
            .unwrap();
        }
        drop(at);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
