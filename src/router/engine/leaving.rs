//! The router's end: nobody is let in any more, those who wait for an answer get it, and after a while the rest is cut off.

use std::time::Instant;

use super::Engine;
use super::clients::AtLeave;
use crate::router::Leave;
use crate::router::failure::Failure;

/// How far the router is with its end.
#[derive(Debug)]
pub(super) struct Leaving {
    since: Instant,
    /// When the rest is cut off.
    by: Instant,
    /// Until then those who are half connected may come in.
    shut_at: Instant,
}

impl Engine {
    /// Has begun to leave.
    pub(super) fn leave(&mut self, leave: Leave) {
        if self.leaving.is_some() {
            return;
        }
        let time = match leave {
            Leave::ForGood | Leave::ToManager => self.settings.leave_time,
            Leave::ToSuccessor => self.settings.succeeded_time,
        };
        let by = self.now + time;
        let mut shut_at = self.now;
        if leave == Leave::ForGood && self.door.lets_in() {
            self.bar_door();
            shut_at = (self.now + self.settings.shut_time).min(by);
            self.accept();
        } else {
            self.shut_door();
        }
        self.leaving = Some(Leaving {
            since: self.now,
            by,
            shut_at,
        });
        self.reactor.set_deadline(self.leave_tick, shut_at);
        self.part_with_all(|client| client.at_leave() == AtLeave::Parts);
    }

    /// Whether it is time to end: everybody is gone, or has been waited for long enough.
    pub(super) fn has_left_all(&mut self) -> bool {
        let Some(Leaving { since, by, shut_at }) = self.leaving else {
            return false;
        };
        if self.now < shut_at {
            return false;
        }
        if self.door.is_open() {
            // The last of those who had come before it was barred.
            self.accept();
            self.shut_door();
        }
        if self.now >= by {
            let tokens: Vec<_> = self.clients.keys().copied().collect();
            for token in tokens {
                // A last try to write what there is: for most, the page that says what has happened.
                self.cut_off(token, Failure::H99);
                self.drive(token);
            }
            return true;
        }
        let (now, quiet) = (self.now, self.settings.quiet_time);
        let silent_by = |from: Instant| from.max(since) + quiet;
        self.part_with_all(|client| {
            client.at_leave() == AtLeave::MayAsk && silent_by(client.since) <= now
        });
        let clients = self.clients.values();
        let silent = clients.filter(|client| client.at_leave() == AtLeave::MayAsk);
        let next = silent.map(|client| silent_by(client.since)).min();
        self.reactor
            .set_deadline(self.leave_tick, next.unwrap_or(by).min(by));
        self.clients.is_empty()
    }

    /// Closes some clients' connections. Those that were in the middle of something are logged.
    fn part_with_all(&mut self, which: impl Fn(&super::Client) -> bool) {
        let tokens = self.clients.iter().filter(|(_, client)| which(client));
        let tokens: Vec<_> = tokens.map(|(token, _)| *token).collect();
        for token in tokens {
            if let Some(mut client) = self.clients.remove(&token) {
                self.interrupt_endless(&mut client);
                self.part_with(token, client);
            }
        }
    }
}
