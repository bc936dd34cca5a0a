//! Makes a release: packs a folder on one thread while another sends it, or sends a slug that was made elsewhere.

use std::fs::File;
use std::path::Path;
use std::thread;

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::build;
use super::procfile::{WHAT_IT_SAYS, parse, process_types, required, without_release_phase};
use super::progress::DeployProgress;
use super::toolchains::{left_out, sent, tell_of_lost_toolchains, toolchains_for};
use crate::api::release::{CreateRelease, Deploy as DeployRequest, Origin, PackedFolder, Release};
use crate::api::slug::{CreateSlug, Slug};
use crate::api::target;
use crate::api::{ExactTime, LocalField};
use crate::cli::client::Client;
use crate::cli::context::{Context, app_path, folder};
use crate::cli::launch;
use crate::cli::standing::AppBefore;
use crate::cli::tarball_pipe::{Pieces, pieces};
use crate::error::{UserError, tell};
use crate::kernel::fail_point;
use crate::sandbox::stack::{Stack, is_shown};
use crate::slug::{self, LeadsOut, PackProgress, Packed, ReleaseBefore, SlugLimits, Times};

/// The content type of a tarball.
pub const TARBALL: &str = "application/gzip";

/// Why a deploy is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The user asked for it.
    Deploy {
        /// Without starting web dynos.
        without_web: bool,
    },
    /// A command needs a release to run.
    Run {
        /// Without output.
        quiet: bool,
    },
    /// For the app of `dyno start`: without a release phase.
    Start,
}

impl Purpose {
    /// Whether a first release is to start no dynos.
    pub(super) fn is_without_web(self) -> bool {
        !matches!(self, Self::Deploy { without_web: false })
    }
}

/// Packs `root` and releases it on `app`, with progress on standard error unless quiet. For [`Purpose::Run`], returns
/// once the release is the current one.
pub fn from_folder(
    context: &mut Context,
    app: &str,
    root: &Path,
    purpose: Purpose,
) -> Result<Release> {
    check_apart(context, root)?;
    // A build may do without one.
    if root.join("Procfile").symlink_metadata().is_ok() {
        required(root)?;
    }
    let mut process_types = process_types(root)?;
    if let Some(wanted) = build::wanted(context, app, root, purpose)? {
        return build::of_folder(context, app, root, purpose, &wanted);
    }
    required(root)?;
    let standing = AppBefore::of(context, app)?;
    standing.check_goes_on(app, &process_types)?;
    let before = standing.tree(context)?;
    if purpose == Purpose::Start {
        process_types = without_release_phase(&process_types);
    }
    let packed_at = Timestamp::now();
    let found = toolchains_for(context, Some(root));
    let shared: Vec<String> = found.toolchains.folders.clone();
    let seen = shared.into_iter().chain(found.toolchains.app.clone());
    let seen: Vec<_> = seen.collect();
    let mut warnings = left_out(&found, &process_types);
    let level = context.settings.slug_level;
    let limits = SlugLimits {
        unpacked_bytes: context.settings.tree_limit,
        ..SlugLimits::default()
    };
    let without_web = purpose.is_without_web();
    let story = DeployProgress::begin(
        &format!("Deploying to {app}"),
        purpose == Purpose::Run { quiet: true },
    );

    let client = context.client()?;
    let request = CreateSlug {
        process_types,
        ..CreateSlug::default()
    };
    let slug: Slug = client.post(&app_path(app, "/slugs"), &request)?;
    let times = Times {
        before: before
            .as_ref()
            .map(|(tree, at)| ReleaseBefore { tree, at: *at }),
        ..Times::default()
    };
    let pack = |out: &Pieces, progress: &mut dyn FnMut(PackProgress)| {
        slug::pack_dated(root, &times, out, level, &limits, progress)
    };
    let blob = target::of_url(&slug.blob.url);
    let (mut packed, slug): (_, Slug) = send(client, blob, &story, pack)?;
    check_digest(&packed, &slug)?;
    fail_point::reach("client.uploaded");

    let release = CreateRelease::Deploy(DeployRequest {
        slug: slug.id,
        description: None,
        origin: Origin {
            folder: packed_folder(context, root, packed_at)?,
            toolchains: sent(found.toolchains),
            without_web,
        },
    });
    let release: Release = context
        .client()?
        .post(&app_path(app, "/releases"), &release)?;
    let quiet = story.quiet;
    warnings.append(&mut packed.warnings);
    story.done(&format!("done, v{}", release.version), &warnings);
    if !quiet {
        tell_of_lost_toolchains(context, app, &release);
        let stack = Stack::host();
        let is_seen = |link: &LeadsOut| {
            let has = match context.is_far() {
                // Files of the other host cannot be checked from here.
                true => is_shown(&link.place),
                false => stack.has(&link.place),
            };
            !link.strays && (has || seen.iter().any(|folder| link.place.starts_with(folder)))
        };
        packed.leads_out.retain(|link| !is_seen(link));
        let missing = match purpose {
            Purpose::Start => Vec::new(),
            _ => packed.uninstalled,
        };
        for line in slug::link_warnings(&packed.leads_out)
            .iter()
            .chain(&missing)
        {
            tell!("warning: {line}");
        }
        standing.tell_turns(context, app, &release)?;
    }
    match purpose {
        Purpose::Deploy { .. } | Purpose::Start => Ok(release),
        Purpose::Run { .. } => launch::until_released(context, app, release),
    }
}

