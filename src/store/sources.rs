//! Table `sources`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::columns::Time;
use super::{Result, Store, StoreError, new_id};

/// A source tarball that is or will be uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSource {
    /// A uuid.
    pub id: String,
    /// The digest of the tarball, once it is there.
    pub digest: Option<String>,
}

impl Store {
    /// Adds a source, whose tarball is to be uploaded, if there are fewer than `most` of them.
    ///
    /// # Errors
    /// [`StoreError::TooManySources`].
    pub fn create_source(&mut self, most: u32, now: Timestamp) -> Result<StoredSource> {
        self.write(|transaction| {
            let count: u32 = transaction
                .prepare_cached("SELECT count(*) FROM sources")?
                .query_row([], |row| row.get(0))?;
            if count >= most {
                return Err(StoreError::TooManySources(most));
            }
            let id = new_id()?;
            transaction
                .prepare_cached("INSERT INTO sources VALUES (?1, NULL, ?2)")?
                .execute(params![id, Time(now)])?;
            find(transaction, &id)
        })
    }

    /// The source with this id.
    ///
    /// # Errors
    /// [`StoreError::NoSource`].
    pub fn source(&self, id: &str) -> Result<StoredSource> {
        find(&self.connection, id)
    }

    /// Stores that a source's tarball has arrived. It cannot be replaced by another one later.
    ///
    /// # Errors
    /// [`StoreError::NoSource`], [`StoreError::OtherDigest`].
    pub fn source_uploaded(&mut self, id: &str, digest: &str) -> Result<StoredSource> {
        self.write(|transaction| {
            let source = find(transaction, id)?;
            if let Some(expected) = source.digest.filter(|expected| expected != digest) {
                return Err(StoreError::OtherDigest {
                    expected,
                    actual: digest.to_owned(),
                });
            }
            transaction
                .prepare_cached("UPDATE sources SET digest = ?2 WHERE id = ?1")?
                .execute([id, digest])?;
            find(transaction, id)
        })
    }

    /// Deletes a source, unless it is still to be built.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn forget_source(&mut self, id: &str) -> Result<()> {
        self.write(|transaction| {
            transaction
                .prepare_cached(&format!("DELETE FROM sources WHERE id = ?1 AND {UNUSED}"))?
                .execute([id])?;
            Ok(())
        })
    }

    /// Deletes the sources that are older than `time`, unless they are still to be built.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn forget_sources_before(&mut self, time: Timestamp) -> Result<()> {
        self.write(|transaction| {
            transaction
                .prepare_cached(&format!(
                    "DELETE FROM sources WHERE created_at < ?1 AND {UNUSED}"
                ))?
                .execute([Time(time)])?;
            Ok(())
        })
    }

    /// The digests of all sources that have arrived: the tarballs to keep.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn source_digests(&self) -> Result<BTreeSet<String>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT DISTINCT digest FROM sources WHERE digest IS NOT NULL")?;
        let digests = statement
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(digests)
    }
}

/// SQL: no build that waits or runs needs the source.
const UNUSED: &str = "NOT EXISTS (SELECT 1 FROM builds \
     WHERE source_id = sources.id AND status = 'pending')";

pub(super) fn find(connection: &Connection, id: &str) -> Result<StoredSource> {
    connection
        .prepare_cached("SELECT id, digest FROM sources WHERE id = ?1")?
        .query_row([id], |row| {
            Ok(StoredSource {
                id: row.get(0)?,
                digest: row.get(1)?,
            })
        })
        .optional()?
        .ok_or_else(|| StoreError::NoSource(id.to_owned()))
}
