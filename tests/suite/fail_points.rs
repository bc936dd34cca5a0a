//! The named places at which tests have the program killed: there is none that is never reached, and what is killed or fails
//! at some of them is taken up as it should be. The soak has all of them happen at random.

use std::collections::BTreeSet;
use std::fs;

use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::Value;

use crate::git_push::Checkout;
use crate::harness::fail_points::{Fault, POINTS};
use crate::harness::{FailPoints, Host, eventually, root};
use crate::layers::sources;
use crate::upgrade::build;

/// The names that follow `call` in the program, and how often each is there.
fn named(call: &str) -> Vec<String> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut names = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let mut pieces = text.split(call);
        pieces.next();
        names.extend(pieces.map(|rest| rest.split('"').next().unwrap().to_owned()));
    }
    names.sort();
    names
}

#[test]
fn every_point_of_the_list_is_one_place_of_the_program_and_the_other_way_round() {
    let can_fail = |wanted: Fault| -> Vec<String> {
        let points = POINTS.iter().filter(|(_, fault)| *fault == wanted);
        let mut names: Vec<_> = points.map(|(name, _)| (*name).to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(named("fail_point::reach(\""), can_fail(Fault::Killed));
    assert_eq!(
        named("fail_point::attempt(\""),
        can_fail(Fault::KilledOrFails)
    );
}

/// A host with an app that has a worker, and its fail points.
fn host() -> Option<(Host, FailPoints)> {
    if !FailPoints::are_there() {
        return None;
    }
    let mut host = Host::with(&[("DYNO_IDLE_LINGER", "60"), ("DYNO_LOG_LIMIT", "1")]);
    let points = host.with_fail_points();
    Some((host, points))
}

#[test]
fn every_point_is_reached() {
    let Some((host, points)) = host() else { return };
    let app = host.plain_app();
    // The second one has a sandbox that was made ahead.
    for _ in 0..2 {
        host.run(&app, &["echo a"]).finish().succeeds();
        eventually("one that waits", || host.spare());
    }
    let lines = "seq -f '%0100.0f' 20000";
    host.dyno(&app, &["run:detached", "--wait", lines])
        .finish()
        .succeeds();
    let checkout = Checkout::of_app(&host, "pushed");
    checkout.push().succeeds();
    host.dyno(&checkout.folder, &["ps:scale", "worker=1"])
        .finish()
        .succeeds();
    host.dyno(&checkout.folder, &["ps:restart"])
        .finish()
        .succeeds();
    let supervisor = host.wait_for_supervisor();
    let has_groups = !host.control_groups().is_empty();
    supervisor.signal(Signal::KILL);
    host.wait_for_log(
        "heroku[worker.1]: Error R99 (Platform error) -> The dyno was lost: its supervisor is gone",
    );
    host.set_program(&build(&host, 100));
    host.dyno(&app, &["apps"]).finish().succeeds();
    host.dyno(&checkout.folder, &["ps:scale", "worker=0"])
        .finish()
        .succeeds();
    host.wait_until_clean();
    let mut unseen = points.unseen();
    if host.in_folders() {
        // No sandbox is made ahead there.
        unseen.remove("supervisor.moved");
    }
    if !has_groups {
        unseen.remove("supervisor.group_made");
    }
    assert_eq!(unseen, BTreeSet::new());
    assert!(points.hits().is_empty());
}

fn config(host: &Host, app: &std::path::Path) -> Value {
    let config = host.dyno(app, &["config", "--json"]).finish();
    serde_json::from_str(&config.succeeds().text()).unwrap()
}

#[test]
fn a_change_is_kept_from_its_commit_on() {
    let Some((host, points)) = host() else { return };
    let app = host.plain_app();
    for (point, kept) in [("store.committing", false), ("store.committed", true)] {
        points.arm(point, None);
        let set = format!("{}=1", &point[6..]);
        host.dyno(&app, &["config:set", &set]).finish();
        assert!(!points.is_armed(point));
        assert_eq!(config(&host, &app).get(&point[6..]).is_some(), kept);
    }
}

#[test]
fn a_commit_that_fails_is_an_error_and_changes_nothing() {
    let Some((host, points)) = host() else { return };
    let app = host.plain_app();
    let before = config(&host, &app);
    for (errno, code, words) in [
        (Errno::NOSPC, 1, "no room to write the state"),
        (
            Errno::IO,
            125,
            "the state cannot be used: Input/output error",
        ),
    ] {
        points.arm("store.committing", Some(errno));
        let set = host.dyno(&app, &["config:set", "A=1"]).finish();
        set.exits(code).mentions(words);
        assert_eq!(config(&host, &app), before);
    }
    host.dyno(&app, &["config:set", "A=1"]).finish().succeeds();
}

#[test]
fn a_dyno_that_cannot_be_started_has_its_whole_story_in_the_log() {
    let Some((host, points)) = host() else { return };
    let app = host.plain_app();
    points.arm("dyno.folder_made", Some(Errno::NOSPC));
    let run = host.run(&app, &["true"]).finish();
    run.exits(125)
        .mentions("cannot start `run.1`: No space left on device");
    let lines = host.log_lines();
    assert_eq!(
        lines[lines.len() - 2..],
        [
            "heroku[run.1]: Error R99 (Platform error) -> Failed to launch the dyno: No space left on device (os error 28)",
            "heroku[run.1]: State changed from starting to crashed",
        ],
        "{lines:?}"
    );
    host.wait_until_clean();
}

#[test]
fn a_server_that_cannot_look_what_is_left_of_a_dyno_looks_again() {
    let Some((host, points)) = host() else { return };
    let app = host.plain_app();
    host.dyno(&app, &["run:detached", "sleep 1000"])
        .finish()
        .succeeds();
    host.wait_for_log("heroku[run.1]: State changed from starting to up");
    points.arm("dyno.settling", Some(Errno::MFILE));
    host.wait_for_supervisor().signal(Signal::KILL);
    host.wait_for_log("heroku[run.1]: State changed from up to crashed");
    assert!(!points.is_armed("dyno.settling"));
    host.wait_until_clean();
    let lost =
        "heroku[run.1]: Error R99 (Platform error) -> The dyno was lost: its supervisor is gone";
    let lines = host.log_lines();
    assert_eq!(lines.iter().filter(|line| *line == lost).count(), 1);
}

#[test]
fn pid_1_can_be_killed_at_a_point() {
    let Some((host, points)) = host() else { return };
    let app = host.plain_app();
    points.arm("init.reaped", None);
    // The first process of a namespace cannot kill itself, and breaks down.
    let status = if host.in_folders() { 137 } else { 125 };
    host.run(&app, &["exit 3"]).finish().exits(status);
    let hits = points.hits();
    assert_eq!(hits.len(), 1);
    assert_eq!(hits[0].whom.len(), 36, "{hits:?}");
    host.wait_until_clean();
}
