//! One process of the host's, held by a descriptor, so that no signal reaches another that has its number by now.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::LazyLock;
use std::time::Instant;

use rustix::process::{
    Pid, PidfdFlags, Resource, Signal, getrlimit, pidfd_open, pidfd_send_signal, setrlimit,
};

use super::proc::command_line_of;
use super::wait::DEADLINE;

/// One process, held so that a signal can only reach this one.
#[derive(Debug)]
pub struct Process {
    pub pid: i32,
    fd: OwnedFd,
}

impl Process {
    /// None when there is no such process any more. PID 1 and "all processes" are nobody's to signal.
    pub fn find(pid: i32) -> Option<Self> {
        if pid <= 1 {
            return None;
        }
        let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        Some(Self { pid, fd })
    }

    /// The same one, held once more.
    pub fn held_again(&self) -> Self {
        Self {
            pid: self.pid,
            fd: self.fd.try_clone().unwrap(),
        }
    }

    /// It may have ended meanwhile; then nothing happens.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.fd, signal);
    }

    /// Whether it has ended before `deadline`.
    pub fn ended_by(&self, deadline: Instant) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec {
                tv_sec: left.as_secs().try_into().unwrap(),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&left)) {
                Err(rustix::io::Errno::INTR) => {}
                polled => return polled.unwrap() > 0,
            }
        }
    }

    /// Fails if it has not ended at the deadline.
    #[track_caller]
    pub fn wait_for_end(&self) {
        assert!(
            self.ended_by(Instant::now() + DEADLINE),
            "process {} is still there: {}",
            self.pid,
            command_line_of(self.pid)
        );
    }
}

/// Whether signals that tests send are ignored on our behalf: `nohup`, or a shell without job control that runs the tests
/// in the background. What we start would inherit that.
pub(super) fn signals_are_ignored() -> bool {
    static IGNORED: LazyLock<bool> = LazyLock::new(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
        let sent = [Signal::HUP, Signal::INT, Signal::QUIT].map(Signal::as_raw);
        sent.iter().any(|number| mask >> (number - 1) & 1 == 1)
    });
    *IGNORED
}

/// Lets this process have as many descriptors as the tests together may need: some have hundreds of clients, and the usual
/// soft limit of an ordinary user is 1,024.
pub(super) fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    limit.current = limit.current.map(|soft| soft.max(hard.min(20_000)));
    setrlimit(Resource::Nofile, limit).unwrap();
}
