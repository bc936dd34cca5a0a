//! What the server does with dynos: gives each its row, its spec and its supervisor, and writes down what becomes
//! of it. The rules are elsewhere (`command_line`, `dyno`, `store`); this is where they meet.

pub mod end_waiters;
pub mod formations;
pub mod host_watch;
pub mod lost;
pub mod notes;
pub mod spec;
pub mod supervisors;
mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;

use crate::api::ApiError;
use crate::api::dyno::CreateDyno;
use crate::error::{UserError, tell};
use crate::kernel::cgroup::GroupParent;
use crate::kernel::claims::Claims;
use crate::kernel::fail_point;
use crate::kernel::listener::Listener;
use crate::kernel::unix_socket;
use crate::model::command_line;
use crate::model::dyno::life::{MemoryRule, OfFormation, Rules, StopReason};
use crate::model::dyno::{
    Attach, ClientTerminal, Dyno, DynoState, EndReason, Exit, ExitRecord, Isolation, MostDynos,
    Spent,
};
use crate::model::log_line::{LogSource, Story};
use crate::model::network::Outbound;
use crate::model::release::Release;
use crate::model::settings::Settings;
use crate::model::size::Size;
use crate::sandbox::offer::ChosenIsolation;
use crate::sandbox::stack::Stack;
use crate::server::builds::site::BuildSite;
use crate::server::dynos::host_watch::HostWatch;
use crate::server::dynos::lost::LoggedDyno;
use crate::server::dynos::supervisors::{DynoNews, Supervisors};
use crate::server::dynos::waiting::NextDyno;
use crate::server::process::descriptors::Descriptors;
use crate::server::records::Records;
use crate::server::sessions::start_extras::{StartExtras, live_owner};
use crate::slug::Lease;
use crate::store::{NewDyno, new_id};
use crate::wire::command_streams::CommandStreams;
use crate::wire::control::{DynoSpec, ToSupervisor};
use crate::wire::door::Door;
use crate::wire::handover::Handover;
use crate::wire::reactor::{Event, Reactor, Token};
use spec::{Run, command_env, first_port, lifetime, streams};

/// The account that everything is done by: the one user of this host's server.
pub const USER: &str = "dyno@localhost";

/// See the [module](self).
#[derive(Debug)]
pub struct Dynos {
    supervisors: Supervisors,
    settings: Settings,
    chosen: ChosenIsolation,
    /// Where the dynos' control groups are; None where the host gives none.
    groups: Option<GroupParent>,
    descriptors: Descriptors,
    /// Folders that no dyno must see: the state, and the home of the server's user.
    hidden: Vec<PathBuf>,
    claims: Claims,
    /// How other hosts are reached from networks of dynos' own, once that was looked into; None in it: they are not.
    outbound: Option<Option<Outbound>>,
    /// Where the search for a free port and uid goes on, so that one just freed is not the next.
    next_port: u16,
    next_uid: u32,
    /// The trees that dynos run on, by their ids: as long as a dyno lives, its tree stays.
    trees: HashMap<String, Lease>,
    /// Of those that serve requests, the sockets that listen, by the dynos' ids.
    listeners: HashMap<String, Listener>,
    /// Of those among them with a network of their own, the doors, by the dynos' ids.
    doors: HashMap<String, Door>,
    /// What the dynos of a `dyno start` have beside others, by their apps' ids.
    start_extras: HashMap<String, StartExtras>,
    /// What is known already of a dyno of the release that ran last.
    next: Option<Next>,
    /// What could not be written down yet, and when to try again.
    unwritten: Vec<DynoNews>,
    /// The folders of ended dynos that could not be removed yet.
    uncleared: Vec<PathBuf>,
    retry_token: Token,
    /// None where dynos have the host's own files.
    host_watch: Option<HostWatch>,
}

/// What is known of a dyno before anybody asks for it.
#[derive(Debug)]
struct Next {
    release: String,
    spec: DynoSpec,
    tree: Lease,
}

