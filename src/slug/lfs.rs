//! Finds files of Git LFS of which a folder or a pushed commit has only the pointer: a program that opens one finds
//! three lines of text. Called by packing, which warns about them.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::OFlags;

use super::messages::shown;
use super::walk::TreeEntry;
use crate::kernel::beneath::{self, Links};

/// The beginning of a pointer, and its greatest size in bytes (the specification of Git LFS).
const BEGINS: &[u8] = b"version https://git-lfs.github.com/spec/v";
const POINTER: i64 = 1024;

/// How much of a `.gitattributes` is read, in bytes.
const MOST: u64 = 64 * 1024;

/// A warning about all pointers among the entries of a slug; None if there are none, or no `.gitattributes` mentions Git LFS.
pub fn pointers(root: BorrowedFd<'_>, entries: &[TreeEntry]) -> Option<String> {
    let begin = |entry: &TreeEntry, most: u64| {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let mut bytes = Vec::new();
        let file = beneath::open(root, OsStr::from_bytes(&entry.path), flags, Links::Refused);
        // A file that cannot be read is an error of packing itself.
        if let Ok(file) = file {
            let _ = File::from(file).take(most).read_to_end(&mut bytes);
        }
        bytes
    };
    let files = || entries.iter().filter(|entry| entry.is_file());
    let is_attributes = |entry: &&TreeEntry| {
        entry.path.rsplit(|byte| *byte == b'/').next() == Some(b".gitattributes")
    };
    let mut attributes = files().filter(is_attributes);
    if !attributes.any(|it| memchr::memmem::find(&begin(it, MOST), b"filter=lfs").is_some()) {
        return None;
    }
    let mut found = files()
        .filter(|it| it.stat.st_size <= POINTER)
        .filter(|it| begin(it, BEGINS.len() as u64) == BEGINS);
    let first = shown(&found.next()?.path);
    let (which, are) = match found.count() {
        0 => (format!("`{first}`"), "is a pointer"),
        1 => (format!("`{first}` and one more file"), "are pointers"),
        more => (format!("`{first}` and {more} more files"), "are pointers"),
    };
    Some(format!(
        "{which} {are} of Git LFS, not the contents: `git lfs pull` and `dyno deploy` bring those, `git push` does not"
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{SlugLimits, pack};

    #[test]
    fn pointers_are_told_where_git_lfs_is_spoken_of() {
        let folder = tempfile::tempdir().unwrap();
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n";
        let told = || {
            let limits = SlugLimits::default();
            let packed = pack(folder.path(), std::io::sink(), 1, &limits, &mut |_| {}).unwrap();
            packed.uninstalled
        };
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b.bin"), pointer).unwrap();
        fs::write(folder.path().join("c.bin"), pointer).unwrap();
        assert!(told().is_empty());
        fs::write(
            folder.path().join(".gitattributes"),
            "*.bin filter=lfs -text\n",
        )
        .unwrap();
        let [line] = &told()[..] else {
            panic!("{:?}", told())
        };
        assert!(
            line.starts_with("`a/b.bin` and one more file are pointers of Git LFS"),
            "{line}"
        );
        fs::write(folder.path().join("c.bin"), "contents").unwrap();
        fs::write(folder.path().join("a/b.bin"), "contents").unwrap();
        assert!(told().is_empty());
    }
}
