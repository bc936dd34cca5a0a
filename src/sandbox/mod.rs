//! A dyno's isolation: from a plan, which is data and validated as a whole, to a process that is PID 1 of new namespaces.
//!
//! `plan` describes the inside and refuses invalid descriptions; `launch` makes the namespaces and gives the new PID 1
//! its root tree. Neither knows what a dyno is: the supervisor makes the plan (with `stack`), and passes the function
//! that PID 1 runs.
//!
//! The rules that hold for every plan (measured reasons in `docs/architecture.md`):
//! - the command never runs as uid 0 of its user namespace, nor with any capability;
//! - what comes from the host is bound read-only and recursively, and flags are only ever added;
//! - nothing of the host's root is reachable once [`launch::launch`]'s child has set itself up.
//!
//! `network` gives it one of its own, and `outbound` that one a way out. `restrict` takes from a dyno's processes what walls alone leave them. `renew` replaces files in a running sandbox.
//!
//! Where the host allows no namespaces, `tempdir` gives a dyno a folder of its own instead, and `tracked` finds its
//! processes as far as possible. `offer` tries out which of the two a host allows, with `probe`; `reasons` explains why
//! it does not allow more.

pub mod init;
pub mod launch;
pub mod network;
pub mod offer;
pub mod outbound;
pub mod plan;
pub mod probe;
pub mod reasons;
pub mod renew;
pub mod restrict;
pub mod stack;
pub mod tempdir;
pub mod tracked;
pub mod unexecutable;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use crate::kernel::listener;
use renew::SandboxNamespaces;
use restrict::Restrictions;
use tracked::Tracker;

/// A sandbox whose init is being set up or runs.
#[derive(Debug)]
pub struct Launched {
    /// Init's pid in the caller's PID namespace; a child of the caller.
    pub pid: Pid,
    /// Readable when init has ended.
    pub pidfd: OwnedFd,
    /// The caller's end of a SEQPACKET pair; `inside` gets the other end.
    pub control: OwnedFd,
    /// The namespaces, to replace files inside; None without namespaces.
    pub namespaces: Option<SandboxNamespaces>,
    /// Where [`NetworkEnds`](network::NetworkEnds) of a network of its own come; None: it has the host's.
    pub network: Option<OwnedFd>,
    processes: SandboxProcesses,
    /// Whether all processes of the sandbox have ended.
    ended: bool,
    /// How init exited, once that is known.
    left: Option<WaitStatus>,
}

impl Launched {
    fn new(pid: Pid, pidfd: OwnedFd, control: OwnedFd, processes: SandboxProcesses) -> Self {
        Self {
            pid,
            pidfd,
            control,
            namespaces: None,
            network: None,
            processes,
            ended: false,
            left: None,
        }
    }

    /// Kills init; in a PID namespace, the kernel then kills all other processes.
    pub fn kill(&self) {
        // Where a filter refuses pidfds, the pid is safe: init is a child, and has not been reaped.
        if rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL).is_err() && !self.ended {
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
    }

    /// What was wrong with init's exit, if anything was. It should exit after its last message, or by SIGKILL.
    pub fn init_failure(&self) -> Option<String> {
        const KILL: i32 = Signal::KILL.as_raw();
        let left = self.left?;
        match (left.exit_status(), left.terminating_signal()) {
            (Some(status), _) => Some(format!("PID 1 left with status {status}")),
            (_, None | Some(KILL)) => None,
            (_, Some(signal)) => Some(format!("PID 1 was ended by signal {signal}")),
        }
    }

    /// Reaps init, and makes sure that no process of the sandbox outlives it. In a PID namespace the kernel does that;
    /// else init is killed if it still runs, and then the processes that it has not killed itself.
    ///
    /// # Errors
    /// When a process is still alive after a few seconds.
    pub fn end(&mut self) -> io::Result<()> {
        self.namespaces = None;
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let SandboxProcesses::Tracked(tracker) = &self.processes else {
            let waited = rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG);
            self.left = waited.ok().flatten().map(|(_, status)| status);
            return Ok(());
        };
        self.kill();
        let waited = rustix::io::retry_on_intr(|| {
            rustix::process::waitpid(Some(self.pid), WaitOptions::empty())
        });
        match waited {
            // It exited by itself, as the last process.
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

/// All processes of a sandbox, and how init signals them.
#[derive(Debug, Clone)]
pub enum SandboxProcesses {
    /// A PID namespace with init as PID 1: it signals all with one call, and when it exits, the kernel kills them.
    Namespace,
    /// Without a PID namespace: processes that are found in the host's `/proc`.
    Tracked(Tracker),
}

impl SandboxProcesses {
    /// Sends the signal with this number to all processes but the caller, which is init.
    ///
    /// # Errors
    /// When there is no such signal, or `/proc` cannot be read.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        match self {
            Self::Namespace => {
                let signal = crate::kernel::sys::signal::Signal::new(number).ok_or_else(invalid)?;
                crate::kernel::sys::signal::signal_all_others(signal)
            }
            Self::Tracked(tracker) => {
                tracker.signal(Signal::from_named_raw(number).ok_or_else(invalid)?)
            }
        }
    }

    /// Whether one of the processes has the socket of this inode open.
    pub fn has_socket(&self, inode: u64) -> bool {
        match self {
            Self::Namespace => listener::is_open_in(Path::new("/proc"), inode),
            Self::Tracked(tracker) => tracker.has_socket(inode),
        }
    }

    /// Kills all processes but the caller, which is init before its exit, or the supervisor after it.
    ///
    /// # Errors
    /// When a process is still alive after a few seconds.
    pub fn end(&self) -> io::Result<()> {
        match self {
            Self::Namespace => Ok(()),
            Self::Tracked(tracker) => tracker.end(),
        }
    }
}

/// What init needs to know about its sandbox.
#[derive(Debug, Clone)]
pub struct InitContext {
    /// The app's folder, as a path inside: the working directory of commands.
    pub folder: PathBuf,
    /// The processes that init signals.
    pub processes: SandboxProcesses,
    /// What is taken from commands.
    pub restrictions: Restrictions,
}
