//! Uploads the files of a commit to the server, as a source.
//!
//! `git archive` packs them, without submodules: those are other repositories, which are fetched into a temporary
//! folder as by `git clone --recurse-submodules`. The commit is not trusted: git has checked the objects when they came
//! (`receive.fsckObjects`), and the server unpacks the source like any other.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use flate2::Compression;
use flate2::read::GzEncoder;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};

use super::PushedRepository;
use crate::api::source::{Source, SourceBlob};
use crate::api::target;
use crate::cli::context::Context;
use crate::cli::deploy::release::TARBALL;
use crate::cli::tarball_pipe::pieces;
use crate::error::{UserError, shown, tell};
use crate::repository::Repositories;
use crate::slug::{self, SlugLimits, Times};

/// The pause between two looks at a git that fetches.
const PAUSE: Duration = Duration::from_millis(20);

/// Address space of the git that packs a commit, in bytes.
const MEMORY: u64 = 1 << 30;

/// Has git map packs in small windows, and read big files piece by piece.
const FRUGAL: [&str; 6] = [
    "-c",
    "core.packedGitWindowSize=32m",
    "-c",
    "core.packedGitLimit=256m",
    "-c",
    "core.bigFileThreshold=32m",
];

/// Git's variables for connections to other hosts; all its others are about the repository that is pushed.
const OF_TRANSPORT: [&str; 9] = [
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_SSL_NO_VERIFY",
    "GIT_PROXY_COMMAND",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_NOSYSTEM",
];

/// Uploads the files of `commit`.
pub fn upload(
    context: &mut Context,
    repository: &PushedRepository,
    commit: &str,
) -> Result<SourceBlob> {
    let has_submodules = repository
        .git()
        .args(["cat-file", "-e", &format!("{commit}:.gitmodules")])
        .stderr(Stdio::null())
        .status()
        .context("cannot run git")?
        .success();
    let links = look_at_tree(repository, commit, SlugLimits::default().entries)?;
    if !has_submodules {
        tell_gitlinks(&links);
    }
    let with_submodules = match has_submodules {
        true => Some(WithSubmodules::fetch(context, repository, commit)?),
        false => None,
    };
    let source: Source = context.client()?.post("/sources", &())?;
    let blob = source.source_blob;
    match with_submodules {
        Some(tree) => tree.upload(context, &blob)?,
        None => upload_archive(context, repository, commit, &blob)?,
    }
    tell!("Compressing source files... done.");
    Ok(blob)
}

/// Warns about embedded repositories, of which a commit has only the commit id, as `git add` of a folder with a `.git`
/// makes them.
fn tell_gitlinks(links: &[String]) {
    const SHOWN: usize = 5;
    for path in links.iter().take(SHOWN) {
        tell!(
            " !     `{path}` is a repository of its own, of which the commit has the number alone: an empty folder is deployed"
        );
    }
    if links.len() > SHOWN {
        tell!(" !     and so are {} more", links.len() - SHOWN);
    }
    if let Some(path) = links.first() {
        tell!(
            " !     hint: `git rm --cached {path}` and `git submodule add URL {path}` make it a submodule; without its .git, `git add {path}` adds its files"
        );
    }
}

/// Counts the files of a commit, before any git holds all their names in memory: a tree that names one subtree again and
/// again has billions of them in a few objects. Returns the paths of embedded repositories.
fn look_at_tree(repository: &PushedRepository, commit: &str, most: u64) -> Result<Vec<String>> {
    const LONGEST: u64 = 8_192;
    let mut git = repository
        .git()
        .args(["ls-tree", "-r", "-z", commit])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run git")?;
    let mut listed = BufReader::new(git.stdout.take().context("git has no output")?);
    let (mut entry, mut count, mut links) = (Vec::new(), 0, Vec::new());
    let why = loop {
        entry.clear();
        let length = listed.by_ref().take(LONGEST).read_until(0, &mut entry)?;
        if length == 0 {
            break None;
        }
        count += 1;
        if entry.last() != Some(&0) {
            break Some("a path that is too long".to_owned());
        }
        if count > most {
            break Some(format!("more than {most} files"));
        }
        if entry.starts_with(b"160000 ") {
            let path = entry.splitn(2, |byte| *byte == b'\t').nth(1);
            let path = path.and_then(|path| path.strip_suffix(b"\0"));
            links.extend(path.map(|path| shown(path, 200)));
        }
    };
    if why.is_some() {
        let _ = git.kill();
    }
    drop(listed);
    let status = git.wait()?;
    match why {
        Some(why) => Err(UserError::new(format!("the commit has {why}"))
            .hint("a slug has a million files and folders at most")
            .into()),
        None if status.success() => Ok(links),
        None => Err(anyhow!("git cannot list the files of the commit")),
    }
}

/// Bounds the memory of a git: with its windows and big files bounded, too, it needs no more for a million files.
fn bound_memory(git: &Child) {
    let pid = i32::try_from(git.id()).ok().and_then(Pid::from_raw);
    let limit = Rlimit {
        current: Some(MEMORY),
        maximum: Some(MEMORY),
    };
    let _ = prlimit(pid, Resource::As, limit);
}

fn upload_archive(
    context: &mut Context,
    repository: &PushedRepository,
    commit: &str,
    blob: &SourceBlob,
) -> Result<()> {
    let mut archive = repository
        .git()
        // A single folder at the top is taken as the root, so there must be one that is not the commit's.
        .args(FRUGAL)
        .args(["archive", "--format=tar", "--prefix=app/", commit])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run git")?;
    bound_memory(&archive);
    let stdout = archive.stdout.take().context("git has no output")?;
    let mut whole = Whole {
        gzip: GzEncoder::new(stdout, Compression::fast()),
        archive: &mut archive,
        failed: false,
    };
    let target = target::of_url(&blob.put_url);
    let uploaded: Result<Source> = context.client()?.upload("PUT", target, TARBALL, &mut whole);
    let failed = whole.failed;
    drop(whole);
    let _ = archive.kill();
    let _ = archive.wait();
    match failed {
        true => Err(anyhow!("git could not make an archive of the commit")),
        false => uploaded.map(drop),
    }
}

