//! Dynos of a formation that crash, or never come up: when they are tried again, and what is told of it.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::formation::{
    WORKERS, app_of, few_ports, get, lines_of, no_name_twice, port_of, states, tells_in_order,
    wait_for_states,
};
use crate::harness::{Host, eventually, free_port, lacks};
use crate::ps::detached;

#[test]
fn a_crash_is_tried_again_at_once_and_then_later_and_deploy_tells_of_it() {
    let host = Host::with(&[("DYNO_CRASH_SECOND_WAIT", "1h")]);
    let procfile = "web: echo last words; exit 3\n";
    let app = host.folder_of("bad", &[("Procfile", procfile)]);
    host.dyno(&app, &["deploy"])
        .finish()
        .mentions("Launching... failed\n")
        .holds("its last lines", |printed| {
            printed.contains(" app[web.1]: last words\n")
                && printed.contains(" heroku[web.1]: Process exited with status 3\n")
        })
        .fails_with(
            1,
            "v2 of `bad` is released, but 1 dyno crashed: `web.1` (exit 3)",
            "dyno ps -a bad",
        );
    let attempt = [
        "Starting process with command `echo last words; exit 3`",
        "Process exited with status 3",
        "State changed from starting to crashed",
    ];
    let again = "State changed from crashed to starting";
    let twice = [&attempt[..], &[again], &attempt].concat();
    assert_eq!(lines_of(&host, "heroku[web.1]"), twice);
    let is_crashed = || {
        let ps = host.dyno(&app, &["ps"]).finish().succeeds().text();
        let heading = "=== web: `echo last words; exit 3`\nweb.1: crashed ";
        assert!(ps.starts_with(heading), "{ps}");
        assert!(
            ps.contains(": exit 3, 2 times in a row; next try in "),
            "{ps}"
        );
        assert_eq!(states(&host, &app), ["web.1 crashed"]);
    };
    is_crashed();
    // The next server knows how often, and when.
    host.kill_server();
    is_crashed();
    assert_eq!(lines_of(&host, "heroku[web.1]"), twice);
    // A user who asks has it tried at once, and all begins anew; so does a release.
    let all_over_again = |change: &[&str], times: usize| {
        no_name_twice(&host, &app, || {
            host.dyno(&app, change).finish().succeeds();
            let crashed = "heroku[web.1]: State changed from starting to crashed";
            host.wait_for_log_lines(crashed, times);
        });
        let expected = [[again].as_slice(), &attempt].concat().repeat(times);
        assert_eq!(lines_of(&host, "heroku[web.1]"), expected[1..]);
        wait_for_states(&host, &app, &["web.1 crashed"]);
    };
    all_over_again(&["ps:restart", "web.1"], 4);
    all_over_again(&["ps:restart", "web"], 6);
    all_over_again(&["ps:restart"], 8);
    all_over_again(&["config:set", "A=1"], 10);
    // A crashed one can be scaled away.
    host.dyno(&app, &["ps:scale", "web=0"]).finish().succeeds();
    assert_eq!(states(&host, &app), [""; 0]);
    let lines = lines_of(&host, "heroku[web.1]");
    assert_eq!(lines.last().unwrap(), "State changed from crashed to down");
    host.dyno(&app, &["ps:scale", "web=1"]).finish().succeeds();
    host.wait_for_log_lines("heroku[web.1]: State changed from starting to crashed", 12);
}

#[test]
fn any_exit_of_a_formation_dyno_is_a_crash() {
    let host = Host::with(&[("DYNO_CRASH_SECOND_WAIT", "1h")]);
    let app = app_of(&host, "worker", "worker: sleep 0.2\n");
    host.dyno(&app, &["ps:scale", "worker=1"])
        .finish()
        .succeeds();
    host.wait_for_log_lines("heroku[worker.1]: State changed from up to crashed", 2);
    let attempt = [
        "Starting process with command `sleep 0.2`",
        "State changed from starting to up",
        "Process exited with status 0",
        "State changed from up to crashed",
    ];
    let again = "State changed from crashed to starting";
    assert_eq!(
        lines_of(&host, "heroku[worker.1]"),
        [&attempt[..], &[again], &attempt].concat()
    );
}

