//! What is still there when everything should be gone.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{DEADLINE, Host, eventually, pids};

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Whatever is still there of dynos that have all ended, and then of the server.
pub fn left_over(host: &Host, dynos: &[Value]) -> Vec<String> {
    if let Some(server) = host.server() {
        let children = format!("/proc/{0}/task/{0}/children", server.pid);
        let spare = host.spare().map(|spare| spare.pid.to_string());
        eventually("no child of the server but the spare", || {
            let children = fs::read_to_string(&children).unwrap_or_default();
            children
                .split_whitespace()
                .all(|child| Some(child) == spare.as_deref())
                .then_some(())
        });
        server.signal(Signal::TERM);
        server.wait_for_end();
    }
    // The supervisor that waits notices by itself that there is no server any more, and clears its sandbox up.
    let deadline = Instant::now() + DEADLINE;
    loop {
        let left = left(host, dynos);
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        thread::park_timeout(LOOK_AGAIN);
    }
}

fn left(host: &Host, dynos: &[Value]) -> Vec<String> {
    let mut left = Vec::new();
    let state = host.state();
    let names = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(state.join(folder)).into_iter().flatten();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    left.extend(
        names("dynos")
            .iter()
            .map(|name| format!("dynos/{name} is left")),
    );
    let temporary = names("slugs");
    let temporary = temporary.iter().filter(|name| name.starts_with('.'));
    left.extend(temporary.map(|name| format!("slugs/{name} is left")));
    // Nobody has a file or a lock of ours, or lives in our folders, or has them mounted.
    for pid in pids().filter(|pid| *pid != std::process::id() as i32) {
        let fds = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        let mut links = fds.map(|fd| fd.path()).collect::<Vec<_>>();
        links.extend(["cwd", "root"].map(|link| format!("/proc/{pid}/{link}").into()));
        let links = links.iter().filter_map(|link| fs::read_link(link).ok());
        for link in links.filter(|link| link.starts_with(&state)) {
            left.push(format!("process {pid} has {}", link.display()));
        }
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        if let Some(mount) = mounts
            .lines()
            .find(|mount| mount.contains(state.to_str().unwrap()))
        {
            left.push(format!("process {pid} has a mount: {mount}"));
        }
    }
    let ids: BTreeMap<&str, ()> = dynos
        .iter()
        .filter_map(|dyno| Some((dyno["id"].as_str()?, ())))
        .collect();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if ids.contains_key(name.to_string_lossy().as_ref()) {
                left.push(format!("the cgroup {} is left", entry.path().display()));
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    left
}
