//! The command line on one host and the server on another: two state folders, and nothing between them but the API over
//! TCP.

use std::ffi::OsStr;
use std::io::Read;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use super::api_tcp::Remote;
use super::git_push::Checkout;
use super::harness::{Host, Running, eventually, lacks};
use super::terminal::{CTRL_D, Terminal};

/// Where the server is, and where commands are typed.
struct Apart {
    there: Host,
    here: Host,
}

impl Apart {
    /// Over TLS, with an app that is deployed there.
    fn new() -> Self {
        Self::by("https")
    }

    fn by(scheme: &str) -> Self {
        let there = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
        there.plain_app();
        let remote = Remote::of(&there);
        let ca = there.state().join("tls/ca.pem");
        let here = Host::with(&[
            (
                "DYNO_HOST",
                &format!("{scheme}://localhost:{}", remote.address.port()),
            ),
            ("DYNO_API_KEY", &remote.token),
            ("DYNO_TLS_CA", ca.to_str().unwrap()),
            ("DYNO_APP", "plain"),
        ]);
        Self { there, here }
    }

    /// A folder to stand in that is nobody's.
    fn folder(&self) -> PathBuf {
        self.here.path().join("home")
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.here.servers().is_empty(), "a server was started here");
        }
    }
}

#[test]
fn a_command_between_pipes_is_as_it_is_on_the_servers_own_host() {
    for scheme in ["https", "http"] {
        let apart = Apart::by(scheme);
        let input: Vec<u8> = (0..500_000u32).flat_map(u32::to_le_bytes).collect();
        let run = apart.here.run(
            &apart.folder(),
            &["--", "sh", "-c", "cat; echo to stderr >&2; exit 3"],
        );
        let (mut stdout, writer) = std::io::pipe().unwrap();
        let running = run.stdin(input_file(&apart, &input)).stdout(writer).start();
        let mut output = Vec::new();
        stdout.read_to_end(&mut output).unwrap();
        let outcome = running.finish();
        outcome.exits(3);
        outcome.mentions("to stderr");
        assert!(output == input, "{} bytes", output.len());
        apart
            .there
            .wait_for_log("heroku[run.1]: Process exited with status 3");
        apart.there.wait_until_clean();
    }
}

#[test]
fn the_order_of_output_and_errors_stays_where_both_go_to_one_file() {
    let apart = Apart::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let script = "for i in $(seq 200); do echo step $i; echo error $i >&2; done; exit 5";
    let running = apart
        .here
        .run(&apart.folder(), &["-q", script])
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .start();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    running.finish().exits(5);
    let in_turn: String = (1..=200)
        .map(|i| format!("step {i}\nerror {i}\n"))
        .collect();
    assert_eq!(text, in_turn);
    apart.there.wait_until_clean();
}

#[test]
fn a_terminals_settings_modes_and_stops_are_as_they_are_on_the_servers_own_host() {
    let apart = Apart::new();
    let folder = apart.folder();
    let program = apart.here.program().display().to_string();
    let modes = r#"printf "\033[?1049h\033[?25l""#;
    let command = format!(
        "stty -a | tr \\; \\\\n | grep erase; {modes}; echo rea\"\"dy; kill -STOP $$; echo go\"\"es on; sleep 1000"
    );
    let script = format!("stty erase '^H'; exec {program} run -q '{command}'");
    let terminal = Terminal::start(&apart.here, &folder, &["sh", "-c", &script]);
    terminal.wait_for_text("goes on");
    terminal.signal(Signal::TERM);
    terminal.exits(143);
    let drawn = String::from_utf8(terminal.bytes()).unwrap();
    assert!(drawn.contains("erase = ^H"), "{drawn:?}");
    assert!(drawn.ends_with("\x1b[?25h\x1b[?1049l"), "{drawn:?}");
    apart.there.wait_until_clean();
}

fn input_file(apart: &Apart, input: &[u8]) -> std::fs::File {
    let path = apart.here.path().join("input");
    std::fs::write(&path, input).unwrap();
    std::fs::File::open(path).unwrap()
}

