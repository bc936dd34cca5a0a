//! Table `releases`, with the config vars: an app's config is that of its newest release.

use std::ops::RangeInclusive;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::columns::{Json, Time};
use super::folders::{self, PackedFrom};
use super::formation::{self, follow_release};
use super::{Result, Store, StoreError, apps, new_id, slugs};
use crate::model::config_var::{self, Config, ConfigChange};
use crate::model::release::{
    RELEASE_PHASE, Release, ReleaseChange, ReleaseStatus, Toolchains, Version,
};

/// A deploy: which slug becomes a release.
#[derive(Debug, Clone, Default)]
pub struct NewRelease {
    /// A slug whose tarball has arrived.
    pub slug_id: String,
    /// Its description; None: Heroku's `Deploy SHA8`.
    pub description: Option<String>,
    /// The toolchains of the user who deploys. None: those of the app's newest release.
    pub toolchains: Option<Toolchains>,
    /// The folder that the slug was packed from.
    pub packed: Option<PackedFrom>,
    /// The deploy was made by a command that needs one, such as `dyno run`: no web dynos are started for it.
    pub without_web: bool,
}

/// The parts of a release: slug, config and toolchains.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    slug_id: Option<String>,
    config: Config,
    toolchains: Toolchains,
}

impl Snapshot {
    /// A slug with an empty config.
    pub(super) fn of_slug(slug_id: String, toolchains: Toolchains) -> Self {
        Self {
            slug_id: Some(slug_id),
            config: Config::new(),
            toolchains,
        }
    }
}

impl Store {
    /// Makes a release of a slug, with the app's config.
    ///
    /// # Errors
    /// [`StoreError::NoApp`], [`StoreError::NoSlug`], [`StoreError::NotUploaded`].
    pub fn create_release(
        &mut self,
        app_id: &str,
        new: &NewRelease,
        user: &str,
        now: Timestamp,
    ) -> Result<Release> {
        self.write(|transaction| create(transaction, app_id, new, user, now))
    }

    /// Makes a release of the slug, config and toolchains of an earlier one, named by version (`v3`, `3`) or id. Like
    /// Heroku, only of one that succeeded and had a slug; unlike Heroku, not of the current one, since that would
    /// change nothing. With `slug`, the new release has that slug instead of the earlier release's.
    ///
    /// # Errors
    /// [`StoreError::NoApp`], [`StoreError::NoRelease`], [`StoreError::NotEligible`], [`StoreError::Expired`],
    /// [`StoreError::AlreadyCurrent`].
    pub fn rollback(
        &mut self,
        app_id: &str,
        release: &str,
        slug: Option<String>,
        user: &str,
        now: Timestamp,
    ) -> Result<Release> {
        self.write(|transaction| {
            let old = find(transaction, app_id, release)?;
            if old.current {
                return Err(StoreError::AlreadyCurrent(old.app_name, old.version));
            }
            if old.status == ReleaseStatus::Expired {
                return Err(StoreError::Expired(old.app_name, old.version));
            }
            if !old.eligible_for_rollback() {
                return Err(StoreError::NotEligible(old.app_name, old.version));
            }
            let mut snapshot = snapshot(transaction, &old.id)?;
            snapshot.slug_id = slug.or(snapshot.slug_id);
            let description = ReleaseChange::Rollback(old.version).to_string();
            insert(transaction, app_id, &snapshot, &description, user, now)
        })
    }

    /// Stores how the release phase of a release has ended. A release that succeeded becomes the current one, unless a
    /// newer one is.
    ///
    /// # Errors
    /// [`StoreError::NoRelease`], [`StoreError::NoApp`].
    pub fn finish_release(
        &mut self,
        app_id: &str,
        release_id: &str,
        succeeded: bool,
        now: Timestamp,
    ) -> Result<Release> {
        let status = match succeeded {
            true => ReleaseStatus::Succeeded,
            false => ReleaseStatus::Failed,
        };
        self.write(|transaction| {
            transaction
                .prepare_cached(
                    "UPDATE releases SET status = ?2, updated_at = ?3 \
                     WHERE id = ?1 AND status = 'pending'",
                )?
                .execute(params![release_id, status, Time(now)])?;
            let release = find(transaction, app_id, release_id)?;
            if release.current {
                follow_release(transaction, app_id, &release.process_types, now)?;
            }
            Ok(release)
        })
    }

