//! The error resource: the body of every answer that is not a success.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{EXIT_DYNO_FAILED, UserError};

/// An error as the API says it: Heroku's `id` and `message`, and our advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What kind of error, for programs: `not_found`, `invalid_params`.
    pub id: String,
    /// What failed, for people; the words of a [`UserError`].
    pub message: String,
    /// What to do next. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ApiError {
    /// An error without advice.
    pub fn new(id: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            message: message.into(),
            hint: None,
        }
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new("bad_request", message)
    }

    /// What it is about does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new("not_found", message)
    }

    /// Nobody knows who asks.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new("unauthorized", message)
    }

    /// Whoever asks may not.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new("forbidden", message)
    }

    /// It asks for what is not possible.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new("invalid_params", message)
    }

    /// The state or a slug does not fit on the disk.
    pub fn no_room(message: impl Into<String>) -> Self {
        Self::new("insufficient_storage", message)
    }

    /// As much as the server does at once is done already.
    pub fn too_many(message: impl Into<String>) -> Self {
        Self::new("too_many", message)
    }

    /// It is the server's fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new("internal_error", message)
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The status of an answer with this error.
    pub fn status(&self) -> u16 {
        match self.id.as_str() {
            "bad_request" => 400,
            "unauthorized" => 401,
            "forbidden" => 403,
            "not_found" => 404,
            "not_acceptable" => 406,
            "conflict" => 409,
            "requested_range_not_satisfiable" => 416,
            "payload_too_large" => 413,
            "unsupported_media_type" => 415,
            "invalid_params" => 422,
            "too_many" | "rate_limit" => 429,
            "unavailable" => 503,
            "insufficient_storage" => 507,
            _ => 500,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl From<UserError> for ApiError {
    /// A rule was broken: by what was asked for.
    fn from(error: UserError) -> Self {
        Self {
            hint: error.hint,
            ..Self::invalid(error.message)
        }
    }
}

impl From<ApiError> for UserError {
    fn from(error: ApiError) -> Self {
        Self {
            hint: error.hint,
            exit_code: (error.id == "internal_error").then_some(EXIT_DYNO_FAILED),
            ..Self::new(error.message)
        }
    }
}
