//! The builds that wait or run: each on a thread of its own, which tells the loop of every line and of its end.
//!
//! Their rows are the store's, their logs files named by their ids in one folder; the folder of a running one's source
//! lies beside them. What they do is [`build::compile`](crate::server::builds::compile::compile)'s, what is released of it the service's.

pub mod compile;
pub mod log;
mod queue;

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::SystemTime;

use crossbeam_channel::{Receiver, Sender};

use crate::error::tell;
use crate::kernel::tree::remove_tree;
use crate::model::release::Toolchains;
use crate::server::builds::compile::{Bounds, BuildFailure, BuildLine, Compiled, Running, compile};
use crate::slug::SlugCache;
use crate::wire::reactor::Waker;
use log::BuildLog;
use queue::Queue;

/// How the name of a log ends.
const LOG: &str = ".log";

/// What a build's thread tells the loop.
pub enum BuildNews {
    /// Its log has another line.
    Said(String),
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
}

/// See the [module](self).
pub struct Builds {
    folder: PathBuf,
    queue: Queue,
    /// Of those that wait or run.
    wishes: HashMap<String, Wish>,
    news: (Sender<BuildNews>, Receiver<BuildNews>),
    waker: Waker,
}

/// What is known of a build beside its row.
#[derive(Default)]
struct Wish {
    toolchains: Option<Toolchains>,
    cancelled: Arc<AtomicBool>,
}

impl Builds {
    /// None yet; at most so many will run at once. What an earlier server left half done in `folder` is removed.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn new(folder: PathBuf, most_at_once: u32, waker: Waker) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                remove_tree(&path)?;
            }
        }
        Ok(Self {
            folder,
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

    /// Where a build's log is.
    pub fn log(&self, build: &str) -> PathBuf {
        self.folder.join(format!("{build}{LOG}"))
    }

    /// Has a build wait for its turn; whether it must, for others of its app.
    pub fn push(&mut self, build: &str, app_id: &str, toolchains: Option<Toolchains>) -> bool {
        let waits = self.queue.is_busy(app_id);
        let wish = Wish {
            toolchains,
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
            news: self.news.0.clone(),
            waker: self.waker.clone(),
        };
        thread::Builder::new()
            .name("build".to_owned())
            .spawn(move || thread.run(&work))
            .map(drop)
    }

    /// What a thread has told.
    pub fn heard(&self) -> Option<BuildNews> {
        self.news.1.try_recv().ok()
    }

    /// A build has ended. Returns what its deployer's toolchains are.
    pub fn ended(&mut self, build: &str) -> Option<Toolchains> {
        self.queue.ended(build);
        self.wishes.remove(build)?.toolchains
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
        let mut say = |line| {
            // A disk that is full for the log is so for the slug, too, and that is told.
            let _ = log.say(&line);
            self.tell(BuildNews::Said(self.build.clone()));
        };
        compile(
            tarball,
            &self.folder,
            &work.cache,
            work.before.as_ref(),
            &work.bounds,
            &self.cancelled,
            &mut say,
        )
    }

    fn tell(&self, news: BuildNews) {
        // The loop may have ended.
        if self.news.send(news).is_ok() {
            self.waker.wake();
        }
    }
}
