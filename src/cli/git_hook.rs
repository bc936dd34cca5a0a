//! `dyno __git-hook`: run by git when a user pushes to an app's repository. Hidden: only the hooks that
//! [`repository`](crate::repository) writes call it.
//!
//! `pre-receive` checks the whole push before any of it takes effect. `proc-receive` then gets the branches that are
//! deployed, and moves each once there is a release, so that a branch always is at the commit of the last successful
//! build. The user who pushes sees standard error, each line after `remote: `; git and the hook talk over standard
//! input and output.

mod push;
mod source;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::context::Context;
use super::git;
use super::notices::tell_isolation;
use super::target::Target;
use crate::error::{UserError, shown, tell};
use crate::repository::{self, DEPLOYED, FROM_AFAR, MEANT};
use crate::wire::pkt_line;

/// The most commands that are read of one push; a push may deploy fewer.
const MOST_COMMANDS: usize = 16;

/// How many characters of a name are shown at most.
const SHOWN: usize = 100;

/// A change of a branch or tag that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RefUpdate {
    /// The object's id before; only zeros if there was none.
    old: String,
    /// The object's new id; only zeros to delete.
    new: String,
    name: String,
}

impl RefUpdate {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        let (old, new, name) = (words.next()?, words.next()?, words.next()?);
        let is_id = |id: &str| {
            matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        (is_id(&old) && is_id(&new)).then_some(Self { old, new, name })
    }

    fn deletes(&self) -> bool {
        is_none(&self.new)
    }
}

/// Whether an object's id is only zeros.
fn is_none(id: &str) -> bool {
    id.bytes().all(|byte| byte == b'0')
}

/// Runs the named hook.
///
/// # Errors
/// When git does not keep to its protocol; errors of the push itself are printed for the user who pushes.
pub fn run(args: &[OsString]) -> Result<u8> {
    let named = |hook: &str| crate::kernel::sys::title::set(&format!("dyno: {hook} hook"));
    match args.first().and_then(|hook| hook.to_str()) {
        Some(hook @ "pre-receive") => {
            named(hook);
            pre_receive()
        }
        Some(hook @ "proc-receive") => {
            named(hook);
            proc_receive()
        }
        _ => Err(UserError::new("this is for the hooks of git repositories")
            .hint("`dyno git:remote` makes one to push to")
            .into()),
    }
}

/// Checks a whole push; returns 1 if it is refused.
fn pre_receive() -> Result<u8> {
    git::check_version()?;
    let (mut refused, mut skipped) = (false, false);
    for line in io::stdin().lock().lines() {
        let line = line.context("git sent something else than text")?;
        let update = RefUpdate::parse(&line).context("git sent something else than changes")?;
        let name = update.name.as_str();
        if !name.starts_with("refs/heads/") && !name.starts_with("refs/tags/") {
            let name = shown(name.as_bytes(), SHOWN);
            tell!(" !     `{name}` is neither a branch nor a tag");
            refused = true;
        }
        skipped |=
            name.starts_with("refs/heads/") && !DEPLOYED.contains(&name) && !update.deletes();
    }
    if skipped && !refused {
        tell!("Pushed to non-main branch, skipping build.");
    }
    Ok(u8::from(refused))
}

/// Deploys the pushed branch, and moves it.
fn proc_receive() -> Result<u8> {
    let mut answer = take_standard_output()?;
    let mut stdin = io::stdin().lock();
    let greeting = pkt_line::read_section(&mut stdin, MOST_COMMANDS)?;
    let version = greeting.first().context("git did not say its version")?;
    if !version.starts_with(b"version=1") {
        anyhow::bail!("git speaks another protocol to its hooks");
    }
    answer.write_all(&pkt_line::packet(b"version=1"))?;
    answer.write_all(pkt_line::FLUSH)?;
    let updates = pkt_line::read_section(&mut stdin, MOST_COMMANDS)?;
    let updates: Option<Vec<_>> = updates
        .iter()
        .map(|line| RefUpdate::parse(std::str::from_utf8(line).ok()?))
        .collect();
    let updates = updates.context("git sent something else than changes")?;
    let only = updates.len() == 1;
    for update in &updates {
        let done = match (only, update.deletes()) {
            (_, true) if MEANT.contains(&&*update.name) => remove_tag(update),
            (_, true) => Err("it is what is deployed: push another commit instead".to_owned()),
            (false, _) => Err("push either main or master".to_owned()),
            (true, false) => deploy(update),
        };
        for line in report(update, &done) {
            answer.write_all(&pkt_line::packet(line.as_bytes()))?;
        }
    }
    answer.write_all(pkt_line::FLUSH)?;
    Ok(0)
}

/// Removes a tag with the name of a deployed branch, which earlier versions allowed.
fn remove_tag(update: &RefUpdate) -> Result<RefUpdate, String> {
    PushedRepository::of_process()
        .and_then(|repository| repository.ask(&["update-ref", "-d", &update.name, &update.old]))
        .map(|_| update.clone())
        .map_err(|_| "it cannot be removed".to_owned())
}

