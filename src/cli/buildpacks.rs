//! `dyno buildpacks`, `:add`, `:set`, `:remove`, `:clear`, `:eject`.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::context::{Context, app_path};
use super::output::say;
use crate::api::buildpack::{BuildpackInstallation, UpdateBuildpack, UpdateBuildpacks};
use crate::error::{UserError, tell};
use crate::model::buildpack::KINDS;
use crate::model::buildpack::address::{Buildpack, parse_all};
use crate::model::config_var::Config;
use crate::server::builds::packs::own;
use crate::server::builds::site::AT_APP;

/// The config vars that win over an app's own buildpacks.
pub const WINNERS: [&str; 2] = ["BUILDPACK_URL", "LANGUAGE_PACK_URL"];

/// Add a buildpack to the app's.
#[derive(Debug, Args)]
pub struct Add {
    /// NAMESPACE/NAME as in `heroku/ruby` or `dyno/python`, the URL of a .tgz or a git repository (with #BRANCH), or a folder
    #[arg(value_name = "BUILDPACK")]
    buildpack: String,
    /// Its place in the order, from 1; the last if not given
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    index: Option<u16>,
}

/// Set a buildpack of the app's.
#[derive(Debug, Args)]
pub struct Set {
    /// As for `buildpacks:add`
    #[arg(value_name = "BUILDPACK")]
    buildpack: String,
    /// The place in the order, from 1, whose buildpack it replaces; the first if not given
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    index: Option<u16>,
}

/// Remove a buildpack from the app's.
#[derive(Debug, Args)]
pub struct Remove {
    /// Which
    #[arg(value_name = "BUILDPACK", required_unless_present = "index")]
    buildpack: Option<String>,
    /// Its place in the order, from 1
    #[arg(short, long, value_name = "N", conflicts_with = "buildpack", value_parser = clap::value_parser!(u16).range(1..))]
    index: Option<u16>,
}

/// Write one of dyno's own buildpacks into a folder, to change it.
#[derive(Debug, Args)]
pub struct Eject {
    /// Its name: python, nodejs, ruby, php, go, rust or static
    #[arg(value_name = "NAME")]
    name: String,
    /// The folder, which is made; one of that name here if not given
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Prints the app's buildpacks, in their order.
pub fn list(context: &mut Context) -> Result<()> {
    let app = context.app()?;
    let packs = packs_of(context, &app)?;
    if packs.is_empty() {
        return Ok(say!("{app} has no Buildpacks.")?);
    }
    say!(
        "=== {app} Buildpack{}",
        if packs.len() == 1 { "" } else { "s" }
    )?;
    Ok(say!("{}", in_order(&packs, ""))?)
}

impl Add {
    /// Adds it.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let mut packs = packs_of(context, &app)?;
        let pack = read(&self.buildpack)?;
        check_new(&app, &packs, &pack)?;
        let end = packs.len();
        let at = self.index.map_or(end, |index| usize::from(index) - 1);
        packs.insert(at.min(end), pack);
        put(context, &app, &packs)?;
        tell_used(context, &app, "Buildpack added.", &packs)
    }
}

impl Set {
    /// Sets it.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let mut packs = packs_of(context, &app)?;
        let pack = read(&self.buildpack)?;
        check_new(&app, &packs, &pack)?;
        let at = self.index.map_or(0, |index| usize::from(index) - 1);
        match packs.get_mut(at) {
            Some(there) => *there = pack,
            None => packs.push(pack),
        }
        put(context, &app, &packs)?;
        tell_used(context, &app, "Buildpack set.", &packs)
    }
}

impl Remove {
    /// Removes it.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let mut packs = packs_of(context, &app)?;
        if packs.is_empty() {
            return Err(UserError::new(format!("{app} has no Buildpacks."))
                .hint("next release detects one by the source's files")
                .into());
        }
        let named = self.buildpack.as_deref().map(read).transpose()?;
        let at = match (&named, self.index) {
            (Some(pack), _) => packs.iter().position(|it| it.name() == pack.name()),
            (None, Some(index)) => Some(usize::from(index) - 1).filter(|at| *at < packs.len()),
            (None, None) => None,
        };
        let Some(at) = at else {
            let what = named.map_or_else(|| "of that number".to_owned(), |pack| pack.name());
            return Err(UserError::new(format!("{app} has no buildpack {what}"))
                .hint(format!("it has:\n{}", in_order(&packs, "  ")))
                .into());
        };
        packs.remove(at);
        put(context, &app, &packs)?;
        tell_used(context, &app, "Buildpack removed.", &packs)
    }
}

