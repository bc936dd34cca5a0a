//! Creates an app for a folder without one, with its first release.

use std::path::Path;

use anyhow::Result;

use super::context::{Context, app_path, folder};
use super::deploy::build;
use super::deploy::procfile::{process_types, process_types_for};
use super::deploy::release::{Purpose, from_folder};
use crate::api::LocalField;
use crate::api::app::{App, CreateApp};
use crate::api::build::Build;
use crate::api::release::Release;
use crate::error::tell;

/// Creates an app named after the folder `root`, and deploys it. If that fails, the app is removed again.
///
/// # Errors
/// When the folder was linked to an app under another path, or cannot be deployed.
pub fn of_folder(
    context: &mut Context,
    root: &Path,
    purpose: Purpose,
) -> Result<(String, Release)> {
    context.check_not_moved(root)?;
    // Checked first, so that an invalid Procfile creates no app. A build may do without one.
    match build::is_asked_for(root) {
        true => process_types(root).map(drop)?,
        false => process_types_for(root).map(drop)?,
    }
    let request = CreateApp {
        name: None,
        folder: Some(LocalField::new(folder(root)?)),
        unless_linked: true,
    };
    let app: App = context.client()?.post("/apps", &request)?;
    if purpose != (Purpose::Run { quiet: true }) {
        tell!("Creating {}... done", app.name);
    }
    match from_folder(context, &app.name, root, purpose) {
        Ok(release) => Ok((app.name, release)),
        Err(error) => {
            remove_if_unused(context, &app);
            Err(error)
        }
    }
}

/// Removes an app without a release; not if a build has failed, whose output and settings are there for the next try. Errors are ignored beside the one that led to this.
fn remove_if_unused(context: &mut Context, app: &App) {
    let mut remove = || -> Result<bool> {
        let client = context.client()?;
        let releases: Vec<Release> = client.get_list(&app_path(&app.id, "/releases"))?;
        let builds: Vec<Build> = client.get_list(&app_path(&app.id, "/builds"))?;
        let unused = builds.is_empty() && releases.iter().all(|release| release.slug.is_none());
        if unused {
            let _: App = client.delete(&app_path(&app.id, ""))?;
        }
        Ok(unused)
    };
    match remove() {
        Ok(true) => tell!("nothing was released: {} is removed again", app.name),
        Ok(false) => tell!(
            "{} stays, for `dyno deploy` and `dyno builds`; `dyno apps:destroy -a {0}` removes it",
            app.name
        ),
        Err(_) => tell!(
            "nothing was released; `dyno apps:destroy -a {}` removes the app",
            app.name
        ),
    }
}
