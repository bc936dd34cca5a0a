//! The router of a real server: who gets requests, who never does, and that nobody is sent away while dynos change.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{AtEnd, DEADLINE, Host, eventually, lacks, own_router};

/// A copy of `tests/apps/NAME` called `shop`, deployed, and up.
pub fn shop(host: &Host, fixture: &str) -> PathBuf {
    let app = host.folder_as(fixture, "shop");
    host.dyno(&app, &["deploy"])
        .finish()
        .succeeds()
        .mentions("Launching... done\n");
    app
}

/// Where the host's router listens.
pub fn router(host: &Host) -> SocketAddr {
    let status = host
        .dyno(&host.path(), &["server:status", "--json"])
        .finish();
    let status: Value = serde_json::from_str(&status.succeeds().text()).unwrap();
    status["router"]
        .as_str()
        .expect("a router")
        .parse()
        .unwrap()
}

fn connect(router: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(router).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    BufReader::new(stream)
}

/// Status and body of the answer to one request for `shop` on this connection.
fn ask(connection: &mut BufReader<TcpStream>, path: &str) -> std::io::Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop.localhost\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes())?;
    let (mut status, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if status.is_none() {
            status = line
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok());
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    Ok((status.unwrap(), String::from_utf8_lossy(&body).into_owned()))
}

/// The status and body of the answer to a visitor of the app `shop`.
pub fn get(router: SocketAddr, path: &str) -> (u16, String) {
    ask(&mut connect(router), path).unwrap()
}

/// The last line of the router in the log says this.
fn logged(host: &Host, text: &str) {
    eventually(text, || {
        host.log_lines()
            .iter()
            .any(|line| line.starts_with("heroku[router]: ") && line.contains(text))
            .then_some(())
    });
}

#[test]
fn web_dynos_get_requests_and_a_one_off_that_listens_never_does() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = shop(&host, "web");
    let router = router(&host);
    // It listens on its own $PORT, as a web dyno does.
    host.dyno(&app, &["run:detached", "-q", "exec python3 web.py"])
        .finish()
        .prints("run.1\n");
    host.wait_for_log("app[run.1]: listening");
    let mut connection = connect(router);
    for _ in 0..30 {
        assert_eq!(get(router, "/dyno"), (200, "web.1\n".to_owned()));
        assert_eq!(ask(&mut connection, "/dyno").unwrap().1, "web.1\n");
    }
    logged(
        &host,
        "at=info method=GET path=\"/dyno\" host=shop.localhost ",
    );
    host.dyno(&app, &["ps:scale", "web=3"]).finish().succeeds();
    host.dyno(&app, &["ps:wait"]).finish().succeeds();
    let mut seen = BTreeMap::new();
    eventually("all three", || {
        let (status, dyno) = get(router, "/dyno");
        assert_eq!(status, 200);
        *seen.entry(dyno).or_insert(0) += 1;
        (seen.len() == 3).then_some(())
    });
    assert!(seen.keys().all(|name| name.starts_with("web.")), "{seen:?}");
    host.dyno(&app, &["ps:scale", "web=0"]).finish().succeeds();
    eventually("nobody to ask", || {
        // The last dyno may end with a visitor, who gets another error.
        get(router, "/dyno");
        let lines = host.log_lines();
        let asked = "at=error code=H14 desc=\"No web processes running\"";
        lines.iter().any(|line| line.contains(asked)).then_some(())
    });
}

