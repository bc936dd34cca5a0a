//! Pseudo-terminals: open, resize, read until hang-up.
//!
//! A dyno's terminal is opened by its init in the dyno's own devpts, so that `tty` inside names a
//! device that exists there; the master's descriptor is then passed to the client that is attached.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Winsize, tcgetattr,
    tcsetattr,
};

use crate::model::dyno::TerminalSettings;
use crate::model::window::WindowSize;

/// The keys of [`TerminalSettings`], in their order.
const KEYS: [SpecialCodeIndex; 14] = [
    SpecialCodeIndex::VINTR,
    SpecialCodeIndex::VQUIT,
    SpecialCodeIndex::VERASE,
    SpecialCodeIndex::VKILL,
    SpecialCodeIndex::VEOF,
    SpecialCodeIndex::VSTART,
    SpecialCodeIndex::VSTOP,
    SpecialCodeIndex::VSUSP,
    SpecialCodeIndex::VEOL,
    SpecialCodeIndex::VREPRINT,
    SpecialCodeIndex::VDISCARD,
    SpecialCodeIndex::VWERASE,
    SpecialCodeIndex::VLNEXT,
    SpecialCodeIndex::VEOL2,
];

const INPUT: InputModes = InputModes::IGNPAR
    .union(InputModes::PARMRK)
    .union(InputModes::INPCK)
    .union(InputModes::ISTRIP)
    .union(InputModes::INLCR)
    .union(InputModes::IGNCR)
    .union(InputModes::ICRNL)
    .union(InputModes::IXON)
    .union(InputModes::IXANY)
    .union(InputModes::IXOFF)
    .union(InputModes::IMAXBEL)
    .union(InputModes::IUTF8);

const OUTPUT: OutputModes = OutputModes::OPOST
    .union(OutputModes::ONLCR)
    .union(OutputModes::OCRNL)
    .union(OutputModes::ONOCR)
    .union(OutputModes::ONLRET);

const LOCAL: LocalModes = LocalModes::ISIG
    .union(LocalModes::ICANON)
    .union(LocalModes::ECHO)
    .union(LocalModes::ECHOE)
    .union(LocalModes::ECHOK)
    .union(LocalModes::ECHONL)
    .union(LocalModes::NOFLSH)
    .union(LocalModes::TOSTOP)
    .union(LocalModes::IEXTEN)
    .union(LocalModes::ECHOCTL)
    .union(LocalModes::ECHOKE);

/// The settings of `terminal`; None if it is no terminal.
pub fn settings(terminal: impl AsFd) -> Option<TerminalSettings> {
    let settings = tcgetattr(terminal).ok()?;
    Some(TerminalSettings {
        input: (settings.input_modes & INPUT).bits(),
        output: (settings.output_modes & OUTPUT).bits(),
        local: (settings.local_modes & LOCAL).bits(),
        keys: KEYS.map(|key| settings.special_codes[key]).to_vec(),
        speed: settings.output_speed(),
    })
}

/// Gives these settings to `terminal`; settings that they do not have stay.
pub fn set(terminal: impl AsFd, wanted: &TerminalSettings) -> io::Result<()> {
    let terminal = terminal.as_fd();
    let mut settings = tcgetattr(terminal)?;
    settings.input_modes -= INPUT;
    settings.input_modes |= InputModes::from_bits_truncate(wanted.input) & INPUT;
    settings.output_modes -= OUTPUT;
    settings.output_modes |= OutputModes::from_bits_truncate(wanted.output) & OUTPUT;
    settings.local_modes -= LOCAL;
    settings.local_modes |= LocalModes::from_bits_truncate(wanted.local) & LOCAL;
    for (place, key) in KEYS.into_iter().zip(&wanted.keys) {
        settings.special_codes[place] = *key;
    }
    // A speed that the kernel does not know changes nothing.
    let _ = settings.set_speed(wanted.speed);
    Ok(tcsetattr(terminal, OptionalActions::Now, &settings)?)
}

/// Both ends of a new terminal.
#[derive(Debug)]
pub struct TerminalPair {
    /// The end that shows what programs write and types what they read.
    pub master: OwnedFd,
    /// The end that programs have as their terminal; it is no process's controlling terminal yet.
    pub slave: OwnedFd,
}

