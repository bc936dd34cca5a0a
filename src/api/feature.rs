//! The app feature resource: what can be switched on for an app. Heroku has many; here there is one.

use serde::{Deserialize, Serialize};

use super::{ApiError, BodyFields, Time, fixed_id};
use crate::model::app::App;

/// The feature by which dynos log what they take of processors and memory (Heroku's name).
pub const RUNTIME_METRICS: &str = "log-runtime-metrics";

/// A feature of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppFeature {
    /// A uuid.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its name, for people.
    pub display_name: String,
    /// What it does.
    pub description: String,
    /// Where that is described.
    pub doc_url: String,
    /// Whom to write to.
    pub feedback_email: String,
    /// `public`: anybody may use it, by `labs`.
    pub state: String,
    /// Whether it is switched on.
    pub enabled: bool,
    /// When the app was made.
    pub created_at: Time,
    /// When the app last changed.
    pub updated_at: Time,
}

impl AppFeature {
    /// The feature [`RUNTIME_METRICS`] of an app.
    pub fn runtime_metrics(app: &App) -> Self {
        Self {
            id: fixed_id("app-feature", RUNTIME_METRICS),
            name: RUNTIME_METRICS.to_owned(),
            display_name: "Log Runtime Metrics".to_owned(),
            description: "Each dyno logs its load and its memory, every 20 seconds".to_owned(),
            doc_url: "https://devcenter.heroku.com/articles/log-runtime-metrics".to_owned(),
            feedback_email: String::new(),
            state: "public".to_owned(),
            enabled: app.runtime_metrics,
            created_at: Time(app.created_at),
            updated_at: Time(app.updated_at),
        }
    }

    /// Whether this is its name or id.
    pub fn is(&self, name_or_id: &str) -> bool {
        [self.name.as_str(), &self.id].contains(&name_or_id)
    }
}

/// `PATCH /apps/A/features/F`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UpdateFeature {
    /// Whether it shall be switched on.
    pub enabled: bool,
}

impl UpdateFeature {
    /// Reads a body.
    ///
    /// # Errors
    /// When the field is missing or wrong.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let enabled = BodyFields::parse(body)?.flag("enabled")?;
        let enabled = enabled.ok_or_else(|| ApiError::invalid("`enabled` is missing"))?;
        Ok(Self { enabled })
    }
}
