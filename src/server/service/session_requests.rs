//! Requests about the short-lived apps of `dyno start`, and what is done when one comes to its end.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Service;
use super::routing::Routing;
use crate::api::ApiError;
use crate::api::ask::SessionAsk;
use crate::api::dyno::Stopping;
use crate::api::session::{CreateSession, PORTS_OF_TYPE, Session, StopSession};
use crate::error::tell;
use crate::kernel::listener::who_has;
use crate::model::app::{self, AppName, Folder};
use crate::model::dyno::{DynoName, WEB};
use crate::model::scheduler::BackOff;
use crate::server::api_loop::application::{Ctx, Reply, Request, Ticket};
use crate::server::dynos::formations::back_off;
use crate::server::records::Answer;
use crate::server::sessions::Standing;
use crate::server::sessions::start_extras::{StartExtras, live_owner};
use crate::store::{NewLiveRelease, NewStartedApp, WantedName};
use crate::wire::http::Response;

/// How often another first port is looked for, each so many further on as a process type has.
const MOST_MOVES: u16 = 50;

/// What the folder's name gets for the app's.
const SUFFIX: &str = "-start";

/// How long the dynos of an app that no client holds any more have to end, at most; and one-offs beside those that are
/// started.
const LAST_GRACE: Duration = Duration::from_secs(3);

/// How long what crashes waits at most, from the second crash, from the third, and ever: a user sits there and has
/// just mended it.
const QUICK: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

impl Service {
    /// Answers what is asked about the apps of `dyno start`.
    pub(super) fn session_request(
        &mut self,
        ask: &SessionAsk,
        request: &Request,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        match ask {
            SessionAsk::Create => self.begin_session(&request.body, request.ticket, ctx),
            SessionAsk::Stop { session } => self
                .stop_session(session, &request.body, ctx)
                .map(Reply::Now),
        }
    }

    fn begin_session(
        &mut self,
        body: &[u8],
        ticket: Ticket,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        let mut wanted = CreateSession::parse(body)?;
        if self.leaving.after_dynos || ctx.is_stopping() {
            return Err(ApiError::unavailable("the server is about to leave"));
        }
        let mut moved = None;
        let (app, id) = match &wanted.id {
            Some(id) => self.claimed(id)?,
            None => {
                moved = self.settle_ports(&mut wanted)?;
                self.new_session(&wanted)?
            }
        };
        let port = wanted.port;
        let live = self.records.store.session_of(&app.id)?;
        let live = live.filter(|session| session.live).map(|it| it.path);
        let extras = StartExtras {
            env: wanted.env,
            port: wanted.port,
            order: wanted.order,
            live: live.map(PathBuf::from),
        };
        self.dynos.set_start_extras(&app.id, extras);
        let session = Session {
            id: id.clone(),
            app: self.records.resource(&app),
            port,
            moved,
        };
        let mut greeting =
            serde_json::to_vec(&session).map_err(|error| ApiError::internal(error.to_string()))?;
        greeting.push(b'\n');
        self.sessions.hold(&app.id, &id, ticket, greeting);
        if wanted.once {
            self.sessions.only_once(&app.id);
        }
        self.sessions.set_deadline(ctx.reactor());
        match wanted.stopping {
            true => self.end_session(&app.id, self.records.settings.stop_grace, ctx),
            false => self.follow(&app.id, ctx),
        }
        Ok(Reply::Stream(
            Response::new(201).with("Content-Type", "application/json"),
        ))
    }

    /// The session that a client comes back to.
    fn claimed(&self, id: &str) -> Result<(app::App, String), ApiError> {
        let app_id = self.sessions.app_of(id);
        let app_id = app_id.ok_or_else(|| {
            ApiError::not_found("the app of this `dyno start` was ended while it was away")
        })?;
        Ok((self.records.store.app(app_id)?, id.to_owned()))
    }

