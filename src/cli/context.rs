//! What every command needs: the state folder, the server, and the app.

use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::target::Target;
use crate::api::link::Link;
use crate::api::server::ServerInfo;
use crate::api::target;
use crate::cli::client::patience::Tries;
use crate::cli::client::start::{Launch, connect, connect_or_start, connect_to_any_or_start};
use crate::cli::client::{Client, Far, is_lost};
use crate::error::{UserError, tell};
use crate::home::Home;
use crate::model::app::Folder;
use crate::model::settings::{self, Settings, Sourced};

/// The state folder, the settings and the connection to the server, for one command.
#[derive(Debug)]
pub struct Context {
    /// The state folder.
    pub home: Home,
    /// The settings of this process.
    pub settings: Settings,
    sourced: Sourced,
    /// What is wrong with `config.toml`, which is then ignored as long as a server runs.
    misconfigured: Option<UserError>,
    app: Option<String>,
    /// The app that was named with `-a`.
    app_option: Option<String>,
    app_given: bool,
    client: Option<Client>,
    /// The server elsewhere that commands are for, if they are.
    far: Option<Far>,
    /// Whether there was a connection to a server that has gone.
    lost: bool,
    /// Whether to start a server if none runs.
    starts: bool,
}

impl Context {
    /// Changes to the folder of `-C`, and reads the settings.
    pub fn new(target: Target) -> Result<Self> {
        for directory in &target.directory {
            env::set_current_dir(directory).map_err(|error| {
                UserError::new(format!("cannot go to `{}`: {error}", directory.display()))
                    .hint("-C takes a folder")
            })?;
        }
        let app_given = target.app.is_some() || !target.directory.is_empty();
        let app_option = target.app.clone();
        let app = target
            .app
            .or_else(|| env::var("DYNO_APP").ok().filter(|app| !app.is_empty()));
        let variables = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let variables: Vec<String> = variables.filter(|name| name.starts_with("DYNO_")).collect();
        for told in settings::misspelt(variables.iter().map(String::as_str)) {
            tell!("warning: {told}");
        }
        let home = Home::of_process()?;
        let far = far(target.tls_ca, &home)?;
        let (sourced, misconfigured) = match settings_of(&home) {
            Ok(sourced) => (sourced, None),
            // An invalid environment is an error here.
            Err(error) => (Sourced::read(None, variable)?, Some(error)),
        };
        Ok(Self {
            home,
            settings: sourced.settings.clone(),
            sourced,
            misconfigured,
            app,
            app_option,
            app_given,
            client: None,
            far,
            lost: false,
            starts: true,
        })
    }

    /// A context that never starts a server, for processes that a server has started with limits and variables that a
    /// server must not inherit.
    pub fn starting_none(self) -> Self {
        Self {
            starts: false,
            ..self
        }
    }

    /// The settings of this process with their sources.
    ///
    /// # Errors
    /// When `config.toml` is not valid.
    pub fn sourced(&self) -> Result<&Sourced, UserError> {
        match &self.misconfigured {
            Some(error) => Err(error.clone()),
            None => Ok(&self.sourced),
        }
    }

    /// The settings of this process without `config.toml`, for when that is not valid.
    pub fn sourced_without_file(&self) -> &Sourced {
        &self.sourced
    }

    /// The connection to the server, which is started if none runs. A context that [starts none](Self::starting_none)
    /// returns an error for which [`is_lost`](crate::cli::client::is_lost) is true.
    ///
    /// # Errors
    /// Why there is no server, or why `config.toml` is not valid, so that none can start. A server that runs keeps its
    /// settings; then only a warning is printed.
    pub fn client(&mut self) -> Result<&mut Client> {
        if let (None, Some(far)) = (&self.client, &self.far) {
            self.client = Some(Client::connect_far(far)?);
        }
        if self.client.is_none() {
            self.client = Some(match &self.misconfigured {
                None if !self.starts => {
                    let running = connect(&self.home)?;
                    let (client, _) =
                        running.ok_or_else(|| io::Error::from(ErrorKind::NotConnected))?;
                    client
                }
                // After a lost connection, any server will do.
                None if self.lost => connect_to_any_or_start(&self.home, &Launch::default())?,
                None => connect_or_start(&self.home, &Launch::default())?,
                Some(error) => {
                    let running = connect(&self.home)?;
                    let (client, _) = running.ok_or_else(|| error.clone())?;
                    warn(error);
                    client
                }
            });
        }
        self.client.as_mut().context("no connection to the server")
    }

