//! Words of other tools: commands and options of Heroku, dokku, kamal, docker, foreman, overmind, pm2 and systemctl
//! that `dyno` does not have, each with the command that does its work here. Called when the command line is not valid;
//! misspelt words lead to the nearest command.

use clap::CommandFactory;

use super::Cli;
use crate::error::UserError;
use crate::model::command_line::quote;

/// Words that are no commands of dyno (`:*` stands for all commands with that prefix), each with the hint what to do instead.
const WORDS: &[(&[&str], &str)] = &[
    (
        &["stop", "kill", "dyno:stop", "dyno:kill", "pause"],
        "`dyno ps:stop web.1` ends dynos (those of the formation start again), `dyno ps:scale web=0` keeps a type down",
    ),
    (
        &[
            "exec", "enter", "connect", "ssh", "ps:exec", "app:exec", "attach", "console",
        ],
        "`dyno run:inside web.1 bash` runs a command inside a dyno that is up, `dyno run bash` in a new one",
    ),
    (
        &["shell", "bash", "sh", "local:run"],
        "`dyno run bash` gives a shell in a new dyno, `dyno run:inside web.1 bash` in one that is up",
    ),
    (
        &[
            "status",
            "top",
            "list",
            "ls",
            "details",
            "stats",
            "ps:info",
            "monit",
            "ps:report",
            "ps:inspect",
            "jlist",
            "is-active",
        ],
        "`dyno ps` lists the dynos of an app, `dyno apps` the apps, `dyno server:status` shows the server",
    ),
    (
        &[
            "inspect",
            "describe",
            "show",
            "apps:report",
            "app:details",
            "apps:exists",
        ],
        "`dyno apps:info` shows an app, `dyno ps --json` its dynos",
    ),
    (
        &["up", "local", "local:start", "foreman", "compose"],
        "`dyno start` runs this folder's Procfile in the foreground, `dyno deploy` releases it to stay",
    ),
    (
        &["down", "quit", "shutdown"],
        "Ctrl-C ends `dyno start`; `dyno ps:scale web=0` stops a type of a deployed app, `dyno apps:destroy` removes the app",
    ),
    (
        &[
            "rm",
            "remove",
            "delete",
            "apps:delete",
            "prune",
            "uninstall",
        ],
        "`dyno apps:destroy -a NAME` removes an app with all that is its own; ended dynos leave nothing to remove",
    ),
    (
        &[
            "rmi", "images", "image", "slugs", "tag", "tags", "tags:*", "history", "versions",
        ],
        "there are no images: `dyno releases` lists what was deployed, and the setting `keep_releases` says how much stays",
    ),
    (
        &[
            "push",
            "publish",
            "redeploy",
            "launch",
            "setup",
            "release",
            "ps:rebuild",
            "git:sync",
            "git:from-*",
            "container:*",
        ],
        "`dyno deploy` packs this folder and releases it; `dyno git:remote` sets up `git push dyno main`",
    ),
    (
        &["pull", "clone", "git:clone", "apps:clone"],
        "`git clone` takes an app's repository, whose address `dyno git:remote` prints",
    ),
    (
        &[
            "env",
            "set",
            "config:show",
            "config:list",
            "config:export",
            "vars",
            "secrets",
            "secrets:*",
            "variables",
        ],
        "`dyno config` shows the config vars, `dyno config:set NAME=value` sets them",
    ),
    (&["get"], "`dyno config:get NAME` prints a config var"),
    (
        &["config:add"],
        "`dyno config:set NAME=value` sets a config var",
    ),
    (
        &["unset", "config:remove", "config:delete"],
        "`dyno config:unset NAME` removes a config var",
    ),
    (
        &["settings:*"],
        "settings are in `config.toml` of the state folder: `dyno settings` lists them with where each comes from",
    ),
    (
        &["server:start", "server:restart", "server:reload"],
        "`dyno server:stop`, and the next command starts another one: dynos go on meanwhile",
    ),
    (
        &[
            "login",
            "logout",
            "auth:login",
            "auth:logout",
            "auth:whoami",
            "whoami",
            "registry",
        ],
        "no login is needed on this host; `dyno auth:token` makes a token for use from other hosts",
    ),
    (
        &[
            "domains",
            "domains:*",
            "certs",
            "certs:*",
            "letsencrypt",
            "letsencrypt:*",
            "proxy",
            "proxy:*",
            "nginx",
            "nginx:*",
            "url",
            "urls",
            "port",
            "ports",
            "ports:*",
            "traefik",
        ],
        "`dyno open` prints the app's address; a proxy on this host gives it another name (docs/router.md)",
    ),
    (
        &[
            "addons",
            "addons:*",
            "pg",
            "pg:*",
            "redis",
            "redis:*",
            "accessory",
            "services",
            "volumes",
            "storage:*",
        ],
        "there are no add-ons: run the service beside `dyno`, and `dyno config:set DATABASE_URL=…` tells the app of it",
    ),
    (
        &[
            "drains",
            "drains:*",
            "logs:drains",
            "logs:failed",
            "tail",
            "journal",
            "journalctl",
        ],
        "`dyno logs -t` follows the log; `--json` is for programs that take it further",
    ),
    (
        &["stack", "stack:*"],
        "dynos run this host's programs; the buildpack that a source's files ask for builds it, and `dyno builder` says whether",
    ),
    (
        &["reload", "rolling-restart", "dyno:restart-all"],
        "`dyno ps:restart` restarts the dynos of an app",
    ),
    (
        &["ps:start", "ps:restore", "resume", "unpause"],
        "`dyno ps:scale web=1` starts a type, `dyno ps:restart` restarts what crashed",
    ),
    (&["apps:list", "projects"], "`dyno apps` lists the apps"),
    (&["apps:open"], "`dyno open` shows the app's address"),
    (
        &["new", "init", "add"],
        "`dyno create` makes an app of this folder",
    ),
    (
        &["check", "validate"],
        "`dyno start` checks the Procfile before it runs it, `dyno doctor` checks this host",
    ),
    (
        &["export", "enable", "startup", "save"],
        "dynos are there again after a reboot if the server is: docs/server.md has its systemd units",
    ),
    (
        &["wait"],
        "`dyno ps:wait run.1` waits for a one-off dyno, `dyno ps:wait` for the newest release",
    ),
    (
        &["version", "update", "upgrade"],
        "`dyno --version` prints the version; a newer binary is put in its place",
    ),
    (&["commands"], "`dyno help` lists the commands"),
    (
        &["daemon", "serve"],
        "`dyno server` runs the server in the foreground; commands start one by themselves",
    ),
    (
        &["rollback:list"],
        "`dyno releases` lists what `dyno releases:rollback` takes",
    ),
    (
        &["ps:autoscale:*", "resource:*", "limit"],
        "`dyno ps:scale web=2` says how many, `dyno ps:type` of which size",
    ),
    (
        &[
            "access",
            "access:*",
            "members",
            "teams",
            "teams:*",
            "pipelines",
            "pipelines:*",
            "keys",
            "keys:*",
            "features",
            "features:*",
            "spaces",
            "webhooks",
            "plugins",
        ],
        "one host has one owner, and there is nothing of that kind here; docs/heroku.md says what there is",
    ),
];

