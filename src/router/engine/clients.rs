//! A client's connection: reads requests, sends responses, and enforces deadlines.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Instant, SystemTime};

use super::{Engine, Lent, Step, Token};
use crate::router::error_page::{self, PageOptions};
use crate::router::exchange::{Answer, Exchange, Stage};
use crate::router::failure::Failure;
use crate::router::forwarded::Forwarded;
use crate::router::headers;
use crate::router::log::LogEntry;
use crate::router::pool::DynoConnection;
use crate::router::relay::BodyRelay;
use crate::router::settings::RouterSettings;
use crate::router::wire::{Read, Wire};
use crate::wire::http::{HeadReader, HttpRefusal, RequestHead};

/// The most steps of one connection in a turn.
const BUDGET: usize = 16;

/// A connection of a client. An idle one has this, its entry in two tables and a deadline, and no buffer.
pub(super) struct Client {
    /// Its socket, and the output that waits for it.
    pub wire: Wire,
    peer: SocketAddr,
    /// Bytes that were read and not used yet.
    pub input: Vec<u8>,
    phase: Phase,
    /// When the phase began, for phases with a deadline.
    pub since: Instant,
    /// The deadline that the reactor has. It may be earlier than the real one, which is set when it passes: most
    /// deadlines are put off before they pass.
    armed: Option<Instant>,
}

/// What is done with a client when the router leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtLeave {
    /// It waits for a response, and gets it.
    IsAnswered,
    /// It waits for none; its next request may be on the way.
    MayAsk,
    /// Its response has no foreseeable end, or is over: the connection is closed.
    IsClosed,
}

enum Phase {
    /// No byte of a request has come.
    Idle,
    /// A part of its head has come.
    Head(Box<HeadReader>),
    Exchange(Box<Exchange>),
    /// The last response was sent. To close at once could discard it, if bytes of the client are still unread.
    Lingering {
        shut: bool,
    },
}

impl Client {
    /// The network of the dyno that its request is to go to has no socket for it.
    pub fn is_refused(&mut self) {
        if let Phase::Exchange(exchange) = &mut self.phase
            && let Stage::Entering { refused, .. } = &mut exchange.stage
        {
            *refused = true;
        }
    }

    /// A client that has just come from `peer`, over a socket that does not block.
    pub fn new(socket: OwnedFd, peer: SocketAddr, now: Instant) -> Self {
        Self {
            wire: Wire::new(socket),
            peer,
            input: Vec::new(),
            phase: Phase::Idle,
            since: now,
            armed: None,
        }
    }

    /// Whether the connection can be closed without losing anything.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle) && !self.wire.is_readable()
    }

    /// What is done with the client when the router leaves. A request in progress becomes its last.
    pub fn at_leave(&self) -> AtLeave {
        match &self.phase {
            Phase::Idle if self.is_idle() => AtLeave::MayAsk,
            Phase::Exchange(exchange) if exchange.is_endless_now() => AtLeave::IsClosed,
            Phase::Lingering { .. } => AtLeave::IsClosed,
            Phase::Idle | Phase::Head(_) | Phase::Exchange(_) => AtLeave::IsAnswered,
        }
    }

    /// The connection to a dyno that serves it, if it has this token.
    pub fn link(&mut self, token: Token) -> Option<&mut DynoConnection> {
        let Phase::Exchange(exchange) = &mut self.phase else {
            return None;
        };
        match &mut exchange.stage {
            Stage::Connecting { link, .. } | Stage::Relaying(link) | Stage::Tunnel { link, .. } => {
                (link.token == token).then_some(link)
            }
            Stage::Placing | Stage::Waiting { .. } | Stage::Entering { .. } | Stage::Finishing => {
                None
            }
        }
    }

    fn deadline(&self, settings: &RouterSettings) -> Instant {
        match &self.phase {
            Phase::Idle => self.since + settings.idle_time,
            Phase::Head(_) => self.since + settings.head_time,
            Phase::Lingering { .. } => self.since + settings.linger_time,
            Phase::Exchange(exchange) => {
                let (until, _) = exchange.deadline(self.wire.is_flushed(), settings);
                match exchange.looked {
                    Some(looked) => until.min(looked + settings.gone_interval),
                    None => until,
                }
            }
        }
    }
}

