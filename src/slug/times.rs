//! The modification time of each file of a slug.
//!
//! Caches depend on times. A web server decides by a page's time, or by time and size, whether a visitor's copy is
//! still valid; Python decides so whether bytecode belongs to its source. So a file keeps its own time, in whole
//! seconds, which is what a tarball and both of those use. Times that would mislead a cache are replaced:
//!
//! - At no path is a file older than in the release before, and a file with other contents is newer.
//! - A file that was not in the release before, or is reached by a symlink with another target, may have been in an
//!   earlier release: it gets a time after the release before, which is newer than any of its files.
//! - If all files of a source have one time, as `git archive` makes it, that time is no information: a file that has
//!   not changed keeps the time that it had.
//! - A Python source whose bytecode names its own time keeps that time in any case.
//!
//! Called by packing.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};

use super::limits::SlugLimits;
use super::links::{LinkTarget, Symlinks};
use super::walk::{TreeEntry, open_root, walk};

/// Where the times of a slug's files come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times<'a> {
    /// The time of all files, in seconds since 1970, instead of their own.
    pub one: Option<u64>,
    /// The app's release so far.
    pub before: Option<ReleaseBefore<'a>>,
    /// Whether a time that all files share is to be ignored.
    pub one_says_nothing: bool,
}

/// The release before, for the times of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReleaseBefore<'a> {
    /// The tree of its slug. It may be deleted meanwhile.
    pub tree: &'a Path,
    /// When it was made, in seconds since 1970.
    pub at: u64,
}

/// What the release before had at a file's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Was {
    /// No constraint: there is no such release, or its file is older than this one.
    Older,
    /// No regular file.
    Absent,
    There {
        mtime: u64,
        same: bool,
    },
}

/// The time of a file whose own time is `own`; with `says_nothing`, that time is ignored if possible. `floor` is newer
/// than any file that was ever released.
fn date(own: u64, was: Was, floor: u64, says_nothing: bool) -> u64 {
    match was {
        Was::There { mtime, same: true } if says_nothing => mtime,
        Was::There { mtime, same: true } => own.max(mtime),
        Was::There { mtime, same: false } => own.max(mtime.saturating_add(1)),
        Was::Absent => own.max(floor),
        Was::Older => own,
    }
}

/// Decides the times of one slug's files.
#[derive(Debug)]
pub(super) struct Clock<'a> {
    one: Option<u64>,
    before: Option<OwnedFd>,
    /// A time after the release before.
    floor: u64,
    says_nothing: bool,
    root: BorrowedFd<'a>,
    /// Paths that are reached by a symlink that is new or has a new target.
    relinked: HashSet<Vec<u8>>,
    bytecode: BTreeSet<Vec<u8>>,
}

impl<'a> Clock<'a> {
    /// The clock for the `entries` of the directory `root`, whose symlinks are `links`.
    pub(super) fn new(
        times: &Times<'_>,
        root: BorrowedFd<'a>,
        entries: &[TreeEntry],
        links: &Symlinks,
    ) -> Self {
        let files = || {
            entries
                .iter()
                .filter(|it| it.file_type() == FileType::RegularFile)
        };
        let mut own = files().map(|entry| seconds(&entry.stat));
        let first = own.next();
        let all_alike = own.all(|time| Some(time) == first);
        let before = times.before.and_then(|it| open_root(it.tree).ok());
        let relinked = before.as_ref().map(|before| {
            let is_new = |link: &[u8], target: &[u8]| {
                link_beneath(before.as_fd(), link).as_deref() != Some(target)
            };
            let new = links.iter().filter(|(link, target)| is_new(link, target));
            let places = new.filter_map(|(link, _)| match links.place(link)? {
                LinkTarget::InApp(path) => Some(path),
                LinkTarget::Outside(_) => None,
            });
            places.collect()
        });
        let is_bytecode = |path: &&Vec<u8>| path.ends_with(b".pyc");
        let bytecode = files().map(|entry| &entry.path).filter(is_bytecode);
        Self {
            one: times.one,
            floor: match (&before, times.before) {
                (Some(tree), Some(released)) => floor(tree.as_fd(), released.at),
                _ => 0,
            },
            says_nothing: times.one.is_some() || (times.one_says_nothing && all_alike),
            root,
            relinked: relinked.unwrap_or_default(),
            bytecode: match before {
                Some(_) => bytecode.cloned().collect(),
                None => BTreeSet::new(),
            },
            before,
        }
    }

