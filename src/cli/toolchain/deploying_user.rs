//! The user whose toolchains a deploy records: search path, home folder, and where Python looks for packages.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The user whose toolchains are searched.
#[derive(Debug, Clone)]
pub struct DeployingUser {
    /// The search path.
    pub(super) path: OsString,
    /// The home folder; empty if it is not known.
    pub(super) home: PathBuf,
    /// Where `pip install --user` puts packages; None if Python is not to look there.
    pub(super) python: Option<PathBuf>,
}

impl DeployingUser {
    /// The user of this process, with its environment.
    pub fn of_process() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = variable("HOME").map_or_else(home_of_user, PathBuf::from);
        let base = variable("PYTHONUSERBASE").map(PathBuf::from);
        let python = base.unwrap_or_else(|| home.join(".local"));
        Self {
            path: variable("PATH").unwrap_or_default(),
            home,
            python: variable("PYTHONNOUSERSITE").is_none().then_some(python),
        }
    }

    /// The user without the folders that git puts at the front of the search path for its hooks.
    pub fn without(mut self, of_git: &Path) -> Self {
        let others: Vec<_> = std::env::split_paths(&self.path)
            .filter(|entry| entry != of_git)
            .collect();
        self.path = std::env::join_paths(others).unwrap_or_default();
        self
    }
}

/// The home folder of this process's user, from the user database.
fn home_of_user() -> PathBuf {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    home_in(&users, rustix::process::getuid().as_raw()).unwrap_or_default()
}

pub(super) fn home_in(users: &str, uid: u32) -> Option<PathBuf> {
    let users = users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let mut homes = users.filter_map(|user| match user[..] {
        [_, _, id, _, _, home, ..] if id.parse() == Ok(uid) => Some(home.into()),
        _ => None,
    });
    homes.next()
}
