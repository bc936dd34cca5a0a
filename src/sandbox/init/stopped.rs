//! Finds processes of a command on a terminal that have stopped and are not its first process: the kernel does not tell
//! init about those.
//!
//! If the first process, a shell without job control, only waits for them, the session would hang. The watch looks
//! often for a while after Ctrl-Z was typed, and else now and then: a program may stop itself.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// For how long a stop is looked for after Ctrl-Z was typed, and how often: some programs tidy up first.
const TYPED: Duration = Duration::from_secs(2);
const TYPED_LOOK: Duration = Duration::from_millis(100);

/// How often a waiting command is looked at otherwise.
const GLANCE: Duration = Duration::from_secs(1);

/// Remembers what was typed and found: see the [module](self).
#[derive(Debug, Default)]
pub struct StopWatch {
    /// The commands in whose terminal Ctrl-Z was typed, and until when that counts.
    typed: Vec<(u32, Instant)>,
    /// The commands that were found stopped and have not been continued since.
    reported: Vec<u32>,
    glanced: Option<Instant>,
}

impl StopWatch {
    /// Notes that Ctrl-Z was typed in the terminal of this command.
    pub fn typed(&mut self, id: u32, now: Instant) {
        self.goes_on(id);
        self.typed.push((id, now + TYPED));
    }

    /// Notes that this command was continued.
    pub fn goes_on(&mut self, id: u32) {
        self.typed.retain(|(typed, _)| *typed != id);
        self.reported.retain(|reported| *reported != id);
    }

    /// How long until the next look, for commands on terminals.
    pub fn pause(&self, commands: &[(u32, Pid)], now: Instant) -> Option<Duration> {
        if !self.typed.is_empty() {
            return Some(TYPED_LOOK);
        }
        let glance = self.glanced.map_or(now, |last| last + GLANCE);
        (!commands.is_empty()).then(|| glance.saturating_duration_since(now))
    }

    /// Looks at commands, given by number and first process; returns those that are newly found stopped.
    pub fn look(&mut self, commands: &[(u32, Pid)], now: Instant) -> Vec<u32> {
        self.typed.retain(|(_, until)| *until > now);
        self.reported
            .retain(|id| commands.iter().any(|(known, _)| known == id));
        let glances = self.glanced.is_none_or(|last| now >= last + GLANCE);
        if glances {
            self.glanced = Some(now);
        }
        let is_typed = |id: u32| self.typed.iter().any(|(typed, _)| *typed == id);
        let of_interest = commands
            .iter()
            .filter(|(id, _)| !self.reported.contains(id));
        let stopped: Vec<u32> = of_interest
            .filter(|(id, first)| {
                let first = first.as_raw_nonzero().get();
                (is_typed(*id) && is_stopped(first, &processes()))
                    || (glances && may_wait(first) && waits_in_vain(first, &processes(), waits))
            })
            .map(|(id, _)| *id)
            .collect();
        self.typed.retain(|(id, _)| !stopped.contains(id));
        self.reported.extend(&stopped);
        stopped
    }
}

/// A process, by its `stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    pid: i32,
    parent: i32,
    group: i32,
    /// Stopped, and not by a debugger.
    stopped: bool,
    /// It sleeps: it neither runs nor has ended.
    sleeps: bool,
    /// The foreground process group of its terminal.
    foreground: i32,
}

/// Parses pid, name in parentheses, state, parent, group, session, terminal, and the terminal's foreground group.
fn parse(stat: &[u8]) -> Option<Seen> {
    let name_end = memchr::memrchr(b')', stat)?;
    let pid = std::str::from_utf8(stat.split(|byte| *byte == b' ').next()?).ok()?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    match rest.split_ascii_whitespace().take(6).collect::<Vec<_>>()[..] {
        [state, parent, group, _, _, foreground] => Some(Seen {
            pid: pid.parse().ok()?,
            parent: parent.parse().ok()?,
            group: group.parse().ok()?,
            stopped: state == "T",
            sleeps: state == "S",
            foreground: foreground.parse().ok()?,
        }),
        _ => None,
    }
}

fn processes() -> Vec<Seen> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
    });
    let stats = processes.filter_map(|process| fs::read(process.path().join("stat")).ok());
    stats.filter_map(|stat| parse(&stat)).collect()
}

