//! The environment of a dyno's command, its sources and their order, and the shell arguments that start it.

use std::collections::BTreeMap;
use std::path::Path;

use super::DynoName;
use crate::model::config_var::Config;
use crate::model::release::Toolchains;

/// The prompt of an interactive shell: `~ $`, as on Heroku.
pub const PROMPT: &str = r"\[\033[01;34m\]\w\[\033[00m\] \[\033[01;32m\]$ \[\033[00m\]";

/// The search path before toolchains and profile scripts, Heroku's.
pub const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The paths of a dyno, as its own processes see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DynoPaths {
    /// In namespaces: all paths are Heroku's.
    Walls,
    /// In a folder of the host.
    Folder {
        /// The app's folder.
        app: String,
        /// The folder for temporary files.
        temporary: String,
        /// The dyno's id, by which its processes are found.
        id: String,
    },
}

/// The variable whose value is the id of a dyno in a folder.
pub const MARK: &str = "DYNO_ID";

/// The sources of a command's environment.
#[derive(Debug, Clone, Copy)]
pub struct EnvSources<'a> {
    /// The dyno's name.
    pub name: &'a DynoName,
    /// Its paths.
    pub place: &'a DynoPaths,
    /// Its port.
    pub port: u16,
    /// The release's toolchains.
    pub toolchains: &'a Toolchains,
    /// What `dyno start` has read from `.env`; empty for any other app.
    pub dot_env: &'a BTreeMap<String, String>,
    /// The release's config vars.
    pub config: &'a Config,
    /// The variables of the request (`-e`, `TERM`).
    pub request: &'a BTreeMap<String, String>,
}

