//! The command line's side of the API: a blocking HTTP client on one connection.
//!
//! Requests go one after the other over the connection, which is made anew if the server has closed
//! it in between. An error that the API answers with becomes the [`UserError`] that the person sees.
//! How the server is found and started is [`start`]'s business.
//!
//! A server may stop or be killed at any moment. A request that it cannot have taken is sent once more, to its successor;
//! of one that it may have taken, only the server's answer says what became of it.

pub mod start;
#[cfg(test)]
mod tests;
mod transport;

use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::error::ApiError;
use crate::error::UserError;
use crate::home::Home;
use crate::http::{BodyDecoder, Decoded, HeadReader, Limits, RequestLine, ResponseHead, chunk};

use start::Launch;
use transport::Transport;

/// Bytes of a response's body at most.
const MAX_BODY: usize = 64 << 20;
/// `1xx` responses before the one that counts.
const MAX_INTERIM: usize = 8;
/// Bytes of an upload that go as one chunk.
const CHUNK: usize = 64 * 1024;
/// How often a request is sent that no server takes.
const TRIES: u32 = 10;
/// Between the first two of them; doubled every time.
const PAUSE: Duration = Duration::from_millis(1);
/// How long to wait for a place in the server's backlog.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// See the [module](self).
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    patience: Option<Duration>,
    /// How another server is started when this one is gone.
    start: Option<(Home, Launch)>,
    /// None when the connection is of no further use; the next request makes another.
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    transport: Transport,
    /// Bytes that were read and are not used up.
    input: Vec<u8>,
    /// Descriptors that came along; only an upgrade has a use for them.
    fds: Vec<OwnedFd>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
    /// For a part of a list: the range that the next part begins with.
    pub next_range: Option<String>,
}

/// A connection that speaks another protocol from now on, to whoever the server passed it on to.
/// Read on with [`unix_socket::receive`](crate::unix_socket::receive): descriptors may come with any byte.
#[derive(Debug)]
pub struct Upgraded {
    /// The connection; blocking.
    pub socket: OwnedFd,
    /// What came after the `101`.
    pub received: Vec<u8>,
    /// Descriptors that came so far, close-on-exec, in their order.
    pub fds: Vec<OwnedFd>,
}

/// A response that comes bit by bit, for as long as the server likes.
#[derive(Debug)]
pub struct Streamed {
    connection: Connection,
    decoder: BodyDecoder,
    ended: bool,
}

/// What goes with a request.
enum Payload<'a> {
    None,
    /// Nothing but the wish for this part of a list.
    Range(&'a str),
    Json(Vec<u8>),
    Stream {
        content_type: &'a str,
        content: &'a mut dyn Read,
    },
}

