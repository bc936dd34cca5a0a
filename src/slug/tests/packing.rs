//! What gets into a slug, and what does not.

use super::*;

#[test]
fn the_digest_is_of_the_tree_alone() {
    let home = tempfile::tempdir().unwrap();
    let (one, other) = (home.path().join("one"), home.path().join("other"));
    for (dir, names) in [
        (&one, ["a", "b", "c-d", "c"]),
        (&other, ["c", "c-d", "b", "a"]),
    ] {
        fs::create_dir(dir).unwrap();
        for name in names {
            fs::create_dir(dir.join(name)).unwrap();
            fs::write(dir.join(name).join("file"), name).unwrap();
        }
    }
    // Another root mode, other times of folders and below a second, a hard link for a copy.
    fs::set_permissions(&one, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(one.join("b/copy"), "b").unwrap();
    fs::hard_link(other.join("b/file"), other.join("b/copy")).unwrap();
    date(&one.join("a"), 77);
    for (dir, nanoseconds) in [(&one, 0), (&other, 5)] {
        for name in ["a/file", "b/copy", "b/file", "c/file", "c-d/file"] {
            let file = fs::File::options()
                .write(true)
                .open(dir.join(name))
                .unwrap();
            let time = UNIX_EPOCH + Duration::new(1_000, nanoseconds);
            file.set_modified(time).unwrap();
        }
    }
    let (packed_one, tarball) = packed(&one);
    assert_eq!(packed_one.id, packed(&other).0.id);
    // Bytewise by path, and known: should this change, every app is deployed anew.
    let names: Vec<_> = tar::Archive::new(flate2::read::GzDecoder::new(tarball.as_slice()))
        .entries()
        .unwrap()
        .map(|entry| String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "./app/",
            "./app/a/",
            "./app/a/file",
            "./app/b/",
            "./app/b/copy",
            "./app/b/file",
            "./app/c/",
            "./app/c-d/",
            "./app/c-d/file",
            "./app/c/file",
        ]
    );
}

fn date(path: &Path, seconds: u64) {
    let file = fs::File::open(path).unwrap();
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    file.set_modified(time).unwrap();
}

/// The times of the files of a tarball, by name.
fn times(tarball: &[u8]) -> Vec<(String, u64)> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(tarball));
    let entries = archive.entries().unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.header().entry_type().is_file());
    files
        .map(|entry| {
            let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            (name.replace("./app/", ""), entry.header().mtime().unwrap())
        })
        .collect()
}

#[test]
fn files_have_their_own_times_or_what_the_release_before_makes_of_them() {
    let home = tempfile::tempdir().unwrap();
    let (before, now) = (home.path().join("before"), home.path().join("now"));
    for (dir, files) in [
        (
            &before,
            [("same", "s", 100), ("other", "a", 100), ("older", "a", 900)],
        ),
        (
            &now,
            [("same", "s", 500), ("other", "b", 100), ("older", "b", 500)],
        ),
    ] {
        fs::create_dir(dir).unwrap();
        for (name, text, seconds) in files {
            fs::write(dir.join(name), text).unwrap();
            date(&dir.join(name), seconds);
        }
    }
    let packed = |times: &Times<'_>| {
        let mut tarball = Vec::new();
        pack_dated(
            &now,
            times,
            &mut tarball,
            1,
            &SlugLimits::default(),
            &mut |_| {},
        )
        .unwrap();
        self::times(&tarball)
    };
    let expected = |list: [(&str, u64); 3]| list.map(|(name, time)| (name.to_owned(), time));
    let own = [("older", 500), ("other", 100), ("same", 500)];
    assert_eq!(packed(&Times::default()), expected(own));
    let released = ReleaseBefore {
        tree: &before,
        at: 200,
    };
    let after = Times {
        before: Some(released),
        one_says_nothing: true,
        ..Times::default()
    };
    let kept = [("older", 901), ("other", 101), ("same", 500)];
    assert_eq!(packed(&after), expected(kept));
    for (name, seconds) in [("same", 500), ("other", 500), ("older", 500)] {
        date(&now.join(name), seconds);
    }
    let of_a_commit = [("older", 901), ("other", 500), ("same", 100)];
    assert_eq!(packed(&after), expected(of_a_commit));
    let one = Times {
        one: Some(2_000),
        before: Some(released),
        ..Times::default()
    };
    let of_one = [("older", 2_000), ("other", 2_000), ("same", 100)];
    assert_eq!(packed(&one), expected(of_one));
    // A time that no tarball can hold.
    let ancient = fs::File::open(now.join("same")).unwrap();
    ancient
        .set_modified(UNIX_EPOCH - Duration::from_secs(5))
        .unwrap();
    assert_eq!(packed(&Times::default())[2].1, 0);
}

