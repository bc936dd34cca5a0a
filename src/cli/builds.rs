//! `dyno builds`, `builds:info`, `builds:output`, `builds:cancel`, `builds:cache:purge`.

pub mod follow;

use std::collections::HashMap;

use anyhow::Result;
use clap::Args;

use super::context::{Context, app_path};
use super::output::{ProgramOutput, say, say_json};
use crate::api::build::Build;
use crate::api::release::Release;
use crate::error::{UserError, shown, tell};
use crate::model::release::build::BuildStatus;
use follow::{follow, hold, path};

/// How many builds are listed unless more are asked for (Heroku's figure).
const SHOWN: usize = 10;

/// How many characters of a build's id are listed; as many, or fewer, name it.
const SHORT: usize = 8;

/// List the builds.
#[derive(Debug, Args)]
pub struct List {
    /// How many
    #[arg(short, long, default_value_t = SHOWN, value_name = "N")]
    num: usize,
    /// As a JSON array
    #[arg(long)]
    json: bool,
}

impl List {
    /// Prints the builds, the newest first.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let mut builds = newest_first(context, &app)?;
        builds.truncate(self.num);
        if self.json {
            return say_json(&builds);
        }
        if builds.is_empty() {
            return Ok(say!("=== {app} has no builds")?);
        }
        let versions = versions(context, &app)?;
        say!("=== {app} Builds")?;
        for build in &builds {
            let release = build.release.as_ref().and_then(|it| versions.get(&it.id));
            say!(
                "{:SHORT$}  {:9}  {:5}  {:8}  {}  {}",
                short(&build.id),
                build.status.as_str(),
                release.map(String::as_str).unwrap_or_default(),
                commit(build),
                build.user.email,
                build.created_at.0
            )?;
        }
        Ok(())
    }
}

/// Show a build.
#[derive(Debug, Args)]
pub struct Info {
    /// Its id, or the beginning of it; the newest if not given
    #[arg(value_name = "ID")]
    build: Option<String>,
    /// As a JSON object
    #[arg(long)]
    json: bool,
}

impl Info {
    /// Prints the build's facts.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let build = named_or_newest(context, &app, self.build.as_deref())?;
        if self.json {
            return say_json(&build);
        }
        say!("=== Build {}", build.id)?;
        say!("Status:     {}", build.status.as_str())?;
        say!("By:         {}", build.user.email)?;
        say!("When:       {}", build.created_at.0)?;
        if build.status != BuildStatus::Pending {
            let took = build.updated_at.0.duration_since(build.created_at.0);
            say!("Took:       {:.1} s", took.as_secs_f64())?;
        }
        if let Some(commit) = &build.source_blob.version {
            let subject = build.source_blob.version_description.as_deref();
            let subject = shown(subject.unwrap_or_default().as_bytes(), 200);
            say!("Commit:     {} {subject}", shown(commit.as_bytes(), 64))?;
        }
        if let Some(release) = &build.release {
            let versions = versions(context, &app)?;
            let version = versions.get(&release.id).unwrap_or(&release.id);
            say!("Release:    {version}")?;
        }
        if !build.buildpacks.is_empty() {
            say!("\n=== Buildpacks")?;
            for pack in &build.buildpacks {
                say!("{}", shown(pack.name.as_bytes(), 500))?;
            }
        }
        Ok(())
    }
}

/// Show what a build has printed.
#[derive(Debug, Args)]
pub struct Output {
    /// Its id, or the beginning of it; the newest if not given
    #[arg(value_name = "ID")]
    build: Option<String>,
}

impl Output {
    /// Prints it, until the build has ended. Exits with 1 if it has failed.
    pub fn perform(self, context: &mut Context) -> Result<u8> {
        let app = context.app()?;
        let build = named_or_newest(context, &app, self.build.as_deref())?;
        let target = format!("{}/output", path(&app, &build.id));
        let mut output = context.client()?.stream(&target)?;
        let (mut bytes, mut printed) = (Vec::new(), ProgramOutput::to(std::io::stdout().lock()));
        while output.read(&mut bytes)? {
            printed.print(&bytes)?;
            bytes.clear();
        }
        printed.end()?;
        let build: Build = context.client()?.get(&path(&app, &build.id))?;
        Ok(u8::from(build.status == BuildStatus::Failed))
    }
}

/// End a build.
#[derive(Debug, Args)]
pub struct Cancel {
    /// Its id, or the beginning of it; the newest if not given
    #[arg(value_name = "ID")]
    build: Option<String>,
}

impl Cancel {
    /// Cancels it, and waits until it has ended.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let build = named_or_newest(context, &app, self.build.as_deref())?;
        let (path, held) = (path(&app, &build.id), hold()?);
        let _: Build = context.client()?.delete(&path)?;
        let build = follow(context, &path, held, &mut |_| Ok(()))?.build;
        match build.status {
            BuildStatus::Succeeded => Err(too_late(&app).into()),
            _ => {
                tell!("Cancelling build {}... done", short(&build.id));
                Ok(())
            }
        }
    }
}

/// A build that was to be cancelled has succeeded.
pub fn too_late(app: &str) -> UserError {
    UserError::new("the build has succeeded before it could be cancelled").hint(format!(
        "`dyno rollback -a {app}` goes back to the release before"
    ))
}

/// Empty the cache of the app's builds.
pub fn purge_cache(context: &mut Context) -> Result<()> {
    let app = context.app()?;
    let _: serde_json::Value = context.client()?.delete(&app_path(&app, "/build-cache"))?;
    tell!("Purging the build cache of {app}... done");
    Ok(())
}

/// The beginning of an id.
fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

/// The beginning of the commit that was built.
fn commit(build: &Build) -> String {
    let commit = build.source_blob.version.as_deref().unwrap_or_default();
    shown(commit.as_bytes(), SHORT)
}

/// The names of the app's releases, by their ids.
fn versions(context: &mut Context, app: &str) -> Result<HashMap<String, String>> {
    let releases: Vec<Release> = context.client()?.get_list(&app_path(app, "/releases"))?;
    let versions = releases
        .into_iter()
        .map(|release| (release.id, format!("v{}", release.version)));
    Ok(versions.collect())
}

fn newest_first(context: &mut Context, app: &str) -> Result<Vec<Build>> {
    let mut builds: Vec<Build> = context.client()?.get_list(&app_path(app, "/builds"))?;
    builds.reverse();
    Ok(builds)
}

/// The build whose id begins so, or the newest one.
fn named_or_newest(context: &mut Context, app: &str, named: Option<&str>) -> Result<Build> {
    let builds = newest_first(context, app)?;
    let mut meant = builds
        .into_iter()
        .filter(|build| named.is_none_or(|named| build.id.starts_with(named)));
    let first = meant.next();
    let first = match (first, named) {
        (Some(first), _) => first,
        (None, Some(named)) => {
            return Err(
                UserError::new(format!("there is no build `{named}` of {app}"))
                    .hint(format!("`dyno builds -a {app}` lists them"))
                    .into(),
            );
        }
        (None, None) => {
            return Err(UserError::new(format!("{app} has no builds"))
                .hint("`git push dyno main` and `dyno deploy` build what has a manifest")
                .into());
        }
    };
    match (named, meant.next()) {
        (Some(named), Some(_)) => Err(UserError::new(format!(
            "the ids of several builds begin with `{named}`"
        ))
        .hint("give more of it: `dyno builds --json` has them whole")
        .into()),
        _ => Ok(first),
    }
}
