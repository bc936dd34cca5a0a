//! Linked folders.

use super::*;

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
        let packed = Some(PackedFrom {
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
