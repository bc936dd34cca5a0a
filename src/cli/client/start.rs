//! Finding the server, and starting it if there is none.
//!
//! Whether a server runs is decided by its lock, which only servers take. So the command line just
//! starts one; of two that are started at once one gets the lock, and the other says that it did not.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::api::server::{
    Build, ReplaceServer, ServerInfo, ServerStatus, StartedBy, StopServer, StoppingServer,
};
use crate::error::{UserError, tell};
use crate::home::Home;
use crate::home::lock::{Holder, last_holder};
use crate::kernel::executable::{self, HELD, READY};
use crate::kernel::unix_socket;
use crate::kernel::wait;
use crate::wire::handover::{self, Handover, Part};

use super::Client;
use super::patience::START;

/// How long a server that runs may be without its socket: it gives requests that it is answering five seconds when it
/// leaves, and makes a socket that was removed at once.
const SOCKET_TIME: Duration = Duration::from_secs(7);
/// How long a server may take for its first answer before it is asked whether the socket is its own.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// When the log of servers is begun anew, in bytes.
const MAX_LOG: u64 = 1 << 20;
/// How much of the log's end is looked at for the reason of a failed start, in bytes.
const LOG_TAIL: u64 = 4096;
/// How many of its last lines are shown.
const LOG_LINES: usize = 3;

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

impl Default for Launch {
    /// This very program, as a server that leaves when there is nothing to do.
    fn default() -> Self {
        Self {
            program: crate::kernel::executable::PATH.into(),
            args: vec!["server".into(), "--idle".into()],
        }
    }
}

/// Connects to the server of `home`. Starts one if none runs, and another one if it was started by
/// the command line of an older build: that one leaves its sockets to this one's, so no client is refused.
///
/// # Errors
/// A [`UserError`] that says why there is no server: the last lines of its log, or who holds the
/// lock without answering.
pub fn connect_or_start(home: &Home, launch: &Launch) -> anyhow::Result<Client> {
    let deadline = Instant::now() + START.in_all;
    let build = executable::build();
    let mut tries = START.tries();
    let (mut replaced, mut left) = (None, Handover::default());
    while Instant::now() < deadline {
        // With an earlier server's socket in our hands, there is nobody at the other end of it.
        if !left.has(Part::Api)
            && let Some((mut client, server)) = greet(home, deadline)?
        {
            // Once: it need not do as it is told.
            if !server.idle || replaced.is_some() || !build.is_newer_than(&server.build) {
                if let Some(replaced) = replaced.filter(|_| server.build == build) {
                    tell!(
                        "the server, of an older build ({replaced}), has made room for one of this build ({build})"
                    );
                }
                client.set_patience(None)?;
                client.start = Some((home.clone(), launch.clone()));
                return Ok(client);
            }
            left = take_over(client, &build, false);
            replaced = Some(server.build);
        }
        match start(home, launch, &left, deadline)? {
            Word::Ready => left = Handover::default(),
            Word::Held | Word::Ended => {
                remind(home);
                if !tries.again() {
                    break;
                }
            }
        }
    }
    Err(no_answer(home).into())
}

/// For a server that this process is about to be, in the foreground: has one that a command has started make room. What that one
/// leaves, and which it was; None if none runs.
///
/// # Errors
/// A [`UserError`] when one runs that is not to be replaced, or that does not answer.
pub fn succeed(home: &Home) -> anyhow::Result<Option<(Handover, ServerInfo)>> {
    // Without a holder of the lock, a socket that takes clients is one that a service manager keeps for this very process.
    let Some(holder) = Holder::find(home)? else {
        return Ok(None);
    };
    let Some((client, server)) = connect(home)? else {
        return Ok(None);
    };
    let build = executable::build();
    if !server.idle || server.build.is_newer_than(&build) {
        return Err(already_running(home, client, &server).into());
    }
    let left = take_over(client, &build, true);
    // One of before, which knows of no such wish, is asked to stop, and needs a moment for it.
    if !left.has(Part::Lock)
        && let Some((mut client, again)) = greet(home, Instant::now() + START.in_all)?
        && again.pid == server.pid
    {
        client.post::<StoppingServer>("/server/actions/stop", &StopServer::default())?;
        holder.has_ended_within(START.in_all)?;
    }
    Ok(Some((left, server)))
}

