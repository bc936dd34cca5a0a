//! Files below a folder that others may have written, a stranger's checkout: whatever its symlinks say, nothing outside of the
//! folder is opened, and nothing but a regular file is read.
//!
//! The kernel resolves the path within the folder (`openat2`, Linux 5.6). Where a filter of system calls refuses that, as in
//! some containers, the path is walked here, each step without following a link.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};
use rustix::io::Errno;

/// The most symlinks on the way to one file, as in the kernel.
const MOST_LINKS: usize = 40;

/// How often a path is resolved again because it was changed meanwhile.
const TRIES: usize = 32;

/// What becomes of symlinks on the way to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// They are followed as long as they stay in the folder.
    Followed,
    /// One is an error (`ELOOP`).
    Refused,
}

/// Opens what is at `path` below `folder`.
///
/// # Errors
/// `EXDEV` if the path leads out of the folder, `ELOOP` for a symlink that is refused or too many of them; else as `open(2)`.
pub fn open(
    folder: impl AsFd,
    path: impl AsRef<Path>,
    flags: OFlags,
    links: Links,
) -> io::Result<OwnedFd> {
    let (folder, path) = (folder.as_fd(), path.as_ref());
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH
        | match links {
            Links::Followed => ResolveFlags::NO_MAGICLINKS,
            Links::Refused => ResolveFlags::NO_SYMLINKS,
        };
    for _ in 0..TRIES {
        match openat2(folder, path, flags, Mode::empty(), resolve) {
            // Something on the way was moved at that moment.
            Err(Errno::AGAIN) => {}
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => {
                return Ok(walk(folder, path, flags, links)?);
            }
            opened => return Ok(opened?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// The contents of a regular file, up to one byte more than `most`; links are followed within the folder. None if there is
/// no such file. A FIFO is not waited for.
///
/// # Errors
/// As [`open`]; `InvalidInput` if it is no regular file.
pub fn read(folder: impl AsFd, path: impl AsRef<Path>, most: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open(folder, path, flags, Links::Followed) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => File::from(opened?),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is no regular file",
        ));
    }
    let mut text = Vec::new();
    file.take(most + 1).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// Whether the error of [`open`] says that the path leads out of the folder.
pub fn leads_out(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EXDEV)
}

/// Resolves the path step by step.
fn walk(
    folder: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    links: Links,
) -> rustix::io::Result<OwnedFd> {
    // The folders that were entered, the last one in front of the next name.
    let mut entered: Vec<OwnedFd> = Vec::new();
    let mut names: VecDeque<OsString> = steps(path)?.collect();
    let mut left = MOST_LINKS;
    loop {
        let here = entered.last().map_or(folder, |fd| fd.as_fd());
        let Some(name) = names.pop_front() else {
            // The path ends with `..`, or is `.`.
            return openat(here, ".", flags, Mode::empty());
        };
        if name == ".." {
            if entered.pop().is_none() {
                return Err(Errno::XDEV);
            }
            continue;
        }
        let is_last = names.is_empty();
        let step = match is_last {
            true => flags | OFlags::NOFOLLOW,
            false => OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        };
        match openat(here, &name, step, Mode::empty()) {
            Ok(file) if is_last && !is_link(&file, flags) => return Ok(file),
            Ok(_) if is_last => {}
            Ok(file) => {
                entered.push(file);
                continue;
            }
            // A symlink is ELOOP, or ENOTDIR if a directory was asked for.
            Err(Errno::LOOP | Errno::NOTDIR) => {}
            Err(error) => return Err(error),
        }
        let target = match readlinkat(here, &name, Vec::new()) {
            Ok(target) => target,
            // It is no link.
            Err(Errno::INVAL) => return Err(Errno::NOTDIR),
            Err(error) => return Err(error),
        };
        if links == Links::Refused || left == 0 {
            return Err(Errno::LOOP);
        }
        left -= 1;
        let target = OsString::from_vec(target.into_bytes());
        let steps: Vec<_> = steps(Path::new(&target))?.collect();
        steps.into_iter().rev().for_each(|it| names.push_front(it));
    }
}

/// Whether what was opened, by its path alone, is a symlink.
fn is_link(file: &OwnedFd, flags: OFlags) -> bool {
    flags.contains(OFlags::PATH)
        && !flags.contains(OFlags::NOFOLLOW)
        && rustix::fs::fstat(file).is_ok_and(|it| {
            rustix::fs::FileType::from_raw_mode(it.st_mode) == rustix::fs::FileType::Symlink
        })
}

/// The names of a path, with `..`; `EXDEV` for one that begins at the root.
fn steps(path: &Path) -> rustix::io::Result<impl Iterator<Item = OsString>> {
    if path.has_root() {
        return Err(Errno::XDEV);
    }
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(Errno::INVAL);
    }
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        _ => None,
    });
    Ok(names.map(OsStr::to_owned).collect::<Vec<_>>().into_iter())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A folder with links of all kinds, and a secret beside it.
    fn checkout() -> (tempfile::TempDir, File) {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let root = outside.path().join("checkout");
        fs::create_dir_all(root.join("deep/er")).unwrap();
        fs::write(root.join("file"), "file").unwrap();
        fs::write(root.join("deep/er/file"), "deeper").unwrap();
        for (link, target) in [
            ("inside", "deep/er/file"),
            ("up-and-down", "deep/../file"),
            ("folder", "deep"),
            ("chain", "inside"),
            ("out", "../secret"),
            ("absolute", "/etc/passwd"),
            ("out-folder", ".."),
            ("loop", "loop"),
            ("dangling", "nothing"),
            ("magic", "/proc/self/environ"),
            ("deep/out", "../../secret"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let folder = File::open(&root).unwrap();
        (outside, folder)
    }

    /// Both ways of resolving a path.
    fn both(folder: &File, path: &str, links: Links) -> [io::Result<String>; 2] {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let by_kernel = open(folder, path, flags, links);
        let by_steps = walk(folder.as_fd(), Path::new(path), flags, links);
        [by_kernel, by_steps.map_err(Into::into)].map(|opened| {
            let mut text = String::new();
            File::from(opened?).read_to_string(&mut text)?;
            Ok(text)
        })
    }

    #[test]
    fn what_is_inside_is_found_through_links_and_what_is_outside_is_not() {
        let (_outside, folder) = checkout();
        for (path, text) in [
            ("file", "file"),
            ("./deep/er/file", "deeper"),
            ("deep/../file", "file"),
            ("inside", "deeper"),
            ("up-and-down", "file"),
            ("folder/er/file", "deeper"),
            ("chain", "deeper"),
        ] {
            for found in both(&folder, path, Links::Followed) {
                assert_eq!(found.unwrap(), text, "{path}");
            }
        }
        for path in [
            "out",
            "absolute",
            "out-folder/secret",
            "deep/out",
            "../secret",
            "/etc/passwd",
            "magic",
        ] {
            for found in both(&folder, path, Links::Followed) {
                assert!(leads_out(&found.unwrap_err()), "{path}");
            }
        }
        for (path, errno) in [
            ("loop", Errno::LOOP),
            ("dangling", Errno::NOENT),
            ("file/below", Errno::NOTDIR),
        ] {
            for found in both(&folder, path, Links::Followed) {
                let error = found.unwrap_err();
                assert_eq!(Errno::from_io_error(&error), Some(errno), "{path}");
            }
        }
        for path in ["inside", "folder/er/file", "out"] {
            for found in both(&folder, path, Links::Refused) {
                let error = found.unwrap_err();
                assert_eq!(Errno::from_io_error(&error), Some(Errno::LOOP), "{path}");
            }
        }
    }

    #[test]
    fn nothing_but_a_regular_file_is_read_and_no_more_of_it_than_asked_for() {
        let (outside, folder) = checkout();
        let root = outside.path().join("checkout");
        assert_eq!(read(&folder, "nothing", 9).unwrap(), None);
        assert_eq!(read(&folder, "file", 9).unwrap().unwrap(), b"file");
        assert_eq!(read(&folder, "file", 2).unwrap().unwrap(), b"fil");
        let fifo = root.join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        let _socket = UnixListener::bind(root.join("socket")).unwrap();
        for path in ["fifo", "deep"] {
            let error = read(&folder, path, 9).unwrap_err();
            assert_eq!(error.to_string(), "it is no regular file", "{path}");
        }
        assert!(read(&folder, "socket", 9).is_err());
    }
}