#[test]
fn a_terminal_is_as_it_is_on_the_servers_own_host() {
    let apart = Apart::new();
    let folder = apart.folder();
    let terminal = Terminal::run(&apart.here, &folder, &["bash"]);
    terminal.wait_for_prompt();
    assert_eq!(
        terminal.screen().trim_end(),
        "Running bash attached to terminal... up, run.1\n~ $"
    );
    terminal.type_keys("tty; stty size\r");
    terminal.wait_for_text("/dev/pts/");
    terminal.wait_for_line("24 80");
    terminal.wait_for_prompt();
    terminal.resize(31, 101);
    eventually("the new size", || {
        terminal.type_keys("clear; stty size\r");
        terminal.wait_for_prompt();
        terminal.screen().contains("31 101").then_some(())
    });
    terminal.type_keys("sh -c 'echo rea''dy; exec sleep 1000'\r");
    terminal.wait_for_line("ready");
    terminal.type_keys("\x03");
    terminal.wait_for_prompt();
    terminal.type_keys("exit 7\r");
    terminal.exits(7);
    terminal.is_restored();
    // The terminal here is raw before anything is shown.
    let terminal = Terminal::run(&apart.here, &folder, &["echo on; exec cat"]);
    terminal.wait_for_line("on");
    terminal.type_keys(CTRL_D);
    terminal.exits(0);
    apart.there.wait_until_clean();
}

#[test]
fn an_output_that_nobody_takes_holds_up_no_other() {
    let apart = Apart::new();
    let script = "head -c 3000000 /dev/zero & echo one >&2; sleep 0.1; echo two >&2; wait";
    let run = apart.here.run(&apart.folder(), &["--", "sh", "-c", script]);
    let (mut stdout, writer) = std::io::pipe().unwrap();
    let running = run.stdout(writer).start();
    // Nobody reads the first output, of which far more comes than is ever on its way.
    running.wait_for_errors("two");
    let mut output = Vec::new();
    stdout.read_to_end(&mut output).unwrap();
    assert_eq!(output.len(), 3_000_000);
    running.finish().exits(0);
}

#[test]
fn a_reader_that_left_is_a_broken_pipe_there() {
    let apart = Apart::new();
    let run = apart.here.run(
        &apart.folder(),
        &["--", "sh", "-c", "yes; echo \"status $?\" >&2"],
    );
    let (mut stdout, writer) = std::io::pipe().unwrap();
    let running = run.stdout(writer).start();
    let mut some = [0; 100];
    stdout.read_exact(&mut some).unwrap();
    drop(stdout);
    let outcome = running.finish();
    // As of a signal, or of a write that failed.
    outcome.holds("the broken pipe", |_| true);
    assert!(
        outcome.errors().contains("status 1"),
        "{}",
        outcome.errors()
    );
}

#[test]
fn a_client_that_leaves_hangs_its_dyno_up() {
    let apart = Apart::new();
    let run = apart
        .here
        .run(&apart.folder(), &["--", "sh", "-c", "echo on; sleep 1000"]);
    let running = run.open_input().start();
    running.wait_for_output("on");
    running.signal(Signal::KILL);
    running.finish().dies_of(Signal::KILL);
    apart
        .there
        .wait_for_log("heroku[run.1]: Process exited with status 129");
    apart.there.wait_until_clean();
}

/// A run that has begun and does not end by itself.
fn sleeper<'a>(apart: &'a Apart, folder: &std::path::Path) -> Running<'a> {
    let run = apart
        .here
        .run(folder, &["--", "sh", "-c", "echo on; sleep 1000"]);
    let running = run.open_input().start();
    running.wait_for_output("on");
    running
}

#[test]
fn a_session_ends_with_the_server_and_says_so() {
    let apart = Apart::new();
    let running = sleeper(&apart, &apart.folder());
    let stop = apart.there.dyno(&apart.there.path(), &["server:stop"]);
    stop.finish().succeeds();
    let outcome = running.finish();
    outcome.exits(129);
    outcome.mentions("error: the server is stopping, and this session ends with it");
    apart
        .there
        .wait_for_log("heroku[run.1]: Process exited with status 129");
}

