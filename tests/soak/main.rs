//! Many runs at once while everything is killed at random; in the end everything is accounted for, and nothing is left.
//!
//! What is run and what is struck comes from a seed, which is printed; what meets what is up to the host. Settings:
//! `DYNO_SOAK_SEED`; and how long it goes on, at least: `DYNO_SOAK_RUNS` runs, `DYNO_SOAK_SECONDS` seconds,
//! `DYNO_SOAK_KILLS` kills. `DYNO_SOAK_AT_ONCE` run at a time.

#[path = "../harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the suite needs more of it")]
mod harness;

mod chaos;
mod formation;
mod history;
mod job;
mod ledger;
mod log;
mod random;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::Value;

use harness::{Host, eventually, log_text, pids};
use history::History;
use job::{Job, Way};
use ledger::{Ledger, Ran};
use log::Log;
use random::Random;

fn setting<T: FromStr>(name: &str, otherwise: T) -> T {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => otherwise,
    }
}

#[test]
fn everything_is_accounted_for_whatever_is_killed() {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let seed = setting("DYNO_SOAK_SEED", now.as_micros() as u64);
    let (runs, kills) = (
        setting("DYNO_SOAK_RUNS", 100),
        setting("DYNO_SOAK_KILLS", 0),
    );
    let time = Duration::from_secs(setting("DYNO_SOAK_SECONDS", 0));
    let at_once: usize = setting("DYNO_SOAK_AT_ONCE", 16);
    println!("DYNO_SOAK_SEED={seed}");

    let host = Host::with(&[
        ("DYNO_IDLE_LINGER", "2"),
        ("DYNO_ATTACH_TIMEOUT", "5"),
        ("DYNO_HANGUP_INTERVAL", "0.2"),
        ("DYNO_MAX_ONE_OFFS", "10000"),
        ("DYNO_MAX_DYNOS", "10000"),
        ("DYNO_KEPT_DYNOS", "1000000"),
        ("DYNO_LOG_LIMIT", "16384"),
        ("DYNO_CRASH_SECOND_WAIT", "0.1"),
        ("DYNO_CRASH_THIRD_WAIT", "0.1"),
        ("DYNO_CRASH_LONGEST_WAIT", "0.2"),
        ("DYNO_STOP_GRACE", "5"),
    ]);
    let app = host.plain_app();
    let formed = formation::app(&host);
    let (history, clients, stop) = (History::new(), Mutex::default(), AtomicBool::new(false));
    let (next, ended) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let more = |number: usize| number < runs || history.elapsed() < time || history.kills() < kills;
    let failed = thread::scope(|scope| {
        let runners: Vec<_> = (0..at_once)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        if !more(number) {
                            return;
                        }
                        let ran = run(
                            &host,
                            &app,
                            Job::new(seed, number),
                            seed,
                            &clients,
                            &history,
                        );
                        ended.lock().unwrap().push(ran);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            chaos::rage(
                &host,
                &clients,
                &history,
                Random::new(seed, u64::MAX),
                &stop,
            );
        });
        let changing = scope.spawn(|| {
            let random = Random::new(seed, u64::MAX - 1);
            formation::change(&host, &formed, &history, random, &stop);
        });
        let failed = runners.into_iter().filter_map(|runner| runner.join().err());
        let failed = failed.count();
        stop.store(true, Ordering::SeqCst);
        failed + usize::from(changing.join().is_err())
    });
    assert!(failed == 0, "seed {seed}\n{}", history.text(None));

    let runs = ended.into_inner().unwrap();
    println!(
        "{} runs, {} kills ({}) in {:?}",
        runs.len(),
        history.kills(),
        history.summary(),
        history.elapsed()
    );
    formation::settles(&host, &formed);
    eventually("the end of all dynos", || {
        listed(&host, &app, &["ps", "--json"])
            .is_empty()
            .then_some(())
    });
    host.wait_until_clean();
    let dynos = listed(&host, &app, &["ps", "--all", "--json"]);
    let mut ledger = Ledger {
        seed,
        history: &history,
        log: Log::read(&whole_log(&host, &app)),
        wrong: Vec::new(),
    };
    ledger.check(&runs, &dynos);
    let mut wrong = ledger.wrong;
    wrong.extend(left_over(&host, &dynos));
    let said = host.server_log();
    if said.contains("panicked") {
        wrong.push(format!("the server's log: {said}"));
    }
    assert!(
        wrong.is_empty(),
        "{} things are wrong (DYNO_SOAK_SEED={seed}):\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

/// Runs one to its end.
fn run(
    host: &Host,
    app: &Path,
    job: Job,
    seed: u64,
    clients: &chaos::Clients,
    history: &History,
) -> Ran {
    let command = job.command();
    let arguments: &[&str] = match job.way {
        Way::Pipes => &["run", &command],
        Way::Terminal => &["run", "--tty", &command],
        Way::Detached => &["run:detached", &command],
    };
    let began = history.elapsed();
    history.note(&format!("job-{} begins: {:?}", job.number, job.way));
    let running = host.dyno(app, arguments).input(job.input(seed)).start();
    let process = running.process.held_again();
    clients.lock().unwrap().insert(job.number, process);
    let outcome = running.finish();
    clients.lock().unwrap().remove(&job.number);
    let ended = history.elapsed();
    history.note(&format!("job-{} ended: {:?}", job.number, outcome.code()));
    Ran {
        job,
        time: (began, ended),
        code: outcome.code(),
        stdout: outcome.stdout.clone(),
        stderr: outcome.errors(),
    }
}

fn listed(host: &Host, app: &Path, arguments: &[&str]) -> Vec<Value> {
    let text = host.dyno(app, arguments).finish().succeeds().text();
    serde_json::from_str(&text).unwrap()
}

fn whole_log(host: &Host, app: &Path) -> Vec<u8> {
    let dynos = listed(host, app, &["ps", "--all", "--json"]);
    let id = dynos[0]["app"]["id"].as_str().unwrap();
    log_text(&host.state().join("logs").join(id))
}

/// Whatever is still there of dynos that have all ended, and then of the server.
fn left_over(host: &Host, dynos: &[Value]) -> Vec<String> {
    let mut left = Vec::new();
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
    // The supervisor that waited ends what it had made ready, which takes a moment.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut holders = holders(&state);
    while !holders.is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
        holders = self::holders(&state);
    }
    left.extend(holders);
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

/// Who has a file or a lock of this state folder, lives in it, or has it mounted.
fn holders(state: &Path) -> Vec<String> {
    let mut holders = Vec::new();
    for pid in pids().filter(|pid| *pid != std::process::id() as i32) {
        let fds = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        let mut links = fds.map(|fd| fd.path()).collect::<Vec<_>>();
        links.extend(["cwd", "root"].map(|link| format!("/proc/{pid}/{link}").into()));
        let links = links.iter().filter_map(|link| fs::read_link(link).ok());
        for link in links.filter(|link| link.starts_with(state)) {
            holders.push(format!("process {pid} has {}", link.display()));
        }
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        if let Some(mount) = mounts
            .lines()
            .find(|mount| mount.contains(state.to_str().unwrap()))
        {
            holders.push(format!("process {pid} has a mount: {mount}"));
        }
    }
    holders
}
