//! `dyno heroku:env`: the environment with which Heroku's own command line works with this host.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Args;

use super::context::Context;
use super::output::say;
use crate::api::authorization::{Authorization, CreateAuthorization};
use crate::api::server::Listening;
use crate::cli::terminal;
use crate::error::tell;
use crate::model::command_line::quote;
use crate::wire::tls;

/// Set Heroku's command line up for this host: eval "$(dyno heroku:env)"
///
/// Prints lines for a shell. They say to `heroku` where this host's API is, which token to use and which CA to trust, and
/// that nothing is to be reported to Heroku; to git, which CA to trust for the API's address alone. The server then listens
/// on a loopback address, and later ones will; a token is made when there is none.
#[derive(Debug, Args)]
pub struct HerokuEnv {
    /// Print lines that take it all back, in this shell
    #[arg(long)]
    unset: bool,
}

/// The name of the file in the state folder that stores the token and its id for the next time. A process that can read
/// it can also use the Unix socket beside it.
const TOKEN: &str = "heroku-token";

/// The variable with the only CA that git trusts, over its configuration.
const GIT_CA: &str = "GIT_SSL_CAINFO";

const CONSTANTS: [(&str, &str); 2] = [
    ("DISABLE_TELEMETRY", "true"),
    ("HEROKU_SKIP_NEW_VERSION_CHECK", "1"),
];

impl HerokuEnv {
    /// Prints the lines.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let home = context.home.path().to_owned();
        let ca = tls::ca_path(&home);
        let ca = ca
            .to_str()
            .context("the path of the state folder is not UTF-8")?;
        let git = GitPlace::of_shell(ca);
        if self.unset {
            return take_back(git);
        }
        let client = context.client()?;
        let listening: Listening = client.post("/server/actions/listen", &())?;
        let token = token(&home.join(TOKEN), context)?;
        tls::ca_file(&home)?;
        if std::env::var("NODE_EXTRA_CA_CERTS").is_ok_and(|other| other != ca) {
            tell!(
                "NODE_EXTRA_CA_CERTS was something else; in this shell node trusts dyno's CA instead"
            );
        }
        if std::env::var(GIT_CA).is_ok_and(|other| other != ca) {
            tell!(
                "{GIT_CA} is set, which git uses before these lines: unset it to push over https"
            );
        }
        let all = lines(&listening.api, &token, ca);
        for (name, value) in all.into_iter().chain(git.lines(&listening.api, ca)) {
            say!("export {name}={}", quote(&value))?;
        }
        if terminal::is_terminal(rustix::stdio::stdout()) {
            tell!("# for this shell: eval \"$(dyno heroku:env)\"");
        }
        Ok(())
    }
}

/// Prints the lines that remove all of it.
fn take_back(git: GitPlace) -> Result<()> {
    for (name, _) in lines("", "", "") {
        say!("unset {name}")?;
    }
    if git.is_taken {
        for (name, _) in &git.lines("", "")[1..] {
            say!("unset {name}")?;
        }
        match git.index {
            0 => say!("unset GIT_CONFIG_COUNT")?,
            others => say!("export GIT_CONFIG_COUNT={others}")?,
        }
    }
    Ok(())
}

/// The position of dyno's entry in the configuration that git reads from the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GitPlace {
    index: u32,
    /// Whether it is there already, as after a second call in one shell.
    is_taken: bool,
}

impl GitPlace {
    fn of_shell(ca: &str) -> Self {
        let count = std::env::var("GIT_CONFIG_COUNT").ok();
        let count: u32 = count.and_then(|count| count.parse().ok()).unwrap_or(0);
        let last = count.checked_sub(1).filter(|last| {
            let value = std::env::var(format!("GIT_CONFIG_VALUE_{last}"));
            value.is_ok_and(|value| value == ca)
        });
        Self {
            index: last.unwrap_or(count),
            is_taken: last.is_some(),
        }
    }

    fn lines(self, api: &str, ca: &str) -> [(String, String); 3] {
        let index = self.index;
        [
            ("GIT_CONFIG_COUNT".to_owned(), (index + 1).to_string()),
            (
                format!("GIT_CONFIG_KEY_{index}"),
                format!("http.https://{api}/.sslCAInfo"),
            ),
            (format!("GIT_CONFIG_VALUE_{index}"), ca.to_owned()),
        ]
    }
}

/// The variables to set for `heroku` and for the libraries that it uses.
fn lines(api: &str, token: &str, ca: &str) -> Vec<(String, String)> {
    // Whoever listens there has to show that it is this host's server before it gets the token.
    let address = format!("https://{api}");
    let mut lines = vec![
        ("HEROKU_HOST".to_owned(), address.clone()),
        ("HEROKU_API_KEY".to_owned(), token.to_owned()),
        // Otherwise every command sends a request with the token to a host of Heroku.
        ("HEROKU_PARTICLEBOARD_URL".to_owned(), address),
        ("NODE_EXTRA_CA_CERTS".to_owned(), ca.to_owned()),
    ];
    lines.extend(CONSTANTS.map(|(name, value)| (name.to_owned(), value.to_owned())));
    lines
}

/// The stored token if it is still valid, else a new one.
fn token(file: &Path, context: &mut Context) -> Result<String> {
    const TOKENS: &str = "/oauth/authorizations";
    if let Ok(kept) = fs::read_to_string(file)
        && let Some((id, token)) = kept.trim().split_once(' ')
    {
        let all: Vec<Authorization> = context.client()?.get_list(TOKENS)?;
        if all.iter().any(|known| known.id == id) {
            return Ok(token.to_owned());
        }
    }
    let wish = CreateAuthorization {
        description: Some("heroku:env".to_owned()),
        ..CreateAuthorization::default()
    };
    let made: Authorization = context.client()?.post(TOKENS, &wish)?;
    let token = made.access_token.map(|it| it.token).unwrap_or_default();
    let aside = file.with_extension("new");
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&aside);
        let mut options = fs::OpenOptions::new();
        let mut new = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)?;
        writeln!(new, "{} {token}", made.id)?;
        fs::rename(&aside, file)
    };
    write().with_context(|| format!("cannot keep the token in `{}`", file.display()))?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_believes_the_ca_for_the_apis_address_alone() {
        let place = GitPlace {
            index: 2,
            is_taken: false,
        };
        let lines = place.lines("127.0.0.1:5001", "/ca.pem");
        let lines = lines.map(|(name, value)| format!("{name}={value}"));
        assert_eq!(
            lines,
            [
                "GIT_CONFIG_COUNT=3",
                "GIT_CONFIG_KEY_2=http.https://127.0.0.1:5001/.sslCAInfo",
                "GIT_CONFIG_VALUE_2=/ca.pem"
            ]
        );
    }
}
