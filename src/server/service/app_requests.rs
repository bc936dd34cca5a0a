//! Requests about apps, and about how many dynos they have.

use jiff::Timestamp;

use super::Service;
use crate::api::ApiError;
use crate::api::app::UpdateApp;
use crate::api::ask::{AppAsk, FormationAsk};
use crate::error::tell;
use crate::model::network::NetworkChoice;
use crate::server::api_loop::application::{Ctx, Reply, Request};
use crate::server::records::Answer;
use crate::server::records::apps;
use crate::server::records::formation;
use crate::server::records::platform;

impl Service {
    /// Answers what is asked about apps.
    pub(super) fn app_request(
        &mut self,
        ask: &AppAsk,
        request: &Request,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        let (body, now) = (&request.body[..], Timestamp::now());
        let records = &mut self.records;
        let asker = records.asker(request.caller());
        let answer = match ask {
            AppAsk::List => apps::list(records, request.range(), &asker),
            AppAsk::ListOfUser { user } => {
                platform::check_user(records, user)?;
                apps::list(records, request.range(), &asker)
            }
            AppAsk::Create => apps::create(records, body, request.via.sender(), now),
            AppAsk::Info { app } => apps::info(records, app),
            AppAsk::Update { app } => self.update_app(app, body, ctx),
            AppAsk::Destroy { app } => return self.destroy(app, request.ticket, ctx),
            AppAsk::Features { app } => apps::features(records, app),
            AppAsk::Feature { app, feature } => apps::feature(records, app, feature),
            AppAsk::UpdateFeature { app, feature } => {
                apps::update_feature(records, app, feature, body, now)
            }
            AppAsk::Buildpacks { app } => apps::buildpacks(records, app),
            AppAsk::SetBuildpacks { app } => {
                apps::set_buildpacks(records, app, body, request.via.sender(), now)
            }
        };
        answer.map(Reply::Now)
    }

    /// `PATCH /apps/A`: router, repository and formation hear of it.
    fn update_app(&mut self, app: &str, body: &[u8], ctx: &mut Ctx<Self>) -> Answer {
        let before = self.records.store.app(app)?;
        if let Some(NetworkChoice::Own(network)) = UpdateApp::parse(body)?.network {
            self.dynos.chosen().check_network(network)?;
        }
        // By its id, it is found again under its new name.
        let answer = apps::update(&mut self.records, &before.id, body, Timestamp::now());
        if answer.is_ok() {
            self.formation_changed(&before.id, ctx);
        }
        if let Ok(after) = self.records.store.app(&before.id)
            && before.name != after.name
        {
            let (old, new) = (before.name.as_str(), after.name.as_str());
            self.tell_router_of_end(old);
            self.tell_router(&after.id);
            if let Err(error) = self.repositories().rename(&after.id, old, new) {
                tell!("cannot rename the git repository of `{new}`: {error}");
            }
        }
        answer
    }

    /// Answers what is asked about an app's formation, and has its dynos follow what has changed.
    pub(super) fn formation_request(
        &mut self,
        ask: &FormationAsk,
        body: &[u8],
        ctx: &mut Ctx<Self>,
    ) -> Answer {
        let (records, now) = (&mut self.records, Timestamp::now());
        let (app, answer) = match ask {
            FormationAsk::List { app } => return formation::list(records, app),
            FormationAsk::Info { app, process_type } => {
                return formation::info(records, app, process_type);
            }
            FormationAsk::Scale { app } => (app, formation::scale(records, app, body, now)?),
            FormationAsk::ScaleOne { app, process_type } => {
                let answer = formation::scale_one(records, app, process_type, body, now)?;
                (app, answer)
            }
        };
        let app_id = self.records.store.app(app)?.id;
        self.formation_changed(&app_id, ctx);
        Ok(answer)
    }

    /// What is wanted of this app's dynos has changed.
    pub(super) fn formation_changed(&mut self, app_id: &str, ctx: &mut Ctx<Self>) {
        self.records.asleep.wake(app_id);
        self.follow(app_id, ctx);
    }
}
