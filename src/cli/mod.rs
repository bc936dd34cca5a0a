//! The command line: its arguments as types, and one file per group of commands that performs them.
//!
//! Commands are named as in Heroku's CLI. Results go to standard output, progress to standard error, and errors up to
//! `main`, which prints them.

mod address;
mod apps;
mod attach;
mod auth;
mod builder;
mod buildpacks;
mod builds;
mod client;
mod config;
mod config_edit;
mod context;
mod deploy;
mod doctor;
mod dot_env;
mod git;
pub mod git_hook;
mod heroku_env;
mod hints;
mod labs;
mod launch;
mod logs;
mod maintenance;
mod network;
mod new_app;
mod notices;
mod one_off;
mod open;
mod output;
mod ps;
mod ps_end;
mod pumps;
mod releases;
mod rename;
mod run;
mod run_detached;
mod run_inside;
pub mod sandbox;
mod scale;
mod serve;
mod server_status;
mod server_stop;
mod settings;
pub mod slug_command;
mod standing;
mod start;
mod static_site;
mod tarball_pipe;
mod target;
mod terminal;
mod toolchain;
mod usage;
mod usage_error;
mod wait;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::{EXIT_USAGE, UserError};
use context::Context;
use target::Target;
use usage_error::{is_help, usage_error, with_run_exit_code};

