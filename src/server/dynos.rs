//! What the server does with dynos: gives each its row, its spec and its supervisor, and writes down what becomes
//! of it. The rules are elsewhere (`command_line`, `dyno`, `store`); this is where they meet.

pub mod end_waiters;
pub mod formations;
pub mod host_watch;
pub mod lost;
pub mod supervisors;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::Timestamp;

use crate::api::ApiError;
use crate::api::dyno::{CreateDyno, RunInside};
use crate::error::tell;
use crate::kernel::listener::{self, Listener};
use crate::kernel::random;
use crate::model::command_line;
use crate::model::dyno::env::{DynoPaths, EnvSources, compose};
use crate::model::dyno::life::{OfFormation, Rules, StopReason};
use crate::model::dyno::{
    Attach, ClientTerminal, Dyno, DynoEnd, DynoLimits, DynoState, EndReason, Exit, ExitRecord,
    Isolation,
};
use crate::model::log_line::Story;
use crate::model::release::Release;
use crate::model::settings::{Settings, UID_COUNT};
use crate::model::window::WindowSize;
use crate::sandbox::offer::{ChosenIsolation, DynoIds};
use crate::sandbox::stack::Stack;
use crate::sandbox::tempdir;
use crate::server::dynos::host_watch::HostWatch;
use crate::server::dynos::lost::Known;
use crate::server::dynos::supervisors::{LostDyno, News, Supervisors};
use crate::server::process::descriptors::Descriptors;
use crate::server::records::Records;
use crate::server::sessions::start_extras::{LiveOwner, StartExtras, live_owner};
use crate::slug::Lease;
use crate::store::{NewDyno, Store, StoreError, StoreErrorKind};
use crate::supervisor::SCRATCH;
use crate::wire::control::{DynoSpec, Streams, ToSupervisor};
use crate::wire::reactor::{Event, Reactor, Token};

/// The account that everything is done by: the one user of this host's server.
pub const USER: &str = "dyno@localhost";

/// How much of what went wrong is remembered, in characters.
const LONGEST_MESSAGE: usize = 1_000;

/// How long after a disk that was too full it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What a dyno is to run, and how.
struct Run<'a> {
    release: &'a Release,
    shell_command: String,
    /// What comes on top of everybody's environment.
    env: BTreeMap<String, String>,
    streams: Streams,
    terminal: ClientTerminal,
    rules: Rules,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Dynos {
    supervisors: Supervisors,
    settings: Settings,
    chosen: ChosenIsolation,
    descriptors: Descriptors,
    /// Folders that no dyno must see: the state, and the home of the server's user.
    hidden: Vec<PathBuf>,
    /// Where the search for a free port and uid goes on, so that one just freed is not the next.
    next_port: u16,
    next_uid: u32,
    /// The trees that dynos run on, by their ids: as long as a dyno lives, its tree stays.
    trees: HashMap<String, Lease>,
    /// Of those that serve requests, the sockets that listen, by the dynos' ids.
    listeners: HashMap<String, Listener>,
    /// What the dynos of a `dyno start` have beside others, by their apps' ids.
    start_extras: HashMap<String, StartExtras>,
    /// What could not be written down yet, and when to try again.
    unwritten: Vec<News>,
    retry_token: Token,
    /// None where dynos have the host's own files.
    host_watch: Option<HostWatch>,
}

impl Dynos {
    /// The dynos of the server whose state is in `home`.
    pub fn new(
        home: &Path,
        settings: Settings,
        chosen: ChosenIsolation,
        descriptors: Descriptors,
        reactor: &mut Reactor,
    ) -> Result<Self> {
        Ok(Self {
            descriptors,
            supervisors: Supervisors::new(home.join("dynos"), reactor)?,
            next_port: *settings.ports.start(),
            next_uid: 0,
            hidden: [Some(home.as_os_str().to_owned()), std::env::var_os("HOME")]
                .into_iter()
                .flatten()
                .filter_map(|folder| Path::new(&folder).canonicalize().ok())
                .collect(),
            settings,
            host_watch: (chosen.isolation == Isolation::Namespaces)
                .then(|| HostWatch::begin(Stack::host(), reactor)),
            chosen,
            trees: HashMap::new(),
            listeners: HashMap::new(),
            start_extras: HashMap::new(),
            unwritten: Vec::new(),
            retry_token: reactor.token(),
        })
    }

