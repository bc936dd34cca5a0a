//! What is passed on, and how: connections, bodies, interim responses, other protocols.

use std::io::Write;
use std::time::Duration;

use super::super::RouterSettings;
use super::support::*;

#[test]
fn a_request_reaches_the_dyno_and_the_line_reads_as_on_heroku() {
    let dyno = Dyno::polite();
    let fixture = Fixture::with(quick(), &dyno);
    let response = fixture.ask(
        "GET /a?b=\"1\" HTTP/1.1\r\nHost: Shop.localhost:8080\r\nX-Request-Id: abc-1\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n",
    );
    assert_eq!((response.status, &*response.body), (200, "hello"));
    let seen = dyno.next();
    assert!(
        seen.head
            .starts_with("GET /a?b=\"1\" HTTP/1.1\r\nHost: Shop.localhost:8080\r\n")
    );
    for field in [
        "X-Request-Id: abc-1",
        "X-Forwarded-For: 192.0.2.1, 127.0.0.1",
        "X-Forwarded-Proto: http",
        &format!("X-Forwarded-Port: {}", fixture.router().address().port()),
        "Via: 1.1 vegur",
    ] {
        assert!(seen.has(field), "{field} in {}", seen.head);
    }
    let line = fixture.line();
    let (begin, times) = line.split_once(" connect=").unwrap();
    assert_eq!(
        begin,
        "at=info method=GET path=\"/a?b=\\\"1\\\"\" host=Shop.localhost request_id=abc-1 \
         fwd=\"192.0.2.1, 127.0.0.1\" dyno=web.1"
    );
    let (connect, rest) = times.split_once("ms service=").unwrap();
    let (service, rest) = rest.split_once("ms ").unwrap();
    assert!(connect.parse::<u32>().is_ok() && service.parse::<u32>().is_ok());
    assert_eq!(rest, "status=200 bytes=5 protocol=http");
}

#[test]
fn connections_are_kept_on_both_sides() {
    let dyno = Dyno::polite();
    let fixture = Fixture::with(quick(), &dyno);
    let mut client = fixture.connect();
    for _ in 0..3 {
        client.send(get("/"));
        assert_eq!(client.response("GET").body, "hello");
    }
    assert_eq!(fixture.get("/").status, 200);
    assert_eq!(dyno.connections(), 1);
    client.send("GET / HTTP/1.1\r\nHost: shop.localhost\r\nConnection: close\r\n\r\n");
    let response = client.response("GET");
    assert!(response.has("Connection: close"));
    assert_eq!(client.rest(), "");
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let dyno = Dyno::answering(|seen| {
        let path = seen.head.split(' ').nth(1).unwrap();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}",
            path.len()
        )
    });
    let fixture = Fixture::with(quick(), &dyno);
    let mut client = fixture.connect();
    let requests: String = (0..20).map(|n| get(&format!("/{n}"))).collect();
    client.send(requests);
    for n in 0..20 {
        assert_eq!(client.response("GET").body, format!("/{n}"));
    }
    // With bodies in between, and cut anywhere.
    let bytes: String = (0..5)
        .map(|n| {
            format!(
                "POST /{n} HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 3\r\n\r\nabc{}",
                get("/x")
            )
        })
        .collect();
    for piece in bytes.as_bytes().chunks(7) {
        client.send(piece);
    }
    for n in 0..5 {
        assert_eq!(client.response("POST").body, format!("/{n}"));
        assert_eq!(client.response("GET").body, "/x");
    }
}

#[test]
fn bodies_of_requests_arrive_whole() {
    let dyno = Dyno::answering(|seen| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}",
            seen.body.len(),
            seen.body
        )
    });
    let fixture = Fixture::with(quick(), &dyno);
    let large: String = "0123456789abcdef".repeat(100_000);
    let response = fixture.ask(&format!(
        "POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: {}\r\n\r\n{large}",
        large.len()
    ));
    assert!(response.body == large);
    assert!(dyno.next().has(&format!("Content-Length: {}", large.len())));

    let mut chunked = String::from(
        "POST / HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    for piece in large.as_bytes().chunks(33_333) {
        chunked += &format!(
            "{:x};ext=1\r\n{}\r\n",
            piece.len(),
            std::str::from_utf8(piece).unwrap()
        );
    }
    chunked += "0\r\nX-Trailer: 1\r\n\r\n";
    assert!(fixture.ask(&chunked).body == large);
    let seen = dyno.next();
    assert!(seen.has("Transfer-Encoding: chunked") && !seen.head.contains("Content-Length"));
}

