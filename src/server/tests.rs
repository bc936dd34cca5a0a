//! The API's loop with real sockets and a small application behind it.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::server::api_loop::ApiLoop;
use crate::server::api_loop::application::{
    Application, BodyPlan, Ctx, More, Reply, Request, Ticket,
};
use crate::server::api_loop::connection_limits::ConnectionLimits;
use crate::server::api_loop::listener::ApiSocket;
use crate::server::api_loop::via::Via;
use crate::wire::handover::Handover;
use crate::wire::http::{BodyDecoder, Decoded, HeadReader, RequestHead, Response};
use crate::wire::reactor::{Event, Interest, Token};

mod records;
mod streams;
mod uploads;

const PATIENCE: Duration = Duration::from_secs(20);

/// Answers what its paths say.
struct Small {
    later: Vec<Ticket>,
    gone: usize,
    /// Workers wait here when asked to.
    gate: Receiver<()>,
    /// A descriptor of the application's own on the loop.
    own: (Token, UnixStream),
    own_bytes: Vec<u8>,
    deadlines: usize,
    streams: HashMap<Ticket, Stream>,
    /// Pieces that were asked for and given.
    pieces: usize,
}

/// A streamed response.
enum Stream {
    /// Without end.
    Flood,
    /// What was said by `/say`; None is the end.
    Tail(Vec<Option<Vec<u8>>>),
}

impl Application for Small {
    fn body_plan(&mut self, head: &RequestHead, _: Via) -> BodyPlan {
        match head.path() {
            "/blob" | "/blob/slow" | "/blob/unread" | "/blob/refused" => {
                BodyPlan::Stream { limit: 200 << 20 }
            }
            _ => BodyPlan::Memory,
        }
    }

    fn request(&mut self, request: Request, ctx: &mut Ctx<Self>) -> Reply<Self> {
        match (request.head.method(), request.head.path()) {
            (_, "/ping") => text("pong"),
            ("POST", "/echo") => Reply::Now(Response::new(200).body(request.body)),
            ("GET", "/big") => Reply::Now(Response::new(200).body(vec![b'x'; 8 << 20])),
            ("PUT", path @ ("/blob" | "/blob/slow")) => {
                let gate = (path == "/blob/slow").then(|| self.gate.clone());
                Reply::worker(move |body| {
                    if let Some(gate) = gate {
                        let _ = gate.recv();
                    }
                    let mut hash = Sha256::new();
                    let result = hash_all(body, &mut hash);
                    move |_: &mut Self, _: &mut Ctx<Self>| match result {
                        Ok(length) => text(format!("{length} {:x?}", hash.finalize())),
                        Err(error) => text(format!("{:?}", error.kind())),
                    }
                })
            }
            ("PUT", "/blob/unread") => {
                Reply::worker(|_| |_: &mut Self, _: &mut Ctx<Self>| text("enough"))
            }
            ("PUT", "/blob/refused") => Reply::Now(Response::new(404)),
            ("GET", "/slow") => {
                let gate = self.gate.clone();
                Reply::worker(move |_| {
                    let _ = gate.recv();
                    |_: &mut Self, _: &mut Ctx<Self>| text("done")
                })
            }
            ("GET", "/panic") => {
                Reply::worker(|_| -> fn(&mut Self, &mut Ctx<Self>) -> Reply<Self> {
                    panic!("on purpose")
                })
            }
            ("GET", "/later") => {
                self.later.push(request.ticket);
                Reply::Later
            }
            ("POST", "/answer") => {
                for ticket in self.later.drain(..) {
                    ctx.answer(ticket, text("at last"));
                    ctx.answer(ticket, text("twice"));
                }
                text("answered")
            }
            (_, "/flood") => self.stream(request.ticket, Stream::Flood),
            (_, "/tail") => self.stream(request.ticket, Stream::Tail(Vec::new())),
            ("GET", "/tail/slow") => {
                let gate = self.gate.clone();
                Reply::worker(move |_| {
                    let _ = gate.recv();
                    move |app: &mut Self, _: &mut Ctx<Self>| {
                        app.stream(request.ticket, Stream::Tail(Vec::new()))
                    }
                })
            }
            ("POST", path @ ("/say" | "/end")) => {
                for (ticket, stream) in &mut self.streams {
                    if let Stream::Tail(waiting) = stream {
                        waiting.push((path == "/say").then(|| request.body.clone()));
                        ctx.resume(*ticket);
                    }
                }
                text("said")
            }
            ("GET", "/streams") => text(format!(
                "{} open, {} pieces",
                self.streams.len(),
                self.pieces
            )),
            ("GET", "/attach") => Reply::upgrade(|_, _, socket, bytes| {
                let mut socket = UnixStream::from(socket.into_socket().unwrap());
                socket.set_nonblocking(false).unwrap();
                socket
                    .write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                    .unwrap();
                socket.write_all(&bytes).unwrap();
            }),
            ("GET", "/counts") => text(format!(
                "{} waiting, {} gone, {} connected, own {:?}, {} deadlines",
                self.later.len(),
                self.gone,
                ctx.connections(),
                String::from_utf8_lossy(&self.own_bytes),
                self.deadlines,
            )),
            ("POST", "/stop") => {
                ctx.stop();
                text("bye")
            }
            _ => Reply::Now(Response::new(404)),
        }
    }

