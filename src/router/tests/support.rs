//! A router with one app, dynos that are threads of the test, and clients that speak by hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tempfile::TempDir;

use super::super::*;
use crate::kernel::listener::inode_of;
use crate::wire::http::{BodyDecoder, Decoded, Framing, HeadLimits, HeadReader};

/// How long anything may take before it counts as not happening.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Settings with which nothing takes long that is waited for.
pub fn quick() -> RouterSettings {
    RouterSettings {
        log_interval: Duration::ZERO,
        gone_interval: Duration::from_millis(20),
        linger_time: Duration::from_millis(500),
        leave_time: Duration::ZERO,
        ..RouterSettings::default()
    }
}

/// A running router.
pub struct Fixture {
    pub router: Option<Router>,
    pub told: Receiver<FromRouter>,
    logs: TempDir,
}

impl Fixture {
    pub fn new(settings: RouterSettings) -> Self {
        let fixture = Self::that_knows_nothing(settings);
        fixture.router().send(ToRouter::Ready);
        fixture
    }

    /// One that is still to be told of the apps that there are.
    pub fn that_knows_nothing(settings: RouterSettings) -> Self {
        let (sender, told) = unbounded();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let router = Router::start(vec![listener], settings, move |news| {
            let _ = sender.send(news);
        });
        Self {
            router: Some(router.unwrap()),
            told,
            logs: tempfile::tempdir().unwrap(),
        }
    }

    /// With one web dyno that is up.
    pub fn with(settings: RouterSettings, dyno: &Dyno) -> Self {
        let fixture = Self::new(settings);
        fixture.set(&[dyno.up()]);
        fixture
    }

    pub fn router(&self) -> &Router {
        self.router.as_ref().unwrap()
    }

    pub fn route(&self, states: &[BackendState]) -> Route {
        Route {
            app: "shop".into(),
            logs: self.logs.path().into(),
            log_limits: Default::default(),
            maintenance: false,
            blank: false,
            backends: (1..)
                .zip(states)
                .map(|(number, state)| Backend {
                    dyno: format!("id-{number}"),
                    name: format!("web.{number}"),
                    state: *state,
                    door: None,
                })
                .collect(),
        }
    }

    /// Tells the router of web.1, web.2, … of the app `shop`.
    pub fn set(&self, states: &[BackendState]) {
        self.set_route(Some(self.route(states)));
    }

    pub fn set_route(&self, route: Option<Route>) {
        let app = "shop".into();
        self.router().send(ToRouter::App { app, route });
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.router().address())
    }

    /// One request on a connection of its own.
    pub fn ask(&self, request: &str) -> Response {
        let mut client = self.connect();
        client.send(request);
        client.response(request.split(' ').next().unwrap_or_default())
    }

    pub fn get(&self, path: &str) -> Response {
        self.ask(&get(path))
    }

    /// The texts of the router's lines in the log, once there are as many.
    pub fn log(&self, lines: usize) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let file = self.logs.path().join("00000001.log");
            let text = std::fs::read_to_string(file).unwrap_or_default();
            if text.lines().count() >= lines && text.ends_with('\n') || lines == 0 {
                let texts = text.lines().map(|line| {
                    let (_, text) = line.split_once(" heroku[router]: ").unwrap();
                    text.to_owned()
                });
                return texts.collect();
            }
            assert!(Instant::now() < until, "{lines} lines are not in {text:?}");
            std::thread::yield_now();
        }
    }

    /// The only line in the log, up to its service time.
    pub fn line(&self) -> String {
        let lines = self.log(1);
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].clone()
    }

    pub fn hear(&self) -> FromRouter {
        self.told.recv_timeout(PATIENCE).unwrap()
    }
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop.localhost\r\n\r\n")
}

/// A response, as far as tests care.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
    /// Whether the body came to its end.
    pub complete: bool,
}

impl Response {
    pub fn has(&self, field: &str) -> bool {
        let field = field.to_ascii_lowercase();
        self.head
            .lines()
            .any(|line| line.to_ascii_lowercase() == field)
    }
}

/// A client's connection.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub fn end(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    fn fill(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(length) => {
                self.buffer.extend_from_slice(&bytes[..length]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&self.buffer)),
        }
    }

    /// The next response to a request with this method, an interim one if that comes first.
    pub fn response(&mut self, method: &str) -> Response {
        let limits = HeadLimits {
            line: 1 << 20,
            head: 2 << 20,
            fields: 1000,
        };
        let mut heads = HeadReader::new(limits);
        let (head, length) = loop {
            match heads.response(&self.buffer, method).unwrap() {
                Some(found) => break found,
                None => assert!(
                    self.fill(),
                    "closed without a response: {:?}",
                    String::from_utf8_lossy(&self.buffer)
                ),
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..length]).into_owned();
        self.buffer.drain(..length);
        let mut decoder = BodyDecoder::new(match head.status {
            100..=199 => Framing::None,
            _ => head.framing,
        });
        let (mut body, mut complete) = (Vec::new(), false);
        loop {
            let mut rest = &self.buffer[..];
            let decoded = loop {
                match decoder.decode(&mut rest).unwrap() {
                    Decoded::Data(data) => body.extend_from_slice(data),
                    other => break other,
                }
            };
            let ended = decoded == Decoded::End;
            let used = self.buffer.len() - rest.len();
            self.buffer.drain(..used);
            if ended {
                complete = true;
                break;
            }
            if !self.fill() {
                complete |= decoder.ends_at_close();
                break;
            }
        }
        Response {
            status: head.status,
            head: text,
            body: String::from_utf8_lossy(&body).into_owned(),
            complete,
        }
    }

    /// Exactly this many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill(), "closed after {:?}", self.buffer);
        }
        self.buffer.drain(..count).collect()
    }

    /// All that comes until the connection ends.
    pub fn rest(&mut self) -> String {
        while self.fill() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }
}

