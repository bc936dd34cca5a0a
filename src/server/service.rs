//! The server's application: every request finds its handler here, every event of a dyno its row.

mod admission;
mod app_requests;
mod attaching;
mod bridging;
mod build_requests;
mod destroying;
mod dyno_requests;
mod follow;
mod git_requests;
mod leaving;
mod listening;
mod log_requests;
mod release_requests;
mod retaking;
mod routing;
mod server_requests;
mod session_requests;
mod start;
mod tokens;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use jiff::Timestamp;

use crate::api::ApiError;
use crate::api::account::RateLimit;
use crate::api::ask::Ask;
use crate::api::ask::policy::AskBody;
use crate::api::server::{ServerInfo, StartedBy};
use crate::error::tell;
use crate::kernel::tree::remove_tree;
use crate::model::dyno::BUILD;
use crate::model::log_line::{LogSource, Story};
use crate::model::settings::Sourced;
use crate::server::access::response_headers::ResponseHeaders;
use crate::server::api_loop::application::{
    Application, BodyPlan, Ctx, Heir, More, Reply, Request, Ticket,
};
use crate::server::api_loop::listener::ApiSocket;
use crate::server::api_loop::via::Via;
use crate::server::builds::Builds;
use crate::server::dynos::Dynos;
use crate::server::dynos::end_waiters::EndWaiters;
use crate::server::dynos::formations::{Formations, FormationsDue};
use crate::server::dynos::supervisors::LostDyno;
use crate::server::git_http::GitProcesses;
use crate::server::logs::Logs;
use crate::server::logs::keeper::LogKeeper;
use crate::server::process::service_manager::ServiceManager;
use crate::server::process::signals::Reminders;
use crate::server::process::status::Origin;
use crate::server::records::apps;
use crate::server::records::authorizations;
use crate::server::records::config;
use crate::server::records::file_streams::FileStreams;
use crate::server::records::platform;
use crate::server::records::{self, Records};
use crate::server::sessions::Sessions;
use crate::wire::http::{RequestHead, Response};
use crate::wire::reactor::{Event, Token};
use bridging::Bridging;
use destroying::Destructions;
use leaving::Leaving;
use retaking::MissingAddresses;
use routing::Routing;
pub use start::run;

/// By how much an upload may pass the limit of a slug before the connection is closed on it, in bytes: what is said before
/// a pack, or what a worker reads before it refuses the rest.
const MARGIN: u64 = 4 << 20;

/// What this process is, as it tells clients and the service manager.
struct ThisServer {
    /// Which build, which process, and whether it leaves when it has nothing to do.
    info: ServerInfo,
    /// When and by what it was started.
    origin: Origin,
    /// Its state folder.
    home: PathBuf,
    /// Its settings, and where each comes from.
    sourced: Sourced,
    /// The service manager that has started it, if one has.
    manager: ServiceManager,
}

/// Where clients reach this server beside its Unix socket, and the threads that serve them there.
struct Ports {
    /// The router, if there is one.
    routing: Option<Routing>,
    /// The bridge, if it is needed.
    bridging: Option<Bridging>,
    /// Where the API is reached over TCP.
    api: Option<SocketAddr>,
    /// The addresses that are taken at the moment, or are not this host's.
    missing: MissingAddresses,
    /// How many sessions may go through the bridge.
    max_sessions: usize,
    /// How many connections the router may have.
    max_visitors: usize,
    /// Tells that a client does not find the Unix socket.
    reminders: Reminders,
}

/// The server's application. Each field is a feature, with tokens and state of its own; what is a method here crosses features.
struct Service {
    /// State, slugs and settings of this host.
    records: Records,
    /// The live dynos and their supervisors.
    dynos: Dynos,
    /// What is remembered of the apps' formations.
    formations: Formations,
    /// The apps of `dyno start`.
    sessions: Sessions,
    /// The builds that wait or run.
    builds: Builds,
    /// The git processes that answer pushes and fetches.
    gits: GitProcesses,
    /// The readers of logs.
    logs: Logs,
    /// Keeps logs within their limits that no process writes to.
    log_keeper: LogKeeper,
    /// The files that are being sent.
    file_streams: FileStreams,
    /// The requests that wait for the end of a dyno.
    end_waiters: EndWaiters,
    /// The requests to destroy an app that wait for its dynos.
    destroying: Destructions,
    /// The header fields that responses to requests over TCP are to have.
    response_headers: ResponseHeaders,
    /// What this process is.
    this: ThisServer,
    /// Where it is reached over TCP.
    ports: Ports,
    /// When it leaves.
    leaving: Leaving,
    /// Its deadline is when the next token expires.
    token_timer: Token,
}

