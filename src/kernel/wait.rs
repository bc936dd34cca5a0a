//! Waiting for one descriptor.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Waits until a descriptor is ready for `what`, or hung up, or until the deadline, if there is one. Returns what it is
/// ready for; None at the deadline.
///
/// # Errors
/// When memory has run out.
pub fn until(
    fd: impl AsFd,
    what: PollFlags,
    deadline: Option<Instant>,
) -> io::Result<Option<PollFlags>> {
    let mut source = [PollFd::new(&fd, what)];
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // A time that is too long for the kernel counts as no limit.
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut source, left.as_ref()) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(source[0].revents())),
        }
    }
}

/// Whether a read would return at once.
pub fn is_readable(fd: impl AsFd) -> bool {
    until(fd, PollFlags::IN, Some(Instant::now())).is_ok_and(|ready| ready.is_some())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pipe_is_readable_when_something_is_in_it_or_nothing_ever_will_be() {
        let (reader, mut writer) = io::pipe().unwrap();
        assert!(!is_readable(&reader));
        let soon = Some(Instant::now() + Duration::from_millis(1));
        assert_eq!(until(&reader, PollFlags::IN, soon).unwrap(), None);
        writer.write_all(b"x").unwrap();
        assert_eq!(
            until(&reader, PollFlags::IN, None).unwrap(),
            Some(PollFlags::IN)
        );
        drop(writer);
        assert!(is_readable(&reader));
    }
}
