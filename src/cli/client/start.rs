//! Finding the server, and starting it if there is none.
//!
//! Whether a server runs is decided by its lock, which only servers take. So the command line just starts one; of two
//! that are started at once, one gets the lock, and the other reports that it did not.

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

/// How long a running server may be without its socket: when it leaves, it gives requests in progress five seconds; a
/// removed socket it makes anew at once.
const SOCKET_TIME: Duration = Duration::from_secs(7);
/// How long a server may take for its first answer before it is asked to check its socket.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// The size at which the log of servers is renamed and a new one begun, in bytes.
const MAX_LOG: u64 = 1 << 20;
/// How many bytes of the log's end are searched for the reason of a failed start.
const LOG_TAIL: u64 = 4096;
/// How many of the log's last lines are shown.
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
    /// This program, as a server that leaves when there is nothing to do.
    fn default() -> Self {
        Self {
            program: crate::kernel::executable::PATH.into(),
            args: vec!["server".into(), "--idle".into()],
        }
    }
}

/// Connects to the server of `home`. Starts one if none runs, and another one if it was started by
/// the command line of an older build: that one hands its sockets over to the new one, so no client is refused.
///
/// # Errors
/// A [`UserError`] that says why there is no server: the last lines of its log, or which process holds the lock without
/// answering.
pub fn connect_or_start(home: &Home, launch: &Launch) -> anyhow::Result<Client> {
    let deadline = Instant::now() + START.in_all;
    let build = executable::build();
    let mut tries = START.tries();
    let (mut replaced, mut left) = (None, Handover::default());
    while Instant::now() < deadline {
        // If this process has the earlier server's socket, no server answers there.
        if !left.has(Part::Api)
            && let Some((mut client, server)) = greet(home, deadline)?
        {
            // Tried once: the server may not do as it is told.
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

/// Before this process becomes a server in the foreground: replaces a server that a command has started. Returns what
/// that one hands over, and its info; None if none runs.
///
/// # Errors
/// A [`UserError`] when a server runs that must not be replaced, or that does not answer.
pub fn succeed(home: &Home) -> anyhow::Result<Option<(Handover, ServerInfo)>> {
    // If no process holds the lock, a socket that accepts clients is one that a service manager keeps for this process.
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
    // An older server, which does not know this request, is asked to stop, and needs a moment for that.
    if !left.has(Part::Lock)
        && let Some((mut client, again)) = greet(home, Instant::now() + START.in_all)?
        && again.pid == server.pid
    {
        client.post::<StoppingServer>("/server/actions/stop", &StopServer::default())?;
        holder.has_ended_within(START.in_all)?;
    }
    Ok(Some((left, server)))
}

/// The error when a server in the foreground cannot start because one runs; the hint says how to stop that.
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

/// Has a server of an older build leave, and returns what it hands over; nothing if it does not know how, or is gone already.
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

/// Connects to the server of `home` if one runs, of any build.
///
/// # Errors
/// A [`UserError`] when a process holds the lock but does not answer.
pub fn connect(home: &Home) -> anyhow::Result<Option<(Client, ServerInfo)>> {
    let mut found = greet(home, Instant::now() + START.in_all)?;
    if found.is_none()
        && let Some(holder) = remind(home)
    {
        // The server is just starting or leaving, or its socket was removed.
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

/// Asks a server that is not found at its socket to make the socket anew; returns the server.
fn remind(home: &Home) -> Option<Holder> {
    let holder = Holder::find(home).ok().flatten()?;
    holder.remind();
    Some(holder)
}

/// After a lost connection: connects to the server that runs now, of any build. Starts one if none runs.
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

/// Asks the server for its info. None if there is none, or one that is leaving. Another program may listen at the
/// socket: if the answer is not a server's, or none comes, the server that has the lock is asked to make its socket
/// anew before the second try.
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
        // If the server itself is slow, it need not be asked.
        let is_reminded = peer != last_holder(home) && remind(home).is_some();
        if !is_reminded && !is_silence {
            return Err(error);
        }
        until = deadline;
        START.rest();
    }
}

/// Whether the error is that nothing came in time.
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
        // A file or folder at the path also refuses; a socket of another kind, and a link to itself, have errors of their own.
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

/// Refuses a folder in the socket's place, which only the user may remove.
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

/// What a started server reported.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Ready,
    Held,
    /// Nothing: a signal has killed it.
    Ended,
}

/// Starts a server and waits until it reports.
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
    // The command, with this process's copy of the server's end, has been dropped by now.
    let mut word = [0; 1024];
    if wait::until(&ours, PollFlags::IN, Some(deadline))?.is_none() {
        return Err(no_answer(home).into());
    }
    let length = match unix_socket::receive(&ours, &mut word, &mut Vec::new()) {
        // The server has ended before it took what was handed over.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
        result => result?,
    };
    match &word[..length] {
        word if word == READY => Ok(Word::Ready),
        word if word == HELD => Ok(Word::Held),
        reason => {
            let status = wait_for_end(&mut child, deadline);
            match status.and_then(|status| status.signal()) {
                // It did not fail: it was killed, and the next one may start.
                Some(libc::SIGKILL | libc::SIGTERM) => Ok(Word::Ended),
                _ => Err(not_started(home, reason, log_start).into()),
            }
        }
    }
}

/// Whether a server inherits a variable: those about the user, the language of messages, and dyno's settings. No
/// others, since the server outlives the shell that starts it.
fn is_kept(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    match name {
        "HOME" | "PATH" | "USER" | "LOGNAME" | "LANG" | "TZ" | "TMPDIR" | "RUST_BACKTRACE" => true,
        // These are about the command alone.
        "DYNO_APP" | "DYNO_HOST" | "DYNO_API_KEY" | "DYNO_TLS_CA" => false,
        _ => ["DYNO_", "LC_", "XDG_"]
            .iter()
            .any(|prefix| name.starts_with(prefix)),
    }
}

/// The log to append to, and its length; a long log is renamed first.
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

/// Waits for the end of a server that has closed its pipe without reporting, which prints its reason last.
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
    // The server may have printed a hint.
    let (reason, advice) = reason.split_once("\nhint: ").unwrap_or((reason, ""));
    let advice = match advice {
        "" => String::new(),
        advice => format!("{advice}; "),
    };
    UserError::new(format!("the server did not start: {reason}"))
        .hint(format!("{advice}its log is `{}`", log.display()))
}

/// The last lines that were written to the log after its byte `start`.
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
