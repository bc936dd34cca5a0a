//! The router's end: no client is accepted any more, waiting clients get their responses, and after a while the rest is
//! cut off.

use std::time::Instant;

use super::Engine;
use super::clients::AtLeave;
use crate::router::Leave;
use crate::router::failure::Failure;

/// The times of the router's end.
#[derive(Debug)]
pub(super) struct Leaving {
    since: Instant,
    /// When the remaining connections are cut off.
    by: Instant,
    /// Until when clients whose handshake has begun are still accepted.
    shut_at: Instant,
}

impl Engine {
    /// Begins to leave.
    pub(super) fn leave(&mut self, leave: Leave) {
        if self.leaving.is_some() {
            return;
        }
        let time = match leave {
            Leave::ForGood | Leave::ToKeeper => self.settings.leave_time,
            Leave::ToSuccessor => self.settings.succeeded_time,
        };
        let by = self.now + time;
        let mut shut_at = self.now;
        if leave == Leave::ForGood && self.client_listeners.is_accepting() {
            self.stop_new_handshakes();
            shut_at = (self.now + self.settings.shut_time).min(by);
            self.accept_all();
        } else {
            self.close_listeners();
        }
        self.leaving = Some(Leaving {
            since: self.now,
            by,
            shut_at,
        });
        self.reactor.set_deadline(self.leave_tick, shut_at);
        self.close_clients(|client| client.at_leave() == AtLeave::IsClosed);
    }

    /// Whether the router can end: all clients have gone, or it has waited long enough.
    pub(super) fn has_left_all(&mut self) -> bool {
        let Some(Leaving { since, by, shut_at }) = self.leaving else {
            return false;
        };
        if self.now < shut_at {
            return false;
        }
        if self.client_listeners.is_open() {
            // The last clients that connected before.
            self.accept_all();
            self.close_listeners();
        }
        if self.now >= by {
            let tokens: Vec<_> = self.clients.keys().copied().collect();
            for token in tokens {
                // A last try to write what is unsent: for most, the error page.
                self.cut_off(token, Failure::H99);
                self.drive(token);
            }
            return true;
        }
        let (now, quiet) = (self.now, self.settings.quiet_time);
        let silent_by = |from: Instant| from.max(since) + quiet;
        self.close_clients(|client| {
            client.at_leave() == AtLeave::MayAsk && silent_by(client.since) <= now
        });
        let clients = self.clients.values();
        let silent = clients.filter(|client| client.at_leave() == AtLeave::MayAsk);
        let next = silent.map(|client| silent_by(client.since)).min();
        self.reactor
            .set_deadline(self.leave_tick, next.unwrap_or(by).min(by));
        self.clients.is_empty()
    }

    /// Closes some clients' connections. Requests that were in progress are logged.
    fn close_clients(&mut self, which: impl Fn(&super::Client) -> bool) {
        let tokens = self.clients.iter().filter(|(_, client)| which(client));
        let tokens: Vec<_> = tokens.map(|(token, _)| *token).collect();
        for token in tokens {
            if let Some(mut client) = self.clients.remove(&token) {
                self.interrupt_endless(&mut client);
                self.close_client(token, client);
            }
        }
    }
}
