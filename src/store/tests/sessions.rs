//! The short-lived apps of `dyno start`.

use std::collections::BTreeMap;

use super::*;
use crate::model::release::{ProcessTypes, ReleaseStatus};

fn folder(path: &str) -> Folder {
    Folder {
        path: path.to_owned(),
        device: 1,
        inode: 7,
    }
}

fn start(host: &mut Host, folder: &Folder) -> (App, StartedApp) {
    let types = ProcessTypes::from_iter([("web", "./web"), ("worker", "./work")]);
    let formation = BTreeMap::from([("web".to_owned(), 2)]);
    let new = NewStartedApp {
        name: WantedName::Like(AppName::parse("shop-start").unwrap()),
        folder,
        live: Some(NewLiveRelease {
            process_types: &types,
            toolchains: &Toolchains::default(),
            formation: &formation,
        }),
    };
    let now = host.now();
    host.store.create_session(&new, USER, now).unwrap()
}

#[test]
fn a_folder_means_its_short_lived_app_as_long_as_that_lives() {
    let mut host = Host::new();
    let (shop, here) = (host.create("shop").unwrap(), folder("/home/ada/shop"));
    let now = host.now();
    host.store.link_folder(&shop.id, &here, now).unwrap();
    let (app, session) = start(&mut host, &here);
    let meant = |host: &Host| {
        let link = host.store.linked_app(std::slice::from_ref(&here)).unwrap();
        link.unwrap().app.name.to_string()
    };
    assert_eq!(meant(&host), "shop-start");
    assert_eq!(app.folder.as_deref(), Some("/home/ada/shop"));
    assert_eq!(host.store.sessions().unwrap(), [session]);
    host.store.destroy_app(&app.id).unwrap();
    assert_eq!(meant(&host), "shop");
    assert!(host.store.sessions().unwrap().is_empty());
    assert!(host.store.session_of(&shop.id).unwrap().is_none());
}

#[test]
fn a_live_one_is_released_without_a_tarball_and_nothing_is_kept_for_it() {
    let mut host = Host::new();
    let (app, session) = start(&mut host, &folder("/home/ada/shop"));
    assert!(session.live);
    assert_eq!(app.slug_size, Some(0));
    let release = host.store.current_release(&app.id).unwrap();
    assert_eq!(
        (release.status, release.digest),
        (ReleaseStatus::Succeeded, None)
    );
    let formation = host.store.formation(&app.id).unwrap();
    let quantities: Vec<_> = formation.iter().map(|it| it.wanted.quantity).collect();
    assert_eq!(quantities, [2, 0]);
    assert!(host.store.kept_digests().unwrap().is_empty());
}
