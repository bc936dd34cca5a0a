//! The usage resource; ours.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Named;
use crate::model::dyno::{self, Spent};

/// What dynos took of memory, processors and disks; null: not known. Ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// The most memory at once, in bytes, with the files that the kernel keeps in memory for a control group.
    #[serde(default)]
    pub peak_memory: Option<u64>,
    /// Time of the processors in seconds.
    #[serde(default)]
    pub cpu_seconds: Option<f64>,
    /// Bytes read from disks.
    #[serde(default)]
    pub bytes_read: Option<u64>,
    /// Bytes written to disks.
    #[serde(default)]
    pub bytes_written: Option<u64>,
}

impl Taken {
    /// These figures, in the API's units.
    pub fn new(spent: &Spent) -> Self {
        let seconds = |micros| Duration::from_micros(micros).as_secs_f64();
        Self {
            peak_memory: spent.peak_memory,
            cpu_seconds: spent.cpu_micros.map(seconds),
            bytes_read: spent.bytes_read,
            bytes_written: spent.bytes_written,
        }
    }
}

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
    /// What those that have ended took together, memory as that of the one that had most.
    #[serde(flatten)]
    pub taken: Taken,
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
            taken: Taken::new(&usage.spent),
        }
    }
}
