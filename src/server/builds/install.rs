//! Has buildpacks install what a source depends on, in a dyno of the build's own.
//!
//! Called on the build's thread. It makes the [site](super::site), asks the loop for the dyno, follows what its command prints, and
//! keeps the cache if it has succeeded.

use std::borrow::Cow;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use crossbeam_channel::Receiver;
use jiff::Timestamp;

use super::compile::{BuildLine, Installed, InstalledLayer};
use super::pack_folder;
use super::packs::{candidates, own};
use super::session::{END_TIME, does_not_end, follow};
use super::site::{BuildSite, Furniture, SitePack};
use crate::error::UserError;
use crate::kernel::tree::remove_tree;
use crate::log_file::LogWriter;
use crate::model::builder::Builder;
use crate::model::buildpack::address::{Buildpack, of_source, parse_all};
use crate::model::buildpack::default_types;
use crate::model::config_var::Config;
use crate::model::dyno::Exit;
use crate::model::log_limits::LogLimits;
use crate::model::log_line::{self, LogSource};
use crate::slug::{Layer, MakeLayer, SlugLimits, UnpackedSource, copy_tree, is_within};

/// The largest file of a source that names buildpacks, in bytes.
const MAX_NAMING: u64 = 256 * 1024;

/// How much of a cache is kept, in bytes.
const MOST_KEPT: u64 = 2 << 30;

/// A dyno that the loop has started for a build.
#[derive(Debug)]
pub struct BuildDyno {
    /// Its name.
    pub name: String,
    /// The connection to its command.
    pub connection: std::os::fd::OwnedFd,
    /// Closed once the dyno has ended, all of it.
    pub ended: Receiver<()>,
}

/// Where a build's files are, and what its dyno gets.
#[derive(Debug)]
pub struct Installer<'a> {
    /// The folder of the server's state.
    pub home: &'a Path,
    /// The build's own folder.
    pub folder: &'a Path,
    /// Where the app's cache is kept.
    pub kept: &'a Path,
    /// The app's config vars.
    pub config: &'a Config,
    /// What makes slugs of its source, and the buildpacks that were named beside the source.
    pub builder: Builder,
    /// What an earlier build has installed.
    pub layer: Option<&'a Layer>,
    /// See `builder`; by their addresses.
    pub named: &'a [String],
    /// The build, and the commit that it is, or another name of it.
    pub build: (&'a str, Option<&'a str>),
    /// The app's log, and how much of it is kept.
    pub log: (&'a Path, LogLimits),
}

