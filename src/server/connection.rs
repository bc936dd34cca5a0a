//! One client's connection: its bytes, its phase, its deadline.
//!
//! [`advance`](Connection::advance) goes as far as the socket lets it and returns what the loop has
//! to do; it knows neither reactor nor application. One request is served at a time: while one is
//! answered nothing is read, so a client that pipelines waits in its socket's buffer, not in ours.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Instant, SystemTime};

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};

use crate::api::error::ApiError;
use crate::http::message::WriteOptions;
use crate::http::{
    BodyDecoder, Decoded, Framing, HeadReader, Refusal, RequestHead, Response, phrase,
};
use crate::reactor::Token;

use super::application::{BodyPlan, Request, Ticket};
use super::body_stream::{BodyReader, BodySender, NotSent, RoomBell, body_stream};
use super::limits::Limits;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// See the [module](self).
pub(super) struct Connection {
    socket: OwnedFd,
    /// What the kernel last said; taken back only when a call would block.
    readable: bool,
    writable: bool,
    hangup: bool,
    /// The client will send no more.
    ended: bool,
    /// Bytes that were read and are not used up.
    input: Vec<u8>,
    heads: HeadReader,
    /// Bytes to be written, and how many were.
    output: Vec<u8>,
    written: usize,
    phase: Phase,
    /// The current request, or the last one.
    ticket: Ticket,
    deadline: Option<Instant>,
}

enum Phase {
    /// Nothing of a request has come.
    Idle,
    /// Something of its head has.
    Head,
    /// The body is coming in.
    Body(Box<Incoming>),
    /// The application has the request.
    Handling(Exchange),
    /// The response is going out; if it is the last one, the connection ends.
    Writing { last: bool },
    /// We said that we are done. Closing before the client has would throw away the response, if
    /// bytes of its request are still unread.
    Lingering,
}

/// A request whose body is not complete.
struct Incoming {
    head: RequestHead,
    decoder: BodyDecoder,
    body: Vec<u8>,
    left: u64,
    streamed: bool,
}

/// What is left to know of a request when the application has it.
struct Exchange {
    keep_alive: bool,
    head_only: bool,
    upload: Option<Box<Upload>>,
}

/// A body on its way to a worker.
struct Upload {
    decoder: BodyDecoder,
    left: u64,
    expect_continue: bool,
    opened: bool,
    /// None before it is opened, when all is sent, and when the worker stopped reading.
    sender: Option<BodySender>,
    /// What the worker had no room for.
    piece: Vec<u8>,
    complete: bool,
}

/// What the loop has to do next.
pub(super) enum Step {
    /// Wait for the next event.
    Wait,
    /// Come back in the next turn; others are waiting.
    Again,
    /// Ask how the body is to be taken and [`begin`](Connection::begin).
    Head(Box<RequestHead>),
    /// Have it answered.
    Request(Box<Request>),
    /// The connection has ended.
    Close,
}

/// What one turn of the loop lends to a connection.
pub(super) struct Turn<'a> {
    pub now: Instant,
    pub limits: &'a Limits,
    /// Where a read goes first.
    pub scratch: &'a mut [u8],
    /// Reads and responses that are left before others get their turn.
    pub budget: u32,
}

enum Fill {
    Some,
    Blocked,
    BudgetSpent,
    End,
}