#[test]
fn responses_are_framed_as_the_client_knows_it() {
    let dyno = Dyno::start(|server| {
        while let Some(seen) = server.request() {
            let path = seen.head.split(' ').nth(1).unwrap().to_owned();
            server.send(match &*path {
                "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n",
                "/close" => "HTTP/1.0 200 OK\r\n\r\nabcde",
                "/none" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/same" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
            });
            if path == "/close" {
                return;
            }
        }
    });
    let fixture = Fixture::with(quick(), &dyno);
    let ask = |path: &str, version: &str, fields: &str, method: &str| {
        let mut client = fixture.connect();
        client.send(format!(
            "{method} {path} HTTP/{version}\r\nHost: shop.localhost\r\n{fields}\r\n"
        ));
        let response = client.response(method);
        (response, client)
    };
    for path in ["/chunked", "/close", "/length"] {
        let (response, mut client) = ask(path, "1.1", "", "GET");
        assert_eq!(
            (&*response.body, response.complete),
            ("abcde", true),
            "{path}"
        );
        assert!(!response.has("Connection: close"), "{path}");
        assert_eq!(
            response.has("Transfer-Encoding: chunked"),
            path != "/length"
        );
        client.send(get("/length"));
        assert_eq!(client.response("GET").body, "abcde");

        let (response, mut client) = ask(path, "1.0", "", "GET");
        assert_eq!(&*response.body, "abcde", "{path}");
        assert!(!response.has("Transfer-Encoding: chunked") && response.has("Connection: close"));
        assert_eq!(client.rest(), "");
    }
    let (response, mut client) = ask("/length", "1.0", "Connection: keep-alive\r\n", "GET");
    assert!(response.has("Connection: keep-alive"));
    client.send(get("/length"));
    assert_eq!(client.response("GET").body, "abcde");
    for (method, path, length) in [
        ("HEAD", "/head", true),
        ("GET", "/none", false),
        ("GET", "/same", true),
    ] {
        let (response, mut client) = ask(path, "1.1", "", method);
        assert_eq!((&*response.body, response.complete), ("", true), "{path}");
        assert_eq!(response.has("Content-Length: 5"), length);
        client.send(get("/length"));
        assert_eq!(client.response("GET").body, "abcde");
    }
}

