//! A formation outlives whatever is killed around it: it is what was asked for again as soon as there is a server.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::formation::{
    WORKERS, app_of, get, id_of, lines_of, no_name_twice, port_of, states, tells_in_order,
    wait_for_states, wait_for_successor,
};
use crate::harness::{Host, eventually, lacks};
use crate::ps::detached;

const LOST: &str = "Error R99 (Platform error) -> The dyno was lost: its supervisor is gone";

/// Two web dynos and a worker, up.
fn shop(host: &Host) -> PathBuf {
    let app = host.folder("web");
    let procfile = "web: exec python3 web.py\nworker: exec sleep 1000\n";
    crate::harness::write(&app.join("Procfile"), procfile);
    host.dyno(&app, &["deploy"]).finish().succeeds();
    host.dyno(&app, &["ps:scale", "web=2", "worker=1"])
        .finish()
        .succeeds();
    wait_for_states(host, &app, &ALL_UP);
    app
}

const ALL_UP: [&str; 3] = ["web.1 up", "web.2 up", "worker.1 up"];

fn ids(host: &Host, app: &Path) -> [String; 3] {
    ["web.1", "web.2", "worker.1"].map(|name| id_of(host, app, name))
}

#[test]
fn a_formation_goes_on_without_its_server_and_is_known_to_the_next() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = shop(&host);
    let before = ids(&host, &app);
    let ports = ["web.1", "web.2"].map(|name| port_of(&host, &app, name));
    let pids = ports.map(|port| get(port, "/pid"));
    for _ in 0..2 {
        host.kill_server();
        assert_eq!(ports.map(|port| get(port, "/pid")), pids);
        assert_eq!(
            host.dyno(&app, &["ps:scale"]).finish().succeeds().text(),
            "web=2:1X worker=1:1X\n"
        );
        // At once, as far as anybody can tell.
        assert_eq!(states(&host, &app), ALL_UP);
        assert_eq!(ids(&host, &app), before);
    }
    assert_eq!(ports.map(|port| get(port, "/pid")), pids);
    for name in ["web.1", "web.2", "worker.1"] {
        assert_eq!(lines_of(&host, &format!("heroku[{name}]")).len(), 2);
    }
    // The next server is in charge of them.
    no_name_twice(&host, &app, || {
        host.dyno(&app, &["ps:restart", "web.1"])
            .finish()
            .succeeds();
        wait_for_successor(&host, &app, "web.1", &before[0]);
    });
    host.dyno(&app, &["ps:scale", "web=1"]).finish().succeeds();
    wait_for_states(&host, &app, &["web.1 up", "worker.1 up"]);
}

#[test]
fn a_dyno_that_loses_its_supervisor_is_started_again() {
    // Lost twice within a second, it would have to wait.
    let host = Host::with(&[("DYNO_CRASH_SECOND_WAIT", "0")]);
    let app = app_of(&host, "workers", WORKERS);
    host.dyno(&app, &["ps:scale", "worker=1"])
        .finish()
        .succeeds();
    wait_for_states(&host, &app, &["worker.1 up"]);
    let first = id_of(&host, &app, "worker.1");
    // With and without a server that sees it.
    let second = no_name_twice(&host, &app, || {
        host.wait_for_supervisor().signal(Signal::KILL);
        wait_for_successor(&host, &app, "worker.1", &first)
    });
    host.wait_for_log("app[worker.1]: working");
    let supervisor = eventually("its supervisor", || {
        let mut all = host.supervisors();
        all.retain(|it| host.dyno_of(it.pid).as_ref() == Some(&second));
        all.pop()
    });
    host.kill_server();
    supervisor.signal(Signal::KILL);
    supervisor.wait_for_end();
    wait_for_successor(&host, &app, "worker.1", &second);
    let again = [
        LOST,
        "State changed from up to crashed",
        "State changed from crashed to starting",
        "Starting process with command `echo working; exec sleep 1000`",
        "State changed from starting to up",
    ];
    assert_eq!(
        lines_of(&host, "heroku[worker.1]")[2..],
        [again, again].concat()
    );
}

#[test]
fn a_retired_dyno_that_is_lost_has_not_crashed() {
    let host = Host::with(&[("DYNO_STOP_GRACE", "1h")]);
    let procfile = "worker: trap '' TERM; echo ready; while :; do sleep 1000; done\n";
    let app = app_of(&host, "stubborn", procfile);
    host.dyno(&app, &["ps:scale", "worker=1"])
        .finish()
        .succeeds();
    host.wait_for_log("app[worker.1]: ready");
    wait_for_states(&host, &app, &["worker.1 up"]);
    let first = id_of(&host, &app, "worker.1");
    let supervisor = host.wait_for_supervisor();
    no_name_twice(&host, &app, || {
        host.dyno(&app, &["ps:restart"]).finish().succeeds();
        let second = wait_for_successor(&host, &app, "worker.1", &first);
        supervisor.signal(Signal::KILL);
        host.wait_for_log(&format!("heroku[worker.1]: {LOST}"));
        assert_eq!(id_of(&host, &app, "worker.1"), second);
    });
    let lines = lines_of(&host, "heroku[worker.1]");
    assert!(
        !lines.iter().any(|line| line.contains("crashed")),
        "{lines:?}"
    );
    host.dyno(&app, &["server:stop"]).finish().succeeds();
    assert_eq!(states(&host, &app), ["worker.1 up"]);
}

