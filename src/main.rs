//! `dyno`: Heroku's dynos on one host.
//!
//! One binary plays four parts, chosen by its first argument: the command line, the server, the
//! supervisor of one dyno, and that dyno's init. See `docs/architecture.md` for the storeys.

// `println!` and `eprintln!` panic when the disk is full or the reader has left; `say!` and `tell!` do not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use error::UserError;
use kernel::sys::signal::{self, Signal};

// The storeys; `tests/suite/layers.rs` has their order.
mod error;
mod model;
mod panics;
// What is asked and answered, as types.
mod api;
mod kernel;
mod pty;
mod wire;
// What is on disk.
mod home;
mod log_file;
mod repository;
mod slug;
mod store;
// The parts.
mod bridge;
mod cli;
mod router;
mod sandbox;
mod server;
mod static_site;
mod supervisor;

fn main() -> ExitCode {
    // If the parent had this process ignore SIGCHLD, it would not be told when a child ends.
    signal::reset(Signal::CHLD);
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let outcome = panics::caught(|| match args.first().and_then(|part| part.to_str()) {
        Some("__supervise") => supervisor::run().map(|()| 0),
        Some("__sandbox") => cli::sandbox::run(&args[1..]),
        Some("__git-hook") => cli::git_hook::run(&args[1..]),
        Some("__slug") => cli::slug_command::run(&args[1..]).map(|()| 0),
        _ => cli::run(),
    });
    let outcome = outcome.unwrap_or_else(|why| Err(failed(&why).into()));
    ExitCode::from(outcome.unwrap_or_else(|error| report(&error)))
}

/// A panic as an error that exits with 125: a panic's own status, 101, could be taken for that of a command in a dyno.
fn failed(why: &str) -> UserError {
    UserError::new(format!("dyno itself has failed: {why}"))
        .hint("this is a mistake in dyno; a dyno that was started goes on, as `dyno ps` shows")
        .exit_code(error::EXIT_DYNO_FAILED)
}

/// Prints an error, the only place that does; the result is the exit code.
fn report(error: &anyhow::Error) -> u8 {
    let user = error
        .chain()
        .find_map(|cause| match cause.downcast_ref::<std::io::Error>() {
            Some(error) => error.get_ref()?.downcast_ref::<UserError>(),
            None => cause.downcast_ref::<UserError>(),
        });
    // A broken pipe, as of `dyno logs | head`, is no error.
    let broken_pipe = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe);
    if broken_pipe && user.is_none() {
        return 0;
    }
    let mut text = match user {
        Some(user) => format!("error: {user}\n"),
        None => format!("error: {error:#}\n"),
    };
    if let Some(hint) = user.and_then(|user| user.hint.as_deref()) {
        text += &format!("hint: {hint}\n");
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
    user.and_then(|user| user.exit_code)
        .unwrap_or(error::EXIT_FAILED)
}