    /// The releases whose release phase has not ended, of all apps, the oldest first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn pending_releases(&self) -> Result<Vec<Release>> {
        let mut statement = self.connection.prepare_cached(&format!(
            "{SELECT} WHERE status = 'pending' ORDER BY releases.created_at"
        ))?;
        let releases = statement
            .query_map([], from_row)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(releases)
    }

    /// Changes config vars and makes a release if that changes anything. Returns the whole new config and that release.
    ///
    /// # Errors
    /// [`StoreError::NoApp`]; [`StoreError::Rule`] for a bad name or too much.
    pub fn change_config(
        &mut self,
        app_id: &str,
        change: &ConfigChange,
        user: &str,
        now: Timestamp,
    ) -> Result<(Config, Option<Release>)> {
        self.write(|transaction| {
            let mut snapshot = newest_snapshot(transaction, app_id)?;
            let changed = config_var::apply(&snapshot.config, change)?;
            let differs = |name: &&str| snapshot.config.get(*name) != changed.get(*name);
            let names = change.keys().map(String::as_str).filter(differs);
            let (set, removed): (Vec<_>, Vec<_>) =
                names.partition(|name| changed.contains_key(*name));
            if set.is_empty() && removed.is_empty() {
                return Ok((changed, None));
            }
            let description = ReleaseChange::Config {
                set: &set,
                removed: &removed,
            }
            .to_string();
            snapshot.config = changed;
            let release = insert(transaction, app_id, &snapshot, &description, user, now)?;
            Ok((snapshot.config, Some(release)))
        })
    }

    /// The config of an app.
    ///
    /// # Errors
    /// [`StoreError::NoApp`].
    pub fn config(&self, app_id: &str) -> Result<Config> {
        Ok(newest_snapshot(&self.connection, app_id)?.config)
    }

    /// The config as it was in a release, by the release's id.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn release_config(&self, release_id: &str) -> Result<Config> {
        Ok(snapshot(&self.connection, release_id)?.config)
    }

    /// The first `max` of an app's releases with these versions, in the given order, and whether there are more.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn release_page(
        &self,
        app_id: &str,
        versions: RangeInclusive<Version>,
        descending: bool,
        max: usize,
    ) -> Result<(Vec<Release>, bool)> {
        let order = if descending { "DESC" } else { "ASC" };
        let mut statement = self.connection.prepare_cached(&format!(
            "{SELECT} WHERE releases.app_id = ?1 AND version BETWEEN ?2 AND ?3 \
             ORDER BY version {order} LIMIT ?4"
        ))?;
        let limit = i64::try_from(max).unwrap_or(i64::MAX).saturating_add(1);
        let mut releases = statement
            .query_map(
                params![app_id, versions.start(), versions.end(), limit],
                from_row,
            )?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let more = releases.len() > max;
        releases.truncate(max);
        Ok((releases, more))
    }

    /// The release of an app with this version (`v3`, `3`) or id.
    ///
    /// # Errors
    /// [`StoreError::NoApp`], [`StoreError::NoRelease`].
    pub fn release(&self, app_id: &str, version_or_id: &str) -> Result<Release> {
        find(&self.connection, app_id, version_or_id)
    }

    /// The release that an app runs: its newest one that succeeded. It may have no slug yet.
    ///
    /// # Errors
    /// [`StoreError::NoApp`].
    pub fn current_release(&self, app_id: &str) -> Result<Release> {
        current(&self.connection, app_id)
    }
}

/// Makes a release of a slug.
pub(super) fn create(
    connection: &Connection,
    app_id: &str,
    new: &NewRelease,
    user: &str,
    now: Timestamp,
) -> Result<Release> {
    let slug = slugs::find(connection, &new.slug_id)?;
    let Some(digest) = slug.digest.filter(|_| slug.uploaded) else {
        return Err(StoreError::NotUploaded(slug.id));
    };
    let newest = newest_snapshot(connection, app_id)?;
    let snapshot = Snapshot {
        slug_id: Some(slug.id),
        config: newest.config,
        toolchains: new.toolchains.clone().unwrap_or(newest.toolchains),
    };
    let description = new.description.clone().unwrap_or_else(|| {
        ReleaseChange::Deploy(slug.commit.as_deref().unwrap_or(&digest)).to_string()
    });
    if !new.without_web {
        formation::note_formed(connection, app_id)?;
    }
    let release = insert(connection, app_id, &snapshot, &description, user, now)?;
    if let Some(packed) = &new.packed {
        folders::note_packed(connection, app_id, packed, now)?;
    }
    Ok(release)
}

pub(super) fn current(connection: &Connection, app_id: &str) -> Result<Release> {
    connection
        .prepare_cached(&format!(
            "{SELECT} WHERE releases.app_id = ?1 AND status = 'succeeded' \
             ORDER BY version DESC LIMIT 1"
        ))?
        .query_row([app_id], from_row)
        .optional()?
        .ok_or_else(|| StoreError::NoApp(app_id.to_owned()))
}

