//! The builds that wait or run: each on a thread of its own, which tells the loop of every line and of its end.
//!
//! Their rows are the store's, their logs files named by their ids in one folder; the folder of a running one's source
//! lies beside them. What they do is [`build::compile`](crate::server::builds::compile::compile)'s, what is released of it the service's.

pub mod compile;
pub mod install;
pub mod log;
pub mod pack_folder;
pub mod packs;
mod queue;
mod session;
pub mod site;
mod steps;

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Instant, SystemTime};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender};

use crate::error::tell;
use crate::model::builder::Builder;
use crate::model::config_var::Config;
use crate::model::log_limits::LogLimits;
use crate::model::release::Toolchains;
use crate::server::builds::compile::{
    Bounds, BuildFailure, BuildLine, Compiled, Install, Job, Layers, Running, compile,
};
use crate::server::builds::install::{BuildDyno, Installer, fresh_cache, fresh_layer};
use crate::server::builds::site::BuildSite;
use crate::server::builds::steps::StepTimes;
use crate::slug::{Layer, SlugCache};
use crate::store::NewRelease;
use crate::wire::reactor::Waker;
use log::BuildLog;
use queue::Queue;

/// How the name of a log ends.
const LOG: &str = ".log";

/// What a build's thread tells the loop.
pub enum BuildNews {
    /// Its log has another line.
    Said(String),
    /// It wants a dyno that works at this site; the answer goes into the channel.
    WantsDyno(String, BuildSite, Sender<Result<BuildDyno>>),
    /// Its dyno is to end.
    EndDyno(String),
    /// It has ended.
    Ended(String, Result<Compiled, BuildFailure>),
}

/// What a build's thread needs.
pub struct Work {
    /// The tarball of the source.
    pub tarball: PathBuf,
    /// Where the slug goes.
    pub cache: Arc<SlugCache>,
    /// What the app runs until now.
    pub before: Option<Running>,
    /// What it keeps to.
    pub bounds: Bounds,
    /// What is installed of what the source depends on.
    pub builder: Builder,
    /// The buildpacks that were named beside the source, by their addresses.
    pub buildpacks: Vec<String>,
    /// The commit that it is, or another name of it.
    pub version: Option<String>,
    /// The app's config vars.
    pub config: Config,
    /// Where the app's cache is kept from one build to the next.
    pub cache_folder: PathBuf,
    /// And what was installed, as long as the manifests say the same.
    pub layer_folder: PathBuf,
    /// The folder of the app's log.
    pub logs: PathBuf,
    /// How much of that is kept.
    pub log_limits: LogLimits,
}

/// See the [module](self).
pub struct Builds {
    folder: PathBuf,
    /// Of the apps, by their ids.
    caches: PathBuf,
    queue: Queue,
    /// Of those that wait or run.
    wishes: HashMap<String, Wish>,
    news: (Sender<BuildNews>, Receiver<BuildNews>),
    waker: Waker,
}

/// What is known of a build beside its row.
#[derive(Default)]
struct Wish {
    release: NewRelease,
    cancelled: Arc<AtomicBool>,
    has_said: Arc<AtomicBool>,
    dyno: Option<WishDyno>,
}

/// The dyno of a build that runs.
struct WishDyno {
    id: String,
    /// Dropped once it has ended, which the build's thread hears.
    _lives: Sender<()>,
}

