//! Packing: an app's directory becomes a slug.
//!
//! The tarball does not depend on the machine it is made on. Members are sorted bytewise by path, have no owner, and
//! keep only their permission bits; a hard link is stored as a file. Files have [times](super::times), since caches
//! depend on them; directories and symlinks have a fixed one. So a tree has one digest on every machine, for one gzip
//! level and one version of the compressor, and deploying it again uploads nothing. Names that do not fit into a tar
//! header are stored as GNU tar does it. Called by the CLI.

use std::ffi::OsStr;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, readlinkat};
use tar::{EntryType, Header};

use super::gzip::{Before, Blocks, gzip};
use super::id::SlugId;
use super::lfs;
use super::limits::SlugLimits;
use super::links::{LeadsOut, Symlinks, leads_out};
use super::messages::{failed, over_limit, shown};
use super::slugignore::SlugIgnore;
use super::special_files::{is_special, left_out};
use super::times::{Clock, Times};
use super::uninstalled::uninstalled;
use super::walk::{TreeEntry, open_root, walk};
use crate::error::UserError;
use crate::kernel::beneath::{self, Links};

/// The time of directories and symlinks, 1985-10-26 08:15 UTC, as npm gives it to its packages.
const FIXED_TIME: u64 = 499_162_500;

/// How many special files are told of by name.
const MOST_SKIPPED: usize = 20;

/// The end of a tarball.
pub(super) const END: [u8; 1024] = [0; 1024];

/// A packed slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The SHA-256 of the tarball.
    pub id: SlugId,
    /// Files, directories and symlinks in it.
    pub entries: u64,
    /// Bytes of the files in it.
    pub content_bytes: u64,
    /// Bytes of the tarball.
    pub packed_bytes: u64,
    /// Warnings about files that were left out without being ignored, one line each.
    pub warnings: Vec<String>,
    /// Symlinks that lead out of the directory.
    pub leads_out: Vec<LeadsOut>,
    /// Warnings about dependencies that it names and does not hold, one line each.
    pub uninstalled: Vec<String>,
}

/// How far packing has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackProgress {
    /// Bytes of file contents that were read.
    pub done: u64,
    /// Bytes of file contents altogether.
    pub total: u64,
}

/// Packs the directory `dir` into `out`, gzipped at `level` (0 to 9); its files have their own times.
///
/// # Errors
/// As [`pack_dated`].
pub fn pack(
    dir: &Path,
    out: impl Write + Send,
    level: u32,
    limits: &SlugLimits,
    progress: &mut dyn FnMut(PackProgress),
) -> anyhow::Result<Packed> {
    pack_dated(dir, &Times::default(), out, level, limits, progress)
}

/// Packs the directory `dir` into `out`, gzipped at `level` (0 to 9); `times` says which its files have.
///
/// `progress` is called on this thread, after every file and every MiB of a larger one.
///
/// # Errors
/// A file cannot be read or written, changes while it is packed, or passes one of the `limits`. What was written until
/// then is no slug.
pub fn pack_dated(
    dir: &Path,
    times: &Times<'_>,
    out: impl Write + Send,
    level: u32,
    limits: &SlugLimits,
    progress: &mut dyn FnMut(PackProgress),
) -> anyhow::Result<Packed> {
    let nothing_more = |_: &[u8]| false;
    pack_without(dir, &nothing_more, times, out, level, limits, progress)
}

/// What a build makes anew, so that its source need not have it.
#[derive(Debug, Clone, Copy, Default)]
pub struct MadeAnew {
    /// These folders, by their paths below the source.
    pub folders: &'static [&'static str],
    /// Folders at the top that are virtual environments of Python, whatever their names.
    pub environments: bool,
}

