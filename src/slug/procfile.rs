//! The Procfile inside a ready slug: for one made elsewhere, it says what the slug can run.

use std::io::Read;

use flate2::read::MultiGzDecoder;

use super::{Limits, bad_slug};
use crate::procfile::MAX_BYTES;

/// The Procfile of a tarball, if it has one; at most one byte more than a Procfile may have, so that a
/// larger one is noticed. Whether all the rest is a slug is found when it is unpacked.
///
/// # Errors
/// It is no gzipped tar as far as it was read.
pub fn procfile_of(tarball: impl Read) -> anyhow::Result<Option<Vec<u8>>> {
    let bounded = MultiGzDecoder::new(tarball).take(Limits::default().unpacked_bytes);
    let mut archive = tar::Archive::new(bounded);
    for entry in archive.entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path_bytes();
        let path = path.strip_prefix(b"./").unwrap_or(&path);
        if path == b"app/Procfile" && entry.header().entry_type().is_file() {
            let mut text = Vec::new();
            entry
                .take(MAX_BYTES as u64 + 1)
                .read_to_end(&mut text)
                .map_err(unreadable)?;
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn unreadable(error: std::io::Error) -> anyhow::Error {
    bad_slug(error.to_string())
}