impl Engine {
    /// Drives a client's connection as far as possible.
    pub(super) fn drive(&mut self, token: Token) {
        let Some(mut client) = self.clients.remove(&token) else {
            return;
        };
        let mut lent = std::mem::take(&mut self.lent);
        let goes_on = self.advance(token, &mut client, &mut lent);
        self.lent = lent;
        if goes_on {
            self.arm(token, &mut client);
            self.clients.insert(token, client);
        } else {
            self.close_client(token, client);
        }
    }

    fn advance(&mut self, token: Token, client: &mut Client, lent: &mut Lent) -> bool {
        for _ in 0..BUDGET {
            let step = match std::mem::replace(&mut client.phase, Phase::Idle) {
                Phase::Idle => self.read_head(client, None, lent),
                Phase::Head(heads) => self.read_head(client, Some(heads), lent),
                Phase::Exchange(exchange) => self.go_on(token, client, exchange, lent),
                Phase::Lingering { shut } => linger(client, shut, lent),
            };
            match step {
                Step::Go => {}
                Step::Wait => return true,
                Step::Close => return false,
            }
        }
        self.reactor.again(token);
        true
    }

    /// Makes sure that the reactor has a deadline no later than the client's.
    pub(super) fn arm(&mut self, token: Token, client: &mut Client) {
        // Set to the earliest of the common deadlines, so that a connection with one request sets only one.
        let until = client.deadline(&self.settings);
        let until = until.min(self.now + self.settings.first_byte_time);
        if client.armed.is_none_or(|armed| until < armed) {
            self.reactor.set_deadline(token, until);
            client.armed = Some(until);
        }
    }

    /// Closes a client's connection, and its connection to a dyno.
    pub(super) fn close_client(&mut self, token: Token, client: Box<Client>) {
        self.reactor.forget(token);
        drop(client);
        self.resume_accepting();
    }

    /// A deadline has passed, which may not be the client's present one.
    pub(super) fn expire(&mut self, token: Token) {
        let Some(mut client) = self.clients.remove(&token) else {
            return;
        };
        client.armed = None;
        let over = client.deadline(&self.settings) <= self.now;
        let goes_on = !over
            || match std::mem::replace(&mut client.phase, Phase::Idle) {
                Phase::Idle | Phase::Lingering { .. } => false,
                Phase::Head(_) => {
                    let refusal = HttpRefusal::new(408, "the head of the request took too long");
                    let begun = std::mem::take(&mut client.input);
                    self.refuse(&mut client, refusal, &begun);
                    true
                }
                Phase::Exchange(mut exchange) => {
                    let (until, failure) =
                        exchange.deadline(client.wire.is_flushed(), &self.settings);
                    let goes_on = until > self.now
                        || self.time_out(token, &mut client, &mut exchange, failure);
                    client.phase = Phase::Exchange(exchange);
                    goes_on
                }
            };
        if goes_on {
            self.clients.insert(token, client);
            self.drive(token);
        } else {
            self.close_client(token, client);
        }
    }

    fn read_head(
        &mut self,
        client: &mut Client,
        begun: Option<Box<HeadReader>>,
        lent: &mut Lent,
    ) -> Step {
        let limits = self.settings.request_head;
        let pipelined = begun.is_none() && !client.input.is_empty();
        let mut heads = begun.unwrap_or_else(|| Box::new(HeadReader::new(limits)));
        let is_first = client.input.is_empty();
        let mut read = 0;
        if !pipelined {
            match client.wire.read(&mut lent.scratch) {
                Read::Bytes(length) => read = length,
                Read::Blocked => {
                    if !is_first {
                        client.phase = Phase::Head(heads);
                    }
                    return Step::Wait;
                }
                Read::End | Read::Broken => return Step::Close,
            }
        }
        // A head that comes whole is parsed without a copy.
        let kept = match is_first {
            true => Vec::new(),
            false => {
                let mut input = std::mem::take(&mut client.input);
                input.extend_from_slice(&lent.scratch[..read]);
                input
            }
        };
        let bytes = if is_first {
            &lent.scratch[..read]
        } else {
            &kept
        };
        match heads.request(bytes) {
            Ok(Some((head, length))) => {
                client.input = bytes[length..].to_vec();
                self.begin(client, head);
            }
            Ok(None) => {
                if is_first || pipelined {
                    client.since = self.now;
                }
                client.input = if is_first { bytes.to_vec() } else { kept };
                client.phase = Phase::Head(heads);
            }
            Err(refusal) => {
                let bytes = bytes.to_vec();
                self.refuse(client, refusal, &bytes);
            }
        }
        Step::Go
    }

