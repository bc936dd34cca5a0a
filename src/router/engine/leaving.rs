//! The router's end: nobody is let in any more, those who wait for an answer get it, and after a while the rest is cut off.

use super::Engine;
use super::clients::AtLeave;
use crate::router::failure::Failure;

impl Engine {
    /// Has begun to leave. Whoever replaces us may listen from now on.
    pub(super) fn leave(&mut self) {
        if self.leave_by.is_some() {
            return;
        }
        let leave_by = self.now + self.settings.leave_time;
        self.leave_by = Some(leave_by);
        self.reactor.set_deadline(self.leave_tick, leave_by);
        self.shut_door();
        self.part_with_all(|client| client.at_leave() == AtLeave::Parts);
    }

    /// Whether it is time to end: everybody is gone, or has been waited for long enough.
    pub(super) fn has_left_all(&mut self) -> bool {
        let Some(leave_by) = self.leave_by else {
            return false;
        };
        if self.now >= leave_by {
            let tokens: Vec<_> = self.clients.keys().copied().collect();
            for token in tokens {
                // A last try to write what there is: for most, the page that says what has happened.
                self.cut_off(token, Failure::H99);
                self.drive(token);
            }
            return true;
        }
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
