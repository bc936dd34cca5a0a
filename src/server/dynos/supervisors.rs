//! The server's side of its dynos: starts a supervisor for each, hears from them, passes clients on.
//!
//! Their sockets are watched by the server's reactor under tokens of their own; what they say comes back
//! as [`DynoNews`] for the server to put into the store. No pid is ever trusted: after the end of file on such a
//! socket, and for every dyno that an earlier server left, the dyno's lock says whether anything of it is alive.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;
use mio::{Interest, Token};
use rustix::event::PollFlags;

use crate::kernel::fail_point;
use crate::kernel::listener::Listener;
use crate::kernel::open_files::are_exhausted;
use crate::kernel::unix_socket::{self, SocketType};
use crate::kernel::wait;
use crate::model::dyno::{DynoState, ExitRecord};
use crate::server::dynos::waiting::{NextDyno, Waiting};
use crate::supervisor::{self, Claim};
use crate::wire::control::{self, DynoSpec, FromSupervisor, ToSupervisor};
use crate::wire::handover::{Handover, Part};
use crate::wire::reactor::Reactor;

/// How long a supervisor's socket may be too busy to connect to; it accepts at once.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long a server that starts waits for dynos of which it is not clear whether they live: a supervisor that has
/// just begun, or processes that are just being killed. After that it serves, and looks at them now and then.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// How long a supervisor may take to send the sockets that it has kept.
const RETURN_TIME: Duration = Duration::from_secs(1);

/// Between two looks at what will be over in a moment: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));

/// How soon after its dyno has begun a client comes that means to attach to it; a later one may have to wait a moment.
const CLIENT_TIME: Duration = Duration::from_millis(20);

/// The folder beside that of the dynos, for those that have a sandbox but have not begun.
const PREPARED: &str = "prepared";

/// What a supervisor said, or its silence.
#[derive(Debug)]
pub enum DynoNews {
    /// A dyno changed its state.
    State {
        /// The dyno's id.
        dyno: String,
        /// What it is now.
        state: DynoState,
        /// Since when.
        at: Timestamp,
        /// The socket of the dyno's that listens on its port.
        listener: Option<Listener>,
    },
    /// A dyno is over; its supervisor has said so and cleared up, and its folder may go.
    Ended {
        /// The dyno's id.
        dyno: String,
        /// How it ended.
        record: ExitRecord,
    },
    /// A dyno is over, and its supervisor did not get to say so.
    Gone(LostDyno),
}

/// A dyno that is over and whose supervisor did not tell how. As long as this is held, no other process may have its folder.
#[derive(Debug)]
pub struct LostDyno {
    /// The dyno's id.
    pub dyno: String,
    /// None if there is no folder.
    _claim: Option<Claim>,
}

/// A dyno that is not heard any more, or not yet, and may or may not be alive.
#[derive(Debug)]
struct Unsettled {
    dyno: String,
    since: Instant,
}

/// All live dynos of this server.
#[derive(Debug)]
pub struct Supervisors {
    folder: PathBuf,
    live: HashMap<Token, Live>,
    unsettled: Vec<Unsettled>,
    /// The tokens of live dynos, by id.
    tokens: HashMap<String, Token>,
    /// Supervisors that have said their last and will exit in a moment, and since when.
    leaving: Vec<(Child, Instant)>,
    /// Its deadline is the next look at the unsettled and the leaving.
    look_token: Token,
    /// One that is there for the next dyno. It keeps no sockets: it leaves when the server does.
    waiting: Option<Waiting>,
    /// What supervisors have sent of the sockets of the server before this one.
    returned: Handover,
    /// Which state of the server's sockets all supervisors keep.
    all_keep: Option<u64>,
}

#[derive(Debug)]
struct Live {
    dyno: String,
    socket: OwnedFd,
    uid: Option<u32>,
    port: Option<u16>,
    /// None for an adopted one, which is not our child.
    child: Option<Child>,
    /// Which state of the server's sockets it keeps; 0: none of this server's.
    keeps: u64,
    /// Whether it keeps sockets of the server before.
    has_kept: bool,
    /// Until when its client is about to come; None once it has, or where none is to come.
    client_due: Option<Instant>,
}

