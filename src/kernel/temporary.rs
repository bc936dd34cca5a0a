//! Files and folders with a temporary name. Each is locked by the process that makes it. The kernel drops the locks of a
//! process that was killed, so what it left half done can be told from what is in use.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;
use tempfile::{Builder, NamedTempFile, TempDir};

/// The beginning of all temporary names.
pub const PREFIX: &str = ".tmp-";

/// A temporary folder, locked as long as this lives, and deleted afterwards.
#[derive(Debug)]
pub struct HeldFolder {
    folder: TempDir,
    _lock: File,
}

impl HeldFolder {
    /// Makes one in `parent`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new_in(parent: &Path) -> io::Result<Self> {
        let folder = Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let opened = File::open(folder.path())?;
        lock(&opened)?;
        Ok(Self {
            folder,
            _lock: opened,
        })
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Makes a temporary file in `parent`, locked as long as it is open.
///
/// # Errors
/// When it cannot be made.
pub fn file_in(parent: &Path) -> io::Result<NamedTempFile> {
    let file = Builder::new().prefix(PREFIX).tempfile_in(parent)?;
    lock(file.as_file())?;
    Ok(file)
}

/// Locks an open file or folder; waits while another process has it locked.
///
/// # Errors
/// When its file system knows no locks.
pub fn lock(file: &File) -> io::Result<()> {
    Ok(retry_on_intr(|| {
        flock(file, FlockOperation::LockExclusive)
    })?)
}

/// Whether no process holds the temporary file or folder at `path`; false if it is not there any more.
pub fn is_left_over(path: &Path) -> bool {
    match File::open(path) {
        Ok(file) => flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_not_left_over() {
        let parent = tempfile::tempdir().unwrap();
        let (folder, file) = (HeldFolder::new_in(parent.path()), file_in(parent.path()));
        let (folder, file) = (folder.unwrap(), file.unwrap());
        let paths = [folder.path(), file.path()].map(Path::to_owned);
        assert!(!paths.iter().any(|path| is_left_over(path)));
        // As if their process had been killed: the names stay.
        let HeldFolder { folder, _lock } = folder;
        drop(_lock);
        let (file, kept) = file.keep().unwrap();
        drop(file);
        assert!(is_left_over(folder.path()) && is_left_over(&kept));
        std::fs::remove_file(&kept).unwrap();
        assert!(!is_left_over(&kept));
    }
}