/// Refuses a folder that has the server's state in it.
fn check_apart(context: &Context, root: &Path) -> Result<(), UserError> {
    let home = context.home.path().canonicalize();
    if home.is_ok_and(|home| home.starts_with(root)) {
        let state = context.home.path().display();
        let message = format!("the state folder `{state}` is inside of the app's folder");
        let hint = "every dyno would see it: set DYNO_HOME to a folder outside";
        return Err(UserError::new(message).hint(hint));
    }
    Ok(())
}

/// Packs on a thread of its own what is uploaded to `target` meanwhile. Returns what was packed, and the server's answer.
pub(super) fn send<T: DeserializeOwned>(
    client: &mut Client,
    target: &str,
    story: &DeployProgress,
    pack: impl FnOnce(&Pieces, &mut dyn FnMut(PackProgress)) -> Result<Packed> + Send,
) -> Result<(Packed, T)> {
    let (pieces, mut arriving) = pieces();
    thread::scope(|scope| {
        let packing = scope.spawn(|| {
            let packed = pack(&pieces, &mut |at| {
                story.bar.set_length(at.total);
                story.bar.set_position(at.done);
            });
            pieces.end(packed.is_ok());
            packed
        });
        let uploaded: Result<T> = client.upload("PUT", target, TARBALL, &mut arriving);
        let pieces_failed = arriving.failed;
        // Packing must not wait for a reader that has failed.
        drop(arriving);
        let packed = packing.join().map_err(|_| anyhow!("packing failed"))?;
        match (packed, uploaded) {
            (Ok(packed), Ok(answer)) => Ok((packed, answer)),
            // The server's error; packing then fails, too, without a reader.
            (_, Err(error)) if !pieces_failed => Err(error),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    })
}

/// The folder that is deployed, for the server of this host.
pub(super) fn packed_folder(
    context: &Context,
    root: &Path,
    packed_at: Timestamp,
) -> Result<Option<LocalField<PackedFolder>>> {
    if context.is_far() {
        return Ok(None);
    }
    Ok(Some(LocalField::new(PackedFolder {
        folder: folder(root)?,
        packed_at: ExactTime(packed_at),
    })))
}

/// Releases a tarball that was made elsewhere, with the process types of the Procfile in it.
pub(super) fn from_slug(
    context: &mut Context,
    app: &str,
    path: &Path,
    purpose: Purpose,
) -> Result<Release> {
    let open = || {
        File::open(path).map_err(|error| {
            UserError::new(format!(
                "cannot read the slug `{}`: {error}",
                path.display()
            ))
            .hint("--slug takes a gzipped tar with members ./app/…")
        })
    };
    let text = slug::procfile_of(open()?)?.ok_or_else(|| {
        UserError::new(format!("`{}` has no ./app/Procfile", path.display())).hint(WHAT_IT_SAYS)
    })?;
    let process_types = parse(&text)?;
    let standing = AppBefore::of(context, app)?;
    standing.check_goes_on(app, &process_types)?;
    let story = DeployProgress::begin(&format!("Deploying to {app}"), false);
    let found = toolchains_for(context, None);
    let warnings = left_out(&found, &process_types);
    let client = context.client()?;
    let request = CreateSlug {
        process_types,
        ..CreateSlug::default()
    };
    let slug: Slug = client.post(&app_path(app, "/slugs"), &request)?;
    let slug: Slug = client.upload("PUT", target::of_url(&slug.blob.url), TARBALL, &mut open()?)?;
    let request = CreateRelease::Deploy(DeployRequest {
        slug: slug.id,
        origin: Origin {
            toolchains: sent(found.toolchains),
            without_web: purpose.is_without_web(),
            ..Origin::default()
        },
        ..DeployRequest::default()
    });
    let release: Release = client.post(&app_path(app, "/releases"), &request)?;
    story.done(&format!("done, v{}", release.version), &warnings);
    tell_of_lost_toolchains(context, app, &release);
    standing.tell_turns(context, app, &release)?;
    Ok(release)
}

/// Checks that the server received what was packed.
fn check_digest(packed: &Packed, slug: &Slug) -> Result<()> {
    let sent = format!("SHA256:{}", packed.id);
    match slug.checksum.as_deref() {
        Some(received) if received == sent => Ok(()),
        received => Err(UserError::new(format!(
            "the server received another slug (`{}`) than was sent (`{sent}`)",
            received.unwrap_or("none")
        ))
        .hint("nothing was released; deploy again")
        .into()),
    }
}
