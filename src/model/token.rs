//! Tokens, by which clients use the API over TCP.
//!
//! A token is 256 random bits. Only its hash is stored, so it cannot be read out of the state; since it is random, it
//! needs no salt and no slow hash. It is shown once, to the user who creates it.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::borrow::{Borrow, Cow};
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
    /// What it is good for.
    pub grant: TokenGrant,
    /// The id of the token with which it was made, and with which it ends; None: it was made at the Unix socket.
    pub parent: Option<String>,
}

/// A token, then the one that it was made with, and so on to the one that was made at the Unix socket.
pub fn made_with<'a, T: Borrow<Token>>(
    all: &'a [T],
    token: &'a Token,
) -> impl Iterator<Item = &'a Token> {
    std::iter::successors(Some(token), |token| {
        let parent = token.parent.as_ref()?;
        let mut all = all.iter().map(Borrow::borrow);
        all.find(|other: &&Token| other.id == *parent)
    })
}

/// What a token is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenGrant {
    /// What its client may do.
    pub scope: Scope,
    /// The ids of the apps for which it may; None: all of them, and what belongs to none.
    pub apps: Option<Vec<String>>,
}

impl TokenGrant {
    /// Whether it is for this app.
    pub fn is_for(&self, app_id: &str) -> bool {
        let apps = self.apps.as_ref();
        apps.is_none_or(|apps| apps.iter().any(|id| id == app_id))
    }

    /// Whether it allows all that `other` does.
    pub fn includes(&self, other: &Self) -> bool {
        let apps = match (&self.apps, &other.apps) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(_), Some(others)) => others.iter().all(|id| self.is_for(id)),
        };
        apps && self.scope >= other.scope
    }
}

/// What a token lets its client do. Each includes all that are before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Know whose account it is.
    Identity,
    /// See all but the values of config vars.
    Read,
    /// See the values of config vars, too.
    ReadProtected,
    /// Start one-off dynos, be attached to them and stop them.
    Run,
    /// Deploy, set config vars, scale and restart.
    Deploy,
    /// Everything: create and destroy apps, make and revoke tokens.
    Admin,
}

impl Scope {
    /// All, the least first.
    pub const ALL: [Self; 6] = [
        Self::Identity,
        Self::Read,
        Self::ReadProtected,
        Self::Run,
        Self::Deploy,
        Self::Admin,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Read => "read",
            Self::ReadProtected => "read-protected",
            Self::Run => "run",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        }
    }

    /// The scope of this name; `global` is Heroku's for all.
    pub fn of_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        match name {
            "global" => Some(Self::Admin),
            name => all.find(|scope| scope.name() == name),
        }
    }
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
    fn a_grant_includes_what_is_weaker_in_scope_and_apps() {
        let grant = |scope, apps: Option<&[&str]>| TokenGrant {
            scope,
            apps: apps.map(|apps| apps.iter().map(|&id| id.to_owned()).collect()),
        };
        let all = grant(Scope::Admin, None);
        let two = grant(Scope::Deploy, Some(&["a", "b"]));
        for (own, other, includes) in [
            (&all, &two, true),
            (&two, &all, false),
            (&two, &grant(Scope::Deploy, Some(&["b"])), true),
            (&two, &grant(Scope::Read, None), false),
            (&two, &grant(Scope::Admin, Some(&["a"])), false),
            (&two, &grant(Scope::Run, Some(&["a", "c"])), false),
            (&two, &grant(Scope::Run, Some(&[])), true),
        ] {
            assert_eq!(own.includes(other), includes, "{own:?} {other:?}");
        }
        // One whose apps are all gone is for none.
        assert!(!grant(Scope::Admin, Some(&[])).is_for("a"));
        assert!(all.is_for("a") && two.is_for("b") && !two.is_for("c"));
        for scope in Scope::ALL {
            assert_eq!(Scope::of_name(scope.name()), Some(scope));
        }
        assert_eq!(Scope::of_name("global"), Some(Scope::Admin));
        assert_eq!(Scope::of_name("write"), None);
        assert!(Scope::ALL.is_sorted());
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
