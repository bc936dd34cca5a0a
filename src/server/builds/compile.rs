//! A build: a source tarball becomes a slug, and says how, line by line, in Heroku's manner.
//!
//! The stack under the dynos is the host's own, with what is installed on it. A build leaves out what a slug need not have
//! (`.slugignore`), has [buildpacks](super::packs) install what the source depends on, if it names anything, looks what the app
//! runs (the Procfile, and what the buildpack says) and packs the tree. Code of the source's own runs in the build's
//! dyno alone. Whose build it is, when it runs and what is released of it is for the server to say, which calls this on a
//! thread of its own.

use std::fs::DirBuilder;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::error::{UserError, shown};
use crate::kernel::tree::remove_tree;
use crate::model::command_line;
use crate::model::procfile;
use crate::model::release::{ProcessTypes, RELEASE_PHASE};
use crate::slug::{
    Elsewhere, Layer, Lease, MakeLayer, ReleaseBefore, SlugCache, SlugId, Times, UnpackedSource,
    WhileWanted, link_warnings, procfile_elsewhere,
};

/// The name of the file that says what an app runs.
const PROCFILE: &str = "Procfile";

/// What a build keeps to.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Effort of gzip.
    pub level: u32,
    /// The biggest slug, compressed, in bytes. (How much the source may unpack to, the cache's own limits say.)
    pub slug_bytes: u64,
    /// Whether a dyno has something at a path outside of `/app`.
    pub has: fn(&Path) -> bool,
    /// Folders of the host that the app's dynos see beside that.
    pub toolchains: Vec<PathBuf>,
    /// When it must be over.
    pub deadline: Instant,
}

/// What an app runs before a build.
#[derive(Debug)]
pub struct Running {
    /// Its slug.
    pub slug: SlugId,
    /// When that was released, in seconds since 1970.
    pub released_at: u64,
    /// Whether it is scaled to any dyno.
    pub has_dynos: bool,
}

/// What came of a build.
#[derive(Debug)]
pub struct Compiled {
    /// The slug in the cache.
    pub digest: SlugId,
    /// Bytes of its tarball.
    pub size: u64,
    /// What it can run.
    pub process_types: ProcessTypes,
    /// Its tree, which is not evicted meanwhile.
    pub lease: Lease,
}

/// Why there is no slug.
#[derive(Debug)]
pub enum BuildFailure {
    /// Something is wrong with the source.
    Source(UserError),
    /// It took too long.
    TooLong,
    /// A client has cancelled it.
    Cancelled,
    /// It is not the source's fault.
    Host(anyhow::Error),
}

/// A line of a build's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildLine {
    /// A step begins.
    Step(String),
    /// What came of it.
    Detail(String),
    /// A warning to the user who deploys.
    Warning(String),
    /// As it is.
    Plain(String),
}

impl std::fmt::Display for BuildLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Step(text) => write!(f, "-----> {text}"),
            Self::Detail(text) => write!(f, "       {text}"),
            Self::Warning(text) => write!(f, " !     {text}"),
            Self::Plain(text) => f.write_str(text),
        }
    }
}

/// What has been installed of what a source depends on.
#[derive(Debug)]
pub struct Installed {
    /// The process types that the app has by default.
    pub process_types: ProcessTypes,
    /// What of it is the same in each build until a manifest changes.
    pub layer: Option<InstalledLayer>,
}

/// See [`Installed`].
#[derive(Debug)]
pub enum InstalledLayer {
    /// That of the build before; its folders are not in the source.
    Kept,
    /// These folders of the source.
    New(MakeLayer),
}

/// The layers of an app.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    /// That of an earlier build.
    pub kept: Option<&'a Layer>,
    /// The folder for the one that this build makes, which does not exist yet.
    pub fresh: &'a Path,
}

/// What installs what a source depends on: it is given the source and whether the build is still wanted, has lines for the log, and
/// returns None where it has installed nothing.
pub type Install<'a> = dyn FnMut(
        &UnpackedSource,
        &(dyn Fn() -> bool + Sync),
        &mut dyn FnMut(BuildLine),
    ) -> anyhow::Result<Option<Installed>>
    + 'a;

/// A build: where it works, and what it keeps to.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The place for its files, which does not exist yet; it is gone afterwards.
    pub folder: &'a Path,
    /// Where the slug goes.
    pub cache: &'a SlugCache,
    /// What the app runs: it has to do with the times of files, and is not to end for nothing.
    pub before: Option<&'a Running>,
    /// What it keeps to.
    pub bounds: &'a Bounds,
    /// Where what was installed is kept.
    pub layers: Layers<'a>,
}

