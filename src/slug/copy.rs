//! Copying an unpacked slug: for a dyno that has no overlay to write to.
//!
//! The tree was made by [`unpack`](super::unpack) and is trusted as its owner is: a user who may write to it may write
//! to the copy, too. Nothing is synced, since the copy is deleted with its dyno. Called by the sandbox.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, chmod, fstat, openat, readlinkat};
use rustix::io::Errno;

use super::limits::SlugLimits;
use super::messages::{failed, shown};
use super::tree::Tree;
use super::tree::TreeOwner;
use super::walk::{TreeEntry, open_root, walk};

/// Copies the tree `from` to `to`, which does not exist yet, with modes, times of files, symlinks and hard links; where
/// the file system can, the copies share their blocks. With an `owner` everything belongs to it, which takes root.
///
/// # Errors
/// A file cannot be read or written. What was copied until then stays.
pub fn copy_tree(from: &Path, to: &Path, owner: Option<TreeOwner>) -> anyhow::Result<()> {
    let root = open_root(from)?;
    let mut tree = Tree::create(to, owner)?;
    let mode = fstat(&root).map_err(|error| failed("examine the slug", error))?;
    tree.directory(&[], mode.st_mode)?;
    // Files with several names: inode, and the name that was copied.
    let mut linked: HashMap<u64, Vec<u8>> = HashMap::new();
    walk(
        root.as_fd(),
        |_, _| false,
        &SlugLimits::default(),
        |entry| {
            let path: Vec<&[u8]> = entry.path.split(|&byte| byte == b'/').collect();
            let uncopied =
                |error: io::Error| failed(format_args!("copy `{}`", shown(&entry.path)), error);
            match entry.file_type() {
                FileType::Directory => tree.directory(&path, entry.stat.st_mode)?,
                FileType::Symlink => {
                    let target = readlinkat(&root, entry.path.as_slice(), Vec::new())
                        .map_err(|error| uncopied(error.into()))?;
                    tree.symlink(&path, target.to_bytes())?;
                }
                FileType::RegularFile => {
                    if let Some(first) = linked.get(&entry.stat.st_ino) {
                        let first: Vec<&[u8]> = first.split(|&byte| byte == b'/').collect();
                        tree.hard_link(&path, &first)?;
                    } else {
                        let source = open_file(root.as_fd(), &entry).map_err(uncopied)?;
                        let copy = tree.file(&path)?;
                        let mut file = File::from(copy);
                        // Shares or copies blocks within the kernel where it can.
                        io::copy(&mut File::from(source), &mut file).map_err(uncopied)?;
                        let copy = OwnedFd::from(file);
                        let mtime = u64::try_from(entry.stat.st_mtime).unwrap_or(0);
                        tree.finish(&copy, entry.stat.st_mode, mtime)
                            .map_err(|error| uncopied(error.into()))?;
                        if entry.stat.st_nlink > 1 {
                            linked.insert(entry.stat.st_ino, entry.path);
                        }
                    }
                }
                // A slug holds nothing else.
                _ => {}
            }
            Ok(ControlFlow::Continue(()))
        },
    )
}

/// Opens a file for reading; if its mode forbids that, changes the mode for that moment.
fn open_file(root: BorrowedFd<'_>, entry: &TreeEntry) -> io::Result<OwnedFd> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |access| openat(root, entry.path.as_slice(), flags | access, Mode::empty());
    match open(OFlags::RDONLY) {
        Err(Errno::ACCESS) => {
            let named = open(OFlags::PATH)?;
            let link = format!("/proc/self/fd/{}", named.as_raw_fd());
            let mode = Mode::from_raw_mode(entry.stat.st_mode & 0o777);
            chmod(&link, mode | Mode::RUSR)?;
            let opened = open(OFlags::RDONLY);
            chmod(&link, mode)?;
            Ok(opened?)
        }
        opened => Ok(opened?),
    }
}

/// Whether a tree is within these limits, sparse files at their full size, so that it can be copied.
pub fn is_within(tree: &Path, limits: &SlugLimits) -> bool {
    let (mut entries, mut bytes) = (0, 0u64);
    let mut look = || -> anyhow::Result<()> {
        let root = open_root(tree)?;
        walk(
            root.as_fd(),
            |_, _| false,
            limits,
            |entry| {
                entries += 1;
                if entry.is_file() {
                    bytes =
                        bytes.saturating_add(u64::try_from(entry.stat.st_size).unwrap_or(u64::MAX));
                }
                limits.check_entries(entries)?;
                limits.check_bytes(bytes)?;
                Ok(ControlFlow::Continue(()))
            },
        )
    };
    look().is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_copy_is_like_the_tree_it_was_made_of() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("deep/er")).unwrap();
        fs::create_dir(from.join(".git")).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(499_162_500);
        for (name, text, mode) in [
            ("run", "#!/bin/sh\n", 0o755),
            ("deep/er/secret", "", 0o600),
            (".git/HEAD", "ref", 0o644),
            ("closed", "x", 0o000),
        ] {
            fs::write(from.join(name), text).unwrap();
            let file = File::options().write(true).open(from.join(name)).unwrap();
            file.set_modified(time).unwrap();
            fs::set_permissions(from.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(from.join("long"), "0123456789".repeat(1_000_000)).unwrap();
        fs::hard_link(from.join("run"), from.join("deep/also")).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        fs::set_permissions(from.join("deep"), fs::Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o750)).unwrap();

        copy_tree(&from, &to, None).unwrap();

        for name in ["", "run", "deep", "deep/er/secret", ".git/HEAD", "closed"] {
            let of = |tree: &Path| fs::metadata(tree.join(name)).unwrap();
            let (there, here) = (of(&from), of(&to));
            assert_eq!(there.mode(), here.mode(), "{name}");
            if there.is_file() {
                assert_eq!(
                    (there.len(), there.mtime()),
                    (here.len(), here.mtime()),
                    "{name}"
                );
            }
            assert_ne!(there.ino(), here.ino(), "{name}");
        }
        assert_eq!(fs::read(to.join("run")).unwrap(), b"#!/bin/sh\n");
        assert!(fs::read(to.join("long")).unwrap() == fs::read(from.join("long")).unwrap());
        assert_eq!(
            fs::read_link(to.join("link")).unwrap(),
            Path::new("/etc/passwd")
        );
        let inode = |name| fs::metadata(to.join(name)).unwrap().ino();
        assert_eq!(inode("run"), inode("deep/also"));
        assert!(
            copy_tree(&from, &to, None).is_err(),
            "it must not exist yet"
        );
    }
}
