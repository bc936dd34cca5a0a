//! Makes dynos follow the formation, and releases their release phase: looks at what there is, has the
//! [scheduler](crate::model::scheduler) decide, and does it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Service;
use crate::error::tell;
use crate::kernel::fail_point;
use crate::model::dyno::life::StopReason;
use crate::model::dyno::{Dyno, DynoName, DynoState, EndReason};
use crate::model::log_line::{LogSource, Story};
use crate::model::release::{RELEASE_PHASE, Release, ReleaseStatus};
use crate::model::scheduler::{Beside, FormationChange, Present, Situation, plan};
use crate::model::size;
use crate::server::api_loop::application::Ctx;
use crate::server::dynos::formations::{self, cycle_at};
use crate::server::records::formation;
use crate::server::records::slugs::digest;
use crate::slug::Lease;
use crate::store::{NewFormationDyno, Result as StoreResult, StoreErrorKind};

/// How long until a look that could not be taken is tried again.
const LATER: Duration = Duration::from_secs(5);

/// How many crashes in a row matter: from there on, the wait is the longest.
const MOST_CRASHES: u32 = 16;

/// How far a release phase is.
enum Phase {
    /// It runs, or will.
    Running,
    /// It has ended, and that is written down.
    Over,
}

/// The tree of a release's slug, for a dyno that starts.
enum Tree {
    /// There. None: the release has no slug, and nothing to run.
    There(Option<Lease>),
    /// It is being unpacked, and then there is another look.
    Coming,
    /// No worker has time to unpack it.
    NotNow,
}

impl Service {
    /// Takes up the formations of all apps, and the release phases, where an earlier server left them.
    pub(super) fn take_up_formations(&mut self, ctx: &mut Ctx<Self>) {
        for app in self.records.store.apps().unwrap_or_default() {
            self.follow(&app.id, ctx);
        }
        self.open_router();
        self.go_on_with_release_phases(ctx);
    }

    /// Reads from the state what has crashed. To be done before anybody asks.
    pub(super) fn recall(&mut self) {
        for app in self.records.store.apps().unwrap_or_default() {
            if let Err(error) = self.recall_crashes(&app.id) {
                tell!("cannot read how the dynos of {} crashed: {error}", app.name);
            }
        }
    }

    fn recall_crashes(&mut self, app_id: &str) -> StoreResult<()> {
        let release = self.records.store.current_release(app_id)?;
        let back_off = self.back_off_of(app_id);
        for entry in self.records.store.formation(app_id)? {
            for number in 1..=entry.wanted.quantity {
                let name = DynoName {
                    process_type: entry.wanted.process_type.clone(),
                    number,
                };
                let store = &self.records.store;
                let crashed = store.last_crashes(app_id, &release.id, &name, MOST_CRASHES)?;
                for dyno in crashed.iter().rev() {
                    let beside = self.beside(dyno)?;
                    self.formations.crashed(dyno, beside, &back_off);
                }
            }
        }
        Ok(())
    }

    /// Which of those that had been told to end a dyno lived beside.
    fn beside(&self, dyno: &Dyno) -> StoreResult<Beside> {
        let others = self.records.store.retired_beside(dyno)?;
        Ok(Beside::of(&dyno.name, &others))
    }

    /// Has an app's dynos be what its formation says.
    pub(super) fn follow(&mut self, app_id: &str, ctx: &mut Ctx<Self>) {
        let mut look_at = None;
        if self.destroying.include(app_id) {
            return;
        }
        let is_awake = self.sessions.may_start(app_id) && !self.records.asleep.has(app_id);
        if !self.leaving.after_dynos && is_awake && !ctx.is_stopping() {
            look_at = match self.look(app_id, ctx) {
                Ok(look_at) => look_at,
                Err(error) if error.kind() == StoreErrorKind::NotFound => {
                    self.formations.forget(app_id);
                    None
                }
                Err(error) => {
                    tell!("cannot look after the formation of an app: {error}");
                    Some(formations::now() + LATER)
                }
            };
        }
        self.formations.look_at(app_id, look_at);
        self.formations.set_deadline(ctx.reactor());
        self.tell_router(app_id);
    }

    /// Looks at the apps whose time has come.
    pub(super) fn look_at_due_formations(&mut self, ctx: &mut Ctx<Self>) {
        for app_id in self.formations.due(formations::now()) {
            self.follow(&app_id, ctx);
        }
        // One that could not begin is tried again with the others.
        self.go_on_with_release_phases(ctx);
        self.formations.set_deadline(ctx.reactor());
    }