    fn new_session(&mut self, wanted: &CreateSession) -> Result<(app::App, String), ApiError> {
        let folder = &wanted.folder;
        self.check_folder(folder)?;
        let total: u64 = wanted.formation.values().map(|it| u64::from(*it)).sum();
        let limit = self.records.settings.max_dynos;
        if total > u64::from(limit) {
            let message = format!("{total} dynos are more than the {limit} that an app may have");
            return Err(ApiError::invalid(message)
                .hint("`dyno settings` shows the limit, `max_dynos`; `-m web=2` starts fewer"));
        }
        let name = Path::new(&folder.path).file_name().unwrap_or_default();
        let name = AppName::from_folder(&name.to_string_lossy()).with_suffix(SUFFIX);
        let new = NewStartedApp {
            name: WantedName::Like(name),
            folder,
            live: wanted.live.as_ref().map(|live| NewLiveRelease {
                process_types: &live.process_types,
                toolchains: &live.toolchains,
                formation: &wanted.formation,
            }),
        };
        if wanted.live.is_some() {
            live_owner(Path::new(&folder.path), self.dynos.chosen())?;
        }
        let (records, now) = (&mut self.records, Timestamp::now());
        let (app, session) = records
            .store
            .create_session(&new, &records.account.email, now)?;
        Ok((app, session.id))
    }

    /// Whether a folder is one, and no other `dyno start` runs in it.
    fn check_folder(&self, folder: &Folder) -> Result<(), ApiError> {
        let path = Path::new(&folder.path);
        if path.canonicalize().ok().as_deref() != Some(path) || !path.is_dir() {
            return Err(ApiError::invalid(format!(
                "`{}` is not the canonical path of a folder",
                folder.path
            )));
        }
        if self
            .this
            .home
            .canonicalize()
            .is_ok_and(|home| home.starts_with(path))
        {
            let message = format!("the state folder is inside of `{}`", folder.path);
            return Err(ApiError::invalid(message)
                .hint("every dyno would see it: set DYNO_HOME to a folder outside"));
        }
        let sessions = self.records.store.sessions()?;
        let Some(other) = sessions.iter().find(|it| it.path == folder.path) else {
            return Ok(());
        };
        let name = self.records.store.app(&other.app_id)?.name;
        Err(match self.sessions.standing(&other.app_id) {
            Some(Standing::Held) => ApiError::conflict(format!(
                "`dyno start` runs in `{}` already, as `{name}`",
                folder.path
            ))
            .hint("`dyno ps` shows what it runs; Ctrl-C where it runs ends it"),
            _ => ApiError::unavailable(format!("`{name}` is just being ended"))
                .hint("try again in a moment"),
        })
    }

    /// Sees to it that those who will listen can: from the first port that was asked for, since one that moved on would not be
    /// where a user looks for it; or, if none was asked for, from the next from which they all can. What it says is why
    /// that was needed.
    fn settle_ports(&self, wanted: &mut CreateSession) -> Result<Option<String>, ApiError> {
        let Err(error) = self.check_ports(wanted) else {
            return Ok(None);
        };
        if wanted.port_may_move && error.status() == 409 {
            let first = wanted.port;
            for step in 1..=MOST_MOVES {
                let Some(port) = first.checked_add(step * PORTS_OF_TYPE as u16) else {
                    break;
                };
                wanted.port = port;
                if self.check_ports(wanted).is_ok() {
                    return Ok(Some(error.message));
                }
            }
        }
        Err(error)
    }

    /// Who of this server has a port, in words.
    fn own_part_on(&self, port: u16) -> Option<String> {
        let parts = [
            ("router", self.ports.routing.as_ref().map(Routing::address)),
            ("API over TCP", self.ports.api),
            ("rendezvous", self.rendezvous()),
        ];
        let is_there = |address: &Option<SocketAddr>| address.is_some_and(|it| it.port() == port);
        let part = parts.iter().find(|(_, address)| is_there(address));
        part.map(|(part, _)| format!("the {part} of this server"))
            .or_else(|| {
                let dyno = self.dynos.dyno_with_port(port)?;
                let dyno = self.records.store.dyno_of_id(dyno).ok()?;
                Some(format!("{} of {}", dyno.name, dyno.app_name))
            })
    }

