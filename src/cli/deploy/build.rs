//! Deploys a folder that names what it depends on: has the server build it.
//!
//! The folder is sent as it is, without what the build makes anew; what it prints is shown as it comes.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use jiff::Timestamp;

use super::progress::DeployProgress;
use super::release::{Purpose, packed_folder, send};
use super::toolchains::{sent, tell_of_lost_toolchains, toolchains_for};
use crate::api::app::App;
use crate::api::build::{Build, CreateBuild, SourceBlob};
use crate::api::release::{Origin, Release};
use crate::api::server::ServerStatus;
use crate::api::source::Source;
use crate::api::target;
use crate::cli::buildpacks::WINNERS;
use crate::cli::builds::follow::{Followed, follow, hold, path};
use crate::cli::builds::too_late;
use crate::cli::context::{Context, app_path};
use crate::cli::launch;
use crate::cli::output::ProgramOutput;
use crate::cli::standing::AppBefore;
use crate::error::UserError;
use crate::kernel::beneath;
use crate::model::builder::Builder;
use crate::model::buildpack::address::names_buildpacks;
use crate::model::buildpack::{Kind, candidates};
use crate::model::config_var::Config;
use crate::slug::{self, MadeAnew, SlugLimits};

/// Effort of gzip: the tarball is unpacked at once.
const LEVEL: u32 = 1;

/// How much is shown of what a build printed that has failed quietly, in bytes.
const TAIL: usize = 8 * 1024;

/// Files of a source that name buildpacks.
const APP_JSON: &str = "app.json";
const DOT_BUILDPACKS: &str = ".buildpacks";

/// The largest `app.json` that is looked at, in bytes. What is larger is no app's.
const MAX_APP_JSON: u64 = 256 * 1024;

/// Whether the folder `root` names what it depends on, in a way that is understood here, or what builds it.
pub fn is_asked_for(root: &Path) -> bool {
    !kinds_for(root).is_empty() || names_in(root).is_some()
}

/// The file of the folder that names buildpacks.
fn names_in(root: &Path) -> Option<&'static str> {
    let app_json = File::open(root)
        .and_then(|root| beneath::read(root, APP_JSON, MAX_APP_JSON))
        .ok()
        .flatten();
    if app_json.is_some_and(|text| names_buildpacks(&text)) {
        return Some(APP_JSON);
    }
    let dot = root.join(DOT_BUILDPACKS).symlink_metadata();
    dot.is_ok().then_some(DOT_BUILDPACKS)
}

/// The buildpacks that may be for the folder. What none here is for, whoever deploys has built: a slug that lacks it is warned of.
fn kinds_for(root: &Path) -> Vec<&'static Kind> {
    let has = |name: &str| root.join(name).symlink_metadata().is_ok();
    candidates(has).unwrap_or_default()
}

