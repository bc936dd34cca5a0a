//! The client with real servers: the API's loop on a thread, and a process that it starts itself.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::start::{Launch, connect_or_start};
use super::*;
use crate::api::ApiError;
use crate::api::ask::{Ask, ServerAsk};
use crate::api::server::{Build, ReplaceServer, ServerInfo};
use crate::error::tell;
use crate::home::Home;
use crate::kernel::unix_socket;
use crate::server::api_loop::application::{
    Application, BodyPlan, Ctx, More, Reply, Request, Ticket,
};
use crate::server::api_loop::connection_limits::ConnectionLimits;
use crate::server::api_loop::via::Via;
use crate::server::process::replacement;
use crate::server::process::startup;
use crate::wire::handover::Handover;
use crate::wire::http::{RequestHead, Response};

/// How long anything may take that is waited for here.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of a few requests.
struct StandIn {
    server: ServerInfo,
    /// What is still to be streamed.
    pieces: Vec<More>,
}

impl Application for StandIn {
    fn body_plan(&mut self, head: &RequestHead, _: Via) -> BodyPlan {
        match head.method() {
            "PUT" => BodyPlan::Stream { limit: 8 << 20 },
            _ => BodyPlan::Memory,
        }
    }

    fn request(&mut self, request: Request, ctx: &mut Ctx<Self>) -> Reply<Self> {
        match Ask::parse(request.head.method(), request.head.path(), None) {
            Ok(Ask::Server(ServerAsk::Info)) => {
                return Reply::Now(Response::json(200, &self.server));
            }
            Ok(Ask::Server(ServerAsk::Replace)) => {
                let room = replacement::make_room(&self.server, &request, ctx);
                let refused = |error: ApiError| Response::json(error.status(), &error);
                return room.unwrap_or_else(|error| Reply::Now(refused(error)));
            }
            _ => {}
        }
        match (request.head.method(), request.head.path()) {
            ("POST", "/echo") => Reply::Now(
                Response::new(201)
                    .with("Content-Type", "application/json")
                    .body(request.body),
            ),
            ("DELETE", _) => Reply::Now(Response::new(204)),
            ("PUT", "/refused") => {
                let error = json!({"id": "no", "message": "no room", "hint": "make some"});
                Reply::Now(Response::json(507, &error))
            }
            ("PUT", _) => Reply::worker(|body| {
                let length = io::copy(body, &mut io::sink());
                move |_: &mut Self, _: &mut Ctx<Self>| {
                    Reply::Now(Response::json(
                        200,
                        &length.map_err(|error| error.to_string()),
                    ))
                }
            }),
            ("GET", "/list") => {
                let from: u32 = match request.head.fields.get("range") {
                    Some(range) => range.parse().unwrap(),
                    None => 0,
                };
                let part = Response::json(206, &[from, from + 1]);
                Reply::Now(match from {
                    4 => Response::json(200, &[from]),
                    from => part.with("Next-Range", (from + 2).to_string()),
                })
            }
            ("GET", "/list/endless") => {
                Reply::Now(Response::json(206, &[1]).with("Next-Range", "1"))
            }
            ("GET", "/stream") => {
                let piece = |text: &str| More::Bytes(text.as_bytes().to_vec());
                self.pieces = vec![More::End, piece("two"), piece(""), piece("one")];
                Reply::Stream(Response::new(200))
            }
            ("GET", "/stream/cut") => {
                self.pieces = vec![More::Later, More::Bytes(b"one".to_vec())];
                Reply::Stream(Response::new(200))
            }
            ("GET", "/attach") => Reply::upgrade(|_, _, socket, _| {
                let socket = UnixStream::from(socket.into_socket().unwrap());
                let file = File::open("/dev/null").unwrap();
                (&socket)
                    .write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                    .unwrap();
                unix_socket::send(&socket, b"hello", &[file.as_fd()]).unwrap();
            }),
            _ => {
                let error = json!({"id": "not_found", "message": "no such thing", "hint": "look"});
                Reply::Now(Response::json(404, &error))
            }
        }
    }

