//! How much of a disk a tree of files takes that other processes write to, for hosts that cannot bound that.

use std::ffi::CStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat, statvfs};
use rustix::path::Arg;

/// How deep a [`Walk`] goes. Each level takes a descriptor.
const MOST_DEPTH: usize = 64;

/// How many files and folders a [`Walk`] looks at.
const MOST_ENTRIES: u64 = 2_000_000;

/// The unit of `st_blocks`, in bytes.
const BLOCK: u64 = 512;

/// How many bytes are free on the file system of `path`. None if it does not tell.
pub fn free(path: &Path) -> Option<u64> {
    let told = statvfs(path).ok()?;
    Some(told.f_bfree.saturating_mul(told.f_frsize))
}

/// Finds out how much room a tree takes, a few files at a time. It follows no link, reads no file, and goes by descriptors, so
/// nothing that is moved about meanwhile leads it out of the tree. What it may not look into, and what is beyond its bounds,
/// does not count; of a file with several names each has its share.
#[derive(Debug)]
pub struct Walk {
    /// The folders on the way down to the one that is being read; at first those that it begins at.
    open: Vec<Dir>,
    bytes: u64,
    entries: u64,
}

impl Walk {
    /// Begins at these folders.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn begin(folders: &[impl AsRef<Path>]) -> io::Result<Self> {
        let opened = folders
            .iter()
            .map(|folder| Ok(Dir::new(open_folder(CWD, folder.as_ref())?)?));
        Ok(Self {
            open: opened.collect::<io::Result<_>>()?,
            bytes: 0,
            entries: 0,
        })
    }

    /// Looks at `most` more files and folders; how many bytes the tree takes, once all have been looked at.
    pub fn go_on(&mut self, most: u64) -> Option<u64> {
        let until = self.entries.saturating_add(most).min(MOST_ENTRIES);
        while self.entries < until {
            let depth = self.open.len();
            let Some(folder) = self.open.last_mut() else {
                return Some(self.bytes);
            };
            let Some(Ok(entry)) = folder.read() else {
                self.open.pop();
                continue;
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.entries += 1;
            let Ok(here) = folder.fd() else { continue };
            let Some((bytes, is_folder)) = measure(here, name) else {
                continue;
            };
            self.bytes += bytes;
            let below = (is_folder && depth < MOST_DEPTH).then(|| open_folder(here, name));
            let below = below.and_then(|below| Dir::new(below.ok()?).ok());
            self.open.extend(below);
        }
        (self.open.is_empty() || self.entries >= MOST_ENTRIES).then_some(self.bytes)
    }
}

fn open_folder(above: BorrowedFd<'_>, name: impl Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(above, name, flags, Mode::empty())
}

/// How many bytes an entry of a folder takes, and whether it is a folder itself. None if it is gone.
fn measure(above: BorrowedFd<'_>, name: &CStr) -> Option<(u64, bool)> {
    let stat = statat(above, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let names = match is_folder {
        true => 1,
        false => stat.st_nlink.max(1),
    };
    #[allow(
        clippy::useless_conversion,
        reason = "it has 32 bits on some processors"
    )]
    let names = u64::from(names);
    let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
    Some((blocks * BLOCK / names, is_folder))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn measured(folder: &Path, step: u64) -> u64 {
        let mut walk = Walk::begin(&[folder]).unwrap();
        loop {
            if let Some(bytes) = walk.go_on(step) {
                return bytes;
            }
        }
    }

    #[test]
    fn all_files_count_once_and_what_links_lead_to_does_not() {
        let (tree, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |path: &str, kib: usize| {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![1u8; kib << 10]).unwrap();
        };
        fs::write(other.path().join("big"), vec![1u8; 4 << 20]).unwrap();
        write("a/b/c/one", 600);
        write("two", 424);
        fs::hard_link(tree.path().join("two"), tree.path().join("a/again")).unwrap();
        std::os::unix::fs::symlink(other.path(), tree.path().join("out")).unwrap();
        std::os::unix::fs::symlink(other.path().join("big"), tree.path().join("file")).unwrap();
        // A file that takes no room, however long it is.
        let sparse = fs::File::create(tree.path().join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        let whole = measured(tree.path(), u64::MAX);
        assert!((1 << 20..1200 << 10).contains(&whole), "{whole}");
        assert_eq!(measured(tree.path(), 1), whole);
        assert!(free(tree.path()).is_some());
    }

    #[test]
    fn a_tree_that_is_too_deep_is_no_trouble() {
        let tree = tempfile::tempdir().unwrap();
        let mut path = tree.path().to_owned();
        for _ in 0..100 {
            path.push("d");
        }
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("far"), vec![1u8; 1 << 20]).unwrap();
        assert!(measured(tree.path(), 10) < 1 << 20);
        assert!(Walk::begin(&[tree.path().join("gone")]).is_err());
    }
}