/// The output of git, which ends with an error if git fails.
struct Whole<'a, R> {
    gzip: GzEncoder<R>,
    archive: &'a mut Child,
    failed: bool,
}

impl<R: Read> Read for Whole<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.gzip.read(buffer)?;
        if count == 0 && !buffer.is_empty() && !self.archive.wait()?.success() {
            self.failed = true;
            return Err(io::Error::other("git archive failed"));
        }
        Ok(count)
    }
}

/// The files of a commit with those of its submodules.
struct WithSubmodules {
    folder: crate::kernel::temporary::HeldFolder,
    level: u32,
    tree_bytes: u64,
    /// Seconds since 1970.
    committed_at: u64,
}

impl WithSubmodules {
    fn fetch(context: &Context, repository: &PushedRepository, commit: &str) -> Result<Self> {
        let folder = Repositories::new(context.home.path()).temporary()?;
        let tree = Self {
            level: 1,
            tree_bytes: context.settings.tree_limit,
            // A tarball cannot have a time before 1970.
            committed_at: repository
                .ask(&["show", "-s", "--format=%ct", commit])?
                .parse()
                .unwrap_or(0),
            folder,
        };
        let work = tree.folder.path();
        tree.check_out(repository, commit)?;
        tell!("Fetching submodules...");
        let deadline = Instant::now() + context.settings.build_timeout;
        // Some hosts do not serve single commits.
        let fetched = fetch(work, &["--depth", "1"], deadline).and_then(|fetched| match fetched {
            true => Ok(true),
            false => fetch(work, &[], deadline),
        });
        match fetched? {
            true => Ok(tree),
            false => Err(UserError::new("the submodules of the commit cannot be fetched")
                .hint("git's own words are above; `.gitmodules` must name a place that this host can read without a password")
                .into()),
        }
    }

    /// The commit's own files, in a checkout of their own.
    fn check_out(&self, repository: &PushedRepository, commit: &str) -> Result<()> {
        let work = self.folder.path();
        let git = |args: &[&str]| -> Result<()> {
            let mut git = repository.git();
            git.env_remove("GIT_DIR").current_dir(work).args(args);
            let output = git.output().context("cannot run git")?;
            if !output.status.success() {
                let why = String::from_utf8_lossy(&output.stderr);
                return Err(anyhow!("git {} failed: {}", args[0], why.trim()));
            }
            Ok(())
        };
        git(&["init", "--quiet", "--template="])?;
        let objects = repository.path().join("objects");
        let alternates = work.join(".git/objects/info");
        fs::create_dir_all(&alternates)?;
        let mut line = objects.into_os_string().into_encoded_bytes();
        line.push(b'\n');
        fs::write(alternates.join("alternates"), line)?;
        git(&["read-tree", commit])?;
        git(&["checkout-index", "--all", "--quiet"])
    }

    fn upload(&self, context: &mut Context, blob: &SourceBlob) -> Result<()> {
        let limits = SlugLimits {
            unpacked_bytes: self.tree_bytes,
            ..SlugLimits::default()
        };
        // As in `git archive`: the times of the checkout have no meaning.
        let times = Times {
            one: Some(self.committed_at),
            ..Times::default()
        };
        let (pieces, mut arriving) = pieces();
        let client = context.client()?;
        thread::scope(|scope| {
            let packing = scope.spawn(|| {
                let packed = slug::pack_dated(
                    self.folder.path(),
                    &times,
                    &pieces,
                    self.level,
                    &limits,
                    &mut |_| {},
                );
                pieces.end(packed.is_ok());
                packed
            });
            let target = target::of_url(&blob.put_url);
            let uploaded: Result<Source> = client.upload("PUT", target, TARBALL, &mut arriving);
            drop(arriving);
            let packed = packing.join().map_err(|_| anyhow!("packing failed"))?;
            match (packed, uploaded) {
                (Ok(_), Ok(_)) => Ok(()),
                (Err(error), Err(_)) => Err(error),
                (_, Err(error)) | (Err(error), _) => Err(error),
            }
        })
    }
}

/// Has git fetch the submodules, with the user's configuration for other hosts and without asking for passwords.
/// Returns whether it succeeded.
fn fetch(work: &Path, more: &[&str], deadline: Instant) -> Result<bool> {
    let mut git = Command::new("git");
    for (name, _) in std::env::vars_os() {
        let of_git = name.to_str().is_some_and(|name| name.starts_with("GIT_"));
        if of_git && !OF_TRANSPORT.iter().any(|kept| name == *kept) {
            git.env_remove(name);
        }
    }
    if std::env::var_os("GIT_SSH_COMMAND").is_none() && std::env::var_os("GIT_SSH").is_none() {
        git.env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes");
    }
    let mut child = git
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "/bin/false")
        .current_dir(work)
        .args(["submodule", "--quiet", "update", "--init", "--recursive"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(io::stderr())
        // A process group, so that all that it starts can be killed.
        .process_group(0)
        .spawn()
        .context("cannot run git")?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if Instant::now() >= deadline {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
            return Err(UserError::new("fetching the submodules took too long")
                .hint("the setting `build_timeout` moves the limit")
                .into());
        }
        thread::sleep(PAUSE);
    }
}
