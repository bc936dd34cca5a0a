//! The options that every command has: which app it is about, and where.

use std::path::PathBuf;

use clap::Args;

/// Where and on what a command works.
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
