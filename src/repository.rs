//! The git repositories that apps are pushed to: `git/APP.git` in the state folder, bare, with a configuration and
//! hooks that this program writes.
//!
//! They are made without running git. Configuration and hooks are written again at every use, so that what another
//! version wrote, or a user changed by mistake, is repaired; git's own files (`objects`, `refs`, `HEAD`) are not
//! touched. The hooks are one script for all repositories, which runs this program; the server writes its path into the
//! script at each start. What a push does is in `cli/git_hook`.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::Builder;

use crate::kernel::temporary::{self, HeldFolder};
use crate::kernel::tree::remove_tree;
use crate::model::command_line::quote;

/// The branches that are deployed when they are pushed (Heroku's).
pub const DEPLOYED: [&str; 2] = ["refs/heads/main", "refs/heads/master"];

/// What git makes of `git push v1:main` if `v1` is a tag and there is no branch `main` yet; the branch is meant.
pub const MEANT: [&str; 2] = ["refs/tags/main", "refs/tags/master"];

/// The hooks that git is to run.
const HOOKS: [&str; 2] = ["pre-receive", "proc-receive"];

/// The file in a repository that has its app's id: an app may be destroyed, and another one get its name.
const OWNER: &str = "dyno-app";

/// The file in a repository that is locked by the push that deploys.
const LOCK: &str = "dyno.lock";

/// The environment variable of the git that the server runs for a client elsewhere: the toolchains of the server's host
/// are not the client's.
pub const FROM_AFAR: &str = "DYNO_PUSH_FROM_AFAR";

/// Limits that git enforces in a repository.
#[derive(Debug, Clone, Copy)]
pub struct RepositoryLimits {
    /// The largest pack that is accepted, in bytes.
    pub pack_bytes: u64,
}

/// All repositories of a host.
#[derive(Debug, Clone)]
pub struct Repositories {
    folder: PathBuf,
}

impl Repositories {
    /// The repositories in the state folder `home`.
    pub fn new(home: &Path) -> Self {
        Self {
            folder: home.join("git"),
        }
    }

    /// The path of an app's repository, whether it exists or not.
    pub fn path(&self, app: &str) -> PathBuf {
        self.folder.join(format!("{app}.git"))
    }

    /// The repository of the app with this name and id. Made if there is none, else repaired.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn ensure(
        &self,
        app: &str,
        app_id: &str,
        bounds: RepositoryLimits,
        program: &Path,
    ) -> io::Result<PathBuf> {
        private_folder(&self.folder)?;
        self.write_hooks(program)?;
        let path = self.path(app);
        if let Some(other) = owner_of(&path).filter(|owner| owner != app_id) {
            self.set_aside(&other)?;
        }
        if !path.join(OWNER).exists() {
            let temporary = self.temporary()?;
            let made = temporary.path().join("repository");
            make(&made, app_id)?;
            self.settle(&made, bounds)?;
            match fs::rename(&made, &path) {
                Ok(()) => return Ok(path),
                // Another process was faster.
                Err(error) if path.join(OWNER).exists() => drop(error),
                Err(error) => return Err(error),
            }
        }
        self.settle(&path, bounds)?;
        Ok(path)
    }

    /// Writes the configuration and hooks of a repository.
    fn settle(&self, path: &Path, bounds: RepositoryLimits) -> io::Result<()> {
        let hooks = self.hooks();
        let hooks = hooks
            .to_str()
            .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "the path is not UTF-8"))?;
        write_aside(
            &path.join("config"),
            config(hooks, bounds).as_bytes(),
            0o600,
        )?;
        write_aside(&path.join("info/attributes"), ATTRIBUTES.as_bytes(), 0o600)
    }

    /// Renames the repository of the app with this id, if it has one, since another app may get its name. It is deleted
    /// when the result is dropped.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn set_aside(&self, app_id: &str) -> io::Result<Option<HeldFolder>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if owner_of(&path).as_deref() == Some(app_id) {
                let aside = self.temporary()?;
                fs::rename(&path, aside.path().join("repository"))?;
                return Ok(Some(aside));
            }
        }
        Ok(None)
    }

    /// Renames an app's repository, if it has one, after the app was renamed.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn rename(&self, app_id: &str, old: &str, new: &str) -> io::Result<()> {
        let path = self.path(old);
        if owner_of(&path).as_deref() != Some(app_id) {
            return Ok(());
        }
        // A repository that an earlier app of that name has left behind.
        if let Some(other) = owner_of(&self.path(new)) {
            self.set_aside(&other)?;
        }
        fs::rename(path, self.path(new))
    }

    /// For the start of a server: has the hooks run `program`, and removes what interrupted processes left half done.
    /// Does nothing if no repository exists yet.
    ///
    /// # Errors
    /// When a file cannot be written or removed.
    pub fn take_over(&self, program: &Path) -> io::Result<()> {
        if !self.folder.exists() {
            return Ok(());
        }
        self.write_hooks(program)?;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_temporary = name.to_string_lossy().starts_with(temporary::PREFIX);
            if is_temporary && temporary::is_left_over(&entry.path()) {
                remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    /// A temporary folder beside the repositories.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn temporary(&self) -> io::Result<HeldFolder> {
        HeldFolder::new_in(&self.folder)
    }

    fn hooks(&self) -> PathBuf {
        self.folder.join("hooks")
    }

    fn write_hooks(&self, program: &Path) -> io::Result<()> {
        let folder = self.hooks();
        private_folder(&folder)?;
        let home = self.folder.parent().unwrap_or(&self.folder);
        let script = script(&home.to_string_lossy(), &program.to_string_lossy());
        for hook in HOOKS {
            let path = folder.join(hook);
            // A script that is right is not rewritten: it may be running.
            if fs::read(&path).ok().as_deref() != Some(script.as_bytes()) {
                write_aside(&path, script.as_bytes(), 0o700)?;
            }
        }
        Ok(())
    }
}

