//! How much dyno time was used, and for what.

use std::time::Duration;

use super::Spent;
use crate::model::app::AppName;

/// The time of an app's dynos of one process type and size, each from its request to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The app's uuid.
    pub app_id: String,
    /// Its name; the last one, if it was destroyed.
    pub app_name: AppName,
    /// Whether the app was destroyed.
    pub destroyed: bool,
    /// The process type, `run` for one-offs as a rule.
    pub process_type: String,
    /// The size, by name.
    pub size: String,
    /// The number of dynos, with those that are alive.
    pub dynos: u64,
    /// The number of live dynos.
    pub alive: u32,
    /// Their time together; for live dynos, up to now.
    pub time: Duration,
    /// What those that have ended took together, memory as that of the one that had most.
    pub spent: Spent,
}
