//! Table `folders`: which folder is linked to which app.
//!
//! A folder is known by its path and inode together. One that was moved counts as another folder, since inodes are reused.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::columns::{Bits, Time};
use super::{Result, Store, apps, sessions};
use crate::model::app::{Folder, Link};

/// A folder that a slug was packed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedFrom {
    /// Its path and inode.
    pub folder: Folder,
    /// When reading it began: later changes are not in the slug.
    pub at: Timestamp,
}

impl Store {
    /// Links a folder to an app, in place of an earlier link. A folder that was linked to this app under another path
    /// keeps the time of its last deploy.
    ///
    /// # Errors
    /// [`NoApp`](super::StoreError::NoApp).
    pub fn link_folder(&mut self, app_id: &str, folder: &Folder, now: Timestamp) -> Result<()> {
        self.write(|transaction| {
            apps::find(transaction, app_id)?;
            let packed_at = packed_elsewhere(transaction, app_id, folder)?;
            link(transaction, app_id, folder, packed_at, now)
        })
    }

    /// Removes the link of the folder at this path; false if there is none.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn unlink_folder(&mut self, path: &str) -> Result<bool> {
        self.write(|transaction| {
            let unlinked = transaction
                .prepare_cached("DELETE FROM folders WHERE path = ?1")?
                .execute([path])?;
            Ok(unlinked > 0)
        })
    }

    /// The link of the first of these folders that has one: given a folder and then those above it, the nearest link. A
    /// folder in which `dyno start` runs stands for that app, whatever it is linked to.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn linked_app(&self, nearest_first: &[Folder]) -> Result<Option<Link>> {
        for folder in nearest_first {
            if let Some(app_id) = sessions::app_in(&self.connection, folder)? {
                return Ok(Some(Link {
                    app: apps::find(&self.connection, &app_id)?,
                    path: folder.path.clone(),
                    packed_at: Some(Timestamp::MAX),
                }));
            }
            if let Some((app_id, packed_at)) = linked(&self.connection, folder)? {
                let app = apps::find(&self.connection, &app_id)?;
                return Ok(Some(Link {
                    app,
                    path: folder.path.clone(),
                    packed_at,
                }));
            }
        }
        Ok(None)
    }
}

impl Store {
    /// The links of folders with this folder's inode under other paths, and when they were made, the newest first:
    /// either this folder has moved, or its inode has been reused.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn links_of_number(&self, folder: &Folder) -> Result<Vec<(Link, Folder, Timestamp)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT app_id, path, packed_at, linked_at FROM folders \
             WHERE device = ?1 AND inode = ?2 AND path <> ?3 ORDER BY linked_at DESC",
        )?;
        let known = [Bits(folder.device), Bits(folder.inode)];
        let rows = statement.query_map(params![known[0], known[1], folder.path], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, Option<Time>>(2)?.map(|Time(at)| at),
                row.get::<_, Time>(3)?.0,
            ))
        })?;
        rows.map(|row| {
            let (app_id, path, packed_at, linked_at) = row?;
            let app = apps::find(&self.connection, &app_id)?;
            let old = Folder {
                path: path.clone(),
                ..folder.clone()
            };
            let link = Link {
                app,
                path,
                packed_at,
            };
            Ok((link, old, linked_at))
        })
        .collect()
    }
}

/// Stores that a slug of the app was packed from a folder, and links the folder if it has no link. A deploy to another
/// app than the linked one does not change the link.
pub(super) fn note_packed(
    connection: &Connection,
    app_id: &str,
    packed: &PackedFrom,
    now: Timestamp,
) -> Result<()> {
    match linked(connection, &packed.folder)? {
        Some((linked_app, _)) if linked_app != app_id => Ok(()),
        _ => link(connection, app_id, &packed.folder, Some(packed.at), now),
    }
}

/// Links a folder to an app; `packed_at` is None if no slug was packed from it for this app yet.
pub(super) fn link(
    connection: &Connection,
    app_id: &str,
    folder: &Folder,
    packed_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO folders VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![
            folder.path,
            Bits(folder.device),
            Bits(folder.inode),
            app_id,
            Time(now),
            packed_at.map(Time)
        ])?;
    Ok(())
}

/// When a slug of the app was last packed from this folder under any path.
fn packed_elsewhere(
    connection: &Connection,
    app_id: &str,
    folder: &Folder,
) -> Result<Option<Timestamp>> {
    let packed_at = connection
        .prepare_cached(
            "SELECT max(packed_at) FROM folders WHERE app_id = ?1 AND device = ?2 AND inode = ?3",
        )?
        .query_row(
            params![app_id, Bits(folder.device), Bits(folder.inode)],
            |row| row.get::<_, Option<Time>>(0),
        )?;
    Ok(packed_at.map(|Time(at)| at))
}

fn linked(connection: &Connection, folder: &Folder) -> Result<Option<(String, Option<Timestamp>)>> {
    let link = connection
        .prepare_cached("SELECT app_id, packed_at FROM folders WHERE path = ?1 AND inode = ?2")?
        .query_row(params![folder.path, Bits(folder.inode)], |row| {
            Ok((
                row.get(0)?,
                row.get::<_, Option<Time>>(1)?.map(|Time(at)| at),
            ))
        })
        .optional()?;
    Ok(link)
}
