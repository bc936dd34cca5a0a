//! What changes the dynos of a formation that run: restarts, age, releases and their release phases.

use std::net::TcpListener;
use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use crate::formation::{
    WORKERS, app_of, few_ports, get, id_of, inside, lines_of, listed, no_name_twice, port_of,
    states, tells_in_order, wait_for_states, wait_for_successor,
};
use crate::harness::{Host, eventually, lacks, write};
use crate::ps::detached;

/// What a dyno that another takes the place of tells.
const REPLACED: [&str; 4] = [
    "Restarting",
    "State changed from up to starting",
    "Stopping all processes with SIGTERM",
    "Process exited with status 143",
];

/// One worker and one clock, up, and a one-off.
fn running(host: &Host) -> std::path::PathBuf {
    let app = app_of(host, "workers", WORKERS);
    host.dyno(&app, &["ps:scale", "worker=2", "clock=1"])
        .finish()
        .succeeds();
    detached(host, &app, &["exec sleep 1002"]);
    wait_for_states(
        host,
        &app,
        &["clock.1 up", "run.1 up", "worker.1 up", "worker.2 up"],
    );
    app
}

#[test]
fn a_restart_replaces_what_is_meant_and_nothing_else() {
    let host = Host::new();
    let app = running(&host);
    let names = ["clock.1", "run.1", "worker.1", "worker.2"];
    let ids = || names.map(|name| id_of(&host, &app, name));
    let all_up = ["clock.1 up", "run.1 up", "worker.1 up", "worker.2 up"];
    for (command, replaced) in [
        (&["ps:restart", "worker.1"][..], &["worker.1"][..]),
        (&["ps:stop", "worker.2"], &["worker.2"]),
        (&["ps:restart", "worker"], &["worker.1", "worker.2"]),
        (&["ps:restart"], &["clock.1", "worker.1", "worker.2"]),
    ] {
        let before = ids();
        no_name_twice(&host, &app, || {
            host.dyno(&app, command)
                .finish()
                .succeeds()
                .mentions("... done\n");
            for name in replaced {
                let at = names.iter().position(|it| it == name).unwrap();
                wait_for_successor(&host, &app, name, &before[at]);
            }
        });
        wait_for_states(&host, &app, &all_up);
        for (name, (before, after)) in names.iter().zip(before.iter().zip(ids())) {
            let kept = *before == after;
            assert_eq!(!kept, replaced.contains(name), "{command:?}: {name}");
        }
    }
    for (name, times) in [("worker.1", 3), ("worker.2", 3), ("clock.1", 1)] {
        let source = format!("heroku[{name}]");
        let exited = format!("{source}: Process exited with status 143");
        host.wait_for_log_lines(&exited, times);
        tells_in_order(&host, &source, &REPLACED.repeat(times));
        // What begins, comes up; what comes up was begun.
        let begins = |line: &String| line.starts_with("Starting process with command");
        let count = lines_of(&host, &source).into_iter().filter(begins).count();
        assert_eq!(count, times + 1);
        host.wait_for_log_lines(
            &format!("{source}: State changed from starting to up"),
            times + 1,
        );
    }
    assert_eq!(
        lines_of(&host, "heroku[run.1]"),
        [
            "Starting process with command `exec sleep 1002`",
            "State changed from starting to up",
        ]
    );
    // Named, a one-off ends by it, and for good.
    host.dyno(&app, &["ps:restart", "run.1"])
        .finish()
        .succeeds()
        .mentions("do not start again");
    wait_for_states(&host, &app, &["clock.1 up", "worker.1 up", "worker.2 up"]);
}

