//! The memory of a process and of all that descend from it, for hosts without control groups for dynos.
//!
//! Source: proc_pid_smaps(5) and proc_tid_children(5).

use std::fs;
use std::ops::RangeInclusive;

use rustix::process::Pid;

/// The most processes that are looked at.
const MOST: usize = 40_000;

/// How much memory a process and its descendants have together, in bytes: resident or swapped out, what several share
/// counted once.
///
/// What is shared is slow to find out, so up to `enough` it is counted for each of them, which is more.
pub fn memory_below(root: Pid, enough: u64) -> u64 {
    let all = descendants(root);
    let rough = all.iter().map(|pid| resident(*pid)).sum();
    if rough <= enough {
        return rough;
    }
    all.iter()
        .map(|pid| proportional(*pid).unwrap_or_else(|| resident(*pid)))
        .sum()
}

/// What a process and its descendants have together, in bytes: resident, counted for each of those that share it, and
/// swapped out.
pub fn rough_memory_below(root: Pid) -> (u64, u64) {
    let all = descendants(root).into_iter().map(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let of = |name| kilobytes(&status, name).unwrap_or(0) * 1024;
        (of("RssAnon:") + of("RssShmem:"), of("VmSwap:"))
    });
    all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// How many threads of a process and its descendants run at this moment, or wait for nothing but a processor.
pub fn running_below(root: Pid) -> u32 {
    let threads = descendants(root).into_iter().flat_map(|pid| {
        let folder = fs::read_dir(format!("/proc/{pid}/task"));
        folder.into_iter().flatten().flatten()
    });
    let running = threads.take(MOST).filter(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        state(&stat) == Some('R')
    });
    u32::try_from(running.count()).unwrap_or(u32::MAX)
}

/// The time of the processors that a process and its descendants have taken, in microseconds, with those descendants that have
/// ended and were waited for.
pub fn cpu_below(root: Pid) -> u64 {
    let all = descendants(root).into_iter().map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        ticks(&stat, UTIME..=CSTIME)
    });
    in_micros(all.sum())
}

/// The same of all descendants of this process that have ended and were waited for.
pub fn cpu_of_children() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    in_micros(ticks(&stat, CUTIME..=CSTIME))
}

/// How many bytes disks have read and written for the descendants of this process that have ended and were waited for, if the
/// kernel counts that. This process has one thread.
pub fn io_of_children() -> Option<(u64, u64)> {
    let all = fs::read_to_string("/proc/self/io").ok()?;
    let own = fs::read_to_string("/proc/thread-self/io").ok()?;
    let of = |name: &str| {
        let figure = |text: &str| -> Option<u64> {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        Some(figure(&all)?.saturating_sub(figure(&own)?))
    };
    of("read_bytes:").zip(of("write_bytes:"))
}

/// The places of times in `/proc/PID/stat`, counted after the name.
const UTIME: usize = 11;
const CUTIME: usize = 13;
const CSTIME: usize = 14;

/// The unit of times that the kernel shows: USER_HZ, which is the same on all processors that this program is built for.
const TICKS_PER_SECOND: u64 = 100;

/// The sum of some of the times in a line of `/proc/PID/stat`, in ticks of the clock.
fn ticks(stat: &str, places: RangeInclusive<usize>) -> u64 {
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields = fields.split_whitespace().enumerate();
    let wanted = fields.filter(|(place, _)| places.contains(place));
    wanted
        .filter_map(|(_, text)| text.parse::<u64>().ok())
        .sum()
}

fn in_micros(ticks: u64) -> u64 {
    ticks * (1_000_000 / TICKS_PER_SECOND)
}

/// The letter of the state in a line like `7 (a name) S 1 …`.
fn state(stat: &str) -> Option<char> {
    // A name may have parentheses of its own.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.chars().next()
}

/// The process, its children, theirs, and so on.
fn descendants(root: Pid) -> Vec<i32> {
    let mut all = vec![root.as_raw_nonzero().get()];
    let mut next = 0;
    while next < all.len() && all.len() < MOST {
        let pid = all[next];
        next += 1;
        // A child belongs to the thread that started it.
        for thread in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .filter_map(|it| it.parse::<i32>().ok()),
            );
        }
    }
    all
}

/// The resident memory of a process that no file on a disk backs, in bytes, shared memory included.
fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    ["RssAnon:", "RssShmem:", "VmSwap:"]
        .iter()
        .filter_map(|name| kilobytes(&status, name))
        .sum::<u64>()
        * 1024
}

/// As [`resident`], what is shared divided among those that share it. None if the kernel does not tell.
fn proportional(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let of = |name| kilobytes(&rollup, name).unwrap_or(0);
    Some((of("Pss_Anon:") + of("Pss_Shmem:") + of("SwapPss:")) * 1024)
}

/// The value of a line `NAME   12 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_and_its_children_are_counted() {
        let own = Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let all = descendants(own);
        assert!(all.contains(&i32::try_from(child.id()).unwrap()), "{all:?}");
        let megabytes = vec![1u8; 64 << 20];
        std::hint::black_box(&megabytes);
        let rough = memory_below(own, u64::MAX);
        let exact = memory_below(own, 0);
        assert!(rough >= 64 << 20 && exact >= 64 << 20, "{rough} {exact}");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn what_runs_is_counted_and_what_waits_is_not() {
        let own = Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap();
        // This thread runs, to ask.
        assert!(running_below(own) >= 1);
        let mut waits = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let child = Pid::from_raw(i32::try_from(waits.id()).unwrap()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while running_below(child) > 0 {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        waits.kill().unwrap();
        waits.wait().unwrap();
        let stat = "7 (a b) S 1 7 7 0 -1 4 90 0 0 0 11 12 130 140 20 0";
        assert_eq!(ticks(stat, UTIME..=CSTIME), 11 + 12 + 130 + 140);
        assert_eq!(ticks(stat, CUTIME..=CSTIME), 270);
        assert_eq!(state("7 (a) R b) S 1 7"), Some('S'));
        assert_eq!(state(""), None);
    }

    #[test]
    fn lines_are_found_by_their_whole_name() {
        let text = "Pss:    100 kB\nPss_Anon:   60 kB\nSwapPss:  3 kB\n";
        assert_eq!(kilobytes(text, "Pss_Anon:"), Some(60));
        assert_eq!(kilobytes(text, "Pss:"), Some(100));
        assert_eq!(kilobytes(text, "Rss:"), None);
    }
}