impl Supervisors {
    /// Dynos have their folders in `folder`, which is made if it is not there.
    pub fn new(folder: PathBuf, reactor: &mut Reactor) -> Result<Self> {
        let prepared = folder.with_file_name(PREPARED);
        for folder in [&folder, &prepared] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        supervisor::sweep_prepared(&prepared);
        Ok(Self {
            folder,
            live: HashMap::new(),
            unsettled: Vec::new(),
            tokens: HashMap::new(),
            leaving: Vec::new(),
            look_token: reactor.token(),
            waiting: None,
            returned: Handover::default(),
            all_keep: None,
        })
    }

    /// The folder of a dyno.
    pub fn folder_of(&self, dyno: &str) -> PathBuf {
        self.folder.join(dyno)
    }

    /// How many dynos are alive, or may be.
    pub fn count(&self) -> usize {
        self.live.len() + self.unsettled.len()
    }

    /// Whether a live dyno runs as this host uid, or the next one will.
    pub fn uses_uid(&self, uid: u32) -> bool {
        let next = self.waiting.as_ref().and_then(Waiting::owner);
        next.is_some_and(|(next, _)| next == uid)
            || self.live.values().any(|live| live.uid == Some(uid))
    }

    /// Whether a live dyno was given this port.
    pub fn uses_port(&self, port: u16) -> bool {
        self.dyno_with_port(port).is_some()
    }

    /// The id of the live dyno that was given this port.
    pub fn dyno_with_port(&self, port: u16) -> Option<&str> {
        let live = self.live.values().find(|live| live.port == Some(port));
        live.map(|live| &*live.dyno)
    }

    /// Starts a supervisor. From here on the dyno lives by itself, and holds the `claims` to its port and uid.
    pub fn start(
        &mut self,
        spec: &DynoSpec,
        claims: &[OwnedFd],
        reactor: &mut Reactor,
    ) -> Result<()> {
        let folder = self.folder_of(&spec.id);
        let lock = make_folder(&folder).context("cannot make the dyno's folder")?;
        let started = fail_point::attempt("dyno.folder_made")
            .map_err(Into::into)
            .and_then(|()| self.give_spec(spec, &lock, claims));
        let (child, socket) = started.inspect_err(|_| drop(fs::remove_dir_all(&folder)))?;
        fail_point::reach("dyno.spec_sent");
        let live = Live {
            dyno: spec.id.clone(),
            socket,
            uid: Some(spec.owner.0),
            port: Some(spec.port),
            child: Some(child),
            keeps: 0,
            has_kept: false,
            client_due: spec.rules.attached.then(|| Instant::now() + CLIENT_TIME),
        };
        Ok(self.watch(live, reactor)?)
    }

    fn give_spec(
        &mut self,
        spec: &DynoSpec,
        lock: &Claim,
        claims: &[OwnedFd],
    ) -> Result<(Child, OwnedFd)> {
        let waiting = self.waiting.take_if(|waiting| waiting.can_take(&spec.id));
        if let Some(waiting) = waiting
            && let Ok(started) = waiting.give(spec, lock, claims)
        {
            return Ok(started);
        }
        // There is none yet, or it was killed.
        Waiting::spawn()?.give(spec, lock, claims)
    }

    /// Whether [`prepare`](Self::prepare) has something to do, and no client is just coming to its dyno, which it would keep waiting.
    pub fn wants_waiting(&mut self, has_next: bool) -> bool {
        let lacks_one = match &mut self.waiting {
            None => true,
            Some(waiting) => has_next && waiting.next().is_none(),
        };
        let now = Instant::now();
        let mut due = self.live.values().filter_map(|live| live.client_due);
        lacks_one && !due.any(|due| now < due)
    }

    /// Has a supervisor ready for the next dyno, whose start then need not wait for one, and has it make that dyno's sandbox,
    /// if it is known which one may come. To be called when no client waits for an answer.
    pub(super) fn prepare(&mut self, next: Option<(DynoSpec, NextDyno)>, reactor: &mut Reactor) {
        self.dismiss_waiting(reactor);
        let prepared = self.folder.with_file_name(PREPARED);
        supervisor::sweep_prepared(&prepared);
        // Without one, the next start makes its own, and says what is wrong.
        let mut waiting = Waiting::spawn().ok();
        if let Some((mut spec, next)) = next
            && let Some(waiting) = &mut waiting
        {
            spec.folder = prepared.join(&next.id);
            let _ = make_folder(&spec.folder).map(|lock| waiting.prepare(&spec, &lock, next));
        }
        self.waiting = waiting;
    }

