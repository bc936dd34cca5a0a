//! The way out of a connection: a response, as a whole or piece by piece.

use std::time::SystemTime;

use super::{Connection, PIECE_COST, Phase, Step, Turn};
use crate::api::{ApiError, ErrorKind};
use crate::server::api_loop::application::More;
use crate::wire::http::message::WriteOptions;
use crate::wire::http::{HttpRefusal, Response, chunk};

impl Connection {
    /// Answers the current request. `last`: no other is welcome after it.
    pub fn respond(&mut self, response: &Response, last: bool, turn: &Turn<'_>) {
        let Phase::Handling(exchange) = &self.phase else {
            return;
        };
        let last = last || exchange.is_last();
        let head_only = exchange.head_only;
        self.write(response, last, head_only, turn);
    }

    /// Answers the current request with the head of `response`; the body is [asked for](Step::More) later. False if
    /// none is wanted.
    pub fn begin_stream(&mut self, response: &Response, last: bool, turn: &Turn<'_>) -> bool {
        let Phase::Handling(exchange) = &self.phase else {
            return false;
        };
        let chunked = exchange.knows_chunks && !response.is_until_closed();
        let head_only = exchange.head_only;
        let last = last || exchange.is_last() || !chunked;
        let options = WriteOptions {
            now: SystemTime::now(),
            close: last,
            head_only,
        };
        response.write_head(options, chunked, self.wire.output());
        self.deadline = Some(turn.now + turn.limits.write_time);
        self.phase = match head_only {
            true => Phase::Writing { last },
            false => Phase::Streaming { chunked, last },
        };
        !head_only
    }

    /// Goes on with a response that was [begun](Self::begin_stream). True if there is something to do about it now.
    pub fn stream(&mut self, more: &More, turn: &Turn<'_>) -> bool {
        let Phase::Streaming { chunked, last } = self.phase else {
            return true;
        };
        let output = self.wire.output();
        match (more, chunked) {
            (More::Later | More::Broken, _) => return false,
            (More::Bytes(bytes), true) => chunk::encode(bytes, output),
            (More::Bytes(bytes), false) => output.extend_from_slice(bytes),
            (More::End, chunked) => {
                if chunked {
                    output.extend_from_slice(chunk::LAST);
                }
                self.deadline = Some(turn.now + turn.limits.write_time);
                self.phase = Phase::Writing { last };
            }
        }
        true
    }

    pub(super) fn refuse(&mut self, refusal: HttpRefusal, turn: &Turn<'_>) {
        let error = ApiError::new(kind_of(refusal.status), &*refusal.why);
        let response = Response::json(refusal.status, &error);
        self.write(&response, true, false, turn);
    }

    fn write(&mut self, response: &Response, last: bool, head_only: bool, turn: &Turn<'_>) {
        let options = WriteOptions {
            now: SystemTime::now(),
            close: last,
            head_only,
        };
        response.write(options, self.wire.output());
        self.phase = Phase::Writing { last };
        self.deadline = Some(turn.now + turn.limits.write_time);
    }

    /// The next piece, once the client has taken the last one. It may take its time between two; but one that takes
    /// nothing at all is not to be waited for.
    pub(super) fn go_on_streaming(&mut self, moved: bool, turn: &mut Turn<'_>) -> Step {
        if self.wire.gone {
            return Step::Close;
        }
        if !self.wire.is_flushed() {
            if moved || self.deadline.is_none() {
                self.deadline = Some(turn.now + turn.limits.write_time);
            }
            return Step::Wait;
        }
        self.deadline = None;
        match turn.budget.checked_sub(PIECE_COST) {
            Some(left) => {
                turn.budget = left;
                Step::More(self.ticket)
            }
            None => Step::Again,
        }
    }

    pub(super) fn end_response(&mut self, last: bool, turn: &mut Turn<'_>) -> Option<Step> {
        if !self.wire.is_flushed() {
            return Some(Step::Wait);
        }
        if last {
            self.wire.shut_down();
            self.phase = Phase::Lingering;
            self.deadline = Some(turn.now + turn.limits.linger_time);
            return None;
        }
        self.phase = Phase::Idle;
        self.deadline = Some(turn.now + turn.limits.idle_time);
        if self.wire.input.is_empty() {
            // A connection that waits holds no memory.
            self.wire.input = Vec::new();
        }
        if turn.budget == 0 {
            return Some(Step::Again);
        }
        turn.budget -= 1;
        None
    }
}

/// The kind of error of a message that is refused with this status.
fn kind_of(status: u16) -> ErrorKind {
    match status {
        405 => ErrorKind::MethodNotAllowed,
        408 => ErrorKind::RequestTimeout,
        413 => ErrorKind::ContentTooLarge,
        414 => ErrorKind::UriTooLong,
        417 => ErrorKind::ExpectationFailed,
        431 => ErrorKind::HeaderFieldsTooLarge,
        505 => ErrorKind::VersionNotSupported,
        _ => ErrorKind::BadRequest,
    }
}
