//! Where one dyno takes another's place, and the two cannot both have something: a port of their own, a lock. And what counts
//! as launched: a dyno that dies a moment after it was up does not.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::formation::{
    few_ports, id_of, lines_of, states, tells_in_order, wait_for_states, wait_for_successor,
};
use crate::harness::{Host, eventually, lacks, write};
use crate::routing;

/// Listens on `$SHARED` beside `$PORT`, or is not; told to end, it does so a moment after a successor has met it.
const EXCLUSIVE: &str = r#"
import os, signal, sys, threading, time, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

met = threading.Event()

class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/met":
            met.set()
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")
    def log_message(self, *_):
        pass

def leave():
    met.wait(20)
    time.sleep(0.3)
    os._exit(0)

signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=leave).start())
shared = int(os.environ["SHARED"])
try:
    figures = ThreadingHTTPServer(("127.0.0.1", shared), Answer)
except OSError:
    urllib.request.urlopen("http://127.0.0.1:%d/met" % shared)
    sys.exit("the port of the figures is taken")
print("has it", flush=True)
if os.environ["DYNO"].startswith("web"):
    threading.Thread(target=figures.serve_forever, daemon=True).start()
    figures = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer)
figures.serve_forever()
"#;

const MET: &str = "the port of the figures is taken";

/// An app whose only dyno is one of `process_type`, which another cannot live beside; up.
fn exclusive(host: &Host, process_type: &str) -> PathBuf {
    let procfile = format!("{process_type}: exec python3 exclusive.py\n");
    let files = [("Procfile", &*procfile), ("exclusive.py", EXCLUSIVE)];
    let app = host.folder_of("shop", &files);
    let shared = format!("SHARED={}", few_ports(1).0.start());
    host.dyno(&app, &["create"]).finish().succeeds();
    host.dyno(&app, &["config:set", &shared])
        .finish()
        .succeeds();
    host.dyno(&app, &["deploy", "--no-web"]).finish().succeeds();
    let one = format!("{process_type}=1");
    host.dyno(&app, &["ps:scale", &one]).finish().succeeds();
    host.dyno(&app, &["ps:wait"]).finish().succeeds();
    app
}

/// Each way to replace the dyno, until its successor is up. A crash that counted would be waited for an hour.
fn replaced_in_every_way(process_type: &str) {
    if lacks("python3") {
        return;
    }
    let host = Host::with(&[
        ("DYNO_CRASH_SECOND_WAIT", "1h"),
        ("DYNO_CRASH_THIRD_WAIT", "1h"),
    ]);
    let app = exclusive(&host, process_type);
    let name = format!("{process_type}.1");
    let (none, one) = (format!("{process_type}=0"), format!("{process_type}=1"));
    let larger = format!("{process_type}=standard-2x");
    for commands in [
        &[&["ps:restart", &name][..]][..],
        &[&["config:set", "A=1"]],
        &[&["deploy"]],
        &[&["ps:type", &larger]],
        &[&["ps:scale", &none], &["ps:scale", &one]],
    ] {
        let before = id_of(&host, &app, &name);
        for command in commands {
            host.dyno(&app, command).finish().succeeds();
        }
        wait_for_successor(&host, &app, &name, &before);
        host.dyno(&app, &["ps:wait"])
            .finish()
            .succeeds()
            .mentions("... done\n");
    }
    // It was met, and a server that is killed meanwhile changes nothing.
    let met = || {
        let lines = lines_of(&host, &format!("app[{name}]"));
        lines.iter().filter(|line| *line == MET).count()
    };
    let (before, times) = (id_of(&host, &app, &name), met());
    assert!(times >= 4, "{times}");
    host.dyno(&app, &["ps:restart"]).finish().succeeds();
    eventually("it meets its predecessor", || (met() > times).then_some(()));
    host.kill_server();
    wait_for_successor(&host, &app, &name, &before);
    tells_in_order(
        &host,
        &format!("heroku[{name}]"),
        &[
            "Process exited with status 1",
            "State changed from starting to crashed",
            "State changed from crashed to starting",
            "State changed from starting to up",
        ],
    );
}

#[test]
fn a_web_dyno_that_cannot_live_beside_its_predecessor_is_there_when_that_has_ended() {
    replaced_in_every_way("web");
}

#[test]
fn a_worker_that_cannot_live_beside_its_predecessor_is_there_when_that_has_ended() {
    if lacks("python3") {
        return;
    }
    // It is up before it looks for its port.
    let host = Host::with(&[("DYNO_CRASH_SECOND_WAIT", "1h")]);
    let app = exclusive(&host, "worker");
    for change in [
        &["ps:restart", "worker"][..],
        &["deploy"],
        &["config:set", "A=1"],
    ] {
        let count = |text: &str| {
            let lines = lines_of(&host, "app[worker.1]");
            lines.iter().filter(|line| *line == text).count()
        };
        eventually("it has the port", || (count("has it") > 0).then_some(()));
        let (had, met) = (count("has it"), count(MET));
        host.dyno(&app, change).finish().succeeds();
        eventually("the successor has the port", || {
            (count("has it") > had).then_some(())
        });
        assert!(count(MET) > met, "{change:?}");
        wait_for_states(&host, &app, &["worker.1 up"]);
    }
}

