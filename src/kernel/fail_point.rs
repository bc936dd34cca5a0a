//! Named places at which a test has this program killed, or a call of it fail: where one thing is done and the next is not.
//!
//! In debug builds, `DYNO_TEST_FAULTS` names a folder, which all processes of a server and its commands share. A file
//! `armed.POINT` in it says what is to happen at that point: `kill`, or the number of an error of the kernel's. The first process that comes
//! there takes the file away, adds a line to `hits`, and suffers it. `seen.POINT` is made where a point was reached at all.
//! What runs in a dyno knows nothing of this, and a release build has no such points.

#[cfg(debug_assertions)]
mod points;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;

/// A place at which the process can be killed.
pub fn reach(name: &'static str) {
    #[cfg(debug_assertions)]
    let _ = armed::come_to(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// A place at which the process can be killed, or what comes next fail.
///
/// # Errors
/// The error that a test wants here.
pub fn attempt(name: &'static str) -> io::Result<()> {
    #[cfg(debug_assertions)]
    return armed::come_to(name);
    #[cfg(not(debug_assertions))]
    {
        let _ = name;
        Ok(())
    }
}

/// Says for whom this process works: the id of its dyno, or `server`. It is in the lines of `hits`.
pub fn works_for(whom: &str) {
    #[cfg(debug_assertions)]
    armed::works_for(whom);
    #[cfg(not(debug_assertions))]
    let _ = whom;
}

/// The environment variable that names the folder, with its value, for a process that is started with an otherwise empty
/// environment. None in a release build.
pub fn inherited() -> Option<(&'static OsStr, OsString)> {
    #[cfg(debug_assertions)]
    {
        let name = OsStr::new(armed::VARIABLE);
        std::env::var_os(name).map(|folder| (name, folder))
    }
    #[cfg(not(debug_assertions))]
    None
}

/// What a process must keep open that will not see the folder by its path any more.
pub fn kept() -> Option<BorrowedFd<'static>> {
    #[cfg(debug_assertions)]
    return armed::folder();
    #[cfg(not(debug_assertions))]
    None
}

#[cfg(debug_assertions)]
mod armed {
    use std::fs::File;
    use std::io::{self, Read, Write};
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::sync::{Mutex, OnceLock, PoisonError};

    use rustix::fs::{AtFlags, Mode, OFlags};
    use rustix::process::Signal;
    use rustix::time::{ClockId, clock_gettime};

    use super::points::{Fault, POINTS};

    /// Names the folder.
    pub const VARIABLE: &str = "DYNO_TEST_FAULTS";

    static FOLDER: OnceLock<Option<OwnedFd>> = OnceLock::new();
    static WHOM: Mutex<String> = Mutex::new(String::new());

    /// The folder, if there is one. Opened at the first call, since inside of a dyno there is no way to it.
    pub fn folder() -> Option<BorrowedFd<'static>> {
        let open = || {
            let path = std::env::var_os(VARIABLE)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).ok()
        };
        FOLDER.get_or_init(open).as_ref().map(AsFd::as_fd)
    }

    /// See [`super::works_for`].
    pub fn works_for(whom: &str) {
        whom.clone_into(&mut WHOM.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Suffers what is to happen at this point, if anything is.
    pub fn come_to(name: &'static str) -> io::Result<()> {
        let Some(folder) = folder() else {
            return Ok(());
        };
        let _ = open(folder, &format!("seen.{name}"), OFlags::CREATE);
        let Some(wanted) = take(folder, name) else {
            return Ok(());
        };
        let can_fail = POINTS.contains(&(name, Fault::KilledOrFails));
        let errno = wanted.parse().ok().filter(|_| can_fail);
        note(folder, name, &wanted);
        match errno {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => end(),
        }
    }

    /// What is to happen at this point, if no other process was faster.
    fn take(folder: BorrowedFd<'_>, name: &str) -> Option<String> {
        let name = format!("armed.{name}");
        let mut wanted = String::new();
        let mut file = open(folder, &name, OFlags::empty()).ok()?;
        file.read_to_string(&mut wanted).ok()?;
        rustix::fs::unlinkat(folder, &name, AtFlags::empty()).ok()?;
        Some(wanted)
    }

    fn note(folder: BorrowedFd<'_>, name: &str, wanted: &str) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        let whom = WHOM.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let whom = if whom.is_empty() { "command" } else { &whom };
        let pid = std::process::id();
        let line = format!("{micros} {name} {wanted} {pid} {whom}\n");
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
        let noted =
            open(folder, "hits", flags).and_then(|mut file| file.write_all(line.as_bytes()));
        // Without the line, a test would look for the reason in vain.
        assert!(noted.is_ok(), "cannot note a fault: {noted:?}");
    }

    fn open(folder: BorrowedFd<'_>, name: &str, flags: OFlags) -> io::Result<File> {
        let mode = Mode::from_bits_truncate(0o666);
        let file = rustix::fs::openat(folder, name, flags | OFlags::CLOEXEC, mode)?;
        Ok(file.into())
    }

    /// Ends this process as a kill would.
    fn end() -> ! {
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
        // PID 1 of a namespace cannot kill itself; a fault of the processor's ends it.
        std::process::abort()
    }
}
