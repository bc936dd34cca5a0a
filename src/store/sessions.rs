//! Table `sessions`: the short-lived apps of `dyno start`. The variables that their dynos get from the command's `.env`
//! are not stored.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::columns::{Bits, Json, Time};
use super::formation::note_scaled;
use super::releases::{self, Snapshot};
use super::{Result, Store, WantedName, apps, new_id};
use crate::model::app::{App, Folder};
use crate::model::release::{ProcessTypes, Toolchains};

/// The app that a `dyno start` asks for.
#[derive(Debug)]
pub struct NewStartedApp<'a> {
    /// The name for its app.
    pub name: WantedName,
    /// The folder that stands for the app while it runs.
    pub folder: &'a Folder,
    /// What runs in the folder itself; None if a slug will be released.
    pub live: Option<NewLiveRelease<'a>>,
}

/// A release that runs in a folder, without a slug.
#[derive(Debug)]
pub struct NewLiveRelease<'a> {
    /// The process types of the Procfile.
    pub process_types: &'a ProcessTypes,
    /// The toolchains of the user who starts it.
    pub toolchains: &'a Toolchains,
    /// The number of dynos of each process type; 0 for those that are not named.
    pub formation: &'a BTreeMap<String, u32>,
}

/// The app of a `dyno start`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartedApp {
    /// A uuid, which only the command that started it is told.
    pub id: String,
    /// Its app.
    pub app_id: String,
    /// The canonical path of its folder.
    pub path: String,
    /// Whether the dynos work in the folder itself.
    pub live: bool,
}

impl Store {
    /// Creates the app of a `dyno start`. With `live`, it has a release at once, of an empty slug without a tarball.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`](super::StoreError::NameTaken); when the folder has one already.
    pub fn create_session(
        &mut self,
        new: &NewStartedApp<'_>,
        user: &str,
        now: Timestamp,
    ) -> Result<(App, StartedApp)> {
        self.write(|transaction| {
            let app = apps::insert(transaction, &new.name, user, now)?;
            let id = new_id()?;
            let folder = new.folder;
            transaction
                .prepare_cached("INSERT INTO sessions VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                .execute(params![
                    id,
                    app.id,
                    folder.path,
                    Bits(folder.device),
                    Bits(folder.inode),
                    new.live.is_some()
                ])?;
            if let Some(live) = &new.live {
                run_live(transaction, &app.id, live, user, now)?;
            }
            let session = of_app(transaction, &app.id)?;
            let session = session.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            Ok((apps::find(transaction, &app.id)?, session))
        })
    }

    /// The apps of all `dyno start`s that run.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn sessions(&self) -> Result<Vec<StartedApp>> {
        let mut statement = self.connection.prepare_cached(SELECT)?;
        let sessions = statement
            .query_map([], from_row)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(sessions)
    }

    /// The `dyno start` that this app belongs to; None for any other app.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn session_of(&self, app_id: &str) -> Result<Option<StartedApp>> {
        of_app(&self.connection, app_id)
    }
}

fn run_live(
    connection: &Connection,
    app_id: &str,
    live: &NewLiveRelease<'_>,
    user: &str,
    now: Timestamp,
) -> Result<()> {
    let slug = new_id()?;
    // An uploaded slug of no bytes, so that the app counts as deployed.
    connection
        .prepare_cached("INSERT INTO slugs VALUES (?1, ?2, NULL, ?3, 0, ?4, NULL, NULL, ?5, ?5)")?
        .execute(params![
            slug,
            app_id,
            Bits(0),
            Json(live.process_types),
            Time(now)
        ])?;
    let snapshot = Snapshot::of_slug(slug, live.toolchains.clone());
    releases::insert(connection, app_id, &snapshot, "Live folder", user, now)?;
    for (process_type, quantity) in live.formation {
        connection
            .prepare_cached(
                "UPDATE formation SET quantity = ?3 WHERE app_id = ?1 AND process_type = ?2",
            )?
            .execute(params![app_id, process_type, quantity])?;
    }
    note_scaled(connection, app_id)
}

/// The app of the `dyno start` that runs in this folder.
pub(super) fn app_in(connection: &Connection, folder: &Folder) -> Result<Option<String>> {
    Ok(connection
        .prepare_cached("SELECT app_id FROM sessions WHERE path = ?1 AND inode = ?2")?
        .query_row(params![folder.path, Bits(folder.inode)], |row| row.get(0))
        .optional()?)
}

const SELECT: &str = "SELECT id, app_id, path, live FROM sessions";

fn of_app(connection: &Connection, app_id: &str) -> Result<Option<StartedApp>> {
    Ok(connection
        .prepare_cached(&format!("{SELECT} WHERE app_id = ?1"))?
        .query_row([app_id], from_row)
        .optional()?)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<StartedApp> {
    Ok(StartedApp {
        id: row.get(0)?,
        app_id: row.get(1)?,
        path: row.get(2)?,
        live: row.get(3)?,
    })
}
