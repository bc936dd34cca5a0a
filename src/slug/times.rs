//! Which time each file of a slug has.
//!
//! Times are content to caches. A web server tells by a page's time, or by its time and size, whether a visitor's copy
//! of it is still good; Python tells so whether bytecode belongs to its source. So a file keeps its own time, to the
//! second, which is what a tarball and both of those count in. Two things are done about times that would lie. No file
//! is older than in the release before, and one with other contents is newer than it was there. And where a source has one time for all
//! its files, as `git archive` makes it, that one says nothing of any of them: what has not changed keeps the time that
//! it had. Called by packing.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};

use super::walk::{Entry, open_root};

/// Where the times of a slug's files come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times<'a> {
    /// All files have this one, in seconds since 1970, instead of their own.
    pub one: Option<u64>,
    /// The tree of the app's release before, if it is there. It may vanish meanwhile.
    pub before: Option<&'a Path>,
    /// Whether a single time that all files have says nothing of them.
    pub one_says_nothing: bool,
}

/// How a file is compared with what the release before has at its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Before {
    mtime: u64,
    same: bool,
}

/// The time of a file whose own is `own`. `says_nothing`: that one is no more than a guess.
fn date(own: u64, before: Option<Before>, says_nothing: bool) -> u64 {
    match before {
        Some(Before { mtime, same: true }) if says_nothing => mtime,
        Some(Before { mtime, same: true }) => own.max(mtime),
        Some(Before { mtime, same: false }) => own.max(mtime.saturating_add(1)),
        None => own,
    }
}

/// The times of one slug.
#[derive(Debug)]
pub(super) struct Clock<'a> {
    one: Option<u64>,
    before: Option<OwnedFd>,
    says_nothing: bool,
    root: BorrowedFd<'a>,
}

impl<'a> Clock<'a> {
    /// For the `entries` of the directory `root`.
    pub(super) fn new(times: &Times<'_>, root: BorrowedFd<'a>, entries: &[Entry]) -> Self {
        let mut own = entries
            .iter()
            .filter(|entry| entry.file_type() == FileType::RegularFile)
            .map(|entry| seconds(&entry.stat));
        let first = own.next();
        let all_alike = own.all(|time| Some(time) == first);
        Self {
            one: times.one,
            before: times.before.and_then(|tree| open_root(tree).ok()),
            says_nothing: times.one.is_some() || (times.one_says_nothing && all_alike),
            root,
        }
    }

    /// The time of a regular file.
    pub(super) fn of(&self, entry: &Entry) -> u64 {
        let own = self.one.unwrap_or_else(|| seconds(&entry.stat));
        date(own, self.before(entry, own), self.says_nothing)
    }

    /// None if there is no such file, or nothing depends on it.
    fn before(&self, entry: &Entry, own: u64) -> Option<Before> {
        let (file, stat) = open_beneath(self.before.as_ref()?.as_fd(), &entry.path)?;
        let mtime = seconds(&stat);
        if own > mtime && !self.says_nothing {
            return None;
        }
        // What cannot be read is taken for changed: then it is fetched once more, and no harm is done.
        let same = stat.st_size == entry.stat.st_size
            && open_beneath(self.root, &entry.path)
                .is_some_and(|(ours, _)| are_alike(file, ours).unwrap_or(false));
        Some(Before { mtime, same })
    }
}

/// A file's time in whole seconds. One before 1970 is no time that a slug can hold.
fn seconds(stat: &Stat) -> u64 {
    u64::try_from(stat.st_mtime).unwrap_or(0)
}

/// Opens a regular file, and follows no symlink on the way: a tree may hold some that lead anywhere.
fn open_beneath(root: BorrowedFd<'_>, path: &[u8]) -> Option<(OwnedFd, Stat)> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut at: Option<OwnedFd> = None;
    let mut names = path.split(|&byte| byte == b'/').peekable();
    while let Some(name) = names.next() {
        let kind = match names.peek() {
            Some(_) => OFlags::PATH | OFlags::DIRECTORY,
            None => OFlags::RDONLY,
        };
        let here = at.as_ref().map_or(root, |fd| fd.as_fd());
        at = Some(openat(here, name, flags | kind, Mode::empty()).ok()?);
    }
    let file = at?;
    let stat = fstat(&file).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some((file, stat))
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
        let before = |mtime, same| Some(Before { mtime, same });
        for (own, at, says_nothing, expected) in [
            (50, None, false, 50),
            (50, None, true, 50),
            // A file's own time is what bytecode names. But who has what was there before must not take this for older.
            (50, before(40, true), false, 50),
            (50, before(60, true), false, 60),
            (50, before(40, true), true, 40),
            (50, before(60, true), true, 60),
            // Changed: within one second, or to something older.
            (50, before(40, false), false, 50),
            (50, before(50, false), false, 51),
            (50, before(60, false), true, 61),
            (50, before(u64::MAX, false), true, u64::MAX),
        ] {
            assert_eq!(date(own, at, says_nothing), expected, "{own} {at:?}");
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
