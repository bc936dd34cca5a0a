//! Learns from the log which processes run, which have failed, and with which status. Pure.
//!
//! A log cursor stays valid after a server was killed, so no crash is missed and none is seen twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::dyno::DynoState;
use crate::model::log_line::{Line, LogSource, Story};

/// The status of a process that SIGTERM ended, which is no failure if it was asked to end.
const TERMINATED: u8 = 143;

/// The status of a process that SIGKILL ended.
const KILLED: u8 = 137;

/// The exit code for a process that failed without a status.
const NO_STATUS: u8 = 1;

/// Something that has happened to a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Its command is being started.
    Starting,
    /// It is up; a web process listens.
    Up,
    /// It ended although it should run. None: it could not be started.
    Crashed(Option<u8>),
    /// It ended as it should, with this status.
    Ended(u8),
}

/// A process that failed, and its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The process's name.
    pub name: String,
    /// None: it could not be started.
    pub status: Option<u8>,
}

impl Failure {
    /// The exit code for this failure.
    pub fn code(&self) -> u8 {
        self.status.unwrap_or(NO_STATUS)
    }

    /// How it failed, for messages.
    pub fn how(&self) -> String {
        how(self.status)
    }
}

/// How a process ended, for messages.
pub fn how(status: Option<u8>) -> String {
    match status {
        Some(status @ 129..=159) => format!("ended by signal {}", status - 128),
        Some(status) => format!("exited with status {status}"),
        None => "could not be started".to_owned(),
    }
}

/// What the log has said about the processes: see the [module](self).
#[derive(Debug, Default)]
pub struct Watch {
    /// The last status of each process, until the log says whether it was a crash.
    statuses: BTreeMap<String, u8>,
    /// Processes that were told to end, whose statuses are still to come: the log has their next states first.
    retired: BTreeSet<String>,
    /// The processes of `retired` that were up.
    retired_up: BTreeSet<String>,
    /// The processes that are down after a crash, in the order of their crashes.
    down: Vec<Failure>,
    /// Whether all processes are to end.
    stopping: bool,
    /// Whether all processes are being killed.
    killing: bool,
}

impl Watch {
    /// Notes that all processes are to end.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Notes that all processes are being killed, which is no failure then.
    pub fn kill(&mut self) {
        self.killing = true;
    }

    /// The first process that failed: that was down when all were to end, or did not end as asked. Exit status 0 is no failure.
    pub fn failure(&self) -> Option<&Failure> {
        self.down.iter().find(|failure| failure.code() != 0)
    }

    /// Takes a line of the log.
    pub fn see(&mut self, line: &Line<'_>) -> Option<(String, Change)> {
        if line.source != LogSource::Heroku {
            return None;
        }
        let name = str::from_utf8(line.process).ok()?;
        let story = Story::parse(str::from_utf8(line.text).ok()?);
        let change = self.change(name, &story)?;
        Some((name.to_owned(), change))
    }

    fn change(&mut self, name: &str, story: &Story) -> Option<Change> {
        match *story {
            Story::Exited(status) => {
                if self.retired.remove(name) {
                    let was_up = self.retired_up.remove(name);
                    return Some(self.ended(name, status, was_up));
                }
                self.statuses.insert(name.to_owned(), status);
                None
            }
            Story::Starting { .. } => Some(Change::Starting),
            Story::Restarting | Story::Cycling => {
                self.retired.insert(name.to_owned());
                None
            }
            Story::StateChanged { from, to } => self.state_change(name, from, to),
            _ if story.is_platform_error() => {
                // A line about its crash may follow.
                self.statuses.remove(name);
                self.crashed(name, None)
            }
            _ => None,
        }
    }

    fn state_change(&mut self, name: &str, from: DynoState, to: DynoState) -> Option<Change> {
        match (from, to) {
            (DynoState::Crashed, DynoState::Starting) | (_, DynoState::Idle) => None,
            (_, DynoState::Starting) => {
                self.retire(name, from);
                None
            }
            (_, DynoState::Up) => {
                self.down.retain(|failure| failure.name != name);
                Some(Change::Up)
            }
            (_, DynoState::Crashed) => {
                let status = self.statuses.remove(name);
                self.crashed(name, status)
            }
            (_, DynoState::Down | DynoState::Complete) => {
                // A process that had not begun, and a one-off dyno, log their status before.
                let Some(status) = self.statuses.remove(name) else {
                    self.retire(name, from);
                    return None;
                };
                Some(self.ended(name, status, false))
            }
        }
    }

    fn retire(&mut self, name: &str, from: DynoState) {
        self.retired.insert(name.to_owned());
        if from == DynoState::Up {
            self.retired_up.insert(name.to_owned());
        }
    }

    fn ended(&mut self, name: &str, status: u8, was_up: bool) -> Change {
        let asked = matches!(status, 0 | TERMINATED) || self.killing && status == KILLED;
        if self.stopping && was_up && !asked {
            self.fail(name, Some(status));
        }
        Change::Ended(status)
    }