/// Options of other tools for a command, each with the hint what to do instead.
const OPTIONS: &[(&str, &[&str], &str)] = &[
    (
        "run",
        &["-i", "-t", "--interactive", "--rm", "--no-deps"],
        "leave it out: `dyno run bash` is on your terminal, and a dyno is always removed",
    ),
    (
        "run",
        &["-d", "--detach", "--detached", "--background"],
        "`dyno run:detached COMMAND` runs it in the background",
    ),
    (
        "run",
        &[
            "-v",
            "--volume",
            "--mount",
            "-p",
            "--publish",
            "--network",
            "--name",
            "-u",
            "--user",
        ],
        "a dyno has the app in /app and this host's network; `dyno run --help` shows what can be said",
    ),
    (
        "run",
        &["--env", "--env-file"],
        "`dyno run -e NAME=value COMMAND` sets a variable for one run",
    ),
    (
        "logs",
        &["-f", "--follow"],
        "`dyno logs -t` goes on with the lines that come",
    ),
    (
        "logs",
        &["--lines", "-l"],
        "`dyno logs -n 100` shows so many lines",
    ),
    (
        "ps",
        &[
            "-aux",
            "-x",
            "-A",
            "--app-all",
            "-e",
            "-ef",
            "-f",
            "-q",
            "-l",
        ],
        "`dyno ps --all` lists also what has ended",
    ),
    (
        "logs",
        &["--no-color", "--since-time", "--until", "-d", "--dyno-name"],
        "`dyno logs --help` shows what it takes; `-p` is for a process type or a dyno, `--since 10m` for a time",
    ),
    (
        "start",
        &["-f", "--procfile", "-e", "--env"],
        "the file is `Procfile`, and `.env` beside it: `dyno -C FOLDER start` takes those of another folder",
    ),
    (
        "start",
        &["-d", "--daemon", "--detach", "-D"],
        "`dyno deploy` has the app run in the background, for good",
    ),
    (
        "start",
        &["-c", "--concurrency"],
        "`dyno start -m web=2` says how many of each",
    ),
    (
        "start",
        &["."],
        "`dyno start web worker` names process types; `dyno -C FOLDER start` is for another folder",
    ),
    (
        "deploy",
        &["-m", "--message", "-f", "--force", "--tag", "-t"],
        "leave it out: each `dyno deploy` makes a release; with `git push`, its commit describes it",
    ),
    (
        "releases:rollback",
        &["-f", "--force", "-y", "--yes"],
        "leave it out: `dyno rollback v3` asks nothing, and a rollback can be rolled back",
    ),
    (
        "create",
        &[
            "--region",
            "-t",
            "--team",
            "-s",
            "--stack",
            "-b",
            "--buildpack",
            "--space",
            "-n",
            "--no-remote",
            "-r",
            "--remote",
            "--addons",
        ],
        "leave it out: there is one host and one stack; `dyno git:remote` sets up the git remote",
    ),
    (
        "run",
        &["-w", "--workdir"],
        "`dyno run 'cd FOLDER && COMMAND'`: a command begins in /app",
    ),
    (
        "open",
        &["-p", "--port"],
        "`dyno open PATH` takes a path; `dyno server:status` says which port the router has",
    ),
    (
        "config:get",
        &["-s", "--shell", "-j", "--json"],
        "`dyno config --shell` and `dyno config --json` print them all in that form",
    ),
    (
        "server",
        &["start", "restart", "run", "up"],
        "`dyno server` alone runs one in the foreground; `dyno server:stop`, and the next command starts another",
    ),
    (
        "apps:destroy",
        &["-f", "--force", "-y", "--yes"],
        "`dyno apps:destroy -a NAME --confirm NAME` destroys it",
    ),
];

