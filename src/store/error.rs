//! Why a verb of the store fails, as a message for the user.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rusqlite::ffi;

use crate::api::ApiError;
use crate::error::UserError;
use crate::model::app::AppName;
use crate::model::dyno::Reached;
use crate::model::formation::ScaleRefusal;
use crate::model::release::Version;

/// Why a verb failed. It has changed nothing.
#[derive(Debug)]
pub enum StoreError {
    /// No app has this name or id.
    NoApp(String),
    /// The app has no release of this version or id.
    NoRelease(AppName, String),
    /// No slug has this id, or another app has it.
    NoSlug(String),
    /// No source has this id, or it is too old.
    NoSource(String),
    /// No build has this id, or it is no longer kept.
    NoBuild(String),
    /// As many sources as allowed wait to be built.
    TooManySources(u32),
    /// The source's tarball has not arrived.
    SourceNotUploaded,
    /// The app has no dyno of this name or id.
    NoDyno(String),
    /// No token has this id.
    NoToken(String),
    /// Another app has the name.
    NameTaken(AppName),
    /// No release of the app has a slug, so there is nothing to run.
    NotDeployed(AppName),
    /// The slug's tarball has not arrived.
    NotUploaded(String),
    /// The tarball is not the one that was announced.
    OtherDigest {
        /// As announced.
        expected: String,
        /// As arrived.
        actual: String,
    },
    /// No rollback to this release is possible: it failed, or has no slug.
    NotEligible(AppName, Version),
    /// No rollback to this release is possible: it is too old, and its slug is deleted.
    Expired(AppName, Version),
    /// The release is the current one.
    AlreadyCurrent(AppName, Version),
    /// The app has as many dynos as allowed.
    TooManyDynos(AppName, Reached),
    /// A one-off dyno cannot have a process type of the formation.
    TypeOfFormation(AppName, String),
    /// The change of the formation is refused.
    Formation(AppName, ScaleRefusal),
    /// A value breaks a rule.
    Rule(UserError),
    /// A newer version of this program made the database.
    Newer(PathBuf),
    /// The disk is full, or cannot be written to.
    Full,
    /// SQLite or the kernel failed in another way.
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

/// The kinds of [`StoreError`] that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// What was named does not exist.
    NotFound,
    /// What was asked for is not possible.
    Refused,
    /// The disk is full.
    Full,
    /// The database or the host failed.
    Broken,
}