    /// How they are kept apart, in words.
    pub fn isolation(&self) -> String {
        self.chosen.to_string()
    }

    /// How they are kept apart.
    pub fn chosen(&self) -> &ChosenIsolation {
        &self.chosen
    }

    /// Gives the dynos of an app, from now on, what the dynos of a `dyno start` have beside others.
    pub fn set_start_extras(&mut self, app_id: &str, extras: StartExtras) {
        self.start_extras.insert(app_id.to_owned(), extras);
    }

    /// Forgets what the dynos of an app have beside others: it was destroyed.
    pub fn forget_start_extras(&mut self, app_id: &str) {
        self.start_extras.remove(app_id);
    }

    /// Whether a live dyno was given this port.
    pub fn uses_port(&self, port: u16) -> bool {
        self.supervisors.uses_port(port)
    }

    /// The id of the live dyno that was given this port.
    pub fn dyno_with_port(&self, port: u16) -> Option<&str> {
        self.supervisors.dyno_with_port(port)
    }

    /// How many are alive.
    pub fn count(&self) -> usize {
        self.supervisors.count()
    }

    /// How many more the server can have.
    pub fn room(&self) -> u32 {
        let room = self.descriptors.dynos.saturating_sub(self.count());
        u32::try_from(room).unwrap_or(u32::MAX)
    }

    /// Whether nothing is to be done for any: none is alive, and what became of them is written down.
    pub fn are_done(&self) -> bool {
        self.count() == 0 && self.unwritten.is_empty()
    }

    /// Gets ready for the next one; see [`Supervisors::prepare`].
    pub fn prepare(&mut self) {
        self.supervisors.prepare();
    }

    /// Whether this one is alive.
    pub fn is_live(&self, id: &str) -> bool {
        self.supervisors.is_live(id)
    }

    /// Whether a dyno's supervisor has written down how it ended, which it may not have told yet.
    pub fn is_over(&self, id: &str) -> bool {
        crate::supervisor::read_record(&self.supervisors.folder_of(id)).is_ok()
    }

    /// Takes up what an earlier server left. Rows that have no folder any more ended with it.
    pub fn adopt(&mut self, records: &mut Records, reactor: &mut Reactor) -> Result<()> {
        let mut told = HashMap::new();
        for news in self.supervisors.adopt_all(reactor)? {
            if let News::State { dyno, state, .. } = &news {
                told.insert(dyno.clone(), *state);
            }
            match news {
                News::Gone(remains) => {
                    let cleanup = self.cleanup(remains, records);
                    let record = cleanup.perform();
                    self.cleaned_up(cleanup, record, &mut records.store, reactor);
                }
                other => drop(self.note_now_or_later(other, &mut records.store, reactor)),
            }
        }
        for row in records.store.live_dynos(None)? {
            if self.supervisors.may_live(&row.id) {
                // Retired by a server that was killed before it could say so.
                let unaware = told
                    .get(&row.id)
                    .is_some_and(|state| *state != DynoState::Down);
                if row.state == DynoState::Down && unaware {
                    self.retire(&row.id, StopReason::Restarted, Duration::ZERO);
                }
                let release = records.store.release(&row.app_id, &row.release_id)?;
                let slug = release.digest.and_then(|digest| digest.parse().ok());
                self.trees
                    .extend(slug.map(|slug| (row.id, records.slugs.lease(&slug))));
            } else {
                let folder = self.supervisors.folder_of(&row.id);
                let record = lost::settle(&folder, Known::new(&row, records).as_ref());
                let dyno = row.id;
                self.note_now_or_later(News::Ended { dyno, record }, &mut records.store, reactor);
            }
        }
        Ok(())
    }

