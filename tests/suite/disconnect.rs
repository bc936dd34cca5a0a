//! When a client goes: SIGHUP to all, thrice; who lives on is left alone and heard in the log.

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Host, eventually};

const CLOSED: &str = "heroku[run.1]: Client connection closed. Sending SIGHUP to all processes";
const R16: &str = "heroku[run.1]: Error R16 (Detached) -> An attached process is not responding to SIGHUP after its \
                   external connection was closed.";

#[test]
fn a_complete_run_is_logged_in_order() {
    let host = Host::new();
    let app = host.plain_app();
    host.run(&app, &["-q", "echo out; echo err >&2; exit 2"])
        .finish()
        .exits(2);
    host.wait_until_clean();
    let lines = host.log_lines();
    let start = lines
        .iter()
        .position(|line| line.contains("Starting process"))
        .unwrap();
    // What went to the client is not in the log.
    assert_eq!(
        lines[start..],
        [
            "app[api]: Starting process with command `echo out; echo err >&2; exit 2` by user dyno@localhost",
            "heroku[run.1]: Awaiting client",
            "heroku[run.1]: Starting process with command `echo out; echo err >&2; exit 2`",
            "heroku[run.1]: State changed from starting to up",
            "heroku[run.1]: Process exited with status 2",
            "heroku[run.1]: State changed from up to complete",
        ]
    );
    assert_eq!(
        lines[..2],
        [
            "app[api]: Initial release by user dyno@localhost",
            "app[api]: Release v1 created by user dyno@localhost"
        ]
    );
    assert!(lines[2].starts_with("app[api]: Deploy "), "{lines:?}");
}

#[test]
fn a_signal_to_the_command_line_hangs_the_dyno_up() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::KILL] {
        let host = Host::new();
        let app = host.app("ignores-hup");
        let running = host.run(&app, &["-q", "leaves"]).open_input().start();
        running.wait_for_output("ready\n");
        running.signal(signal);
        let outcome = running.finish();
        match signal {
            Signal::KILL => outcome.dies_of(Signal::KILL),
            _ => outcome.exits(128 + signal.as_raw()),
        };
        outcome.says("");
        host.wait_for_log("heroku[run.1]: State changed from up to complete");
        let lines = host.log_lines();
        let after = lines.iter().position(|line| line == CLOSED).unwrap();
        assert_eq!(
            lines[after..],
            [
                CLOSED,
                "app[run.1]: leaving",
                "heroku[run.1]: Process exited with status 5",
                "heroku[run.1]: State changed from up to complete"
            ],
            "{signal:?}"
        );
        host.wait_until_clean();
    }
}

#[test]
fn a_command_that_traps_hup_is_told_thrice_and_lives_on() {
    let host = Host::with(&[("DYNO_HANGUP_INTERVAL", "1")]);
    let app = host.app("ignores-hup");
    let running = host.run(&app, &["-q", "stays"]).open_input().start();
    running.wait_for_output("ready\n");
    running.wait_for_output("the child is ready\n");
    running.signal(Signal::KILL);
    running.finish();
    host.wait_for_log(R16);
    for line in ["hung up 1 times", "hung up 2 times", "hung up 3 times"] {
        host.wait_for_log(&format!("app[run.1]: {line}"));
    }
    // Every process is told, whatever session it is in.
    host.wait_for_log_lines("app[run.1]: the child was hung up", 3);
    let lines = host.log_lines();
    assert_eq!(lines.iter().filter(|line| *line == CLOSED).count(), 3);
    let at = |line: &str| lines.iter().rposition(|found| found == line).unwrap();
    assert!(at(CLOSED) < at(R16), "{lines:?}");
    // It is alive, is listed so, and ends when it is told to.
    assert!(!host.inhabitants().is_empty());
    let (status, dynos) = host.request("GET", "/apps/ignores-hup/dynos", &json!(null));
    assert_eq!(status, 200);
    assert!(dynos.contains(r#""state":"up""#), "{dynos}");
    host.dyno(&app, &["apps:destroy", "--confirm", "ignores-hup"])
        .finish()
        .succeeds();
    host.wait_until_clean();
}

#[test]
fn what_is_written_after_the_client_has_gone_is_in_the_log() {
    let host = Host::new();
    let app = host.plain_app();
    let command = "trap '' HUP; echo before; until [ -e go ]; do sleep 0.02; [ -p /dev/stdin ] && \
                   read -r -t 0.01 line; [ $? = 1 ] && touch go; done; \
                   seq 1 3000; printf 'no line feed'; echo error >&2; exit 4";
    let running = host.run(&app, &["-q", command]).open_input().start();
    running.wait_for_output("before\n");
    running.signal(Signal::KILL);
    running.finish();
    host.wait_for_log("heroku[run.1]: State changed from up to complete");
    let lines = host.log_lines();
    let logged: Vec<_> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("app[run.1]: "))
        .collect();
    let numbers: Vec<_> = logged
        .iter()
        .filter_map(|line| line.parse::<u32>().ok())
        .collect();
    assert_eq!(numbers, (1..=3000).collect::<Vec<_>>());
    assert!(
        logged.contains(&"no line feed") && logged.contains(&"error"),
        "{lines:?}"
    );
    assert!(!logged.contains(&"before"));
    let exit = lines
        .iter()
        .position(|line| line == "heroku[run.1]: Process exited with status 4")
        .unwrap();
    assert!(
        lines[exit..]
            .iter()
            .all(|line| !line.starts_with("app[run.1]")),
        "the last line of output comes before the exit: {lines:?}"
    );
    host.wait_until_clean();
}

#[test]
fn nobody_attaches_and_the_dyno_ends() {
    let host = Host::with(&[("DYNO_ATTACH_TIMEOUT", "1")]);
    let app = host.plain_app();
    host.dyno(&app, &["apps"]).finish().succeeds();
    let (status, body) = host.request(
        "POST",
        "/apps/plain/dynos",
        &json!({ "command": "echo never", "attach": true, "force_no_tty": true }),
    );
    assert_eq!(status, 201, "{body}");
    let dyno: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&dyno["name"], &dyno["state"]),
        (&json!("run.1"), &json!("starting"))
    );
    host.wait_for_log("heroku[run.1]: State changed from starting to complete");
    let lines = host.log_lines();
    let start = lines
        .iter()
        .position(|line| line == "heroku[run.1]: Awaiting client")
        .unwrap();
    assert_eq!(
        lines[start..],
        [
            "heroku[run.1]: Awaiting client",
            "heroku[run.1]: Error R13 (Attach error) -> Failed to attach to process",
            "heroku[run.1]: Process exited with status 128",
            "heroku[run.1]: State changed from starting to complete",
        ]
    );
    host.wait_until_clean();
}

