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

    let now = host.now();
    host.store
        .update_dyno(&dyno.id, DynoState::Up, now)
        .unwrap();
    let up = host.store.dyno(&app.id, "run.1").unwrap();
    assert_eq!((up.state, up.updated_at), (DynoState::Up, now));
    let ended = DynoEnd {
        at: host.now(),
        exit: Exit::Signal(9),
        reason: Some("R13".into()),
        message: Some("nobody came".into()),
        spent: Spent::default(),
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
        id: None,
        process_type: "web".into(),
        command: "bash".into(),
        size: Size::default_size(),
        attach: Attach::Detached,
        limits: MostDynos::of(&Settings::default()),
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

#[test]
fn all_dynos_of_an_app_together_have_a_bound() {
    let mut host = Host::new();
    let apps: Vec<_> = ["shop", "other"]
        .map(|name| host.create(name).unwrap().id)
        .into();
    for app in &apps {
        host.deploy(app, 1);
    }
    host.run(&apps[1], "1X").unwrap();
    let mut new = NewDyno {
        id: None,
        process_type: "run".into(),
        command: "bash".into(),
        size: Size::default_size(),
        attach: Attach::Detached,
        limits: MostDynos {
            dynos: 3,
            one_offs: 2,
            large_one_offs: 1,
        },
    };
    let mut run = |host: &mut Host, size: &str| {
        new.size = Size::of_heroku(size).unwrap();
        let now = host.now();
        host.store.create_dyno(&apps[0], &new, now)
    };
    let first = run(&mut host, "1X").unwrap();
    run(&mut host, "1X").unwrap();
    let error = run(&mut host, "1X").unwrap_err();
    assert_eq!(
        error.to_string(),
        "`shop` has 2 one-off dynos of size `1X`, which is the limit"
    );
    let hint = crate::error::UserError::from(error).hint.unwrap();
    assert!(hint.contains("`dyno ps -a shop`") && hint.contains("`max_one_offs`"));
    run(&mut host, "PX").unwrap();
    let error = run(&mut host, "2X").unwrap_err();
    assert_eq!(error.to_string(), "`shop` has 3 dynos, which is the limit");
    host.end(&first.id);
    run(&mut host, "2X").unwrap();
}

#[test]
fn a_list_comes_in_pages() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    host.deploy(&app.id, 1);
    let mut names = Vec::new();
    for number in 0..7 {
        let dyno = host.run(&app.id, "1X").unwrap();
        names.push(dyno.name.to_string());
        if number % 2 == 0 {
            host.end(&dyno.id);
        }
    }
    let pages = |ended: bool, max: usize| {
        let (mut after, mut pages) = (None, Vec::<Vec<String>>::new());
        loop {
            let page = host.store.dyno_page(&app.id, ended, after, max).unwrap();
            pages.push(
                page.dynos
                    .iter()
                    .map(|dyno| dyno.name.to_string())
                    .collect(),
            );
            after = page.next;
            if after.is_none() {
                return pages;
            }
        }
    };
    assert_eq!(pages(true, 1_000), [names.clone()]);
    assert_eq!(pages(true, 7), [names.clone()]);
    assert_eq!(pages(true, 3), [&names[..3], &names[3..6], &names[6..]]);
    assert_eq!(pages(false, 2), [&["run.2", "run.4"][..], &["run.6"]]);
    assert_eq!(pages(false, 0).len(), 3);
    assert!(
        host.store
            .dyno_page("x", true, None, 10)
            .unwrap()
            .dynos
            .is_empty()
    );
}

#[test]
fn a_page_of_long_commands_is_short() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    host.deploy(&app.id, 1);
    let new = NewDyno {
        id: None,
        process_type: "run".into(),
        command: "x".repeat(100 * 1024),
        size: Size::default_size(),
        attach: Attach::Detached,
        limits: MostDynos {
            dynos: 100,
            one_offs: 100,
            large_one_offs: 1,
        },
    };
    for _ in 0..60 {
        let now = host.now();
        host.store.create_dyno(&app.id, &new, now).unwrap();
    }
    let page = host.store.dyno_page(&app.id, false, None, 1_000).unwrap();
    assert_eq!(page.dynos.len(), 41);
    let rest = host
        .store
        .dyno_page(&app.id, false, page.next, 1_000)
        .unwrap();
    assert_eq!((rest.dynos.len(), rest.next), (19, None));
}

