//! The processes of a dyno without a PID namespace: found in `/proc`, and signalled so that no other process is hit.
//!
//! A process belongs to the dyno if it descends from the caller, which is a subreaper, so that a double fork or a
//! session of its own does not separate it; or if it runs as the dyno's user and was started with the dyno's mark,
//! `DYNO_ID=<id>`, in its environment. The second finds processes that lost their parents when a supervisor was killed.
//! A process that has both cleared its environment and lost its parents is not found.
//!
//! A pid from `/proc` may be another process's by the time it is used. So a process is first [held](Held) and then
//! looked at; if it is still alive afterwards, the look was at the held process.
//!
//! Used by init (signals), by the supervisor (the end of a dyno), and by the server when a supervisor was killed.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::kernel::listener;
use crate::kernel::open_files::seen;
use crate::kernel::sys::held::Held;
use crate::model::dyno::env::MARK;
use rustix::process::{Pid, Signal, WaitOptions};

/// The most generations between a process and the caller. Each takes a descriptor during the search.
const MAX_GENERATIONS: u32 = 128;

/// The longest environment that is searched, in bytes: more than the kernel allows by default.
const MAX_ENVIRONMENT: u64 = 8 * 1024 * 1024;

/// How long all processes may take to end after SIGKILL, with those that are forked meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait for one killed process before the next look.
const ONE_END: Duration = Duration::from_millis(100);

/// How long a process may be in the middle of an exec, when its environment cannot be read yet.
const ONE_EXEC: Duration = Duration::from_millis(2);

/// The processes of one dyno.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracker {
    /// `DYNO_ID=<id>`.
    mark: Vec<u8>,
    /// The dyno's user: only its processes are searched for the mark.
    uid: u32,
    /// Whether the caller's descendants belong to the dyno, too.
    descendants: bool,
}

impl Tracker {
    /// The tracker for init and supervisor of the dyno `id`, which runs as the host's user `uid`.
    pub fn new(id: &str, uid: u32) -> Self {
        Self {
            mark: format!("{MARK}={id}").into_bytes(),
            uid,
            descendants: true,
        }
    }

    /// The tracker for any other caller: by the mark alone.
    pub fn by_mark(id: &str, uid: u32) -> Self {
        Self {
            descendants: false,
            ..Self::new(id, uid)
        }
    }

    /// Makes the calling process a subreaper: orphaned descendants become its children.
    pub fn become_subreaper() -> io::Result<()> {
        Ok(rustix::process::set_child_subreaper(Some(
            rustix::process::getpid(),
        ))?)
    }