#[test]
fn of_a_destroyed_app_nobody_knows_any_more() {
    if lacks("python3") {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = shop(&host, "web");
    let router = router(&host);
    assert_eq!(get(router, "/").0, 200);
    host.dyno(&app, &["apps:destroy", "--confirm", "shop"])
        .finish()
        .succeeds();
    for _ in 0..10 {
        assert_eq!(get(router, "/").0, 404);
    }
    // Its log went with it, and does not come back.
    eventually("no log", || {
        let mut logs = std::fs::read_dir(host.state().join("logs")).unwrap();
        logs.next().is_none().then_some(())
    });
    assert_eq!(get(router, "/").0, 404);
}

/// The port that a dyno was given.
fn port_of(host: &Host, app: &Path, dyno: &str) -> u16 {
    let inside = host.dyno(app, &["run:inside", dyno, "echo $PORT"]).finish();
    inside.succeeds().text().trim().parse().unwrap()
}

#[test]
fn whoever_takes_a_web_dynos_port_gets_nothing() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = shop(&host, "stops-listening");
    let router = router(&host);
    let port = port_of(&host, &app, "web.1");
    assert_eq!(get(router, "/").0, 200);
    assert_eq!(get(router, "/close").0, 200);
    host.wait_for_log("app[web.1]: closed");
    let thief = eventually("the port", || TcpListener::bind(("127.0.0.1", port)).ok());
    let stolen = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Until the test itself says that it is over.
            for stream in thief.incoming() {
                let mut bytes = Vec::new();
                let mut stream = stream.unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                let _ = stream.read_to_end(&mut bytes);
                if bytes == b"over" {
                    return;
                }
                stolen.fetch_add(bytes.len(), Ordering::SeqCst);
            }
        });
        let _over = AtEnd(|| {
            if let Ok(mut thief) = TcpStream::connect(("127.0.0.1", port)) {
                let _ = thief.write_all(b"over");
            }
        });
        // Requests wait for a dyno that listens again: so they are not waited for.
        for _ in 0..5 {
            let mut connection = connect(router);
            let request = b"GET /stolen HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
            connection.get_mut().write_all(request).unwrap();
            connection
                .get_mut()
                .set_read_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            let mut answer = [0; 64];
            if let Ok(length) = connection.read(&mut answer) {
                let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
                assert!(!answer.contains(" 200 "), "{answer}");
            }
        }
    });
    assert_eq!(stolen.load(Ordering::SeqCst), 0);
    drop(thief);
    // When the dyno listens again, with another socket, it is asked again.
    host.dyno(&app, &["run:inside", "web.1", "kill -USR1 $(cat pid)"])
        .finish()
        .succeeds();
    host.wait_for_log_lines("app[web.1]: listening", 2);
    eventually("an answer", || {
        (get(router, "/") == (200, "web.1\n".to_owned())).then_some(())
    });
}

/// Asks on and on, over connections that are kept and over new ones, until it is told to stop. What was not answered
/// with 200.
struct Load {
    stop: AtomicBool,
    answered: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

impl Load {
    fn new() -> Self {
        Self {
            stop: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            wrong: Mutex::default(),
        }
    }

