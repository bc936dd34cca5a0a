//! Apps as people begin them: made by the tools of their own world, with a manifest and a lock and nothing installed, pushed with git, and
//! asked over the router.
//!
//! They need package registries, so that `.ci/starters` alone has them run (`DYNO_TEST_STARTERS=all`); a tool that is missing is a failure then.

mod compiled;
mod nodejs;
mod php;
mod python;
mod ruby;
mod services;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::git_push::{Checkout, finish_within};
use crate::harness::{Host, STARTING, eventually, lacks_walls, leave_out, own_router};
use crate::routing::{get, router};

/// What the tests find programs in, and dynos with them.
const SYSTEM: &str = "/usr/local/bin:/usr/bin:/bin";

/// What is downloaded and compiled beside other starters takes its time.
const PATIENCE: Duration = Duration::from_secs(240);

/// Whether starters are not asked for, or cannot be built. The test is over then, and this has said so.
fn left_out(tools: &[&str]) -> bool {
    if std::env::var_os("DYNO_TEST_STARTERS").is_none() {
        leave_out("starters: they need package registries; `.ci/starters` runs them");
        return true;
    }
    for tool in tools {
        let is_there = |folder: &str| Path::new(folder).join(tool).exists();
        assert!(
            SYSTEM.split(':').any(is_there),
            "`{tool}` is in no system folder"
        );
    }
    lacks_walls()
}

/// A host whose router is asked, and whose user has the programs of the system alone.
fn host() -> Host {
    Host::with(&[
        ("DYNO_IDLE_LINGER", "60"),
        ("DYNO_ROUTER", &own_router()),
        ("PATH", SYSTEM),
    ])
}

/// An app `shop` of what these commands of a shell make in its folder, and of these files, committed.
fn begun<'a>(host: &'a Host, files: &[(&str, &str)], made_by: &str) -> Checkout<'a> {
    let checkout = Checkout::of_app(host, "shop");
    checkout.git(&["rm", "-q", "Procfile"]).succeeds();
    let mut commands = Command::new("sh");
    commands.args(["-ec", made_by]).env("PATH", SYSTEM);
    commands.stdout(Stdio::piped()).stderr(Stdio::piped());
    let made = output(commands.current_dir(&checkout.folder));
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{made_by}: {said}");
    for (name, text) in files {
        checkout.write(name, text);
    }
    checkout.commit("Begins");
    checkout
}

/// What a command leaves, where it was told to pipe that.
fn output(command: &mut Command) -> Output {
    let child = {
        let _starting = STARTING.read().unwrap();
        command.spawn().unwrap()
    };
    child.wait_with_output().unwrap()
}

/// Sets a config var of the app.
fn set(checkout: &Checkout, name: &str, value: &str) {
    let pair = format!("{name}={value}");
    checkout
        .host
        .dyno(&checkout.folder, &["config:set", &pair])
        .finish()
        .succeeds();
}

/// What a push says, which succeeds.
fn push(checkout: &Checkout) -> String {
    let push = finish_within(PATIENCE, checkout.start_push(), "push".to_owned());
    push.succeeds().remote()
}

/// Waits until the page at `path` holds `words`; `said` is shown where it never does.
fn shows(host: &Host, path: &str, words: &str, said: &str) {
    let router = router(host);
    eventually(&format!("{words:?} at {path}: {said}"), || {
        let (status, body) = get(router, path);
        (status == 200 && body.contains(words)).then_some(())
    });
}

/// Begins an app, pushes it, and waits until its page at `path` holds `words`. What the push has said.
fn pushed(files: &[(&str, &str)], made_by: &str, path: &str, words: &str) -> String {
    let host = host();
    let remote = push(&begun(&host, files, made_by));
    shows(&host, path, words, &remote);
    remote
}
