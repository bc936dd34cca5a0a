//! Where a build's dyno works: the source at `/app`, and at `/build` what buildpacks are given and leave.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::packs::{Pack, RUN, own};
use crate::kernel::beneath;
use crate::model::buildpack::address::{Buildpack, Fetch};
use crate::model::config_var::Config;
use crate::slug::{Layer, copy_tree};

/// Where the settings of apt are.
const APT: &str = "/etc/apt";

/// How deep its folders are at most, and how large its files, in bytes.
const DEEPEST: usize = 3;
const LARGEST: u64 = 1 << 20;

/// A file in a folder that is a buildpack, which says that it works on the source at `/app`. Their contract has none of that kind.
pub const AT_APP: &str = "at-app";

/// The most bytes of a file that a build leaves for the server.
const MAX_LEFT: u64 = 64 * 1024;

/// A buildpack of a build's dyno.
#[derive(Debug)]
pub enum SitePack {
    /// One of this program's own.
    Own(&'static Pack),
    /// One of others.
    Other(Buildpack),
}

impl SitePack {
    /// Whether it works on the source at `/app`, and knows of no stack of Heroku's: one of this program's own, or what became of one that
    /// was ejected.
    fn is_at_app(&self) -> bool {
        match self {
            Self::Own(_) => true,
            Self::Other(pack) => pack
                .folder()
                .is_some_and(|folder| Path::new(folder).join(AT_APP).is_file()),
        }
    }
}

/// What a build is given beside its source.
#[derive(Debug)]
pub struct Furniture<'a> {
    /// The buildpacks, in their order.
    pub packs: &'a [SitePack],
    /// Whether they were named, so that each is to be used; else the first that takes the source.
    pub named: bool,
    /// The config vars.
    pub config: &'a Config,
    /// The build.
    pub build: &'a str,
    /// The commit that it is, or another name of it.
    pub version: Option<&'a str>,
    /// What an earlier build has installed.
    pub layer: Option<&'a Layer>,
}

/// The folders that a build's dyno works in: see the [module](self).
#[derive(Debug)]
pub struct BuildSite {
    /// The source.
    pub app: PathBuf,
    /// Where the dyno has it: `/app`; or, where buildpacks are of others alone, as their contract has it, and `/app` is empty.
    place: PathBuf,
    /// What the dyno has at `/app`, if that is not the source.
    home: Option<PathBuf>,
    /// What it has at `/etc/apt`, if that is not the host's.
    apt: Option<PathBuf>,
    /// What is at `/build`.
    aside: PathBuf,
    /// What is kept from one build of the app to the next, at `/build/cache`.
    pub cache: PathBuf,
    /// What an earlier build has installed, at `/build/layer`, read-only.
    pub layer: Option<PathBuf>,
    /// The variables of its commands; config vars are in files.
    pub env: BTreeMap<String, String>,
}

impl BuildSite {
    /// Makes what is at `/build` in `aside`, which is not there yet: the buildpacks in their order, and the config vars, as files.
    ///
    /// # Errors
    /// When it cannot be written, or a folder that is a buildpack cannot be copied.
    pub fn furnish(
        app: &Path,
        aside: PathBuf,
        cache: PathBuf,
        with: &Furniture<'_>,
    ) -> anyhow::Result<Self> {
        for folder in ["", "cache", "env", "layer", "out", "packs"] {
            make_folder(&aside.join(folder))?;
        }
        write(&aside.join("run"), RUN, 0o755)?;
        // Several buildpacks would have one each: they hear of none.
        let has_layers = !with.named || with.packs.len() == 1;
        let layer = with.layer.filter(|_| has_layers);
        if has_layers {
            let key = layer.map(Layer::key).unwrap_or_default();
            write(&aside.join("layer-key"), &key, 0o644)?;
        }
        for (number, pack) in with.packs.iter().enumerate() {
            put(pack, number, &aside.join("packs"))?;
        }
        for (name, value) in with.config {
            write(&aside.join("env").join(name), value, 0o600)?;
        }
        let all_at_app = with.packs.iter().all(SitePack::is_at_app);
        let any_at_app = with.packs.iter().any(SitePack::is_at_app);
        let (place, home) = match any_at_app {
            true => ("/app".into(), None),
            false => {
                let home = aside.with_extension("home");
                make_folder(&home)?;
                let name = with.build.split('-').next().unwrap_or_default();
                (PathBuf::from(format!("/tmp/build_{name}")), Some(home))
            }
        };
        let apt = match any_at_app {
            true => None,
            false => with_list_of_sources(Path::new(APT), aside.with_extension("apt"))?,
        };
        let mut env = BTreeMap::new();
        let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
        set("NO_COLOR", "1");
        if all_at_app {
            set("STACK", "host");
        }
        set("BUILD_DIR", &place.to_string_lossy());
        set("BUILD_MODE", if with.named { "all" } else { "first" });
        set("REQUEST_ID", with.build);
        // What buildpacks wait for by themselves is too short for a slow line.
        set("CURL_CONNECT_TIMEOUT", "30");
        set("CURL_TIMEOUT", "180");
        if let Some(version) = with.version {
            set("SOURCE_VERSION", version);
        }
        Ok(Self {
            app: app.to_owned(),
            place,
            home,
            apt,
            aside,
            cache,
            layer: layer.map(Layer::tree),
            env,
        })
    }

