//! Releases and slugs: their records, version numbers and descriptions.
//!
//! A release is a slug together with a config, numbered per app without gaps. Called by the command line, the API and
//! the store.
//!
//! Version 1 is Heroku's `Initial release`. Heroku's version 2, `Enable Logplex`, does not exist here, since every app
//! has a log from the start; so the first deploy is v2.

pub mod build;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{UserError, shown};
use crate::model::app::{AppName, MAX_PATH_BYTES};
use crate::model::config_var;
use crate::model::log_line::Story;

/// The number of a release within its app, from 1: `v3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl FromStr for Version {
    type Err = UserError;

    /// Parses `v3` or `3`.
    fn from_str(text: &str) -> Result<Self, UserError> {
        let digits = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        match digits.parse() {
            Ok(number) if plain && number > 0 => Ok(Self(number)),
            _ => {
                let text = shown(text.as_bytes(), 60);
                Err(UserError::new(format!("`{text}` is not a release"))
                    .hint("a release is named like `v3`; `dyno releases` lists them"))
            }
        }
    }
}

/// The process type that runs before a release becomes the current one (Heroku's).
pub const RELEASE_PHASE: &str = "release";

/// The status of a release; the words are Heroku's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseStatus {
    /// Its release phase is running.
    Pending,
    /// It is, or was, the current release.
    Succeeded,
    /// Its release phase failed; the release before stays current.
    Failed,
    /// It is too old for a rollback.
    Expired,
}

impl ReleaseStatus {
    /// The word for this status in the API and the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// The status with this word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Pending, Self::Succeeded, Self::Failed, Self::Expired]
            .into_iter()
            .find(|status| status.as_str() == word)
    }
}

/// What a release changes; `Display` gives Heroku's description of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseChange<'a> {
    /// The first release of every app: no slug, no config.
    Initial,
    /// A new slug, named by its commit or else its digest.
    Deploy(&'a str),
    /// A change of config vars, by name.
    Config {
        /// Variables that are new or have a new value.
        set: &'a [&'a str],
        /// Variables that were removed.
        removed: &'a [&'a str],
    },
    /// Slug and config of an earlier release.
    Rollback(Version),
}

impl fmt::Display for ReleaseChange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Initial => f.write_str("Initial release"),
            Self::Deploy(name) => {
                let short: String = name.chars().take(8).collect();
                write!(f, "{}", Story::Deploy(short))
            }
            Self::Config { set, removed: [] } => write!(f, "Set {} config vars", set.join(", ")),
            Self::Config { set: [], removed } => {
                write!(f, "Remove {} config vars", removed.join(", "))
            }
            Self::Config { set, removed } => {
                write!(
                    f,
                    "Set {} and remove {} config vars",
                    set.join(", "),
                    removed.join(", ")
                )
            }
            Self::Rollback(version) => write!(f, "Rollback to {version}"),
        }
    }
}

/// Commands by process type, in the order of the Procfile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessTypes(Vec<(String, String)>);

impl ProcessTypes {
    /// No process types.
    pub fn new() -> Self {
        Self::default()
    }

    /// The command of `process_type`.
    pub fn get(&self, process_type: &str) -> Option<&str> {
        self.iter()
            .find(|&(name, _)| name == process_type)
            .map(|(_, command)| command)
    }

    /// Sets the command of `process_type`: a new type comes last, a known one keeps its place.
    pub fn insert(&mut self, process_type: impl Into<String>, command: impl Into<String>) {
        let (name, command) = (process_type.into(), command.into());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = command,
            None => self.0.push((name, command)),
        }
    }

    /// The name and command of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, command)| (name.as_str(), command.as_str()))
    }

    /// The number of process types.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<N: Into<String>, C: Into<String>> FromIterator<(N, C)> for ProcessTypes {
    fn from_iter<I: IntoIterator<Item = (N, C)>>(pairs: I) -> Self {
        let mut types = Self::new();
        for (name, command) in pairs {
            types.insert(name, command);
        }
        types
    }
}

impl Serialize for ProcessTypes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, command) in self.iter() {
            map.serialize_entry(name, command)?;
        }
        map.end()
    }
}

