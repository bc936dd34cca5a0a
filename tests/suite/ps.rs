//! `dyno ps`, `ps:stop`, `ps:wait`, `ps:restart`: what runs, and how it ends.

use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Host, eventually};

/// Starts a detached dyno and returns its name once it is up.
fn detached(host: &Host, app: &Path, args: &[&str]) -> String {
    let started = host
        .dyno(app, &[&["run:detached", "-q"], args].concat())
        .finish();
    started.succeeds().text().trim_end().to_owned()
}

/// A command that runs until SIGTERM comes, and leaves with this status then; its first line is `ready`.
fn until_term(status: u32) -> String {
    format!("trap 'exit {status}' TERM; echo ready; while :; do sleep 1000 & wait $!; done")
}

/// A command that SIGTERM cannot end.
const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 1000; done";

#[test]
fn a_stopped_dyno_is_gone_when_the_command_says_so() {
    let host = Host::new();
    let app = host.plain_app();
    assert_eq!(detached(&host, &app, &["sleep 1000"]), "run.1");
    host.dyno(&app, &["ps:stop", "run.1"])
        .finish()
        .succeeds()
        .prints("")
        .says("Stopping run.1 process... done\n");
    assert!(host.inhabitants().is_empty(), "run.1 is not gone");
    let log = host.log_lines();
    assert_eq!(
        log[log.len() - 3..],
        [
            "heroku[run.1]: Stopping all processes with SIGTERM",
            "heroku[run.1]: Process exited with status 143",
            "heroku[run.1]: State changed from up to complete",
        ]
    );
    host.dyno(&app, &["ps:stop", "run.1"]).finish().fails_with(
        1,
        "`run.1` has ended already: stopped",
        "dyno ps",
    );
    host.dyno(&app, &["ps:stop", "run.2"])
        .finish()
        .fails_with(1, "no dyno `run.2`", "dyno ps");
    host.dyno(&app, &["ps:stop"]).finish().fails_with(
        2,
        "required arguments",
        "dyno ps:stop --help",
    );
    host.wait_until_clean();
}

#[test]
fn a_dyno_that_ignores_sigterm_is_killed_and_the_person_is_told_what_it_waits_for() {
    let host = Host::with(&[("DYNO_STOP_GRACE", "3")]);
    let app = host.plain_app();
    detached(&host, &app, &[STUBBORN]);
    host.wait_for_log("app[run.1]: ready");
    host.dyno(&app, &["ps:stop", "run.1"])
        .finish()
        .succeeds()
        .says("Stopping run.1 process... SIGTERM sent, SIGKILL follows 3s later... done\n");
    host.wait_for_log("heroku[run.1]: Stopping remaining processes with SIGKILL");
    host.wait_for_log("heroku[run.1]: Process exited with status 137");
    host.dyno(&app, &["ps:wait", "run.1"]).finish().exits(137);
    host.wait_until_clean();
}

#[test]
fn several_are_stopped_together_or_none_is() {
    let host = Host::new();
    let app = host.plain_app();
    for args in [
        &["sleep 1000"][..],
        &["sleep 1000"],
        &["--type", "job", "sleep 1000"],
        &["sleep 1000"],
    ] {
        detached(&host, &app, args);
    }
    for (args, error) in [
        (&["run.1", "run.9"][..], "no dyno `run.9`"),
        (&["run.1", "worker"], "`plain` has no dyno of type `worker`"),
        (&["run.1", "../x"], "`plain` has no dyno of type `../x`"),
    ] {
        let outcome = host.dyno(&app, &[&["ps:stop"], args].concat()).finish();
        outcome.fails_with(1, error, "dyno ps");
    }
    host.dyno(&app, &["ps:stop", "job.1", "run.1"])
        .finish()
        .succeeds()
        .says("Stopping job.1 process... done\nStopping run.1 process... done\n");
    host.dyno(&app, &["ps:stop", "run"])
        .finish()
        .succeeds()
        .says("Stopping run processes... done\n");
    host.dyno(&app, &["ps:stop", "run"]).finish().fails_with(
        1,
        "`plain` has no dyno of type `run`",
        "dyno ps",
    );
    host.wait_until_clean();
}

#[test]
fn a_stop_need_not_be_waited_for() {
    let host = Host::new();
    let app = host.plain_app();
    detached(&host, &app, &[STUBBORN]);
    host.wait_for_log("app[run.1]: ready");
    host.dyno(&app, &["ps:stop", "--no-wait", "run.1"])
        .finish()
        .succeeds()
        .says("Stopping run.1 process... SIGTERM sent\n");
    host.wait_for_log("heroku[run.1]: Stopping all processes with SIGTERM");
    assert!(!host.inhabitants().is_empty());
}

