//! `dyno config:edit`: all config vars, or one, in the user's editor. The edited text is never lost: if it is not valid
//! or cannot be released, it can be edited again, and stays in a file that the error names.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;
use tempfile::TempDir;

use super::config;
use super::context::{Context, app_path};
use crate::cli::dot_env;
use crate::cli::terminal;
use crate::error::{UserError, tell, tell_part};
use crate::kernel::sys::signal::unless_ignored;
use crate::model::config_var::{Config, ConfigChange};

/// Edit the config vars in $VISUAL or $EDITOR; what changed is one new release.
#[derive(Debug, Args)]
pub struct Edit {
    /// Only the value of this one
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Edit {
    /// Has them edited, until they can be released or the user gives up.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let target = app_path(&app, "/config-vars");
        let before: Config = context.client()?.get(&target)?;
        let original = match &self.name {
            Some(name) => before.get(name).cloned().unwrap_or_default(),
            None => text_of(&before, &app),
        };
        let folder = tempfile::Builder::new().prefix("dyno-config.").tempdir()?;
        let file = folder.path().join(match &self.name {
            Some(_) => "value.txt",
            None => "config.env",
        });
        // Only its owner can read the folder.
        fs::write(&file, &original)?;
        let keys = Keys::take()?;
        loop {
            keys.while_they_are_the_editors(|| edit(&file))?;
            let edited = fs::read(&file)?;
            if edited == original.as_bytes() {
                tell!("No changes to config vars");
                return Ok(());
            }
            let released = self
                .change(&before, &edited)
                .and_then(|change| release(context, &target, &before, &change));
            let Err(error) = released else { return Ok(()) };
            if !again(&error) {
                return Err(kept(error, folder, &file));
            }
        }
    }

    /// The change that the edited text makes.
    fn change(&self, before: &Config, edited: &[u8]) -> Result<ConfigChange> {
        let Some(name) = &self.name else {
            return Ok(difference(before, edited)?);
        };
        let value = std::str::from_utf8(edited)
            .map_err(|_| UserError::new(format!("the value of `{name}` is not UTF-8")))?;
        // Editors end a text with a line feed, which is part of the value only if the value had one.
        let ended = before.get(name).is_some_and(|old| old.ends_with('\n'));
        let value = match value.strip_suffix('\n') {
            Some(without) if !ended => without.to_owned(),
            _ => value.to_owned(),
        };
        Ok(match before.get(name) == Some(&value) {
            true => ConfigChange::new(),
            false => ConfigChange::from([(name.clone(), Some(value))]),
        })
    }
}

/// The text to edit.
fn text_of(config: &Config, app: &str) -> String {
    let mut text = format!(
        "# The config vars of {app}, one NAME=value a line; a line that is removed unsets its var.\n"
    );
    for (name, value) in config {
        text += &dot_env::line(name, value);
    }
    text
}

/// The difference between a config and an edited text.
fn difference(before: &Config, text: &[u8]) -> Result<ConfigChange, UserError> {
    let after: BTreeMap<String, String> = dot_env::parse(text, "the text")?;
    if after.is_empty() && !before.is_empty() && text.trim_ascii().is_empty() {
        return Err(UserError::new("the text is empty, which may be a mistake")
            .hint("`dyno config:unset NAME…` removes config vars"));
    }
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    let mut change: ConfigChange = removed.map(|name| (name.clone(), None)).collect();
    for (name, value) in after {
        if before.get(&name) != Some(&value) {
            change.insert(name, Some(value));
        }
    }
    Ok(change)
}

/// Makes the release, unless the config was changed meanwhile.
fn release(
    context: &mut Context,
    target: &str,
    before: &Config,
    change: &ConfigChange,
) -> Result<()> {
    if change.is_empty() {
        tell!("No changes to config vars");
        return Ok(());
    }
    let now: Config = context.client()?.get(target)?;
    if now != *before {
        return Err(
            UserError::new("the config vars have changed since they were opened")
                .hint("`dyno config:edit` again shows what they are now")
                .into(),
        );
    }
    config::apply(context, change, "Setting").map(drop)
}