    fn event(&mut self, event: Event, ctx: &mut Ctx<Self>) {
        match event {
            Event::Ready { token, .. } if token == self.own.0 => {
                let _ = self.own.1.read_to_end(&mut self.own_bytes);
                ctx.reactor().set_deadline(token, Instant::now());
            }
            Event::Deadline(token) if token == self.own.0 => self.deadlines += 1,
            _ => {}
        }
    }

    fn more(&mut self, ticket: Ticket, _ctx: &mut Ctx<Self>) -> More {
        match self.streams.get_mut(&ticket) {
            Some(Stream::Flood) => {
                self.pieces += 1;
                More::Bytes(vec![b'x'; 64 * 1024])
            }
            Some(Stream::Tail(waiting)) if waiting.is_empty() => More::Later,
            Some(Stream::Tail(waiting)) => match waiting.remove(0) {
                Some(bytes) => More::Bytes(bytes),
                None => {
                    self.streams.remove(&ticket);
                    More::End
                }
            },
            None => More::End,
        }
    }

    fn client_gone(&mut self, ticket: Ticket, _ctx: &mut Ctx<Self>) {
        self.streams.remove(&ticket);
        self.later.retain(|other| *other != ticket);
        self.gone += 1;
    }
}

impl Small {
    fn stream(&mut self, ticket: Ticket, stream: Stream) -> Reply<Self> {
        self.streams.insert(ticket, stream);
        Reply::Stream(Response::new(200).with("Content-Type", "text/plain"))
    }
}

fn text(text: impl Into<String>) -> Reply<Small> {
    Reply::Now(Response::new(200).body(text.into().into_bytes()))
}

fn hash_all(body: &mut impl Read, hash: &mut Sha256) -> std::io::Result<usize> {
    let (mut block, mut sum) = (vec![0; 64 * 1024], 0);
    loop {
        let length = body.read(&mut block)?;
        if length == 0 {
            return Ok(sum);
        }
        hash.update(&block[..length]);
        sum += length;
    }
}

