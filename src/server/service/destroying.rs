//! `DELETE /apps/A`: the app's dynos end first, and nothing of it is left behind on disk.

use super::Service;
use crate::api::ApiError;
use crate::kernel::tree::remove_tree;
use crate::server::api_loop::application::{Ctx, Reply, Ticket};
use crate::server::records::apps;
use crate::server::records::{self, Answer};

/// A request to destroy an app, which waits for its dynos to end.
struct Destroying {
    ticket: Ticket,
    app_id: String,
}

/// The requests to destroy an app that wait for its dynos to end.
#[derive(Default)]
pub(super) struct Destructions(Vec<Destroying>);

impl Destructions {
    /// Whether this app is about to be destroyed.
    pub fn include(&self, app_id: &str) -> bool {
        self.0.iter().any(|it| it.app_id == app_id)
    }
}

impl Service {
    /// `DELETE /apps/A`
    pub(super) fn destroy(
        &mut self,
        app: &str,
        ticket: Ticket,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        let app = self.records.store.app(app)?;
        let dynos = self.records.store.live_dynos(Some(&app.id))?;
        self.tell_router_of_end(app.name.as_str());
        self.end_builds_of(&app.id, ctx);
        if dynos.is_empty() {
            return self.destroy_now(&app.id, ctx).map(Reply::Now);
        }
        let app_id = app.id;
        self.destroying.0.push(Destroying { ticket, app_id });
        for dyno in dynos {
            self.dynos.stop(&dyno.id, 0.0);
        }
        Ok(Reply::Later)
    }

    /// Destroys the apps that are to be, whose last dyno has ended.
    pub(super) fn go_on_destroying(&mut self, ctx: &mut Ctx<Self>) {
        let store = &self.records.store;
        let ended = |waiting: &mut Destroying| {
            store
                .live_dynos(Some(&waiting.app_id))
                .is_ok_and(|dynos| dynos.is_empty())
        };
        let ready: Vec<_> = self.destroying.0.extract_if(.., ended).collect();
        for Destroying { ticket, app_id } in ready {
            let answer = self.destroy_now(&app_id, ctx);
            ctx.answer(ticket, records::reply(answer.map(Reply::Now)));
        }
    }

    fn destroy_now(&mut self, app_id: &str, ctx: &mut Ctx<Self>) -> Answer {
        match apps::destroy(&mut self.records, app_id) {
            Ok(answer) => {
                self.after_destroy(app_id, ctx);
                Ok(answer)
            }
            Err(error) => {
                // The app is still there, with its log and its repository.
                self.tell_router(app_id);
                Err(error)
            }
        }
    }

    /// Forgets an app that was destroyed, and removes what it had on disk.
    pub(super) fn after_destroy(&mut self, app_id: &str, ctx: &mut Ctx<Self>) {
        self.formations.forget(app_id);
        self.dynos.forget_next(ctx.reactor());
        self.logs.app_destroyed(app_id, ctx);
        self.forget_session(app_id, ctx);
        self.end_builds_of(app_id, ctx);
        self.remove_repository(app_id, ctx);
        let logs = self.records.log_folder(app_id);
        ctx.work_and_forget(move || {
            let _ = remove_tree(&logs);
        });
        self.sweep_slugs(ctx);
    }
}