#[test]
fn a_session_ends_with_its_token_and_says_so() {
    let apart = Apart::new();
    let folder = apart.folder();
    let running = sleeper(&apart, &folder);
    let tail = apart.here.dyno(&folder, &["logs", "--tail"]).start();
    tail.wait_for_output("run.1");
    let list = apart
        .there
        .dyno(&apart.there.path(), &["auth:token", "--list", "--json"]);
    let list: Value = serde_json::from_str(&list.finish().succeeds().text()).unwrap();
    let id = list[0]["id"].as_str().unwrap();
    let revoke = apart
        .there
        .dyno(&apart.there.path(), &["auth:token", "--revoke", id]);
    revoke.finish().succeeds();
    let outcome = running.finish();
    outcome.exits(129);
    outcome.mentions("error: the token of this session was revoked, or has expired");
    tail.finish()
        .fails_with(1, "this token is not good here", "dyno auth:token");
    apart
        .there
        .wait_for_log("heroku[run.1]: Process exited with status 129");
}

#[test]
fn a_session_whose_server_was_killed_says_so_and_its_dyno_is_hung_up() {
    let apart = Apart::new();
    let running = sleeper(&apart, &apart.folder());
    apart.there.kill_server();
    let outcome = running.finish();
    outcome.exits(125);
    outcome.mentions("was lost, and this session with it");
    apart
        .there
        .wait_for_log("heroku[run.1]: Process exited with status 129");
}

#[test]
fn everything_else_works_from_afar() {
    let apart = Apart::new();
    let (here, folder) = (&apart.here, apart.folder());
    let dyno = |args: &[&str]| here.dyno(&folder, args).finish();
    dyno(&["create", "shop"]).succeeds();
    dyno(&["apps"]).succeeds().prints("plain\nshop\n");
    let app = here.folder_of(
        "shop",
        &[
            ("Procfile", "web: sleep 1000\nhello: cat greeting\n"),
            ("greeting", "from afar\n"),
        ],
    );
    let at_app = |args: &[&str]| here.dyno(&app, &[args, &["-a", "shop"]].concat()).finish();
    at_app(&["deploy", "--no-web"]).succeeds();
    here.dyno(&folder, &["run", "-a", "shop", "hello"])
        .finish()
        .succeeds()
        .prints("from afar\n");
    at_app(&["config:set", "COLOUR=red"]).succeeds();
    at_app(&["config:get", "COLOUR"]).succeeds().prints("red\n");
    at_app(&["releases"])
        .succeeds()
        .holds("v3", |text| text.contains("v3"));
    here.dyno(
        &folder,
        &[
            "run:detached",
            "-a",
            "shop",
            "--wait",
            "sh -c 'echo detached; exit 4'",
        ],
    )
    .finish()
    .exits(4);
    // A tail goes on while lines come.
    let tail = here.dyno(&folder, &["logs", "-a", "shop", "-t"]).start();
    tail.wait_for_output("app[run.2]: detached");
    here.dyno(&folder, &["run", "-a", "shop", "true"])
        .finish()
        .succeeds();
    tail.wait_for_output("heroku[run.3]: Process exited with status 0");
    tail.signal(Signal::TERM);
    tail.finish();
    // A second command inside.
    let mut first = here
        .dyno(&folder, &["run", "-a", "shop", "--no-tty", "--", "cat"])
        .open_input()
        .start();
    let ps = eventually("run.4 is up", || {
        let text = dyno(&["ps", "-a", "shop"]).text();
        (text.contains("run.4") && text.contains(": up ")).then_some(text)
    });
    assert!(ps.contains("cat"), "{ps}");
    here.dyno(
        &folder,
        &[
            "run:inside",
            "-a",
            "shop",
            "run.4",
            "--",
            "sh",
            "-c",
            "echo $DYNO; exit 5",
        ],
    )
    .finish()
    .exits(5)
    .prints("run.4\n");
    first.close_input();
    first.finish().succeeds();
    at_app(&["apps:destroy", "-c", "shop"]);
}