/// By hand, because a map type would lose the order.
impl<'de> Deserialize<'de> for ProcessTypes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = ProcessTypes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of process types and their commands")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ProcessTypes, A::Error> {
                let mut types = ProcessTypes::new();
                while let Some((name, command)) = map.next_entry::<String, String>()? {
                    types.insert(name, command);
                }
                Ok(types)
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

/// The most folders of a release's toolchains.
pub const MAX_TOOLCHAIN_FOLDERS: usize = 64;

/// Toolchains of the user who deploys that a release needs beside the stack: they are in the user's home folder, which
/// a dyno does not see otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchains {
    /// Folders for the front of `PATH`, absolute, in order.
    #[serde(default)]
    pub path: Vec<String>,
    /// Folders to mount, absolute; they contain those of `path` and what their programs need.
    #[serde(default)]
    pub folders: Vec<String>,
    /// Variables that the toolchains need.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The folder that the slug was packed from, if files in the slug, as of a virtual environment, contain that path:
    /// dynos see `/app` there, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
}

impl Toolchains {
    /// Checks toolchains that come in a request.
    ///
    /// # Errors
    /// When there are more than [`MAX_TOOLCHAIN_FOLDERS`], or one is no absolute path, or a variable's name is not valid.
    pub fn check(&self) -> Result<(), UserError> {
        let most = self.path.len().max(self.folders.len());
        if most > MAX_TOOLCHAIN_FOLDERS {
            let message = format!("the toolchains have {most} folders");
            return Err(
                UserError::new(message).hint(format!("they may have {MAX_TOOLCHAIN_FOLDERS}"))
            );
        }
        for folder in self.path.iter().chain(&self.folders).chain(&self.app) {
            let whole = folder.starts_with('/') && !folder.contains(['\0', ':']);
            if !whole || folder.len() > MAX_PATH_BYTES {
                let start = shown(folder.as_bytes(), 100);
                return Err(
                    UserError::new(format!("`{start}` is no folder of a toolchain")).hint(format!(
                        "its path begins with a `/` and has {MAX_PATH_BYTES} bytes at most"
                    )),
                );
            }
        }
        config_var::check_env(&self.env)
    }

    /// Whether there are no toolchains.
    pub fn is_empty(&self) -> bool {
        self.path.is_empty() && self.folders.is_empty() && self.env.is_empty() && self.app.is_none()
    }
}

/// A slug, as stored: the packed app, with or without its tarball.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slug {
    /// A uuid.
    pub id: String,
    /// SHA-256 of the tarball, 64 lower-case hexadecimal digits. Before the upload, the digest that the client
    /// announced, if any.
    pub digest: Option<String>,
    /// Bytes of the tarball, once it was uploaded.
    pub size: Option<u64>,
    /// Whether the tarball was uploaded.
    pub uploaded: bool,
    /// The process types of the Procfile.
    pub process_types: ProcessTypes,
    /// The commit that it was made from.
    pub commit: Option<String>,
    /// The first line of that commit's message, or what the client gave.
    pub commit_description: Option<String>,
    /// When it was created, before the upload.
    pub created_at: Timestamp,
    /// When its tarball arrived, or else when it was created.
    pub updated_at: Timestamp,
}

/// A release, as stored. Its config is read separately, as most callers do not need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// A uuid.
    pub id: String,
    /// The app's uuid.
    pub app_id: String,
    /// The app's name.
    pub app_name: AppName,
    /// Its number within the app.
    pub version: Version,
    /// Its status.
    pub status: ReleaseStatus,
    /// Whether it is the newest that succeeded, which the app runs.
    pub current: bool,
    /// Its description, in Heroku's words.
    pub description: String,
    /// The user who made it: an e-mail address, or a name in its place.
    pub user: String,
    /// The uuid of its slug; None before the first deploy.
    pub slug_id: Option<String>,
    /// The digest of its slug.
    pub digest: Option<String>,
    /// The process types of its slug.
    pub process_types: ProcessTypes,
    /// The toolchains of the user who deployed.
    pub toolchains: Toolchains,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its status last changed.
    pub updated_at: Timestamp,
}

impl Release {
    /// Whether a rollback to it is possible: as on Heroku, it succeeded and has a slug.
    pub fn eligible_for_rollback(&self) -> bool {
        self.status == ReleaseStatus::Succeeded && self.slug_id.is_some()
    }
}

