//! Hostile, broken and merely unusual tarballs.

use super::*;
use crate::kernel::tree::remove_tree;
use crate::slug::unpack::Unpacked;

#[test]
fn names_that_lead_outside_are_refused() {
    let target = Target::new();
    for name in [
        "../outside/x",
        "./app/../../outside/x",
        "app/a/../b",
        "./app/..",
    ] {
        target.refuses(
            &Forged::default().file(name, "x").tgz(),
            "has `..` in its name",
        );
    }
    for name in ["/tmp/dyno-test-absolute", "/app/x"] {
        target.refuses(
            &Forged::default().file(name, "x").tgz(),
            "is an absolute name",
        );
        assert!(!Path::new(name).exists());
    }
    let pax = |text: &str| {
        Forged::default()
            .member(EntryType::XHeader, "pax", "", text.as_bytes())
            .file("app/ok", "x")
    };
    target.refuses(
        &pax("27 path=../outside/secret\n").tgz(),
        "malformed pax header",
    );
    target.refuses(
        &pax("26 path=../outside/secret\n").tgz(),
        "has `..` in its name",
    );
    target.refuses(
        &pax("15 path=app/\0x\n").tgz(),
        "has a NUL byte in its name",
    );
    let long = |name: &str| {
        Forged::default()
            .member(EntryType::GNULongName, "././@LongLink", "", name.as_bytes())
            .file("app/ok", "x")
    };
    target.refuses(&long("app/../../outside/x\0").tgz(), "has `..` in its name");
}

#[test]
fn a_size_beyond_64_bits_is_no_size() {
    let target = Target::new();
    for upper in [[0x80, 0, 0, 1], [0x81, 0, 0, 0], [0xff; 4]] {
        // Its lower bytes say 0, as if the next header came at once.
        let forged = Forged::default().file("app/x", "").but(|header| {
            let size = &mut header.as_old_mut().size;
            size.fill(0);
            size[..4].copy_from_slice(&upper);
        });
        target.refuses(&forged.tgz(), "bad number in the tar header");
    }
    let fits = Forged::default().file("app/x", "").but(|header| {
        let size = &mut header.as_old_mut().size;
        size.fill(0);
        size[0] = 0x80;
    });
    assert!(target.unpack(&fits.tgz()).is_ok());
}

#[test]
fn nothing_is_written_through_a_symlink() {
    let target = Target::new();
    let outside = target.dir.path().join("outside");
    for to in ["../outside", outside.to_str().unwrap(), "real"] {
        let link = || Forged::default().dir("app/real").symlink("app/link", to);
        let below = "a member lies below `link`, which is a symlink or a file";
        target.refuses(&link().file("app/link/x", "x").tgz(), below);
        target.refuses(&link().dir("app/link/x").tgz(), below);
        target.refuses(&link().symlink("app/link/x", "y").tgz(), below);
        target.refuses(
            &link()
                .file("app/file", "x")
                .hard_link("app/link/x", "app/file")
                .tgz(),
            below,
        );
        target.refuses(
            &link()
                .file("app/real/secret", "x")
                .hard_link("app/x", "app/link/secret")
                .tgz(),
            "`x` is a hard link to `link/secret`, which is no file before it",
        );
    }
    // As the file itself: the link goes, what it points at stays.
    let tarball = Forged::default()
        .symlink("app/x", "../outside/secret")
        .file("app/x", "new")
        .tgz();
    target.unpack(&tarball).unwrap();
    assert_eq!(target.read("x"), "new");
    assert!(target.app().join("x").symlink_metadata().unwrap().is_file());
}

#[test]
fn symlinks_are_kept_wherever_they_point() {
    let target = Target::new();
    let tarball = Forged::default()
        .symlink("app/absolute", "/etc/passwd")
        .symlink("app/up", "../../..")
        .tgz();
    target.unpack(&tarball).unwrap();
    assert_eq!(
        fs::read_link(target.app().join("absolute")).unwrap(),
        Path::new("/etc/passwd")
    );
    assert_eq!(
        fs::read_link(target.app().join("up")).unwrap(),
        Path::new("../../..")
    );
    remove_tree(&target.app()).unwrap();
    target.refuses(
        &Forged::default().symlink("app/x", "").tgz(),
        "is a symlink to nowhere",
    );
}

