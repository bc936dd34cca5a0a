//! The command line's side of the API: a blocking HTTP client on one connection.
//!
//! Requests go one after the other over the connection, which is made again if the server has closed it in between. An
//! error from the API becomes the [`UserError`] that the user sees. [`start`] finds and starts the server.
//!
//! A server may stop or be killed at any moment. A request that it cannot have taken is sent again, to its successor;
//! for one that it may have taken, only the server's answer counts.

mod connection;
mod far;
pub mod patience;
mod relay;
pub mod start;
mod streamed;
#[cfg(test)]
mod tests;
mod transport;

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::error::ApiError;
use crate::error::UserError;
use crate::home::Home;
use crate::kernel::sys::socket::peer;
use crate::wire::frame;
use crate::wire::http::{BodyDecoder, RequestLine, ResponseHead};

use connection::{Connection, Payload, Sent, lost};
pub use far::Far;
use patience::UNTAKEN;
use relay::relay;
use start::Launch;
pub use streamed::Streamed;
use transport::Transport;

/// A client of the API: see the [module](self).
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    patience: Option<Duration>,
    /// How another server is started when this one is gone; None if none is to be.
    start: Option<(Home, Launch)>,
    /// None when the connection cannot be used any more; the next request makes another.
    connection: Option<Connection>,
}

/// The address of a server.
#[derive(Debug, Clone)]
enum Endpoint {
    /// At this socket.
    Socket(PathBuf),
    /// On another host, or over TCP.
    Far(Far),
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
    /// For a part of a list: the range of the next part.
    pub next_range: Option<String>,
}

/// A connection that was upgraded to another protocol, whose other end the server may have passed to a supervisor.
/// Read on with [`unix_socket::receive`](crate::kernel::unix_socket::receive): descriptors may come with any byte.
#[derive(Debug)]
pub struct Upgraded {
    /// The connection; blocking.
    pub socket: OwnedFd,
    /// Bytes that came after the `101`.
    pub received: Vec<u8>,
    /// Descriptors that have come, close-on-exec, in their order.
    pub fds: Vec<OwnedFd>,
}