    /// Begins a request whose head has come.
    fn begin(&mut self, client: &mut Client, head: RequestHead) {
        let name = headers::app(headers::host(&head), &self.settings.domain);
        let app = name.and_then(|name| self.state.table.app(&name).cloned());
        let request_id = match headers::request_id(&head) {
            Some(id) => id.to_owned(),
            None => self.request_id(),
        };
        let mut exchange = Box::new(Exchange {
            app,
            request_id,
            forwarded: Forwarded::of(
                &head,
                client.peer.ip(),
                self.address.port(),
                &self.settings.trusted,
            ),
            started: self.now,
            started_ms: milliseconds(self.wall()),
            stage: Stage::Placing,
            dyno: None,
            held: None,
            connect: None,
            tried: Vec::new(),
            timed_out: false,
            woken: None,
            queued: false,
            fresh: false,
            upload: BodyRelay::of_request(head.framing),
            upload_refused: false,
            continued: false,
            answer: Answer::Head { partial: None },
            progress: self.now,
            looked: None,
            status: 0,
            bytes: 0,
            close: !head.keep_alive || self.leaving.is_some(),
            failure: None,
            head,
        });
        if exchange.app.is_none() {
            self.answer_failure(client, &mut exchange, Failure::NoApp);
        }
        client.phase = Phase::Exchange(exchange);
    }

    /// Answers a request that is refused, and closes the connection. `bytes` are those of the request so far.
    fn refuse(&mut self, client: &mut Client, refusal: HttpRefusal, bytes: &[u8]) {
        let failure = Failure::H26 {
            status: refusal.status,
            cause: refusal.why,
        };
        let mut out = Vec::new();
        let manner = PageOptions {
            app: None,
            request_id: None,
            close: true,
            http10: false,
            head_only: false,
            now: self.wall(),
        };
        error_page::write(&failure, manner, &mut out);
        let _ = client.wire.send(&out);
        client.phase = Phase::Lingering { shut: false };
        client.since = self.now;
        // Its host is a guess, good enough for a log line.
        let guess = headers::guess(bytes);
        let name = headers::app(guess.host, &self.settings.domain);
        if let Some(app) = name.and_then(|name| self.state.table.app(&name).cloned()) {
            let request_id = self.request_id();
            let entry = LogEntry {
                failure: Some(&failure),
                method: guess.method,
                path: guess.path,
                host: guess.host,
                request_id: &request_id,
                forwarded_for: &client.peer.ip().to_canonical().to_string(),
                scheme: "http",
                dyno: None,
                connect: None,
                service: None,
                status: refusal.status,
                bytes: 0,
            };
            self.state.logs.add(&app, &entry);
        }
    }

    /// Goes on with a request.
    fn go_on(
        &mut self,
        token: Token,
        client: &mut Client,
        mut exchange: Box<Exchange>,
        lent: &mut Lent,
    ) -> Step {
        let broken = client.wire.flush().is_err();
        let is_over = matches!(exchange.stage, Stage::Finishing | Stage::Tunnel { .. });
        if broken
            || (!is_over && (client.wire.is_hung_up() || self.has_left(client, &mut exchange)))
        {
            self.stop_waiting(token, &exchange);
            return self.interrupt(&mut exchange);
        }
        let step = match &exchange.stage {
            Stage::Placing => self.place(token, client, &mut exchange, lent),
            Stage::Waiting { .. } => Step::Wait,
            Stage::Entering { .. } => self.enter(token, &mut exchange),
            Stage::Connecting { .. } => self.connect(client, &mut exchange, lent),
            Stage::Relaying(_) => self.relay(client, &mut exchange, lent),
            Stage::Tunnel { .. } => self.tunnel(client, &mut exchange, lent),
            Stage::Finishing if !client.wire.is_flushed() => Step::Wait,
            Stage::Finishing => return self.finish(client, &exchange),
        };
        client.phase = Phase::Exchange(exchange);
        step
    }

