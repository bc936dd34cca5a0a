//! Dynos and their numbers.

use super::*;

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
        .end_dyno(&dyno.id, DynoState::Complete, &ended, 1000)
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
        host.end_keeping(&dyno.id, 2);
    }
    assert!(matches!(
        host.store.dyno(&app.id, "run.4"),
        Err(StoreError::NoDyno(_))
    ));
    assert!(host.store.dyno(&app.id, "run.5").is_ok() && host.store.dyno(&app.id, "run.6").is_ok());
    assert_eq!(host.store.live_dynos(None).unwrap(), [alive]);
    assert_eq!(host.run(&app.id, "1X").unwrap().name.number, 7);
}