    fn ask_on(&self, router: SocketAddr, keep: bool) {
        let mut connection = None;
        while !self.stop.load(Ordering::SeqCst) {
            let mut open = connection.take().unwrap_or_else(|| connect(router));
            match ask(&mut open, "/dyno") {
                Ok((200, _)) => drop(self.answered.fetch_add(1, Ordering::SeqCst)),
                other => self.wrong.lock().unwrap().push(format!("{other:?}")),
            }
            connection = keep.then_some(open);
            // Ten such make 200 requests a second.
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until so many more were answered.
    fn wait_for(&self, more: usize) {
        let wanted = self.answered.load(Ordering::SeqCst) + more;
        eventually("more answers", || {
            (self.answered.load(Ordering::SeqCst) >= wanted).then_some(())
        });
    }
}

#[test]
fn nobody_is_sent_away_while_dynos_are_replaced() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = shop(&host, "web");
    let router = router(&host);
    let command = |args: &[&str]| {
        host.dyno(&app, args).finish().succeeds();
    };
    let load = Load::new();
    thread::scope(|scope| {
        let _over = AtEnd(|| load.stop.store(true, Ordering::SeqCst));
        for number in 0..10 {
            let load = &load;
            scope.spawn(move || load.ask_on(router, number % 2 == 0));
        }
        let changes: [&[&str]; 6] = [
            &["ps:restart"],
            &["ps:scale", "web=3"],
            &["config:set", "COLOR=red"],
            &["deploy"],
            &["ps:scale", "web=1"],
            &["ps:stop", "web.1"],
        ];
        for change in changes {
            load.wait_for(40);
            command(change);
            command(&["ps:wait"]);
        }
        load.wait_for(40);
    });
    let wrong = load.wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {:?}: {wrong:?}",
        wrong.len(),
        load.answered
    );
}

#[test]
fn a_server_that_was_killed_under_load_is_succeeded_at_the_same_address() {
    if lacks("python3") {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60"), ("DYNO_ROUTER", &own_router())]);
    let app = shop(&host, "web");
    let address = router(&host);
    let pid = get(address, "/pid");
    let load = Load::new();
    thread::scope(|scope| {
        let _over = AtEnd(|| load.stop.store(true, Ordering::SeqCst));
        scope.spawn(|| {
            // Nobody listens for a moment.
            while !load.stop.load(Ordering::SeqCst) {
                let Ok(stream) = TcpStream::connect(address) else {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                };
                // Where nobody listens, the kernel may connect a socket to itself.
                if stream.local_addr().ok() == Some(address) {
                    continue;
                }
                match ask(&mut BufReader::new(stream), "/dyno") {
                    Ok((200, _)) => drop(load.answered.fetch_add(1, Ordering::SeqCst)),
                    // A visitor who was cut off has no answer, and no other visitor has that one.
                    Ok(answer) => load.wrong.lock().unwrap().push(format!("{answer:?}")),
                    Err(_) => {}
                }
            }
        });
        for _ in 0..3 {
            load.wait_for(20);
            host.kill_server();
            host.dyno(&app, &["ps"]).finish().succeeds();
            // It serves no later than it answers commands.
            assert_eq!(get(address, "/pid"), pid);
            load.wait_for(20);
        }
    });
    let wrong = load.wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(router(&host), address);
    assert_eq!(get(address, "/pid"), pid);
    let starts = host.log_lines();
    let starts = starts
        .iter()
        .filter(|line| line.starts_with("heroku[web.1]: Starting process"));
    assert_eq!(starts.count(), 1);
}

#[test]
fn a_request_in_flight_is_answered_before_its_dyno_ends() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = shop(&host, "web");
    let router = router(&host);
    let mut slow = connect(router);
    let request = b"GET /slow?s=1.5 HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    slow.get_mut().write_all(request).unwrap();
    // The dyno has it when a later request was answered.
    get(router, "/dyno");
    let old = get(router, "/pid");
    host.dyno(&app, &["ps:restart"]).finish().succeeds();
    host.dyno(&app, &["ps:wait"]).finish().succeeds();
    // Its successor takes over meanwhile.
    assert_eq!(get(router, "/dyno").0, 200);
    let stopping = "heroku[web.1]: Stopping all processes with SIGTERM".to_owned();
    assert!(
        !host.log_lines().contains(&stopping),
        "before {old:?} has answered"
    );
    let mut answer = String::new();
    slow.read_line(&mut answer).unwrap();
    assert_eq!(answer, "HTTP/1.1 200 OK\r\n");
    host.wait_for_log(&stopping);
}

#[test]
fn a_request_in_flight_is_answered_though_the_server_is_stopped() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = shop(&host, "web");
    let router = router(&host);
    let mut slow = connect(router);
    let request = "GET /slow?s=1 HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    slow.get_mut().write_all(request.as_bytes()).unwrap();
    eventually("the request has reached the dyno", || {
        // One that comes behind it, on another connection, was answered.
        (get(router, "/").0 == 200).then_some(())
    });
    host.dyno(&app, &["server:stop"]).finish().succeeds();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("slow\n"),
        "{answer}"
    );
    logged(&host, "path=\"/slow?s=1\" ");
    // The next server has it at the same address, and knows the app when it lets the first visitor in.
    host.dyno(&app, &["server:status"]).finish().exits(3);
    host.dyno(&app, &["apps"]).finish().succeeds();
    assert_eq!(get(router, "/dyno"), (200, "web.1\n".to_owned()));
}

#[test]
fn a_request_that_takes_too_long_does_not_keep_its_dyno() {
    if lacks("python3") {
        return;
    }
    let host = Host::with(&[("DYNO_DRAIN_TIMEOUT", "0.3")]);
    let app = shop(&host, "web");
    let router = router(&host);
    let mut slow = connect(router);
    let request = b"GET /slow?s=1000 HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    slow.get_mut().write_all(request).unwrap();
    get(router, "/dyno");
    host.dyno(&app, &["ps:restart", "web.1"])
        .finish()
        .succeeds();
    let mut answer = String::new();
    slow.read_line(&mut answer).unwrap();
    assert!(answer.contains(" 503 "), "{answer}");
    logged(&host, "code=H13");
}