/// Compiles `tarball` into a slug. `install` installs what it depends on; `say` is given each line of the log as it comes about. Ends
/// soon after `cancelled` is set.
///
/// # Errors
/// Says why there is no slug; nothing of it is left then.
pub fn compile(
    tarball: impl Read + Send,
    job: &Job<'_>,
    cancelled: &AtomicBool,
    install: &mut Install<'_>,
    say: &mut dyn FnMut(BuildLine),
) -> Result<Compiled, BuildFailure> {
    let deadline = job.bounds.deadline;
    let is_wanted = || !cancelled.load(Ordering::Relaxed) && Instant::now() < deadline;
    let tarball = WhileWanted(tarball, is_wanted);
    let compiled = compile_in(tarball, job, &is_wanted, install, say);
    // What cannot be removed now is swept when a server starts.
    let _ = remove_tree(job.folder);
    compiled.map_err(|error| {
        if cancelled.load(Ordering::Relaxed) {
            return BuildFailure::Cancelled;
        }
        if Instant::now() >= deadline {
            return BuildFailure::TooLong;
        }
        match error.downcast::<UserError>() {
            Ok(error) => BuildFailure::Source(error),
            Err(error) => BuildFailure::Host(error),
        }
    })
}

fn compile_in(
    tarball: impl Read + Send,
    job: &Job<'_>,
    is_wanted: &(dyn Fn() -> bool + Sync),
    install: &mut Install<'_>,
    say: &mut dyn FnMut(BuildLine),
) -> anyhow::Result<Compiled> {
    let Job {
        folder,
        cache,
        before,
        bounds,
        layers,
    } = *job;
    say(BuildLine::Step("Building on the host's own stack".into()));
    DirBuilder::new().mode(0o700).create(folder)?;
    let source = UnpackedSource::unpack(tarball, &folder.join("source"), cache.limits())?;
    let (left_out, warnings) = source.leave_out(cache.limits())?;
    for warning in warnings {
        say(BuildLine::Warning(warning));
    }
    if left_out > 0 {
        say(BuildLine::Step(format!(
            "Deleting {left_out} files matching .slugignore patterns."
        )));
    }
    let installed = install(&source, is_wanted, say)?;
    let is_installed = installed.is_some();
    let (defaults, layer) = match installed {
        Some(installed) => (installed.process_types, installed.layer),
        None => (ProcessTypes::new(), None),
    };
    let process_types = process_types(&source, &defaults, before, say)?;
    say(BuildLine::Step("Compressing...".into()));
    let effort = (bounds.level, bounds.slug_bytes);
    let made;
    let layer = match layer {
        Some(InstalledLayer::Kept) => layers.kept,
        Some(InstalledLayer::New(make)) => {
            made = cache.make_layer(source.root(), &make, layers.fresh, effort, is_wanted)?;
            Some(&made)
        }
        None => None,
    };
    // Without the tree of the release before, visitors fetch what they have once more; nothing else is lost.
    let before = before.and_then(|before| {
        let tree = cache.tree_in_use(&before.slug);
        let tree = tree.or_else(|| cache.ensure_tree(&before.slug).ok());
        Some((tree?, before.released_at))
    });
    let times = Times {
        before: before.as_ref().map(|(lease, at)| ReleaseBefore {
            tree: lease.tree(),
            at: *at,
        }),
        one_says_nothing: true,
        ..Times::default()
    };
    let (mut packed, _lease) = cache.pack_over(source.root(), layer, &times, effort, is_wanted)?;
    drop(before);
    for warning in packed.warnings {
        say(BuildLine::Warning(warning));
    }
    let is_tool = |path: &Path| bounds.toolchains.iter().any(|it| path.starts_with(it));
    packed
        .leads_out
        .retain(|link| link.strays || !(bounds.has)(&link.place) && !is_tool(&link.place));
    let links = link_warnings(&packed.leads_out);
    // A buildpack may have had nothing to install.
    let uninstalled = packed.uninstalled.into_iter().filter(|_| !is_installed);
    for line in links.into_iter().chain(uninstalled) {
        say(BuildLine::Warning(line));
    }
    say(BuildLine::Detail(format!(
        "Done: {}",
        size(packed.packed_bytes)
    )));
    let lease = match layer {
        Some(layer) => cache.ensure_tree_over(&packed.id, layer)?,
        None => cache.ensure_tree(&packed.id)?,
    };
    Ok(Compiled {
        digest: packed.id,
        size: packed.packed_bytes,
        process_types,
        lease,
    })
}