/// Ignores the signals of keys (Ctrl-C, Ctrl-\) and of the terminal's end while the editor has the terminal, so that
/// this program waits for the editor and keeps the text.
struct Keys {
    ours: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

impl Keys {
    fn take() -> io::Result<Self> {
        let ours = Arc::new(AtomicBool::new(true));
        let ended = Arc::new(AtomicBool::new(false));
        for signal in unless_ignored([SIGINT, SIGQUIT, SIGHUP, SIGTERM]) {
            flag::register_conditional_default(signal, Arc::clone(&ours))?;
        }
        for signal in unless_ignored([SIGHUP, SIGTERM]) {
            flag::register(signal, Arc::clone(&ended))?;
        }
        Ok(Self { ours, ended })
    }

    fn while_they_are_the_editors(&self, edit: impl FnOnce() -> Result<()>) -> Result<()> {
        self.ours.store(false, Ordering::SeqCst);
        let edited = edit();
        self.ours.store(true, Ordering::SeqCst);
        if self.ended.load(Ordering::SeqCst) {
            return Err(
                UserError::new("ended while the editor ran; nothing was changed")
                    .hint("`dyno config:edit` begins again")
                    .into(),
            );
        }
        edited
    }
}

/// Runs the editor on the file.
fn edit(file: &Path) -> Result<()> {
    let variable = |name| {
        std::env::var(name)
            .ok()
            .filter(|value| !value.trim().is_empty())
    };
    let editor = variable("VISUAL").or_else(|| variable("EDITOR"));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    // As git does: the editor may be a shell line, such as `code --wait`. The shell must not exit before the editor.
    let status = Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("trap : INT QUIT; {editor} \"$1\""))
        .arg("editor")
        .arg(file)
        .status()?;
    if status.success() {
        return Ok(());
    }
    Err(UserError::new(format!(
        "the editor `{editor}` failed: {status}; nothing was changed"
    ))
    .hint("$VISUAL or $EDITOR names another one")
    .into())
}

/// Prints the error and asks whether to edit the text again; false without a terminal.
fn again(error: &anyhow::Error) -> bool {
    if !terminal::is_terminal(rustix::stdio::stdin()) {
        return false;
    }
    tell!("{error:#}");
    tell_part!("Edit it again? [Y/n] ");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok_and(|bytes| bytes > 0) && !answer.trim_start().starts_with(['n', 'N'])
}

/// The error, with the file that has the text.
fn kept(error: anyhow::Error, folder: TempDir, file: &Path) -> anyhow::Error {
    let _: PathBuf = folder.keep();
    let user = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<UserError>());
    let message = user.map_or_else(|| format!("{error:#}"), |error| error.message.clone());
    UserError::new(format!("{message}; nothing was changed"))
        .hint(format!("what you wrote is in `{}`", file.display()))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_opened_says_what_the_config_is() {
        let before = config(&[
            ("A", "1"),
            ("KEY", "-----\nline \"two\" \\ # $x\n"),
            ("E", ""),
            ("S", " a "),
        ]);
        let text = text_of(&before, "shop");
        assert_eq!(
            difference(&before, text.as_bytes()),
            Ok(ConfigChange::new())
        );
    }

    #[test]
    fn only_what_differs_is_changed() {
        let before = config(&[("A", "1"), ("B", "2"), ("C", "3")]);
        let change = difference(&before, b"# comment\nB=two\nC=3\nD='x y'\n").unwrap();
        let expected = [("A", None), ("B", Some("two")), ("D", Some("x y"))];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        assert_eq!(change, ConfigChange::from(expected));
        assert!(difference(&before, b"no sense").is_err());
        assert!(difference(&before, b" \n").is_err());
        assert_eq!(difference(&Config::new(), b""), Ok(ConfigChange::new()));
    }
}
