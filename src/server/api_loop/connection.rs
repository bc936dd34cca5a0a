//! One client's connection: its bytes, its phase, its deadline.
//!
//! [`advance`](Connection::advance) goes as far as the socket lets it and returns what the loop has
//! to do; it knows neither reactor nor application. One request is served at a time: while one is
//! answered nothing is read, so a client that pipelines waits in its socket's buffer, not in ours.

mod response;
mod upload;
mod wire;

use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::server::api_loop::application::{BodyPlan, Request, Ticket};
use crate::server::api_loop::body_stream::{BodyReader, RoomBell, body_stream};
use crate::server::api_loop::connection_limits::ConnectionLimits;
use crate::server::api_loop::via::Via;
use crate::wire::http::head::HttpVersion;
use crate::wire::http::{BodyDecoder, Framing, HeadReader, HttpRefusal, RequestHead};
use crate::wire::reactor::Token;
use crate::wire::stream::Stream;
use upload::{Allowance, Progress, Upload, decode};
use wire::{Fill, Wire};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a piece of a streamed response takes of a turn's budget: making one is dearer than reading a request.
const PIECE_COST: u32 = 4;

/// See the [module](self).
pub struct Connection {
    wire: Wire,
    via: Via,
    heads: HeadReader,
    phase: Phase,
    /// The current request, or the last one.
    ticket: Ticket,
    /// Its target.
    target: String,
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
    /// The response is going out piece by piece; without chunks its end is the connection's.
    Streaming { chunked: bool, last: bool },
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
    left: Allowance,
    streamed: bool,
}

/// What is left to know of a request when the application has it.
struct Exchange {
    keep_alive: bool,
    head_only: bool,
    knows_chunks: bool,
    upload: Option<Box<Upload>>,
}

/// What the loop has to do next.
pub enum Step {
    /// Wait for the next event.
    Wait,
    /// Come back in the next turn; others are waiting.
    Again,
    /// Ask how the body is to be taken and [`begin`](Connection::begin).
    Head(Box<RequestHead>),
    /// Have it answered.
    Request(Box<Request>),
    /// Ask how the response goes on and [`stream`](Connection::stream) that.
    More(Ticket),
    /// The connection has ended.
    Close,
}

/// What one turn of the loop lends to a connection.
pub struct Turn<'a> {
    /// The time at which the turn began.
    pub now: Instant,
    /// What the connection may cost.
    pub limits: &'a ConnectionLimits,
    /// Where a read goes first.
    pub scratch: &'a mut [u8],
    /// Reads and responses that are left before others get their turn.
    pub budget: u32,
}

impl Connection {
    /// A connection that was just made.
    pub fn new(
        stream: Stream,
        via: Via,
        token: Token,
        limits: &ConnectionLimits,
        now: Instant,
    ) -> Self {
        Self {
            wire: Wire::new(stream),
            via,
            heads: HeadReader::new(limits.head),
            phase: Phase::Idle,
            ticket: Ticket {
                connection: token,
                serial: 0,
            },
            target: String::new(),
            // A client from a network sends its first request at once.
            deadline: Some(match via {
                Via::Socket => now + limits.idle_time,
                Via::Tcp { .. } => now + limits.head_time,
            }),
        }
    }

