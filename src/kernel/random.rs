//! Random numbers from the kernel.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::model::uuid;

/// Random bytes, good for secrets.
///
/// # Errors
/// When the kernel gives none.
pub fn bytes<const COUNT: usize>() -> io::Result<[u8; COUNT]> {
    // Larger requests may be answered in part (getrandom(2)).
    const { assert!(COUNT <= 256) };
    let mut bytes = [0; COUNT];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes)
}

/// A random uuid (version 4).
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn uuid() -> io::Result<String> {
    Ok(uuid::uuid(bytes()?, 4))
}
