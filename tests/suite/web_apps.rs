//! The apps below `tests/apps` that serve do what their names say: other tests rely on it. Each runs as a one-off here, on
//! a port of the test's choice, and is asked directly.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::harness::{DEADLINE, Host, eventually, free_port, lacks};
use crate::ps::detached;

/// The port of the `web` process of this app, with further variables, once it listens.
fn serving(host: &Host, fixture: &str, variables: &[&str]) -> u16 {
    let port = started(host, fixture, variables);
    host.wait_for_log("app[run.1]: listening");
    port
}

fn started(host: &Host, fixture: &str, variables: &[&str]) -> u16 {
    let app = host.app(fixture);
    let port = free_port();
    let port_variable = format!("PORT={port}");
    let mut args = vec!["-e", &port_variable];
    for variable in variables {
        args.extend(["-e", variable]);
    }
    args.push("web");
    assert_eq!(detached(host, &app, &args), "run.1");
    port
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// The body of the answer to one request.
fn ask(port: u16, head: &str, body: &[u8]) -> Vec<u8> {
    let mut stream = connect(port);
    write!(
        stream,
        "{head} HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    answer.split_off(end + 4)
}

fn get(port: u16, path: &str) -> String {
    String::from_utf8(ask(port, &format!("GET {path}"), b"")).unwrap()
}

/// Lines of a stream, one by one.
fn lines(stream: TcpStream) -> impl Iterator<Item = String> {
    BufReader::new(stream).lines().map(Result::unwrap)
}

#[test]
fn web_tells_about_itself_and_answers_several_at_once() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let port = serving(&host, "web", &["COLOR=blue"]);
    assert_eq!(get(port, "/dyno"), "run.1\n");
    assert_eq!(get(port, "/color"), "blue\n");
    assert!(get(port, "/pid").trim_end().parse::<u32>().is_ok());
    assert!(get(port, "/headers").contains(r#"["Host", "app"]"#));
    let body: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    assert_eq!(ask(port, "POST /echo", &body), body);
    let mut chunked = connect(port);
    chunked
        .write_all(
            b"POST /echo HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n\
              3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\nGET /color HTTP/1.1\r\nHost: app\r\n\r\n",
        )
        .unwrap();
    let said: Vec<_> = lines(chunked)
        .filter(|line| !line.contains(": "))
        .take(4)
        .collect();
    assert_eq!(said, ["HTTP/1.1 200 OK", "", "abcdefgHTTP/1.1 200 OK", ""]);
    // One that takes its time keeps nobody waiting.
    let slow = thread::spawn(move || ask(port, "GET /slow?s=0.5", b""));
    assert_eq!(get(port, "/color"), "blue\n");
    assert_eq!(slow.join().unwrap(), b"slow\n");
}

#[test]
fn slow_boot_listens_after_a_while() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let port = started(&host, "slow-boot", &["DELAY=1"]);
    host.wait_for_log("app[run.1]: booting");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    host.wait_for_log("app[run.1]: listening");
    assert_eq!(get(port, "/dyno"), "run.1\n");
}

#[test]
fn never_binds_runs_and_does_not_listen() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let port = started(&host, "never-binds", &[]);
    host.wait_for_log("app[run.1]: not listening");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    let app = host.path().join("apps/never-binds");
    host.dyno(&app, &["ps:stop", "run.1"]).finish().succeeds();
}

#[test]
fn ignores_term_serves_until_it_is_killed() {
    if lacks("python3") {
        return;
    }
    let host = Host::with(&[("DYNO_STOP_GRACE", "1")]);
    let port = serving(&host, "ignores-term", &[]);
    let app = host.path().join("apps/ignores-term");
    host.dyno(&app, &["ps:stop", "--no-wait", "run.1"])
        .finish()
        .succeeds();
    host.wait_for_log("app[run.1]: SIGTERM ignored");
    assert_eq!(get(port, "/dyno"), "run.1\n");
    host.dyno(&app, &["ps:wait", "run.1"]).finish().exits(137);
}

#[test]
fn crash_first_crashes_as_often_as_it_is_told() {
    let host = Host::new();
    if lacks("python3") {
        return;
    }
    let app = host.app("crash-first");
    let counter = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let counter_port = format!("COUNTER_PORT={}", counter.local_addr().unwrap().port());
    let counting = thread::spawn(move || {
        for start in 1..=3 {
            let (mut started, _) = counter.accept().unwrap();
            writeln!(started, "{start}").unwrap();
        }
    });
    let port = free_port();
    let port_variable = format!("PORT={port}");
    let args = [
        "-e",
        &counter_port,
        "-e",
        &port_variable,
        "-e",
        "CRASHES=2",
        "web",
    ];
    for start in 1..=2 {
        let name = detached(&host, &app, &args);
        host.dyno(&app, &["ps:wait", &name]).finish().exits(1);
        host.wait_for_log(&format!("app[{name}]: start {start}: crashing"));
    }
    let name = detached(&host, &app, &args);
    host.wait_for_log(&format!("app[{name}]: listening"));
    assert_eq!(get(port, "/dyno"), "run.3\n");
    counting.join().unwrap();
}

#[test]
fn streams_goes_on_until_its_reader_leaves() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let port = serving(&host, "streams", &["INTERVAL=0.01"]);
    let mut stream = connect(port);
    stream
        .write_all(b"GET /stream HTTP/1.1\r\nHost: app\r\n\r\n")
        .unwrap();
    let ticks: Vec<_> = lines(stream)
        .filter(|line| line.starts_with("tick "))
        .take(20)
        .collect();
    assert_eq!((&*ticks[0], &*ticks[19]), ("tick 1", "tick 20"));
    // The iterator is gone, and with it the connection.
    host.wait_for_log("app[run.1]: reader gone");
    assert_eq!(get(port, "/dyno"), "run.1\n");
}