    fn more(&mut self, _: Ticket, _: &mut Ctx<Self>) -> More {
        self.pieces.pop().unwrap_or(More::Later)
    }
}

struct Server {
    home: Home,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl Server {
    fn start(version: &str, limits: ConnectionLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let server = ServerInfo {
            build: Build {
                version: version.to_owned(),
                id: version.to_owned(),
                ..Build::default()
            },
            pid: std::process::id(),
            idle: true,
        };
        // Started like any other; the lock and the socket are in place when `make` is called.
        let (listens, wait) = crossbeam_channel::bounded(1);
        let theirs = home.clone();
        let thread = thread::spawn(move || {
            let run = || serve_in_this_process(&theirs, limits, server, listens);
            run().unwrap();
        });
        wait.recv().unwrap();
        Self {
            home,
            thread: Some(thread),
            _folder: folder,
        }
    }

    fn client(&self) -> Client {
        let mut client = Client::connect(&self.home.api_socket()).unwrap();
        client.set_patience(Some(Duration::from_secs(20))).unwrap();
        client
    }
}

fn serve_in_this_process(
    home: &Home,
    limits: ConnectionLimits,
    server: ServerInfo,
    listens: crossbeam_channel::Sender<()>,
) -> anyhow::Result<()> {
    startup::serve(home, false, Handover::default(), limits, |_| {
        listens.send(())?;
        Ok(StandIn {
            server,
            pieces: Vec::new(),
        })
    })?;
    Ok(())
}

impl Drop for Server {
    fn drop(&mut self) {
        stop(&self.home);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

fn stop(home: &Home) {
    if let Ok(mut client) = Client::connect(&home.api_socket()) {
        let build = Build {
            version: "1000000.0.0".to_owned(),
            ..Build::default()
        };
        let _ = client.post::<Value>(
            "/server/actions/replace",
            &ReplaceServer {
                build,
                stays: false,
            },
        );
    }
}

fn user_error(error: &anyhow::Error) -> &UserError {
    error
        .downcast_ref()
        .unwrap_or_else(|| panic!("not a user's error: {error:#}"))
}

#[test]
fn requests_share_a_connection_and_errors_are_the_apis() {
    let server = Server::start("a", ConnectionLimits::default());
    let mut client = server.client();
    let value = json!({"name": "shop", "n": [1, 2]});
    assert_eq!(client.post::<Value>("/echo", &value).unwrap(), value);
    client.delete::<()>("/x").unwrap();
    let error = client.get::<Value>("/nowhere").unwrap_err();
    let expected = UserError::new("no such thing").hint("look");
    assert_eq!(user_error(&error), &expected);
    assert_eq!(client.get::<ServerInfo>("/server").unwrap().build.id, "a");
    assert!(client.get::<u32>("/server").is_err());
}

#[test]
fn a_list_in_parts_is_one_list() {
    let server = Server::start("one", ConnectionLimits::default());
    let mut client = server.client();
    let list: Vec<u32> = client.get_list("/list").unwrap();
    assert_eq!(list, [0, 1, 2, 3, 4]);
    let endless = client.get_list::<u32>("/list/endless").unwrap_err();
    assert_eq!(endless.to_string(), "the server lists without end");
    assert!(client.get_list::<u32>("/nothing").is_err());
}

#[test]
fn a_connection_that_the_server_has_closed_is_made_anew() {
    let idle_time = Duration::from_millis(50);
    let server = Server::start(
        "a",
        ConnectionLimits {
            idle_time,
            ..Default::default()
        },
    );
    let mut client = server.client();
    client.get::<Value>("/server").unwrap();
    let transport = &mut client.connection.as_mut().unwrap().transport;
    let deadline = Instant::now() + PATIENCE;
    while !transport.has_input().unwrap() {
        assert!(Instant::now() < deadline, "the server keeps the connection");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(client.post::<Value>("/echo", &1).unwrap(), 1);
}

#[test]
fn an_upload_is_streamed_and_may_be_refused_in_the_middle() {
    let server = Server::start("a", ConnectionLimits::default());
    let mut client = server.client();
    let put = |client: &mut Client, target: &str, length: u64| {
        let mut content = io::repeat(b'a').take(length);
        client.upload::<Value>("PUT", target, "application/gzip", &mut content)
    };
    assert_eq!(
        put(&mut client, "/blob", 5 << 20).unwrap(),
        json!({"Ok": 5 << 20})
    );
    assert_eq!(put(&mut client, "/blob", 0).unwrap(), json!({"Ok": 0}));
    let refused = put(&mut client, "/refused", 1 << 40).unwrap_err();
    assert_eq!(user_error(&refused).hint.as_deref(), Some("make some"));
    let too_big = put(&mut client, "/blob", 1 << 40).unwrap_err();
    assert_eq!(
        user_error(&too_big).message,
        "too many bytes in the body: 8388608 at most"
    );
    assert_eq!(client.post::<Value>("/echo", &1).unwrap(), 1);

    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("bad disk"))
        }
    }
    assert!(
        client
            .upload::<Value>("PUT", "/blob", "x", &mut Broken)
            .is_err()
    );
    assert_eq!(client.post::<Value>("/echo", &2).unwrap(), 2);
}

/// Serves `path`: of the first two connections the request is read, or not, and they are closed; the third is answered.
fn dies_twice(path: &std::path::Path, read: bool) -> JoinHandle<Vec<String>> {
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let mut heads = Vec::new();
        for last in [false, false, true] {
            let (mut connection, _) = listener.accept().unwrap();
            // It is there, and stays unread unless it is to be read.
            let source = PollFd::new(&connection, PollFlags::IN);
            rustix::event::poll(&mut [source], None).unwrap();
            if read || last {
                let mut request = [0; 4096];
                let length = connection.read(&mut request).unwrap();
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                heads.push(text.lines().next().unwrap().to_owned());
            }
            if last {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7";
                connection.write_all(answer).unwrap();
            }
        }
        heads
    })
}

