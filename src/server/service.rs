//! The server's application: every request finds its handler here, every event of a dyno its row.

mod admission;
mod app_requests;
mod bridging;
mod build_requests;
mod destroying;
mod dyno_requests;
mod follow;
mod git_requests;
mod listening;
mod log_requests;
mod release_requests;
mod routing;
mod server_requests;
mod session_requests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use rustix::fs::Mode;

use super::application::{Application, BodyPlan, Ctx, More, Reply, Request, Ticket, Via};
use super::builds::Builds;
use super::courtesy::Courtesy;
use super::descriptors::Descriptors;
use super::dynos::{Dynos, USER};
use super::end_waiters::EndWaiters;
use super::file_streams::FileStreams;
use super::formations::Formations;
use super::git_http::GitProcesses;
use super::host::{self, Host};
use super::limits::Limits;
use super::listener::ApiSocket;
use super::log_keeper::LogKeeper;
use super::logs::Logs;
use super::service_manager::ServiceManager;
use super::sessions::Sessions;
use super::signals::{Reminders, StopSignals};
use super::startup;
use super::status::Origin;
use super::supervisors::Remains;
use super::{apps, authorizations, config, platform, replacement};
use crate::api::ApiError;
use crate::api::account::RateLimit;
use crate::api::ask::Ask;
use crate::api::ask::policy::AskBody;
use crate::api::server::ServerInfo;
use crate::api::server::StartedBy;
use crate::error::{UserError, tell};
use crate::home::Home;
use crate::kernel::sys::signal::{Signal, ignore};
use crate::model::dyno::Isolation;
use crate::model::log_line::{Source, Story};
use crate::model::settings::{Listen, Sourced};
use crate::sandbox::offer::{self, Chosen};
use crate::wire::handover::Handover;
use crate::wire::http::{RequestHead, Response};
use crate::wire::reactor::{Event, Token};
use bridging::Bridging;
use destroying::Destructions;
use routing::Routing;

/// Serves the API of `home` until a signal, or, if `idle`, until there is nothing to do any more. `left` is what a server before
/// it has made room with.
///
/// # Errors
/// When another server runs, or the state cannot be used.
pub fn run(home: &Home, sourced: Sourced, idle: bool, left: Handover) -> Result<()> {
    // A service manager, and whoever has typed `dyno server`, know it by that.
    crate::kernel::sys::title::set(&crate::kernel::executable::server_title(home.path()));
    let mut limits = Limits::default();
    let descriptors =
        Descriptors::raise(limits.connections, sourced.settings.router != Listen::Off)?;
    limits.connections = descriptors.connections;
    // A file that may not grow is an error like a full disk, and no reason to die.
    ignore(Signal::XFSZ);
    // What a server and its supervisors make is private, but where they say otherwise.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let service = startup::serve(home, idle, left, limits, |ctx| {
        Service::new(home, sourced, idle, descriptors, ctx)
    })?;
    if let Some(mut service) = service {
        // The next server may start already, and needs all that this one has; but for the visitors who still wait for an
        // answer here: if it has the router's socket, they may take their time.
        let (routing, bridging) = (service.routing.take(), service.bridging.take());
        routing.iter().for_each(Routing::succeed);
        drop(service);
        drop((bridging, routing));
    }
    Ok(())
}

/// By how much an upload may pass the limit of a slug before the connection is closed on it, in bytes: what is said before
/// a pack, or what a worker reads before it refuses the rest.
const MARGIN: u64 = 4 << 20;

/// Enough for the command that has started the server to connect to it.
const SHORTEST_STAY: Duration = Duration::from_millis(100);