    /// The work that is left of a dyno whose supervisor was killed.
    pub fn cleanup(&self, remains: LostDyno, records: &Records) -> Cleanup {
        let row = records.store.dyno_of_id(&remains.dyno).ok();
        Cleanup {
            folder: self.supervisors.folder_of(&remains.dyno),
            known: row.and_then(|row| Known::new(&row, records)),
            remains,
        }
    }

    /// Writes down the end that a cleanup has found. Returns the dyno's id if it has ended by it.
    pub fn cleaned_up(
        &mut self,
        cleanup: Cleanup,
        record: ExitRecord,
        store: &mut Store,
        reactor: &mut Reactor,
    ) -> Option<String> {
        let dyno = cleanup.remains.dyno.clone();
        self.note_now_or_later(News::Ended { dyno, record }, store, reactor)
    }

    /// Comes back soon to a cleanup for which no worker has time now.
    pub fn put_off(&mut self, dyno: String, reactor: &mut Reactor) {
        self.supervisors.unsettle(dyno, reactor);
    }

    /// Starts a one-off dyno on `release`, whose slug's tree this is.
    ///
    /// # Errors
    /// For whoever asked for it.
    pub fn create(
        &mut self,
        records: &mut Records,
        release: &Release,
        tree: Option<Lease>,
        request: &CreateDyno,
        reactor: &mut Reactor,
    ) -> Result<Dyno, ApiError> {
        let shell_command = command_line::resolve(&request.command, &release.process_types);
        command_line::check(&shell_command)?;
        self.check_descriptors()?;
        let new = NewDyno {
            process_type: request.r#type.clone(),
            command: request.command.clone(),
            size: request.size,
            attach: request.kind(),
            limits: DynoLimits::of(&self.settings),
        };
        let dyno = records
            .store
            .create_dyno(&release.app_id, &new, Timestamp::now())?;
        records.log(&dyno.app_id, Story::starting(&dyno.command));
        let run = Run {
            release,
            shell_command,
            env: command_env(&request.env, request.kind() == Attach::Terminal),
            streams: streams(request),
            terminal: request.terminal.clone(),
            rules: Rules {
                attached: request.attach,
                lifetime: lifetime(&self.settings)
                    .map_err(|error| ApiError::internal(format!("{error:#}")))?,
                time_to_live: request
                    .time_to_live
                    .map(|seconds| Duration::from_secs(seconds.into())),
                ..self.rules()
            },
        };
        match self.start(records, &dyno, run, tree, reactor) {
            Ok(()) => Ok(dyno),
            Err(error) => {
                let message = format!("cannot start `{}`: {error:#}", dyno.name);
                Err(ApiError::internal(message))
            }
        }
    }

    /// Starts a dyno that nobody is attached to: one of the formation, or of a release phase. Its row says which.
    ///
    /// # Errors
    /// When it cannot be started; its end is written down then.
    pub fn start_detached(
        &mut self,
        records: &mut Records,
        dyno: &Dyno,
        release: &Release,
        tree: Option<Lease>,
        reactor: &mut Reactor,
    ) -> Result<()> {
        // Those who take each other's places are cycled by the server; the supervisor sees to it that none gets older
        // than it may, even without one.
        let (lifetime, formation) = match dyno.formation {
            true => (
                self.settings.lifetime + self.settings.lifetime_spread,
                Some(OfFormation {
                    boot_timeout: dyno.name.is_web().then_some(self.settings.boot_timeout),
                }),
            ),
            false => (self.settings.lifetime, None),
        };
        let time_to_live = (!dyno.formation).then_some(self.settings.release_timeout);
        let run = Run {
            release,
            shell_command: dyno.command.clone(),
            env: BTreeMap::new(),
            streams: Streams::Output,
            terminal: ClientTerminal::default(),
            rules: Rules {
                lifetime,
                time_to_live,
                formation,
                ..self.rules()
            },
        };
        self.start(records, dyno, run, tree, reactor)
    }

