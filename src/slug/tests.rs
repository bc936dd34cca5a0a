//! Packing and unpacking against each other, against GNU tar, and against hostile tarballs.

mod gnu_tar;
mod hostile;
mod packing;
mod round_trip;

use crate::slug::unpack::Unpacked;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use flate2::write::GzEncoder;
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::messages::failed;
use super::*;
use crate::error::UserError;

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
    let packed = pack(dir, &mut tarball, 6, &SlugLimits::default(), &mut |_| {}).unwrap();
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
        self.unpack_within(tarball, &SlugLimits::default())
    }

    fn unpack_within(&self, tarball: &[u8], limits: &SlugLimits) -> anyhow::Result<Unpacked> {
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
    let owner = Some(TreeOwner { uid, gid });
    unpack(
        tarball.as_slice(),
        &target.app(),
        owner,
        &SlugLimits::default(),
    )
    .unwrap();
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
    let error = failed("unpack `a`", rustix::io::Errno::NOSPC);
    assert!(
        error
            .to_string()
            .starts_with("disk full: cannot unpack `a`"),
        "{error}"
    );
    assert!(error.downcast_ref::<UserError>().unwrap().hint.is_some());
}
