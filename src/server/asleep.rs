//! The apps whose formations are not looked after: `server:stop --all` has ended their dynos, and a command that only looks
//! is no wish to have them back. What changes an app's formation or restarts it wakes that app; a server that a person
//! or a service manager starts wakes all.
//!
//! Kept in a file of the state folder, an app's id on each line, so that every server knows. None as a rule.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::error::tell;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Asleep {
    file: PathBuf,
    apps: BTreeSet<String>,
}

impl Asleep {
    /// Those that the file names; none if there is none.
    pub fn read(file: PathBuf) -> Self {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let apps = text.lines().map(str::to_owned).collect();
        Self { file, apps }
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
    pub fn wake_all(&mut self) {
        if !std::mem::take(&mut self.apps).is_empty() {
            self.write();
        }
    }

    /// What cannot be written is looked after by the next server, as after a crash.
    fn write(&self) {
        let written = match self.apps.is_empty() {
            true => fs::remove_file(&self.file),
            false => {
                let lines: String = self.apps.iter().map(|id| format!("{id}\n")).collect();
                fs::write(&self.file, lines)
            }
        };
        if let Err(error) = written {
            tell!("cannot write `{}`: {error}", self.file.display());
        }
    }
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
        read().wake_all();
        assert!(!read().has("b") && !file.exists());
    }
}