#[test]
fn what_ignores_sigterm_is_killed_while_another_serves_already() {
    if lacks("python3") {
        return;
    }
    let host = Host::with(&[("DYNO_STOP_GRACE", "2")]);
    let app = host.folder("ignores-term");
    host.dyno(&app, &["deploy"]).finish().succeeds();
    let first = id_of(&host, &app, "web.1");
    let port = port_of(&host, &app, "web.1");
    host.dyno(&app, &["ps:restart"]).finish().succeeds();
    host.wait_for_log("app[web.1]: SIGTERM ignored");
    wait_for_successor(&host, &app, "web.1", &first);
    // The two are there at the same time, each on its own port.
    assert_ne!(port_of(&host, &app, "web.1"), port);
    assert_eq!(get(port, "/dyno"), "web.1");
    host.wait_for_log("heroku[web.1]: Process exited with status 137");
    tells_in_order(
        &host,
        "heroku[web.1]",
        &[
            "Restarting",
            "State changed from up to starting",
            "Stopping all processes with SIGTERM",
            "Error R12 (Exit timeout) -> At least one process failed to exit within 2 seconds of SIGTERM",
            "Stopping remaining processes with SIGKILL",
            "Process exited with status 137",
        ],
    );
    // That it was killed is no crash: nothing but the two has ever been started.
    assert_eq!(states(&host, &app), ["web.1 up"]);
    let lines = lines_of(&host, "heroku[web.1]");
    assert!(
        !lines.iter().any(|line| line.contains("crashed")),
        "{lines:?}"
    );
}

#[test]
fn a_dyno_that_is_old_is_cycled_and_a_one_off_stays_gone() {
    let host = Host::with(&[("DYNO_LIFETIME", "2"), ("DYNO_LIFETIME_SPREAD", "0.5")]);
    let app = app_of(&host, "old", WORKERS);
    host.dyno(&app, &["ps:scale", "worker=2"])
        .finish()
        .succeeds();
    detached(&host, &app, &["exec sleep 1002"]);
    no_name_twice(&host, &app, || {
        for name in ["worker.1", "worker.2"] {
            host.wait_for_log_lines(&format!("heroku[{name}]: Cycling"), 2);
            let up = format!("heroku[{name}]: State changed from starting to up");
            host.wait_for_log_lines(&up, 3);
        }
    });
    for name in ["worker.1", "worker.2"] {
        let cycled = [
            "Cycling",
            "State changed from up to starting",
            "Stopping all processes with SIGTERM",
            "Process exited with status 143",
        ];
        tells_in_order(&host, &format!("heroku[{name}]"), &cycled);
    }
    host.wait_for_log("heroku[run.1]: Process exited with status 143");
    let lines = lines_of(&host, "heroku[run.1]");
    assert_eq!(
        lines[2..],
        [
            "Cycling",
            "State changed from up to complete",
            "Stopping all processes with SIGTERM",
            "Process exited with status 143",
        ]
    );
    assert!(!listed(&host, &app).iter().any(|dyno| dyno["type"] == "run"));
}

#[test]
fn every_release_moves_the_formation_and_one_offs_keep_theirs() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = host.folder("web");
    host.dyno(&app, &["deploy"]).finish().succeeds();
    detached(&host, &app, &["exec sleep 1002"]);
    let color = |dyno: &str| inside(&host, &app, dyno, "echo color $COLOR");
    let mut before = id_of(&host, &app, "web.1");
    let mut moved = |command: &[&str], color: &str| {
        no_name_twice(&host, &app, || {
            host.dyno(&app, command).finish().succeeds();
            host.dyno(&app, &["ps:wait"]).finish().succeeds();
        });
        let after = wait_for_successor(&host, &app, "web.1", &before);
        assert_eq!(get(port_of(&host, &app, "web.1"), "/color"), color);
        before = after;
    };
    moved(&["config:set", "COLOR=blue"], "blue");
    moved(&["config:set", "COLOR=red"], "red");
    moved(&["releases:rollback", "v3"], "blue");
    write(&app.join("more"), "of it");
    moved(&["deploy"], "blue");
    assert_eq!(inside(&host, &app, "web.1", "cat ~/more"), "of it");
    assert_eq!(color("run.1"), "color");
    assert_eq!(color("web.1"), "color blue");
    let dynos = listed(&host, &app);
    let version = |name: &str| {
        let dyno = dynos.iter().find(|dyno| dyno["name"] == name).unwrap();
        dyno["release"]["version"].clone()
    };
    assert_eq!((version("run.1"), version("web.1")), (json!(2), json!(6)));
}