    /// Sends `signal` to all processes of the dyno but the caller. A process that is forked meanwhile may miss it.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        for pid in self.members()? {
            if let Some(process) = self.hold(pid)? {
                let _ = process.signal(signal);
            }
        }
        Ok(())
    }

    /// Whether a process of the dyno has the socket of this inode open.
    pub fn has_socket(&self, inode: u64) -> bool {
        let socket = listener::link_to(inode);
        let opens = |pid: Pid| {
            let folder = format!("/proc/{}", pid.as_raw_nonzero());
            // Held, so that it is the process that was looked at.
            self.hold(pid).is_ok_and(|held| {
                held.is_some_and(|held| {
                    listener::has_open(Path::new(&folder), &socket) && is_alive(&held)
                })
            })
        };
        self.members()
            .is_ok_and(|members| members.into_iter().any(opens))
    }

    /// Kills all processes of the dyno but the caller, until none is left.
    ///
    /// # Errors
    /// When one is still alive after a few seconds: the dyno forks faster than this kills, or a process is stuck in the kernel;
    /// or when this process [cannot look](crate::kernel::open_files::are_exhausted).
    pub fn end(&self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut looked_again = self.descendants;
        loop {
            let mut last = None;
            for pid in self.members()? {
                if let Some(process) = self.hold(pid)? {
                    let _ = process.signal(Signal::KILL);
                    last = Some(process);
                }
            }
            self.reap();
            let Some(last) = last else {
                if looked_again {
                    return Ok(());
                }
                // In the middle of an exec, a process shows no environment.
                std::thread::sleep(ONE_EXEC);
                looked_again = true;
                continue;
            };
            if Instant::now() > deadline {
                return Err(io::Error::other("processes of the dyno outlive SIGKILL"));
            }
            // A process that has not ended yet is found again in the next round.
            let _ = last.has_ended_within(ONE_END);
        }
    }

    /// Reaps ended children, for a caller all of whose children belong to the dyno.
    fn reap(&self) {
        if self.descendants {
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        }
    }

    /// The pids of all processes that seem to belong to the dyno, from one pass over `/proc`.
    fn members(&self) -> io::Result<Vec<Pid>> {
        let own = rustix::process::getpid();
        let mut parents = HashMap::new();
        for entry in fs::read_dir("/proc")? {
            let number = entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(pid) = number.and_then(Pid::from_raw)
                && let Some(parent) = parent_of(pid)?
            {
                parents.insert(pid, parent);
            }
        }
        let kin = if self.descendants {
            descendants(&parents, own)
        } else {
            HashSet::new()
        };
        let mut members = Vec::new();
        for pid in parents.into_keys().filter(|pid| *pid != own) {
            if kin.contains(&pid) || self.is_marked(pid)? {
                members.push(pid);
            }
        }
        Ok(members)
    }

    /// Holds a process, if it belongs to the dyno and a thread of it is alive.
    fn hold(&self, pid: Pid) -> io::Result<Option<Held>> {
        let Some(process) = seen(Held::take(pid))?.flatten() else {
            return Ok(None);
        };
        let belongs = (self.descendants && descends(pid, 0)?) || self.is_marked(pid)?;
        Ok((belongs && is_alive(&process)).then_some(process))
    }

    /// Whether the process runs as the dyno's user and was started with the mark; false if it cannot be inspected.
    fn is_marked(&self, pid: Pid) -> io::Result<bool> {
        let folder = format!("/proc/{}", pid.as_raw_nonzero());
        if !fs::metadata(&folder).is_ok_and(|folder| folder.uid() == self.uid) {
            return Ok(false);
        }
        let environment = seen(File::open(format!("{folder}/environ")))?;
        Ok(environment.is_some_and(|file| {
            let mut environment = Vec::new();
            let read = file.take(MAX_ENVIRONMENT).read_to_end(&mut environment);
            read.is_ok() && has_mark(&environment, &self.mark)
        }))
    }
}

/// Whether one of the zero-ended strings is exactly `mark`.
fn has_mark(environment: &[u8], mark: &[u8]) -> bool {
    environment.split(|&byte| byte == 0).any(|one| one == mark)
}

/// All descendants of `root` in a table of parents.
fn descendants(parents: &HashMap<Pid, Pid>, root: Pid) -> HashSet<Pid> {
    let mut children: HashMap<Pid, Vec<Pid>> = HashMap::new();
    for (&pid, &parent) in parents {
        children.entry(parent).or_default().push(pid);
    }
    let (mut found, mut pending) = (HashSet::new(), vec![root]);
    while let Some(pid) = pending.pop() {
        for &child in children.get(&pid).into_iter().flatten() {
            // Entries that were read at different times may form a circle.
            if child != root && found.insert(child) {
                pending.push(child);
            }
        }
    }
    found
}

/// Whether a process, held by the caller, descends from this one. Each ancestor is held while it is looked at.
fn descends(pid: Pid, generation: u32) -> io::Result<bool> {
    let Some(parent) = parent_of(pid)? else {
        return Ok(false);
    };
    if parent == rustix::process::getpid() {
        return Ok(true);
    }
    if parent.as_raw_nonzero().get() == 1 || generation == MAX_GENERATIONS {
        return Ok(false);
    }
    let Some(held) = seen(Held::take(parent))?.flatten() else {
        return Ok(false);
    };
    // Asked again: only now is it certain that the pid means the held process.
    let is_child = parent_of(pid)? == Some(parent);
    Ok(is_child && descends(parent, generation + 1)? && is_alive(&held))
}

/// The parent of a process; an ended process has one until it is reaped.
fn parent_of(pid: Pid) -> io::Result<Option<Pid>> {
    let stat = seen(fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())))?;
    Ok(stat
        .and_then(|stat| parse_parent(&stat))
        .and_then(Pid::from_raw))
}