/// Opens a terminal in this mount namespace's devpts.
pub fn open(size: WindowSize) -> io::Result<TerminalPair> {
    let master =
        rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    // A session leader would otherwise adopt it as its own.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(name, flags, Mode::empty())?;
    resize(&master, size)?;
    // By the kernel's default the erase key removes a byte, not a character; every terminal of today sets this.
    let mut settings = tcgetattr(&slave)?;
    settings.input_modes |= InputModes::IUTF8;
    tcsetattr(&slave, OptionalActions::Now, &settings)?;
    Ok(TerminalPair { master, slave })
}

/// Sets the size of the terminal; its foreground programs get `SIGWINCH` if that changed it.
pub fn resize(terminal: impl AsFd, size: WindowSize) -> io::Result<()> {
    let size = Winsize {
        ws_col: size.columns,
        ws_row: size.rows,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// The size of `terminal`; None if it is no terminal, or has no size.
pub fn size(terminal: impl AsFd) -> Option<WindowSize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(WindowSize {
        columns: size.ws_col,
        rows: size.ws_row,
    })
}

/// Reads into `buffer`; 0 means that no process has the other end open any more. (For a master the kernel says that
/// with EIO, after all that was written has been read.)
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
        let pair = open(WindowSize {
            columns: 101,
            rows: 37,
        })
        .unwrap();
        assert_eq!(
            size(&pair.slave),
            Some(WindowSize {
                columns: 101,
                rows: 37
            })
        );
        resize(
            &pair.master,
            WindowSize {
                columns: 55,
                rows: 11,
            },
        )
        .unwrap();
        assert_eq!(
            size(&pair.slave),
            Some(WindowSize {
                columns: 55,
                rows: 11
            })
        );
    }

    #[test]
    fn settings_go_from_one_terminal_to_another() {
        let (one, other) = (
            open(WindowSize::default()).unwrap(),
            open(WindowSize::default()).unwrap(),
        );
        assert!(
            tcgetattr(&one.slave)
                .unwrap()
                .input_modes
                .contains(InputModes::IUTF8)
        );
        let mut settings = tcgetattr(&one.slave).unwrap();
        settings.input_modes -= InputModes::IUTF8 | InputModes::IXON;
        settings.local_modes -= LocalModes::ECHO;
        settings.special_codes[SpecialCodeIndex::VERASE] = 8;
        settings.special_codes[SpecialCodeIndex::VMIN] = 7;
        tcsetattr(&one.slave, OptionalActions::Now, &settings).unwrap();
        let wanted = super::settings(&one.slave).unwrap();
        set(&other.slave, &wanted).unwrap();
        assert_eq!(super::settings(&other.slave), Some(wanted));
        let taken = tcgetattr(&other.slave).unwrap();
        let keys = [SpecialCodeIndex::VERASE, SpecialCodeIndex::VMIN];
        assert_eq!(keys.map(|key| taken.special_codes[key]), [8, 1]);
        assert!(!taken.local_modes.contains(LocalModes::ECHO));
    }

    #[test]
    fn settings_that_make_no_sense_change_what_there_is_to_change() {
        let pair = open(WindowSize::default()).unwrap();
        let odd = TerminalSettings {
            input: u32::MAX,
            output: 0,
            local: 0,
            keys: vec![1; 300],
            speed: 12_345_678,
        };
        set(&pair.slave, &odd).unwrap();
        let wanted = super::settings(&pair.slave).unwrap();
        assert_eq!(
            (wanted.output, wanted.local, wanted.keys),
            (0, 0, vec![1; 14])
        );
        assert!(super::settings(std::fs::File::open("/dev/null").unwrap()).is_none());
    }

    #[test]
    fn hang_up_comes_after_the_last_byte() {
        let pair = open(WindowSize::default()).unwrap();
        rustix::io::write(&pair.slave, b"last words").unwrap();
        drop(pair.slave);
        let mut buffer = [0u8; 64];
        assert_eq!(read(&pair.master, &mut buffer).unwrap(), 10);
        assert_eq!(read(&pair.master, &mut buffer).unwrap(), 0);
    }
}
