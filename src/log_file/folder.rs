//! The folder of a log, and its segments by number.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat};
use rustix::io::Errno;

/// The folder of a log, held by a descriptor: a folder that is made anew at its path is another one.
#[derive(Debug)]
pub struct LogFolder(OwnedFd);

impl LogFolder {
    /// Opens the folder; `None` if there is none.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        found(rustix::fs::open(path, flags, Mode::empty())).map(|fd| fd.map(Self))
    }

    /// Opens the folder, and makes it if it is missing.
    pub fn create(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)?;
        Self::open(path)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The numbers of its segments, in order.
    pub fn segments(&self) -> io::Result<Vec<u64>> {
        let Some(entries) = found(Dir::read_from(&self.0))? else {
            // The folder has been removed meanwhile.
            return Ok(Vec::new());
        };
        let mut numbers = Vec::new();
        for entry in entries {
            numbers.extend(number(entry?.file_name()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Opens a segment for reading; `None` if there is none with this number.
    pub fn reader(&self, number: u64) -> io::Result<Option<File>> {
        found(self.open_segment(number, OFlags::RDONLY))
    }

    /// Opens a segment for appending; `None` if there is none with this number.
    pub fn appender(&self, number: u64) -> io::Result<Option<File>> {
        found(self.open_segment(number, OFlags::RDWR | OFlags::APPEND))
    }

    /// Opens a segment for appending, and makes it if there is none.
    pub fn make(&self, number: u64) -> io::Result<File> {
        Ok(self.open_segment(number, OFlags::RDWR | OFlags::APPEND | OFlags::CREATE)?)
    }

    /// The segment's `stat`; `None` if there is none with this number.
    pub fn stat(&self, number: u64) -> io::Result<Option<Stat>> {
        found(rustix::fs::statat(
            &self.0,
            name(number),
            AtFlags::SYMLINK_NOFOLLOW,
        ))
    }

    /// Removes a segment; false if another process has already.
    pub fn remove(&self, number: u64) -> io::Result<bool> {
        found(rustix::fs::unlinkat(
            &self.0,
            name(number),
            AtFlags::empty(),
        ))
        .map(|done| done.is_some())
    }

    fn open_segment(&self, number: u64, flags: OFlags) -> rustix::io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&self.0, name(number), flags, Mode::RUSR | Mode::WUSR).map(File::from)
    }
}

fn name(number: u64) -> String {
    format!("{number:08}.log")
}

/// The number in a segment's name; None for any other file.
fn number(file: &CStr) -> Option<u64> {
    let file = file.to_str().ok()?;
    let parsed = file.strip_suffix(".log")?.parse().ok()?;
    (parsed > 0 && name(parsed) == file).then_some(parsed)
}

fn found<T>(result: rustix::io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_segments_are_numbers() {
        assert_eq!(number(c"00000001.log"), Some(1));
        assert_eq!(number(c"123456789.log"), Some(123_456_789));
        for other in [
            c"app.log",
            c"1.log",
            c"00000000.log",
            c"+0000001.log",
            c"00000001.log.gz",
            c"99999999999999999999999.log",
        ] {
            assert_eq!(number(other), None, "{other:?}");
        }
    }
}
