//! Requests about tokens, and what ends with one: the server holds no client to a token that is good no more.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Service;
use crate::server::access::token_ended;
use crate::server::api_loop::application::{Ctx, Reply};
use crate::server::records::response;

/// The longest that the server waits before it looks again which tokens have expired: its clock may be set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl Service {
    /// Ends what clients with tokens are given that were revoked or have expired, and comes back when the next one expires.
    pub(super) fn end_tokens(&mut self, ctx: &mut Ctx<Self>) {
        let now = Timestamp::now();
        let ended = self.records.access.take_ended(now);
        if !ended.is_empty() {
            self.logs.tokens_ended(&ended, ctx);
            self.file_streams.tokens_ended(&ended, ctx);
            self.gits.tokens_ended(&ended, ctx);
            self.end_sessions_of(&ended);
            for waiter in self.end_waiters.take_of_tokens(&ended) {
                let answer = Reply::Now(response(Err(token_ended())));
                ctx.answer(waiter.to.ticket, answer);
            }
        }
        let next = self.records.access.next_end().map(|at| {
            let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            Instant::now() + left.min(LONGEST_WAIT)
        });
        ctx.reactor().set_or_cancel_deadline(self.token_timer, next);
    }
}