impl StoreError {
    /// The kind of this error.
    pub fn kind(&self) -> StoreErrorKind {
        match self {
            Self::NoApp(_)
            | Self::NoRelease(..)
            | Self::NoSlug(_)
            | Self::NoSource(_)
            | Self::NoBuild(_)
            | Self::NoDyno(_)
            | Self::NoToken(_)
            | Self::Formation(_, ScaleRefusal::NoType { .. }) => StoreErrorKind::NotFound,
            Self::Full => StoreErrorKind::Full,
            Self::Newer(_) | Self::Broken(_) => StoreErrorKind::Broken,
            _ => StoreErrorKind::Refused,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoApp(name) => match AppName::parse(name) {
                Ok(_) => format!("`dyno apps` lists yours; `dyno create {name}` makes it"),
                Err(_) => "`dyno apps` lists yours".to_owned(),
            },
            Self::NoRelease(app, _) => format!("`dyno releases -a {app}` lists them"),
            Self::NoSlug(_) | Self::NoBuild(_) => return None,
            Self::NoSource(_) => {
                "each is kept for an hour: `POST /sources` makes another".to_owned()
            }
            Self::TooManySources(_) => "each is kept for an hour: try again later".to_owned(),
            Self::SourceNotUploaded => {
                "`PUT` it to the `put_url` that `POST /sources` answers with, before it is built"
                    .to_owned()
            }
            Self::NoDyno(_) => "`dyno ps` lists those that run".to_owned(),
            Self::NoToken(_) => "`dyno auth:token --list` shows those there are".to_owned(),
            Self::NameTaken(_) => "`dyno apps` lists the names in use".to_owned(),
            Self::NotDeployed(app) => {
                format!("`dyno deploy -a {app}` in the app's folder releases it")
            }
            Self::NotUploaded(_) => "upload it before you release it".to_owned(),
            Self::OtherDigest { .. } => "the upload was damaged: try again".to_owned(),
            Self::NotEligible(app, _) => {
                format!(
                    "only what was deployed and has succeeded can run again: `dyno releases -a {app}`"
                )
            }
            Self::Expired(app, _) => {
                format!(
                    "`dyno releases -a {app}` lists them all; the setting `keep_releases` says how many are kept"
                )
            }
            Self::AlreadyCurrent(app, _) => {
                format!("`dyno releases -a {app}` lists the earlier ones")
            }
            Self::TooManyDynos(app, reached) => {
                let wait =
                    format!("wait for one to end, or stop one: `dyno ps -a {app}` lists them");
                match reached.setting() {
                    Some(setting) => format!("{wait}; the setting `{setting}` moves the limit"),
                    None => wait,
                }
            }
            Self::TypeOfFormation(_, process_type) => {
                format!("`dyno run {process_type}` runs its command as a one-off")
            }
            Self::Formation(app, refusal) => refusal.hint(app.as_str()),
            Self::Rule(error) => return error.hint.clone(),
            Self::Newer(_) => "install the dyno that made it, or a later one".to_owned(),
            Self::Full => "nothing was changed; free some space and try again".to_owned(),
            Self::Broken(_) => return None,
        })
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoApp(name) => write!(f, "no app named `{name}`"),
            Self::NoRelease(app, release) => write!(f, "`{app}` has no release `{release}`"),
            Self::NoSlug(id) => write!(f, "no slug `{id}`"),
            Self::NoSource(id) => write!(f, "no source `{id}`"),
            Self::NoBuild(id) => write!(f, "no build `{id}`"),
            Self::TooManySources(most) => {
                write!(f, "{most} sources are kept already, which is the limit")
            }
            Self::SourceNotUploaded => f.write_str("the tarball of the source has not arrived"),
            Self::NoToken(id) => write!(f, "no token `{id}`"),
            Self::NoDyno(name) => write!(f, "no dyno `{name}`"),
            Self::NameTaken(name) => write!(f, "the name `{name}` is taken"),
            Self::NotDeployed(app) => write!(f, "nothing has been deployed to `{app}` yet"),
            Self::NotUploaded(id) => write!(f, "the tarball of slug `{id}` has not arrived"),
            Self::OtherDigest { expected, actual } => {
                write!(
                    f,
                    "the tarball has the digest `{actual}` instead of `{expected}`"
                )
            }
            Self::NotEligible(app, version) => {
                write!(f, "`{app}` cannot go back to `{version}`")
            }
            Self::Expired(app, version) => {
                write!(f, "`{version}` of `{app}` has expired: its slug is gone")
            }
            Self::AlreadyCurrent(app, version) => {
                write!(f, "`{version}` is what `{app}` runs already")
            }
            Self::TooManyDynos(app, reached) => {
                write!(f, "`{app}` has {reached}, which is the limit")
            }
            Self::TypeOfFormation(app, process_type) => {
                write!(
                    f,
                    "`{process_type}` is a process type of `{app}`, not one for a one-off dyno"
                )
            }
            Self::Formation(_, refusal) => refusal.fmt(f),
            Self::Rule(error) => error.fmt(f),
            Self::Newer(path) => write!(f, "a newer dyno made the state in `{}`", path.display()),
            Self::Full => f.write_str("there is no room to write the state"),
            Self::Broken(error) => write!(f, "the state cannot be used: {error}"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broken(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<UserError> for StoreError {
    fn from(error: UserError) -> Self {
        Self::Rule(error)
    }
}

impl From<rusqlite::Error> for StoreError {
    /// SQLite calls a full disk `FULL`, but an exhausted quota, and a full disk under its shared
    /// memory file, an I/O error.
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error() {
            Some(failure)
                if failure.code == rusqlite::ErrorCode::DiskFull
                    || failure.extended_code == ffi::SQLITE_IOERR_WRITE
                    || failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE =>
            {
                Self::Full
            }
            _ => Self::Broken(Box::new(error)),
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull => Self::Full,
            _ => Self::Broken(Box::new(error)),
        }
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Broken(Box::new(error))
    }
}

impl From<StoreError> for UserError {
    fn from(error: StoreError) -> Self {
        let mut user_error = Self::new(error.to_string());
        user_error.hint = error.hint();
        user_error
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let (kind, message, hint) = (error.kind(), error.to_string(), error.hint());
        let error = match kind {
            StoreErrorKind::NotFound => Self::not_found(message),
            StoreErrorKind::Refused => Self::invalid(message),
            StoreErrorKind::Full => Self::no_room(message),
            StoreErrorKind::Broken => Self::internal(message),
        };
        Self { hint, ..error }
    }
}