struct Service {
    host: Host,
    dynos: Dynos,
    logs: Logs,
    info: ServerInfo,
    origin: Origin,
    home: PathBuf,
    sourced: Sourced,
    signals: StopSignals,
    reminders: Reminders,
    log_keeper: LogKeeper,
    manager: ServiceManager,
    /// The server starts no dyno any more, and leaves when the last one has ended.
    ending: bool,
    destroying: Destructions,
    /// The router, if there is one.
    routing: Option<Routing>,
    /// The bridge, if it is needed.
    bridging: Option<Bridging>,
    /// How many sessions it may have.
    bridged: usize,
    /// How many connections it may have.
    visitors: usize,
    builds: Builds,
    file_streams: FileStreams,
    gits: GitProcesses,
    /// Where the API is reached over TCP.
    listening: Option<SocketAddr>,
    formations: Formations,
    /// Its deadline is that of the next look at a formation.
    formation_token: Token,
    sessions: Sessions,
    /// Its deadline is that of whoever may claim a session of an earlier server.
    session_token: Token,
    /// What Heroku's API says with every response, of requests that are being answered.
    courtesy: Courtesy,
    end_waiters: EndWaiters,
    /// Its deadline is that of whoever has waited longest for a dyno's end.
    end_token: Token,
    /// Its deadline is the end of a server that has nothing to do.
    idle_token: Token,
    idle_since: Option<Instant>,
}

impl Service {
    fn new(
        home: &Home,
        sourced: Sourced,
        idle: bool,
        descriptors: Descriptors,
        ctx: &mut Ctx<Self>,
    ) -> Result<Self> {
        let settings = sourced.settings.clone();
        crate::supervisor::sweep_scratch(&home.path().join("dynos"));
        let chosen = offer::choose(home, &settings)?;
        tell(home, &chosen);
        let (state, through) = (home, chosen.lets_through());
        let home = home.path();
        let owner = chosen
            .tree_owner()
            .map(|(uid, gid)| crate::slug::Owner { uid, gid });
        let mut host = Host::open(home, settings.clone(), USER.to_owned(), owner)?;
        let origin = Origin::of_process(idle);
        if origin.by != StartedBy::Command {
            let by_manager = matches!(origin.by, StartedBy::Systemd { .. });
            host.asleep.begin(by_manager, SystemTime::now());
        }
        host.slugs
            .sweep()
            .context("cannot clear up what an earlier server left")?;
        // There may be fewer to keep than there were for the server before.
        for app in host.store.apps().map_err(UserError::from)? {
            host.expire_releases(&app.id).map_err(UserError::from)?;
        }
        let kept = host.store.kept_digests().map_err(UserError::from)?;
        host.slugs
            .remove_all_but(&kept, SystemTime::now())
            .context("cannot clear up slugs that belong to nobody")?;
        let mut dynos = Dynos::new(home, settings, chosen, descriptors, ctx.reactor())?;
        state
            .let_through(through)
            .context("cannot change the mode of the state folder")?;
        dynos.adopt(&mut host, ctx.reactor())?;
        let routing = Routing::start(home, &sourced.settings, descriptors.visitors, ctx)?;
        let listening = listening::begin(home, &sourced.settings, ctx)?;
        host.places.router = routing.as_ref().map(Routing::address);
        // Its first deadline is now: what an earlier server left is taken up.
        let formation_token = ctx.reactor().token();
        ctx.reactor().again(formation_token);
        let left = host.store.sessions().map_err(UserError::from)?;
        let sessions = Sessions::left(&left, Instant::now());
        let session_token = ctx.reactor().token();
        let builds = Builds::new(
            home.join("builds"),
            host.settings.max_builds,
            ctx.reactor().waker(),
        )
        .context("cannot use the folder of the builds")?;
        host.sources
            .sweep()
            .context("cannot clear up what an earlier server left")?;
        let log_keeper = LogKeeper::new(home.join("logs"), host.log_limits(), ctx.reactor());
        // The socket is listening, and nothing from here on takes time.
        let manager = ServiceManager::of_process();
        manager.ready();
        let mut service = Self {
            host,
            dynos,
            log_keeper,
            logs: Logs::new(descriptors.connections, sourced.settings.log_keep_alive),
            info: replacement::this_server(idle),
            origin,
            home: home.to_owned(),
            sourced,
            signals: StopSignals::catch(ctx.reactor())?,
            reminders: Reminders::catch(ctx.reactor())?,
            manager,
            ending: false,
            destroying: Destructions::default(),
            routing,
            bridging: None,
            bridged: descriptors.sessions,
            visitors: descriptors.visitors,
            builds,
            file_streams: FileStreams::new(descriptors.connections),
            gits: GitProcesses::default(),
            listening: None,
            formations: Formations::default(),
            formation_token,
            sessions,
            session_token,
            courtesy: Courtesy::default(),
            end_waiters: EndWaiters::default(),
            end_token: ctx.reactor().token(),
            idle_token: ctx.reactor().token(),
            idle_since: None,
        };
        service.listens_at(listening);
        service.begin_rendezvous(ctx)?;
        service.recall();
        if !idle {
            service.tell_where();
        }
        service.fail_lost_builds();
        service.take_over_repositories();
        Ok(service)
    }