/// What builds a folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BuiltBy {
    /// The first of these that takes it.
    Kinds(Vec<&'static Kind>),
    /// What this config var names.
    Variable(&'static str),
    /// What the app has, by their names.
    App(Vec<String>),
    /// What this file of the folder names.
    File(&'static str),
    /// What somebody is to name.
    Nobody,
}

/// A deploy that is a build.
#[derive(Debug)]
pub(super) struct WantedBuild {
    /// What builds it.
    pub by: BuiltBy,
    /// What it makes anew.
    pub made: MadeAnew,
}

/// The build that a deploy of the folder `root` to `app` is, if the folder or the app asks for it, and neither the app nor the host are
/// without.
///
/// # Errors
/// When the server cannot be asked.
pub(super) fn wanted(
    context: &mut Context,
    app: &str,
    root: &Path,
    purpose: Purpose,
) -> Result<Option<WantedBuild>> {
    if purpose == Purpose::Start {
        return Ok(None);
    }
    let client = context.client()?;
    let known: App = client.get(&app_path(app, ""))?;
    // For a client that may not read them a push builds by them all the same.
    let config: Option<Config> = client.get(&app_path(app, "/config-vars")).ok();
    let by = built_by(root, known.builder, &known.buildpacks, config.as_ref());
    let Some(by) = by else {
        return Ok(None);
    };
    // A server elsewhere says so itself.
    let status: Result<ServerStatus> = client.get("/server/status");
    if status.is_ok_and(|status| !status.builds) {
        return Ok(None);
    }
    // What others make, or what the second of several would, nobody here knows.
    let made = match &by {
        BuiltBy::Kinds(kinds) if config.is_some() => kinds.first().map(|kind| MadeAnew {
            folders: kind.makes,
            environments: kind.makes_environments,
        }),
        _ => None,
    };
    Ok(Some(WantedBuild {
        by,
        made: made.unwrap_or_default(),
    }))
}

/// What builds the folder `root` for an app with this builder, these buildpacks of its own and these config vars; None if it is packed as it
/// is.
pub(super) fn built_by(
    root: &Path,
    builder: Builder,
    buildpacks: &[String],
    config: Option<&Config>,
) -> Option<BuiltBy> {
    let kinds =
        || Some(BuiltBy::Kinds(kinds_for(root))).filter(|it| *it != BuiltBy::Kinds(Vec::new()));
    let is_set = |name: &&&str| {
        let value = config.and_then(|config| config.get(**name));
        value.is_some_and(|value| !value.is_empty())
    };
    match builder {
        Builder::None => return None,
        Builder::Native => return kinds(),
        _ => {}
    }
    if let Some(name) = WINNERS.iter().find(is_set) {
        return Some(BuiltBy::Variable(name));
    }
    if !buildpacks.is_empty() {
        return Some(BuiltBy::App(buildpacks.to_vec()));
    }
    match (names_in(root), builder) {
        (Some(file), _) => Some(BuiltBy::File(file)),
        (None, Builder::Buildpacks) => Some(BuiltBy::Nobody),
        (None, _) => kinds(),
    }
}

/// Has `root` built and released on `app`. For [`Purpose::Run`], returns once the release is the current one.
///
/// # Errors
/// The folder cannot be packed; the build fails; it is interrupted.
pub(super) fn of_folder(
    context: &mut Context,
    app: &str,
    root: &Path,
    purpose: Purpose,
    wanted: &WantedBuild,
) -> Result<Release> {
    let standing = AppBefore::of(context, app)?;
    let packed_at = Timestamp::now();
    let found = toolchains_for(context, Some(root));
    let quiet = purpose == Purpose::Run { quiet: true };
    let blob = upload(context, app, root, wanted.made, quiet)?;
    let request = CreateBuild {
        source_blob: SourceBlob {
            url: blob.get_url.clone(),
            ..SourceBlob::default()
        },
        origin: Origin {
            folder: packed_folder(context, root, packed_at)?,
            toolchains: sent(found.toolchains),
            without_web: purpose.is_without_web(),
        },
    };
    let held = hold()?;
    let build = context.client()?.post(&app_path(app, "/builds"), &request);
    let build: Build = build.inspect_err(|_| forget(context, &blob))?;
    let path = path(app, &build.id);
    let mut tail = Vec::new();
    let mut output = ProgramOutput::to(io::stderr());
    let followed = follow(context, &path, held, &mut |bytes| match quiet {
        true => {
            tail.extend_from_slice(bytes);
            tail.drain(..tail.len().saturating_sub(TAIL));
            Ok(())
        }
        false => output.print(bytes),
    });
    forget(context, &blob);
    let Followed { build, signal } = followed?;
    let Some(release) = build.release else {
        // What was not shown says why.
        let _ = io::stderr().write_all(&tail);
        return Err(UserError::new(format!("the build of {app} failed"))
            .hint(format!(
                "nothing was released; `dyno builds:output -a {app}` shows what it printed, `dyno builder none -a {app}` takes the files as they are"
            ))
            .into());
    };
    if let Some(signal) = signal {
        let code = 128 + u8::try_from(signal).unwrap_or(0);
        return Err(too_late(app).exit_code(code).into());
    }
    let release = app_path(app, &format!("/releases/{}", release.id));
    let release: Release = context.client()?.get(&release)?;
    if !quiet {
        tell_of_lost_toolchains(context, app, &release);
        standing.tell_turns(context, app, &release)?;
    }
    match purpose {
        Purpose::Deploy { .. } | Purpose::Start => Ok(release),
        Purpose::Run { .. } => launch::until_released(context, app, release),
    }
}

/// Uploads the folder as a source.
fn upload(
    context: &mut Context,
    app: &str,
    root: &Path,
    made: MadeAnew,
    quiet: bool,
) -> Result<crate::api::source::SourceBlob> {
    let limits = SlugLimits {
        unpacked_bytes: context.settings.tree_limit,
        ..SlugLimits::default()
    };
    let story = DeployProgress::begin(&format!("Uploading {app}"), quiet);
    let client = context.client()?;
    let source: Source = client.post("/sources", &())?;
    let blob = source.source_blob;
    let pack = |out: &crate::cli::tarball_pipe::Pieces,
                progress: &mut dyn FnMut(slug::PackProgress)| {
        slug::pack_source(root, made, out, LEVEL, &limits, progress)
    };
    let (packed, _): (_, Source) = send(client, target::of_url(&blob.put_url), &story, pack)?;
    story.done("done", &packed.warnings);
    Ok(blob)
}

/// Has the server delete a source, which it would do by itself after an hour.
pub fn forget(context: &mut Context, blob: &crate::api::source::SourceBlob) {
    let target = target::of_url(&blob.get_url);
    if let (Ok(client), Some((source, _))) = (context.client(), target.split_once("/blob")) {
        let _: Result<Source> = client.delete(source);
    }
}