#[test]
fn interim_responses_are_passed_on_and_the_body_waits_for_its_100() {
    let dyno = Dyno::start(|server| {
        let (decoder, head) = server.head().unwrap();
        server.tell(&head);
        server.send(
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
        );
        let body = server.body(decoder).unwrap();
        server.send(format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    });
    let fixture = Fixture::with(quick(), &dyno);
    let mut client = fixture.connect();
    client.send("PUT / HTTP/1.1\r\nHost: shop.localhost\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    let hints = client.response("PUT");
    assert_eq!(hints.status, 103);
    assert!(hints.has("Link: </a.css>"));
    assert_eq!(client.response("PUT").status, 100);
    client.send("abc");
    assert_eq!(client.response("PUT").body, "abc");
    assert!(dyno.next().has("Expect: 100-continue"));

    let mut old = fixture.connect();
    old.send("PUT / HTTP/1.0\r\nHost: shop.localhost\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(old.response("PUT").status, 200);
}

#[test]
fn an_answer_before_the_body_ends_the_connection_once_it_is_read() {
    let dyno = Dyno::start(|server| {
        server.head();
        server.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
        server.wait_for_end();
    });
    let fixture = Fixture::with(quick(), &dyno);
    let mut client = fixture.connect();
    client.send("PUT / HTTP/1.1\r\nHost: shop.localhost\r\nExpect: 100-continue\r\nContent-Length: 3000000\r\n\r\n");
    let response = client.response("PUT");
    assert_eq!((response.status, &*response.body), (413, "big"));
    assert!(response.has("Connection: close"));
    assert_eq!(client.rest(), "");
}

#[test]
fn a_body_and_its_echo_flow_at_once() {
    const PIECES: usize = 300;
    let dyno = Dyno::start(|server| {
        server.head();
        server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        // The chunks may come in other pieces than they went: what is counted is their data.
        let mut left = PIECES * 10_000;
        while left > 0 {
            let bytes = server.bytes().unwrap();
            let data = bytes.iter().filter(|byte| **byte == b'x').count();
            left -= data;
            if data > 0 {
                server.send(format!("{data:x}\r\n{}\r\n", "y".repeat(data)));
            }
        }
        server.send("0\r\n\r\n");
    });
    let fixture = Fixture::with(quick(), &dyno);
    let mut client = fixture.connect();
    let mut writer = client.stream.try_clone().unwrap();
    let thread = std::thread::spawn(move || {
        let head = "POST / HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        writer.write_all(head.as_bytes()).unwrap();
        let piece = format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000));
        for _ in 0..PIECES {
            writer.write_all(piece.as_bytes()).unwrap();
        }
        writer.write_all(b"0\r\n\r\n").unwrap();
    });
    let response = client.response("POST");
    assert_eq!(
        (response.body.len(), response.complete),
        (PIECES * 10_000, true)
    );
    thread.join().unwrap();
}

#[test]
fn another_protocol_goes_both_ways_until_both_have_ended() {
    let dyno = Dyno::start(|server| {
        let (_, head) = server.head().unwrap();
        server.tell(&head);
        server.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhi ",
        );
        let mut stream = server.stream.try_clone().unwrap();
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut text).unwrap();
        stream.write_all(&text).unwrap();
    });
    let fixture = Fixture::with(quick(), &dyno);
    let mut client = fixture.connect();
    client.send("GET /ws HTTP/1.1\r\nHost: shop.localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\nearly ");
    let response = client.response("GET");
    assert_eq!(response.status, 101);
    assert!(response.has("Upgrade: echo") && response.has("Connection: Upgrade"));
    assert_eq!(client.bytes(3), b"hi ");
    let large = "x".repeat(3_000_000);
    let mut writer = client.stream.try_clone().unwrap();
    let to_send = large.clone();
    let thread = std::thread::spawn(move || {
        writer.write_all(to_send.as_bytes()).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    assert!(client.rest() == format!("early {large}"));
    thread.join().unwrap();
    assert!(dyno.next().has("Upgrade: echo"));
    let line = fixture.line();
    assert!(
        line.contains("at=info") && line.contains("status=101 bytes=3000009"),
        "{line}"
    );
}

#[test]
fn a_client_that_ended_its_side_gets_its_answer() {
    let dyno = Dyno::start(|server| {
        server.request();
        // Longer than it takes to look twice whether the client is there.
        std::thread::sleep(Duration::from_millis(100));
        server.send(HELLO);
    });
    let fixture = Fixture::with(quick(), &dyno);
    let mut client = fixture.connect();
    client.send(get("/"));
    client.end();
    assert_eq!(client.response("GET").body, "hello");
    assert_eq!(client.rest(), "");
}

#[test]
fn the_dyno_learns_of_a_client_that_has_gone() {
    for half_closed_before in [false, true] {
        let dyno = Dyno::start(|server| {
            server.request();
            if server.wait_for_end() {
                server.tell("gone");
            }
        });
        let fixture = Fixture::with(quick(), &dyno);
        let mut client = fixture.connect();
        client.send(get("/slow"));
        dyno.next();
        if half_closed_before {
            client.end();
        }
        drop(client);
        assert_eq!(dyno.next().head, "gone");
        let line = fixture.line();
        assert!(
            line.starts_with("sock=client at=warning code=H27 desc=\"Client Request Interrupted\" method=GET path=\"/slow\""),
            "{line}"
        );
        assert!(
            line.contains(" dyno=web.1 ") && line.contains(" status=499 bytes=0 "),
            "{line}"
        );
    }
}

#[test]
fn a_client_that_goes_while_the_dyno_takes_nothing_of_its_body_is_noticed() {
    let (go, wait) = crossbeam_channel::unbounded::<()>();
    let dyno = Dyno::start(move |server| {
        server.head();
        // The body stays unread for as long as the test takes.
        let _ = wait.recv_timeout(PATIENCE * 2);
    });
    let fixture = Fixture::with(quick(), &dyno);
    let mut client = fixture.connect();
    client.send("PUT / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 100000000\r\n\r\n");
    let some_time = Some(Duration::from_millis(100));
    client.stream.set_write_timeout(some_time).unwrap();
    let piece = vec![b'x'; 1 << 20];
    while client.stream.write_all(&piece).is_ok() {}
    // What it has sent is still on its way, and its end behind that.
    drop(client);
    let line = fixture.line();
    assert!(line.contains("code=H27"), "{line}");
    drop(go);
}

#[test]
fn a_client_that_goes_in_the_middle_of_its_body_or_of_the_response_is_one_that_has_gone() {
    let dyno = Dyno::start(|server| {
        let Some((decoder, _)) = server.head() else {
            return;
        };
        server.tell("came");
        if server.body(decoder).is_none() {
            return server.tell("gone");
        }
        server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while server.stream.write_all(b"3\r\nabc\r\n").is_ok() {}
        server.tell("gone");
    });
    let fixture = Fixture::with(quick(), &dyno);
    let mut client = fixture.connect();
    client.send("PUT / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 9\r\n\r\nabc");
    assert_eq!(dyno.next().head, "came");
    drop(client);
    assert_eq!(dyno.next().head, "gone");
    let mut client = fixture.connect();
    client.send(get("/"));
    client.bytes(100);
    assert_eq!(dyno.next().head, "came");
    drop(client);
    assert_eq!(dyno.next().head, "gone");
    let lines = fixture.log(2);
    assert!(
        lines.iter().all(|line| line.contains("code=H27")),
        "{lines:?}"
    );
}

#[test]
fn a_slow_reader_holds_the_dyno_back_and_loses_nothing() {
    let dyno = Dyno::start(|server| {
        server.request();
        let piece = [b'x'; 64 * 1024];
        server.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            400 * piece.len()
        ));
        server.stream.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(length) = server.stream.write(&piece) {
            sent += length;
            std::thread::sleep(Duration::from_millis(2));
        }
        server.tell(&sent.to_string());
        server.stream.set_nonblocking(false).unwrap();
        let left = 400 * piece.len() - sent;
        server.send(vec![b'x'; left]);
    });
    let fixture = Fixture::with(quick(), &dyno);
    let mut client = fixture.connect();
    client.send(get("/"));
    dyno.next();
    let held_back: usize = dyno.next().head.parse().unwrap();
    assert!(held_back < 400 * 64 * 1024, "{held_back}");
    let response = client.response("GET");
    assert_eq!(
        (response.body.len(), response.complete),
        (400 * 64 * 1024, true)
    );
}

