//! Table `builds`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::columns::{Json, Time};
use super::releases::NewRelease;
use super::{NewSlug, Result, Store, StoreError, apps, new_id, releases, slugs, sources};
use crate::model::release::build::{Build, BuildSource, BuildStatus};
use crate::model::release::{ProcessTypes, Release};

/// How many ended builds of an app are kept.
pub const KEPT_BUILDS: u32 = 100;

/// The result of a build that succeeded.
#[derive(Debug)]
pub struct Built {
    /// The SHA-256 of the slug's tarball.
    pub digest: String,
    /// The tarball's size in bytes.
    pub size: u64,
    /// The process types of its Procfile.
    pub process_types: ProcessTypes,
    /// What was said of the release when the build was asked for; its slug is this one.
    pub release: NewRelease,
}

impl Store {
    /// Adds a pending build of a source whose tarball has arrived. Deletes the oldest ended builds beyond [`KEPT_BUILDS`].
    ///
    /// # Errors
    /// [`StoreError::NoApp`], [`StoreError::NoSource`], [`StoreError::SourceNotUploaded`], and
    /// [`StoreError::OtherDigest`] when the tarball's digest is not the announced one.
    pub fn create_build(
        &mut self,
        app_id: &str,
        source: &BuildSource,
        buildpacks: &[String],
        user: &str,
        now: Timestamp,
    ) -> Result<Build> {
        self.write(|transaction| {
            apps::find(transaction, app_id)?;
            let uploaded = sources::find(transaction, &source.id)?.digest;
            let actual = uploaded.ok_or(StoreError::SourceNotUploaded)?;
            if let Some(expected) = source.digest.clone().filter(|it| *it != actual) {
                return Err(StoreError::OtherDigest { expected, actual });
            }
            let id = new_id()?;
            transaction
                .prepare_cached(
                    "INSERT INTO builds VALUES \
                     (?1, ?2, 'pending', ?3, ?4, ?5, ?6, ?7, ?8, NULL, NULL, ?9, ?9, ?10)",
                )?
                .execute(params![
                    id,
                    app_id,
                    user,
                    source.id,
                    source.url,
                    source.commit,
                    source.commit_description,
                    source.digest,
                    Time(now),
                    Json(buildpacks)
                ])?;
            transaction
                .prepare_cached(
                    "DELETE FROM builds WHERE app_id = ?1 AND status <> 'pending' AND id NOT IN \
                     (SELECT id FROM builds WHERE app_id = ?1 AND status <> 'pending' \
                      ORDER BY created_at DESC LIMIT ?2)",
                )?
                .execute(params![app_id, KEPT_BUILDS])?;
            find(transaction, &id)
        })
    }

    /// Makes a slug and a release from a build's result, and marks the build as succeeded.
    ///
    /// # Errors
    /// [`StoreError::NoBuild`], also when it was cancelled meanwhile; [`StoreError::NoApp`].
    pub fn release_build(
        &mut self,
        build_id: &str,
        built: &Built,
        now: Timestamp,
    ) -> Result<(Build, Release)> {
        self.write(|transaction| {
            let build = find(transaction, build_id)?;
            if build.status != BuildStatus::Pending {
                return Err(StoreError::NoBuild(build.id));
            }
            let slug = slugs::insert(
                transaction,
                &build.app_id,
                &NewSlug {
                    process_types: built.process_types.clone(),
                    digest: Some(built.digest.clone()),
                    commit: build.source.commit,
                    commit_description: build.source.commit_description,
                },
                now,
            )?;
            slugs::note_uploaded(transaction, &slug.id, &built.digest, built.size, now)?;
            let new = NewRelease {
                slug_id: slug.id.clone(),
                ..built.release.clone()
            };
            let release = releases::create(transaction, &build.app_id, &new, &build.user, now)?;
            transaction
                .prepare_cached(
                    "UPDATE builds SET status = 'succeeded', slug_id = ?2, release_id = ?3, \
                     updated_at = ?4 WHERE id = ?1",
                )?
                .execute(params![build.id, slug.id, release.id, Time(now)])?;
            Ok((find(transaction, build_id)?, release))
        })
    }

    /// Marks a build as failed, unless it has ended already.
    ///
    /// # Errors
    /// [`StoreError::NoBuild`].
    pub fn fail_build(&mut self, id: &str, now: Timestamp) -> Result<Build> {
        self.write(|transaction| {
            transaction
                .prepare_cached(
                    "UPDATE builds SET status = 'failed', updated_at = ?2 \
                     WHERE id = ?1 AND status = 'pending'",
                )?
                .execute(params![id, Time(now)])?;
            find(transaction, id)
        })
    }

    /// The builds that have not ended, the oldest first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn pending_builds(&self) -> Result<Vec<Build>> {
        let mut statement = self.connection.prepare_cached(&format!(
            "{SELECT} WHERE status = 'pending' ORDER BY created_at"
        ))?;
        let builds = statement
            .query_map([], from_row)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(builds)
    }

    /// The builds of an app that are kept, the oldest first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn builds(&self, app_id: &str) -> Result<Vec<Build>> {
        let mut statement = self.connection.prepare_cached(&format!(
            "{SELECT} WHERE app_id = ?1 ORDER BY created_at, id"
        ))?;
        let builds = statement
            .query_map([app_id], from_row)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(builds)
    }

    /// The build with this id.
    ///
    /// # Errors
    /// [`StoreError::NoBuild`].
    pub fn build(&self, id: &str) -> Result<Build> {
        find(&self.connection, id)
    }

    /// The ids of all builds that are kept, of all apps.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn build_ids(&self) -> Result<BTreeSet<String>> {
        let mut statement = self.connection.prepare_cached("SELECT id FROM builds")?;
        let ids = statement
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(ids)
    }
}

const SELECT: &str = "SELECT id, app_id, status, user, source_id, source_url, \"commit\", \
     commit_description, checksum, slug_id, release_id, created_at, updated_at, buildpacks FROM builds";

fn find(connection: &Connection, id: &str) -> Result<Build> {
    connection
        .prepare_cached(&format!("{SELECT} WHERE id = ?1"))?
        .query_row([id], from_row)
        .optional()?
        .ok_or_else(|| StoreError::NoBuild(id.to_owned()))
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Build> {
    Ok(Build {
        id: row.get(0)?,
        app_id: row.get(1)?,
        status: row.get(2)?,
        user: row.get(3)?,
        source: BuildSource {
            id: row.get(4)?,
            url: row.get(5)?,
            commit: row.get(6)?,
            commit_description: row.get(7)?,
            digest: row.get(8)?,
        },
        slug_id: row.get(9)?,
        release_id: row.get(10)?,
        created_at: row.get::<_, Time>(11)?.0,
        updated_at: row.get::<_, Time>(12)?.0,
        buildpacks: row.get::<_, Json<_>>(13)?.0,
    })
}