#[test]
fn visitors_wait_for_a_dyno_that_waits_for_its_predecessor() {
    if lacks("python3") {
        return;
    }
    let host = Host::with(&[("DYNO_CRASH_SECOND_WAIT", "1h")]);
    let app = exclusive(&host, "web");
    let router = routing::router(&host);
    assert_eq!(routing::get(router, "/"), (200, "ok\n".to_owned()));
    let before = id_of(&host, &app, "web.1");
    host.dyno(&app, &["ps:restart"]).finish().succeeds();
    host.wait_for_log(&format!("app[web.1]: {MET}"));
    assert_eq!(routing::get(router, "/"), (200, "ok\n".to_owned()));
    wait_for_successor(&host, &app, "web.1", &before);
}

/// An app with this command as its worker, of which there is one; released, and not waited for.
fn worker(host: &Host, command: &str) -> PathBuf {
    let app = host.folder_of("shop", &[("Procfile", &format!("worker: {command}\n"))]);
    host.dyno(&app, &["deploy"]).finish().succeeds();
    host.dyno(&app, &["ps:scale", "worker=1"])
        .finish()
        .succeeds();
    app
}

#[test]
fn what_dies_a_moment_after_it_was_up_is_not_launched() {
    if lacks("python3") {
        return;
    }
    let host = Host::with(&[
        ("DYNO_SETTLE_TIME", "10m"),
        ("DYNO_CRASH_SECOND_WAIT", "1h"),
    ]);
    let app = worker(&host, "pyhton3 worker.py");
    let fails = |app: &Path, command: &str, reason: &str| {
        host.dyno(app, &[command])
            .finish()
            .mentions("... failed\n")
            .holds("the reason", |printed| printed.contains(reason))
            .fails_with(1, "is released, but 1 dyno crashed: `", "dyno ps -a ");
    };
    fails(&app, "ps:wait", "pyhton3: ");
    fails(&app, "deploy", "pyhton3: ");
    // As servers do that bind their port and then load the application.
    let binds = "import os, socket, sys, time\n\
                 s = socket.create_server(('', int(os.environ['PORT'])))\n\
                 time.sleep(1)\n\
                 sys.exit('no module named shop')\n";
    let files = [
        ("Procfile", "web: exec python3 binds.py\n"),
        ("binds.py", binds),
    ];
    let web = host.folder_of("bound", &files);
    fails(&web, "deploy", "no module named shop");
    fails(&web, "ps:wait", "no module named shop");
}

#[test]
fn a_launch_takes_the_settle_time_and_what_has_settled_no_time() {
    let host = Host::with(&[("DYNO_SETTLE_TIME", "1.5")]);
    let app = worker(&host, "exec sleep 1000");
    let began = Instant::now();
    host.dyno(&app, &["deploy"])
        .finish()
        .succeeds()
        .mentions("Launching... done\n");
    assert!(began.elapsed() >= Duration::from_millis(1500));
    // As long as it runs, nothing is waited for twice: at the latest when this machine is quiet for a moment.
    eventually("an answer at once", || {
        let began = Instant::now();
        host.dyno(&app, &["ps:wait"]).finish().succeeds();
        (began.elapsed() < Duration::from_millis(1500)).then_some(())
    });
}

#[test]
fn a_failed_launch_shows_what_the_new_dyno_said_and_not_the_old_ones_farewell() {
    let host = Host::with(&[
        ("DYNO_SETTLE_TIME", "10m"),
        ("DYNO_CRASH_SECOND_WAIT", "1h"),
    ]);
    let farewell = "trap 'for n in $(seq 60); do echo farewell $n; done; exit 0' TERM; \
                    echo ready; while :; do sleep 1000 & wait $!; done";
    let app = worker(&host, farewell);
    host.wait_for_log("app[worker.1]: ready");
    // The reason comes first, and then a long trace.
    let failing = "worker: echo reason; for n in $(seq 100); do echo trace $n; done; exit 3\n";
    write(&app.join("Procfile"), failing);
    host.dyno(&app, &["deploy"])
        .finish()
        .mentions("Launching... failed\n")
        .mentions(" lines more: `dyno logs -a shop -d worker.1 ")
        .holds("its words alone", |printed| {
            printed.contains(" app[worker.1]: reason\n")
                && printed.contains(" app[worker.1]: trace 100\n")
                && printed.contains(" heroku[worker.1]: Process exited with status 3\n")
                && !printed.contains("farewell")
                && !printed.contains("trace 50\n")
        })
        .fails_with(1, "1 dyno crashed: `worker.1` (exit 3)", "dyno ps -a shop");
    // How often, and when next.
    let story = "worker.1: crashed ";
    for command in [&["ps"][..], &["apps:info"]] {
        host.dyno(&app, command)
            .finish()
            .succeeds()
            .holds("the story", |printed| {
                printed.contains(story.trim_end()) || printed.contains("worker.1 crashed")
            })
            .holds("how often", |printed| {
                printed.contains(": exit 3, 2 times in a row; next try in ")
            });
    }
    host.dyno(&app, &["ps"])
        .finish()
        .succeeds()
        .mentions("`dyno ps:restart -a shop` tries at once");
    let json = host
        .dyno(&app, &["ps", "--json"])
        .finish()
        .succeeds()
        .text();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["crash"]["count"], 2, "{json}");
    assert!(json[0]["crash"]["next_try_at"].is_string(), "{json}");
    assert_eq!(states(&host, &app), ["worker.1 crashed"]);
}
