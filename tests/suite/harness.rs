//! A host of a test's own: a state folder, a clean environment, the server that `dyno` starts in it, and commands under
//! a deadline. Nothing waits for a fixed time: it waits for what it needs, and gives up at [`DEADLINE`].

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, LazyLock, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Resource, Signal, getrlimit, pidfd_open, pidfd_send_signal, setrlimit,
};
use tempfile::TempDir;

#[path = "needs.rs"]
mod needs;

#[allow(unused_imports, reason = "the soak needs less of it")]
pub use needs::{isolation, lacks, lacks_walls, leave_out};

/// How long anything may take that a test waits for.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Between two looks at something that gives no notice when it changes.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Held by whoever starts a program, and alone by whoever opens a terminal: for a moment that is open to
/// every program which is just being started.
pub static STARTING: RwLock<()> = RwLock::new(());

/// The binary under test.
pub fn binary() -> PathBuf {
    std::env::var_os("DYNO_TEST_BIN").map_or_else(|| env!("CARGO_BIN_EXE_dyno").into(), Into::into)
}

/// Where the source tree with `tests/apps` is.
pub fn root() -> PathBuf {
    std::env::var_os("DYNO_TEST_ROOT").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), Into::into)
}

/// Whether the tests run as root: dynos then have host uids of their own.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether somebody ignores signals for us that tests send: `nohup`, or a shell without job control that runs the tests
/// in the background. What we start would inherit that.
fn signals_are_ignored() -> bool {
    static IGNORED: LazyLock<bool> = LazyLock::new(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
        let sent = [Signal::HUP, Signal::INT, Signal::QUIT].map(Signal::as_raw);
        sent.iter().any(|number| mask >> (number - 1) & 1 == 1)
    });
    *IGNORED
}

/// Does this when it is dropped, also by a panic: so ends what a scope waits for.
pub struct AtEnd<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Looks until there is something, and fails at the deadline.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        thread::park_timeout(LOOK_AGAIN);
    }
}

/// Something that threads change and others wait for.
#[derive(Debug)]
pub struct Watched<T>(Arc<(Mutex<T>, Condvar)>);

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Watched<T> {
    pub fn new(value: T) -> Self {
        Self(Arc::new((Mutex::new(value), Condvar::new())))
    }

    /// Changes it and wakes whoever waits.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let changed = change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
        changed
    }

    /// Waits until `look` finds something. None at the deadline.
    pub fn wait<R>(&self, deadline: Instant, mut look: impl FnMut(&T) -> Option<R>) -> Option<R> {
        let mut value = self.0.0.lock().unwrap();
        loop {
            if let Some(found) = look(&value) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            value = self.0.1.wait_timeout(value, left).unwrap().0;
        }
    }
}

/// One process, held so that a signal can only reach this one.
#[derive(Debug)]
pub struct Process {
    pub pid: i32,
    fd: OwnedFd,
}

impl Process {
    /// None when there is no such process any more. PID 1 and "all processes" are nobody's to signal.
    pub fn find(pid: i32) -> Option<Self> {
        if pid <= 1 {
            return None;
        }
        let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        Some(Self { pid, fd })
    }

    /// The same one, held once more.
    #[allow(dead_code, reason = "for the soak")]
    pub fn held_again(&self) -> Self {
        Self {
            pid: self.pid,
            fd: self.fd.try_clone().unwrap(),
        }
    }

    /// It may have ended meanwhile; then nothing happens.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.fd, signal);
    }

    /// Whether it has ended before `deadline`.
    pub fn ended_by(&self, deadline: Instant) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec {
                tv_sec: left.as_secs().try_into().unwrap(),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&left)) {
                Err(rustix::io::Errno::INTR) => {}
                polled => return polled.unwrap() > 0,
            }
        }
    }

    /// Fails if it has not ended at the deadline.
    #[track_caller]
    pub fn wait_for_end(&self) {
        assert!(
            self.ended_by(Instant::now() + DEADLINE),
            "process {} is still there: {}",
            self.pid,
            command_line_of(self.pid)
        );
    }
}