/// The parent's number in a `/proc/PID/stat`. The name in parentheses may contain parentheses. The state is not looked
/// at: a process whose first thread has ended looks like a zombie while its other threads run.
fn parse_parent(stat: &[u8]) -> Option<i32> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut fields = rest.split_whitespace();
    fields.nth(1)?.parse().ok()
}

fn is_alive(process: &Held) -> bool {
    !process.has_ended_within(Duration::ZERO).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn pid(number: i32) -> Pid {
        Pid::from_raw(number).unwrap()
    }

    fn own_uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    /// A process that stays, with this variable alone in its environment.
    fn sleeper(name: &str, value: &str) -> Child {
        let mut command = Command::new("/bin/sleep");
        command.arg("1000").env_clear().env(name, value);
        command.stdin(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn the_parent_is_found_whatever_the_name() {
        assert_eq!(parse_parent(b"7 (sh) S 3 7 7 0 -1"), Some(3));
        assert_eq!(parse_parent(b"7 (a) S 9 (b) R 3 7 7"), Some(3));
        assert_eq!(parse_parent(b"7 (\xff ) Z) Z 3 7"), Some(3));
        assert_eq!(parse_parent(b"7 (sh) S"), None);
        assert_eq!(parse_parent(b""), None);
    }

    #[test]
    fn the_mark_is_a_whole_variable() {
        let mark = b"DYNO_ID=ab";
        for environment in [
            &b"DYNO_ID=ab\0"[..],
            b"A=1\0DYNO_ID=ab\0B=2\0",
            b"DYNO_ID=ab",
        ] {
            assert!(has_mark(environment, mark));
        }
        for environment in [
            &b""[..],
            b"DYNO_ID=abc\0",
            b"XDYNO_ID=ab\0",
            b"X=DYNO_ID=ab\0",
            b"DYNO_ID=a\0b\0",
            b"dyno_id=ab\0",
        ] {
            assert!(!has_mark(environment, mark));
        }
    }

    #[test]
    fn descendants_are_those_below_and_circles_end() {
        let parents: HashMap<Pid, Pid> = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 7), (7, 6), (8, 5)]
            .map(|(child, parent)| (pid(child), pid(parent)))
            .into();
        assert_eq!(
            descendants(&parents, pid(2)),
            HashSet::from([pid(3), pid(4)])
        );
        assert_eq!(descendants(&parents, pid(6)), HashSet::from([pid(7)]));
    }

    /// A child that has just been started may not have its environment yet.
    fn wait_for_environment(tracker: &Tracker) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while tracker.members().unwrap().is_empty() {
            assert!(Instant::now() < deadline, "nobody has the mark");
            std::thread::yield_now();
        }
    }

    #[test]
    fn only_processes_with_the_mark_and_of_the_user_are_ended() {
        let id = format!("test-{}", std::process::id());
        let mut ours = sleeper(MARK, &id);
        let mut longer = sleeper(MARK, &format!("{id}0"));
        let mut other = sleeper("DYNO", &id);
        // The mark of another user's dyno is no mark.
        Tracker::by_mark(&id, own_uid() + 1).end().unwrap();
        assert_eq!(ours.try_wait().unwrap(), None);

        let tracker = Tracker::by_mark(&id, own_uid());
        wait_for_environment(&tracker);
        let ended = std::thread::spawn(move || ours.wait().unwrap());
        tracker.end().unwrap();
        assert_eq!(ended.join().unwrap().signal(), Some(9));
        for child in [&mut longer, &mut other] {
            assert_eq!(child.try_wait().unwrap(), None);
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn a_signal_reaches_whoever_has_the_mark() {
        let id = format!("signal-{}", std::process::id());
        let mut ours = sleeper(MARK, &id);
        let tracker = Tracker::by_mark(&id, own_uid());
        wait_for_environment(&tracker);
        tracker.signal(Signal::TERM).unwrap();
        assert_eq!(ours.wait().unwrap().signal(), Some(15));
        tracker.end().unwrap();
    }
}
