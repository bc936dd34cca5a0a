//! From a state folder and settings to a server that serves, and its end.

use std::time::{Instant, SystemTime};

use anyhow::{Context as _, Result};
use rustix::fs::Mode;

use super::destroying::Destructions;
use super::leaving::Leaving;
use super::retaking::MissingAddresses;
use super::routing::Routing;
use super::{Ports, Service, ThisServer, listening, routing};
use crate::api::server::StartedBy;
use crate::error::{UserError, tell};
use crate::home::Home;
use crate::kernel::cgroup::GroupParent;
use crate::kernel::fail_point;
use crate::kernel::open_files::say_exhausted;
use crate::kernel::sys::signal::{Signal, ignore};
use crate::model::dyno::Isolation;
use crate::model::settings::{Listen, Sourced};
use crate::sandbox::offer::{self, ChosenIsolation};
use crate::server::access::response_headers::ResponseHeaders;
use crate::server::api_loop::application::Ctx;
use crate::server::api_loop::connection_limits::ConnectionLimits;
use crate::server::builds::Builds;
use crate::server::dynos::end_waiters::EndWaiters;
use crate::server::dynos::formations::Formations;
use crate::server::dynos::{Dynos, USER};
use crate::server::git_http::GitProcesses;
use crate::server::logs::Logs;
use crate::server::logs::keeper::LogKeeper;
use crate::server::process::bind_address::Unless;
use crate::server::process::descriptors::Descriptors;
use crate::server::process::replacement;
use crate::server::process::service_manager::ServiceManager;
use crate::server::process::signals::Reminders;
use crate::server::process::startup;
use crate::server::process::status::Origin;
use crate::server::records::Records;
use crate::server::records::file_streams::FileStreams;
use crate::server::sessions::Sessions;
use crate::wire::handover::Handover;

