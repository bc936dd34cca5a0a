//! The server's side of its dynos: starts a supervisor for each, hears from them, passes clients on.
//!
//! Their sockets are watched by the server's reactor under tokens of their own; what they say comes back
//! as [`News`] for the server to put into the store. End of file on such a socket means that the supervisor
//! is dead, whether it was started or adopted: no pid is ever trusted.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;
use mio::{Interest, Token};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags};

use crate::control::{self, DynoSpec, FromSupervisor, ToSupervisor};
use crate::dyno::{DynoState, ExitRecord};
use crate::executable;
use crate::reactor::Reactor;
use crate::supervisor;
use crate::unix_socket::{self, SocketType};

/// A pipe that holds any spec at once, so that writing one never waits for the supervisor to read it.
const SPEC_PIPE: usize = 1024 * 1024;

/// How long a supervisor's socket may be too busy to connect to; it accepts at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a supervisor said, or its silence.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// A dyno changed its state.
    State {
        /// The dyno's id.
        dyno: String,
        /// What it is now.
        state: DynoState,
        /// Since when.
        at: Timestamp,
    },
    /// A dyno is over; its folder may go.
    Ended {
        /// The dyno's id.
        dyno: String,
        /// How it ended.
        record: ExitRecord,
    },
}

/// All live dynos of this server.
#[derive(Debug)]
pub struct Supervisors {
    folder: PathBuf,
    live: HashMap<Token, Live>,
    /// The tokens of live dynos, by id.
    tokens: HashMap<String, Token>,
    /// Supervisors that have said their last and will exit in a moment.
    leaving: Vec<Child>,
    /// One that is there for the next dyno.
    waiting: Option<Waiting>,
}

/// A supervisor that has no dyno yet.
#[derive(Debug)]
struct Waiting {
    child: Child,
    spec: io::PipeWriter,
    socket: OwnedFd,
}

#[derive(Debug)]
struct Live {
    dyno: String,
    socket: OwnedFd,
    uid: Option<u32>,
    port: Option<u16>,
    /// None for an adopted one, which is not our child.
    child: Option<Child>,
}