/// A shell's words for waiting until a process listens on a port.
fn until_listening(port: u16) -> String {
    format!("bash -c 'until (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.02; done'")
}

const RELEASE: &str = "release: echo releasing $COLOR; test \"$COLOR\" != red\n\
                       worker: exec sleep 1000\n";

/// The status and whether it is current, of each release, the oldest first.
fn releases(host: &Host, app: &Path) -> Vec<(String, bool)> {
    let name = app.file_name().unwrap().to_str().unwrap();
    let (_, body) = host.request("GET", &format!("/apps/{name}/releases"), &json!(null));
    let all: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
    let each = all.iter().map(|release| {
        let status = release["status"].as_str().unwrap().to_owned();
        (status, release["current"] == true)
    });
    each.collect()
}

#[test]
fn a_release_phase_runs_first_and_a_failure_leaves_everything_as_it_was() {
    let host = Host::new();
    let app = host.folder_of("phased", &[("Procfile", RELEASE)]);
    host.dyno(&app, &["create"]).finish().succeeds();
    host.dyno(&app, &["config:set", "COLOR=blue"])
        .finish()
        .succeeds();
    host.dyno(&app, &["deploy"])
        .finish()
        .succeeds()
        .mentions("Running release command...\n")
        .holds("what the command printed", |printed| {
            printed.contains("releasing blue\n")
        });
    assert_eq!(
        lines_of(&host, "heroku[release.1]"),
        [
            "Starting process with command `echo releasing $COLOR; test \"$COLOR\" != red`",
            "State changed from starting to up",
            "Process exited with status 0",
            "State changed from up to complete",
        ]
    );
    host.wait_for_log("app[api]: Running release v3 commands by user dyno@localhost");
    host.dyno(&app, &["ps:scale", "worker=1"])
        .finish()
        .succeeds();
    wait_for_states(&host, &app, &["worker.1 up"]);
    let worker = id_of(&host, &app, "worker.1");

    // It has the new config, and nothing moves before it has ended.
    host.dyno(&app, &["config:set", "COLOR=red"]).finish();
    host.wait_for_log("app[api]: Release v4 command failed by user dyno@localhost");
    host.wait_for_log("app[release.2]: releasing red");
    assert_eq!(
        releases(&host, &app)[2..],
        [("succeeded".into(), true), ("failed".into(), false)]
    );
    let told = host.dyno(&app, &["releases"]).finish().succeeds().text();
    assert!(told.contains("failed"), "{told}");
    host.dyno(&app, &["ps:wait"]).finish().fails_with(
        1,
        "the release command of v4 of `phased` failed",
        "dyno logs -a phased -d release",
    );
    write(
        &app.join("Procfile"),
        "release: echo broken; exit 9\nother: exec sleep 1\n",
    );
    host.dyno(&app, &["deploy"])
        .finish()
        .holds("what the command printed", |printed| {
            printed.contains("broken\n")
        })
        .fails_with(
            1,
            "the release command of v5 of `phased` failed",
            "dyno logs -a phased -d release",
        );
    host.dyno(&app, &["ps:scale"])
        .finish()
        .succeeds()
        .prints("release=0:1X worker=1:1X\n");
    assert_eq!(id_of(&host, &app, "worker.1"), worker);

    // The next change goes on from the slug that was good, with the config that was asked for.
    host.dyno(&app, &["config:set", "SHAPE=round", "COLOR=green"])
        .finish()
        .succeeds();
    wait_for_successor(&host, &app, "worker.1", &worker);
    assert_eq!(
        inside(&host, &app, "worker.1", "echo $COLOR $SHAPE"),
        "green round"
    );
    assert_eq!(
        releases(&host, &app)[3..],
        [
            ("failed".into(), false),
            ("failed".into(), false),
            ("succeeded".into(), true)
        ]
    );
    // Its dynos are one-offs: never in the way, and of no number twice.
    assert_eq!(states(&host, &app), ["worker.1 up"]);
    host.wait_for_log("app[release.4]: releasing green");
}

