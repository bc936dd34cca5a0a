//! Packing and unpacking against each other, against GNU tar, and against hostile tarballs.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use flate2::write::GzEncoder;
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::*;

/// What a tree holds: path to kind, mode and contents or target. Directories are shown as unpacking
/// makes them, open to their owner; the mode of a symlink means nothing.
fn contents(dir: &Path) -> BTreeMap<Vec<u8>, (char, u32, Vec<u8>)> {
    fn add(dir: &Path, below: &Path, all: &mut BTreeMap<Vec<u8>, (char, u32, Vec<u8>)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let below = below.join(entry.file_name());
            let metadata = entry.metadata().unwrap();
            let mode = metadata.mode() & 0o7777;
            let shown = if metadata.is_dir() {
                add(&entry.path(), &below, all);
                ('d', mode | 0o700, Vec::new())
            } else if metadata.is_symlink() {
                let target = fs::read_link(entry.path()).unwrap();
                ('l', 0, target.into_os_string().into_vec())
            } else {
                ('f', mode, fs::read(entry.path()).unwrap())
            };
            all.insert(below.into_os_string().into_vec(), shown);
        }
    }
    let mut all = BTreeMap::new();
    add(dir, Path::new(""), &mut all);
    all
}

fn packed(dir: &Path) -> (Packed, Vec<u8>) {
    let mut tarball = Vec::new();
    let packed = pack(dir, &mut tarball, 6, &Limits::default(), &mut |_| {}).unwrap();
    (packed, tarball)
}

/// A directory to unpack into, with something beside it that must stay as it is.
struct Target {
    dir: TempDir,
}

impl Target {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/secret"), "untouched").unwrap();
        Self { dir }
    }

    fn app(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn unpack(&self, tarball: &[u8]) -> anyhow::Result<Unpacked> {
        self.unpack_within(tarball, &Limits::default())
    }

    fn unpack_within(&self, tarball: &[u8], limits: &Limits) -> anyhow::Result<Unpacked> {
        let result = unpack(tarball, &self.app(), None, limits);
        let mut beside: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        beside.retain(|name| name != "outside" && (result.is_err() || name != "tree"));
        assert!(beside.is_empty(), "left behind: {beside:?}");
        let outside = self.dir.path().join("outside");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read(outside.join("secret")).unwrap(), b"untouched");
        assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1);
        result
    }

    fn refuses(&self, tarball: &[u8], reason: &str) {
        let error = self.unpack(tarball).expect_err(reason).to_string();
        assert!(error.contains(reason), "`{error}` does not say `{reason}`");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.app().join(name)).unwrap()
    }
}

/// Tarballs as nobody sane writes them: every field of a header is taken as it comes.
#[derive(Default)]
struct Forged(Vec<u8>);

impl Forged {
    fn member(mut self, kind: EntryType, name: &str, target: &str, data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        header.set_size(data.len() as u64);
        header.set_mtime(1_000_000_000);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, data: &str) -> Self {
        self.member(EntryType::Regular, name, "", data.as_bytes())
    }

