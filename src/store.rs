//! The state of the host: apps, slugs, builds, releases, config, formations, dynos, linked folders, in one
//! SQLite file.
//!
//! Only the server opens it; all other processes ask the server. A verb is one method and one transaction, and when it
//! returns, the change survives a power failure. Nothing here looks at the clock, at processes or at other files: the
//! caller passes times in, and a dyno's row has what its supervisor reported. The rules are in `model`; what takes a
//! look at all rows (whether a name is taken or a number was used) is here.

mod apps;
mod builds;
mod columns;
mod dynos;
mod error;
mod expiry;
mod folders;
mod formation;
mod releases;
mod sessions;
mod slugs;
mod sources;
mod tokens;
mod usage;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use rusqlite_migration::{M, MigrationDefinitionError, Migrations};

use crate::kernel::{fail_point, random};

pub use apps::WantedName;
pub use builds::Built;
pub use dynos::{NewDyno, NewFormationDyno, PAGE};
pub use error::{StoreError, StoreErrorKind};
pub use folders::PackedFrom;
pub use releases::NewRelease;
pub use sessions::{NewLiveRelease, NewStartedApp, StartedApp};
pub use slugs::NewSlug;
pub use tokens::NewToken;

/// The result of every verb of the [`Store`].
pub type Result<T> = std::result::Result<T, StoreError>;

/// Each schema change, in order; none is ever edited once it was released.
const MIGRATIONS: &[M<'static>] = &[
    M::up(include_str!("../migrations/0001_initial.sql")),
    M::up(include_str!("../migrations/0002_usage.sql")),
    M::up(include_str!("../migrations/0003_maintenance.sql")),
    M::up(include_str!("../migrations/0004_formation.sql")),
    M::up(include_str!("../migrations/0005_sessions.sql")),
    M::up(include_str!("../migrations/0006_tokens.sql")),
    M::up(include_str!("../migrations/0007_builds.sql")),
    M::up(include_str!("../migrations/0008_network.sql")),
    M::up(include_str!("../migrations/0009_scopes.sql")),
    M::up(include_str!("../migrations/0010_runtime_metrics.sql")),
    M::up(include_str!("../migrations/0011_spent.sql")),
    M::up(include_str!("../migrations/0012_builder.sql")),
];

/// The open database of a state folder.
pub struct Store {
    connection: Connection,
}

impl Store {
    /// Opens the state at `path`, making or upgrading it as needed.
    ///
    /// # Errors
    /// When the file cannot be used, or a newer dyno made it.
    pub fn open(path: &Path) -> Result<Self> {
        let mut connection = Connection::open(path)?;
        // Only a person who has opened the file with another program can hold the lock.
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(128);
        Migrations::from_slice(MIGRATIONS)
            .to_latest(&mut connection)
            .map_err(|error| match error {
                rusqlite_migration::Error::MigrationDefinition(
                    MigrationDefinitionError::DatabaseTooFarAhead,
                ) => StoreError::Newer(path.to_owned()),
                rusqlite_migration::Error::RusqliteError { err, .. } => err.into(),
                other => StoreError::Broken(Box::new(other)),
            })?;
        Ok(Self { connection })
    }

    /// The uuid of the account that owns everything here, and when it was made: at the first call.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub fn account(&mut self, now: Timestamp) -> Result<(String, Timestamp)> {
        self.write(|transaction| {
            let meta = |name: &str, value: String| -> Result<String> {
                transaction
                    .prepare_cached("INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                    .execute([name, &value])?;
                Ok(transaction
                    .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
                    .query_row([name], |row| row.get(0))?)
            };
            let id = meta("account_id", new_id()?)?;
            let since = meta("account_since", now.to_string())?;
            let since = since
                .parse()
                .map_err(|error| StoreError::Broken(Box::new(error)))?;
            Ok((id, since))
        })
    }

    /// Runs `verb` in one transaction: all of its changes are kept if this returns `Ok`, else none.
    fn write<T>(&mut self, verb: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        fail_point::attempt("store.begin")?;
        // Immediate: the verb decides by what it reads, so nothing may change in between.
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let before = transaction.total_changes();
        let value = verb(&transaction)?;
        if transaction.total_changes() == before {
            // Sweeps mostly find nothing to do.
            transaction.commit()?;
            return Ok(value);
        }
        fail_point::attempt("store.committing")?;
        transaction.commit()?;
        fail_point::reach("store.committed");
        Ok(value)
    }
}

/// A random uuid (version 4).
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn new_id() -> Result<String> {
    Ok(random::uuid()?)
}