    /// The socket, to be watched.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.wire.stream.socket()
    }

    /// How the client came.
    pub fn via(&self) -> Via {
        match self.via {
            Via::Tcp { peer, .. } => Via::Tcp {
                peer,
                tls: self.wire.stream.is_encrypted(),
            },
            Via::Socket => Via::Socket,
        }
    }

    /// When the current phase is to be over.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether no request has begun, and the last response is out.
    pub fn is_idle(&self) -> bool {
        match self.phase {
            Phase::Idle => self.wire.input.is_empty(),
            Phase::Lingering => true,
            _ => false,
        }
    }

    /// Whether the client has asked for nothing since it came, so that its first request may be on the way.
    pub fn is_new(&self) -> bool {
        self.ticket.serial == 0 && matches!(self.phase, Phase::Idle)
    }

    /// Whether a response is going out piece by piece.
    pub fn is_streaming(&self) -> bool {
        matches!(self.phase, Phase::Streaming { .. })
    }

    /// The request that the application has at this moment.
    pub fn handling(&self) -> Option<Ticket> {
        matches!(self.phase, Phase::Handling(_)).then_some(self.ticket)
    }

    /// The request that the application is still to hear of: it has it, or streams the response.
    pub fn unfinished(&self) -> Option<Ticket> {
        matches!(self.phase, Phase::Handling(_) | Phase::Streaming { .. }).then_some(self.ticket)
    }

    /// Remembers what the kernel said.
    pub fn note(&mut self, readable: bool, writable: bool, end: bool, hangup: bool) {
        self.wire.stream.note(readable, writable);
        // Over a network, a client does not say that it is gone for good. An HTTP client that will send no more while it is to
        // be answered has left, as a rule; at the Unix socket the kernel knows.
        self.wire.gone |= hangup || (end && self.via.is_remote());
    }

    /// Goes on as far as possible.
    pub fn advance(&mut self, turn: &mut Turn<'_>) -> Step {
        loop {
            let Ok(moved) = self.wire.flush() else {
                return Step::Close;
            };
            let step = match &self.phase {
                Phase::Idle | Phase::Head => self.read_head(turn),
                Phase::Body(_) => self.read_body(turn),
                Phase::Handling(_) => self.pass_upload_on(turn),
                Phase::Streaming { .. } => Some(self.go_on_streaming(moved, turn)),
                Phase::Writing { last } => self.end_response(*last, turn),
                Phase::Lingering => self.linger(turn),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// What the current request asks for, or the last one.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Takes a request's body in the manner that the application wants.
    pub fn begin(&mut self, head: RequestHead, plan: BodyPlan, turn: &Turn<'_>) {
        head.target().clone_into(&mut self.target);
        let left = Allowance::new(match plan {
            BodyPlan::Memory => turn.limits.memory_body as u64,
            BodyPlan::Stream { limit } => limit,
            BodyPlan::Unread => u64::MAX,
        });
        if let Framing::Length(length) = head.framing
            && let Err(refusal) = { left }.take(length)
        {
            return self.refuse(refusal, turn);
        }
        let streamed = plan != BodyPlan::Memory && head.framing != Framing::None;
        if head.expect_continue && self.wire.input.is_empty() && !streamed {
            self.wire.output().extend_from_slice(CONTINUE);
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

    /// Whether the body of the request that is answered is streamed, and comes from a network.
    pub fn is_uploading_from_afar(&self) -> bool {
        let upload = matches!(
            self.phase,
            Phase::Handling(Exchange {
                upload: Some(_),
                ..
            })
        );
        upload && self.via.is_remote()
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
        if upload.expect_continue && self.wire.input.is_empty() {
            self.wire.output().extend_from_slice(CONTINUE);
        }
        self.deadline = Some(turn.now + turn.limits.upload_time);
        let (sender, reader) = body_stream(bell);
        (upload.opened, upload.sender) = (true, Some(sender));
        reader
    }

    /// The deadline has passed. True if there is nothing left but to close.
    pub fn expire(&mut self, turn: &Turn<'_>) -> bool {
        match &self.phase {
            Phase::Idle | Phase::Streaming { .. } | Phase::Writing { .. } | Phase::Lingering => {
                return true;
            }
            Phase::Head | Phase::Body(_) | Phase::Handling(_) => {
                self.refuse(HttpRefusal::new(408, "the request took too long"), turn);
            }
        }
        false
    }

    /// Gives the socket up, with the bytes that were read after the request. None if some of the
    /// request is still to come.
    pub fn give_away(&mut self) -> Option<Vec<u8>> {
        match &self.phase {
            Phase::Handling(Exchange { upload: None, .. }) if self.wire.is_flushed() => {
                Some(std::mem::take(&mut self.wire.input))
            }
            _ => None,
        }
    }

    /// The stream of a connection that was [given away](Self::give_away).
    pub fn into_stream(self) -> Stream {
        self.wire.stream
    }

    fn read_head(&mut self, turn: &mut Turn<'_>) -> Option<Step> {
        if !self.wire.input.is_empty() {
            if matches!(self.phase, Phase::Idle) {
                self.phase = Phase::Head;
                self.deadline = Some(turn.now + turn.limits.head_time);
            }
            match self.heads.request(&self.wire.input) {
                Ok(None) => {}
                Ok(Some((head, length))) => {
                    self.wire.input.drain(..length);
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
            match decode(decoder, &mut self.wire.input, body, left) {
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
        let upload = streamed.then(|| Box::new(Upload::new(decoder, left, head.expect_continue)));
        self.phase = Phase::Handling(Exchange {
            keep_alive: head.keep_alive,
            head_only: head.method() == "HEAD",
            knows_chunks: head.version == HttpVersion::Http11,
            upload,
        });
        // The application's time is the application's to bound.
        self.deadline = None;
        self.ticket.serial += 1;
        Step::Request(Box::new(Request {
            head,
            body,
            via: self.via(),
            ticket: self.ticket,
            token: None,
        }))
    }

    /// Moves what comes in on to the worker. Without an upload there is nothing to do but to notice
    /// a client that has gone.
    fn pass_upload_on(&mut self, turn: &mut Turn<'_>) -> Option<Step> {
        let Phase::Handling(Exchange { upload, .. }) = &mut self.phase else {
            return None;
        };
        let Some(open) = upload.as_mut().filter(|upload| upload.sender.is_some()) else {
            return Some(self.wait_or_close());
        };
        match open.pass_on(&mut self.wire.input) {
            Ok(Progress::Some) => None,
            Ok(Progress::Full) => Some(Step::Wait),
            Ok(Progress::Starved) => self.fill_or_stop(turn),
            Ok(Progress::Done) => {
                *upload = None;
                self.deadline = None;
                None
            }
            Err(refusal) => {
                self.refuse(refusal, turn);
                None
            }
        }
    }

    fn linger(&mut self, turn: &mut Turn<'_>) -> Option<Step> {
        self.wire.input.clear();
        self.fill_or_stop(turn)
    }

    fn wait_or_close(&self) -> Step {
        match self.wire.gone {
            true => Step::Close,
            false => Step::Wait,
        }
    }

    /// More input, or the reason why there is none now.
    fn fill_or_stop(&mut self, turn: &mut Turn<'_>) -> Option<Step> {
        match self.wire.fill(turn.scratch, &mut turn.budget) {
            Fill::Some => None,
            Fill::Blocked => Some(Step::Wait),
            Fill::BudgetSpent => Some(Step::Again),
            Fill::End => Some(Step::Close),
        }
    }
}

impl Exchange {
    /// Whether no request can follow this one.
    fn is_last(&self) -> bool {
        let unread = self.upload.as_ref().is_some_and(|upload| !upload.complete);
        !self.keep_alive || unread
    }
}