#[test]
fn hard_links_stay_inside() {
    let target = Target::new();
    let link = |to: &str| {
        Forged::default()
            .file("app/a", "x")
            .hard_link("app/b", to)
            .tgz()
    };
    for to in [
        "../outside/secret",
        "/etc/passwd",
        "app/../../outside/secret",
    ] {
        assert!(target.unpack(&link(to)).is_err(), "{to}");
    }
    target.refuses(&link("etc/passwd"), "which is not below `./app/`");
    target.refuses(&link("app/later"), "which is no file before it");
    target.refuses(&link("app"), "which is no file before it");
    // One to a symlink is a second name for the symlink, not for what it points at.
    let tarball = Forged::default()
        .symlink("app/link", "../outside/secret")
        .hard_link("app/again", "app/link")
        .hard_link("app/again", "app/again")
        .tgz();
    target.unpack(&tarball).unwrap();
    assert!(
        target
            .app()
            .join("again")
            .symlink_metadata()
            .unwrap()
            .is_symlink()
    );
}

#[test]
fn devices_and_pipes_are_refused() {
    let target = Target::new();
    for (kind, reason) in [
        (EntryType::Char, "`app/x` is a device"),
        (EntryType::Block, "`app/x` is a device"),
        (EntryType::Fifo, "`app/x` is a named pipe"),
        (EntryType::GNUSparse, "`app/x` is of an unknown kind (`S`)"),
        (EntryType::new(b'V'), "`app/x` is of an unknown kind (`V`)"),
    ] {
        let tarball = Forged::default()
            .file("app/a", "x")
            .member(kind, "app/x", "", b"")
            .tgz();
        target.refuses(&tarball, reason);
    }
}

#[test]
fn only_permission_bits_are_kept_and_directories_let_their_owner_in() {
    let target = Target::new();
    let tarball = Forged::default()
        .file("app/suid", "")
        .but(|header| header.set_mode(0o6755))
        .dir("app/closed")
        .but(|header| header.set_mode(0o1005))
        .file("app/closed/file", "")
        .but(|header| header.set_mode(0o000))
        .file("app/implied/file", "x")
        .tgz();
    target.unpack(&tarball).unwrap();
    let mode = |name| target.app().join(name).metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode("suid"), 0o755);
    assert_eq!(mode("closed"), 0o705);
    assert_eq!(mode("closed/file"), 0o000);
    assert_eq!(mode("implied"), 0o755);
    let metadata = target.app().join("suid").metadata().unwrap();
    assert_eq!(
        metadata.modified().unwrap(),
        UNIX_EPOCH + Duration::from_secs(1_000_000_000)
    );
}

#[test]
fn of_members_with_one_name_the_last_counts() {
    let target = Target::new();
    let tarball = Forged::default()
        .file("app/file", "first, and longer")
        .file("app/file", "second")
        .dir("app/was-dir")
        .file("app/was-dir/below/x", "x")
        .file("app/was-dir", "now a file")
        .file("app/was-file", "x")
        .dir("app/was-file")
        .file("app/was-file/x", "now below it")
        .file("app/kept/x", "kept")
        .dir("app/kept")
        .symlink("app/was-link", "../outside")
        .dir("app/was-link/")
        .file("app/was-link/x", "inside")
        .file("app/hard", "shared")
        .hard_link("app/other", "app/hard")
        .file("app/hard", "parted")
        .tgz();
    target.unpack(&tarball).unwrap();
    for (name, data) in [
        ("file", "second"),
        ("was-dir", "now a file"),
        ("was-file/x", "now below it"),
        ("kept/x", "kept"),
        ("was-link/x", "inside"),
        ("hard", "parted"),
        ("other", "shared"),
    ] {
        assert_eq!(target.read(name), data, "{name}");
    }
}

