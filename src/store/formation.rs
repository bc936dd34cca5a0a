//! Table `formation`.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::columns::Time;
use super::{Result, Store, new_id, releases};
use crate::formation::{Entry, Wanted, after_release};
use crate::release::ProcessTypes;

impl Store {
    /// The formation of an app, in the order of its Procfile; empty before the first deploy.
    ///
    /// # Errors
    /// [`NoApp`](super::StoreError::NoApp).
    pub fn formation(&self, app_id: &str) -> Result<Vec<Entry>> {
        let types = releases::current(&self.connection, app_id)?.process_types;
        let mut statement = self.connection.prepare_cached(
            "SELECT id, quantity, size, created_at, updated_at FROM formation \
             WHERE app_id = ?1 AND process_type = ?2",
        )?;
        types
            .iter()
            .map(|(process_type, command)| {
                let entry = statement.query_row([app_id, process_type], |row| {
                    Ok(Entry {
                        id: row.get(0)?,
                        wanted: Wanted {
                            process_type: process_type.to_owned(),
                            quantity: row.get(1)?,
                            size: row.get(2)?,
                        },
                        command: command.to_owned(),
                        created_at: row.get::<_, Time>(3)?.0,
                        updated_at: row.get::<_, Time>(4)?.0,
                    })
                })?;
                Ok(entry)
            })
            .collect()
    }
}

/// What `apps.formed` says: nobody has asked for a formation; somebody has, and no release has counted since; there is
/// one, or was.
const UNFORMED: u8 = 0;
const ASKED_FOR: u8 = 1;
const FORMED: u8 = 2;

/// Notes that somebody deploys, so that the next release that counts brings a formation.
pub(super) fn note_formed(connection: &Connection, app_id: &str) -> Result<()> {
    connection
        .prepare_cached("UPDATE apps SET formed = ?2 WHERE id = ?1 AND formed = ?3")?
        .execute(params![app_id, ASKED_FOR, UNFORMED])?;
    Ok(())
}

/// Fits the formation to the process types of a new release.
pub(super) fn follow_release(
    connection: &Connection,
    app_id: &str,
    types: &ProcessTypes,
    now: Timestamp,
) -> Result<()> {
    let before = connection
        .prepare_cached("SELECT process_type, quantity, size FROM formation WHERE app_id = ?1")?
        .query_map([app_id], |row| {
            Ok(Wanted {
                process_type: row.get(0)?,
                quantity: row.get(1)?,
                size: row.get(2)?,
            })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let formed: u8 = connection
        .prepare_cached("SELECT formed FROM apps WHERE id = ?1")?
        .query_row([app_id], |row| row.get(0))?;
    let first_deploy = formed == ASKED_FOR;
    if first_deploy {
        connection
            .prepare_cached("UPDATE apps SET formed = ?2 WHERE id = ?1")?
            .execute(params![app_id, FORMED])?;
    }
    let after = after_release(&before, types, first_deploy);
    for gone in before.iter().filter(|wanted| !after.contains(wanted)) {
        connection
            .prepare_cached("DELETE FROM formation WHERE app_id = ?1 AND process_type = ?2")?
            .execute([app_id, &gone.process_type])?;
    }
    for new in after.iter().filter(|wanted| !before.contains(wanted)) {
        connection
            .prepare_cached("INSERT INTO formation VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)")?
            .execute(params![
                new_id()?,
                app_id,
                new.process_type,
                new.quantity,
                new.size,
                Time(now)
            ])?;
    }
    Ok(())
}