    /// The dyno that has a sandbox already, if it is of this release.
    pub(super) fn next_dyno(&mut self, release: &str) -> Option<&mut NextDyno> {
        let next = self.waiting.as_mut()?.next()?;
        (next.release == release).then_some(next)
    }

    /// The dyno of this id, if it has a sandbox already.
    pub(super) fn prepared_dyno(&mut self, id: &str) -> Option<&mut NextDyno> {
        self.waiting.as_mut()?.next().filter(|next| next.id == id)
    }

    /// Has the supervisor that waits leave.
    pub fn dismiss_waiting(&mut self, reactor: &mut Reactor) {
        if let Some(waiting) = self.waiting.take() {
            self.leaving.push((waiting.dismiss(), Instant::now()));
            self.look_again(reactor);
        }
    }

    /// Finds the dynos that an earlier server left: the live ones are adopted, what is left of the others is told. The
    /// first thing that a supervisor says is what its dyno is now; that is waited for, so that no client is told of a state that is over.
    pub fn adopt_all(&mut self, reactor: &mut Reactor) -> Result<Vec<DynoNews>> {
        for entry in fs::read_dir(&self.folder)? {
            let dyno = entry?.file_name().to_string_lossy().into_owned();
            self.unsettle(dyno, reactor);
        }
        let deadline = Instant::now() + SETTLE_TIME;
        let (mut news, mut greeted) = (Vec::new(), HashSet::new());
        loop {
            let (over, trouble) = self.look_once(reactor);
            if trouble.as_ref().is_some_and(are_exhausted) {
                let count = self.live.len();
                return trouble
                    .map_or(Ok(news), Err)
                    .context(format!("cannot take up more than {count} dynos"));
            }
            news.extend(over.into_iter().map(DynoNews::Gone));
            let adopted: Vec<Token> = self.live.keys().copied().collect();
            for token in adopted {
                if greeted.insert(token)
                    && let Some(live) = self.live.get(&token)
                {
                    let _ = wait::until(&live.socket, PollFlags::IN, Some(deadline));
                    news.extend(self.hear(token, reactor));
                }
            }
            if self.unsettled.is_empty() || Instant::now() > deadline {
                news.extend(self.take_sockets_back(reactor));
                return Ok(news);
            }
            thread::sleep(PAUSES.0);
        }
    }

    /// Looks once at every dyno of which it was not clear whether it lives, and at supervisors that are about to exit.
    /// Returns what is left of those that are over, and why nothing could be found out about one, if that is so; asks for
    /// another look at the others.
    fn look_once(&mut self, reactor: &mut Reactor) -> (Vec<LostDyno>, Option<io::Error>) {
        self.leaving
            .retain_mut(|(child, _)| !matches!(child.try_wait(), Ok(Some(_))));
        let (mut over, mut trouble) = (Vec::new(), None);
        for unsettled in std::mem::take(&mut self.unsettled) {
            match self.look_at(&unsettled.dyno, reactor) {
                Ok(Found::Alive) => {}
                Ok(Found::Unclear) => self.unsettled.push(unsettled),
                Ok(Found::Over(claim)) => over.push(LostDyno {
                    dyno: unsettled.dyno,
                    _claim: claim,
                }),
                Err(error) => {
                    self.unsettled.push(unsettled);
                    trouble = Some(error);
                }
            }
        }
        self.look_again(reactor);
        (over, trouble)
    }

    /// Sees to it that there is another look if one is needed: soon at first, then ever more seldom.
    fn look_again(&self, reactor: &mut Reactor) {
        let now = Instant::now();
        let unsettled = self.unsettled.iter().map(|unsettled| unsettled.since);
        let waiting = unsettled.chain(self.leaving.iter().map(|(_, since)| *since));
        let pauses = waiting.map(|since| ((now - since) / 2).clamp(PAUSES.0, PAUSES.1));
        match pauses.min() {
            Some(pause) => reactor.set_deadline(self.look_token, now + pause),
            None => reactor.cancel_deadline(self.look_token),
        }
    }