/// Why a server in the foreground cannot begin, and what makes room for it.
fn already_running(home: &Home, mut client: Client, server: &ServerInfo) -> UserError {
    let status: Option<ServerStatus> = client.get("/server/status").ok();
    let by = status.map(|status| status.started_by);
    let (by, stop) = match by {
        Some(StartedBy::Systemd { unit, user }) => {
            let systemctl = if user {
                "systemctl --user"
            } else {
                "systemctl"
            };
            (
                format!(" by systemd, as `{unit}`,"),
                format!("{systemctl} stop {unit}"),
            )
        }
        Some(StartedBy::Command) => (
            " of a newer build".to_owned(),
            "dyno server:stop".to_owned(),
        ),
        _ => (String::new(), "dyno server:stop".to_owned()),
    };
    UserError::new(format!(
        "a server{by} (process {}) already runs for `{}`",
        server.pid,
        home.path().display()
    ))
    .hint(format!(
        "`{stop}` ends it; its dynos go on, and the next server has them"
    ))
}

/// Has a server of an older build leave. What it leaves is for the next one; nothing, if it knows nothing of that, or is
/// gone already.
fn take_over(client: Client, build: &Build, stays: bool) -> Handover {
    let ask = ReplaceServer {
        build: build.clone(),
        stays,
    };
    let left = client.take_parts("/server/actions/replace", handover::PROTOCOL, &ask);
    let received = left.and_then(|left| {
        let left = Handover::receive(&left.socket, left.received, left.fds)?;
        Ok(left)
    });
    received.unwrap_or_default()
}

/// Connects to the server of `home` if one runs, of whatever build.
///
/// # Errors
/// A [`UserError`] when somebody holds the lock but does not answer.
pub fn connect(home: &Home) -> anyhow::Result<Option<(Client, ServerInfo)>> {
    let mut found = greet(home, Instant::now() + START.in_all)?;
    if found.is_none()
        && let Some(holder) = remind(home)
    {
        // It is just starting, or leaving, or its socket was removed.
        let deadline = Instant::now() + SOCKET_TIME;
        while found.is_none() && !holder.has_ended_within(START.longest)? {
            if Instant::now() > deadline {
                return Err(no_answer(home).into());
            }
            found = greet(home, Instant::now() + START.in_all)?;
        }
    }
    match found {
        Some((mut client, server)) => {
            client.set_patience(None)?;
            Ok(Some((client, server)))
        }
        None => Ok(None),
    }
}

/// Asks a server that is not found at its socket to see to that; the result is the server.
fn remind(home: &Home) -> Option<Holder> {
    let holder = Holder::find(home).ok().flatten()?;
    holder.remind();
    Some(holder)
}

/// For whoever has lost one server: connects to whichever there is now, of whatever build. Starts one if none runs.
///
/// # Errors
/// As [`connect_or_start`].
pub fn connect_to_any_or_start(home: &Home, launch: &Launch) -> anyhow::Result<Client> {
    match connect(home)? {
        Some((mut client, _)) => {
            client.start = Some((home.clone(), launch.clone()));
            Ok(client)
        }
        None => connect_or_start(home, launch),
    }
}