/// A loop on a thread of its own, stopped and joined when dropped.
struct Server {
    path: PathBuf,
    own: UnixStream,
    gate: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl Server {
    fn start(limits: ConnectionLimits) -> Self {
        // Both ends of every connection are this process's, beside what other tests have open.
        crate::kernel::open_files::set_soft_limit(u64::MAX).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let listener = ApiSocket::bind(path.clone()).unwrap();
        let (own, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let (gate, wait) = crossbeam_channel::unbounded();
        let thread = std::thread::spawn(move || {
            let api = ApiLoop::new(listener, None, Handover::default(), limits, |ctx| {
                let token = ctx.reactor().token();
                ctx.reactor().register(&theirs, token, Interest::READABLE)?;
                Ok(Small {
                    later: Vec::new(),
                    gone: 0,
                    gate: wait,
                    own: (token, theirs),
                    own_bytes: Vec::new(),
                    deadlines: 0,
                    streams: HashMap::new(),
                    pieces: 0,
                })
            });
            api.unwrap().serve().unwrap();
        });
        Self {
            path,
            own,
            gate: Some(gate),
            thread: Some(thread),
            _folder: folder,
        }
    }

    fn client(&self) -> Client {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            bytes: Vec::new(),
        }
    }

    /// Asks for `/counts` until they are as expected.
    fn wait_for_counts(&self, expected: &str) {
        self.wait_for("/counts", expected);
    }

    fn wait_for(&self, path: &str, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counts = self.client().get(path);
            if counts.contains(expected) {
                return;
            }
            assert!(Instant::now() < deadline, "{counts}, not {expected}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.gate = None;
        if let Ok(mut stream) = UnixStream::connect(&self.path) {
            let _ = stream.write_all(b"POST /stop HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
        assert!(!self.path.exists());
    }
}

struct Client {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Client {
    fn send(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(text.as_ref()).unwrap();
        self
    }

    fn read(&mut self) -> usize {
        let mut buffer = [0; 16 * 1024];
        let length = match self.stream.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            result => result.unwrap(),
        };
        self.bytes.extend_from_slice(&buffer[..length]);
        length
    }

    fn response(&mut self) -> (u16, String) {
        let mut heads = HeadReader::new(crate::wire::http::HeadLimits::API);
        let (head, length) = loop {
            if let Some(found) = heads.response(&self.bytes, "GET").unwrap() {
                break found;
            }
            assert!(self.read() > 0, "the end instead of a response");
        };
        self.bytes.drain(..length);
        let (mut decoder, mut body) = (BodyDecoder::new(head.framing), Vec::new());
        loop {
            let mut rest = &self.bytes[..];
            let decoded = decoder.decode(&mut rest).unwrap();
            if let Decoded::Data(data) = decoded {
                body.extend_from_slice(data);
            }
            let ended = decoded == Decoded::End;
            let used = self.bytes.len() - rest.len();
            self.bytes.drain(..used);
            if ended {
                return (head.status, String::from_utf8(body).unwrap());
            }
            if self.bytes.is_empty() && decoder.clone().decode(&mut &[][..]) != Ok(Decoded::End) {
                assert!(self.read() > 0, "the end in the middle of a body");
            }
        }
    }

    fn get(&mut self, path: &str) -> String {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .response()
            .1
    }

    fn ended(&mut self) -> bool {
        self.bytes.is_empty() && self.read() == 0
    }
}

#[test]
fn one_connection_serves_many_requests() {
    let server = Server::start(ConnectionLimits::default());
    let mut client = server.client();
    for _ in 0..3 {
        assert_eq!(client.get("/ping"), "pong");
    }
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response(), (200, "hello".to_owned()));
    client.send("HEAD /ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    while client.read() > 0 {}
    assert!(
        client
            .bytes
            .ends_with(b"Content-Length: 4\r\nConnection: close\r\n\r\n")
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(ConnectionLimits::default());
    let mut client = server.client();
    let mut bytes = String::new();
    for number in 0..200 {
        bytes += &format!(
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{number:03}\r\n0\r\n\r\n"
        );
        if number == 100 {
            bytes += "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
        }
    }
    client.send(bytes);
    server.gate.as_ref().unwrap().send(()).unwrap();
    for number in 0..200 {
        assert_eq!(client.response().1, format!("{number:03}"));
        if number == 100 {
            assert_eq!(client.response().1, "done");
        }
    }
}

#[test]
fn a_big_response_waits_for_a_slow_reader() {
    let server = Server::start(ConnectionLimits::default());
    let mut slow = server.client();
    slow.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\nGET /ping HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(server.client().get("/ping"), "pong");
    assert_eq!(slow.response().1.len(), 8 << 20);
    assert_eq!(slow.response().1, "pong");
}

#[test]
fn a_trickle_runs_into_the_deadline_all_the_same() {
    let time = Duration::from_millis(200);
    let server = Server::start(ConnectionLimits {
        head_time: time,
        body_time: time,
        ..ConnectionLimits::default()
    });
    for start in [
        "GET /",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n",
    ] {
        let mut client = server.client();
        client
            .stream
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        client.send(start);
        let begun = Instant::now();
        let mut buffer = [0; 1024];
        let length = loop {
            let _ = client.stream.write_all(b"a");
            match client.stream.read(&mut buffer) {
                Ok(length) => break length,
                Err(_) => assert!(begun.elapsed() < PATIENCE),
            }
        };
        assert!(buffer[..length].starts_with(b"HTTP/1.1 408 "));
        assert!(begun.elapsed() >= time);
    }
}

#[test]
fn an_idle_client_is_sent_away() {
    let idle_time = Duration::from_millis(100);
    let server = Server::start(ConnectionLimits {
        idle_time,
        ..ConnectionLimits::default()
    });
    assert!(server.client().ended());
}

#[test]
fn malformed_requests_are_told_so_and_hung_up_on() {
    let server = Server::start(ConnectionLimits::default());
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\n");
    assert_eq!(client.response().0, 404);
    let (status, body) = client.response();
    assert_eq!((status, body.contains("line ends without CR")), (400, true));
    assert!(client.ended());
    let mut client = server.client();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n");
    assert_eq!(client.response().0, 400);
}

#[test]
fn a_half_closed_client_gets_its_answers() {
    let server = Server::start(ConnectionLimits::default());
    let mut client = server.client();
    client.send("GET /ping HTTP/1.1\r\nHost: a\r\n\r\nGET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.response().1, "pong");
    server.gate.as_ref().unwrap().send(()).unwrap();
    assert_eq!(client.response().1, "done");
    assert!(client.ended());
}

#[test]
fn later_answers_come_and_those_for_nobody_are_dropped() {
    let server = Server::start(ConnectionLimits::default());
    let mut waiting = server.client();
    waiting.send("GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
    server
        .client()
        .send("GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_for_counts("1 waiting, 1 gone");
    assert_eq!(
        server
            .client()
            .send("POST /answer HTTP/1.1\r\nHost: a\r\n\r\n")
            .response()
            .1,
        "answered"
    );
    assert_eq!(waiting.response().1, "at last");
    assert_eq!(waiting.get("/ping"), "pong");
}

#[test]
fn a_client_may_leave_while_a_worker_is_busy() {
    let server = Server::start(ConnectionLimits::default());
    server
        .client()
        .send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_for_counts("1 gone");
    server.gate.as_ref().unwrap().send(()).unwrap();
    assert_eq!(server.client().get("/ping"), "pong");
}

#[test]
fn a_request_is_served_even_if_its_client_has_left() {
    let server = Server::start(ConnectionLimits::default());
    let mut waiting = server.client();
    waiting.send("GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_for_counts("1 waiting");
    server
        .client()
        .send("POST /answer HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(waiting.response().1, "at last");
}

#[test]
fn a_worker_that_panics_costs_one_request() {
    let server = Server::start(ConnectionLimits {
        workers: 1,
        ..ConnectionLimits::default()
    });
    let mut client = server.client();
    assert_eq!(
        client
            .send("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n")
            .response()
            .0,
        500
    );
    server.gate.as_ref().unwrap().send(()).unwrap();
    assert_eq!(client.get("/slow"), "done");
}

#[test]
fn too_much_work_is_refused() {
    let server = Server::start(ConnectionLimits {
        workers: 1,
        queued_jobs: 1,
        ..ConnectionLimits::default()
    });
    let mut clients: Vec<_> = (0..3).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    // One runs, one waits at most; so at least one of three hears of it.
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        let refused = clients.iter_mut().find_map(|client| {
            client
                .stream
                .set_read_timeout(Some(Duration::from_millis(10)))
                .unwrap();
            let mut buffer = [0; 512];
            client
                .stream
                .read(&mut buffer)
                .ok()
                .map(|length| buffer[..length].to_vec())
        });
        if let Some(refused) = refused {
            break refused;
        }
        assert!(Instant::now() < deadline);
    };
    assert!(refused.starts_with(b"HTTP/1.1 503 "));
}

#[test]
fn an_upgraded_connection_is_given_away_with_what_was_read() {
    let server = Server::start(ConnectionLimits::default());
    let mut client = server.client();
    // One write on a Unix socket is one read at the other end.
    let head = "Host: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    client.send(format!(
        "GET /ping HTTP/1.1\r\nHost: a\r\n\r\nGET /attach HTTP/1.1\r\n{head}early"
    ));
    assert_eq!(client.response().1, "pong");
    while client.read() > 0 {}
    assert_eq!(
        client.bytes,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\nearly"
    );
    server.wait_for_counts("0 gone, 1 connected");
}

#[test]
fn five_hundred_idle_clients_disturb_nobody() {
    let server = Server::start(ConnectionLimits::default());
    let idle: Vec<_> = (0..500).map(|_| server.client()).collect();
    server.wait_for_counts("501 connected");
    assert_eq!(server.client().get("/ping"), "pong");
    drop(idle);
    server.wait_for_counts("1 connected");
}

#[test]
fn clients_above_the_bound_wait_for_their_turn() {
    let server = Server::start(ConnectionLimits {
        connections: 2,
        ..ConnectionLimits::default()
    });
    let (mut first, second) = (server.client(), server.client());
    assert_eq!(first.get("/ping"), "pong");
    let mut third = server.client();
    third.send("GET /ping HTTP/1.1\r\nHost: a\r\n\r\n");
    third
        .stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    assert!(third.stream.read(&mut [0; 1]).is_err());
    third.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(second);
    assert_eq!(third.response().1, "pong");
    drop(third);
}

#[test]
fn the_application_has_sources_and_deadlines_of_its_own() {
    let mut server = Server::start(ConnectionLimits::default());
    server.own.write_all(b"snapshot").unwrap();
    server.wait_for_counts("own \"snapshot\", 1 deadlines");
}

#[test]
fn stopping_answers_what_was_asked() {
    let server = Server::start(ConnectionLimits::default());
    let (mut idle, mut slow) = (server.client(), server.client());
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.get("/ping"), "pong");
    let mut stopper = server.client();
    assert_eq!(
        stopper
            .send("POST /stop HTTP/1.1\r\nHost: a\r\n\r\n")
            .response()
            .1,
        "bye"
    );
    assert!(stopper.ended() && idle.ended());
    assert!(UnixStream::connect(&server.path).is_err());
    server.gate.as_ref().unwrap().send(()).unwrap();
    assert_eq!(slow.response().1, "done");
}
