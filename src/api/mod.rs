//! The resources of the API, as types: Heroku's Platform API v3, and what we add to it.
//!
//! Field names, values and error ids are Heroku's, so that its own clients can read them; figures of
//! the platform that mean nothing here (regions, prices) have the value that clients show least.
//! What is ours is said at the field. A response is made by a pure function from what the store has;
//! what a request wants is read by [`Ask`](ask::Ask), its body by [`BodyFields`], which passes over what it does not know and
//! names what is wrong.
//! These types serve both sides of the wire: the server's handlers and the client. No HTTP here.

pub mod account;
pub mod app;
pub mod ask;
pub mod authorization;
mod body_fields;
pub mod build;
pub mod buildpack;
pub mod config_vars;
pub mod dyno;
pub mod dyno_size;
pub mod error;
pub mod feature;
pub mod formation;
pub mod link;
pub mod local_field;
pub mod log_session;
pub mod logs;
pub mod platform;
pub mod range;
pub mod release;
pub mod repository;
pub mod server;
pub mod session;
pub mod slug;
pub mod source;
pub mod target;
pub mod usage;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::model::uuid::uuid;

pub use body_fields::{BodyFields, MAX_TEXT};
pub use error::{ApiError, ErrorKind};
pub use local_field::{LocalField, Sender};

/// A time to the second, as Heroku writes it: `2012-01-01T12:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.strftime("%Y-%m-%dT%H:%M:%SZ"))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        timestamp(deserializer).map(Self)
    }
}

/// A time in full, where seconds are too coarse to tell what came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExactTime(pub Timestamp);

impl Serialize for ExactTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ExactTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        timestamp(deserializer).map(Self)
    }
}

fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|_| D::Error::custom(format!("`{text}` is not a time like 2012-01-01T12:00:00Z")))
}

/// Something that is known by id or name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// A uuid.
    pub id: String,
    /// Its name.
    pub name: String,
}

impl Named {
    /// Something that every host has, under an id that no host changes.
    fn fixed(kind: &str, name: &str) -> Self {
        Self {
            id: fixed_id(kind, name),
            name: name.to_owned(),
        }
    }

    /// Heroku's generation of dynos that have names like `run.1`. Its clients go by it.
    fn generation() -> Self {
        Self::fixed("generation", "cedar")
    }

    /// The stack: the host's own root tree.
    fn stack() -> Self {
        Self::fixed("stack", "host")
    }
}

/// A uuid (version 8: by a rule of one's own) made from what it is of.
fn fixed_id(kind: &str, name: &str) -> String {
    let hash: [u8; 32] = Sha256::digest(format!("{kind} {name}")).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid(bytes, 8)
}
