//! `dyno server`: the server in the foreground.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::context::Context;
use crate::cli::client::start;
use crate::error::tell;
use crate::server::service;
use crate::wire::handover::Handover;

/// Run the server in the foreground.
///
/// Other commands start one by themselves when none runs; it leaves when there is nothing to do. This one takes over from such
/// a server: its dynos go on, and no visitor is refused.
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
    /// Where Heroku's CLI meets the dynos that it runs, like 127.0.0.1:5000; the setting `rendezvous`
    #[arg(long, value_name = "ADDRESS|auto|off")]
    rendezvous: Option<String>,
    /// The server's certificate for TLS, in PEM, instead of one from a CA of its own; the setting `tls_cert`
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of that certificate, in PEM; the setting `tls_key`
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// What a certificate of its own is for beside this host, names and addresses with commas; the setting `tls_names`
    #[arg(long, value_name = "HOST,…")]
    tls_names: Option<String>,
}

impl Serve {
    /// Serves until SIGTERM or SIGINT; dynos go on.
    pub fn perform(self, context: &Context) -> Result<()> {
        let mut sourced = context.sourced()?.clone();
        let file = |path: &Option<PathBuf>| -> Result<Option<String>> {
            let path = path.as_ref().map(std::path::absolute).transpose()?;
            Ok(path.map(|path| path.to_string_lossy().into_owned()))
        };
        for (name, value) in [
            ("isolation", self.isolation.clone()),
            ("router", self.router.clone()),
            ("listen", self.listen.clone()),
            ("rendezvous", self.rendezvous.clone()),
            ("tls_cert", file(&self.tls_cert)?),
            ("tls_key", file(&self.tls_key)?),
            ("tls_names", self.tls_names.clone()),
        ] {
            if let Some(value) = value {
                sourced.set_option(name, &value)?;
            }
        }
        let left = match self.idle {
            true => Handover::default(),
            false => take_over(context)?,
        };
        service::run(&context.home, sourced, self.idle, left)
    }
}

/// Takes over from a server that a command has started: its sockets and its lock.
fn take_over(context: &Context) -> Result<Handover> {
    let Some((left, server)) = start::succeed(&context.home)? else {
        return Ok(Handover::default());
    };
    tell!(
        "the server that a command had started (process {}) has made room for this one; its dynos go on",
        server.pid
    );
    Ok(left)
}
