//! Slugs, releases, config, formation.

use super::*;

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
