//! Where a build's dyno works: the source at `/app`, and at `/build` what buildpacks are given and leave.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::packs::{Pack, RUN};
use crate::kernel::beneath;
use crate::model::config_var::Config;

/// The most bytes of a file that a build leaves for the server.
const MAX_LEFT: u64 = 64 * 1024;

/// The folders that a build's dyno works in: see the [module](self).
#[derive(Debug)]
pub struct BuildSite {
    /// The source, at `/app`.
    pub app: PathBuf,
    /// What is at `/build`.
    aside: PathBuf,
    /// What is kept from one build of the app to the next, at `/build/cache`.
    pub cache: PathBuf,
    /// The variables of its commands; config vars are in files.
    pub env: BTreeMap<String, String>,
}

impl BuildSite {
    /// Makes what is at `/build` in `aside`, which is not there yet: the `packs` in their order, and the config vars, as files.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn furnish(
        app: &Path,
        aside: PathBuf,
        cache: PathBuf,
        packs: &[&Pack],
        config: &Config,
    ) -> io::Result<Self> {
        for folder in ["", "cache", "env", "out", "packs"] {
            make_folder(&aside.join(folder))?;
        }
        write(&aside.join("run"), RUN, 0o755)?;
        for (number, pack) in packs.iter().enumerate() {
            let folder = aside.join(format!("packs/{number:02}-{}", pack.name));
            make_folder(&folder)?;
            make_folder(&folder.join("bin"))?;
            for (name, text) in pack.files {
                write(&folder.join(name), text, 0o755)?;
            }
        }
        for (name, value) in config {
            write(&aside.join("env").join(name), value, 0o600)?;
        }
        Ok(Self {
            app: app.to_owned(),
            aside,
            cache,
            env: [("STACK", "host"), ("NO_COLOR", "1")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        })
    }

    /// The folder that all of them are in.
    pub fn folder(&self) -> PathBuf {
        let folder = self.aside.parent();
        folder.map_or_else(PathBuf::new, Path::to_owned)
    }

    /// Each folder, and where the dyno has it.
    pub fn places(&self) -> Vec<(PathBuf, PathBuf)> {
        [
            (&self.app, "/app"),
            (&self.aside, "/build"),
            (&self.cache, "/build/cache"),
        ]
        .map(|(folder, place)| (folder.clone(), place.into()))
        .into()
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

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