#[test]
fn what_crashes_at_first_comes_up_in_the_end() {
    if lacks("python3") {
        return;
    }
    let host = Host::with(&[
        ("DYNO_CRASH_SECOND_WAIT", "0.1"),
        ("DYNO_CRASH_THIRD_WAIT", "0.2"),
    ]);
    let app = host.app("crash-first");
    let counter = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = format!("COUNTER_PORT={}", counter.local_addr().unwrap().port());
    let counting = thread::spawn(move || {
        for start in 1..=4 {
            let (mut started, _) = counter.accept().unwrap();
            writeln!(started, "{start}").unwrap();
        }
    });
    host.dyno(&app, &["config:set", &port]).finish().succeeds();
    host.dyno(&app, &["deploy"])
        .finish()
        .succeeds()
        .mentions("Launching... done\n");
    counting.join().unwrap();
    for start in 1..=3 {
        host.wait_for_log(&format!("app[web.1]: start {start}: crashing"));
    }
    host.wait_for_log("app[web.1]: start 4: serving");
    assert_eq!(states(&host, &app), ["web.1 up"]);
    assert_eq!(get(port_of(&host, &app, "web.1"), "/dyno"), "web.1");
}

#[test]
fn what_never_listens_is_r10_whoever_else_does() {
    if lacks("python3") {
        return;
    }
    let (ports, range) = few_ports(3);
    let host = Host::with(&[
        ("DYNO_PORTS", &range),
        ("DYNO_BOOT_TIMEOUT", "2"),
        ("DYNO_CRASH_SECOND_WAIT", "1h"),
    ]);
    let app = host.app("never-binds");
    // A one-off that serves on its own port is no web dyno.
    let name = detached(
        &host,
        &app,
        &["exec python3 -m http.server --bind 127.0.0.1 $PORT"],
    );
    let one_off = port_of(&host, &app, &name);
    eventually("the one-off's server", || {
        TcpStream::connect(("127.0.0.1", one_off)).ok()
    });
    let deploying = host.dyno(&app, &["deploy"]).start();
    host.wait_for_log("app[web.1]: not listening");
    // All other ports are another process's now, that of web.1 among them.
    let others: Vec<_> = ports
        .filter(|port| *port != one_off)
        .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .collect();
    assert_eq!(others.len(), 2);
    host.wait_for_log("heroku[web.1]: State changed from starting to crashed");
    drop(others);
    deploying.finish().fails_with(
        1,
        "1 dyno crashed: `web.1` (did not listen on $PORT in time (R10))",
        "dyno ps",
    );
    let mut lines = lines_of(&host, "heroku[web.1]");
    let why = lines.remove(2);
    assert!(
        why.starts_with("No process of the dyno listens on any TCP port; $PORT is "),
        "{why}"
    );
    assert_eq!(
        lines[..5],
        [
            "Starting process with command `exec python3 never_binds.py`",
            "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within 2 seconds of launch",
            "Stopping process with SIGKILL",
            "Process exited with status 137",
            "State changed from starting to crashed",
        ]
    );
    assert!(!lines.iter().any(|line| line.ends_with("to up")));
    assert_eq!(states(&host, &app), ["run.1 up", "web.1 crashed"]);
}

#[test]
fn r10_says_where_the_dyno_listens_instead() {
    if lacks("python3") {
        return;
    }
    let host = Host::with(&[("DYNO_BOOT_TIMEOUT", "3"), ("DYNO_CRASH_SECOND_WAIT", "1h")]);
    let other = free_port();
    let server = format!("web: exec python3 -m http.server --bind 127.0.0.1 {other}\n");
    let app = host.folder_of("shop", &[("Procfile", &server)]);
    let listens = format!("The dyno listens on `127.0.0.1:{other}`, and not on $PORT, which is ");
    host.dyno(&app, &["deploy"])
        .finish()
        .holds("where it listens", |printed| printed.contains(&listens))
        .fails_with(1, "did not listen on $PORT in time (R10)", "dyno ps");
    let ps = host
        .dyno(&app, &["ps", "--json"])
        .finish()
        .succeeds()
        .text();
    assert!(ps.contains(&listens), "{ps}");
}

#[test]
fn a_start_for_which_the_host_lacks_something_is_tried_again() {
    let (ports, range) = few_ports(2);
    let host = Host::with(&[("DYNO_PORTS", &range)]);
    let app = app_of(&host, "workers", WORKERS);
    let taken: Vec<_> = ports
        .map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap())
        .collect();
    host.dyno(&app, &["ps:scale", "worker=1"])
        .finish()
        .succeeds();
    host.wait_for_log(&format!(
        "heroku[worker.1]: Error R99 (Platform error) -> Failed to launch the dyno: no free port from {} to {}",
        range.split_once('-').unwrap().0,
        range.split_once('-').unwrap().1
    ));
    wait_for_states(&host, &app, &["worker.1 crashed"]);
    drop(taken);
    wait_for_states(&host, &app, &["worker.1 up"]);
    tells_in_order(
        &host,
        "heroku[worker.1]",
        &[
            "State changed from starting to crashed",
            "State changed from crashed to starting",
            "Starting process with command `echo working; exec sleep 1000`",
            "State changed from starting to up",
        ],
    );
}