impl Service {
    /// Whether a command has started this server, and it has nothing to do any more.
    fn is_idle(&self, ctx: &Ctx<Self>) -> bool {
        self.this.info.idle
            && self.ports.api.is_none()
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

    /// Has the supervisors of live dynos keep the sockets at ports for the next server.
    fn have_sockets_kept(&mut self, ctx: &Ctx<Self>) {
        // A service manager starts the next server, and clients wait for that.
        let turn_away = !self.this.manager.is_there();
        let state = ctx.estate_state();
        self.dynos.keep_sockets(ctx.estate(), state, turn_away);
    }

    /// A client does not find the socket: if it is gone, or something else is in its place, there is another.
    fn look_after_socket(&self, ctx: &mut Ctx<Self>) {
        if ctx.is_stopping() || ctx.is_found() {
            return;
        }
        match ApiSocket::bind(self.this.home.join("api.sock")) {
            Ok(socket) => {
                tell!("`api.sock` was removed or replaced; there is another now");
                ctx.listen(socket);
            }
            Err(error) => {
                tell!("`api.sock` was removed or replaced, and cannot be made again: {error}");
            }
        }
    }

    /// Takes what a supervisor has said, and has the rest of the server follow it.
    fn hear_dynos(&mut self, token: Token, ctx: &mut Ctx<Self>) {
        let heard = self
            .dynos
            .hear(token, &mut self.records.store, ctx.reactor());
        for id in &heard.changed {
            if let Ok(dyno) = self.records.store.dyno_of_id(id)
                && dyno.formation
            {
                if dyno.name.is_web() {
                    self.tell_router(&dyno.app_id);
                }
                self.after_change_of(&dyno, ctx);
            }
        }
        for remains in heard.gone {
            self.clean_up_after(remains, ctx);
        }
        for folder in heard.uncleared {
            self.clear_folder(folder, ctx);
        }
        self.after_end(&heard.ended, ctx);
    }

    /// Has all that waits for these dynos to end go on.
    fn after_end(&mut self, dynos: &[String], ctx: &mut Ctx<Self>) {
        for id in dynos {
            // Of an app that was destroyed there is no row.
            if let Ok(dyno) = self.records.store.dyno_of_id(id) {
                self.after_end_of(&dyno, ctx);
            }
        }
        let mut was_orphan = false;
        for id in dynos {
            let dyno = self.records.store.dyno_of_id(id);
            let builds = dyno.is_ok_and(|dyno| dyno.name.process_type == BUILD);
            was_orphan |= builds && !self.builds.has_dyno(id);
            self.builds.dyno_ended(id);
        }
        if was_orphan {
            self.sweep_builds(ctx);
        }
        if !dynos.is_empty() {
            self.answer_end_waiters(dynos, ctx);
            self.logs.dynos_ended(dynos, ctx);
            self.go_on_destroying(ctx);
            self.go_on_ending_sessions(ctx);
        }
    }

    /// Removes the folder of an ended dyno, which may hold many files; comes back to one that cannot be removed.
    fn clear_folder(&mut self, folder: PathBuf, ctx: &mut Ctx<Self>) {
        let job = folder.clone();
        let taken = ctx.work(move || {
            let removed = remove_tree(&job);
            move |service: &mut Self, ctx: &mut Ctx<Self>| {
                if removed.is_err() {
                    service.dynos.clear_later(job, ctx.reactor());
                }
            }
        });
        if !taken {
            self.dynos.clear_later(folder, ctx.reactor());
        }
    }

    /// Clears away after a dyno whose supervisor was killed, and writes its end down. It may have written much.
    fn clean_up_after(&mut self, remains: LostDyno, ctx: &mut Ctx<Self>) {
        let dyno = remains.dyno.clone();
        let cleanup = self.dynos.cleanup(remains, &self.records);
        let taken = ctx.work(move || {
            let settled = cleanup.perform();
            move |service: &mut Self, ctx: &mut Ctx<Self>| {
                let Ok(record) = settled else {
                    let dyno = cleanup.dyno().to_owned();
                    return service.dynos.put_off(dyno, ctx.reactor());
                };
                let store = &mut service.records.store;
                let ended = service
                    .dynos
                    .cleaned_up(cleanup, record, store, ctx.reactor());
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
    fn records(&mut self) -> &mut Records {
        &mut self.records
    }

    /// Answers a request that was let in.
    fn answer(
        &mut self,
        ask: &Ask,
        request: &Request,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        let (records, body, now) = (&mut self.records, &request.body[..], Timestamp::now());
        let answer = match ask {
            Ask::Apps(ask) => return self.app_request(ask, request, ctx),
            Ask::Links(ask) => apps::answer_links(records, ask, body, now),
            Ask::Config(ask) => config::answer(records, ask, body, now),
            Ask::Slugs(ask) => return self.slug_request(ask, request),
            Ask::Sources(ask) => return self.source_request(ask, request, ctx),
            Ask::Builds(ask) => return self.build_request(ask, request, ctx),
            Ask::Releases(ask) => return self.release_request(ask, request, ctx),
            Ask::Formation(ask) => self.formation_request(ask, body, ctx),
            Ask::Dynos(ask) => return self.dyno_request(ask, request, ctx),
            Ask::Logs(ask) => return self.log_request(ask, request, ctx),
            Ask::Git(ask) => return self.git_request(ask, request, ctx),
            Ask::Sessions(ask) => return self.session_request(ask, request, ctx),
            Ask::Authorizations(ask) => {
                authorizations::answer(records, ask, body, request.token.as_deref(), now)
            }
            Ask::Platform(ask) => {
                let asker = records.asker(request.caller());
                platform::answer(records, ask, &asker, now)
            }
            Ask::RateLimits => {
                let remaining = self.response_headers.remaining(request.ticket);
                let remaining = remaining.unwrap_or(self.records.settings.rate_limit);
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
                limit: self.records.settings.slug_limit + MARGIN,
            },
            // What is asked for nothing that exists is answered on a connection that goes on.
            Ok(AskBody::Whole) | Err(_) => BodyPlan::Memory,
        }
    }

    fn request(&mut self, mut request: Request, ctx: &mut Ctx<Self>) -> Reply<Self> {
        let reply = self
            .admit(&mut request)
            .and_then(|ask| self.answer(&ask, &request, ctx));
        if matches!(reply, Ok(Reply::Upgrade(_))) {
            self.response_headers.forget(request.ticket);
        }
        records::reply(reply)
    }

    fn with_headers(&mut self, ticket: Ticket, response: Response) -> Response {
        self.response_headers.add_to(ticket, response)
    }

    /// The app that it was about has it in its log.
    fn failed(&mut self, target: &str, why: &str) {
        if let Some(Ok(app)) = Ask::app_of(target).map(|app| self.records.store.app(&app)) {
            let story = Story::ServerFailed(why.to_owned());
            self.records
                .log_as(&app.id, LogSource::Heroku, "api", &story);
        }
    }

    fn event(&mut self, event: Event, ctx: &mut Ctx<Self>) {
        if let Some(due) = self.formations.came(event) {
            return match due {
                FormationsDue::TakeUp => {
                    self.sessions.set_deadline(ctx.reactor());
                    self.take_up_formations(ctx);
                }
                FormationsDue::Look => self.look_at_due_formations(ctx),
            };
        }
        match event {
            Event::Woken => {
                self.hear_router(ctx);
                self.hear_bridge(ctx);
                self.hear_builds(ctx);
            }
            event if self.sessions.came(event) => self.end_unclaimed_sessions(ctx),
            event if self.ports.missing.came(event) => self.take_missing(ctx),
            event if self.end_waiters.came(event) => self.answer_end_waiters(&[], ctx),
            event if self.log_keeper.came(event) => {
                self.log_keeper.look(ctx);
                self.sweep_sources(ctx);
            }
            Event::Deadline(token) if token == self.token_timer => self.end_tokens(ctx),
            event if self.leaving.is_over(event) && self.is_idle(ctx) => ctx.stop(),
            Event::Ready { token, .. } | Event::Again(token) | Event::Deadline(token)
                if self.dynos.knows(token) =>
            {
                self.hear_dynos(token, ctx);
            }
            event if self.dynos.host_changed(event, ctx.reactor()) => {}
            event if self.leaving.is_signal(event) => ctx.stop(),
            event if self.ports.reminders.came(event) => self.look_after_socket(ctx),
            event if self.logs.came(event, ctx) => {}
            event if self.gits.came(event, ctx) => {}
            // Of a token that was forgotten.
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
        self.response_headers.forget(ticket);
        self.end_waiters.forget(ticket);
        self.file_streams.leave(ticket);
        self.gits.leave(ticket, ctx);
        self.logs.leave(ticket, ctx);
        self.session_client_gone(ticket, ctx);
    }

    /// Looks at the whole: what releases were made, and whether the server leaves.
    fn turn_ended(&mut self, ctx: &mut Ctx<Self>) {
        for app_id in std::mem::take(&mut self.records.released) {
            self.after_release(&app_id, ctx);
            self.expire_releases(&app_id, ctx);
        }
        if self.records.access.has_changed() {
            self.end_tokens(ctx);
        }
        if self.leaving.after_dynos && self.dynos.count() == 0 && !ctx.is_stopping() {
            if matches!(self.this.origin.by, StartedBy::Systemd { .. }) {
                self.records.asleep.await_restart(SystemTime::now());
            }
            ctx.stop();
        }
        self.this
            .manager
            .update(self.dynos.count(), ctx.is_stopping());
        self.this.manager.keep(ctx.estate());
        self.have_sockets_kept(ctx);
        if ctx.is_stopping() {
            if self.this.manager.is_there() {
                ctx.leave_to_manager();
            } else if matches!(ctx.heir(), Heir::None) && self.dynos.keep_any_sockets() {
                ctx.leave_to_dynos();
            }
            self.answer_all_end_waiters(ctx);
            self.close_router(ctx.heir());
            self.close_bridge();
        }
        // Only a host that runs dynos pays for the next one.
        if self.dynos.count() > 0 && !self.leaving.after_dynos {
            self.dynos.prepare(ctx.reactor());
        }
        let (is_idle, linger) = (self.is_idle(ctx), self.records.settings.idle_linger);
        self.leaving.note(is_idle, linger, ctx.reactor());
    }
}
