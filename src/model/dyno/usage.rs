//! How much dyno time was used, and for what. An attached one-off's counts like any other dyno's.

use std::time::Duration;

use crate::model::app::AppName;

/// The time of an app's dynos of one process type and size, from when each was asked for to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The app's uuid.
    pub app_id: String,
    /// Its name; that which it had, if it is destroyed.
    pub app_name: AppName,
    /// Whether the app is there no more.
    pub destroyed: bool,
    /// The process type, `run` for one-offs as a rule.
    pub process_type: String,
    /// The size, by name.
    pub size: String,
    /// How many dynos there were, those that are alive among them.
    pub dynos: u64,
    /// How many are alive.
    pub alive: u32,
    /// All their time, up to now for those that are alive.
    pub time: Duration,
}
