//! One test or two per verb, and what happens to the file.

use super::*;

#[test]
fn a_new_app_has_its_initial_release() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    assert_eq!(
        (app.name.as_str(), app.slug_size, &app.folder),
        ("shop", None, &None)
    );
    assert_eq!(app.created_at, app.released_at);
    let releases = host.store.releases(&app.id).unwrap();
    let [first] = &releases[..] else {
        panic!("{releases:?}")
    };
    assert_eq!(
        (first.version.0, first.description.as_str()),
        (1, "Initial release")
    );
    assert!(first.current && !first.eligible_for_rollback());
    assert_eq!(first.user, USER);
    assert_eq!(host.store.app("shop").unwrap(), app);
    assert_eq!(host.store.app(&app.id).unwrap(), app);
    assert!(matches!(host.store.app("other"), Err(StoreError::NoApp(_))));
    assert!(host.store.formation(&app.id).unwrap().is_empty());
}

#[test]
fn ids_are_random_uuids() {
    let (one, other) = (new_id().unwrap(), new_id().unwrap());
    assert_ne!(one, other);
    let shape: String = one
        .chars()
        .map(|c| if c.is_ascii_hexdigit() { 'x' } else { c })
        .collect();
    assert_eq!(shape, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
    assert!(
        &one[14..15] == "4" && "89ab".contains(&one[19..20]),
        "{one}"
    );
}

#[test]
fn the_account_stays_the_same() {
    let mut host = Host::new();
    let id = host.store.account_id().unwrap();
    let mut again = Store::open(&host.path()).unwrap();
    assert_eq!(again.account_id().unwrap(), id);
}

#[test]
fn a_taken_name_is_refused_or_numbered() {
    let mut host = Host::new();
    host.create("shop").unwrap();
    assert!(matches!(host.create("shop"), Err(StoreError::NameTaken(_))));
    let shop = NameWish::Like(AppName::parse("shop").unwrap());
    for expected in ["shop-2", "shop-3"] {
        let now = host.now();
        let app = host.store.create_app(&shop, USER, None, now).unwrap();
        assert_eq!(app.name.as_str(), expected);
    }
    let now = host.now();
    host.store
        .create_app(&NameWish::Any, USER, None, now)
        .unwrap();
    let names: Vec<_> = host
        .store
        .apps()
        .unwrap()
        .into_iter()
        .map(|app| app.name)
        .collect();
    assert!(names.len() == 4 && names.is_sorted(), "{names:?}");
}

#[test]
fn a_destroyed_app_leaves_nothing_but_what_others_use() {
    let mut host = Host::new();
    let (shop, blog) = (host.create("shop").unwrap(), host.create("blog").unwrap());
    let shared = host.deploy(&shop.id, 1).slug_id.unwrap();
    host.deploy(&shop.id, 2);
    let now = host.now();
    let promoted = NewRelease {
        slug_id: shared.clone(),
        ..NewRelease::default()
    };
    host.store
        .create_release(&blog.id, &promoted, USER, now)
        .unwrap();
    host.config(&shop.id, &[("A", Some("1"))]);
    host.run(&shop.id, "1X").unwrap();
    host.store
        .link_folder(&shop.id, &folder("/src/shop", 1), now)
        .unwrap();

    host.store.destroy_app(&shop.id).unwrap();
    assert!(matches!(
        host.store.destroy_app(&shop.id),
        Err(StoreError::NoApp(_))
    ));
    assert!(matches!(host.store.app("shop"), Err(StoreError::NoApp(_))));
    assert!(host.store.live_dynos(None).unwrap().is_empty());
    assert_eq!(
        host.store.linked_app(&[folder("/src/shop", 1)]).unwrap(),
        None
    );
    assert_eq!(
        host.store
            .kept_digests()
            .unwrap()
            .into_iter()
            .collect::<Vec<_>>(),
        [digest(1)]
    );
    assert_eq!(
        host.store.current_release(&blog.id).unwrap().slug_id,
        Some(shared)
    );

    // The name is free, and what it names is new.
    let shop = host.create("shop").unwrap();
    host.deploy(&shop.id, 3);
    assert_eq!(host.run(&shop.id, "1X").unwrap().name.to_string(), "run.1");
}

#[test]
fn a_deploy_is_a_release_with_herokus_description() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let release = host.deploy(&app.id, 0xab);
    assert_eq!(
        (release.version.0, release.description.as_str()),
        (2, "Deploy abababab")
    );
    assert_eq!(release.digest, Some(digest(0xab)));
    assert!(release.current && release.eligible_for_rollback());
    assert_eq!(host.store.app("shop").unwrap().slug_size, Some(1000));
    assert!(!host.store.release(&app.id, "v1").unwrap().current);

    let now = host.now();
    let new = NewSlug {
        commit: Some("0123456789abcdef".into()),
        ..NewSlug::default()
    };
    let slug = host.store.create_slug(&app.id, &new, now).unwrap();
    host.store
        .slug_uploaded(&slug.id, &digest(1), 1, now)
        .unwrap();
    let mut new = NewRelease {
        slug_id: slug.id,
        ..NewRelease::default()
    };
    let release = host.store.create_release(&app.id, &new, USER, now).unwrap();
    assert_eq!(release.description, "Deploy 01234567");
    new.description = Some("Promote".into());
    new.toolchains = Toolchains {
        path: vec!["/home/ada/.cargo/bin".into()],
        ..Toolchains::default()
    };
    let release = host.store.create_release(&app.id, &new, USER, now).unwrap();
    assert_eq!(release.description, "Promote");
    assert_eq!(release.toolchains, new.toolchains);
}

