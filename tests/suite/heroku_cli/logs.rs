//! `heroku logs`, with and without `--tail`.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Heroku;
use crate::harness::Outcome;

/// What is behind the prefix of each line.
fn texts(outcome: &Outcome<'_>) -> Vec<String> {
    let text = outcome.text();
    let texts = text
        .lines()
        .map(|line| line.split_once("]: ").expect(line).1);
    texts.map(str::to_owned).collect()
}

#[test]
fn the_log_is_shown_picked_by_dyno_type_source_and_number() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    let app = heroku.app("shop", "worker: sleep 1000\n");
    for command in ["seq 1 150", "echo 'two  words '"] {
        heroku
            .host
            .dyno(&app, &["run:detached", "--wait", command])
            .finish()
            .succeeds();
    }
    let logs = |args: &[&str]| {
        let outcome = heroku.run(&[&["logs", "-a", "shop"], args].concat());
        outcome.succeeds().says("");
        outcome
    };
    let started = Instant::now();
    let usual = logs(&[]);
    let took = started.elapsed();
    assert_eq!(usual.text().lines().count(), 100);
    assert_eq!(
        texts(&logs(&["-d", "run.2"])),
        [
            "Starting process with command `echo 'two  words '`",
            "State changed from starting to up",
            "two  words",
            "Process exited with status 0",
            "State changed from up to complete",
        ]
    );
    assert_eq!(
        texts(&logs(&["-p", "run", "-s", "app", "-n", "3"])),
        ["149", "150", "two  words"]
    );
    assert_eq!(
        texts(&logs(&["--source", "heroku", "-n", "1"])),
        ["State changed from up to complete"]
    );
    assert_eq!(
        logs(&["-n", "1500"]).text().lines().count(),
        heroku.host.log_lines().len()
    );
    logs(&["-p", "web"]).prints("");
    heroku
        .run(&["logs", "-a", "shop", "-s", "nginx"])
        .exits(2)
        .mentions("`source` is not valid");

    // It does not stay for the three seconds after which its client would come again. (How long node takes is no
    // affair of ours, so it is compared with another command that asks for as much.)
    let started = Instant::now();
    heroku.run(&["ps", "-a", "shop"]).succeeds();
    let other = started.elapsed();
    assert!(
        took < other * 2 + Duration::from_millis(1500),
        "logs took {took:?}, ps {other:?}"
    );
}

#[test]
fn a_tail_shows_each_line_once_also_across_a_restart_of_the_server_and_stays() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    let app = heroku.app("shop", "worker: sleep 1000\n");
    let host = &heroku.host;
    let detached = |command: &str| {
        let run = host.dyno(&app, &["run:detached", "--wait", "-q", command]);
        run.finish().succeeds();
    };
    detached("seq 1 3");
    let tail = heroku
        .command(&["logs", "-a", "shop", "--tail", "-p", "run", "-s", "app"])
        .start();
    tail.wait_for_output("app[run.1]: 3\n");
    detached("seq 11 13");
    tail.wait_for_output("app[run.2]: 13\n");
    host.kill_server();
    // The next one is there before the client comes again.
    detached("seq 21 23");
    tail.wait_for_output("app[run.3]: 23\n");
    let server = host.server().unwrap();
    host.dyno(&app, &["server:stop"]).finish().succeeds();
    server.wait_for_end();
    detached("seq 31 33");
    tail.wait_for_output("app[run.4]: 33\n");
    tail.signal(Signal::INT);
    let tail = tail.finish();
    tail.dies_of(Signal::INT).says("");
    let expected = [1, 2, 3, 11, 12, 13, 21, 22, 23, 31, 32, 33].map(|it: u32| it.to_string());
    assert_eq!(texts(&tail), expected);
}
