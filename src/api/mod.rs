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
pub mod build;
pub mod config_vars;
pub mod dyno;
pub mod dyno_size;
pub mod error;
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

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::model::uuid::uuid;

pub use error::{ApiError, ErrorKind};
pub use local_field::{LocalField, Sender};

/// The longest text for people in a request, in bytes: a description, a commit.
pub const MAX_TEXT: usize = 1_000;

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

/// The fields of a request's body, each read when it is asked for: so an error can name the field,
/// and process types keep their order.
pub struct BodyFields<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> BodyFields<'a> {
    /// Reads a body; none at all has no fields.
    ///
    /// # Errors
    /// `400` when it is not a JSON object.
    pub fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        if body.trim_ascii().is_empty() {
            return Ok(Self(BTreeMap::new()));
        }
        serde_json::from_slice(body).map(Self).map_err(|error| {
            ApiError::bad_request(format!("the body is not a JSON object: {error}"))
        })
    }

    /// The field of this name; `null` counts as absent.
    ///
    /// # Errors
    /// `422` naming the field when it has another type.
    pub fn optional<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(raw) = self.0.get(name) else {
            return Ok(None);
        };
        serde_json::from_str(raw.get()).map_err(|error| {
            let message = error.to_string();
            // The place that serde names is one in this field alone.
            let why = message.split(" at line ").next().unwrap_or_default();
            ApiError::invalid(format!("`{name}` is not valid: {why}"))
        })
    }

    /// The field of this name.
    ///
    /// # Errors
    /// `422` naming the field when it is missing or has another type.
    pub fn required<T: Deserialize<'a>>(&self, name: &str) -> Result<T, ApiError> {
        self.optional(name)?
            .ok_or_else(|| ApiError::invalid(format!("`{name}` is missing")))
    }

    /// A field that names folders of this host, if it is there.
    ///
    /// # Errors
    /// `403` when it is there and the request came from elsewhere; else as [`optional`](Self::optional).
    pub fn local<T: Deserialize<'a>>(
        &self,
        name: &str,
        sender: Sender,
    ) -> Result<Option<LocalField<T>>, ApiError> {
        if sender == Sender::Afar && self.0.contains_key(name) {
            return Err(ApiError::forbidden(format!(
                "`{name}` names folders of this host, which a client elsewhere may not choose"
            ))
            .hint("leave it out; at the Unix socket it may be there"));
        }
        Ok(self.optional(name)?.map(LocalField::new))
    }

    /// A field that is true or false, if it is there. Other clients write `1` and `0`, or any of these as text.
    ///
    /// # Errors
    /// As [`optional`](Self::optional).
    pub fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let raw = self.0.get(name).map(|raw| raw.get().trim());
        match raw.map(|raw| raw.trim_matches('"')) {
            Some("1" | "true") => Ok(Some(true)),
            Some("0" | "false") => Ok(Some(false)),
            _ => self.optional(name),
        }
    }

    /// A number, if it is there, or one as text.
    ///
    /// # Errors
    /// As [`optional`](Self::optional).
    pub fn number(&self, name: &str) -> Result<Option<u32>, ApiError> {
        let raw = self.0.get(name).map(|raw| raw.get().trim_matches('"'));
        match raw.and_then(|raw| raw.parse().ok()) {
            Some(number) => Ok(Some(number)),
            None => self.optional(name),
        }
    }

    /// A field with text for people, if it is there.
    ///
    /// # Errors
    /// When it is something else, or longer than [`MAX_TEXT`].
    pub fn text(&self, name: &str) -> Result<Option<String>, ApiError> {
        let text: Option<String> = self.optional(name)?;
        match text.as_ref().map_or(0, String::len) {
            0..=MAX_TEXT => Ok(text),
            length => Err(ApiError::invalid(format!(
                "`{name}` is not valid: it has {length} bytes, and may have {MAX_TEXT}"
            ))),
        }
    }

    /// The names of all fields.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
