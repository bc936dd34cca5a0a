//! The source resource: a place for a tarball that is to be built.

use serde::{Deserialize, Serialize};

/// A place for a tarball.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Where.
    pub source_blob: SourceBlob,
}

/// Where a tarball goes, and is from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceBlob {
    /// What a build is given.
    pub get_url: String,
    /// Where it is uploaded to.
    pub put_url: String,
}

impl Source {
    /// The place whose tarball is put to and read from these.
    pub fn new(put_url: String, get_url: String) -> Self {
        Self {
            source_blob: SourceBlob { get_url, put_url },
        }
    }
}
