//! Errors for invalid command lines: clap's errors as [`UserError`]s with a hint.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::hints;
use crate::error::{EXIT_DYNO_FAILED, EXIT_USAGE, UserError};

/// Whether a clap "error" is the output of `--help` or `--version`.
pub fn is_help(error: &clap::Error) -> bool {
    !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

/// The error for an invalid command line. `known` is the command line's definition, `args` are the typed words. For
/// `run`, the exit code is one that no command in a dyno has.
pub fn usage_error(
    error: &clap::Error,
    known: &clap::Command,
    args: impl Iterator<Item = OsString>,
) -> UserError {
    let rendered = error.render().to_string();
    let mut paragraphs = rendered
        .split("\n\n")
        .map(str::trim)
        .filter(|text| !text.is_empty());
    let lines = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let message = paragraphs.next().map(lines).unwrap_or_default();
    // clap's tip to pass a word as a value does not help where no value is taken.
    let tip = paragraphs
        .find_map(|text| text.strip_prefix("tip: ").map(lines))
        .filter(|tip| !tip.starts_with("to pass ") && !tip.contains("'--help'"));
    let args: Vec<String> = args.filter_map(|arg| arg.into_string().ok()).collect();
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => Some(argument.as_str()),
        _ => None,
    };
    let words = match error.kind() {
        ErrorKind::InvalidSubcommand => hints::error(&args, None, false),
        ErrorKind::UnknownArgument => hints::error(&args, argument, false),
        ErrorKind::InvalidValue => {
            let missing_app = argument.is_some_and(|argument| argument.starts_with("--app "));
            hints::error(&args, None, missing_app)
        }
        _ => None,
    };
    let command = args.iter().find(|arg| known.find_subcommand(arg).is_some());
    let runs = command.is_some_and(|command| command.starts_with("run") || command == "ps:wait");
    let help = match command {
        Some(command) => format!("`dyno {command} --help` shows what it takes"),
        None => "`dyno --help` lists the commands".to_owned(),
    };
    let is_word = argument.is_some_and(|argument| !argument.starts_with('-'));
    let help = match (error.kind(), argument) {
        (ErrorKind::UnknownArgument, Some(word)) if is_word => {
            format!(
                "{help}; an app is named by `-a {}`",
                crate::model::command_line::quote(word)
            )
        }
        _ => help,
    };
    let error = words.unwrap_or_else(|| {
        UserError::new(message.trim_start_matches("error: ")).hint(tip.unwrap_or(help))
    });
    error.exit_code(if runs { EXIT_DYNO_FAILED } else { EXIT_USAGE })
}

/// Gives an error an exit code that cannot be mistaken for that of a command in a dyno.
pub fn with_run_exit_code(error: anyhow::Error) -> anyhow::Error {
    let user = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<UserError>())
        .cloned();
    let user = user.unwrap_or_else(|| UserError::new(format!("{error:#}")));
    let code = user.exit_code.unwrap_or(EXIT_DYNO_FAILED);
    user.exit_code(code).into()
}
