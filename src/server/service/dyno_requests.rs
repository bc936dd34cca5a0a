//! Requests about dynos: to make one, list them, show one, stop one, and wait for its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Service;
use super::attaching::take_status_request;
use super::bridging::{ATTACH, Meeting};
use crate::api::ask::DynoAsk;
use crate::api::dyno::{CrashLoop, CreateDyno, Dyno, Extended, Stopping};
use crate::api::range::Range;
use crate::api::usage::Taken;
use crate::api::{ApiError, ErrorKind, Time};
use crate::bridge::SessionRequest;
use crate::error::shown;
use crate::model::dyno::life::StopReason;
use crate::model::dyno::{self, DynoState};
use crate::model::procfile::MAX_NAME;
use crate::server::api_loop::application::{Caller, Ctx, Recipient, Reply, Request};
use crate::server::dynos::end_waiters::{EndWaiter, LONGEST_WAIT};
use crate::server::dynos::formations;
use crate::server::records::slugs::digest;
use crate::server::records::{self, Answer, response, worker_error};
use crate::store::{PAGE, Result as StoreResult};
use crate::wire::http::Response;

impl Service {
    /// Answers what is asked about dynos.
    pub(super) fn dyno_request(
        &mut self,
        ask: &DynoAsk,
        request: &Request,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        let (body, caller) = (&request.body[..], request.caller());
        let upgrade = request.field("upgrade");
        let answer = match ask {
            DynoAsk::Create { app } => return self.create_dyno(app, body, caller, ctx),
            DynoAsk::List {
                app,
                ended,
                extended,
            } => self.list_dynos(app, request.range(), *ended, *extended),
            DynoAsk::Info { app, dyno } => self.dyno(app, dyno),
            DynoAsk::End { app, dyno, seconds } => {
                return self.end_of_dyno(app, dyno, seconds.as_deref(), request.recipient(), ctx);
            }
            DynoAsk::Stop { app, dyno } => self.stop_dyno(app, dyno, false, ctx),
            // To restart a one-off is to end it: it never starts again.
            DynoAsk::Restart { app, dyno } => self.stop_dyno(app, dyno, true, ctx),
            DynoAsk::RestartAll { app } => self.restart_formation(app, ctx),
            DynoAsk::RestartType { app, process_type } => {
                self.end_process_type(app, process_type, ctx)
            }
            DynoAsk::Attach { app, dyno } => return self.attach(app, dyno, upgrade, request),
            DynoAsk::RunInside { app, dyno } => {
                return self.run_inside(app, dyno, upgrade, request);
            }
            DynoAsk::MeetInside { app, dyno } => self.meet_inside(app, dyno, body, caller),
        };
        answer.map(Reply::Now)
    }

    /// `POST /apps/A/dynos`.
    fn create_dyno(
        &mut self,
        app: &str,
        body: &[u8],
        caller: Caller<'_>,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        let mut create = CreateDyno::parse(body, &self.records.settings.sizes)?;
        let app = self.records.store.app(app)?;
        if !self.sessions.may_start(&app.id) {
            let message = format!("`{}` is the app of a `dyno start` that ends", app.name);
            return Err(ApiError::invalid(message)
                .hint("in a moment this folder means what it meant before"));
        }
        let meeting = match create.attach {
            true => self.arrange(caller)?,
            false => None,
        };
        let wants_status = meeting.is_some() && take_status_request(&mut create.command)?;
        let wanted = WantedDyno {
            create,
            meeting,
            wants_status,
        };
        self.start_dyno(app.id, wanted, ctx)
    }

    /// Starts a dyno on the current release. Its slug's tree is there as a rule; if it had to make room for others, it
    /// is unpacked again first.
    fn start_dyno(
        &mut self,
        app_id: String,
        wanted: WantedDyno,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        let release = self.records.store.current_release(&app_id)?;
        let id = release.digest.as_deref().map(digest).transpose()?;
        let tree = id.and_then(|id| self.records.slugs.tree_in_use(&id));
        let (Some(id), None) = (id, &tree) else {
            let WantedDyno {
                create,
                meeting,
                wants_status,
            } = wanted;
            let dyno =
                self.dynos
                    .create(&mut self.records, &release, tree, &create, ctx.reactor())?;
            let url = meeting.map(|meeting| {
                let seat = SessionRequest {
                    dyno: dyno.id.clone(),
                    ask: ATTACH,
                    wants_status,
                    token: meeting.token.clone(),
                };
                self.expect(&meeting, seat);
                meeting.url
            });
            return Ok(Reply::Now(Response::json(201, &Dyno::new(&dyno, url))));
        };
        let cache = Arc::clone(&self.records.slugs);
        Ok(Reply::worker(move |_| {
            let tree = cache.ensure_tree(&id);
            move |service: &mut Self, ctx: &mut Ctx<Self>| {
                // Held until the dyno has it. There may be a newer release by now.
                let started = tree
                    .map_err(worker_error)
                    .and_then(|_held| service.start_dyno(app_id, wanted, ctx));
                records::reply(started)
            }
        }))
    }

