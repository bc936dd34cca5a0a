//! The name of a slug.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::model::uuid::hex;

/// A slug's name: the SHA-256 of its tarball. Written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlugId([u8; 32]);

impl SlugId {
    /// The id of the tarball that went through `hasher`.
    pub(super) fn of(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }
}

impl fmt::Display for SlugId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for SlugId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlugId({self})")
    }
}

/// The error for text that is not 64 hexadecimal digits, with or without Heroku's `SHA256:` before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSlugId(String);

impl fmt::Display for BadSlugId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no SHA-256 in 64 hexadecimal digits", self.0)
    }
}

impl std::error::Error for BadSlugId {}

impl FromStr for SlugId {
    type Err = BadSlugId;

    fn from_str(text: &str) -> Result<Self, BadSlugId> {
        let bad = || BadSlugId(text.to_owned());
        let digits = text.strip_prefix("SHA256:").unwrap_or(text).as_bytes();
        let mut id = [0; 32];
        if digits.len() != 2 * id.len() {
            return Err(bad());
        }
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            for &digit in pair {
                let value = char::from(digit).to_digit(16).ok_or_else(bad)?;
                *byte = *byte << 4 | value as u8;
            }
        }
        Ok(Self(id))
    }
}
