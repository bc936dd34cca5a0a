//! `dyno`: Heroku's dynos on one host.
//!
//! One binary plays four parts, chosen by its first argument: the command line, the server, the
//! supervisor of one dyno, and that dyno's init. See `docs/architecture.md` for the rooms.

// Values and rules: no I/O, time is passed in.
mod api;
mod app;
mod command_line;
mod config_var;
mod dyno;
mod error;
mod formation;
mod procfile;
mod release;
mod settings;
mod size;

// One resource each.
mod executable;
mod home;
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
mod unix_socket;

// The parts.
mod cli;
mod client;
mod init;
mod server;
mod supervisor;
mod terminal;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["__sandbox", slug, command] => {
            let code = cli::sandbox::run(slug.into(), command.to_owned())?;
            std::process::exit(code.into());
        }
        _ => anyhow::bail!("not built yet"),
    }
}
