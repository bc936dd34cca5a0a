//! Pseudo-terminals: open, resize, read until hang-up.
//!
//! A dyno's terminal is opened by its init in the dyno's own devpts, so that `tty` inside names a
//! device that exists there; the master's descriptor is then handed out to whoever is attached.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use serde::{Deserialize, Serialize};

/// A terminal's size in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Cells per line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

impl Default for Size {
    /// 80 by 24: what every terminal since the VT100 offers.
    fn default() -> Self {
        Self {
            columns: 80,
            rows: 24,
        }
    }
}

/// Both ends of a new terminal.
#[derive(Debug)]
pub struct Pair {
    /// The end that shows what programs write and types what they read.
    pub master: OwnedFd,
    /// The end that programs have as their terminal. Not a controlling terminal yet.
    pub slave: OwnedFd,
}

/// Opens a terminal in this mount namespace's devpts.
pub fn open(size: Size) -> io::Result<Pair> {
    let master =
        rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    // A session leader would otherwise adopt it as its own.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(name, flags, Mode::empty())?;
    resize(&master, size)?;
    Ok(Pair { master, slave })
}

/// Tells the terminal its size; its foreground programs get `SIGWINCH` if that changed it.
pub fn resize(terminal: impl AsFd, size: Size) -> io::Result<()> {
    let size = Winsize {
        ws_col: size.columns,
        ws_row: size.rows,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// The size of the terminal, if `terminal` is one that knows it.
pub fn size(terminal: impl AsFd) -> Option<Size> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(Size {
        columns: size.ws_col,
        rows: size.ws_row,
    })
}

/// Reads; 0 means that nobody will write any more. The kernel says that of a master with EIO, and all
/// that was written before has been read by then.
pub fn read(stream: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    match rustix::io::read(stream, buffer) {
        Err(Errno::IO) => Ok(0),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_told_and_kept() {
        let pair = open(Size {
            columns: 101,
            rows: 37,
        })
        .unwrap();
        assert_eq!(
            size(&pair.slave),
            Some(Size {
                columns: 101,
                rows: 37
            })
        );
        resize(
            &pair.master,
            Size {
                columns: 55,
                rows: 11,
            },
        )
        .unwrap();
        assert_eq!(
            size(&pair.slave),
            Some(Size {
                columns: 55,
                rows: 11
            })
        );
    }

    #[test]
    fn hang_up_comes_after_the_last_byte() {
        let pair = open(Size::default()).unwrap();
        rustix::io::write(&pair.slave, b"last words").unwrap();
        drop(pair.slave);
        let mut buffer = [0u8; 64];
        assert_eq!(read(&pair.master, &mut buffer).unwrap(), 10);
        assert_eq!(read(&pair.master, &mut buffer).unwrap(), 0);
    }
}
