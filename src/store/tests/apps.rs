//! Apps, and ids.

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
    let (now, later) = (host.now(), host.now());
    let account = host.store.account(now).unwrap();
    assert_eq!(account.1, now);
    let mut again = Store::open(&host.path()).unwrap();
    assert_eq!(again.account(later).unwrap(), account);
}

#[test]
fn a_taken_name_is_refused_or_numbered() {
    let mut host = Host::new();
    host.create("shop").unwrap();
    assert!(matches!(host.create("shop"), Err(StoreError::NameTaken(_))));
    let shop = WantedName::Like(AppName::parse("shop").unwrap());
    for expected in ["shop-2", "shop-3"] {
        let now = host.now();
        let app = host.store.create_app(&shop, USER, None, now).unwrap();
        assert_eq!(app.name.as_str(), expected);
    }
    let now = host.now();
    host.store
        .create_app(&WantedName::Any, USER, None, now)
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
fn an_app_is_closed_to_visitors_and_opened_again() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let other = host.create("other").unwrap();
    assert!(!app.maintenance);
    let now = host.now();
    let closed = host.store.set_maintenance(&app.id, true, now).unwrap();
    assert!(closed.maintenance && closed.updated_at == now);
    let later = host.now();
    let still = host.store.set_maintenance(&app.id, true, later).unwrap();
    assert_eq!(still, closed);
    let again = Store::open(&host.path()).unwrap();
    assert_eq!(again.app("shop").unwrap(), closed);
    assert_eq!(again.app("other").unwrap(), other);
    let open = host.store.set_maintenance(&app.id, false, later).unwrap();
    assert!(!open.maintenance && open.updated_at == later);
    let nobody = host.store.set_maintenance("nobody", true, later);
    assert!(matches!(nobody, Err(StoreError::NoApp(_))));
}

#[test]
fn the_apps_of_an_older_state_are_open_to_visitors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let mut connection = Connection::open(&path).unwrap();
    Migrations::from_slice(&MIGRATIONS[..2])
        .to_latest(&mut connection)
        .unwrap();
    connection
        .execute_batch(
            "INSERT INTO apps VALUES ('a', 'shop', 0, 0);
             INSERT INTO releases VALUES
                 ('r', 'a', 1, 'succeeded', '', '', NULL, '{}', '{}', 0, 0);",
        )
        .unwrap();
    drop(connection);
    let store = Store::open(&path).unwrap();
    assert!(!store.app("shop").unwrap().maintenance);
}
