//! Who may ask the API for what, and how much of it.
//!
//! The listener has checked a client at the Unix socket, which may do everything. One over TCP shows a
//! token, or asks for a [signed](crate::server::access::signed_url) target. Requests of one token are counted in a bucket, as on Heroku; those that were
//! made with it share it.

pub mod response_headers;
pub mod signed_url;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::{ApiError, ErrorKind};
use crate::error::tell;
use crate::model::token::{Token, TokenHash, credential, made_with};
use crate::server::access::signed_url::{AskedBy, Signer, Unsigned};
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
    tokens: Vec<Arc<Token>>,
    buckets: HashMap<String, Bucket>,
    /// Requests in a full bucket.
    limit: u32,
    /// The ids of tokens that have come to their end, of which the rest of the server does not know yet.
    ended: Vec<String>,
    /// The tokens have changed since the rest of the server has looked.
    changed: bool,
}

/// By what a request was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// By being at the Unix socket.
    Owner,
    /// By this token, with which so many requests are left.
    Token { token: Arc<Token>, remaining: u32 },
    /// By the signature of its target, which was asked for with this token, or at the Unix socket.
    Signed { token: Option<Arc<Token>> },
}

impl Access {
    /// Lets in who has one of the tokens of `store`, `limit` requests an hour.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn open(store: &mut Store, limit: u32) -> StoreResult<Self> {
        Ok(Self {
            signer: Signer::new(store.url_key()?),
            tokens: store.tokens()?.into_iter().map(Arc::new).collect(),
            buckets: HashMap::new(),
            limit,
            ended: Vec::new(),
            changed: false,
        })
    }

    /// The tokens have changed.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn reload(&mut self, store: &Store) -> StoreResult<()> {
        let tokens = store.tokens()?.into_iter().map(Arc::new);
        let before = std::mem::replace(&mut self.tokens, tokens.collect());
        let tokens = &self.tokens;
        let is_there = |id: &String| tokens.iter().any(|token| token.id == *id);
        let gone = before.iter().map(|token| token.id.clone());
        self.ended.extend(gone.filter(|id| !is_there(id)));
        self.changed = true;
        self.buckets
            .retain(|id, _| tokens.iter().any(|token| token.id == *id));
        Ok(())
    }

    /// Whether the tokens have changed since [`take_ended`](Self::take_ended) was called.
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// The tokens that have come to their end since the last call, by their ids: revoked, or expired.
    pub fn take_ended(&mut self, now: Timestamp) -> Vec<String> {
        let expired = self.tokens.extract_if(.., |token| !token.is_good(now));
        self.ended.extend(expired.map(|token| token.id.clone()));
        self.changed = false;
        std::mem::take(&mut self.ended)
    }

    /// When the next token expires.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.tokens
            .iter()
            .filter_map(|token| token.expires_at)
            .min()
    }

    /// Checks that a token which a request was let in with is still good.
    ///
    /// # Errors
    /// `401` if it was revoked, or has expired, since then.
    pub fn check_still(&self, token: Option<&Token>, now: Timestamp) -> Result<(), ApiError> {
        match token {
            Some(token) if self.find(&token.id, now).is_none() => Err(token_ended()),
            _ => Ok(()),
        }
    }

    fn find(&self, id: &str, now: Timestamp) -> Option<&Arc<Token>> {
        let token = self.tokens.iter().find(|token| token.id == id);
        token.filter(|token| token.is_good(now))
    }

    /// By what token a signed target was asked for; `Err` if that is not good any more.
    fn asker(&self, by: AskedBy<'_>, now: Timestamp) -> Result<Option<Arc<Token>>, Unsigned> {
        match by {
            AskedBy::Owner => Ok(None),
            AskedBy::Token(id) => match self.find(id, now) {
                Some(token) => Ok(Some(Arc::clone(token))),
                None => Err(Unsigned::Expired),
            },
        }
    }

    /// Whether a target was signed, and is good; with which token it was asked for.
    fn signed(
        &self,
        head: &RequestHead,
        now: Timestamp,
    ) -> Option<Result<Option<Arc<Token>>, Unsigned>> {
        let signed = self
            .signer
            .check(head.method(), head.path_and_query(), now)?;
        Some(signed.and_then(|by| self.asker(by, now)))
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
        let signed = || matches!(self.signed(head, now), Some(Ok(_)));
        via == Via::Socket || signed() || has_token()
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
        match self.signed(head, now) {
            Some(Ok(token)) => return Ok(Admitted::Signed { token }),
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
        let known = self.tokens.iter().fold(None, |known, token| {
            let is_it = token.hash == hash;
            if is_it { Some(token) } else { known }
        });
        let Some(token) = known.filter(|token| token.is_good(now)) else {
            return Err(ApiError::unauthorized("this token is not good here").hint(
                "`dyno auth:token` makes one, `dyno auth:token --list` shows those there are",
            ));
        };
        // Who makes more tokens gets no more requests by it.
        let root = made_with(&self.tokens, token).last();
        let root = root.map_or_else(|| token.id.clone(), |root| root.id.clone());
        let token = Arc::clone(token);
        let noted = token
            .used_at
            .is_some_and(|at| now.duration_since(at) < USE_NOTED);
        if !noted {
            let mut tokens = self.tokens.iter_mut();
            if let Some(known) = tokens.find(|known| known.id == token.id) {
                Arc::make_mut(known).used_at = Some(now);
            }
            if let Err(error) = store.token_used(&token.id, now) {
                tell!("cannot note that a token was used: {error}");
            }
        }
        let limit = self.limit;
        let bucket = self.buckets.entry(root).or_insert(Bucket {
            left: f64::from(limit),
            at: now,
        });
        match bucket.take(limit, now) {
            Some(remaining) => Ok(Admitted::Token { token, remaining }),
            None => Err(ApiError::new(
                ErrorKind::RateLimit,
                format!(
                    "more than {limit} requests an hour came with this token, or those made with it"
                ),
            )
            .hint("wait a minute; the setting `rate_limit` moves the limit")),
        }
    }
}

/// What a client is told whose token has come to its end meanwhile.
pub fn token_ended() -> ApiError {
    ApiError::unauthorized("the token was revoked, or has expired")
        .hint("`dyno auth:token` on the server's host makes another")
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