    /// Says to whom started it, and the journal, where it can be reached.
    fn tell_where(&self) {
        let router = self.router_address();
        let listens = [
            ("web dynos at http://", router),
            (
                "the API over TCP at ",
                self.listening.map(|address| address.to_string()),
            ),
            (
                "the rendezvous at ",
                self.rendezvous().map(|address| address.to_string()),
            ),
        ];
        let listens = listens.into_iter().filter_map(|(what, address)| {
            let address = address?;
            Some(format!(", {what}{address}"))
        });
        tell!(
            "the server (process {}) serves `{}`{}",
            self.info.pid,
            self.home.display(),
            listens.collect::<String>()
        );
    }

    /// Whether this server was started for a purpose, and there is none any more.
    fn is_idle(&self, ctx: &Ctx<Self>) -> bool {
        self.info.idle
            && self.listening.is_none()
            && self.rendezvous().is_none()
            && self.bridged_sessions() == 0
            && self.dynos.are_done()
            && self.builds.is_empty()
            && self.gits.is_empty()
            && self.formations.next_look().is_none()
            && self.sessions.is_empty()
            && ctx.connections() == 0
            && ctx.jobs() == 0
    }

    /// A client does not find the socket: if it is gone, or something else is in its place, there is another.
    fn look_after_socket(&self, ctx: &mut Ctx<Self>) {
        if ctx.is_stopping() || ctx.is_found() {
            return;
        }
        match ApiSocket::bind(self.home.join("api.sock")) {
            Ok(socket) => {
                tell!("`api.sock` was removed or replaced; there is another now");
                ctx.listen(socket);
            }
            Err(error) => {
                tell!("`api.sock` was removed or replaced, and cannot be made again: {error}");
            }
        }
    }

    /// Those who have waited for these dynos to end go on.
    fn after_end(&mut self, dynos: &[String], ctx: &mut Ctx<Self>) {
        for id in dynos {
            // Of an app that was destroyed there is no row.
            if let Ok(dyno) = self.host.store.dyno_of_id(id) {
                self.after_end_of(&dyno, ctx);
            }
        }
        if !dynos.is_empty() {
            self.answer_end_waiters(dynos, ctx);
            self.logs.dynos_ended(dynos, ctx);
            self.go_on_destroying(ctx);
            self.go_on_ending_sessions(ctx);
        }
    }

    /// Clears away after a dyno whose supervisor was killed, and writes its end down. It may have written much.
    fn bury(&mut self, remains: Remains, ctx: &mut Ctx<Self>) {
        let dyno = remains.dyno.clone();
        let burial = self.dynos.burial(remains, &self.host);
        let taken = ctx.work(move || {
            let record = burial.perform();
            move |service: &mut Self, ctx: &mut Ctx<Self>| {
                let store = &mut service.host.store;
                let ended = service.dynos.buried(burial, record, store, ctx.reactor());
                service.after_end(ended.as_slice(), ctx);
            }
        });
        if !taken {
            self.dynos.put_off(dyno, ctx.reactor());
        }
    }
}

impl Service {
    /// Where the records of this host are.
    fn records(&mut self) -> &mut Host {
        &mut self.host
    }

