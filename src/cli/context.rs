//! What every command needs: the state folder, the server, and which app is meant.

use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::target::Target;
use crate::api::link::Link;
use crate::api::server::ServerInfo;
use crate::cli::client::start::{Launch, connect, connect_or_start, connect_to_any_or_start};
use crate::cli::client::{Client, Far};
use crate::error::{UserError, tell};
use crate::home::Home;
use crate::model::app::Folder;
use crate::model::settings::{self, Settings, Sourced};
use crate::wire::http::target;

/// See the [module](self).
#[derive(Debug)]
pub struct Context {
    /// The state folder.
    pub home: Home,
    /// The limits and times.
    pub settings: Settings,
    sourced: Sourced,
    /// What is wrong with `config.toml`, which is then passed over as long as a server runs.
    misconfigured: Option<UserError>,
    app: Option<String>,
    app_given: bool,
    client: Option<Client>,
    /// The server elsewhere that commands are for.
    far: Option<Far>,
    /// There was a connection, and the server at its other end has gone.
    lost: bool,
    /// A server is started if none runs.
    starts: bool,
}

impl Context {
    /// Goes to the folder that was asked for, and reads the environment.
    pub fn new(target: Target) -> Result<Self> {
        for directory in &target.directory {
            env::set_current_dir(directory).map_err(|error| {
                UserError::new(format!("cannot go to `{}`: {error}", directory.display()))
                    .hint("-C takes a folder")
            })?;
        }
        let app_given = target.app.is_some() || !target.directory.is_empty();
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
            // An environment that makes no sense is an error here.
            Err(error) => (Sourced::read(None, variable)?, Some(error)),
        };
        Ok(Self {
            home,
            settings: sourced.settings.clone(),
            sourced,
            misconfigured,
            app,
            app_given,
            client: None,
            far,
            lost: false,
            starts: true,
        })
    }

    /// The same for whoever a server has started, with limits and variables that no server is to have: it does with
    /// those that others start.
    pub fn starting_none(self) -> Self {
        Self {
            starts: false,
            ..self
        }
    }

    /// The settings of this process with their sources.
    ///
    /// # Errors
    /// When `config.toml` makes no sense.
    pub fn sourced(&self) -> Result<&Sourced, UserError> {
        match &self.misconfigured {
            Some(error) => Err(error.clone()),
            None => Ok(&self.sourced),
        }
    }

    /// The same as far as they come from the environment, when `config.toml` makes no sense.
    pub fn sourced_without_file(&self) -> &Sourced {
        &self.sourced
    }

    /// The server; started if none runs, or, for who [starts none](Self::starting_none), an error that
    /// [is a lost server's](crate::cli::client::is_lost).
    ///
    /// # Errors
    /// Says why there is no server, or what is wrong with `config.toml`, with which none can start. One that runs goes on
    /// with the settings that it has; a warning tells what is wrong.
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
                // Whoever has lost one server goes on with whichever replaced it.
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

    /// The server with the facts about it, if one runs.
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

    /// Forgets a server that has gone: the next [`client`](Self::client) finds its successor, or starts one.
    /// That one may be of another build: it is not this command that is to replace it.
    pub fn forget_client(&mut self) {
        self.client = None;
        self.lost = true;
    }

    /// Connects anew after the server has gone, to whichever there is now; starts one if none runs.
    ///
    /// # Errors
    /// As [`client`](Self::client).
    pub fn connect_again(&mut self) -> Result<()> {
        self.forget_client();
        self.client().map(drop)
    }

    /// Whether commands are for a server elsewhere, to which folders of this host mean nothing.
    pub fn is_far(&self) -> bool {
        self.far.is_some()
    }

    /// The server elsewhere that commands are for, if they are.
    pub fn far(&self) -> Option<&Far> {
        self.far.as_ref()
    }

    /// Whether a folder of this host may say which app is meant.
    ///
    /// # Errors
    /// When it is nothing to the server.
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

    /// Whether a command makes sense that is about a server and its host.
    ///
    /// # Errors
    /// When that is elsewhere.
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

    /// Gives the connection away, for an attach; the next [`client`](Self::client) is another one.
    pub fn take_client(&mut self) -> Result<Client> {
        self.client.take().context("no connection to the server")
    }

    /// The app that was named, with `-a` or `$DYNO_APP`.
    pub fn named_app(&self) -> Option<&str> {
        self.app.as_deref()
    }

    /// Whether the same command without its options would mean another app, or none.
    pub fn is_app_given(&self) -> bool {
        self.app_given
    }

    /// The app that was named, else the linked folder's.
    ///
    /// # Errors
    /// None was named, and no folder from here up is linked to one.
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

    /// The advice for whoever did not say which app, in a folder that is not linked to one.
    pub fn no_app(&mut self) -> UserError {
        let here = current_folder().unwrap_or_default();
        let moved = here
            .ancestors()
            .find_map(|folder| Some((folder, self.moved(folder)?)));
        moved.map_or_else(no_app, |(folder, link)| moved_away(folder, &link))
    }

    /// Whether a folder that no app is linked to is no other's that was moved here.
    ///
    /// # Errors
    /// It is: says which.
    pub fn check_not_moved(&mut self, folder: &Path) -> Result<(), UserError> {
        match self.moved(folder) {
            Some(link) => Err(moved_away(folder, &link)),
            None => Ok(()),
        }
    }

    /// The link that a folder had where it was before. No answer is none: it is there for advice.
    fn moved(&mut self, folder: &Path) -> Option<Link> {
        let path = target::encode(folder.to_str()?);
        let target = format!("/links/moved?path={path}");
        self.client().ok()?.get(&target).ok()?
    }

    /// The link of this folder or the nearest linked one above.
    pub fn link(&mut self) -> Result<Option<Link>> {
        self.link_of(&current_folder()?)
    }

    /// The link of a folder, given by its canonical path, or of the nearest linked one above that it is a part of.
    ///
    /// # Errors
    /// When a folder below that one has a Procfile of its own: it is an app of its own, and nothing else is to be changed in
    /// its stead.
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

/// The server elsewhere that the environment means, if it does.
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

/// A variable of the environment. One that is no text will be found to make no sense.
fn variable(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

fn warn(error: &UserError) {
    tell!("warning: {error}; the server goes on with the settings it has");
}

/// The advice for whoever did not say which app.
fn no_app() -> UserError {
    UserError::new("which app? this folder is not linked to one")
        .hint("-a NAME says which; `dyno link -a NAME` ties this folder to it, `dyno create` makes a new one")
}

/// The advice for a folder that was linked elsewhere.
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

/// What links `path` to an app: where it is, and which folder it is there.
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

/// The path of an app's resource: `/apps/NAME` and what follows.
pub fn app_path(app: &str, rest: &str) -> String {
    format!("/apps/{}{rest}", target::encode(app))
}
