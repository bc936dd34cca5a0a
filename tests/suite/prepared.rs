//! The sandbox that is made ahead for the next dyno of the release that ran last: it is used if it is what would be made now,
//! and leaves nothing.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::{Host, Process, Running, eventually, lacks_walls, parent_of, pids};

fn host() -> Host {
    // The server stays as long as the test.
    Host::with(&[("DYNO_IDLE_LINGER", "60")])
}

/// The first process of the sandbox that was made ahead, once it is ready.
#[track_caller]
fn prepared(host: &Host) -> Process {
    eventually("a sandbox that is made ahead", || {
        let spare = host.spare()?;
        let init = pids().find(|pid| parent_of(*pid) == Some(spare.pid))?;
        let name = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
        (name == "dyno: init\n").then(|| Process::find(init))?
    })
}

/// The folders of sandboxes that were made ahead.
fn folders(host: &Host) -> Vec<PathBuf> {
    let folders = fs::read_dir(host.state().join("prepared"));
    let folders = folders.into_iter().flatten();
    folders.map(|folder| folder.unwrap().path()).collect()
}

/// Starts a dyno that runs until its input is closed.
fn start<'a>(host: &'a Host, app: &Path, options: &[&str]) -> Running<'a> {
    let command = [&["-q"], options, &["--", "echo up; cat"]].concat();
    let running = host.run(app, &command).open_input().start();
    running.wait_for_output("up");
    running
}

/// The host and an app of which a dyno has run.
fn host_with_app() -> (Host, PathBuf) {
    let host = host();
    let app = host.plain_app();
    host.run(&app, &["-q", "true"]).finish().succeeds();
    (host, app)
}

fn runs_in(host: &Host, sandbox: &Process) -> bool {
    host.inits().iter().any(|init| init.pid == sandbox.pid)
}

#[test]
fn the_next_dyno_of_a_release_finds_its_sandbox_ready() {
    if lacks_walls() {
        return;
    }
    let (host, app) = host_with_app();
    for _ in 0..2 {
        let sandbox = prepared(&host);
        let running = start(&host, &app, &[]);
        assert!(runs_in(&host, &sandbox));
        running.finish_input().succeeds();
    }
}

#[test]
fn a_sandbox_that_was_made_for_something_else_is_not_used_and_goes() {
    if lacks_walls() {
        return;
    }
    let (host, app) = host_with_app();
    let sandbox = prepared(&host);
    let running = start(&host, &app, &["-s", "standard-2x"]);
    assert!(!runs_in(&host, &sandbox), "of another size");
    running.finish_input().succeeds();
    sandbox.wait_for_end();

    host.run(&app, &["-q", "true"]).finish().succeeds();
    let sandbox = prepared(&host);
    fs::write(app.join("new"), "of the new release").unwrap();
    host.dyno(&app, &["deploy"]).finish().succeeds();
    let ran = host.run(&app, &["-q", "cat new"]).finish();
    ran.prints("of the new release");
    sandbox.wait_for_end();
    let sandbox = prepared(&host);
    host.dyno(&app, &["apps:destroy", "--confirm", "plain"])
        .finish()
        .succeeds();
    sandbox.wait_for_end();
    eventually("no folder", || folders(&host).is_empty().then_some(()));
}

#[test]
fn nothing_is_left_of_a_sandbox_whoever_is_killed() {
    if lacks_walls() {
        return;
    }
    let (host, app) = host_with_app();
    let sandbox = prepared(&host);
    let before = folders(&host);
    host.spare().unwrap().signal(Signal::KILL);
    sandbox.wait_for_end();
    host.run(&app, &["-q", "echo lives"])
        .finish()
        .prints("lives\n");
    let sandbox = prepared(&host);
    assert!(!before.iter().any(|folder| folder.exists()), "{before:?}");

    // Its own init.
    sandbox.signal(Signal::KILL);
    sandbox.wait_for_end();
    host.run(&app, &["-q", "echo lives"])
        .finish()
        .prints("lives\n");

    let sandbox = prepared(&host);
    host.kill_server();
    sandbox.wait_for_end();
    eventually("no folder", || folders(&host).is_empty().then_some(()));

    host.run(&app, &["-q", "true"]).finish().succeeds();
    let (sandbox, spare) = (prepared(&host), host.spare().unwrap());
    let before = folders(&host);
    host.kill_server();
    spare.signal(Signal::KILL);
    sandbox.wait_for_end();
    host.run(&app, &["-q", "true"]).finish().succeeds();
    assert!(!before.iter().any(|folder| folder.exists()), "{before:?}");
    host.dyno(&app, &["server:stop"]).finish().succeeds();
    eventually("no folder", || folders(&host).is_empty().then_some(()));
}
