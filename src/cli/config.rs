//! `dyno config`, `config:set`, `config:get`, `config:unset`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use clap::Args;

use super::context::{Context, app_path};
use super::output::{in_one_line, say, say_json};
use crate::api::release::Release;
use crate::error::{UserError, tell};
use crate::model::command_line;
use crate::model::config_var::{Config, ConfigChange};
use crate::model::release::ReleaseStatus;

/// Show the config vars.
#[derive(Debug, Args)]
pub struct Show {
    /// As `NAME=value` lines for a shell or a .env file
    #[arg(short, long, conflicts_with = "json")]
    shell: bool,
    /// As a JSON object
    #[arg(long)]
    json: bool,
}

impl Show {
    /// Prints all config vars.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let config: Config = context.client()?.get(&app_path(&app, "/config-vars"))?;
        if self.json {
            say_json(&config)?;
        } else if self.shell {
            for (name, value) in &config {
                say!("{name}={}", command_line::quote(value))?;
            }
        } else {
            say!("=== {app} Config Vars")?;
            let width = config.keys().map(String::len).max().unwrap_or(0) + 1;
            for (name, value) in &config {
                say!("{:width$} {}", format!("{name}:"), in_one_line(value))?;
            }
        }
        warn_of_unreleased(context, &app, &config, None)
    }
}

/// Warns about config vars that are not in use, since the release phase of their release failed or has not ended.
fn warn_of_unreleased(
    context: &mut Context,
    app: &str,
    config: &Config,
    asked: Option<&[String]>,
) -> Result<()> {
    let client = context.client()?;
    let releases: Vec<Release> = client.get_list(&app_path(app, "/releases"))?;
    let newest = releases.iter().max_by_key(|release| release.version);
    let current = releases.iter().find(|release| release.current);
    let (Some(newest), Some(current)) = (newest, current) else {
        return Ok(());
    };
    if newest.version == current.version {
        return Ok(());
    }
    let path = app_path(app, &format!("/releases/{}/config-vars", current.version));
    let runs: Config = client.get(&path)?;
    let names: BTreeSet<&str> = config
        .iter()
        .filter(|(name, value)| runs.get(*name) != Some(*value))
        .map(|(name, _)| name.as_str())
        .chain(
            runs.keys()
                .map(String::as_str)
                .filter(|name| !config.contains_key(*name)),
        )
        .filter(|name| asked.is_none_or(|asked| asked.iter().any(|it| it == name)))
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = names.into_iter().collect();
    let why = match newest.status {
        ReleaseStatus::Pending => "whose release command has not ended",
        _ => "whose release command failed",
    };
    tell!(
        "warning: {} as shown is of v{}, {why}; what runs is v{}",
        names.join(", "),
        newest.version,
        current.version
    );
    Ok(())
}

/// Set config vars; a new release.
#[derive(Debug, Args)]
pub struct Set {
    /// `NAME=value`, any number of them
    #[arg(required = true, value_name = "K=V")]
    pairs: Vec<String>,
}

impl Set {
    /// Sets them, all in one release.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let mut change = BTreeMap::new();
        for pair in &self.pairs {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(UserError::new(format!("`{pair}` sets nothing"))
                    .hint("config:set takes NAME=value")
                    .into());
            };
            change.insert(name.to_owned(), Some(value.to_owned()));
        }
        let config = apply(context, &change, "Setting")?;
        for (name, value) in config.iter().filter(|(name, _)| change.contains_key(*name)) {
            say!("{name}: {}", in_one_line(value))?;
        }
        Ok(())
    }
}

/// Print the value of config vars.
#[derive(Debug, Args)]
pub struct Get {
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Get {
    /// Prints each value on a line; an empty line for one that is not set, as Heroku does.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let config: Config = context.client()?.get(&app_path(&app, "/config-vars"))?;
        for name in &self.names {
            say!("{}", config.get(name).map_or("", String::as_str))?;
        }
        warn_of_unreleased(context, &app, &config, Some(&self.names))
    }
}

/// Remove config vars; a new release.
#[derive(Debug, Args)]
pub struct Unset {
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Unset {
    /// Removes them, all in one release.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let change = self.names.iter().map(|name| (name.clone(), None)).collect();
        apply(context, &change, "Unsetting").map(drop)
    }
}

/// Makes the change, which is a release, and says so.
///
/// # Errors
/// When it is refused.
pub fn apply(context: &mut Context, change: &ConfigChange, doing: &str) -> Result<Config> {
    let app = context.app()?;
    let names: Vec<&str> = change.keys().map(String::as_str).collect();
    let client = context.client()?;
    let config: Config = client.patch(&app_path(&app, "/config-vars"), change)?;
    let releases: Vec<Release> = client.get_list(&app_path(&app, "/releases"))?;
    let version = releases
        .iter()
        .map(|release| release.version)
        .max()
        .unwrap_or(0);
    tell!("{doing} {} on {app}... done, v{version}", names.join(", "));
    Ok(config)
}
