//! `dyno releases`, `releases:info`, `releases:rollback`.

use anyhow::Result;
use clap::Args;

use super::context::{Context, app_path};
use super::output::{ProgramOutput, in_one_line, say, say_json};
use super::standing::AppBefore;
use crate::api::release::{CreateRelease, Release};
use crate::api::target;
use crate::error::{UserError, shown, tell};
use crate::model::config_var::Config;
use crate::model::release::ReleaseStatus;

/// How many releases are listed unless more are asked for (Heroku's figure).
const SHOWN: usize = 15;

/// How many characters of a description are listed: one may name hundreds of config vars.
const LISTED: usize = 60;

/// List the releases.
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
    /// Prints the releases, the newest first.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let mut releases = newest_first(context, &app)?;
        let current = releases
            .iter()
            .find(|release| release.current)
            .map(|release| release.version);
        releases.truncate(self.num);
        if self.json {
            return say_json(&releases);
        }
        let current = current.map_or(String::new(), |version| format!(" - Current: v{version}"));
        say!("=== {app} Releases{current}")?;
        let width = releases
            .iter()
            .map(|release| described(release, LISTED).chars().count())
            .max()
            .unwrap_or(0);
        for release in &releases {
            say!(
                "{:5} {:width$}  {}  {}",
                format!("v{}", release.version),
                described(release, LISTED),
                release.user.email,
                release.created_at.0
            )?;
        }
        Ok(())
    }
}

/// A release's description on one line, without control characters: clients choose the text.
fn described(release: &Release, longest: usize) -> String {
    let description = shown(release.description.as_bytes(), longest);
    match release.status {
        ReleaseStatus::Succeeded => description,
        ReleaseStatus::Failed => format!("{description} (release command failed)"),
        ReleaseStatus::Expired => format!("{description} (expired)"),
        ReleaseStatus::Pending => format!("{description} (release command executing)"),
    }
}

fn newest_first(context: &mut Context, app: &str) -> Result<Vec<Release>> {
    let mut releases: Vec<Release> = context.client()?.get_list(&app_path(app, "/releases"))?;
    releases.sort_by_key(|release| std::cmp::Reverse(release.version));
    Ok(releases)
}

/// Show a release.
#[derive(Debug, Args)]
pub struct Info {
    /// `v3`; the newest if not given
    #[arg(value_name = "vN")]
    version: Option<String>,
    /// As a JSON object
    #[arg(long)]
    json: bool,
}

impl Info {
    /// Prints the release's facts.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let version = named_or_newest(self.version, context, &app)?;
        let version = target::encode(&version);
        let client = context.client()?;
        let release: Release = client.get(&app_path(&app, &format!("/releases/{version}")))?;
        if self.json {
            return say_json(&release);
        }
        let config: Config =
            client.get(&app_path(&app, &format!("/releases/{version}/config-vars")))?;
        say!("=== Release v{}", release.version)?;
        say!("Change:        {}", described(&release, usize::MAX))?;
        say!("By:            {}", release.user.email)?;
        say!("When:          {}", release.created_at.0)?;
        let eligible = if release.eligible_for_rollback {
            "Yes"
        } else {
            "No"
        };
        say!("Rollback to:   {eligible}")?;
        section("Process types", release.process_types.iter())?;
        section(
            "Config vars",
            config.iter().map(|(name, value)| (&**name, &**value)),
        )?;
        if !release.toolchains.folders.is_empty() {
            say!("\n=== Toolchains mounted in its dynos")?;
            for folder in &release.toolchains.folders {
                say!("{folder}")?;
            }
        }
        Ok(())
    }
}

fn section<'a>(title: &str, entries: impl Iterator<Item = (&'a str, &'a str)>) -> Result<()> {
    let entries: Vec<_> = entries.collect();
    if entries.is_empty() {
        return Ok(());
    }
    say!("\n=== {title}")?;
    let width = entries
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0)
        + 1;
    for (name, value) in entries {
        say!("{:width$} {}", format!("{name}:"), in_one_line(value))?;
    }
    Ok(())
}

/// Show what the release command of a release printed.
#[derive(Debug, Args)]
pub struct Output {
    /// `v3`; the newest if not given
    #[arg(value_name = "vN")]
    version: Option<String>,
}

impl Output {
    /// Prints the output; while the command still runs, as it comes.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let version = named_or_newest(self.version, context, &app)?;
        let client = context.client()?;
        let path = app_path(&app, &format!("/releases/{}", target::encode(&version)));
        let release: Release = client.get(&path)?;
        if release.output_stream_url.is_none() {
            tell!(
                "Release v{} has no release output available.",
                release.version
            );
            return Ok(());
        }
        let mut stream = client.stream(&format!("{path}/output"))?;
        let (mut bytes, mut output) = (Vec::new(), ProgramOutput::to(std::io::stdout().lock()));
        while stream.read(&mut bytes)? {
            output.print(&bytes)?;
            bytes.clear();
        }
        Ok(output.end()?)
    }
}

/// The version that was named, else the newest.
fn named_or_newest(version: Option<String>, context: &mut Context, app: &str) -> Result<String> {
    if let Some(version) = version {
        return Ok(version);
    }
    match newest_first(context, app)?.first() {
        Some(release) => Ok(release.version.to_string()),
        None => Err(UserError::new(format!("`{app}` has no release")).into()),
    }
}

/// Release an earlier slug and config again.
#[derive(Debug, Args)]
pub struct Rollback {
    /// `v3`; the one before the current if not given
    #[arg(value_name = "vN")]
    version: Option<String>,
}

impl Rollback {
    /// Rolls back: makes a new release of the earlier one.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let version = match self.version {
            Some(version) => version,
            None => {
                let releases = newest_first(context, &app)?;
                let earlier = releases
                    .iter()
                    .skip_while(|release| !release.current)
                    .skip(1)
                    .find(|release| release.eligible_for_rollback);
                let earlier = earlier.ok_or_else(|| {
                    UserError::new(format!("`{app}` has no earlier release to roll back to"))
                        .hint("`dyno releases` lists them")
                })?;
                format!("v{}", earlier.version)
            }
        };
        let standing = AppBefore::of(context, &app)?;
        let request = CreateRelease::Rollback {
            release: version.clone(),
        };
        let release: Release = context
            .client()?
            .post(&app_path(&app, "/releases"), &request)?;
        let version = version.trim_start_matches('v');
        tell!(
            "Rolling back {app} to v{version}... done, v{}",
            release.version
        );
        standing.tell_turns(context, &app, &release)
    }
}
