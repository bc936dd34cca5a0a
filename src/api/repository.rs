//! The git repository of an app: where it can be pushed to on this host. Ours.

use serde::{Deserialize, Serialize};

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Where it is.
    pub path: String,
}
