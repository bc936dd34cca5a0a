//! One request and its response: its state, what it waits for, and until when.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::forwarded::Forwarded;
use super::headers;
use super::pool::DynoConnection;
use super::relay::BodyRelay;
use super::settings::RouterSettings;
use super::table::{DynoKey, Wait};
use crate::kernel::listener::Listener;
use crate::wire::http::{Framing, HeadReader, RequestHead, ResponseHead};

/// One request and its response: see the [module](self).
#[derive(Debug)]
pub(super) struct Exchange {
    /// The head of the request.
    pub head: RequestHead,
    /// The app; None if there is none of this name, and so no log.
    pub app: Option<Rc<str>>,
    /// The `X-Request-ID`: the client's, if it is valid, or one of the router's.
    pub request_id: String,
    /// Where the request came from, for the dyno and the log.
    pub forwarded: Forwarded,
    /// When the request came.
    pub started: Instant,
    /// When the request came, in milliseconds since 1970.
    pub started_ms: u128,
    /// How far it is.
    pub stage: Stage,
    /// The dyno that it was last sent to, and its name.
    pub dyno: Option<(DynoKey, Rc<str>)>,
    /// The dyno among whose requests in flight it is counted.
    pub held: Option<DynoKey>,
    /// How long the connection to the dyno took.
    pub connect: Option<Duration>,
    /// Dynos that did not accept it.
    pub tried: Vec<DynoKey>,
    /// The last of them did not answer in time, rather than refuse.
    pub timed_out: bool,
    /// It has just been taken from the queue: why it waited, and since when. It is placed before requests that still wait.
    pub woken: Option<(Wait, Instant)>,
    /// It has waited in the queue before, so it goes to the front if it must wait again.
    pub queued: bool,
    /// It must not be sent over a pooled connection.
    pub fresh: bool,
    /// The request's body.
    pub upload: BodyRelay,
    /// The dyno reads no more of the request's body.
    pub upload_refused: bool,
    /// The client was told to send the body, or has begun to send it.
    pub continued: bool,
    /// How far the response is.
    pub answer: Answer,
    /// When a byte last went either way.
    pub progress: Instant,
    /// When the kernel was last asked whether a client that has ended its side is still there.
    pub looked: Option<Instant>,
    /// The status that was sent to the client; 0 before that.
    pub status: u16,
    /// Bytes of the body that were sent to the client.
    pub bytes: u64,
    /// The client's connection is closed after the response.
    pub close: bool,
    /// Why the router answered itself, or broke the response off; None if the dyno answered.
    pub failure: Option<Failure>,
}

/// The stage of a request.
#[derive(Debug)]
pub(super) enum Stage {
    /// It has no dyno yet.
    Placing,
    /// It waits in its app's queue.
    Waiting { why: Wait, since: Instant },
    /// It waits for a socket of the dyno's own network; `refused`: there is none.
    Entering {
        listener: Listener,
        since: Instant,
        refused: bool,
    },
    /// A connection to a dyno is being made.
    Connecting {
        link: DynoConnection,
        listener: Listener,
        since: Instant,
    },
    /// Request and response are being relayed.
    Relaying(DynoConnection),
    /// The connection has been upgraded: bytes of another protocol are relayed.
    Tunnel { link: DynoConnection, ends: Ends },
    /// The last bytes are being sent to the client.
    Finishing,
}

/// Which directions of a tunnel have ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    /// The client sends no more.
    pub client: bool,
    /// The dyno sends no more.
    pub dyno: bool,
}

/// The stage of the response.
#[derive(Debug)]
pub(super) enum Answer {
    /// Its head has not come whole.
    Head {
        /// The bytes so far, and the reader's state.
        partial: Option<(Vec<u8>, Box<HeadReader>)>,
    },
    /// Its body is coming.
    Body { relay: BodyRelay, keep_alive: bool },
}

impl Exchange {
    /// Whether the request may be sent twice: its method is idempotent, and it has no body and asks for no upgrade.
    pub fn is_repeatable(&self) -> bool {
        let idempotent = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
        idempotent.contains(&self.head.method())
            && self.head.framing == Framing::None
            && !headers::upgrades(&self.head)
    }

    /// The deadline of the present stage, and the failure when it passes.
    pub fn deadline(
        &self,
        client_is_flushed: bool,
        settings: &RouterSettings,
    ) -> (Instant, Failure) {
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
            Stage::Entering { since, .. } | Stage::Connecting { since, .. } => {
                (*since + settings.connect_time, Failure::H19)
            }
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

    /// Whether the dyno waits for more of the body from the client.
    fn waits_for_client(&self, link: &DynoConnection) -> bool {
        let asked = self.continued || !self.head.expect_continue;
        !self.upload.is_done() && !self.upload_refused && link.wire.is_flushed() && asked
    }

    /// Whether a part of the request's body waits because the dyno does not read it.
    pub fn upload_is_stuck(&self) -> bool {
        match &self.stage {
            Stage::Relaying(link) => !self.upload.is_done() && !link.wire.is_flushed(),
            _ => false,
        }
    }

    /// Whether the response has begun and has no foreseeable end.
    pub fn is_endless_now(&self) -> bool {
        match self.stage {
            Stage::Tunnel { .. } => true,
            Stage::Relaying(_) => self.status != 0 && self.held.is_none(),
            _ => false,
        }
    }

    /// Whether the response has no foreseeable end, such as a stream of events: a dyno that is to stop does not wait for it.
    pub fn is_endless(head: &ResponseHead) -> bool {
        let events = b"text/event-stream";
        head.fields.all("content-type").any(|value| {
            value
                .get(..events.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(events))
        })
    }
}
