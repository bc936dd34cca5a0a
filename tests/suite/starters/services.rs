//! Servers that apps have beside them: a PostgreSQL and a Redis of the test's own, and files over HTTP, each on a free port of the loopback.

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{SYSTEM, output};
use crate::harness::{STARTING, eventually, free_port, is_root};
use crate::programs::postgresql;

/// The user `nobody`: PostgreSQL does not start as root.
const NOBODY: u32 = 65_534;

/// A server that ends with this.
pub struct Service {
    process: Child,
    folder: TempDir,
    pub port: u16,
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.process.try_wait().unwrap().is_none() {
            // For each of them: at once, whoever is connected.
            kill_process(Pid::from_child(&self.process), Signal::INT).unwrap();
            self.process.wait().unwrap();
        }
    }
}

impl Service {
    /// An empty PostgreSQL, with a user and a database `dyno`.
    pub fn postgresql() -> Self {
        let programs = postgresql().expect("PostgreSQL is not installed");
        let postgres = programs.join("postgres");
        let folder = folder();
        let mut made = command(&folder, &programs.join("initdb"));
        finish(made.args(["-D", "base", "-U", "dyno", "-A", "trust", "-N"]));
        let mut made = command(&folder, Path::new("/bin/sh"));
        let create = "echo 'CREATE DATABASE dyno' | \"$0\" --single -D base postgres";
        finish(made.args(["-c", create]).arg(&postgres));
        let mut server = server(&folder, &postgres);
        server.args(["-D", "base", "-h", "127.0.0.1", "-k", "", "-F", "-p"]);
        Self::started(server, folder, |port| {
            let mut asked = command_line(Path::new("/usr/bin/pg_isready"));
            asked.args(["-q", "-h", "127.0.0.1", "-p", port]);
            output(&mut asked).status.success()
        })
    }

    /// An empty Redis.
    pub fn redis() -> Self {
        let folder = folder();
        let mut server = server(&folder, Path::new("/usr/bin/redis-server"));
        server.args(["--bind", "127.0.0.1", "--save", "", "--port"]);
        Self::started(server, folder, |port| {
            let mut asked = command_line(Path::new("/usr/bin/redis-cli"));
            asked.args(["-h", "127.0.0.1", "-p", port, "ping"]);
            output(&mut asked).stdout == b"PONG\n"
        })
    }

    /// The files that these commands of a shell make in a folder, over HTTP.
    pub fn files(made_by: &str) -> Self {
        let folder = folder();
        let mut made = command(&folder, Path::new("/bin/sh"));
        finish(made.args(["-ec", made_by]));
        let mut server = server(&folder, Path::new("/usr/bin/python3"));
        server.args(["-m", "http.server", "--bind", "127.0.0.1"]);
        Self::started(server, folder, |port| {
            TcpStream::connect(format!("127.0.0.1:{port}")).is_ok()
        })
    }

    /// Starts a server, whose last argument is its port, and waits until it is ready.
    fn started(mut server: Command, folder: TempDir, ready: impl Fn(&str) -> bool) -> Self {
        let port = free_port();
        let word = port.to_string();
        server.arg(&word);
        let process = {
            let _starting = STARTING.read().unwrap();
            server.spawn().unwrap()
        };
        let mut service = Self {
            process,
            folder,
            port,
        };
        eventually("a server that answers", || {
            let ended = service.process.try_wait().unwrap();
            assert!(ended.is_none(), "{}", log(service.folder.path()));
            ready(&word).then_some(())
        });
        service
    }
}

/// A folder for a server's files.
fn folder() -> TempDir {
    let folder = tempfile::Builder::new()
        .prefix("dyno-test.")
        .tempdir()
        .unwrap();
    if is_root() {
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    folder
}

/// A program without anything of the test's around it.
fn command_line(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs([("PATH", SYSTEM), ("LC_ALL", "C.UTF-8")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// One that works in this folder, as an ordinary user.
fn command(folder: &TempDir, program: &Path) -> Command {
    let mut command = command_line(program);
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.path().join("log"))
        .unwrap();
    command
        .current_dir(folder.path())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// One that ends when the thread of the test does, however that comes.
fn server(folder: &TempDir, program: &Path) -> Command {
    // Whoever runs the tests in the background has them ignore the signal, and some programs leave it so.
    let mut command = command(folder, Path::new("/usr/bin/env"));
    command.args(["--default-signal=INT", "/usr/bin/setpriv"]);
    command.args(["--pdeathsig", "INT"]).arg(program);
    command
}

/// Waits for a command that is to succeed.
fn finish(command: &mut Command) {
    let status = output(command).status;
    let folder = command.get_current_dir().unwrap();
    assert!(status.success(), "{command:?}: {}", log(folder));
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}
