//! The walk over an app's directory: every entry that belongs in its slug.
//!
//! One directory at a time, opened from the root's descriptor and read through its own, so no more
//! than two descriptors are open however deep the tree is. Directories come before what is in them;
//! otherwise the order is the file system's. Used by packing, copying and [`tree_is_newer_than`].

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat};

use super::limits::SlugLimits;
use super::messages::{failed, shown};
use super::slugignore::SlugIgnore;
use crate::kernel::beneath::{self, Links};

/// One file, directory or symlink of the app, or a special file, which a slug cannot hold.
#[derive(Debug)]
pub(super) struct TreeEntry {
    /// Relative to the root: no leading and no trailing slash.
    pub(super) path: Vec<u8>,
    pub(super) stat: Stat,
}

impl TreeEntry {
    pub(super) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Whether it is a file with contents: no directory, symlink or special file.
    pub(super) fn is_file(&self) -> bool {
        self.file_type() == FileType::RegularFile
    }
}

/// Opens an app's directory.
pub(super) fn open_root(dir: &Path) -> anyhow::Result<rustix::fd::OwnedFd> {
    openat(
        CWD,
        dir,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| failed(format_args!("open `{}`", dir.display()), error))
}

/// Calls `visit` with every entry below `root` for which `skips` (of the path, and whether it is a directory) is false,
/// until `visit` breaks off.
pub(super) fn walk(
    root: BorrowedFd<'_>,
    skips: impl Fn(&[u8], bool) -> bool,
    limits: &SlugLimits,
    mut visit: impl FnMut(TreeEntry) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    // A directory that became a symlink since it was listed is not entered, nor gone through.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut pending = vec![Vec::new()];
    while let Some(directory) = pending.pop() {
        let here: &[u8] = if directory.is_empty() {
            b"."
        } else {
            &directory
        };
        let unreadable = |error: std::io::Error| {
            failed(format_args!("read the directory `{}`", shown(here)), error)
        };
        let path = OsStr::from_bytes(here);
        let fd = beneath::open(root, path, flags, Links::Refused).map_err(unreadable)?;
        let mut listing = Dir::read_from(fd.as_fd()).map_err(|error| unreadable(error.into()))?;
        while let Some(item) = listing.read() {
            let item = item.map_err(|error| unreadable(error.into()))?;
            let name = item.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let mut path = Vec::with_capacity(directory.len() + 1 + name.to_bytes().len());
            if !directory.is_empty() {
                path.extend_from_slice(&directory);
                path.push(b'/');
            }
            path.extend_from_slice(name.to_bytes());
            let stat = statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| failed(format_args!("examine `{}`", shown(&path)), error))?;
            let entry = TreeEntry { path, stat };
            let is_directory = entry.file_type() == FileType::Directory;
            if skips(&entry.path, is_directory) {
                continue;
            }
            limits.check_path(&entry.path)?;
            if is_directory {
                pending.push(entry.path.clone());
            }
            if visit(entry)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Whether anything that a slug of `dir` would hold was changed after `time`.
///
/// Contents, modes and names count, by ctime, which the kernel sets at every change; a removed file shows in its
/// directory. A program can set an mtime to any time. A ctime in the future, of a clock that was ahead, is ignored.
/// Looks at `max_entries` entries at most and then says no: the answer only makes a hint, and must not take long.
///
/// # Errors
/// The directory, one below it or its `.slugignore` cannot be read.
pub fn tree_is_newer_than(dir: &Path, time: SystemTime, max_entries: u64) -> anyhow::Result<bool> {
    let root = open_root(dir)?;
    let ignore = SlugIgnore::read(root.as_fd())?;
    // A little in the future: a file may change during the walk.
    let soon = SystemTime::now() + Duration::from_secs(1);
    let [time, now] = [time, soon].map(|time| {
        let time = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        (seconds, u64::from(time.subsec_nanos()))
    });
    let (mut seen, mut newer) = (0, false);
    let skips = |path: &[u8], is_directory| ignore.ignores(path, is_directory);
    walk(root.as_fd(), skips, &SlugLimits::default(), |entry| {
        let stat = entry.stat;
        let changed = (stat.st_ctime, stat.st_ctime_nsec);
        newer = changed > time && changed <= now;
        seen += 1;
        Ok(if newer || seen >= max_entries {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    Ok(newer)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A time surely before and one surely after anything written now.
    fn around_now() -> (SystemTime, SystemTime) {
        let now = SystemTime::now();
        (now - Duration::from_secs(60), now + Duration::from_secs(60))
    }

    #[test]
    fn a_tree_is_newer_when_a_packed_entry_is() {
        let dir = tempfile::tempdir().unwrap();
        let (before, after) = around_now();
        assert!(
            !tree_is_newer_than(dir.path(), before, 100).unwrap(),
            "nothing is in it"
        );
        fs::create_dir(dir.path().join("lib")).unwrap();
        fs::write(dir.path().join("lib/a.rb"), "1").unwrap();
        assert!(tree_is_newer_than(dir.path(), before, 100).unwrap());
        assert!(!tree_is_newer_than(dir.path(), after, 100).unwrap());
        assert!(tree_is_newer_than(&dir.path().join("none"), before, 100).is_err());
    }

    #[test]
    fn a_file_dated_in_the_future_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create(dir.path().join("a")).unwrap();
        let year = Duration::from_secs(365 * 24 * 3600);
        file.set_modified(SystemTime::now() + year).unwrap();
        let (before, after) = around_now();
        assert!(!tree_is_newer_than(dir.path(), after, 100).unwrap());
        assert!(tree_is_newer_than(dir.path(), before, 100).unwrap());
    }

    #[test]
    fn ignored_files_do_not_make_a_tree_newer() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".git")).unwrap();
        fs::write(dir.path().join(".git/index"), "1").unwrap();
        let (before, _) = around_now();
        assert!(!tree_is_newer_than(dir.path(), before, 100).unwrap());
    }

    #[test]
    fn no_more_than_the_given_number_of_entries_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..10 {
            let old = fs::File::create(dir.path().join(format!("{n}"))).unwrap();
            old.set_modified(UNIX_EPOCH).unwrap();
        }
        let mut looked = 0;
        let root = open_root(dir.path()).unwrap();
        walk(
            root.as_fd(),
            |_, _| false,
            &SlugLimits::default(),
            |_| {
                looked += 1;
                Ok(if looked == 3 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            },
        )
        .unwrap();
        assert_eq!(looked, 3);
        let (_, after) = around_now();
        assert!(!tree_is_newer_than(dir.path(), after, 3).unwrap());
    }
}
