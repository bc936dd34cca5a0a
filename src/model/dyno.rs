//! A dyno: its name, its states and its isolation.
//!
//! Called by command line, API, store, server and supervisor.

pub mod env;
pub mod life;
mod most_dynos;
mod record;
mod spent;
mod terminal;
mod usage;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{UserError, shown};
use crate::model::procfile::{MAX_NAME, is_process_type_name};

pub use most_dynos::{MostDynos, Reached};
pub use record::{Attach, Dyno, DynoEnd, EndReason, Exit, ExitRecord};
pub use spent::Spent;
pub use terminal::{ClientTerminal, TerminalSettings};
pub use usage::Usage;

/// The process type of a one-off dyno when none is given (Heroku's).
pub const ONE_OFF: &str = "run";

/// The process type of dynos that build: `build.N`.
pub const BUILD: &str = "build";

/// The process type that gets requests (Heroku's).
pub const WEB: &str = "web";

/// The name of a dyno within its app: `run.1`, `web.2`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DynoName {
    /// A process type, or `run` for a one-off.
    pub process_type: String,
    /// The number, from 1.
    pub number: u32,
}

impl DynoName {
    /// Whether it is a web dyno, which gets requests.
    pub fn is_web(&self) -> bool {
        self.process_type == WEB
    }
}

impl fmt::Display for DynoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.process_type, self.number)
    }
}

impl FromStr for DynoName {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        let parts = text
            .rsplit_once('.')
            .filter(|(process_type, _)| is_process_type_name(process_type));
        let name = parts.and_then(|(process_type, number)| {
            // Only the usual spelling: `run.01` and `run.+1` are not names of `run.1`.
            let usual =
                number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
            let number = usual.then(|| number.parse().ok()).flatten()?;
            Some(Self {
                process_type: process_type.to_owned(),
                number,
            })
        });
        name.ok_or_else(|| {
            let start = shown(text.as_bytes(), MAX_NAME);
            UserError::new(format!("`{start}` is not the name of a dyno"))
                .hint("a dyno is named like `run.1`")
        })
    }
}

/// The state of a dyno; the words are Heroku's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DynoState {
    /// Being made, or waiting for its client.
    Starting,
    /// Its command runs; a web dyno listens.
    Up,
    /// Asleep until a request comes; not used here.
    Idle,
    /// Its command ended although it should run, or the dyno was lost.
    Crashed,
    /// Stopped, because the formation does not want it.
    Down,
    /// A one-off whose command ended.
    Complete,
}

impl DynoState {
    /// The word for this state in the API, the log and the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Idle => "idle",
            Self::Crashed => "crashed",
            Self::Down => "down",
            Self::Complete => "complete",
        }
    }

    /// The state with this word.
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::Starting,
            Self::Up,
            Self::Idle,
            Self::Crashed,
            Self::Down,
            Self::Complete,
        ]
        .into_iter()
        .find(|state| state.as_str() == word)
    }
}

impl fmt::Display for DynoState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a dyno is isolated from other dynos and from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// By namespaces of its own.
    Namespaces,
    /// By a folder of its own, and nothing more.
    Tempdir,
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespaces => "namespaces",
            Self::Tempdir => "tempdir",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for text in ["run.1", "web.2", "my-worker_2.4294967295"] {
            assert_eq!(text.parse::<DynoName>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "run",
            "run.",
            ".1",
            "run.0",
            "run.01",
            "run.+1",
            "run.-1",
            "a.b.1",
            "run.4294967296",
        ] {
            assert!(bad.parse::<DynoName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn states_have_herokus_words() {
        for state in [
            DynoState::Starting,
            DynoState::Up,
            DynoState::Idle,
            DynoState::Crashed,
        ] {
            assert_eq!(
                serde_json::to_string(&state).unwrap(),
                format!("\"{state}\"")
            );
            assert_eq!(DynoState::parse(state.as_str()), Some(state));
        }
        assert_eq!(DynoState::parse("created"), None);
    }
}
