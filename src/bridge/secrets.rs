//! The secrets that admit clients: long, random, and valid for one session and a short time.

use std::collections::HashMap;
use std::io;
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::kernel::random;
use crate::model::uuid::hex;

/// Random bytes of a secret: half as many could not be guessed.
const BYTES: usize = 32;

/// The length of a secret as text.
pub(super) const LENGTH: usize = 2 * BYTES;

/// A new secret, as text that can be part of a URL.
///
/// # Errors
/// When the kernel gives no random numbers.
pub fn fresh() -> io::Result<String> {
    Ok(hex(&random::bytes::<BYTES>()?))
}

/// The hash that is kept of a secret, so that the time of a lookup says nothing about the secrets.
type Print = [u8; 32];

/// The valid secrets, and the purpose of each.
#[derive(Debug)]
pub(super) struct Secrets<T> {
    expected: HashMap<Print, (Instant, T)>,
}

impl<T> Default for Secrets<T> {
    fn default() -> Self {
        Self {
            expected: HashMap::new(),
        }
    }
}

impl<T> Secrets<T> {
    /// Makes `secret` valid until then.
    pub fn expect(&mut self, secret: &str, until: Instant, purpose: T) {
        self.expected
            .insert(print(secret.as_bytes()), (until, purpose));
    }

    /// Uses a secret up: returns its purpose if it is valid.
    pub fn take(&mut self, secret: &[u8], now: Instant) -> Option<T> {
        let (until, purpose) = self.expected.remove(&print(secret))?;
        (now < until).then_some(purpose)
    }

    /// Deletes the secrets whose purpose is not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(&T) -> bool) {
        self.expected.retain(|_, (_, purpose)| wanted(purpose));
    }

    /// Deletes the expired secrets.
    pub fn expire(&mut self, now: Instant) {
        self.expected.retain(|_, (until, _)| now < *until);
    }

    /// When the next secret expires.
    pub fn deadline(&self) -> Option<Instant> {
        self.expected.values().map(|(until, _)| *until).min()
    }
}

fn print(secret: &[u8]) -> Print {
    Sha256::digest(secret).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_secret_is_long_and_never_the_same() {
        let secrets: std::collections::BTreeSet<_> = (0..1000).map(|_| fresh().unwrap()).collect();
        assert_eq!(secrets.len(), 1000);
        let is_fit = |secret: &String| {
            secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        assert!(secrets.iter().all(is_fit));
    }

    #[test]
    fn a_secret_is_good_once_and_for_a_while() {
        let (now, while_) = (Instant::now(), Duration::from_secs(30));
        let mut secrets = Secrets::default();
        secrets.expect("one", now + while_, 1);
        secrets.expect("two", now + 2 * while_, 2);
        secrets.expect("three", now + 3 * while_, 3);
        assert_eq!(secrets.deadline(), Some(now + while_));
        assert_eq!(secrets.take(b"four", now), None);
        assert_eq!(secrets.take(b"two", now), Some(2));
        assert_eq!(secrets.take(b"two", now), None);
        assert_eq!(secrets.take(b"one", now + while_), None);
        secrets.expire(now + 3 * while_);
        assert_eq!(secrets.deadline(), None);
        assert!(secrets.expected.is_empty());
    }
}