#[test]
fn what_the_slugignore_names_and_git_folders_stay_out() {
    let home = tempfile::tempdir().unwrap();
    for (name, data) in [
        (".slugignore", "*.psd\n/log/\n!keep.psd\n"),
        (".git/config", ""),
        ("vendor/.git", "gitdir: elsewhere"),
        ("vendor/lib.rb", ""),
        ("art/keep.psd", ""),
        ("log/web.log", ""),
        ("lib/log/a.rb", ""),
    ] {
        let path = home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    }
    let (packed, tarball) = packed(home.path());
    assert_eq!(packed.warnings.len(), 1, "{:?}", packed.warnings);
    let target = Target::new();
    target.unpack(&tarball).unwrap();
    let names: Vec<_> = contents(&target.app())
        .into_keys()
        .map(|name| String::from_utf8(name).unwrap())
        .collect();
    assert_eq!(
        names,
        [
            ".slugignore",
            "art",
            "lib",
            "lib/log",
            "lib/log/a.rb",
            "vendor",
            "vendor/lib.rb"
        ]
    );
}

#[test]
fn sockets_and_pipes_are_left_out_and_said() {
    let home = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(home.path().join("sock")).unwrap();
    let fifo = home.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(fs::metadata(fifo).unwrap().file_type().is_fifo());
    let (packed, _) = packed(home.path());
    assert_eq!(packed.entries, 0);
    assert_eq!(
        packed.warnings,
        [
            "`fifo` is a named pipe and left out",
            "`sock` is a socket and left out"
        ]
    );
}

#[test]
fn a_file_that_changes_while_it_is_packed_is_an_error() {
    for grows in [true, false] {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("a"), "first").unwrap();
        let log = home.path().join("web.log");
        fs::write(&log, "some").unwrap();
        let change = &mut |_| fs::write(&log, if grows { "some more" } else { "" }).unwrap();
        let error = pack(
            home.path(),
            std::io::sink(),
            6,
            &SlugLimits::default(),
            change,
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "`web.log` changed while it was packed");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("a"), "first").unwrap();
    fs::write(home.path().join("gone"), "x").unwrap();
    let remove = &mut |_| drop(fs::remove_file(home.path().join("gone")));
    let error = pack(
        home.path(),
        std::io::sink(),
        6,
        &SlugLimits::default(),
        remove,
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot read `gone`: No such file"),
        "{error}"
    );
}

#[test]
fn progress_ends_at_the_total() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("large"), vec![1; 3 << 20]).unwrap();
    fs::write(home.path().join("small"), "x").unwrap();
    let mut seen = Vec::new();
    pack(
        home.path(),
        std::io::sink(),
        1,
        &SlugLimits::default(),
        &mut |at| seen.push(at),
    )
    .unwrap();
    assert!(seen.len() >= 4 && seen.is_sorted_by_key(|at| at.done));
    assert_eq!(
        seen.last().unwrap(),
        &PackProgress {
            done: (3 << 20) + 1,
            total: (3 << 20) + 1
        }
    );
}

#[test]
fn limits_hold_for_packing_too() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join("a/b/c")).unwrap();
    fs::write(home.path().join("a/b/c/file"), vec![0; 5000]).unwrap();
    for (limits, reason) in [
        (
            SlugLimits {
                entries: 3,
                ..SlugLimits::default()
            },
            "limit is 3",
        ),
        (
            SlugLimits {
                unpacked_bytes: 6000,
                ..SlugLimits::default()
            },
            "limit is 6000",
        ),
        (
            SlugLimits {
                path_bytes: 8,
                ..SlugLimits::default()
            },
            "limit is 8",
        ),
        (
            SlugLimits {
                depth: 2,
                ..SlugLimits::default()
            },
            "lies 3 directories deep",
        ),
    ] {
        let error = pack(home.path(), std::io::sink(), 6, &limits, &mut |_| {})
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("slug too large") && error.contains(reason),
            "{error}"
        );
    }
}
