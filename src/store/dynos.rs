//! Tables `dynos` and `counters`.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params, params_from_iter};

use super::columns::{Bits, Time};
use super::usage::spent;
use super::{Result, Store, StoreError, new_id, releases, usage};
use crate::error::{UserError, shown};
use crate::model::dyno::{
    Attach, BUILD, Dyno, DynoEnd, DynoName, DynoState, Exit, MostDynos, ONE_OFF,
};
use crate::model::procfile::{MAX_NAME, is_process_type_name};
use crate::model::release::{RELEASE_PHASE, Release};
use crate::model::size::Size;

/// How many dynos one page of a list has at most; Heroku's figure.
pub const PAGE: usize = 1_000;

/// About how many bytes of commands one page has: a page is full once it has passed this.
const PAGE_BYTES: usize = 4 << 20;

/// Some of an app's dynos, the oldest first.
#[derive(Debug)]
pub struct DynoPage {
    /// The dynos of this page.
    pub dynos: Vec<Dyno>,
    /// Where the next page begins; None on the last page.
    pub next: Option<i64>,
}

/// A one-off dyno that is asked for.
#[derive(Debug, Clone)]
pub struct NewDyno<'a> {
    /// The id that a sandbox was made for already; None: it gets one.
    pub id: Option<String>,
    /// Its process type, with which its name begins: `run` as a rule.
    pub process_type: String,
    /// The command as the user gave it.
    pub command: String,
    /// Its size.
    pub size: &'a Size,
    /// Whether a client attaches to it.
    pub attach: Attach,
    /// How many live dynos the app may have.
    pub limits: MostDynos,
}

/// A dyno of the formation, or of a release phase, that is to be started.
#[derive(Debug, Clone)]
pub struct NewFormationDyno<'a> {
    /// The release that it runs.
    pub release: &'a Release,
    /// Its name. None: the next name of the release phase.
    pub name: Option<DynoName>,
    /// The process type's command.
    pub command: &'a str,
    /// Its size, by name.
    pub size: &'a str,
}

impl Store {
    /// Adds the row of a dyno that the server itself starts.
    ///
    /// # Errors
    /// When the state cannot be written; when the release is gone.
    pub fn create_formation_dyno(
        &mut self,
        new: &NewFormationDyno<'_>,
        now: Timestamp,
    ) -> Result<Dyno> {
        self.write(|transaction| {
            let name = match &new.name {
                Some(name) => name.clone(),
                None => DynoName {
                    process_type: RELEASE_PHASE.to_owned(),
                    number: next_number(transaction, &new.release.app_id, RELEASE_PHASE)?,
                },
            };
            insert(
                transaction,
                &NewRow {
                    id: None,
                    app_id: &new.release.app_id,
                    release_id: &new.release.id,
                    name: &name,
                    command: new.command,
                    size: new.size,
                    attach: Attach::Detached,
                    formation: new.name.is_some(),
                },
                now,
            )
        })
    }

    /// Adds the row of a build's dyno, with its number, on the app's newest release: what is built has none yet.
    ///
    /// # Errors
    /// [`StoreError::NoApp`].
    pub fn create_build_dyno(
        &mut self,
        app_id: &str,
        command: &str,
        size: &str,
        now: Timestamp,
    ) -> Result<Dyno> {
        self.write(|transaction| {
            let release = releases::current(transaction, app_id)?;
            let name = DynoName {
                process_type: BUILD.to_owned(),
                number: next_number(transaction, app_id, BUILD)?,
            };
            insert(
                transaction,
                &NewRow {
                    id: None,
                    app_id,
                    release_id: &release.id,
                    name: &name,
                    command,
                    size,
                    attach: Attach::Pipes,
                    formation: false,
                },
                now,
            )
        })
    }

