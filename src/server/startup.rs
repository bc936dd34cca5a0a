//! From a fresh process to a server that listens, and back.
//!
//! Called by `dyno server`, with whatever application it serves.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context;
use rustix::fs::FileType;

use crate::error::UserError;
use crate::executable::{HELD, READY};
use crate::home::Home;
use crate::home::lock::{ServerLock, last_holder};

use super::api_loop::ApiLoop;
use super::application::{Application, Ctx};
use super::limits::Limits;
use super::listener::ApiSocket;

/// Serves until the application stops, and gives it back. `idle`: the command line has started us;
/// then whatever descriptors it left open are closed first, so the caller must have opened none.
///
/// The lock is taken before `make` makes the application, and let go after the socket is gone, so
/// neither state nor socket ever has two servers.
///
/// # Errors
/// When another server holds the lock, when the socket cannot be made, or what `make` says.
pub fn serve<A: Application>(
    home: &Home,
    idle: bool,
    limits: Limits,
    make: impl FnOnce(&mut Ctx<A>) -> anyhow::Result<A>,
) -> anyhow::Result<Option<A>> {
    let mut starter = if idle { become_daemon()? } else { None };
    let Some(_lock) = ServerLock::take(home).context("cannot lock `server.lock`")? else {
        if idle {
            // Of several commands that started one at once, this one's came too late; it knows what to do.
            say(&mut starter, HELD);
            return Ok(None);
        }
        return Err(already_running(home).into());
    };
    let api = ApiSocket::bind(home.api_socket())
        .context("cannot listen on `api.sock`")
        .and_then(|listener| ApiLoop::new(listener, limits, make));
    // The log may not take it, if a full disk is the reason.
    let api = api.inspect_err(|error| say(&mut starter, format!("{error:#}").as_bytes()))?;
    say(&mut starter, READY);
    api.run().map(Some)
}

fn already_running(home: &Home) -> UserError {
    let pid = last_holder(home).map_or(String::new(), |pid| format!(" (process {pid})"));
    UserError::new(format!(
        "a server{pid} already runs for `{}`",
        home.path().display()
    ))
    .hint("set DYNO_HOME to another folder for a second one")
}

/// Leaves the session, terminal and descriptors of whoever typed the command. Returns the pipe to
/// say on how it went, if there is one.
fn become_daemon() -> io::Result<Option<File>> {
    // Fails for the leader of a process group, which has nothing to leave.
    let _ = rustix::process::setsid();
    crate::sys::process::close_all_but(&[]);
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(is_pipe(&stdin)?.then(|| File::from(stdin)))
}

fn is_pipe(fd: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Fifo)
}

/// Says the one word. Whoever started us may have left; that is no reason to leave too.
fn say(starter: &mut Option<File>, word: &[u8]) {
    if let Some(mut pipe) = starter.take() {
        let _ = pipe.write_all(word);
    }
}