impl Builds {
    /// None yet; at most so many will run at once.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn new(home: &Path, most_at_once: u32, waker: Waker) -> io::Result<Self> {
        let (folder, caches) = (home.join("builds"), home.join("caches"));
        for folder in [&folder, &caches] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        Ok(Self {
            folder,
            caches,
            queue: Queue::new(usize::try_from(most_at_once).unwrap_or(usize::MAX)),
            wishes: HashMap::new(),
            news: crossbeam_channel::unbounded(),
            waker,
        })
    }

    /// Whether none waits or runs.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether another build of an app may wait.
    pub fn has_room(&self, app_id: &str) -> bool {
        self.queue.has_room(app_id)
    }

    /// Where the cache of an app's builds is kept from one to the next.
    pub fn cache(&self, app_id: &str) -> PathBuf {
        self.caches.join(app_id)
    }

    /// A place for a cache that is not wanted any more, until it is removed.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn purged_cache(&self) -> crate::store::Result<PathBuf> {
        let name = crate::store::new_id()?;
        Ok(self.folder.join(name).with_extension("old"))
    }

    /// Where a build's log is.
    pub fn log(&self, build: &str) -> PathBuf {
        self.folder.join(format!("{build}{LOG}"))
    }

    /// Has a build wait for its turn; whether it must, for others of its app. `release` is what is to come of it.
    pub fn push(&mut self, build: &str, app_id: &str, release: NewRelease) -> bool {
        let waits = self.queue.is_busy(app_id);
        let wish = Wish {
            release,
            ..Wish::default()
        };
        self.wishes.insert(build.to_owned(), wish);
        self.queue.push(build.to_owned(), app_id.to_owned());
        waits
    }

    /// A build whose turn it is, and which is to be started.
    pub fn next(&mut self) -> Option<String> {
        self.queue.next()
    }

    /// Starts a build whose turn it is.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn start(&self, build: &str, work: Work) -> io::Result<()> {
        let wish = self.wishes.get(build);
        let cancelled = wish.map(|wish| Arc::clone(&wish.cancelled));
        let thread = BuildThread {
            folder: self.folder.join(build),
            log: self.log(build),
            build: build.to_owned(),
            cancelled: cancelled.unwrap_or_default(),
            has_said: wish
                .map(|wish| Arc::clone(&wish.has_said))
                .unwrap_or_default(),
            news: self.news.0.clone(),
            waker: self.waker.clone(),
        };
        thread::Builder::new()
            .name("build".to_owned())
            .spawn(move || thread.run(&work))
            .map(drop)
    }

    /// What its deployer's toolchains are, if that is known of this build.
    pub fn toolchains(&self, build: &str) -> Option<Toolchains> {
        self.wishes.get(build)?.release.toolchains.clone()
    }

    /// Notes the dyno of a build; what is returned is closed when [`dyno_ended`](Self::dyno_ended) is told of it.
    pub fn dyno_began(&mut self, build: &str, dyno: &str) -> Receiver<()> {
        let (lives, ended) = crossbeam_channel::bounded(0);
        let dyno = WishDyno {
            id: dyno.to_owned(),
            _lives: lives,
        };
        if let Some(wish) = self.wishes.get_mut(build) {
            wish.dyno = Some(dyno);
        }
        ended
    }

    /// The id of a build's dyno, if it has one.
    pub fn dyno_of(&self, build: &str) -> Option<&str> {
        Some(&self.wishes.get(build)?.dyno.as_ref()?.id)
    }

    /// Whether this dyno is that of a build that runs.
    pub fn has_dyno(&self, dyno: &str) -> bool {
        let mut dynos = self.wishes.values().filter_map(|wish| wish.dyno.as_ref());
        dynos.any(|it| it.id == dyno)
    }

    /// A dyno has ended, which may have been a build's.
    pub fn dyno_ended(&mut self, dyno: &str) {
        let wishes = self.wishes.values_mut();
        let mut of_it = wishes.filter(|wish| wish.dyno.as_ref().is_some_and(|it| it.id == dyno));
        if let Some(wish) = of_it.next() {
            wish.dyno = None;
        }
    }

    /// The lines of a build are looked at now.
    pub fn hears(&self, build: &str) {
        if let Some(wish) = self.wishes.get(build) {
            wish.has_said.store(false, Ordering::Relaxed);
        }
    }

    /// Keeps the cache of a build that was released, in place of the one before. Returns what is to be removed.
    pub fn keep_cache(&self, build: &str, app_id: &str) -> Vec<PathBuf> {
        let folder = self.folder.join(build);
        let replace = |fresh: PathBuf, kept: PathBuf, old: PathBuf| {
            if fresh.is_dir() {
                let _ = fs::rename(&kept, &old);
                let _ = fs::rename(&fresh, &kept);
            }
            [fresh, old]
        };
        let old = |of: &str| folder.with_extension(format!("{of}.old"));
        let caches = replace(fresh_cache(&folder), self.cache(app_id), old("cache"));
        let layers = replace(fresh_layer(&folder), self.layer(app_id), old("layer"));
        caches.into_iter().chain(layers).collect()
    }

    /// Where what was installed for an app is kept.
    pub fn layer(&self, app_id: &str) -> PathBuf {
        self.caches.join(app_id).with_extension("layer")
    }

    /// What is on disk of builds that are no more: folders of builds, and caches of apps that are not among `apps`.
    pub fn left_over(&self, apps: &BTreeSet<String>) -> Vec<PathBuf> {
        let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
        let name_of = |path: &Path| path.file_stem().map(|it| it.to_string_lossy().into_owned());
        let of_builds = entries(&self.folder).map(|entry| entry.path());
        let of_builds = of_builds.filter(|path| {
            let known = name_of(path).is_some_and(|name| self.wishes.contains_key(&name));
            path.is_dir() && !known
        });
        let of_apps = entries(&self.caches).map(|entry| entry.path());
        let of_apps = of_apps.filter(|path| name_of(path).is_none_or(|name| !apps.contains(&name)));
        of_builds.chain(of_apps).collect()
    }

    /// What a thread has told.
    pub fn heard(&self) -> Option<BuildNews> {
        self.news.1.try_recv().ok()
    }

    /// Whether a client has had the build end.
    pub fn is_cancelled(&self, build: &str) -> bool {
        let wish = self.wishes.get(build);
        wish.is_some_and(|wish| wish.cancelled.load(Ordering::Relaxed))
    }

    /// A build has ended. Returns what was said of its release when it was asked for.
    pub fn ended(&mut self, build: &str) -> NewRelease {
        self.queue.ended(build);
        let wish = self.wishes.remove(build);
        wish.map(|wish| wish.release).unwrap_or_default()
    }

    /// Has a build end. Whether it has by that; one that runs takes a moment.
    pub fn cancel(&mut self, build: &str) -> bool {
        if let Some(wish) = self.wishes.get(build) {
            wish.cancelled.store(true, Ordering::Relaxed);
        }
        let waited = self.queue.withdraw(build);
        if waited {
            self.wishes.remove(build);
        }
        waited
    }

    /// The builds of an app that wait or run.
    pub fn of_app(&self, app_id: &str) -> Vec<String> {
        self.queue.of_app(app_id)
    }

    /// Writes the last lines of a build's log. That they cannot be written is no reason not to go on.
    pub fn conclude(&self, build: &str, lines: &[BuildLine]) {
        let path = self.log(build);
        let concluded = BuildLog::open(&path).and_then(|mut log| log.conclude(lines));
        if let Err(error) = concluded {
            tell!("cannot write `{}`: {error}", path.display());
        }
    }

    /// The folder of the logs, for [`remove_logs`].
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Removes the logs of builds that are not among `kept`, which was true at the time `as_of`.
///
/// # Errors
/// When the folder cannot be read.
pub fn remove_logs(folder: &Path, kept: &BTreeSet<String>, as_of: SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let build = name.to_str().and_then(|name| name.strip_suffix(LOG));
        let is_older = || {
            let modified = entry.metadata().and_then(|it| it.modified());
            modified.is_ok_and(|modified| modified <= as_of)
        };
        if build.is_some_and(|build| !kept.contains(build)) && is_older() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

struct BuildThread {
    build: String,
    folder: PathBuf,
    log: PathBuf,
    cancelled: Arc<AtomicBool>,
    /// Whether the loop has been told of lines that it has not looked at.
    has_said: Arc<AtomicBool>,
    news: Sender<BuildNews>,
    waker: Waker,
}

impl BuildThread {
    fn run(self, work: &Work) {
        let compiled = crate::panics::caught(|| self.compile(work)).unwrap_or_else(|why| {
            let why = anyhow::anyhow!("the server failed (R99): {why}");
            Err(BuildFailure::Host(why))
        });
        self.tell(BuildNews::Ended(self.build.clone(), compiled));
    }

    fn compile(&self, work: &Work) -> Result<Compiled, BuildFailure> {
        let host = |error: io::Error| BuildFailure::Host(error.into());
        let mut log = BuildLog::open(&self.log).map_err(host)?;
        let tarball = File::open(&work.tarball).map_err(host)?;
        let mut times = StepTimes::begin(Instant::now());
        let mut say = |line: BuildLine| {
            times.heard(&line, Instant::now());
            // A disk that is full for the log is so for the slug, too, and that is told.
            let _ = log.say(&line);
            if !self.has_said.swap(true, Ordering::Relaxed) {
                self.tell(BuildNews::Said(self.build.clone()));
            }
        };
        let kept = Layer::at(&work.layer_folder);
        let installer = Installer {
            layer: kept.as_ref(),
            home: self
                .folder
                .parent()
                .and_then(Path::parent)
                .unwrap_or(Path::new("/")),
            folder: &self.folder,
            kept: &work.cache_folder,
            config: &work.config,
            builder: work.builder,
            named: &work.buildpacks,
            build: (&self.build, work.version.as_deref()),
            log: (&work.logs, work.log_limits),
        };
        let install: &mut Install<'_> = &mut |source, is_wanted, say| match work.builder {
            Builder::None => Ok(None),
            _ => installer.install(
                source,
                is_wanted,
                say,
                &|site| self.start_dyno(site),
                &|| self.tell(BuildNews::EndDyno(self.build.clone())),
            ),
        };
        let job = Job {
            folder: &self.folder,
            cache: &work.cache,
            before: work.before.as_ref(),
            bounds: &work.bounds,
            layers: Layers {
                kept: kept.as_ref(),
                fresh: &fresh_layer(&self.folder),
            },
        };
        let compiled = compile(tarball, &job, &self.cancelled, install, &mut say)?;
        for line in times.told(Instant::now()) {
            let _ = log.say(&line);
        }
        Ok(compiled)
    }

    /// Has the loop start a dyno.
    fn start_dyno(&self, site: BuildSite) -> Result<BuildDyno> {
        let (answer, answered) = crossbeam_channel::bounded(1);
        self.tell(BuildNews::WantsDyno(self.build.clone(), site, answer));
        // A loop that ends drops the question.
        answered
            .recv()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the server leaves")))
    }

    fn tell(&self, news: BuildNews) {
        // The loop may have ended.
        if self.news.send(news).is_ok() {
            self.waker.wake();
        }
    }
}
