//! A process that is held by a pidfd, so that a signal never reaches another process that has got its number; or, where
//! a filter of system calls refuses pidfds, by its folder in `/proc`.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::kernel::wait;

/// Pause between two looks at a process whose end is waited for without a pidfd.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The longest beginning of a `stat` that is read, in bytes: a name of at most 64 and a state.
const STAT: usize = 128;

/// See the [module](self).
#[derive(Debug)]
pub struct Held {
    pid: Pid,
    by: By,
}

#[derive(Debug)]
enum By {
    Pidfd(OwnedFd),
    /// The process's folder in `/proc`. Nothing can be read in it any more once the process has been reaped, even if
    /// its number has been given to another process. Between a look there and a signal to the number are a few
    /// microseconds, in which all other numbers would have to be used up.
    Folder(OwnedFd),
}

impl Held {
    /// Takes hold of the process with this pid; None if there is none.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn take(pid: Pid) -> io::Result<Option<Self>> {
        let by = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => By::Pidfd(pidfd),
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) => return Self::take_folder(pid),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Self { pid, by }))
    }

    fn take_folder(pid: Pid) -> io::Result<Option<Self>> {
        let path = format!("/proc/{}", pid.as_raw_nonzero());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, path, flags, Mode::empty()) {
            Ok(folder) => Ok(Some(Self {
                pid,
                by: By::Folder(folder),
            })),
            Err(Errno::NOENT | Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends the process a signal. A process that has ended gets none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if let By::Pidfd(pidfd) = &self.by {
            match rustix::process::pidfd_send_signal(pidfd, signal) {
                Ok(()) | Err(Errno::SRCH) => return Ok(()),
                // A filter's refusal looks like the kernel's; the signal by number, below, shows which it is.
                Err(Errno::NOSYS | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.has_ended_within(Duration::ZERO)? {
            return Ok(());
        }
        match rustix::process::kill_process(self.pid, signal) {
            Err(Errno::SRCH) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Waits until the process has ended, whether or not it has been reaped; false if it has not ended within `patience`.
    ///
    /// # Errors
    /// When memory has run out.
    pub fn has_ended_within(&self, patience: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match &self.by {
                By::Pidfd(pidfd) => {
                    let ended = wait::until(pidfd, PollFlags::IN, Some(deadline))?;
                    return Ok(ended.is_some());
                }
                By::Folder(folder) if has_ended(folder) => return Ok(true),
                By::Folder(_) if left.is_zero() => return Ok(false),
                By::Folder(_) => std::thread::sleep(LOOK_AGAIN.min(left)),
            }
        }
    }
}

/// Whether the process of this folder in `/proc` has no running thread any more.
fn has_ended(folder: &OwnedFd) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut stat = [0; STAT];
    let read = openat(folder, "stat", flags, Mode::empty())
        .and_then(|file| rustix::io::read(&file, &mut stat[..]));
    let Ok(read) = read else { return true };
    let name_end = stat[..read].iter().rposition(|byte| *byte == b')');
    let state = name_end.and_then(|end| stat.get(end + 2));
    // Its first thread has ended; others may run, which have folders of their own.
    matches!(state, Some(b'Z' | b'X')) && !has_other_threads(folder)
}

fn has_other_threads(folder: &OwnedFd) -> bool {
    // Two links of its own (`.` and its name) and one for each thread's folder.
    rustix::fs::statat(folder, "task", rustix::fs::AtFlags::empty())
        .is_ok_and(|tasks| tasks.st_nlink > 3)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_held_by_its_folder_as_by_a_pidfd() {
        for take in [Held::take, Held::take_folder] {
            let mut child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
            let pid = Pid::from_child(&child);
            let held = take(pid).unwrap().unwrap();
            assert!(!held.has_ended_within(Duration::from_millis(3)).unwrap());
            held.signal(Signal::TERM).unwrap();
            assert!(held.has_ended_within(Duration::from_secs(10)).unwrap());
            assert_eq!(child.wait().unwrap().signal(), Some(15));
            // Collected, it has ended still, and nothing reaches anybody.
            assert!(held.has_ended_within(Duration::ZERO).unwrap());
            held.signal(Signal::KILL).unwrap();
            assert!(take(pid).unwrap().is_none());
        }
    }
}
