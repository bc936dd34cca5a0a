//! The server's side of the [router](crate::router): it is told what may get requests, and tells when a dyno has answered
//! those that it had.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use crossbeam_channel::{Receiver, unbounded};

use super::Service;
use crate::error::tell;
use crate::model::dyno::life::StopReason;
use crate::model::dyno::{Dyno, DynoState};
use crate::model::settings::Settings;
use crate::router::{self, Backend, BackendState, FromRouter, Leave, Route, Router, ToRouter};
use crate::server::api_loop::application::{Ctx, Heir};
use crate::server::process::bind_address::{BindAddress, Taken, Unless};
use crate::store::{Result as StoreResult, StoreErrorKind};
use crate::wire::handover::Part;

/// The name of the file in the state folder that says where the last router listened: the next one is to be found there,
/// too.
const ADDRESS: &str = "router";

/// The router, and what it says.
pub struct Routing {
    router: Router,
    inbox: Receiver<FromRouter>,
}

/// The router's place among addresses.
pub(super) fn place(home: &Path) -> BindAddress {
    BindAddress {
        socket: Part::Router,
        part: "the router",
        option: "router",
        memory: home.join(ADDRESS),
    }
}

/// The sockets that were taken, which the next server could go on with.
///
/// # Errors
/// When descriptors have run out.
pub(super) fn bequeathed(taken: Taken, ctx: &mut Ctx<Service>) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for (part, listener) in taken.sockets {
        ctx.bequeath(part, &listener)?;
        listeners.push(listener);
    }
    Ok(listeners)
}

