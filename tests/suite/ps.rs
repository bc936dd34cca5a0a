//! `dyno ps`, `ps:stop`, `ps:wait`, `ps:restart`: what runs, and how it ends.

use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Host, eventually};
use crate::terminal::Terminal;

/// Starts a detached dyno and returns its name once it is up.
pub fn detached(host: &Host, app: &Path, args: &[&str]) -> String {
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
        .mentions("Restarting dynos on plain... done");
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
    // Without a dyno it waits for the newest release, and of this one nothing is to run.
    host.dyno(&app, &["ps:wait"]).finish().succeeds().prints("");
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
        .fails_with(125, "`run.1` was lost", "exit status is not known");
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

/// What `dyno ps ARGS` prints, with `TIME` for a time that is some seconds ago, and `RAN` for how long it took.
fn listed(host: &Host, app: &Path, args: &[&str]) -> String {
    let outcome = host.dyno(app, &[&["ps"], args].concat()).finish();
    let text = outcome.succeeds().text();
    let lines = text.lines().map(|line| {
        let Some(at) = line.find(" (~ ") else {
            return line.to_owned();
        };
        let start = at - "2013/03/13 15:38:08".len();
        let shape = line[start..at].replace(|c: char| c.is_ascii_digit(), "0");
        assert_eq!(shape, "0000/00/00 00:00:00", "{line}");
        let end = at + line[at..].find(')').unwrap();
        let inside = &line[at + " (~ ".len()..end];
        let (ago, ran) = inside.split_once(", ran ").unwrap_or((inside, ""));
        let seconds = ago.strip_suffix("s ago").expect("some seconds");
        assert!(seconds.parse::<u32>().is_ok(), "{line}");
        let ran = if ran.is_empty() { "" } else { " RAN" };
        format!("{}TIME{ran}{}", &line[..start], &line[end + 1..])
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_list_is_that_of_the_page() {
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(&app, &["ps"])
        .finish()
        .succeeds()
        .prints("No dynos on plain\n");
    let running = host.run(&app, &["bash"]).open_input().start();
    running.wait_for_errors("up, run.1");
    assert_eq!(
        listed(&host, &app, &[]),
        "=== run: one-off processes\nrun.1: up TIME: `bash`"
    );
    detached(&host, &app, &["--type", "scheduler", "sleep 1000"]);
    detached(&host, &app, &["echo  'a  b'\n sleep 1000"]);
    let all = "=== run: one-off processes\n\
               run.1: up TIME: `bash`\n\
               run.2: up TIME: `echo  'a  b'\\n sleep 1000`\n\
               \n\
               === scheduler: one-off processes\n\
               scheduler.1: up TIME: `sleep 1000`";
    assert_eq!(listed(&host, &app, &[]), all);
    assert_eq!(listed(&host, &app, &["run", "scheduler"]), all);
    let (run, scheduler) = all.split_once("\n\n").unwrap();
    assert_eq!(listed(&host, &app, &["run"]), run);
    assert_eq!(listed(&host, &app, &["scheduler.1"]), scheduler);
    for wanted in ["web", "../x"] {
        host.dyno(&app, &["ps", "run", wanted]).finish().fails_with(
            1,
            &format!("`plain` has no dyno of type `{wanted}`"),
            "--all",
        );
    }
    host.dyno(&app, &["ps", "run.9"]).finish().fails_with(
        1,
        "no dyno `run.9` runs on `plain`",
        "--all",
    );
    running.finish_input().succeeds();
    host.dyno(&app, &["ps:stop", "scheduler", "run.2"])
        .finish()
        .succeeds();
    host.dyno(&app, &["ps"])
        .finish()
        .succeeds()
        .prints("No dynos on plain\n");
}

#[test]
fn a_dyno_that_waits_for_its_client_is_starting() {
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(&app, &["apps"]).finish().succeeds();
    let request = json!({ "command": "bash", "attach": true });
    let (status, _) = host.request("POST", "/apps/plain/dynos", &request);
    assert_eq!(status, 201);
    assert_eq!(
        listed(&host, &app, &[]),
        "=== run: one-off processes\nrun.1: starting TIME: `bash`"
    );
    host.dyno(&app, &["ps:stop", "run.1"]).finish().succeeds();
    host.dyno(&app, &["ps:wait", "run.1"]).finish().exits(128);
}

#[test]
fn what_has_ended_is_listed_with_how() {
    let host = Host::new();
    let app = host.plain_app();
    for command in ["true", "exit 3", "kill -9 $$"] {
        let name = detached(&host, &app, &[command]);
        host.dyno(&app, &["ps:wait", &name]).finish();
    }
    detached(&host, &app, &["sleep 1000"]);
    host.dyno(&app, &["ps:stop", "run.4"]).finish().succeeds();
    detached(&host, &app, &["sleep 1001"]);
    host.wait_for_supervisor().signal(Signal::KILL);
    host.dyno(&app, &["ps:wait", "run.5"]).finish().exits(125);
    detached(&host, &app, &["sleep 1002"]);
    assert_eq!(
        listed(&host, &app, &["--all"]),
        "=== run: one-off processes\n\
         run.1: complete TIME RAN: `true`\n\
         run.2: exit 3 TIME RAN: `exit 3`\n\
         run.3: SIGKILL TIME RAN: `kill -9 $$`\n\
         run.4: stopped TIME RAN: `sleep 1000`\n\
         run.5: lost TIME RAN: `sleep 1001`\n\
         run.6: up TIME: `sleep 1002`"
    );
    let json = host.dyno(&app, &["ps", "--all", "--json"]).finish();
    let all: serde_json::Value = serde_json::from_str(&json.succeeds().text()).unwrap();
    let named: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|dyno| (dyno["name"].as_str().unwrap(), &dyno["exit_status"]))
        .collect();
    assert_eq!(named.len(), 6);
    assert_eq!(named[1], ("run.2", &json!(3)));
    let json = host.dyno(&app, &["ps", "--json"]).finish();
    let alive: serde_json::Value = serde_json::from_str(&json.succeeds().text()).unwrap();
    assert_eq!(alive.as_array().unwrap().len(), 1);
    assert_eq!(alive[0]["name"], json!("run.6"));
}

/// The commands of a hundred are too long for one answer; Heroku's own client asks for the rest, too.
#[test]
fn a_long_list_comes_in_parts_and_is_shown_whole() {
    let host = Host::with(&[("DYNO_MAX_ONE_OFFS", "100"), ("DYNO_ATTACH_TIMEOUT", "0.1")]);
    let app = host.plain_app();
    host.dyno(&app, &["apps"]).finish().succeeds();
    let command = format!(": {}", "x".repeat(110 * 1024));
    for _ in 0..45 {
        // Nobody attaches, so it costs no more than its start.
        let request = json!({ "command": command, "attach": true });
        let (status, answer) = host.request("POST", "/apps/plain/dynos", &request);
        assert_eq!(status, 201, "{answer}");
    }
    host.dyno(&app, &["ps:wait", "run.45"]).finish().exits(128);
    let (status, part) = host.request("GET", "/apps/plain/dynos?ended=true", &json!(null));
    let part: serde_json::Value = serde_json::from_str(&part).unwrap();
    let count = part.as_array().unwrap().len();
    assert!(
        status == 206 && (1..45).contains(&count),
        "{status} {count}"
    );
    let all = host.dyno(&app, &["ps", "--all"]).finish();
    let names: Vec<_> = (1..=45).map(|number| format!("run.{number}:")).collect();
    let listed = all.succeeds().text();
    let listed: Vec<_> = listed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("run."))
        .collect();
    assert_eq!(listed, names);
}

#[test]
fn on_a_terminal_a_line_fits_and_on_a_pipe_it_is_whole() {
    let host = Host::new();
    let app = host.plain_app();
    let command = format!("sleep 1000; : \u{1b}[2J\n{}", "x".repeat(300));
    detached(&host, &app, &[&command]);
    let whole = listed(&host, &app, &[]);
    let shown = command.replace('\u{1b}', "\\u{1b}").replace('\n', "\\n");
    assert!(
        whole.ends_with(&format!("run.1: up TIME: `{shown}`")),
        "{whole}"
    );
    let terminal = Terminal::open(&host, &app, &["ps"]);
    terminal.exits(0);
    let screen = terminal.screen();
    let line = screen.lines().find(|line| line.starts_with("run.1: up "));
    let line = line.unwrap_or_else(|| panic!("{screen}"));
    assert!(line.contains("`sleep 1000; : \\u{1b}[2J\\n"), "{line}");
    assert!(
        line.ends_with("x…`") && line.chars().count() == 80,
        "{line}"
    );
}

#[test]
fn times_are_those_of_the_place() {
    let host = Host::new();
    let app = host.plain_app();
    detached(&host, &app, &["sleep 1000"]);
    let hour = |zone: &str| {
        let text = host.dyno(&app, &["ps"]).env("TZ", zone).finish().text();
        let at = text.find(" (~ ").unwrap();
        text[at - 8..at - 6].parse::<u32>().unwrap()
    };
    // Without a database of time zones, too. An hour may pass in between.
    let (utc, ahead) = (hour("UTC0"), hour("XYZ-5"));
    assert!([5, 6].contains(&((ahead + 24 - utc) % 24)), "{utc} {ahead}");
}