/// The facts about a release that decide whether it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Its number within the app.
    pub version: Version,
    /// Its status.
    pub status: ReleaseStatus,
    /// Whether it has a slug.
    pub has_slug: bool,
    /// Whether a dyno of it is alive.
    pub runs: bool,
}

/// The releases that are too old to keep, the oldest first: of `releases`, given newest first, those beyond the newest
/// `keep`. Kept at any age are a release with live dynos, the current one, the one that a rollback would take, and one
/// whose release phase has not ended.
pub fn expired(releases: &[Kept], keep: u32) -> Vec<Version> {
    let succeeded = |release: &&Kept| release.status == ReleaseStatus::Succeeded;
    let current = releases.iter().find(succeeded).map(|it| it.version);
    let before = releases
        .iter()
        .filter(succeeded)
        .filter(|release| release.has_slug && Some(release.version) != current)
        .map(|release| release.version)
        .next();
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    let is_needed = |release: &Kept| {
        release.runs
            || release.status == ReleaseStatus::Pending
            || [current, before].contains(&Some(release.version))
    };
    let old = releases.iter().skip(keep).rev();
    old.filter(|release| !is_needed(release))
        .map(|release| release.version)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_releases_expire_but_for_what_runs_and_what_a_rollback_goes_to() {
        use ReleaseStatus::{Failed, Pending, Succeeded};
        let release = |number: u32, status, has_slug, runs| Kept {
            version: number.to_string().parse().unwrap(),
            status,
            has_slug,
            runs,
        };
        let releases = [
            release(9, Pending, true, false),
            release(8, Failed, true, false),
            release(7, Failed, true, false),
            release(6, Succeeded, true, true),
            release(5, Failed, true, false),
            release(4, Succeeded, true, false),
            release(3, Succeeded, true, true),
            release(2, Succeeded, true, false),
            release(1, Succeeded, false, false),
        ];
        let numbers = |keep| -> Vec<_> {
            let expired = expired(&releases, keep);
            expired.iter().map(ToString::to_string).collect()
        };
        assert_eq!(numbers(0), ["v1", "v2", "v5", "v7", "v8"]);
        assert_eq!(numbers(3), ["v1", "v2", "v5"]);
        assert_eq!(numbers(8), ["v1"]);
        assert_eq!(numbers(9), [""; 0]);
        assert_eq!(expired(&[], 1), []);
    }

    #[test]
    fn a_version_is_typed_with_or_without_its_v() {
        assert_eq!("v3".parse::<Version>().unwrap(), Version(3));
        assert_eq!("12".parse::<Version>().unwrap().to_string(), "v12");
        for bad in [
            "",
            "v",
            "v0",
            "-1",
            "+3",
            "v+3",
            "3.1",
            "latest",
            "99999999999",
        ] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }

    #[test]
    fn descriptions_are_herokus() {
        let set = ["A", "B"];
        for (change, text) in [
            (ReleaseChange::Initial, "Initial release"),
            (ReleaseChange::Deploy("1234abcd99"), "Deploy 1234abcd"),
            (ReleaseChange::Deploy("main"), "Deploy main"),
            (
                ReleaseChange::Config {
                    set: &set,
                    removed: &[],
                },
                "Set A, B config vars",
            ),
            (
                ReleaseChange::Config {
                    set: &[],
                    removed: &set[..1],
                },
                "Remove A config vars",
            ),
            (
                ReleaseChange::Config {
                    set: &set[..1],
                    removed: &set[1..],
                },
                "Set A and remove B config vars",
            ),
            (ReleaseChange::Rollback(Version(2)), "Rollback to v2"),
        ] {
            assert_eq!(change.to_string(), text);
        }
    }

    #[test]
    fn process_types_keep_their_order_through_json() {
        let json = r#"{"web":"./web","release":"migrate","a":"b"}"#;
        let types: ProcessTypes = serde_json::from_str(json).unwrap();
        assert_eq!(
            types.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            ["web", "release", "a"]
        );
        assert_eq!(serde_json::to_string(&types).unwrap(), json);
        assert_eq!(types.get("release"), Some("migrate"));
        assert_eq!(types.get("worker"), None);
    }
}