    /// The folder that all of them are in.
    pub fn folder(&self) -> PathBuf {
        let folder = self.aside.parent();
        folder.map_or_else(PathBuf::new, Path::to_owned)
    }

    /// Each folder, and where the dyno has it.
    pub fn places(&self) -> Vec<(PathBuf, PathBuf)> {
        let home = self.home.clone().map(|home| (home, "/app".into()));
        let others = [
            (self.app.clone(), self.place.clone()),
            (self.aside.clone(), "/build".into()),
            (self.cache.clone(), "/build/cache".into()),
        ];
        let apt = self.apt.clone().map(|apt| (apt, APT.into()));
        home.into_iter().chain(others).chain(apt).collect()
    }

    /// Where the build leaves what the server is to know.
    pub fn out(&self) -> BuildOut {
        BuildOut {
            aside: self.aside.clone(),
        }
    }
}

/// What a build leaves for the server, at `/build/out`: of whatever it wrote.
#[derive(Debug)]
pub struct BuildOut {
    aside: PathBuf,
}

impl BuildOut {
    /// Whether there is something of this name.
    pub fn has(&self, name: &str) -> bool {
        self.aside.join("out").join(name).symlink_metadata().is_ok()
    }

    /// The beginning of the file of this name; empty if there is none.
    pub fn read(&self, name: &str) -> String {
        let read = || -> io::Result<Option<Vec<u8>>> {
            let aside = File::open(&self.aside)?;
            beneath::read(&aside, Path::new("out").join(name), MAX_LEFT)
        };
        let text = read().ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Puts a buildpack into the folder of all of them, or, in a file beside, what the dyno is to fetch.
fn put(pack: &SitePack, number: usize, packs: &Path) -> anyhow::Result<()> {
    let name = match pack {
        SitePack::Own(pack) => pack.name.to_owned(),
        SitePack::Other(pack) => safe_name(&pack.name()),
    };
    let folder = packs.join(format!("{number:02}-{name}"));
    let own = match pack {
        SitePack::Own(pack) => Some(*pack),
        SitePack::Other(pack) => match pack.fetch() {
            Fetch::Own(kind) => own(kind),
            Fetch::Folder(path) => {
                return copy_tree(Path::new(path), &folder, None)
                    .with_context(|| format!("cannot copy the buildpack `{path}`"));
            }
            Fetch::Tarball(url) => {
                let what = format!("{}\ntarball\n{url}\n", pack.name());
                return Ok(write(&folder.with_extension("from"), &what, 0o644)?);
            }
            Fetch::Git(url, reference) => {
                let reference = reference.unwrap_or_default();
                let what = format!("{}\ngit\n{url}\n{reference}\n", pack.name());
                return Ok(write(&folder.with_extension("from"), &what, 0o644)?);
            }
        },
    };
    make_folder(&folder)?;
    make_folder(&folder.join("bin"))?;
    for (name, text) in own.into_iter().flat_map(|pack| pack.files) {
        write(&folder.join(name), text, 0o755)?;
    }
    Ok(())
}

/// A copy of the settings of apt, of what everybody may read, with an empty list of sources: buildpacks read that, and newer hosts have
/// their sources in a folder instead. None where it is there, or there is no apt.
fn with_list_of_sources(of_host: &Path, to: PathBuf) -> io::Result<Option<PathBuf>> {
    const LIST: &str = "sources.list";
    if !of_host.is_dir() || of_host.join(LIST).exists() {
        return Ok(None);
    }
    copy_readable(of_host, &to, DEEPEST)?;
    write(&to.join(LIST), "", 0o644)?;
    Ok(Some(to))
}

fn copy_readable(from: &Path, to: &Path, deep: usize) -> io::Result<()> {
    make_folder(to)?;
    for entry in fs::read_dir(from)? {
        let (path, target) = (entry?.path(), to.to_owned());
        let (Ok(found), Some(name)) = (path.metadata(), path.file_name()) else {
            continue;
        };
        let (target, everybodys) = (target.join(name), found.mode());
        if found.is_dir() && everybodys & 0o005 == 0o005 && deep > 0 {
            copy_readable(&path, &target, deep - 1)?;
        } else if found.is_file() && everybodys & 0o004 != 0 && found.len() <= LARGEST {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// The end of an address as the name of a folder.
fn safe_name(address: &str) -> String {
    let end = address.split('#').next().unwrap_or_default();
    let end = end.trim_end_matches('/').rsplit('/').next();
    let fits = |c: &char| c.is_ascii_alphanumeric() || *c == '-' || *c == '_';
    let name: String = end
        .unwrap_or_default()
        .chars()
        .filter(fits)
        .take(40)
        .collect();
    if name.is_empty() {
        "pack".to_owned()
    } else {
        name
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
