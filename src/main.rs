//! `dyno`: Heroku's dynos on one host.
//!
//! One binary plays four parts, chosen by its first argument: the command line, the server, the
//! supervisor of one dyno, and that dyno's init. See `docs/architecture.md` for the rooms.

// Values and rules: no I/O, time is passed in.
mod api;
mod app;
mod dyno;
mod error;
mod formation;
mod procfile;
mod release;
mod settings;
mod size;

// One resource each.
mod pty;
mod sandbox;
mod slug;
mod stack;
mod store;
mod sys;

// The wire.
mod control;
mod frame;
mod http;
mod reactor;

// The parts.
mod cli;
mod client;
mod init;
mod server;
mod supervisor;
mod terminal;

fn main() -> std::process::ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.split_first() {
        Some((part, args)) if part == "__slug" => match slug::command::run(args) {
            Ok(()) => std::process::ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                std::process::ExitCode::from(error::EXIT_FAILED)
            }
        },
        _ => std::process::ExitCode::SUCCESS,
    }
}