impl Routing {
    /// Starts a router with these sockets; None if there are none.
    ///
    /// # Errors
    /// When descriptors or threads have run out.
    pub fn start(
        home: &Path,
        taken: Taken,
        settings: &Settings,
        clients: usize,
        ctx: &mut Ctx<Service>,
    ) -> Result<Option<Self>> {
        if taken.sockets.is_empty() {
            return Ok(None);
        }
        let listeners = bequeathed(taken, ctx)?;
        let (sender, inbox) = unbounded();
        let waker = ctx.reactor().waker();
        let tell = move |news| {
            let _ = sender.send(news);
            waker.wake();
        };
        let settings = router::RouterSettings {
            clients,
            trusted: settings.trusted_proxies.clone(),
            first_byte_time: settings.request_timeout,
            rolling_time: settings.response_timeout,
            boot_time: settings.boot_wait,
            ..router::RouterSettings::default()
        };
        let router = Router::start(listeners, settings, tell)?;
        place(home).remember(router.address());
        Ok(Some(Self { router, inbox }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.router.address()
    }

    /// The state is another server's now. So is the socket, if this one did not close the router before; those who are here may
    /// take their time.
    pub fn succeed(&self) {
        self.router.leave(Leave::ToSuccessor);
    }
}

impl Service {
    /// Where the router listens.
    pub(super) fn router_address(&self) -> Option<String> {
        let routing = self.ports.routing.as_ref()?;
        Some(routing.address().to_string())
    }

    /// Tells the router what it may do with an app's requests.
    pub(super) fn tell_router(&self, app_id: &str) {
        let Some(routing) = &self.ports.routing else {
            return;
        };
        // Of an app that is being destroyed it has been told that there is none, while its dynos still end.
        if self.destroying.include(app_id) {
            return;
        }
        match self.route(app_id) {
            Ok(route) => {
                let (app, route) = (route.app.clone(), Some(route));
                routing.router.send(ToRouter::App { app, route });
            }
            // It was destroyed, and that was told by its name.
            Err(error) if error.kind() == StoreErrorKind::NotFound => {}
            Err(error) => tell!("cannot tell the router of an app: {error}"),
        }
    }

    /// Tells the router that there is no such app any more.
    pub(super) fn tell_router_of_end(&self, app: &str) {
        if let Some(routing) = &self.ports.routing {
            let app = app.to_owned();
            routing.router.send(ToRouter::App { app, route: None });
        }
    }

    fn route(&self, app_id: &str) -> StoreResult<Route> {
        let store = &self.records.store;
        let app = store.app(app_id)?;
        let release = store.current_release(&app.id)?;
        let alive = store.live_dynos(Some(&app.id))?;
        let web = alive
            .iter()
            .filter(|dyno| dyno.formation && dyno.name.is_web());
        let mut backends: Vec<_> = web.filter_map(|dyno| self.backend(dyno)).collect();
        for id in self.formations.crashed_dynos(&app.id) {
            let dyno = store.dyno_of_id(id)?;
            if dyno.name.is_web() {
                let crashes = self.formations.crashes_of(&dyno);
                backends.push(Backend {
                    // It begins as soon as those that were told to end have: visitors wait for it as for any that does.
                    state: match crashes.is_some_and(|it| it.awaits.is_some()) {
                        true => BackendState::Starting,
                        false => BackendState::Crashed,
                    },
                    name: dyno.name.to_string(),
                    dyno: dyno.id,
                    door: None,
                });
            }
        }
        Ok(Route {
            app: app.name.to_string(),
            logs: self.records.log_folder(&app.id),
            log_limits: self.records.log_limits(),
            maintenance: app.maintenance,
            blank: release.slug_id.is_none(),
            backends,
        })
    }

    fn backend(&self, dyno: &Dyno) -> Option<Backend> {
        let door = self.dynos.door(&dyno.id);
        let listener = self.dynos.listener(&dyno.id);
        let listener = listener.filter(|it| !it.apart || door.is_some());
        let state = match (dyno.state, listener) {
            (DynoState::Up, Some(listener)) => BackendState::Up(listener),
            (DynoState::Down, Some(listener)) => BackendState::Draining(listener),
            (DynoState::Down, None) => return None,
            // Up, and none of its processes listens any more: it may be about to begin again.
            _ => BackendState::Starting,
        };
        Some(Backend {
            dyno: dyno.id.clone(),
            name: dyno.name.to_string(),
            state,
            door,
        })
    }

    /// Takes what the router has said.
    pub(super) fn hear_router(&mut self, ctx: &mut Ctx<Self>) {
        let Some(routing) = &self.ports.routing else {
            return;
        };
        let mut ended = false;
        for news in routing.inbox.try_iter() {
            match news {
                FromRouter::Ended => ended = true,
                // Nothing holds it up any more.
                FromRouter::Drained { dyno } => {
                    self.dynos
                        .retire(&dyno, StopReason::Restarted, Duration::ZERO);
                }
                FromRouter::Doubted { dyno } => self.dynos.check_port(&dyno),
            }
        }
        if ended {
            self.start_router_again(ctx);
        }
    }

    fn start_router_again(&mut self, ctx: &mut Ctx<Self>) {
        // The old one's sockets are another's now.
        self.ports.routing = None;
        ctx.inherit_own([Part::Router, Part::RouterTwin]);
        let wish = self.records.settings.router;
        let taken = place(&self.this.home).take(wish, &mut ctx.inherited, Unless::TriesAgain);
        match taken {
            Ok(mut taken) => {
                self.try_later(taken.missing.take(), ctx);
                self.begin_routing(taken, ctx);
            }
            Err(error) => tell!("there is no router any more: {error:#}"),
        }
    }

    /// Begins with the router, or goes on with one more socket of it.
    pub(super) fn begin_routing(&mut self, taken: Taken, ctx: &mut Ctx<Self>) {
        if let Some(routing) = &self.ports.routing {
            match bequeathed(taken, ctx) {
                Ok(listeners) => {
                    for listener in listeners {
                        routing.router.send(ToRouter::Listen(listener));
                    }
                }
                Err(error) => tell!("the router cannot listen: {error}"),
            }
            return;
        }
        let clients = self.ports.max_visitors;
        match Routing::start(&self.this.home, taken, &self.records.settings, clients, ctx) {
            Ok(routing) => {
                self.records.places.router = routing.as_ref().map(Routing::address);
                self.ports.routing = routing;
            }
            Err(error) => tell!("there is no router: {error:#}"),
        }
        for app in self.records.store.apps().unwrap_or_default() {
            self.tell_router(&app.id);
        }
        self.open_router();
    }

    /// The router has been told of all apps.
    pub(super) fn open_router(&self) {
        if let Some(routing) = &self.ports.routing {
            routing.router.send(ToRouter::Ready);
        }
    }

    /// The server is about to leave: visitors get the answers that are on their way. If another server takes the socket
    /// over, they are let in until the state is that one's; see [`Routing::succeed`].
    pub(super) fn close_router(&mut self, heir: &Heir) {
        let leave = match heir {
            Heir::None => Leave::ForGood,
            Heir::Manager | Heir::Dynos => Leave::ToKeeper,
            Heir::Server { .. } => return,
        };
        if let Some(routing) = &self.ports.routing {
            routing.router.leave(leave);
        }
    }

    /// How long a web dyno that is retired may take for the requests that it has.
    pub(super) fn drain_time(&self) -> Duration {
        match self.ports.routing {
            Some(_) => self.records.settings.drain_timeout,
            None => Duration::ZERO,
        }
    }
}