/// A masked frame, as a client sends it (RFC 6455 section 5.2).
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    let mask = [0x12, 0x34, 0x56, 0x78];
    frame.extend(mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// What a server's frame begins with, and its payload.
fn receive(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let mut exactly = |length: usize| {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    };
    let head = exactly(2);
    let length = match head[1] {
        126 => u16::from_be_bytes(exactly(2).try_into().unwrap()).into(),
        127 => u64::from_be_bytes(exactly(8).try_into().unwrap()) as usize,
        length => length.into(),
    };
    (head[0], exactly(length))
}

#[test]
fn websocket_echo_speaks_the_protocol() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let port = serving(&host, "websocket-echo", &[]);
    assert_eq!(get(port, "/dyno"), "run.1\n");
    let open = || {
        let mut stream = connect(port);
        // Key and answer are the example of RFC 6455 section 1.3.
        stream
            .write_all(
                b"GET /ws HTTP/1.1\r\nHost: app\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            .unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            stream.read_line(&mut head).unwrap();
        }
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(
            head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
            "{head}"
        );
        stream
    };
    let mut stream = open();
    let long: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for (first, payload) in [
        (0x81, "grüße".as_bytes()),
        (0x82, b"\x00\xff"),
        (0x82, &long[..300]),
        (0x82, &long),
        (0x81, b""),
    ] {
        stream.get_mut().write_all(&frame(first, payload)).unwrap();
        assert_eq!(receive(&mut stream), (first, payload.to_vec()));
    }
    // A message in two parts, with a ping between them.
    let parts = [
        frame(0x01, b"one "),
        frame(0x89, b"ping"),
        frame(0x80, b"two"),
    ]
    .concat();
    stream.get_mut().write_all(&parts).unwrap();
    assert_eq!(receive(&mut stream), (0x8a, b"ping".to_vec()));
    assert_eq!(receive(&mut stream), (0x81, b"one two".to_vec()));
    let reason = [&1000_u16.to_be_bytes()[..], b"bye"].concat();
    stream.get_mut().write_all(&frame(0x88, &reason)).unwrap();
    assert_eq!(
        receive(&mut stream),
        (0x88, 1000_u16.to_be_bytes().to_vec())
    );
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    // What breaks the protocol is told so.
    for (bytes, code) in [
        (frame(0xc1, b"x"), 1002_u16),
        (frame(0x80, b"x"), 1002),
        (frame(0x81, b"\xff"), 1007),
        (b"\x81\x01x".to_vec(), 1002),
    ] {
        let mut stream = open();
        stream.get_mut().write_all(&bytes).unwrap();
        assert_eq!(receive(&mut stream), (0x88, code.to_be_bytes().to_vec()));
    }
    drop(open());
    eventually("the end of a connection", || {
        let lines = host.log_lines();
        lines
            .iter()
            .any(|line| line == "app[run.1]: peer gone")
            .then_some(())
    });
}
