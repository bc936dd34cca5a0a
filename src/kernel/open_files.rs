//! How many descriptors this process may have open: the soft limit that counts, and the hard one that it may be raised to.

use std::io;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The soft limit and the hard limit on open files; unlimited is `u64::MAX`.
pub fn limits() -> (u64, u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX))
}

/// The soft limit that this process was started with; empty until it is changed.
static BEFORE: OnceLock<u64> = OnceLock::new();

/// Sets the soft limit on open files back to what this process was started with.
///
/// # Errors
/// When the kernel refuses.
pub fn restore_soft_limit() -> io::Result<()> {
    BEFORE.get().map_or(Ok(()), |limit| set_soft_limit(*limit))
}

/// Sets the soft limit on open files, to the hard limit if that is lower. Children inherit it.
///
/// # Errors
/// When the kernel refuses: its own limit on all processes may be lower than the hard one.
pub fn set_soft_limit(limit: u64) -> io::Result<()> {
    BEFORE.get_or_init(|| limits().0);
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = Some(maximum.map_or(limit, |maximum| limit.min(maximum)));
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}

const EXHAUSTED: [Errno; 3] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];

/// Whether something failed for want of descriptors or memory, so that the same may be done in a moment.
pub fn are_exhausted(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| EXHAUSTED.contains(&errno))
}

/// [`are_exhausted`], for an error that comes as words alone, as from another process.
pub fn say_exhausted(words: &str) -> bool {
    let said = |errno: &Errno| words.contains(&format!("(os error {})", errno.raw_os_error()));
    EXHAUSTED.iter().any(said)
}

/// What a look at something has shown; None if it is gone, or nobody's to look at.
///
/// # Errors
/// When this process [can look at nothing](are_exhausted): what is there must not be taken for gone then.
pub fn seen<T>(look: io::Result<T>) -> io::Result<Option<T>> {
    match look {
        Ok(seen) => Ok(Some(seen)),
        Err(error) if are_exhausted(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_descriptors_is_known_by_its_words_too() {
        for errno in EXHAUSTED {
            let error = io::Error::from(errno);
            assert!(are_exhausted(&error));
            assert!(say_exhausted(&format!("cannot look: {error}; so what")));
            assert!(seen::<()>(Err(error)).is_err());
        }
        for errno in [Errno::PERM, Errno::NOENT, Errno::NOSPC] {
            let error = io::Error::from(errno);
            assert!(!are_exhausted(&error) && !say_exhausted(&error.to_string()));
            assert_eq!(seen::<()>(Err(error)).unwrap(), None);
        }
    }

    #[test]
    fn the_soft_limit_goes_up_to_the_hard_one() {
        let (soft, hard) = limits();
        assert!(soft <= hard);
        // It stays there: other tests of this process may need it.
        set_soft_limit(u64::MAX).unwrap();
        assert_eq!(limits(), (hard, hard));
    }
}