impl Client {
    /// Connects to the server at `socket`.
    ///
    /// # Errors
    /// `NotFound` or `ConnectionRefused` if no server is there.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let connection = Connection::open(socket, None)?;
        Ok(Self {
            socket: socket.to_owned(),
            patience: None,
            start: None,
            connection: Some(connection),
        })
    }

    /// How long to wait for each part of an answer; for ever by default.
    ///
    /// # Errors
    /// For no time at all.
    pub fn set_patience(&mut self, patience: Option<Duration>) -> io::Result<()> {
        self.patience = patience;
        match &self.connection {
            Some(connection) => connection.transport.set_patience(patience),
            None => Ok(()),
        }
    }

    /// `GET`s a resource.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn get<T: DeserializeOwned>(&mut self, target: &str) -> anyhow::Result<T> {
        self.request("GET", target, None::<&()>)
    }

    /// `GET`s a list as a whole, however many parts it comes in.
    ///
    /// # Errors
    /// As [`request`](Self::request), and when the list has no end.
    pub fn get_list<T: DeserializeOwned>(&mut self, target: &str) -> anyhow::Result<Vec<T>> {
        let first = self.exchange("GET", target, Payload::None)?.success()?;
        let mut list: Vec<T> = first.json()?;
        let mut next = first.next_range;
        while let Some(range) = next {
            let part = self.exchange("GET", target, Payload::Range(&range))?;
            let part = part.success()?;
            list.append(&mut part.json()?);
            if part.next_range.as_ref() == Some(&range) {
                bail!("the server lists without end");
            }
            next = part.next_range;
        }
        Ok(list)
    }

    /// `POST`s `body`.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn post<T: DeserializeOwned>(
        &mut self,
        target: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.request("POST", target, Some(body))
    }

    /// `PATCH`es a resource with `body`.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn patch<T: DeserializeOwned>(
        &mut self,
        target: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.request("PATCH", target, Some(body))
    }

    /// `DELETE`s a resource.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn delete<T: DeserializeOwned>(&mut self, target: &str) -> anyhow::Result<T> {
        self.request("DELETE", target, None::<&()>)
    }

    /// Sends a request and reads the JSON of its answer; an empty one is `null`. The parts of
    /// `target` are percent-encoded already.
    ///
    /// # Errors
    /// A [`UserError`] with the API's words when the answer is one; else when the server cannot be
    /// reached, does not keep to HTTP, or answers with JSON that is no `T`.
    pub fn request<T: DeserializeOwned>(
        &mut self,
        method: &str,
        target: &str,
        body: Option<&impl Serialize>,
    ) -> anyhow::Result<T> {
        let payload = match body {
            Some(body) => Payload::Json(serde_json::to_vec(body)?),
            None => Payload::None,
        };
        self.exchange(method, target, payload)?.success()?.json()
    }

    /// Sends all of `content` as the body of a request, however long it is, and reads the JSON of
    /// its answer. Stops in the middle when the server answers before the end.
    ///
    /// # Errors
    /// As [`request`](Self::request), and when `content` fails.
    pub fn upload<T: DeserializeOwned>(
        &mut self,
        method: &str,
        target: &str,
        content_type: &str,
        content: &mut dyn Read,
    ) -> anyhow::Result<T> {
        let payload = Payload::Stream {
            content_type,
            content,
        };
        self.exchange(method, target, payload)?.success()?.json()
    }

    /// Asks for `protocol` on this connection, and gives it up.
    ///
    /// # Errors
    /// As [`request`](Self::request), when the answer is anything but `101`.
    pub fn upgrade(self, target: &str, protocol: &str) -> anyhow::Result<Upgraded> {
        self.change_protocol("GET", target, protocol, &[])
    }

    /// The same by a POST of `body`.
    pub fn upgrade_with(
        self,
        target: &str,
        protocol: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<Upgraded> {
        self.change_protocol("POST", target, protocol, &serde_json::to_vec(body)?)
    }

    fn change_protocol(
        mut self,
        method: &str,
        target: &str,
        protocol: &str,
        body: &[u8],
    ) -> anyhow::Result<Upgraded> {
        let mut head = request_line(method, target)
            .with("Connection", "upgrade")
            .with("Upgrade", protocol);
        if !body.is_empty() {
            head = head
                .with("Content-Type", "application/json")
                .with("Content-Length", &body.len().to_string());
        }
        let mut bytes = head.finish();
        bytes.extend_from_slice(body);
        let (mut connection, head) = self.ask(method, &bytes)?;
        if head.status != 101 {
            let answer = connection.read_answer(&head)?.success()?;
            bail!(
                "the server answered {} instead of changing to `{protocol}`",
                answer.status
            );
        }
        let Connection {
            transport,
            input,
            fds,
        } = connection;
        transport.set_patience(None)?;
        let socket = transport.into_socket();
        Ok(Upgraded {
            socket,
            received: input,
            fds,
        })
    }

    /// `GET`s a resource whose body is to be read as it comes. The next request goes over another connection.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn stream(&mut self, target: &str) -> anyhow::Result<Streamed> {
        // Whoever follows a stream knows best what to do when the server is gone.
        let mut connection = match self.open_connection()? {
            Some(connection) => connection,
            None => Connection::open(&self.socket, self.patience).map_err(lost)?,
        };
        let request = request_line("GET", target).finish();
        connection.transport.write(&request).map_err(lost)?;
        let head = connection.read_head("GET")?;
        if head.status >= 400 {
            let status = connection.read_answer(&head)?.success()?.status;
            bail!("the server answered with status {status}");
        }
        connection.transport.set_patience(None)?;
        Ok(Streamed {
            decoder: BodyDecoder::new(head.framing),
            connection,
            ended: false,
        })
    }

    fn exchange(
        &mut self,
        method: &str,
        target: &str,
        payload: Payload<'_>,
    ) -> anyhow::Result<Answer> {
        let head = request_line(method, target);
        let ((mut connection, head), whole) = match payload {
            Payload::None => (self.ask(method, &head.finish())?, true),
            Payload::Range(range) => {
                let head = head.with("Range", range);
                (self.ask(method, &head.finish())?, true)
            }
            Payload::Json(body) => {
                let head = head.with("Content-Type", "application/json");
                let head = head.with("Content-Length", &body.len().to_string());
                (self.ask(method, &[head.finish(), body].concat())?, true)
            }
            Payload::Stream {
                content_type,
                content,
            } => {
                let head = head.with("Content-Type", content_type);
                let head = head.with("Transfer-Encoding", "chunked").finish();
                let mut connection = self.take_connection()?;
                let sent = connection.send_chunks(head, content)?;
                // A server that does not want the rest answers and hangs up: its answer says more than the
                // broken pipe.
                let whole = matches!(sent, Sent::Whole);
                match (connection.read_head(method), sent) {
                    (Ok(head), _) => ((connection, head), whole),
                    (Err(_), Sent::Broken(error)) => return Err(lost(error)),
                    (Err(error), _) => return Err(error),
                }
            }
        };
        let answer = connection.read_answer(&head)?;
        if whole && head.keep_alive {
            connection.fds.clear();
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    /// Sends a whole request and reads the head of its answer; again, to whatever server there is then, as long as
    /// none can have taken it.
    fn ask(&mut self, method: &str, request: &[u8]) -> anyhow::Result<(Connection, ResponseHead)> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            let mut connection = self.take_connection()?;
            let sent = connection.transport.write(request);
            match connection.read_head(method) {
                Ok(head) => return Ok((connection, head)),
                Err(error) if !connection.is_untaken(method, &sent, &error) => return Err(error),
                Err(_) => thread::sleep(pause),
            }
            pause *= 2;
        }
        let mut connection = self.take_connection()?;
        connection.transport.write(request).map_err(lost)?;
        let head = connection.read_head(method)?;
        Ok((connection, head))
    }

    /// The connection, if the server has not closed it since; else a new one, to its successor if need be. Nothing of
    /// the request was sent yet, so this is safe for any method.
    fn take_connection(&mut self) -> anyhow::Result<Connection> {
        if let Some(connection) = self.open_connection()? {
            return Ok(connection);
        }
        let Some((home, launch)) = &self.start else {
            return Connection::open(&self.socket, self.patience).map_err(lost);
        };
        let connection = start::connect_to_any_or_start(home, launch)?.connection;
        let connection = connection.context("no connection to the server")?;
        connection.transport.set_patience(self.patience)?;
        Ok(connection)
    }

    fn open_connection(&mut self) -> anyhow::Result<Option<Connection>> {
        match self.connection.take() {
            Some(connection)
                if connection.input.is_empty() && !connection.transport.has_input()? =>
            {
                Ok(Some(connection))
            }
            _ => Ok(None),
        }
    }
}

