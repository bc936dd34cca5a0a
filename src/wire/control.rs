//! Messages between server, supervisor and init, and how they travel.
//!
//! Every channel is a SEQPACKET Unix socket: a message arrives whole, with its descriptors, or not at all. Messages are
//! JSON objects with a `type`. A server and the supervisors that it adopts may be of different builds, one version
//! apart: fields are only ever added, with a default, and an unknown `type` reads as `Unknown` and is ignored.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::sockopt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::kernel::cgroup::{GroupLimits, GroupParent};
use crate::kernel::listener::Listener;
use crate::kernel::unix_socket;
use crate::model::dyno::life::{Rules, StopReason};
use crate::model::dyno::{
    ClientTerminal, DynoState, Exit, ExitRecord, Isolation, TerminalSettings,
};
use crate::model::log_limits::LogLimits;
use crate::model::network::OwnNetwork;
use crate::wire::command_streams::CommandStreams;

/// The largest message, in bytes: a command (128 KiB) and an environment (64 KiB) at their bounds, escaped.
pub const MAX_MESSAGE: usize = 2 * 1024 * 1024;

/// All that a supervisor needs to know about its dyno. Travels as one JSON document in a file in memory.
///
/// The server starts each supervisor from its own executable, and one that waits for its dyno leaves with the server that
/// started it. So, unlike all messages here, a spec is always read by the build that wrote it, and no field needs a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DynoSpec {
    /// The dyno's id, a uuid; also its host name.
    pub id: String,
    /// The dyno's name: `run.1`.
    pub name: String,
    /// The app's id; names its log folder.
    pub app_id: String,
    /// The app's name when the dyno was started, for people.
    pub app: String,
    /// The command as the user gave it.
    pub command: String,
    /// The command for the shell, with its process type replaced.
    pub shell_command: String,
    /// The whole environment of the command.
    pub env: BTreeMap<String, String>,
    /// What the command reads and writes.
    pub streams: CommandStreams,
    /// The client's terminal.
    pub terminal: ClientTerminal,
    /// The dyno's times and conditions.
    pub rules: Rules,
    /// The dyno's own folder.
    pub folder: PathBuf,
    /// The folder of the app's log.
    pub logs: PathBuf,
    /// How much of the log is kept.
    pub log_limits: LogLimits,
    /// The unpacked slug, or the live folder.
    pub tree: PathBuf,
    /// `tree` is a folder in which the dyno works without a copy.
    pub live: Option<LiveTree>,
    /// How the dyno is isolated.
    pub isolation: Isolation,
    /// The files of `tree` belong to the inner user on disk, and are to be mapped to the dyno's uid.
    pub id_mapped: bool,
    /// The dyno's port, which no other dyno has while it lives.
    pub port: u16,
    /// Host uid and gid of the dyno.
    pub owner: (u32, u32),
    /// The server is root.
    pub privileged: bool,
    /// Folders that are hidden from the dyno.
    pub hidden: Vec<PathBuf>,
    /// Folders of the host mounted read-only at the same path.
    pub toolchains: Vec<PathBuf>,
    /// The app's second path, beside `/app`.
    pub app_path: Option<PathBuf>,
    /// Where the dyno's control group is made; None: it has none.
    pub groups: Option<GroupParent>,
    /// What its control group may take.
    pub group_limits: GroupLimits,
    /// How often the log says how much memory the dyno has, if that is too much.
    pub measure_interval: Duration,
    /// How much it may have on disk of what it writes, in bytes; None: it has no limit.
    pub disk: Option<u64>,
    /// Whether the log is to have what the dyno takes of processors and memory, as often.
    pub runtime_metrics: bool,
    /// How many megabytes `/dev/shm` may hold.
    pub shared_memory: u32,
    /// How many megabytes `/tmp` may hold, in memory; None: it is on disk.
    pub temporary: Option<u32>,
    /// The soft limit on descriptors of its commands; None: that of the server.
    pub open_files: Option<u64>,
    /// How many processes and threads it may have; None where the kernel cannot limit that.
    pub processes: Option<u32>,
    /// The network of its own; None: it has the host's.
    pub network: Option<OwnNetwork>,
    /// The only TCP port, beside free ones, on which its processes may listen; None: they may listen on any.
    pub only_port: Option<u16>,
}

/// How a dyno works in folders of the host, without a copy: in a user's own, or in those of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveTree {
    /// The folders belong to root, and the dyno does not run as root.
    pub of_root: bool,
    /// Each folder, and the path at which a dyno with a root tree of its own has it. The app's is also the spec's `tree`.
    pub places: Vec<(PathBuf, PathBuf)>,
    /// The folder that all of them are in, if what the dyno writes there counts as its own; a user's files do not.
    pub counted: Option<PathBuf>,
    /// What an earlier build has installed, which this one has read-only.
    #[serde(default)]
    pub layer: Option<PathBuf>,
}

