//! `dyno labs`: what can be switched on for an app.

use anyhow::Result;
use clap::Args;

use super::context::{Context, app_path};
use super::output::{say, say_json};
use crate::api::feature::{AppFeature, UpdateFeature};
use crate::api::target;
use crate::error::tell;

/// What can be switched on for an app, and what is
#[derive(Debug, Args)]
pub struct Labs {
    /// As a JSON array
    #[arg(long)]
    json: bool,
}

impl Labs {
    /// Prints a line for each feature: `[+]` if it is on.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let features: Vec<AppFeature> = context.client()?.get(&app_path(&app, "/features"))?;
        if self.json {
            return say_json(&features);
        }
        say!("=== App Features {app}\n")?;
        for feature in features {
            let mark = if feature.enabled { "+" } else { " " };
            say!("[{mark}] {}  {}", feature.name, feature.description)?;
        }
        Ok(())
    }
}

/// The feature that a command is about.
#[derive(Debug, Args)]
pub struct Feature {
    /// Its name, such as `log-runtime-metrics`
    #[arg(value_name = "FEATURE")]
    name: String,
}

impl Feature {
    /// Prints what the feature is, and whether it is on.
    pub fn show(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let feature: AppFeature = context.client()?.get(&self.path(&app))?;
        say!("=== {}\n", feature.name)?;
        say!("Description: {}", feature.description)?;
        Ok(say!("Enabled:     {}", feature.enabled)?)
    }

    /// Switches the feature on or off.
    pub fn switch(self, context: &mut Context, enabled: bool) -> Result<()> {
        let app = context.app()?;
        let request = UpdateFeature { enabled };
        let feature: AppFeature = context.client()?.patch(&self.path(&app), &request)?;
        let doing = if enabled { "Enabling" } else { "Disabling" };
        tell!("{doing} {} for {app}... done", feature.name);
        tell!(
            "dynos that start from now on follow; `dyno restart -a {app}` has those that run start again"
        );
        Ok(())
    }

    fn path(&self, app: &str) -> String {
        app_path(app, &format!("/features/{}", target::encode(&self.name)))
    }
}