/// Says hello to the server. None if there is none, or one that is leaving. What listens there may be another program: so if
/// what answers is no server, or nothing does, the one that has the lock looks after its socket before the second try.
fn greet(home: &Home, deadline: Instant) -> anyhow::Result<Option<(Client, ServerInfo)>> {
    let mut until = deadline.min(Instant::now() + FIRST_ANSWER);
    loop {
        let mut peer = None;
        let error = match greet_once(home, until, &mut peer) {
            Err(error) if !error.is::<UserError>() => error,
            result => return result,
        };
        let is_silence = is_silence(&error);
        if Instant::now() >= deadline {
            return Err(match is_silence {
                true => no_answer(home).into(),
                false => error,
            });
        }
        // The server itself, if it is that which is slow, needs no telling.
        let is_reminded = peer != last_holder(home) && remind(home).is_some();
        if !is_reminded && !is_silence {
            return Err(error);
        }
        until = deadline;
        thread::sleep(START.longest);
    }
}

/// Nothing came in time.
fn is_silence(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::WouldBlock)
}

/// One try; `peer` is the process that listens, as far as the kernel knows it.
fn greet_once(
    home: &Home,
    deadline: Instant,
    peer: &mut Option<u32>,
) -> anyhow::Result<Option<(Client, ServerInfo)>> {
    let path = home.api_socket();
    let mut client = match Client::connect(&path) {
        Ok(client) => client,
        // A file or a folder refuses as well; a socket of another kind, and a link to itself, in their own words.
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ECONNREFUSED | libc::EPROTOTYPE | libc::ELOOP) => {
                check_no_folder(&path)?;
                return Ok(None);
            }
            _ => return Err(error).context("cannot connect to the server"),
        },
    };
    *peer = client.peer();
    let left = deadline.saturating_duration_since(Instant::now());
    client.set_patience(Some(left.max(Duration::from_millis(1))))?;
    match client.get("/server") {
        Ok(server) => Ok(Some((client, server))),
        Err(error) => match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(kind) if kind != io::ErrorKind::WouldBlock => Ok(None),
            _ => Err(error),
        },
    }
}

/// What has files in it is nobody's to remove but the user's.
fn check_no_folder(socket: &Path) -> Result<(), UserError> {
    let is_folder = std::fs::symlink_metadata(socket).is_ok_and(|there| there.is_dir());
    match is_folder {
        true => Err(UserError::new(format!(
            "`{}` is a folder, and the server's socket belongs there",
            socket.display()
        ))
        .hint("move it away, and the next command goes on with the server")),
        false => Ok(()),
    }
}

/// What a started server said.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Ready,
    Held,
    /// Nothing: a signal has ended it.
    Ended,
}

/// Starts a server and waits for its word.
fn start(home: &Home, launch: &Launch, left: &Handover, deadline: Instant) -> anyhow::Result<Word> {
    let (log, log_start) =
        open_log(home).map_err(|error| Home::not_written(&home.server_log(), &error))?;
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    left.send(&ours)
        .context("cannot pass the sockets of the server before on")?;
    let mut child = Command::new(&launch.program)
        .args(&launch.args)
        .arg0(executable::server_title(home.path()))
        .current_dir("/")
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| is_kept(name)))
        .env("DYNO_HOME", home.path())
        .stdin(theirs)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the server")?;
    // The command, and our copy of the server's end with it, is gone by now.
    let mut word = [0; 1024];
    if wait::until(&ours, PollFlags::IN, Some(deadline))?.is_none() {
        return Err(no_answer(home).into());
    }
    let length = match unix_socket::receive(&ours, &mut word, &mut Vec::new()) {
        // It has ended before it took what is left to it.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
        result => result?,
    };
    match &word[..length] {
        word if word == READY => Ok(Word::Ready),
        word if word == HELD => Ok(Word::Held),
        reason => {
            let status = wait_for_end(&mut child, deadline);
            match status.and_then(|status| status.signal()) {
                // It did not fail: somebody has ended it, and the next one may do better.
                Some(libc::SIGKILL | libc::SIGTERM) => Ok(Word::Ended),
                _ => Err(not_started(home, reason, log_start).into()),
            }
        }
    }
}

