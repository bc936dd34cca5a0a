//! Builds as the store has them: which source became which slug and release, and how far that has come.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How far a build has come; the words are Heroku's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildStatus {
    /// It waits or runs.
    Pending,
    /// There is a release of it.
    Succeeded,
    /// There is none.
    Failed,
}

impl BuildStatus {
    /// The word of the API and of the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }

    /// The status of this word.
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
    /// Where its tarball was said to be.
    pub url: String,
    /// The commit that it is, or another name of it.
    pub commit: Option<String>,
    /// That commit's first line.
    pub commit_description: Option<String>,
    /// The digest that its tarball was said to have.
    pub digest: Option<String>,
}

/// A build. Its log is a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// A uuid.
    pub id: String,
    /// The app's uuid.
    pub app_id: String,
    /// How far it has come.
    pub status: BuildStatus,
    /// Who asked for it.
    pub user: String,
    /// What is built.
    pub source: BuildSource,
    /// The slug that came of it.
    pub slug_id: Option<String>,
    /// The release that came of it.
    pub release_id: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its status last changed.
    pub updated_at: Timestamp,
}
