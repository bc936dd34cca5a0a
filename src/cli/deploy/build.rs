//! Deploys a folder that names what it depends on: has the server build it.
//!
//! The folder is sent as it is, without what the build makes anew; what it prints is shown as it comes.

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
use crate::cli::builds::follow::{follow, path};
use crate::cli::context::{Context, app_path};
use crate::cli::launch;
use crate::cli::output::ProgramOutput;
use crate::cli::standing::AppBefore;
use crate::error::UserError;
use crate::model::builder::Builder;
use crate::model::buildpack::{Kind, candidates};
use crate::model::config_var::Config;
use crate::slug::{self, SlugLimits};

/// Effort of gzip: the tarball is unpacked at once.
const LEVEL: u32 = 1;

/// How much is shown of what a build printed that has failed quietly, in bytes.
const TAIL: usize = 8 * 1024;

/// Files of a source that name buildpacks.
const NAMING: [&str; 2] = [".buildpacks", "app.json"];

/// Whether the folder `root` names what it depends on, in a way that is understood here, or what builds it.
pub fn is_asked_for(root: &Path) -> bool {
    let has = |name: &&str| root.join(name).symlink_metadata().is_ok();
    !kinds_for(root).is_empty() || NAMING.iter().any(has)
}

/// The buildpacks that may be for the folder. What none here is for, whoever deploys has built: a slug that lacks it is warned of.
fn kinds_for(root: &Path) -> Vec<&'static Kind> {
    let has = |name: &str| root.join(name).symlink_metadata().is_ok();
    candidates(has).unwrap_or_default()
}

/// Whether a deploy of the folder `root` to `app` is a build: the folder asks for it, and neither the app nor the host are without.
///
/// # Errors
/// When the server cannot be asked.
pub(super) fn is_wanted(
    context: &mut Context,
    app: &str,
    root: &Path,
    purpose: Purpose,
) -> Result<bool> {
    if purpose == Purpose::Start {
        return Ok(false);
    }
    let client = context.client()?;
    let known: App = client.get(&app_path(app, ""))?;
    if known.builder == Builder::None {
        return Ok(false);
    }
    if !is_asked_for(root) && known.buildpacks.is_empty() && known.builder != Builder::Buildpacks {
        // Who may not read them need not know what they name: a push builds by them all the same.
        let config: Result<Config> = client.get(&app_path(app, "/config-vars"));
        let config = config.unwrap_or_default();
        if !WINNERS.iter().any(|name| config.contains_key(*name)) {
            return Ok(false);
        }
    }
    // A server elsewhere says so itself.
    let status: Result<ServerStatus> = client.get("/server/status");
    Ok(status.map_or(true, |status| status.builds))
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
) -> Result<Release> {
    let standing = AppBefore::of(context, app)?;
    let packed_at = Timestamp::now();
    let found = toolchains_for(context, Some(root));
    let quiet = purpose == Purpose::Run { quiet: true };
    let blob = upload(context, app, root, quiet)?;
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
    let build: Build = context
        .client()?
        .post(&app_path(app, "/builds"), &request)?;
    let path = path(app, &build.id);
    let mut tail = Vec::new();
    let mut output = ProgramOutput::to(io::stderr());
    let built = follow(context, &path, &mut |bytes| match quiet {
        true => {
            tail.extend_from_slice(bytes);
            tail.drain(..tail.len().saturating_sub(TAIL));
            Ok(())
        }
        false => output.print(bytes),
    });
    forget(context, &blob);
    let built = built?;
    let Some(release) = built.release else {
        // What was not shown says why.
        let _ = io::stderr().write_all(&tail);
        return Err(UserError::new(format!("the build of {app} failed"))
            .hint(format!(
                "nothing was released; `dyno builds:output -a {app}` shows what it printed, `dyno builder none -a {app}` takes the files as they are"
            ))
            .into());
    };
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
    quiet: bool,
) -> Result<crate::api::source::SourceBlob> {
    let made: Vec<_> = kinds_for(root)
        .iter()
        .flat_map(|kind| kind.makes)
        .copied()
        .collect();
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
        slug::pack_source(root, &made, out, LEVEL, &limits, progress)
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
