//! A dyno's walls: from a plan, which is data and validated whole, to a process that is PID 1 behind them.
//!
//! `plan` says what the inside looks like and refuses what makes no sense; `launch` makes the
//! namespaces and gives the new PID 1 its root tree. Neither knows what a dyno is: the supervisor makes
//! the plan (with `stack`), and hands over the function that PID 1 is to run.
//!
//! The rules that hold for every plan (measured reasons in `docs/architecture.md`):
//! - the command never runs as uid 0 of its user namespace, nor with any capability;
//! - what comes from the host is bound read-only and recursively, and flags are only ever added;
//! - nothing of the host's root is reachable once [`launch::launch`]'s child has set itself up.
//!
//! `renew` changes files of a sandbox that lives.
//!
//! Where there are no namespaces to be had, `tempdir` gives a dyno a folder of its own instead, and `tracked` finds its
//! processes as well as may be. `offer` tries out which of the two a host allows, with `probe`; `refusal` says why
//! it is not more.

pub mod init;
pub mod launch;
pub mod offer;
pub mod plan;
pub mod probe;
pub mod refusal;
pub mod renew;
pub mod stack;
pub mod tempdir;
pub mod tracked;
pub mod unexecutable;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use crate::kernel::listener;
use renew::Doors;
use tracked::Tracker;

/// A sandbox whose init is being set up or runs.
#[derive(Debug)]
pub struct Launched {
    /// Init in the caller's numbering; a child of the caller.
    pub pid: Pid,
    /// Readable when init has ended.
    pub pidfd: OwnedFd,
    /// The caller's end of a SEQPACKET pair; the other end is what `inside` is given.
    pub control: OwnedFd,
    /// The way in, behind walls.
    pub doors: Option<Doors>,
    everybody: Everybody,
    /// Nobody is left.
    ended: bool,
    /// How init left, once that is known.
    left: Option<WaitStatus>,
}

impl Launched {
    fn new(pid: Pid, pidfd: OwnedFd, control: OwnedFd, everybody: Everybody) -> Self {
        Self {
            pid,
            pidfd,
            control,
            doors: None,
            everybody,
            ended: false,
            left: None,
        }
    }

    /// Kills init, and so everything inside, if there is a PID namespace.
    pub fn kill(&self) {
        // Where a filter knows no pidfds, the number will do: init is our child, and has not been waited for.
        if rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL).is_err() && !self.ended {
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
    }

    /// What was wrong with the way in which init left, if anything was: it leaves with its last word, or by SIGKILL.
    pub fn misfortune(&self) -> Option<String> {
        const KILL: i32 = Signal::KILL.as_raw();
        let left = self.left?;
        match (left.exit_status(), left.terminating_signal()) {
            (Some(status), _) => Some(format!("PID 1 left with status {status}")),
            (_, None | Some(KILL)) => None,
            (_, Some(signal)) => Some(format!("PID 1 was ended by signal {signal}")),
        }
    }

    /// Collects init, and sees to it that nobody outlives it. Where there is a PID namespace the kernel does; else init
    /// is killed if it has not left, and then whoever it has not ended itself.
    ///
    /// # Errors
    /// When somebody is still there after a few seconds.
    pub fn end(&mut self) -> io::Result<()> {
        self.doors = None;
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let Everybody::Tracked(tracker) = &self.everybody else {
            let waited = rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG);
            self.left = waited.ok().flatten().map(|(_, status)| status);
            return Ok(());
        };
        self.kill();
        let waited = rustix::io::retry_on_intr(|| {
            rustix::process::waitpid(Some(self.pid), WaitOptions::empty())
        });
        match waited {
            // It has left by itself, as the last one.
            Ok(Some((_, status))) if status.exit_status() == Some(0) => {
                self.left = Some(status);
                Ok(())
            }
            waited => {
                self.left = waited.ok().flatten().map(|(_, status)| status);
                tracker.end()
            }
        }
    }
}

/// Everybody in a sandbox, as init reaches them.
#[derive(Debug, Clone)]
pub enum Everybody {
    /// A PID namespace whose PID 1 init is: it signals all with one call, and when it leaves the kernel ends all.
    Namespace,
    /// Processes like any others of the host.
    Tracked(Tracker),
}

impl Everybody {
    /// Sends the signal with this number to all but the caller, which is init.
    ///
    /// # Errors
    /// When there is no such signal, or `/proc` cannot be read.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        match self {
            Self::Namespace => {
                let signal = crate::kernel::sys::signal::Signal::new(number).ok_or_else(invalid)?;
                crate::kernel::sys::signal::signal_everybody_else(signal)
            }
            Self::Tracked(tracker) => {
                tracker.signal(Signal::from_named_raw(number).ok_or_else(invalid)?)
            }
        }
    }

    /// Whether one of them has the socket of this inode open.
    pub fn has_socket(&self, inode: u64) -> bool {
        match self {
            Self::Namespace => listener::is_open_in(Path::new("/proc"), inode),
            Self::Tracked(tracker) => tracker.has_socket(inode),
        }
    }

    /// Ends all but the caller, which is init and about to leave, or survived it.
    ///
    /// # Errors
    /// When somebody is still there after a few seconds.
    pub fn end(&self) -> io::Result<()> {
        match self {
            Self::Namespace => Ok(()),
            Self::Tracked(tracker) => tracker.end(),
        }
    }
}

/// What init needs to know of where it is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The app's folder, as a path of the inside: where commands begin.
    pub folder: PathBuf,
    /// Whom it is in charge of.
    pub everybody: Everybody,
}
