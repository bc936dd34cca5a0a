//! `dyno static`: serves a folder of files, in a dyno of an app that is nothing else.

use std::path::PathBuf;

use clap::Args;

use super::output::say;
use crate::error::{UserError, tell};
use crate::static_site::{Site, serve};

/// Serve a folder of files on $PORT.
#[derive(Debug, Args)]
pub struct Static {
    /// The folder, which may have a static.json; this one if not given
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    /// Only say whether it can be served
    #[arg(long)]
    check: bool,
}

impl Static {
    /// Serves it, for as long as the process lives.
    pub fn perform(self) -> anyhow::Result<()> {
        let site = Site::open(&self.folder)?;
        if self.check {
            let root = site
                .config()
                .root
                .as_deref()
                .filter(|root| !root.is_empty());
            say!("serving {}", root.unwrap_or("the source itself"))?;
            for key in &site.config().unknown {
                tell!("warning: static.json has `{key}`, which means nothing here");
            }
            if !site.has("index.html") {
                tell!("warning: there is no index.html, so that there is nothing at /");
            }
            return Ok(());
        }
        let port = std::env::var("PORT")
            .ok()
            .and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| {
            UserError::new("the variable PORT has no port")
                .hint("`PORT=5000 dyno static` serves there")
        })?;
        serve(site, port)
    }
}