    /// The dynos that ran the release phase of a release, the oldest first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn release_phase_dynos(&self, release_id: &str) -> Result<Vec<Dyno>> {
        let mut statement = self.connection.prepare_cached(&select(
            "dynos INDEXED BY dynos_of_release",
            "WHERE release_id = ?1 AND process_type = ?2 AND NOT formation ORDER BY dynos.rowid",
        ))?;
        let dynos = statement
            .query_map([release_id, RELEASE_PHASE], from_row)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(dynos)
    }

    /// The newest dynos with this name on this release that crashed, back to the first that did not, the newest first;
    /// at most `max`.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn last_crashes(
        &self,
        app_id: &str,
        release_id: &str,
        name: &DynoName,
        max: u32,
    ) -> Result<Vec<Dyno>> {
        let mut statement = self.connection.prepare_cached(&select(
            "dynos INDEXED BY dynos_by_name",
            "WHERE dynos.app_id = ?1 AND process_type = ?2 AND number = ?3 AND formation \
             ORDER BY dynos.rowid DESC LIMIT ?4",
        ))?;
        let dynos = statement
            .query_map(
                params![app_id, name.process_type, name.number, max],
                from_row,
            )?
            .collect::<rusqlite::Result<Vec<Dyno>>>()?;
        let crashed = |dyno: &Dyno| {
            dyno.release_id == release_id
                && dyno.state == DynoState::Crashed
                && dyno.ended.is_some()
        };
        Ok(dynos.into_iter().take_while(crashed).collect())
    }

    /// The retired dynos of the type of `dyno` that had not ended when it was made: their names, and whether they have
    /// ended by now.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn retired_beside(&self, dyno: &Dyno) -> Result<Vec<(DynoName, bool)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, ended_at IS NOT NULL FROM dynos INDEXED BY dynos_by_name \
             WHERE app_id = ?1 AND process_type = ?2 AND formation AND state = 'down' \
             AND (ended_at IS NULL OR ended_at > ?3)",
        )?;
        let process_type = &dyno.name.process_type;
        let leavers = statement
            .query_map(
                params![dyno.app_id, process_type, Time(dyno.created_at)],
                |row| {
                    let name = DynoName {
                        process_type: process_type.clone(),
                        number: row.get(0)?,
                    };
                    Ok((name, row.get(1)?))
                },
            )?
            .collect::<rusqlite::Result<_>>()?;
        Ok(leavers)
    }

    /// Adds the row of a one-off dyno, with its number, in state `starting`, on the app's current release.
    ///
    /// Numbers of a process type are never used twice in the life of an app.
    ///
    /// # Errors
    /// [`StoreError::NoApp`]; [`StoreError::NotDeployed`]; [`StoreError::TypeOfFormation`], because such a dyno would
    /// look like one of the formation, and a `web.1` would get requests; [`StoreError::TooManyDynos`];
    /// [`StoreError::Rule`] for a bad type.
    pub fn create_dyno(&mut self, app_id: &str, new: &NewDyno<'_>, now: Timestamp) -> Result<Dyno> {
        let process_type = &new.process_type;
        if !is_process_type_name(process_type) {
            let start = shown(process_type.as_bytes(), MAX_NAME);
            let error = UserError::new(format!("`{start}` cannot be the type of a dyno"));
            let hint = format!("1 to {MAX_NAME} letters, digits, - and _ make a type");
            return Err(error.hint(hint).into());
        }
        self.write(|transaction| {
            let release = releases::current(transaction, app_id)?;
            if release.slug_id.is_none() {
                return Err(StoreError::NotDeployed(release.app_name));
            }
            // A Procfile may have a type `run`; one-off dynos must work all the same.
            if process_type != ONE_OFF && release.process_types.get(process_type).is_some() {
                return Err(StoreError::TypeOfFormation(
                    release.app_name,
                    process_type.clone(),
                ));
            }
            let (alive, of_size) = transaction
                .prepare_cached(
                    "SELECT count(*), count(*) FILTER (WHERE size = ?2) FROM dynos \
                     INDEXED BY dynos_alive \
                     WHERE app_id = ?1 AND ended_at IS NULL AND state NOT IN ('complete', 'down')",
                )?
                .query_row([app_id, &*new.size.name], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            new.limits
                .allow(new.size, alive, of_size)
                .map_err(|reached| StoreError::TooManyDynos(release.app_name, reached))?;
            let name = DynoName {
                process_type: process_type.clone(),
                number: next_number(transaction, app_id, process_type)?,
            };
            insert(
                transaction,
                &NewRow {
                    id: new.id.as_deref(),
                    app_id,
                    release_id: &release.id,
                    name: &name,
                    command: &new.command,
                    size: &new.size.name,
                    attach: new.attach,
                    formation: false,
                },
                now,
            )
        })
    }

    /// How many live dynos of an app count towards its limits.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn count_alive(&self, app_id: &str) -> Result<u32> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT count(*) FROM dynos INDEXED BY dynos_alive \
                 WHERE app_id = ?1 AND ended_at IS NULL AND state NOT IN ('complete', 'down')",
            )?
            .query_row([app_id], |row| row.get(0))?)
    }

    /// Stores a dyno's new state. A dyno that has ended or was retired stays as it is: a supervisor's message may come late.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn update_dyno(&mut self, id: &str, state: DynoState, now: Timestamp) -> Result<()> {
        self.write(|transaction| {
            transaction
                .prepare_cached(
                    "UPDATE dynos SET state = ?2, updated_at = ?3 \
                     WHERE id = ?1 AND ended_at IS NULL AND state NOT IN (?2, 'down')",
                )?
                .execute(params![id, state, Time(now)])?;
            Ok(())
        })
    }

    /// Stores the end of a dyno; only the first end counts, and a retired dyno has not crashed, however it ended.
    /// Deletes the app's older ended dynos but for the last `keep`, and never this one.
    ///
    /// # Errors
    /// [`StoreError::NoDyno`].
    pub fn end_dyno(
        &mut self,
        id: &str,
        state: DynoState,
        ended: &DynoEnd,
        keep: u32,
    ) -> Result<Dyno> {
        let (status, signal) = match ended.exit {
            Exit::Status(status) => (Some(status), None),
            Exit::Signal(signal) => (None, Some(signal)),
            Exit::Unknown => (None, None),
        };
        self.write(|transaction| {
            let changed = transaction
                .prepare_cached(
                    "UPDATE dynos SET state = CASE state WHEN 'down' THEN 'down' ELSE ?2 END, \
                     updated_at = ?3, ended_at = ?3, \
                     exit_status = ?4, exit_signal = ?5, end_reason = ?6, end_message = ?7, \
                     peak_memory = ?8, cpu_micros = ?9, bytes_read = ?10, bytes_written = ?11 \
                     WHERE id = ?1 AND ended_at IS NULL",
                )?
                .execute(params![
                    id,
                    state,
                    Time(ended.at),
                    status,
                    signal,
                    ended.reason,
                    ended.message,
                    ended.spent.peak_memory.map(Bits),
                    ended.spent.cpu_micros.map(Bits),
                    ended.spent.bytes_read.map(Bits),
                    ended.spent.bytes_written.map(Bits)
                ])?;
            if changed > 0 {
                usage::add(transaction, id)?;
            }
            let dyno = find(transaction, id)?;
            prune(transaction, &dyno.app_id, keep.max(1))?;
            Ok(dyno)
        })
    }

    /// The dynos that have not ended, oldest first: of one app, or of all.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn live_dynos(&self, app_id: Option<&str>) -> Result<Vec<Dyno>> {
        // Two statements, with and without an app: one for both could use no index.
        let of_app = app_id.map_or("", |_| "AND dynos.app_id = ?1");
        let mut statement = self.connection.prepare_cached(&select(
            "dynos INDEXED BY dynos_alive",
            &format!("WHERE ended_at IS NULL {of_app} ORDER BY dynos.rowid"),
        ))?;
        let dynos = statement
            .query_map(params_from_iter(app_id), from_row)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(dynos)
    }

    /// Dynos of an app, the oldest first: the live ones, or with `ended` also the ended ones that are kept. At most
    /// `max` and [`PAGE`] of them, and fewer when their commands are long; `after` is where the last page ended.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn dyno_page(
        &self,
        app_id: &str,
        ended: bool,
        after: Option<i64>,
        max: usize,
    ) -> Result<DynoPage> {
        // Both indexes have an app's rows in the order of their places, so that a page costs only what is on it.
        let (index, alive) = match ended {
            true => ("dynos_of_app", ""),
            // Left out: a dyno whose command has ended, which is being cleaned up, and a retired one, which has a successor.
            false => (
                "dynos_by_end",
                "AND ended_at IS NULL AND state NOT IN ('complete', 'down')",
            ),
        };
        let mut statement = self.connection.prepare_cached(&select(
            &format!("dynos INDEXED BY {index}"),
            &format!("WHERE dynos.app_id = ?1 {alive} AND dynos.rowid > ?2 ORDER BY dynos.rowid"),
        ))?;
        let mut rows = statement.query(params![app_id, after.unwrap_or(i64::MIN)])?;
        let (mut dynos, mut last, mut bytes) = (Vec::new(), None, 0);
        while let Some(row) = rows.next()? {
            if dynos.len() >= max.clamp(1, PAGE) || bytes > PAGE_BYTES {
                return Ok(DynoPage { dynos, next: last });
            }
            let dyno = from_row(row)?;
            bytes += dyno.command.len();
            last = Some(row.get(PLACE)?);
            dynos.push(dyno);
        }
        Ok(DynoPage { dynos, next: None })
    }

    /// The dyno with this id, of any app, alive or ended.
    ///
    /// # Errors
    /// [`StoreError::NoDyno`].
    pub fn dyno_of_id(&self, id: &str) -> Result<Dyno> {
        find(&self.connection, id)
    }

    /// The app's dyno with this name or id, alive or ended; the newest if several have this name.
    ///
    /// # Errors
    /// [`StoreError::NoDyno`].
    pub fn dyno(&self, app_id: &str, name_or_id: &str) -> Result<Dyno> {
        let Ok(name) = name_or_id.parse::<DynoName>() else {
            return find(&self.connection, name_or_id)
                .ok()
                .filter(|dyno| dyno.app_id == app_id)
                .ok_or_else(|| StoreError::NoDyno(name_or_id.to_owned()));
        };
        self.connection
            .prepare_cached(&select(
                "dynos",
                "WHERE dynos.app_id = ?1 AND process_type = ?2 AND number = ?3 \
                 ORDER BY dynos.created_at DESC, dynos.rowid DESC LIMIT 1",
            ))?
            .query_row(params![app_id, name.process_type, name.number], from_row)
            .optional()?
            .ok_or_else(|| StoreError::NoDyno(name_or_id.to_owned()))
    }
}

