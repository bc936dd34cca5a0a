//! Tokens: what lets a client use the API from elsewhere than the Unix socket.
//!
//! A token is 256 random bits. Only its hash is kept, so nobody can read it out of the state; since it is random, no
//! salt and no slow hash is needed. It is shown once, to whoever asked for it.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

/// What every token begins with, so that people and secret scanners know one when they see it.
const PREFIX: &str = "dyno_";

/// The longest credential that is looked at, in bytes.
const LONGEST: usize = 512;

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// A uuid.
    pub id: String,
    /// What it is for, in its maker's words.
    pub description: String,
    /// Of what it is.
    pub hash: TokenHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is no good.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub used_at: Option<Timestamp>,
}

impl Token {
    /// Whether it is still good.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires| now < expires)
    }
}

/// A token in clear text. Does not show itself in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The token of these random bytes.
    pub fn of(random: [u8; 32]) -> Self {
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random)))
    }

    /// As it is to be shown to whoever asked for it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The SHA-256 of a token.
#[derive(Debug, Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Of a credential that somebody shows.
    pub fn of(credential: &str) -> Self {
        Self(Sha256::digest(credential).into())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for TokenHash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl PartialEq for TokenHash {
    /// Takes as long whether they are alike or not.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

/// The token that an `Authorization` field has: `Bearer TOKEN`, or `Basic` with the token as the password and any
/// user name, as `curl -u :TOKEN` and git send it.
pub fn credential(authorization: &str) -> Option<Cow<'_, str>> {
    let (scheme, rest) = authorization.trim().split_once(' ')?;
    let rest = rest.trim();
    if rest.len() > LONGEST {
        return None;
    }
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Cow::Borrowed(rest));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    let (_, password) = text.split_once(':')?;
    Some(Cow::Owned(password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_a_bearer_token_or_a_basic_password() {
        for (field, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Basic OmFiYw==", Some("abc")),
            ("basic bWU6YWJj", Some("abc")),
            ("Basic bWU6YTpiYw==", Some("a:bc")),
            ("Basic YWJj", None),
            ("Basic !", None),
            ("Basic /zp4", None),
            ("Digest abc", None),
            ("Bearer", None),
            ("abc", None),
            ("", None),
        ] {
            assert_eq!(credential(field).as_deref(), token, "{field}");
        }
        assert_eq!(credential(&format!("Bearer {}", "x".repeat(513))), None);
    }

    #[test]
    fn a_token_is_known_by_its_hash_and_not_shown() {
        let secret = Secret::of([7; 32]);
        assert!(secret.as_str().starts_with("dyno_BwcH"));
        assert_eq!(secret.hash(), TokenHash::of(secret.as_str()));
        assert_ne!(secret.hash(), TokenHash::of("dyno_"));
        assert_eq!(format!("{secret:?}"), "Secret");
    }
}
