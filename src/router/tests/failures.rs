//! Every way in which a request can fail: status, page, and the line in the log.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::super::{BackendState, Listener, Route, RouterSettings};
use super::support::*;

/// Asks once, and looks at status, page and line. The result is the line's rest after `host`.
fn fails(fixture: &Fixture, request: &str, status: u16, begin: &str) -> String {
    let response = fixture.ask(request);
    assert_eq!(response.status, status, "{response:?}");
    assert!(response.has("Content-Type: text/html; charset=utf-8"));
    let code = begin
        .split("code=")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    assert!(response.has(&format!("Dyno-Error: {code}")), "{response:?}");
    assert!(
        response.body.contains(code) && response.body.contains("shop"),
        "{response:?}"
    );
    let line = fixture.line();
    let (start, rest) = line.split_once(" host=shop.localhost request_id=").unwrap();
    assert_eq!(start, begin);
    let (_, rest) = rest.split_once(' ').unwrap();
    rest.to_owned()
}

fn brief() -> RouterSettings {
    let short = Duration::from_millis(50);
    RouterSettings {
        connect_time: short,
        first_byte_time: short,
        rolling_time: short,
        boot_time: short,
        ..quick()
    }
}

const UNPLACED: &str = "fwd=\"127.0.0.1\" dyno= connect= service= status=503 bytes=0 protocol=http";

#[test]
fn h10_all_have_crashed() {
    let fixture = Fixture::new(quick());
    fixture.set(&[BackendState::Crashed, BackendState::Crashed]);
    let begin = "at=error code=H10 desc=\"App crashed\" method=GET path=\"/\"";
    assert_eq!(fails(&fixture, &get("/"), 503, begin), UNPLACED);
}

#[test]
fn h14_there_is_none() {
    let fixture = Fixture::new(quick());
    fixture.set(&[]);
    let begin = "at=error code=H14 desc=\"No web processes running\" method=GET path=\"/\"";
    assert_eq!(fails(&fixture, &get("/"), 503, begin), UNPLACED);
}

#[test]
fn h20_none_was_up_in_time() {
    let fixture = Fixture::new(brief());
    fixture.set(&[BackendState::Starting, BackendState::Crashed]);
    let begin = "at=error code=H20 desc=\"App boot timeout\" method=GET path=\"/\"";
    assert_eq!(fails(&fixture, &get("/"), 503, begin), UNPLACED);
}

#[test]
fn h80_and_h81_are_no_errors() {
    let dyno = Dyno::polite();
    for (maintenance, blank, status, begin) in [
        (
            true,
            true,
            503,
            "at=info code=H80 desc=\"Maintenance mode\" method=GET path=\"/\"",
        ),
        (
            false,
            true,
            502,
            "at=info code=H81 desc=\"Blank app\" method=GET path=\"/\"",
        ),
    ] {
        let fixture = Fixture::new(quick());
        fixture.set_route(Some(Route {
            maintenance,
            blank,
            ..fixture.route(&[dyno.up()])
        }));
        fails(&fixture, &get("/"), status, begin);
    }
    assert_eq!(dyno.connections(), 0);
}

#[test]
fn an_unknown_host_is_not_found_and_logged_nowhere() {
    let fixture = Fixture::new(quick());
    fixture.set(&[]);
    for host in [
        "localhost",
        "other.localhost",
        "127.0.0.1",
        "shop.example",
        "shop.localhost.example",
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(fixture.ask(&request).status, 404, "{host}");
    }
    assert_eq!(fixture.ask("GET / HTTP/1.0\r\n\r\n").status, 404);
    fixture.set_route(None);
    assert_eq!(fixture.get("/").status, 404);
    assert!(fixture.log(0).is_empty());
}

#[test]
fn h11_too_many_wait() {
    let settings = RouterSettings {
        waiting_per_app: 2,
        ..quick()
    };
    let fixture = Fixture::new(settings);
    fixture.set(&[BackendState::Starting]);
    let mut clients: Vec<_> = (0..3)
        .map(|_| {
            let mut client = fixture.connect();
            client.send(get("/"));
            client
        })
        .collect();
    let line = fixture.line();
    assert!(
        line.starts_with("at=error code=H11 desc=\"Backlog too deep\" "),
        "{line}"
    );
    let dyno = Dyno::polite();
    fixture.set(&[dyno.up()]);
    let mut statuses: Vec<_> = clients
        .iter_mut()
        .map(|client| client.response("GET").status)
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503]);
}

