//! `dyno server`: the server in the foreground.

use anyhow::Result;
use clap::Args;

use super::context::Context;
use crate::server::service;

/// Run the server in the foreground.
///
/// Other commands start one by themselves when none runs; it leaves when there is nothing to do.
#[derive(Debug, Args)]
pub struct Serve {
    /// Started by another command: become a daemon, and leave when there is nothing to do
    #[arg(long, hide = true)]
    idle: bool,
    /// How dynos are kept apart; the setting `isolation`
    #[arg(long, value_name = "auto|namespaces|tempdir")]
    isolation: Option<String>,
    /// Where the router listens, 127.0.0.1:8080 or a free port; the setting `router`
    #[arg(long, value_name = "ADDRESS|auto|off")]
    router: Option<String>,
    /// Where the API is reached over TCP, with a token: 127.0.0.1:5001, say; the setting `listen`
    #[arg(long, value_name = "ADDRESS|auto|off")]
    listen: Option<String>,
}

impl Serve {
    /// Serves until SIGTERM or SIGINT; dynos go on.
    pub fn perform(self, context: &Context) -> Result<()> {
        let mut sourced = context.sourced()?.clone();
        for (name, value) in [
            ("isolation", &self.isolation),
            ("router", &self.router),
            ("listen", &self.listen),
        ] {
            if let Some(value) = value {
                sourced.set_option(name, value)?;
            }
        }
        service::run(&context.home, sourced, self.idle)
    }
}