    /// `GET /apps/A/dynos`: those that are alive, with `?ended=true` also those that have ended; the oldest first, in
    /// pages as Heroku has them.
    fn list_dynos(&self, app: &str, range: &str, ended: bool, extended: bool) -> Answer {
        let app = self.records.store.app(app)?;
        let range = Range::parse(range)?;
        let (low, _) = range.numbers("position")?;
        let (after, max) = (low.checked_sub(1).map(i64::from), range.max.min(PAGE));
        let page = self.records.store.dyno_page(&app.id, ended, after, max)?;
        let mut dynos: Vec<_> = page.dynos.iter().map(|it| self.dyno_resource(it)).collect();
        if !ended && page.next.is_none() {
            // Of what has crashed and is tried again, the last one stands for it.
            for id in self.formations.crashed_dynos(&app.id) {
                dynos.push(self.dyno_resource(&self.records.store.dyno_of_id(id)?));
            }
        }
        if extended {
            for dyno in &mut dynos {
                // Where one of a network of its own listens is nowhere for others.
                let listener = self.dynos.listener(&dyno.id).filter(|it| !it.apart);
                dyno.extended = Some(Extended::new(listener.map(|it| it.address)));
            }
        }
        let is_part = page.next.is_some() || after.is_some();
        if range.to.is_some() || (range.descending && is_part) {
            return Err(ApiError::new(
                ErrorKind::RangeNotSatisfiable,
                "dynos are listed from the oldest on, and to the last",
            )
            .hint("the range of the next part is in `Next-Range`"));
        }
        if range.descending {
            dynos.reverse();
        }
        Ok(match page.next {
            None => Response::json(200, &dynos),
            Some(next) => {
                let next = next.to_string();
                let next = Range { max, ..range }.after("position", &next).to_string();
                Response::json(206, &dynos).with("Next-Range", next)
            }
        })
    }

    /// `GET /apps/A/dynos/D`: alive or ended.
    fn dyno(&self, app: &str, dyno: &str) -> Answer {
        let app = self.records.store.app(app)?;
        let dyno = self.records.store.dyno(&app.id, dyno)?;
        Ok(Response::json(200, &self.dyno_resource(&dyno)))
    }

    /// A dyno with what only the server knows of it.
    fn dyno_resource(&self, dyno: &dyno::Dyno) -> Dyno {
        let mut resource = Dyno::new(dyno, None);
        if dyno.ended.is_none() {
            resource.taken = Taken::new(&self.dynos.spent(&dyno.id));
        }
        resource.crash = self.formations.crashes_of(dyno).map(|it| CrashLoop {
            count: it.count,
            next_try_at: Time(formations::timestamp(it.again_at)),
            wait: dyno.ended.as_ref().map_or(0.0, |ended| {
                let wait = it.again_at.saturating_sub(formations::moment(ended.at));
                wait.as_secs_f64()
            }),
            waits_for_predecessor: it.awaits.is_some(),
        });
        let up_for = formations::now().saturating_sub(formations::moment(dyno.updated_at));
        resource.settled = dyno
            .formation
            .then(|| dyno.state == DynoState::Up && up_for >= self.records.settings.settle_time);
        resource
    }

    /// `POST /apps/A/dynos/D/actions/stop`: answered at once; the dyno has its grace period to end.
    /// Another one takes the place of one of the formation. `restarts`: that is what it is for, so a formation that was ended
    /// with the server comes back.
    fn stop_dyno(&mut self, app: &str, dyno: &str, restarts: bool, ctx: &mut Ctx<Self>) -> Answer {
        let app = self.records.store.app(app)?;
        let dyno = self.records.store.dyno(&app.id, dyno)?;
        let grace = self.records.settings.stop_grace.as_secs_f64();
        if self.formations.is_crashed(&dyno) {
            // It is tried again at once.
            self.formations
                .forget_crashes(&app.id, |name| *name == dyno.name);
            self.follow(&app.id, ctx);
            return Ok(Response::json(202, &Stopping { grace }));
        }
        if restarts && dyno.formation && dyno.ended.is_some() && self.records.asleep.has(&app.id) {
            self.records.asleep.wake(&app.id);
            self.follow(&app.id, ctx);
            return Ok(Response::json(202, &Stopping { grace }));
        }
        if let Some(ended) = &dyno.ended {
            let message = format!("`{}` has ended already: {ended}", dyno.name);
            return Err(ApiError::invalid(message).hint("`dyno ps` lists those that run"));
        }
        if dyno.formation {
            self.retire(&dyno, StopReason::Restarted)?;
            self.follow(&app.id, ctx);
            return Ok(Response::json(202, &Stopping { grace }));
        }
        self.stop_one_off(&dyno)?;
        Ok(Response::json(202, &Stopping { grace }))
    }

    /// `DELETE /apps/A/dynos`: restarts the formation. One-offs are not of it.
    fn restart_formation(&mut self, app: &str, ctx: &mut Ctx<Self>) -> Answer {
        let app = self.records.store.app(app)?;
        self.records.asleep.wake(&app.id);
        let alive = self.records.store.live_dynos(Some(&app.id))?;
        self.retire_all(&alive)?;
        // What waits after a crash is tried at once.
        self.formations.forget_crashes(&app.id, |_| true);
        self.follow(&app.id, ctx);
        Ok(Response::json(202, &serde_json::json!({})))
    }

