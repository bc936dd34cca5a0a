//! `dyno git:remote`: adds an app's repository as a remote of a git checkout, so that `git push dyno main` deploys.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use clap::Args;

use super::context::{Context, app_path};
use super::output::say;
use crate::api::app::App;
use crate::api::repository::Repository;
use crate::cli::client::Far;
use crate::error::{UserError, shown};
use crate::wire::tls;

/// The oldest git version with the `proc-receive` hook, which deploys.
pub const OLDEST: (u32, u32) = (2, 29);

/// Have `git push dyno main` deploy this checkout
#[derive(Debug, Args)]
pub struct Remote {
    /// The remote's name
    #[arg(short, long, value_name = "NAME", default_value = "dyno")]
    remote: String,
    /// Push to the API's address, with a token, instead of by the local path
    #[arg(long)]
    https: bool,
}

impl Remote {
    /// Adds the remote, or corrects its URL.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        check_version()?;
        check_checkout()?;
        let app = context.app()?;
        let url = &self.url(context, &app)?;
        if let Some(far) = context.far() {
            configure(&far.url(), far.ca())?;
        } else if self.https {
            let server = url
                .rsplit_once('/')
                .map_or(url.as_str(), |(server, _)| server);
            configure(server, Some(&tls::ca_path(context.home.path())))?;
        }
        let remote = self.remote.as_str();
        let known = succeeds(git(["remote", "get-url", remote]));
        let verb = if known { "set-url" } else { "add" };
        // git's own messages go to the terminal.
        let done = git(["remote", verb, "--", remote, url])
            .stdout(Stdio::null())
            .status();
        if !done.is_ok_and(|status| status.success()) {
            let name = shown(remote.as_bytes(), 60);
            return Err(
                UserError::new(format!("git did not take the remote `{name}`"))
                    .hint("its own words are above; -r takes another name")
                    .into(),
            );
        }
        say!("set git remote {remote} to {url}")?;
        Ok(())
    }
}

/// Checks that this folder is a git checkout.
///
/// # Errors
/// Why it is not: there may be no checkout, or one of another user.
fn check_checkout() -> Result<(), UserError> {
    let asked = git(["rev-parse", "--git-dir"])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output();
    let said = match asked {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    if said.contains("not a git repository") && !said.contains("dubious") {
        return Err(UserError::new("this folder is no git checkout")
            .hint("`git init` makes it one; what is pushed is what was committed"));
    }
    let mut lines = said.lines().map(str::trim);
    let why = lines.next().unwrap_or_default();
    let why = shown(why.trim_start_matches("fatal: ").as_bytes(), 300);
    let advice = lines.find(|line| line.starts_with("git config"));
    let hint = match advice {
        Some(command) => format!(
            "it belongs to another user; if you trust what is configured in it: `{}`",
            shown(command.as_bytes(), 300)
        ),
        None => "`git status` here says more".to_owned(),
    };
    Err(UserError::new(format!("git does not take this folder: {why}")).hint(hint))
}

impl Remote {
    /// The URL to push the app to.
    fn url(&self, context: &mut Context, app: &str) -> Result<String> {
        if let Some(base) = context.far().map(Far::url) {
            let app: App = context.client()?.get(&app_path(app, ""))?;
            return Ok(format!("{base}/{}.git", app.name));
        }
        if !self.https {
            let path = app_path(app, "/repository");
            let repository: Repository = context.client()?.post(&path, &())?;
            return Ok(repository.path);
        }
        let app: App = context.client()?.get(&app_path(app, ""))?;
        if app.git_url.is_empty() {
            return Err(UserError::new("the server does not listen over TCP")
                .hint("`dyno heroku:env` has it do so, and tells git which CA to trust")
                .into());
        }
        Ok(app.git_url)
    }
}

/// Configures git, in this checkout and for the server at `url` alone, with the source of the token and the CA to trust.
fn configure(url: &str, ca: Option<&Path>) -> Result<()> {
    // The token itself is not stored: it is read from the environment variable of `dyno` or of `heroku`.
    let helper = r#"!f() { test "$1" = get && printf 'username=dyno\npassword=%s\n' "${DYNO_API_KEY:-$HEROKU_API_KEY}"; }; f"#;
    let mut lines = vec![(format!("credential.{url}.helper"), OsStr::new(helper))];
    if let Some(ca) = ca {
        lines.push((format!("http.{url}/.sslCAInfo"), ca.as_os_str()));
    }
    for (name, value) in lines {
        let line = [
            OsStr::new("config"),
            OsStr::new("--replace-all"),
            OsStr::new(&name),
            value,
        ];
        if !git(line).status().is_ok_and(|status| status.success()) {
            return Err(
                UserError::new("git did not take its configuration for this server")
                    .hint("its own words are above")
                    .into(),
            );
        }
    }
    Ok(())
}

fn git<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut git = Command::new("git");
    git.args(args);
    git
}

fn succeeds(mut command: Command) -> bool {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Checks that git is installed and new enough.
///
/// # Errors
/// What is installed instead.
pub fn check_version() -> Result<()> {
    let output = git(["version"]).stdin(Stdio::null()).output();
    let (major, minor) = OLDEST;
    let hint = format!("install git {major}.{minor} or newer");
    let output = output
        .map_err(|error| UserError::new(format!("cannot run git: {error}")).hint(hint.as_str()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match version(&text) {
        Some(version) if version >= OLDEST => Ok(()),
        _ => {
            let what = shown(text.trim().as_bytes(), 60);
            Err(UserError::new(format!("this git is too old: `{what}`"))
                .hint(hint)
                .into())
        }
    }
}

/// The first two numbers in `git version 2.47.3 (Apple Git-1)`.
fn version(text: &str) -> Option<(u32, u32)> {
    let text = text.strip_prefix("git version ")?;
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gits_tell_their_version_in_many_ways() {
        for (text, expected) in [
            ("git version 2.47.3\n", Some((2, 47))),
            ("git version 2.29-rc1", Some((2, 29))),
            ("git version 2.39.5 (Apple Git-154)", Some((2, 39))),
            ("git version 3.0.windows.1", Some((3, 0))),
            ("git version", None),
            ("jit version 1.0", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }
}
