//! The usage resource; ours.

use serde::{Deserialize, Serialize};

use super::Named;
use crate::model::dyno;

/// The time of an app's dynos of one process type and size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// The app.
    pub app: Named,
    /// Whether the app is there no more.
    pub destroyed: bool,
    /// The process type, `run` for one-offs as a rule.
    pub r#type: String,
    /// The size, with Heroku's capitals.
    pub size: String,
    /// How many dynos there were, those that are alive among them.
    pub dynos: u64,
    /// How many are alive.
    pub alive: u32,
    /// All their time in seconds, up to now for those that are alive.
    pub seconds: f64,
}

impl Usage {
    /// The resource of this usage.
    pub fn new(usage: &dyno::Usage) -> Self {
        Self {
            app: Named {
                id: usage.app_id.clone(),
                name: usage.app_name.to_string(),
            },
            destroyed: usage.destroyed,
            r#type: usage.process_type.clone(),
            size: usage.size.clone(),
            dynos: usage.dynos,
            alive: usage.alive,
            seconds: usage.time.as_secs_f64(),
        }
    }
}
