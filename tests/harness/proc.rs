//! What `/proc` tells of processes.

use std::fs;

use super::process::Process;

/// The numbers of all processes.
pub fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

pub(super) fn command_line_of(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Whether a process calls itself a part of the program other than the server.
pub(super) fn is_ours(pid: i32) -> bool {
    let line = command_line_of(pid);
    line.starts_with("dyno: ") && !line.starts_with("dyno: server")
}

/// Whether a process calls itself a dyno's init. Without walls it is one among others.
pub(super) fn is_init(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"dyno: init\n")
}

/// All processes that are so, and still were when they were already held: a process that has got the number of one that has ended
/// meanwhile is not among them.
pub(super) fn certain(is: impl Fn(i32) -> bool) -> Vec<Process> {
    pids()
        .filter(|&pid| is(pid))
        .filter_map(Process::find)
        .filter(|process| is(process.pid))
        .collect()
}

/// The process that started this one, or adopted it.
pub fn parent_of(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok()
}

/// Whether a process is known to be in a PID namespace below the tests' own.
pub(super) fn is_elsewhere(pid: i32) -> bool {
    let depth = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let pids = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))?;
        Some(pids.split_whitespace().count())
    };
    match (depth(&pid.to_string()), depth("self")) {
        (Some(its), Some(own)) => its > own,
        _ => false,
    }
}
