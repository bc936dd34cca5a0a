//! The server itself, as `GET /server` shows it. Ours; Heroku has no such resource.

use serde::{Deserialize, Serialize};

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

/// A setting that a server uses, as `GET /server/settings` lists them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingInfo {
    /// Its name.
    pub name: String,
    /// Its value with the unit, as it may be written in `config.toml`.
    pub value: String,
    /// `default`, `config.toml` or `environment`.
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
