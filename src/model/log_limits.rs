//! How much of an app's log is kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How much of an app's log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// How much of the disk it may take, in bytes.
    pub bytes: u64,
    /// How long a line is kept.
    pub age: Duration,
}

impl Default for LogLimits {
    /// 256 MiB, and a week.
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            age: Duration::from_secs(7 * 24 * 3600),
        }
    }
}