impl Drop for Dynos {
    fn drop(&mut self) {
        self.groups.iter().for_each(GroupParent::remove_if_empty);
    }
}

impl Dynos {
    /// The dynos of the server whose state is in `home`.
    pub fn new(
        home: &Path,
        settings: Settings,
        chosen: ChosenIsolation,
        groups: Option<GroupParent>,
        descriptors: Descriptors,
        reactor: &mut Reactor,
    ) -> Result<Self> {
        Ok(Self {
            descriptors,
            supervisors: Supervisors::new(home.join("dynos"), reactor)?,
            next_port: first_port(&settings.ports),
            claims: Claims::of_user(home),
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
            groups,
            trees: HashMap::new(),
            listeners: HashMap::new(),
            doors: HashMap::new(),
            outbound: None,
            start_extras: HashMap::new(),
            next: None,
            unwritten: Vec::new(),
            uncleared: Vec::new(),
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

    /// The ports and uids that this user's servers have given away.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Whether a live dyno was given this port.
    pub fn uses_port(&self, port: u16) -> bool {
        self.supervisors.uses_port(port)
    }

    /// The id of the live dyno that was given this port.
    pub fn dyno_with_port(&self, port: u16) -> Option<&str> {
        self.supervisors.dyno_with_port(port)
    }

    /// What a live dyno has taken until now, where it has a control group.
    pub fn spent(&self, id: &str) -> Spent {
        let group = self.groups.as_ref().map(|parent| parent.group(id));
        group.map(|group| group.spent()).unwrap_or_default()
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
        self.count() == 0 && self.unwritten.is_empty() && self.uncleared.is_empty()
    }

    /// Has their supervisors keep the server's sockets; see [`Supervisors::keep_sockets`].
    pub fn keep_sockets(&mut self, estate: &Handover, state: u64, turn_away: bool) {
        self.supervisors.keep_sockets(estate, state, turn_away);
    }

    /// Whether any supervisor keeps the server's sockets.
    pub fn keep_any_sockets(&self) -> bool {
        self.supervisors.keep_any()
    }

    /// The sockets of the server before this one that supervisors have kept.
    pub fn returned_sockets(&mut self) -> Handover {
        self.supervisors.returned()
    }

    /// Gets ready for the next one; see [`Supervisors::prepare`].
    pub fn prepare(&mut self, reactor: &mut Reactor) {
        if !self.supervisors.wants_waiting(self.next.is_some()) {
            return;
        }
        let next = self.next.take().and_then(|known| {
            let id = new_id().ok()?;
            let (owner, claim) = self.free_owner();
            let spec = DynoSpec {
                id: id.clone(),
                owner,
                ..known.spec.clone()
            };
            let next = NextDyno {
                id,
                release: known.release.clone(),
                owner,
                claim,
                _tree: known.tree.clone(),
            };
            self.next = Some(known);
            Some((spec, next))
        });
        self.supervisors.prepare(next, reactor);
    }

    /// Forgets what was prepared: the app of the next dyno may be gone.
    pub fn forget_next(&mut self, reactor: &mut Reactor) {
        self.next = None;
        self.supervisors.dismiss_waiting(reactor);
    }

    /// Whether this one is alive.
    pub fn is_live(&self, id: &str) -> bool {
        self.supervisors.is_live(id)
    }

    /// Whether a dyno's supervisor has written down how it ended, which it may not have told yet.
    pub fn is_over(&self, id: &str) -> bool {
        let record = crate::supervisor::read_record(&self.supervisors.folder_of(id));
        matches!(record, Ok(Some(_)))
    }

    /// Takes up what an earlier server left. Rows that have no folder any more ended with it.
    pub fn adopt(&mut self, records: &mut Records, reactor: &mut Reactor) -> Result<()> {
        let mut told = HashMap::new();
        for news in self.supervisors.adopt_all(reactor)? {
            if let DynoNews::State { dyno, state, .. } = &news {
                told.insert(dyno.clone(), *state);
            }
            match news {
                DynoNews::Gone(remains) => {
                    let cleanup = self.cleanup(remains, records);
                    match cleanup.perform() {
                        Ok(record) => {
                            self.cleaned_up(cleanup, record, &mut records.store, reactor);
                        }
                        Err(_) => self.put_off(cleanup.dyno().to_owned(), reactor),
                    }
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
                let settled = lost::settle(&folder, LoggedDyno::new(&row, records).as_ref());
                let dyno = row.id;
                match settled {
                    Ok(record) => {
                        let news = DynoNews::Ended { dyno, record };
                        self.note_now_or_later(news, &mut records.store, reactor);
                    }
                    Err(_) => self.put_off(dyno, reactor),
                }
            }
        }
        Ok(())
    }

    /// Starts a one-off dyno on `release`, whose slug's tree this is.
    ///
    /// # Errors
    /// For the client that asked for it.
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
        let size = self.settings.sizes.lookup(&request.size)?.clone();
        let next = self.supervisors.next_dyno(&release.id);
        let new = NewDyno {
            id: next.map(|next| next.id.clone()),
            process_type: request.r#type.clone(),
            command: request.command.clone(),
            size: &size,
            attach: request.kind(),
            limits: MostDynos::of(&self.settings),
        };
        let dyno = records
            .store
            .create_dyno(&release.app_id, &new, Timestamp::now())?;
        fail_point::reach("dyno.row_written");
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
                ..self.rules(&size)
            },
            site: None,
        };
        match self.start(records, &dyno, run, tree, reactor) {
            Ok(()) => Ok(dyno),
            Err(error) => {
                // Its id is taken.
                self.forget_next(reactor);
                let message = format!("cannot start `{}`: {error:#}", dyno.name);
                Err(ApiError::internal(message))
            }
        }
    }

    /// Starts a dyno that no client is attached to: one of the formation, or of a release phase. Its row says which.
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
            streams: CommandStreams::Output,
            terminal: ClientTerminal::default(),
            rules: Rules {
                lifetime,
                time_to_live,
                formation,
                ..self.rules(self.settings.sizes.of_dyno(&dyno.size))
            },
            site: None,
        };
        self.start(records, dyno, run, tree, reactor)
    }

    /// Checks that a build's dyno can work at `site`.
    ///
    /// # Errors
    /// When dynos have no walls here, or root's files cannot be shown as theirs.
    pub fn check_site(&self, site: &BuildSite) -> Result<(), UserError> {
        if self.can_build(&site.app) {
            return Ok(());
        }
        let why = "a build needs a root tree of its own in which the source is at /app, and cannot have that here";
        Err(UserError::new(why).hint(
            "`dyno doctor` says what this host lacks; `dyno builder none` takes the files as they are",
        ))
    }

    /// Whether a build's dyno can work on what is in this folder.
    pub fn can_build(&self, folder: &Path) -> bool {
        let has_walls = self.chosen.isolation == Isolation::Namespaces;
        has_walls && live_owner(folder, &self.chosen).is_ok()
    }

    /// Starts the dyno of a build, which works at `site` for at most `time`, and returns the connection to its command, as a client
    /// of this host has one. It ends with that connection.
    ///
    /// # Errors
    /// When it cannot be started; its end is written down then.
    pub fn start_build(
        &mut self,
        records: &mut Records,
        dyno: &Dyno,
        release: &Release,
        site: &BuildSite,
        time: Duration,
        reactor: &mut Reactor,
    ) -> Result<OwnedFd> {
        let (ours, theirs) = UnixStream::pair()?;
        let run = Run {
            release,
            shell_command: dyno.command.clone(),
            env: site.env.clone(),
            streams: CommandStreams::Merged,
            terminal: ClientTerminal::default(),
            rules: Rules {
                attached: true,
                // Nobody types; it has its time, and prints when it likes.
                idle_timeout: Duration::ZERO,
                time_to_live: Some(time),
                ..self.rules(self.settings.sizes.of_dyno(&dyno.size))
            },
            site: Some(site),
        };
        self.start(records, dyno, run, None, reactor)?;
        let attach = ToSupervisor::Attach { merged: false };
        if !self.pass_on(&dyno.id, &attach, &theirs.into()) {
            anyhow::bail!("it has ended already");
        }
        Ok(ours.into())
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
        if dyno.formation {
            fail_point::reach("dyno.formation_row_written");
        }
        let path = tree.as_ref().map_or(Path::new(""), Lease::tree).to_owned();
        let release = run.release.id.clone();
        let started = self
            .spec(records, dyno, run, path)
            .and_then(|(spec, claims)| {
                self.supervisors.start(&spec, &claims, reactor)?;
                Ok(spec)
            });
        if let (Ok(spec), Some(tree)) = (&started, &tree)
            && !dyno.formation
        {
            self.expect_another(&release, spec, tree, reactor);
        }
        match &started {
            Ok(_) => self.trees.extend(tree.map(|tree| (dyno.id.clone(), tree))),
            Err(error) => {
                let record = ExitRecord {
                    state: DynoState::Crashed,
                    exit: Exit::Unknown,
                    reason: EndReason::StartFailed,
                    message: Some(format!("{error:#}")),
                    at_us: None,
                    spent: Spent::default(),
                };
                let name = dyno.name.to_string();
                for story in [
                    Story::LaunchFailed(format!("{error:#}")),
                    Story::state_changed(DynoState::Starting, DynoState::Crashed),
                ] {
                    records.log_as(&dyno.app_id, LogSource::Heroku, &name, &story);
                }
                let dyno = dyno.id.clone();
                self.note_now_or_later(
                    DynoNews::Ended { dyno, record },
                    &mut records.store,
                    reactor,
                );
            }
        }
        started.map(drop)
    }

    /// Takes it that the next dyno is of the same release and size, as in most cases. A sandbox is made ahead behind walls
    /// alone, and not where it has a port, which nobody knows yet.
    fn expect_another(
        &mut self,
        release: &str,
        spec: &DynoSpec,
        tree: &Lease,
        reactor: &mut Reactor,
    ) {
        let is_walled = spec.isolation == Isolation::Namespaces && spec.live.is_none();
        if !is_walled || spec.only_port.is_some() {
            return;
        }
        self.next = Some(Next {
            release: release.to_owned(),
            spec: DynoSpec {
                env: BTreeMap::new(),
                ..spec.clone()
            },
            tree: tree.clone(),
        });
        if self.supervisors.next_dyno(release).is_none() {
            // It has a sandbox of another release, or none.
            self.supervisors.dismiss_waiting(reactor);
        }
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

    /// The rules of a detached one-off of this size by the settings.
    fn rules(&self, size: &Size) -> Rules {
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
            memory: MemoryRule {
                quota: size.memory_quota(),
                limit: size.memory_limit(),
            },
        }
    }

    /// Passes a client's connection on to its dyno, to be attached to its command or to one that is run beside that.
    /// False when the dyno is not alive.
    pub fn pass_on(&mut self, id: &str, ask: &ToSupervisor, connection: &OwnedFd) -> bool {
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

    /// The door of the dyno's network, if it has one of its own and serves requests.
    pub fn door(&self, id: &str) -> Option<Door> {
        self.doors.get(id).cloned()
    }

    /// Has a door made to the dyno's own network, if it is not there.
    fn open_door(&mut self, id: &str) {
        if self.doors.contains_key(id) {
            return;
        }
        let opened = unix_socket::pair().and_then(|(ours, theirs)| {
            rustix::io::ioctl_fionbio(&ours, true)?;
            Ok((ours, theirs))
        });
        match opened {
            Ok((ours, theirs)) => {
                if self.pass_on(id, &ToSupervisor::OpenDoor, &theirs) {
                    self.doors.insert(id.to_owned(), ours.into());
                }
            }
            Err(error) => tell!("cannot open the door of a dyno: {error}"),
        }
    }

    /// Whether `token` is for [`hear`](Self::hear).
    pub fn knows(&self, token: Token) -> bool {
        token == self.retry_token || self.supervisors.knows(token)
    }
}
