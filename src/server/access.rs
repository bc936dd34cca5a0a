//! Who may ask the API for what, and how much of it.
//!
//! The listener has checked a client at the Unix socket, which may do everything. One over TCP shows a
//! token, or asks for a [signed](crate::server::access::signed_url) target. Requests of one token are counted in a bucket, as on Heroku.

pub mod response_headers;
pub mod signed_url;

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::{ApiError, ErrorKind};
use crate::error::tell;
use crate::model::token::{Token, TokenHash, credential};
use crate::server::access::signed_url::{Signer, Unsigned};
use crate::server::api_loop::via::Via;
use crate::store::{Result as StoreResult, Store};
use crate::wire::http::RequestHead;

/// How seldom the use of a token is written down.
const USE_NOTED: SignedDuration = SignedDuration::from_mins(1);

/// In how long an empty bucket fills.
const REFILL: Duration = Duration::from_secs(3600);

/// See the [module](self).
pub struct Access {
    signer: Signer,
    tokens: Vec<Token>,
    buckets: HashMap<String, Bucket>,
    /// Requests in a full bucket.
    limit: u32,
}

/// By what a request was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// By being at the Unix socket.
    Owner,
    /// By a token, with which so many requests are left.
    Token { remaining: u32 },
    /// By the signature of its target.
    Signed,
}

impl Access {
    /// Lets in who has one of the tokens of `store`, `limit` requests an hour.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn open(store: &mut Store, limit: u32) -> StoreResult<Self> {
        Ok(Self {
            signer: Signer::new(store.url_key()?),
            tokens: store.tokens()?,
            buckets: HashMap::new(),
            limit,
        })
    }

    /// The tokens have changed.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn reload(&mut self, store: &Store) -> StoreResult<()> {
        self.tokens = store.tokens()?;
        let tokens = &self.tokens;
        self.buckets
            .retain(|id, _| tokens.iter().any(|token| token.id == *id));
        Ok(())
    }

    /// Signs targets.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Whether a request is at the Unix socket, signed, or has a good token.
    pub fn knows(&self, head: &RequestHead, via: Via, now: Timestamp) -> bool {
        let has_token = || {
            let shown = head.fields.get("authorization").and_then(credential);
            let hash = shown.map(|shown| TokenHash::of(&shown));
            hash.is_some_and(|hash| {
                let mut known = self.tokens.iter().filter(|token| token.hash == hash);
                known.any(|token| token.is_good(now))
            })
        };
        let signed = || self.signer.check(head.method(), head.path_and_query(), now);
        via == Via::Socket || signed() == Some(Ok(())) || has_token()
    }

    /// Lets a request in, or says why not.
    ///
    /// # Errors
    /// `401` without a good token, `404` for a signed target whose time is over, `429` when the bucket is empty.
    pub fn admit(
        &mut self,
        head: &RequestHead,
        via: Via,
        store: &mut Store,
        now: Timestamp,
    ) -> Result<Admitted, ApiError> {
        if via == Via::Socket {
            return Ok(Admitted::Owner);
        }
        match self.signer.check(head.method(), head.path_and_query(), now) {
            Some(Ok(())) => return Ok(Admitted::Signed),
            // As on Heroku, where what has expired is not there any more.
            Some(Err(Unsigned::Expired)) => {
                return Err(ApiError::not_found(
                    "this address was good for some time, which is over",
                ));
            }
            Some(Err(Unsigned::Wrong)) | None => {}
        }
        let shown = head.fields.get("authorization").and_then(credential);
        let Some(shown) = shown else {
            return Err(ApiError::unauthorized("no token came along")
                .hint("`Authorization: Bearer TOKEN`; `dyno auth:token` makes one"));
        };
        let hash = TokenHash::of(&shown);
        // All are looked at: the time that it takes tells nothing.
        let known = self.tokens.iter_mut().filter(|token| token.hash == hash);
        let Some(token) = known.last().filter(|token| token.is_good(now)) else {
            return Err(ApiError::unauthorized("this token is not good here").hint(
                "`dyno auth:token` makes one, `dyno auth:token --list` shows those there are",
            ));
        };
        let noted = token
            .used_at
            .is_some_and(|at| now.duration_since(at) < USE_NOTED);
        if !noted {
            token.used_at = Some(now);
            if let Err(error) = store.token_used(&token.id, now) {
                tell!("cannot note that a token was used: {error}");
            }
        }
        let limit = self.limit;
        let bucket = self.buckets.entry(token.id.clone()).or_insert(Bucket {
            left: f64::from(limit),
            at: now,
        });
        match bucket.take(limit, now) {
            Some(remaining) => Ok(Admitted::Token { remaining }),
            None => Err(ApiError::new(
                ErrorKind::RateLimit,
                format!("more than {limit} requests an hour came with this token"),
            )
            .hint("wait a minute; the setting `rate_limit` moves the limit")),
        }
    }
}

/// Requests that may still come; it fills steadily.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Timestamp,
}

impl Bucket {
    /// Takes one out; how many whole ones are left then.
    fn take(&mut self, limit: u32, now: Timestamp) -> Option<u32> {
        let full = f64::from(limit);
        let passed = now.duration_since(self.at).as_secs_f64().max(0.0);
        self.left = (self.left + passed * full / REFILL.as_secs_f64()).min(full);
        self.at = now;
        if self.left < 1.0 {
            return None;
        }
        self.left -= 1.0;
        Some(self.left as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_what_is_in_it_and_fills_in_an_hour() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut bucket = Bucket {
            left: 3.0,
            at: at(0),
        };
        let taken: Vec<_> = (0..4).map(|_| bucket.take(3, at(0))).collect();
        assert_eq!(taken, [Some(2), Some(1), Some(0), None]);
        assert_eq!(bucket.take(3, at(1_199)), None);
        assert_eq!(bucket.take(3, at(1_201)), Some(0));
        // Never fuller than full, and a clock that is set back takes nothing away.
        assert_eq!(bucket.take(3, at(100_000)), Some(2));
        assert_eq!(bucket.take(3, at(0)), Some(1));
    }
}
