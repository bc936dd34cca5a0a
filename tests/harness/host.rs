//! A host of a test's own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::command::Command;
use super::fail_points::{self, FailPoints};
use super::files::{copy_tree, log_text, make_removable, write};
use super::proc::{certain, command_line_of, is_elsewhere, is_init, is_ours, parent_of, pids};
use super::process::{Process, raise_open_files};
use super::wait::{DEADLINE, LOOK_AGAIN, eventually};
use super::{binary, is_root, isolation, root};

/// A host of a test's own: a state folder, a clean environment and the server that `dyno` starts in it. The and its dynos end with it.
#[derive(Debug)]
pub struct Host {
    folder: TempDir,
    env: BTreeMap<OsString, OsString>,
    program: Mutex<PathBuf>,
}

/// An address for a router that no other test's server takes while nothing listens there: the usual one is the first
/// server's of the machine.
pub fn own_router() -> String {
    static USED: AtomicU8 = AtomicU8::new(0);
    let number = 64 + USED.fetch_add(1, Ordering::SeqCst) % 128;
    let process = std::process::id();
    format!(
        "127.{number}.{}.{}:8080",
        process >> 8 & 0xff,
        process & 0xff
    )
}

/// A port that is free on both loopback addresses, and that the kernel gives to no other program meanwhile: connections, and
/// programs that listen at any port, get theirs above.
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 10_000..20_000;
    static USED: AtomicU16 = AtomicU16::new(0);
    let of_process = std::process::id().wrapping_mul(331);
    let mut candidates = std::iter::repeat_with(|| {
        let number = of_process + u32::from(USED.fetch_add(1, Ordering::SeqCst));
        PORTS.start + u16::try_from(number % PORTS.len() as u32).unwrap()
    });
    let is_free = |port: &u16| {
        let has_v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
            && (!has_v6 || TcpListener::bind((Ipv6Addr::LOCALHOST, *port)).is_ok())
    };
    candidates.find(is_free).unwrap()
}

impl Host {
    /// An empty one.
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// An empty one with further settings.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        static RAISE: std::sync::Once = std::sync::Once::new();
        RAISE.call_once(raise_open_files);
        let folder = tempfile::Builder::new()
            .prefix("dyno-test.")
            .tempdir()
            .unwrap();
        let path = folder.path().canonicalize().unwrap();
        for name in ["home", "state", "apps"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        fs::set_permissions(path.join("state"), fs::Permissions::from_mode(0o700)).unwrap();
        let mut env: BTreeMap<OsString, OsString> = [
            ("HOME", path.join("home").into_os_string()),
            ("DYNO_HOME", path.join("state").into_os_string()),
            ("PATH", std::env::var_os("PATH").unwrap_or_default()),
            ("LANG", "C.UTF-8".into()),
            ("TERM", "xterm".into()),
            ("DYNO_IDLE_LINGER", "1".into()),
            // What is launched is not waited for longer than a test is about.
            ("DYNO_SETTLE_TIME", "0".into()),
        ]
        .map(|(name, value)| (name.into(), value))
        .into();
        if let Some(isolation) = isolation() {
            env.insert("DYNO_ISOLATION".into(), isolation);
        }
        // All of them can be tried with dynos in networks of their own.
        if let Some(network) = std::env::var_os("DYNO_TEST_NETWORK") {
            env.insert("DYNO_NETWORK".into(), network);
        }
        for (name, value) in settings {
            env.insert(name.into(), value.into());
        }
        let host = Self {
            folder,
            env,
            program: Mutex::new(binary()),
        };
        if host.in_folders() {
            // The dynos of a root server are other users, who have to get through to their folders.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).unwrap();
        }
        host
    }

    /// Whether its dynos are in folders of their own, without walls.
    pub fn in_folders(&self) -> bool {
        let isolation = self.env.get(OsStr::new("DYNO_ISOLATION"));
        isolation.is_some_and(|isolation| isolation == "tempdir")
    }

    /// What the state folder's mode is to be once a server has started.
    pub fn state_mode(&self) -> u32 {
        match self.in_folders() && is_root() {
            true => 0o711,
            false => 0o700,
        }
    }

