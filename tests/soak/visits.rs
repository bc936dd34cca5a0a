//! Those who look at a dyno or at a log while everything is killed: a second command in a dyno is run whole, or fails; a tail
//! has no line twice, and none before another that was written first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::harness::Host;
use crate::log::parse;
use crate::random::Random;
use crate::scene::{INTERRUPT, Scene};

/// An app with a dyno that others come to.
pub fn house(host: &Host) -> PathBuf {
    let app = Scene::app(host, "housed", &[("Procfile", "worker: exec sleep 1002\n")]);
    host.dyno(&app, &["ps:scale", "worker=1"])
        .finish()
        .succeeds();
    app
}

/// Runs commands inside of it until it is told to stop; returns how many were run whole.
pub fn inside(scene: Scene<'_>, app: &Path, mut random: Random) -> usize {
    let mut whole = 0;
    while scene.goes_on(&mut random, 300) {
        let (lines, status) = (1 + random.below(2000), random.below(100));
        let command = format!("seq {lines}; exit {status}");
        let began = scene.history.elapsed();
        let arguments = ["run:inside", "-q", "worker.1", &command];
        scene.history.note(&format!("housed: {arguments:?}"));
        let outcome = scene.host.dyno(app, &arguments).finish();
        let time = (began, scene.history.elapsed());
        scene.history.note(&format!("inside: {:?}", outcome.code()));
        if outcome.code() == Some(status as i32) && outcome.errors().is_empty() {
            let printed: String = (1..=lines).map(|line| format!("{line}\n")).collect();
            if outcome.text() != printed {
                outcome.wrong("it has not printed what it should");
            }
            whole += 1;
        } else if !scene.history.explains(time) && !scene.history.explains_a_missing_dyno(time) {
            outcome.wrong("a command inside was to be run");
        }
    }
    whole
}

/// Reads the app's log as it is written, again and again, until it is told to stop; returns how many lines were read.
pub fn tails(scene: Scene<'_>, app: &Path, mut random: Random) -> usize {
    let mut count = 0;
    while scene.goes_on(&mut random, 300) {
        let began = scene.history.elapsed();
        let tail = scene
            .host
            .dyno(app, &["logs", "--tail", "--num", "50"])
            .start();
        thread::sleep(Duration::from_millis(random.below(4000)));
        tail.signal(INTERRUPT);
        let outcome = tail.finish();
        let time = (began, scene.history.elapsed());
        // Jobs print bytes of all kinds.
        let text = String::from_utf8_lossy(&outcome.stdout);
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut last = BTreeMap::new();
        for line in whole.lines() {
            count += 1;
            // As it is shown, and as it is in the log.
            let Some((_, dyno, printed)) = parse(line) else {
                continue;
            };
            let number = printed
                .strip_prefix("job-")
                .and_then(|rest| rest.split_once("; "));
            let Some(number) = number.and_then(|(_, number)| number.parse::<u64>().ok()) else {
                continue;
            };
            let before = last.insert(dyno.to_owned(), number);
            if before.is_some_and(|before| before >= number) {
                outcome.wrong(&format!("{dyno} has {number} after {before:?}"));
            }
        }
        if outcome.code().is_some_and(|code| code != 130) && !scene.history.explains(time) {
            outcome.wrong("a tail has ended by itself");
        }
    }
    count
}
