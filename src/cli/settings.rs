//! `dyno settings`: every setting with its value and where that comes from.

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::output::{say, say_json};
use crate::api::server::{ServerInfo, SettingInfo};
use crate::error::tell;
use crate::model::settings::{Reader, Row, Setting};

/// Show every setting with its value and where that comes from
///
/// The server reads most of them when it starts. While one runs its values are shown, and those that this shell and
/// config.toml would give to another one. None is started for this.
#[derive(Debug, Args)]
pub struct Show {
    /// As a JSON array
    #[arg(long)]
    json: bool,
}

/// A setting as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    name: &'static str,
    value: String,
    source: String,
    /// The value for a server that this shell would start, if it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    here: Option<Here>,
    default: String,
    bounds: String,
    variable: String,
    about: &'static str,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Here {
    value: String,
    source: &'static str,
}

impl Show {
    /// Prints the settings.
    ///
    /// # Errors
    /// When the server does not answer, or when there is none and `config.toml` is not valid, after the other settings
    /// are printed.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let (server, used) = match context.running()? {
            Some((client, server)) => (Some(server), client.get("/server/settings")?),
            None => (None, Vec::new()),
        };
        let here = context.sourced().map(|sourced| sourced.rows());
        let shown: Vec<Shown> = match (here, &server) {
            (Ok(rows), _) => rows.map(|row| merge(row, &used)).collect(),
            // The warning was already printed.
            (Err(_), Some(_)) => used.iter().filter_map(known).collect(),
            (Err(error), None) => {
                let rows = context.sourced_without_file().rows();
                let shown: Vec<Shown> = rows.map(|row| merge(row, &used)).collect();
                if !self.json {
                    say!("=== Settings without config.toml, with which no server starts")?;
                    table(&shown)?;
                }
                return Err(error.into());
            }
        };
        if self.json {
            return say_json(&shown);
        }
        let path = context.home.path().join(crate::home::config_file::NAME);
        match &server {
            Some(server) => say!("=== Settings of the server (process {})", server.pid)?,
            None => say!("=== Settings of a server that starts now")?,
        }
        table(&shown)?;
        if let Some(server) = server
            && shown.iter().any(|setting| setting.here.is_some())
        {
            tell!("{}", advice(&server));
        }
        tell!("settings are in `{}` or the environment", path.display());
        Ok(())
    }
}

/// A setting of this process, with the server's value.
fn merge(row: Row, used: &[SettingInfo]) -> Shown {
    let of_server = used
        .iter()
        .find(|used| used.name == row.setting.name)
        .filter(|_| row.setting.reader == Reader::Server);
    let source = row.source.as_str();
    let here = of_server
        .filter(|used| used.value != row.value)
        .map(|_| Here {
            value: row.value.clone(),
            source,
        });
    let (value, source) = match of_server {
        Some(used) => (used.value.clone(), used.source.clone()),
        None => (row.value, source.to_owned()),
    };
    shown(row.setting, value, source, here)
}

/// A setting that only the server reported; None if this build does not know it.
fn known(used: &SettingInfo) -> Option<Shown> {
    let setting = Setting::named(&used.name)?;
    Some(shown(
        setting,
        used.value.clone(),
        used.source.clone(),
        None,
    ))
}

fn shown(setting: &'static Setting, value: String, source: String, here: Option<Here>) -> Shown {
    Shown {
        name: setting.name,
        value,
        source,
        here,
        default: setting.usual(),
        bounds: setting.bounds(),
        variable: setting.variable(),
        about: setting.about(),
    }
}

fn table(settings: &[Shown]) -> std::io::Result<()> {
    let width = |column: fn(&Shown) -> &str| {
        let widths = settings.iter().map(|setting| column(setting).len());
        widths.max().unwrap_or(0)
    };
    let (name, value) = (width(|row| row.name), width(|row| &row.value));
    for row in settings {
        let here = row.here.as_ref().map_or(String::new(), |here| {
            format!("   (here: {}, {})", here.value, here.source)
        });
        say!(
            "{:name$}  {:value$}  {}{here}",
            row.name,
            row.value,
            row.source
        )?;
    }
    Ok(())
}

/// The hint how the server can get the values of this shell.
fn advice(server: &ServerInfo) -> &'static str {
    if server.idle {
        "the server was started with other settings: `dyno server:stop` ends it, and the next command starts one with \
         these; dynos go on"
    } else {
        "the server was started with other settings: start it again to have it read `config.toml` and its own \
         environment; dynos go on"
    }
}