    /// Text of a dyno with its folder, if it has one, called `/app` as it is behind walls.
    pub(super) fn at_home(&self, text: &str) -> String {
        let (before, after) = (format!("{}/dynos/", self.state().display()), "/scratch/app");
        let mut pieces = text.split(&before);
        let mut at_home = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            match piece.split_once(after) {
                Some((id, rest)) if id.len() == 36 => at_home.extend(["/app", rest]),
                _ => at_home.extend([&before, piece]),
            }
        }
        at_home
    }

    /// All commands of this host get another variable.
    pub fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.env.insert(name.into(), value.as_ref().to_owned());
    }

    /// From now on its processes have fail points; to be called before any is started.
    pub fn with_fail_points(&mut self) -> FailPoints {
        let folder = self.path().join("faults");
        let points = FailPoints::new(&folder);
        self.set(fail_points::VARIABLE, folder);
        points
    }

    /// The program that its commands are; another one than [`binary`] after [`Host::set_program`].
    pub fn program(&self) -> PathBuf {
        self.program.lock().unwrap().clone()
    }

    /// All commands are this program's from now on.
    pub fn set_program(&self, program: &Path) {
        *self.program.lock().unwrap() = program.to_owned();
    }

    /// The environment of its commands.
    pub fn env(&self) -> &BTreeMap<OsString, OsString> {
        &self.env
    }

    /// The folder that everything of this host is in.
    pub fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        PathBuf::from(&self.env[OsStr::new("DYNO_HOME")])
    }

    /// A copy of `tests/apps/NAME`, on which nothing has been done yet.
    pub fn folder(&self, fixture: &str) -> PathBuf {
        self.folder_as(fixture, fixture)
    }

    /// A copy of `tests/apps/NAME` as a folder of another name.
    pub fn folder_as(&self, fixture: &str, name: &str) -> PathBuf {
        let copy = self.path().join("apps").join(name);
        copy_tree(&root().join("tests/apps").join(fixture), &copy);
        copy
    }

    /// A folder with these files, on which nothing has been done yet.
    pub fn folder_of(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.path().join("apps").join(name);
        fs::create_dir(&folder).unwrap();
        for (path, text) in files {
            write(&folder.join(path), text);
        }
        folder
    }

    /// A copy of `tests/apps/NAME`, deployed; nothing of it runs.
    pub fn app(&self, fixture: &str) -> PathBuf {
        let folder = self.folder(fixture);
        self.dyno(&folder, &["deploy", "--no-web"])
            .finish()
            .succeeds();
        folder
    }

    /// An app whose only process type is `nothing`, deployed.
    pub fn plain_app(&self) -> PathBuf {
        self.app("plain")
    }

    /// `dyno ARGS` in `folder`.
    pub fn dyno<S: AsRef<OsStr>>(&self, folder: &Path, args: &[S]) -> Command<'_> {
        self.program_of(&self.program(), folder, args)
    }

    /// Another program, with the environment of this host.
    pub fn program_of<S: AsRef<OsStr>>(
        &self,
        program: &Path,
        folder: &Path,
        args: &[S],
    ) -> Command<'_> {
        Command::new(self, program, folder, args)
    }

    /// `dyno run ARGS` in `folder`, with nothing on its standard input.
    pub fn run(&self, folder: &Path, args: &[&str]) -> Command<'_> {
        self.dyno(folder, &[&["run"], args].concat())
    }

    /// What the server says of itself.
    pub fn server_log(&self) -> String {
        fs::read_to_string(self.state().join("server.log")).unwrap_or_default()
    }

    /// The server's process, if one runs.
    pub fn server(&self) -> Option<Process> {
        let pid = fs::read_to_string(self.state().join("server.lock")).ok()?;
        let server = Process::find(pid.trim().parse().ok()?)?;
        self.is_server(server.pid).then_some(server)
    }

    /// All processes that are this host's server, or try to be.
    pub fn servers(&self) -> Vec<i32> {
        pids().filter(|pid| self.is_server(*pid)).collect()
    }

    fn is_server(&self, pid: i32) -> bool {
        let own = format!("DYNO_HOME={}\0", self.state().display());
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let own = environ
            .windows(own.len())
            .any(|window| window == own.as_bytes());
        own && command_line_of(pid).contains("server")
    }

    /// Kills the server, as a crash would.
    pub fn kill_server(&self) {
        let server = self.server().expect("a server to kill");
        server.signal(Signal::KILL);
        server.wait_for_end();
    }

    /// The lines of all apps' logs without their times: `heroku[run.1]: Awaiting client`.
    pub fn log_lines(&self) -> Vec<String> {
        let Ok(apps) = fs::read_dir(self.state().join("logs")) else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        for app in apps {
            let text = String::from_utf8_lossy(&log_text(&app.unwrap().path())).into_owned();
            // The last one may be on its way to the disk.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            lines.extend(whole.lines().map(|line| {
                let (_, line) = line.split_once(' ').expect("a time before each line");
                line.to_owned()
            }));
        }
        lines
    }

    /// Waits until a log has this line (without its time).
    #[track_caller]
    pub fn wait_for_log(&self, line: &str) {
        self.wait_for_log_lines(line, 1);
    }

    /// Waits until a log has this line so many times.
    #[track_caller]
    pub fn wait_for_log_lines(&self, line: &str, times: usize) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let lines = self.log_lines();
            if lines.iter().filter(|found| *found == line).count() >= times {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not {times} times in the log: `{line}`\n{}",
                lines.join("\n")
            );
            thread::park_timeout(LOOK_AGAIN);
        }
    }

    /// The supervisors of its live dynos: processes of the tests' own PID namespace that were started as one and hold
    /// the lock of a dyno of this host. (One without a dyno waits for the next, and leaves with the server.)
    pub fn supervisors(&self) -> Vec<Process> {
        // One that it has just forked still has its name, and is about to be init.
        let is_fork = |pid| {
            parent_of(pid)
                .is_some_and(|parent| is_ours(parent) && self.dyno_of(parent) == self.dyno_of(pid))
        };
        self.of_supervisors(|pid| !is_init(pid) && !is_fork(pid))
    }

    /// The inits of its live dynos, if these are without walls.
    fn inits_without_walls(&self) -> Vec<Process> {
        self.of_supervisors(is_init)
    }

    /// Forks of supervisors hold that lock, too.
    fn of_supervisors(&self, which: impl Fn(i32) -> bool) -> Vec<Process> {
        certain(|pid| {
            !is_elsewhere(pid) && is_ours(pid) && which(pid) && self.dyno_of(pid).is_some()
        })
    }

    /// The control groups of its dynos, as folders; none where the host gives none.
    pub fn control_groups(&self) -> Vec<PathBuf> {
        fn folders(place: &Value) -> Vec<&str> {
            match place {
                Value::Object(fields) => fields.values().flat_map(folders).collect(),
                other => other.as_str().into_iter().collect(),
            }
        }
        let dynos = fs::read_dir(self.state().join("dynos"))
            .into_iter()
            .flatten();
        let of_dyno = |dyno: fs::DirEntry| {
            let place = fs::read(dyno.path().join("groups")).unwrap_or_default();
            let place: Value = serde_json::from_slice(&place).unwrap_or_default();
            let group = |folder| Path::new(folder).join(dyno.file_name());
            folders(&place).into_iter().map(group).collect::<Vec<_>>()
        };
        dynos.flatten().flat_map(of_dyno).collect()
    }

    /// The id of the dyno whose folder a process has something open in.
    pub fn dyno_of(&self, pid: i32) -> Option<String> {
        let dynos = self.state().join("dynos");
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let mut links = fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        links.find_map(|link| {
            let dyno = link.strip_prefix(&dynos).ok()?.iter().next()?;
            Some(dyno.to_str()?.to_owned())
        })
    }

    /// The supervisor that waits for the next dyno, if there is one.
    pub fn spare(&self) -> Option<Process> {
        let server = self.server()?;
        let busy: Vec<_> = self.supervisors().iter().map(|it| it.pid).collect();
        let spare = certain(|pid| {
            parent_of(pid) == Some(server.pid) && !busy.contains(&pid) && is_ours(pid)
        });
        spare.into_iter().next()
    }

    /// The first processes of its dynos: children of their supervisors.
    pub fn inits(&self) -> Vec<Process> {
        let supervisors: Vec<_> = self.supervisors().iter().map(|it| it.pid).collect();
        let mut inits = self.inhabitants();
        inits.retain(|it| parent_of(it.pid).is_some_and(|parent| supervisors.contains(&parent)));
        inits
    }

    /// What is inside its dynos: processes of another PID namespace that have a dyno folder of this host mounted. Both
    /// must hold: a folder of the test's that is mounted on the host is seen by every process there. Without walls: the
    /// inits, and processes that were started in such a folder.
    pub fn inhabitants(&self) -> Vec<Process> {
        if self.in_folders() {
            let mut all = self.inits_without_walls();
            all.extend(self.marked());
            return all;
        }
        let mark = self.folder.path().file_name().unwrap().to_str().unwrap();
        let mark = format!("{mark}/state/dynos/");
        certain(|pid| {
            is_elsewhere(pid)
                && fs::read_to_string(format!("/proc/{pid}/mountinfo"))
                    .is_ok_and(|mounts| mounts.contains(&mark))
        })
    }

    /// Processes whose environment names a dyno's folder of this host as their home.
    fn marked(&self) -> Vec<Process> {
        let mark = format!("HOME={}/dynos/", self.state().display());
        let is_marked = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut variables = environment.split(|&byte| byte == 0);
            variables.any(|variable| variable.starts_with(mark.as_bytes()))
        };
        certain(|pid| is_marked(&pid))
    }

    /// Supervisors, and all that is in the dynos.
    pub fn processes(&self) -> Vec<Process> {
        let mut all = self.supervisors();
        all.extend(self.inhabitants());
        all
    }

    /// Waits until nothing of any dyno is left: no process, and nothing in its folder.
    #[track_caller]
    pub fn wait_until_clean(&self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let folders: Vec<_> = fs::read_dir(self.state().join("dynos"))
                .map(|folders| folders.map(|folder| folder.unwrap().path()).collect())
                .unwrap_or_default();
            let processes = self.processes();
            if folders.is_empty() && processes.is_empty() {
                return;
            }
            if Instant::now() > deadline {
                let left: Vec<_> = processes
                    .iter()
                    .map(|process| format!("{} {}", process.pid, command_line_of(process.pid)))
                    .collect();
                panic!(
                    "left of dynos after {DEADLINE:?}: {folders:?} {left:?}\nserver.log:\n{}",
                    self.server_log()
                );
            }
            thread::park_timeout(LOOK_AGAIN);
        }
    }

    /// Waits until the one live dyno's supervisor is there.
    pub fn wait_for_supervisor(&self) -> Process {
        eventually("a supervisor", || self.supervisors().pop())
    }

    /// A request to the API, as any HTTP client would send it; the answer's status and body. A server that has left
    /// meanwhile is started again.
    pub fn request(&self, method: &str, target: &str, body: &serde_json::Value) -> (u16, String) {
        let api = self.state().join("api.sock");
        let mut socket = UnixStream::connect(&api).unwrap_or_else(|_| {
            self.dyno(&self.path(), &["apps"]).finish().succeeds();
            UnixStream::connect(&api).unwrap()
        });
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        write!(
            socket,
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Accept: application/vnd.heroku+json; version=3\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        (status.expect("a status"), body.to_owned())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let soon = || Instant::now() + Duration::from_secs(10);
        if let Some(server) = self.server() {
            server.signal(Signal::TERM);
            if !server.ended_by(soon()) {
                server.signal(Signal::KILL);
                assert!(thread::panicking(), "the server did not end at SIGTERM");
            }
        }
        // Only supervisors are ever killed, each by its pidfd: with a supervisor its dyno ends.
        let inhabitants = self.inhabitants();
        for supervisor in self.supervisors() {
            supervisor.signal(Signal::KILL);
            supervisor.ended_by(soon());
        }
        let ended = inhabitants.iter().all(|process| process.ended_by(soon()));
        assert!(
            ended || thread::panicking(),
            "a dyno outlived its supervisor"
        );
        make_removable(self.folder.path());
    }
}
