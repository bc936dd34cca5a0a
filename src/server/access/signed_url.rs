//! Targets that need no token: who has been given one may ask for exactly that, by that method, until it expires.
//!
//! Heroku's clients send no `Authorization` to the places where they read a log or leave a slug, so such an address must
//! carry its own. It is signed with HMAC-SHA256 under a key that is kept in the state, so it stays good when the server
//! is killed or replaced, and nothing has to be remembered of it. It names the token with which it was asked for: it is
//! good no longer than that.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use std::time::Duration;

use crate::model::uuid::hex;

/// The parameters that a signature adds; they are the last ones of the query.
const TOKEN: &str = "token=";
const EXPIRES: &str = "&expires=";
const SIGNATURE: &str = "&signature=";

/// Signs targets, and knows its own.
pub struct Signer {
    key: Vec<u8>,
}

/// How a signed target was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedBy<'a> {
    /// At the Unix socket.
    Owner,
    /// With the token of this id.
    Token(&'a str),
}

/// Why a signed target is not to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsigned {
    /// It is none of ours, or was changed.
    Wrong,
    /// Its time is over.
    Expired,
}

impl Signer {
    /// Signs with `key`.
    pub fn new(key: Vec<u8>) -> Self {
        Self { key }
    }

    /// The target, a path that may have a query, as one that is good for this method and time, and as long as the token
    /// of this id.
    pub fn sign(
        &self,
        method: &str,
        target: &str,
        token: Option<&str>,
        good_for: Duration,
        now: Timestamp,
    ) -> String {
        let token = token.unwrap_or_default();
        let good_for = i64::try_from(good_for.as_secs()).unwrap_or(i64::MAX);
        let expires = now.as_second().saturating_add(good_for);
        let joint = if target.contains('?') { '&' } else { '?' };
        let signed = format!("{target}{joint}{TOKEN}{token}{EXPIRES}{expires}");
        let signature = hex(&self.mac(method, &signed).finalize().into_bytes());
        format!("{signed}{SIGNATURE}{signature}")
    }

    /// The token with which a target was asked for that was signed for this method, and whose time is not over. None if
    /// it has no signature at all.
    pub fn check<'a>(
        &self,
        method: &str,
        target: &'a str,
        now: Timestamp,
    ) -> Option<Result<AskedBy<'a>, Unsigned>> {
        let (signed, signature) = target.rsplit_once(SIGNATURE)?;
        let Some(signature) = bytes(signature) else {
            return Some(Err(Unsigned::Wrong));
        };
        // Compares in constant time.
        if self.mac(method, signed).verify_slice(&signature).is_err() {
            return Some(Err(Unsigned::Wrong));
        }
        // An earlier server named no token in what it signed.
        let Some((token, expires)) = added(signed) else {
            return Some(Err(Unsigned::Expired));
        };
        Some(match now.as_second() < expires {
            true if token.is_empty() => Ok(AskedBy::Owner),
            true => Ok(AskedBy::Token(token)),
            false => Err(Unsigned::Expired),
        })
    }

    #[expect(clippy::expect_used, reason = "any length is a key's")]
    fn mac(&self, method: &str, signed: &str) -> Hmac<Sha256> {
        // A `HEAD` is a `GET` without the answer's body.
        let method = if method == "HEAD" { "GET" } else { method };
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length is a key");
        mac.update(method.as_bytes());
        mac.update(b" ");
        mac.update(signed.as_bytes());
        mac
    }
}

/// The token and the time in the query of what was signed.
fn added(signed: &str) -> Option<(&str, i64)> {
    let (rest, expires) = signed.rsplit_once(EXPIRES)?;
    let (_, last) = rest.rsplit_once(['?', '&'])?;
    Some((last.strip_prefix(TOKEN)?, expires.parse().ok()?))
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.len() != 64 {
        return None;
    }
    // No sign: each signature has one spelling, but for the case of its letters.
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, _) = hex.as_bytes().as_chunks();
    pairs
        .iter()
        .map(|&[high, low]| Some((digit(high)? << 4 | digit(low)?) as u8))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn check<'a>(
        signer: &Signer,
        method: &str,
        target: &'a str,
        at: i64,
    ) -> Option<Result<AskedBy<'a>, Unsigned>> {
        signer.check(method, target, Timestamp::from_second(at).unwrap())
    }

    #[test]
    fn a_signature_has_digits_alone() {
        assert_eq!(bytes(&"0f".repeat(32)), Some(vec![15; 32]));
        for text in ["+f", "0", " f", "é"] {
            assert_eq!(bytes(&text.repeat(32)), None, "{text}");
        }
    }

    #[test]
    fn what_was_signed_is_good_as_it_is_for_its_method_and_time() {
        let signer = Signer::new(b"key".to_vec());
        let now = Timestamp::from_second(1_000).unwrap();
        for target in ["/apps/shop/slugs/1/blob", "/logs?lines=5&dyno=run.1"] {
            let signed = signer.sign("GET", target, Some("t-1"), HOUR, now);
            let asked = Some(Ok(AskedBy::Token("t-1")));
            assert_eq!(check(&signer, "GET", &signed, 1_000), asked);
            assert_eq!(check(&signer, "HEAD", &signed, 4_599), asked);
            let at_the_socket = signer.sign("GET", target, None, HOUR, now);
            assert_eq!(
                check(&signer, "GET", &at_the_socket, 1_000),
                Some(Ok(AskedBy::Owner))
            );
            assert_eq!(
                check(&signer, "GET", &signed, 4_600),
                Some(Err(Unsigned::Expired))
            );
            assert_eq!(
                check(&signer, "PUT", &signed, 1_000),
                Some(Err(Unsigned::Wrong))
            );
            assert_eq!(check(&signer, "GET", target, 1_000), None);
            for changed in [
                signed.replacen("/", "//", 1),
                signed.replace("4600", "9600"),
                signed.replace("t-1", "t-2"),
                signed.replace("t-1", ""),
                format!("{signed}0"),
                format!("{signed}&lines=9"),
                signed.replace("signature=", "signature=é"),
                format!("{target}?expires=9999&signature="),
            ] {
                assert_eq!(
                    check(&signer, "GET", &changed, 1_000),
                    Some(Err(Unsigned::Wrong)),
                    "{changed}"
                );
            }
            // As an earlier server signed it.
            let old = format!(
                "{target}{}expires=4600",
                if target.contains('?') { '&' } else { '?' }
            );
            let signature = hex(&signer.mac("GET", &old).finalize().into_bytes());
            let old = format!("{old}&signature={signature}");
            assert_eq!(
                check(&signer, "GET", &old, 1_000),
                Some(Err(Unsigned::Expired))
            );
            let other = Signer::new(b"other".to_vec());
            assert_eq!(other.check("GET", &signed, now), Some(Err(Unsigned::Wrong)));
        }
    }
}