/// Removes all of them.
pub fn clear(context: &mut Context) -> Result<()> {
    let app = context.app()?;
    put(context, &app, &[])?;
    tell_used(context, &app, "Buildpacks cleared.", &[])
}

impl Eject {
    /// Writes it.
    pub fn perform(self) -> Result<()> {
        let name = self.name.strip_prefix("dyno/").unwrap_or(&self.name);
        let pack = KINDS.iter().find(|kind| kind.name == name).and_then(own);
        let pack = pack.ok_or_else(|| {
            let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
            UserError::new(format!("dyno has no buildpack `{name}`"))
                .hint(format!("there are {}", names.join(", ")))
        })?;
        let folder = self.folder.unwrap_or_else(|| name.into());
        let make = |folder: &PathBuf| DirBuilder::new().mode(0o755).create(folder);
        make(&folder).map_err(|error| {
            let message = format!("cannot make the folder `{}`: {error}", folder.display());
            UserError::new(message).hint("name one that is not there yet")
        })?;
        make(&folder.join("bin"))?;
        for (file, text) in pack.files {
            let path = folder.join(file);
            let write = || {
                fs::write(&path, text)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            };
            write().with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        let marker = "This buildpack works on the source at /app, as dyno's own do.\n";
        fs::write(folder.join(AT_APP), marker).context("cannot write the buildpack")?;
        let folder = folder.canonicalize()?;
        tell!("`dyno buildpacks:set {}` uses it", folder.display());
        Ok(())
    }
}

/// The app's buildpacks, as the server shows them: it puts passwords back in.
fn packs_of(context: &mut Context, app: &str) -> Result<Vec<Buildpack>> {
    let path = app_path(app, "/buildpack-installations");
    let packs: Vec<BuildpackInstallation> = context.client()?.get_list(&path)?;
    let urls: Vec<_> = packs.into_iter().map(|it| it.buildpack.url).collect();
    Ok(parse_all(&urls)?)
}

fn put(context: &mut Context, app: &str, packs: &[Buildpack]) -> Result<()> {
    let request = UpdateBuildpacks {
        updates: packs
            .iter()
            .map(|pack| UpdateBuildpack {
                buildpack: pack.url(),
            })
            .collect(),
    };
    let path = app_path(app, "/buildpack-installations");
    let _: Vec<BuildpackInstallation> = context.client()?.put(&path, &request)?;
    Ok(())
}

/// What was given; a folder by its whole path.
fn read(given: &str) -> Result<Buildpack> {
    if given.starts_with('.') {
        let path =
            fs::canonicalize(given).with_context(|| format!("there is no folder `{given}`"))?;
        return Ok(Buildpack::parse(&path.to_string_lossy())?);
    }
    Ok(Buildpack::parse(given)?)
}

fn check_new(app: &str, packs: &[Buildpack], pack: &Buildpack) -> Result<(), UserError> {
    match packs.contains(pack) {
        true => Err(UserError::new(format!(
            "The buildpack {} is already set on your app.",
            pack.name()
        ))
        .hint(format!("`dyno buildpacks -a {app}` lists them"))),
        false => Ok(()),
    }
}

/// One alone, or several with their numbers.
fn in_order(packs: &[Buildpack], indent: &str) -> String {
    if let [only] = packs {
        return format!("{indent}{}", only.name());
    }
    let lines = (1..).zip(packs);
    let lines: Vec<_> = lines
        .map(|(number, pack)| format!("{indent}{number}. {}", pack.name()))
        .collect();
    lines.join("\n")
}

/// Says what the next build uses, in Heroku's words.
fn tell_used(context: &mut Context, app: &str, what: &str, packs: &[Buildpack]) -> Result<()> {
    match packs {
        [] => tell!("{what} Next release on {app} will detect buildpacks normally."),
        [only] => tell!("{what} Next release on {app} will use {}.", only.name()),
        _ => tell!(
            "{what} Next release on {app} will use:\n{}",
            in_order(packs, "  ")
        ),
    }
    let config: Config = context.client()?.get(&app_path(app, "/config-vars"))?;
    for name in WINNERS.iter().filter(|name| config.contains_key(**name)) {
        tell!("warning: The {name} config var is still set and will be used for the next release");
    }
    if let [_, ..] = packs {
        let these = if packs.len() == 1 {
            "this buildpack"
        } else {
            "these buildpacks"
        };
        tell!("Run git push dyno main to create a new release using {these}.");
    }
    Ok(())
}