#[test]
fn members_elsewhere_are_passed_over() {
    let target = Target::new();
    let tarball = Forged::default()
        .file("README", "no")
        .member(
            EntryType::XGlobalHeader,
            "pax_global_header",
            "",
            b"20 comment=0123456\n",
        )
        .file("./application/x", "no")
        .member(EntryType::Char, "dev/null", "", b"")
        .dir("app//./dir/")
        .member(EntryType::Regular, "app/old-dir/", "", b"")
        .file(".//app/x", "yes")
        .tgz();
    let unpacked = target.unpack(&tarball).unwrap();
    assert_eq!(
        unpacked,
        Unpacked {
            entries: 3,
            content_bytes: 3
        }
    );
    let names: Vec<_> = contents(&target.app()).into_keys().collect();
    assert_eq!(names, [b"dir".as_slice(), b"old-dir", b"x"]);
    remove_tree(&target.app()).unwrap();

    let without = Forged::default().file("README", "no").tgz();
    target.refuses(&without, "it has no member below `./app/`");
    target.refuses(
        &Forged::default().symlink("./app", "/").tgz(),
        "`./app` is not a directory",
    );
    target.refuses(
        &Forged::default().file("app", "x").tgz(),
        "`./app` is not a directory",
    );
}

#[test]
fn what_is_broken_is_refused_and_leaves_nothing() {
    let target = Target::new();
    let tarball = Forged::default()
        .file("app/a", "x")
        .file("app/b", &"y".repeat(5000))
        .0;
    let ended = [tarball.as_slice(), &[0; 1024]].concat();
    let tgz = gzipped(&ended);

    target.refuses(b"", "the gzip stream is truncated");
    target.refuses(b"PK\x03\x04 a zip file", "it is not gzipped");
    target.refuses(&ended, "it is not gzipped");
    target.refuses(&gzipped(b""), "it is empty");
    target.refuses(&gzipped(&[b'x'; 2000]), "there is no tar archive in it");
    target.refuses(&gzipped(&[b'x'; 200]), "the tar archive is truncated");
    target.refuses(
        &gzipped(&tarball[..1024 + 300]),
        "the tar archive is truncated",
    );
    target.refuses(
        &gzipped(&tarball[..1024 + 3000]),
        "the tar archive is truncated",
    );
    for length in [
        5,
        10,
        11,
        tgz.len() / 2,
        tgz.len() - 9,
        tgz.len() - 8,
        tgz.len() - 1,
    ] {
        target.refuses(&tgz[..length], "the gzip stream is truncated");
    }
    let mut wrong_sum = tgz.clone();
    let at = wrong_sum.len() - 6;
    wrong_sum[at] ^= 1;
    target.refuses(&wrong_sum, "the gzip stream is corrupt");
    target.refuses(
        &[tgz.as_slice(), b"garbage"].concat(),
        "something else follows the gzip stream",
    );
    target.refuses(
        &gzipped(&[&ended, b"garbage".as_slice()].concat()),
        "follows the end of the tar",
    );
    let mut header = ended.clone();
    header[1024] ^= 1;
    target.refuses(&gzipped(&header), "the tar archive is corrupt at byte 1024");

    // All of this is fine: a missing end, padding, and a stream in two gzip members.
    for tarball in [
        gzipped(&tarball),
        gzipped(&[ended.as_slice(), &[0; 10240]].concat()),
        [gzipped(&ended[..700]), gzipped(&ended[700..])].concat(),
    ] {
        target.unpack(&tarball).unwrap();
        remove_tree(&target.app()).unwrap();
    }
}