#[test]
fn only_a_slug_that_arrived_whole_is_released() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let now = host.now();
    let announced = NewSlug {
        digest: Some(digest(1)),
        ..NewSlug::default()
    };
    let slug = host.store.create_slug(&app.id, &announced, now).unwrap();
    assert!(!slug.uploaded && slug.digest == Some(digest(1)));
    let new = NewRelease {
        slug_id: slug.id.clone(),
        ..NewRelease::default()
    };
    let refused = host.store.create_release(&app.id, &new, USER, now);
    assert!(matches!(refused, Err(StoreError::NotUploaded(_))));
    let refused = host.store.slug_uploaded(&slug.id, &digest(2), 5, now);
    assert!(matches!(refused, Err(StoreError::OtherDigest { .. })));
    assert!(host.store.kept_digests().unwrap().is_empty());
    let slug = host
        .store
        .slug_uploaded(&slug.id, &digest(1), 5, now)
        .unwrap();
    assert_eq!((slug.uploaded, slug.size), (true, Some(5)));
    assert_eq!(host.store.slug(&slug.id).unwrap(), slug);
    host.store.create_release(&app.id, &new, USER, now).unwrap();
    assert!(matches!(host.store.slug("x"), Err(StoreError::NoSlug(_))));
    assert!(matches!(
        host.store.create_slug("x", &announced, now),
        Err(StoreError::NoApp(_))
    ));
}

#[test]
fn config_makes_a_release_when_it_changes() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let release = host
        .config(&app.id, &[("A", Some("1")), ("B", Some(""))])
        .unwrap();
    assert_eq!(
        (release.version.0, release.description.as_str()),
        (2, "Set A, B config vars")
    );
    assert!(
        host.config(&app.id, &[("A", Some("1")), ("C", None)])
            .is_none()
    );
    let release = host
        .config(&app.id, &[("A", Some("1")), ("B", None)])
        .unwrap();
    assert_eq!(
        (release.version.0, release.description.as_str()),
        (3, "Remove B config vars")
    );
    assert_eq!(
        host.store.config(&app.id).unwrap(),
        Config::from([("A".into(), "1".into())])
    );
    let before = host.store.release(&app.id, "2").unwrap();
    assert_eq!(host.store.release_config(&before.id).unwrap().len(), 2);

    let now = host.now();
    let bad = ConfigChange::from([("PORT".into(), Some("80".into()))]);
    let refused = host.store.change_config(&app.id, &bad, USER, now);
    assert!(matches!(refused, Err(StoreError::Rule(_))));
    assert!(matches!(host.store.config("x"), Err(StoreError::NoApp(_))));
}

#[test]
fn config_before_the_first_deploy_is_kept_by_it() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    host.config(&app.id, &[("A", Some("1"))]);
    let release = host.deploy(&app.id, 1);
    assert_eq!(release.version.0, 3);
    assert_eq!(host.store.release_config(&release.id).unwrap()["A"], "1");
    let release = host.config(&app.id, &[("A", Some("2"))]).unwrap();
    assert_eq!(release.digest, Some(digest(1)));
}

#[test]
fn rollback_brings_back_slug_and_config() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    host.config(&app.id, &[("A", Some("1"))]);
    let old = host.deploy(&app.id, 1);
    host.config(&app.id, &[("A", Some("2"))]);
    host.deploy(&app.id, 2);
    let now = host.now();
    let release = host.store.rollback(&app.id, "v3", USER, now).unwrap();
    assert_eq!(
        (release.version.0, release.description.as_str()),
        (6, "Rollback to v3")
    );
    assert_eq!(release.digest, Some(digest(1)));
    assert_eq!(host.store.config(&app.id).unwrap()["A"], "1");
    // By id, as Heroku's command line does.
    let now = host.now();
    assert!(host.store.rollback(&app.id, &old.id, USER, now).is_ok());

    for (named, expected) in [
        ("v1", "NotEligible"),
        ("v7", "AlreadyCurrent"),
        ("v9", "NoRelease"),
    ] {
        let error = host.store.rollback(&app.id, named, USER, now).unwrap_err();
        assert!(
            format!("{error:?}").starts_with(expected),
            "{named}: {error:?}"
        );
    }
    assert_eq!(host.store.releases(&app.id).unwrap().len(), 7);
}