/// Adds the next release of an app. It becomes the current one at once, unless it has a release phase.
pub(super) fn insert(
    connection: &Connection,
    app_id: &str,
    snapshot: &Snapshot,
    description: &str,
    user: &str,
    now: Timestamp,
) -> Result<Release> {
    let id = new_id()?;
    let types = match &snapshot.slug_id {
        Some(slug) => Some(slugs::find(connection, slug)?.process_types),
        None => None,
    };
    let has_phase = types
        .as_ref()
        .is_some_and(|types| types.get(RELEASE_PHASE).is_some());
    let status = match has_phase {
        true => ReleaseStatus::Pending,
        false => ReleaseStatus::Succeeded,
    };
    connection
        .prepare_cached(
            "INSERT INTO releases VALUES (?1, ?2, \
             (SELECT coalesce(max(version), 0) + 1 FROM releases WHERE app_id = ?2), \
             ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)",
        )?
        .execute(params![
            id,
            app_id,
            status,
            description,
            user,
            snapshot.slug_id,
            Json(&snapshot.config),
            Json(&snapshot.toolchains),
            Time(now)
        ])?;
    connection
        .prepare_cached("UPDATE apps SET updated_at = ?2 WHERE id = ?1")?
        .execute(params![app_id, Time(now)])?;
    if let Some(types) = types
        && !has_phase
    {
        follow_release(connection, app_id, &types, now)?;
    }
    find(connection, app_id, &id)
}

fn find(connection: &Connection, app_id: &str, version_or_id: &str) -> Result<Release> {
    let version = version_or_id.parse::<Version>().ok();
    let release = connection
        .prepare_cached(&format!(
            "{SELECT} WHERE releases.app_id = ?1 AND (releases.id = ?2 OR version = ?3)"
        ))?
        .query_row(params![app_id, version_or_id, version], from_row)
        .optional()?;
    match release {
        Some(release) => Ok(release),
        None => Err(StoreError::NoRelease(
            apps::find(connection, app_id)?.name,
            version_or_id.into(),
        )),
    }
}

/// What the next release is based on: the newest config, and the newest slug whose release did not fail.
fn newest_snapshot(connection: &Connection, app_id: &str) -> Result<Snapshot> {
    connection
        .prepare_cached(
            "SELECT slug_id, (SELECT config FROM releases WHERE app_id = ?1 \
             ORDER BY version DESC LIMIT 1), toolchains \
             FROM releases WHERE app_id = ?1 AND status <> 'failed' \
             ORDER BY version DESC LIMIT 1",
        )?
        .query_row([app_id], snapshot_from_row)
        .optional()?
        .ok_or_else(|| StoreError::NoApp(app_id.to_owned()))
}

fn snapshot(connection: &Connection, release_id: &str) -> Result<Snapshot> {
    let snapshot = connection
        .prepare_cached("SELECT slug_id, config, toolchains FROM releases WHERE id = ?1")?
        .query_row([release_id], snapshot_from_row)?;
    Ok(snapshot)
}

fn snapshot_from_row(row: &Row<'_>) -> rusqlite::Result<Snapshot> {
    Ok(Snapshot {
        slug_id: row.get(0)?,
        config: row.get::<_, Json<_>>(1)?.0,
        toolchains: row.get::<_, Json<_>>(2)?.0,
    })
}

const SELECT: &str = "SELECT releases.id, releases.app_id, apps.name, version, status,
    version = (SELECT max(version) FROM releases AS others
               WHERE others.app_id = releases.app_id AND others.status = 'succeeded'),
    description, user, slug_id, digest, coalesce(process_types, '{}'), toolchains,
    releases.created_at, releases.updated_at
    FROM releases JOIN apps ON apps.id = releases.app_id LEFT JOIN slugs ON slugs.id = slug_id";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Release> {
    Ok(Release {
        id: row.get(0)?,
        app_id: row.get(1)?,
        app_name: row.get(2)?,
        version: row.get(3)?,
        status: row.get(4)?,
        current: row.get(5)?,
        description: row.get(6)?,
        user: row.get(7)?,
        slug_id: row.get(8)?,
        digest: row.get(9)?,
        process_types: row.get::<_, Json<_>>(10)?.0,
        toolchains: row.get::<_, Json<_>>(11)?.0,
        created_at: row.get::<_, Time>(12)?.0,
        updated_at: row.get::<_, Time>(13)?.0,
    })
}
