//! `dyno logs`: what is shown of a log, on a terminal and into a pipe, and a tail that nothing throws off.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{DEADLINE, Host, Outcome, eventually};
use crate::terminal::Terminal;

/// What is behind the prefix of each line.
fn texts(outcome: &Outcome<'_>) -> Vec<String> {
    outcome.text().lines().map(text).collect()
}

fn text(line: &str) -> String {
    let (_, text) = line
        .split_once("]: ")
        .unwrap_or_else(|| panic!("no line of a log: {line:?}"));
    text.to_owned()
}

#[test]
fn a_line_that_is_too_long_is_cut_before_a_character() {
    let host = Host::new();
    let app = host.plain_app();
    // Three bytes each, of which ten thousand are no multiple.
    let command = "printf '\\342\\202\\254%.0s' $(seq 5000); echo; printf '\\342\\202\\254%.0s' $(seq 7000) >&2";
    host.dyno(&app, &["run:detached", "--wait", command])
        .finish()
        .succeeds();
    let outcome = logs(&host, &app, &["-d", "run.1", "-s", "app", "-n", "100"]);
    let text = String::from_utf8(outcome.stdout.clone()).unwrap();
    assert_eq!(text.matches('€').count(), 12_000);
    let longest = texts(&outcome).iter().map(String::len).max();
    assert_eq!(longest, Some(9_999));
    let json = logs(
        &host,
        &app,
        &["-d", "run.1", "-s", "app", "-n", "100", "--json"],
    )
    .text();
    assert_eq!(
        (json.matches('€').count(), json.matches('\u{fffd}').count()),
        (12_000, 0)
    );
}

fn logs<'a>(host: &'a Host, app: &Path, args: &[&str]) -> Outcome<'a> {
    let outcome = host.dyno(app, &[&["logs"], args].concat()).finish();
    outcome.succeeds();
    outcome
}

/// Runs `command` in a detached dyno to its end.
fn detached(host: &Host, app: &Path, command: &str) {
    let name = start(host, app, command);
    host.wait_for_log(&format!(
        "heroku[{name}]: State changed from up to complete"
    ));
}

/// Starts `command` in a detached dyno, and returns its name.
fn start(host: &Host, app: &Path, command: &str) -> String {
    let started = host.dyno(app, &["run:detached", "-q", command]).finish();
    started.succeeds().text().trim().to_owned()
}

