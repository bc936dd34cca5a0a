//! Moves the bytes between a client and the dyno that serves it.
//!
//! Bytes are written as soon as they are read; what the receiver does not take is kept, and nothing more is read until
//! it is sent. So a slow side costs one buffer.

use super::clients::Client;
use super::{Engine, Holder, Lent, Step};
use crate::router::exchange::{Answer, Ends, Exchange, Stage};
use crate::router::failure::Failure;
use crate::router::headers::{self, Added, Coding};
use crate::router::pool::DynoConnection;
use crate::router::relay::BodyRelay;
use crate::router::wire::Read;
use crate::wire::http::head::HttpVersion;
use crate::wire::http::{HeadReader, HttpRefusal, ResponseHead};

/// The most reads from one side before the other has its turn.
const READS: usize = 2;

/// What came of reading from the dyno.
enum Heard {
    /// More bytes are to come.
    More,
    /// The response is complete.
    Complete {
        reusable: bool,
    },
    /// The dyno has switched to another protocol.
    Switched,
    Failed(Failure),
    /// The client has gone.
    Unheard,
}

impl Engine {
    /// Sends the head of a request, with as much of its body as has come.
    pub(super) fn send_request(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        lent: &mut Lent,
    ) -> Step {
        let out = &mut lent.out;
        out.clear();
        let added = Added {
            forwarded: &exchange.forwarded,
            request_id: &exchange.request_id,
            start: exchange.started_ms,
            connect: exchange.connect.unwrap_or_default(),
            total: self.now.saturating_duration_since(exchange.started),
        };
        headers::write_request(&exchange.head, &added, out);
        if !exchange.upload.is_done() && !client.input.is_empty() {
            let mut ready = std::mem::take(&mut client.input);
            let mut rest = &ready[..];
            let mut body = Vec::new();
            match exchange.upload.pass(&mut rest, &mut body, &mut 0) {
                Ok(raw) => {
                    out.extend_from_slice(raw);
                    out.extend_from_slice(&body);
                }
                Err(refusal) => return self.fail(client, exchange, bad_request(refusal)),
            }
            let left = rest.len();
            ready.drain(..ready.len() - left);
            client.input = ready;
            exchange.continued = true;
        }
        if let Stage::Relaying(link) = &mut exchange.stage
            && link.wire.send(out).is_err()
        {
            // The dyno may have answered before it closed; reading will tell.
            exchange.upload_refused = true;
            link.wire.note(true, false, true, false);
        }
        Step::Go
    }

    /// Relays bytes both ways.
    pub(super) fn relay(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        lent: &mut Lent,
    ) -> Step {
        let mut link = match std::mem::replace(&mut exchange.stage, Stage::Finishing) {
            Stage::Relaying(link) => link,
            other => {
                exchange.stage = other;
                return Step::Wait;
            }
        };
        let mut heard = Heard::More;
        let (mut more_of_request, mut more_of_answer) = (false, false);
        match self.pass_request(client, exchange, &mut link, lent, &mut more_of_request) {
            Err(failure) => heard = Heard::Failed(failure),
            Ok(()) => {
                for _ in 0..READS {
                    if !client.wire.is_flushed() || !matches!(heard, Heard::More) {
                        break;
                    }
                    match link.wire.read(&mut lent.scratch) {
                        Read::Blocked => break,
                        Read::Bytes(length) => {
                            exchange.progress = self.now;
                            let bytes = &lent.scratch[..length];
                            heard = self.hear(client, exchange, bytes, &mut lent.out);
                            more_of_answer = link.wire.is_readable();
                        }
                        end => {
                            if self.is_stale(exchange, &link, end) {
                                return self.repeat(exchange, link);
                            }
                            heard = self.hear_end(client, exchange, end == Read::End);
                        }
                    }
                }
            }
        }
        match heard {
            Heard::More => {
                exchange.stage = Stage::Relaying(link);
                let more_of_answer = more_of_answer && client.wire.is_flushed();
                match more_of_request || more_of_answer {
                    true => Step::Go,
                    false => Step::Wait,
                }
            }
            Heard::Complete { reusable } => {
                let reusable = reusable && exchange.upload.is_done() && link.wire.is_flushed();
                self.put_away(link, reusable);
                self.let_go(exchange);
                Step::Go
            }
            Heard::Switched => {
                self.let_go(exchange);
                exchange.stage = Stage::Tunnel {
                    link,
                    ends: Ends::default(),
                };
                Step::Go
            }
            Heard::Failed(failure) => {
                exchange.stage = Stage::Relaying(link);
                self.fail(client, exchange, failure)
            }
            Heard::Unheard => {
                exchange.stage = Stage::Relaying(link);
                self.interrupt(exchange)
            }
        }
    }

