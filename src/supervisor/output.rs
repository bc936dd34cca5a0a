//! Output of a dyno that no client reads: cut into lines for the log.

use std::os::fd::{AsFd, OwnedFd};

use jiff::Timestamp;
use mio::{Interest, Token};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::log_line::{self, Source, Splitter};
use crate::pty;
use crate::reactor::Reactor;

/// What is read of one stream before the others have their turn, in bytes.
const BUDGET: usize = 64 * 1024;

/// The streams of a dyno that its supervisor reads.
#[derive(Debug, Default)]
pub struct Output {
    process: String,
    streams: Vec<Stream>,
}

#[derive(Debug)]
struct Stream {
    token: Token,
    fd: OwnedFd,
    lines: Splitter,
}

impl Output {
    /// Reads `streams` from now on, as output of `process` (`run.1`). True when there is nothing to read at all.
    pub fn take(
        &mut self,
        streams: impl Iterator<Item = OwnedFd>,
        process: String,
        reactor: &mut Reactor,
    ) -> bool {
        self.process = process;
        for fd in streams {
            let token = reactor.token();
            let watched = rustix::io::ioctl_fionbio(fd.as_fd(), true)
                .map_err(std::io::Error::from)
                .and_then(|()| reactor.register(&fd, token, Interest::READABLE));
            if watched.is_ok() {
                self.streams.push(Stream {
                    token,
                    fd,
                    lines: Splitter::default(),
                });
            }
        }
        self.streams.is_empty()
    }

    /// Whether `token` is one of these streams.
    pub fn knows(&self, token: Token) -> bool {
        self.streams.iter().any(|stream| stream.token == token)
    }

    /// Reads one stream that may be readable; `write` gets whole log lines. True when this was the last and it
    /// has ended.
    pub fn read(
        &mut self,
        token: Token,
        reactor: &mut Reactor,
        mut write: impl FnMut(&[u8]),
    ) -> bool {
        let Some(index) = self.streams.iter().position(|stream| stream.token == token) else {
            return false;
        };
        let stream = &mut self.streams[index];
        let (mut buffer, mut lines) = (vec![0u8; BUDGET], Vec::new());
        let now = Timestamp::now();
        let mut line =
            |text: &[u8]| log_line::append(&mut lines, now, Source::App, &self.process, text);
        let ended = match pty::read(&stream.fd, &mut buffer) {
            Ok(0) => true,
            Ok(count) => {
                stream.lines.feed(&buffer[..count], &mut line);
                reactor.again(token);
                false
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                // A terminal says so, too, while another reader is just leaving it; what there is to read,
                // or the hang-up, then makes no second event.
                if is_ready(&stream.fd) {
                    reactor.again(token);
                }
                false
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                reactor.again(token);
                false
            }
            Err(_) => true,
        };
        if ended {
            stream.lines.finish(&mut line);
        }
        if !lines.is_empty() {
            write(&lines);
        }
        if ended {
            let stream = self.streams.remove(index);
            let _ = reactor.deregister(&stream.fd, token);
        }
        ended && self.streams.is_empty()
    }
}

/// Whether a read would not wait, at this moment.
fn is_ready(fd: &OwnedFd) -> bool {
    let mut sources = [PollFd::new(fd, PollFlags::IN)];
    rustix::event::poll(&mut sources, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
