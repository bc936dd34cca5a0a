//! Table `formation`.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::columns::Time;
use super::{Result, Store, StoreError, new_id, releases};
use crate::model::dyno::MostDynos;
use crate::model::formation::{Entry, Update, Wanted, after_release, scaled};
use crate::model::release::{ProcessTypes, Release};

impl Store {
    /// The formation of an app, in the order of its Procfile; empty before the first deploy.
    ///
    /// # Errors
    /// [`NoApp`](StoreError::NoApp).
    pub fn formation(&self, app_id: &str) -> Result<Vec<Entry>> {
        let release = releases::current(&self.connection, app_id)?;
        entries(&self.connection, &release)
    }

    /// Changes quantities and sizes: all `updates` or none. Returns the formation before and after, in the order of the
    /// Procfile.
    ///
    /// # Errors
    /// [`NoApp`](StoreError::NoApp), [`Formation`](StoreError::Formation).
    pub fn scale(
        &mut self,
        app_id: &str,
        updates: &[Update],
        limits: MostDynos,
        now: Timestamp,
    ) -> Result<(Vec<Entry>, Vec<Entry>)> {
        self.write(|transaction| {
            let release = releases::current(transaction, app_id)?;
            let before = entries(transaction, &release)?;
            let wanted = scaled(&before, updates, limits.dynos)
                .map_err(|refusal| StoreError::Formation(release.app_name.clone(), refusal))?;
            let mut update = transaction.prepare_cached(
                "UPDATE formation SET quantity = ?2, size = ?3, updated_at = ?4 WHERE id = ?1",
            )?;
            for (entry, wanted) in before.iter().zip(&wanted) {
                if entry.wanted != *wanted {
                    update.execute(params![entry.id, wanted.quantity, wanted.size, Time(now)])?;
                }
            }
            note_scaled(transaction, app_id)?;
            Ok((before, entries(transaction, &release)?))
        })
    }
}

/// The formation of the current release.
fn entries(connection: &Connection, release: &Release) -> Result<Vec<Entry>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, quantity, size, created_at, updated_at FROM formation \
         WHERE app_id = ?1 AND process_type = ?2",
    )?;
    release
        .process_types
        .iter()
        .map(|(process_type, command)| {
            let entry = statement.query_row([&*release.app_id, process_type], |row| {
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

/// The values of `apps.formed`: no formation was asked for; one was, and no release has succeeded since; there is one, or was.
const UNFORMED: u8 = 0;
const ASKED_FOR: u8 = 1;
const FORMED: u8 = 2;

/// Marks that the formation was scaled by a user, so that deploys do not change its quantities.
pub(super) fn note_scaled(connection: &Connection, app_id: &str) -> Result<()> {
    connection
        .prepare_cached("UPDATE apps SET formed = ?2 WHERE id = ?1")?
        .execute(params![app_id, FORMED])?;
    Ok(())
}

/// Marks that the app was deployed, so that the next release that succeeds gets a formation.
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
    // The entry of a process type that is gone stays, in case a later release has the type again; until then it is not shown.
    let is_replaced = |known: &&Wanted| {
        let mut after = after.iter();
        after.any(|wanted| wanted.process_type == known.process_type && wanted != *known)
    };
    for replaced in before.iter().filter(is_replaced) {
        connection
            .prepare_cached("DELETE FROM formation WHERE app_id = ?1 AND process_type = ?2")?
            .execute([app_id, &replaced.process_type])?;
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