/// What the app can run: what the Procfile names, over what it has by default.
fn process_types(
    source: &UnpackedSource,
    defaults: &ProcessTypes,
    before: Option<&Running>,
    say: &mut dyn FnMut(BuildLine),
) -> anyhow::Result<ProcessTypes> {
    say(BuildLine::Step("Discovering process types".into()));
    let declared = discover(source, defaults)?;
    let names = |types: &ProcessTypes| match types.iter().next() {
        None => "(none)".to_owned(),
        Some(_) => {
            let names: Vec<_> = types.iter().map(|(name, _)| name).collect();
            names.join(", ")
        }
    };
    say(BuildLine::Detail(format!(
        "Procfile declares types -> {}",
        names(&declared)
    )));
    let mut process_types = defaults.clone();
    for (name, command) in declared.iter() {
        process_types.insert(name, command);
    }
    let mut only_defaults = ProcessTypes::new();
    for (name, command) in defaults
        .iter()
        .filter(|(name, _)| declared.get(name).is_none())
    {
        only_defaults.insert(name, command);
    }
    if only_defaults.iter().next().is_some() {
        say(BuildLine::Detail(format!(
            "Default types for buildpack -> {}",
            names(&only_defaults)
        )));
    }
    if before.is_some_and(|before| before.has_dynos)
        && process_types.iter().all(|(name, _)| name == RELEASE_PHASE)
    {
        return Err(UserError::new("the Procfile has no process types")
            .hint("the app's dynos would end; `dyno ps:scale TYPE=0` ends them")
            .into());
    }
    say(BuildLine::Plain(String::new()));
    Ok(process_types)
}

/// What the Procfile names. There need be none where the app has process types by default.
fn discover(source: &UnpackedSource, defaults: &ProcessTypes) -> anyhow::Result<ProcessTypes> {
    let text = source.read(PROCFILE, procfile::MAX_BYTES as u64)?;
    if text.is_none() && defaults.iter().next().is_some() {
        return Ok(ProcessTypes::new());
    }
    let text = text.ok_or_else(|| {
        let hint = match procfile_elsewhere(source.root()) {
            Some(Elsewhere::Named(name)) => {
                format!("there is a `{}`: rename it, the name is `Procfile`", shown(name.as_bytes(), 60))
            }
            Some(Elsewhere::Below(folder)) => {
                let folder = shown(folder.as_os_str().as_encoded_bytes(), 200);
                let push = ["git", "subtree", "push", "--prefix", &*folder, "dyno", "main"];
                let push = command_line::join(&push);
                format!(
                    "there is one in `{folder}`: move it to the root, or push that folder alone with `{push}`"
                )
            }
            None => {
                "it says what the app runs: a line like `web: python3 -m http.server $PORT`".to_owned()
            }
        };
        UserError::new("there is no Procfile at the root of the source").hint(hint)
    })?;
    let mut types = ProcessTypes::new();
    for process_type in procfile::parse(&text).map_err(UserError::from)? {
        types.insert(process_type.name, process_type.command);
    }
    Ok(types)
}

