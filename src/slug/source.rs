//! A source tarball, packed by any program, unpacked for a build.
//!
//! Code hosts put everything below one folder named after the commit; `git archive` and `tar` need not. So a folder
//! that is the only entry at the top is taken as the root. Files that the build reads by name (`Procfile`,
//! `.slugignore`) may be symlinks to others of the tree, but not out of it: their contents are shown to the client that
//! sent the tarball. Called by builds.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::limits::SlugLimits;
use super::messages::{BAD_SLUG, failed};
use super::slugignore::SlugIgnore;
use super::unpack::unpack_source;
use super::walk::{open_root, walk};
use crate::error::UserError;
use crate::kernel::beneath;
use crate::kernel::tree::remove_tree;

/// Files whose contents packing reads.
const READ_BY_PACKING: [&str; 2] = [".slugignore", ".gitignore"];

/// An unpacked source.
#[derive(Debug)]
pub struct UnpackedSource {
    root: PathBuf,
}

impl UnpackedSource {
    /// Unpacks `tarball` into `dest`, a directory that does not exist yet, whose parents no other user can change.
    ///
    /// # Errors
    /// The tarball cannot be read or is not valid, passes one of the `limits`, cannot be written, or has a symlink out
    /// of the tree where a file is to be read. Then nothing is left.
    pub fn unpack(
        tarball: impl Read + Send,
        dest: &Path,
        limits: &SlugLimits,
    ) -> anyhow::Result<Self> {
        unpack_source(tarball, dest, limits).map_err(of_source)?;
        let unpacked = Self::at(dest);
        if unpacked.is_err() {
            // The first error is the one to report.
            let _ = remove_tree(dest);
        }
        unpacked
    }

    fn at(dest: &Path) -> anyhow::Result<Self> {
        let unreadable = |error| failed("read the source", error);
        let dest = dest.canonicalize().map_err(unreadable)?;
        let mut entries = fs::read_dir(&dest).map_err(unreadable)?;
        let only = match (entries.next(), entries.next()) {
            (Some(first), None) => Some(first.map_err(unreadable)?),
            _ => None,
        };
        let root = match only {
            // The entry's own type, not that of a symlink's target.
            Some(entry) if entry.file_type().map_err(unreadable)?.is_dir() => entry.path(),
            _ => dest,
        };
        let source = Self { root };
        for name in READ_BY_PACKING {
            source.inside(name)?;
        }
        Ok(source)
    }

    /// The app's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The beginning of a file at the root, of `max_bytes` and one more if there are more. None if there is no such file. A build may
    /// have put anything there: what is no file is not waited for.
    ///
    /// # Errors
    /// The file is a symlink out of the source, or cannot be read.
    pub fn read(&self, name: &str, max_bytes: u64) -> anyhow::Result<Option<Vec<u8>>> {
        let text = File::open(&self.root).and_then(|root| beneath::read(&root, name, max_bytes));
        text.map_err(|error| match beneath::leads_out(&error) {
            true => leads_out(name).into(),
            false => failed(format_args!("read `{name}`"), error),
        })
    }

    /// Removes what its `.slugignore` names. How many files and folders that were, and warnings for the file's author, one line each.
    ///
    /// # Errors
    /// The file is not valid, or something cannot be removed.
    pub fn leave_out(&self, limits: &SlugLimits) -> anyhow::Result<(usize, Vec<String>)> {
        let root = open_root(&self.root)?;
        let rules = SlugIgnore::read(root.as_fd())?;
        let ignored = RefCell::new(Vec::new());
        let skips = |path: &[u8], is_directory: bool| {
            let ignores = rules.ignores(path, is_directory);
            if ignores {
                ignored.borrow_mut().push(path.to_owned());
            }
            ignores
        };
        walk(root.as_fd(), skips, limits, |_| {
            Ok(ControlFlow::Continue(()))
        })?;
        let ignored = ignored.into_inner();
        for path in &ignored {
            let path = self.root.join(OsStr::from_bytes(path));
            remove_tree(&path).map_err(|error| failed("remove what .slugignore names", error))?;
        }
        Ok((ignored.len(), rules.warnings))
    }

    /// The path of a file at the root, with symlinks resolved. None if there is no such file.
    fn inside(&self, name: &str) -> anyhow::Result<Option<PathBuf>> {
        let path = match self.root.join(name).canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(format_args!("read `{name}`"), error)),
        };
        if !path.starts_with(&self.root) {
            return Err(leads_out(name).into());
        }
        Ok(Some(path))
    }
}

fn leads_out(name: &str) -> UserError {
    UserError::new(format!("bad source: `{name}` leads out of it"))
        .hint("put the file itself there")
}

/// The error for a source instead of a slug.
fn of_source(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<UserError>() {
        Ok(error) => match error.message.strip_prefix(BAD_SLUG) {
            Some(why) => UserError::new(format!("bad source: {why}"))
                .hint("a source is a gzipped tar of the app's folder, as `git archive` and `tar` make it")
                .into(),
            None => error.into(),
        },
        Err(error) => error,
    }
}

