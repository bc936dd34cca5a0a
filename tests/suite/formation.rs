//! The formation: which dynos start when an app is deployed and scaled, and when they are up.
//! Crashes are in `formation_crashes.rs`, what changes them in `formation_changes.rs`, what kills everything around them in `formation_survival.rs`.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::harness::{AtEnd, DEADLINE, Host, eventually, lacks};
use crate::ps::detached;

/// A type `worker` that runs until it is ended, and a `clock` that does, too.
pub const WORKERS: &str = "worker: echo working; exec sleep 1000\nclock: exec sleep 1001\n";

/// An app with this Procfile, deployed; there is no web dyno to wait for.
pub fn app_of(host: &Host, name: &str, procfile: &str) -> PathBuf {
    let folder = host.folder_of(name, &[("Procfile", procfile)]);
    host.dyno(&folder, &["deploy"]).finish().succeeds();
    folder
}

/// The dynos in the app's list, with their states; the name of an app's folder is the app's.
pub fn listed(host: &Host, app: &Path) -> Vec<Value> {
    let name = app.file_name().unwrap().to_str().unwrap();
    let (status, body) = host.request("GET", &format!("/apps/{name}/dynos"), &json!(null));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// `web.1 up`, in order.
pub fn states(host: &Host, app: &Path) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut states: Vec<_> = listed(host, app)
        .iter()
        .map(|dyno| format!("{} {}", text(&dyno["name"]), text(&dyno["state"])))
        .collect();
    states.sort();
    states
}

/// Waits until the app's list is just this.
#[track_caller]
pub fn wait_for_states(host: &Host, app: &Path, wanted: &[&str]) {
    let mut last = Vec::new();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the states", || {
            last = states(host, app);
            (last == wanted).then_some(())
        });
    }));
    assert!(
        found.is_ok(),
        "{wanted:?} was expected, and it is {last:?}\n{}\n{}",
        host.log_lines().join("\n"),
        host.server_log()
    );
}

/// The id of the dyno that has this name now.
pub fn id_of(host: &Host, app: &Path, name: &str) -> String {
    let all = listed(host, app);
    let dyno = all.iter().find(|dyno| dyno["name"] == name);
    let dyno = dyno.unwrap_or_else(|| panic!("no {name} in {all:?}"));
    dyno["id"].as_str().unwrap().to_owned()
}

/// Waits until another dyno than `before` has this name, and is up.
#[track_caller]
pub fn wait_for_successor(host: &Host, app: &Path, name: &str, before: &str) -> String {
    eventually("another dyno of the name", || {
        let all = listed(host, app);
        let dyno = all.into_iter().find(|dyno| dyno["name"] == name)?;
        let id = dyno["id"].as_str().unwrap().to_owned();
        (dyno["state"] == "up" && id != before).then_some(id)
    })
}

/// What a command prints in the dyno.
pub fn inside(host: &Host, app: &Path, dyno: &str, command: &str) -> String {
    let outcome = host
        .dyno(app, &["run:inside", "-q", dyno, command])
        .finish();
    outcome.succeeds().text().trim_end().to_owned()
}

/// The port that a dyno was given.
pub fn port_of(host: &Host, app: &Path, dyno: &str) -> u16 {
    inside(host, app, dyno, "echo $PORT").parse().unwrap()
}

/// The body of the answer to `GET path` on this port.
pub fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body.trim_end().to_owned()
}

/// What the log has of a source, `heroku[web.1]`, in order.
pub fn lines_of(host: &Host, source: &str) -> Vec<String> {
    let prefix = format!("{source}: ");
    let lines = host.log_lines();
    let lines = lines.iter().filter_map(|line| line.strip_prefix(&prefix));
    lines.map(str::to_owned).collect()
}

/// Fails unless the log of `source` has these lines in this order, whatever is between them: where one dyno takes
/// another's place, the lines of the two are mixed.
#[track_caller]
pub fn tells_in_order(host: &Host, source: &str, wanted: &[&str]) {
    let lines = lines_of(host, source);
    let mut left = lines.iter();
    for wanted in wanted {
        assert!(
            left.any(|line| line == wanted),
            "`{wanted}` is missing, or in the wrong place:\n{}",
            lines.join("\n")
        );
    }
}

/// As many ports, one after the other, that nobody has at this moment, as `DYNO_PORTS` takes them.
pub fn few_ports(count: u16) -> (std::ops::RangeInclusive<u16>, String) {
    eventually("free ports", || {
        let mut random = [0; 2];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).unwrap();
        let first = 10_000 + u16::from_ne_bytes(random) % 9_000;
        let range = first..=first + count - 1;
        let free = range
            .clone()
            .all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
        free.then(|| {
            let text = format!("{}-{}", range.start(), range.end());
            (range, text)
        })
    })
}

