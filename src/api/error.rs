//! The error resource: the body of every answer that is not a success.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{EXIT_DYNO_FAILED, UserError};

/// An error as the API says it: Heroku's `id` and `message`, and our advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What kind of error, for programs.
    #[serde(rename = "id")]
    pub kind: ErrorKind,
    /// What failed, for people; the words of a [`UserError`].
    pub message: String,
    /// What to do next. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Makes [`ErrorKind`] of a table: variant, id, status.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $id:literal, $status:literal;)*) => {
        /// What kind of error an answer has, with Heroku's id where Heroku has one.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum ErrorKind {
            $($(#[$doc])* $kind,)*
            /// One that this build does not know, in the answer of another one: its id.
            Unknown(String),
        }

        impl ErrorKind {
            /// The id, for programs.
            pub fn id(&self) -> &str {
                match self {
                    $(Self::$kind => $id,)*
                    Self::Unknown(id) => id,
                }
            }

            /// The status of an answer with this error.
            pub fn status(&self) -> u16 {
                match self {
                    $(Self::$kind => $status,)*
                    Self::Unknown(_) => 500,
                }
            }

            /// The kind that has this id.
            fn of_id(id: String) -> Self {
                match id.as_str() {
                    $($id => Self::$kind,)*
                    _ => Self::Unknown(id),
                }
            }
        }
    };
}

kinds! {
    /// The request is malformed.
    BadRequest = "bad_request", 400;
    /// The request has no valid token.
    Unauthorized = "unauthorized", 401;
    /// The client may not ask for this.
    Forbidden = "forbidden", 403;
    /// The route, or what it names, does not exist.
    NotFound = "not_found", 404;
    /// The method is none that the server reads.
    MethodNotAllowed = "method_not_allowed", 405;
    /// The request does not say which version of the API it means.
    NotAcceptable = "not_acceptable", 406;
    /// The request did not come in time.
    RequestTimeout = "request_timeout", 408;
    /// Something else is in the way at the moment.
    Conflict = "conflict", 409;
    /// The unpacked content of the body is too long.
    PayloadTooLarge = "payload_too_large", 413;
    /// The body is too long for the connection.
    ContentTooLarge = "content_too_large", 413;
    /// The target is too long.
    UriTooLong = "uri_too_long", 414;
    /// The body has the wrong type.
    UnsupportedMediaType = "unsupported_media_type", 415;
    /// The `Range` is not one of the list.
    RangeNotSatisfiable = "requested_range_not_satisfiable", 416;
    /// The server does not know what the client expects of it.
    ExpectationFailed = "expectation_failed", 417;
    /// A value in the request breaks a rule.
    InvalidParams = "invalid_params", 422;
    /// The server does as much at once as it may already.
    TooMany = "too_many", 429;
    /// More requests came with the token than may come in an hour.
    RateLimit = "rate_limit", 429;
    /// The header fields are too long.
    HeaderFieldsTooLarge = "request_header_fields_too_large", 431;
    /// The server failed.
    Internal = "internal_error", 500;
    /// The server cannot do this at the moment.
    Unavailable = "unavailable", 503;
    /// Too many requests wait for a worker.
    Busy = "busy", 503;
    /// The version of HTTP is none that the server speaks.
    VersionNotSupported = "http_version_not_supported", 505;
    /// The state or a slug does not fit on the disk.
    InsufficientStorage = "insufficient_storage", 507;
}

impl Serialize for ErrorKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

impl<'de> Deserialize<'de> for ErrorKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::of_id)
    }
}

impl ApiError {
    /// An error without advice.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    /// [`ErrorKind::BadRequest`]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadRequest, message)
    }

    /// [`ErrorKind::NotFound`]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// [`ErrorKind::Unauthorized`]
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unauthorized, message)
    }

    /// [`ErrorKind::Forbidden`]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, message)
    }

    /// [`ErrorKind::InvalidParams`]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidParams, message)
    }

    /// [`ErrorKind::Conflict`]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// [`ErrorKind::InsufficientStorage`]
    pub fn no_room(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InsufficientStorage, message)
    }

    /// [`ErrorKind::TooMany`]
    pub fn too_many(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::TooMany, message)
    }

    /// [`ErrorKind::Unavailable`]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// [`ErrorKind::Internal`]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The status of an answer with this error.
    pub fn status(&self) -> u16 {
        self.kind.status()
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
            exit_code: (error.kind == ErrorKind::Internal).then_some(EXIT_DYNO_FAILED),
            ..Self::new(error.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_another_build_keeps_its_id() {
        for (id, kind) in [
            ("rate_limit", ErrorKind::RateLimit),
            ("internal_error", ErrorKind::Internal),
            ("gone_fishing", ErrorKind::Unknown("gone_fishing".into())),
        ] {
            let error = ApiError::new(kind, "x");
            let text = serde_json::to_string(&error).unwrap();
            assert!(text.contains(&format!("\"id\":\"{id}\"")), "{text}");
            assert_eq!(serde_json::from_str::<ApiError>(&text).unwrap(), error);
        }
    }
}
