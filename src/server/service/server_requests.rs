//! Requests about the server itself: which one it is, what it does, which settings it uses, and that it leave.

use std::collections::BTreeMap;

use super::Service;
use crate::api::ask::ServerAsk;
use crate::api::server::{ServerStatus, SettingInfo, StopServer, StoppingServer};
use crate::api::{ApiError, Time};
use crate::server::api_loop::application::{Ctx, Reply, Request};
use crate::server::process::replacement;
use crate::server::process::status::ProcessUsage;
use crate::server::records::Answer;
use crate::server::records::formation::is_wanted;
use crate::wire::http::Response;

impl Service {
    /// Answers what is asked about the server itself.
    pub(super) fn server_request(
        &mut self,
        ask: &ServerAsk,
        request: &Request,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        let answer = match ask {
            ServerAsk::Info => Ok(Response::json(200, &self.this.info)),
            ServerAsk::Status => self.status(ctx),
            ServerAsk::Settings => {
                let settings: Vec<_> = self.this.sourced.rows().map(SettingInfo::from).collect();
                Ok(Response::json(200, &settings))
            }
            ServerAsk::Listen => self.listen(ctx),
            ServerAsk::Stop => self.stop(&request.body, ctx),
            ServerAsk::Replace => return replacement::make_room(&self.this.info, request, ctx),
        };
        answer.map(Reply::Now)
    }

    /// `GET /server/status`
    fn status(&self, ctx: &Ctx<Self>) -> Answer {
        let usage = ProcessUsage::of_process()
            .map_err(|error| ApiError::internal(format!("cannot look at this process: {error}")))?;
        let mut dynos = BTreeMap::new();
        for dyno in self.records.store.live_dynos(None)? {
            *dynos.entry(dyno.app_name.to_string()).or_default() += 1;
        }
        let status = ServerStatus {
            server: self.this.info.clone(),
            started_at: Time(self.this.origin.at),
            started_by: self.this.origin.by.clone(),
            home: self.this.home.clone(),
            dynos,
            connections: ctx.connections(),
            memory: usage.memory,
            descriptors: usage.descriptors,
            max_descriptors: usage.max_descriptors,
            isolation: self.dynos.isolation(),
            builds: self.dynos.can_build(self.builds.folder()),
            router: self.router_address(),
            api: self.ports.api.map(|address| address.to_string()),
            rendezvous: self.rendezvous().map(|address| address.to_string()),
            missing: self.ports.missing.messages(),
        };
        Ok(Response::json(200, &status))
    }

    /// `POST /server/actions/stop`: dynos go on, or end first.
    fn stop(&mut self, body: &[u8], ctx: &mut Ctx<Self>) -> Answer {
        let StopServer { all } = match body {
            b"" => StopServer::default(),
            body => serde_json::from_slice(body)
                .map_err(|error| ApiError::bad_request(format!("no request to stop: {error}")))?,
        };
        let mut dynos: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let grace = self.records.settings.stop_grace.as_secs_f64();
        for dyno in self.records.store.live_dynos(None)? {
            // Its client may know already, and has left.
            if self.dynos.is_over(&dyno.id) {
                continue;
            }
            if all {
                self.dynos.stop(&dyno.id, grace);
            }
            let of_app = dynos.entry(dyno.app_name.to_string()).or_default();
            of_app.push(dyno.name.to_string());
        }
        match all {
            // It leaves when the last one has ended; see `turn_ended`.
            true => {
                self.leaving.after_dynos = true;
                let apps = self.records.store.apps()?.into_iter().map(|app| app.id);
                let apps: Vec<_> = apps.filter(|id| is_wanted(&self.records, id)).collect();
                self.records.asleep.send(apps.into_iter());
            }
            false => ctx.stop(),
        }
        let stopping = StoppingServer {
            pid: self.this.info.pid,
            started_by: self.this.origin.by.clone(),
            dynos,
            stop_grace: grace,
            asleep: self.records.asleep.count(),
        };
        Ok(Response::json(202, &stopping))
    }
}