    /// Whether the client is gone. A client that has ended its side may still want the response, or may have gone, and
    /// the end of a client whose upload is stuck comes after unread bytes. For a client on this host, the kernel knows
    /// whether a process still has its socket open. A client elsewhere that has ended its side counts as gone, as most
    /// programs mean it.
    fn has_left(&self, client: &Client, exchange: &mut Exchange) -> bool {
        let has_ended = client.wire.has_ended();
        if !has_ended && !exchange.upload_is_stuck() {
            exchange.looked = None;
            return false;
        }
        // A stuck upload is mostly stuck for a moment only.
        let looked = exchange.looked.or((!has_ended).then_some(self.now));
        if looked.is_some_and(|looked| self.now < looked + self.settings.gone_interval) {
            exchange.looked = looked;
            return false;
        }
        exchange.looked = Some(self.now);
        let ours = rustix::net::getsockname(client.wire.socket());
        let ours = ours.ok().and_then(|ours| SocketAddr::try_from(ours).ok());
        match ours {
            Some(ours) if client.peer.ip() == ours.ip() || client.peer.ip().is_loopback() => {
                // If the kernel does not answer, the client counts as present.
                !self.listeners.is_open(client.peer, ours).unwrap_or(true)
            }
            _ => has_ended,
        }
    }

    /// Ends a response without a foreseeable end, since the router leaves.
    pub(super) fn interrupt_endless(&mut self, client: &mut Client) {
        if let Phase::Exchange(mut exchange) = std::mem::replace(&mut client.phase, Phase::Idle) {
            self.abandon_link(&mut exchange);
            self.log(&exchange);
        }
    }

    /// Ends a client's connection when the router that leaves has waited long enough.
    pub(super) fn cut_off(&mut self, token: Token, failure: Failure) {
        let Some(mut client) = self.clients.remove(&token) else {
            return;
        };
        let goes_on = match std::mem::replace(&mut client.phase, Phase::Idle) {
            Phase::Idle | Phase::Lingering { .. } | Phase::Head(_) => false,
            Phase::Exchange(mut exchange) => {
                exchange.close = true;
                self.stop_waiting(token, &exchange);
                let goes_on = match exchange.stage {
                    Stage::Finishing => {
                        exchange.failure.get_or_insert(failure);
                        self.log(&exchange);
                        false
                    }
                    _ => self.fail(&mut client, &mut exchange, failure) != Step::Close,
                };
                client.phase = Phase::Exchange(exchange);
                goes_on
            }
        };
        match goes_on {
            true => drop(self.clients.insert(token, client)),
            false => self.close_client(token, client),
        }
    }

    /// The whole response has been sent.
    fn finish(&mut self, client: &mut Client, exchange: &Exchange) -> Step {
        self.log(exchange);
        client.since = self.now;
        // A client that was not told that this is the last response may send another request.
        if !exchange.close {
            if client.input.is_empty() {
                client.input = Vec::new();
                // Reading is only worth a try if the kernel reported bytes.
                return match client.wire.is_readable() {
                    true => Step::Go,
                    false => Step::Wait,
                };
            }
            return Step::Go;
        }
        let all_read =
            exchange.upload.is_done() && client.input.is_empty() && !client.wire.is_readable();
        if all_read {
            return Step::Close;
        }
        client.phase = Phase::Lingering { shut: false };
        Step::Go
    }

    /// Has a client's waiting request look for a dyno again.
    pub(super) fn wake(&mut self, token: Token) {
        if let Some(client) = self.clients.get_mut(&token)
            && let Phase::Exchange(exchange) = &mut client.phase
            && let Stage::Waiting { why, since } = exchange.stage
        {
            exchange.stage = Stage::Placing;
            exchange.woken = Some((why, since));
            self.drive(token);
        }
    }
}

/// Reads and discards bytes until the client has closed as well.
fn linger(client: &mut Client, mut shut: bool, lent: &mut Lent) -> Step {
    if client.wire.flush().is_err() {
        return Step::Close;
    }
    client.input = Vec::new();
    if client.wire.is_flushed() && !shut {
        client.wire.shut_down();
        shut = true;
    }
    client.phase = Phase::Lingering { shut };
    match client.wire.read(&mut lent.scratch) {
        Read::Bytes(_) => Step::Go,
        Read::Blocked => Step::Wait,
        Read::End | Read::Broken if shut => Step::Close,
        Read::End | Read::Broken => Step::Wait,
    }
}

fn milliseconds(time: SystemTime) -> u128 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis())
}
