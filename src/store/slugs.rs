//! Table `slugs`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::columns::{Bits, Json, Time};
use super::{Result, Store, StoreError, apps, new_id};
use crate::model::release::{ProcessTypes, Slug};

/// The description of a slug whose tarball is still to be uploaded.
#[derive(Debug, Clone, Default)]
pub struct NewSlug {
    /// The process types of the Procfile.
    pub process_types: ProcessTypes,
    /// The digest that the tarball will have, if known: an upload with another digest is refused.
    pub digest: Option<String>,
    /// The commit that it was made from.
    pub commit: Option<String>,
    /// The first line of that commit's message.
    pub commit_description: Option<String>,
}

impl Store {
    /// Adds a slug of an app, without its tarball.
    ///
    /// # Errors
    /// [`StoreError::NoApp`].
    pub fn create_slug(&mut self, app_id: &str, new: &NewSlug, now: Timestamp) -> Result<Slug> {
        self.write(|transaction| insert(transaction, app_id, new, now))
    }

    /// Stores that the slug's tarball has arrived, `size` bytes long.
    ///
    /// # Errors
    /// [`StoreError::NoSlug`], and [`StoreError::OtherDigest`] when another digest was announced or has arrived before:
    /// a slug never changes.
    pub fn slug_uploaded(
        &mut self,
        id: &str,
        digest: &str,
        size: u64,
        now: Timestamp,
    ) -> Result<Slug> {
        self.write(|transaction| note_uploaded(transaction, id, digest, size, now))
    }

    /// The slug with this id.
    ///
    /// # Errors
    /// [`StoreError::NoSlug`].
    pub fn slug(&self, id: &str) -> Result<Slug> {
        find(&self.connection, id)
    }

    /// The id of the app for which a slug was made; None if that is no more.
    ///
    /// # Errors
    /// [`StoreError::NoSlug`].
    pub fn app_of_slug(&self, id: &str) -> Result<Option<String>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT app_id FROM slugs WHERE id = ?1")?;
        let app = statement.query_row([id], |row| row.get(0)).optional()?;
        app.ok_or_else(|| StoreError::NoSlug(id.to_owned()))
    }

    /// Deletes a slug whose tarball turned out not to be valid, unless a release has it.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn discard_slug(&mut self, id: &str) -> Result<()> {
        self.write(|transaction| {
            transaction
                .prepare_cached(
                    "DELETE FROM slugs WHERE id = ?1 \
                     AND NOT EXISTS (SELECT 1 FROM releases WHERE slug_id = ?1)",
                )?
                .execute([id])?;
            Ok(())
        })
    }

    /// The digests of all slugs that have arrived: the tarballs to keep.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn kept_digests(&self) -> Result<BTreeSet<String>> {
        self.digests("SELECT DISTINCT digest FROM slugs WHERE uploaded = 1")
    }

    fn digests(&self, select: &str) -> Result<BTreeSet<String>> {
        let mut statement = self.connection.prepare_cached(select)?;
        let digests = statement
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(digests)
    }
}

pub(super) fn insert(
    connection: &Connection,
    app_id: &str,
    new: &NewSlug,
    now: Timestamp,
) -> Result<Slug> {
    apps::find(connection, app_id)?;
    let id = new_id()?;
    connection
        .prepare_cached("INSERT INTO slugs VALUES (?1, ?2, ?3, NULL, 0, ?4, ?5, ?6, ?7, ?7)")?
        .execute(params![
            id,
            app_id,
            new.digest,
            Json(&new.process_types),
            new.commit,
            new.commit_description,
            Time(now)
        ])?;
    find(connection, &id)
}

pub(super) fn note_uploaded(
    connection: &Connection,
    id: &str,
    digest: &str,
    size: u64,
    now: Timestamp,
) -> Result<Slug> {
    let slug = find(connection, id)?;
    if let Some(expected) = slug.digest.filter(|expected| expected != digest) {
        return Err(StoreError::OtherDigest {
            expected,
            actual: digest.to_owned(),
        });
    }
    connection
        .prepare_cached(
            "UPDATE slugs SET digest = ?2, size = ?3, uploaded = 1, updated_at = ?4 WHERE id = ?1",
        )?
        .execute(params![id, digest, Bits(size), Time(now)])?;
    find(connection, id)
}

pub(super) fn find(connection: &Connection, id: &str) -> Result<Slug> {
    connection
        .prepare_cached(
            "SELECT id, digest, size, uploaded, process_types, \"commit\", commit_description, \
             created_at, updated_at FROM slugs WHERE id = ?1",
        )?
        .query_row([id], from_row)
        .optional()?
        .ok_or_else(|| StoreError::NoSlug(id.to_owned()))
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Slug> {
    Ok(Slug {
        id: row.get(0)?,
        digest: row.get(1)?,
        size: row.get::<_, Option<Bits>>(2)?.map(|Bits(size)| size),
        uploaded: row.get(3)?,
        process_types: row.get::<_, Json<_>>(4)?.0,
        commit: row.get(5)?,
        commit_description: row.get(6)?,
        created_at: row.get::<_, Time>(7)?.0,
        updated_at: row.get::<_, Time>(8)?.0,
    })
}
