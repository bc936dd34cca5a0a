//! The server itself, as `GET /server` shows it. Ours; Heroku has no such resource.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Time;
use crate::model::settings::Row;

/// A build of the program.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Build {
    /// Its version.
    pub version: String,
    /// A hash of its contents, in hexadecimal: builds with equal ones are equal.
    #[serde(rename = "build_id")]
    pub id: String,
    /// The commit that it is made of, with a `+` if its sources were changed since; empty if that is not known.
    #[serde(default)]
    pub commit: String,
    /// When its sources were last changed, in seconds since 1970; 0 if that is not known. It orders builds of one version.
    #[serde(default)]
    pub built_at: u64,
}

impl Build {
    /// Whether this build takes the place of the other. Of two that are of one version and one time, neither does.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let (ours, theirs) = (rank(&self.version), rank(&other.version));
        let differ = self.id != other.id || self.id.is_empty();
        differ && (ours, self.built_at) > (theirs, other.built_at)
    }
}

/// How versions are ordered: by their numbers; one with a suffix (`1.0.0-rc.1`) comes before the one without.
fn rank(version: &str) -> ([u64; 3], bool, &str) {
    let plain = version.split('+').next().unwrap_or_default();
    let (numbers, suffix) = plain.split_once('-').unwrap_or((plain, ""));
    let mut numbers = numbers.split('.').map(|number| number.parse().unwrap_or(0));
    let numbers = [(); 3].map(|()| numbers.next().unwrap_or(0));
    (numbers, suffix.is_empty(), suffix)
}

impl fmt::Display for Build {
    /// `0.1.0 (304f07f of 2026-11-23, build d0b9daea0738)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.version)?;
        if !self.commit.is_empty() {
            write!(f, "{}", self.commit)?;
            if let (Ok(at), true) = (
                jiff::Timestamp::from_second(self.built_at as i64),
                self.built_at > 0,
            ) {
                write!(f, " of {}", at.strftime("%Y-%m-%d"))?;
            }
            f.write_str(", ")?;
        }
        write!(f, "build {})", self.id.get(..12).unwrap_or(&self.id))
    }
}

/// Asks a server to make room for another build: `POST /server/actions/replace`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReplaceServer {
    /// The build of the client. Only a newer one gets what it asks for.
    #[serde(flatten)]
    pub build: Build,
    /// The next server is one that a user or a service manager starts (`dyno server`), and stays. It takes over from one of
    /// an equal build, too.
    #[serde(default)]
    pub stays: bool,
}

/// Which server this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its [build](crate::kernel::executable::build).
    #[serde(flatten)]
    pub build: Build,
    /// Its process.
    pub pid: u32,
    /// Whether the command line has started it: then it leaves when there is nothing to do, and for
    /// a newer build.
    pub idle: bool,
}

/// All that there is to know of a server: `GET /server/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Which it is.
    #[serde(flatten)]
    pub server: ServerInfo,
    /// When it was started.
    pub started_at: Time,
    /// How it was started.
    pub started_by: StartedBy,
    /// The state folder.
    pub home: PathBuf,
    /// The name of each app that has live dynos, and how many.
    pub dynos: BTreeMap<String, usize>,
    /// Clients of the API at this moment, this one included.
    pub connections: usize,
    /// Resident memory in bytes.
    pub memory: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// How many may be open.
    pub max_descriptors: u64,
    /// How dynos are kept apart, in words.
    pub isolation: String,
    /// Whether builds can install here what a source depends on.
    #[serde(default)]
    pub builds: bool,
    /// Where its router listens, if it has one: `127.0.0.1:8080`.
    #[serde(default)]
    pub router: Option<String>,
    /// Where the API is reached over TCP, if it is: `127.0.0.1:5001`.
    #[serde(default)]
    pub api: Option<String>,
    /// Where Heroku's CLI meets dynos, if it does: `127.0.0.1:5000`.
    #[serde(default)]
    pub rendezvous: Option<String>,
    /// Addresses that it should listen on and does not, and why, in words; they are tried again every second.
    #[serde(default)]
    pub missing: Vec<String>,
}

