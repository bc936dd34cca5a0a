//! Slugs that come, are used and go, many at once.

use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::slug::pack;

/// A cache and the tarball of a small app, whose one file holds `text`.
fn cache_and_tarball(text: &str) -> (TempDir, SlugCache, Vec<u8>) {
    let home = tempfile::tempdir().unwrap();
    let cache = SlugCache::new(home.path().join("slugs"), None, SlugLimits::default()).unwrap();
    (home, cache, tarball(text))
}

fn tarball(text: &str) -> Vec<u8> {
    let app = tempfile::tempdir().unwrap();
    fs::write(app.path().join("file"), text).unwrap();
    let mut tarball = Vec::new();
    pack(
        app.path(),
        &mut tarball,
        1,
        &SlugLimits::default(),
        &mut |_| {},
    )
    .unwrap();
    tarball
}

fn store(cache: &SlugCache, tarball: &[u8]) -> SlugId {
    cache.receive(tarball, None, u64::MAX).unwrap().0.id
}

fn names(cache: &SlugCache) -> Vec<String> {
    let mut names = cache.names().unwrap();
    names.sort();
    names
}

#[test]
fn a_tarball_is_kept_under_its_digest() {
    let (_home, cache, tarball) = cache_and_tarball("x");
    let (received, _) = cache
        .receive(tarball.as_slice(), None, tarball.len() as u64)
        .unwrap();
    assert_eq!(received.bytes, tarball.len() as u64);
    assert_eq!(fs::read(cache.tarball(&received.id)).unwrap(), tarball);
    let (again, _) = cache
        .receive(tarball.as_slice(), Some(&received.id), u64::MAX)
        .unwrap();
    assert_eq!(again, received);
    assert_eq!(names(&cache), [format!("{}.tgz", received.id)]);
}

#[test]
fn a_packed_directory_is_kept_under_its_digest_if_it_is_not_too_large() {
    let (home, cache, tarball) = cache_and_tarball("x");
    let app = home.path().join("app");
    fs::create_dir(&app).unwrap();
    fs::write(app.join("file"), "x").unwrap();
    let packed = |max_bytes, wanted| {
        cache.pack_over(&app, None, &Times::default(), (1, max_bytes), &|| wanted)
    };
    let packed_bytes = tarball.len() as u64;
    let error = packed(packed_bytes - 1, true).unwrap_err().to_string();
    assert!(error.contains("too many bytes in the tarball"), "{error}");
    assert!(packed(packed_bytes, false).is_err());
    assert!(names(&cache).is_empty());
    let (packed, _lease) = packed(packed_bytes, true).unwrap();
    assert_eq!(fs::read(cache.tarball(&packed.id)).unwrap(), tarball);
    cache.ensure_tree(&packed.id).unwrap();
}

#[test]
fn a_wrong_checksum_or_size_leaves_nothing() {
    let (_home, cache, tarball) = cache_and_tarball("x");
    let other: SlugId = "ab".repeat(32).parse().unwrap();
    let error = cache
        .receive(tarball.as_slice(), Some(&other), u64::MAX)
        .unwrap_err();
    assert!(
        error.to_string().starts_with("checksum mismatch"),
        "{error}"
    );
    let limit = tarball.len() as u64 - 1;
    let error = cache.receive(tarball.as_slice(), None, limit).unwrap_err();
    assert!(
        error.to_string().contains(&format!("the limit is {limit}")),
        "{error}"
    );
    assert!(names(&cache).is_empty());
}

#[test]
fn a_tree_is_unpacked_once_however_many_ask() {
    let (_home, cache, tarball) = cache_and_tarball("x");
    let id = store(&cache, &tarball);
    let inodes: BTreeSet<u64> = thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    fs::metadata(cache.ensure_tree(&id).unwrap().tree())
                        .unwrap()
                        .ino()
                })
            })
            .collect();
        asking
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(inodes.len(), 1);
    assert_eq!(fs::read(cache.tree(&id).join("file")).unwrap(), b"x");
    assert_eq!(names(&cache), [id.to_string(), format!("{id}.tgz")]);
}

#[test]
fn the_same_slug_may_come_many_times_at_once_and_be_removed_meanwhile() {
    let (_home, cache, tarball) = cache_and_tarball("x");
    let id = store(&cache, &tarball);
    let over = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::SeqCst;
    for removed in [false, true] {
        over.store(false, order);
        thread::scope(|scope| {
            if removed {
                scope.spawn(|| {
                    while !over.load(order) {
                        cache.remove(&id).unwrap();
                    }
                });
            }
            let deploys = [(); 8].map(|()| {
                scope.spawn(|| {
                    for _ in 0..40 {
                        store(&cache, &tarball);
                        match cache.ensure_tree(&id) {
                            Err(error) if removed => {
                                assert_eq!(error.to_string(), format!("no slug `{id}`"));
                            }
                            lease => {
                                let file = lease.unwrap().tree().join("file");
                                assert!(removed || fs::read(file).unwrap() == b"x");
                            }
                        }
                    }
                })
            });
            let ended = deploys.map(|thread| thread.join().is_ok());
            over.store(true, order);
            assert_eq!(ended, [true; 8]);
        });
    }
    store(&cache, &tarball);
    cache.ensure_tree(&id).unwrap();
    assert_eq!(names(&cache), [id.to_string(), format!("{id}.tgz")]);
}

