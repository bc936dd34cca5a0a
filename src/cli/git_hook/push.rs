//! One push: builds its commit, moves its branch, and shows the user the start of the dynos.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;

use super::{PushedRepository, RefUpdate, is_none, source, tell_error};
use crate::api::app::App;
use crate::api::build::{Build, CreateBuild, SourceBlob};
use crate::api::release::{Origin, Release};
use crate::api::{LocalField, MAX_TEXT};
use crate::cli::builds::follow::{follow, hold};
use crate::cli::context::{Context, app_path};
use crate::cli::deploy::build::forget;
use crate::cli::deploy::toolchains::tell_of_lost_toolchains;
use crate::cli::launch;
use crate::cli::toolchain::{self, DeployingUser};
use crate::error::{tell, tell_part};
use crate::kernel::fail_point;
use crate::model::release::Toolchains;
use crate::model::release::build::BuildStatus;
use crate::repository::{self, DEPLOYED, FROM_AFAR, MEANT};

/// Deploys the commit of `update`. The inner error is what git prints about the branch.
pub fn deploy(
    context: &mut Context,
    repository: &PushedRepository,
    asked: &RefUpdate,
) -> Result<Result<RefUpdate, String>> {
    let lock = repository::lock(repository.path(), || {
        tell!("Waiting for another push to end...");
    })?;
    let update = &match meant(repository, asked) {
        Ok(update) => update,
        Err(why) => return Ok(Err(why)),
    };
    // The push before may have moved the branch.
    let now = repository.ask(&["for-each-ref", "--format=%(objectname)", &update.name])?;
    let unmoved = match is_none(&update.old) {
        true => now.is_empty(),
        false => now == update.old,
    };
    if !unmoved {
        return Ok(Err("another push came first: fetch first".to_owned()));
    }
    let app: App = context.client()?.get(&app_path(&repository.app_id, ""))?;
    let built = build(context, repository, update)?;
    tell_part!("Verifying deploy...");
    let Some(release) = built else {
        tell!("\n\n!\tPush rejected to {}.\n", app.name);
        return Ok(Err("the build failed".to_owned()));
    };
    let heard = std::io::stderr().write_all(b" done.\n").is_ok();
    fail_point::reach("push.built");
    move_branch(repository, update)?;
    fail_point::reach("push.moved");
    // The next push need not wait until these dynos are up.
    drop(lock);
    // The release is made and the branch moved, whatever comes now. If the user has left, nothing is shown.
    if heard && let Err(error) = launch(context, &app.name, &release.id) {
        tell_error(&error);
    }
    Ok(Ok(update.clone()))
}

/// The update that is meant when a tag is pushed to a branch: the branch moves to the tag's commit.
fn meant(repository: &PushedRepository, asked: &RefUpdate) -> Result<RefUpdate, String> {
    let peeled = format!("{}^{{commit}}", asked.new);
    let new = repository
        .ask(&["rev-parse", "--verify", "--quiet", &peeled])
        .map_err(|_| "it is not a commit".to_owned())?;
    let position = MEANT.iter().position(|name| *name == asked.name);
    let name = position.map_or(&*asked.name, |at| DEPLOYED[at]);
    Ok(RefUpdate {
        old: asked.old.clone(),
        new,
        name: name.to_owned(),
    })
}

fn move_branch(repository: &PushedRepository, update: &RefUpdate) -> Result<()> {
    let RefUpdate { old, new, name } = update;
    repository.ask(&["update-ref", name, new, old])?;
    // The branch that a clone checks out.
    if repository.ask(&["symbolic-ref", "HEAD"])? != *name {
        repository.ask(&["symbolic-ref", "HEAD", name])?;
    }
    Ok(())
}

/// Builds the commit. None if that failed, as its log has shown.
fn build(
    context: &mut Context,
    repository: &PushedRepository,
    update: &RefUpdate,
) -> Result<Option<Release>> {
    let blob = source::upload(context, repository, &update.new)?;
    tell!("Building source:\n");
    let subject = repository.ask(&["log", "-1", "--format=%s", &update.new])?;
    let request = CreateBuild {
        source_blob: SourceBlob {
            url: blob.get_url.clone(),
            version: Some(update.new.clone()),
            version_description: Some(beginning(&subject, MAX_TEXT).to_owned()),
            checksum: None,
        },
        origin: Origin {
            toolchains: std::env::var_os(FROM_AFAR)
                .is_none()
                .then(|| LocalField::new(toolchains_of_pusher(repository))),
            ..Origin::default()
        },
    };
    let (path, held) = (app_path(&repository.app_id, "/builds"), hold()?);
    let build: Build = context.client()?.post(&path, &request)?;
    let mut stderr = std::io::stderr();
    let show = &mut |bytes: &[u8]| stderr.write_all(bytes);
    let followed = follow(context, &format!("{path}/{}", build.id), held, show);
    forget(context, &blob);
    // One that has succeeded is what the branch is of, whatever signal came.
    let build = followed?.build;
    match (build.status, build.release) {
        (BuildStatus::Succeeded, Some(release)) => {
            let path = app_path(&repository.app_id, &format!("/releases/{}", release.id));
            let release: Release = context.client()?.get(&path)?;
            tell_of_lost_toolchains(context, &repository.app_id, &release);
            Ok(Some(release))
        }
        _ => Ok(None),
    }
}

/// The toolchains in the `PATH` of the user who pushes, without the folders that git adds for its hooks.
fn toolchains_of_pusher(repository: &PushedRepository) -> Toolchains {
    let of_git = std::env::var_os("GIT_EXEC_PATH").map(PathBuf::from);
    let of_git = of_git.or_else(|| repository.ask(&["--exec-path"]).ok().map(PathBuf::from));
    let person = DeployingUser::of_process().without(&of_git.unwrap_or_default());
    toolchain::find(&person, None).toolchains
}

/// Shows a release's progress until its dynos run.
fn launch(context: &mut Context, app: &str, release: &str) -> Result<()> {
    let path = app_path(app, &format!("/releases/{release}"));
    let release: Release = context.client()?.get(&path)?;
    let release = launch::until_released_as_heroku(context, app, release)?;
    launch::until_up(context, app, &release, "Launching")
}

/// The beginning of a text, of at most `most` bytes.
fn beginning(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_subject_is_cut_between_characters() {
        assert_eq!(beginning("short", 10), "short");
        assert_eq!(beginning("aää", 4), "aä");
    }
}
