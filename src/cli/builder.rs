//! `dyno builder`: what makes slugs of an app's source.

use anyhow::Result;
use clap::Args;

use super::context::{Context, app_path};
use super::output::say;
use crate::api::app::{App, UpdateApp};
use crate::error::tell;

/// Choose what makes slugs of the app's source, or show it
#[derive(Debug, Args)]
pub struct Builder {
    /// `auto`: the buildpacks that are named, else the one that the source's files ask for; `native`: that one; `buildpacks`: those that are named; `none`: the files are the slug, as they are
    #[arg(value_name = "auto|native|buildpacks|none")]
    builder: Option<String>,
}

impl Builder {
    /// Chooses it for builds from now on, or prints it.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let name = context.app()?;
        let Some(builder) = self.builder else {
            let app: App = context.client()?.get(&app_path(&name, ""))?;
            return Ok(say!("{}", app.builder)?);
        };
        let request = UpdateApp {
            builder: Some(builder.parse()?),
            ..UpdateApp::default()
        };
        let app: App = context.client()?.patch(&app_path(&name, ""), &request)?;
        tell!(
            "Setting the builder of {} to {}... done",
            app.name,
            app.builder
        );
        tell!("the next build goes by it");
        Ok(())
    }
}