#[test]
fn any_byte_may_be_wrong_without_harm() {
    let target = Target::new();
    let plain = Forged::default()
        .dir("app/dir")
        .file("app/dir/file", "data")
        .symlink("app/link", "dir")
        .hard_link("app/hard", "app/dir/file")
        .0;
    for at in 0..plain.len() {
        let mut bent = plain.clone();
        bent[at] = bent[at].wrapping_add(1 + (at % 254) as u8);
        // Fine or not, nothing outside changes, and an error leaves nothing.
        let _ = target.unpack(&gzipped(&bent));
        remove_tree(&target.app()).unwrap();
    }
}

#[test]
fn limits_are_kept_and_named() {
    let target = Target::new();
    let refused = |tarball: &[u8], limits: SlugLimits, reason: &str| {
        let error = target
            .unpack_within(tarball, &limits)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("slug too large") && error.contains(reason),
            "{error}"
        );
    };
    let many = (0..5).fold(Forged::default(), |all, n| {
        all.file(&format!("app/{n}"), "")
    });
    refused(
        &many.tgz(),
        SlugLimits {
            entries: 4,
            ..SlugLimits::default()
        },
        "the limit is 4",
    );
    let implied = Forged::default().file("app/a/b/c/d", "").tgz();
    refused(
        &implied,
        SlugLimits {
            entries: 3,
            ..SlugLimits::default()
        },
        "",
    );
    let depth = SlugLimits {
        depth: 2,
        ..SlugLimits::default()
    };
    refused(
        &implied,
        depth,
        "`a/b/c/d` lies 3 directories deep, and the limit is 2",
    );
    let path = SlugLimits {
        path_bytes: 6,
        ..SlugLimits::default()
    };
    refused(
        &implied,
        path.clone(),
        "a path has 7 bytes, `a/b/c/d`, and the limit is 6",
    );
    refused(
        &Forged::default().symlink("app/x", "0123456").tgz(),
        path,
        "the limit is 6",
    );

    // A gigabyte of zeros in a megabyte: whether it is a file, a name, or behind the end.
    let bytes = SlugLimits {
        unpacked_bytes: 1 << 20,
        ..SlugLimits::default()
    };
    let zeros = vec![0; 8 << 20];
    let bomb = Forged::default()
        .member(EntryType::Regular, "elsewhere", "", &zeros)
        .tgz();
    refused(&bomb, bytes.clone(), "the limit is 1048576");
    let behind = gzipped(&[Forged::default().file("app/x", "").0, zeros.clone()].concat());
    refused(&behind, bytes, "the limit is 1048576");
    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
    ] {
        let tarball = Forged::default()
            .member(kind, "x", "", &zeros)
            .file("app/x", "")
            .tgz();
        refused(&tarball, SlugLimits::default(), "8388608 bytes in one");
    }
    // A size that no file has, by all three ways of writing one.
    let huge = Forged::default()
        .file("app/x", "")
        .but(|header| header.set_size(u64::MAX));
    refused(&huge.tgz(), SlugLimits::default(), "the limit is");
    let huge = Forged::default()
        .file("app/x", "")
        .but(|header| header.set_size(0o77777777777));
    refused(&huge.tgz(), SlugLimits::default(), "the limit is");
    let pax = Forged::default()
        .member(
            EntryType::XHeader,
            "pax",
            "",
            b"29 size=18446744073709551615\n",
        )
        .file("app/x", "");
    refused(&pax.tgz(), SlugLimits::default(), "the limit is");
}

#[test]
fn a_destination_that_exists_is_left_alone() {
    let target = Target::new();
    let error = unpack(
        Forged::default().file("app/x", "").tgz().as_slice(),
        &target.dir.path().join("outside"),
        None,
        &SlugLimits::default(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("File exists"), "{error}");
    assert!(target.dir.path().join("outside/secret").exists());
}

#[test]
fn a_reader_that_fails_is_reported_as_such() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the wire was cut"))
        }
    }
    let target = Target::new();
    let tarball = Forged::default().file("app/x", "").tgz();
    let broken = tarball[..15].chain(Broken);
    let error = unpack(broken, &target.app(), None, &SlugLimits::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the slug: the wire was cut");
    assert!(!target.app().exists());
}
