//! The state folder, which holds all state of one host's dynos: where it is, which user it belongs to, and the names at
//! its top.
//!
//! Command line and server find each other through it.

pub mod config_file;
pub mod lock;

use std::ffi::OsString;
use std::fs::{DirBuilder, DirEntry, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::UserError;
use crate::slug::SlugId;

/// The folder of the dynos' folders.
const DYNOS: &str = "dynos";

/// The mode of a folder that only its owner can use.
const PRIVATE: u32 = 0o700;

/// The mode of a folder that other users can pass through but not list.
const PASSABLE: u32 = 0o711;

/// The state folder: `$DYNO_HOME`, or its default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    path: PathBuf,
}

impl Home {
    /// The folder of this process's user and environment, made if it is missing.
    ///
    /// # Errors
    /// When the environment does not say where it is, when it cannot be made, or as [`open`](Self::open).
    pub fn of_process() -> anyhow::Result<Self> {
        let root = rustix::process::geteuid().is_root();
        let path = locate(|name| std::env::var_os(name), root)?;
        Self::open(&path)
    }

    /// The folder at `path`, made if it is missing. It is for its owner alone: other users must not
    /// reach the sockets in it, nor read the config vars.
    ///
    /// # Errors
    /// When it cannot be made, is no folder, or belongs to another user.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let failed = |error: std::io::Error| {
            UserError::new(format!(
                "cannot use `{}` for the state of dyno: {error}",
                path.display()
            ))
            .hint("set DYNO_HOME to a folder that you can write to")
        };
        if !path.is_absolute() {
            let message = format!("DYNO_HOME=`{}` is no absolute path", path.display());
            let hint = "it would be another folder wherever you are: write it from `/` on";
            return Err(UserError::new(message).hint(hint).into());
        }
        // Dynos of a root server run as other users, who have to pass through the folders above; some images have no `/var`.
        for (folder, mode) in [(path.parent(), PASSABLE), (Some(path), PRIVATE)] {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(mode);
            folder
                .map_or(Ok(()), |it| builder.create(it))
                .map_err(failed)?;
        }
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            let message = format!("`{}` belongs to another user", path.display());
            let error = UserError::new(message);
            return Err(error.hint("set DYNO_HOME to a folder of your own").into());
        }
        if !is_ours_or_empty(path).map_err(failed)? {
            let message = format!(
                "`{}` holds other things than the state of dyno",
                path.display()
            );
            return Err(UserError::new(message)
                .hint("set DYNO_HOME to a folder for dyno alone")
                .into());
        }
        if !matches!(metadata.mode() & 0o777, PRIVATE | PASSABLE) {
            std::fs::set_permissions(path, Permissions::from_mode(PRIVATE)).map_err(failed)?;
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// The folder itself; absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether other users can pass through the state folder.
    pub fn is_passable(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|folder| folder.mode() & 0o777 == PASSABLE)
    }

    /// Lets other users, as which dynos may run, pass through to the dynos' folders, or stops that. Everything else in
    /// the state folder is made private.
    ///
    /// # Errors
    /// When modes cannot be changed.
    pub fn let_through(&self, through: bool) -> std::io::Result<()> {
        let dynos = self.path.join(DYNOS);
        if through {
            for entry in std::fs::read_dir(&self.path)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() || kind.is_file() {
                    let mode = entry.metadata()?.mode() & PRIVATE;
                    std::fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
                }
            }
        }
        let mode = if through { PASSABLE } else { PRIVATE };
        for folder in [&dynos, &self.path] {
            match std::fs::set_permissions(folder, Permissions::from_mode(mode)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The error for a file of the state that cannot be written.
    pub fn not_written(file: &Path, error: &std::io::Error) -> UserError {
        UserError::new(format!("cannot write `{}`: {error}", file.display()))
            .hint("make it writable and make room, or set DYNO_HOME to another folder")
    }

    /// The path of the API's socket. It can exist without a server that listens.
    pub fn api_socket(&self) -> PathBuf {
        self.path.join("api.sock")
    }

    /// The path of the server's lock.
    pub fn server_lock(&self) -> PathBuf {
        self.path.join("server.lock")
    }

    /// The file in which the server notes why dynos do not get namespaces, if that was not configured.
    pub fn isolation_note(&self) -> PathBuf {
        self.path.join("isolation")
    }

    /// The file with the part of that note that has been shown to the user.
    pub fn isolation_told(&self) -> PathBuf {
        self.path.join("isolation.told")
    }

    /// The path of a slug's tree, which exists if the slug was unpacked.
    pub fn slug_tree(&self, digest: SlugId) -> PathBuf {
        self.path.join("slugs").join(digest.to_string())
    }

    /// The log of a server that the command line has started.
    pub fn server_log(&self) -> PathBuf {
        self.path.join("server.log")
    }
}

/// The path of the state folder for a user with this environment.
fn locate(env: impl Fn(&str) -> Option<OsString>, root: bool) -> Result<PathBuf, UserError> {
    let folder = |name| {
        env(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(home) = folder("DYNO_HOME") {
        return Ok(home);
    }
    if root {
        return Ok(PathBuf::from("/var/lib/dyno"));
    }
    // The base directory specification has relative paths ignored.
    if let Some(data) = folder("XDG_DATA_HOME").filter(|path| path.is_absolute()) {
        return Ok(data.join("dyno"));
    }
    match folder("HOME").filter(|path| path.is_absolute()) {
        Some(home) => Ok(home.join(".local/share/dyno")),
        None => Err(
            UserError::new("no folder for the state of dyno: `HOME` is not set")
                .hint("set DYNO_HOME to a folder of your own"),
        ),
    }
}

/// Whether `path` is a state folder or empty, so that making it private hides no foreign file.
fn is_ours_or_empty(path: &Path) -> std::io::Result<bool> {
    const OURS: [&str; 4] = ["server.log", "server.lock", "state.db", "api.sock"];
    // The settings may be written before anything else.
    let strange = |entry: std::io::Result<DirEntry>| match entry {
        Ok(entry) => entry.file_name() != config_file::NAME,
        Err(_) => true,
    };
    let empty = !std::fs::read_dir(path)?.any(strange);
    // Checked in this order, since another command may be making the state folder meanwhile.
    Ok(empty || OURS.iter().any(|name| path.join(name).exists()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_where_the_environment_says() {
        let locate = |variables: &[(&str, &str)], root| {
            let find = |name: &str| variables.iter().find(|(other, _)| *other == name);
            locate(|name| find(name).map(|(_, value)| value.into()), root)
                .map(|path| path.display().to_string())
        };
        let home = ("HOME", "/home/ada");
        assert_eq!(
            locate(&[home], false).unwrap(),
            "/home/ada/.local/share/dyno"
        );
        assert_eq!(
            locate(&[home, ("XDG_DATA_HOME", "/d")], false).unwrap(),
            "/d/dyno"
        );
        assert_eq!(
            locate(&[home, ("XDG_DATA_HOME", "d")], false).unwrap(),
            "/home/ada/.local/share/dyno"
        );
        assert_eq!(
            locate(&[home, ("XDG_DATA_HOME", "/d")], true).unwrap(),
            "/var/lib/dyno"
        );
        assert_eq!(locate(&[home, ("DYNO_HOME", "/x")], true).unwrap(), "/x");
        assert_eq!(
            locate(&[home, ("DYNO_HOME", "")], true).unwrap(),
            "/var/lib/dyno"
        );
        assert!(locate(&[], false).unwrap_err().hint.is_some());
    }

    #[test]
    fn the_folder_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let home = Home::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let above = std::fs::metadata(folder.path().join("a")).unwrap();
        assert_eq!(above.mode() & 0o711, 0o711, "dynos could not get through");
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(Home::open(&path).unwrap(), home);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);

        // Through to the dynos' folders, and nowhere else.
        let mode = |name: &str| std::fs::metadata(path.join(name)).unwrap().mode() & 0o777;
        std::fs::create_dir(path.join("dynos")).unwrap();
        std::fs::write(path.join("state.db"), "").unwrap();
        home.let_through(true).unwrap();
        Home::open(&path).unwrap();
        assert_eq!(
            (mode(""), mode("dynos"), mode("state.db")),
            (0o711, 0o711, 0o600)
        );
        home.let_through(false).unwrap();
        assert_eq!((mode(""), mode("dynos")), (0o700, 0o700));

        let foreign = if rustix::process::geteuid().is_root() {
            rustix::fs::chown(&path, Some(rustix::fs::Uid::from_raw(12345)), None).unwrap();
            path
        } else {
            PathBuf::from("/")
        };
        let error = Home::open(&foreign).unwrap_err();
        assert!(
            error
                .downcast_ref::<UserError>()
                .is_some_and(|error| error.hint.is_some())
        );
    }
}