#[test]
fn a_request_that_nobody_took_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    for body in [json!("small"), json!("x".repeat(1 << 20))] {
        let server = dies_twice(&path, false);
        let mut client = Client::connect(&path).unwrap();
        assert_eq!(client.post::<u32>("/x", &body).unwrap(), 7);
        assert_eq!(server.join().unwrap(), ["POST /x HTTP/1.1"]);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_request_that_may_have_been_taken_is_sent_again_only_if_that_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let server = dies_twice(&path, true);
    let mut client = Client::connect(&path).unwrap();
    let error = client.post::<u32>("/x", &1).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "lost the connection to the server: unexpected end of file"
    );
    assert_eq!(client.get::<u32>("/y").unwrap(), 7);
    let heads = server.join().unwrap();
    assert_eq!(
        heads,
        ["POST /x HTTP/1.1", "GET /y HTTP/1.1", "GET /y HTTP/1.1"]
    );
}

#[test]
fn a_request_finds_the_successor_of_a_server_that_has_left() {
    let home = Started::new();
    let mut client = connect_or_start(&home.home, &launch("server_process")).unwrap();
    let first: ServerInfo = client.get("/server").unwrap();
    for _ in 0..3 {
        stop(&home.home);
        // It may be there still, be leaving, or be gone.
        assert_eq!(client.post::<Value>("/echo", &1).unwrap(), 1);
    }
    assert_ne!(client.get::<ServerInfo>("/server").unwrap().pid, first.pid);
}

#[test]
fn an_upgrade_keeps_what_came_with_it() {
    let server = Server::start("a", ConnectionLimits::default());
    let mut upgraded = server.client().upgrade("/attach", "dyno-attach/1").unwrap();
    let receive = sockopt::Timeout::Recv;
    sockopt::set_socket_timeout(&upgraded.socket, receive, Some(PATIENCE)).unwrap();
    let mut buffer = [0; 64];
    while upgraded.received.len() < 5 {
        let length =
            unix_socket::receive(&upgraded.socket, &mut buffer, &mut upgraded.fds).unwrap();
        assert!(length > 0);
        upgraded.received.extend_from_slice(&buffer[..length]);
    }
    assert_eq!(upgraded.received, b"hello");
    assert_eq!(upgraded.fds.len(), 1);
    let error = server.client().upgrade("/nowhere", "x").unwrap_err();
    assert_eq!(user_error(&error).message, "no such thing");
}