    fn crashed(&mut self, name: &str, status: Option<u8>) -> Option<Change> {
        let known = self.down.iter().any(|failure| failure.name == name);
        if known && status.is_none() {
            return None;
        }
        self.fail(name, status);
        Some(Change::Crashed(status))
    }

    fn fail(&mut self, name: &str, status: Option<u8>) {
        self.down.retain(|failure| failure.name != name);
        self.down.push(Failure {
            name: name.to_owned(),
            status,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(watch: &mut Watch, name: &str, text: &str) -> Option<Change> {
        let line = Line {
            time: b"",
            source: LogSource::Heroku,
            process: name.as_bytes(),
            text: text.as_bytes(),
        };
        watch.see(&line).map(|(_, change)| change)
    }

    fn exits(watch: &mut Watch, name: &str, status: u8, states: &str) -> Option<Change> {
        let text = format!("Process exited with status {status}");
        assert_eq!(see(watch, name, &text), None);
        see(watch, name, &format!("State changed from {states}"))
    }

    #[test]
    fn what_is_down_when_everything_ends_has_failed_and_what_came_back_has_not() {
        let mut watch = Watch::default();
        for (name, status) in [("web.1", 3), ("worker.1", 4), ("clock.1", 0)] {
            let change = exits(&mut watch, name, status, "up to crashed");
            assert_eq!(change, Some(Change::Crashed(Some(status))));
        }
        see(
            &mut watch,
            "web.1",
            "State changed from crashed to starting",
        );
        assert_eq!(
            see(&mut watch, "web.1", "Starting process with command `x`"),
            Some(Change::Starting)
        );
        assert_eq!(
            see(&mut watch, "web.1", "State changed from starting to up"),
            Some(Change::Up)
        );
        watch.stop();
        let failure = watch.failure().unwrap();
        assert_eq!((&*failure.name, failure.code()), ("worker.1", 4));
    }

    fn is_retired(watch: &mut Watch, name: &str, states: &str, status: u8) -> Option<Change> {
        let text = format!("State changed from {states}");
        assert_eq!(see(watch, name, &text), None);
        see(watch, name, "Stopping all processes with SIGTERM");
        see(watch, name, &format!("Process exited with status {status}"))
    }

    #[test]
    fn who_ends_otherwise_than_asked_has_failed() {
        for (status, states, failed) in [
            (0, "up to down", false),
            (143, "up to down", false),
            (3, "up to down", true),
            (137, "up to down", true),
            (3, "starting to down", false),
        ] {
            let mut watch = Watch::default();
            // To be restarted is no end.
            see(&mut watch, "web.1", "Restarting");
            let ended = is_retired(&mut watch, "web.1", "up to starting", 9);
            assert_eq!((ended, watch.failure()), (Some(Change::Ended(9)), None));
            watch.stop();
            let ended = is_retired(&mut watch, "web.1", states, status);
            assert_eq!(ended, Some(Change::Ended(status)));
            assert_eq!(watch.failure().is_some(), failed, "{status} {states}");
        }
        let mut watch = Watch::default();
        watch.stop();
        watch.kill();
        is_retired(&mut watch, "web.1", "up to down", 137);
        assert_eq!(watch.failure(), None);
    }

    #[test]
    fn what_had_not_begun_and_one_offs_tell_their_status_first() {
        let mut watch = Watch::default();
        watch.stop();
        for (name, status, states) in [
            ("web.1", 128, "starting to down"),
            ("run.1", 3, "up to complete"),
        ] {
            let ended = exits(&mut watch, name, status, states);
            assert_eq!(
                (ended, watch.failure()),
                (Some(Change::Ended(status)), None)
            );
        }
        // One that is restarted while it boots says nothing of its state.
        see(&mut watch, "web.1", "Restarting");
        let ended = see(&mut watch, "web.1", "Process exited with status 143");
        assert_eq!(ended, Some(Change::Ended(143)));
    }

    #[test]
    fn what_cannot_be_started_has_failed_once() {
        let mut watch = Watch::default();
        let error = "Error R99 (Platform error) -> Failed to launch the dyno: no";
        assert_eq!(see(&mut watch, "web.1", error), Some(Change::Crashed(None)));
        let crashed = "State changed from starting to crashed";
        assert_eq!(see(&mut watch, "web.1", crashed), None);
        let failure = watch.failure().unwrap();
        assert_eq!(
            (failure.code(), &*failure.how()),
            (1, "could not be started")
        );
    }

    #[test]
    fn nobody_can_tell_of_another_by_printing() {
        let mut watch = Watch::default();
        let line = Line {
            time: b"",
            source: LogSource::App,
            process: b"web.1",
            text: b"State changed from up to crashed",
        };
        assert_eq!(watch.see(&line), None);
        assert_eq!(watch.failure(), None);
    }

    #[test]
    fn a_signal_is_told_as_one() {
        assert_eq!(how(Some(7)), "exited with status 7");
        assert_eq!(how(Some(139)), "ended by signal 11");
    }
}