/// A reader `R` that ends with an error once `F` returns false.
#[derive(Debug)]
pub struct WhileWanted<R, F>(pub R, pub F);

impl<R: Read, F: Fn() -> bool> Read for WhileWanted<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.1)() {
            true => self.0.read(buffer),
            false => Err(io::Error::new(
                ErrorKind::TimedOut,
                "it is not wanted any more",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{EntryType, Header};

    use super::*;

    enum Is<'a> {
        File(&'a str),
        Link(&'a str),
        HardLink(&'a str),
    }

    fn tarball(members: &[(&str, Is<'_>)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, is) in members {
            let mut header = Header::new_gnu();
            header.set_mode(0o644);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            let (kind, text, target) = match is {
                Is::File(text) => (EntryType::Regular, *text, ""),
                Is::Link(target) => (EntryType::Symlink, "", *target),
                Is::HardLink(target) => (EntryType::Link, "", *target),
            };
            header.set_entry_type(kind);
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_size(text.len() as u64);
            header.set_cksum();
            tar.append(&header, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn unpacked(members: &[(&str, Is<'_>)]) -> (tempfile::TempDir, anyhow::Result<UnpackedSource>) {
        let folder = tempfile::tempdir().unwrap();
        let dest = folder.path().join("source");
        let source = UnpackedSource::unpack(&tarball(members)[..], &dest, &SlugLimits::default());
        assert_eq!(source.is_ok(), dest.exists());
        (folder, source)
    }

    fn procfile(members: &[(&str, Is<'_>)]) -> Option<String> {
        let (_folder, source) = unpacked(members);
        let text = source.unwrap().read("Procfile", 100).unwrap();
        text.map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn a_folder_that_is_all_there_is_means_itself() {
        let found = |text: &str| Some(text.to_owned());
        assert_eq!(procfile(&[("Procfile", Is::File("a"))]), found("a"));
        assert_eq!(procfile(&[("./Procfile", Is::File("b"))]), found("b"));
        let of_host = [
            ("ada-shop-1234abc/Procfile", Is::File("c")),
            ("ada-shop-1234abc/lib/x", Is::File("")),
        ];
        assert_eq!(procfile(&of_host), found("c"));
        let two = [("one/Procfile", Is::File("d")), ("two", Is::File(""))];
        assert_eq!(procfile(&two), None);
        assert_eq!(procfile(&[("only-file", Is::File(""))]), None);
        assert_eq!(procfile(&[("dangling", Is::Link("elsewhere"))]), None);
    }

    #[test]
    fn what_is_read_may_be_a_link_within_and_none_out_of_the_source() {
        let within = [
            ("config/Procfile", Is::File("web: x")),
            ("Procfile", Is::Link("config/Procfile")),
        ];
        assert_eq!(procfile(&within).as_deref(), Some("web: x"));
        let (_folder, source) =
            unpacked(&[("Procfile", Is::Link("/etc/passwd")), ("a", Is::File(""))]);
        let error = source.unwrap().read("Procfile", 100).unwrap_err();
        assert_eq!(error.to_string(), "bad source: `Procfile` leads out of it");
        for name in READ_BY_PACKING {
            let (_folder, source) = unpacked(&[
                (name, Is::Link("../../../../../../../../etc/passwd")),
                ("a", Is::File("")),
            ]);
            let error = source.unwrap_err();
            assert!(error.to_string().contains("leads out of it"), "{error}");
        }
    }

    #[test]
    fn what_is_no_source_is_said_to_be_none_and_leaves_nothing() {
        for (members, why) in [
            (&[("../x", Is::File(""))], "`../x` has `..` in its name"),
            (&[("/x", Is::File(""))], "`/x` is an absolute name"),
        ] {
            let (_folder, source) = unpacked(members);
            assert_eq!(
                source.unwrap_err().to_string(),
                format!("bad source: {why}")
            );
        }
        let (_folder, source) = unpacked(&[("out", Is::Link("/tmp")), ("out/x", Is::File(""))]);
        let error = source.unwrap_err().to_string();
        assert!(error.contains("which is a symlink or a file"), "{error}");
        let (_folder, source) = unpacked(&[("x", Is::HardLink("/etc/passwd"))]);
        assert!(source.is_err());
        let (_folder, source) = unpacked(&[]);
        assert!(source.is_err());
    }

    #[test]
    fn a_reader_that_nobody_waits_for_ends_in_an_error() {
        let members = tarball(&[("Procfile", Is::File("a"))]);
        let folder = tempfile::tempdir().unwrap();
        let dest = folder.path().join("source");
        let reader = WhileWanted(&members[..], || false);
        assert!(UnpackedSource::unpack(reader, &dest, &SlugLimits::default()).is_err());
        assert!(!dest.exists());
    }
}