/// The longest word that is compared with commands, in bytes.
const LONGEST: usize = 64;

/// The error for a command line that clap did not understand, if the words are another tool's or misspelt: `words` are
/// those of the command line, `unknown` is the unknown one, `missing_app` says that `-a` had no name.
pub(super) fn error(
    words: &[String],
    unknown: Option<&str>,
    missing_app: bool,
) -> Option<UserError> {
    let (command, rest) = split(words)?;
    let cli = Cli::command();
    let known = |name: &str| cli.find_subcommand(name).is_some();
    if !known(command) {
        let joined = rest.first().map(|next| format!("{command}:{next}"));
        let hint = if let Some(joined) = joined.filter(|joined| known(joined)) {
            typed(&joined, &rest[1..])
        } else if let Some(hint) = of_others(command) {
            hint.to_owned()
        } else if let Some(near) = nearest(command, names(&cli)) {
            typed(&near, rest)
        } else {
            "`dyno help` lists the commands".to_owned()
        };
        return Some(UserError::new(format!("there is no command `{command}`")).hint(hint));
    }
    if command == "ps" && missing_app {
        let hint = "`dyno ps --all` lists also what has ended; -a NAME says which app";
        return Some(UserError::new("-a takes the name of an app").hint(hint));
    }
    let unknown = unknown?;
    let joined = format!("{command}:{unknown}");
    if known(&joined) && rest.first().is_some_and(|first| first == unknown) {
        let error = UserError::new(format!("`dyno {command}` takes no `{unknown}`"));
        return Some(error.hint(typed(&joined, &rest[1..])));
    }
    if command == "logs" && !unknown.starts_with('-') {
        let hint = match unknown.bytes().all(|byte| byte.is_ascii_digit()) {
            true => format!("`dyno logs -n {unknown}` shows so many lines"),
            false => format!("`dyno logs -p {unknown}` shows lines of a process type or dyno"),
        };
        return Some(UserError::new(format!("`dyno logs` takes no `{unknown}`")).hint(hint));
    }
    // The command's main name, if an alias was typed.
    let name = cli.find_subcommand(command)?.get_name();
    let (_, _, hint) = OPTIONS
        .iter()
        .find(|(of, options, _)| *of == name && options.contains(&unknown))?;
    Some(UserError::new(format!("`dyno {command}` has no option `{unknown}`")).hint(*hint))
}