    /// The time of a regular file.
    pub(super) fn of(&self, entry: &TreeEntry) -> u64 {
        let own = self.one.unwrap_or_else(|| seconds(&entry.stat));
        let date = date(own, self.was(entry, own), self.floor, self.says_nothing);
        let date = match self.is_relinked(&entry.path) {
            true => date.max(self.floor),
            false => date,
        };
        match date != own && !self.says_nothing && self.bytecode_names(&entry.path, own) {
            true => own,
            false => date,
        }
    }

    fn was(&self, entry: &TreeEntry, own: u64) -> Was {
        let Some(before) = &self.before else {
            return Was::Older;
        };
        let Some((file, stat)) = open_beneath(before.as_fd(), &entry.path) else {
            return Was::Absent;
        };
        let mtime = seconds(&stat);
        if own > mtime && !self.says_nothing {
            return Was::Older;
        }
        // A file that cannot be read counts as changed: at worst, visitors fetch it once more.
        let same = stat.st_size == entry.stat.st_size
            && open_beneath(self.root, &entry.path)
                .is_some_and(|(ours, _)| are_alike(file, ours).unwrap_or(false));
        Was::There { mtime, same }
    }

    /// Whether `path`, or a folder that it is in, is reached by a new symlink.
    fn is_relinked(&self, path: &[u8]) -> bool {
        let slashes = (0..path.len()).filter(|&at| path[at] == b'/');
        let mut folders = slashes.map(|at| &path[..at]);
        !self.relinked.is_empty()
            && (self.relinked.contains(path)
                || self.relinked.contains(&b""[..])
                || folders.any(|folder| self.relinked.contains(folder)))
    }

    /// Whether there is bytecode for the source at `path` that names `own` as the source's time.
    fn bytecode_names(&self, path: &[u8], own: u64) -> bool {
        let Some(stem) = path.strip_suffix(b"py") else {
            return false;
        };
        let at = stem
            .iter()
            .rposition(|&byte| byte == b'/')
            .map_or(0, |at| at + 1);
        let begin = [&stem[..at], b"__pycache__/", &stem[at..]].concat();
        let compiled = self.bytecode.range(begin.clone()..);
        compiled
            .take_while(|path| path.starts_with(&begin))
            .any(|path| {
                // A magic number, flags that are 0 if a time follows, the source's time and its size.
                let mut header = [0; 16];
                let file = open_beneath(self.root, path).map(|(file, _)| File::from(file));
                file.is_some_and(|mut file| file.read_exact(&mut header).is_ok())
                    && header[4..8] == [0; 4]
                    && header[8..12] == (own as u32).to_le_bytes()
            })
    }
}

/// A time newer than that of any file in the `tree` of the release made at `at`, or in an earlier release. (Files can
/// be a little newer than their release, if several releases were made within one second.)
fn floor(tree: BorrowedFd<'_>, at: u64) -> u64 {
    const LITTLE: u64 = 60;
    let mut newest = at;
    // A walk that fails counts as far as it came.
    let _ = walk(
        tree,
        |_, _| false,
        &SlugLimits::default(),
        |entry| {
            if entry.file_type() == FileType::RegularFile {
                let time = seconds(&entry.stat);
                newest = newest.max(time.min(at.saturating_add(LITTLE)));
            }
            Ok(ControlFlow::Continue(()))
        },
    );
    newest.saturating_add(1)
}

/// A file's time in whole seconds; 0 for one before 1970, which a slug cannot hold.
fn seconds(stat: &Stat) -> u64 {
    u64::try_from(stat.st_mtime).unwrap_or(0)
}

/// Opens a regular file below `root` without following symlinks, which may lead anywhere.
fn open_beneath(root: BorrowedFd<'_>, path: &[u8]) -> Option<(OwnedFd, Stat)> {
    let file = enter(root, path, OFlags::RDONLY)?;
    let stat = fstat(&file).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some((file, stat))
}