    /// Answers a request that was let in.
    fn answer(
        &mut self,
        ask: &Ask,
        request: &Request,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        let (host, body, now) = (&mut self.host, &request.body[..], Timestamp::now());
        let answer = match ask {
            Ask::Apps(ask) => return self.app_request(ask, request, ctx),
            Ask::Links(ask) => apps::answer_links(host, ask, body, now),
            Ask::Config(ask) => config::answer(host, ask, body, now),
            Ask::Slugs(ask) => return self.slug_request(ask, request),
            Ask::Sources(ask) => return self.source_request(ask, request, ctx),
            Ask::Builds(ask) => return self.build_request(ask, request, ctx),
            Ask::Releases(ask) => return self.release_request(ask, request, ctx),
            Ask::Formation(ask) => self.formation_request(ask, body, ctx),
            Ask::Dynos(ask) => return self.dyno_request(ask, request, ctx),
            Ask::Logs(ask) => return self.log_request(ask, request, ctx),
            Ask::Git(ask) => return self.git_request(ask, request, ctx),
            Ask::Sessions(ask) => return self.session_request(ask, request, ctx),
            Ask::Authorizations(ask) => authorizations::answer(host, ask, body, now),
            Ask::Platform(ask) => platform::answer(host, ask, now),
            Ask::RateLimits => {
                let remaining = self.courtesy.remaining(request.ticket);
                let remaining = remaining.unwrap_or(self.host.settings.rate_limit);
                Ok(Response::json(200, &RateLimit { remaining }))
            }
            Ask::Server(ask) => return self.server_request(ask, request, ctx),
        };
        answer.map(Reply::Now)
    }
}

impl Application for Service {
    fn body_plan(&mut self, head: &RequestHead, via: Via) -> BodyPlan {
        if !self.knows(head, via) {
            return BodyPlan::Unread;
        }
        let ask = Ask::parse(head.method(), head.path(), head.query());
        match ask.map(|ask| ask.body()) {
            Ok(AskBody::Upload) => BodyPlan::Stream {
                // The worker that takes it keeps to the limit itself, and has better words for it.
                limit: self.host.settings.slug_limit + MARGIN,
            },
            // What is asked for nothing that exists is answered on a connection that goes on.
            Ok(AskBody::Whole) | Err(_) => BodyPlan::Memory,
        }
    }

    fn request(&mut self, request: Request, ctx: &mut Ctx<Self>) -> Reply<Self> {
        let reply = self
            .admit(&request)
            .and_then(|ask| self.answer(&ask, &request, ctx));
        if matches!(reply, Ok(Reply::Upgrade(_))) {
            self.courtesy.forget(request.ticket);
        }
        host::reply(reply)
    }

    fn manners(&mut self, ticket: Ticket, response: Response) -> Response {
        self.courtesy.pay(ticket, response)
    }

    /// The app that it was about has it in its log.
    fn failed(&mut self, target: &str, why: &str) {
        if let Some(Ok(app)) = Ask::app_of(target).map(|app| self.host.store.app(&app)) {
            let story = Story::ServerFailed(why.to_owned());
            self.host.log_as(&app.id, Source::Heroku, "api", &story);
        }
    }