/// Heroku's dynos on this host.
#[derive(Debug, Parser)]
#[command(
    name = "dyno",
    version = crate::kernel::executable::version(),
    max_term_width = 100,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command in a one-off dyno, on your terminal
    Run(run::Run),
    /// Run a command in a one-off dyno in the background
    #[command(name = "run:detached")]
    RunDetached(run_detached::RunDetached),
    /// Run a command inside a dyno that is running
    #[command(name = "run:inside")]
    RunInside(run_inside::RunInside),
    /// List the dynos
    Ps(ps::Ps),
    /// Set how many dynos of each process type there are, or show it
    #[command(name = "ps:scale", visible_alias = "scale")]
    PsScale(scale::Scale),
    /// Set the size of the dynos of each process type, or show it
    #[command(name = "ps:type", visible_alias = "ps:resize")]
    PsType(scale::Type),
    /// Stop dynos; those of the formation start again
    #[command(name = "ps:stop", visible_alias = "ps:kill")]
    PsStop(ps_end::Stop),
    /// Wait until the newest release runs, or until a one-off dyno has ended, and exit with its status
    #[command(name = "ps:wait")]
    PsWait(ps_end::Wait),
    /// Restart dynos; one-off dynos are stopped
    #[command(name = "ps:restart", visible_alias = "restart")]
    PsRestart(ps_end::Restart),
    /// Dyno time by app, process type and size
    Usage(usage::Show),
    /// Show the app's address, and open it in a browser if there is one
    Open(open::Open),
    /// Switch maintenance mode on or off, or show it
    Maintenance(maintenance::Maintenance),
    /// As `maintenance on`
    #[command(name = "maintenance:on")]
    MaintenanceOn,
    /// As `maintenance off`
    #[command(name = "maintenance:off")]
    MaintenanceOff,
    /// Choose what makes slugs of the app's source, or show it
    Builder(builder::Builder),
    /// List the app's buildpacks
    Buildpacks,
    /// Add a buildpack to the app's
    #[command(name = "buildpacks:add")]
    BuildpacksAdd(buildpacks::Add),
    /// Set a buildpack of the app's
    #[command(name = "buildpacks:set")]
    BuildpacksSet(buildpacks::Set),
    /// Remove a buildpack from the app's
    #[command(name = "buildpacks:remove")]
    BuildpacksRemove(buildpacks::Remove),
    /// Remove all of the app's buildpacks
    #[command(name = "buildpacks:clear")]
    BuildpacksClear,
    /// Write one of dyno's own buildpacks into a folder, to change it
    #[command(name = "buildpacks:eject")]
    BuildpacksEject(buildpacks::Eject),
    /// Serve a folder of files on $PORT, as the buildpack `static` does
    Static(static_site::Static),
    /// List the builds
    Builds(builds::List),
    /// Show a build
    #[command(name = "builds:info")]
    BuildsInfo(builds::Info),
    /// Show what a build has printed
    #[command(name = "builds:output")]
    BuildsOutput(builds::Output),
    /// End a build
    #[command(name = "builds:cancel")]
    BuildsCancel(builds::Cancel),
    /// Empty the cache of the app's builds
    #[command(name = "builds:cache:purge")]
    BuildsCachePurge,
    /// Choose the network of the app's dynos, or show it
    Network(network::Network),
    /// What can be switched on for an app, and what is
    Labs(labs::Labs),
    /// Switch a feature of the app on
    #[command(name = "labs:enable")]
    LabsEnable(labs::Feature),
    /// Switch a feature of the app off
    #[command(name = "labs:disable")]
    LabsDisable(labs::Feature),
    /// Show what a feature is, and whether it is on
    #[command(name = "labs:info")]
    LabsInfo(labs::Feature),
    /// Run this folder's Procfile here, to work on it
    Start(start::Start),
    /// Show the app's log
    Logs(logs::Logs),
    /// Pack this folder into a slug and release it
    #[command(visible_alias = "build")]
    Deploy(deploy::Deploy),
    /// Have `git push dyno main` deploy this checkout
    #[command(name = "git:remote")]
    GitRemote(git::Remote),
    /// Make an app and link this folder to it
    #[command(visible_alias = "apps:create")]
    Create(apps::Create),
    /// Link this folder to an app
    Link,
    /// Unlink this folder from its app
    Unlink,
    /// List the apps
    Apps,
    /// Show an app
    #[command(name = "apps:info", visible_alias = "info")]
    AppsInfo(apps::Info),
    /// Destroy an app, its slugs, config and dynos
    #[command(name = "apps:destroy", visible_alias = "destroy")]
    AppsDestroy(apps::Destroy),
    /// Give an app another name
    #[command(name = "apps:rename", visible_alias = "rename")]
    AppsRename(rename::Rename),
    /// Show the config vars
    Config(config::Show),
    /// Set config vars; a new release
    #[command(name = "config:set")]
    ConfigSet(config::Set),
    /// Print the value of config vars
    #[command(name = "config:get")]
    ConfigGet(config::Get),
    /// Remove config vars; a new release
    #[command(name = "config:unset")]
    ConfigUnset(config::Unset),
    /// Edit the config vars in your editor; a new release
    #[command(name = "config:edit")]
    ConfigEdit(config_edit::Edit),
    /// List the releases
    Releases(releases::List),
    /// Show a release
    #[command(name = "releases:info")]
    ReleasesInfo(releases::Info),
    /// Show what the release command of a release printed
    #[command(name = "releases:output")]
    ReleasesOutput(releases::Output),
    /// Release an earlier slug and config again
    #[command(name = "releases:rollback", visible_alias = "rollback")]
    ReleasesRollback(releases::Rollback),
    /// Make a token for the API over TCP, list them, or revoke one
    #[command(name = "auth:token")]
    AuthToken(auth::Token),
    /// Set Heroku's command line up for this host: eval "$(dyno heroku:env)"
    #[command(name = "heroku:env")]
    HerokuEnv(heroku_env::HerokuEnv),
    /// What this host offers to dynos, and what to do about the rest
    Doctor,
    /// Show every setting with its value and where that comes from
    Settings(settings::Show),
    /// Run the server in the foreground
    Server(serve::Serve),
    /// Show whether a server runs, and what it does; exits with 3 when none does
    #[command(name = "server:status")]
    ServerStatus(server_status::Show),
    /// Stop the server; dynos go on
    #[command(name = "server:stop")]
    ServerStop(server_stop::Stop),
}

impl Command {
    /// The command's name, if it is not about an app, so that `-a` has no meaning.
    fn without_app(&self) -> Option<&'static str> {
        match self {
            Self::Apps => Some("apps"),
            Self::Link => None,
            _ => self.is_of_this_host(),
        }
    }

    /// The command's name, if it is about the server and its host, and so not possible with a server elsewhere.
    fn is_of_this_host(&self) -> Option<&'static str> {
        match self {
            Self::Start(_) => Some("start"),
            Self::Link => Some("link"),
            Self::Unlink => Some("unlink"),
            Self::HerokuEnv(_) => Some("heroku:env"),
            Self::Static(_) => Some("static"),
            Self::Doctor => Some("doctor"),
            Self::Settings(_) => Some("settings"),
            Self::Server(_) => Some("server"),
            Self::ServerStatus(_) => Some("server:status"),
            Self::ServerStop(_) => Some("server:stop"),
            _ => None,
        }
    }
}