/// The command `COMMAND:NEXT`, if there is one: for `dyno ps scale`.
pub(super) fn joined(command: &str, next: &str) -> Option<String> {
    let joined = format!("{command}:{next}");
    Cli::command().find_subcommand(&joined)?;
    Some(joined)
}

/// The name nearest to `word`, if it is near enough: one letter in four may be changed, missing, added or swapped with
/// its neighbour.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    if word.len() > LONGEST {
        return None;
    }
    let distances = names.map(|name| (strsim::osa_distance(word, name), name));
    let (distance, name) = distances.min()?;
    (distance <= word.chars().count().div_ceil(4)).then(|| name.to_owned())
}

/// The first word that is no option, and the words after it.
fn split(words: &[String]) -> Option<(&str, &[String])> {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += match word.as_str() {
            "-a" | "--app" | "-C" | "--tls-ca" => 2,
            "help" => 1,
            option if option.starts_with('-') => 1,
            command => return Some((command, &words[at + 1..])),
        };
    }
    None
}

/// The corrected command line, for the hint.
fn typed(command: &str, rest: &[String]) -> String {
    let words = rest.iter().map(|word| format!(" {}", quote(word)));
    format!(
        "did you mean `dyno {command}{}`?",
        words.collect::<String>()
    )
}

fn of_others(word: &str) -> Option<&'static str> {
    let is = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(begin) => word.starts_with(begin),
        None => word == *pattern,
    };
    let (_, hint) = WORDS.iter().find(|(words, _)| words.iter().any(&is))?;
    Some(hint)
}

