//! The size of a terminal's window.

use serde::{Deserialize, Serialize};

/// The size of a terminal's window, in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Cells per line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

impl Default for WindowSize {
    /// 80 by 24: what every terminal since the VT100 offers.
    fn default() -> Self {
        Self {
            columns: 80,
            rows: 24,
        }
    }
}
