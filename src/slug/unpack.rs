//! Unpacking: a tarball of any origin becomes the tree that dynos run on, or that a slug is made of.
//!
//! Of a slug, members below `./app/` (or `app/`) are unpacked and others passed over, as Heroku does; of a source, all
//! are. The tarball is not trusted: [`Tree`] keeps its names inside, the limits bound its sizes, and its end is
//! checked. After an error the destination does not exist. One thread inflates, the calling one writes, and nothing is
//! synced before the end. Called by the server, through the [cache](super::SlugCache).

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::io::Read;
use std::path::Path;
use std::thread;

use super::inflate::{Inflated, inflater};
use super::limits::SlugLimits;
use super::members::{Member, Members};
use super::messages::{bad_slug, failed, over_limit, shown};
use super::tree::TreeOwner;
use super::tree::{Components, Tree};
use crate::kernel::tree::remove_tree;

/// An unpacked slug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    /// Files, directories and links of the tree.
    pub entries: u64,
    /// Bytes of the files in it.
    pub content_bytes: u64,
}

/// Unpacks `tarball` into `dest`, a directory that does not exist yet.
///
/// With an `owner`, which only root may give, everything belongs to it afterwards. Permission bits are kept; setuid,
/// setgid and sticky bits are not, and directories always let their owner in. Files keep their times. When it returns,
/// the tree is on the disk.
///
/// # Errors
/// The tarball cannot be read or is no slug, passes one of the `limits`, or the tree cannot be
/// written; then nothing of it is left.
pub fn unpack(
    tarball: impl Read + Send,
    dest: &Path,
    owner: Option<TreeOwner>,
    limits: &SlugLimits,
) -> anyhow::Result<Unpacked> {
    unpack_and(tarball, dest, owner, limits, |_| Ok(()))
}

/// As [`unpack`], with what `add` adds to the tree.
///
/// # Errors
/// As [`unpack`], and those of `add`.
pub(super) fn unpack_and(
    tarball: impl Read + Send,
    dest: &Path,
    owner: Option<TreeOwner>,
    limits: &SlugLimits,
    add: impl FnOnce(&mut Tree) -> anyhow::Result<()>,
) -> anyhow::Result<Unpacked> {
    unpack_as(Layout::Slug, tarball, dest, owner, limits, |tree| {
        add(tree)?;
        sync(tree, dest)
    })
}

fn sync(tree: &Tree, dest: &Path) -> anyhow::Result<()> {
    tree.sync()
        .map_err(|error| failed(format_args!("write `{}`", dest.display()), error))
}

/// Unpacks all of a source `tarball` into `dest`, a directory that does not exist yet, by the rules of [`unpack`], but
/// without waiting for the disk: the tree is temporary.
///
/// # Errors
/// As [`unpack`].
pub(super) fn unpack_source(
    tarball: impl Read + Send,
    dest: &Path,
    limits: &SlugLimits,
) -> anyhow::Result<Unpacked> {
    unpack_as(Layout::Source, tarball, dest, None, limits, |_| Ok(()))
}

/// Which members of a tarball are unpacked, and below which name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Those below `app`.
    Slug,
    /// All.
    Source,
}

fn unpack_as(
    layout: Layout,
    tarball: impl Read + Send,
    dest: &Path,
    owner: Option<TreeOwner>,
    limits: &SlugLimits,
    finish: impl FnOnce(&mut Tree) -> anyhow::Result<()>,
) -> anyhow::Result<Unpacked> {
    let mut tree = Tree::create(dest, owner)?;
    let (inflater, inflated) = inflater();
    let result = thread::scope(|scope| {
        scope.spawn(move || inflater.run(tarball));
        unpack_members(layout, inflated, &mut tree, limits)
    })
    .and_then(|unpacked| finish(&mut tree).map(|()| unpacked));
    drop(tree);
    if result.is_err() {
        // The first error is the one to report.
        let _ = remove_tree(dest);
    }
    result
}