    fn look_at(&mut self, dyno: &str, reactor: &mut Reactor) -> io::Result<Found> {
        let folder = self.folder_of(dyno);
        match supervisor::claim(&folder) {
            Ok(Some(claim)) => return Ok(Found::Over(Some(claim))),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Over(None)),
            Err(error) => return Err(error),
        }
        let socket = folder.join(supervisor::SOCKET);
        let socket = match unix_socket::connect(&socket, SocketType::SEQPACKET, PATIENCE) {
            Ok(socket) => socket,
            Err(error) if are_exhausted(&error) => return Err(error),
            Err(_) => return Ok(Found::Unclear),
        };
        let scratch = fs::metadata(folder.join(supervisor::SCRATCH));
        let adopted = Live {
            dyno: dyno.to_owned(),
            socket,
            uid: scratch.ok().map(|scratch| scratch.uid()),
            port: None,
            child: None,
            keeps: 0,
            has_kept: false,
            client_due: None,
        };
        self.watch(adopted, reactor)?;
        Ok(Found::Alive)
    }

    /// Finds out soon whether a dyno is alive that is not heard any more.
    pub fn unsettle(&mut self, dyno: String, reactor: &mut Reactor) {
        let since = Instant::now();
        self.unsettled.push(Unsettled { dyno, since });
        self.look_again(reactor);
    }

    fn watch(&mut self, live: Live, reactor: &mut Reactor) -> io::Result<()> {
        let token = reactor.token();
        rustix::io::ioctl_fionbio(&live.socket, true)?;
        reactor.register(&live.socket, token, Interest::READABLE)?;
        self.tokens.insert(live.dyno.clone(), token);
        self.live.insert(token, live);
        self.all_keep = None;
        Ok(())
    }

    /// Has all supervisors keep the server's sockets at ports: `estate`, in a state with this number, from 1 on. One that
    /// cannot take them now gets them at a later call.
    pub fn keep_sockets(&mut self, estate: &Handover, state: u64, turn_away: bool) {
        if self.all_keep == Some(state) {
            return;
        }
        let parts: Vec<_> = estate
            .parts()
            .filter(|(part, _)| Part::PORTS.contains(part))
            .collect();
        let names = parts.iter().map(|(part, _)| part.name().to_owned());
        let keep = ToSupervisor::KeepSockets {
            names: names.collect(),
            turn_away,
        };
        let fds: Vec<_> = parts.iter().map(|(_, fd)| fd.as_fd()).collect();
        let mut all = true;
        for live in self.live.values_mut().filter(|live| live.keeps != state) {
            match control::send(&live.socket, &keep, &fds) {
                Ok(()) => live.keeps = state,
                Err(_) => all = false,
            }
        }
        if all {
            self.all_keep = Some(state);
        }
    }

    /// Whether any supervisor keeps the server's sockets.
    pub fn keep_any(&self) -> bool {
        self.live.values().any(|live| live.keeps > 0)
    }

    /// The sockets of the server before this one that supervisors have kept.
    pub fn returned(&mut self) -> Handover {
        std::mem::take(&mut self.returned)
    }

    /// Asks supervisors for the sockets of the server before this one, until one has sent them.
    fn take_sockets_back(&mut self, reactor: &mut Reactor) -> Vec<DynoNews> {
        let having = self.live.iter().filter(|(_, live)| live.has_kept);
        let having: Vec<Token> = having.map(|(token, _)| *token).collect();
        let mut news = Vec::new();
        for token in having {
            let deadline = Instant::now() + RETURN_TIME;
            let Some(live) = self.live.get(&token) else {
                continue;
            };
            if control::send(&live.socket, &ToSupervisor::ReturnSockets, &[]).is_err() {
                continue;
            }
            while self.returned.is_empty()
                && let Some(live) = self.live.get(&token)
                && let Ok(Some(_)) = wait::until(&live.socket, PollFlags::IN, Some(deadline))
            {
                news.extend(self.hear(token, reactor));
            }
            if !self.returned.is_empty() {
                break;
            }
        }
        news
    }

    /// Passes a client's connection on to its dyno. False when the dyno is not alive.
    pub fn pass_on(&mut self, dyno: &str, ask: &ToSupervisor, connection: &OwnedFd) -> bool {
        let live = self.tokens.get(dyno);
        live.and_then(|token| self.live.get_mut(token))
            .is_some_and(|live| {
                live.client_due = None;
                control::send(&live.socket, ask, &[connection.as_fd()]).is_ok()
            })
    }

    /// Says something to a dyno's supervisor. False when it is not alive.
    pub fn tell(&self, dyno: &str, message: &ToSupervisor) -> bool {
        self.find(dyno)
            .is_some_and(|live| control::send(&live.socket, message, &[]).is_ok())
    }

    /// Says something to the supervisors of all dynos.
    pub fn tell_all(&self, message: &ToSupervisor) {
        for live in self.live.values() {
            let _ = control::send(&live.socket, message, &[]);
        }
    }

    /// Whether this dyno is alive.
    pub fn is_live(&self, dyno: &str) -> bool {
        self.find(dyno).is_some()
    }

    /// Whether this dyno is alive, or may be.
    pub fn may_live(&self, dyno: &str) -> bool {
        self.is_live(dyno)
            || self
                .unsettled
                .iter()
                .any(|unsettled| unsettled.dyno == dyno)
    }

    fn find(&self, dyno: &str) -> Option<&Live> {
        self.live.get(self.tokens.get(dyno)?)
    }

    /// Whether `token` is one of the supervisors'.
    pub fn knows(&self, token: Token) -> bool {
        token == self.look_token || self.live.contains_key(&token)
    }

    /// Takes what a supervisor has said, or looks again at what was not clear.
    pub fn hear(&mut self, token: Token, reactor: &mut Reactor) -> Vec<DynoNews> {
        let mut news = Vec::new();
        let mut listening = true;
        while listening && let Some(live) = self.live.get(&token) {
            match control::receive::<FromSupervisor>(&live.socket) {
                Ok(Some((
                    FromSupervisor::State {
                        dyno,
                        state,
                        at_us,
                        port,
                        listener,
                        keeps_sockets,
                    },
                    _,
                ))) => {
                    if let Some(live) = self.live.get_mut(&token) {
                        live.port = port.or(live.port);
                        live.has_kept = keeps_sockets;
                    }
                    let at =
                        Timestamp::from_microsecond(at_us).unwrap_or_else(|_| Timestamp::now());
                    news.push(DynoNews::State {
                        dyno,
                        state,
                        at,
                        listener,
                    });
                }
                Ok(Some((FromSupervisor::Ended { dyno, record }, _))) => {
                    news.push(DynoNews::Ended { dyno, record });
                    self.forget(token, reactor);
                }
                Ok(Some((FromSupervisor::Sockets { names }, fds))) => {
                    let names = names.iter().map(String::as_str);
                    self.returned = Handover::of(names, fds).unwrap_or_default();
                }
                Ok(Some((FromSupervisor::Unknown, _))) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => listening = false,
                Ok(None) | Err(_) => {
                    // As a rule it is dead, and everything in the dyno ends with it.
                    if let Some(dyno) = self.forget(token, reactor) {
                        self.unsettle(dyno, reactor);
                    }
                }
            }
        }
        news.extend(self.look_once(reactor).0.into_iter().map(DynoNews::Gone));
        news
    }

    fn forget(&mut self, token: Token, reactor: &mut Reactor) -> Option<String> {
        let live = self.live.remove(&token)?;
        self.tokens.remove(&live.dyno);
        let _ = reactor.deregister(&live.socket, token);
        let now = Instant::now();
        self.leaving.extend(live.child.map(|child| (child, now)));
        Some(live.dyno)
    }
}

/// What a look at a dyno has shown.
enum Found {
    /// Its supervisor, which is watched now.
    Alive,
    /// No supervisor. None if there is no folder either.
    Over(Option<Claim>),
    /// Something of it, but no supervisor that listens.
    Unclear,
}

/// Makes a dyno's folder, and takes its lock.
fn make_folder(folder: &Path) -> io::Result<Claim> {
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    let lock = supervisor::claim(folder);
    let lock = lock.and_then(|lock| lock.ok_or(io::ErrorKind::WouldBlock.into()));
    lock.inspect_err(|_| drop(fs::remove_dir_all(folder)))
}