fn command_line_of(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Lets this process have as many descriptors as the tests together may need: some have hundreds of clients, and the usual
/// soft limit of an ordinary user is 1,024.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    limit.current = limit.current.map(|soft| soft.max(hard.min(20_000)));
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// See the [module](self). Its server and dynos end with it.
#[derive(Debug)]
pub struct Host {
    folder: TempDir,
    env: BTreeMap<OsString, OsString>,
    program: Mutex<PathBuf>,
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
    fn at_home(&self, text: &str) -> String {
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
    pub fn dyno<S: AsRef<OsStr>>(&self, folder: &Path, args: &[S]) -> Dyno<'_> {
        self.program_of(&self.program(), folder, args)
    }

    /// Another program, with the environment of this host.
    pub fn program_of<S: AsRef<OsStr>>(
        &self,
        program: &Path,
        folder: &Path,
        args: &[S],
    ) -> Dyno<'_> {
        let mut command = match signals_are_ignored() {
            false => Command::new(program),
            true => {
                let mut command = Command::new("/usr/bin/env");
                command.arg("--default-signal=HUP,INT,QUIT").arg(program);
                command
            }
        };
        command.args(args).current_dir(folder).env_clear();
        command.envs(&self.env);
        let words: Vec<_> = args
            .iter()
            .map(|arg| arg.as_ref().to_string_lossy().into_owned())
            .collect();
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        Dyno {
            host: self,
            what: format!("{name} {}", words.join(" ")),
            patience: DEADLINE,
            command,
            input: Input::Nothing,
            output: true,
            errors: true,
        }
    }

    /// `dyno run ARGS` in `folder`, with nothing on its standard input.
    pub fn run(&self, folder: &Path, args: &[&str]) -> Dyno<'_> {
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
        self.of_supervisors(|pid| !is_init(pid))
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

    /// A request to the API, as any HTTP client would send it; the answer's status and body. A server that has left, as
    /// nobody needed it, is started again.
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

/// An overlay's work folder has no permissions at all, which stops an ordinary user's `remove_dir_all`.
fn make_removable(folder: &Path) {
    let Ok(metadata) = fs::symlink_metadata(folder) else {
        return;
    };
    if !metadata.is_dir() {
        return;
    }
    if metadata.permissions().mode() & 0o700 != 0o700 {
        let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        make_removable(&entry.path());
    }
}

/// The numbers of all processes.
pub fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Whether a process calls itself a part of the program other than the server.
fn is_ours(pid: i32) -> bool {
    let line = command_line_of(pid);
    line.starts_with("dyno: ") && !line.starts_with("dyno: server")
}

/// Whether a process calls itself a dyno's init. Without walls it is one among others.
fn is_init(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"dyno: init\n")
}

/// All processes that are so, and still were when they were already held: whoever has got the number of one that has ended
/// meanwhile is not among them.
fn certain(is: impl Fn(i32) -> bool) -> Vec<Process> {
    pids()
        .filter(|&pid| is(pid))
        .filter_map(Process::find)
        .filter(|process| is(process.pid))
        .collect()
}

/// The process that started this one, or adopted it.
pub fn parent_of(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok()
}

/// Whether a process is known to be in a PID namespace below the tests' own.
fn is_elsewhere(pid: i32) -> bool {
    let depth = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let pids = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))?;
        Some(pids.split_whitespace().count())
    };
    match (depth(&pid.to_string()), depth("self")) {
        (Some(its), Some(own)) => its > own,
        _ => false,
    }
}

/// Writes a file, with the folders above it.
pub fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Copies a tree with modes and links. A link that leads out of it, to what several fixtures share, is copied as that.
pub fn copy_tree(from: &Path, to: &Path) {
    let metadata = fs::symlink_metadata(from)
        .unwrap_or_else(|error| panic!("no `{}`: {error}", from.display()));
    if metadata.is_symlink() && fs::read_link(from).unwrap().starts_with("..") {
        fs::copy(from, to).unwrap();
    } else if metadata.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from).unwrap(), to).unwrap();
    } else if metadata.is_dir() {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy_tree(&from.join(&name), &to.join(&name));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}

#[derive(Debug)]
enum Input {
    Nothing,
    Bytes(Vec<u8>),
    Open,
    Given,
}

/// A command that is about to be started.
#[derive(Debug)]
pub struct Dyno<'a> {
    host: &'a Host,
    what: String,
    command: Command,
    input: Input,
    output: bool,
    errors: bool,
    patience: Duration,
}

impl<'a> Dyno<'a> {
    /// It may take longer than others, or is to take less.
    #[allow(dead_code, reason = "not for the soak")]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// With another variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// With these bytes on standard input, then its end.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// With a standard input that stays open until [`Running::close_input`].
    pub fn open_input(mut self) -> Self {
        self.input = Input::Open;
        self
    }