#[test]
fn a_streamed_answer_is_read_as_it_comes_and_a_cut_is_no_end() {
    let server = Server::start("a", ConnectionLimits::default());
    let mut client = server.client();
    let mut stream = client.stream("/stream").unwrap();
    let mut body = Vec::new();
    while stream.read(&mut body).unwrap() {}
    assert_eq!(body, b"onetwo");
    assert!(!stream.read(&mut body).unwrap() && stream.waits_for().is_none());

    let mut cut = client.stream("/stream/cut").unwrap();
    body.clear();
    assert!(cut.read(&mut body).unwrap());
    assert_eq!(body, b"one");
    assert!(cut.waits_for().is_some());
    drop(server);
    let error = cut.read(&mut body).unwrap_err();
    assert!(is_lost(&error), "{error:#}");
    let error = client.stream("/stream").unwrap_err();
    assert!(is_lost(&error), "{error:#}");
}

#[test]
fn a_refused_stream_is_the_apis_error() {
    let server = Server::start("a", ConnectionLimits::default());
    let error = server.client().stream("/nowhere").unwrap_err();
    assert_eq!(user_error(&error).message, "no such thing");
    assert!(!is_lost(&error));
}

#[test]
fn a_silent_server_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut client = Client::connect(&path).unwrap();
    client
        .set_patience(Some(Duration::from_millis(20)))
        .unwrap();
    let error = client.get::<Value>("/server").unwrap_err();
    assert_eq!(error.to_string(), "the server does not answer");
}

/// Runs a test of this file as a server of its own, in the place of `dyno server --idle`.
fn launch(test: &str) -> Launch {
    let name = format!("cli::client::tests::{test}");
    let args = [name.as_str(), "--exact", "--ignored", "--nocapture"];
    Launch {
        program: std::env::current_exe().unwrap(),
        args: args.into_iter().map(Into::into).collect(),
    }
}

#[test]
#[ignore = "the server that the other tests start"]
fn server_process() {
    let home = Home::of_process().unwrap();
    let server = replacement::this_server(true);
    let served = startup::serve(
        &home,
        true,
        Handover::default(),
        ConnectionLimits::default(),
        |_| {
            Ok(StandIn {
                server,
                pieces: Vec::new(),
            })
        },
    );
    if let Err(error) = served {
        tell!("error: {error:#}");
        std::process::exit(1);
    }
}

#[test]
#[ignore = "a server that is killed while it starts, as long as there is a file, for the other tests"]
fn dying_server_process() {
    let home = Home::of_process().unwrap();
    if std::fs::remove_file(home.path().join("die")).is_ok() {
        let _ = signal_hook::low_level::raise(signal_hook::consts::SIGKILL);
    }
    server_process();
}

#[test]
#[ignore = "a server that fails to start, for the other tests"]
fn failing_server_process() {
    let home = Home::of_process().unwrap();
    let failed = startup::serve(
        &home,
        true,
        Handover::default(),
        ConnectionLimits::default(),
        |_| anyhow::bail!("the disk is on fire") as anyhow::Result<StandIn>,
    );
    tell!("error: {:#}", failed.err().unwrap());
    std::process::exit(1);
}

/// A home whose server is stopped at the end.
struct Started {
    home: Home,
    _folder: TempDir,
}

