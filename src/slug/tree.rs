//! The tree that a tarball is unpacked into; no member can be written outside of it.
//!
//! Every name is resolved from the descriptor of the directory it lies in, one component at a time and without
//! following symlinks; the directories of the last path stay open, since members of one directory mostly follow each
//! other. A later member replaces an earlier one of its name, and is never written through it. Names arrive here
//! already split into components, none of them `.`, `..` or empty. Used by [`unpack`](super::unpack).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, chownat, fchmod,
    fchown, futimens, linkat, mkdirat, openat, symlinkat,
};
use rustix::io::Errno;

use super::messages::{bad_slug, failed, shown};
use crate::kernel::tree::remove_at;

/// Who the files of an unpacked slug belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeOwner {
    /// User id on the host.
    pub uid: u32,
    /// Group id on the host.
    pub gid: u32,
}

/// The mode of directories that the tarball implies but does not name.
const IMPLIED_MODE: u32 = 0o755;

const OPEN_DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A path below the root, in components.
pub(super) type Components<'a> = [&'a [u8]];

/// The tree being built.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    /// The path of the directory used last: each component and its descriptor.
    way: Vec<(Vec<u8>, OwnedFd)>,
    owner: Option<TreeOwner>,
    /// How many directories were made that the tarball does not name.
    implied: u64,
}

impl Tree {
    /// Makes the root, which must not exist yet.
    pub(super) fn create(root: &std::path::Path, owner: Option<TreeOwner>) -> anyhow::Result<Self> {
        let unusable = |error| {
            failed(
                format_args!("make the directory `{}`", root.display()),
                error,
            )
        };
        mkdirat(CWD, root, Mode::RWXU).map_err(unusable)?;
        let root = openat(CWD, root, OPEN_DIRECTORY, Mode::empty()).map_err(unusable)?;
        let tree = Self {
            root,
            way: Vec::new(),
            owner,
            implied: 0,
        };
        tree.settle(tree.root.as_fd(), IMPLIED_MODE)
            .map_err(unusable)?;
        Ok(tree)
    }

    /// How many directories were made that the tarball does not name.
    pub(super) fn implied(&self) -> u64 {
        self.implied
    }

    /// Makes a directory, or the root if there are no components. One that exists gets the mode and keeps its entries.
    pub(super) fn directory(&mut self, path: &Components<'_>, mode: u32) -> anyhow::Result<()> {
        // Without these bits nothing could be put into it, nor could the tree be removed.
        let mode = mode | 0o700;
        let Some((name, parents)) = path.split_last() else {
            return self
                .settle(self.root.as_fd(), mode)
                .map_err(|error| failed("unpack `./app`", error));
        };
        self.enter(parents)?;
        let parent = self.here();
        let made = make_anew(parent, name, |is_free| {
            match mkdirat(parent, *name, Mode::RWXU) {
                Err(Errno::EXIST) if !is_free => {}
                made => made?,
            }
            openat(parent, *name, OPEN_DIRECTORY, Mode::empty())
        });
        let directory = made
            .and_then(|directory| self.settle(directory.as_fd(), mode).map(|()| directory))
            .map_err(|error| unpacking(path, error))?;
        self.way.push((name.to_vec(), directory));
        Ok(())
    }

