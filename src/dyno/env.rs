//! The environment of a dyno's command and the way it is started: what comes from whom, and who wins.

use std::collections::BTreeMap;
use std::path::Path;

use super::DynoName;
use crate::config_var::Config;
use crate::release::Toolchains;

/// The prompt of an interactive shell: `~ $`, as on Heroku (heroku-facts section 4).
pub const PROMPT: &str = r"\[\033[01;34m\]\w\[\033[00m\] \[\033[01;32m\]$ \[\033[00m\]";

/// The search path before toolchains and profile scripts, Heroku's.
pub const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Everything that has a say.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The dyno's name.
    pub name: &'a DynoName,
    /// Its port.
    pub port: u16,
    /// The release's toolchains.
    pub toolchains: &'a Toolchains,
    /// The release's config vars.
    pub config: &'a Config,
    /// What the request gives (`-e`, `TERM`).
    pub request: &'a BTreeMap<String, String>,
}

/// The environment: platform defaults, then config vars, then the request's; profile scripts may change it
/// once more (heroku-facts section 4). `DYNO` is nobody's to change.
pub fn compose(sources: &Sources<'_>) -> BTreeMap<String, String> {
    let mut path: Vec<&str> = sources.toolchains.path.iter().map(String::as_str).collect();
    path.push(DEFAULT_PATH);
    let path = path.join(":");
    let defaults = [
        ("HOME", "/app"),
        ("PWD", "/app"),
        ("PATH", &path),
        ("PS1", PROMPT),
        // Not Heroku's; without it no editor shows more than ASCII.
        ("LANG", "C.UTF-8"),
        ("PORT", &sources.port.to_string()),
    ];
    let mut env: BTreeMap<String, String> = defaults
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    for layer in [&sources.toolchains.env, sources.config, sources.request] {
        env.extend(
            layer
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
    }
    env.insert("DYNO".to_owned(), sources.name.to_string());
    env
}

/// Sources the app's profile scripts as Heroku does (`.profile.d` in glob order, then `.profile`),
/// then becomes the shell of the command. One that fails does not stop the start.
const WITH_PROFILE: &str = r#"for script in /app/.profile.d/*.sh /app/.profile; do [ -r "$script" ] && . "$script"; done; exec "$0" -c -- "$1""#;

/// The arguments of `shell` that run `command` in the app whose unpacked slug is `tree`. Without profile
/// scripts there is no second shell.
pub fn shell_arguments(shell: &Path, command: &str, tree: &Path) -> Vec<String> {
    let profile = [".profile.d", ".profile"]
        .iter()
        .any(|name| tree.join(name).exists());
    match profile {
        true => vec![
            "-c".to_owned(),
            WITH_PROFILE.to_owned(),
            shell.to_string_lossy().into_owned(),
            command.to_owned(),
        ],
        // A command may begin with a dash.
        false => vec!["-c".to_owned(), "--".to_owned(), command.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_request_wins_over_config_and_config_over_defaults() {
        let name: DynoName = "run.7".parse().unwrap();
        let toolchains = Toolchains {
            path: vec!["/home/a/.pyenv/shims".into()],
            env: map(&[("PYENV_ROOT", "/home/a/.pyenv")]),
            ..Toolchains::default()
        };
        let env = compose(&Sources {
            name: &name,
            port: 20_001,
            toolchains: &toolchains,
            config: &map(&[
                ("A", "config"),
                ("B", "config"),
                ("LANG", "en"),
                ("DYNO", "x"),
            ]),
            request: &map(&[("B", "request"), ("DYNO", "y")]),
        });
        let of = |name: &str| env.get(name).map(String::as_str);
        assert_eq!(
            (of("A"), of("B"), of("LANG")),
            (Some("config"), Some("request"), Some("en"))
        );
        assert_eq!(
            (of("DYNO"), of("PORT"), of("HOME")),
            (Some("run.7"), Some("20001"), Some("/app"))
        );
        assert_eq!(
            of("PATH"),
            Some("/home/a/.pyenv/shims:/usr/local/bin:/usr/bin:/bin")
        );
        assert_eq!(of("PYENV_ROOT"), Some("/home/a/.pyenv"));
    }

    #[test]
    fn only_an_app_with_profile_scripts_pays_for_them() {
        let tree = tempfile::tempdir().unwrap();
        let shell = Path::new("/bin/bash");
        assert_eq!(
            shell_arguments(shell, "true", tree.path()),
            ["-c", "--", "true"]
        );
        std::fs::create_dir(tree.path().join(".profile.d")).unwrap();
        assert_eq!(shell_arguments(shell, "true", tree.path()).len(), 4);
    }
}