#[test]
fn a_release_phase_that_takes_too_long_has_failed() {
    let host = Host::with(&[("DYNO_RELEASE_TIMEOUT", "0.5")]);
    let procfile = "release: exec sleep 1000\nworker: exec sleep 1000\n";
    let app = host.folder_of("slow", &[("Procfile", procfile)]);
    host.dyno(&app, &["deploy"])
        .finish()
        .fails_with(1, "the release command of v2", "dyno logs");
    host.wait_for_log("heroku[release.1]: Process exited with status 143");
    assert_eq!(releases(&host, &app)[1], ("failed".into(), false));
}

#[test]
fn release_phases_of_an_app_run_one_after_the_other() {
    let host = Host::new();
    let (ports, _) = few_ports(1);
    let port = *ports.start();
    let procfile = format!(
        "release: echo begin $N; {}; echo end $N\nworker: exec sleep 1000\n",
        until_listening(port)
    );
    let app = host.folder_of("queue", &[("Procfile", &procfile)]);
    let free = TcpListener::bind(("127.0.0.1", port)).unwrap();
    host.dyno(&app, &["deploy"]).finish().succeeds();
    host.dyno(&app, &["ps:scale", "worker=1"])
        .finish()
        .succeeds();
    drop(free);
    let setting: Vec<_> = ["N=1", "N=2"]
        .map(|n| host.dyno(&app, &["config:set", n]).start())
        .into_iter()
        .collect();
    eventually("both releases", || {
        (releases(&host, &app).len() == 4).then_some(())
    });
    eventually("the first one's phase", || {
        let begun = |line: &String| line.contains("]: begin");
        (host.log_lines().iter().filter(|line| begun(line)).count() == 2).then_some(())
    });
    assert_eq!(lines_of(&host, "app[release.3]"), [""; 0]);
    let _free = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for setting in setting {
        setting.finish().succeeds();
    }
    host.dyno(&app, &["ps:wait"]).finish().succeeds();
    let of = |number: u32| {
        let lines = lines_of(&host, &format!("app[release.{number}]"));
        lines.join(", ")
    };
    let (first, second) = (of(2), of(3));
    let both = ["begin 1, end 1".to_owned(), "begin 2, end 2".to_owned()];
    assert!(
        both.contains(&first) && both.contains(&second) && first != second,
        "{first}; {second}"
    );
    let log = host.log_lines();
    let at = |part: &str| log.iter().position(|line| line.contains(part)).unwrap();
    assert!(at("app[release.2]: end") < at("app[release.3]: begin"));
    let last = second.chars().last().unwrap().to_string();
    assert_eq!(inside(&host, &app, "worker.1", "echo $N"), last);
}

#[test]
fn a_deploy_and_its_release_phase_go_on_when_the_server_is_killed() {
    let host = Host::new();
    let (ports, _) = few_ports(1);
    let port = *ports.start();
    let procfile = format!(
        "release: echo begin; {}; echo end\nweb: echo booting; {}; exec python3 -m http.server --bind 127.0.0.1 $PORT\n",
        until_listening(port),
        until_listening(port)
    );
    if lacks("python3") {
        return;
    }
    let app = host.folder_of("killed", &[("Procfile", &procfile)]);
    let deploying = host.dyno(&app, &["deploy"]).start();
    host.wait_for_log("app[release.1]: begin");
    host.kill_server();
    {
        let _listening = TcpListener::bind(("127.0.0.1", port)).unwrap();
        host.wait_for_log("app[release.1]: end");
    }
    host.wait_for_log("app[web.1]: booting");
    let server = eventually("a server", || host.server());
    server.signal(Signal::KILL);
    server.wait_for_end();
    let _listening = TcpListener::bind(("127.0.0.1", port)).unwrap();
    deploying
        .finish()
        .succeeds()
        .mentions("Launching... done\n");
    assert_eq!(states(&host, &app), ["web.1 up"]);
    assert_eq!(
        lines_of(&host, "heroku[web.1]")[1..],
        ["State changed from starting to up"]
    );
    assert_eq!(releases(&host, &app)[1], ("succeeded".into(), true));
}
