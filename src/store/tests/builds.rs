//! Sources and builds.

use super::*;
use crate::model::release::ProcessTypes;
use crate::model::release::build::{Build, BuildSource, BuildStatus};
use crate::store::builds::KEPT_BUILDS;

fn digest(character: char) -> String {
    std::iter::repeat_n(character, 64).collect()
}

/// A source whose tarball is there.
fn source(host: &mut Host) -> String {
    let now = host.now();
    let source = host.store.create_source(1_000, now).unwrap();
    host.store
        .source_uploaded(&source.id, &digest('a'))
        .unwrap();
    source.id
}

fn build_of(host: &mut Host, app: &App, source: &str) -> Result<Build> {
    let source = BuildSource {
        id: source.to_owned(),
        url: "/sources/1/blob".into(),
        commit: Some("1234abcd5678".into()),
        commit_description: Some("Adds a cart".into()),
        digest: None,
    };
    let now = host.now();
    host.store.create_build(&app.id, &source, &[], USER, now)
}

fn built() -> Built {
    Built {
        digest: digest('b'),
        size: 7,
        process_types: ProcessTypes::from_iter([("web", "./web")]),
        release: NewRelease::default(),
    }
}

#[test]
fn a_build_becomes_a_slug_and_a_release_at_once() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let source = source(&mut host);
    let build = build_of(&mut host, &app, &source).unwrap();
    assert_eq!(build.status, BuildStatus::Pending);
    let pending = host.store.pending_builds().unwrap();
    assert_eq!(pending, std::slice::from_ref(&build));
    let now = host.now();
    let (build, release) = host.store.release_build(&build.id, &built(), now).unwrap();
    assert_eq!(build.status, BuildStatus::Succeeded);
    assert_eq!(build.release_id.as_ref(), Some(&release.id));
    assert_eq!(build.slug_id, release.slug_id);
    assert_eq!(
        (release.description.as_str(), release.current),
        ("Deploy 1234abcd", true)
    );
    let slug = host.store.slug(&build.slug_id.clone().unwrap()).unwrap();
    assert_eq!(slug.commit.as_deref(), Some("1234abcd5678"));
    assert_eq!(slug.commit_description.as_deref(), Some("Adds a cart"));
    assert!(slug.uploaded);
    // Once is enough, and what has succeeded does not fail.
    let now = host.now();
    let again = host.store.release_build(&build.id, &built(), now);
    assert!(matches!(again, Err(StoreError::NoBuild(_))));
    assert_eq!(
        host.store.fail_build(&build.id, now).unwrap().status,
        BuildStatus::Succeeded
    );
    let builds = host.store.builds(&app.id).unwrap();
    assert_eq!(builds, std::slice::from_ref(&build));
    assert!(host.store.pending_builds().unwrap().is_empty());
    host.store.destroy_app(&app.id).unwrap();
    assert!(matches!(
        host.store.build(&build.id),
        Err(StoreError::NoBuild(_))
    ));
    assert!(host.store.kept_digests().unwrap().is_empty());
}

#[test]
fn a_build_goes_on_with_the_toolchains_of_the_last_release_unless_it_has_some() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let some = Toolchains {
        path: vec!["/home/ada/.cargo/bin".into()],
        ..Toolchains::default()
    };
    let source = source(&mut host);
    for (given, expected) in [
        (None, Toolchains::default()),
        (Some(some.clone()), some.clone()),
        (None, some),
        (Some(Toolchains::default()), Toolchains::default()),
    ] {
        let build = build_of(&mut host, &app, &source).unwrap();
        let built = Built {
            release: NewRelease {
                toolchains: given,
                ..NewRelease::default()
            },
            ..built()
        };
        let now = host.now();
        let (_, release) = host.store.release_build(&build.id, &built, now).unwrap();
        assert_eq!(release.toolchains, expected);
    }
}

#[test]
fn only_a_source_that_is_there_and_is_what_it_was_said_to_be_is_built() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let refused = build_of(&mut host, &app, "none");
    assert!(matches!(refused, Err(StoreError::NoSource(_))));
    let now = host.now();
    let empty = host.store.create_source(9, now).unwrap();
    let refused = build_of(&mut host, &app, &empty.id);
    assert!(matches!(refused, Err(StoreError::SourceNotUploaded)));
    host.store.source_uploaded(&empty.id, &digest('a')).unwrap();
    let other = host.store.source_uploaded(&empty.id, &digest('b'));
    assert!(matches!(other, Err(StoreError::OtherDigest { .. })));
    let said = BuildSource {
        id: empty.id,
        digest: Some(digest('b')),
        ..BuildSource::default()
    };
    let refused = host.store.create_build(&app.id, &said, &[], USER, now);
    assert!(matches!(refused, Err(StoreError::OtherDigest { .. })));
}

#[test]
fn a_source_is_kept_until_its_time_is_over_and_no_build_waits_for_it() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let (waited_for, old) = (source(&mut host), source(&mut host));
    let build = build_of(&mut host, &app, &waited_for).unwrap();
    let time = host.now();
    let new = source(&mut host);
    host.store.forget_sources_before(time).unwrap();
    host.store.forget_source(&waited_for).unwrap();
    assert!(host.store.source(&waited_for).is_ok() && host.store.source(&new).is_ok());
    assert!(matches!(
        host.store.source(&old),
        Err(StoreError::NoSource(_))
    ));
    assert_eq!(host.store.source_digests().unwrap().len(), 1);
    let now = host.now();
    host.store.fail_build(&build.id, now).unwrap();
    host.store.forget_source(&waited_for).unwrap();
    assert!(host.store.source(&waited_for).is_err());
    let refused = host.store.create_source(1, now);
    assert!(matches!(refused, Err(StoreError::TooManySources(1))));
}

#[test]
fn the_oldest_builds_that_have_ended_are_forgotten() {
    let mut host = Host::new();
    let (app, other) = (host.create("shop").unwrap(), host.create("other").unwrap());
    let source = source(&mut host);
    let waiting = build_of(&mut host, &app, &source).unwrap();
    let of_other = build_of(&mut host, &other, &source).unwrap();
    let mut ended = Vec::new();
    for _ in 0..KEPT_BUILDS + 2 {
        let build = build_of(&mut host, &app, &source).unwrap();
        let now = host.now();
        ended.push(host.store.fail_build(&build.id, now).unwrap());
    }
    build_of(&mut host, &app, &source).unwrap();
    let builds = host.store.builds(&app.id).unwrap();
    assert_eq!(builds.len(), 2 + KEPT_BUILDS as usize);
    assert!(builds.contains(&waiting) && builds.contains(&ended[2]));
    assert!(!builds.contains(&ended[1]));
    assert_eq!(host.store.build_ids().unwrap().len(), builds.len() + 1);
    assert!(host.store.build(&of_other.id).is_ok());
}
