//! Requests about logs.

use super::Service;
use crate::api::ApiError;
use crate::api::ask::LogAsk;
use crate::server::api_loop::application::{Ctx, Reply, Request};
use crate::server::logs::{self, LogForm, Reading};

impl Service {
    /// Answers what is asked about logs.
    pub(super) fn log_request(
        &mut self,
        ask: &LogAsk,
        request: &Request,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        let (records, readers, to) = (&self.records, &self.logs, request.recipient());
        let reading = match ask {
            LogAsk::Read { app, query } => {
                let query = logs::read_query(query)?;
                let app_id = records.store.app(app)?.id;
                logs::read(records, readers, to, app_id, query, LogForm::Records)?
            }
            LogAsk::CreateSession { app } => {
                let asker = records.asker(request.caller());
                let slow = logs::create_session(records, app, &request.body, asker)?;
                return Ok(slow.reply(Self::records));
            }
            LogAsk::ReadSession { app, query } => {
                let last = request.field("last-event-id");
                let events = logs::wants_events(request.field("accept"));
                logs::read_session(records, readers, to, app, query, last, events)?
            }
        };
        Ok(self.begin_to_read(reading, ctx))
    }

    /// Begins to answer a reader of a log, once it is known where its reading begins.
    pub(super) fn begin_to_read(&mut self, reading: Reading, ctx: &mut Ctx<Self>) -> Reply<Self> {
        match reading {
            Reading::Ended(response) => Reply::Now(response),
            Reading::Begins(reader, found) => {
                self.logs.begin(reader, Ok(found), &self.records, ctx)
            }
            Reading::Searches(reader, start) => Reply::worker(move |_| {
                let found = reader.find(&start);
                move |service: &mut Self, ctx: &mut Ctx<Self>| {
                    service.logs.begin(reader, found, &service.records, ctx)
                }
            }),
        }
    }
}
