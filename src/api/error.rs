//! The error resource.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::UserError;

/// What a request that failed is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// The status of the response; not in its body.
    #[serde(skip)]
    pub status: u16,
    /// One of Heroku's words for what went wrong: `not_found`, `invalid_params`.
    pub id: String,
    /// What went wrong, for a person.
    pub message: String,
    /// What to do next. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Error {
    /// An error of any status.
    pub fn new(status: u16, id: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            id: id.to_owned(),
            message: message.into(),
            hint: None,
        }
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "bad_request", message)
    }

    /// What it is about does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "not_found", message)
    }

    /// It asks for what is not possible.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(422, "invalid_params", message)
    }

    /// The state or a slug does not fit on the disk.
    pub fn no_room(message: impl Into<String>) -> Self {
        Self::new(507, "insufficient_storage", message)
    }

    /// It is the server's fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "internal_server_error", message)
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<UserError> for Error {
    /// A rule was broken: by what was asked for.
    fn from(error: UserError) -> Self {
        Self {
            hint: error.hint,
            ..Self::invalid(error.message)
        }
    }
}

impl From<Error> for UserError {
    fn from(error: Error) -> Self {
        Self {
            hint: error.hint,
            ..Self::new(error.message)
        }
    }
}