/// Packs the directory `dir` as the source of a build: as [`pack`], without what the build makes anew.
///
/// # Errors
/// As [`pack_dated`].
pub fn pack_source(
    dir: &Path,
    made: MadeAnew,
    out: impl Write + Send,
    level: u32,
    limits: &SlugLimits,
    progress: &mut dyn FnMut(PackProgress),
) -> anyhow::Result<Packed> {
    let is_made = |path: &[u8]| {
        made.folders.iter().any(|it| it.as_bytes() == path)
            || made.environments && !path.contains(&b'/') && is_environment(dir, path)
    };
    pack_without(
        dir,
        &is_made,
        &Times::default(),
        out,
        level,
        limits,
        progress,
    )
}

/// Packs a directory without what its `.slugignore` names and without the folders that are `unwanted`.
fn pack_without(
    dir: &Path,
    unwanted: &dyn Fn(&[u8]) -> bool,
    times: &Times<'_>,
    out: impl Write + Send,
    level: u32,
    limits: &SlugLimits,
    progress: &mut dyn FnMut(PackProgress),
) -> anyhow::Result<Packed> {
    let root = open_root(dir)?;
    let ignore = SlugIgnore::read(root.as_fd())?;
    let skips = |path: &[u8], is_directory| {
        ignore.ignores(path, is_directory) || is_directory && unwanted(path)
    };
    let listed = list(root.as_fd(), skips, limits)?;
    let root = root.as_fd();
    let form = Form::whole(level);
    let mut packed = pack_listed(dir, root, listed, times, out, form, limits, progress)?;
    packed.warnings.splice(..0, ignore.warnings);
    Ok(packed)
}

/// Whether a folder is a virtual environment of Python, whose paths are good for no other place.
fn is_environment(dir: &Path, path: &[u8]) -> bool {
    let file = dir.join(OsStr::from_bytes(path)).join("pyvenv.cfg");
    file.symlink_metadata().is_ok_and(|file| file.is_file())
}

/// As [`pack_dated`], but all of the tree: what its `.slugignore` names has been taken out already, and what is there now is meant.
///
/// # Errors
/// As [`pack_dated`].
pub(super) fn pack_whole(
    dir: &Path,
    times: &Times<'_>,
    out: impl Write + Send,
    form: Form,
    limits: &SlugLimits,
) -> anyhow::Result<Packed> {
    let root = open_root(dir)?;
    let listed = list(root.as_fd(), |path, _| path == b".git", limits)?;
    let root = root.as_fd();
    pack_listed(dir, root, listed, times, out, form, limits, &mut |_| {})
}

/// Packs all of a slug's tree again, with other times for its files; None if they have the `times` already.
///
/// # Errors
/// As [`pack_dated`].
pub(super) fn pack_again(
    tree: &Path,
    times: &Times<'_>,
    out: impl Write + Send,
    level: u32,
    limits: &SlugLimits,
) -> anyhow::Result<Option<Packed>> {
    let root = open_root(tree)?;
    let listed = list(root.as_fd(), |_, _| false, limits)?;
    let (entries, _) = &listed;
    let links = links(root.as_fd(), entries, limits)?;
    let clock = Clock::new(times, root.as_fd(), entries, &links);
    let is_dated = |entry: &TreeEntry| u64::try_from(entry.stat.st_mtime) == Ok(clock.of(entry));
    if entries.iter().filter(|it| it.is_file()).all(is_dated) {
        return Ok(None);
    }
    pack_listed(
        tree,
        root.as_fd(),
        listed,
        times,
        out,
        Form::whole(level),
        limits,
        &mut |_| {},
    )
    .map(Some)
}

/// What is written of what was listed.
#[derive(Debug, Default)]
pub(super) struct Form {
    /// Effort of gzip.
    pub(super) level: u32,
    /// What the file has already.
    pub(super) before: Before,
    /// Whether it is the beginning of a slug's tarball only.
    pub(super) is_layer: bool,
}