/// A size as Heroku's log has it: `12K`, `33.5M`.
fn size(bytes: u64) -> String {
    let tenths = |unit: u64| (bytes * 10).div_ceil(unit);
    match bytes {
        0..0x10_0000 => format!("{}K", bytes.div_ceil(1024).max(1)),
        _ if tenths(0x10_0000) % 10 == 0 => format!("{}M", tenths(0x10_0000) / 10),
        _ => format!("{}.{}M", tenths(0x10_0000) / 10, tenths(0x10_0000) % 10),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::slug::SlugLimits;

    fn tarball(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    struct Place(tempfile::TempDir, SlugCache);

    impl Place {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            let slugs = home.path().join("slugs");
            let cache = SlugCache::new(slugs, None, SlugLimits::default()).unwrap();
            Self(home, cache)
        }

        /// Its lines, and what came of it.
        fn compile(
            &self,
            tarball: &[u8],
            bounds: &Bounds,
            cancelled: bool,
        ) -> (Vec<String>, Result<Compiled, BuildFailure>) {
            let folder = self.0.path().join("build");
            let mut lines = Vec::new();
            let mut say = |line: BuildLine| lines.push(line.to_string());
            let cancelled = AtomicBool::new(cancelled);
            let install: &mut Install<'_> = &mut |_, _, _| Ok(None);
            let job = Job {
                folder: &folder,
                cache: &self.1,
                before: None,
                bounds,
                layers: Layers {
                    kept: None,
                    fresh: &folder.with_extension("layer"),
                },
            };
            let compiled = compile(tarball, &job, &cancelled, install, &mut say);
            assert!(!folder.exists());
            (lines, compiled)
        }
    }

    fn bounds() -> Bounds {
        Bounds {
            level: 1,
            slug_bytes: 1 << 20,
            has: |_| false,
            toolchains: Vec::new(),
            deadline: Instant::now() + Duration::from_secs(600),
        }
    }

    #[test]
    fn a_source_becomes_a_slug_and_its_log_says_how() {
        let place = Place::new();
        let source = tarball(&[
            ("shop-1/Procfile", "web: x\nworker: y\n"),
            ("shop-1/.slugignore", "*.md\n!a\n"),
            ("shop-1/README.md", "long"),
        ]);
        let (lines, compiled) = place.compile(&source, &bounds(), false);
        assert_eq!(
            lines,
            [
                "-----> Building on the host's own stack",
                " !     .slugignore line 2, `!a`, does nothing: a slug has no `!` negation",
                "-----> Deleting 1 files matching .slugignore patterns.",
                "-----> Discovering process types",
                "       Procfile declares types -> web, worker",
                "",
                "-----> Compressing...",
                "       Done: 1K",
            ]
        );
        let compiled = compiled.unwrap();
        assert_eq!(compiled.process_types.get("worker"), Some("y"));
        let tree = compiled.lease.tree();
        assert!(tree.join("Procfile").exists() && !tree.join("README.md").exists());
        let bytes = fs::metadata(place.1.tarball(&compiled.digest))
            .unwrap()
            .len();
        assert_eq!(compiled.size, bytes);
        // The same source is the same slug, however it was packed.
        let plain = tarball(&[
            ("Procfile", "web: x\nworker: y\n"),
            (".slugignore", "*.md\n!a\n"),
        ]);
        let (_, again) = place.compile(&plain, &bounds(), false);
        assert_eq!(again.unwrap().digest, compiled.digest);
    }

    #[test]
    fn what_is_wrong_with_a_source_is_its_own_failure() {
        let place = Place::new();
        let why = |tarball: &[u8]| match place.compile(tarball, &bounds(), false).1 {
            Err(BuildFailure::Source(error)) => error.message,
            other => panic!("{other:?}"),
        };
        let no_procfile = why(&tarball(&[("a", "")]));
        assert_eq!(
            no_procfile,
            "there is no Procfile at the root of the source"
        );
        let bad = why(&tarball(&[("Procfile", "web x\n")]));
        assert!(bad.contains("line 1"), "{bad}");
        let long = "#".repeat(procfile::MAX_BYTES + 1);
        let long = why(&tarball(&[("Procfile", &long)]));
        assert!(long.contains("Procfile"), "{long}");
        assert_eq!(why(b"no tarball"), "bad source: it is not gzipped");
        assert_eq!(
            fs::read_dir(place.0.path().join("slugs")).unwrap().count(),
            0
        );
    }

    #[test]
    fn a_build_ends_when_it_takes_too_long_is_cancelled_or_gets_too_large() {
        let place = Place::new();
        let source = tarball(&[("Procfile", "web: x\n")]);
        let late = Bounds {
            deadline: Instant::now(),
            ..bounds()
        };
        let (_, compiled) = place.compile(&source, &late, false);
        assert!(
            matches!(compiled, Err(BuildFailure::TooLong)),
            "{compiled:?}"
        );
        let (_, compiled) = place.compile(&source, &bounds(), true);
        assert!(
            matches!(compiled, Err(BuildFailure::Cancelled)),
            "{compiled:?}"
        );
        let small = Bounds {
            slug_bytes: 10,
            ..bounds()
        };
        let (_, compiled) = place.compile(&source, &small, false);
        let Err(BuildFailure::Source(error)) = compiled else {
            panic!("{compiled:?}")
        };
        assert!(error.message.contains("too large"), "{error}");
    }

    #[test]
    fn sizes_are_herokus() {
        for (bytes, text) in [
            (0, "1K"),
            (12_000, "12K"),
            (0x10_0000 - 1, "1024K"),
            (0x10_0000, "1M"),
            (0x18_0000, "1.5M"),
            (0x2100_0000, "528M"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
