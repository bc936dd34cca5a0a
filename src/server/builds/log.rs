//! The log of one build: a file that is appended to line by line.
//!
//! What comes from the source may hold anything, and is shown on terminals: so no line has a control character, or is
//! endless, nor is the log. Written by one party at a time: the build's thread, and the loop before and after it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::shown;
use crate::server::builds::compile::BuildLine;

/// Characters of a line.
const LONGEST_LINE: usize = 2_000;

/// Bytes of a log; its last lines come on top.
const LONGEST: u64 = 1 << 20;

/// See the [module](self).
#[derive(Debug)]
pub struct BuildLog {
    file: File,
    bytes: u64,
}

impl BuildLog {
    /// The log at `path`, made if there is none.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }

    /// Adds a line, unless there are too many.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn say(&mut self, line: &BuildLine) -> io::Result<()> {
        if self.bytes > LONGEST {
            return Ok(());
        }
        self.put(line)?;
        match self.bytes > LONGEST {
            true => self.put(&BuildLine::Warning("... and more of this".to_owned())),
            false => Ok(()),
        }
    }

    /// Adds the lines that say what came of the build.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn conclude(&mut self, lines: &[BuildLine]) -> io::Result<()> {
        lines.iter().try_for_each(|line| self.put(line))
    }

    fn put(&mut self, line: &BuildLine) -> io::Result<()> {
        let mut text = shown(line.to_string().as_bytes(), LONGEST_LINE);
        text.push('\n');
        self.bytes += text.len() as u64;
        self.file.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_harmless_and_neither_they_nor_the_log_are_endless() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = BuildLog::open(&path).unwrap();
        log.say(&BuildLine::Warning("a\x1b[2Jb\nc".into())).unwrap();
        let long = BuildLine::Plain("x".repeat(1 << 20));
        for _ in 0..2_000 {
            log.say(&long).unwrap();
        }
        drop(log);
        let mut log = BuildLog::open(&path).unwrap();
        log.say(&long).unwrap();
        log.conclude(&[BuildLine::Detail("Released v5".into())])
            .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(" !     a\u{fffd}[2Jb\u{fffd}c\nxxx"));
        assert!(text.ends_with(" !     ... and more of this\n       Released v5\n"));
        assert!(text.len() < (1 << 20) + 10_000, "{}", text.len());
        assert!(
            text.lines()
                .all(|line| line.chars().count() <= LONGEST_LINE + 1)
        );
    }
}