    /// Starts a dyno that has its row; what goes wrong ends it, and is written down.
    fn start(
        &mut self,
        records: &mut Records,
        dyno: &Dyno,
        run: Run<'_>,
        tree: Option<Lease>,
        reactor: &mut Reactor,
    ) -> Result<()> {
        let path = tree.as_ref().map_or(Path::new(""), Lease::tree).to_owned();
        let started = self
            .spec(records, dyno, run, path)
            .and_then(|(spec, port)| self.supervisors.start(&spec, port.as_ref(), reactor));
        match &started {
            Ok(()) => self.trees.extend(tree.map(|tree| (dyno.id.clone(), tree))),
            Err(error) => {
                let record = ExitRecord {
                    state: DynoState::Crashed,
                    exit: Exit::Unknown,
                    reason: EndReason::StartFailed,
                    message: Some(format!("{error:#}")),
                    at_us: None,
                };
                let dyno = dyno.id.clone();
                self.note_now_or_later(News::Ended { dyno, record }, &mut records.store, reactor);
            }
        }
        started
    }

    /// Whether one more dyno is within what the server may have open.
    fn check_descriptors(&self) -> Result<(), ApiError> {
        let Descriptors { dynos, limit, .. } = self.descriptors;
        if self.count() < dynos {
            return Ok(());
        }
        Err(ApiError::too_many(format!(
            "{dynos} dynos are alive, which is as many as the server can have: it may have {limit} files open"
        ))
        .hint("start the server with a higher limit: `ulimit -Hn`, or `LimitNOFILE=` of its unit"))
    }

    /// The rules of a detached one-off by the settings.
    fn rules(&self) -> Rules {
        let settings = &self.settings;
        Rules {
            attached: false,
            attach_timeout: settings.attach_timeout,
            hangup_interval: settings.hangup_interval,
            hangup_count: settings.hangup_count,
            idle_timeout: settings.idle_timeout,
            lifetime: settings.lifetime,
            time_to_live: None,
            stop_grace: settings.stop_grace,
            formation: None,
        }
    }

    fn spec(
        &mut self,
        records: &Records,
        dyno: &Dyno,
        run: Run<'_>,
        tree: PathBuf,
    ) -> Result<(DynoSpec, Option<OwnedFd>)> {
        let release = run.release;
        let extras = self.start_extras.get(&dyno.app_id);
        let dot_env = extras.map_or_else(BTreeMap::new, |extras| extras.env.clone());
        let own_port = extras.and_then(|extras| extras.port_of(&dyno.name));
        let live = extras.and_then(|extras| extras.live.clone());
        // Many a program that watches files ends when its input does, by which it knows that its terminal is gone.
        let streams = match extras.is_some() && run.rules.formation.is_some() {
            true => Streams::OutputAndOpenInput,
            false => run.streams,
        };
        let (port, claim) = match own_port {
            // Its predecessor may just be giving it back; what else has it, the program itself will find.
            Some(port) => (port, listener::claim_port(port).ok()),
            None => self.free_port().map(|(port, claim)| (port, Some(claim)))?,
        };
        let live_owner = live
            .as_ref()
            .map(|folder| live_owner(folder, &self.chosen))
            .transpose()?;
        let owner = match live_owner {
            Some(LiveOwner::Ids(ids)) => ids,
            Some(LiveOwner::MappedFromRoot) | None => self.free_owner(),
        };
        let place = self.place(&dyno.id, live.as_deref())?;
        let config = records.store.release_config(&release.id)?;
        let env = compose(&EnvSources {
            name: &dyno.name,
            place: &place,
            port,
            toolchains: &release.toolchains,
            dot_env: &dot_env,
            config: &config,
            request: &run.env,
        });
        let folders = release.toolchains.folders.iter().map(PathBuf::from);
        let spec = DynoSpec {
            id: dyno.id.clone(),
            name: dyno.name.to_string(),
            port,
            app_id: dyno.app_id.clone(),
            app: dyno.app_name.to_string(),
            command: dyno.command.clone(),
            shell_command: run.shell_command,
            env,
            streams,
            terminal: run.terminal,
            rules: run.rules,
            folder: self.supervisors.folder_of(&dyno.id),
            logs: records.log_folder(&dyno.app_id),
            log_limits: records.log_limits(),
            tree: live.unwrap_or(tree),
            live: live_owner.map(LiveOwner::live),
            isolation: self.chosen.isolation,
            id_mapped: self.chosen.id_mapped,
            owner,
            privileged: rustix::process::geteuid().is_root(),
            hidden: self.hidden.clone(),
            toolchains: folders.filter(|folder| folder.exists()).collect(),
            app_path: release.toolchains.app.as_ref().map(PathBuf::from),
            shared_memory: u32::try_from(self.settings.shm_size >> 20).unwrap_or(u32::MAX),
            open_files: Some(self.descriptors.original),
        };
        Ok((spec, claim))
    }