/// The target of the symlink at `path`; None if there is none. No symlink on the way is followed.
fn link_beneath(root: BorrowedFd<'_>, path: &[u8]) -> Option<Vec<u8>> {
    let link = enter(root, path, OFlags::PATH)?;
    Some(readlinkat(&link, c"", Vec::new()).ok()?.into_bytes())
}

fn enter(root: BorrowedFd<'_>, path: &[u8], how: OFlags) -> Option<OwnedFd> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut at: Option<OwnedFd> = None;
    let mut names = path.split(|&byte| byte == b'/').peekable();
    while let Some(name) = names.next() {
        let kind = match names.peek() {
            Some(_) => OFlags::PATH | OFlags::DIRECTORY,
            None => how,
        };
        let here = at.as_ref().map_or(root, |fd| fd.as_fd());
        at = Some(openat(here, name, flags | kind, Mode::empty()).ok()?);
    }
    at
}

fn are_alike(one: OwnedFd, other: OwnedFd) -> io::Result<bool> {
    const PIECE: usize = 64 * 1024;
    let mut one = BufReader::with_capacity(PIECE, File::from(one));
    let mut other = BufReader::with_capacity(PIECE, File::from(other));
    loop {
        let (ours, theirs) = (one.fill_buf()?, other.fill_buf()?);
        let count = ours.len().min(theirs.len());
        if count == 0 || ours[..count] != theirs[..count] {
            return Ok(ours.len() == theirs.len() && count == 0);
        }
        one.consume(count);
        other.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn other_contents_are_newer_and_a_time_that_says_nothing_gives_way() {
        let was = |mtime, same| Was::There { mtime, same };
        for (own, was, says_nothing, expected) in [
            (50, Was::Older, false, 50),
            (50, Was::Older, true, 50),
            // A file's own time is what bytecode names. But a visitor with what was there before must not take this for
            // older.
            (50, was(40, true), false, 50),
            (50, was(60, true), false, 60),
            (50, was(40, true), true, 40),
            (50, was(60, true), true, 60),
            // Changed: within one second, or to something older.
            (50, was(40, false), false, 50),
            (50, was(50, false), false, 51),
            (50, was(60, false), true, 61),
            (50, was(u64::MAX, false), true, u64::MAX),
            // There once, perhaps, and then not.
            (50, Was::Absent, false, 70),
            (50, Was::Absent, true, 70),
            (80, Was::Absent, false, 80),
        ] {
            assert_eq!(date(own, was, 70, says_nothing), expected, "{own} {was:?}");
        }
    }

    #[test]
    fn files_are_alike_if_all_their_bytes_are() {
        let folder = tempfile::tempdir().unwrap();
        let long = vec![b'x'; 200_000];
        let mut other = long.clone();
        other[199_999] = b'y';
        let (long, other, longer) = (&*long, &*other, &*[&long[..], b"x"].concat());
        for (one, two, expected) in [
            (&b""[..], &b""[..], true),
            (b"a", b"", false),
            (long, long, true),
            (long, other, false),
            (long, longer, false),
            (longer, long, false),
        ] {
            let open = |name: &str, text: &[u8]| {
                let path = folder.path().join(name);
                fs::write(&path, text).unwrap();
                OwnedFd::from(File::open(path).unwrap())
            };
            let alike = are_alike(open("one", one), open("two", two)).unwrap();
            assert_eq!(alike, expected, "{} {}", one.len(), two.len());
        }
    }

    #[test]
    fn nothing_is_compared_through_a_symlink() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("real")).unwrap();
        fs::write(folder.path().join("real/file"), "x").unwrap();
        symlink("real", folder.path().join("way")).unwrap();
        symlink("real/file", folder.path().join("end")).unwrap();
        let root = open_root(folder.path()).unwrap();
        assert!(open_beneath(root.as_fd(), b"real/file").is_some());
        for path in [&b"way/file"[..], b"end", b"real", b"none"] {
            assert!(open_beneath(root.as_fd(), path).is_none());
        }
    }
}