#[test]
fn a_restart_ends_a_one_off_that_is_named_and_no_other() {
    let host = Host::new();
    let app = host.plain_app();
    detached(&host, &app, &["sleep 1000"]);
    host.dyno(&app, &["ps:restart"])
        .finish()
        .succeeds()
        .mentions("one-off dynos go on");
    assert!(!host.inhabitants().is_empty());
    host.dyno(&app, &["ps:restart", "run.1"])
        .finish()
        .succeeds()
        .mentions("Restarting run.1 process... done\n")
        .mentions("do not start again");
    host.wait_until_clean();
    // Heroku's own client asks so.
    detached(&host, &app, &["sleep 1000"]);
    let (status, body) = host.request("DELETE", "/apps/plain/dynos/run.2", &json!(null));
    assert_eq!(status, 202, "{body}");
    host.dyno(&app, &["ps:wait", "run.2"]).finish().exits(143);
    host.wait_until_clean();
}

#[test]
fn waiting_gives_the_status_of_a_dyno_that_runs_or_has_ended() {
    let host = Host::new();
    let app = host.plain_app();
    let wait = |name: &str| host.dyno(&app, &["ps:wait", name]);
    detached(&host, &app, &[&until_term(7)]);
    host.wait_for_log("app[run.1]: ready");
    let waiting = wait("run.1").start();
    host.dyno(&app, &["ps:stop", "run.1"]).finish().succeeds();
    let says = "Waiting for run.1... stopped, exit 7\n";
    waiting.finish().exits(7).prints("").says(says);
    wait("run.1").finish().exits(7).says(says);
    for (command, status, how) in [
        ("true", 0, "complete"),
        ("exit 3", 3, "exit 3"),
        ("kill -9 $$", 137, "SIGKILL"),
    ] {
        let name = detached(&host, &app, &[command]);
        let says = format!("Waiting for {name}... {how}\n");
        wait(&name).finish().exits(status).prints("").says(&says);
    }
    wait("run.77")
        .finish()
        .fails_with(125, "no dyno `run.77`", "dyno ps");
    wait("run")
        .finish()
        .fails_with(125, "`run` is not the name of a dyno", "run.1");
    host.dyno(&app, &["ps:wait"]).finish().fails_with(
        2,
        "wait for the end of which dyno?",
        "ps:wait run.1",
    );
}

#[test]
fn whoever_waits_survives_the_server() {
    let host = Host::new();
    let app = host.plain_app();
    detached(&host, &app, &[&until_term(9)]);
    host.wait_for_log("app[run.1]: ready");
    let waiting = host.dyno(&app, &["ps:wait", "run.1"]).start();
    let also = host.dyno(&app, &["ps:wait", "run.1"]).start();
    for waiting in [&waiting, &also] {
        waiting.wait_for_errors("Waiting for run.1... ");
    }
    // Killed, it is started anew by those who wait, and told to leave, too.
    for signal in [Signal::KILL, Signal::TERM] {
        let server = eventually("a server", || host.server());
        server.signal(signal);
        server.wait_for_end();
    }
    host.dyno(&app, &["ps:stop", "run.1"])
        .finish()
        .succeeds()
        .says("Stopping run.1 process... done\n");
    for waiting in [waiting, also] {
        let says = "Waiting for run.1... stopped, exit 9\n";
        waiting.finish().exits(9).says(says);
    }
    host.wait_until_clean();
}

#[test]
fn a_lost_dyno_has_no_status() {
    let host = Host::new();
    let app = host.plain_app();
    detached(&host, &app, &["sleep 1000"]);
    let waiting = host.dyno(&app, &["ps:wait", "run.1"]).start();
    host.wait_for_supervisor().signal(Signal::KILL);
    waiting
        .finish()
        .fails_with(125, "`run.1` was lost", "nobody saw");
    host.wait_until_clean();
}

#[test]
fn the_end_can_be_asked_for_with_a_bound() {
    let host = Host::new();
    let app = host.plain_app();
    detached(&host, &app, &["sleep 1000"]);
    let end = |query: &str| {
        let target = format!("/apps/plain/dynos/run.1/end{query}");
        let (status, body) = host.request("GET", &target, &json!(null));
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        (status, body)
    };
    for query in ["?seconds=0", "?seconds=0.05"] {
        let (status, dyno) = end(query);
        assert_eq!((status, &dyno["state"]), (200, &json!("up")));
        assert_eq!(dyno["ended_at"], json!(null));
    }
    for query in [
        "?seconds=-1",
        "?seconds=x",
        "?seconds=inf",
        "?seconds=1e300",
    ] {
        assert_eq!(end(query).0, 400, "{query}");
    }
}