#[test]
fn what_is_no_web_dyno_that_is_up_has_an_answer_of_its_own() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let (status, _) = host.request("POST", "/apps", &json!({"name": "shop"}));
    assert_eq!(status, 201);
    let router = router(&host);
    eventually("that there is nothing yet", || {
        (get(router, "/").0 == 502).then_some(())
    });
    let mut stranger = connect(router);
    stranger
        .get_mut()
        .write_all(b"GET / HTTP/1.1\r\nHost: other.localhost\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stranger.read_line(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let app = host.folder_of("app", &[("Procfile", "web: exit 1\n")]);
    host.dyno(&app, &["deploy", "-a", "shop"])
        .finish()
        .exits(1)
        .mentions("`web.1` (exit 1)");
    assert_eq!(get(router, "/").0, 503);
    logged(&host, "code=H10 desc=\"App crashed\"");
    host.dyno(&app, &["maintenance", "on", "-a", "shop"])
        .finish()
        .succeeds();
    assert_eq!(get(router, "/").0, 503);
    logged(&host, "code=H80 desc=\"Maintenance mode\"");
}

#[test]
fn requests_wait_for_a_dyno_that_boots() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = host.folder_as("slow-boot", "shop");
    host.dyno(&app, &["create"]).finish().succeeds();
    host.dyno(&app, &["config:set", "DELAY=1.5"])
        .finish()
        .succeeds();
    host.dyno(&app, &["deploy", "--no-wait"])
        .finish()
        .succeeds();
    let router = router(&host);
    assert_eq!(get(router, "/dyno"), (200, "web.1\n".to_owned()));
    host.wait_for_log("heroku[web.1]: State changed from starting to up");
}

#[test]
fn a_websocket_goes_through_and_ends_with_its_dyno() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = shop(&host, "websocket-echo");
    let router = router(&host);
    let mut socket = connect(router);
    socket
        .get_mut()
        .write_all(
            b"GET /ws HTTP/1.1\r\nHost: shop.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(socket.read_line(&mut head).unwrap(), 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    // A masked text frame; the echo of it is not masked.
    let mask = [1, 2, 3, 4];
    let mut frame = vec![0x81, 0x80 | 5];
    frame.extend(mask);
    frame.extend(
        b"hello"
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    for _ in 0..3 {
        socket.get_mut().write_all(&frame).unwrap();
        let mut echo = [0; 7];
        socket.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"\x81\x05hello");
    }
    // It is no request in flight: the restart does not wait for it.
    host.dyno(&app, &["ps:restart", "web.1"])
        .finish()
        .succeeds();
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
}

#[test]
fn the_router_listens_where_it_is_told_or_where_there_is_room() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    host.dyno(&host.path(), &["server", "--router", &address])
        .finish()
        .fails_with(
            1,
            &format!("the router cannot listen on `{address}`"),
            "--router auto",
        );
    host.dyno(&host.path(), &["server", "--router", "nowhere"])
        .finish()
        .fails_with(1, "nowhere", "127.0.0.1:8080");
    // Two servers of one host, neither of which was told where.
    let other = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    for host in [&host, &other] {
        host.dyno(&host.path(), &["apps"]).finish().succeeds();
    }
    assert_ne!(router(&host), router(&other));
    // The usual port is taken by any server that starts while it is free.
    let host = match router(&host).port() {
        8080 => other,
        _ => host,
    };
    let (status, _) = host.request("POST", "/apps", &json!({"name": "shop"}));
    assert_eq!(status, 201);
    let open = host
        .dyno(&host.path(), &["open", "-a", "shop", "/login?a=1"])
        .finish();
    let port = router(&host).port();
    open.succeeds()
        .prints(&format!("http://shop.localhost:{port}/login?a=1\n"));
    // The next server is where this one was.
    let before = router(&host);
    host.server().unwrap().signal(Signal::KILL);
    host.server()
        .into_iter()
        .for_each(|server| server.wait_for_end());
    host.dyno(&host.path(), &["apps"]).finish().succeeds();
    assert_eq!(router(&host), before);
}
