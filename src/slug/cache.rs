//! The slugs a server keeps: tarballs, and the trees unpacked from them.
//!
//! `<sha256>.tgz` is a tarball as it came, `<sha256>/` its tree. Both are made under a temporary name in that directory
//! and renamed when complete, so what has a final name is complete. A process that works on a slug holds a lock on its
//! tarball, one that works on a temporary name a lock on that; the kernel releases the locks of ended processes, by
//! which [`SlugCache::sweep`] finds what was left over. A tarball's mtime is the time when its tree was last used (the
//! tree's own times belong to the app). A tree with a [`Lease`] is not evicted. Called by the server.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::gzip::Before;
use super::id::SlugId;
use super::layer::Layer;
use super::limits::SlugLimits;
use super::messages::{failed, over_limit};
use super::tree::TreeOwner;
use super::{Form, Packed, ReleaseBefore, Times, pack_again, pack_whole, unpack};
use crate::error::UserError;
use crate::kernel::fail_point;
use crate::kernel::temporary::{self, HeldFolder};
use crate::kernel::tree::remove_tree;

/// How exactly the time of a tree's last use is noted.
const USE_NOTED: Duration = Duration::from_secs(60);

/// The name of a tree inside its temporary directory.
const TREE: &str = "tree";

/// A directory of slugs.
#[derive(Debug)]
pub struct SlugCache {
    dir: PathBuf,
    owner: Option<TreeOwner>,
    limits: SlugLimits,
    /// Bytes on disk of the trees that were measured already. Trees do not change.
    tree_bytes: Mutex<HashMap<SlugId, u64>>,
    leases: Leases,
}

/// The number of leases of each slug.
type Leases = Arc<Mutex<HashMap<SlugId, usize>>>;

/// A lease on a slug: as long as it is held, its tree is not evicted.
#[derive(Debug)]
pub struct Lease {
    id: SlugId,
    tree: PathBuf,
    leases: Leases,
}

impl Lease {
    /// The path of the tree.
    pub fn tree(&self) -> &Path {
        &self.tree
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        *locked(&self.leases).entry(self.id).or_insert(0) += 1;
        Self {
            id: self.id,
            tree: self.tree.clone(),
            leases: Arc::clone(&self.leases),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = locked(&self.leases);
        let left = leases.get_mut(&self.id).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            leases.remove(&self.id);
        }
    }
}

/// A tarball that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its digest.
    pub id: SlugId,
    /// Its size in bytes.
    pub bytes: u64,
}

