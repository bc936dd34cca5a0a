//! Many runs at once while everything is killed at random; in the end everything is accounted for, and nothing is left.
//!
//! What is run and what is struck comes from a seed, which is printed; what meets what is up to the host. Settings:
//! `DYNO_SOAK_SEED`; and how long it goes on, at least: `DYNO_SOAK_RUNS` runs, `DYNO_SOAK_SECONDS` seconds,
//! `DYNO_SOAK_KILLS` kills. `DYNO_SOAK_AT_ONCE` run at a time.

#[path = "../harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the suite needs more of it")]
mod harness;

mod chaos;
mod deploys;
mod formation;
mod history;
mod job;
mod ledger;
mod left_over;
mod log;
mod possible;
mod random;
mod scene;
mod settings;
mod visits;

use std::path::Path;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use deploys::Deploys;
use harness::{FailPoints, Host, eventually, log_text};
use history::History;
use job::{Job, Way};
use ledger::{Ledger, Ran};
use log::Log;
use random::Random;
use scene::Scene;
use settings::Settings;

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

    let mut host = Host::with(&[
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
        ("DYNO_MEASURE_INTERVAL", "0.1s"),
        ("DYNO_SIZES", "1X memory=64MiB"),
    ]);
    let points = FailPoints::are_there().then(|| host.with_fail_points());
    let history = History::new(points);
    let app = host.plain_app();
    let formed = formation::app(&host);
    let house = visits::house(&host);
    let (clients, stop) = (Mutex::default(), AtomicBool::new(false));
    let scene = Scene {
        host: &host,
        history: &history,
        stop: &stop,
    };
    let mut settings = Settings::new(scene);
    let mut deployed = Deploys::deployed(scene);
    let mut pushed = Deploys::pushed(scene);
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
        scope.spawn(|| chaos::arm_points(&history, Random::new(seed, 1 << 63), &stop));
        let changing = scope.spawn(|| {
            let random = Random::new(seed, u64::MAX - 1);
            formation::change(&host, &formed, &history, random, &stop);
        });
        let mut stream = u64::MAX - 1;
        let mut random = || {
            stream -= 1;
            Random::new(seed, stream)
        };
        let [one, two, three, four, five, six] = std::array::from_fn(|_| random());
        let (settings, deployed, pushed) = (&mut settings, &mut deployed, &mut pushed);
        let others = [
            ("config vars", scope.spawn(|| settings.change(one))),
            ("deploys", scope.spawn(|| deployed.change(two))),
            ("pushes", scope.spawn(|| pushed.change(three))),
            (
                "commands inside",
                scope.spawn(|| visits::inside(scene, &house, four)),
            ),
            (
                "servers that took over",
                scope.spawn(|| chaos::take_over(&host, &history, six, &stop)),
            ),
            (
                "lines of tails",
                scope.spawn(|| visits::tails(scene, &app, five)),
            ),
        ];
        let failed = runners.into_iter().filter_map(|runner| runner.join().err());
        let mut failed = failed.count();
        stop.store(true, Ordering::SeqCst);
        failed += usize::from(changing.join().is_err());
        for (what, other) in others {
            match other.join() {
                Ok(count) => println!("{count} {what}"),
                Err(_) => failed += 1,
            }
        }
        failed
    });
    let runs = ended.into_inner().unwrap();
    println!(
        "{} runs, {} faults ({}) in {:?}",
        runs.len(),
        history.kills(),
        history.summary(),
        history.elapsed()
    );
    formation::settles(&host, &formed);
    settings.check();
    deployed.check();
    pushed.check();
    host.dyno(&house, &["ps:scale", "worker=0"])
        .finish()
        .succeeds();
    eventually("the end of all dynos", || {
        listed(&host, &app, &["ps", "--json"])
            .is_empty()
            .then_some(())
    });
    host.wait_until_clean();
    chaos::integrity(&host);
    let dynos = listed(&host, &app, &["ps", "--all", "--json"]);
    let mut ledger = Ledger {
        seed,
        history: &history,
        log: Log::read(&whole_log(&host, &app)),
        unlogged: history.unlogged(),
        wrong: Vec::new(),
    };
    ledger.check(&runs, &dynos);
    let mut wrong = ledger.wrong;
    if failed > 0 {
        wrong.push(format!("{failed} threads failed, as is said above"));
    }
    wrong.extend(left_over::left_over(&host, &dynos));
    if let Some(points) = history.points() {
        let unseen = points.unseen();
        println!("fail points that nobody came to: {unseen:?}");
    }
    let said = host.server_log();
    if said.contains("panicked") {
        wrong.push(format!("the server's log: {said}"));
    }
    // A server that could not look must not take it that there are no walls here.
    let weaker = said
        .lines()
        .filter(|line| line.starts_with("isolation is "));
    wrong.extend(
        weaker
            .filter(|line| line.contains("(os error "))
            .map(str::to_owned),
    );
    if !wrong.is_empty() {
        keep(seed, &history, &said);
    }
    assert!(
        wrong.is_empty(),
        "{} things are wrong (DYNO_SOAK_SEED={seed}):\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

/// Keeps what has happened, for whoever looks for the reason, where the build's other files are.
fn keep(seed: u64, history: &History, said: &str) {
    let place = |what: &str| format!("{}/soak-{seed}.{what}", env!("CARGO_TARGET_TMPDIR"));
    let _ = std::fs::write(place("history"), history.text(None));
    let _ = std::fs::write(place("server.log"), said);
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
    history.client_of(job.number, process.pid, began);
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