    /// Makes an empty file, to be written and then passed to [`finish`](Self::finish).
    pub(super) fn file(&mut self, path: &Components<'_>) -> anyhow::Result<OwnedFd> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.put(path, |parent, name| {
            openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
        })
    }

    /// Gives a written file its owner, mode and time.
    pub(super) fn finish(&self, file: &OwnedFd, mode: u32, mtime: u64) -> rustix::io::Result<()> {
        self.settle(file.as_fd(), mode)?;
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: mtime.try_into().unwrap_or(0),
                tv_nsec: 0,
            },
        };
        futimens(file, &times)
    }

    pub(super) fn symlink(&mut self, path: &Components<'_>, target: &[u8]) -> anyhow::Result<()> {
        let owner = self.owner;
        self.put(path, |parent, name| {
            symlinkat(target, parent, name)?;
            match owner {
                Some(TreeOwner { uid, gid }) => {
                    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                    chownat(
                        parent,
                        name,
                        Some(uid),
                        Some(gid),
                        AtFlags::SYMLINK_NOFOLLOW,
                    )
                }
                None => Ok(()),
            }
        })
    }

    /// Makes another name for `target`, a file (or symlink, which is not followed) of this tree.
    pub(super) fn hard_link(
        &mut self,
        path: &Components<'_>,
        target: &Components<'_>,
    ) -> anyhow::Result<()> {
        if path == target {
            // The name is the target itself: replacing it would delete the file.
            return Ok(());
        }
        let no_target = || {
            let (path, target) = (joined(path), joined(target));
            bad_slug(format!(
                "`{path}` is a hard link to `{target}`, which is no file before it"
            ))
        };
        let (from_name, from_parents) = target.split_last().ok_or_else(no_target)?;
        let mut from: Option<OwnedFd> = None;
        for name in from_parents {
            let at = from.as_ref().map_or(self.root.as_fd(), |fd| fd.as_fd());
            let next = openat(at, *name, OPEN_DIRECTORY, Mode::empty());
            from = Some(next.map_err(|_| no_target())?);
        }
        let (name, parents) = path.split_last().ok_or_else(root_is_no_directory)?;
        self.enter(parents)?;
        let from = from.as_ref().map_or(self.root.as_fd(), |fd| fd.as_fd());
        make_anew(self.here(), name, |_| {
            linkat(from, *from_name, self.here(), *name, AtFlags::empty())
        })
        .map_err(|error| match error {
            // EPERM: a directory.
            Errno::NOENT | Errno::PERM => no_target(),
            error => unpacking(path, error),
        })
    }

    /// Makes another name for a file of another tree, the one at `from` below `root`. Both are changed by nobody.
    pub(super) fn link_from(
        &mut self,
        path: &Components<'_>,
        root: BorrowedFd<'_>,
        from: &[u8],
    ) -> anyhow::Result<()> {
        self.put(path, |parent, name| {
            linkat(root, from, parent, name, AtFlags::empty())
        })
    }

    /// Writes the tree to the disk, so that it survives a power failure.
    pub(super) fn sync(&self) -> rustix::io::Result<()> {
        rustix::fs::syncfs(&self.root)
    }

    fn put<T>(
        &mut self,
        path: &Components<'_>,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<T>,
    ) -> anyhow::Result<T> {
        let (name, parents) = path.split_last().ok_or_else(root_is_no_directory)?;
        self.enter(parents)?;
        make_anew(self.here(), name, |_| make(self.here(), name))
            .map_err(|error| unpacking(path, error))
    }

    /// Enters the directory at `path`, making missing directories on the way.
    fn enter(&mut self, path: &Components<'_>) -> anyhow::Result<()> {
        let known = self
            .way
            .iter()
            .zip(path)
            .take_while(|((name, _), wanted)| name == *wanted)
            .count();
        self.way.truncate(known);
        for (depth, name) in path.iter().enumerate().skip(known) {
            let at = self.here();
            let directory = match openat(at, *name, OPEN_DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) => {
                    let made = self.imply(at, name);
                    self.implied += 1;
                    made
                }
                // A symlink is ENOTDIR with O_DIRECTORY, and may be ELOOP on its own (openat(2)).
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let at = joined(&path[..=depth]);
                    return Err(bad_slug(format!(
                        "a member lies below `{at}`, which is a symlink or a file"
                    )));
                }
                opened => opened,
            };
            let directory = directory.map_err(|error| unpacking(&path[..=depth], error))?;
            self.way.push((name.to_vec(), directory));
        }
        Ok(())
    }

    /// Makes a directory that has no member of its own, or none yet.
    fn imply(&self, at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
        mkdirat(at, name, Mode::RWXU)?;
        let directory = openat(at, name, OPEN_DIRECTORY, Mode::empty())?;
        self.settle(directory.as_fd(), IMPLIED_MODE)?;
        Ok(directory)
    }

    /// The directory last entered.
    fn here(&self) -> BorrowedFd<'_> {
        self.way
            .last()
            .map_or(self.root.as_fd(), |(_, fd)| fd.as_fd())
    }

    /// Sets owner and mode; in this order, because chown may clear bits of the mode.
    fn settle(&self, fd: BorrowedFd<'_>, mode: u32) -> rustix::io::Result<()> {
        if let Some(TreeOwner { uid, gid }) = self.owner {
            fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        // The umask must not matter.
        fchmod(fd, Mode::from_raw_mode(mode & 0o777))
    }
}

/// Calls `make`; if the name is taken, removes what has it, and calls `make` again with `true`.
fn make_anew<T>(
    parent: BorrowedFd<'_>,
    name: &[u8],
    make: impl Fn(bool) -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    match make(false) {
        Err(Errno::EXIST | Errno::NOTDIR | Errno::LOOP) => {
            remove_at(parent, name)?;
            make(true)
        }
        made => made,
    }
}

fn root_is_no_directory() -> anyhow::Error {
    bad_slug("`./app` is not a directory")
}

fn unpacking(path: &Components<'_>, error: Errno) -> anyhow::Error {
    failed(format_args!("unpack `{}`", joined(path)), error)
}

fn joined(path: &Components<'_>) -> String {
    shown(&path.join(&b'/'))
}