    /// Puts a connection into the pool if it is reusable, or closes it.
    fn put_away(&mut self, mut link: DynoConnection, reusable: bool) {
        let wanted = self.state.table.listener(link.dyno).is_some();
        if !reusable || !wanted || link.wire.has_ended() || link.wire.is_readable() {
            return self.close_link(link);
        }
        (link.used, link.since) = (true, self.now);
        if !link.armed {
            link.armed = true;
            let until = self.now + self.settings.pooled_time;
            self.reactor.set_deadline(link.token, until);
        }
        self.links.insert(link.token, Holder::Pool(link.dyno));
        if let Some(link) = self.state.pool.put(link, self.settings.pooled_per_dyno) {
            self.close_link(link);
        }
    }

    /// Whether the dyno closed a pooled connection without having read the request, at the moment it was sent. If the
    /// dyno has read the request, it may have acted on it, and sending it again could do so twice.
    fn is_stale(&self, exchange: &Exchange, link: &DynoConnection, end: Read) -> bool {
        let unanswered = matches!(exchange.answer, Answer::Head { partial: None });
        let unread = exchange.upload_refused || link.wire.was_not_read(end);
        link.used
            && unanswered
            && !exchange.continued
            && !exchange.fresh
            && exchange.is_repeatable()
            && unread
    }

    /// Sends a request again, over a new connection.
    fn repeat(&mut self, exchange: &mut Exchange, link: DynoConnection) -> Step {
        self.close_link(link);
        self.let_go(exchange);
        exchange.fresh = true;
        exchange.upload_refused = false;
        exchange.stage = Stage::Placing;
        Step::Go
    }

    /// Relays the request's body. Sets `again` if more of it may be read at once.
    fn pass_request(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        link: &mut DynoConnection,
        lent: &mut Lent,
        again: &mut bool,
    ) -> Result<(), Failure> {
        match link.wire.flush() {
            Ok(true) => exchange.progress = self.now,
            Ok(false) => {}
            Err(_) => exchange.upload_refused = true,
        }
        for _ in 0..READS {
            if exchange.upload.is_done() || exchange.upload_refused || !link.wire.is_flushed() {
                return Ok(());
            }
            let length = match client.wire.read(&mut lent.scratch) {
                Read::Bytes(length) => length,
                Read::Blocked => return Ok(()),
                // The rest of the request will not come.
                Read::End | Read::Broken => return Err(Failure::H27),
            };
            (exchange.progress, exchange.continued) = (self.now, true);
            lent.out.clear();
            let mut rest = &lent.scratch[..length];
            let raw = exchange
                .upload
                .pass(&mut rest, &mut lent.out, &mut 0)
                .map_err(bad_request)?;
            client.input = rest.to_vec();
            let bytes = if raw.is_empty() { &lent.out[..] } else { raw };
            exchange.upload_refused = link.wire.send(bytes).is_err();
        }
        *again = client.wire.is_readable();
        Ok(())
    }

