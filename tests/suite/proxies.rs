//! Proxies before the router, and programs behind it, that do what is allowed and seldom seen.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{DEADLINE, Host, lacks};
use crate::routing::{router, shop};

/// A program that answers as its paths say, one connection at a time for each.
const ODD: &str = r#"
import os, socket, threading
listener = socket.create_server(("", int(os.environ["PORT"])))
answers = {
    "/hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "/304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n",
    "/204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "/end": b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    "/length": b"HTTP/1.1 200 OK\r\nContent-Length: 123456\r\n\r\n",
    "/cookies": b"HTTP/1.1 200 OK\r\n" + b"".join(b"Set-Cookie: c%d=1\r\n" % n for n in range(100)) + b"Content-Length: 0\r\n\r\n",
}
def serve(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65536)
    target = head.split(b" ")[1]
    if target == b"/events":
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\ndata: first\n\n")
        # Until the visitor has gone.
        connection.recv(1)
    elif target.startswith(b"/echo"):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(target), target))
    else:
        connection.sendall(answers.get(target.decode(), b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
    connection.close()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

fn odd(host: &Host) -> SocketAddr {
    let files = [("Procfile", "web: exec python3 odd.py\n"), ("odd.py", ODD)];
    let app = host.folder_of("shop", &files);
    host.dyno(&app, &["deploy"]).finish().succeeds();
    router(host)
}

/// All that comes of a request, to the end of the connection.
fn answer(router: SocketAddr, method: &str, target: &[u8], fields: &str) -> String {
    let mut stream = TcpStream::connect(router).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let rest = format!(" HTTP/1.1\r\nHost: shop.localhost\r\nConnection: close\r\n{fields}\r\n");
    let request = [method.as_bytes(), b" ", target, rest.as_bytes()].concat();
    stream.write_all(&request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn odd_answers_go_through_as_they_are() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let router = odd(&host);
    let get = |target: &str| answer(router, "GET", target.as_bytes(), "");
    let hints = get("/hints");
    assert!(
        hints.starts_with("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n"),
        "{hints}"
    );
    assert!(
        hints.contains("\r\n\r\nHTTP/1.1 200 OK\r\n") && hints.ends_with("\r\n\r\nok"),
        "{hints}"
    );
    let unchanged = get("/304");
    assert!(
        unchanged.starts_with("HTTP/1.1 304 ") && unchanged.ends_with("\r\n\r\n"),
        "{unchanged}"
    );
    assert!(unchanged.contains("\r\nETag: \"a\"\r\n"), "{unchanged}");
    let empty = get("/204");
    assert!(
        empty.starts_with("HTTP/1.1 204 ") && empty.ends_with("\r\n\r\n"),
        "{empty}"
    );
    assert!(get("/end").contains("until the end"));
    let head = answer(router, "HEAD", b"/length", "");
    assert!(
        head.contains("\r\nContent-Length: 123456\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    assert_eq!(get("/cookies").matches("\r\nSet-Cookie: c").count(), 100);
}

#[test]
fn an_event_is_there_before_the_next_one() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let router = odd(&host);
    let mut stream = TcpStream::connect(router).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
        .write_all(b"GET /events HTTP/1.1\r\nHost: shop.localhost\r\n\r\n")
        .unwrap();
    let (mut seen, began) = (String::new(), Instant::now());
    while !seen.contains("data: first\n\n") {
        let mut buffer = [0; 1024];
        let length = stream
            .read(&mut buffer)
            .expect("an event, while the answer goes on");
        assert!(length > 0 && began.elapsed() < DEADLINE, "{seen}");
        seen += &String::from_utf8_lossy(&buffer[..length]);
    }
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn an_address_in_utf8_reaches_the_program_as_it_was_sent() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let router = odd(&host);
    for target in [
        "/echo?q=zoë",
        "/echo/café/日本?x=😀",
        "/echo?q=%C3%AB",
        "/echo?q=\u{85}",
    ] {
        let answer = answer(router, "GET", target.as_bytes(), "");
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(target),
            "{answer}"
        );
    }
    // In the log it is what it is.
    let line = "method=GET path=\"/echo?q=zoë\" host=shop.localhost ";
    crate::harness::eventually("a line of the router", || {
        host.log_lines()
            .iter()
            .any(|it| it.contains(line))
            .then_some(())
    });
    for target in [&b"/echo?q=\xe9"[..], b"/a\x7fb", b"/a\x01b", b"/a b"] {
        let answer = answer(router, "GET", target, "");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target:?} {answer}");
    }
}

/// The headers that the program is told, by name.
fn told(router: SocketAddr, fields: &str) -> Vec<(String, String)> {
    let answer = answer(router, "GET", b"/headers", fields);
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let list: Vec<Value> = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list.iter()
        .map(|pair| (text(&pair[0]).to_lowercase(), text(&pair[1])))
        .collect()
}

fn values<'a>(told: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    let of_name = told.iter().filter(|(it, _)| it == name);
    of_name.map(|(_, value)| &**value).collect()
}

const OF_PROXY: &str = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\
    X-Forwarded-Host: shop.example\r\nX-Forwarded-Ssl: on\r\nForwarded: for=203.0.113.9;proto=https\r\n";

#[test]
fn a_trusted_proxy_is_believed() {
    let host = Host::with(&[("DYNO_TRUSTED_PROXIES", "loopback")]);
    shop(&host, "web");
    let router = router(&host);
    let seen = told(router, OF_PROXY);
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-ssl", "on"),
        ("forwarded", "for=203.0.113.9;proto=https"),
    ] {
        assert_eq!(values(&seen, name), [value], "{name}");
    }
    crate::harness::eventually("a line of the router", || {
        let lines = host.log_lines();
        let is = |line: &&String| {
            line.contains(" fwd=\"203.0.113.9\" ") && line.ends_with(" protocol=https")
        };
        lines.iter().find(is).map(drop)
    });
    let contrary = told(router, "X-Forwarded-Proto: http\r\nX-Forwarded-Ssl: on\r\n");
    assert_eq!(values(&contrary, "x-forwarded-proto"), ["http"]);
    assert!(values(&contrary, "x-forwarded-ssl").is_empty());
}

#[test]
fn without_trust_the_router_says_what_it_sees() {
    for setting in ["none", "192.0.2.0/24"] {
        let host = Host::with(&[("DYNO_TRUSTED_PROXIES", setting)]);
        shop(&host, "web");
        let router = router(&host);
        let seen = told(router, OF_PROXY);
        for (name, value) in [
            ("x-forwarded-for", &["203.0.113.9, 127.0.0.1"][..]),
            ("x-forwarded-proto", &["http"]),
            ("x-forwarded-port", &[&router.port().to_string()]),
            ("x-forwarded-host", &[]),
            ("x-forwarded-ssl", &[]),
            ("forwarded", &[]),
        ] {
            assert_eq!(values(&seen, name), value, "{name}");
        }
    }
}

#[test]
fn a_setting_that_names_no_network_is_refused() {
    let host = Host::with(&[("DYNO_TRUSTED_PROXIES", "localhost")]);
    let refused = host.dyno(&host.path(), &["apps"]).finish();
    assert!(refused.code() != Some(0));
    refused
        .mentions("DYNO_TRUSTED_PROXIES")
        .mentions("loopback");
}
