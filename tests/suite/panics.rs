//! A panic is never a status: each part of the program, made to panic at a named point, says so to the client and in the
//! app's log as a failure of the platform, and everything else goes on. The points exist in debug builds alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::api_tcp::address_of_its_own;
use crate::harness::{DEADLINE, Host, eventually, lacks};

/// Names the point.
const PANIC: &str = "DYNO_TEST_PANIC";

/// Whether the program has such points; a release build has none.
fn has_points() -> bool {
    if !cfg!(debug_assertions) {
        eprintln!("left out: a release build has no points to panic at");
    }
    cfg!(debug_assertions)
}

fn words(point: &str) -> String {
    format!("panic: a test wants it at `{point}`")
}

fn json(host: &Host, target: &str) -> Value {
    let (status, body) = host.request("GET", target, &json!(null));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// The one line of `name`'s that tells of a failure of the platform, in a log that is complete.
#[track_caller]
fn platform_error(host: &Host, name: &str) -> String {
    let start = format!("heroku[{name}]: Error R99 (Platform error) -> ");
    let mut lines = eventually("R99 in the log", || {
        let lines = host.log_lines();
        let found: Vec<_> = lines
            .iter()
            .filter_map(|line| line.strip_prefix(&start).map(str::to_owned))
            .collect();
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

/// A run whose part panics at `point` while its command would sleep.
#[track_caller]
fn a_run_fails(point: &str, in_the_log: &str, command: &str) {
    let host = Host::with(&[(PANIC, point)]);
    let app = host.plain_app();
    let run = host.run(&app, &[command]).finish();
    run.exits(125).mentions(&words(point));
    let said = platform_error(&host, "run.1");
    assert_eq!(said, format!("{in_the_log}{}", words(point)));
    let dyno = eventually("the end of the dyno", || {
        let dyno = json(&host, "/apps/plain/dynos/run.1");
        (!dyno["ended_at"].is_null()).then_some(dyno)
    });
    assert_eq!(dyno["state"], "crashed", "{dyno}");
    let lines = host.log_lines();
    let exited = |line: &&String| line.contains("Process exited with status");
    assert_eq!(lines.iter().find(exited), None);
    host.wait_until_clean();
}

#[test]
fn a_supervisor_that_panics_before_there_is_a_dyno() {
    if has_points() {
        let launch = "Failed to launch the dyno: the supervisor failed: ";
        a_run_fails("supervisor build", launch, "sleep 1000");
    }
}

#[test]
fn a_supervisor_that_panics_when_its_dyno_is_up() {
    if has_points() {
        let lost = "The dyno was lost: the supervisor failed: ";
        a_run_fails("supervisor up", lost, "sleep 1000");
    }
}

#[test]
fn init_that_panics_while_it_sets_the_inside_up() {
    if has_points() {
        let launch = "Failed to launch the dyno: ";
        a_run_fails("init set-up", launch, "sleep 1000");
    }
}

#[test]
fn init_that_panics_when_the_inside_is_ready() {
    if has_points() {
        let launch = "Failed to launch the dyno: PID 1 failed: ";
        a_run_fails("init ready", launch, "sleep 1000");
    }
}

#[test]
fn init_that_panics_when_the_command_runs() {
    if has_points() {
        let lost = "The dyno was lost: PID 1 failed: ";
        a_run_fails("init started", lost, "sleep 1000");
    }
}

#[test]
fn init_that_panics_when_the_command_has_ended() {
    if has_points() {
        let lost = "The dyno was lost: PID 1 failed: ";
        a_run_fails("init reap", lost, "exit 3");
    }
}

#[test]
fn the_process_that_panics_before_it_is_the_command() {
    if has_points() {
        let host = Host::with(&[(PANIC, "init enter")]);
        let app = host.plain_app();
        let run = host.run(&app, &["exit 3"]).finish();
        run.exits(125)
            .mentions("a panic in the process that was to become `");
        platform_error(&host, "run.1");
        host.wait_until_clean();
    }
}

#[test]
fn a_supervisor_that_panics_before_it_has_a_log_is_told_of_by_the_server() {
    if has_points() {
        let point = "supervisor begin";
        let host = Host::with(&[(PANIC, point)]);
        let app = host.plain_app();
        let run = host.run(&app, &["sleep 1000"]).finish();
        run.exits(125).mentions(&words(point));
        let said = platform_error(&host, "run.1");
        assert_eq!(said, format!("Failed to launch the dyno: {}", words(point)));
        host.wait_until_clean();
    }
}

#[test]
fn a_supervisor_that_panics_while_its_dyno_is_being_stopped() {
    if has_points() {
        let point = "supervisor stopping";
        let host = Host::with(&[(PANIC, point)]);
        let app = host.plain_app();
        let job = "trap '' TERM; while :; do sleep 1; done";
        host.dyno(&app, &["run:detached", "-q", job])
            .finish()
            .succeeds();
        host.wait_for_log("heroku[run.1]: State changed from starting to up");
        host.dyno(&app, &["ps:stop", "run.1"]).finish();
        let said = platform_error(&host, "run.1");
        let why = format!("The dyno was lost: the supervisor failed: {}", words(point));
        assert_eq!(said, why);
        host.wait_until_clean();
    }
}

#[test]
fn a_web_dyno_whose_supervisor_panics_has_crashed_and_another_takes_its_place() {
    if has_points() {
        if lacks("python3") {
            return;
        }
        let host = Host::with(&[(PANIC, "supervisor up")]);
        let app = host.folder_as("web", "shop");
        host.dyno(&app, &["deploy"]).finish();
        host.wait_for_log("heroku[web.1]: State changed from up to crashed");
        host.wait_for_log("heroku[web.1]: State changed from crashed to starting");
    }
}

#[test]
fn a_handler_that_panics_is_that_clients_and_the_servers_log_and_the_apps() {
    if has_points() {
        let target = "/apps/plain/config-vars?boom";
        let point = format!("server handler {target}");
        let host = Host::with(&[(PANIC, &point), ("DYNO_IDLE_LINGER", "60")]);
        let app = host.plain_app();
        let job = host.run(&app, &["read line; exit 7"]).open_input().start();
        host.wait_for_log("heroku[run.1]: State changed from starting to up");
        let server = host.server().unwrap().pid;
        let (status, body) = host.request("GET", target, &json!(null));
        assert_eq!(status, 500, "{body}");
        assert!(
            body.contains("R99") && body.contains(&words(&point)),
            "{body}"
        );
        let log = format!(
            "heroku[api]: Error R99 (Platform error) -> The server failed: {}",
            words(&point)
        );
        host.wait_for_log(&log);
        // Nothing else has happened to anybody.
        assert_eq!(host.request("GET", target, &json!(null)).0, 200);
        assert_eq!(host.server().unwrap().pid, server);
        job.finish_input().exits(7);
    }
}

#[test]
fn a_worker_that_panics_fails_one_deploy_and_not_the_next() {
    if has_points() {
        let host = Host::with(&[(PANIC, "server worker"), ("DYNO_IDLE_LINGER", "60")]);
        let app = host.folder("plain");
        let deploy = host.dyno(&app, &["deploy"]).finish();
        deploy.exits(125).mentions(&words("server worker"));
        host.dyno(&app, &["deploy"]).finish().succeeds();
    }
}

#[test]
fn a_server_whose_loop_panics_begins_again_as_the_same_process_and_dynos_go_on() {
    if has_points() {
        let target = "/apps/plain/boom";
        let host = Host::with(&[
            (PANIC, &*format!("server loop {target}")),
            ("DYNO_IDLE_LINGER", "60"),
        ]);
        let app = host.plain_app();
        let job = host.run(&app, &["read line; exit 7"]).open_input().start();
        host.wait_for_log("heroku[run.1]: State changed from starting to up");
        let server = host.server().unwrap().pid;
        let refused = std::panic::catch_unwind(|| host.request("GET", target, &json!(null)));
        assert!(refused.is_err(), "{refused:?}");
        eventually("the server's word", || {
            host.server_log().contains("it begins again").then_some(())
        });
        // A command that comes before it listens starts a server itself, which may be faster.
        eventually("the server to listen", || {
            let socket = host.state().join("api.sock");
            UnixStream::connect(socket).ok().map(drop)
        });
        let ps = host.dyno(&app, &["ps"]).finish();
        ps.succeeds()
            .holds("the dyno", |text| text.contains("run.1"));
        assert_eq!(host.server().unwrap().pid, server);
        job.finish_input().exits(7);
        host.wait_until_clean();
    }
}

#[test]
fn a_router_that_panics_is_replaced_and_visitors_are_served() {
    if has_points() {
        if lacks("python3") {
            return;
        }
        let host = Host::with(&[(PANIC, "router"), ("DYNO_ROUTER", "127.0.0.1:0")]);
        let app = host.folder_as("web", "shop");
        host.dyno(&app, &["deploy"]).finish().succeeds();
        let get = || -> std::io::Result<String> {
            let status = host.dyno(&app, &["server:status", "--json"]).finish();
            let status: Value = serde_json::from_str(&status.succeeds().text())?;
            let address: SocketAddr = status["router"]
                .as_str()
                .unwrap_or_default()
                .parse()
                .map_err(std::io::Error::other)?;
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(DEADLINE))?;
            stream.write_all(b"GET /dyno HTTP/1.0\r\nHost: shop.localhost\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        // The first one meets the panic.
        assert!(!get().is_ok_and(|answer| answer.contains(" 200 ")));
        eventually("an answer", || {
            get()
                .is_ok_and(|answer| answer.contains(" 200 "))
                .then_some(())
        });
        assert!(host.server_log().contains("a test wants it at `router`"));
    }
}

#[test]
fn a_bridge_that_panics_is_replaced_at_its_address() {
    if has_points() {
        let address = address_of_its_own();
        let host = Host::with(&[
            (PANIC, "bridge"),
            ("DYNO_RENDEZVOUS", &address),
            ("DYNO_IDLE_LINGER", "60"),
        ]);
        let app = host.plain_app();
        host.run(&app, &["true"]).finish().succeeds();
        let connect = || TcpStream::connect(&address);
        let mut first = connect().unwrap();
        first.set_read_timeout(Some(DEADLINE)).unwrap();
        // It is closed without a word.
        let _ = first.read(&mut [0]);
        eventually("a bridge", || connect().is_ok().then_some(()));
        assert!(host.server_log().contains("a test wants it at `bridge`"));
    }
}

#[test]
fn a_command_line_that_panics_does_not_leave_with_a_status_that_could_be_a_commands() {
    if has_points() {
        for point in ["command line", "command line pump"] {
            let host = Host::new();
            let app = host.plain_app();
            let run = host.run(&app, &["exit 3"]).env(PANIC, point).finish();
            run.exits(125).mentions("dyno itself has failed: ");
        }
    }
}