/// What the log has for the numbers that a flood prints, and for nothing else: each once, in their order.
fn numbers(outcome: &Outcome<'_>) -> Vec<u64> {
    let texts = texts(outcome);
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

#[test]
fn a_detached_dyno_is_in_it_and_of_an_attached_one_only_start_and_end() {
    let host = Host::new();
    let app = host.plain_app();
    host.run(&app, &["-q", "echo for me alone"])
        .finish()
        .prints("for me alone\n");
    detached(&host, &app, "echo for everybody");
    let all = logs(&host, &app, &[]).text();
    assert!(all.contains(" app[run.2]: for everybody\n"), "{all}");
    assert!(!all.contains("app[run.1]"), "{all}");
    let first = logs(&host, &app, &["-p", "run.1"]);
    assert_eq!(
        texts(&first),
        [
            "Awaiting client",
            "Starting process with command `echo for me alone`",
            "State changed from starting to up",
            "Process exited with status 0",
            "State changed from up to complete",
        ]
    );
}

#[test]
fn filters_pick_by_dyno_type_source_number_and_time() {
    let host = Host::new();
    let app = host.plain_app();
    for word in ["one", "two"] {
        detached(&host, &app, &format!("echo {word}"));
    }
    let pick = |args: &[&str]| texts(&logs(&host, &app, args));
    for (args, expected) in [
        (&["-s", "app", "-p", "run"][..], &["one", "two"][..]),
        (&["--source", "app", "--ps", "run"], &["one", "two"]),
        (&["-s", "app", "-d", "run.1"], &["one"]),
        (&["-s", "app", "--dyno", "run.2"], &["two"]),
        (&["-s", "app", "-p", "run", "-n", "1"], &["two"]),
        (
            &["-s", "app", "-p", "run", "--since", "1h"],
            &["one", "two"],
        ),
        (
            &["-s", "app", "-p", "run", "--since", "2026-01-01"],
            &["one", "two"],
        ),
        (&["--since", "2100-01-01T00:00:00Z"], &[]),
        (&["-n", "0"], &[]),
        (
            &["-s", "heroku", "-p", "run.2", "-n", "1"],
            &["State changed from up to complete"],
        ),
    ] {
        assert_eq!(pick(args), expected, "{args:?}");
    }
    let api = pick(&["-p", "api"]);
    assert!(api.iter().all(|text| text.contains(" by user ")), "{api:?}");
    assert_eq!(
        api.first().map(String::as_str),
        Some("Initial release by user dyno@localhost")
    );
    assert_eq!(pick(&["-n", "3"]).len(), 3);
}

#[test]
fn a_hundred_lines_are_usual_and_what_is_asked_has_bounds() {
    let host = Host::new();
    let app = host.plain_app();
    detached(&host, &app, "seq 300");
    let usual = logs(&host, &app, &[]);
    assert_eq!(texts(&usual).len(), 100);
    assert_eq!(numbers(&usual), (203..=300).collect::<Vec<_>>());
    let since = logs(&host, &app, &["--since", "1h"]);
    assert_eq!(numbers(&since), (1..=300).collect::<Vec<_>>());

    let wrong = |args: &[&str], error: &str| {
        let outcome = host.dyno(&app, &[&["logs"], args].concat()).finish();
        outcome.exits(2).mentions(error);
    };
    wrong(&["-n", "-1"], "unexpected argument");
    wrong(&["-p", "web", "-d", "web.1"], "cannot be used with");
    wrong(&["-s", "nginx"], "[possible values: app, heroku]");
    host.dyno(&app, &["logs", "--since", "soon"])
        .finish()
        .fails_with(1, "`--since soon` is not valid", "`10m`");
    host.dyno(&app, &["logs", "-a", "nowhere"])
        .finish()
        .fails_with(1, "no app named `nowhere`", "`dyno apps`");
    // The server has the same bounds, for other clients.
    let (status, body) = host.request("GET", "/apps/plain/logs?lines=4294967296", &Value::Null);
    assert!(
        status == 422 && body.contains("from 0 to 4294967295"),
        "{body}"
    );
}

#[test]
fn json_has_an_object_for_each_line() {
    let host = Host::new();
    let app = host.plain_app();
    detached(
        &host,
        &app,
        r#"printf 'a "quoted" \033[1m\377 tab\there\n'"#,
    );
    let outcome = logs(&host, &app, &["--json", "-p", "run", "-s", "app"]);
    let line: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(line["source"], json!("app"));
    assert_eq!(line["dyno"], json!("run.1"));
    assert_eq!(
        line["text"],
        json!("a \"quoted\" \u{1b}[1m\u{fffd} tab\there")
    );
    let at = line["at"].as_str().unwrap();
    assert!(at.len() == 32 && at.ends_with("+00:00"), "{at}");
}

#[test]
fn into_a_pipe_every_byte_is_as_it_was() {
    let host = Host::new();
    let app = host.plain_app();
    detached(
        &host,
        &app,
        r"printf '\033[31mred\033[0m \377\001\r middle\n'",
    );
    let outcome = logs(&host, &app, &["-p", "run", "-s", "app"]);
    assert!(
        outcome
            .stdout
            .ends_with(b" app[run.1]: \x1b[31mred\x1b[0m \xff\x01\r middle\n")
    );
}

#[test]
fn a_terminal_has_colours_and_obeys_nothing_that_an_app_says() {
    let mut host = Host::new();
    let app = host.plain_app();
    detached(&host, &app, r"printf '\033[2J\033[31mred \377\n'");
    let show = |host: &Host| {
        let terminal = Terminal::open(host, &app, &["logs", "-p", "run.1", "-n", "3"]);
        terminal.exits(0);
        terminal.wait_for_text(r"\x1b[2J\x1b[31mred \xff");
        (
            terminal.screen(),
            String::from_utf8(terminal.bytes()).unwrap(),
        )
    };
    let (screen, bytes) = show(&host);
    assert!(
        screen.contains("State changed from up to complete"),
        "{screen}"
    );
    // The prefix in the colour of `run`, the text plain, the state's word in a colour of its own.
    assert!(bytes.contains("\x1b[33m2"), "{bytes:?}");
    assert!(
        bytes.contains("heroku[run.1]:\x1b[0m State changed from \x1b[92mup\x1b[0m to"),
        "{bytes:?}"
    );
    assert!(bytes.contains("app[run.1]:\x1b[0m \\x1b[2J"), "{bytes:?}");
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        host.set("NO_COLOR", "");
        host.set("TERM", "xterm");
        host.set(name, value);
        let (screen, bytes) = show(&host);
        assert!(screen.contains("app[run.1]: \\x1b[2J"), "{screen}");
        assert!(!bytes.contains('\x1b'), "{bytes:?}");
    }
}

/// Prints numbers, and waits in between for the reader.
fn flood(from: u64, to: u64) -> String {
    format!("for n in $(seq {from} 1000 {to}); do seq $n $((n + 999)); sleep 0.01; done; echo over")
}