/// A dyno that the server starts by itself: one of the formation, or of the release phase.
fn start(host: &mut Host, release: &Release, name: Option<&str>) -> Dyno {
    let now = host.now();
    let new = NewFormationDyno {
        release,
        name: name.map(|name| name.parse().unwrap()),
        command: "./web",
        size: "1X",
    };
    host.store.create_formation_dyno(&new, now).unwrap()
}

fn crash(host: &mut Host, dyno: &Dyno, state: DynoState) -> Dyno {
    let ended = DynoEnd {
        at: host.now(),
        exit: Exit::Status(1),
        reason: None,
        message: None,
        spent: Spent::default(),
    };
    let ended = host.store.end_dyno(&dyno.id, state, &ended, 1000);
    ended.unwrap()
}

#[test]
fn crashes_in_a_row_are_those_of_a_name_on_a_release() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let (first, second) = (host.deploy(&app.id, 1), host.deploy(&app.id, 2));
    let crashed = |host: &Host, release: &Release, name: &str, max: u32| {
        let name = name.parse().unwrap();
        let crashes = host.store.last_crashes(&app.id, &release.id, &name, max);
        let ids = crashes.unwrap().into_iter().map(|dyno| dyno.id);
        ids.collect::<Vec<_>>()
    };
    let mut crash_of = |release: &Release, name: &str, state: DynoState| {
        let dyno = start(&mut host, release, Some(name));
        assert!(dyno.formation && dyno.state == DynoState::Starting);
        crash(&mut host, &dyno, state).id
    };
    crash_of(&first, "web.1", DynoState::Crashed);
    crash_of(&second, "web.1", DynoState::Crashed);
    crash_of(&second, "web.1", DynoState::Down);
    let third = crash_of(&second, "web.1", DynoState::Crashed);
    crash_of(&second, "web.2", DynoState::Crashed);
    let fourth = crash_of(&second, "web.1", DynoState::Crashed);
    assert_eq!(
        crashed(&host, &second, "web.1", 9),
        [fourth.clone(), third],
        "the newest first, as far back as they crashed"
    );
    assert_eq!(crashed(&host, &second, "web.1", 1), [fourth]);
    assert_eq!(crashed(&host, &second, "web.2", 9).len(), 1);
    assert_eq!(crashed(&host, &first, "web.1", 9), [""; 0]);
    // One that lives has not crashed.
    start(&mut host, &second, Some("web.1"));
    assert_eq!(crashed(&host, &second, "web.1", 9), [""; 0]);
}

#[test]
fn a_retired_dyno_leaves_its_name_and_has_not_crashed_however_it_ends() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let release = host.deploy(&app.id, 1);
    let old = start(&mut host, &release, Some("web.1"));
    let now = host.now();
    host.store
        .update_dyno(&old.id, DynoState::Down, now)
        .unwrap();
    assert_eq!(host.store.count_alive(&app.id).unwrap(), 0);
    let new = start(&mut host, &release, Some("web.1"));
    assert_eq!(host.store.count_alive(&app.id).unwrap(), 1);
    // Word of its life that comes late changes nothing.
    host.store.update_dyno(&old.id, DynoState::Up, now).unwrap();
    let page = host.store.dyno_page(&app.id, false, None, 10).unwrap();
    let ids: Vec<_> = page.dynos.iter().map(|dyno| &*dyno.id).collect();
    assert_eq!(ids, [&*new.id]);
    assert_eq!(host.store.dyno(&app.id, "web.1").unwrap().id, new.id);
    assert_eq!(host.store.live_dynos(Some(&app.id)).unwrap().len(), 2);
    let ended = crash(&mut host, &old, DynoState::Crashed);
    assert_eq!(ended.state, DynoState::Down);
    assert!(ended.ended.is_some());
}

#[test]
fn dynos_of_release_phases_are_numbered_one_offs() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let (first, second) = (host.deploy(&app.id, 1), host.deploy(&app.id, 2));
    for (release, name) in [(&first, "release.1"), (&second, "release.2")] {
        let dyno = start(&mut host, release, None);
        assert_eq!(
            (dyno.name.to_string().as_str(), dyno.formation),
            (name, false)
        );
        let all = host.store.release_phase_dynos(&release.id).unwrap();
        assert_eq!(all, [dyno]);
    }
}