    /// `DELETE /apps/A/formations/T` and `POST /apps/A/formations/T/actions/stop`, which means the same as the formation
    /// has it: others take the places. One-offs of the type end.
    fn end_process_type(&mut self, app: &str, which: &str, ctx: &mut Ctx<Self>) -> Answer {
        let app = self.records.store.app(app)?;
        let entries = self.records.store.formation(&app.id)?;
        let entry = entries.iter().find(|entry| entry.is(which));
        let process_type = entry.map_or(which, |entry| &entry.wanted.process_type);
        let mut dynos = self.records.store.live_dynos(Some(&app.id))?;
        dynos.retain(|dyno| dyno.name.process_type == process_type);
        if entry.is_none() && dynos.is_empty() {
            let shown = shown(which.as_bytes(), MAX_NAME);
            let message = format!("`{}` has no dyno of type `{shown}`", app.name);
            return Err(ApiError::not_found(message).hint("`dyno ps` lists those that run"));
        }
        self.records.asleep.wake(&app.id);
        self.retire_all(&dynos)?;
        for one_off in dynos.iter().filter(|dyno| !dyno.formation) {
            self.stop_one_off(one_off)?;
        }
        self.formations
            .forget_crashes(&app.id, |name| name.process_type == process_type);
        self.follow(&app.id, ctx);
        Ok(Response::json(202, &serde_json::json!({})))
    }

    /// Has those of the formation end that have a place in it.
    fn retire_all(&mut self, dynos: &[dyno::Dyno]) -> Result<(), ApiError> {
        for dyno in dynos.iter().filter(|dyno| dyno.formation) {
            if !matches!(dyno.state, DynoState::Down | DynoState::Crashed) {
                self.retire(dyno, StopReason::Restarted)?;
            }
        }
        Ok(())
    }

    fn stop_one_off(&mut self, dyno: &dyno::Dyno) -> Result<(), ApiError> {
        let grace = self.records.settings.stop_grace.as_secs_f64();
        // Not alive, and not written down as ended: it is ending this very moment.
        match self.dynos.is_live(&dyno.id) && !self.dynos.stop(&dyno.id, grace) {
            false => Ok(()),
            true => Err(ApiError::internal(format!(
                "the supervisor of `{}` does not listen",
                dyno.name
            ))),
        }
    }

    /// `GET /apps/A/dynos/D/end`, ours: the dyno once it has ended; or as it is after a minute, or `?seconds=N`, or
    /// when the server stops. A client that still wants to know asks again.
    fn end_of_dyno(
        &mut self,
        app: &str,
        dyno: &str,
        seconds: Option<&str>,
        to: Recipient,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        let app = self.records.store.app(app)?;
        let dyno = self.records.store.dyno(&app.id, dyno)?;
        let wait = match seconds {
            None => LONGEST_WAIT,
            Some(seconds) => seconds
                .parse()
                .map_or(Err(()), |n: f64| {
                    Duration::try_from_secs_f64(n).map_err(drop)
                })
                .map_err(|()| ApiError::bad_request(format!("`seconds={seconds}` is not a time")))?
                .min(LONGEST_WAIT),
        };
        if dyno.ended.is_some() || wait.is_zero() {
            let response = Response::json(200, &Dyno::new(&dyno, None));
            return Ok(Reply::Now(response));
        }
        self.end_waiters.add(EndWaiter {
            to,
            dyno: dyno.id,
            until: Instant::now() + wait,
        });
        self.end_waiters.set_deadline(ctx.reactor());
        Ok(Reply::Later)
    }

    /// Answers those who wait for one of these, and those who have waited long enough.
    pub(super) fn answer_end_waiters(&mut self, ended: &[String], ctx: &mut Ctx<Self>) {
        let waiters = self.end_waiters.take(ended, Instant::now());
        self.answer_each(waiters, ctx);
        self.end_waiters.set_deadline(ctx.reactor());
    }

    /// Answers all requests that wait: this server is about to leave, and the next one will know.
    pub(super) fn answer_all_end_waiters(&mut self, ctx: &mut Ctx<Self>) {
        let waiters = self.end_waiters.take_all();
        self.answer_each(waiters, ctx);
    }

    fn answer_each(&self, waiters: Vec<EndWaiter>, ctx: &mut Ctx<Self>) {
        for waiter in waiters {
            let answer: StoreResult<_> = self.records.store.dyno_of_id(&waiter.dyno);
            let answer = answer
                .map(|dyno| Response::json(200, &Dyno::new(&dyno, None)))
                .map_err(ApiError::from);
            ctx.answer(waiter.to.ticket, Reply::Now(response(answer)));
        }
    }
}

/// A dyno that a client wants.
struct WantedDyno {
    create: CreateDyno,
    /// How its client comes to it, if by the rendezvous.
    meeting: Option<Meeting>,
    /// That wants to be told the command's exit status.
    wants_status: bool,
}
