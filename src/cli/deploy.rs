//! `dyno deploy`: makes a release from a folder or a packed slug.
//!
//! `deploy/release.rs` packs and sends: a folder is packed on one thread while another sends it, without a temporary file; the
//! server computes the digest itself, and both must agree. `deploy/procfile.rs` reads the Procfile, `deploy/toolchains.rs`
//! finds what a release gets of the user's toolchains, `deploy/progress.rs` says how far it is.

pub mod build;
mod dry_run;
pub mod procfile;
mod progress;
pub mod release;
pub mod toolchains;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::address;
use super::context::{Context, current_folder};
use super::launch;
use super::new_app;
use super::notices::tell_isolation;
use super::standing;
use crate::api::release::Release;
use crate::error::UserError;
use crate::model::release::ReleaseStatus;
use release::{Purpose, from_folder, from_slug};

/// Pack a folder into a slug and release it.
#[derive(Debug, Args)]
pub struct Deploy {
    /// The folder; the linked one, or this one, if not given
    #[arg(value_name = "PATH", conflicts_with = "slug")]
    path: Option<PathBuf>,
    /// A slug made elsewhere: a gzipped tar with members ./app/…
    #[arg(long, value_name = "FILE.tgz")]
    slug: Option<PathBuf>,
    /// Do not wait until the release's dynos are up
    #[arg(long)]
    no_wait: bool,
    /// Start no web dyno, if this is the first deploy
    #[arg(long)]
    no_web: bool,
    /// Only say what would be done, and why
    #[arg(long, conflicts_with = "slug")]
    dry_run: bool,
}

impl Deploy {
    /// Deploys, and prints the release.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        if let Some(file) = &self.slug {
            let app = context.app()?;
            let release = from_slug(context, &app, file, self.purpose())?;
            return self.launch(context, &app, release);
        }
        let (app, root) = self.target(context)?;
        if self.dry_run {
            return dry_run::tell(context, app.as_deref(), &root);
        }
        let (app, release) = match app {
            Some(app) => {
                let release = from_folder(context, &app, &root, self.purpose())?;
                (app, release)
            }
            None => new_app::of_folder(context, &root, self.purpose())?,
        };
        self.launch(context, &app, release)
    }

    /// The app, None if there is to be a new one, and the folder.
    fn target(&self, context: &mut Context) -> Result<(Option<String>, PathBuf)> {
        let given = self.path.as_deref().map(canonical).transpose()?;
        Ok(match (context.named_app().map(str::to_owned), given) {
            (Some(app), Some(root)) => (Some(app), root),
            (Some(app), None) => {
                let root = root_for(context, &app)?;
                (Some(app), root)
            }
            (None, given) => {
                match context.own_link(given.as_deref().unwrap_or(&current_folder()?))? {
                    Some(link) => {
                        let linked = PathBuf::from(&link.path);
                        (Some(link.app.name), given.unwrap_or(linked))
                    }
                    None => {
                        context.check_here()?;
                        (None, given.map_or_else(current_folder, Ok)?)
                    }
                }
            }
        })
    }

    fn purpose(&self) -> Purpose {
        Purpose::Deploy {
            without_web: self.no_web,
        }
    }

    fn launch(&self, context: &mut Context, app: &str, release: Release) -> Result<()> {
        tell_isolation(context);
        let release = match self.no_wait {
            true => release,
            false => launch::until_released(context, app, release)?,
        };
        if !self.no_web && release.status == ReleaseStatus::Succeeded {
            standing::tell_idle(context, app, &release)?;
        }
        if self.no_wait {
            return Ok(());
        }
        launch::until_up(context, app, &release, "Launching")?;
        address::tell(context, app)
    }
}

/// The folder for a deploy of `app` without a PATH: the nearest linked folder, if it is linked to that app; else the
/// current one, if it is not linked and has a Procfile. An unrelated folder must not be released by mistake.
pub fn root_for(context: &mut Context, app: &str) -> Result<PathBuf> {
    let here = current_folder()?;
    let refused = |why: String| {
        Err(UserError::new(why)
            .hint(format!("`dyno deploy PATH -a {app}` deploys any folder; `dyno link -a {app}` links this one to it"))
            .into())
    };
    match context.link_of(&here)? {
        Some(link) if link.app.name == app || link.app.id == app => Ok(PathBuf::from(link.path)),
        Some(link) => refused(format!(
            "`{}` belongs to `{}`, not to `{app}`",
            link.path, link.app.name
        )),
        None if here.join("Procfile").is_file() || build::is_asked_for(&here) => Ok(here),
        None => refused(format!(
            "`{}` has no Procfile and is not linked to `{app}`",
            here.display()
        )),
    }
}

fn canonical(path: &Path) -> Result<PathBuf> {
    let unusable = |why: String| {
        UserError::new(format!("cannot deploy `{}`: {why}", path.display()))
            .hint("deploy takes a folder; --slug takes a tarball")
    };
    let canonical = path
        .canonicalize()
        .map_err(|error| unusable(error.to_string()))?;
    if !canonical.is_dir() {
        return Err(unusable("it is no folder".to_owned()).into());
    }
    Ok(canonical)
}