/// Where the server is reached over TCP: the answer to `POST /server/actions/listen`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// The API: `127.0.0.1:5001`.
    pub api: String,
    /// Where Heroku's CLI meets dynos: `127.0.0.1:5000`.
    #[serde(default)]
    pub rendezvous: Option<String>,
}

/// Who has started a server, and what becomes of it when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartedBy {
    /// A command that found none. The next command starts another.
    Command,
    /// systemd, as this unit, which it starts again.
    Systemd {
        /// Its name: `dyno.service`.
        unit: String,
        /// It belongs to a user's own systemd.
        user: bool,
    },
    /// A user, by `dyno server`.
    Hand,
}

/// Asks a server to leave: `POST /server/actions/stop`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StopServer {
    /// Ends all dynos first.
    #[serde(default)]
    pub all: bool,
}

/// What a server that leaves says last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoppingServer {
    /// Its process.
    pub pid: u32,
    /// How it was started.
    pub started_by: StartedBy,
    /// The dynos that are alive, by the name of their app. They end first if that was asked for, and go on otherwise.
    pub dynos: BTreeMap<String, Vec<String>>,
    /// Seconds from SIGTERM to SIGKILL for those that end.
    pub stop_grace: f64,
    /// How many apps have a formation that ends with the dynos, and waits to be told to come back.
    #[serde(default)]
    pub asleep: usize,
}

/// A setting that a server uses, as `GET /server/settings` lists them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingInfo {
    /// Its name.
    pub name: String,
    /// Its value with the unit, as it may be written in `config.toml`.
    pub value: String,
    /// `default`, `config.toml`, `environment` or `option`.
    pub source: String,
}

impl From<Row> for SettingInfo {
    fn from(row: Row) -> Self {
        Self {
            name: row.setting.name.to_owned(),
            value: row.value,
            source: row.source.as_str().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(version: &str, id: &str, built_at: u64) -> Build {
        Build {
            version: version.to_owned(),
            id: id.to_owned(),
            commit: String::new(),
            built_at,
        }
    }

    #[test]
    fn a_build_is_newer_by_its_version_and_then_by_its_time() {
        let newer = [
            (("0.2.0", 1), ("0.1.9", 9)),
            (("0.10.0", 1), ("0.9.0", 1)),
            (("1.0.0", 1), ("1.0.0-rc.1", 9)),
            (("0.1.0", 2), ("0.1.0", 1)),
            (("0.1.0", 1), ("0.1.0", 0)),
        ];
        for ((version, at), (before, before_at)) in newer {
            let (new, old) = (build(version, "a", at), build(before, "b", before_at));
            assert!(new.is_newer_than(&old), "{new:?} {old:?}");
            assert!(!old.is_newer_than(&new), "{new:?} {old:?}");
        }
    }

    #[test]
    fn of_two_builds_that_are_equally_new_neither_makes_room() {
        let (one, two) = (build("0.1.0", "a", 5), build("0.1.0+x", "b", 5));
        assert!(!one.is_newer_than(&two) && !two.is_newer_than(&one));
        // A copy, whatever else is said of it.
        assert!(!build("0.2.0", "a", 9).is_newer_than(&one));
    }

    #[test]
    fn a_server_of_before_is_older_than_any_build() {
        let before =
            r#"{"build_id":"0.1.0-3129b20-6b04d2d3","version":"0.1.0","pid":7,"idle":true}"#;
        let before: ServerInfo = serde_json::from_str(before).unwrap();
        assert!(build("0.1.0", "a", 1).is_newer_than(&before.build));
    }

    #[test]
    fn a_build_is_told_with_its_commit_and_contents() {
        let mut told = build("0.1.0", &"ab".repeat(20), 1_700_000_000);
        assert_eq!(told.to_string(), "0.1.0 (build abababababab)");
        told.commit = "304f07f+".to_owned();
        assert_eq!(
            told.to_string(),
            "0.1.0 (304f07f+ of 2023-11-14, build abababababab)"
        );
        told.built_at = 0;
        assert_eq!(told.to_string(), "0.1.0 (304f07f+, build abababababab)");
    }
}