/// The environment: platform defaults, then `.env`, then config vars, then the request's; profile scripts may change it
/// after that. `DYNO`, and the mark of a dyno in a folder, cannot be overridden.
pub fn compose(sources: &EnvSources<'_>) -> BTreeMap<String, String> {
    let app = match sources.place {
        DynoPaths::Walls => "/app",
        DynoPaths::Folder { app, .. } => app,
    };
    // Toolchain folders inside the app follow the app's folder.
    let at = |folder: &String| match folder.strip_prefix("/app") {
        Some(inside) if inside.is_empty() || inside.starts_with('/') => format!("{app}{inside}"),
        _ => folder.clone(),
    };
    let mut path: Vec<String> = sources.toolchains.path.iter().map(at).collect();
    path.push(DEFAULT_PATH.to_owned());
    let path = path.join(":");
    let defaults = [
        ("HOME", app),
        ("PWD", app),
        ("PATH", &path),
        ("PS1", PROMPT),
        // Not on Heroku; without it editors show only ASCII.
        ("LANG", "C.UTF-8"),
        // As Heroku's buildpack has it; without it, Python's output reaches the log 8 KiB late, or never.
        ("PYTHONUNBUFFERED", "1"),
        // As on Heroku, whatever the host's time zone; a config var may override it.
        ("TZ", "UTC"),
        ("PORT", &sources.port.to_string()),
    ];
    let mut env: BTreeMap<String, String> = defaults
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    if let DynoPaths::Folder { temporary, .. } = sources.place {
        env.insert("TMPDIR".to_owned(), temporary.clone());
        // In namespaces, `/etc/passwd` names the user. The host's may have no user with the dyno's uid.
        env.extend(["USER", "LOGNAME"].map(|name| (name.to_owned(), "dyno".to_owned())));
    }
    for layer in [
        &sources.toolchains.env,
        sources.dot_env,
        sources.config,
        sources.request,
    ] {
        env.extend(
            layer
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
    }
    env.insert("DYNO".to_owned(), sources.name.to_string());
    if let DynoPaths::Folder { id, .. } = sources.place {
        env.insert(MARK.to_owned(), id.clone());
        let prompt = env.get("PS1").map_or(PROMPT, String::as_str);
        let prompt_back = prompt_back(prompt);
        env.entry("PROMPT_COMMAND".to_owned())
            .or_insert(prompt_back);
    }
    env
}

/// The `PROMPT_COMMAND` of a dyno in a folder. The distribution's bashrc sets a prompt with the host's name; in
/// namespaces that file is covered, here the prompt is set back.
fn prompt_back(prompt: &str) -> String {
    let quoted = prompt.replace('\'', r"'\''");
    format!(r"case $PS1 in *\\h*) PS1='{quoted}';; esac")
}

/// Sources the app's profile scripts as Heroku does (`.profile.d` in glob order, then `.profile`),
/// then becomes the shell of the command. A script that fails does not stop the start.
const WITH_PROFILE: &str = r#"for script in "$2"/.profile.d/*.sh "$2"/.profile; do [ -r "$script" ] && . "$script"; done; exec "$0" -c -- "$1""#;

/// The arguments of `shell` that run `command` in the app whose unpacked slug is `tree`, and whose folder is `app`
/// inside the dyno. Without profile scripts there is no second shell.
pub fn shell_arguments(shell: &Path, command: &str, tree: &Path, app: &Path) -> Vec<String> {
    let profile = [".profile.d", ".profile"]
        .iter()
        .any(|name| tree.join(name).exists());
    match profile {
        true => vec![
            "-c".to_owned(),
            WITH_PROFILE.to_owned(),
            shell.to_string_lossy().into_owned(),
            command.to_owned(),
            app.to_string_lossy().into_owned(),
        ],
        // A command may begin with a dash.
        false => vec!["-c".to_owned(), "--".to_owned(), command.to_owned()],
    }
}

/// The command in arguments made by [`shell_arguments`], and whether profile scripts run before it.
pub fn command_of(arguments: &[String]) -> Option<(&str, bool)> {
    match arguments {
        [_, dashes, command] if dashes == "--" => Some((command, false)),
        [_, _, _, command, _] => Some((command, true)),
        _ => None,
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
        let env = compose(&EnvSources {
            name: &name,
            place: &DynoPaths::Walls,
            port: 20_001,
            toolchains: &toolchains,
            dot_env: &map(&[("A", "file"), ("C", "file"), ("LANG", "de")]),
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
            (of("A"), of("B"), of("C"), of("LANG")),
            (Some("config"), Some("request"), Some("file"), Some("en"))
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
        let app = Path::new("/app");
        assert_eq!(
            shell_arguments(shell, "true", tree.path(), app),
            ["-c", "--", "true"]
        );
        std::fs::create_dir(tree.path().join(".profile.d")).unwrap();
        assert_eq!(shell_arguments(shell, "true", tree.path(), app).len(), 5);
    }

    #[test]
    fn a_dyno_in_a_folder_is_marked_and_at_home_there() {
        let name: DynoName = "run.7".parse().unwrap();
        let place = DynoPaths::Folder {
            app: "/state/dynos/1/scratch/app".into(),
            temporary: "/state/dynos/1/scratch/tmp".into(),
            id: "1".into(),
        };
        let env = compose(&EnvSources {
            name: &name,
            place: &place,
            port: 20_001,
            toolchains: &Toolchains {
                path: vec!["/app/node_modules/.bin".into(), "/apple".into()],
                ..Toolchains::default()
            },
            dot_env: &map(&[("DYNO_ID", "4")]),
            config: &map(&[("DYNO_ID", "2"), ("PS1", r"it's \h")]),
            request: &map(&[("DYNO_ID", "3")]),
        });
        for (name, value) in [
            ("HOME", "/state/dynos/1/scratch/app"),
            ("PWD", "/state/dynos/1/scratch/app"),
            ("TMPDIR", "/state/dynos/1/scratch/tmp"),
            ("USER", "dyno"),
            ("LOGNAME", "dyno"),
            (
                "PATH",
                "/state/dynos/1/scratch/app/node_modules/.bin:/apple:/usr/local/bin:/usr/bin:/bin",
            ),
            ("DYNO_ID", "1"),
            (
                "PROMPT_COMMAND",
                r"case $PS1 in *\\h*) PS1='it'\''s \h';; esac",
            ),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
    }
}
