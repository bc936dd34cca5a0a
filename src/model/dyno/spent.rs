//! What a dyno takes of its host.

use serde::{Deserialize, Serialize};

/// What a dyno, or several, took of memory, processors and disks until now or their end. None: not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// The most memory that it had at once, in bytes, with the files that the kernel keeps in memory for it where it has a
    /// control group.
    pub peak_memory: Option<u64>,
    /// Time of the processors, in microseconds.
    pub cpu_micros: Option<u64>,
    /// Bytes read from disks.
    pub bytes_read: Option<u64>,
    /// Bytes written to disks.
    pub bytes_written: Option<u64>,
}

impl Spent {
    /// What is known here, else what is known there.
    pub fn or(self, other: Self) -> Self {
        Self {
            peak_memory: self.peak_memory.or(other.peak_memory),
            cpu_micros: self.cpu_micros.or(other.cpu_micros),
            bytes_read: self.bytes_read.or(other.bytes_read),
            bytes_written: self.bytes_written.or(other.bytes_written),
        }
    }
}