    /// Where the dyno `id` is to its own processes; `live` if it works in a folder of the user's.
    fn place(&self, id: &str, live: Option<&Path>) -> Result<DynoPaths> {
        if self.chosen.isolation == Isolation::Namespaces {
            return Ok(DynoPaths::Walls);
        }
        let folder = self.supervisors.folder_of(id).join(SCRATCH);
        let text = |path: PathBuf| {
            let path = path.into_os_string().into_string();
            path.map_err(|path| anyhow::anyhow!("`{}` is not UTF-8", path.display()))
        };
        Ok(DynoPaths::Folder {
            app: text(live.map_or_else(|| tempdir::app_folder(&folder), Path::to_owned))?,
            temporary: text(tempdir::temporary_folder(&folder))?,
            id: id.to_owned(),
        })
    }

    /// A port that no live dyno was given, of whichever server, and nobody listens on at this moment; and the right to it.
    fn free_port(&mut self) -> Result<(u16, OwnedFd)> {
        let ports = self.settings.ports.clone();
        for _ in ports.clone() {
            let port = self.next_port;
            self.next_port = if port == *ports.end() {
                *ports.start()
            } else {
                port + 1
            };
            if !self.supervisors.uses_port(port)
                && let Ok(claim) = listener::claim_port(port)
            {
                return Ok((port, claim));
            }
        }
        anyhow::bail!("no free port from {} to {}", ports.start(), ports.end())
    }

    fn free_owner(&mut self) -> (u32, u32) {
        match self.chosen.ids {
            DynoIds::Own(ids) | DynoIds::Shared(ids) => ids,
            DynoIds::Each(base) => {
                // There are more uids than dynos can be alive; the first is for shared use.
                let offsets = (0..UID_COUNT).map(|n| (self.next_uid + n) % (UID_COUNT - 1) + 1);
                let offset = offsets
                    .into_iter()
                    .find(|offset| !self.supervisors.uses_uid(base + offset))
                    .unwrap_or(1);
                self.next_uid = offset;
                (base + offset, base + offset)
            }
        }
    }

    /// Passes a client's connection on to its dyno, to be attached to its command or to one that is run beside that.
    /// False when the dyno is not alive.
    pub fn pass_on(&self, id: &str, ask: &ToSupervisor, connection: &OwnedFd) -> bool {
        self.supervisors.pass_on(id, ask, connection)
    }

    /// Asks a dyno to end within `grace` seconds. False when it is not alive.
    pub fn stop(&self, id: &str, grace: f64) -> bool {
        let stop = ToSupervisor::Stop {
            grace,
            why: StopReason::Stopped,
            drain: 0.0,
        };
        self.supervisors.tell(id, &stop)
    }

    /// Asks a dyno to end within `grace` seconds, since nothing takes its place.
    pub fn end(&self, id: &str, grace: f64) -> bool {
        let stop = ToSupervisor::Stop {
            grace,
            why: StopReason::ScaledDown,
            drain: 0.0,
        };
        self.supervisors.tell(id, &stop)
    }

    /// Asks a dyno of the formation to end, since another takes its place or none does: once it has answered its
    /// requests, or after `drain`.
    pub fn retire(&self, id: &str, why: StopReason, drain: Duration) -> bool {
        let stop = ToSupervisor::Stop {
            grace: self.settings.stop_grace.as_secs_f64(),
            why,
            drain: drain.as_secs_f64(),
        };
        self.supervisors.tell(id, &stop)
    }