/// The commands for which `-a` has no meaning, and whose help does not list it.
const WITHOUT_APP: &[&str] = &[
    "apps",
    "start",
    "unlink",
    "heroku:env",
    "static",
    "doctor",
    "settings",
    "server",
    "server:status",
    "server:stop",
];

/// clap's definition of [`Cli`], without `-a` in the help of commands where it has no meaning.
fn definition() -> clap::Command {
    WITHOUT_APP.iter().fold(Cli::command(), |cli, name| {
        // A local option of this name hides the global one.
        let hidden = clap::Arg::new("app").short('a').long("app").hide(true);
        cli.mut_subcommand(name, |command| command.arg(hidden))
    })
}

/// Performs the command line; returns the exit code.
///
/// # Errors
/// Why the command failed, for the person at the terminal.
pub fn run() -> anyhow::Result<u8> {
    crate::panics::point("command line");
    let parsed = definition()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let Cli { target, command } = match parsed {
        Ok(cli) => cli,
        // Help and version are "errors" to clap, too; it knows where they belong.
        Err(error) if is_help(&error) => {
            error.print()?;
            return Ok(error.exit_code() as u8);
        }
        Err(error) => {
            return Err(usage_error(&error, &Cli::command(), std::env::args_os().skip(1)).into());
        }
    };
    if let (Some(name), true) = (command.without_app(), target.app.is_some()) {
        return Err(UserError::new(format!(
            "-a has no meaning for `dyno {name}`, which is about no app"
        ))
        .hint(match name {
            "start" => "it runs an app of its own; `-C DIR` says which folder".to_owned(),
            name => format!("leave it out; `dyno {name} --help` shows what it takes"),
        })
        .exit_code(EXIT_USAGE)
        .into());
    }
    // The exit status of these is that of a command in a dyno.
    let runs = match &command {
        Command::Run(_) | Command::RunDetached(_) | Command::RunInside(_) => true,
        Command::PsWait(wait) => wait.is_for_dyno(),
        _ => false,
    };
    let done = Context::new(target).and_then(|context| {
        if let Some(name) = command.is_of_this_host() {
            context.check_near(name)?;
        }
        perform(command, context)
    });
    done.map_err(|error| {
        if runs {
            with_run_exit_code(error)
        } else {
            error
        }
    })
}