impl Form {
    fn whole(level: u32) -> Self {
        Self {
            level,
            ..Self::default()
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "those of `pack_dated`, and what it found"
)]
fn pack_listed(
    dir: &Path,
    root: BorrowedFd<'_>,
    (entries, warnings): (Vec<TreeEntry>, Vec<String>),
    times: &Times<'_>,
    out: impl Write + Send,
    form: Form,
    limits: &SlugLimits,
    progress: &mut dyn FnMut(PackProgress),
) -> anyhow::Result<Packed> {
    if form.level > 9 {
        let level = form.level;
        return Err(UserError::new(format!("bad gzip level `{level}`: it is 0 to 9")).into());
    }
    let links = links(root, &entries, limits)?;
    let total = entries
        .iter()
        .filter(|e| e.is_file())
        .map(|e| e.stat.st_size as u64)
        .sum();
    let mut packer = Packer {
        root,
        clock: Clock::new(times, root, &entries, &links),
        links: &links,
        limits,
        progress,
        at: PackProgress { done: 0, total },
        place: dir.canonicalize().unwrap_or_else(|_| dir.to_owned()),
        leads_out: Vec::new(),
    };
    let ((), gzipped) = gzip(out, form.level, form.before, |blocks| {
        if !form.is_layer {
            // The root's mode is not kept: it depends on how the directory was made.
            append_header(blocks, EntryType::Directory, b"./app/", b"", 0o755, 0)?;
        }
        for entry in &entries {
            packer.append(blocks, entry)?;
            limits.check_bytes(blocks.bytes() + END.len() as u64)?;
        }
        match form.is_layer {
            true => Ok(()),
            false => Ok(blocks.write(&END)?),
        }
    })?;
    Ok(Packed {
        id: gzipped.id,
        entries: entries.len() as u64,
        content_bytes: total,
        packed_bytes: gzipped.bytes,
        warnings,
        leads_out: packer.leads_out,
        uninstalled: uninstalled(dir, entries.iter().map(|entry| &*entry.path))
            .into_iter()
            .chain(lfs::pointers(root, &entries))
            .collect(),
    })
}

/// The entries to pack, in order, and a warning for each entry that a slug cannot hold.
fn list(
    root: BorrowedFd<'_>,
    skips: impl Fn(&[u8], bool) -> bool,
    limits: &SlugLimits,
) -> anyhow::Result<(Vec<TreeEntry>, Vec<String>)> {
    let (mut entries, mut skipped, mut more) = (Vec::new(), Vec::new(), 0);
    walk(root, skips, limits, |entry| {
        if is_special(&entry) {
            match skipped.len() < MOST_SKIPPED {
                true => skipped.push(left_out(&entry)),
                false => more += 1,
            }
        } else {
            entries.push(entry);
        }
        // One more for `./app/` itself.
        limits.check_entries((entries.len() + skipped.len()) as u64 + more + 1)?;
        Ok(ControlFlow::Continue(()))
    })?;
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    skipped.sort_unstable();
    if more > 0 {
        skipped.push(format!("{more} more of this kind are left out"));
    }
    Ok((entries, skipped))
}

/// The symlinks among the `entries`.
fn links(
    root: BorrowedFd<'_>,
    entries: &[TreeEntry],
    limits: &SlugLimits,
) -> anyhow::Result<Symlinks> {
    let links = entries
        .iter()
        .filter(|it| it.file_type() == FileType::Symlink);
    links
        .map(|entry| {
            let target = readlinkat(root, entry.path.as_slice(), Vec::new());
            let unreadable = format_args!("read the symlink `{}`", shown(&entry.path));
            let target = target.map_err(|error| failed(unreadable, error))?;
            if target.to_bytes().len() > limits.path_bytes {
                let what = format!(
                    "the target of `{}` has {} bytes",
                    shown(&entry.path),
                    target.to_bytes().len()
                );
                return Err(over_limit(what, limits.path_bytes as u64));
            }
            Ok((entry.path.clone(), target.into_bytes()))
        })
        .collect()
}

struct Packer<'a> {
    root: BorrowedFd<'a>,
    clock: Clock<'a>,
    links: &'a Symlinks,
    limits: &'a SlugLimits,
    progress: &'a mut dyn FnMut(PackProgress),
    at: PackProgress,
    /// The root's path.
    place: PathBuf,
    leads_out: Vec<LeadsOut>,
}

