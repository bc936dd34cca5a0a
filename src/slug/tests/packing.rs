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
    // Another root mode, other times, a hard link for a copy.
    fs::set_permissions(&one, fs::Permissions::from_mode(0o700)).unwrap();
    let file = fs::File::options()
        .write(true)
        .open(one.join("a/file"))
        .unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1))
        .unwrap();
    fs::write(one.join("b/copy"), "b").unwrap();
    fs::hard_link(other.join("b/file"), other.join("b/copy")).unwrap();
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
        let error = pack(home.path(), std::io::sink(), 6, &Limits::default(), change).unwrap_err();
        assert_eq!(error.to_string(), "`web.log` changed while it was packed");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("a"), "first").unwrap();
    fs::write(home.path().join("gone"), "x").unwrap();
    let remove = &mut |_| drop(fs::remove_file(home.path().join("gone")));
    let error = pack(home.path(), std::io::sink(), 6, &Limits::default(), remove).unwrap_err();
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
        &Limits::default(),
        &mut |at| seen.push(at),
    )
    .unwrap();
    assert!(seen.len() >= 4 && seen.is_sorted_by_key(|at| at.done));
    assert_eq!(
        seen.last().unwrap(),
        &Progress {
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
            Limits {
                entries: 3,
                ..Limits::default()
            },
            "limit is 3",
        ),
        (
            Limits {
                unpacked_bytes: 6000,
                ..Limits::default()
            },
            "limit is 6000",
        ),
        (
            Limits {
                path_bytes: 8,
                ..Limits::default()
            },
            "limit is 8",
        ),
        (
            Limits {
                depth: 2,
                ..Limits::default()
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