#[test]
fn what_came_after_somebody_looked_which_slugs_are_kept_stays() {
    let (_home, cache, tarball) = cache_and_tarball("x");
    let id = store(&cache, &tarball);
    let looked = SystemTime::now() - Duration::from_secs(60);
    cache.remove_all_but(&BTreeSet::new(), looked).unwrap();
    assert_eq!(names(&cache), [format!("{id}.tgz")]);
    cache
        .remove_all_but(&BTreeSet::new(), SystemTime::now())
        .unwrap();
    assert!(names(&cache).is_empty());
}

#[test]
fn what_has_come_stays_until_somebody_could_note_that_it_is_wanted() {
    let (_home, cache, tarball) = cache_and_tarball("x");
    let (received, lease) = cache.receive(&tarball[..], None, u64::MAX).unwrap();
    let sweep = || cache.remove_all_but(&BTreeSet::new(), SystemTime::now());
    sweep().unwrap();
    assert_eq!(names(&cache), [format!("{}.tgz", received.id)]);
    drop(lease);
    sweep().unwrap();
    assert!(names(&cache).is_empty());
}

#[test]
fn a_tarball_that_is_no_slug_leaves_no_tree() {
    let (_home, cache, _) = cache_and_tarball("x");
    let id = store(&cache, b"no tarball");
    assert!(
        cache
            .ensure_tree(&id)
            .unwrap_err()
            .to_string()
            .starts_with("bad slug")
    );
    assert_eq!(names(&cache), [format!("{id}.tgz")]);
    cache.remove(&id).unwrap();
    let error = cache.ensure_tree(&id).unwrap_err();
    assert_eq!(error.to_string(), format!("no slug `{id}`"));
}

#[test]
fn the_least_recently_used_tree_goes_and_none_in_use() {
    let (_home, cache, _) = cache_and_tarball("");
    let ids = ["1", "2", "3", "4"].map(|text| store(&cache, &tarball(text)));
    let trees = ids.map(|id| cache.ensure_tree(&id).unwrap().tree().to_owned());
    // 2 was used before all others, then 1, 3, 4; 1 is in use.
    for (id, age) in ids.iter().zip([300, 400, 200, 100]) {
        let used = SystemTime::now() - Duration::from_secs(age);
        let tarball = File::options().write(true).open(cache.tarball(id)).unwrap();
        tarball.set_modified(used).unwrap();
    }
    let one = disk_bytes(&trees[0]).unwrap();
    let in_use = [(); 2].map(|()| cache.tree_in_use(&ids[0]).unwrap());
    // It counts as just used; that it is the oldest is what is tried here.
    let tarball = File::options().write(true).open(cache.tarball(&ids[0]));
    let used = SystemTime::now() - Duration::from_secs(300);
    tarball.unwrap().set_modified(used).unwrap();
    assert_eq!(cache.evict(4 * one).unwrap(), []);
    assert_eq!(cache.evict(2 * one).unwrap(), [ids[1], ids[2]]);
    assert_eq!(cache.evict(0).unwrap(), [ids[3]]);
    assert_eq!(trees.map(|tree| tree.exists()), [true, false, false, false]);
    let [first, second] = in_use;
    drop(first);
    assert_eq!(cache.evict(0).unwrap(), []);
    drop(second);
    assert_eq!(cache.evict(0).unwrap(), [ids[0]]);
    assert!(cache.tree_in_use(&ids[0]).is_none());
    // Tarballs stay, so any of them comes back.
    cache.ensure_tree(&ids[1]).unwrap();
}

#[test]
fn no_tree_goes_while_somebody_begins_to_use_it() {
    let (_home, cache, tarball) = cache_and_tarball("x");
    let id = store(&cache, &tarball);
    let over = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::SeqCst;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(order) {
                cache.evict(0).unwrap();
            }
        });
        for _ in 0..300 {
            let lease = cache.tree_in_use(&id);
            let lease = lease.unwrap_or_else(|| cache.ensure_tree(&id).unwrap());
            for _ in 0..10 {
                assert_eq!(fs::read(lease.tree().join("file")).unwrap(), b"x");
            }
        }
        over.store(true, order);
    });
}

#[test]
fn removing_takes_tarball_and_tree() {
    let (_home, cache, tarball) = cache_and_tarball("x");
    let id = store(&cache, &tarball);
    cache.ensure_tree(&id).unwrap();
    cache.remove(&id).unwrap();
    cache.remove(&id).unwrap();
    assert!(names(&cache).is_empty());
}

#[test]
fn only_what_nobody_works_on_is_swept() {
    let (_home, cache, tarball) = cache_and_tarball("x");
    let id = store(&cache, &tarball);
    let at_work = HeldFolder::new_in(&cache.dir).unwrap();
    let left_over = cache.dir.join(format!("{}dead", temporary::PREFIX));
    fs::create_dir_all(left_over.join(TREE)).unwrap();
    fs::write(
        cache.dir.join(format!("{}half", temporary::PREFIX)),
        "half a tarb",
    )
    .unwrap();
    assert_eq!(cache.sweep().unwrap(), 2);
    assert!(at_work.path().exists() && cache.tarball(&id).exists());
    drop(at_work);
    assert_eq!(names(&cache), [format!("{id}.tgz")]);
    assert_eq!(cache.sweep().unwrap(), 0);
}
