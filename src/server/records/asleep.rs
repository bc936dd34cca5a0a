//! The apps whose formations are not looked after: `server:stop --all` has ended their dynos, and a command that only looks
//! is no wish to have them back. What changes an app's formation or restarts it wakes that app; a server that a person
//! or a service manager starts wakes all. One that a service manager starts again by itself, right after the one that was told
//! to stop, does not: no user has asked for that.
//!
//! Kept in a file of the state folder, an app's id on each line, so that every server knows. None as a rule.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::error::tell;

/// How a line of the file begins, beside the apps' ids: in the boot that it names, the next server of a service manager is
/// not one that a user asked for. After a reboot it is.
const RESTARTED: &str = "restarted in ";

/// How soon a service manager starts a server again. Later than that, a user does.
const RESTARTS_WITHIN: Duration = Duration::from_secs(60);

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Asleep {
    file: PathBuf,
    apps: BTreeSet<String>,
    /// Until when a service manager's server is one that it starts again by itself.
    restarted_by: Option<SystemTime>,
}

impl Asleep {
    /// Those that the file names; none if there is none.
    pub fn read(file: PathBuf) -> Self {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mut apps: BTreeSet<_> = text.lines().map(str::to_owned).collect();
        let written = fs::metadata(&file).and_then(|file| file.modified()).ok();
        let mark = apps
            .iter()
            .find(|line| line.starts_with(RESTARTED))
            .cloned();
        let is_restarted = mark.as_ref() == Some(&restarted());
        apps.retain(|line| Some(line) != mark.as_ref());
        Self {
            restarted_by: written
                .filter(|_| is_restarted)
                .map(|at| at + RESTARTS_WITHIN),
            file,
            apps,
        }
    }

    /// How many are not looked after.
    pub fn count(&self) -> usize {
        self.apps.len()
    }

    /// The server leaves, and its service manager is about to start it again.
    pub fn await_restart(&mut self, now: SystemTime) {
        self.restarted_by = Some(now + RESTARTS_WITHIN);
        if !self.apps.is_empty() {
            self.write();
        }
    }

    /// Notes that a user, or `by_manager` a service manager, has started this server.
    pub fn begin(&mut self, by_manager: bool, now: SystemTime) {
        match self.restarted_by.take() {
            Some(until) if by_manager && now <= until => self.write(),
            _ => self.wake_all(),
        }
    }

    /// Whether an app's formation is not looked after.
    pub fn has(&self, app_id: &str) -> bool {
        self.apps.contains(app_id)
    }

    /// These are not looked after any more.
    pub fn send(&mut self, apps: impl Iterator<Item = String>) {
        self.apps.extend(apps);
        self.write();
    }

    /// This one is looked after from now on.
    pub fn wake(&mut self, app_id: &str) {
        if self.apps.remove(app_id) {
            self.write();
        }
    }

    /// All are looked after from now on.
    fn wake_all(&mut self) {
        if !std::mem::take(&mut self.apps).is_empty() {
            self.write();
        }
    }

    /// What cannot be written is looked after by the next server, as after a crash.
    fn write(&self) {
        let written = match self.apps.is_empty() {
            true => fs::remove_file(&self.file),
            false => {
                let mark = self.restarted_by.map(|_| restarted());
                let ids = self.apps.iter().cloned();
                let lines: Vec<_> = ids.chain(mark).map(|line| format!("{line}\n")).collect();
                fs::write(&self.file, lines.concat())
            }
        };
        if let Err(error) = written
            && error.kind() != ErrorKind::NotFound
        {
            tell!("cannot write `{}`: {error}", self.file.display());
        }
    }
}

/// The line for this boot of the host.
fn restarted() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("{RESTARTED}{}", boot.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_knows_who_sleeps_until_somebody_wakes_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("asleep");
        let read = || Asleep::read(file.clone());
        assert!(!read().has("a"));
        let mut asleep = read();
        asleep.send(["a", "b"].map(str::to_owned).into_iter());
        assert!(read().has("a") && read().has("b"));
        asleep.wake("a");
        asleep.wake("nobody");
        assert!(!read().has("a") && read().has("b"));
        read().begin(false, SystemTime::now());
        assert!(!read().has("b") && !file.exists());
    }

    #[test]
    fn a_service_manager_that_starts_a_stopped_server_again_wakes_nobody_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("asleep");
        let read = || Asleep::read(file.clone());
        let now = SystemTime::now();
        let stop = || {
            let mut asleep = read();
            asleep.send(["a".to_owned()].into_iter());
            asleep.await_restart(now);
        };
        stop();
        read().begin(true, now);
        assert_eq!(read().count(), 1);
        // A restart that was asked for.
        read().begin(true, now);
        assert_eq!(read().count(), 0);
        // A reboot, however soon.
        stop();
        let before = fs::read_to_string(&file).unwrap();
        fs::write(&file, before.replace(&restarted(), "restarted in another")).unwrap();
        read().begin(true, now);
        assert_eq!(read().count(), 0);
        // A user, or a service that did not start it again by itself.
        for (by_manager, later) in [(false, 0), (true, 100)] {
            stop();
            read().begin(by_manager, now + Duration::from_secs(later));
            assert_eq!(read().count(), 0);
        }
    }
}