    fn look(&mut self, app_id: &str, ctx: &mut Ctx<Self>) -> StoreResult<Option<Duration>> {
        let store = &self.records.store;
        let release = store.current_release(app_id)?;
        let entries = store.formation(app_id)?;
        let wanted: Vec<_> = match release.slug_id {
            Some(_) => entries.iter().map(|entry| entry.wanted.clone()).collect(),
            None => Vec::new(),
        };
        let alive = store.live_dynos(Some(app_id))?;
        let settings = &self.records.settings;
        let present: Vec<_> = alive
            .iter()
            .filter(|dyno| dyno.formation && is_present(dyno))
            .map(|dyno| Present {
                id: dyno.id.clone(),
                name: dyno.name.clone(),
                release: dyno.release_id.clone(),
                size: dyno.size.clone(),
                cycle_at: cycle_at(dyno, settings),
            })
            .collect();
        let leaving: Vec<_> = alive
            .iter()
            .filter(|dyno| dyno.formation && dyno.state == DynoState::Down)
            .map(|dyno| dyno.name.clone())
            .collect();
        let of_app = settings
            .max_dynos
            .saturating_sub(store.count_alive(app_id)?);
        let of_server = self.dynos.room();
        let memory = self.formations.of(app_id, &release.id);
        let is_wanted = |name: &DynoName| {
            let mut wanted = wanted.iter();
            wanted.any(|it| it.process_type == name.process_type && name.number <= it.quantity)
        };
        memory.crashes.retain(|name, _| is_wanted(name));
        let situation = Situation {
            wanted: &wanted,
            release: &release.id,
            present: &present,
            leaving: &leaving,
            crashes: &memory.crashes,
            room: of_app.min(of_server),
        };
        let plan = plan(&situation, formations::now());
        let gone: Vec<_> = memory
            .crashed
            .extract_if(|name, _| !is_wanted(name))
            .collect();
        for (name, _) in gone {
            let story = Story::state_changed(DynoState::Crashed, DynoState::Down);
            self.records
                .log_as(app_id, LogSource::Heroku, &name.to_string(), &story);
        }
        let mut look_at = plan.look_at;
        // What other apps have alive can change without a word to this one.
        if plan.short && of_server < of_app {
            look_by(&mut look_at, formations::now() + LATER);
        }
        for change in plan.changes {
            match change {
                FormationChange::Retire { id, why } => {
                    if let Some(dyno) = alive.iter().find(|dyno| dyno.id == id) {
                        self.retire(dyno, why)?;
                    }
                }
                FormationChange::Start { name, size } => {
                    let memory = self.formations.of(app_id, &release.id);
                    if self.sessions.is_once(app_id) && memory.crashes.contains_key(&name) {
                        continue;
                    }
                    // Both would want one port: its end is another look.
                    if self.sessions.has(app_id)
                        && alive.iter().any(|dyno| dyno.formation && dyno.name == name)
                    {
                        continue;
                    }
                    let command = release.process_types.get(&name.process_type);
                    let command = command.unwrap_or_default().to_owned();
                    match self.tree_for(&release, ctx) {
                        Tree::There(tree) => {
                            let again = self
                                .start_formation_dyno(&release, name, &command, &size, tree, ctx)?;
                            if let Some(at) = again {
                                look_by(&mut look_at, at);
                            }
                        }
                        Tree::Coming => {}
                        Tree::NotNow => look_by(&mut look_at, formations::now() + LATER),
                    }
                }
            }
        }
        Ok(look_at)
    }

    /// Has a dyno of the formation end, and another may take its name at once. Written down first: a server that comes
    /// after one that was killed in between tells it once more.
    pub(super) fn retire(&mut self, dyno: &Dyno, why: StopReason) -> StoreResult<()> {
        let drains = dyno.name.is_web() && dyno.state == DynoState::Up;
        let drain = match drains {
            true => self.drain_time(),
            false => Duration::ZERO,
        };
        self.records
            .store
            .update_dyno(&dyno.id, DynoState::Down, Timestamp::now())?;
        fail_point::reach("dyno.retired");
        self.dynos.retire(&dyno.id, why, drain);
        Ok(())
    }