#[test]
fn a_tail_sees_every_line_once_though_the_server_is_killed() {
    let host = Host::new();
    let app = host.plain_app();
    detached(&host, &app, "echo begin");
    let last = "heroku[run.1]: State changed from up to complete";
    host.wait_for_log(last);
    let tail = host
        .dyno(&app, &["logs", "-t", "-n", "1", "-p", "run"])
        .start();
    // It has begun when it shows what was there; with nothing to show, what is written meanwhile might be before it.
    tail.wait_for_output(last);
    start(&host, &app, &flood(1, 60_000));
    tail.wait_for_output("]: 10000\n");
    host.kill_server();
    // Another client needs one, too.
    host.dyno(&app, &["apps"]).finish().succeeds();
    tail.wait_for_output("]: 30000\n");
    host.kill_server();
    // Nobody does; the tail starts one itself.
    tail.wait_for_output("]: over\n");
    assert!(host.server().is_some());
    tail.signal(Signal::INT);
    let outcome = tail.finish();
    outcome.exits(130).mentions("the server is gone");
    assert!(numbers(&outcome) == (1..=60_000).collect::<Vec<_>>());
}

#[test]
fn a_tail_waits_for_a_server_that_cannot_start_yet() {
    let host = Host::new();
    let app = host.plain_app();
    let tail = host.dyno(&app, &["logs", "-t"]).start();
    tail.wait_for_output("Release v2 created");
    let config = host.state().join("config.toml");
    std::fs::write(&config, "no sense").unwrap();
    host.kill_server();
    eventually("a start in vain", || {
        host.server_log().contains("config.toml").then_some(())
    });
    std::fs::remove_file(config).unwrap();
    detached(&host, &app, "echo at last");
    tail.wait_for_output("at last\n");
    tail.signal(Signal::INT);
    tail.finish().exits(130);
}

#[test]
fn a_tail_does_not_keep_its_server_from_leaving_and_goes_on_with_the_next() {
    let host = Host::new();
    let app = host.plain_app();
    let tail = host.dyno(&app, &["logs", "-t"]).start();
    tail.wait_for_output("Release v2 created");
    let server = host.server().unwrap();
    server.signal(Signal::TERM);
    server.wait_for_end();
    detached(&host, &app, "echo from the next");
    tail.wait_for_output("from the next\n");
    tail.signal(Signal::INT);
    let outcome = tail.finish();
    outcome.exits(130);
    let mut lines = texts(&outcome);
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), outcome.text().lines().count(), "a line twice");
}

#[test]
fn a_server_stays_while_somebody_reads() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "0")]);
    let app = host.plain_app();
    let tail = host.dyno(&app, &["logs", "-t"]).start();
    tail.wait_for_output("Release v2 created");
    let server = host.server().unwrap();
    // Without the tail it would leave after a tenth of a second.
    assert!(!server.ended_by(Instant::now() + Duration::from_millis(500)));
    tail.signal(Signal::INT);
    tail.finish().exits(130).says("");
    server.wait_for_end();
}

#[test]
fn a_tail_ends_with_its_app() {
    let host = Host::new();
    let app = host.plain_app();
    let tail = host.dyno(&app, &["logs", "-t"]).start();
    tail.wait_for_output("Release v2 created");
    host.dyno(&app, &["apps:destroy", "--confirm", "plain"])
        .finish()
        .succeeds();
    tail.finish()
        .fails_with(1, "the app `plain` was destroyed", "`dyno apps`");
}

#[test]
fn an_app_of_the_same_name_is_another() {
    let host = Host::new();
    let app = host.plain_app();
    let tail = host.dyno(&app, &["logs", "-t", "-a", "plain"]).start();
    tail.wait_for_output("Release v2 created");
    tail.signal(Signal::STOP);
    host.dyno(&app, &["apps:destroy", "--confirm", "plain"])
        .finish()
        .succeeds();
    host.dyno(&app, &["create", "plain"]).finish().succeeds();
    tail.signal(Signal::CONT);
    let outcome = tail.finish();
    outcome.fails_with(1, "the app `plain` was destroyed", "`dyno apps`");
    let releases = texts(&outcome)
        .iter()
        .filter(|text| text.starts_with("Initial"))
        .count();
    assert_eq!(releases, 1);
}

#[test]
fn a_reader_that_leaves_ends_it_quietly_even_if_there_is_nothing_to_say() {
    let host = Host::new();
    let app = host.plain_app();
    let (reader, writer) = std::io::pipe().unwrap();
    let tail = host.dyno(&app, &["logs", "-t"]).stdout(writer).start();
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("Initial release"), "{line}");
    drop(reader);
    tail.finish().succeeds().says("");

    detached(&host, &app, "seq 100000");
    let (reader, writer) = std::io::pipe().unwrap();
    let all = host
        .dyno(&app, &["logs", "-n", "100000"])
        .stdout(writer)
        .start();
    BufReader::new(reader).read_line(&mut line).unwrap();
    all.finish().succeeds().says("");
}

