//! The fields of a request's body: what is wrong with one is named, what is not known is passed over.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{ApiError, LocalField, Sender};

/// The longest text for people in a request, in bytes: a description, a commit.
pub const MAX_TEXT: usize = 1_000;

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
