//! What all who change something while everything is killed have in common: commands of which it is known whether they
//! were acknowledged, and whether a failure is explained.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Command, Host, Outcome};
use crate::history::History;
use crate::random::Random;

/// See the [module](self).
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub host: &'a Host,
    pub history: &'a History,
    pub stop: &'a AtomicBool,
}

impl<'a> Scene<'a> {
    /// Whether to go on, after a pause of at most so many milliseconds. Not a guess at how long something takes: this is how
    /// often something is done.
    pub fn goes_on(&self, random: &mut Random, most: u64) -> bool {
        thread::sleep(Duration::from_millis(random.below(most)));
        !self.stop.load(Ordering::SeqCst)
    }

    /// Runs a command. None if it has failed, and something was done to the server or to it that explains this.
    pub fn tries(&self, who: &str, command: Command<'a>) -> Option<Outcome<'a>> {
        self.tries_unless(who, command, History::explains)
    }

    /// [`tries`](Self::tries), for a command that brings files to the server.
    pub fn uploads(&self, who: &str, command: Command<'a>) -> Option<Outcome<'a>> {
        self.tries_unless(who, command, History::explains_a_cut_upload)
    }

    fn tries_unless(
        &self,
        who: &str,
        command: Command<'a>,
        explains: impl FnOnce(&History, (Duration, Duration)) -> bool,
    ) -> Option<Outcome<'a>> {
        let began = self.history.elapsed();
        self.history.note(&format!("{who} begins"));
        let outcome = command.finish();
        let time = (began, self.history.elapsed());
        self.history.note(&format!("{who}: {:?}", outcome.code()));
        if outcome.code() == Some(0) {
            return Some(outcome);
        }
        if !explains(self.history, time) {
            outcome.wrong(&format!("{who} was to succeed"));
        }
        None
    }

    /// `dyno ARGUMENTS` in `folder`; see [`tries`](Self::tries).
    pub fn does(&self, folder: &Path, arguments: &[&str]) -> Option<Outcome<'a>> {
        let app = folder.file_name().unwrap().to_string_lossy();
        let who = format!("{app}: {arguments:?}");
        self.tries(&who, self.host.dyno(folder, arguments))
    }

    /// A command that needs a dyno; that may be killed, too.
    pub fn runs(&self, folder: &Path, arguments: &[&str]) -> Option<Outcome<'a>> {
        let explains = |history: &History, time| {
            history.explains(time) || history.explains_a_missing_dyno(time)
        };
        let command = self.host.dyno(folder, arguments);
        self.tries_unless(&format!("{arguments:?}"), command, explains)
    }

    /// An app with these files that was deployed.
    pub fn app(host: &Host, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let app = host.folder_of(name, files);
        host.dyno(&app, &["deploy", "--no-web"]).finish().succeeds();
        app
    }

    /// Fails if an app's releases are not numbered from 1 on, one by one.
    pub fn releases(&self, app: &Path) -> Option<Vec<Value>> {
        let listed = self.does(app, &["releases", "--json", "--num", "1000000"])?;
        let mut releases: Vec<Value> = serde_json::from_str(&listed.text()).unwrap();
        releases.sort_by_key(|release| release["version"].as_u64());
        let numbers: Vec<_> = releases
            .iter()
            .map(|release| release["version"].as_u64().unwrap())
            .collect();
        let expected: Vec<_> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, expected, "releases of {}", app.display());
        Some(releases)
    }
}

/// Ends a command as a user does.
pub const INTERRUPT: Signal = Signal::INT;