/// Looks at the list again and again while `action` runs: no name is ever there twice.
pub fn no_name_twice<T>(host: &Host, app: &Path, action: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::SeqCst) {
                let all = listed(host, app);
                let names: BTreeSet<_> = all.iter().map(|dyno| dyno["name"].as_str()).collect();
                assert_eq!(names.len(), all.len(), "{all:?}");
                looks += 1;
            }
            looks
        });
        let over = AtEnd(|| done.store(true, Ordering::SeqCst));
        let result = action();
        drop(over);
        assert!(watching.join().unwrap() > 0);
        result
    })
}

#[test]
fn a_first_deploy_starts_one_web_dyno_and_returns_when_it_listens() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = host.folder("slow-boot");
    let procfile = "worker: sleep 1000\nweb: DELAY=0.7 exec python3 slow_boot.py\n";
    crate::harness::write(&app.join("Procfile"), procfile);
    host.dyno(&app, &["deploy"])
        .finish()
        .succeeds()
        .prints("")
        .mentions("Launching... done\n");
    assert_eq!(states(&host, &app), ["web.1 up"]);
    let port = port_of(&host, &app, "web.1");
    assert_eq!(get(port, "/dyno"), "web.1");
    assert_eq!(
        lines_of(&host, "heroku[web.1]"),
        [
            "Starting process with command `DELAY=0.7 exec python3 slow_boot.py`",
            "State changed from starting to up",
        ]
    );
    let log = host.log_lines();
    let at = |line: &str| log.iter().position(|it| it == line).unwrap();
    assert!(at("app[web.1]: booting") < at("heroku[web.1]: State changed from starting to up"));
    // As the page has it.
    let ps = host.dyno(&app, &["ps"]).finish().succeeds().text();
    let heading = "=== web: `DELAY=0.7 exec python3 slow_boot.py`\nweb.1: up ";
    assert!(ps.starts_with(heading), "{ps}");
    host.dyno(&app, &["ps:wait"])
        .finish()
        .succeeds()
        .says("Waiting for every dyno to be running v2... done\n");
}

#[test]
fn what_a_command_deploys_on_its_way_starts_nothing_and_the_first_deploy_does() {
    let host = Host::new();
    let procfile = "web: exec sleep 1000\nworker: exec sleep 1000\n";
    let folder = host.folder_of("fresh", &[("Procfile", procfile)]);
    host.run(&folder, &["echo $DYNO"])
        .finish()
        .succeeds()
        .prints("run.1\n");
    assert_eq!(states(&host, &folder), [""; 0]);
    host.dyno(&folder, &["deploy", "--no-web"])
        .finish()
        .succeeds();
    assert_eq!(states(&host, &folder), [""; 0]);
    host.dyno(&folder, &["deploy", "--no-wait"])
        .finish()
        .succeeds()
        .does_not_mention("Launching");
    assert_eq!(states(&host, &folder), ["web.1 starting"]);
    host.wait_for_log("heroku[web.1]: Starting process with command `exec sleep 1000`");
    // Once there was a formation, a deploy changes none of it.
    host.dyno(&folder, &["ps:scale", "web=0"])
        .finish()
        .succeeds();
    host.dyno(&folder, &["deploy"]).finish().succeeds();
    wait_for_states(&host, &folder, &[]);
}

#[test]
fn each_dyno_has_its_own_port_and_files() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = host.app("web");
    host.dyno(&app, &["ps:scale", "web=2"]).finish().succeeds();
    wait_for_states(&host, &app, &["web.1 up", "web.2 up"]);
    let names = ["web.1", "web.2"];
    let ports = names.map(|name| port_of(&host, &app, name));
    assert_ne!(ports[0], ports[1]);
    for (name, port) in names.iter().zip(ports) {
        assert_eq!(get(port, "/dyno"), *name);
        inside(
            &host,
            &app,
            name,
            "touch ~/of-$DYNO ${TMPDIR:-/tmp}/of-$DYNO",
        );
    }
    for name in names {
        let files = inside(
            &host,
            &app,
            name,
            "cd; ls -d of-*; cd ${TMPDIR:-/tmp}; ls -d of-* || true",
        );
        let own = format!("of-{name}");
        assert!(files.split_whitespace().all(|file| file == own), "{files}");
        assert!(files.contains(&own), "{files}");
    }
}

