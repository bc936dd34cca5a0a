//! The server itself, as `GET /server` shows it. Ours; Heroku has no such resource.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Time;
use crate::settings::Row;

/// Which server this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its [build](crate::executable::build_id).
    pub build_id: String,
    /// Its version, for people.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Whether the command line has started it: then it leaves when there is nothing to do, and for
    /// another build.
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
    /// Where its router listens, if it has one: `127.0.0.1:8080`.
    #[serde(default)]
    pub router: Option<String>,
    /// Where the API is reached over TCP, if it is: `127.0.0.1:5001`.
    #[serde(default)]
    pub api: Option<String>,
    /// Where Heroku's CLI meets dynos, if it does: `127.0.0.1:5000`.
    #[serde(default)]
    pub rendezvous: Option<String>,
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
    /// Somebody, by `dyno server`.
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