impl Started {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Beyond what fits in a socket's address.
        let path = folder.path().join("d".repeat(110));
        Self {
            home: Home::open(&path).unwrap(),
            _folder: folder,
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        stop(&self.home);
        let deadline = Instant::now() + PATIENCE;
        while self.home.api_socket().exists() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn clients_at_once_start_one_server() {
    let home = Started::new();
    let launch = launch("server_process");
    let pids: Vec<u32> = thread::scope(|scope| {
        let clients = (0..6).map(|_| {
            scope.spawn(|| {
                let mut client = connect_or_start(&home.home, &launch).unwrap();
                client.get::<ServerInfo>("/server").unwrap().pid
            })
        });
        let clients: Vec<_> = clients.collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    assert!(
        pids.iter()
            .all(|pid| *pid == pids[0] && *pid != std::process::id()),
        "{pids:?}"
    );

    // A daemon: its own session, nothing open but what it opened, a small environment.
    let of_server = |name: &str| std::fs::read_link(format!("/proc/{}/{name}", pids[0])).unwrap();
    assert_eq!(of_server("cwd").to_str(), Some("/"));
    assert_eq!(of_server("fd/0").to_str(), Some("/dev/null"));
    assert_eq!(of_server("fd/2"), home.home.server_log());
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pids[0])).unwrap();
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(fields[3], pids[0].to_string(), "session");
    let environ = std::fs::read(format!("/proc/{}/environ", pids[0])).unwrap();
    assert!(!String::from_utf8_lossy(&environ).contains("CARGO_"));
}

#[test]
fn a_stale_socket_does_not_stand_in_the_way() {
    let home = Started::new();
    drop(unix_socket::listen(&home.home.api_socket(), unix_socket::SocketType::STREAM, 1).unwrap());
    assert!(home.home.api_socket().exists());
    connect_or_start(&home.home, &launch("server_process")).unwrap();
}

#[test]
fn an_idle_server_of_an_older_build_is_replaced_and_leaves_its_socket() {
    let old = Server::start("0.0.1", ConnectionLimits::default());
    let socket = std::fs::metadata(old.home.api_socket()).unwrap().ino();
    let launch = launch("server_process");
    let mut client = connect_or_start(&old.home, &launch).unwrap();
    let new: ServerInfo = client.get("/server").unwrap();
    assert_eq!(new.build, crate::kernel::executable::build());
    assert_ne!(new.pid, std::process::id());
    assert_eq!(
        std::fs::metadata(old.home.api_socket()).unwrap().ino(),
        socket
    );
}

#[test]
fn a_server_of_a_newer_build_stays() {
    let new = Server::start("1000.0.0", ConnectionLimits::default());
    let launch = launch("server_process");
    let mut client = connect_or_start(&new.home, &launch).unwrap();
    let found: ServerInfo = client.get("/server").unwrap();
    assert_eq!(found.pid, std::process::id());
    // A program of before asks without saying who it is.
    let refused = client
        .post::<Value>("/server/actions/replace", &())
        .unwrap_err();
    assert!(
        refused.to_string().contains("of no older build"),
        "{refused}"
    );
    assert_eq!(client.post::<Value>("/echo", &1).unwrap(), 1);
}

#[test]
fn a_server_that_fails_to_start_says_why() {
    let home = Started::new();
    let error = connect_or_start(&home.home, &launch("failing_server_process")).unwrap_err();
    let error = user_error(&error);
    assert!(error.message.contains("the disk is on fire"), "{error}");
    assert!(error.hint.as_ref().unwrap().contains("server.log"));
    let missing = Launch {
        program: "/nonexistent".into(),
        args: Vec::new(),
    };
    assert!(connect_or_start(&home.home, &missing).is_err());
}

#[test]
fn a_server_that_is_killed_while_it_starts_is_followed_by_another() {
    let home = Started::new();
    std::fs::write(home.home.path().join("die"), "").unwrap();
    let mut client = connect_or_start(&home.home, &launch("dying_server_process")).unwrap();
    assert_eq!(client.post::<Value>("/echo", &1).unwrap(), 1);
}

#[test]
fn a_second_server_says_who_has_the_lock() {
    let server = Server::start("a", ConnectionLimits::default());
    let second = startup::serve(
        &server.home,
        false,
        Handover::default(),
        ConnectionLimits::default(),
        |_| anyhow::bail!("must not get this far") as anyhow::Result<StandIn>,
    );
    let error = second.err().unwrap();
    let expected = format!("a server (process {}) already runs", std::process::id());
    assert!(user_error(&error).message.starts_with(&expected), "{error}");
}