    fn dir(self, name: &str) -> Self {
        self.member(EntryType::Directory, name, "", b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.member(EntryType::Symlink, name, target, b"")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.member(EntryType::Link, name, target, b"")
    }

    /// Changes the header of the last member, which has no contents.
    fn but(mut self, change: impl FnOnce(&mut Header)) -> Self {
        let at = self.0.len() - 512;
        let mut header = Header::new_gnu();
        header.as_mut_bytes().copy_from_slice(&self.0[at..]);
        change(&mut header);
        header.set_cksum();
        self.0[at..].copy_from_slice(header.as_bytes());
        self
    }

    fn tgz(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        gzipped(&self.0)
    }
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

// --- there and back

/// One entry of a made-up tree.
#[derive(Debug, Clone)]
enum Node {
    File {
        mode: u32,
        data: Vec<u8>,
    },
    Symlink(OsString),
    Directory {
        mode: u32,
        entries: BTreeMap<OsString, Node>,
    },
}

impl Node {
    fn make(&self, path: &Path) {
        match self {
            Self::File { mode, data } => {
                fs::write(path, data).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Self::Symlink(target) => symlink(target, path).unwrap(),
            Self::Directory { mode, entries } => {
                fs::create_dir(path).unwrap();
                for (name, node) in entries {
                    node.make(&path.join(name));
                }
                fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
            }
        }
    }
}

/// Names as they may be: any bytes but `/` and NUL, often long, and never what is left out.
fn any_name() -> impl Strategy<Value = OsString> {
    let byte = prop_oneof![4 => b'a'..=b'c', 1 => 1u8..=255];
    prop_oneof![3 => 1..4usize, 1 => 90..130usize, 1 => 255..256usize]
        .prop_flat_map(move |length| prop::collection::vec(byte.clone(), length))
        .prop_map(|bytes| {
            bytes
                .into_iter()
                .map(|b| if b == b'/' { b'_' } else { b })
                .collect()
        })
        .prop_filter("not a name, or one with a meaning", |bytes: &Vec<u8>| {
            !matches!(bytes.as_slice(), b"." | b".." | b".git" | b".slugignore")
        })
        .prop_map(OsString::from_vec)
}

fn any_node() -> impl Strategy<Value = Node> {
    // Readable by us, writable or not, and with bits that are to be dropped.
    let file_mode = prop::sample::select(vec![0o400, 0o644, 0o755, 0o777, 0o4755, 0o2644, 0o600]);
    let dir_mode = prop::sample::select(vec![0o755, 0o700, 0o555, 0o1777, 0o2750]);
    let size = prop_oneof![
        Just(0..1usize),
        Just(1..600),
        Just(511..514),
        Just(9000..9001)
    ];
    let leaf = prop_oneof![
        3 => (file_mode, size.prop_flat_map(|size| prop::collection::vec(any::<u8>(), size)))
            .prop_map(|(mode, data)| Node::File { mode, data }),
        1 => any_name().prop_map(Node::Symlink),
        1 => any_name().prop_map(|name| {
            Node::Symlink([OsStr::new("../../"), &name].concat_os())
        }),
    ];
    leaf.prop_recursive(4, 24, 5, move |node| {
        (
            dir_mode.clone(),
            prop::collection::btree_map(any_name(), node, 0..5),
        )
            .prop_map(|(mode, entries)| Node::Directory { mode, entries })
    })
}

trait ConcatOs {
    fn concat_os(self) -> OsString;
}

impl ConcatOs for [&OsStr; 2] {
    fn concat_os(self) -> OsString {
        self.into_iter().collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_packed_comes_back(entries in prop::collection::btree_map(any_name(), any_node(), 0..6)) {
        let tree = Node::Directory { mode: 0o755, entries };
        let home = tempfile::tempdir().unwrap();
        let (first, second) = (home.path().join("first"), home.path().join("second"));
        tree.make(&first);
        tree.make(&second);
        let (packed_first, tarball) = packed(&first);
        prop_assert_eq!(packed_first.id, packed(&second).0.id, "the same tree, another digest");

        let target = Target::new();
        let unpacked = target.unpack(&tarball).unwrap();
        let mut expected = contents(&first);
        for (_, mode, _) in expected.values_mut() {
            *mode &= 0o777;
        }
        prop_assert_eq!(contents(&target.app()), expected);
        prop_assert_eq!(unpacked.content_bytes, packed_first.content_bytes);
        // And `./app/` itself.
        prop_assert_eq!(unpacked.entries, packed_first.entries + 1);
        for tree in [first, second, target.app()] {
            remove_tree(&tree).unwrap();
        }
    }
}

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

// --- beside GNU tar

/// The shell runs `script` in a new directory; `None` if there is no GNU tar to ask.
fn with_gnu_tar(script: &str) -> Option<TempDir> {
    let version = Command::new("tar").arg("--version").output().ok()?;
    if !String::from_utf8_lossy(&version.stdout).contains("GNU tar") {
        eprintln!("skipped: no GNU tar here");
        return None;
    }
    let home = tempfile::tempdir().unwrap();
    let status = Command::new("sh")
        .args(["-ec", script])
        .current_dir(home.path())
        .status()
        .unwrap();
    assert!(status.success(), "{script}");
    Some(home)
}

const ODD_TREE: &str = r#"
    mkdir -p app/dir/empty app/deep
    long=$(printf 'n%.0s' $(seq 200))
    echo one > app/dir/one; chmod 750 app/dir/one
    mkdir -p "app/deep/$long/$long"; echo long > "app/deep/$long/$long/$long"
    ln -s "$long/$long/$long" app/deep/link; ln -s /nowhere app/dir/absolute
    ln app/dir/one app/hard; ln "app/deep/$long/$long/$long" "app/deep/hard-$long"
    printf 'new\nline' > "$(printf 'app/new\nline-%s' "$long")"
    printf 'x' > "$(printf 'app/latin-\351')"
"#;

#[test]
fn gnu_tar_reads_what_is_packed() {
    let Some(home) = with_gnu_tar(ODD_TREE) else {
        return;
    };
    let (_, tarball) = packed(&home.path().join("app"));
    fs::write(home.path().join("slug.tgz"), tarball).unwrap();
    let check = "mkdir out; tar xzf slug.tgz -C out --strip-components=2; tar tzf slug.tgz > list";
    let status = Command::new("sh")
        .args(["-ec", check])
        .current_dir(home.path())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(
        contents(&home.path().join("out")),
        contents(&home.path().join("app"))
    );
    assert!(
        fs::read_to_string(home.path().join("list"))
            .unwrap()
            .starts_with("./app/\n")
    );
}

#[test]
fn what_gnu_tar_writes_is_unpacked_in_every_format() {
    for format in ["gnu", "posix", "oldgnu"] {
        for names in ["./app", "app"] {
            let script = format!("{ODD_TREE}\n tar --format {format} -czf slug.tgz {names}");
            let Some(home) = with_gnu_tar(&script) else {
                return;
            };
            let tarball = fs::read(home.path().join("slug.tgz")).unwrap();
            let target = Target::new();
            target.unpack(&tarball).unwrap();
            assert_eq!(
                contents(&target.app()),
                contents(&home.path().join("app")),
                "{format}"
            );
            let inode = |name| fs::metadata(target.app().join(name)).unwrap().ino();
            assert_eq!(
                inode("hard"),
                inode("dir/one"),
                "hard links stay hard links"
            );
        }
    }
}

// --- hostile, broken and merely unusual tarballs

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
    let refused = |tarball: &[u8], limits: Limits, reason: &str| {
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
        Limits {
            entries: 4,
            ..Limits::default()
        },
        "the limit is 4",
    );
    let implied = Forged::default().file("app/a/b/c/d", "").tgz();
    refused(
        &implied,
        Limits {
            entries: 3,
            ..Limits::default()
        },
        "",
    );
    let depth = Limits {
        depth: 2,
        ..Limits::default()
    };
    refused(
        &implied,
        depth,
        "`a/b/c/d` lies 3 directories deep, and the limit is 2",
    );
    let path = Limits {
        path_bytes: 6,
        ..Limits::default()
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
    let bytes = Limits {
        unpacked_bytes: 1 << 20,
        ..Limits::default()
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
        refused(&tarball, Limits::default(), "8388608 bytes in one");
    }
    // A size that no file has, by all three ways of writing one.
    let huge = Forged::default()
        .file("app/x", "")
        .but(|header| header.set_size(u64::MAX));
    refused(&huge.tgz(), Limits::default(), "the limit is");
    let huge = Forged::default()
        .file("app/x", "")
        .but(|header| header.set_size(0o77777777777));
    refused(&huge.tgz(), Limits::default(), "the limit is");
    let pax = Forged::default()
        .member(
            EntryType::XHeader,
            "pax",
            "",
            b"29 size=18446744073709551615\n",
        )
        .file("app/x", "");
    refused(&pax.tgz(), Limits::default(), "the limit is");
}

#[test]
fn a_destination_that_exists_is_left_alone() {
    let target = Target::new();
    let error = unpack(
        Forged::default().file("app/x", "").tgz().as_slice(),
        &target.dir.path().join("outside"),
        None,
        &Limits::default(),
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
    let error = unpack(broken, &target.app(), None, &Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the slug: the wire was cut");
    assert!(!target.app().exists());
}

#[test]
fn everything_belongs_to_the_owner_given() {
    let tarball = Forged::default()
        .file("app/implied/file", "x")
        .dir("app/dir")
        .symlink("app/link", "/etc/passwd")
        .tgz();
    let target = Target::new();
    let root = rustix::process::geteuid().is_root();
    // Only root gives files away; anybody else may give them to themselves.
    let (uid, gid) = match root {
        true => (12345, 54321),
        false => (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        ),
    };
    let owner = Some(Owner { uid, gid });
    unpack(tarball.as_slice(), &target.app(), owner, &Limits::default()).unwrap();
    for name in ["", "implied", "implied/file", "dir", "link"] {
        let metadata = target.app().join(name).symlink_metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (uid, gid), "{name}");
    }
}

#[test]
fn ids_are_read_as_written_and_as_heroku_writes_checksums() {
    let text = "00ff".repeat(16);
    let id: SlugId = text.parse().unwrap();
    assert_eq!(id.to_string(), text);
    assert_eq!(format!("SHA256:{}", text.to_uppercase()).parse(), Ok(id));
    for bad in ["", "00ff", &"0g".repeat(32), &"é".repeat(32)] {
        assert!(bad.parse::<SlugId>().is_err(), "{bad}");
    }
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    let error = failed("unpack", "a", std::io::Error::from_raw_os_error(28));
    assert!(
        error
            .to_string()
            .starts_with("disk full: cannot unpack `a`"),
        "{error}"
    );
    assert!(error.downcast_ref::<UserError>().unwrap().hint.is_some());
}