    /// Asks a dyno whose socket it is that listens on its port; it answers with its state.
    pub fn check_port(&self, id: &str) {
        self.supervisors.tell(id, &ToSupervisor::CheckPort);
    }

    /// Takes an event; false if it is not about files of the host that dynos have copies of.
    pub fn host_changed(&mut self, event: Event, reactor: &mut Reactor) -> bool {
        let (Event::Ready { token, .. } | Event::Again(token) | Event::Deadline(token)) = event
        else {
            return false;
        };
        let Some(watch) = self.host_watch.as_ref().filter(|it| it.knows(token)) else {
            return false;
        };
        if watch.changed(event, reactor) {
            self.supervisors.tell_all(&ToSupervisor::RenewFiles);
        }
        true
    }

    /// The socket of the dyno's that listens on its port, if one is known.
    pub fn listener(&self, id: &str) -> Option<Listener> {
        self.listeners.get(id).copied()
    }

    /// Whether `token` is for [`hear`](Self::hear).
    pub fn knows(&self, token: Token) -> bool {
        token == self.retry_token || self.supervisors.knows(token)
    }

    /// Takes what a supervisor has said, and writes it down.
    pub fn hear(&mut self, token: Token, store: &mut Store, reactor: &mut Reactor) -> Heard {
        let news = match token == self.retry_token {
            true => std::mem::take(&mut self.unwritten),
            false => self.supervisors.hear(token, reactor),
        };
        let mut heard = Heard::default();
        for news in news {
            match news {
                News::Gone(remains) => heard.gone.push(remains),
                other => {
                    if let News::State { dyno, .. } = &other {
                        heard.changed.push(dyno.clone());
                    }
                    heard
                        .ended
                        .extend(self.note_now_or_later(other, store, reactor));
                }
            }
        }
        heard
    }

    /// Writes it down. What cannot be written now, because the disk is full, is tried again; and the next server
    /// finds it in the dyno's folder. Returns the dyno's id if it has ended by it.
    fn note_now_or_later(
        &mut self,
        news: News,
        store: &mut Store,
        reactor: &mut Reactor,
    ) -> Option<String> {
        match &news {
            News::State { dyno, listener, .. } => {
                match listener {
                    Some(listener) => self.listeners.insert(dyno.clone(), *listener),
                    None => self.listeners.remove(dyno),
                };
            }
            News::Ended { dyno, .. } => drop(self.listeners.remove(dyno)),
            News::Gone(_) => {}
        }
        match (self.note(&news, store), news) {
            (Ok(()), News::Ended { dyno, .. }) => Some(dyno),
            (Ok(()), _) => None,
            (Err(error), news) => {
                tell!("cannot note the state of a dyno: {error}");
                self.unwritten.push(news);
                reactor.set_deadline(self.retry_token, Instant::now() + RETRY);
                None
            }
        }
    }

