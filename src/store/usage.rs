//! Table `usage`: the time of dynos that have ended. The time of live dynos is added when it is asked for.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::columns::{Bits, Time};
use super::{Result, Store};
use crate::model::dyno::{Spent, Usage};

impl Store {
    /// All dyno time until `now`: by app (destroyed ones last), process type and size.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn usage(&self, now: Timestamp) -> Result<Vec<Usage>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT app_id, coalesce(apps.name, max(app_name)) AS name, apps.id IS NULL AS destroyed,
                 process_type, size, sum(dynos), sum(alive), sum(micros),
                 max(peak_memory), sum(cpu_micros), sum(bytes_read), sum(bytes_written)
             FROM (SELECT app_id, app_name, process_type, size, dynos, 0 AS alive, micros,
                       peak_memory, cpu_micros, bytes_read, bytes_written
                   FROM usage
                   UNION ALL
                   SELECT app_id, NULL, process_type, size, 1, 1, max(0, ?1 - created_at),
                       NULL, NULL, NULL, NULL
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
            "INSERT INTO usage (app_id, app_name, process_type, size, dynos, micros,
                 peak_memory, cpu_micros, bytes_read, bytes_written)
             SELECT app_id, apps.name, process_type, size, 1, max(0, ended_at - dynos.created_at),
                 peak_memory, cpu_micros, bytes_read, bytes_written
             FROM dynos JOIN apps ON apps.id = app_id WHERE dynos.id = ?1
             ON CONFLICT DO UPDATE SET dynos = dynos + 1, micros = micros + excluded.micros,
                 app_name = excluded.app_name,
                 peak_memory = coalesce(max(peak_memory, excluded.peak_memory),
                     peak_memory, excluded.peak_memory),
                 cpu_micros = coalesce(cpu_micros + excluded.cpu_micros,
                     cpu_micros, excluded.cpu_micros),
                 bytes_read = coalesce(bytes_read + excluded.bytes_read,
                     bytes_read, excluded.bytes_read),
                 bytes_written = coalesce(bytes_written + excluded.bytes_written,
                     bytes_written, excluded.bytes_written)",
        )?
        .execute(params![dyno])?;
    Ok(())
}

/// What was taken, in four columns from this one on.
pub(super) fn spent(row: &Row<'_>, first: usize) -> rusqlite::Result<Spent> {
    let of = |column: usize| -> rusqlite::Result<Option<u64>> {
        let value: Option<Bits> = row.get(first + column)?;
        Ok(value.map(|Bits(value)| value))
    };
    Ok(Spent {
        peak_memory: of(0)?,
        cpu_micros: of(1)?,
        bytes_read: of(2)?,
        bytes_written: of(3)?,
    })
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
        spent: spent(row, 8)?,
    })
}