/// Serves the API of `home` until a signal, or, if `idle`, until there is nothing to do any more. `left` is what a server before
/// it has made room with.
///
/// # Errors
/// When another server runs, or the state cannot be used.
pub fn run(home: &Home, sourced: Sourced, idle: bool, left: Handover) -> Result<()> {
    // So it is found in a list of processes.
    crate::kernel::sys::title::set(&crate::kernel::executable::server_title(home.path()));
    let mut limits = ConnectionLimits::default();
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
        // The next server may start already, and needs all that this one has, but for the visitors that still wait for an
        // answer here: if it has the router's socket, they may take their time.
        let (routing, bridging) = (service.ports.routing.take(), service.ports.bridging.take());
        routing.iter().for_each(Routing::succeed);
        drop(service);
        drop((bridging, routing));
    }
    Ok(())
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
        chosen.check_network(settings.network)?;
        tell(home, &chosen);
        // Why there are none, `dyno doctor` says; but not that they could not be looked for.
        let groups = match GroupParent::find() {
            Err(why) if say_exhausted(&why) => anyhow::bail!("no control groups: {why}"),
            found => found.ok(),
        };
        groups.iter().for_each(GroupParent::sweep);
        let (state, through) = (home, chosen.lets_through());
        let home = home.path();
        let owner = chosen
            .tree_owner()
            .map(|(uid, gid)| crate::slug::TreeOwner { uid, gid });
        let mut records = Records::open(home, settings.clone(), USER.to_owned(), owner)?;
        let origin = Origin::of_process(idle);
        if origin.by != StartedBy::Command {
            let by_manager = matches!(origin.by, StartedBy::Systemd { .. });
            records.asleep.begin(by_manager, SystemTime::now());
        }
        clear_up(&mut records)?;
        let mut dynos = Dynos::new(home, settings, chosen, groups, descriptors, ctx.reactor())?;
        state
            .let_through(through)
            .context("cannot change the mode of the state folder")?;
        dynos.adopt(&mut records, ctx.reactor())?;
        fail_point::reach("server.adopted");
        ctx.inherit(dynos.returned_sockets());
        let unless = |name| match sourced.is_option(name) {
            true => Unless::Fails,
            false => Unless::TriesAgain,
        };
        let (settings, left) = (&sourced.settings, &mut ctx.inherited);
        let mut routed = routing::place(home).take(settings.router, left, unless("router"))?;
        let mut listened = listening::take(home, settings, left, unless("listen"))?;
        let missing = [routed.missing.take(), listened.missing.take()];
        let meets_unless = unless("rendezvous");
        let routing = Routing::start(home, routed, settings, descriptors.visitors, ctx)?;
        let listening = listening::listen(home, settings, listened, ctx)?;
        records.places.router = routing.as_ref().map(Routing::address);
        let formations = Formations::new(ctx.reactor());
        let left = records.store.sessions().map_err(UserError::from)?;
        let sessions = Sessions::left(&left, Instant::now(), ctx.reactor().token());
        let builds = Builds::new(home, records.settings.max_builds, ctx.reactor().waker())
            .context("cannot use the folder of the builds")?;
        let log_keeper = LogKeeper::new(home.join("logs"), records.log_limits(), ctx.reactor());
        // The socket is listening, and nothing from here on takes time.
        let manager = ServiceManager::of_process();
        manager.ready();
        let mut service = Self {
            records,
            dynos,
            formations,
            sessions,
            builds,
            gits: GitProcesses::default(),
            logs: Logs::new(descriptors.connections, sourced.settings.log_keep_alive),
            log_keeper,
            file_streams: FileStreams::new(descriptors.connections),
            end_waiters: EndWaiters::new(ctx.reactor().token()),
            destroying: Destructions::default(),
            response_headers: ResponseHeaders::default(),
            this: ThisServer {
                info: replacement::this_server(idle),
                origin,
                home: home.to_owned(),
                sourced,
                manager,
            },
            ports: Ports {
                routing,
                bridging: None,
                api: None,
                missing: MissingAddresses::new(ctx.reactor()),
                max_sessions: descriptors.sessions,
                max_visitors: descriptors.visitors,
                reminders: Reminders::catch(ctx.reactor())?,
            },
            leaving: Leaving::catch(ctx.reactor())?,
            token_timer: ctx.reactor().token(),
        };
        service.end_tokens(ctx);
        service.listens_at(listening);
        service.begin_rendezvous(meets_unless, ctx)?;
        for missing in missing {
            service.try_later(missing, ctx);
        }
        service.have_sockets_kept(ctx);
        service.recall();
        if !idle {
            service.tell_where();
        }
        service.fail_lost_builds();
        service.sweep_builds(ctx);
        service.take_over_repositories();
        Ok(service)
    }

    /// Says on the terminal, or in the journal, where this server can be reached.
    fn tell_where(&self) {
        let router = self.router_address();
        let listens = [
            ("web dynos at http://", router),
            (
                "the API over TCP at ",
                self.ports.api.map(|address| address.to_string()),
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
            self.this.info.pid,
            self.this.home.display(),
            listens.collect::<String>()
        );
    }
}

/// Removes what an earlier server left half done, and what belongs to no release any more: fewer may be kept than before.
fn clear_up(records: &mut Records) -> Result<()> {
    const LEFT: &str = "cannot clear up what an earlier server left";
    records.slugs.sweep().context(LEFT)?;
    records.sources.sweep().context(LEFT)?;
    for app in records.store.apps().map_err(UserError::from)? {
        records.expire_releases(&app.id).map_err(UserError::from)?;
    }
    let kept = records.store.kept_digests().map_err(UserError::from)?;
    records
        .slugs
        .remove_all_but(&kept, SystemTime::now())
        .context("cannot clear up slugs that belong to nobody")
}

/// Says in the server's log what dynos have to do without, and leaves a note of it for the next command that runs one.
fn tell(home: &Home, chosen: &ChosenIsolation) {
    let ChosenIsolation {
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
