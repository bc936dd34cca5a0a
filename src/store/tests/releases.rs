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
    new.toolchains = Some(Toolchains {
        path: vec!["/home/ada/.cargo/bin".into()],
        ..Toolchains::default()
    });
    let release = host.store.create_release(&app.id, &new, USER, now).unwrap();
    assert_eq!(release.description, "Promote");
    assert_eq!(Some(release.toolchains), new.toolchains);
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
    let release = host.store.rollback(&app.id, "v3", None, USER, now).unwrap();
    assert_eq!(
        (release.version.0, release.description.as_str()),
        (6, "Rollback to v3")
    );
    assert_eq!(release.digest, Some(digest(1)));
    assert_eq!(host.store.config(&app.id).unwrap()["A"], "1");
    // By id, as Heroku's command line does.
    let now = host.now();
    assert!(
        host.store
            .rollback(&app.id, &old.id, None, USER, now)
            .is_ok()
    );

    for (named, expected) in [
        ("v1", "NotEligible"),
        ("v7", "AlreadyCurrent"),
        ("v9", "NoRelease"),
    ] {
        let error = host
            .store
            .rollback(&app.id, named, None, USER, now)
            .unwrap_err();
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
    host.store.rollback(&app.id, "v2", None, USER, now).unwrap();
    assert_eq!(show(&host.store), ["web=1 ./web", "worker=0 ./work"]);
}

/// A release of these process types.
fn release_of(host: &mut Host, app: &str, content: u8, types: &[(&str, &str)]) -> Release {
    let slug_id = host.slug(app, content, types);
    let new = NewRelease {
        slug_id,
        ..NewRelease::default()
    };
    let now = host.now();
    host.store.create_release(app, &new, USER, now).unwrap()
}

const PHASED: [(&str, &str); 2] = [("release", "./migrate"), ("web", "./web")];

#[test]
fn a_release_with_a_phase_counts_when_that_has_succeeded() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let quantities = |store: &Store| -> Vec<(String, u32)> {
        let entries = store.formation(&app.id).unwrap().into_iter();
        entries
            .map(|entry| (entry.wanted.process_type, entry.wanted.quantity))
            .collect()
    };
    let first = release_of(&mut host, &app.id, 1, &PHASED);
    assert_eq!(
        (first.status, first.current),
        (ReleaseStatus::Pending, false)
    );
    assert_eq!(
        host.store.pending_releases().unwrap(),
        std::slice::from_ref(&first)
    );
    assert_eq!(host.store.current_release(&app.id).unwrap().version.0, 1);
    assert_eq!(quantities(&host.store), []);
    let now = host.now();
    let first = host
        .store
        .finish_release(&app.id, &first.id, true, now)
        .unwrap();
    assert_eq!(
        (first.status, first.current),
        (ReleaseStatus::Succeeded, true)
    );
    assert_eq!(
        quantities(&host.store),
        [("release".into(), 0), ("web".into(), 1)],
        "a first deploy that had to wait for its phase brings one web"
    );
    assert!(host.store.pending_releases().unwrap().is_empty());
    // How it ended is known once.
    let again = host.store.finish_release(&app.id, &first.id, false, now);
    assert_eq!(again.unwrap().status, ReleaseStatus::Succeeded);

    // What fails changes nothing but the config that was asked for, and the next goes on from the good slug.
    let types = [("release", "./broken"), ("other", "./other")];
    let failed = release_of(&mut host, &app.id, 2, &types);
    let failed = host
        .store
        .finish_release(&app.id, &failed.id, false, now)
        .unwrap();
    assert_eq!(
        (failed.status, failed.current),
        (ReleaseStatus::Failed, false)
    );
    assert_eq!(quantities(&host.store).len(), 2);
    let next = host.config(&app.id, &[("A", Some("1"))]).unwrap();
    assert_eq!(next.slug_id, first.slug_id);
    let next = host.store.finish_release(&app.id, &next.id, false, now);
    assert_eq!(next.unwrap().status, ReleaseStatus::Failed);
    let next = host.config(&app.id, &[("B", Some("2"))]).unwrap();
    let config = host.store.release_config(&next.id).unwrap();
    assert_eq!(config.len(), 2, "{config:?}");
    assert!(
        host.store
            .rollback(&app.id, &failed.id, None, USER, now)
            .is_err()
    );
}

#[test]
fn of_two_releases_the_newer_counts_whichever_phase_ends_first() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let first = release_of(&mut host, &app.id, 1, &PHASED);
    let second = release_of(&mut host, &app.id, 2, &[("release", "x"), ("clock", "y")]);
    let now = host.now();
    for release in [&second, &first] {
        host.store
            .finish_release(&app.id, &release.id, true, now)
            .unwrap();
        let current = host.store.current_release(&app.id).unwrap();
        assert_eq!(current.id, second.id);
        let formation = host.store.formation(&app.id).unwrap();
        let types: Vec<_> = formation
            .iter()
            .map(|entry| &*entry.wanted.process_type)
            .collect();
        assert_eq!(types, ["release", "clock"]);
    }
}

#[test]
fn only_a_deploy_that_somebody_asked_for_brings_a_web_dyno_and_only_the_first() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let mut deploy = |without_web: bool| {
        let slug_id = host.slug(&app.id, 1, &[("web", "./web")]);
        let new = NewRelease {
            slug_id,
            without_web,
            ..NewRelease::default()
        };
        let now = host.now();
        host.store.create_release(&app.id, &new, USER, now).unwrap();
        host.store.formation(&app.id).unwrap()[0].wanted.quantity
    };
    assert_eq!([deploy(true), deploy(true), deploy(false)], [0, 0, 1]);
    let limits = MostDynos::of(&Settings::default());
    let updates = crate::model::formation::parse_scale(&["web=0".to_owned()]).unwrap();
    let now = host.now();
    host.store.scale(&app.id, &updates, limits, now).unwrap();
    let release = host.deploy(&app.id, 2);
    assert!(release.current);
    assert_eq!(host.store.formation(&app.id).unwrap()[0].wanted.quantity, 0);
}