fn perform(command: Command, mut context: Context) -> anyhow::Result<u8> {
    match command {
        Command::Run(command) => return command.perform(context),
        Command::RunInside(command) => return command.perform(context),
        Command::RunDetached(command) => return command.perform(&mut context),
        Command::Start(command) => return command.perform(context),
        Command::Ps(command) => command.perform(&mut context)?,
        Command::Usage(command) => command.perform(&mut context)?,
        Command::AuthToken(command) => command.perform(&mut context)?,
        Command::HerokuEnv(command) => command.perform(&mut context)?,
        Command::PsScale(command) => command.perform(&mut context)?,
        Command::PsType(command) => command.perform(&mut context)?,
        Command::PsStop(command) => command.perform(&mut context)?,
        Command::PsWait(command) => return command.perform(&mut context),
        Command::PsRestart(command) => command.perform(&mut context)?,
        Command::Open(command) => command.perform(&mut context)?,
        Command::Maintenance(command) => command.perform(&mut context)?,
        Command::MaintenanceOn => maintenance::set(&mut context, true)?,
        Command::MaintenanceOff => maintenance::set(&mut context, false)?,
        Command::Builder(command) => command.perform(&mut context)?,
        Command::Static(command) => command.perform()?,
        Command::Buildpacks => buildpacks::list(&mut context)?,
        Command::BuildpacksAdd(command) => command.perform(&mut context)?,
        Command::BuildpacksSet(command) => command.perform(&mut context)?,
        Command::BuildpacksRemove(command) => command.perform(&mut context)?,
        Command::BuildpacksClear => buildpacks::clear(&mut context)?,
        Command::BuildpacksEject(command) => command.perform()?,
        Command::Builds(command) => command.perform(&mut context)?,
        Command::BuildsInfo(command) => command.perform(&mut context)?,
        Command::BuildsOutput(command) => return command.perform(&mut context),
        Command::BuildsCancel(command) => command.perform(&mut context)?,
        Command::BuildsCachePurge => builds::purge_cache(&mut context)?,
        Command::Network(command) => command.perform(&mut context)?,
        Command::Labs(command) => command.perform(&mut context)?,
        Command::LabsEnable(feature) => feature.switch(&mut context, true)?,
        Command::LabsDisable(feature) => feature.switch(&mut context, false)?,
        Command::LabsInfo(feature) => feature.show(&mut context)?,
        Command::Logs(command) => command.perform(&mut context)?,
        Command::Deploy(command) => command.perform(&mut context)?,
        Command::GitRemote(command) => command.perform(&mut context)?,
        Command::Create(command) => command.perform(&mut context)?,
        Command::Link => apps::link(&mut context)?,
        Command::Unlink => apps::unlink(&mut context)?,
        Command::Apps => apps::list(&mut context)?,
        Command::AppsInfo(command) => command.perform(&mut context)?,
        Command::AppsDestroy(command) => command.perform(&mut context)?,
        Command::AppsRename(command) => command.perform(&mut context)?,
        Command::Config(command) => command.perform(&mut context)?,
        Command::ConfigSet(command) => command.perform(&mut context)?,
        Command::ConfigGet(command) => command.perform(&mut context)?,
        Command::ConfigUnset(command) => command.perform(&mut context)?,
        Command::ConfigEdit(command) => command.perform(&mut context)?,
        Command::Releases(command) => command.perform(&mut context)?,
        Command::ReleasesInfo(command) => command.perform(&mut context)?,
        Command::ReleasesOutput(command) => command.perform(&mut context)?,
        Command::ReleasesRollback(command) => command.perform(&mut context)?,
        Command::Doctor => return doctor::perform(&mut context),
        Command::Settings(command) => command.perform(&mut context)?,
        Command::Server(command) => command.perform(&context)?,
        Command::ServerStatus(command) => return command.perform(&mut context),
        Command::ServerStop(command) => command.perform(&mut context)?,
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::EXIT_DYNO_FAILED;

    #[test]
    fn the_command_line_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn help_lists_no_app_where_it_has_no_meaning() {
        let help = |name: &str| {
            let error = definition().try_get_matches_from(["dyno", name, "--help"]);
            error.unwrap_err().render().to_string()
        };
        for name in WITHOUT_APP {
            assert!(!help(name).contains("--app"), "{name}: {}", help(name));
            for words in [["dyno", "-a", "x", name], ["dyno", name, "-a", "x"]] {
                let matches = definition().try_get_matches_from(words).unwrap();
                let cli = Cli::from_arg_matches(&matches).unwrap();
                assert_eq!(cli.command.without_app(), Some(*name));
                assert_eq!(cli.target.app.as_deref(), Some("x"), "{words:?}");
            }
        }
        assert!(help("ps").contains("--app"));
    }

    #[test]
    fn a_command_line_without_sense_is_an_error_with_a_hint() {
        let error = |words: &[&str]| {
            let clap = Cli::try_parse_from([&["dyno"], words].concat()).unwrap_err();
            usage_error(&clap, &Cli::command(), words.iter().map(Into::into))
        };
        let run = error(&["run", "--no-such", "ls"]);
        assert_eq!(run.message, "unexpected argument '--no-such' found");
        assert_eq!(run.exit_code, Some(EXIT_DYNO_FAILED));
        let other = error(&["confg"]);
        assert_eq!(other.message, "there is no command `confg`");
        assert!(other.hint.is_some_and(|hint| hint.contains("config")));
        assert_eq!(other.exit_code, Some(EXIT_USAGE));
    }

    fn run_words(words: &[&str]) -> run::Run {
        match Cli::try_parse_from([&["dyno"], words].concat())
            .unwrap()
            .command
        {
            Command::Run(run) => run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn from_the_first_word_on_everything_is_the_commands() {
        let run = run_words(&[
            "run", "-s", "2X", "rake", "--help", "-a", "x", "--", "-s", "1X",
        ]);
        assert_eq!(run.words(), ["rake", "--help", "-a", "x", "--", "-s", "1X"]);
        assert_eq!(run_words(&["run", "--", "-x", "y"]).words(), ["-x", "y"]);
        assert_eq!(run_words(&["run", "rake --help"]).words(), ["rake --help"]);
        assert!(Cli::try_parse_from(["dyno", "run", "--no-such", "x"]).is_err());
        assert!(Cli::try_parse_from(["dyno", "run"]).is_err());
    }
}