/// Reads the numbers and the notices of a tail, which ends with `over`. Between two numbers that do not follow each other
/// there must be a notice.
fn gaps_are_told(reader: impl Read) -> (u64, usize) {
    let (mut last, mut notices, mut told) = (0, 0, false);
    for line in BufReader::new(reader).lines() {
        let line = line.unwrap();
        let text = text(&line);
        if let Ok(number) = text.parse::<u64>() {
            let follows = number == last + 1;
            assert!(
                follows || told && number > last,
                "{number} after {last} without a notice"
            );
            (last, told) = (number, false);
        } else if line.contains("heroku[logplex]: L11 (Tail buffer overflow) -> ") {
            notices += 1;
            told = true;
        } else if text == "over" {
            return (last, notices);
        }
    }
    panic!("the tail has ended after {last}");
}

#[test]
fn a_tail_follows_a_log_that_is_dropped_behind_it() {
    // Sixteen segments of 64 KiB.
    let host = Host::with(&[("DYNO_LOG_LIMIT", "1")]);
    let app = host.plain_app();
    detached(&host, &app, "echo begin");
    let (mut reader, writer) = std::io::pipe().unwrap();
    let tail = host
        .dyno(&app, &["logs", "-t", "-n", "1", "-p", "run"])
        .stdout(writer)
        .start();
    let mut first = [0; 1];
    reader.read_exact(&mut first).unwrap();
    start(&host, &app, &flood(1, 60_000));
    let (last, _) = gaps_are_told(first.chain(&reader));
    assert_eq!(last, 60_000);
    drop(reader);
    tail.finish().succeeds();
}

#[test]
fn a_reader_that_stands_still_is_told_what_it_missed() {
    let host = Host::with(&[("DYNO_LOG_LIMIT", "1")]);
    let app = host.plain_app();
    detached(&host, &app, "echo begin");
    let (mut reader, writer) = std::io::pipe().unwrap();
    let tail = host
        .dyno(&app, &["logs", "-t", "-n", "3", "-p", "run"])
        .stdout(writer)
        .start();
    let mut first = [0; 1];
    reader.read_exact(&mut first).unwrap();
    // Far more than pipe, socket and log hold together.
    let name = start(&host, &app, "seq 100000; echo over");
    host.wait_for_log(&format!(
        "heroku[{name}]: State changed from up to complete"
    ));
    let (last, notices) = gaps_are_told(first.chain(&reader));
    assert_eq!(last, 100_000);
    // It may have been left behind before it stood still, too.
    assert!(notices > 0);
    drop(reader);
    tail.finish().succeeds();
}

/// A request for a log, whose answer is never read.
fn open(host: &Host) -> UnixStream {
    let mut socket = UnixStream::connect(host.state().join("api.sock")).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(
        socket,
        "GET /apps/plain/logs?tail=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    .unwrap();
    socket
}

/// The status of an answer that has come.
fn status(socket: &UnixStream) -> u16 {
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn how_many_may_read_is_bounded() {
    let host = Host::new();
    let app = host.plain_app();
    let mut readers = Vec::new();
    // Fewer, where a process may have few files open.
    while readers.len() <= 200 {
        let socket = open(&host);
        if status(&socket) != 200 {
            break;
        }
        readers.push(socket);
    }
    assert!((10..=200).contains(&readers.len()), "{}", readers.len());
    let error = format!("{} read logs of this server already", readers.len());
    host.dyno(&app, &["logs"])
        .finish()
        .fails_with(1, &error, "end one of them");
    drop(readers);
    eventually("a place", || {
        let outcome = host.dyno(&app, &["logs"]).finish();
        outcome.errors().is_empty().then_some(())
    });
}

#[test]
fn a_dyno_is_read_to_its_end_and_not_longer() {
    let host = Host::new();
    let app = host.plain_app();
    let name = start(&host, &app, "echo first; sleep 0.3; echo last; exit 3");
    start(&host, &app, "sleep 1000");
    let (status, body) = host.request(
        "GET",
        &format!("/apps/plain/logs?dyno={name}&until_ended=1"),
        &Value::Null,
    );
    assert_eq!(status, 200, "{body}");
    let lines: Vec<_> = body
        .lines()
        .filter(|line| line.contains("]: "))
        .map(text)
        .collect();
    assert_eq!(
        lines,
        [
            "Starting process with command `echo first; sleep 0.3; echo last; exit 3`",
            "State changed from starting to up",
            "first",
            "last",
            "Process exited with status 3",
            "State changed from up to complete",
        ]
    );
}
