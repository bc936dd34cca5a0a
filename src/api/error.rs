//! The body of every answer that is not a success.

use serde::{Deserialize, Serialize};

use crate::error::UserError;

/// An error as the API says it: Heroku's `id` and `message`, and our advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What kind of error, for programs: `not_found`, `invalid_params`.
    pub id: String,
    /// What failed, for people; the words of a [`UserError`].
    pub message: String,
    /// What to do next.
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

    /// `error`, as one of the kind `id`.
    pub fn from_user_error(id: impl Into<String>, error: &UserError) -> Self {
        Self {
            id: id.into(),
            message: error.message.clone(),
            hint: error.hint.clone(),
        }
    }
}

impl From<ApiError> for UserError {
    fn from(error: ApiError) -> Self {
        Self {
            message: error.message,
            hint: error.hint,
            exit_code: None,
        }
    }
}