#[test]
fn more_than_a_dyno_may_have_at_once_wait_for_their_turn() {
    let dyno = Dyno::start(|server| {
        while server.request().is_some() {
            std::thread::sleep(Duration::from_millis(1));
            server.send(HELLO);
        }
    });
    let settings = RouterSettings {
        active_per_dyno: 2,
        ..quick()
    };
    let fixture = Fixture::with(settings, &dyno);
    let mut clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = fixture.connect();
            client.send(get("/"));
            client
        })
        .collect();
    for client in &mut clients {
        assert_eq!(client.response("GET").status, 200);
    }
    assert!(dyno.connections() <= 2, "{}", dyno.connections());
}

/// A dyno that does the same to every request.
fn dyno(serve: impl Fn(&mut Server) + Send + Sync + 'static) -> Dyno {
    Dyno::start(move |server| {
        server.request();
        serve(server);
    })
}

#[test]
fn h12_no_byte_came_in_time() {
    let dyno = dyno(|server| {
        server.wait_for_end();
    });
    let fixture = Fixture::with(brief(), &dyno);
    let begin = "at=error code=H12 desc=\"Request timeout\" method=GET path=\"/\"";
    let rest = fails(&fixture, &get("/"), 503, begin);
    assert!(
        rest.starts_with("fwd=\"127.0.0.1\" dyno=web.1 connect="),
        "{rest}"
    );
    let service: u64 = rest
        .split("service=")
        .nth(1)
        .unwrap()
        .split("ms")
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(service >= 50, "{rest}");
    assert!(
        rest.ends_with("ms status=503 bytes=0 protocol=http"),
        "{rest}"
    );
}

#[test]
fn h13_it_closed_without_an_answer() {
    for begun in ["", "HTTP/1.1 200 OK\r\nContent-"] {
        let dyno = dyno(move |server| server.send(begun));
        let fixture = Fixture::with(quick(), &dyno);
        let begin =
            "at=error code=H13 desc=\"Connection closed without response\" method=GET path=\"/\"";
        fails(&fixture, &get("/"), 503, begin);
    }
}

/// Asks once; the response breaks off, and the line begins like this.
fn breaks_off(fixture: &Fixture, begin: &str) {
    let response = fixture.get("/");
    assert_eq!(
        (response.status, response.complete),
        (200, false),
        "{response:?}"
    );
    let line = fixture.line();
    assert!(line.starts_with(begin), "{line}");
}

#[test]
fn h15_it_fell_silent() {
    let dyno = dyno(|server| {
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello");
        server.wait_for_end();
    });
    let fixture = Fixture::with(brief(), &dyno);
    breaks_off(&fixture, "at=error code=H15 desc=\"Idle connection\" ");
    assert!(fixture.line().contains(" status=503 bytes=5 "));
}

#[test]
fn h17_and_h25_it_is_no_http() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(600_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: 1\r\n".repeat(1001));
    for (answer, status, begin) in [
        (
            "hello\r\n\r\n",
            503,
            "code=H17 desc=\"Poorly formatted HTTP response\"",
        ),
        (
            "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            503,
            "code=H17 desc=\"Poorly formatted HTTP response\"",
        ),
        (
            "HTTP/1.1 101 OK\r\nUpgrade: x\r\n\r\n",
            503,
            "code=H17 desc=\"Poorly formatted HTTP response\"",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            502,
            "code=H25 desc=\"HTTP restriction: invalid content length\"",
        ),
        (
            &*long,
            502,
            "code=H25 desc=\"HTTP restriction: oversized header\"",
        ),
        (
            &*many,
            502,
            "code=H25 desc=\"HTTP restriction: oversized header\"",
        ),
    ] {
        let answer = answer.to_owned();
        let dyno = dyno(move |server| server.send(&answer));
        let fixture = Fixture::with(quick(), &dyno);
        let begin = format!("at=error {begin} method=GET path=\"/\"");
        fails(&fixture, &get("/"), status, &begin);
    }
}

#[test]
fn h18_it_closed_in_the_middle() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let dyno = dyno(move |server| server.send(answer));
        let fixture = Fixture::with(quick(), &dyno);
        breaks_off(
            &fixture,
            "sock=backend at=error code=H18 desc=\"Server Request Interrupted\" ",
        );
    }
}

