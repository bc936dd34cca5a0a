//! The log session resource: an address where a log can be read.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::logs::LogQuery;
use super::{ApiError, BodyFields, Time, fixed_id};

/// A log session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSession {
    /// A uuid.
    pub id: String,
    /// Where the log can be read. A client that has it needs no token, for some time.
    pub logplex_url: String,
    /// When it was made.
    pub created_at: Time,
    /// When it was changed: never, so when it was made.
    pub updated_at: Time,
}

impl LogSession {
    /// A session that is made now. Nothing is kept of it: it is its address.
    pub fn new(logplex_url: String, now: Timestamp) -> Self {
        Self {
            id: fixed_id("log-session", &format!("{logplex_url} {now}")),
            logplex_url,
            created_at: Time(now),
            updated_at: Time(now),
        }
    }
}

/// `POST /apps/A/log-sessions`: what is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateLogSession(pub LogQuery);

impl CreateLogSession {
    /// Reads a body. A dyno goes by `dyno` or `dyno_name`, a process type by `type`, or by `dyno` without a dot, as
    /// Heroku's client has it.
    ///
    /// # Errors
    /// When a field is wrong.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let fields = BodyFields::parse(body)?;
        let mut query = LogQuery {
            lines: fields.number("lines")?,
            tail: fields.flag("tail")?.unwrap_or(false),
            ..LogQuery::default()
        };
        if let Some(source) = fields.text("source")? {
            query.source = Some(source.parse().map_err(|()| {
                ApiError::invalid("`source` is not valid: it is `app` or `heroku`")
            })?);
        }
        for name in ["dyno", "dyno_name", "type"] {
            query.dyno = query.dyno.or(fields.text(name)?);
        }
        Ok(Self(query))
    }
}