    /// The connection to the server and its info, if one runs.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn running(&mut self) -> Result<Option<(&mut Client, ServerInfo)>> {
        let Some((client, server)) = connect(&self.home)? else {
            return Ok(None);
        };
        if let Some(error) = &self.misconfigured {
            warn(error);
        }
        Ok(Some((self.client.insert(client), server)))
    }

    /// Forgets a server that has gone: the next [`client`](Self::client) connects to its successor, or starts one. A
    /// successor of another build is not replaced.
    pub fn forget_client(&mut self) {
        self.client = None;
        self.lost = true;
    }

    /// Asks the server, and after it has gone its successor, until the time of `tries` is over. A server that cannot be
    /// reached may be starting, or being replaced.
    ///
    /// # Errors
    /// The server's refusal, at once; the error of the last try, when the time is over.
    pub fn again<T>(
        &mut self,
        tries: &mut Tries,
        mut question: impl FnMut(&mut Client) -> Result<T>,
    ) -> Result<T> {
        loop {
            let error = match self.client().map(&mut question) {
                Ok(Ok(answer)) => {
                    tries.succeeded();
                    return Ok(answer);
                }
                Ok(Err(error)) if !is_lost(&error) => return Err(error),
                Ok(Err(error)) | Err(error) => error,
            };
            if !tries.again() {
                return Err(error);
            }
            self.forget_client();
        }
    }

    /// Connects again after the server has gone, to its successor; starts one if none runs.
    ///
    /// # Errors
    /// As [`client`](Self::client).
    pub fn connect_again(&mut self) -> Result<()> {
        self.forget_client();
        self.client().map(drop)
    }

    /// Whether commands are for a server elsewhere, for which folders of this host have no meaning.
    pub fn is_far(&self) -> bool {
        self.far.is_some()
    }

    /// The server elsewhere that commands are for, if they are.
    pub fn far(&self) -> Option<&Far> {
        self.far.as_ref()
    }

    /// Checks that the app can be found by a folder of this host.
    ///
    /// # Errors
    /// When the server is elsewhere.
    pub fn check_here(&self) -> Result<(), UserError> {
        match &self.far {
            None => Ok(()),
            Some(far) => Err(UserError::new(format!(
                "which app? folders are not linked to those of `{}`",
                far.authority()
            ))
            .hint("-a NAME or DYNO_APP says which; `dyno create NAME` makes one there")),
        }
    }

    /// Checks that a command about the server's host is possible.
    ///
    /// # Errors
    /// When the server is elsewhere.
    pub fn check_near(&self, command: &str) -> Result<(), UserError> {
        match &self.far {
            None => Ok(()),
            Some(far) => Err(UserError::new(format!(
                "`dyno {command}` is about this host, and DYNO_HOST means the server at `{}`",
                far.authority()
            ))
            .hint("run it there, or without DYNO_HOST for this one")),
        }
    }

    /// Takes the connection out, for an attach; the next [`client`](Self::client) connects again.
    pub fn take_client(&mut self) -> Result<Client> {
        self.client.take().context("no connection to the server")
    }

    /// The app that was named, with `-a` or `$DYNO_APP`.
    pub fn named_app(&self) -> Option<&str> {
        self.app.as_deref()
    }

    /// The app that was named with `-a`.
    pub fn app_option(&self) -> Option<&str> {
        self.app_option.as_deref()
    }

    /// Whether the app was named with `-a` or `-C`, rather than by the environment or this folder.
    pub fn is_app_given(&self) -> bool {
        self.app_given
    }

    /// The app that was named, or else that of the linked folder.
    ///
    /// # Errors
    /// When none was named, and neither this folder nor one above is linked.
    pub fn app(&mut self) -> Result<String> {
        if let Some(app) = &self.app {
            return Ok(app.clone());
        }
        self.check_here()?;
        match self.own_link(&current_folder()?)? {
            Some(link) => Ok(link.app.name),
            None => Err(self.no_app().into()),
        }
    }

    /// The error when no app was named, in a folder that is not linked to one.
    pub fn no_app(&mut self) -> UserError {
        let here = current_folder().unwrap_or_default();
        let moved = here
            .ancestors()
            .find_map(|folder| Some((folder, self.moved(folder)?)));
        moved.map_or_else(no_app, |(folder, link)| moved_away(folder, &link))
    }

    /// Checks that a folder without a link is not a linked one that was moved here.
    ///
    /// # Errors
    /// When it is; the hint names the app.
    pub fn check_not_moved(&mut self, folder: &Path) -> Result<(), UserError> {
        match self.moved(folder) {
            Some(link) => Err(moved_away(folder, &link)),
            None => Ok(()),
        }
    }

    /// The link that a folder had under its earlier path; None also after an error, as it only makes a hint.
    fn moved(&mut self, folder: &Path) -> Option<Link> {
        let path = target::encode(folder.to_str()?);
        let target = format!("/links/moved?path={path}");
        self.client().ok()?.get(&target).ok()?
    }

    /// The link of the current folder, or of the nearest linked one above.
    pub fn link(&mut self) -> Result<Option<Link>> {
        self.link_of(&current_folder()?)
    }

    /// The link of a folder, given by its canonical path, or of the nearest linked one above whose app it belongs to.
    ///
    /// # Errors
    /// When a folder below the linked one has a Procfile of its own, and so is an app of its own.
    pub fn own_link(&mut self, folder: &Path) -> Result<Option<Link>> {
        let link = self.link_of(folder)?;
        if let Some(link) = &link {
            check_own(folder, link)?;
        }
        Ok(link)
    }

    /// The link of a folder, given by its canonical path, or of the nearest linked one above.
    pub fn link_of(&mut self, folder: &Path) -> Result<Option<Link>> {
        if self.is_far() {
            return Ok(None);
        }
        let target = format!("/links?path={}", target::encode(&folder.to_string_lossy()));
        self.client()?.get(&target)
    }
}

