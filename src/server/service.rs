//! The server's application: every request finds its handler here, every event of a dyno its row.

mod admission;
mod bridging;
mod build_requests;
mod dyno_requests;
mod follow;
mod formation_requests;
mod git_requests;
mod listening;
mod routing;
mod server_requests;
mod session_requests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use rustix::fs::Mode;

use super::about;
use super::application::{Application, BodyPlan, Ctx, More, Reply, Request, Ticket, Via};
use super::builds::Builds;
use super::courtesy::Courtesy;
use super::descriptors::Descriptors;
use super::dynos::{Dynos, USER};
use super::end_waiters::EndWaiters;
use super::file_streams::FileStreams;
use super::formations::Formations;
use super::git_http::{GitProcesses, GitRequest};
use super::host::{self, Host, response};
use super::limits::Limits;
use super::listener::ApiSocket;
use super::log_keeper::LogKeeper;
use super::logs::{self, Logs};
use super::routes;
use super::service_manager::ServiceManager;
use super::sessions::Sessions;
use super::signals::{Reminders, StopSignals};
use super::startup;
use super::status::Origin;
use super::supervisors::Remains;
use crate::api::account::RateLimit;
use crate::api::server::ServerInfo;
use crate::api::server::StartedBy;
use crate::error::{UserError, tell};
use crate::home::Home;
use crate::kernel::sys::signal::{Signal, ignore};
use crate::model::dyno::Isolation;
use crate::model::log_line::Source;
use crate::model::settings::{Listen, Sourced};
use crate::sandbox::offer::{self, Chosen};
use crate::wire::handover::Handover;
use crate::wire::http::{RequestHead, Response};
use crate::wire::reactor::{Event, Token};
use bridging::Bridging;
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

/// Enough for whoever has started the server to connect to it.
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
    destroying: Vec<Destroying>,
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

/// A request to destroy an app, which waits for its dynos to end.
struct Destroying {
    request: Request,
    app_id: String,
}

impl AsMut<Host> for Service {
    fn as_mut(&mut self) -> &mut Host {
        &mut self.host
    }
}

impl AsMut<Logs> for Service {
    fn as_mut(&mut self) -> &mut Logs {
        &mut self.logs
    }
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
            info: about::this_server(idle),
            origin,
            home: home.to_owned(),
            sourced,
            signals: StopSignals::catch(ctx.reactor())?,
            reminders: Reminders::catch(ctx.reactor())?,
            manager,
            ending: false,
            destroying: Vec::new(),
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

    /// `DELETE /apps/A`: its dynos end first, and nothing of it is left behind on disk.
    fn destroy(&mut self, app: &str, request: Request, ctx: &mut Ctx<Self>) -> Reply<Self> {
        let dynos = self.host.store.app(app).and_then(|app| {
            let dynos = self.host.store.live_dynos(Some(&app.id))?;
            Ok((app, dynos))
        });
        match dynos {
            Ok((app, dynos)) if !dynos.is_empty() => {
                let app_id = app.id;
                self.destroying.push(Destroying { request, app_id });
                self.tell_router_of_end(app.name.as_str());
                for dyno in dynos {
                    self.dynos.stop(&dyno.id, 0.0);
                }
                Reply::Later
            }
            Ok((app, _)) => {
                let reply = routes::route(self, &request);
                self.tell_router_of_end(app.name.as_str());
                self.after_destroy(&app.id, ctx);
                reply.unwrap_or(Reply::Later)
            }
            Err(error) => Reply::Now(response(Err(error.into()))),
        }
    }

    /// `PATCH /apps/A`: router, repository and formation hear of it.
    fn change_app(&mut self, app: &str, request: &Request, ctx: &mut Ctx<Self>) -> Reply<Self> {
        let before = self.host.store.app(app).ok();
        // By its id, it is found again under its new name.
        let known = before.as_ref().map_or(app, |app| app.id.as_str());
        let reply = self.change_formation(known, request, ctx);
        let after = self.host.store.app(known).ok();
        if let (Some(before), Some(after)) = (before, after)
            && before.name != after.name
        {
            let (old, new) = (before.name.as_str(), after.name.as_str());
            self.tell_router_of_end(old);
            self.tell_router(&after.id);
            if let Err(error) = self.repositories().rename(&after.id, old, new) {
                tell!("cannot rename the git repository of `{new}`: {error}");
            }
        }
        reply.unwrap_or_else(|| self.dyno_request(request, ctx))
    }

    /// Apps whose last dyno has ended are destroyed now.
    fn go_on_destroying(&mut self, ctx: &mut Ctx<Self>) {
        let store = &self.host.store;
        let ended = |waiting: &mut Destroying| {
            store
                .live_dynos(Some(&waiting.app_id))
                .is_ok_and(|dynos| dynos.is_empty())
        };
        let ready: Vec<_> = self.destroying.extract_if(.., ended).collect();
        for Destroying { request, app_id } in ready {
            if let Some(reply) = routes::route(self, &request) {
                ctx.answer(request.ticket, reply);
            }
            self.after_destroy(&app_id, ctx);
        }
    }

    fn after_destroy(&mut self, app_id: &str, ctx: &mut Ctx<Self>) {
        self.formations.forget(app_id);
        self.logs.app_destroyed(app_id, ctx);
        self.forget_session(app_id, ctx);
        self.end_builds_of(app_id, ctx);
        self.remove_repository(app_id, ctx);
        let logs = self.host.log_folder(app_id);
        ctx.work(move || {
            let _ = crate::slug::remove_tree(&logs);
            |_: &mut Self, _: &mut Ctx<Self>| {}
        });
        self.sweep_slugs(ctx);
    }