#[test]
fn the_formation_follows_the_current_release() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    host.deploy(&app.id, 1);
    let show = |store: &Store| -> Vec<String> {
        let formation = store.formation(&app.id).unwrap();
        formation
            .iter()
            .map(|entry| {
                format!(
                    "{}={} {}",
                    entry.wanted.process_type, entry.wanted.quantity, entry.command
                )
            })
            .collect()
    };
    assert_eq!(show(&host.store), ["web=1 ./web", "worker=0 ./work"]);
    let web = host.store.formation(&app.id).unwrap().remove(0).id;
    let slug_id = host.slug(&app.id, 2, &[("clock", "./tick"), ("web", "./web2")]);
    let now = host.now();
    let new = NewRelease {
        slug_id,
        ..NewRelease::default()
    };
    host.store.create_release(&app.id, &new, USER, now).unwrap();
    assert_eq!(show(&host.store), ["clock=0 ./tick", "web=1 ./web2"]);
    assert_eq!(host.store.formation(&app.id).unwrap()[1].id, web);
    host.store.rollback(&app.id, "v2", USER, now).unwrap();
    assert_eq!(show(&host.store), ["web=1 ./web", "worker=0 ./work"]);
}

#[test]
fn a_dyno_lives_and_ends() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    assert!(matches!(
        host.run(&app.id, "1X"),
        Err(StoreError::NotDeployed(_))
    ));
    let release = host.deploy(&app.id, 1);
    let dyno = host.run(&app.id, "standard-2x").unwrap();
    assert_eq!(dyno.name.to_string(), "run.1");
    assert_eq!(
        (dyno.size.as_str(), dyno.state),
        ("Standard-2X", DynoState::Starting)
    );
    assert_eq!(
        (&dyno.release_id, dyno.release_version),
        (&release.id, release.version)
    );
    assert_eq!(host.store.running_digests().unwrap().len(), 1);

    let now = host.now();
    host.store
        .update_dyno(&dyno.id, DynoState::Up, now)
        .unwrap();
    let up = host.store.dyno(&app.id, "run.1").unwrap();
    assert_eq!((up.state, up.updated_at), (DynoState::Up, now));
    let ended = Ended {
        at: host.now(),
        exit: Exit::Signal(9),
        reason: Some("R13".into()),
    };
    let ended_dyno = host
        .store
        .end_dyno(&dyno.id, DynoState::Complete, &ended)
        .unwrap();
    assert_eq!(
        (ended_dyno.state, &ended_dyno.ended),
        (DynoState::Complete, &Some(ended))
    );

    // Late news change nothing.
    let now = host.now();
    host.store
        .update_dyno(&dyno.id, DynoState::Up, now)
        .unwrap();
    assert_eq!(host.end(&dyno.id), ended_dyno);
    assert!(host.store.live_dynos(Some(&app.id)).unwrap().is_empty());
    assert!(host.store.running_digests().unwrap().is_empty());
    assert_eq!(host.store.dyno(&app.id, &dyno.id).unwrap(), ended_dyno);
    assert!(matches!(
        host.store.dyno(&app.id, "run.2"),
        Err(StoreError::NoDyno(_))
    ));
    assert!(matches!(
        host.store.dyno("x", &dyno.id),
        Err(StoreError::NoDyno(_))
    ));
}

#[test]
fn a_one_off_has_neither_the_type_of_formation_dynos_nor_a_silly_one() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    host.deploy(&app.id, 1);
    let mut new = NewDyno {
        process_type: "web".into(),
        command: "bash".into(),
        size: Size::default_size(),
        attach: Attach::Detached,
    };
    let now = host.now();
    let refused = host.store.create_dyno(&app.id, &new, now);
    assert!(matches!(refused, Err(StoreError::TypeOfFormation(..))));
    new.process_type = "a.b".into();
    assert!(matches!(
        host.store.create_dyno(&app.id, &new, now),
        Err(StoreError::Rule(_))
    ));
    new.process_type = "job".into();
    let dyno = host.store.create_dyno(&app.id, &new, now).unwrap();
    assert_eq!(
        (dyno.name.to_string().as_str(), dyno.attach),
        ("job.1", Attach::Detached)
    );
}

