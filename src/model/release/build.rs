//! Builds, as stored: source, status, slug and release.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The status of a build; the words are Heroku's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildStatus {
    /// It waits or runs.
    Pending,
    /// It made a release.
    Succeeded,
    /// It made none.
    Failed,
}

impl BuildStatus {
    /// The word for this status in the API and the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }

    /// The status with this word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Pending, Self::Succeeded, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == word)
    }
}

/// What is built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildSource {
    /// The id of the source.
    pub id: String,
    /// The URL of its tarball, as the client gave it.
    pub url: String,
    /// Its commit or version, as the client gave it.
    pub commit: Option<String>,
    /// The first line of that commit's message.
    pub commit_description: Option<String>,
    /// The digest of its tarball, as the client gave it.
    pub digest: Option<String>,
}

/// A build. Its log is a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// A uuid.
    pub id: String,
    /// The app's uuid.
    pub app_id: String,
    /// Its status.
    pub status: BuildStatus,
    /// The user who asked for it.
    pub user: String,
    /// What is built.
    pub source: BuildSource,
    /// The id of the slug that it made.
    pub slug_id: Option<String>,
    /// The id of the release that it made.
    pub release_id: Option<String>,
    /// The addresses of the buildpacks that were named then, in their order.
    pub buildpacks: Vec<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its status last changed.
    pub updated_at: Timestamp,
}
