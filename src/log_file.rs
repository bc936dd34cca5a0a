//! An app's log on disk: whole lines, appended by many writers at once.
//!
//! Each writer has the file open for appending and writes batches of whole lines with one call, which
//! the kernel keeps apart. Whoever finds the file too large moves it aside, under a lock; the others see by
//! the path's inode that theirs is no longer it. One older file is kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// The name of the current file in an app's log folder.
pub const CURRENT: &str = "app.log";

/// The name of the one before.
pub const PREVIOUS: &str = "app.log.1";

/// Half of the 256 MB that an app's log may take: the current file and the one before.
const MAX_FILE: u64 = 128 * 1024 * 1024;

/// One writer of an app's log.
#[derive(Debug)]
pub struct LogWriter {
    folder: PathBuf,
    file: File,
    max_file: u64,
}

impl LogWriter {
    /// Opens the log in `folder`, making both where they are missing.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        Ok(Self {
            file: open(folder)?,
            folder: folder.to_owned(),
            max_file: MAX_FILE,
        })
    }

    /// Appends `lines`, which must be whole lines.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let current = self.folder.join(CURRENT);
        let ours = self.file.metadata()?;
        if fs::metadata(&current).map_or(true, |there| there.ino() != ours.ino()) {
            self.file = open(&self.folder)?;
        } else if ours.size() >= self.max_file {
            self.rotate()?;
        }
        self.file.write_all(lines)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.folder.join("lock"))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        let current = self.folder.join(CURRENT);
        // Another writer may have been first.
        if fs::metadata(&current).is_ok_and(|there| there.size() >= self.max_file) {
            fs::rename(&current, self.folder.join(PREVIOUS))?;
        }
        self.file = open(&self.folder)?;
        Ok(())
    }
}

fn open(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(folder.join(CURRENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_follow_each_other_through_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let mut writers: Vec<_> = (0..3)
            .map(|_| LogWriter::open(folder.path()).unwrap())
            .collect();
        for writer in &mut writers {
            writer.max_file = 2000;
        }
        for n in 0..300 {
            writers[n % 3]
                .append(format!("line {n:04}\n").as_bytes())
                .unwrap();
        }
        let [previous, current] =
            [PREVIOUS, CURRENT].map(|name| fs::read_to_string(folder.path().join(name)).unwrap());
        let lines: Vec<String> = (0..300).map(|n| format!("line {n:04}")).collect();
        assert_eq!(
            format!("{previous}{current}").lines().collect::<Vec<_>>(),
            lines
        );
        assert!(previous.len() >= 2000 && previous.len() < 2100);
    }
}