    /// Reads the dyno's response.
    fn hear(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Heard {
        out.clear();
        let mut input = bytes;
        let mut whole = Vec::new();
        if let Answer::Head { partial } = &mut exchange.answer {
            let mut heads = None;
            if let Some((before, reader)) = partial.take() {
                whole = before;
                whole.extend_from_slice(bytes);
                input = &whole;
                heads = Some(reader);
            }
            loop {
                let reader = heads
                    .get_or_insert_with(|| Box::new(HeadReader::new(self.settings.response_head)));
                match reader.response(input, exchange.head.method()) {
                    Ok(Some((head, length))) => {
                        input = &input[length..];
                        if head.status == 101 {
                            return self.switch(client, exchange, &head, input, out);
                        }
                        if !head.is_interim() {
                            self.begin_response(client, exchange, &head, out);
                            break;
                        }
                        exchange.continued = true;
                        if exchange.head.version == HttpVersion::Http11 {
                            headers::write_response(&head, HttpVersion::Http11, false, out);
                        }
                    }
                    Ok(None) => {
                        let (left, seen) = (input.len(), heads.take());
                        if left > 0
                            && let Some(heads) = seen
                        {
                            // A head that comes in many pieces is not copied for each.
                            let kept = match whole.is_empty() {
                                true => input.to_vec(),
                                false => {
                                    whole.drain(..whole.len() - left);
                                    whole
                                }
                            };
                            exchange.answer = Answer::Head {
                                partial: Some((kept, heads)),
                            };
                        }
                        return match out.is_empty() || client.wire.send(out).is_ok() {
                            true => Heard::More,
                            false => Heard::Unheard,
                        };
                    }
                    Err(refusal) => return Heard::Failed(bad_response(&refusal)),
                }
            }
        }
        let Answer::Body { relay, keep_alive } = &mut exchange.answer else {
            return Heard::More;
        };
        let Ok(raw) = relay.pass(&mut input, out, &mut exchange.bytes) else {
            return Heard::Failed(Failure::H17);
        };
        let sent = match out.is_empty() {
            true => client.wire.send(raw),
            false => {
                out.extend_from_slice(raw);
                client.wire.send(out)
            }
        };
        match (sent, relay.is_done()) {
            (Err(_), _) => Heard::Unheard,
            (Ok(()), false) => Heard::More,
            // Bytes after the response belong to no request.
            (Ok(()), true) => Heard::Complete {
                reusable: *keep_alive && input.is_empty(),
            },
        }
    }

    /// Sends the head of the response to the client.
    fn begin_response(
        &mut self,
        client: &Client,
        exchange: &mut Exchange,
        head: &ResponseHead,
        out: &mut Vec<u8>,
    ) {
        let version = exchange.head.version;
        let coding = headers::coding(head.framing, version);
        // If the response comes before the request was read to its end, the connection cannot be reused.
        exchange.close |= coding == Coding::Data
            || !exchange.upload.is_done()
            || client.wire.is_hung_up()
            || self.leaving.is_some();
        headers::write_response(head, version, exchange.close, out);
        exchange.status = head.status;
        exchange.answer = Answer::Body {
            relay: BodyRelay::new(head.framing, coding),
            keep_alive: head.keep_alive,
        };
        if Exchange::is_endless(head) {
            self.let_go(exchange);
        }
    }

    /// Switches to another protocol, as the dyno agreed.
    fn switch(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        head: &ResponseHead,
        rest: &[u8],
        out: &mut Vec<u8>,
    ) -> Heard {
        if !headers::upgrades(&exchange.head) {
            return Heard::Failed(Failure::H17);
        }
        headers::write_response(head, HttpVersion::Http11, false, out);
        out.extend_from_slice(rest);
        exchange.bytes += rest.len() as u64;
        (exchange.status, exchange.close) = (101, true);
        match client.wire.send(out) {
            Ok(()) => Heard::Switched,
            Err(_) => Heard::Unheard,
        }
    }

    /// The dyno has closed the connection, orderly or not.
    fn hear_end(&mut self, client: &mut Client, exchange: &mut Exchange, orderly: bool) -> Heard {
        let Answer::Body { relay, .. } = &mut exchange.answer else {
            return Heard::Failed(Failure::H13);
        };
        let mut out = Vec::new();
        if !orderly || !relay.close(&mut out) {
            return Heard::Failed(Failure::H18);
        }
        match client.wire.send(&out) {
            Ok(()) => Heard::Complete { reusable: false },
            Err(_) => Heard::Unheard,
        }
    }

    /// Relays the bytes of an upgraded connection. Either side may end first.
    pub(super) fn tunnel(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        lent: &mut Lent,
    ) -> Step {
        let Stage::Tunnel { link, ends } = &mut exchange.stage else {
            return Step::Wait;
        };
        let flushed = link.wire.flush();
        let (mut moved, mut broken) = (flushed == Ok(true), flushed.is_err());
        if link.wire.is_flushed() && !ends.client {
            let early = std::mem::take(&mut client.input);
            if early.is_empty() {
                match client.wire.read(&mut lent.scratch) {
                    Read::Bytes(length) => {
                        moved = true;
                        broken |= link.wire.send(&lent.scratch[..length]).is_err();
                    }
                    Read::Blocked => {}
                    Read::End => {
                        (ends.client, moved) = (true, true);
                        link.wire.shut_down();
                    }
                    Read::Broken => broken = true,
                }
            } else {
                moved = true;
                broken |= link.wire.send(&early).is_err();
            }
        }
        if client.wire.is_flushed() && !ends.dyno {
            match link.wire.read(&mut lent.scratch) {
                Read::Bytes(length) => {
                    moved = true;
                    exchange.bytes += length as u64;
                    broken |= client.wire.send(&lent.scratch[..length]).is_err();
                }
                Read::Blocked => {}
                Read::End => {
                    (ends.dyno, moved) = (true, true);
                    client.wire.shut_down();
                }
                Read::Broken => broken = true,
            }
        }
        let over = ends.client && ends.dyno;
        if moved {
            exchange.progress = self.now;
        }
        if broken || over {
            return self.interrupt(exchange);
        }
        match moved {
            true => Step::Go,
            false => Step::Wait,
        }
    }
}

fn bad_request(refusal: HttpRefusal) -> Failure {
    Failure::H26 {
        status: refusal.status,
        cause: refusal.why,
    }
}

/// The failure for a response that is refused: H25 for a limit of the router, else H17.
fn bad_response(refusal: &HttpRefusal) -> Failure {
    match (refusal.status, &*refusal.why) {
        (414, _) => Failure::H25("oversized status line"),
        (431, _) => Failure::H25("oversized header"),
        (_, why) if why.contains("Content-Length") => Failure::H25("invalid content length"),
        _ => Failure::H17,
    }
}
