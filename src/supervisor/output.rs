//! Reads a dyno's output that no client reads, and cuts it into log lines.
//!
//! Bytes go from the stream into one buffer, and from there as lines into another, which is written when it is full or
//! the first is empty. Both are bounded: a dyno that writes faster than its log blocks at its pipe. Those of an idle
//! dyno are small.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mio::{Interest, Token};

use crate::kernel::sys::memory;
use crate::kernel::wait::is_readable;
use crate::model::log_line::{LogSource, Prefix, Splitter};
use crate::pty;
use crate::wire::reactor::Reactor;

/// The most bytes that are read from one stream in a turn: all that its pipe can hold.
const FULL: usize = 256 * 1024;

/// The most bytes that are read in a turn while there is little output.
const SMALL: usize = 8 * 1024;

/// How many bytes of lines are written at once. More would have left the processor's cache.
const BATCH: usize = 256 * 1024;

/// After how long without output the buffers are made small again.
const SILENCE: Duration = Duration::from_secs(1);

/// The streams of a dyno that its supervisor reads.
#[derive(Debug)]
pub struct Output {
    prefix: Prefix,
    streams: Vec<Stream>,
    buffer: Vec<u8>,
    lines: Vec<u8>,
    /// Whether there was output since the deadline was last set.
    busy: bool,
    silence: Token,
}

#[derive(Debug)]
struct Stream {
    token: Token,
    fd: OwnedFd,
    lines: Splitter,
}

impl Output {
    /// The reader of the output of `process` (`run.1`), without streams.
    pub fn of(process: &str, reactor: &mut Reactor) -> Self {
        Self {
            prefix: Prefix::new(Timestamp::UNIX_EPOCH, LogSource::App, process),
            streams: Vec::new(),
            buffer: Vec::new(),
            lines: Vec::new(),
            busy: false,
            silence: reactor.token(),
        }
    }

    /// Reads `streams` from now on. True if there are none.
    pub fn take(&mut self, streams: impl Iterator<Item = OwnedFd>, reactor: &mut Reactor) -> bool {
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

    /// Reads a stream that may be readable; `write` gets whole log lines. True when the last stream has ended.
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
        if self.buffer.is_empty() {
            self.buffer.resize(SMALL, 0);
        }
        let read = pty::read(&stream.fd, &mut self.buffer);
        self.prefix.set_time(Timestamp::now());
        let mut line = |text: &[u8]| {
            self.prefix.append(&mut self.lines, text);
            if self.lines.len() >= BATCH {
                write(&self.lines);
                self.lines.clear();
            }
        };
        let ended = match &read {
            Ok(0) => true,
            Ok(count) => {
                stream.lines.feed(&self.buffer[..*count], &mut line);
                reactor.again(token);
                false
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                // A terminal also reports the end while another reader is just closing it; bytes or a hang-up after
                // that make no second event.
                if is_readable(&stream.fd) {
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
        if !self.lines.is_empty() {
            write(&self.lines);
            self.lines.clear();
        }
        if ended {
            let stream = self.streams.remove(index);
            let _ = reactor.deregister(&stream.fd, token);
        }
        if read.is_ok_and(|count| count == self.buffer.len()) {
            self.grow(reactor);
        }
        ended && self.streams.is_empty()
    }

    /// Makes the buffers large, after a read that filled them.
    fn grow(&mut self, reactor: &mut Reactor) {
        if self.buffer.len() < FULL {
            self.buffer.resize(FULL, 0);
            reactor.set_deadline(self.silence, Instant::now() + SILENCE);
        }
        self.busy = true;
    }

    /// Handles the deadline of `token`: makes the buffers small again if there is no output now.
    pub fn deadline(&mut self, token: Token, reactor: &mut Reactor) {
        if token != self.silence {
            return;
        }
        if std::mem::take(&mut self.busy) {
            reactor.set_deadline(self.silence, Instant::now() + SILENCE);
            return;
        }
        self.buffer = Vec::new();
        self.lines = Vec::new();
        memory::release_heap();
        memory::rest();
    }
}
