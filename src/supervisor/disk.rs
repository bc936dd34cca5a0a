//! How much the dyno has on disk of what it writes, and when that is too much.
//!
//! Nothing bounds that for an ordinary user, so it is looked at. A look at the whole takes longer the more there is: it goes a few
//! thousand files at a time, with pauses, and begins only when the disk has lost so much room that the dyno may have come
//! near its limit, or after a while.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mio::Token;

use super::Supervisor;
use super::folder::SCRATCH;
use crate::kernel::disk::{self, Walk};
use crate::model::dyno::Isolation;
use crate::model::dyno::life::Event;
use crate::wire::control::DynoSpec;
use crate::wire::reactor::Reactor;

/// How often it is looked how much room the disk has.
const GLANCE: Duration = Duration::from_secs(1);

/// How often the dyno's files are looked at, even if the disk has lost no room: others may have made room meanwhile.
const LONGEST: Duration = Duration::from_secs(60);

/// How many files are looked at without a pause.
const FILES: u64 = 5_000;

/// How many times as long as it has looked at files the supervisor pauses.
const PAUSE: u32 = 20;

/// The part of what is left to the limit that may be lost before the files are looked at again.
const PART: u64 = 8;

/// What the dyno has on disk: see the [module](self).
#[derive(Debug)]
pub(super) struct Disk {
    limit: Option<u64>,
    /// What it writes is in these, which are on one disk.
    folders: Vec<PathBuf>,
    /// How much is in there that the dyno has not written, in bytes: the copy of its slug, or a build's source and cache.
    given: Option<u64>,
    /// How much it had written at the last look, and how much room the disk had before that.
    written: u64,
    free: Option<u64>,
    looked_at: Instant,
    walk: Option<Walk>,
    token: Token,
}

impl Disk {
    pub fn new(spec: &DynoSpec, reactor: &mut Reactor) -> Self {
        let has_copy = spec.isolation == Isolation::Tempdir && spec.live.is_none();
        let counted = spec.live.as_ref().and_then(|live| live.counted.clone());
        Self {
            limit: spec.disk,
            given: (!has_copy && counted.is_none()).then_some(0),
            folders: [spec.folder.join(SCRATCH)]
                .into_iter()
                .chain(counted)
                .collect(),
            written: 0,
            free: None,
            looked_at: Instant::now(),
            walk: None,
            token: reactor.token(),
        }
    }

    /// The token of deadlines at which [`Supervisor::look_at_disk`] is to be called.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Begins with a dyno whose inside is ready and whose command has not been started.
    pub fn begin(&mut self, reactor: &mut Reactor) {
        if self.limit.is_none() {
            return;
        }
        self.free = disk::free(&self.folders[0]);
        self.looked_at = Instant::now();
        if self.given.is_none() {
            // The command must not write meanwhile.
            let mut walk = Walk::begin(&self.folders).ok();
            self.given = walk
                .as_mut()
                .and_then(|walk| walk.go_on(u64::MAX))
                .or(Some(0));
        }
        reactor.set_deadline(self.token, self.looked_at + GLANCE);
    }

    /// Whether the dyno's files are to be looked at, with this much room on the disk.
    fn is_due(&self, free: Option<u64>, limit: u64, now: Instant) -> bool {
        let lost = match (self.free, free) {
            (Some(before), Some(now)) => before.saturating_sub(now),
            _ => u64::MAX,
        };
        let left = limit.saturating_sub(self.written);
        lost > left / PART || now.duration_since(self.looked_at) >= LONGEST
    }

    /// Looks a little further; what the dyno has written and may not have, if it is so much.
    fn look(&mut self, reactor: &mut Reactor) -> Option<u64> {
        let limit = self.limit?;
        let begun = Instant::now();
        if self.walk.is_none() {
            let free = disk::free(&self.folders[0]);
            if self.is_due(free, limit, begun) {
                (self.free, self.looked_at) = (free, begun);
                self.walk = Walk::begin(&self.folders).ok();
            }
        }
        let whole = self.walk.as_mut().and_then(|walk| walk.go_on(FILES));
        let now = Instant::now();
        let pause = match (&self.walk, whole) {
            (Some(_), None) => (now - begun) * PAUSE,
            _ => GLANCE,
        };
        reactor.set_deadline(self.token, now + pause.max(Duration::from_millis(10)));
        self.written = whole?.saturating_sub(self.given.unwrap_or(0));
        self.walk = None;
        (self.written > limit).then_some(self.written)
    }
}

impl Supervisor {
    /// A deadline of the dyno's disk.
    pub(super) fn look_at_disk(&mut self) {
        if self.sandbox.is_none() {
            return;
        }
        let limit = self.spec.disk.unwrap_or(u64::MAX);
        if let Some(written) = self.disk.look(&mut self.reactor) {
            self.step(Event::DiskExhausted { written, limit });
        }
    }
}