/// The id of the app whose repository is at `path`.
pub fn owner_of(path: &Path) -> Option<String> {
    let owner = fs::read_to_string(path.join(OWNER)).ok()?;
    Some(owner.trim().to_owned())
}

/// Locks the repository at `path` for one push. If another push has the lock, calls `wait` and then waits for it.
///
/// # Errors
/// When there is no such repository.
pub fn lock(path: &Path, wait: impl FnOnce()) -> io::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path.join(LOCK))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        wait();
        temporary::lock(&file)?;
    }
    Ok(file)
}

/// Makes the files of `git init --bare`.
fn make(path: &Path, app_id: &str) -> io::Result<()> {
    for folder in [
        "",
        "info",
        "objects/info",
        "objects/pack",
        "refs/heads",
        "refs/tags",
    ] {
        private_folder(&path.join(folder))?;
    }
    fs::write(path.join("HEAD"), format!("ref: {}\n", DEPLOYED[0]))?;
    fs::write(path.join(OWNER), format!("{app_id}\n"))
}

fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file under a temporary name and renames it, so that it is never seen incomplete.
fn write_aside(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    let mut file = Builder::new()
        .prefix(temporary::PREFIX)
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
        .tempfile_in(folder)?;
    file.write_all(text)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// The attributes for `git archive`: the files are built as committed, without `export-ignore` and `export-subst`.
const ATTRIBUTES: &str = "* -export-ignore -export-subst\n";

/// The configuration of a repository. Objects are checked when they are received, but not for faults that old tools
/// made and that can no longer be corrected.
fn config(hooks: &str, bounds: RepositoryLimits) -> String {
    let RepositoryLimits { pack_bytes } = bounds;
    let hooks = hooks.replace('\\', "\\\\").replace('"', "\\\"");
    let [main, master] = DEPLOYED;
    let [main_tag, master_tag] = MEANT;
    format!(
        "# Written by dyno; changes are lost.
[core]
	repositoryformatversion = 0
	filemode = true
	bare = true
	hooksPath = \"{hooks}\"
	logAllRefUpdates = false
	bigFileThreshold = 32m
	packedGitWindowSize = 64m
	packedGitLimit = 512m
[receive]
	fsckObjects = true
	maxInputSize = {pack_bytes}
	denyDeletes = false
	denyNonFastForwards = false
	procReceiveRefs = {main}
	procReceiveRefs = {master}
	procReceiveRefs = {main_tag}
	procReceiveRefs = {master_tag}
	advertisePushOptions = false
	shallowUpdate = false
[receive \"fsck\"]
	zeroPaddedFilemode = ignore
	missingSpaceBeforeDate = ignore
	badTimezone = ignore
[transfer]
	fsckObjects = true
[pack]
	threads = 1
	windowMemory = 64m
[gc]
	autoDetach = false
[http]
	receivepack = true
"
    )
}

/// The hook script: runs this program at its path, or else the one in the `PATH`.
fn script(home: &str, program: &str) -> String {
    let (home, program) = (quote(home), quote(program));
    format!(
        "#!/bin/sh
# Written by dyno; changes are lost.
DYNO_HOME={home}
export DYNO_HOME
unset DYNO_HOST DYNO_API_KEY
for dyno in {program} \"$(command -v dyno)\"; do
	if [ -x \"$dyno\" ]; then
		exec \"$dyno\" __git-hook \"${{0##*/}}\"
	fi
done
echo 'dyno is not there any more: install it, and run any command of it' >&2
exit 1
"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    use super::*;

    const BOUNDS: RepositoryLimits = RepositoryLimits {
        pack_bytes: 1 << 30,
    };

    fn repositories() -> (TempDir, Repositories) {
        let home = tempfile::tempdir().unwrap();
        let repositories = Repositories::new(home.path());
        (home, repositories)
    }

    #[test]
    fn a_repository_is_made_once_and_put_right_ever_after() {
        let (_home, repositories) = repositories();
        let ensure = |id: &str| repositories.ensure("shop", id, BOUNDS, Path::new("/bin/dyno"));
        let path = ensure("1").unwrap();
        assert_eq!(path, repositories.path("shop"));
        fs::write(path.join("objects/kept"), "").unwrap();
        fs::write(path.join("config"), "nonsense").unwrap();
        assert_eq!(ensure("1").unwrap(), path);
        assert!(path.join("objects/kept").exists());
        let config = fs::read_to_string(path.join("config")).unwrap();
        assert!(config.contains("fsckObjects = true") && config.contains("= 1073741824\n"));
        assert_eq!(owner_of(&path).as_deref(), Some("1"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("config"))), (0o700, 0o600));
        // Another app of the same name has nothing of it.
        ensure("2").unwrap();
        assert!(!path.join("objects/kept").exists());
        drop(repositories.set_aside("2").unwrap().unwrap());
        assert!(repositories.set_aside("2").unwrap().is_none());
        assert!(!path.exists());
        let left = fs::read_dir(path.parent().unwrap()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["hooks"]);
    }

    #[test]
    fn hooks_run_the_program_where_it_is_now() {
        let (home, repositories) = repositories();
        repositories.take_over(Path::new("/nowhere")).unwrap();
        assert!(!repositories.folder.exists(), "nobody has pushed");
        let program = home.path().join("it's dyno");
        fs::write(&program, "#!/bin/sh\necho \"$DYNO_HOME $*\"\n").unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
        repositories
            .ensure("shop", "1", BOUNDS, Path::new("/nowhere"))
            .unwrap();
        let held = repositories.temporary().unwrap();
        let left = repositories.folder.join(".tmp-left");
        fs::create_dir(&left).unwrap();
        repositories.take_over(&program).unwrap();
        assert!(held.path().exists() && !left.exists());
        for hook in HOOKS {
            let hook_file = repositories.hooks().join(hook);
            let output = std::process::Command::new(hook_file).output().unwrap();
            let expected = format!("{} __git-hook {hook}\n", home.path().display());
            assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        }
    }

    #[test]
    fn a_push_waits_for_another() {
        let (_home, repositories) = repositories();
        let path = repositories
            .ensure("shop", "1", BOUNDS, Path::new("/nowhere"))
            .unwrap();
        let held = lock(&path, || panic!("nobody has it")).unwrap();
        let (waits, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                lock(&path, move || waits.send(()).unwrap()).unwrap();
            });
            told.recv().unwrap();
            drop(held);
        });
        assert!(lock(&repositories.path("none"), || {}).is_err());
    }
}
