//! A tarball from anywhere, as a slug's: nothing outside of its folder is written, changed or linked, nothing in it is special,
//! the limits hold, after an error nothing is there, memory has a bound; and what was unpacked is packed and unpacked to the same.
//!
//! The first byte says whether the rest is gzip or a tar archive, and whether the sums in its headers are put right.

#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use dyno::bounds::within;
use dyno::error::UserError;
use dyno::model::procfile::MAX_BYTES;
use dyno::pieces::first;
use dyno::slug::{SlugLimits, pack, procfile_of, unpack};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

const LIMITS: SlugLimits = SlugLimits {
    entries: 48,
    unpacked_bytes: 96 * 1024,
    path_bytes: 200,
    depth: 8,
};

/// The buffers that circulate between the threads, and what inflating takes.
const MEMORY: usize = 4 << 20;

/// A folder in memory with a file beside the tree, which no tarball may touch.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => TempDir::new_in(memory),
        false => TempDir::new(),
    };
    let folder = folder.expect("a folder");
    fs::write(folder.path().join("outside"), "untouched").expect("a file");
    folder
});

fn is_untouched() {
    let file = FOLDER.path().join("outside");
    let about = fs::symlink_metadata(&file).expect("the file outside");
    assert!(about.is_file() && about.nlink() == 1 && about.mode() & 0o111 == 0);
    assert_eq!(fs::read(&file).expect("its text"), b"untouched");
}

/// A tree's entries: kind, mode (of what has one of its own), time of a file, contents or target.
type Tree = BTreeMap<PathBuf, (char, u32, i64, Vec<u8>)>;

fn look(root: &Path, below: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(root.join(below)).expect("a folder that can be read") {
        let below = below.join(entry.expect("an entry").file_name());
        let path = root.join(&below);
        let about = fs::symlink_metadata(&path).expect("an entry");
        let mode = about.mode() & 0o7777;
        let seen = if about.is_dir() {
            assert_eq!(mode & 0o7700, 0o700);
            look(root, &below, tree);
            ('d', mode, 0, Vec::new())
        } else if about.is_file() {
            assert_eq!(mode & 0o7000, 0);
            ('f', mode, about.mtime(), fs::read(&path).expect("a file"))
        } else {
            assert!(about.is_symlink(), "something special");
            let target = fs::read_link(&path).expect("a target");
            ('l', 0, 0, target.into_os_string().into_encoded_bytes())
        };
        assert!(below.as_os_str().len() <= LIMITS.path_bytes);
        assert!(below.iter().count() <= LIMITS.depth + 1);
        tree.insert(below, seen);
    }
}

fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    look(root, Path::new(""), &mut tree);
    tree
}

/// Puts right what stands in the headers as the sum of their bytes, wherever there may be one.
fn with_sums(tar: &[u8]) -> Vec<u8> {
    let mut tar = tar.to_vec();
    for record in tar.chunks_exact_mut(512) {
        if &record[257..262] != b"ustar" {
            continue;
        }
        record[148..156].fill(b' ');
        let sum: u32 = record.iter().map(|byte| u32::from(*byte)).sum();
        record[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    tar
}

fn gzipped(tar: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(tar)
        .and_then(|()| gzip.finish())
        .expect("memory")
}

/// Unpacks, and removes the tree after it was looked at.
fn unpacked(tarball: &[u8]) -> Option<Tree> {
    let dest = FOLDER.path().join("tree");
    let result = within(MEMORY, || unpack(tarball, &dest, None, &LIMITS));
    is_untouched();
    let count = fs::read_dir(FOLDER.path()).expect("the folder").count();
    let unpacked = match result {
        Ok(unpacked) => unpacked,
        Err(error) => {
            let error = error.downcast::<UserError>().expect("an error for people");
            assert!(error.message.len() < 2048 && !error.message.contains(char::is_control));
            assert_eq!(count, 1, "something is left");
            return None;
        }
    };
    assert_eq!(count, 2);
    let tree = tree(&dest);
    assert!(tree.len() as u64 <= unpacked.entries && unpacked.entries <= LIMITS.entries);
    assert!(unpacked.content_bytes <= LIMITS.unpacked_bytes);
    Some(tree)
}

fn remove() {
    let _ = fs::remove_dir_all(FOLDER.path().join("tree"));
}

/// Whether packing leaves something out of the tree.
fn is_packed_whole(tree: &Tree) -> bool {
    let stays_out =
        |name: &std::ffi::OsStr| name == ".git" || name == ".slugignore" || name == ".env";
    !tree.keys().any(|path| path.iter().any(stays_out))
}

fuzz_target!(|data: &[u8]| {
    let Some((how, bytes)) = first(data) else {
        return;
    };
    let tarball = match how % 3 {
        0 => bytes.to_vec(),
        1 => gzipped(bytes),
        _ => gzipped(&with_sums(bytes)),
    };
    let procfile = within(MEMORY, || procfile_of(&tarball[..]));
    if let Ok(Some(text)) = procfile {
        assert!(text.len() <= MAX_BYTES + 256 * 1024);
    }
    let Some(tree) = unpacked(&tarball) else {
        return;
    };
    let mut again = Vec::new();
    let dest = FOLDER.path().join("tree");
    let packed = pack(&dest, &mut again, 1, &LIMITS, &mut |_| {});
    remove();
    if let Ok(packed) = packed
        && is_packed_whole(&tree)
        && packed.warnings.is_empty()
    {
        // Long names may take more of the bytes than there were.
        if let Some(again) = unpacked(&again) {
            assert_eq!(again, tree);
        }
        remove();
    }
});