/// The report to git about a change, line by line: its result, and what was changed if that differs from the push.
fn report(asked: &RefUpdate, done: &Result<RefUpdate, String>) -> Vec<String> {
    let name = &asked.name;
    match done {
        Err(why) => vec![format!("ng {name} {why}\n")],
        Ok(done) if done == asked => vec![format!("ok {name}\n")],
        Ok(done) => vec![
            format!("ok {name}\n"),
            format!("option refname {}\n", done.name),
            format!("option old-oid {}\n", done.old),
            format!("option new-oid {}\n", done.new),
        ],
    }
}

/// Takes standard output, which is git's end of the protocol, and has everything that is printed from here on go to
/// standard error.
fn take_standard_output() -> io::Result<File> {
    let answer = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(answer.into())
}

/// Deploys one branch, and returns how it was moved. The error is a few words for git to print; details were already printed.
fn deploy(update: &RefUpdate) -> Result<RefUpdate, String> {
    let pushed = PushedRepository::of_process().and_then(|repository| {
        let target = Target {
            tls_ca: None,
            app: Some(repository.app_id.clone()),
            directory: Vec::new(),
        };
        let context = Context::new(target)?;
        let mut context = match std::env::var_os(FROM_AFAR) {
            // This process has the limits that the server sets for it, which a server started from here would inherit.
            Some(_) => context.starting_none(),
            None => context,
        };
        if std::env::var_os(FROM_AFAR).is_none() {
            tell_isolation(&context);
        }
        push::deploy(&mut context, &repository, update)
    });
    match pushed {
        Ok(done) => done,
        Err(error) => {
            tell_error(&error);
            Err("it could not be deployed".to_owned())
        }
    }
}

/// Prints an error in the format of a build's log.
fn tell_error(error: &anyhow::Error) {
    match error.downcast_ref::<UserError>() {
        Some(error) => {
            tell!(" !     {error}");
            if let Some(hint) = &error.hint {
                tell!(" !     hint: {hint}");
            }
        }
        None => tell!(" !     {error:#}"),
    }
}

/// The repository that received the push, which is the current folder.
#[derive(Debug)]
struct PushedRepository {
    path: PathBuf,
    app_id: String,
}

impl PushedRepository {
    fn of_process() -> Result<Self> {
        let path = std::env::current_dir()?;
        let app_id = repository::owner_of(&path).ok_or_else(|| {
            let message = format!("`{}` is not the repository of an app", path.display());
            UserError::new(message).hint("`dyno git:remote` makes one")
        })?;
        Ok(Self { path, app_id })
    }

    /// A git command for this repository alone: the environment and configuration of the user who pushes are for other
    /// repositories.
    fn git(&self) -> Command {
        let mut git = Command::new("git");
        git.env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("GIT_DIR", &self.path)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .current_dir(&self.path)
            .stdin(Stdio::null());
        git
    }

    /// Git's output, trimmed. An error if it fails.
    fn ask(&self, args: &[&str]) -> Result<String> {
        let output = self.git().args(args).output().context("cannot run git")?;
        if !output.status.success() {
            let why = shown(output.stderr.trim_ascii(), 300);
            anyhow::bail!("git {} failed: {why}", args.first().unwrap_or(&""));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_is_told_what_was_changed_instead_of_what_was_pushed() {
        let asked = RefUpdate {
            old: "0".repeat(40),
            new: "1".repeat(40),
            name: "refs/tags/main".to_owned(),
        };
        let done = RefUpdate {
            new: "2".repeat(40),
            name: "refs/heads/main".to_owned(),
            ..asked.clone()
        };
        assert_eq!(report(&asked, &Ok(asked.clone())), ["ok refs/tags/main\n"]);
        assert_eq!(
            report(&asked, &Err("no".to_owned())),
            ["ng refs/tags/main no\n"]
        );
        assert_eq!(
            report(&asked, &Ok(done)),
            [
                "ok refs/tags/main\n".to_owned(),
                "option refname refs/heads/main\n".to_owned(),
                format!("option old-oid {}\n", "0".repeat(40)),
                format!("option new-oid {}\n", "2".repeat(40)),
            ]
        );
    }

    #[test]
    fn an_update_is_two_ids_and_a_name() {
        let (one, none) = ("1".repeat(40), "0".repeat(40));
        let update = RefUpdate::parse(&format!("{none} {one} refs/heads/main")).unwrap();
        assert!(!update.deletes());
        let update = RefUpdate::parse(&format!("{one} {none} refs/tags/a b")).unwrap();
        assert_eq!(
            (update.name.as_str(), update.deletes()),
            ("refs/tags/a b", true)
        );
        for bad in [
            String::new(),
            one.clone(),
            format!("{one} {none}"),
            format!("{one} --help refs/heads/main"),
            format!("{one} {} refs/heads/main", "x".repeat(40)),
        ] {
            assert_eq!(RefUpdate::parse(&bad), None, "{bad}");
        }
    }
}
