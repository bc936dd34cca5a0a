//! The link resource, `GET /links?path=…`: which app a folder belongs to. All of it is ours.

use serde::{Deserialize, Serialize};

use super::account::Identity;
use super::app::App;
use super::{ExactTime, app};

/// A folder's tie to its app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The app.
    pub app: App,
    /// The linked folder, which may be above the one asked about.
    pub path: String,
    /// When the tree of its newest deploy was read.
    pub packed_at: Option<ExactTime>,
}

impl Link {
    /// The resource of a link.
    pub fn new(link: &crate::app::Link, owner: &Identity) -> Self {
        Self {
            app: app::App::new(&link.app, owner),
            path: link.path.clone(),
            packed_at: link.packed_at.map(ExactTime),
        }
    }
}