#[test]
fn a_procfile_with_a_run_of_its_own_does_not_stop_one_offs() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let slug_id = host.slug(&app.id, 1, &[("run", "./run")]);
    let now = host.now();
    let new = NewRelease {
        slug_id,
        ..NewRelease::default()
    };
    host.store.create_release(&app.id, &new, USER, now).unwrap();
    assert_eq!(host.run(&app.id, "1X").unwrap().name.to_string(), "run.1");
}

#[test]
fn a_size_bounds_its_one_offs() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    host.deploy(&app.id, 1);
    let first = host.run(&app.id, "Eco").unwrap();
    let refused = host.run(&app.id, "eco").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "`shop` has 1 one-off dyno of size `Eco`, which is the limit"
    );
    // A refused dyno takes no number.
    assert_eq!(host.run(&app.id, "1X").unwrap().name.number, 2);
    host.end(&first.id);
    assert_eq!(host.run(&app.id, "Eco").unwrap().name.number, 3);
}

#[test]
fn forgotten_dynos_keep_their_numbers() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    host.deploy(&app.id, 1);
    let alive = host.run(&app.id, "1X").unwrap();
    for _ in 0..5 {
        let dyno = host.run(&app.id, "1X").unwrap();
        host.end(&dyno.id);
    }
    host.store.prune_dynos(&app.id, 2).unwrap();
    assert!(matches!(
        host.store.dyno(&app.id, "run.4"),
        Err(StoreError::NoDyno(_))
    ));
    assert!(host.store.dyno(&app.id, "run.5").is_ok() && host.store.dyno(&app.id, "run.6").is_ok());
    host.store.prune_dynos(&app.id, 0).unwrap();
    assert_eq!(host.store.live_dynos(None).unwrap(), [alive]);
    assert_eq!(host.run(&app.id, "1X").unwrap().name.number, 7);
}

#[test]
fn the_nearest_linked_folder_wins() {
    let mut host = Host::new();
    let (shop, blog) = (host.create("shop").unwrap(), host.create("blog").unwrap());
    let now = host.now();
    host.store
        .link_folder(&shop.id, &folder("/src", 1), now)
        .unwrap();
    host.store
        .link_folder(&blog.id, &folder("/src/blog", 2), now)
        .unwrap();
    let linked = |store: &Store, folders: &[Folder]| {
        store
            .linked_app(folders)
            .unwrap()
            .map(|link| (link.app.name.to_string(), link.path))
    };
    let above = [
        folder("/src/blog/x", 3),
        folder("/src/blog", 2),
        folder("/src", 1),
        folder("/", 4),
    ];
    assert_eq!(
        linked(&host.store, &above),
        Some(("blog".into(), "/src/blog".into()))
    );
    assert_eq!(
        linked(&host.store, &above[2..]),
        Some(("shop".into(), "/src".into()))
    );
    assert_eq!(linked(&host.store, &above[3..]), None);
    // Another folder of that name is not the one that was linked; another device number is no
    // matter, they change.
    assert_eq!(linked(&host.store, &[folder("/src/blog", 9)]), None);
    assert!(
        linked(
            &host.store,
            &[Folder {
                device: 7,
                ..folder("/src/blog", 2)
            }]
        )
        .is_some()
    );

    assert!(host.store.unlink_folder("/src/blog").unwrap());
    assert!(!host.store.unlink_folder("/src/blog").unwrap());
    assert_eq!(
        linked(&host.store, &above),
        Some(("shop".into(), "/src".into()))
    );
    assert_eq!(
        host.store.app("shop").unwrap().folder.as_deref(),
        Some("/src")
    );
}

#[test]
fn a_deploy_notes_when_its_folder_was_read() {
    let mut host = Host::new();
    let (shop, blog) = (host.create("shop").unwrap(), host.create("blog").unwrap());
    let src = folder("/src", u64::MAX);
    let deploy = |host: &mut Host, app: &str| {
        let slug_id = host.slug(app, 1, &[]);
        let at = host.now();
        let packed = Some(Packed {
            folder: src.clone(),
            at,
        });
        let new = NewRelease {
            slug_id,
            packed,
            ..NewRelease::default()
        };
        host.store.create_release(app, &new, USER, at).unwrap();
        at
    };
    let first = deploy(&mut host, &shop.id);
    let link = host
        .store
        .linked_app(std::slice::from_ref(&src))
        .unwrap()
        .unwrap();
    assert_eq!(
        (link.app.id, link.packed_at),
        (shop.id.clone(), Some(first))
    );
    // To deploy the folder to another app once does not make it that app's.
    deploy(&mut host, &blog.id);
    let link = host
        .store
        .linked_app(std::slice::from_ref(&src))
        .unwrap()
        .unwrap();
    assert_eq!((link.app.id, link.packed_at), (shop.id, Some(first)));
}

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
            pragma("user_version").as_str()
        ),
        ("1", "1")
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