    /// Whether those who will listen can.
    fn check_ports(&self, wanted: &CreateSession) -> Result<(), ApiError> {
        let extras = StartExtras {
            env: wanted.env.clone(),
            port: wanted.port,
            order: wanted.order.clone(),
            live: None,
        };
        for number in 1..=wanted.formation.get(WEB).copied().unwrap_or(0) {
            let name = DynoName {
                process_type: WEB.to_owned(),
                number,
            };
            let hint = "`dyno start -p 6000` counts from another one";
            let port = extras.port_of(&name).ok_or_else(|| {
                ApiError::invalid(format!(
                    "there is no port for `{name}` from {} on",
                    wanted.port
                ))
                .hint(hint)
            })?;
            // The second check has it, too, that no process listens on another address, and that no dyno of another server, which
            // does not listen yet, was given the port; it does not tell for which other reason the port is refused.
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop);
            let free = free.and_then(|()| self.dynos.claims().port(port));
            let why = match free {
                Ok(_) if !self.dynos.uses_port(port) => continue,
                Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => error.to_string(),
                _ => {
                    let who = self.own_part_on(port).unwrap_or_else(|| who_has(port));
                    format!("{who} has it")
                }
            };
            let message = format!("port {port}, for `{name}`, cannot be used: {why}");
            return Err(ApiError::conflict(message).hint(hint));
        }
        Ok(())
    }

    fn stop_session(&mut self, id: &str, body: &[u8], ctx: &mut Ctx<Self>) -> Answer {
        let StopSession { kill } = StopSession::parse(body)?;
        let app_id = self.sessions.app_of(id).map(str::to_owned);
        let app_id = app_id.ok_or_else(|| ApiError::not_found("there is no such session"))?;
        let grace = match kill {
            true => Duration::ZERO,
            false => self.records.settings.stop_grace,
        };
        self.end_session(&app_id, grace, ctx);
        let grace = grace.as_secs_f64();
        Ok(Response::json(202, &Stopping { grace }))
    }

    fn stop_all(&mut self, app_id: &str, grace: Duration) {
        let alive = self.records.store.live_dynos(Some(app_id));
        for dyno in alive.unwrap_or_default() {
            // A forgotten shell, which SIGTERM does not end, is not to hold anybody up.
            let grace = match dyno.formation {
                true => grace,
                false => grace.min(LAST_GRACE),
            };
            self.dynos.end(&dyno.id, grace.as_secs_f64());
        }
    }

    /// The connection of a request has gone: if an app hung on it, that is its end.
    pub(super) fn session_client_gone(&mut self, ticket: Ticket, ctx: &mut Ctx<Self>) {
        // A server that leaves hangs up, and the next one is asked again.
        if ctx.is_stopping() {
            return;
        }
        if let Some(app_id) = self.sessions.broken(ticket) {
            self.abandon_session(&app_id, ctx);
        }
    }

    /// Ends an app that no client holds any more. One that was asked to end before has had its time.
    fn abandon_session(&mut self, app_id: &str, ctx: &mut Ctx<Self>) {
        let grace = match self.sessions.end(app_id) {
            true => Duration::ZERO,
            false => self.records.settings.stop_grace.min(LAST_GRACE),
        };
        self.end_session(app_id, grace, ctx);
    }

    /// Its dynos end within this time, and then it is destroyed.
    fn end_session(&mut self, app_id: &str, grace: Duration, ctx: &mut Ctx<Self>) {
        self.sessions.end(app_id);
        self.stop_all(app_id, grace);
        self.go_on_ending_sessions(ctx);
    }

    /// Destroys the apps that are to be, once their dynos have ended.
    pub(super) fn go_on_ending_sessions(&mut self, ctx: &mut Ctx<Self>) {
        for app_id in self.sessions.ending() {
            let alive = self.records.store.live_dynos(Some(&app_id));
            if !alive.is_ok_and(|alive| alive.is_empty()) {
                continue;
            }
            match self.records.store.destroy_app(&app_id) {
                Ok(()) => self.after_destroy(&app_id, ctx),
                // Tried again by the next server at the latest.
                Err(error) => tell!("cannot destroy the app of a `dyno start`: {error}"),
            }
        }
    }

    /// Forgets an app that was destroyed, and ends the response to the client that held it.
    pub(super) fn forget_session(&mut self, app_id: &str, ctx: &mut Ctx<Self>) {
        self.dynos.forget_start_extras(app_id);
        if let Some(ticket) = self.sessions.forget(app_id) {
            ctx.resume(ticket);
        }
    }

    /// Ends the apps of an earlier server that no client has claimed in time.
    pub(super) fn end_unclaimed_sessions(&mut self, ctx: &mut Ctx<Self>) {
        for app_id in self.sessions.unclaimed(Instant::now()) {
            self.abandon_session(&app_id, ctx);
        }
        self.sessions.set_deadline(ctx.reactor());
    }

    /// How often what crashes of this app is tried again.
    pub(super) fn back_off_of(&self, app_id: &str) -> BackOff {
        let usual = back_off(&self.records.settings);
        if !self.sessions.has(app_id) {
            return usual;
        }
        let [second, third, longest] = QUICK;
        BackOff {
            second: usual.second.min(second),
            third: usual.third.min(third),
            longest: usual.longest.min(longest),
            ..usual
        }
    }
}