/// A message of the server to a supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToSupervisor {
    /// The first message but for `Prepare`: starts a dyno. Comes with descriptors: a file in memory with its [`DynoSpec`],
    /// the lock of its folder, and the claims to its port and host uid, all to be held as long as it lives.
    Begin,
    /// Makes the sandbox for a dyno that may begin next, and comes with as much as `Begin`. In the spec is what is known of the
    /// dyno already, and a folder of its own until it begins.
    Prepare,
    /// A client's connection, whose upgrade request has been read; comes with one descriptor.
    Attach {
        /// Whether, without a terminal, both outputs are to come in one pipe.
        #[serde(default)]
        merged: bool,
    },
    /// Stop the dyno: SIGTERM once its requests are answered, after `drain` seconds at most, or at once if this message
    /// comes again; SIGKILL `grace` seconds later.
    Stop {
        grace: f64,
        #[serde(default)]
        why: StopReason,
        #[serde(default)]
        drain: f64,
    },
    /// Have init open a door for the router, whose end comes along: see [`door`](super::door).
    OpenDoor,
    /// Check whether the dyno's port has another socket by now, and report it.
    CheckPort,
    /// Renew the dyno's copies of the host's files, which may have changed.
    RenewFiles,
    /// Keep the server's sockets at ports for the next server, in the place of those that came before; they come along, in
    /// the order of their names.
    KeepSockets {
        names: Vec<String>,
        /// Whether clients are to be turned away when there has been no server for a while.
        #[serde(default)]
        turn_away: bool,
    },
    /// Send the kept sockets: this is the next server.
    ReturnSockets,
    /// Run a command beside the dyno's own, for the client whose connection comes along. `env` overrides the dyno's.
    Inside {
        shell_command: String,
        env: BTreeMap<String, String>,
        streams: CommandStreams,
        #[serde(default)]
        terminal: ClientTerminal,
    },
    /// Something newer.
    #[serde(other)]
    Unknown,
}

/// A message of a supervisor to the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromSupervisor {
    /// The dyno's state; sent first on every connection, then at each change.
    State {
        dyno: String,
        state: DynoState,
        at_us: i64,
        /// The dyno's port: a server that adopts the dyno must not give it to another.
        #[serde(default)]
        port: Option<u16>,
        /// The dyno's socket that listens on the port, if it serves requests.
        #[serde(default)]
        listener: Option<Listener>,
        /// Whether this supervisor keeps sockets for the next server.
        #[serde(default)]
        keeps_sockets: bool,
    },
    /// The kept sockets, which come along in the order of their names.
    Sockets { names: Vec<String> },
    /// The last message: how the dyno ended, as in the exit record.
    Ended { dyno: String, record: ExitRecord },
    /// Something newer.
    #[serde(other)]
    Unknown,
}

/// A message of the supervisor to init.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToInit {
    /// Start a command. Number 0 is the dyno's own; init exits when it has ended.
    Exec {
        id: u32,
        program: PathBuf,
        args: Vec<String>,
        env: Vec<(String, String)>,
        streams: CommandStreams,
        /// The first settings of a terminal.
        settings: Option<TerminalSettings>,
        /// The soft limit on its descriptors; None: that of init.
        open_files: Option<u64>,
    },
    /// Send a signal to every process in the dyno. With one that ends processes, stopped processes are continued, too,
    /// since they would not notice it.
    Signal { signal: i32 },
    /// Send SIGHUP to the processes of one command, since its client is gone; stopped ones are continued.
    HangUp { id: u32 },
    /// Send SIGINT to the processes of one command.
    Interrupt { id: u32 },
    /// Send SIGCONT to the processes of one command.
    Continue { id: u32 },
    /// Ctrl-Z was typed in the terminal of one command. Init always reports when the command's own process stops; from
    /// now on it also looks for other stopped processes of its group, about which the kernel does not tell it.
    WatchForStop { id: u32 },
    /// Open a door, whose end comes along: see [`door`](super::door).
    OpenDoor,
    /// Find out whether a process of the dyno has the socket of this inode open.
    FindSocket { inode: u64 },
    /// Find out which of the sockets of these inodes processes of the dyno have open.
    FindSockets { inodes: Vec<u64> },
}

/// How init noticed that shared memory was too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shortage {
    /// A process has died of SIGBUS.
    BusError,
    /// Shared memory is full.
    Full,
}

/// A message of init to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromInit {
    /// The inside is ready for a command.
    Ready,
    /// The inside could not be built; init has exited.
    SetUpFailed { message: String },
    /// Init itself has failed, by a bug or an error of the host; it is exiting.
    Broken { message: String },
    /// The command runs. Comes with its streams: the terminal's master, or stdin, stdout and stderr.
    Started { id: u32 },
    /// The command could not be started. If it was the dyno's own, init has exited.
    ExecFailed { id: u32, message: String },
    /// The command has ended. If it was the dyno's own, init is exiting, and may know why a program could not be executed.
    Exited {
        id: u32,
        status: Exit,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
        /// Set if shared memory was too small.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shared_memory: Option<Shortage>,
    },
    /// Which of the sockets in question are the dyno's.
    Sockets { ours: Vec<u64> },
    /// The command, or another process of its group, has stopped.
    Stopped { id: u32 },
    /// Whether the socket of this inode is the dyno's.
    Socket { inode: u64, ours: bool },
}