/// Which variables a server inherits: who the user is, the language of messages, and our settings.
/// Not the rest: the server outlives the shell that happened to start it.
fn is_kept(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    match name {
        "HOME" | "PATH" | "USER" | "LOGNAME" | "LANG" | "TZ" | "TMPDIR" | "RUST_BACKTRACE" => true,
        // They are the command's own.
        "DYNO_APP" | "DYNO_HOST" | "DYNO_API_KEY" | "DYNO_TLS_CA" => false,
        _ => ["DYNO_", "LC_", "XDG_"]
            .iter()
            .any(|prefix| name.starts_with(prefix)),
    }
}

/// The log to append to, and its length; a long one is put aside first.
fn open_log(home: &Home) -> io::Result<(File, u64)> {
    let path = home.server_log();
    if std::fs::metadata(&path).is_ok_and(|log| log.len() > MAX_LOG) {
        std::fs::rename(&path, path.with_extension("log.old"))?;
    }
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)?;
    let length = log.metadata()?.len();
    Ok((log, length))
}

/// A server that has closed its pipe without a word is about to end, and prints its reason last.
fn wait_for_end(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => thread::sleep(START.first),
            status => return status.ok().flatten(),
        }
    }
}

fn not_started(home: &Home, reason: &[u8], log_start: u64) -> UserError {
    let log = home.server_log();
    let (lines, reason) = match reason {
        b"" => (
            last_lines(&log, log_start).unwrap_or_default(),
            String::new(),
        ),
        reason => (String::new(), String::from_utf8_lossy(reason).into_owned()),
    };
    let reason = match (reason.as_str(), lines.trim()) {
        ("", "") => "it said nothing",
        ("", lines) => lines.trim_start_matches("error: "),
        (reason, _) => reason,
    };
    // It may have had advice of its own.
    let (reason, advice) = reason.split_once("\nhint: ").unwrap_or((reason, ""));
    let advice = match advice {
        "" => String::new(),
        advice => format!("{advice}; "),
    };
    UserError::new(format!("the server did not start: {reason}"))
        .hint(format!("{advice}its log is `{}`", log.display()))
}

/// The last lines that were written since the log had `start` bytes.
fn last_lines(log: &Path, start: u64) -> io::Result<String> {
    let mut file = File::open(log)?;
    let start = start.max(file.metadata()?.len().saturating_sub(LOG_TAIL));
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    Ok(lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"))
}

fn no_answer(home: &Home) -> UserError {
    let lock = home.server_lock();
    match last_holder(home) {
        Some(pid) => UserError::new(format!(
            "the server does not answer; process {pid} holds `{}`",
            lock.display()
        ))
        .hint(format!(
            "its log is `{}`; `kill {pid}` ends it",
            home.server_log().display()
        )),
        None => UserError::new("the server does not answer")
            .hint(format!("its log is `{}`", home.server_log().display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_inherits_little_of_its_starters_environment() {
        for name in [
            "HOME",
            "PATH",
            "LC_ALL",
            "XDG_RUNTIME_DIR",
            "DYNO_SLUG_LEVEL",
        ] {
            assert!(is_kept(OsStr::new(name)), "{name}");
        }
        for name in [
            "DYNO_APP",
            "SSH_AUTH_SOCK",
            "VIRTUAL_ENV",
            "AWS_SECRET_ACCESS_KEY",
        ] {
            assert!(!is_kept(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn the_reason_of_a_failed_start_is_what_the_log_says_last() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        std::fs::write(home.server_log(), "an older story\n").unwrap();
        let (mut log, start) = open_log(&home).unwrap();
        assert_eq!(last_lines(&home.server_log(), start).unwrap(), "");
        io::Write::write_all(&mut log, b"one\ntwo\n\nthree\nfour").unwrap();
        assert_eq!(
            last_lines(&home.server_log(), start).unwrap(),
            "two\nthree\nfour"
        );

        log.set_len(MAX_LOG + 1).unwrap();
        assert_eq!(open_log(&home).unwrap().1, 0);
    }
}