    fn note(&mut self, news: &News, store: &mut Store) -> Result<(), StoreError> {
        let (dyno, record) = match news {
            News::State {
                dyno, state, at, ..
            } => return store.update_dyno(dyno, *state, *at),
            News::Ended { dyno, record } => (dyno, record),
            // Its cleanup comes first.
            News::Gone(_) => return Ok(()),
        };
        let at = record
            .at_us
            .and_then(|at| Timestamp::from_microsecond(at).ok());
        let ended = DynoEnd {
            at: at.unwrap_or_else(Timestamp::now),
            exit: record.exit,
            reason: record.reason.as_str().map(str::to_owned),
            message: record.message.as_deref().map(cut),
        };
        match store.end_dyno(dyno, record.state, &ended, self.settings.kept_dynos) {
            Ok(_) => {}
            // Its app was destroyed meanwhile: nobody will ask.
            Err(error) if error.kind() == StoreErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.trees.remove(dyno);
        self.clear(dyno);
        Ok(())
    }

    /// The folder of an ended dyno goes: a few small files, as what the dyno wrote is gone already.
    fn clear(&self, id: &str) {
        let folder = self.supervisors.folder_of(id);
        if let Err(error) = crate::kernel::tree::remove_tree(&folder) {
            tell!("cannot remove `{}`: {error}", folder.display());
        }
    }
}

/// As much of a message as is kept.
fn cut(message: &str) -> String {
    crate::error::shown(message.as_bytes(), LONGEST_MESSAGE)
}

/// What came of [`Dynos::hear`].
#[derive(Debug, Default)]
pub struct Heard {
    /// The ids of dynos that have ended.
    pub ended: Vec<String>,
    /// The ids of dynos that have said what they are now.
    pub changed: Vec<String>,
    /// Dynos that are over, and whose supervisors did not tell how: each needs a cleanup.
    pub gone: Vec<LostDyno>,
}

/// The work that is left of a dyno whose supervisor was killed.
#[derive(Debug)]
pub struct Cleanup {
    remains: LostDyno,
    folder: PathBuf,
    known: Option<Known>,
}

impl Cleanup {
    /// Removes what the dyno wrote and tells its log, if need be; the result is how it ended. May take its time.
    pub fn perform(&self) -> ExitRecord {
        lost::settle(&self.folder, self.known.as_ref())
    }
}

/// When this dyno is cycled: not all of them at once.
fn lifetime(settings: &Settings) -> Result<Duration> {
    let share = f64::from(u32::from_ne_bytes(random::bytes()?)) / f64::from(u32::MAX);
    Ok(settings.lifetime + settings.lifetime_spread.mul_f64(share))
}

fn streams(request: &CreateDyno) -> Streams {
    match request.kind() {
        Attach::Detached => Streams::Output,
        Attach::Pipes if request.one_output => Streams::Merged,
        Attach::Pipes => Streams::Pipes,
        Attach::Terminal => Streams::Terminal(window(&request.env)),
    }
}

/// What a dyno's supervisor is told of a second command; `merged`: without a terminal, both outputs come in one
/// pipe, whatever the client says.
///
/// # Errors
/// When there is none.
pub fn inside(
    request: &RunInside,
    release: &Release,
    merged: bool,
) -> Result<ToSupervisor, ApiError> {
    let shell_command = command_line::resolve(&request.command, &release.process_types);
    command_line::check(&shell_command)?;
    Ok(ToSupervisor::Inside {
        shell_command,
        env: command_env(&request.env, !request.force_no_tty),
        streams: match (request.force_no_tty, merged || request.one_output) {
            (true, true) => Streams::Merged,
            (true, false) => Streams::Pipes,
            (false, _) => Streams::Terminal(window(&request.env)),
        },
        terminal: request.terminal.clone(),
    })
}

/// The variables of a request for the command. The window's size is its terminal's to tell: a variable would go stale with
/// the first resize, and programs believe it more than the terminal.
fn command_env(env: &BTreeMap<String, String>, terminal: bool) -> BTreeMap<String, String> {
    let mut env = env.clone();
    if terminal {
        env.retain(|name, _| name != "COLUMNS" && name != "LINES");
    }
    env
}

/// The window's size as Heroku's client tells it.
fn window(env: &BTreeMap<String, String>) -> WindowSize {
    let cells = |name: &str| env.get(name)?.parse().ok().filter(|&cells| cells > 0);
    let usual = WindowSize::default();
    WindowSize {
        columns: cells("COLUMNS").unwrap_or(usual.columns),
        rows: cells("LINES").unwrap_or(usual.rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_as_large_as_the_client_says() {
        let env = |columns: &str, lines: &str| {
            BTreeMap::from([
                ("COLUMNS".into(), columns.into()),
                ("LINES".into(), lines.into()),
            ])
        };
        assert_eq!(
            window(&env("132", "50")),
            WindowSize {
                columns: 132,
                rows: 50
            }
        );
        assert_eq!(window(&env("0", "x")), WindowSize::default());
        assert_eq!(window(&BTreeMap::new()), WindowSize::default());
    }
}