impl Installer<'_> {
    /// Installs what `source` depends on; None if no file of it asks for that. `start` has the loop start a dyno; `stop` has it ended.
    ///
    /// # Errors
    /// The buildpack fails; nothing is for a manifest that is there; there can be no dyno.
    pub fn install(
        &self,
        source: &UnpackedSource,
        is_wanted: &(dyn Fn() -> bool + Sync),
        say: &mut dyn FnMut(BuildLine),
        start: &dyn Fn(BuildSite) -> Result<BuildDyno>,
        stop: &dyn Fn(),
    ) -> Result<Option<Installed>> {
        let named = self.named_packs(source)?;
        for folder in named.iter().filter_map(Buildpack::folder) {
            pack_folder::check(Path::new(folder), self.home)?;
        }
        let packs: Vec<_> = match &named[..] {
            [] => candidates(source.root())?
                .into_iter()
                .map(SitePack::Own)
                .collect(),
            named => {
                say_used(named, say);
                let packs = named.iter().cloned();
                packs
                    .map(|pack| match pack {
                        Buildpack::Own(kind) => {
                            own(kind).map_or(SitePack::Other(pack), SitePack::Own)
                        }
                        _ => SitePack::Other(pack),
                    })
                    .collect()
            }
        };
        if packs.is_empty() {
            return Ok(None);
        }
        let cache = self.folder.join("cache");
        // What cannot be copied is made again.
        if !self.kept.is_dir() || copy_tree(self.kept, &cache, None).is_err() {
            let _ = remove_tree(&cache);
            DirBuilder::new().mode(0o755).create(&cache)?;
        }
        let aside = self.folder.join("aside");
        let furniture = Furniture {
            packs: &packs,
            named: !named.is_empty(),
            config: self.config,
            build: self.build.0,
            version: self.build.1,
            layer: self.layer,
        };
        let site = BuildSite::furnish(source.root(), aside, cache.clone(), &furniture)
            .context("cannot make the build's folders")?;
        let had_layer = site.layer.is_some();
        let (out, dyno) = (site.out(), start(site)?);
        let mut told = false;
        let mut look = || {
            if !is_wanted() && !std::mem::replace(&mut told, true) {
                stop();
            }
        };
        let (folder, limits) = self.log;
        let mut log = LogWriter::open(folder, limits).ok();
        let mut line = |text: &[u8]| {
            let mut line = Vec::new();
            log_line::append(
                &mut line,
                Timestamp::now(),
                LogSource::App,
                &dyno.name,
                text,
            );
            // A full disk ends the build in other ways.
            let _ = log.as_mut().map(|log| log.append(&line));
            let text = without_colors(&String::from_utf8_lossy(text)).into_owned();
            say(BuildLine::Plain(text));
        };
        let followed = follow(&dyno.connection, &mut line, &mut look);
        drop(dyno.connection);
        if followed.is_err() {
            stop();
        }
        // Only then nobody writes to its files any more.
        wait_for_end(&dyno.ended, &mut look)?;
        let end = followed?;
        if end.exit != Exit::Status(0) {
            let told = out.read("failure");
            let mut told = told.lines().filter(|line| !line.is_empty());
            let ended = || format!("the build ended with exit status {}", end.exit.code());
            let why = told.next().map(str::to_owned);
            let why = UserError::new(why.or(end.why.clone()).unwrap_or_else(ended));
            let hint: Vec<_> = told.collect();
            return Err(match hint.is_empty() {
                true => why.into(),
                false => why.hint(hint.join("; ")).into(),
            });
        }
        let limits = SlugLimits {
            unpacked_bytes: MOST_KEPT,
            ..SlugLimits::default()
        };
        if is_within(&cache, &limits) {
            fs::rename(&cache, fresh_cache(self.folder)).context("cannot keep the cache")?;
        } else {
            say(BuildLine::Warning(format!(
                "the cache has more than {} GB or {} files, and is not kept",
                MOST_KEPT >> 30,
                limits.entries
            )));
        }
        if out.has("none") {
            say(BuildLine::Detail(
                "no buildpack has anything to do with this source".to_owned(),
            ));
            return Ok(None);
        }
        let layer = match out.read("layer").trim_end() {
            "kept" if had_layer => Some(InstalledLayer::Kept),
            text => MakeLayer::parse(text).map(InstalledLayer::New),
        };
        Ok(Some(Installed {
            process_types: default_types(&out.read("release"))?,
            layer,
        }))
    }

    /// The buildpacks that are named for the build: beside the source, else in it.
    fn named_packs(&self, source: &UnpackedSource) -> Result<Vec<Buildpack>> {
        if matches!(self.builder, Builder::Native | Builder::None) {
            return Ok(Vec::new());
        }
        let mut packs = parse_all(self.named)?;
        if packs.is_empty() {
            // One that is too large belongs to something else.
            let app_json = source.read("app.json", MAX_NAMING).ok().flatten();
            let dot = source.read(".buildpacks", MAX_NAMING)?;
            packs = of_source(app_json.as_deref(), dot.as_deref())?;
        }
        if packs.is_empty() && self.builder == Builder::Buildpacks {
            return Err(UserError::new("the builder is `buildpacks`, and none is named")
                .hint("`dyno buildpacks:add` names one for the app; `.buildpacks` and `app.json` do in its source")
                .into());
        }
        Ok(packs)
    }
}

/// A line without the sequences that colour it, which buildpacks print whether there is a terminal or not.
fn without_colors(line: &str) -> Cow<'_, str> {
    let mut pieces = line.split("\x1b[");
    let first = pieces.next().unwrap_or_default();
    let mut plain = Cow::Borrowed(first);
    for piece in pieces {
        let rest = piece.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        match rest.strip_prefix('m') {
            Some(rest) => plain.to_mut().push_str(rest),
            // Another one, which is shown for what it is.
            None => *plain.to_mut() += &format!("\x1b[{piece}"),
        }
    }
    plain
}

/// Says which buildpacks were named.
fn say_used(packs: &[Buildpack], say: &mut dyn FnMut(BuildLine)) {
    say(BuildLine::Step("Using buildpacks:".to_owned()));
    for (number, pack) in (1..).zip(packs) {
        say(BuildLine::Detail(format!("{number}. {}", pack.name())));
    }
}

/// Where the layer of a build is that has installed something else than the one before, until it is released: beside the build's folder.
pub fn fresh_layer(folder: &Path) -> PathBuf {
    folder.with_extension("layer")
}

/// Where the cache of a build is that has installed everything, until it is released: beside the build's folder.
pub fn fresh_cache(folder: &Path) -> PathBuf {
    folder.with_extension("cache")
}

fn wait_for_end(ended: &Receiver<()>, look: &mut dyn FnMut()) -> io::Result<()> {
    let pause = Duration::from_millis(100);
    for _ in 0..END_TIME.as_millis() / pause.as_millis() {
        look();
        match ended.recv_timeout(pause) {
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
            _ => return Ok(()),
        }
    }
    Err(does_not_end())
}

#[cfg(test)]
mod tests {
    use super::without_colors;

    #[test]
    fn colours_are_taken_out_of_a_line_and_nothing_else() {
        assert_eq!(without_colors("plain"), "plain");
        assert_eq!(
            without_colors("\x1b[1;31m !     Error\x1b[0m\x1b[m."),
            " !     Error."
        );
        assert_eq!(without_colors("a\x1b[2Jb\x1b[31"), "a\x1b[2Jb\x1b[31");
    }
}