    /// Lets the app's releases expire that are too old to keep, and removes what was theirs alone.
    fn expire_releases(&mut self, app_id: &str, ctx: &mut Ctx<Self>) {
        match self.host.expire_releases(app_id) {
            Ok(false) => {}
            Ok(true) => self.sweep_slugs(ctx),
            Err(error) => tell!("cannot let old releases expire: {error}"),
        }
    }

    /// Removes the slugs that are nobody's any more.
    fn sweep_slugs(&self, ctx: &mut Ctx<Self>) {
        let (cache, kept) = (Arc::clone(&self.host.slugs), self.host.store.kept_digests());
        let as_of = SystemTime::now();
        ctx.work(move || {
            if let Ok(kept) = kept
                && let Err(error) = cache.remove_all_but(&kept, as_of)
            {
                tell!("cannot remove slugs that belong to nobody: {error:#}");
            }
            |_: &mut Self, _: &mut Ctx<Self>| {}
        });
    }

    /// Trees that no dyno runs on make room for newer ones.
    fn evict(&self, ctx: &mut Ctx<Self>) {
        let (cache, limit) = (Arc::clone(&self.host.slugs), self.host.settings.cache_limit);
        ctx.work(move || {
            if let Err(error) = cache.evict(limit) {
                tell!("cannot make room among the slugs: {error:#}");
            }
            |_: &mut Self, _: &mut Ctx<Self>| {}
        });
    }
}

impl Service {
    /// Answers a request of somebody who may ask.
    fn answer(&mut self, request: Request, ctx: &mut Ctx<Self>) -> Reply<Self> {
        if let Some(reply) = about::answer(&request, &self.info, ctx) {
            return reply;
        }
        if let Some(asked) = GitRequest::of(&request.head) {
            let answer = asked.and_then(|asked| self.git_request(asked, &request, ctx));
            return host::reply(answer);
        }
        let path = routes::Path::of(&request.head);
        match (request.head.method(), &path.parts()[..]) {
            ("DELETE", ["apps", app]) => {
                let app = (*app).to_owned();
                drop(path);
                return self.destroy(&app, request, ctx);
            }
            ("PATCH", ["apps", app]) => return self.change_app(app, &request, ctx),
            ("PATCH", ["apps", app, "formation"] | ["apps", app, "formation", _]) => {
                let reply = self.change_formation(app, &request, ctx);
                return reply.unwrap_or_else(|| self.dyno_request(&request, ctx));
            }
            ("POST", ["apps", _, "releases"]) => self.evict(ctx),
            ("GET", ["apps", app, "logs"]) => {
                return host::reply(logs::read(self, &request, app, ctx));
            }
            ("GET", ["account", "rate-limits"]) => {
                let remaining = self.courtesy.remaining(request.ticket);
                let remaining = remaining.unwrap_or(self.host.settings.rate_limit);
                let limits = RateLimit { remaining };
                return Reply::Now(Response::json(200, &limits));
            }
            ("POST", ["apps", app, "log-sessions"]) => {
                return host::reply(logs::create_session(self, &request, app));
            }
            ("GET", ["apps", app, "log-stream"]) => {
                return host::reply(logs::read_session(self, &request, app, ctx));
            }
            ("GET", ["apps", app, "releases", release, "output"]) => {
                return host::reply(logs::read_output(self, &request, app, release, ctx));
            }
            (_, ["apps", _, "builds", ..] | ["builds", ..])
            | ("GET", ["apps", _, "slugs", _, "blob"] | ["sources", _, "blob"])
            | ("DELETE", ["sources", _]) => {
                return self.build_request(&request, ctx);
            }
            ("POST", ["apps", app, "repository"]) => {
                return Reply::Now(response(self.repository(app)));
            }
            (_, ["sessions", ..]) => return self.session_request(&request, ctx),
            (_, ["server", ..]) => return self.server_request(&request, ctx),
            _ => {}
        }
        routes::route(self, &request).unwrap_or_else(|| self.dyno_request(&request, ctx))
    }
}

impl Application for Service {
    fn body_plan(&mut self, head: &RequestHead, via: Via) -> BodyPlan {
        match self.knows(head, via) {
            true => routes::body_plan(&self.host, head),
            false => BodyPlan::Unread,
        }
    }

    fn request(&mut self, request: Request, ctx: &mut Ctx<Self>) -> Reply<Self> {
        if let Err(error) = self.admit(&request) {
            return Reply::Now(response(Err(error)));
        }
        let ticket = request.ticket;
        let reply = self.answer(request, ctx);
        if matches!(reply, Reply::Upgrade(_)) {
            self.courtesy.forget(ticket);
        }
        reply
    }

    fn manners(&mut self, ticket: Ticket, response: Response) -> Response {
        self.courtesy.pay(ticket, response)
    }

    /// The app that it was about has it in its log.
    fn failed(&mut self, target: &str, why: &str) {
        let mut parts = target.split(['/', '?']).skip(1);
        let name = (parts.next() == Some("apps"))
            .then(|| parts.next())
            .flatten();
        if let Some(Ok(app)) = name.map(|name| self.host.store.app(name)) {
            let text = format!("Error R99 (Platform error) -> The server failed: {why}");
            self.host.log_as(&app.id, Source::Heroku, "api", &text);
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