#[test]
fn a_client_that_knows_no_chunks_sees_a_broken_answer_as_a_reset() {
    let dyno = dyno(|server| {
        server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        server.wait_for_end();
    });
    let fixture = Fixture::with(brief(), &dyno);
    let mut client = fixture.connect();
    client.send("GET / HTTP/1.0\r\nHost: shop.localhost\r\n\r\n");
    let mut bytes = Vec::new();
    let error = std::io::Read::read_to_end(&mut client.stream, &mut bytes).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// A socket that listens, and whose queue is full: connections to it are never made.
fn full() -> (TcpListener, Vec<TcpStream>, Listener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    while let Ok(client) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        clients.push(client);
    }
    let inode = crate::kernel::listener::inode_of(listener.try_clone().unwrap().into()).unwrap();
    let place = Listener {
        address,
        inode,
        apart: false,
    };
    (listener, clients, place)
}

#[test]
fn h19_no_connection_was_made_in_time() {
    let (_listener, _clients, full) = full();
    let fixture = Fixture::new(brief());
    fixture.set(&[BackendState::Up(full)]);
    let begin = "at=error code=H19 desc=\"Backend connection timeout\" method=GET path=\"/\"";
    let rest = fails(&fixture, &get("/"), 503, begin);
    assert!(rest.contains(" dyno=web.1 connect= service="), "{rest}");
}

#[test]
fn h21_all_refuse_and_another_is_tried_first() {
    let (gone, there) = (Dyno::polite(), Dyno::polite());
    gone.stop();
    let fixture = Fixture::new(quick());
    fixture.set(&[gone.up()]);
    let begin = "at=error code=H21 desc=\"Backend connection refused\" method=GET path=\"/\"";
    fails(&fixture, &get("/"), 503, begin);
    fixture.set(&[gone.up(), there.up()]);
    for _ in 0..20 {
        assert_eq!(fixture.get("/").status, 200);
    }
}

#[test]
fn h26_for_what_is_no_request() {
    let dyno = Dyno::polite();
    let fixture = Fixture::with(quick(), &dyno);
    let mut client = fixture.connect();
    client.send("GET /\" HTTP/1.1\r\nHost: shop.localhost\r\nExpect: 200-maybe\r\n\r\n");
    let response = client.response("GET");
    assert_eq!(response.status, 417);
    assert!(response.has("Connection: close") && response.has("Dyno-Error: H26"));
    client.end();
    assert_eq!(client.rest(), "");
    let line = fixture.line();
    assert!(
        line.starts_with(
            "at=error code=H26 desc=\"Request Error\" cause=\"unknown expectation\" method=GET path=\"/\\\"\" \
             host=shop.localhost request_id="
        ),
        "{line}"
    );
    assert!(
        line.contains(" dyno= connect= service= status=417 bytes="),
        "{line}"
    );
    let bad_body =
        "POST / HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
    assert_eq!(fixture.ask(bad_body).status, 400);
    assert!(fixture.log(2)[1].contains("code=H26"));
    assert!(dyno.seen.try_recv().is_err());
}

#[test]
fn h28_the_client_fell_silent_or_does_not_read() {
    let dyno = Dyno::start(|server| {
        let Some((decoder, _)) = server.head() else {
            return;
        };
        server.body(decoder);
        let piece = [b'x'; 64 * 1024];
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n");
        while server.stream.write_all(&piece).is_ok() {}
    });
    let fixture = Fixture::with(brief(), &dyno);
    let mut silent = fixture.connect();
    silent.send("PUT / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 9\r\n\r\nabc");
    assert_eq!(silent.rest(), "");
    let mut deaf = fixture.connect();
    deaf.send(get("/"));
    let lines = fixture.log(2);
    for line in lines {
        assert!(
            line.starts_with("at=error code=H28 desc=\"Client Connection Idle\" "),
            "{line}"
        );
        assert!(
            line.contains(" dyno=web.1 ") && line.contains(" status=499 bytes="),
            "{line}"
        );
    }
}

#[test]
fn a_head_gets_no_page_and_the_connection_goes_on() {
    let fixture = Fixture::new(quick());
    fixture.set(&[]);
    let mut client = fixture.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: shop.localhost\r\n\r\n");
    let response = client.response("HEAD");
    assert_eq!((response.status, &*response.body), (503, ""));
    client.send(get("/"));
    assert_eq!(client.response("GET").status, 503);
    client.send("POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 3\r\n\r\n");
    assert!(client.response("POST").has("Connection: close"));
    let mut old = fixture.connect();
    old.send("GET / HTTP/1.0\r\nHost: shop.localhost\r\nConnection: keep-alive\r\n\r\n");
    assert!(old.response("GET").has("Connection: keep-alive"));
}
