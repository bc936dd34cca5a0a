//! Requests that change which dynos an app shall have, or who may visit them.

use super::super::application::{Ctx, Reply, Request};
use super::super::routes;
use super::Service;

impl Service {
    /// `PATCH /apps/A` and what is below its formation: answered like any other request, and then acted upon.
    pub(super) fn change_formation(
        &mut self,
        app: &str,
        request: &Request,
        ctx: &mut Ctx<Self>,
    ) -> Option<Reply<Self>> {
        let reply = routes::route(self, request)?;
        if let Reply::Now(response) = &reply
            && response.status() == 200
            && let Ok(app) = self.host.store.app(app)
        {
            self.formation_changed(&app.id, ctx);
        }
        Some(reply)
    }

    /// What is wanted of this app's dynos has changed.
    pub(super) fn formation_changed(&mut self, app_id: &str, ctx: &mut Ctx<Self>) {
        self.host.asleep.wake(app_id);
        self.follow(app_id, ctx);
    }
}