fn names(cli: &clap::Command) -> impl Iterator<Item = &str> {
    cli.get_subcommands()
        .flat_map(|command| std::iter::once(command.get_name()).chain(command.get_all_aliases()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(line: &str, unknown: Option<&str>) -> String {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        error(&words, unknown, false)
            .and_then(|error| error.hint)
            .unwrap_or_default()
    }

    #[test]
    fn every_command_that_a_hint_names_exists() {
        let cli = Cli::command();
        let hints = WORDS.iter().map(|(_, hint)| hint);
        for hint in hints.chain(OPTIONS.iter().map(|(_, _, hint)| hint)) {
            for (at, _) in hint.match_indices("`dyno ") {
                let rest = &hint[at + "`dyno ".len()..];
                let named = rest.split([' ', '`']).next().unwrap();
                let is = named.starts_with('-')
                    || named == "help"
                    || cli.find_subcommand(named).is_some();
                assert!(is, "{hint}");
            }
        }
    }

    #[test]
    fn options_are_listed_by_the_name_of_their_command() {
        let cli = Cli::command();
        for (name, _, _) in OPTIONS {
            let found = cli.find_subcommand(name).map(clap::Command::get_name);
            assert_eq!(found, Some(*name));
        }
    }

    #[test]
    fn no_word_of_the_table_is_a_command() {
        let cli = Cli::command();
        for word in WORDS.iter().flat_map(|(words, _)| *words) {
            assert!(cli.find_subcommand(word).is_none(), "{word}");
        }
    }

    #[test]
    fn words_of_others_lead_to_the_command_that_does_it_here() {
        for (line, command) in [
            ("stop web.1", "dyno ps:stop"),
            ("exec web.1 bash", "dyno run:inside"),
            ("status", "dyno ps"),
            ("up -d", "dyno start"),
            ("down", "dyno ps:scale"),
            ("login", "dyno auth:token"),
            ("domains:add example.com", "dyno open"),
            ("-a shop rm", "dyno apps:destroy"),
            ("images", "dyno releases"),
            ("stats", "dyno ps"),
            ("config:add A=1", "dyno config:set"),
            ("server:restart", "dyno server:stop"),
            ("journalctl -u x", "dyno logs"),
            ("addons:create redis", "dyno config:set"),
        ] {
            assert!(
                hint(line, None).contains(command),
                "{line}: {}",
                hint(line, None)
            );
        }
    }

    #[test]
    fn two_words_may_be_one_command() {
        for (line, unknown, command) in [
            (
                "config set A=1 B=2",
                Some("set"),
                "`dyno config:set A=1 B=2`",
            ),
            (
                "apps create shop",
                Some("create"),
                "`dyno apps:create shop`",
            ),
            ("git remote", None, "`dyno git:remote`"),
            (
                "-C .. server status",
                Some("status"),
                "`dyno server:status`",
            ),
        ] {
            assert!(
                hint(line, unknown).contains(command),
                "{line}: {}",
                hint(line, unknown)
            );
        }
        assert_eq!(joined("ps", "scale").as_deref(), Some("ps:scale"));
        assert_eq!(joined("ps", "web"), None);
    }

    #[test]
    fn options_of_others_are_known_at_their_command() {
        assert!(hint("run --rm bash", Some("--rm")).contains("dyno run bash"));
        assert!(hint("run -d bash", Some("-d")).contains("dyno run:detached"));
        assert!(hint("logs -f", Some("-f")).contains("dyno logs -t"));
        assert!(hint("logs web.1", Some("web.1")).contains("dyno logs -p web.1"));
        assert!(hint("logs --tail 5", Some("5")).contains("dyno logs -n 5"));
        assert!(hint("start -f Procfile.dev", Some("-f")).contains("dyno -C"));
        assert!(hint("rollback -f", Some("-f")).contains("dyno rollback v3"));
        assert!(hint("server start", Some("start")).contains("dyno server"));
        assert_eq!(hint("deploy --nosuch", Some("--nosuch")), "");
    }

    #[test]
    fn spelling_counts_only_where_it_is_near() {
        for (word, command) in [
            ("confg", "config"),
            ("deply", "deploy"),
            ("relaeses", "releases"),
            ("ps:sclae", "ps:scale"),
            ("lgos", "logs"),
        ] {
            assert!(
                hint(word, None).contains(&format!("`dyno {command}`")),
                "{word}: {}",
                hint(word, None)
            );
        }
        for word in ["zebra", "x", "applications", &"a".repeat(1000)] {
            assert_eq!(hint(word, None), "`dyno help` lists the commands", "{word}");
        }
    }
}