/// How far a request went.
enum Sent {
    Whole,
    /// The answer came before the end.
    Part,
    Broken(io::Error),
}

impl Connection {
    fn open(socket: &Path, patience: Option<Duration>) -> io::Result<Self> {
        let transport = Transport::connect(socket, CONNECT_PATIENCE)?;
        transport.set_patience(patience)?;
        Ok(Self {
            transport,
            input: Vec::new(),
            fds: Vec::new(),
        })
    }

    /// Whether no server can have taken the request that was `sent` and answered by `error`: it did not go out whole,
    /// or the kernel says that it was not read to its end. Taking a `GET` twice does no harm.
    fn is_untaken(&self, method: &str, sent: &io::Result<()>, error: &anyhow::Error) -> bool {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        let unread = match kind {
            // Of a Unix socket that is closed with something unread, and of one that nobody had accepted.
            Some(io::ErrorKind::ConnectionReset) => true,
            Some(io::ErrorKind::UnexpectedEof) => sent.is_err() || method == "GET",
            _ => false,
        };
        unread && self.input.is_empty()
    }

    fn send_chunks(&mut self, head: Vec<u8>, content: &mut dyn Read) -> anyhow::Result<Sent> {
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
    fn read_head(&mut self, method: &str) -> anyhow::Result<ResponseHead> {
        let mut reader = HeadReader::new(Limits::API);
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

    fn read_answer(&mut self, head: &ResponseHead) -> anyhow::Result<Answer> {
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

    /// Moves what was read of a body to `body`; true when it is complete.
    fn decode(&mut self, decoder: &mut BodyDecoder, body: &mut Vec<u8>) -> anyhow::Result<bool> {
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

    /// Reads some more; true at the end.
    fn fill_or_end(&mut self) -> anyhow::Result<bool> {
        let mut block = [0; 16 * 1024];
        let length = self
            .transport
            .read(&mut block, &mut self.fds)
            .map_err(lost)?;
        self.input.extend_from_slice(&block[..length]);
        Ok(length == 0)
    }
}

impl Streamed {
    /// Appends what has come to `body`, and waits for some more if nothing has. False at the end of the response.
    ///
    /// # Errors
    /// When it breaks off before its end ([`is_lost`]), or is malformed.
    pub fn read(&mut self, body: &mut Vec<u8>) -> anyhow::Result<bool> {
        let before = body.len();
        loop {
            self.ended |= self.connection.decode(&mut self.decoder, body)?;
            if self.ended || body.len() > before {
                return Ok(body.len() > before);
            }
            if self.connection.fill_or_end()? {
                if !self.decoder.ends_at_close() {
                    return Err(lost(io::ErrorKind::UnexpectedEof.into()));
                }
                self.ended = true;
            }
        }
    }

    /// What to wait for until there is something to [read](Self::read). None if that does not wait.
    pub fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        let waits = !self.ended && self.connection.input.is_empty();
        waits.then(|| self.connection.transport.fd())
    }
}

/// Whether a request failed because the server is not there, or not there any more.
pub fn is_lost(error: &anyhow::Error) -> bool {
    let is = |cause: &(dyn std::error::Error + 'static)| cause.is::<io::Error>();
    error.chain().any(is) && error.downcast_ref::<UserError>().is_none()
}

impl Answer {
    /// The answer, if it is a success.
    ///
    /// # Errors
    /// A [`UserError`] with the API's words, or with the status if it has none.
    pub fn success(self) -> Result<Self, UserError> {
        if self.status < 400 {
            return Ok(self);
        }
        Err(match serde_json::from_slice::<ApiError>(&self.body) {
            Ok(error) => error.into(),
            Err(_) => UserError::new(format!("the server answered with status {}", self.status)),
        })
    }

    /// The body as a `T`; an empty one is `null`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        let body = if self.body.is_empty() {
            b"null"
        } else {
            &self.body[..]
        };
        serde_json::from_slice(body).context("the server's answer makes no sense")
    }
}

fn request_line(method: &str, target: &str) -> RequestLine {
    RequestLine::new(method, target, "dyno").with("Accept", "application/json")
}

fn malformed(refusal: crate::http::Refusal) -> anyhow::Error {
    anyhow::Error::new(refusal).context("the server's answer is malformed")
}

/// The connection failed.
fn lost(error: io::Error) -> anyhow::Error {
    let what = match error.kind() {
        io::ErrorKind::WouldBlock => "the server does not answer",
        _ => "lost the connection to the server",
    };
    anyhow::Error::new(error).context(what)
}