/// The next unused number of a process type.
fn next_number(connection: &Connection, app_id: &str, process_type: &str) -> Result<u32> {
    Ok(connection
        .prepare_cached(
            "INSERT INTO counters VALUES (?1, ?2, 1) \
             ON CONFLICT DO UPDATE SET last = last + 1 RETURNING last",
        )?
        .query_row([app_id, process_type], |row| row.get(0))?)
}

/// The values of a new dyno's row.
struct NewRow<'a> {
    id: Option<&'a str>,
    app_id: &'a str,
    release_id: &'a str,
    name: &'a DynoName,
    command: &'a str,
    size: &'a str,
    attach: Attach,
    formation: bool,
}

fn insert(connection: &Connection, birth: &NewRow<'_>, now: Timestamp) -> Result<Dyno> {
    let id = birth.id.map_or_else(new_id, |id| Ok(id.to_owned()))?;
    connection
        .prepare_cached(
            "INSERT INTO dynos VALUES \
             (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, NULL, NULL, NULL, NULL, NULL, ?11, \
             NULL, NULL, NULL, NULL)",
        )?
        .execute(params![
            id,
            birth.app_id,
            birth.release_id,
            birth.name.process_type,
            birth.name.number,
            birth.command,
            birth.size,
            birth.attach,
            DynoState::Starting,
            Time(now),
            birth.formation
        ])?;
    find(connection, &id)
}