#[test]
fn git_pushes_from_afar_with_the_token_of_the_environment() {
    if lacks("git") {
        return;
    }
    let apart = Apart::new();
    let checkout = Checkout::new(&apart.here, "plain");
    checkout.write("Procfile", "worker: sleep 1000\n");
    checkout.commit("The first one");
    let added = apart.here.dyno(&checkout.folder, &["git:remote"]).finish();
    let url = apart.here.env()[OsStr::new("DYNO_HOST")].to_str().unwrap();
    added
        .succeeds()
        .prints(&format!("set git remote dyno to {url}/plain.git\n"));
    checkout.push().succeeds().mentions("Released v3");
    // The token is nowhere but there.
    let config = std::fs::read_to_string(checkout.folder.join(".git/config")).unwrap();
    let token = apart.here.env()[OsStr::new("DYNO_API_KEY")]
        .to_str()
        .unwrap();
    assert!(!config.contains(token), "{config}");
    checkout.commit("Another");
    let without = [("DYNO_API_KEY", ""), ("GIT_TERMINAL_PROMPT", "0")];
    checkout
        .git_with(&["push", "dyno", "main"], &without)
        .fails_with("Authentication failed");
}

#[test]
fn what_is_about_the_servers_host_says_so() {
    let apart = Apart::new();
    let app = apart.here.folder("plain");
    for args in [
        &["start"][..],
        &["link", "-a", "plain"],
        &["unlink"],
        &["doctor"],
        &["settings"],
        &["server"],
        &["server:status"],
        &["server:stop"],
        &["heroku:env"],
    ] {
        let outcome = apart.here.dyno(&app, args).finish();
        assert_ne!(outcome.code(), Some(0));
        outcome.mentions("is about this host, and DYNO_HOST means the server at `localhost:");
    }
    // A folder of this host does not say which app is meant.
    for args in [&["deploy"][..], &["run", "true"], &["logs"]] {
        let outcome = apart.here.dyno(&app, args).env("DYNO_APP", "").finish();
        assert_ne!(outcome.code(), Some(0));
        outcome.mentions("folders are not linked to those of `localhost:");
    }
}

#[test]
fn a_server_that_is_not_there_or_not_to_be_believed_is_told_of() {
    let apart = Apart::new();
    let folder = apart.folder();
    let apps = || apart.here.dyno(&folder, &["apps"]);
    apps().finish().succeeds();
    for (variable, value, said) in [
        ("DYNO_API_KEY", "wrong", "this token is not good here"),
        ("DYNO_API_KEY", "", "wants a token"),
        (
            "DYNO_HOST",
            "https://localhost:1",
            "cannot reach the server at `localhost:1`",
        ),
        (
            "DYNO_HOST",
            "http://192.0.2.1:1",
            "would send the token in the clear",
        ),
        ("DYNO_HOST", "localhost", "begins neither with"),
        ("DYNO_TLS_CA", "/dev/null", "`/dev/null` has no certificate"),
    ] {
        let outcome = apps().env(variable, value).finish();
        assert_eq!(outcome.code(), Some(1), "{variable}={value}");
        outcome.mentions(said);
    }
    // Another host's CA, and none but those of this host.
    let other = Host::new();
    other.plain_app();
    Remote::of(&other);
    let ca = other.state().join("tls/ca.pem");
    for outcome in [
        apps().env("DYNO_TLS_CA", &ca).finish(),
        apart
            .here
            .dyno(&folder, &["apps", "--tls-ca", ca.to_str().unwrap()])
            .finish(),
    ] {
        assert_eq!(outcome.code(), Some(1));
        outcome.mentions("cannot be trusted: its certificate is not valid");
        outcome.mentions("hint: `--tls-ca FILE` or DYNO_TLS_CA names its CA");
    }
    // Over TLS to what does not speak it.
    let (status, body) = apart.there.request("GET", "/server/status", &Value::Null);
    assert_eq!(status, 200);
    let status: Value = serde_json::from_str(&body).unwrap();
    let router = status["router"].as_str().unwrap();
    let outcome = apps()
        .env("DYNO_HOST", format!("https://{router}"))
        .finish();
    outcome.mentions("does not speak TLS");
}