#[test]
fn a_detached_dyno_runs_into_the_log() {
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(&app, &["apps"]).finish().succeeds();
    let (status, body) = host.request(
        "POST",
        "/apps/plain/dynos",
        &json!({ "command": "echo out; echo err >&2; cat; exit 3", "attach": false }),
    );
    assert_eq!(status, 201, "{body}");
    host.wait_for_log("heroku[run.1]: State changed from up to complete");
    for line in [
        "app[run.1]: out",
        "app[run.1]: err",
        "heroku[run.1]: Process exited with status 3",
    ] {
        host.wait_for_log(line);
    }
    host.wait_until_clean();
}

#[test]
fn the_dyno_that_cannot_be_reached_in_time_is_given_up() {
    let host = Host::with(&[("DYNO_ATTACH_TIMEOUT", "1")]);
    let app = host.plain_app();
    let unreachable = crate::server::unreachable(&host);
    let outcome = host
        .run(&app, &["-a", "plain", "true"])
        .env("DYNO_HOME", &unreachable)
        .finish();
    outcome
        .fails_with(125, "Timeout awaiting process", "dyno doctor")
        .prints("")
        .mentions("Running true attached to terminal... \nerror: ");
    host.wait_for_log("heroku[run.1]: Error R13 (Attach error) -> Failed to attach to process");
    host.wait_until_clean();
}

#[test]
fn a_killed_supervisor_takes_the_dyno_with_it_and_no_other() {
    let host = Host::new();
    let app = host.plain_app();
    let running = host
        .run(&app, &["echo up; setsid sleep 1000 & exec cat"])
        .open_input()
        .start();
    running.wait_for_output("up\n");
    let supervisor = host.wait_for_supervisor();
    let mut other = host.run(&app, &["-q", "echo up; cat"]).open_input().start();
    other.wait_for_output("up\n");
    supervisor.signal(Signal::KILL);
    running
        .finish()
        .fails_with(125, "`run.1` was lost", "ended")
        .prints("up\n");
    other.write("still here\n");
    other.finish_input().succeeds().prints("up\nstill here\n");
    host.wait_until_clean();
    let (_, dynos) = host.request("GET", "/apps/plain/dynos", &json!(null));
    assert_eq!(dynos, "[]");
    host.run(&app, &["-q", "echo $DYNO"])
        .finish()
        .prints("run.3\n");
}

#[test]
fn a_supervisor_killed_while_there_is_no_server_is_swept_up_by_the_next() {
    let host = Host::new();
    let app = host.plain_app();
    let running = host
        .run(&app, &["-q", "echo up; exec cat"])
        .open_input()
        .start();
    running.wait_for_output("up\n");
    let supervisor = host.wait_for_supervisor();
    host.kill_server();
    supervisor.signal(Signal::KILL);
    running.finish().exits(125);
    eventually("the dyno's processes end with it", || {
        host.processes().is_empty().then_some(())
    });
    host.dyno(&app, &["apps"]).finish().succeeds();
    host.wait_until_clean();
    host.run(&app, &["-q", "echo $DYNO"])
        .finish()
        .prints("run.2\n");
}

#[test]
fn a_dyno_can_be_attached_once() {
    let host = Host::with(&[("DYNO_ATTACH_TIMEOUT", "1")]);
    let app = host.plain_app();
    let running = host.run(&app, &["-q", "echo up; cat"]).open_input().start();
    running.wait_for_output("up\n");
    let (_, dynos) = host.request("GET", "/apps/plain/dynos", &json!(null));
    let dynos: serde_json::Value = serde_json::from_str(&dynos).unwrap();
    let attach = format!(
        "/apps/plain/dynos/{}/attach",
        dynos[0]["id"].as_str().unwrap()
    );
    let (status, _) = host.request("GET", &attach, &json!(null));
    assert_ne!(status, 101, "without an upgrade there is nothing to attach");
    running.finish_input().succeeds();
}