fn unpack_members(
    layout: Layout,
    inflated: Inflated,
    tree: &mut Tree,
    limits: &SlugLimits,
) -> anyhow::Result<Unpacked> {
    let mut members = Members::new(inflated, limits);
    let mut unpacked = Unpacked {
        entries: 0,
        content_bytes: 0,
    };
    let (mut seen, mut has_any) = (0_u64, false);
    while let Some(member) = members.next()? {
        seen = seen.saturating_add(1);
        if let Some(path) = layout.place(&member.name)? {
            limits.check_path(&path.join(&b'/'))?;
            has_any = true;
            let bytes = unpack_member(layout, &member, &path, &mut members, tree, limits)?;
            unpacked.entries = unpacked.entries.saturating_add(1);
            unpacked.content_bytes = unpacked.content_bytes.saturating_add(bytes);
        }
        limits.check_entries(seen.saturating_add(tree.implied()))?;
    }
    if !has_any {
        return Err(bad_slug(match layout {
            Layout::Slug => "it has no member below `./app/`",
            Layout::Source => "there is nothing in it",
        }));
    }
    unpacked.entries = unpacked.entries.saturating_add(tree.implied());
    Ok(unpacked)
}

/// Unpacks one member; returns the bytes of its contents.
fn unpack_member(
    layout: Layout,
    member: &Member,
    path: &Components<'_>,
    members: &mut Members<'_>,
    tree: &mut Tree,
    limits: &SlugLimits,
) -> anyhow::Result<u64> {
    let kind = member.kind;
    // Before POSIX a directory was a file whose name ends with a slash.
    if kind.is_dir() || (kind.is_file() && member.name.ends_with(b"/")) {
        tree.directory(path, member.mode)?;
    } else if kind.is_file() || kind.is_contiguous() {
        let file = tree.file(path)?;
        let unwritable = |error| failed(format_args!("unpack `{}`", shown(&member.name)), error);
        loop {
            let piece = members.contents()?;
            if piece.is_empty() {
                break;
            }
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, piece));
            members.consume(written.map_err(unwritable)?);
        }
        tree.finish(&file, member.mode, member.mtime)
            .map_err(unwritable)?;
        return Ok(member.size);
    } else if kind.is_symlink() {
        if member.target.len() > limits.path_bytes {
            let what = format!(
                "the target of `{}` has {} bytes",
                shown(&member.name),
                member.target.len()
            );
            return Err(over_limit(what, limits.path_bytes as u64));
        }
        if member.target.is_empty() || member.target.contains(&0) {
            return Err(bad_slug(format!(
                "`{}` is a symlink to nowhere",
                shown(&member.name)
            )));
        }
        tree.symlink(path, &member.target)?;
    } else if kind.is_hard_link() {
        let target = layout.place(&member.target)?.ok_or_else(|| {
            let (name, target) = (shown(&member.name), shown(&member.target));
            bad_slug(format!(
                "`{name}` is a hard link to `{target}`, which is not below `./app/`"
            ))
        })?;
        tree.hard_link(path, &target)?;
    } else {
        let what = if kind.is_character_special() || kind.is_block_special() {
            "a device".to_owned()
        } else if kind.is_fifo() {
            "a named pipe".to_owned()
        } else {
            format!(
                "of an unknown kind (`{}`)",
                char::from(kind.as_byte()).escape_default()
            )
        };
        return Err(bad_slug(format!("`{}` is {what}", shown(&member.name))));
    }
    Ok(0)
}

impl Layout {
    /// The components of a member's name in the tree; `None` if it is not unpacked.
    fn place(self, name: &[u8]) -> anyhow::Result<Option<Vec<&[u8]>>> {
        let refused = |why| Err(bad_slug(format!("`{}` {why}", shown(name))));
        if name.starts_with(b"/") {
            return refused("is an absolute name");
        }
        if name.contains(&0) {
            return refused("has a NUL byte in its name");
        }
        let mut path: Vec<&[u8]> = name
            .split(|&byte| byte == b'/')
            .filter(|part| !matches!(*part, b"" | b"."))
            .collect();
        if path.contains(&b"..".as_slice()) {
            return refused("has `..` in its name");
        }
        if self == Self::Slug {
            if path.first() != Some(&b"app".as_slice()) {
                return Ok(None);
            }
            path.remove(0);
        }
        Ok(Some(path))
    }
}
