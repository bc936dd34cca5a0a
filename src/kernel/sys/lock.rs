//! Locks of single bytes of a file.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Locks one byte of a file, against all other open files that lock it; it need not exist. The lock belongs to the open file
/// (an "OFD lock", Linux 3.15), so each process that has a copy of the descriptor holds it.
///
/// # Errors
/// `WouldBlock` while another open file has the lock; else as `fcntl(2)`.
pub fn lock_byte(file: impl AsFd, at: u32) -> io::Result<()> {
    // SAFETY: a `flock` is made of integers, for which zeros are a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = at.into();
    lock.l_len = 1;
    // SAFETY: `fd` is open for as long as it is borrowed, and the kernel reads one `flock`, which `lock` is.
    let answer =
        unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    match answer {
        -1 => Err(match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EACCES) => io::ErrorKind::WouldBlock.into(),
            error => error,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_locked_by_one_open_file_and_by_all_its_copies() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || {
            let mut options = std::fs::File::options();
            options.read(true).write(true).open(file.path()).unwrap()
        };
        let (one, other) = (open(), open());
        lock_byte(&one, 20_000).unwrap();
        lock_byte(&other, 20_001).unwrap();
        let taken = lock_byte(&other, 20_000).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::WouldBlock);
        let copy = one.try_clone().unwrap();
        drop(one);
        assert!(lock_byte(&other, 20_000).is_err());
        drop(copy);
        // A process that another test is just starting has a copy of every descriptor for a moment.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while lock_byte(&other, 20_000).is_err() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
}