impl Packer<'_> {
    fn append(&mut self, blocks: &mut Blocks, entry: &TreeEntry) -> anyhow::Result<()> {
        let mode = entry.stat.st_mode & 0o777;
        let mut name = [b"./app/", entry.path.as_slice()].concat();
        match entry.file_type() {
            FileType::Directory => {
                name.push(b'/');
                append_header(blocks, EntryType::Directory, &name, b"", mode, 0)?;
            }
            FileType::Symlink => {
                let target = self.links.target(&entry.path).unwrap_or_default();
                append_header(blocks, EntryType::Symlink, &name, target, 0o777, 0)?;
                let out = leads_out(&self.place, self.links, &entry.path);
                self.leads_out.extend(out);
            }
            _ => {
                let size = entry.stat.st_size as u64;
                // Checked before the contents are read: it may be a file of a terabyte.
                self.limits.check_bytes(blocks.bytes() + size)?;
                let mut header = header(EntryType::Regular, mode, size);
                header.set_mtime(self.clock.of(entry));
                append(blocks, header, &name, b"")?;
                self.append_contents(blocks, entry, size)?;
                pad(blocks, size)?;
            }
        }
        Ok(())
    }

    fn append_contents(
        &mut self,
        blocks: &mut Blocks,
        entry: &TreeEntry,
        size: u64,
    ) -> anyhow::Result<()> {
        let unreadable =
            |error: std::io::Error| failed(format_args!("read `{}`", shown(&entry.path)), error);
        // If another kind of file has taken its place, a symlink is refused and a FIFO is not waited for.
        // A folder that has become one is not gone through either.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let path = OsStr::from_bytes(&entry.path);
        let file = beneath::open(self.root, path, flags, Links::Refused).map_err(unreadable)?;
        let mut taken = 0;
        loop {
            let (count, was_short) = blocks.read_from(&file).map_err(unreadable)?;
            taken += count as u64;
            if taken > size || (count == 0 && taken < size) {
                return Err(UserError::new(format!(
                    "`{}` changed while it was packed",
                    shown(&entry.path)
                ))
                .hint("deploy again when nothing writes to it, or list it in .slugignore")
                .into());
            }
            self.at.done += count as u64;
            (self.progress)(self.at);
            // A short read at the expected end is the end; no need to ask once more.
            if was_short && taken == size {
                return Ok(());
            }
        }
    }
}

/// Writes the header of a member that is no file, preceded by its name and target if they do not fit into it.
fn append_header(
    blocks: &mut Blocks,
    kind: EntryType,
    name: &[u8],
    target: &[u8],
    mode: u32,
    size: u64,
) -> std::io::Result<()> {
    append(blocks, header(kind, mode, size), name, target)
}

/// A header without a name.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(FIXED_TIME);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append(
    blocks: &mut Blocks,
    mut header: Header,
    name: &[u8],
    target: &[u8],
) -> std::io::Result<()> {
    let fields = header.as_old_mut();
    if !fit(&mut fields.name, name) {
        append_long(blocks, EntryType::GNULongName, name)?;
    }
    if !fit(&mut fields.linkname, target) {
        append_long(blocks, EntryType::GNULongLink, target)?;
    }
    header.set_cksum();
    blocks.write(header.as_bytes())
}

/// Writes a GNU extension member with a name or target that is too long for the next member's header.
fn append_long(blocks: &mut Blocks, kind: EntryType, text: &[u8]) -> std::io::Result<()> {
    let size = text.len() as u64 + 1;
    append_header(blocks, kind, b"././@LongLink", b"", 0, size)?;
    blocks.write(text)?;
    blocks.write(b"\0")?;
    pad(blocks, size)
}

/// Copies as much of `text` as fits; false if it does not fit whole.
fn fit(field: &mut [u8], text: &[u8]) -> bool {
    let count = text.len().min(field.len());
    field[..count].copy_from_slice(&text[..count]);
    count == text.len()
}

/// Pads a member's contents to whole records of 512 bytes.
fn pad(blocks: &mut Blocks, size: u64) -> std::io::Result<()> {
    blocks.write(&[0; 511][..(size.next_multiple_of(512) - size) as usize])
}
