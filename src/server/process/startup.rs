//! From a fresh process to a server that listens, and back.
//!
//! Called by `dyno server`, with whatever application it serves.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rustix::event::PollFlags;
use rustix::fs::FileType;

use crate::error::{UserError, tell};
use crate::home::Home;
use crate::home::lock::{ServerLock, last_holder};
use crate::kernel::executable::{HELD, PATH, READY};
use crate::kernel::sys::process::exec;
use crate::kernel::sys::title;
use crate::kernel::unix_socket;
use crate::kernel::wait;
use crate::kernel::{fail_point, open_files};
use crate::panics::{self, caught};
use crate::wire::handover::{Handover, Part};

use crate::server::api_loop::ApiLoop;
use crate::server::api_loop::application::{Application, Ctx};
use crate::server::api_loop::connection_limits::ConnectionLimits;
use crate::server::api_loop::listener::ApiSocket;

/// How long a server that makes room may take for the requests that it is answering, and a little more.
const LEAVE_PATIENCE: Duration = Duration::from_secs(8);

/// When, in seconds since 1970, the server before this one in this process failed.
const FAILED_AT: &str = "_DYNO_SERVER_FAILED_AT";

/// A server that fails within this time after another has a reason that does not go away by itself.
const FAILS_FOR_GOOD: Duration = Duration::from_secs(10);

/// Serves until the application stops, and gives it back. `idle`: the command line has started us;
/// then whatever descriptors it left open are closed first, so the caller must have opened none. `left`: what an earlier server
/// has left to one in the foreground.
///
/// The lock is taken before `make` makes the application, and let go after the socket is gone, so
/// neither state nor socket ever has two servers. A server that makes room for another build leaves it both, and its
/// sockets; `make` finds those in [`Ctx::inherited`].
///
/// # Errors
/// When another server holds the lock, when the socket cannot be made, or what `make` says.
pub fn serve<A: Application>(
    home: &Home,
    idle: bool,
    left: Handover,
    limits: ConnectionLimits,
    make: impl FnOnce(&mut Ctx<A>) -> anyhow::Result<A>,
) -> anyhow::Result<Option<A>> {
    let (mut starter, mut inherited) = match idle {
        true => become_daemon()?,
        false => (None, Handover::of_service_manager()),
    };
    inherited.put_all(left);
    fail_point::works_for("server");
    if !inherited.is_empty() {
        fail_point::reach("server.inherited");
    }
    let lock = match left_lock(home, &mut inherited) {
        Ok(Some(lock)) => Some(lock),
        Ok(None) => ServerLock::take(home)
            .map_err(|error| Home::not_written(&home.server_lock(), &error))?,
        Err(error) => {
            say(&mut starter, format!("{error:#}").as_bytes());
            return Err(error);
        }
    };
    let Some(lock) = lock else {
        if idle {
            // Of several commands that started one at once, this one's came too late; it knows what to do.
            say(&mut starter, HELD);
            return Ok(None);
        }
        return Err(already_running(home).into());
    };
    let api = ApiSocket::take(inherited.take(Part::Api), home.api_socket())
        .map_err(|error| Home::not_written(&home.api_socket(), &error).into())
        .and_then(|listener| ApiLoop::new(listener, Some(lock), inherited, limits, make));
    // The log may not take it, if a full disk is the reason.
    let api = api.inspect_err(|error| say(&mut starter, format!("{error:#}").as_bytes()))?;
    say(&mut starter, READY);
    let mut api = ManuallyDrop::new(api);
    match caught(|| api.serve()) {
        Ok(served) => {
            let app = ManuallyDrop::into_inner(api).into_application();
            served.map(|()| Some(app))
        }
        // Whatever it was in the middle of: nothing of it is used any more, not even to end it.
        Err(why) => Err(begin_again(&why)),
    }
}

/// Puts a new server in the place of one whose loop has panicked: this process becomes it, so that who watches over
/// it sees no end, and what it had open is closed. Dynos go on meanwhile, and are found. Returns, with the reason, if that is
/// not possible, or was done a moment ago.
fn begin_again(why: &str) -> anyhow::Error {
    let failed = anyhow::anyhow!("Error R99 (Platform error) -> the server failed: {why}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    let before = std::env::var(FAILED_AT)
        .ok()
        .and_then(|at| at.parse::<u64>().ok());
    if before.is_some_and(|at| now.saturating_sub(at) < FAILS_FOR_GOOD.as_secs()) {
        return failed.context("the server has failed again and again");
    }
    tell!("{failed:#}; it begins again");
    let text = |text: &OsStr| CString::new(text.as_bytes()).unwrap_or_default();
    let arguments: Vec<_> = title::arguments()
        .iter()
        .map(|argument| text(argument))
        .collect();
    // What a service manager has passed on is not passed on by us.
    let is_passed = |name: &OsStr| name.as_bytes().starts_with(b"LISTEN_");
    let kept = std::env::vars_os().filter(|(name, _)| {
        name != FAILED_AT && !is_passed(name) && Some(name.as_os_str()) != panics::variable()
    });
    let mut environment: Vec<_> = kept
        .map(|(name, value)| text(&[name, value].join(OsStr::new("="))))
        .collect();
    environment.push(text(OsStr::new(&format!("{FAILED_AT}={now}"))));
    let _ = open_files::restore_soft_limit();
    let error = exec(&text(OsStr::new(PATH)), &arguments, &environment);
    failed.context(format!("cannot begin again: {error}"))
}

/// The lock that an earlier server has left, once it has let go of the state.
fn left_lock(home: &Home, inherited: &mut Handover) -> anyhow::Result<Option<ServerLock>> {
    let (lock, left) = (inherited.take(Part::Lock), inherited.take(Part::Left));
    let Some(lock) = lock.and_then(|lock| ServerLock::left(lock, home)) else {
        return Ok(None);
    };
    if let Some(left) = left {
        let deadline = Instant::now() + LEAVE_PATIENCE;
        // Nothing is ever written to it.
        if wait::until(&left, PollFlags::IN, Some(deadline))?.is_none() {
            anyhow::bail!("the server before it does not let go of the state");
        }
    }
    lock.sign().context("cannot write `server.lock`")?;
    Ok(Some(lock))
}

fn already_running(home: &Home) -> UserError {
    let pid = last_holder(home).map_or(String::new(), |pid| format!(" (process {pid})"));
    UserError::new(format!(
        "a server{pid} already runs for `{}`",
        home.path().display()
    ))
    .hint("`dyno server:stop` ends it; its dynos go on, and the next server has them")
}

/// Leaves the session, terminal, blocked signals and descriptors of the command that has started the server. Returns the socket to
/// say on how it went, if there is one, and what an earlier server has left, which comes over it.
fn become_daemon() -> io::Result<(Option<OwnedFd>, Handover)> {
    // Fails for the leader of a process group, which has nothing to leave.
    let _ = rustix::process::setsid();
    crate::kernel::sys::signal::unblock_all();
    crate::kernel::sys::process::close_all_but(&[]);
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    if FileType::from_raw_mode(rustix::fs::fstat(&stdin)?.st_mode) != FileType::Socket {
        return Ok((None, Handover::default()));
    }
    let inherited = Handover::receive(&stdin, Vec::new(), Vec::new())?;
    Ok((Some(stdin), inherited))
}

/// Says the one word to the command that has started the server. It may have left, which is no reason to leave too.
fn say(starter: &mut Option<OwnedFd>, word: &[u8]) {
    if let Some(starter) = starter.take() {
        let _ = unix_socket::send(&starter, word, &[]);
    }
}
