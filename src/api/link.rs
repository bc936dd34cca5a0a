//! The link resource, `/links`: which app a folder belongs to. All of it is ours.

use serde::{Deserialize, Serialize};

use super::account::Identity;
use super::app::{App, Places};
use super::{ApiError, BodyFields, ExactTime};
use crate::model::app::Folder;

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
    pub fn new(link: &crate::model::app::Link, owner: &Identity, places: &Places) -> Self {
        Self {
            app: App::new(&link.app, owner, places),
            path: link.path.clone(),
            packed_at: link.packed_at.map(ExactTime),
        }
    }
}

/// `PUT /links`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CreateLink {
    /// The app, by name or id.
    pub app: String,
    /// The folder to link to it.
    pub folder: Folder,
}

impl CreateLink {
    /// Reads a body.
    ///
    /// # Errors
    /// When a field is missing or wrong.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let fields = BodyFields::parse(body)?;
        let folder: Folder = fields.required("folder")?;
        folder.check()?;
        Ok(Self {
            app: fields.required("app")?,
            folder,
        })
    }
}
