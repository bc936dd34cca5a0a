//! Table `apps`.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::columns::{Bits, Json, Time};
use super::folders::link;
use super::releases::{self, Snapshot};
use super::{Result, Store, StoreError, new_id};
use crate::kernel::random;
use crate::model::app::{App, AppName, Folder};
use crate::model::builder::Builder;
use crate::model::network::DynoNetwork;
use crate::model::release::ReleaseChange;

/// The name that is asked for a new app.
#[derive(Debug, Clone)]
pub enum WantedName {
    /// This name; an error if it is taken.
    Exactly(AppName),
    /// This name, with the first free number appended if it is taken.
    Like(AppName),
    /// A generated name.
    Any,
}

impl Store {
    /// Creates an app with its first release, and links `folder` to it.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`].
    pub fn create_app(
        &mut self,
        wish: &WantedName,
        user: &str,
        folder: Option<&Folder>,
        now: Timestamp,
    ) -> Result<App> {
        self.write(|transaction| {
            let app = insert(transaction, wish, user, now)?;
            if let Some(folder) = folder {
                link(transaction, &app.id, folder, None, now)?;
            }
            find(transaction, &app.id)
        })
    }

    /// All apps, by name.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn apps(&self) -> Result<Vec<App>> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("{SELECT} ORDER BY name"))?;
        let apps = statement
            .query_map([], from_row)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(apps)
    }

    /// The app with this name or id.
    ///
    /// # Errors
    /// [`StoreError::NoApp`].
    pub fn app(&self, name_or_id: &str) -> Result<App> {
        find(&self.connection, name_or_id)
    }

    /// Switches maintenance mode of an app on or off.
    ///
    /// # Errors
    /// [`StoreError::NoApp`].
    pub fn set_maintenance(&mut self, id: &str, maintenance: bool, now: Timestamp) -> Result<App> {
        self.set(id, "maintenance", maintenance, now)
    }

    /// Gives an app's dynos this network; None: what the setting says. For those that start from now on.
    ///
    /// # Errors
    /// [`StoreError::NoApp`].
    pub fn set_network(
        &mut self,
        id: &str,
        network: Option<DynoNetwork>,
        now: Timestamp,
    ) -> Result<App> {
        self.set(id, "network", network, now)
    }

    /// Has this builder make slugs of the app's source from now on.
    ///
    /// # Errors
    /// [`StoreError::NoApp`].
    pub fn set_builder(&mut self, id: &str, builder: Builder, now: Timestamp) -> Result<App> {
        self.set(id, "builder", builder, now)
    }

    /// Gives an app these buildpacks, by their addresses.
    ///
    /// # Errors
    /// [`StoreError::NoApp`].
    pub fn set_buildpacks(
        &mut self,
        id: &str,
        buildpacks: &[String],
        now: Timestamp,
    ) -> Result<App> {
        self.set(id, "buildpacks", Json(buildpacks), now)
    }

    /// Has the dynos of an app log what they take, from their next start on, or no more.
    ///
    /// # Errors
    /// [`StoreError::NoApp`].
    pub fn set_runtime_metrics(&mut self, id: &str, enabled: bool, now: Timestamp) -> Result<App> {
        self.set(id, "runtime_metrics", enabled, now)
    }

    /// Gives a column of an app this value; what it has already is no change.
    fn set(
        &mut self,
        id: &str,
        column: &'static str,
        value: impl ToSql,
        now: Timestamp,
    ) -> Result<App> {
        self.write(|transaction| {
            transaction
                .prepare_cached(&format!(
                    "UPDATE apps SET {column} = ?2, updated_at = ?3 \
                     WHERE id = ?1 AND {column} IS NOT ?2"
                ))?
                .execute(params![id, value, Time(now)])?;
            find(transaction, id)
        })
    }

    /// Renames an app. Its id and everything that belongs to it stay.
    ///
    /// # Errors
    /// [`StoreError::NoApp`], [`StoreError::NameTaken`].
    pub fn rename_app(&mut self, id: &str, name: &AppName, now: Timestamp) -> Result<App> {
        self.write(|transaction| {
            let app = find(transaction, id)?;
            if app.name == *name {
                return Ok(app);
            }
            let name = free_name(transaction, &WantedName::Exactly(name.clone()))?;
            transaction
                .prepare_cached("UPDATE apps SET name = ?2, updated_at = ?3 WHERE id = ?1")?
                .execute(params![app.id, name, Time(now)])?;
            find(transaction, id)
        })
    }

    /// Deletes an app and all that belongs to it. The caller stops its dynos before. A slug that another app has
    /// released stays.
    ///
    /// # Errors
    /// [`StoreError::NoApp`].
    pub fn destroy_app(&mut self, id: &str) -> Result<()> {
        self.write(|transaction| {
            let destroyed = transaction
                .prepare_cached("DELETE FROM apps WHERE id = ?1")?
                .execute([id])?;
            if destroyed == 0 {
                return Err(StoreError::NoApp(id.to_owned()));
            }
            transaction.execute(
                "DELETE FROM slugs WHERE app_id IS NULL \
                 AND NOT EXISTS (SELECT 1 FROM releases WHERE slug_id = slugs.id)",
                [],
            )?;
            Ok(())
        })
    }
}

