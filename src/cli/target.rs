//! The options that every command has: the app, the folder, and the CA of a server elsewhere.

use std::path::PathBuf;

use clap::Args;

/// The app that a command is for, its folder, and the CA of a server elsewhere.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// The app; else $DYNO_APP, else the one this folder is linked to
    #[arg(short, long, global = true, value_name = "NAME")]
    pub app: Option<String>,
    /// Go to this folder first; may be repeated, each from where the last one led
    #[arg(short = 'C', global = true, value_name = "DIR")]
    pub directory: Vec<PathBuf>,
    /// With $DYNO_HOST, the CA of the server's certificate, in PEM; else $DYNO_TLS_CA, else those of this host
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
}
