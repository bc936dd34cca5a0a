//! How requests fail, and the log line of every request.

use std::time::Duration;

use super::clients::Client;
use super::{Engine, Step, Token};
use crate::router::error_page::{self, PageOptions};
use crate::router::exchange::{Answer, Exchange, Stage};
use crate::router::failure::Failure;
use crate::router::headers;
use crate::router::log::LogEntry;
use crate::wire::http::head::HttpVersion;

impl Engine {
    /// The client has gone: closes the connection to the dyno, which so learns of it.
    pub(super) fn interrupt(&mut self, exchange: &mut Exchange) -> Step {
        self.abandon_link(exchange);
        // The end of an upgraded connection is no failure, and a failure that was sent is not the client's.
        if exchange.status != 101 {
            exchange.failure.get_or_insert(Failure::H27);
        }
        self.log(exchange);
        Step::Close
    }

    pub(super) fn stop_waiting(&mut self, token: Token, exchange: &Exchange) {
        if let (Stage::Waiting { .. }, Some(app)) = (&exchange.stage, &exchange.app) {
            self.state.table.stop_waiting(app, token);
        }
    }

    /// The deadline of the present stage has passed. False if the connection ended with it.
    pub(super) fn time_out(
        &mut self,
        token: Token,
        client: &mut Client,
        exchange: &mut Exchange,
        failure: Failure,
    ) -> bool {
        self.stop_waiting(token, exchange);
        if let Stage::Entering { .. } | Stage::Connecting { .. } = exchange.stage {
            exchange.timed_out = true;
            self.turned_away(exchange);
            return true;
        }
        if let Stage::Finishing = exchange.stage {
            exchange.failure.get_or_insert(failure);
            self.log(exchange);
            return false;
        }
        self.fail(client, exchange, failure) != Step::Close
    }

    /// Ends a request that failed: with an error page if no byte of a response was sent, else by closing the connection.
    pub(super) fn fail(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        failure: Failure,
    ) -> Step {
        self.abandon_link(exchange);
        if exchange.status == 0 && failure.status() != 499 {
            self.answer_failure(client, exchange, failure);
            return Step::Go;
        }
        if let Answer::Body { relay, .. } = &exchange.answer
            && relay.ends_with_connection()
        {
            // An orderly end would look like the end of the response, so the connection is reset.
            let now = Some(Duration::ZERO);
            let _ = rustix::net::sockopt::set_socket_linger(client.wire.socket(), now);
        }
        exchange.failure = Some(failure);
        self.log(exchange);
        Step::Close
    }

    /// Sends the error page.
    pub(super) fn answer_failure(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        failure: Failure,
    ) {
        exchange.close |= !exchange.upload.is_done()
            || matches!(failure, Failure::H26 { .. })
            || self.leaving.is_some();
        let mut out = Vec::new();
        let manner = PageOptions {
            app: exchange.app.as_deref(),
            request_id: Some(&exchange.request_id),
            close: exchange.close,
            http10: exchange.head.version == HttpVersion::Http10,
            head_only: exchange.head.method() == "HEAD",
            now: self.wall(),
        };
        error_page::write(&failure, manner, &mut out);
        exchange.status = failure.status();
        exchange.failure = Some(failure);
        exchange.stage = Stage::Finishing;
        exchange.progress = self.now;
        // An error shows again at the next flush.
        let _ = client.wire.send(&out);
    }

    /// Closes the connection to the dyno, if there is one.
    pub(super) fn abandon_link(&mut self, exchange: &mut Exchange) {
        match std::mem::replace(&mut exchange.stage, Stage::Finishing) {
            Stage::Connecting { link, .. } | Stage::Relaying(link) | Stage::Tunnel { link, .. } => {
                self.close_link(link);
            }
            Stage::Placing | Stage::Waiting { .. } | Stage::Entering { .. } | Stage::Finishing => {}
        }
        self.let_go(exchange);
    }

    /// Counts the request as ended for its dyno.
    pub(super) fn let_go(&mut self, exchange: &mut Exchange) {
        if let Some(dyno) = exchange.held.take() {
            self.release(dyno);
        }
    }

    pub(super) fn log(&mut self, exchange: &Exchange) {
        let Some(app) = &exchange.app else {
            return;
        };
        let failed = exchange.failure.as_ref();
        let status = failed.map_or(exchange.status, Failure::status);
        let entry = LogEntry {
            failure: failed,
            method: exchange.head.method(),
            path: exchange.head.target(),
            host: headers::host(&exchange.head),
            request_id: &exchange.request_id,
            forwarded_for: &exchange.forwarded.chain,
            scheme: exchange.forwarded.scheme(),
            dyno: exchange.dyno.as_ref().map(|(_, name)| &**name),
            connect: exchange.connect,
            service: exchange
                .dyno
                .is_some()
                .then(|| self.now.saturating_duration_since(exchange.started)),
            status,
            bytes: exchange.bytes,
        };
        self.state.logs.add(app, &entry);
    }
}