#[test]
fn scaling_starts_the_lowest_numbers_and_ends_the_highest() {
    let host = Host::new();
    let app = app_of(&host, "workers", WORKERS);
    let scale = |words: &[&str]| {
        no_name_twice(&host, &app, || {
            host.dyno(&app, &[&["ps:scale"], words].concat())
                .finish()
                .succeeds();
        });
    };
    scale(&["worker=3", "clock=1"]);
    wait_for_states(
        &host,
        &app,
        &["clock.1 up", "worker.1 up", "worker.2 up", "worker.3 up"],
    );
    let first = id_of(&host, &app, "worker.1");
    scale(&["worker=1"]);
    wait_for_states(&host, &app, &["clock.1 up", "worker.1 up"]);
    assert_eq!(id_of(&host, &app, "worker.1"), first);
    for name in ["worker.2", "worker.3"] {
        host.wait_for_log(&format!("heroku[{name}]: Process exited with status 143"));
        assert_eq!(
            lines_of(&host, &format!("heroku[{name}]")),
            [
                "Starting process with command `echo working; exec sleep 1000`",
                "State changed from starting to up",
                "State changed from up to down",
                "Stopping all processes with SIGTERM",
                "Process exited with status 143",
            ]
        );
    }
    // Another size is another dyno; the other type stays as it is.
    let clock = id_of(&host, &app, "clock.1");
    no_name_twice(&host, &app, || {
        host.dyno(&app, &["ps:type", "worker=standard-2x"])
            .finish()
            .succeeds();
        wait_for_successor(&host, &app, "worker.1", &first);
    });
    let sizes: Vec<_> = listed(&host, &app)
        .iter()
        .map(|dyno| (dyno["name"].clone(), dyno["size"].clone()))
        .collect();
    assert!(sizes.contains(&(json!("worker.1"), json!("Standard-2X"))));
    assert!(sizes.contains(&(json!("clock.1"), json!("1X"))));
    assert_eq!(id_of(&host, &app, "clock.1"), clock);
    // What a release does not have ends; a new type is at none.
    crate::harness::write(
        &app.join("Procfile"),
        "clock: exec sleep 1001\nmailer: exec sleep 1\n",
    );
    host.dyno(&app, &["deploy"]).finish().succeeds();
    wait_for_states(&host, &app, &["clock.1 up"]);
    host.dyno(&app, &["ps:scale"])
        .finish()
        .succeeds()
        .prints("clock=1:1X mailer=0:1X\n");
    tells_in_order(
        &host,
        "heroku[worker.1]",
        &[
            "State changed from up to down",
            "Stopping all processes with SIGTERM",
        ],
    );
}

#[test]
fn a_formation_for_which_there_is_no_room_is_short_until_there_is() {
    let host = Host::with(&[("DYNO_MAX_DYNOS", "3")]);
    let app = app_of(&host, "full", WORKERS);
    for _ in 0..2 {
        detached(&host, &app, &["exec sleep 1000"]);
    }
    host.dyno(&app, &["ps:scale", "worker=4"])
        .finish()
        .fails_with(1, "4 dynos are more than the 3", "`max_dynos`");
    host.dyno(&app, &["ps:scale", "worker=3"])
        .finish()
        .succeeds();
    wait_for_states(&host, &app, &["run.1 up", "run.2 up", "worker.1 up"]);
    host.wait_for_log("app[worker.1]: working");
    // Nobody tries again and again: nothing is written while nothing changes.
    let before = (host.log_lines(), host.server_log());
    let refused = host.run(&app, &["true"]).finish();
    refused.exits(125);
    for _ in 0..20 {
        assert_eq!(states(&host, &app), ["run.1 up", "run.2 up", "worker.1 up"]);
    }
    assert_eq!((host.log_lines(), host.server_log()), before);
    // Nor does anybody wait for ever.
    host.dyno(&app, &["ps:wait"]).finish().fails_with(
        1,
        "v2 of `full` is released, but 2 dynos have not begun: `worker.2`, `worker.3`",
        "`max_dynos`",
    );
    host.dyno(&app, &["ps:stop", "run.2"]).finish().succeeds();
    wait_for_states(&host, &app, &["run.1 up", "worker.1 up", "worker.2 up"]);
    host.dyno(&app, &["ps:restart"]).finish().succeeds();
    host.dyno(&app, &["ps:stop", "run.1"]).finish().succeeds();
    wait_for_states(&host, &app, &["worker.1 up", "worker.2 up", "worker.3 up"]);
}