#[test]
fn a_connection_that_the_dyno_has_closed_is_replaced_for_requests_that_may_be_repeated() {
    // Each connection answers one request, and ends when the next one comes, which it does not read.
    let dyno = Dyno::start(|server| {
        server.request();
        server.send(HELLO);
        server.wait_for_bytes();
    });
    let fixture = Fixture::with(quick(), &dyno);
    for _ in 0..3 {
        assert_eq!(fixture.get("/").status, 200);
    }
    let post = "POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(fixture.ask(post).status, 503);
    let lines = fixture.log(4);
    assert!(lines[3].starts_with("at=error code=H13 desc=\"Connection closed without response\""));
    assert_eq!(fixture.ask(post).status, 200);
}

#[test]
fn a_request_that_a_dyno_has_read_and_died_of_is_not_given_to_another() {
    let dyno = Dyno::start(|server| {
        server.request();
        server.send(HELLO);
        server.request();
    });
    let fixture = Fixture::with(quick(), &dyno);
    assert_eq!(fixture.get("/").status, 200);
    let delete = "DELETE /account HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    assert_eq!(fixture.ask(delete).status, 503);
    let lines = fixture.log(2);
    assert!(lines[1].starts_with("at=error code=H13"), "{lines:?}");
    for (method, connection) in [("GET", 1), ("DELETE", 1)] {
        let seen = dyno.next();
        assert!(seen.head.starts_with(method), "{seen:?}");
        assert_eq!(seen.connection, connection);
    }
    assert_eq!(dyno.connections(), 1);
}

#[test]
fn what_must_not_be_repeated_gets_no_connection_that_was_idle_for_long() {
    let dyno = Dyno::polite();
    let settings = RouterSettings {
        pooled_fresh_time: Duration::ZERO,
        ..quick()
    };
    let fixture = Fixture::with(settings, &dyno);
    let post = "POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(fixture.get("/").status, 200);
    assert_eq!(fixture.ask(post).status, 200);
    assert_eq!(dyno.connections(), 2);
}

#[test]
fn idle_connections_end_in_time_and_a_trickled_head_too() {
    let dyno = Dyno::start(|server| {
        server.request();
        server.send(HELLO);
        if server.wait_for_end() {
            server.tell("closed");
        }
    });
    let settings = RouterSettings {
        idle_time: Duration::from_millis(50),
        pooled_time: Duration::from_millis(50),
        head_time: Duration::from_millis(100),
        ..quick()
    };
    let fixture = Fixture::with(settings, &dyno);
    let mut idle = fixture.connect();
    assert_eq!(idle.rest(), "");
    assert_eq!(fixture.get("/").status, 200);
    dyno.next();
    assert_eq!(dyno.next().head, "closed");

    let mut trickle = fixture.connect();
    let mut writer = trickle.stream.try_clone().unwrap();
    std::thread::spawn(move || {
        while writer.write_all(b"G").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert_eq!(trickle.response("GET").status, 408);

    let mut half = fixture.connect();
    half.send("GET /half HTTP/1.1\r\nHost: shop.localhost\r\n");
    assert_eq!(half.response("GET").status, 408);
    let line = &fixture.log(2)[1];
    assert!(
        line.contains("code=H26") && line.contains(" path=\"/half\" "),
        "{line}"
    );
}

#[test]
fn idle_connections_make_room_for_new_ones() {
    let dyno = Dyno::polite();
    let settings = RouterSettings {
        clients: 4,
        ..quick()
    };
    let fixture = Fixture::with(settings, &dyno);
    let mut first = fixture.connect();
    first.send(get("/"));
    first.response("GET");
    let others: Vec<_> = (0..10)
        .map(|_| {
            let mut client = fixture.connect();
            client.send(get("/"));
            assert_eq!(client.response("GET").status, 200);
            client
        })
        .collect();
    assert_eq!(first.rest(), "");
    drop(others);
}