/// Whether a process of the group of `first` has stopped, other than `first`, about which the kernel tells init.
fn is_stopped(first: i32, processes: &[Seen]) -> bool {
    let mut others = processes.iter().filter(|it| it.pid != first);
    others.any(|it| it.group == first && it.stopped)
}

/// Whether to look at all processes for `first`: it sleeps, is in the foreground, and has children, as far as the kernel says.
fn may_wait(first: i32) -> bool {
    let stat = fs::read(format!("/proc/{first}/stat")).unwrap_or_default();
    let waits = parse(&stat).is_some_and(|it| it.sleeps && it.foreground == first);
    let children = || fs::read(format!("/proc/{first}/task/{first}/children"));
    waits && children().map_or(true, |children| !children.is_empty())
}

/// Whether the group of `first` has only stopped processes and those that wait for them, so that the session hangs. A
/// script that has stopped a child itself and does something else does not wait.
fn waits_in_vain(first: i32, processes: &[Seen], waits: impl Fn(i32) -> bool) -> bool {
    let group: Vec<&Seen> = processes.iter().filter(|it| it.group == first).collect();
    let waits_for_one =
        |it: &Seen| it.sleeps && group.iter().any(|child| child.parent == it.pid) && waits(it.pid);
    group.iter().any(|it| it.stopped)
        && group.iter().all(|it| match it.stopped {
            true => it.pid != first,
            false => waits_for_one(it),
        })
}

/// Whether a process waits for children; true if the kernel does not say what it sleeps in.
fn waits(pid: i32) -> bool {
    let place = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    let unknown = ["", "0"].contains(&place.trim());
    unknown || place.contains("do_wait") || place.contains("sigsuspend")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(stats: &[&str]) -> Vec<Seen> {
        stats
            .iter()
            .filter_map(|stat| parse(stat.as_bytes()))
            .collect()
    }

    #[test]
    fn a_stopped_process_is_told_by_its_state_whatever_its_name() {
        for (stat, stopped) in [
            ("8 (top) T 7 7 7 34816 7", true),
            ("8 (a ) S 1 9) T 7 7 7 34816 7", true),
            ("8 (top) S 7 7 7 34816 7", false),
            // A debugger has it.
            ("8 (top) t 7 7 7 34816 7", false),
            // Of another group, and the first one itself.
            ("8 (top) T 7 8 7 34816 7", false),
            ("7 (top) T 1 7 7 34816 7", false),
            ("8 (top) T", false),
            ("", false),
        ] {
            assert_eq!(is_stopped(7, &seen(&[stat])), stopped, "{stat}");
        }
    }

    #[test]
    fn a_session_is_dead_if_all_that_is_not_stopped_waits() {
        let (shell, other) = ("7 (sh) S 1 7 7 34816 7", "8 (sh) S 7 7 7 34816 7");
        let (stopped, deep) = ("8 (vim) T 7 7 7 34816 7", "9 (vim) T 8 7 7 34816 7");
        for (processes, dead) in [
            (&[shell, stopped][..], true),
            (&[shell, other, deep], true),
            (&[shell, other], false),
            (&[shell], false),
            // It sleeps for a while, and will go on.
            (&[shell, stopped, "9 (sleep) S 7 7 7 34816 7"], false),
            (&["7 (sh) R 1 7 7 34816 7", stopped], false),
            (&["7 (sh) T 1 7 7 34816 7"], false),
        ] {
            let processes = seen(processes);
            assert_eq!(
                waits_in_vain(7, &processes, |_| true),
                dead,
                "{processes:?}"
            );
        }
        // It reads keys meanwhile.
        assert!(!waits_in_vain(7, &seen(&[shell, stopped]), |_| false));
    }

    #[test]
    fn what_is_told_once_is_told_again_only_after_it_went_on() {
        let mut watch = StopWatch::default();
        let now = Instant::now();
        assert_eq!(watch.pause(&[], now), None);
        watch.typed(3, now);
        assert_eq!(watch.pause(&[], now), Some(TYPED_LOOK));
        assert!(watch.look(&[], now + TYPED).is_empty());
        assert_eq!(watch.pause(&[], now + TYPED), None);
        let own = [(3, rustix::process::getpid())];
        assert_eq!(watch.pause(&own, now + TYPED), Some(GLANCE));
    }
}
