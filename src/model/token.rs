//! Tokens, by which clients use the API over TCP.
//!
//! A token is 256 random bits. Only its hash is stored, so it cannot be read out of the state; since it is random, it
//! needs no salt and no slow hash. It is shown once, to the user who creates it.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

/// The beginning of every token, by which people and secret scanners recognise one.
const PREFIX: &str = "dyno_";

/// The longest credential that is checked, in bytes.
const LONGEST: usize = 512;

/// A token, as stored: without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// A uuid.
    pub id: String,
    /// What it is for, as its creator described it.
    pub description: String,
    /// The hash of its text.
    pub hash: TokenHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it expires; None: never.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub used_at: Option<Timestamp>,
}

impl Token {
    /// Whether it is still valid.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires| now < expires)
    }
}

/// A token in clear text. Debug output does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The token of these random bytes.
    pub fn of(random: [u8; 32]) -> Self {
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random)))
    }

    /// The token as text, to be shown to its creator.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hash that is stored.
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
    /// The hash of a client's credential.
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
    /// Compares in constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

/// The token in an `Authorization` header field: `Bearer TOKEN`, or `Basic` with the token as the password and any
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
