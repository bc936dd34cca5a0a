//! Layers: what a slug depends on and shares with the slugs before and after it, packed and unpacked once.
//!
//! A slug's tarball is whole, whoever made it: one gzip stream after the other make one tarball, and the layer's comes first. So a build
//! copies that part instead of packing it, and gives the files of the layer's tree other names in the slug's tree instead of unpacking
//! them. Nobody else need know of it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{FileType, readlinkat};
use sha2::Digest as _;

use super::Times;
use super::cache::{Bounded, Lease, SlugCache};
use super::gzip::Before;
use super::limits::SlugLimits;
use super::messages::{failed, over_limit};
use super::pack::{END, Form, pack_whole};
use super::tree::Tree;
use super::unpack::{unpack, unpack_and};
use super::walk::{open_root, walk};
use crate::error::UserError;

/// The names of what is in a layer's folder: the beginning of tarballs, the tree, how much there is of both, and the key.
const PART: &str = "part.gz";
const TREE: &str = "tree";
const MEASURE: &str = "measure";
const KEY: &str = "key";

/// The most bytes of a key.
const LONGEST_KEY: u64 = 200;

/// How many folders a layer has at most.
const MOST_FOLDERS: usize = 8;

/// A layer, in a folder of its own.
#[derive(Debug, Clone)]
pub struct Layer {
    folder: PathBuf,
    /// The beginning of tarballs, in bytes.
    part_bytes: u64,
    /// Members, and bytes of the tar stream.
    entries: u64,
    unpacked_bytes: u64,
}

/// What a layer is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MakeLayer {
    /// Whatever tells it from others.
    pub key: String,
    /// Folders of the source, which are taken out of it.
    pub folders: Vec<PathBuf>,
}

impl MakeLayer {
    /// What was written of it: the key, then a line for each folder. None if that is no layer.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let key = lines
            .next()
            .filter(|key| !key.is_empty() && key.len() as u64 <= LONGEST_KEY)?;
        let folders: Vec<_> = lines.map(PathBuf::from).collect();
        let is_below = |folder: &PathBuf| {
            let mut parts = folder.components();
            parts.clone().next().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
        };
        let fits = (1..=MOST_FOLDERS).contains(&folders.len()) && folders.iter().all(is_below);
        fits.then(|| Self {
            key: key.to_owned(),
            folders,
        })
    }
}

impl Layer {
    /// The layer in this folder, if there is one.
    pub fn at(folder: &Path) -> Option<Self> {
        let measure = fs::read_to_string(folder.join(MEASURE)).ok()?;
        let mut numbers = measure.split(' ').map(|number| number.parse::<u64>().ok());
        Some(Self {
            folder: folder.to_owned(),
            part_bytes: numbers.next()??,
            entries: numbers.next()??,
            unpacked_bytes: numbers.next()??,
        })
    }

    /// Its key.
    pub fn key(&self) -> String {
        let read = || -> io::Result<String> {
            let mut key = String::new();
            let file = File::open(self.folder.join(KEY))?;
            file.take(LONGEST_KEY).read_to_string(&mut key)?;
            Ok(key)
        };
        read().unwrap_or_default()
    }

    /// Its tree: that of a slug which has nothing else.
    pub fn tree(&self) -> PathBuf {
        self.folder.join(TREE)
    }

    fn part(&self) -> io::Result<File> {
        File::open(self.folder.join(PART))
    }