/// Deletes all but the last `keep` ended dynos of an app. Their numbers stay used.
fn prune(transaction: &Transaction<'_>, app_id: &str, keep: u32) -> Result<()> {
    transaction
        .prepare_cached(
            "DELETE FROM dynos WHERE rowid IN (SELECT rowid FROM dynos \
             WHERE app_id = ?1 AND ended_at IS NOT NULL \
             ORDER BY ended_at DESC, rowid DESC LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![app_id, keep])?;
    Ok(())
}

fn find(connection: &Connection, id: &str) -> Result<Dyno> {
    connection
        .prepare_cached(&select("dynos", "WHERE dynos.id = ?1"))?
        .query_row([id], from_row)
        .optional()?
        .ok_or_else(|| StoreError::NoDyno(id.to_owned()))
}

/// A statement for [`from_row`]: `from` is the table and the index to use, `rest` what follows the joins.
fn select(from: &str, rest: &str) -> String {
    format!(
        "SELECT dynos.id, dynos.app_id, apps.name, release_id, version,
         process_type, number, command, size, state, attach, dynos.created_at, dynos.updated_at,
         ended_at, exit_status, exit_signal, end_reason, end_message, dynos.rowid, formation,
         peak_memory, cpu_micros, bytes_read, bytes_written
         FROM {from} JOIN apps ON apps.id = dynos.app_id JOIN releases ON releases.id = release_id
         {rest}"
    )
}

/// The column of a dyno's place among all dynos: later ones have higher places.
const PLACE: usize = 18;

fn from_row(row: &Row<'_>) -> rusqlite::Result<Dyno> {
    let ended_at: Option<Time> = row.get(13)?;
    let exit = match (row.get(14)?, row.get(15)?) {
        (Some(status), _) => Exit::Status(status),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    };
    let (reason, message) = (row.get(16)?, row.get(17)?);
    let spent = spent(row, 20)?;
    Ok(Dyno {
        id: row.get(0)?,
        app_id: row.get(1)?,
        app_name: row.get(2)?,
        release_id: row.get(3)?,
        release_version: row.get(4)?,
        name: DynoName {
            process_type: row.get(5)?,
            number: row.get(6)?,
        },
        command: row.get(7)?,
        size: row.get(8)?,
        state: row.get(9)?,
        attach: row.get(10)?,
        formation: row.get(19)?,
        created_at: row.get::<_, Time>(11)?.0,
        updated_at: row.get::<_, Time>(12)?.0,
        ended: ended_at.map(|Time(at)| DynoEnd {
            at,
            exit,
            reason,
            message,
            spent,
        }),
    })
}
