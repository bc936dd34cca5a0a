//! One request and its response: what is known of it, what it waits for, and until when.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::forwarded::Forwarded;
use super::headers;
use super::pool::Link;
use super::relay::Relay;
use super::settings::Settings;
use super::table::{DynoKey, Wait};
use crate::kernel::listener::Listener;
use crate::wire::http::{Framing, HeadReader, RequestHead, ResponseHead};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Exchange {
    pub head: RequestHead,
    /// None: no app of this name, and so no log.
    pub app: Option<Rc<str>>,
    pub request_id: String,
    pub forwarded: Forwarded,
    pub started: Instant,
    /// The same as milliseconds since 1970.
    pub started_ms: u128,
    pub stage: Stage,
    /// The dyno it went to last, and its name.
    pub dyno: Option<(DynoKey, Rc<str>)>,
    /// The dyno that counts it among its requests in flight.
    pub held: Option<DynoKey>,
    /// How long it took to connect.
    pub connect: Option<Duration>,
    /// Dynos that did not take it.
    pub tried: Vec<DynoKey>,
    /// The last of them was too slow, rather than unwilling.
    pub timed_out: bool,
    /// It stood in the queue, for this, since then; so it goes before those who still do.
    pub woken: Option<(Wait, Instant)>,
    /// It has stood in the queue before, so it goes to the front if it must once more.
    pub queued: bool,
    /// Only a new connection will do.
    pub fresh: bool,
    /// The request's body.
    pub upload: Relay,
    /// The dyno takes nothing more of it.
    pub upload_refused: bool,
    /// The client was told to send its body, or did so unasked.
    pub continued: bool,
    pub answer: Answer,
    /// When a byte went either way.
    pub progress: Instant,
    /// When it was last asked whether a client that has ended its side is there.
    pub looked: Option<Instant>,
    /// The status that was sent; 0 before that.
    pub status: u16,
    /// Of the body, to the client.
    pub bytes: u64,
    /// The client's connection ends after it.
    pub close: bool,
    pub failure: Option<Failure>,
}

/// How far a request is.
#[derive(Debug)]
pub(super) enum Stage {
    /// It has no dyno yet.
    Placing,
    /// It stands in its app's queue.
    Waiting { why: Wait, since: Instant },
    /// A connection is being made.
    Connecting {
        link: Link,
        listener: Listener,
        since: Instant,
    },
    /// Dyno and client talk.
    Relaying(Link),
    /// They talk in a protocol that is none of ours.
    Tunnel { link: Link, ends: Ends },
    /// The last bytes go out to the client.
    Finishing,
}

/// Which directions of a tunnel have ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    pub client: bool,
    pub dyno: bool,
}

/// How far the response is.
#[derive(Debug)]
pub(super) enum Answer {
    /// Its head has not come, or not all of it.
    Head {
        /// What came so far, and what was seen of that.
        partial: Option<(Vec<u8>, Box<HeadReader>)>,
    },
    /// Its body is coming.
    Body { relay: Relay, keep_alive: bool },
}

impl Exchange {
    /// Whether it may be sent twice: it changes nothing, or the same, and nothing of it is used up.
    pub fn is_repeatable(&self) -> bool {
        let idempotent = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
        idempotent.contains(&self.head.method())
            && self.head.framing == Framing::None
            && !headers::upgrades(&self.head)
    }

    /// Until when its present stage may last, and what it fails with then.
    pub fn deadline(&self, client_is_flushed: bool, settings: &Settings) -> (Instant, Failure) {
        let (rolling, first) = (settings.rolling_time, settings.first_byte_time);
        match &self.stage {
            Stage::Placing => (self.started + first, Failure::H12),
            Stage::Waiting {
                why: Wait::Boot,
                since,
            } => (*since + settings.boot_time, Failure::H20),
            Stage::Waiting {
                why: Wait::Busy,
                since,
            } => (*since + first, Failure::H12),
            Stage::Connecting { since, .. } => (*since + settings.connect_time, Failure::H19),
            Stage::Relaying(link) => match self.answer {
                Answer::Body { .. } if client_is_flushed => (self.progress + rolling, Failure::H15),
                Answer::Body { .. } => (self.progress + rolling, Failure::H28),
                Answer::Head { .. } if self.waits_for_client(link) => {
                    (self.progress + rolling, Failure::H28)
                }
                Answer::Head { .. } => (self.progress + first, Failure::H12),
            },
            Stage::Tunnel { .. } => (self.progress + rolling, Failure::H15),
            Stage::Finishing => (self.progress + rolling, Failure::H28),
        }
    }

    /// The dyno can do nothing before the client has sent more of the body.
    fn waits_for_client(&self, link: &Link) -> bool {
        let asked = self.continued || !self.head.expect_continue;
        !self.upload.is_done() && !self.upload_refused && link.wire.is_flushed() && asked
    }

    /// Whether there is some of the request's body that the dyno does not take.
    pub fn upload_is_stuck(&self) -> bool {
        match &self.stage {
            Stage::Relaying(link) => !self.upload.is_done() && !link.wire.is_flushed(),
            _ => false,
        }
    }

    /// Whether the answer has begun, and nobody knows when it will be over.
    pub fn is_endless_now(&self) -> bool {
        match self.stage {
            Stage::Tunnel { .. } => true,
            Stage::Relaying(_) => self.status != 0 && self.held.is_none(),
            _ => false,
        }
    }

    /// Whether nobody knows when the response will be over: it does not hold a dyno back that is to end.
    pub fn is_endless(head: &ResponseHead) -> bool {
        let events = b"text/event-stream";
        head.fields.all("content-type").any(|value| {
            value
                .get(..events.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(events))
        })
    }
}