/// Inserts an app and its first release.
pub(super) fn insert(
    connection: &Connection,
    wish: &WantedName,
    user: &str,
    now: Timestamp,
) -> Result<App> {
    let id = new_id()?;
    let name = free_name(connection, wish)?;
    connection
        .prepare_cached(
            "INSERT INTO apps (id, name, created_at, updated_at) VALUES (?1, ?2, ?3, ?3)",
        )?
        .execute(params![id, name, Time(now)])?;
    let first = Snapshot::default();
    let description = ReleaseChange::Initial.to_string();
    releases::insert(connection, &id, &first, &description, user, now)?;
    find(connection, &id)
}

fn free_name(connection: &Connection, wish: &WantedName) -> Result<AppName> {
    let mut taken = connection.prepare_cached("SELECT 1 FROM apps WHERE name = ?1")?;
    match wish {
        WantedName::Exactly(name) if taken.exists([name])? => {
            Err(StoreError::NameTaken(name.clone()))
        }
        WantedName::Exactly(name) => Ok(name.clone()),
        WantedName::Like(name) => {
            for candidate in name.candidates() {
                if !taken.exists([&candidate])? {
                    return Ok(candidate);
                }
            }
            Err(StoreError::NameTaken(name.clone()))
        }
        WantedName::Any => loop {
            let name = AppName::random(u64::from_ne_bytes(random::bytes()?));
            if !taken.exists([&name])? {
                return Ok(name);
            }
        },
    }
}

const SELECT: &str = "SELECT id, name, created_at, updated_at,
    (SELECT created_at FROM releases WHERE app_id = apps.id ORDER BY version DESC LIMIT 1),
    (SELECT slugs.size FROM releases JOIN slugs ON slugs.id = slug_id
     WHERE releases.app_id = apps.id AND status = 'succeeded' ORDER BY version DESC LIMIT 1),
    coalesce((SELECT path FROM sessions WHERE app_id = apps.id),
             (SELECT path FROM folders WHERE app_id = apps.id ORDER BY linked_at DESC, path LIMIT 1)),
    maintenance, network, runtime_metrics, builder, buildpacks
    FROM apps";

/// The app with this name or id. No name looks like an id, which is too long for one.
pub(super) fn find(connection: &Connection, name_or_id: &str) -> Result<App> {
    connection
        .prepare_cached(&format!("{SELECT} WHERE name = ?1 OR id = ?1"))?
        .query_row([name_or_id], from_row)
        .optional()?
        .ok_or_else(|| StoreError::NoApp(name_or_id.to_owned()))
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<App> {
    Ok(App {
        id: row.get(0)?,
        name: row.get(1)?,
        created_at: row.get::<_, Time>(2)?.0,
        updated_at: row.get::<_, Time>(3)?.0,
        released_at: row.get::<_, Time>(4)?.0,
        slug_size: row.get::<_, Option<Bits>>(5)?.map(|Bits(size)| size),
        folder: row.get(6)?,
        maintenance: row.get(7)?,
        network: row.get(8)?,
        runtime_metrics: row.get(9)?,
        builder: row.get(10)?,
        buildpacks: row.get::<_, Json<_>>(11)?.0,
    })
}
