//! `dyno network`: the network of an app's dynos.

use anyhow::Result;
use clap::Args;

use super::context::{Context, app_path};
use super::output::say;
use crate::api::app::{App, UpdateApp};
use crate::error::tell;
use crate::model::network::NetworkChoice;

/// Choose the network of the app's dynos, or show it
#[derive(Debug, Args)]
pub struct Network {
    /// `host`: the host's; `private`: their own, visited by the router; `none`: the same, and nothing is reached from it;
    /// `default`: what the setting `network` says
    #[arg(value_name = "host|private|none|default")]
    network: Option<String>,
}

impl Network {
    /// Chooses the network of dynos that start from now on, or prints it.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let name = context.app()?;
        let Some(network) = self.network else {
            let app: App = context.client()?.get(&app_path(&name, ""))?;
            let network = app.network.map_or("host", |it| it.as_str());
            return Ok(say!("{network}")?);
        };
        let request = UpdateApp {
            network: Some(NetworkChoice::parse(&network)?),
            ..UpdateApp::default()
        };
        let app: App = context.client()?.patch(&app_path(&name, ""), &request)?;
        let network = app.network.map_or("host", |it| it.as_str());
        let source = match app.network_by_default {
            true => ", as the setting `network` says",
            false => "",
        };
        tell!(
            "Setting the network of {} to {network}{source}... done",
            app.name
        );
        tell!(
            "dynos that run keep theirs; `dyno ps:restart -a {}` starts them anew",
            app.name
        );
        Ok(())
    }
}
