//! `dyno apps:rename`: renames an app. Its id stays, and with it releases, config, log, links and dynos; its address
//! and its git remotes change with the name.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use clap::Args;

use super::context::{Context, app_path};
use crate::api::app::{App, UpdateApp};
use crate::cli::client::Far;
use crate::error::tell;
use crate::model::app::AppName;

/// Give an app another name.
#[derive(Debug, Args)]
pub struct Rename {
    /// The new name: lower-case letters, digits and dashes
    #[arg(value_name = "NEWNAME")]
    name: String,
}

impl Rename {
    /// Renames the app, and changes the git remotes of this checkout.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let request = UpdateApp {
            name: Some(AppName::parse(&self.name)?),
            ..UpdateApp::default()
        };
        let given = context.app()?;
        let client = context.client()?;
        let before: App = client.get(&app_path(&given, ""))?;
        let after: App = client.patch(&app_path(&before.id, ""), &request)?;
        tell!("Renaming {} to {}... done", before.name, after.name);
        if let Some(url) = &after.web_url {
            tell!("its address is {url} now");
        }
        if before.name == after.name {
            return Ok(());
        }
        let far = context.far().map(Far::url);
        let moved = moves(&before, &after, context.home.path(), far.as_deref());
        for remote in repoint(&moved) {
            tell!("the git remote {remote} follows");
        }
        tell!(
            "other checkouts of it: `dyno git:remote -a {}` in each",
            after.name
        );
        Ok(())
    }
}

/// The old URLs for a push to the app, each with its new one.
fn moves(before: &App, after: &App, home: &Path, far: Option<&str>) -> Vec<(String, String)> {
    let local = |app: &App| {
        let path = home.join("git").join(format!("{}.git", app.name));
        path.to_string_lossy().into_owned()
    };
    let mut moves = vec![(before.git_url.clone(), after.git_url.clone())];
    moves.push(match far {
        Some(far) => (
            format!("{far}/{}.git", before.name),
            format!("{far}/{}.git", after.name),
        ),
        None => (local(before), local(after)),
    });
    moves.retain(|(old, _)| !old.is_empty());
    moves
}

/// Changes the remotes of this checkout, if it is one; returns their names.
fn repoint(moves: &[(String, String)]) -> Vec<String> {
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.args(args).stdin(Stdio::null()).stderr(Stdio::null());
        git.output().ok().filter(|output| output.status.success())
    };
    let Some(known) = git(&[
        "config",
        "--local",
        "--get-regexp",
        r"^remote\..*\.(push)?url$",
    ]) else {
        return Vec::new();
    };
    let known = String::from_utf8_lossy(&known.stdout);
    let mut repointed = Vec::new();
    for (key, url) in known.lines().filter_map(|line| line.split_once(' ')) {
        let remote = key
            .strip_prefix("remote.")
            .and_then(|key| key.rsplit_once('.'))
            .map(|(remote, _)| remote.to_owned());
        let new = moves.iter().find(|(old, _)| old == url).map(|(_, new)| new);
        let replace = ["config", "--local", "--fixed-value", "--replace-all"];
        if let (Some(remote), Some(new)) = (remote, new)
            && git(&[&replace[..], &[key, new, url]].concat()).is_some()
            && !repointed.contains(&remote)
        {
            repointed.push(remote);
        }
    }
    repointed
}
