//! What the program's processes are called: by `ps` and `top`, and inside of a dyno.

use std::fs;

use crate::harness::{Host, eventually, lacks_walls};

/// The short name and the whole line, as `ps` shows them.
fn called(pid: i32) -> (String, String) {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = String::from_utf8_lossy(&read("cmdline")).into_owned();
    let short = String::from_utf8_lossy(&read("comm")).into_owned();
    let line = line.trim_end_matches('\0').replace('\0', " ");
    (short.trim_end().to_owned(), line)
}

#[track_caller]
fn is_called(pid: i32, short: &str, line: &str) {
    let expected = (short.to_owned(), line.to_owned());
    eventually(&format!("{expected:?} of {pid}: {:?}", called(pid)), || {
        (called(pid) == expected).then_some(())
    });
}

#[test]
fn processes_are_called_what_they_are() {
    let host = Host::new();
    let app = host.folder_of("shop", &[("Procfile", "worker: sleep 1000\n")]);
    host.dyno(&app, &["deploy"]).finish().succeeds();
    host.dyno(&app, &["ps:scale", "worker=1"])
        .finish()
        .succeeds();
    let supervisor = host.wait_for_supervisor();
    is_called(supervisor.pid, "dyno: worker.1", "dyno: worker.1 of shop");
    let server = host.server().unwrap();
    let title = format!("dyno: server {}", host.state().display());
    is_called(server.pid, title[..15].trim_end(), &title);
    let spare = eventually("a supervisor that waits", || host.spare());
    is_called(spare.pid, "dyno: waits for", "dyno: waits for a dyno");
    for init in host.inits() {
        is_called(init.pid, "dyno: init", "dyno: init");
    }
    host.dyno(&app, &["ps:scale", "worker=0"])
        .finish()
        .succeeds();
}

#[test]
fn inside_of_a_dyno_the_first_process_tells_nothing_of_the_host() {
    if lacks_walls() {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let script = "tr '\\0' ' ' </proc/1/cmdline; echo; cat /proc/1/comm";
    host.run(&app, &["-q", script]).finish().succeeds().holds(
        "the name and nothing else",
        |text| {
            let lines: Vec<_> = text.lines().map(str::trim_end).collect();
            lines == ["dyno: init", "dyno: init"]
        },
    );
}
