//! An app whose formation is scaled, restarted and released anew while everything is killed: no name is ever there twice,
//! and in the end it is what was asked for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Host, eventually};
use crate::history::History;
use crate::random::Random;

const TYPES: [&str; 3] = ["clock", "mailer", "worker"];

/// The app, deployed; nothing of it runs.
pub fn app(host: &Host) -> PathBuf {
    let procfile = "worker: exec sleep 1000\nclock: exec sleep 1001\nmailer: sleep 0.3\n";
    let app = host.folder_of("formed", &[("Procfile", procfile)]);
    host.dyno(&app, &["deploy"]).finish().succeeds();
    app
}

/// Changes it again and again until it is told to stop.
pub fn change(host: &Host, app: &Path, history: &History, mut random: Random, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        // Not a guess at how long something takes: this is how often it changes.
        thread::sleep(Duration::from_millis(random.below(400)));
        let scaled: Vec<_> = TYPES
            .map(|process_type| format!("{process_type}={}", random.below(4)))
            .into();
        let value = format!("N={}", random.below(1000));
        let arguments: Vec<&str> = match random.below(10) {
            0..5 => ["ps:scale"]
                .into_iter()
                .chain(scaled.iter().map(String::as_str))
                .collect(),
            5 => vec!["ps:restart"],
            6 => vec!["ps:restart", "--no-wait", "worker"],
            7 => vec!["config:set", &value],
            _ => vec!["ps", "--json"],
        };
        let began = history.elapsed();
        history.note(&format!("formed: {arguments:?}"));
        let outcome = host.dyno(app, &arguments).finish();
        let time = (began, history.elapsed());
        if outcome.code() != Some(0) {
            // Nothing is there to be restarted, or the server was killed over it.
            let nobody = outcome.errors().contains("has no dyno of type");
            if !nobody && !history.explains(time) {
                outcome.wrong("this was to be done");
            }
        } else if arguments[0] == "ps" {
            names(&serde_json::from_str::<Vec<Value>>(&outcome.text()).unwrap());
        }
    }
}

/// The names of what is listed; each is there once.
fn names(dynos: &[Value]) -> BTreeSet<String> {
    let names: Vec<_> = dynos
        .iter()
        .map(|dyno| dyno["name"].as_str().unwrap().to_owned())
        .collect();
    let set: BTreeSet<_> = names.iter().cloned().collect();
    assert_eq!(set.len(), names.len(), "a name is there twice: {dynos:?}");
    set
}

/// When nobody kills any more, it becomes what is asked for; in the end that is nothing.
pub fn settles(host: &Host, app: &Path) {
    for (scale, wanted) in [
        (
            ["worker=3", "clock=2", "mailer=0"],
            &["clock.1", "clock.2", "worker.1", "worker.2", "worker.3"][..],
        ),
        (["worker=0", "clock=0", "mailer=0"], &[]),
    ] {
        let arguments: Vec<_> = ["ps:scale"].into_iter().chain(scale).collect();
        host.dyno(app, &arguments).finish().succeeds();
        eventually("the formation that was asked for", || {
            let listed = host.dyno(app, &["ps", "--json"]).finish();
            let dynos: Vec<Value> = serde_json::from_str(&listed.succeeds().text()).unwrap();
            let up = dynos.iter().all(|dyno| dyno["state"] == "up");
            let names = names(&dynos);
            (up && names.iter().map(String::as_str).eq(wanted.iter().copied())).then_some(())
        });
    }
}
