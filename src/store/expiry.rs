//! Releases that are too old for a rollback: which, and which slugs are deleted with them.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::columns::{Bits, Time};
use super::{Result, Store};
use crate::model::release::{self, Kept, Version};

/// How long an uploaded slug is kept without a release: its client is about to make one.
const UNRELEASED: SignedDuration = SignedDuration::from_hours(24);

/// The releases that have expired, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The oldest and the newest of them.
    pub versions: (Version, Version),
    /// How many slugs were deleted with them.
    pub slugs: usize,
    /// The sizes of their tarballs together, in bytes.
    pub bytes: u64,
}

impl Store {
    /// Expires an app's releases beyond its newest `keep`, but for those that are [needed](release::expired). Their
    /// rows stay, without slug and config. Slugs of no release any more are deleted, and so are those that have waited
    /// for a release for a day.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub fn expire_releases(
        &mut self,
        app_id: &str,
        keep: u32,
        now: Timestamp,
    ) -> Result<Option<Expired>> {
        self.write(|transaction| {
            let releases = candidates(transaction, app_id)?;
            let versions = release::expired(&releases, keep);
            let mut slug_of = transaction.prepare_cached(
                "SELECT slug_id FROM releases \
                 WHERE app_id = ?1 AND version = ?2 AND slug_id IS NOT NULL",
            )?;
            let mut expire = transaction.prepare_cached(
                "UPDATE releases SET slug_id = NULL, config = '{}', updated_at = ?3, \
                 status = CASE status WHEN 'succeeded' THEN 'expired' ELSE status END \
                 WHERE app_id = ?1 AND version = ?2",
            )?;
            let mut let_go = BTreeSet::new();
            for version in &versions {
                let slug: Option<String> = slug_of
                    .query_row(params![app_id, version], |row| row.get(0))
                    .optional()?;
                let_go.extend(slug);
                expire.execute(params![app_id, version, Time(now)])?;
            }
            let (slugs, bytes) = forget_slugs(transaction, app_id, &let_go, now)?;
            let ends = versions.first().zip(versions.last());
            Ok(ends.map(|(oldest, newest)| Expired {
                versions: (*oldest, *newest),
                slugs,
                bytes,
            }))
        })
    }
}

/// An app's releases that have not expired, the newest first.
fn candidates(connection: &Connection, app_id: &str) -> Result<Vec<Kept>> {
    let mut statement = connection.prepare_cached(
        "SELECT version, status, slug_id IS NOT NULL, EXISTS \
         (SELECT 1 FROM dynos WHERE release_id = releases.id AND ended_at IS NULL) \
         FROM releases WHERE app_id = ?1 AND (status IN ('succeeded', 'pending') OR slug_id IS NOT NULL) \
         ORDER BY version DESC",
    )?;
    let releases = statement.query_map([app_id], |row| {
        Ok(Kept {
            version: row.get(0)?,
            status: row.get(1)?,
            has_slug: row.get(2)?,
            runs: row.get(3)?,
        })
    })?;
    Ok(releases.collect::<rusqlite::Result<_>>()?)
}

/// Deletes slugs of no release: those of `let_go`, and those of the app that have waited for one too long. Returns how
/// many, and their bytes.
fn forget_slugs(
    connection: &Connection,
    app_id: &str,
    let_go: &BTreeSet<String>,
    now: Timestamp,
) -> Result<(usize, u64)> {
    let waited = now.saturating_sub(UNRELEASED).unwrap_or(Timestamp::MIN);
    let unreleased: Vec<String> = connection
        .prepare_cached("SELECT id FROM slugs WHERE app_id = ?1 AND updated_at < ?2")?
        .query_map(params![app_id, Time(waited)], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut forget = connection.prepare_cached(
        "DELETE FROM slugs WHERE id = ?1 \
         AND NOT EXISTS (SELECT 1 FROM releases WHERE slug_id = ?1) RETURNING size",
    )?;
    let mut forgotten = (0, 0);
    for id in let_go.iter().chain(&unreleased) {
        let size: Option<Option<Bits>> = forget.query_row([id], |row| row.get(0)).optional()?;
        if let Some(size) = size {
            forgotten.0 += 1;
            forgotten.1 += size.map_or(0, |Bits(size)| size);
        }
    }
    Ok(forgotten)
}
