//! One connection to the server: writes requests, reads responses.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use super::transport::Transport;
use super::{Answer, Endpoint};
use crate::wire::http::{BodyDecoder, Decoded, HeadLimits, HeadReader, ResponseHead, chunk};

/// The largest body of a response, in bytes.
const MAX_BODY: usize = 64 << 20;
/// The most `1xx` responses before the final one.
const MAX_INTERIM: usize = 8;
/// Bytes of an upload that are sent as one chunk.
const CHUNK: usize = 64 * 1024;
/// How long to wait while the server's backlog is full.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

const LOST: &str = "lost the connection to the server";

/// One connection to the server.
#[derive(Debug)]
pub(super) struct Connection {
    /// The socket below.
    pub transport: Transport,
    /// Bytes that were read and not used yet.
    pub input: Vec<u8>,
    /// Descriptors that were received; only an upgrade uses them.
    pub fds: Vec<OwnedFd>,
}

/// The body of a request, or a field of its own.
pub(super) enum Payload<'a> {
    None,
    /// No body, but a `Range` field for this part of a list.
    Range(&'a str),
    Json(Vec<u8>),
    Stream {
        content_type: &'a str,
        content: &'a mut dyn Read,
    },
}

/// How much of a request was sent.
pub(super) enum Sent {
    Whole,
    /// A part: the answer came before the end.
    Part,
    Broken(io::Error),
}

impl Connection {
    /// Connects to the socket at `path`.
    pub fn to_socket(path: &Path) -> io::Result<Self> {
        Ok(Self::over(Transport::connect(path, CONNECT_PATIENCE)?))
    }

    fn over(transport: Transport) -> Self {
        Self {
            transport,
            input: Vec::new(),
            fds: Vec::new(),
        }
    }

    /// Connects to the server at `endpoint`. Each read and write waits for `patience` at most; None: for ever.
    ///
    /// # Errors
    /// When no server listens there.
    pub fn open(endpoint: &Endpoint, patience: Option<Duration>) -> anyhow::Result<Self> {
        let transport = match endpoint {
            Endpoint::Socket(path) => Transport::connect(path, CONNECT_PATIENCE).map_err(lost)?,
            Endpoint::Far(far) => Transport::Far(Box::new(far.connect(CONNECT_PATIENCE)?)),
        };
        transport.set_patience(patience)?;
        Ok(Self::over(transport))
    }

    /// Whether no server can have taken the request, given the results of sending it and of reading the answer: it was
    /// not sent whole, or the kernel says that it was not read to its end. A `GET` may be taken twice.
    pub fn is_untaken(&self, method: &str, sent: &io::Result<()>, error: &anyhow::Error) -> bool {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        let unread = match kind {
            // From a Unix socket that was closed with unread bytes, and from one that was never accepted.
            Some(io::ErrorKind::ConnectionReset) => {
                self.transport.tells_unread() || method == "GET"
            }
            Some(io::ErrorKind::UnexpectedEof) => {
                (sent.is_err() && self.transport.tells_unread()) || method == "GET"
            }
            _ => false,
        };
        unread && self.input.is_empty()
    }

    /// Sends `head` and then all of `content` in chunks, unless the server answers before it has all of it.
    ///
    /// # Errors
    /// When `content` cannot be read; a broken connection is [`Sent::Broken`].
    pub fn send_chunks(&mut self, head: Vec<u8>, content: &mut dyn Read) -> anyhow::Result<Sent> {
        let (mut block, mut out) = (vec![0; CHUNK], head);
        loop {
            if self.transport.has_input()? {
                return Ok(Sent::Part);
            }
            let length = match content.read(&mut block) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.context("cannot read what is to be sent")?,
            };
            chunk::encode(&block[..length], &mut out);
            if length == 0 {
                out.extend_from_slice(chunk::LAST);
            }
            if let Err(error) = self.transport.write(&out) {
                return Ok(Sent::Broken(error));
            }
            if length == 0 {
                return Ok(Sent::Whole);
            }
            out.clear();
        }
    }

    /// The head of the final response.
    pub fn read_head(&mut self, method: &str) -> anyhow::Result<ResponseHead> {
        let mut reader = HeadReader::new(HeadLimits::API);
        for _ in 0..=MAX_INTERIM {
            let (head, length) = loop {
                match reader.response(&self.input, method).map_err(malformed)? {
                    Some(found) => break found,
                    None => self.fill()?,
                }
            };
            self.input.drain(..length);
            if !head.is_interim() {
                return Ok(head);
            }
        }
        Err(anyhow!("the server answers without end"))
    }

    /// Reads the body that follows `head`, as a whole.
    ///
    /// # Errors
    /// When the connection breaks, or the body is malformed or larger than [`MAX_BODY`].
    pub fn read_answer(&mut self, head: &ResponseHead) -> anyhow::Result<Answer> {
        let mut decoder = BodyDecoder::new(head.framing);
        let mut body = Vec::new();
        loop {
            let complete = self.decode(&mut decoder, &mut body)?;
            if body.len() > MAX_BODY {
                bail!("the server's answer is too long");
            }
            if complete || (self.fill_or_end()? && decoder.ends_at_close()) {
                let next_range = head.fields.get("next-range").map(str::to_owned);
                return Ok(Answer {
                    status: head.status,
                    body,
                    next_range,
                });
            }
            if self.input.is_empty() {
                return Err(lost(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Moves the bytes of a response's body to `body`; true when it is complete.
    pub fn decode(
        &mut self,
        decoder: &mut BodyDecoder,
        body: &mut Vec<u8>,
    ) -> anyhow::Result<bool> {
        let mut rest = &self.input[..];
        let complete = loop {
            match decoder.decode(&mut rest).map_err(malformed)? {
                Decoded::Data(data) => body.extend_from_slice(data),
                Decoded::NeedMore => break false,
                Decoded::End => break true,
            }
        };
        let used = self.input.len() - rest.len();
        self.input.drain(..used);
        Ok(complete)
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        match self.fill_or_end()? {
            true => Err(lost(io::ErrorKind::UnexpectedEof.into())),
            false => Ok(()),
        }
    }

    /// Reads more bytes; true at the end.
    pub fn fill_or_end(&mut self) -> anyhow::Result<bool> {
        let mut block = [0; 16 * 1024];
        let length = self
            .transport
            .read(&mut block, &mut self.fds)
            .map_err(lost)?;
        self.input.extend_from_slice(&block[..length]);
        Ok(length == 0)
    }
}

fn malformed(refusal: crate::wire::http::HttpRefusal) -> anyhow::Error {
    anyhow::Error::new(refusal).context("the server's answer is malformed")
}

/// The error for a failed connection.
pub(super) fn lost(error: io::Error) -> anyhow::Error {
    let (what, error) = match error.kind() {
        io::ErrorKind::WouldBlock => ("the server does not answer", error),
        // `main` takes a broken pipe for that of the program's own output, and prints nothing.
        io::ErrorKind::BrokenPipe => (LOST, io::ErrorKind::ConnectionReset.into()),
        _ => (LOST, error),
    };
    anyhow::Error::new(error).context(what)
}