    /// With this standard input.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self.input = Input::Given;
        self
    }

    /// With this standard output; the outcome has none.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self.output = false;
        self
    }

    /// With this standard error; the outcome has none.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.command.stderr(stderr);
        self.errors = false;
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Running<'a> {
        match &self.input {
            Input::Nothing => drop(self.command.stdin(Stdio::null())),
            Input::Bytes(_) | Input::Open => drop(self.command.stdin(Stdio::piped())),
            Input::Given => {}
        }
        if self.output {
            self.command.stdout(Stdio::piped());
        }
        if self.errors {
            self.command.stderr(Stdio::piped());
        }
        let spawned = {
            let _starting = STARTING.read().unwrap();
            self.command.spawn()
        };
        let mut child =
            spawned.unwrap_or_else(|error| panic!("cannot start {}: {error}", self.what));
        // It keeps the descriptors that it was given.
        drop(self.command);
        let process = Process::find(child.id().try_into().unwrap()).unwrap();
        let mut input = child.stdin.take();
        if let Input::Bytes(bytes) = self.input {
            let mut input = input.take().unwrap();
            // A command need not read all that it could.
            thread::spawn(move || drop(input.write_all(&bytes)));
        }
        let seen = Watched::new(Seen {
            open: usize::from(self.output) + usize::from(self.errors),
            ..Seen::default()
        });
        if let Some(stdout) = child.stdout.take() {
            read_into(&seen, stdout, |seen| &mut seen.stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            read_into(&seen, stderr, |seen| &mut seen.stderr);
        }
        let ended = seen.clone();
        thread::spawn(move || {
            let status = child.wait().unwrap();
            ended.change(|seen| seen.status = Some(status));
        });
        Running {
            host: self.host,
            what: self.what,
            process,
            seen,
            input,
            patience: self.patience,
            deadline: Instant::now() + self.patience,
        }
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn finish(self) -> Outcome<'a> {
        self.start().finish()
    }
}

fn read_into(
    seen: &Watched<Seen>,
    mut from: impl Read + Send + 'static,
    which: fn(&mut Seen) -> &mut Vec<u8>,
) {
    let seen = seen.clone();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            seen.change(|seen| which(seen).extend_from_slice(&buffer[..count]));
        }
        seen.change(|seen| seen.open -= 1);
    });
}

#[derive(Debug, Default)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    open: usize,
    status: Option<ExitStatus>,
}

/// A command that runs.
#[derive(Debug)]
pub struct Running<'a> {
    host: &'a Host,
    what: String,
    pub process: Process,
    seen: Watched<Seen>,
    input: Option<ChildStdin>,
    patience: Duration,
    deadline: Instant,
}

impl<'a> Running<'a> {
    /// Waits until its standard output so far contains `text`.
    #[track_caller]
    pub fn wait_for_output(&self, text: &str) {
        self.wait_for(text, |seen| &seen.stdout);
    }

    /// Waits until its standard error so far contains `text`.
    #[track_caller]
    pub fn wait_for_errors(&self, text: &str) {
        self.wait_for(text, |seen| &seen.stderr);
    }

    #[track_caller]
    fn wait_for(&self, text: &str, which: fn(&Seen) -> &Vec<u8>) {
        let found = self.seen.wait(self.deadline, |seen| {
            let there = which(seen)
                .windows(text.len())
                .any(|window| window == text.as_bytes());
            (there || seen.open == 0).then_some(there)
        });
        if found != Some(true) {
            self.process.signal(Signal::KILL);
            panic!("never seen: `{text}`\n{}", self.describe());
        }
    }

    /// Types.
    pub fn write(&mut self, text: &str) {
        let input = self.input.as_mut().expect("an open input");
        input.write_all(text.as_bytes()).unwrap();
    }

    /// Ends its standard input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Ends its standard input and waits for its end.
    #[track_caller]
    pub fn finish_input(mut self) -> Outcome<'a> {
        self.close_input();
        self.finish()
    }

    /// Waits for its end, and for the end of what it printed.
    #[track_caller]
    pub fn finish(self) -> Outcome<'a> {
        let outcome = self.seen.wait(self.deadline, |seen| {
            let status = seen.status.filter(|_| seen.open == 0)?;
            Some((status, seen.stdout.clone(), seen.stderr.clone()))
        });
        let Some((status, stdout, stderr)) = outcome else {
            self.process.signal(Signal::KILL);
            let patience = self.patience;
            panic!("not finished within {patience:?}:\n{}", self.describe());
        };
        Outcome {
            host: self.host,
            what: self.what,
            status,
            stdout,
            stderr,
        }
    }

    fn describe(&self) -> String {
        let (mut stdout, mut stderr, mut status) = (Vec::new(), Vec::new(), None);
        self.seen.change(|seen| {
            stdout.clone_from(&seen.stdout);
            stderr.clone_from(&seen.stderr);
            status = seen.status;
        });
        describe(self.host, &self.what, status, &stdout, &stderr)
    }
}