impl Client {
    /// Connects to the server at `socket`.
    ///
    /// # Errors
    /// `NotFound` or `ConnectionRefused` if no server is there.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let connection = Connection::to_socket(socket)?;
        Ok(Self::over(connection, Endpoint::Socket(socket.to_owned())))
    }

    /// The pid of the process that listens at the socket, if it is on this host.
    fn peer(&self) -> Option<u32> {
        match &self.connection.as_ref()?.transport {
            Transport::Unix(socket) => Some(peer(socket).ok()?.pid.unsigned_abs()),
            Transport::Far(_) => None,
        }
    }

    /// Connects to a server elsewhere.
    ///
    /// # Errors
    /// Why it cannot be reached or trusted.
    pub fn connect_far(far: &Far) -> anyhow::Result<Self> {
        let endpoint = Endpoint::Far(far.clone());
        let connection = Connection::open(&endpoint, None).map_err(|error| {
            match error.downcast_ref::<UserError>() {
                Some(_) => error,
                None => UserError::new(format!("{error:#}"))
                    .hint("DYNO_HOST says where it is; `dyno server:status` on its host tells where it listens")
                    .into(),
            }
        })?;
        Ok(Self::over(connection, endpoint))
    }

    /// Another connection to the same server, which is made once something is asked.
    pub fn another(&self) -> Self {
        Self {
            endpoint: self.endpoint.clone(),
            patience: self.patience,
            start: None,
            connection: None,
        }
    }

    fn over(connection: Connection, endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            patience: None,
            start: None,
            connection: Some(connection),
        }
    }

    /// The head of a request, with the fields of every request.
    fn line(&self, method: &str, target: &str) -> RequestLine {
        let line = match &self.endpoint {
            Endpoint::Socket(_) => RequestLine::new(method, target, "dyno"),
            Endpoint::Far(far) => RequestLine::new(method, target, far.authority())
                .with("Authorization", &far.authorization()),
        };
        line.with("Accept", "application/vnd.heroku+json; version=3")
    }

    /// Sets how long to wait for each part of an answer; by default without limit.
    ///
    /// # Errors
    /// When the time is zero.
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

    /// `GET`s all parts of a list.
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

    /// `PUT`s `body`.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn put<T: DeserializeOwned>(
        &mut self,
        target: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.request("PUT", target, Some(body))
    }

    /// `DELETE`s a resource.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn delete<T: DeserializeOwned>(&mut self, target: &str) -> anyhow::Result<T> {
        self.request("DELETE", target, None::<&()>)
    }

    /// Sends a request and reads the JSON of its answer; an empty one is `null`. `target` is percent-encoded by the caller.
    ///
    /// # Errors
    /// A [`UserError`] with the API's message if the API answers with an error; else when the server cannot be reached,
    /// the response is not valid HTTP, or its JSON is no `T`.
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

    /// Sends all of `content` as the body of a request, in chunks, and reads the JSON of the answer. Stops when the
    /// server answers before the end.
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

    /// Upgrades this connection to an attachment, by a GET.
    ///
    /// # Errors
    /// As [`request`](Self::request), when the answer is anything but `101`.
    pub fn attach(self, target: &str) -> anyhow::Result<Upgraded> {
        self.attach_by("GET", target, &[])
    }

    /// Upgrades this connection to an attachment, by a POST of `body`.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn attach_with(self, target: &str, body: &impl Serialize) -> anyhow::Result<Upgraded> {
        self.attach_by("POST", target, &serde_json::to_vec(body)?)
    }

    fn attach_by(self, method: &str, target: &str, body: &[u8]) -> anyhow::Result<Upgraded> {
        let Endpoint::Far(far) = &self.endpoint else {
            return self.change_protocol(method, target, frame::PROTOCOL, body);
        };
        let server = far.authority().to_owned();
        let protocol = frame::far::PROTOCOL;
        let connection = self.upgraded(method, target, protocol, body)?;
        let Connection {
            transport: Transport::Far(socket),
            mut input,
            ..
        } = connection
        else {
            bail!("the connection is none to another host");
        };
        let (stream, ahead) = socket.into_parts();
        input.extend(ahead);
        Ok(Upgraded {
            socket: relay(stream, input, server).context("cannot relay the session")?,
            received: Vec::new(),
            fds: Vec::new(),
        })
    }

    /// Upgrades this connection to `protocol`, by a POST of `body`, to receive descriptors.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn take_parts(
        self,
        target: &str,
        protocol: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<Upgraded> {
        self.change_protocol("POST", target, protocol, &serde_json::to_vec(body)?)
    }

    /// Upgrades this connection to `protocol`.
    #[cfg(test)]
    fn upgrade(self, target: &str, protocol: &str) -> anyhow::Result<Upgraded> {
        self.change_protocol("GET", target, protocol, &[])
    }

    fn change_protocol(
        self,
        method: &str,
        target: &str,
        protocol: &str,
        body: &[u8],
    ) -> anyhow::Result<Upgraded> {
        let connection = self.upgraded(method, target, protocol, body)?;
        let Connection {
            transport: Transport::Unix(socket),
            input,
            fds,
        } = connection
        else {
            bail!("descriptors come over the socket of this host alone");
        };
        Ok(Upgraded {
            socket,
            received: input,
            fds,
        })
    }

    /// The connection after the upgrade to `protocol`.
    fn upgraded(
        mut self,
        method: &str,
        target: &str,
        protocol: &str,
        body: &[u8],
    ) -> anyhow::Result<Connection> {
        let mut head = self
            .line(method, target)
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
        connection.transport.set_patience(None)?;
        Ok(connection)
    }

    /// `GET`s a resource whose body is read as it comes. The next request uses another connection.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn stream(&mut self, target: &str) -> anyhow::Result<Streamed> {
        self.stream_of("GET", &self.line("GET", target).finish())
    }

    /// `POST`s `body` and reads the response's body as it comes. The next request uses another connection.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn stream_with(&mut self, target: &str, body: &impl Serialize) -> anyhow::Result<Streamed> {
        let body = serde_json::to_vec(body)?;
        let head = self
            .line("POST", target)
            .with("Content-Type", "application/json")
            .with("Content-Length", &body.len().to_string());
        self.stream_of("POST", &[head.finish(), body].concat())
    }

    fn stream_of(&mut self, method: &str, request: &[u8]) -> anyhow::Result<Streamed> {
        // The caller handles a lost server itself.
        let mut connection = match self.open_connection()? {
            Some(connection) => connection,
            None => Connection::open(&self.endpoint, self.patience)?,
        };
        connection.transport.write(request).map_err(lost)?;
        let head = connection.read_head(method)?;
        if head.status >= 400 {
            let answer = connection.read_answer(&head)?.success();
            let status = match answer {
                Err(error) if head.status == 503 => {
                    return Err(anyhow::Error::new(error).context(Unavailable));
                }
                answer => answer?.status,
            };
            bail!("the server answered with status {status}");
        }
        connection.transport.set_patience(None)?;
        let decoder = BodyDecoder::new(head.framing);
        Ok(Streamed::new(connection, decoder))
    }

    fn exchange(
        &mut self,
        method: &str,
        target: &str,
        payload: Payload<'_>,
    ) -> anyhow::Result<Answer> {
        let head = self.line(method, target);
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
                // A server that does not want the rest answers and closes: its answer is used rather than the broken pipe.
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

    /// Sends a whole request and reads the head of the answer; repeats that with the next server as long as no server
    /// can have taken the request.
    fn ask(&mut self, method: &str, request: &[u8]) -> anyhow::Result<(Connection, ResponseHead)> {
        for pause in UNTAKEN.pauses() {
            let mut connection = self.take_connection()?;
            let sent = connection.transport.write(request);
            match connection.read_head(method) {
                Ok(head) => return Ok((connection, head)),
                Err(error) if !connection.is_untaken(method, &sent, &error) => return Err(error),
                Err(_) => thread::sleep(pause),
            }
        }
        let mut connection = self.take_connection()?;
        connection.transport.write(request).map_err(lost)?;
        let head = connection.read_head(method)?;
        Ok((connection, head))
    }

    /// The connection, if the server has not closed it; else a new one, to its successor if needed. No byte of the
    /// request was sent yet, so this is safe for any method.
    fn take_connection(&mut self) -> anyhow::Result<Connection> {
        if let Some(connection) = self.open_connection()? {
            return Ok(connection);
        }
        let Some((home, launch)) = &self.start else {
            return Connection::open(&self.endpoint, self.patience);
        };
        for pause in UNTAKEN.pauses() {
            // A server that is about to leave answers the first request, and closes.
            if let Some(connection) = start::connect_to_any_or_start(home, launch)?.connection {
                connection.transport.set_patience(self.patience)?;
                return Ok(connection);
            }
            thread::sleep(pause);
        }
        bail!("the server hangs up after every answer")
    }

    fn open_connection(&mut self) -> anyhow::Result<Option<Connection>> {
        let Some(mut connection) = self.connection.take() else {
            return Ok(None);
        };
        let is_open = connection.input.is_empty() && !connection.transport.has_input()?;
        Ok(is_open.then_some(connection))
    }
}

/// Whether a request failed because no server was there, or the server has gone.
pub fn is_lost(error: &anyhow::Error) -> bool {
    let is = |cause: &(dyn std::error::Error + 'static)| cause.is::<io::Error>();
    error.chain().any(is) && error.downcast_ref::<UserError>().is_none()
}

/// Whether a server answered that it cannot do this at the moment (503).
pub fn is_unavailable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Unavailable>().is_some()
}

/// Marks an error for [`is_unavailable`].
#[derive(Debug)]
struct Unavailable;

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not at the moment")
    }
}

impl Answer {
    /// The answer, if its status is a success.
    ///
    /// # Errors
    /// A [`UserError`] with the API's message, or with the status if there is none.
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
    /// When it is not valid JSON of a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        let body = if self.body.is_empty() {
            b"null"
        } else {
            &self.body[..]
        };
        serde_json::from_slice(body).context("the server's answer is not valid")
    }
}
