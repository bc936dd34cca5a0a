//! `dyno maintenance`: switches maintenance mode on and off.

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::context::{Context, app_path};
use super::output::say;
use crate::api::app::{App, UpdateApp};
use crate::error::tell;

/// Switch maintenance mode on or off, or show it
#[derive(Debug, Args)]
pub struct Maintenance {
    /// `on`: every visitor gets a page that says so; dynos go on
    #[arg(value_name = "on|off")]
    switch: Option<Switch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl Maintenance {
    /// Switches maintenance mode, or prints `on` or `off`.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        match self.switch {
            Some(switch) => set(context, switch == Switch::On),
            None => {
                let app = context.app()?;
                let app: App = context.client()?.get(&app_path(&app, ""))?;
                Ok(say!("{}", if app.maintenance { "on" } else { "off" })?)
            }
        }
    }
}

/// Switches maintenance mode of the app on or off.
pub fn set(context: &mut Context, maintenance: bool) -> Result<()> {
    let app = context.app()?;
    let request = UpdateApp {
        maintenance: Some(maintenance),
        ..UpdateApp::default()
    };
    let app: App = context.client()?.patch(&app_path(&app, ""), &request)?;
    let doing = if maintenance { "Enabling" } else { "Disabling" };
    tell!("{doing} maintenance mode for {}... done", app.name);
    Ok(())
}