    /// When to try again, if it could not be started.
    fn start_formation_dyno(
        &mut self,
        release: &Release,
        name: DynoName,
        command: &str,
        size: &str,
        tree: Option<Lease>,
        ctx: &mut Ctx<Self>,
    ) -> StoreResult<Option<Duration>> {
        let new = NewFormationDyno {
            release,
            name: Some(name.clone()),
            command,
            size,
        };
        let dyno = self
            .records
            .store
            .create_formation_dyno(&new, Timestamp::now())?;
        let memory = self.formations.of(&release.app_id, &release.id);
        if memory.crashed.remove(&name).is_some() {
            let story = Story::state_changed(DynoState::Crashed, DynoState::Starting);
            self.records.log_as(
                &release.app_id,
                LogSource::Heroku,
                &name.to_string(),
                &story,
            );
        }
        let started =
            self.dynos
                .start_detached(&mut self.records, &dyno, release, tree, ctx.reactor());
        let Err(error) = started else {
            return Ok(None);
        };
        tell!("cannot start `{name}`: {error:#}");
        let dyno = self.records.store.dyno_of_id(&dyno.id)?;
        let back_off = self.back_off_of(&release.app_id);
        self.formations.crashed(&dyno, Beside::Nobody, &back_off);
        let memory = self.formations.of(&release.app_id, &release.id);
        let soonest = formations::now() + LATER;
        let again = memory.crashes.get_mut(&name).map(|crashes| {
            crashes.again_at = crashes.again_at.max(soonest);
            crashes.again_at
        });
        Ok(Some(again.unwrap_or(soonest)))
    }

    /// The tree of a release's slug; if it had to make room for others, it is unpacked again, and then there is another
    /// look at the app.
    fn tree_for(&mut self, release: &Release, ctx: &mut Ctx<Self>) -> Tree {
        let id = release.digest.as_deref().map(digest).transpose();
        let Ok(Some(id)) = id else {
            return Tree::There(None);
        };
        if let Some(tree) = self.records.slugs.tree_in_use(&id) {
            return Tree::There(Some(tree));
        }
        if !self.formations.begin_unpacking(&release.id) {
            return Tree::Coming;
        }
        let (cache, app_id) = (Arc::clone(&self.records.slugs), release.app_id.clone());
        let release_id = release.id.clone();
        let taken = ctx.work(move || {
            let tree = cache.ensure_tree(&id);
            move |service: &mut Self, ctx: &mut Ctx<Self>| {
                service.formations.end_unpacking(&release_id);
                match tree {
                    // Held until the dynos have it.
                    Ok(_held) => {
                        service.follow(&app_id, ctx);
                        service.go_on_with_release_phases(ctx);
                    }
                    Err(error) => {
                        tell!("cannot unpack a slug: {error:#}");
                        let at = formations::now() + LATER;
                        service.formations.look_at(&app_id, Some(at));
                        service.formations.set_deadline(ctx.reactor());
                    }
                }
            }
        });
        if taken {
            return Tree::Coming;
        }
        self.formations.end_unpacking(&release.id);
        Tree::NotNow
    }

    /// A dyno has said what it is now. One of the formation may have lived for so long that it ends by itself: then
    /// another takes its place, as when the server ends it.
    pub(super) fn after_change_of(&mut self, dyno: &Dyno, ctx: &mut Ctx<Self>) {
        if dyno.formation && dyno.state == DynoState::Down {
            self.follow(&dyno.app_id, ctx);
        }
    }

    /// A dyno that the server had started by itself has ended.
    pub(super) fn after_end_of(&mut self, dyno: &Dyno, ctx: &mut Ctx<Self>) {
        if dyno.formation {
            let current = self.records.store.current_release(&dyno.app_id);
            let current = current.is_ok_and(|release| release.id == dyno.release_id);
            if current && dyno.state == DynoState::Crashed {
                let back_off = self.back_off_of(&dyno.app_id);
                // A state that cannot be read is no reason to try without a pause.
                let beside = self.beside(dyno).unwrap_or(Beside::Nobody);
                self.formations.crashed(dyno, beside, &back_off);
            }
        }
        // It has made room for others.
        self.follow(&dyno.app_id, ctx);
        if dyno.name.process_type == RELEASE_PHASE {
            self.go_on_with_release_phases(ctx);
        }
    }

    /// There is another release: its release phase runs first, or the formation moves to it.
    pub(super) fn after_release(&mut self, app_id: &str, ctx: &mut Ctx<Self>) {
        self.records.asleep.wake(app_id);
        self.follow(app_id, ctx);
        self.go_on_with_release_phases(ctx);
    }