impl Connection {
    /// A connection that was just made; `socket` is non-blocking.
    pub fn new(socket: OwnedFd, token: Token, limits: &Limits, now: Instant) -> Self {
        Self {
            socket,
            readable: true,
            writable: true,
            hangup: false,
            ended: false,
            input: Vec::new(),
            heads: HeadReader::new(limits.head),
            output: Vec::new(),
            written: 0,
            phase: Phase::Idle,
            ticket: Ticket {
                connection: token,
                serial: 0,
            },
            deadline: Some(now + limits.idle_time),
        }
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// When the current phase is to be over.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Nobody waits for anything: no request has begun, or the last response is out.
    pub fn is_idle(&self) -> bool {
        match self.phase {
            Phase::Idle => self.input.is_empty(),
            Phase::Lingering => true,
            _ => false,
        }
    }

    /// The request that the application has at this moment.
    pub fn handling(&self) -> Option<Ticket> {
        matches!(self.phase, Phase::Handling(_)).then_some(self.ticket)
    }

    /// Remembers what the kernel said.
    pub fn note(&mut self, readable: bool, writable: bool, hangup: bool) {
        self.readable |= readable;
        self.writable |= writable;
        self.hangup |= hangup;
    }

    /// Goes on as far as possible.
    pub fn advance(&mut self, turn: &mut Turn<'_>) -> Step {
        loop {
            if self.flush().is_err() {
                return Step::Close;
            }
            let step = match &self.phase {
                Phase::Idle | Phase::Head => self.read_head(turn),
                Phase::Body(_) => self.read_body(turn),
                Phase::Handling(_) => self.pass_upload_on(turn),
                Phase::Writing { last } => self.end_response(*last, turn),
                Phase::Lingering => self.linger(turn),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// Takes a request's body in the manner that the application wants.
    pub fn begin(&mut self, head: RequestHead, plan: BodyPlan, turn: &Turn<'_>) {
        let left = match plan {
            BodyPlan::Memory => turn.limits.memory_body as u64,
            BodyPlan::Stream { limit } => limit,
        };
        if matches!(head.framing, Framing::Length(length) if length > left) {
            return self.refuse(too_large(), turn);
        }
        let streamed = plan != BodyPlan::Memory && head.framing != Framing::None;
        if head.expect_continue && self.input.is_empty() && !streamed {
            self.output.extend_from_slice(CONTINUE);
        }
        self.deadline = Some(turn.now + turn.limits.body_time);
        self.phase = Phase::Body(Box::new(Incoming {
            decoder: BodyDecoder::new(head.framing),
            head,
            body: Vec::new(),
            left,
            streamed,
        }));
    }

    /// The body of the current request, for the worker that answers it.
    pub fn open_upload(&mut self, bell: RoomBell, turn: &Turn<'_>) -> BodyReader {
        let Phase::Handling(Exchange {
            upload: Some(upload),
            ..
        }) = &mut self.phase
        else {
            return BodyReader::empty();
        };
        if upload.opened {
            return BodyReader::empty();
        }
        if upload.expect_continue && self.input.is_empty() {
            self.output.extend_from_slice(CONTINUE);
        }
        self.deadline = Some(turn.now + turn.limits.upload_time);
        let (sender, reader) = body_stream(bell);
        (upload.opened, upload.sender) = (true, Some(sender));
        reader
    }

    /// Answers the current request. `last`: no other is welcome after it.
    pub fn respond(&mut self, response: &Response, last: bool, turn: &Turn<'_>) {
        let Phase::Handling(exchange) = &self.phase else {
            return;
        };
        let unread = exchange
            .upload
            .as_ref()
            .is_some_and(|upload| !upload.complete);
        let last = last || !exchange.keep_alive || unread;
        let head_only = exchange.head_only;
        self.write(response, last, head_only, turn);
    }

    /// The deadline has passed. True if there is nothing left but to close.
    pub fn expire(&mut self, turn: &Turn<'_>) -> bool {
        match &self.phase {
            Phase::Idle | Phase::Writing { .. } | Phase::Lingering => return true,
            Phase::Head | Phase::Body(_) | Phase::Handling(_) => {
                self.refuse(Refusal::new(408, "the request took too long"), turn);
            }
        }
        false
    }

    /// Gives the socket up, with the bytes that were read after the request. None if some of the
    /// request is still to come.
    pub fn give_away(&mut self) -> Option<Vec<u8>> {
        match &self.phase {
            Phase::Handling(Exchange { upload: None, .. }) if self.output.is_empty() => {
                Some(std::mem::take(&mut self.input))
            }
            _ => None,
        }
    }

    /// The socket of a connection that was [given away](Self::give_away).
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    fn refuse(&mut self, refusal: Refusal, turn: &Turn<'_>) {
        let id = phrase(refusal.status).to_lowercase().replace(' ', "_");
        let response = Response::json(refusal.status, &ApiError::new(id, refusal.why));
        self.write(&response, true, false, turn);
    }

    fn write(&mut self, response: &Response, last: bool, head_only: bool, turn: &Turn<'_>) {
        let options = WriteOptions {
            now: SystemTime::now(),
            close: last,
            head_only,
        };
        response.write(options, &mut self.output);
        self.phase = Phase::Writing { last };
        self.deadline = Some(turn.now + turn.limits.write_time);
    }

    fn read_head(&mut self, turn: &mut Turn<'_>) -> Option<Step> {
        if !self.input.is_empty() {
            if matches!(self.phase, Phase::Idle) {
                self.phase = Phase::Head;
                self.deadline = Some(turn.now + turn.limits.head_time);
            }
            match self.heads.request(&self.input) {
                Ok(None) => {}
                Ok(Some((head, length))) => {
                    self.input.drain(..length);
                    return Some(Step::Head(Box::new(head)));
                }
                Err(refusal) => {
                    self.refuse(refusal, turn);
                    return None;
                }
            }
        }
        self.fill_or_stop(turn)
    }

    fn read_body(&mut self, turn: &mut Turn<'_>) -> Option<Step> {
        let Phase::Body(incoming) = &mut self.phase else {
            return None;
        };
        if !incoming.streamed {
            let Incoming {
                decoder,
                body,
                left,
                ..
            } = &mut **incoming;
            match decode(decoder, &mut self.input, body, left) {
                Ok(true) => {}
                Ok(false) => return self.fill_or_stop(turn),
                Err(refusal) => {
                    self.refuse(refusal, turn);
                    return None;
                }
            }
        }
        let Phase::Body(incoming) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return None;
        };
        Some(self.hand_over(*incoming))
    }

    fn hand_over(&mut self, incoming: Incoming) -> Step {
        let Incoming {
            head,
            decoder,
            body,
            left,
            streamed,
        } = incoming;
        let upload = streamed.then(|| {
            Box::new(Upload {
                decoder,
                left,
                expect_continue: head.expect_continue,
                opened: false,
                sender: None,
                piece: Vec::new(),
                complete: false,
            })
        });
        self.phase = Phase::Handling(Exchange {
            keep_alive: head.keep_alive,
            head_only: head.method() == "HEAD",
            upload,
        });
        // The application's time is the application's to bound.
        self.deadline = None;
        self.ticket.serial += 1;
        Step::Request(Box::new(Request {
            head,
            body,
            ticket: self.ticket,
        }))
    }

    /// Moves what comes in on to the worker. Without an upload there is nothing to do but to notice
    /// a client that has gone.
    fn pass_upload_on(&mut self, turn: &mut Turn<'_>) -> Option<Step> {
        let Phase::Handling(Exchange { upload, .. }) = &mut self.phase else {
            return None;
        };
        let Some(open) = upload.as_mut().filter(|upload| upload.sender.is_some()) else {
            return Some(if self.hangup { Step::Close } else { Step::Wait });
        };
        if !open.deliver() {
            return Some(Step::Wait);
        }
        if open.complete {
            if open.sender.is_none() {
                *upload = None;
                self.deadline = None;
            }
            return None;
        }
        match decode(
            &mut open.decoder,
            &mut self.input,
            &mut open.piece,
            &mut open.left,
        ) {
            Ok(complete) => open.complete = complete,
            Err(refusal) => {
                self.refuse(refusal, turn);
                return None;
            }
        }
        if open.complete || !open.piece.is_empty() {
            return None;
        }
        self.fill_or_stop(turn)
    }

    fn end_response(&mut self, last: bool, turn: &mut Turn<'_>) -> Option<Step> {
        if !self.output.is_empty() {
            return Some(Step::Wait);
        }
        if last {
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
            self.phase = Phase::Lingering;
            self.deadline = Some(turn.now + turn.limits.linger_time);
            return None;
        }
        self.phase = Phase::Idle;
        self.deadline = Some(turn.now + turn.limits.idle_time);
        if self.input.is_empty() {
            // A connection that waits holds no memory.
            self.input = Vec::new();
        }
        if turn.budget == 0 {
            return Some(Step::Again);
        }
        turn.budget -= 1;
        None
    }

    fn linger(&mut self, turn: &mut Turn<'_>) -> Option<Step> {
        self.input.clear();
        self.fill_or_stop(turn)
    }

    /// More input, or the reason why there is none now.
    fn fill_or_stop(&mut self, turn: &mut Turn<'_>) -> Option<Step> {
        match self.fill(turn) {
            Fill::Some => None,
            Fill::Blocked => Some(Step::Wait),
            Fill::BudgetSpent => Some(Step::Again),
            Fill::End => Some(Step::Close),
        }
    }

    fn fill(&mut self, turn: &mut Turn<'_>) -> Fill {
        if self.ended {
            return Fill::End;
        }
        if !self.readable {
            return Fill::Blocked;
        }
        if turn.budget == 0 {
            return Fill::BudgetSpent;
        }
        turn.budget -= 1;
        loop {
            match rustix::io::read(&self.socket, &mut *turn.scratch) {
                Ok(0) => {}
                Ok(length) => {
                    self.input.extend_from_slice(&turn.scratch[..length]);
                    return Fill::Some;
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    self.readable = false;
                    return Fill::Blocked;
                }
                // A reset: the end, as far as reading goes.
                Err(_) => {}
            }
            self.ended = true;
            return Fill::End;
        }
    }

    /// Writes what the socket takes.
    fn flush(&mut self) -> Result<(), Errno> {
        while self.writable && !self.output.is_empty() {
            let rest = &self.output[self.written..];
            match rustix::net::send(&self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(length) => self.written += length,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.writable = false,
                Err(error) => return Err(error),
            }
            if self.written == self.output.len() {
                (self.output, self.written) = (Vec::new(), 0);
            }
        }
        Ok(())
    }
}

impl Upload {
    /// Gives the worker what is there for it; false while it has no room.
    fn deliver(&mut self) -> bool {
        let Some(sender) = &self.sender else {
            return true;
        };
        if !self.piece.is_empty() {
            match sender.send(std::mem::take(&mut self.piece)) {
                Ok(()) => {}
                Err(NotSent::Full(piece)) => {
                    self.piece = piece;
                    return false;
                }
                Err(NotSent::Gone) => self.sender = None,
            }
        }
        if self.complete
            && self
                .sender
                .as_ref()
                .is_some_and(|sender| sender.end() != Err(full()))
        {
            self.sender = None;
        }
        !(self.complete && self.sender.is_some())
    }
}

/// What [`BodySender::end`] says when the worker has no room.
fn full() -> NotSent {
    NotSent::Full(Vec::new())
}

/// Moves what belongs to the body from `input` to `body`; true when the body is complete.
fn decode(
    decoder: &mut BodyDecoder,
    input: &mut Vec<u8>,
    body: &mut Vec<u8>,
    left: &mut u64,
) -> Result<bool, Refusal> {
    let mut rest = &input[..];
    let complete = loop {
        match decoder.decode(&mut rest)? {
            Decoded::Data(data) => {
                *left = left.checked_sub(data.len() as u64).ok_or_else(too_large)?;
                body.extend_from_slice(data);
            }
            Decoded::NeedMore => break false,
            Decoded::End => break true,
        }
    };
    let used = input.len() - rest.len();
    input.drain(..used);
    Ok(complete)
}

fn too_large() -> Refusal {
    Refusal::new(413, "the body is too large")
}
