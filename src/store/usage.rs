//! Table `usage`: the time of dynos that have ended. The time of live dynos is added when it is asked for.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::columns::{Bits, Time};
use super::{Result, Store};
use crate::model::dyno::Usage;

impl Store {
    /// All dyno time until `now`: by app (destroyed ones last), process type and size.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn usage(&self, now: Timestamp) -> Result<Vec<Usage>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT app_id, coalesce(apps.name, max(app_name)) AS name, apps.id IS NULL AS destroyed,
                 process_type, size, sum(dynos), sum(alive), sum(micros)
             FROM (SELECT app_id, app_name, process_type, size, dynos, 0 AS alive, micros
                   FROM usage
                   UNION ALL
                   SELECT app_id, NULL, process_type, size, 1, 1, max(0, ?1 - created_at)
                   FROM dynos WHERE ended_at IS NULL)
             LEFT JOIN apps ON apps.id = app_id
             GROUP BY app_id, process_type, size
             ORDER BY destroyed, name, app_id, process_type, size",
        )?;
        let usage = statement
            .query_map([Time(now)], from_row)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(usage)
    }
}

/// Adds the time of a dyno that has just ended.
pub(super) fn add(connection: &Connection, dyno: &str) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO usage
             SELECT app_id, apps.name, process_type, size, 1, max(0, ended_at - dynos.created_at)
             FROM dynos JOIN apps ON apps.id = app_id WHERE dynos.id = ?1
             ON CONFLICT DO UPDATE SET dynos = dynos + 1, micros = micros + excluded.micros,
                 app_name = excluded.app_name",
        )?
        .execute(params![dyno])?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Usage> {
    Ok(Usage {
        app_id: row.get(0)?,
        app_name: row.get(1)?,
        destroyed: row.get(2)?,
        process_type: row.get(3)?,
        size: row.get(4)?,
        dynos: row.get::<_, Bits>(5)?.0,
        alive: row.get(6)?,
        time: Duration::from_micros(row.get::<_, Bits>(7)?.0),
    })
}