/// The settings of this process, from the state folder and the environment.
fn settings_of(home: &Home) -> Result<Sourced, UserError> {
    Sourced::read(home.config_file()?.as_ref(), variable)
}

/// The server elsewhere that the environment names, if any.
fn far(ca: Option<PathBuf>, home: &Home) -> Result<Option<Far>, UserError> {
    let Some(url) = variable("DYNO_HOST").filter(|url| !url.is_empty()) else {
        return Ok(None);
    };
    let ca = ca.or_else(|| {
        env::var_os("DYNO_TLS_CA")
            .filter(|ca| !ca.is_empty())
            .map(PathBuf::from)
    });
    Far::new(&url, variable("DYNO_API_KEY"), ca.as_deref(), home.path()).map(Some)
}

/// An environment variable; invalid UTF-8 is replaced, and then refused as an invalid value.
fn variable(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

fn warn(error: &UserError) {
    tell!("warning: {error}; the server goes on with the settings it has");
}

/// The error when no app was named.
fn no_app() -> UserError {
    UserError::new("which app? this folder is not linked to one")
        .hint("-a NAME says which; `dyno link -a NAME` links this folder to it, `dyno create` makes a new one")
}

/// The error for a folder that was linked under another path.
fn moved_away(folder: &Path, link: &Link) -> UserError {
    let (app, folder) = (&link.app.name, folder.display());
    UserError::new(format!(
        "which app? `{folder}` was `{}` when it was linked to `{app}`",
        link.path
    ))
    .hint(format!(
        "in that folder, `dyno link -a {app}` links it again, and `dyno create` makes a new app of it"
    ))
}

fn check_own(folder: &Path, link: &Link) -> Result<(), UserError> {
    let linked = Path::new(&link.path);
    let mut below = folder.ancestors().take_while(|folder| *folder != linked);
    let Some(own) = below.find(|folder| folder.join("Procfile").is_file()) else {
        return Ok(());
    };
    let (app, linked) = (&link.app.name, &link.path);
    let message = format!(
        "`{}` has a Procfile of its own, but it is `{linked}`, above it, that is linked to `{app}`",
        own.display()
    );
    let place = if own == folder { "here" } else { "there" };
    let hint =
        format!("`dyno create` {place} makes it an app of its own; `-a {app}` means the one above");
    Err(UserError::new(message).hint(hint))
}

/// The canonical path of the current folder.
pub fn current_folder() -> Result<PathBuf> {
    let here = env::current_dir().and_then(|here| here.canonicalize());
    here.map_err(|error| {
        UserError::new(format!("cannot tell the current folder: {error}"))
            .hint("it was removed or moved: go to another one")
            .into()
    })
}

/// The folder at `path`, identified for a link: path, device and inode.
pub fn folder(path: &Path) -> Result<Folder> {
    let metadata =
        fs::metadata(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let path = path.to_str().ok_or_else(|| {
        UserError::new(format!(
            "the folder's name `{}` is not UTF-8",
            path.display()
        ))
        .hint("rename it, or say which app with -a")
    })?;
    Ok(Folder {
        path: path.to_owned(),
        device: metadata.dev(),
        inode: metadata.ino(),
    })
}

/// The API's path of an app's resource: `/apps/NAME` and `rest`.
pub fn app_path(app: &str, rest: &str) -> String {
    format!("/apps/{}{rest}", target::encode(app))
}