impl Supervisors {
    /// Dynos have their folders in `folder`, which is made if it is not there.
    pub fn new(folder: PathBuf) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        Ok(Self {
            folder,
            live: HashMap::new(),
            tokens: HashMap::new(),
            leaving: Vec::new(),
            waiting: None,
        })
    }

    /// The folder of a dyno.
    pub fn folder_of(&self, dyno: &str) -> PathBuf {
        self.folder.join(dyno)
    }

    /// How many dynos are alive.
    pub fn count(&self) -> usize {
        self.live.len()
    }

    /// Whether a live dyno runs as this host uid.
    pub fn uses_uid(&self, uid: u32) -> bool {
        self.live.values().any(|live| live.uid == Some(uid))
    }

    /// Whether a live dyno was given this port.
    pub fn uses_port(&self, port: u16) -> bool {
        self.live.values().any(|live| live.port == Some(port))
    }

    /// Starts a supervisor. From here on the dyno lives by itself.
    pub fn start(&mut self, spec: &DynoSpec, port: u16, reactor: &mut Reactor) -> Result<()> {
        let folder = self.folder_of(&spec.id);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .context("cannot make the dyno's folder")?;
        let started = self.give_spec(spec);
        let (child, socket) = started.inspect_err(|_| drop(fs::remove_dir_all(&folder)))?;
        let live = Live {
            dyno: spec.id.clone(),
            socket,
            uid: Some(spec.owner.0),
            port: Some(port),
            child: Some(child),
        };
        self.watch(live, reactor)
    }

    fn give_spec(&mut self, spec: &DynoSpec) -> Result<(Child, OwnedFd)> {
        let json = serde_json::to_vec(spec)?;
        if let Some(waiting) = self.waiting.take()
            && let Ok(started) = waiting.give(&json)
        {
            return Ok(started);
        }
        // There is none yet, or somebody has killed it.
        Waiting::spawn()?
            .give(&json)
            .context("cannot pass the spec on")
    }

    /// Has a supervisor ready for the next dyno, whose start then need not wait for one. To be called when nobody
    /// waits for an answer.
    pub fn prepare(&mut self) {
        if self.waiting.is_none() {
            // Without one, the next start makes its own, and says what is wrong.
            self.waiting = Waiting::spawn().ok();
        }
    }

    /// Finds the dynos that an earlier server left: the live ones are adopted, the ended ones reported. The first
    /// thing that a supervisor says is what its dyno is now; that is waited for, so that nobody is told what was.
    pub fn adopt_all(&mut self, reactor: &mut Reactor) -> Result<Vec<News>> {
        let mut news = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let dyno = entry.file_name().to_string_lossy().into_owned();
            let socket = entry.path().join(supervisor::SOCKET);
            match unix_socket::connect(&socket, SocketType::SEQPACKET, PATIENCE) {
                Ok(socket) => {
                    let scratch = fs::metadata(entry.path().join(supervisor::SCRATCH));
                    let uid = scratch.ok().map(|scratch| scratch.uid());
                    self.watch(
                        Live {
                            dyno,
                            socket,
                            uid,
                            port: None,
                            child: None,
                        },
                        reactor,
                    )?;
                }
                // Says nothing about the dyno; a server that forgot it now would forget it for ever.
                Err(error) if is_out_of_descriptors(&error) => {
                    let count = self.live.len();
                    return Err(error).context(format!("cannot take up more than {count} dynos"));
                }
                Err(_) => {
                    let record = supervisor::read_record(&entry.path())
                        .unwrap_or_else(|_| supervisor::lost_record());
                    news.push(News::Ended { dyno, record });
                }
            }
        }
        let deadline = Instant::now() + PATIENCE;
        let tokens: Vec<Token> = self.live.keys().copied().collect();
        for token in tokens {
            if let Some(live) = self.live.get(&token) {
                wait_for_word(&live.socket, deadline);
            }
            news.extend(self.hear(token, reactor));
        }
        Ok(news)
    }

    fn watch(&mut self, live: Live, reactor: &mut Reactor) -> Result<()> {
        let token = reactor.token();
        rustix::io::ioctl_fionbio(&live.socket, true)?;
        reactor.register(&live.socket, token, Interest::READABLE)?;
        self.tokens.insert(live.dyno.clone(), token);
        self.live.insert(token, live);
        Ok(())
    }

    /// Passes a client's connection on to its dyno. False when the dyno is not alive.
    pub fn attach(&self, dyno: &str, connection: &OwnedFd) -> bool {
        self.find(dyno).is_some_and(|live| {
            control::send(&live.socket, &ToSupervisor::Attach, &[connection.as_fd()]).is_ok()
        })
    }

    /// Has a dyno run a second command for the client on `connection`. False when it is not alive.
    pub fn run_inside(&self, dyno: &str, command: &ToSupervisor, connection: &OwnedFd) -> bool {
        self.find(dyno)
            .is_some_and(|live| control::send(&live.socket, command, &[connection.as_fd()]).is_ok())
    }

    /// Asks a dyno to end. False when it is not alive.
    pub fn stop(&self, dyno: &str, grace: f64) -> bool {
        self.find(dyno).is_some_and(|live| {
            control::send(&live.socket, &ToSupervisor::Stop { grace }, &[]).is_ok()
        })
    }

    /// Whether this dyno is alive.
    pub fn is_live(&self, dyno: &str) -> bool {
        self.find(dyno).is_some()
    }

    fn find(&self, dyno: &str) -> Option<&Live> {
        self.live.get(self.tokens.get(dyno)?)
    }

    /// Whether `token` is one of the supervisors'.
    pub fn knows(&self, token: Token) -> bool {
        self.live.contains_key(&token)
    }

    /// Takes what a supervisor has said.
    pub fn hear(&mut self, token: Token, reactor: &mut Reactor) -> Vec<News> {
        self.leaving
            .retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        let mut news = Vec::new();
        while let Some(live) = self.live.get(&token) {
            match control::receive::<FromSupervisor>(&live.socket) {
                Ok(Some((FromSupervisor::State { dyno, state, at_us }, _))) => {
                    let at =
                        Timestamp::from_microsecond(at_us).unwrap_or_else(|_| Timestamp::now());
                    news.push(News::State { dyno, state, at });
                }
                Ok(Some((FromSupervisor::Ended { dyno, record }, _))) => {
                    news.push(News::Ended { dyno, record });
                    self.forget(token, reactor);
                }
                Ok(Some((FromSupervisor::Unknown, _))) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(None) | Err(_) => {
                    // Dead without a last word; it may have left one on disk.
                    let record = supervisor::read_record(&self.folder_of(&live.dyno))
                        .unwrap_or_else(|_| supervisor::lost_record());
                    news.push(News::Ended {
                        dyno: live.dyno.clone(),
                        record,
                    });
                    self.forget(token, reactor);
                }
            }
        }
        news
    }

    fn forget(&mut self, token: Token, reactor: &mut Reactor) {
        if let Some(live) = self.live.remove(&token) {
            self.tokens.remove(&live.dyno);
            let _ = reactor.deregister(&live.socket, token);
            self.leaving.extend(live.child);
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// Waits until there is something to read, or the deadline has passed.
fn wait_for_word(socket: &OwnedFd, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut sources = [PollFd::new(socket, PollFlags::IN)];
    let left = Timespec::try_from(left).unwrap_or_default();
    let _ = rustix::event::poll(&mut sources, Some(&left));
}

impl Waiting {
    /// Starts a supervisor that waits for a spec. It leaves by itself if none comes before we do.
    fn spawn() -> Result<Self> {
        let (socket, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let (reader, spec) = io::pipe()?;
        // The running program itself, even when its file was replaced meanwhile.
        let child = Command::new(executable::PATH)
            .arg("__supervise")
            .env_clear()
            .stdin(Stdio::from(reader))
            .stdout(Stdio::from(theirs))
            .spawn()
            .context("cannot start a supervisor")?;
        Ok(Self {
            child,
            spec,
            socket,
        })
    }

    /// Gives it its dyno.
    fn give(mut self, json: &[u8]) -> io::Result<(Child, OwnedFd)> {
        // The default holds 64 KiB; writing must not wait for the supervisor to read.
        if json.len() > 64 * 1024 {
            rustix::pipe::fcntl_setpipe_size(&self.spec, SPEC_PIPE)?;
        }
        self.spec.write_all(json)?;
        Ok((self.child, self.socket))
    }
}