/// A web dyno: a listening socket, and what becomes of each connection.
pub struct Dyno {
    pub address: SocketAddr,
    pub inode: u64,
    listener: TcpListener,
    /// Raw heads and bodies of the requests that came, in their order.
    pub seen: Receiver<Seen>,
    /// How many connections there were.
    connections: Arc<Mutex<usize>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub head: String,
    pub body: String,
    /// Which connection it came on, from 1.
    pub connection: usize,
}

impl Seen {
    pub fn has(&self, field: &str) -> bool {
        let field = field.to_ascii_lowercase();
        self.head
            .lines()
            .any(|line| line.to_ascii_lowercase() == field)
    }
}

impl Dyno {
    /// `serve` has each connection, with its number from 1, and a way to tell what it has seen.
    pub fn start(serve: impl Fn(&mut Server) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = inode_of(listener.try_clone().unwrap().into()).unwrap();
        let (sender, seen) = unbounded();
        let connections = Arc::new(Mutex::new(0));
        let dyno = Self {
            address: listener.local_addr().unwrap(),
            inode,
            listener: listener.try_clone().unwrap(),
            seen,
            connections: connections.clone(),
        };
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let number = {
                    let mut connections = connections.lock().unwrap();
                    *connections += 1;
                    *connections
                };
                stream.set_nodelay(true).unwrap();
                let (serve, sender) = (serve.clone(), sender.clone());
                std::thread::spawn(move || {
                    let mut server = Server {
                        stream,
                        number,
                        sender,
                        buffer: Vec::new(),
                    };
                    serve(&mut server);
                });
            }
        });
        dyno
    }

    /// Answers each request, on connections that stay open, with the bytes that `answer` makes of it.
    pub fn answering(answer: impl Fn(&Seen) -> String + Send + Sync + 'static) -> Self {
        Self::start(move |server| {
            while let Some(seen) = server.request() {
                server.send(answer(&seen));
            }
        })
    }

    /// Says hello.
    pub fn polite() -> Self {
        Self::answering(|_| HELLO.into())
    }

    pub fn up(&self) -> BackendState {
        BackendState::Up(self.as_listener())
    }

    pub fn draining(&self) -> BackendState {
        BackendState::Draining(self.as_listener())
    }

    pub fn as_listener(&self) -> Listener {
        Listener {
            address: self.address,
            inode: self.inode,
            apart: false,
        }
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    pub fn next(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).unwrap()
    }

    /// Listens no more.
    pub fn stop(&self) {
        // Once is enough; a second time is an error of no consequence.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

impl Drop for Dyno {
    fn drop(&mut self) {
        self.stop();
    }
}

pub const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// A dyno's end of a connection.
pub struct Server {
    pub stream: TcpStream,
    pub number: usize,
    sender: Sender<Seen>,
    buffer: Vec<u8>,
}

impl Server {
    /// The next request, whole. None at the end of the connection, or for bytes that are none.
    pub fn request(&mut self) -> Option<Seen> {
        let head = self.head()?;
        let (decoder, text) = head;
        let body = self.body(decoder)?;
        let seen = Seen {
            head: text,
            body,
            connection: self.number,
        };
        let _ = self.sender.send(seen.clone());
        Some(seen)
    }

    /// The head of the next request, and how its body is to be read.
    pub fn head(&mut self) -> Option<(BodyDecoder, String)> {
        let mut heads = HeadReader::new(HeadLimits {
            line: 64 << 10,
            head: 256 << 10,
            fields: 2000,
        });
        loop {
            if let Some((head, length)) = heads.request(&self.buffer).ok()? {
                let text = String::from_utf8_lossy(&self.buffer[..length]).into_owned();
                self.buffer.drain(..length);
                return Some((BodyDecoder::new(head.framing), text));
            }
            self.fill()?;
        }
    }

    pub fn body(&mut self, mut decoder: BodyDecoder) -> Option<String> {
        let mut body = Vec::new();
        loop {
            let mut rest = &self.buffer[..];
            let decoded = loop {
                match decoder.decode(&mut rest).ok()? {
                    Decoded::Data(data) => body.extend_from_slice(data),
                    other => break other,
                }
            };
            let ended = decoded == Decoded::End;
            let used = self.buffer.len() - rest.len();
            self.buffer.drain(..used);
            if ended {
                return Some(String::from_utf8_lossy(&body).into_owned());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Option<()> {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) | Err(_) => None,
            Ok(length) => {
                self.buffer.extend_from_slice(&bytes[..length]);
                Some(())
            }
        }
    }

    /// Some more bytes of what comes, as they are. None at the end.
    pub fn bytes(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() {
            self.fill()?;
        }
        Some(std::mem::take(&mut self.buffer))
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Waits for bytes, and leaves them unread.
    pub fn wait_for_bytes(&mut self) {
        let _ = self.stream.peek(&mut [0]);
    }

    /// Says that something was seen.
    pub fn tell(&self, what: &str) {
        let _ = self.sender.send(Seen {
            head: what.into(),
            body: String::new(),
            connection: self.number,
        });
    }

    /// Reads until the other side has closed; whether it did so before the patience of the test was over.
    pub fn wait_for_end(&mut self) -> bool {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::ConnectionReset,
            }
        }
    }
}