    /// Begins a tarball with its part.
    pub(super) fn copy_part(&self, out: &mut impl Write) -> io::Result<Before> {
        let (mut part, mut before) = (self.part()?, Before::default());
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = part.read(&mut buffer)?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            before.hasher.update(bytes);
            before.bytes += bytes.len() as u64;
            out.write_all(bytes)?;
        }
        match before.bytes == self.part_bytes {
            true => Ok(before),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// What the rest of a slug may have.
    pub(super) fn left_of(&self, limits: &SlugLimits) -> anyhow::Result<SlugLimits> {
        let entries = limits.entries.checked_sub(self.entries);
        let bytes = limits.unpacked_bytes.checked_sub(self.unpacked_bytes);
        match (entries, bytes) {
            (Some(entries), Some(unpacked_bytes)) => Ok(SlugLimits {
                entries,
                unpacked_bytes,
                ..limits.clone()
            }),
            _ => Err(over_limit("too much in the slug", limits.unpacked_bytes)),
        }
    }

    /// Gives the files of its tree other names in `tree`, with the same folders and symlinks.
    fn add_to(&self, tree: &mut Tree) -> anyhow::Result<()> {
        let root = open_root(&self.tree())?;
        walk(
            root.as_fd(),
            |_, _| false,
            &SlugLimits::default(),
            |entry| {
                let path: Vec<&[u8]> = entry.path.split(|&byte| byte == b'/').collect();
                match entry.file_type() {
                    FileType::Directory => tree.directory(&path, entry.stat.st_mode)?,
                    FileType::Symlink => {
                        let target = readlinkat(&root, entry.path.as_slice(), Vec::new())?;
                        tree.symlink(&path, target.to_bytes())?;
                    }
                    _ => tree.link_from(&path, root.as_fd(), &entry.path)?,
                }
                Ok(ControlFlow::Continue(()))
            },
        )
    }
}

impl SlugCache {
    /// Makes a layer in the folder `to`, which does not exist yet; `go_on` and the limits are as for [`pack_over`](Self::pack_over).
    ///
    /// # Errors
    /// A folder of it is not there, or cannot be packed or unpacked. What there is of it then, and of the source, stays.
    pub fn make_layer(
        &self,
        source: &Path,
        make: &MakeLayer,
        to: &Path,
        (level, max_bytes): (u32, u64),
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> anyhow::Result<Layer> {
        let unmade = |error: io::Error| failed("keep what was installed", error);
        let new_folder = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        let taken = to.join("source");
        new_folder(&taken).map_err(unmade)?;
        for folder in &make.folders {
            let (from, to) = (source.join(folder), taken.join(folder));
            if !from.symlink_metadata().is_ok_and(|it| it.is_dir()) {
                let message = format!("there is no folder `{}` to be kept", folder.display());
                return Err(UserError::new(message)
                    .hint("the buildpack has written so to /build/out/layer")
                    .into());
            }
            to.parent().map_or(Ok(()), new_folder).map_err(unmade)?;
            fs::rename(from, to).map_err(unmade)?;
        }
        let part = File::create_new(to.join(PART)).map_err(unmade)?;
        let mut bounded = Bounded::new(&part, max_bytes, go_on);
        let form = Form {
            level,
            before: Before::default(),
            is_layer: true,
        };
        let packed = pack_whole(&taken, &Times::default(), &mut bounded, form, self.limits());
        let packed = bounded.checked(packed, max_bytes)?;
        crate::kernel::tree::remove_tree(&taken).map_err(unmade)?;
        let part = File::open(to.join(PART)).map_err(unmade)?;
        let mut end = GzEncoder::new(Vec::new(), Compression::fast());
        end.write_all(&END).map_err(unmade)?;
        let whole = part.chain(io::Cursor::new(end.finish().map_err(unmade)?));
        unpack(whole, &to.join(TREE), self.owner(), self.limits())?;
        fs::write(to.join(KEY), &make.key).map_err(unmade)?;
        let layer = Layer {
            folder: to.to_owned(),
            part_bytes: packed.packed_bytes,
            entries: packed.entries,
            // Names and padding are bounded by what a member takes beside its contents.
            unpacked_bytes: packed.content_bytes + 2 * 1024 * packed.entries,
        };
        let measure = format!(
            "{} {} {}",
            layer.part_bytes, layer.entries, layer.unpacked_bytes
        );
        fs::write(to.join(MEASURE), measure).map_err(unmade)?;
        Ok(layer)
    }

    /// As [`ensure_tree`](Self::ensure_tree), of a slug that was [packed over](Self::pack_over) the layer.
    ///
    /// # Errors
    /// As [`ensure_tree`](Self::ensure_tree).
    pub fn ensure_tree_over(&self, id: &super::SlugId, layer: &Layer) -> anyhow::Result<Lease> {
        self.ensure_tree_by(id, |tarball, to| {
            let over = || -> anyhow::Result<()> {
                let mut tarball = tarball.try_clone()?;
                tarball.seek(SeekFrom::Start(layer.part_bytes))?;
                let add = |tree: &mut Tree| layer.add_to(tree);
                unpack_and(tarball, to, self.owner(), self.limits(), add).map(drop)
            };
            over().or_else(|_| {
                // Another disk, or a file with as many names as it may have: as any other slug.
                let mut tarball = tarball;
                tarball.seek(SeekFrom::Start(0))?;
                unpack(tarball, to, self.owner(), self.limits()).map(drop)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_layer_is_named_by_its_folders_in_the_source() {
        let make = MakeLayer::parse("abc\nnode_modules\nvendor/bundle\n").unwrap();
        assert_eq!(make.key, "abc");
        assert_eq!(
            make.folders,
            ["node_modules", "vendor/bundle"].map(PathBuf::from)
        );
        for bad in [
            "",
            "\nx",
            "abc",
            "abc\n..",
            "abc\n/etc",
            "abc\na/../b",
            "abc\n\n",
            "abc\n.",
        ] {
            assert!(MakeLayer::parse(bad).is_none(), "{bad:?}");
        }
        assert!(MakeLayer::parse(&format!("k\n{}", "a\n".repeat(9))).is_none());
    }

    #[test]
    fn a_slug_over_a_layer_is_as_one_that_was_packed_whole() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        fs::create_dir_all(source.join("deps/bin")).unwrap();
        fs::write(source.join("deps/big"), vec![7; 3_000_000]).unwrap();
        fs::write(source.join("deps/bin/run"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(
            source.join("deps/bin/run"),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        symlink("bin/run", source.join("deps/link")).unwrap();
        fs::write(source.join("app.js"), "one").unwrap();
        let cache = SlugCache::new(dir.path().join("slugs"), None, SlugLimits::default()).unwrap();
        let make = MakeLayer {
            key: "k".to_owned(),
            folders: vec!["deps".into()],
        };
        let to = dir.path().join("layer");
        let made = cache
            .make_layer(&source, &make, &to, (6, 1 << 30), &|| true)
            .unwrap();
        assert!(!source.join("deps").exists());
        let layer = Layer::at(&to).unwrap();
        assert_eq!(
            (layer.key(), layer.part_bytes),
            ("k".to_owned(), made.part_bytes)
        );
        let times = Times::default();
        let (packed, _lease) = cache
            .pack_over(&source, Some(&layer), &times, (6, 1 << 30), &|| true)
            .unwrap();
        let tarball = cache.tarball(&packed.id);
        assert_eq!(fs::metadata(&tarball).unwrap().len(), packed.packed_bytes);
        let lease = cache.ensure_tree_over(&packed.id, &layer).unwrap();
        let in_tree = |name: &str| lease.tree().join(name);
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(
            inode(&in_tree("deps/big")),
            inode(&layer.tree().join("deps/big"))
        );
        // Anybody else unpacks it as a whole, to the same.
        let whole = dir.path().join("whole");
        unpack(
            File::open(&tarball).unwrap(),
            &whole,
            None,
            &SlugLimits::default(),
        )
        .unwrap();
        for (name, text) in [
            ("app.js", b"one".as_slice()),
            ("deps/bin/run", b"#!/bin/sh\n"),
            ("deps/link", b"#!/bin/sh\n"),
        ] {
            assert_eq!(fs::read(in_tree(name)).unwrap(), text);
            assert_eq!(fs::read(whole.join(name)).unwrap(), text);
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(
            mode(&whole.join("deps/bin/run")),
            mode(&in_tree("deps/bin/run"))
        );
        let time = |path: &Path| fs::metadata(path).unwrap().mtime();
        assert_eq!(time(&whole.join("deps/big")), time(&in_tree("deps/big")));
        // A tarball of that size is too big, and the rest of a slug has less room.
        let refused = cache.pack_over(
            &source,
            Some(&layer),
            &times,
            (6, layer.part_bytes + 10),
            &|| true,
        );
        assert!(refused.unwrap_err().to_string().contains("too many bytes"));
        let limits = SlugLimits {
            entries: 8,
            ..SlugLimits::default()
        };
        assert!(layer.left_of(&limits).unwrap().entries < 4);
    }
}