    fn event(&mut self, event: Event, ctx: &mut Ctx<Self>) {
        match event {
            Event::Deadline(token) if token == self.idle_token => {
                // Somebody may have come in this very turn.
                self.idle_since = None;
                if self.is_idle(ctx) {
                    ctx.stop();
                }
            }
            Event::Woken => {
                self.hear_router(ctx);
                self.hear_bridge(ctx);
                self.hear_builds(ctx);
            }
            Event::Again(token) if token == self.formation_token => {
                self.await_claims(ctx);
                self.take_up_formations(ctx);
            }
            Event::Deadline(token) if token == self.session_token => {
                self.end_unclaimed_sessions(ctx);
            }
            Event::Deadline(token) if token == self.formation_token => {
                self.look_at_due_formations(ctx);
            }
            Event::Deadline(token) if token == self.log_keeper.token() => {
                self.log_keeper.look(ctx);
                self.sweep_sources(ctx);
            }
            Event::Deadline(token) if token == self.end_token => self.answer_end_waiters(&[], ctx),
            Event::Ready { token, .. } | Event::Again(token) | Event::Deadline(token)
                if self.dynos.knows(token) =>
            {
                let heard = self.dynos.hear(token, &mut self.host.store, ctx.reactor());
                for id in &heard.changed {
                    if let Ok(dyno) = self.host.store.dyno_of_id(id)
                        && dyno.formation
                    {
                        if dyno.name.is_web() {
                            self.tell_router(&dyno.app_id);
                        }
                        self.after_change_of(&dyno, ctx);
                    }
                }
                for remains in heard.gone {
                    self.bury(remains, ctx);
                }
                self.after_end(&heard.ended, ctx);
            }
            event if self.dynos.host_changed(event, ctx.reactor()) => {}
            event if self.signals.came(event) => ctx.stop(),
            event if self.reminders.came(event) => self.look_after_socket(ctx),
            event if self.logs.came(event, ctx) => {}
            event if self.gits.came(event, ctx) => {}
            _ => {}
        }
    }

    fn more(&mut self, ticket: Ticket, ctx: &mut Ctx<Self>) -> More {
        let more = self.sessions.more(ticket);
        let more = more.or_else(|| self.file_streams.more(ticket));
        let more = more.or_else(|| self.gits.more(ticket, ctx));
        more.unwrap_or_else(|| self.logs.more(ticket, ctx))
    }

    fn client_gone(&mut self, ticket: Ticket, ctx: &mut Ctx<Self>) {
        self.courtesy.forget(ticket);
        self.end_waiters.forget(ticket);
        self.file_streams.leave(ticket);
        self.gits.leave(ticket, ctx);
        self.logs.leave(ticket, ctx);
        self.session_client_gone(ticket, ctx);
    }

    /// A server that the command line started leaves when nobody needs it.
    fn turn_ended(&mut self, ctx: &mut Ctx<Self>) {
        for app_id in std::mem::take(&mut self.host.released) {
            self.after_release(&app_id, ctx);
            self.expire_releases(&app_id, ctx);
        }
        if self.ending && self.dynos.count() == 0 && !ctx.is_stopping() {
            if matches!(self.origin.by, StartedBy::Systemd { .. }) {
                self.host.asleep.await_restart(SystemTime::now());
            }
            ctx.stop();
        }
        self.manager.update(self.dynos.count(), ctx.is_stopping());
        self.manager.keep(ctx.estate());
        if ctx.is_stopping() {
            if self.manager.is_there() {
                ctx.leave_to_manager();
            }
            self.answer_all_end_waiters(ctx);
            self.close_router(ctx.heir());
            self.close_bridge();
        }
        // Only a host that runs dynos pays for the next one.
        if self.dynos.count() > 0 && !self.ending {
            self.dynos.prepare();
        }
        match (self.is_idle(ctx), self.idle_since) {
            (true, None) => {
                let now = Instant::now();
                self.idle_since = Some(now);
                let linger = self.host.settings.idle_linger.max(SHORTEST_STAY);
                ctx.reactor().set_deadline(self.idle_token, now + linger);
            }
            (false, Some(_)) => {
                self.idle_since = None;
                ctx.reactor().cancel_deadline(self.idle_token);
            }
            _ => {}
        }
    }
}

/// Says in the log, and leaves for the next person who runs something, what dynos have to do without.
fn tell(home: &Home, chosen: &Chosen) {
    let Chosen {
        isolation, because, ..
    } = chosen;
    if let Some(because) = because {
        tell!("isolation is {isolation}: {because}");
    }
    let _ = match because {
        Some(because) if *isolation == Isolation::Tempdir => {
            std::fs::write(home.isolation_note(), because)
        }
        _ => std::fs::remove_file(home.isolation_note()),
    };
}
