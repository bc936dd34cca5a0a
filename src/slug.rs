//! Slugs: an app's files as one gzipped tarball, and as the tree a dyno runs on.
//!
//! This room packs a directory ([`pack`]), keeps tarballs and their unpacked trees ([`SlugCache`]) and unpacks tarballs
//! of any origin without trusting them ([`unpack`]). A slug is named by its content, the SHA-256 of its tarball
//! ([`SlugId`]), and its members lie under `./app/`, as Heroku's do. It knows nothing of apps and releases, and mounts
//! nothing: the store remembers which release has which slug, the sandbox puts a tree under `/app`. Called by the CLI
//! (packing), by the server (receiving, unpacking, evicting), by builds ([`Source`]), by the sandbox ([`copy_tree`])
//! and by all who delete a dyno's files ([`remove_tree`]).

mod cache;
mod classes;
mod copy;
mod gzip;
mod ignore;
mod inflate;
mod lfs;
mod links;
mod members;
mod pack;
mod procfile;
mod remove;
mod source;
#[cfg(test)]
mod tests;
mod times;
mod tree;
mod uninstalled;
mod unpack;
mod walk;

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::error::UserError;

pub use cache::{Lease, SlugCache};
pub use copy::copy_tree;
pub use links::{LeadsOut, told as told_links};
use pack::pack_again;
pub use pack::{Packed, Progress, pack, pack_dated};
pub use procfile::{Elsewhere, procfile_elsewhere, procfile_of};
pub use remove::remove_tree;
pub use source::{Source, WhileWanted};
pub use times::{Released, Times};
pub use unpack::unpack;
pub use walk::tree_is_newer_than;

/// The default gzip level, as of `gzip` itself.
pub const DEFAULT_LEVEL: u32 = 6;

/// A slug's name: the SHA-256 of its tarball. Written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlugId([u8; 32]);

impl SlugId {
    /// The id of the tarball that went through `hasher`.
    fn of(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }
}

impl fmt::Display for SlugId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SlugId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlugId({self})")
    }
}

/// The text was not 64 hexadecimal digits, with or without Heroku's `SHA256:` before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSlugId(String);

impl fmt::Display for BadSlugId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no SHA-256 in 64 hexadecimal digits", self.0)
    }
}

impl std::error::Error for BadSlugId {}

impl FromStr for SlugId {
    type Err = BadSlugId;

    fn from_str(text: &str) -> Result<Self, BadSlugId> {
        let bad = || BadSlugId(text.to_owned());
        let digits = text.strip_prefix("SHA256:").unwrap_or(text).as_bytes();
        let mut id = [0; 32];
        if digits.len() != 2 * id.len() {
            return Err(bad());
        }
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            for &digit in pair {
                let value = char::from(digit).to_digit(16).ok_or_else(bad)?;
                *byte = *byte << 4 | value as u8;
            }
        }
        Ok(Self(id))
    }
}

/// Bounds on a slug, the same for packing and unpacking, so that what was packed can be unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Members of the tarball, and directories it implies without naming them.
    pub entries: u64,
    /// Bytes of the tar stream inside the gzip: contents, plus half a KiB or more for each entry.
    pub unpacked_bytes: u64,
    /// Bytes of one path below `/app`, and of one symlink's target.
    pub path_bytes: usize,
    /// Directories above a file. Each costs one open descriptor while unpacking.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            unpacked_bytes: 8 << 30,
            path_bytes: 4000,
            depth: 128,
        }
    }
}

impl Limits {
    /// Refuses a path below `/app` that is too long or too deep.
    fn check_path(&self, path: &[u8]) -> anyhow::Result<()> {
        if path.len() > self.path_bytes {
            return Err(over_limit(
                format!("a path has {} bytes, `{}`", path.len(), shown(path)),
                self.path_bytes as u64,
            ));
        }
        let depth = path.iter().filter(|&&byte| byte == b'/').count();
        if depth > self.depth {
            return Err(over_limit(
                format!("`{}` lies {depth} directories deep", shown(path)),
                self.depth as u64,
            ));
        }
        Ok(())
    }

    /// Refuses the entry that is one too many; `entries` counts it.
    fn check_entries(&self, entries: u64) -> anyhow::Result<()> {
        if entries > self.entries {
            return Err(over_limit("too many files and directories", self.entries));
        }
        Ok(())
    }

    /// Refuses a tar stream that gets too long.
    fn check_bytes(&self, bytes: u64) -> anyhow::Result<()> {
        if bytes > self.unpacked_bytes {
            return Err(over_limit(
                "too many bytes when unpacked",
                self.unpacked_bytes,
            ));
        }
        Ok(())
    }
}

/// Who the files of an unpacked slug belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id on the host.
    pub uid: u32,
    /// Group id on the host.
    pub gid: u32,
}

/// The beginning of the error for a tarball that is no slug.
const BAD_SLUG: &str = "bad slug: ";

/// The error for a tarball that is no slug: corrupt, hostile, or another kind of file.
fn bad_slug(why: impl fmt::Display) -> anyhow::Error {
    UserError::new(format!("{BAD_SLUG}{why}"))
        .hint("a slug is a .tgz whose members lie under ./app, as `dyno deploy` and `tar` make it")
        .into()
}

fn over_limit(what: impl fmt::Display, limit: u64) -> anyhow::Error {
    UserError::new(format!("slug too large: {what}, and the limit is {limit}"))
        .hint("leave out what the app does not need with .slugignore, or raise `slug_limit` or `tree_limit`: `dyno settings`")
        .into()
}

/// The error for a failed system call: ``cannot read `lib/a.rb`: Permission denied``.
fn failed(action: impl fmt::Display, error: impl Into<std::io::Error>) -> anyhow::Error {
    use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, StorageFull};
    let error = error.into();
    if matches!(error.kind(), StorageFull | QuotaExceeded) {
        return UserError::new(format!("disk full: cannot {action}: {error}"))
            .hint("free some space and try again; nothing was left half done")
            .into();
    }
    let failed = UserError::new(format!("cannot {action}: {error}"));
    match error.kind() {
        PermissionDenied => failed
            .hint("make it readable, or leave it out with .slugignore")
            .into(),
        _ => failed.into(),
    }
}

/// A path for a message: without control characters, and shortened if it is long.
fn shown(path: &[u8]) -> String {
    crate::error::shown(path, 200)
}