/// Sends one message with its descriptors. Blocks only on a blocking socket.
pub fn send(socket: impl AsFd, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(io::Error::other("control message over 2 MiB"));
    }
    let socket = socket.as_fd();
    let sent = match unix_socket::send(socket, &bytes, fds) {
        // The default buffer takes about 200 kB; only a very large environment needs more.
        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
            sockopt::set_socket_send_buffer_size_force(socket, 2 * MAX_MESSAGE)
                .or_else(|_| sockopt::set_socket_send_buffer_size(socket, 2 * MAX_MESSAGE))?;
            unix_socket::send(socket, &bytes, fds)
        }
        other => other,
    };
    sent.map(drop)
}

/// Receives one message with its descriptors (close-on-exec); `None` when the other side is gone.
///
/// # Errors
/// `WouldBlock` on a non-blocking socket with nothing to read; `InvalidData` for a malformed message.
pub fn receive<M: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let socket = socket.as_fd();
    // The size is asked first, so that a small message does not need a large buffer.
    let reset_is_end = |received: io::Result<usize>| match received {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
        other => other,
    };
    let length = reset_is_end(unix_socket::next_length(socket))?;
    if length > MAX_MESSAGE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "control message over 2 MiB",
        ));
    }
    let (mut bytes, mut fds) = (vec![0u8; length.max(1)], Vec::new());
    let received = reset_is_end(unix_socket::receive(socket, &mut bytes, &mut fds))?;
    if received == 0 {
        return Ok(None);
    }
    bytes.truncate(received);
    let message = serde_json::from_slice(&bytes)?;
    Ok(Some((message, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType};

    fn pair() -> (OwnedFd, OwnedFd) {
        rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap()
    }

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (a, b) = pair();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let started = FromInit::Started { id: 7 };
        send(&a, &started, &[reader.as_fd(), writer.as_fd()]).unwrap();
        send(&a, &FromInit::Ready, &[]).unwrap();
        let (message, fds) = receive::<FromInit>(&b).unwrap().unwrap();
        assert_eq!((message, fds.len()), (started, 2));
        let (message, fds) = receive::<FromInit>(&b).unwrap().unwrap();
        assert_eq!((message, fds.len()), (FromInit::Ready, 0));
        drop(a);
        assert!(receive::<FromInit>(&b).unwrap().is_none());
    }

    #[test]
    fn what_was_said_before_a_hurried_end_is_received() {
        let (a, b) = pair();
        send(&b, &FromInit::Ready, &[]).unwrap();
        send(&a, &FromInit::Ready, &[]).unwrap();
        drop(b);
        let (message, _) = receive::<FromInit>(&a).unwrap().unwrap();
        assert_eq!(message, FromInit::Ready);
        assert!(receive::<FromInit>(&a).unwrap().is_none());
    }

    #[test]
    fn a_newer_message_is_passed_over() {
        let (a, b) = pair();
        send(
            &a,
            &serde_json::json!({"type": "teleport", "to": "mars"}),
            &[],
        )
        .unwrap();
        let (message, _) = receive::<ToSupervisor>(&b).unwrap().unwrap();
        assert!(matches!(message, ToSupervisor::Unknown));
        let newer = serde_json::json!({"type": "stop", "grace": 1.0, "reason": "new field"});
        send(&a, &newer, &[]).unwrap();
        let (message, _) = receive::<ToSupervisor>(&b).unwrap().unwrap();
        assert!(matches!(message, ToSupervisor::Stop { .. }));
    }

    #[test]
    fn a_message_over_the_bound_is_neither_sent_nor_received() {
        const TOO_LONG: &str = "control message over 2 MiB";
        let (a, b) = pair();
        let error = send(&a, &"x".repeat(MAX_MESSAGE), &[]).unwrap_err();
        assert_eq!(error.to_string(), TOO_LONG);
        let _ = sockopt::set_socket_send_buffer_size_force(&a, 4 * MAX_MESSAGE);
        // As an ordinary user the kernel may not take that much in the first place.
        if unix_socket::send(&a, &vec![b' '; MAX_MESSAGE + 1], &[]).is_ok() {
            let error = receive::<FromInit>(&b).unwrap_err();
            assert_eq!(error.to_string(), TOO_LONG);
        }
    }

    #[test]
    fn the_largest_environment_fits() {
        let (a, b) = pair();
        let env = vec![("BIG".to_owned(), "x".repeat(400 * 1024))];
        let exec = ToInit::Exec {
            id: 0,
            program: "/bin/sh".into(),
            args: vec![],
            env,
            streams: CommandStreams::Pipes,
            settings: None,
            open_files: None,
        };
        send(&a, &exec, &[]).unwrap();
        let (message, _) = receive::<ToInit>(&b).unwrap().unwrap();
        assert!(matches!(message, ToInit::Exec { env, .. } if env[0].1.len() == 400 * 1024));
    }
}
