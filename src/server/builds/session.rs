//! The connection of a build's thread to the command of its dyno: reads what it prints, line by line, and how it ended.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::kernel::unix_socket;
use crate::wire::frame::attachment::{Attachment, LOST_OUTPUT};
use crate::wire::frame::{CommandEnd, Frame};

/// How often it is looked whether the build is still wanted.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The longest line, in bytes; a longer one is taken apart.
const LONGEST_LINE: usize = 8 * 1024;

/// Gives each line of the command's output to `say`, until it has ended; tells how. Calls `look` now and then meanwhile.
///
/// # Errors
/// There is no command; or its dyno was lost.
pub fn follow(
    connection: &OwnedFd,
    say: &mut dyn FnMut(&[u8]),
    look: &mut dyn FnMut(),
) -> Result<CommandEnd> {
    let (mut attachment, mut fds) = (Attachment::before_response(), Vec::new());
    let (mut output, mut line) = (None::<OwnedFd>, Vec::new());
    let (mut end, mut lost_at) = (None, None::<Instant>);
    loop {
        look();
        while let Some(frame) = attachment.next_frame()? {
            match frame {
                // The command reads nothing: its input ends.
                Frame::Up(_) => output = fds.drain(..).nth(1),
                Frame::Exit(how) => end = Some(how),
                Frame::Error(refusal) => bail!("{}", refusal.message),
                Frame::Stopped => {}
            }
        }
        if output.is_none() && (end.is_some() || lost_at.is_some()) {
            if !line.is_empty() {
                say(&line);
            }
            return end.ok_or_else(|| anyhow::anyhow!("the build's dyno was lost (R99)"));
        }
        // Of a command whose end is known the output ends, too, once everything is dead that has it open.
        if end.is_none() && lost_at.is_some_and(|at| at.elapsed() > LOST_OUTPUT) {
            output = None;
            continue;
        }
        let mut polled = Vec::with_capacity(2);
        if lost_at.is_none() {
            polled.push(PollFd::new(connection, PollFlags::IN));
        }
        let at = polled.len();
        polled.extend(output.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        match poll(&mut polled, Some(&LOOK)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |index: usize| {
            let polled: Option<&PollFd<'_>> = polled.get(index);
            polled.is_some_and(|it| !it.revents().is_empty())
        };
        let (hears, reads) = (lost_at.is_none() && is_ready(0), is_ready(at));
        if hears {
            let mut buffer = [0; 4096];
            match unix_socket::receive(connection, &mut buffer, &mut fds) {
                Ok(0) | Err(_) => {
                    attachment.close();
                    lost_at = Some(Instant::now());
                }
                Ok(length) => attachment.receive(buffer.get(..length).unwrap_or_default()),
            }
        }
        if reads && let Some(fd) = &output {
            let mut buffer = [0; 16 * 1024];
            match rustix::io::read(fd.as_fd(), &mut buffer) {
                Ok(0) => output = None,
                Ok(length) => {
                    take_lines(&mut line, buffer.get(..length).unwrap_or_default(), say);
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(_) => output = None,
            }
        }
    }
}

/// Gives whole lines to `say`, without their ends, and keeps the rest in `line`. Of what a carriage return has overwritten, as in a
/// progress bar, the last is shown.
fn take_lines(line: &mut Vec<u8>, bytes: &[u8], say: &mut dyn FnMut(&[u8])) {
    for byte in bytes {
        if *byte == b'\n' || line.len() >= LONGEST_LINE {
            let whole = line.strip_suffix(b"\r").unwrap_or(line);
            let shown = whole.rsplit(|byte| *byte == b'\r').next();
            say(shown.unwrap_or_default());
            line.clear();
        }
        if *byte != b'\n' {
            line.push(*byte);
        }
    }
}

/// How long the rest of a dyno may take to end once its command has.
pub const END_TIME: Duration = Duration::from_secs(60);

/// The error for a dyno that does not end.
pub fn does_not_end() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "the build's dyno does not come to its end",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_a_progress_bar_is_its_last_state() {
        let (mut line, mut said) = (Vec::new(), Vec::new());
        let mut say = |line: &[u8]| said.push(String::from_utf8_lossy(line).into_owned());
        take_lines(&mut line, b"one\r\ntw", &mut say);
        take_lines(&mut line, b"o\n10%\r20%\r30%\n\nend", &mut say);
        take_lines(&mut line, &vec![b'x'; LONGEST_LINE], &mut say);
        assert_eq!(said[..4], ["one", "two", "30%", ""]);
        assert_eq!(said[4].len(), LONGEST_LINE);
        assert_eq!(line, b"xxx");
    }
}