fn describe(
    host: &Host,
    what: &str,
    status: Option<ExitStatus>,
    stdout: &[u8],
    stderr: &[u8],
) -> String {
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.chars().take(4000).collect::<String>()
    };
    let status = status.map_or("runs".to_owned(), |status| status.to_string());
    format!(
        "{what}: {status}\n--- stdout\n{}\n--- stderr\n{}\n--- log\n{}\n--- server.log\n{}",
        text(stdout),
        text(stderr),
        host.log_lines().join("\n"),
        host.server_log()
    )
}

/// What became of a command.
#[derive(Debug)]
pub struct Outcome<'a> {
    host: &'a Host,
    what: String,
    status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Outcome<'_> {
    fn describe(&self) -> String {
        describe(
            self.host,
            &self.what,
            Some(self.status),
            &self.stdout,
            &self.stderr,
        )
    }

    /// The status it ended with, unless a signal ended it.
    #[allow(dead_code, reason = "for the soak")]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// It ended with status 0.
    #[track_caller]
    pub fn succeeds(&self) -> &Self {
        self.exits(0)
    }

    /// It ended with this status.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert!(
            self.status.code() == Some(code),
            "status {code} was expected\n{}",
            self.describe()
        );
        self
    }

    /// Its command was told to end, by SIGTERM or, at once afterwards, by SIGKILL.
    #[track_caller]
    pub fn is_ended(&self) -> &Self {
        if !matches!(self.status.code(), Some(137 | 143)) {
            self.wrong("SIGTERM or SIGKILL was expected to have ended it");
        }
        self
    }

    /// A signal ended it.
    #[track_caller]
    pub fn dies_of(&self, signal: Signal) -> &Self {
        assert!(
            self.status.signal() == Some(signal.as_raw()),
            "{signal:?} was expected\n{}",
            self.describe()
        );
        self
    }

    /// Its standard output is exactly this.
    #[track_caller]
    pub fn prints(&self, text: &str) -> &Self {
        let printed = self.host.at_home(&String::from_utf8_lossy(&self.stdout));
        assert!(printed == text, "expected {text:?}\n{}", self.describe());
        self
    }

    /// Its standard error is exactly this.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        let said = String::from_utf8_lossy(&self.stderr);
        assert!(said == text, "expected {text:?}\n{}", self.describe());
        self
    }

    /// Its standard error contains this.
    #[track_caller]
    pub fn mentions(&self, text: &str) -> &Self {
        let said = String::from_utf8_lossy(&self.stderr);
        assert!(
            said.contains(text),
            "expected {text:?}\n{}",
            self.describe()
        );
        self
    }

    /// Its standard error does not contain this.
    #[track_caller]
    pub fn does_not_mention(&self, text: &str) -> &Self {
        let said = String::from_utf8_lossy(&self.stderr);
        assert!(
            !said.contains(text),
            "not expected: {text:?}\n{}",
            self.describe()
        );
        self
    }

    /// It failed in the one shape: `error:` with these words, then `hint:` with those, each on a line.
    #[track_caller]
    pub fn fails_with(&self, code: i32, error: &str, hint: &str) -> &Self {
        self.exits(code);
        let said = String::from_utf8_lossy(&self.stderr);
        let line = |prefix: &str| said.lines().filter(|line| line.starts_with(prefix)).count();
        let has = |prefix: &str, words: &str| {
            said.lines()
                .any(|line| line.starts_with(prefix) && line.contains(words))
        };
        assert!(
            line("error: ") == 1 && has("error: ", error),
            "one line `error: …{error}…` was expected\n{}",
            self.describe()
        );
        assert!(
            line("hint: ") == 1 && has("hint: ", hint),
            "one line `hint: …{hint}…` was expected\n{}",
            self.describe()
        );
        self
    }

    /// Its standard output.
    #[track_caller]
    pub fn text(&self) -> String {
        let text = String::from_utf8(self.stdout.clone());
        let text = text.unwrap_or_else(|_| panic!("not UTF-8\n{}", self.describe()));
        self.host.at_home(&text)
    }

    /// Its standard error.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Fails with everything there is to know about it.
    #[track_caller]
    pub fn wrong(&self, why: &str) -> ! {
        panic!("{why}\n{}", self.describe())
    }

    /// What it printed, looked at.
    #[track_caller]
    pub fn holds(&self, what: &str, look: impl FnOnce(&str) -> bool) -> &Self {
        if !look(&self.text()) {
            self.wrong(what);
        }
        self
    }
}

/// A descriptor that reads as nothing.
pub fn nothing() -> File {
    File::open("/dev/null").unwrap()
}

/// The text of the log in `folder`: its segments, one after the other.
pub fn log_text(folder: &Path) -> Vec<u8> {
    let mut segments: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    segments.sort();
    // The oldest may be dropped under our hands.
    segments
        .iter()
        .flat_map(|segment| fs::read(segment).unwrap_or_default())
        .collect()
}