/// Kills all that there is of a host, as the end of power would.
fn kill_everything(host: &Host) {
    let server = host.server().expect("a server");
    let all: Vec<_> = [server]
        .into_iter()
        .chain(host.spare())
        .chain(host.processes())
        .collect();
    for process in &all {
        process.signal(Signal::KILL);
    }
    for process in &all {
        process.wait_for_end();
    }
}

#[test]
fn after_a_reboot_the_next_command_brings_the_formation_back() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = shop(&host);
    detached(&host, &app, &["exec sleep 1002"]);
    let before = ids(&host, &app);
    kill_everything(&host);
    assert!(host.processes().is_empty());
    // Whichever command it is.
    host.dyno(&host.path(), &["apps"]).finish().succeeds();
    wait_for_states(&host, &app, &ALL_UP);
    let after = ids(&host, &app);
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before != after)
    );
    for name in ["web.1", "web.2", "worker.1"] {
        tells_in_order(
            &host,
            &format!("heroku[{name}]"),
            &[
                LOST,
                "State changed from up to crashed",
                "State changed from crashed to starting",
                "State changed from starting to up",
            ],
        );
    }
    // A one-off never runs twice.
    assert_eq!(
        lines_of(&host, "heroku[run.1]")[2..],
        [LOST, "State changed from up to crashed"]
    );
}

#[test]
fn what_was_stopped_with_the_server_comes_back_when_it_is_told_to_and_not_by_a_look() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = shop(&host);
    let stop = || {
        host.dyno(&app, &["server:stop", "--all"])
            .finish()
            .succeeds()
            .mentions(
                "formations stay down until they are told to come back: `dyno ps:restart -a APP`",
            );
        assert!(host.server().is_none() && host.processes().is_empty());
    };
    stop();
    for name in ["web.1", "web.2", "worker.1"] {
        assert_eq!(
            lines_of(&host, &format!("heroku[{name}]"))[2..],
            [
                "State changed from up to down",
                "Stopping all processes with SIGTERM",
                "Process exited with status 143",
            ]
        );
    }
    // A command that only looks has nothing started, by whichever server.
    for look in [
        &["ps"][..],
        &["apps"],
        &["logs"],
        &["apps:info"],
        &["config"],
    ] {
        host.dyno(&app, look).finish().succeeds();
        assert_eq!(states(&host, &app), [""; 0], "{look:?}");
    }
    host.kill_server();
    let told = "`dyno ps:restart -a web` brings it back\n";
    for look in ["ps", "apps:info"] {
        host.dyno(&app, &[look]).finish().succeeds().mentions(told);
    }
    let (first, second) = (["web=2", "worker=1"], ["ps:restart"]);
    for wakes in [&second[..], &[&["ps:scale"][..], &first].concat()] {
        host.dyno(&app, wakes).finish().succeeds();
        wait_for_states(&host, &app, &ALL_UP);
        host.dyno(&app, &["ps"])
            .finish()
            .succeeds()
            .does_not_mention("brings it back");
        stop();
    }
    let _server = host.dyno(&host.path(), &["server"]).start();
    wait_for_states(&host, &app, &ALL_UP);
    stop();
}

#[test]
fn a_destroyed_app_ends_for_good() {
    if lacks("python3") {
        return;
    }
    let host = Host::with(&[
        ("DYNO_IDLE_LINGER", "0.1"),
        ("DYNO_CRASH_SECOND_WAIT", "1h"),
    ]);
    let app = shop(&host);
    host.dyno(&app, &["apps:destroy", "-c", "web"])
        .finish()
        .succeeds();
    host.wait_until_clean();
    host.dyno(&host.path(), &["apps"]).finish().succeeds();
    assert!(host.processes().is_empty());
    // One that waits for another try holds nobody up.
    let crashing = host.folder_of("crashing", &[("Procfile", "web: exit 1\n")]);
    host.dyno(&crashing, &["deploy"]).finish().exits(1);
    let server = host
        .server()
        .expect("a server, since a dyno is to be started");
    host.dyno(&crashing, &["apps:destroy", "-c", "crashing"])
        .finish()
        .succeeds();
    server.wait_for_end();
}

#[test]
fn a_server_stays_as_long_as_a_formation_is_wanted() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "0"), ("DYNO_CRASH_SECOND_WAIT", "2")]);
    let app = app_of(&host, "gone", "worker: exit 1\n");
    host.dyno(&app, &["ps:scale", "worker=1"])
        .finish()
        .succeeds();
    let crashed = "heroku[worker.1]: State changed from up to crashed";
    host.wait_for_log_lines(crashed, 2);
    let server = host.server().unwrap();
    // Nothing lives meanwhile, and nobody asks; it is there all the same to try once more.
    host.wait_for_log_lines(crashed, 3);
    assert_eq!(host.server().unwrap().pid, server.pid);
    host.dyno(&app, &["ps:scale", "worker=0"])
        .finish()
        .succeeds();
    server.wait_for_end();
    host.wait_until_clean();
}
