//! The file: what a crash, a full disk, another version make of it.

use super::*;

#[test]
fn half_a_verb_is_no_verb() {
    let mut host = Host::new();
    let fail = "CREATE TEMP TRIGGER fail BEFORE INSERT ON main.releases \
                BEGIN SELECT RAISE(ABORT, 'no'); END";
    host.store.connection.execute_batch(fail).unwrap();
    assert!(matches!(host.create("shop"), Err(StoreError::Broken(_))));
    host.store
        .connection
        .execute_batch("DROP TRIGGER fail")
        .unwrap();
    assert!(host.store.apps().unwrap().is_empty());
    assert!(host.create("shop").is_ok());
}

/// What is on disk in the middle of a transaction is what a power cut would leave.
#[test]
fn a_crash_before_the_commit_leaves_nothing() {
    let mut host = Host::new();
    host.create("shop").unwrap();
    let copies = tempfile::tempdir().unwrap();
    // A tiny cache makes SQLite write to the file before the commit.
    host.store
        .connection
        .pragma_update(None, "cache_size", 1)
        .unwrap();
    let (from, to) = (host.path(), copies.path().join("state.db"));
    host.store
        .write(|transaction| {
            for number in 0..500 {
                transaction.execute(
                    "INSERT INTO meta VALUES (?1, ?2)",
                    (number.to_string(), "x".repeat(500)),
                )?;
            }
            for suffix in ["", "-wal"] {
                let with = |path: &PathBuf| PathBuf::from(format!("{}{suffix}", path.display()));
                std::fs::copy(with(&from), with(&to)).unwrap();
            }
            Ok(())
        })
        .unwrap();
    let wal = std::fs::metadata(copies.path().join("state.db-wal")).unwrap();
    assert!(
        wal.len() > 100_000,
        "nothing was written early: {}",
        wal.len()
    );
    let crashed = Store::open(&to).unwrap();
    let rows = |store: &Store| -> i64 {
        store
            .connection
            .query_row("SELECT count(*) FROM meta", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!((rows(&crashed), rows(&host.store)), (0, 500));
    assert_eq!(crashed.apps().unwrap(), host.store.apps().unwrap());
}

#[test]
fn what_was_said_survives_a_reopening() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    host.deploy(&app.id, 1);
    let dyno = host.run(&app.id, "1X").unwrap();
    let path = host.path();
    let Host {
        store,
        folder: _folder,
        ..
    } = host;
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.live_dynos(None).unwrap(), [dyno]);
    assert_eq!(store.releases(&app.id).unwrap().len(), 2);
}

#[test]
fn the_file_is_kept_safely() {
    let host = Host::new();
    let pragma = |name: &str| -> String {
        host.store
            .connection
            .query_row(
                &format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"),
                [],
                |row| row.get(0),
            )
            .unwrap()
    };
    assert_eq!(
        (
            pragma("journal_mode").as_str(),
            pragma("synchronous").as_str()
        ),
        ("wal", "2")
    );
    assert_eq!(
        (
            pragma("foreign_keys").as_str(),
            pragma("user_version").parse().unwrap()
        ),
        ("1", MIGRATIONS.len())
    );
}

#[test]
fn migrations_apply_to_an_empty_file() {
    Migrations::from_slice(MIGRATIONS).validate().unwrap();
}

#[test]
fn the_state_of_a_newer_dyno_is_refused() {
    let host = Host::new();
    Connection::open(host.path())
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let error = Store::open(&host.path()).err().unwrap();
    assert!(matches!(error, StoreError::Newer(_)));
    assert!(
        error
            .to_string()
            .starts_with("a newer dyno made the state in `/"),
        "{error}"
    );
}

#[test]
fn what_is_not_a_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    std::fs::write(
        &path,
        "not a database, but long enough to be looked at as one",
    )
    .unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Broken(_))));
}

#[test]
fn a_full_disk_is_called_that_and_changes_nothing() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let pages: i64 = host
        .store
        .connection
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    let _: i64 = host
        .store
        .connection
        .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| {
            row.get(0)
        })
        .unwrap();
    let big = ConfigChange::from([("A".into(), Some("x".repeat(60_000)))]);
    let now = host.now();
    let error = host
        .store
        .change_config(&app.id, &big, USER, now)
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full);
    assert_eq!(host.store.releases(&app.id).unwrap().len(), 1);
}
