//! From a folder, or a tarball made elsewhere, to a release; and what must not come of a bad one.

use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::harness::{Host, eventually, lacks, write};
use crate::small_disk::{can_fill_a_disk, on_a_small_disk};

/// The names in the state's `slugs` folder.
fn slugs(host: &Host) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(host.state().join("slugs"))
        .map(|entries| {
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

fn tarballs(host: &Host) -> Vec<String> {
    slugs(host)
        .into_iter()
        .filter(|name| name.ends_with(".tgz"))
        .collect()
}

/// The versions of an app's releases, newest first.
fn versions(host: &Host, app: &Path) -> Vec<u64> {
    let json = host
        .dyno(app, &["releases", "--json"])
        .finish()
        .succeeds()
        .text();
    let releases: Value = serde_json::from_str(&json).unwrap();
    let releases = releases.as_array().unwrap().iter();
    releases
        .map(|release| release["version"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_deploy_says_which_release_it_made() {
    let host = Host::new();
    let app = host.folder("plain");
    host.dyno(&app, &["deploy"])
        .finish()
        .succeeds()
        .prints("")
        .says("Creating plain... done\nDeploying to plain... done, v2\n");
    host.dyno(&app, &["deploy"])
        .finish()
        .succeeds()
        .says("Deploying to plain... done, v3\n");
    host.dyno(&host.path(), &["deploy", "apps/plain"])
        .finish()
        .succeeds()
        .says("Deploying to plain... done, v4\n");
    assert_eq!(versions(&host, &app), [4, 3, 2, 1]);
}

#[test]
fn the_same_tree_is_the_same_slug() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let (one, two) = (
        host.folder_as("many-types", "one"),
        host.folder_as("many-types", "two"),
    );
    let old = FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(1_000_000));
    File::open(two.join("bin/say"))
        .unwrap()
        .set_times(old)
        .unwrap();
    write(&two.join(".git/HEAD"), "never packed");
    for folder in [&one, &two] {
        host.dyno(folder, &["deploy"]).finish().succeeds();
    }
    assert_eq!(tarballs(&host).len(), 1, "{:?}", slugs(&host));
    write(&two.join("bin/say"), "#!/bin/sh\necho other\n");
    host.dyno(&two, &["deploy"]).finish().succeeds();
    assert_eq!(tarballs(&host).len(), 2);
    // One app's slug is not the other's.
    host.run(&one, &["-q", "bin/say x"]).finish().prints("x\n");
    host.run(&two, &["-q", "bin/say x"])
        .finish()
        .prints("other\n");
}

#[test]
fn what_slugignore_names_is_left_out() {
    let host = Host::new();
    let app = host.folder_of(
        "ignoring",
        &[
            ("Procfile", "nothing: true\n"),
            (
                ".slugignore",
                "# not needed there\n*.log\n/docs\nfixtures/\n",
            ),
            ("a.log", ""),
            ("deep/b.log", ""),
            ("docs/guide", ""),
            ("deep/docs/kept", ""),
            ("deep/fixtures/c", ""),
            (".git/config", ""),
            (".gitignore", ""),
        ],
    );
    host.run(&app, &["-q", "find . -type f | sort"])
        .finish()
        .succeeds()
        .holds("the ignored files and only they are left out", |text| {
            let files: Vec<_> = text
                .lines()
                .filter(|line| *line != "./.slugignore")
                .collect();
            files == ["./.gitignore", "./Procfile", "./deep/docs/kept"]
        });
}

#[test]
fn modes_links_and_odd_names_arrive() {
    let host = Host::new();
    let app = host.folder_of(
        "odd",
        &[
            ("Procfile", "x: true\n"),
            ("bin/run", "#!/bin/sh\necho ran\n"),
        ],
    );
    fs::set_permissions(app.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("bin/run", app.join("link")).unwrap();
    symlink("/nowhere", app.join("dangling")).unwrap();
    fs::create_dir(app.join("empty")).unwrap();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    write(&app.join(&long), "long\n");
    write(&app.join("a b\n'c\" é"), "odd\n");
    host.run(
        &app,
        &[
            "-q",
            &format!(
                "./link; readlink dangling; stat -c '%a %F' bin/run empty; cat {long}; cat a*"
            ),
        ],
    )
    .finish()
    .succeeds()
    .prints("ran\n/nowhere\n755 regular file\n755 directory\nlong\nodd\n");
}

#[test]
fn a_changed_tree_is_told_and_not_run() {
    let host = Host::new();
    let app = host.app("many-types");
    host.run(&app, &["true"])
        .finish()
        .succeeds()
        .does_not_mention("has changed");
    write(&app.join("new"), "new\n");
    host.run(&app, &["ls new"]).finish().exits(2).mentions(
        "has changed since many-types was deployed; `dyno run --deploy` deploys it first\n",
    );
    host.run(&app, &["-q", "ls new 2>/dev/null"])
        .finish()
        .exits(2)
        .says("");
    host.run(&app, &["--deploy", "cat new"])
        .finish()
        .succeeds()
        .prints("new\n")
        .mentions("Deploying to many-types... done, v3\n")
        .does_not_mention("has changed");
    host.run(&app, &["true"])
        .finish()
        .succeeds()
        .does_not_mention("has changed");
}

#[test]
fn a_running_dyno_keeps_its_release() {
    let host = Host::new();
    let app = host.folder_of(
        "keeps",
        &[
            ("Procfile", "show: cat version; echo $V\n"),
            ("version", "one\n"),
        ],
    );
    host.dyno(&app, &["deploy"]).finish().succeeds();
    let mut running = host
        .run(
            &app,
            &["-q", "echo up; read line; cat version; echo \"[$V]\""],
        )
        .open_input()
        .start();
    running.wait_for_output("up\n");
    write(&app.join("version"), "two\n");
    host.dyno(&app, &["deploy"]).finish().succeeds();
    host.dyno(&app, &["config:set", "V=2"]).finish().succeeds();
    host.run(&app, &["-q", "show"]).finish().prints("two\n2\n");
    running.write("go\n");
    running.close_input();
    running.finish().succeeds().prints("up\none\n[]\n");
}

/// A tarball that GNU tar makes of `./app`, as slug compilers do.
fn gnu_tarball(host: &Host, files: &[(&str, &str)]) -> PathBuf {
    let folder = host.path().join("made/app");
    for (path, text) in files {
        write(&folder.join(path), text);
    }
    let file = host.path().join("made.tgz");
    let made = Command::new("tar")
        .args(["-czf", file.to_str().unwrap(), "-C"])
        .arg(host.path().join("made"))
        .arg("./app")
        .status()
        .unwrap();
    assert!(made.success());
    file
}

#[test]
fn a_slug_made_by_gnu_tar_is_as_good() {
    let host = Host::new();
    let slug = gnu_tarball(
        &host,
        &[
            ("Procfile", "hello: sh deep/hello\n"),
            ("deep/hello", "echo hello from a tarball\n"),
        ],
    );
    let here = host.path();
    host.dyno(&here, &["create", "made"]).finish().succeeds();
    host.dyno(
        &here,
        &["-a", "made", "deploy", "--slug", slug.to_str().unwrap()],
    )
    .finish()
    .succeeds()
    .says("Deploying to made... done, v2\n");
    host.dyno(&here, &["run", "-a", "made", "-q", "hello"])
        .finish()
        .succeeds()
        .prints("hello from a tarball\n");
}

/// Deploys a tarball that is no good onto an app that is, and sees that nothing comes of it.
#[track_caller]
fn is_refused(what: &str, bytes: &[u8]) {
    let host = Host::new();
    let app = host.plain_app();
    let (slugs_before, versions_before) = (slugs(&host), versions(&host, &app));
    let file = host.path().join("bad.tgz");
    fs::write(&file, bytes).unwrap();
    let outcome = host
        .dyno(&app, &["deploy", "--slug", file.to_str().unwrap()])
        .finish();
    outcome.exits(1);
    let errors = outcome.errors();
    let count = |prefix: &str| {
        errors
            .lines()
            .filter(|line| line.starts_with(prefix))
            .count()
    };
    assert!(
        count("error: ") == 1 && count("hint: ") <= 1,
        "{what}: {errors}"
    );
    assert!(!errors.contains("panicked"), "{what}: {errors}");
    assert_eq!(versions(&host, &app), versions_before, "{what}");
    assert_eq!(slugs(&host), slugs_before, "{what}: left behind\n{errors}");
    host.run(&app, &["-q", "echo fine"])
        .finish()
        .prints("fine\n");
    for escaped in ["escaped", "apps/escaped", "state/escaped"] {
        assert!(!host.path().join(escaped).exists(), "{what}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tarball with a Procfile and then members of these kinds, names, link targets, with whatever is in a name.
fn tarball(members: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |kind: tar::EntryType, name: &str, link: &str, text: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(text.len() as u64);
        // `set_path` would refuse what is to be tested.
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, text).unwrap();
    };
    add(tar::EntryType::Directory, "./app/", "", b"");
    add(tar::EntryType::Regular, "./app/Procfile", "", b"x: true\n");
    for (kind, name, link) in members {
        let text: &[u8] = if *kind == tar::EntryType::Regular {
            b"escaped"
        } else {
            b""
        };
        add(*kind, name, link, text);
    }
    gzip(&builder.into_inner().unwrap())
}

#[test]
fn a_tarball_that_leaves_its_folder_is_refused() {
    use tar::EntryType::{Link, Regular, Symlink};
    for (what, members) in [
        ("..", &[(Regular, "./app/../../../escaped", "")][..]),
        (
            "absolute",
            &[(Regular, "/tmp/../tmp/dyno-test-escaped", "")],
        ),
        (
            "through a link",
            &[
                (Symlink, "./app/out", "../../.."),
                (Regular, "./app/out/escaped", ""),
            ],
        ),
        (
            "through an absolute link",
            &[
                (Symlink, "./app/out", "/tmp"),
                (Regular, "./app/out/dyno-test-escaped", ""),
            ],
        ),
        (
            "a hard link to the host",
            &[(Link, "./app/passwd", "/etc/passwd")],
        ),
        (
            "a hard link upwards",
            &[(Link, "./app/up", "../../server.lock")],
        ),
    ] {
        is_refused(what, &tarball(members));
    }
    assert!(!Path::new("/tmp/dyno-test-escaped").exists());
}

#[test]
fn devices_in_a_tarball_are_refused() {
    use tar::EntryType::{Block, Char, Fifo};
    for kind in [Block, Char, Fifo] {
        is_refused("a device", &tarball(&[(kind, "./app/device", "")]));
    }
}

#[test]
fn a_broken_tarball_is_refused() {
    let good = tarball(&[(tar::EntryType::Regular, "./app/file", "")]);
    is_refused("empty", b"");
    is_refused(
        "no gzip",
        b"this is no tarball at all, though it is long enough for a head",
    );
    is_refused("no tar", &gzip(&[b'x'; 5000]));
    is_refused("cut in the head", &good[..8]);
    is_refused("cut in the middle", &good[..good.len() / 2]);
    is_refused("cut at the checksum", &good[..good.len() - 4]);
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    is_refused("a flipped byte", &flipped);
}

#[test]
fn a_bomb_is_refused_before_it_fills_the_disk() {
    let mut host = Host::new();
    host.set("DYNO_TREE_LIMIT", "1");
    let app = host.plain_app();
    let before = slugs(&host);
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(50 << 20);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "./app/zeros", &vec![0; 50 << 20][..])
        .unwrap();
    let file = host.path().join("bomb.tgz");
    fs::write(&file, gzip(&builder.into_inner().unwrap())).unwrap();
    host.dyno(&app, &["deploy", "--slug", file.to_str().unwrap()])
        .finish()
        .exits(1)
        .mentions("error: ");
    assert_eq!(slugs(&host), before);
    assert_eq!(versions(&host, &app).len(), 2);
}

#[test]
fn a_missing_tarball_is_named() {
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(&app, &["deploy", "--slug", "nowhere.tgz"])
        .finish()
        .fails_with(1, "nowhere.tgz", "--slug");
    host.dyno(&app, &["deploy", "nowhere"])
        .finish()
        .fails_with(1, "nowhere", "--slug");
}

#[test]
fn a_full_disk_releases_nothing_and_space_heals_it() {
    if !can_fill_a_disk() {
        return;
    }
    let host = Host::new();
    let app = host.folder("plain");
    let script = r#"
        set -u
        "$0" deploy || exit 98
        head -c 8000000 /dev/urandom > big
        "$0" deploy
        echo "status $?"
        ls "$DYNO_HOME/slugs" | grep -v '^[0-9a-f]*$' | grep -v '^[0-9a-f]*\.tgz$'
        "$0" releases --json | grep -c '"version"'
        rm big
        echo small > small
        "$0" deploy || exit 97
        "$0" run -q 'cat small' || exit 96
    "#;
    let (printed, errors) = on_a_small_disk(&host, &app, script);
    assert_eq!(printed, "status 1\n2\nsmall\n", "{errors}");
    assert_eq!(errors.matches("error: ").count(), 1, "{errors}");
    assert!(errors.contains("error: disk full"), "{errors}");
    assert!(errors.contains("hint: "), "{errors}");
    assert!(errors.contains("done, v3"), "{errors}");
}

#[test]
fn a_dyno_that_fills_the_disk_ends_and_takes_nothing_with_it() {
    if !can_fill_a_disk() {
        return;
    }
    let host = Host::new();
    let app = host.folder("plain");
    let script = r#"
        set -u
        "$0" run -q true || exit 98
        "$0" run -q 'head -c 20000000 /dev/zero >/app/x' 2>/dev/null
        echo "status $?"
        # The status comes first, and the room a moment later.
        until [ -z "$(ls "$DYNO_HOME/dynos")" ]; do sleep 0.01; done
        "$0" run -q 'head -c 20000000 /dev/zero >/app/x; echo full; cat' 2>/dev/null <fifo >out &
        exec 3>fifo
        until grep -q full out 2>/dev/null; do sleep 0.01; done
        kill -9 "$(cat "$DYNO_HOME/server.lock")"
        exec 3>&-
        wait
        "$0" apps || exit 97
        "$0" run -q 'echo fine' || exit 96
    "#;
    assert!(
        Command::new("mkfifo")
            .arg(app.join("fifo"))
            .status()
            .unwrap()
            .success()
    );
    let (printed, errors) = on_a_small_disk(&host, &app, script);
    assert_eq!(printed, "status 1\nplain\nfine\n", "{errors}");
}

#[test]
fn a_dyno_that_starts_while_slugs_make_room_has_its_tree() {
    // Every deploy removes the trees that nobody runs on.
    let host = Host::with(&[("DYNO_CACHE_LIMIT", "0")]);
    let app = host.plain_app();
    let other = host.folder_as("plain", "other");
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..10 {
                write(&other.join("new"), &n.to_string());
                host.dyno(&other, &["deploy"]).finish().succeeds();
            }
        });
        for _ in 0..20 {
            host.run(&app, &["-q", "cat Procfile"])
                .finish()
                .succeeds()
                .prints("nothing: true\n");
        }
    });
    // Nobody runs on these any more.
    host.wait_until_clean();
    host.dyno(&other, &["deploy"]).finish().succeeds();
    let trees = || {
        let slugs = fs::read_dir(host.state().join("slugs")).unwrap();
        let trees = slugs.filter(|slug| slug.as_ref().unwrap().file_type().unwrap().is_dir());
        trees.count()
    };
    eventually("room among the slugs", || (trees() <= 1).then_some(()));
}