    /// Starts the release phases that have not begun, and draws the consequences of those that have ended.
    pub(super) fn go_on_with_release_phases(&mut self, ctx: &mut Ctx<Self>) {
        if self.leaving.after_dynos || ctx.is_stopping() {
            return;
        }
        let pending = self.records.store.pending_releases().unwrap_or_default();
        // Those of one app run one after the other: what a release makes of a database, the next one finds.
        let mut busy = HashSet::new();
        for release in pending {
            if busy.contains(&release.app_id) || self.destroying.include(&release.app_id) {
                continue;
            }
            match self.go_on_with_release_phase(&release, ctx) {
                Ok(Phase::Over) => {}
                Ok(Phase::Running) => drop(busy.insert(release.app_id)),
                Err(error) => {
                    tell!("cannot go on with a release phase: {error}");
                    busy.insert(release.app_id);
                }
            }
        }
    }

    fn go_on_with_release_phase(
        &mut self,
        release: &Release,
        ctx: &mut Ctx<Self>,
    ) -> StoreResult<Phase> {
        let dynos = self.records.store.release_phase_dynos(&release.id)?;
        let succeeded = match dynos.last() {
            Some(dyno) => match &dyno.ended {
                None => return Ok(Phase::Running),
                // Its supervisor was killed before anybody saw how it ended: as on Heroku, that is a failure.
                Some(ended) => ended.is_for(EndReason::Exited) && ended.exit.code() == 0,
            },
            None => {
                let Some(command) = release.process_types.get(RELEASE_PHASE) else {
                    return self.finish_release(release, true, ctx);
                };
                return match self.tree_for(release, ctx) {
                    Tree::There(tree) => self.start_release_phase(release, command, tree, ctx),
                    Tree::Coming => Ok(Phase::Running),
                    Tree::NotNow => {
                        let at = formations::now() + LATER;
                        self.formations.look_at(&release.app_id, Some(at));
                        self.formations.set_deadline(ctx.reactor());
                        Ok(Phase::Running)
                    }
                };
            }
        };
        self.finish_release(release, succeeded, ctx)
    }

    fn start_release_phase(
        &mut self,
        release: &Release,
        command: &str,
        tree: Option<Lease>,
        ctx: &mut Ctx<Self>,
    ) -> StoreResult<Phase> {
        let running = Story::RunningReleaseCommands(release.version);
        self.records.log(&release.app_id, running);
        let formation = self.records.store.formation(&release.app_id)?;
        let sized = formation.iter().find(|entry| entry.is(RELEASE_PHASE));
        let new = NewFormationDyno {
            release,
            name: None,
            command,
            size: sized.map_or(size::DEFAULT, |entry| &entry.wanted.size),
        };
        let dyno = self
            .records
            .store
            .create_formation_dyno(&new, Timestamp::now())?;
        self.records.log(&release.app_id, Story::starting(command));
        let started =
            self.dynos
                .start_detached(&mut self.records, &dyno, release, tree, ctx.reactor());
        if let Err(error) = started {
            tell!("cannot start `{}`: {error:#}", dyno.name);
            return self.finish_release(release, false, ctx);
        }
        Ok(Phase::Running)
    }

    fn finish_release(
        &mut self,
        release: &Release,
        succeeded: bool,
        ctx: &mut Ctx<Self>,
    ) -> StoreResult<Phase> {
        let now = Timestamp::now();
        let were_wanted = formation::is_wanted(&self.records, &release.app_id);
        let release =
            self.records
                .store
                .finish_release(&release.app_id, &release.id, succeeded, now)?;
        if release.status == ReleaseStatus::Failed {
            let failed = Story::ReleaseCommandFailed(release.version);
            self.records.log(&release.app_id, failed);
        }
        formation::log_first(&self.records, &release.app_id, were_wanted);
        self.follow(&release.app_id, ctx);
        Ok(Phase::Over)
    }
}

/// Has there be a look then, or before.
fn look_by(look_at: &mut Option<Duration>, at: Duration) {
    *look_at = Some(look_at.map_or(at, |known| known.min(at)));
}

/// Whether a dyno has its name, so that no other may start under it.
fn is_present(dyno: &Dyno) -> bool {
    // One that could not be started has its name until it is gone.
    dyno.state != DynoState::Down && dyno.ended.is_none()
}