impl SlugCache {
    /// The slugs in `dir`, which is made, for this user only, if it does not exist. Trees will
    /// belong to `owner` and keep to the `limits`.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(
        dir: impl Into<PathBuf>,
        owner: Option<TreeOwner>,
        limits: SlugLimits,
    ) -> anyhow::Result<Self> {
        let dir = dir.into();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|error| {
                failed(
                    format_args!("make the directory `{}`", dir.display()),
                    error,
                )
            })?;
        Ok(Self {
            dir,
            owner,
            limits,
            tree_bytes: Mutex::default(),
            leases: Leases::default(),
        })
    }

    /// The bounds on slugs.
    pub fn limits(&self) -> &SlugLimits {
        &self.limits
    }

    /// To whom trees belong.
    pub(super) fn owner(&self) -> Option<TreeOwner> {
        self.owner
    }

    /// The path of the tarball of `id`, whether it exists or not.
    pub fn tarball(&self, id: &SlugId) -> PathBuf {
        self.dir.join(format!("{id}.tgz"))
    }

    fn tree(&self, id: &SlugId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    /// Stores a tarball of at most `max_bytes`. It is durable when this returns, but not checked:
    /// [`ensure_tree`](Self::ensure_tree) finds out whether it is a slug. It is not [removed](Self::remove_all_but)
    /// before the lease is dropped, so that the caller can store that it is wanted.
    ///
    /// # Errors
    /// It cannot be read or stored, is larger, or its digest is not the `expected` one.
    pub fn receive(
        &self,
        mut tarball: impl Read,
        expected: Option<&SlugId>,
        max_bytes: u64,
    ) -> anyhow::Result<(Received, Lease)> {
        let unstored = |error| {
            failed(
                format_args!("store the slug in `{}`", self.dir.display()),
                error,
            )
        };
        let mut file = temporary::file_in(&self.dir).map_err(unstored)?;
        let (mut hasher, mut bytes) = (Sha256::new(), 0);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = match tarball.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed("receive the slug", error)),
            };
            bytes += count as u64;
            if bytes > max_bytes {
                return Err(over_limit("too many bytes in the tarball", max_bytes));
            }
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(unstored)?;
        }
        let id = SlugId::of(hasher);
        if let Some(expected) = expected.filter(|expected| **expected != id) {
            return Err(UserError::new(format!(
                "checksum mismatch: the tarball is `{id}`, expected was `{expected}`"
            ))
            .hint("it was damaged on its way, or the checksum is of another file; try again")
            .into());
        }
        let lease = self.keep(file, &id).map_err(unstored)?;
        Ok((Received { id, bytes }, lease))
    }

    /// Packs the directory `dir` into a tarball of at most `max_bytes`, gzipped at `level`, and stores it, as long as
    /// `go_on` returns true; `times` gives the times of its files. With a `layer`, it begins with that. It is durable when this returns,
    /// and leased like one that was [received](Self::receive).
    ///
    /// # Errors
    /// As [`pack`] and [`receive`](Self::receive); nothing is left then.
    pub fn pack_over(
        &self,
        dir: &Path,
        layer: Option<&Layer>,
        times: &Times<'_>,
        (level, max_bytes): (u32, u64),
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> anyhow::Result<(Packed, Lease)> {
        let unstored = |error| {
            failed(
                format_args!("store the slug in `{}`", self.dir.display()),
                error,
            )
        };
        let file = temporary::file_in(&self.dir).map_err(unstored)?;
        let mut bounded = Bounded::new(file.as_file(), max_bytes, go_on);
        let (before, limits) = match layer {
            Some(layer) => {
                let copied = layer.copy_part(&mut bounded).map_err(unstored);
                (
                    bounded.checked(copied, max_bytes)?,
                    layer.left_of(&self.limits)?,
                )
            }
            None => (Before::default(), self.limits.clone()),
        };
        let form = Form {
            level,
            before,
            is_layer: false,
        };
        let packed = pack_whole(dir, times, &mut bounded, form, &limits);
        let packed = bounded.checked(packed, max_bytes)?;
        let lease = self.keep(file, &packed.id).map_err(unstored)?;
        Ok((packed, lease))
    }

    /// A slug like `id` whose files have the times that they must have in a release after `before` (see [`Times`]), packed
    /// at `level` and unpacked. None if those of `id` have them.
    ///
    /// # Errors
    /// Its tree is not there, or cannot be packed or unpacked.
    pub fn dated_after(
        &self,
        id: &SlugId,
        before: ReleaseBefore<'_>,
        level: u32,
    ) -> anyhow::Result<Option<(Packed, Lease)>> {
        let unstored = |error| {
            failed(
                format_args!("store the slug in `{}`", self.dir.display()),
                error,
            )
        };
        let times = Times {
            before: Some(before),
            ..Times::default()
        };
        let file = temporary::file_in(&self.dir).map_err(unstored)?;
        let lease = self.ensure_tree(id)?;
        let packed = pack_again(lease.tree(), &times, file.as_file(), level, &self.limits)?;
        let Some(packed) = packed else {
            return Ok(None);
        };
        let _kept = self.keep(file, &packed.id).map_err(unstored)?;
        let lease = self.ensure_tree(&packed.id)?;
        Ok(Some((packed, lease)))
    }

    /// Gives a complete tarball its final name. It is not removed before the lease is dropped.
    fn keep(&self, file: NamedTempFile, id: &SlugId) -> io::Result<Lease> {
        fail_point::attempt("slug.written")?;
        file.as_file().sync_all()?;
        fail_point::attempt("slug.synced")?;
        let lease = self.lease(id);
        self.put_in_place(file, id)?;
        self.sync_dir()?;
        fail_point::reach("slug.renamed");
        Ok(lease)
    }

    /// Gives a tarball its name, in place of an earlier one, which may be damaged; waits for a process that holds the
    /// lock of the earlier one.
    fn put_in_place(&self, mut file: NamedTempFile, id: &SlugId) -> std::io::Result<()> {
        let path = self.tarball(id);
        loop {
            if let Some(_lock) = self.lock_tarball(id)? {
                return file.persist(path).map(drop).map_err(|error| error.error);
            }
            match file.persist_noclobber(&path) {
                Ok(_) => return Ok(()),
                // Another process was faster.
                Err(error) if error.error.kind() == ErrorKind::AlreadyExists => file = error.file,
                Err(error) => return Err(error.error),
            }
        }
    }

    /// The tree of a slug, unpacked now if it is not there. If several callers, in any process, do so at once, one
    /// unpacks and the others wait.
    ///
    /// # Errors
    /// There is no such slug, or unpacking fails.
    pub fn ensure_tree(&self, id: &SlugId) -> anyhow::Result<Lease> {
        self.ensure_tree_by(id, |tarball, to| {
            unpack(tarball, to, self.owner, &self.limits).map(drop)
        })
    }

    /// As [`ensure_tree`](Self::ensure_tree), by this way of unpacking, which is given the tarball and where the tree is to be.
    pub(super) fn ensure_tree_by(
        &self,
        id: &SlugId,
        unpack: impl FnOnce(&File, &Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Lease> {
        // Taken before the tree exists, so that it cannot be evicted before it is used.
        let lease = self.lease(id);
        let tree = self.tree(id);
        let tarball = self.lock_slug(id)?;
        let unusable = |error| {
            failed(
                format_args!("unpack the slug into `{}`", tree.display()),
                error,
            )
        };
        if !self.is_usable(&tree) {
            self.remove_tree(id)?;
            let aside = HeldFolder::new_in(&self.dir).map_err(unusable)?;
            let unpacked = aside.path().join(TREE);
            unpack(&tarball, &unpacked)?;
            fail_point::attempt("slug.tree_made").map_err(unusable)?;
            fs::rename(&unpacked, &tree).map_err(unusable)?;
            self.sync_dir().map_err(unusable)?;
            fail_point::reach("slug.tree_renamed");
        }
        tarball.set_modified(SystemTime::now()).map_err(unusable)?;
        Ok(lease)
    }

    /// A lease on the tree of a slug, whether it exists or not.
    pub fn lease(&self, id: &SlugId) -> Lease {
        *locked(&self.leases).entry(*id).or_insert(0) += 1;
        Lease {
            id: *id,
            tree: self.tree(id),
            leases: Arc::clone(&self.leases),
        }
    }

    /// A lease on the tree of a slug if it exists, which counts as a use.
    pub fn tree_in_use(&self, id: &SlugId) -> Option<Lease> {
        let lease = self.lease(id);
        let tarball = File::open(self.tarball(id)).ok()?;
        self.is_usable(lease.tree()).then(|| {
            // Not at every use: a change of metadata may wait for the disk, while a dyno waits for its tree.
            let noted = tarball.metadata().and_then(|metadata| metadata.modified());
            let stale = noted.map_or(true, |noted| {
                noted.elapsed().is_ok_and(|age| age > USE_NOTED)
            });
            if stale {
                // If the time cannot be set, the tree may only be evicted earlier.
                let _ = tarball.set_modified(SystemTime::now());
            }
            lease
        })
    }

    /// Whether a tree exists and has the owner that this server gives its trees: a server on another kernel may have
    /// given it to another owner.
    fn is_usable(&self, tree: &Path) -> bool {
        let own = rustix::process::geteuid().as_raw();
        let uid = self.owner.map_or(own, |owner| owner.uid);
        fs::metadata(tree).is_ok_and(|tree| tree.uid() == uid)
    }

    /// Removes every slug whose digest is not in `kept`, which was read at the time `as_of`. Slugs that came or were
    /// used since then, and leased ones, stay.
    ///
    /// # Errors
    /// One of them cannot be removed.
    pub fn remove_all_but(&self, kept: &BTreeSet<String>, as_of: SystemTime) -> anyhow::Result<()> {
        for name in self.names()? {
            let digest = name.strip_suffix(".tgz").unwrap_or(&name);
            let Ok(id) = digest.parse() else {
                continue;
            };
            let used = fs::metadata(self.tarball(&id)).and_then(|tarball| tarball.modified());
            if !kept.contains(digest) && !used.is_ok_and(|used| used > as_of) {
                self.remove_if(&id, || !locked(&self.leases).contains_key(&id))?;
            }
        }
        Ok(())
    }

    /// Removes trees, the least recently used first, until all together take at most `max_bytes` on
    /// disk; never a leased one, and no tarball. Returns the slugs whose trees were removed.
    ///
    /// # Errors
    /// A tree cannot be measured or removed.
    pub fn evict(&self, max_bytes: u64) -> anyhow::Result<Vec<SlugId>> {
        let mut trees = Vec::new();
        for name in self.names()? {
            if let Ok(id) = name.parse::<SlugId>() {
                let used = fs::metadata(self.tarball(&id)).and_then(|tarball| tarball.modified());
                // Without a tarball it cannot be used any more.
                trees.push((
                    used.unwrap_or(SystemTime::UNIX_EPOCH),
                    id,
                    self.tree_bytes(&id)?,
                ));
            }
        }
        trees.sort_unstable();
        let mut total: u64 = trees.iter().map(|(_, _, bytes)| bytes).sum();
        let mut evicted = Vec::new();
        for (_, id, bytes) in trees {
            if total <= max_bytes {
                break;
            }
            let aside = {
                // No lease can be taken between this check and the renaming of the tree.
                let leases = locked(&self.leases);
                match leases.contains_key(&id) {
                    true => None,
                    false => self.set_aside(&id)?,
                }
            };
            if let Some(aside) = aside {
                self.remove_aside(&id, &aside)?;
                total -= bytes;
                evicted.push(id);
            }
        }
        Ok(evicted)
    }

    /// Removes a slug's tarball and tree. Fine if there is none.
    ///
    /// # Errors
    /// One of them cannot be removed.
    pub fn remove(&self, id: &SlugId) -> anyhow::Result<()> {
        self.remove_if(id, || true)
    }

    fn remove_if(&self, id: &SlugId, unwanted: impl Fn() -> bool) -> anyhow::Result<()> {
        if !unwanted() {
            return Ok(());
        }
        let tarball = self.tarball(id);
        // Both are removed while the tarball is locked, the tarball last: so it is not unpacked again, and a tarball
        // that comes under this name later finds no old tree.
        let unremoved = |error| failed(format_args!("remove `{}`", tarball.display()), error);
        let Some(_lock) = self.lock_what_is_there(id).map_err(unremoved)? else {
            return Ok(());
        };
        // A process that wants the slug since then will put its tarball in place, for which it takes this lock.
        if !unwanted() {
            return Ok(());
        }
        self.remove_tree(id)?;
        remove_tree(&tarball).map_err(unremoved)
    }

    /// Locks a slug that is to be removed. For a tree without a tarball, makes an empty file to lock. None if there is neither.
    fn lock_what_is_there(&self, id: &SlugId) -> std::io::Result<Option<File>> {
        loop {
            if let Some(tarball) = self.lock_tarball(id)? {
                return Ok(Some(tarball));
            }
            if !fs::exists(self.tree(id))? {
                return Ok(None);
            }
            let empty = temporary::file_in(&self.dir)?;
            match empty.persist_noclobber(self.tarball(id)) {
                Ok(file) => return Ok(Some(file)),
                Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.error),
            }
        }
    }

    /// Removes what killed processes left incomplete, and returns how many pieces. For the start of a server only: a
    /// piece that is just being made could be removed.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn sweep(&self) -> anyhow::Result<usize> {
        let mut swept = 0;
        for name in self.names()? {
            let path = self.dir.join(&name);
            if name.starts_with(temporary::PREFIX) && temporary::is_left_over(&path) {
                remove_tree(&path)
                    .map_err(|error| failed(format_args!("remove `{}`", path.display()), error))?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    fn remove_tree(&self, id: &SlugId) -> anyhow::Result<()> {
        match self.set_aside(id)? {
            Some(aside) => self.remove_aside(id, &aside),
            None => Ok(()),
        }
    }

    /// Renames a tree before it is removed, since a tree with its final name must be complete. None if there is none.
    fn set_aside(&self, id: &SlugId) -> anyhow::Result<Option<HeldFolder>> {
        locked(&self.tree_bytes).remove(id);
        let tree = self.tree(id);
        let unremoved = |error| failed(format_args!("remove `{}`", tree.display()), error);
        if !fs::exists(&tree).map_err(unremoved)? {
            return Ok(None);
        }
        let aside = HeldFolder::new_in(&self.dir).map_err(unremoved)?;
        match fs::rename(&tree, aside.path().join(TREE)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            renamed => renamed.map(|()| Some(aside)).map_err(unremoved),
        }
    }

    fn remove_aside(&self, id: &SlugId, aside: &HeldFolder) -> anyhow::Result<()> {
        let unremoved = |error| failed(format_args!("remove `{}`", self.tree(id).display()), error);
        remove_tree(aside.path()).map_err(unremoved)
    }

    fn tree_bytes(&self, id: &SlugId) -> anyhow::Result<u64> {
        if let Some(&bytes) = locked(&self.tree_bytes).get(id) {
            return Ok(bytes);
        }
        let tree = self.tree(id);
        let bytes = disk_bytes(&tree)
            .map_err(|error| failed(format_args!("measure `{}`", tree.display()), error))?;
        locked(&self.tree_bytes).insert(*id, bytes);
        Ok(bytes)
    }

    /// Opens and locks a slug's tarball.
    fn lock_slug(&self, id: &SlugId) -> anyhow::Result<File> {
        let path = self.tarball(id);
        let locked = self
            .lock_tarball(id)
            .map_err(|error| failed(format_args!("open `{}`", path.display()), error))?;
        let missing = || UserError::new(format!("no slug `{id}`")).hint("deploy the app again");
        Ok(locked.ok_or_else(missing)?)
    }

    /// Opens and locks a slug's tarball; None if there is none.
    fn lock_tarball(&self, id: &SlugId) -> std::io::Result<Option<File>> {
        let path = self.tarball(id);
        loop {
            let tarball = match File::open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            temporary::lock(&tarball)?;
            // During the wait it may have been removed, or replaced by a new one.
            let is_current = |now: fs::Metadata| {
                tarball
                    .metadata()
                    .is_ok_and(|ours| (ours.dev(), ours.ino()) == (now.dev(), now.ino()))
            };
            if fs::metadata(&path).is_ok_and(is_current) {
                return Ok(Some(tarball));
            }
        }
    }

    fn names(&self) -> anyhow::Result<Vec<String>> {
        let unreadable = |error| {
            failed(
                format_args!("read the directory `{}`", self.dir.display()),
                error,
            )
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(unreadable)? {
            // The cache's own names are UTF-8.
            names.extend(entry.map_err(unreadable)?.file_name().into_string());
        }
        Ok(names)
    }

    fn sync_dir(&self) -> std::io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

/// A writer that fails after a number of bytes, or once the slug is not wanted any more.
pub(super) struct Bounded<'a> {
    file: &'a File,
    left: u64,
    go_on: &'a (dyn Fn() -> bool + Sync),
    over: bool,
}

impl<'a> Bounded<'a> {
    pub(super) fn new(file: &'a File, most: u64, go_on: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self {
            file,
            left: most,
            go_on,
            over: false,
        }
    }

    /// What came of writing, or that it was more than `most`.
    pub(super) fn checked<T>(&self, written: anyhow::Result<T>, most: u64) -> anyhow::Result<T> {
        match self.over {
            true => Err(over_limit("too many bytes in the tarball", most)),
            false => written,
        }
    }
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !(self.go_on)() {
            return Err(io::Error::new(
                ErrorKind::TimedOut,
                "it is not wanted any more",
            ));
        }
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            self.over = true;
            return Err(ErrorKind::FileTooLarge.into());
        };
        self.left = left;
        self.file.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes that a tree takes on disk; hard links count once for each name.
fn disk_bytes(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(bytes)
}
