//! Dynos come and go: who gets requests, who does not, and what the server hears.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::unbounded;

use super::super::{
    Backend, BackendState, FromRouter, Leave, Listener, Route, RouterSettings, ToRouter,
};
use super::support::*;

#[test]
fn every_dyno_that_is_up_gets_requests() {
    let dynos = [Dyno::polite(), Dyno::polite(), Dyno::polite()];
    let fixture = Fixture::new(quick());
    fixture.set(&[dynos[0].up(), dynos[1].up(), BackendState::Starting]);
    for _ in 0..100 {
        assert_eq!(fixture.get("/").status, 200);
    }
    assert!(dynos[0].connections() > 0 && dynos[1].connections() > 0);
    assert_eq!(dynos[2].connections(), 0);
}

#[test]
fn requests_wait_for_a_dyno_that_starts() {
    let dyno = Dyno::polite();
    let fixture = Fixture::new(quick());
    fixture.set(&[BackendState::Starting]);
    let mut clients: Vec<_> = (0..5)
        .map(|_| {
            let mut client = fixture.connect();
            client.send("POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 3\r\n\r\nabc");
            client
        })
        .collect();
    // A snapshot that changes nothing for them.
    fixture.set(&[BackendState::Starting, BackendState::Crashed]);
    fixture.set(&[dyno.up()]);
    for client in &mut clients {
        assert_eq!(client.response("POST").status, 200);
        assert_eq!(dyno.next().body, "abc");
    }
}

#[test]
fn those_who_wait_for_an_app_that_is_destroyed_are_told() {
    let fixture = Fixture::new(quick());
    fixture.set(&[BackendState::Starting]);
    let mut client = fixture.connect();
    client.send(get("/"));
    std::thread::sleep(Duration::from_millis(20));
    fixture.set_route(None);
    assert_eq!(client.response("GET").status, 404);
}

#[test]
fn a_draining_dyno_ends_what_it_has_and_is_then_said_to_be_drained() {
    let gate = Arc::new(Mutex::new(()));
    let held = gate.clone();
    let old = Dyno::start(move |server| {
        while server.request().is_some() {
            drop(held.lock().unwrap());
            server.send(HELLO);
        }
        server.tell("closed");
    });
    let new = Dyno::polite();
    let fixture = Fixture::with(quick(), &old);
    let mut client = fixture.connect();
    let closed = gate.lock().unwrap();
    client.send(get("/"));
    old.next();
    fixture.set(&[old.draining(), new.up()]);
    // Those who come now go to the other, which tells that the router knows.
    assert_eq!(fixture.get("/").status, 200);
    assert!(fixture.told.try_recv().is_err());
    drop(closed);
    assert_eq!(client.response("GET").status, 200);
    let drained = FromRouter::Drained {
        dyno: "id-1".into(),
    };
    assert_eq!(fixture.hear(), drained);
    assert_eq!(old.next().head, "closed");
    for _ in 0..20 {
        client.send(get("/"));
        assert_eq!(client.response("GET").status, 200);
    }
    assert!(old.seen.try_recv().is_err());
    assert!(fixture.told.try_recv().is_err());
}

#[test]
fn an_idle_dyno_is_drained_at_once_and_its_connections_are_closed() {
    let dyno = Dyno::start(|server| {
        server.request();
        server.send(HELLO);
        if server.wait_for_end() {
            server.tell("closed");
        }
    });
    let fixture = Fixture::with(quick(), &dyno);
    assert_eq!(fixture.get("/").status, 200);
    dyno.next();
    fixture.set(&[dyno.draining()]);
    let drained = FromRouter::Drained {
        dyno: "id-1".into(),
    };
    assert_eq!(fixture.hear(), drained);
    assert_eq!(dyno.next().head, "closed");
    assert_eq!(fixture.get("/").status, 503);
}

#[test]
fn what_has_no_end_does_not_hold_a_dyno_back() {
    let dyno = Dyno::start(|server| {
        let seen = server.request().unwrap();
        server.send(match seen.head.contains("Upgrade") {
            true => "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
            false => "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n",
        });
        server.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        server.wait_for_end();
    });
    let fixture = Fixture::with(quick(), &dyno);
    let mut socket = fixture.connect();
    socket.send(
        "GET / HTTP/1.1\r\nHost: shop.localhost\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    );
    assert_eq!(socket.response("GET").status, 101);
    let mut events = fixture.connect();
    events.send(get("/"));
    events.bytes(10);
    fixture.set(&[dyno.draining()]);
    let drained = FromRouter::Drained {
        dyno: "id-1".into(),
    };
    assert_eq!(fixture.hear(), drained);
}

#[test]
fn a_program_that_took_a_dynos_port_gets_nothing() {
    let foreign = Dyno::start(|server| {
        let seen = server.head().is_some();
        server.tell(if seen { "request" } else { "nothing" });
    });
    let fixture = Fixture::new(quick());
    let before = Listener {
        inode: foreign.inode + 1,
        ..foreign.as_listener()
    };
    fixture.set(&[BackendState::Up(before)]);
    for _ in 0..3 {
        let response = fixture.get("/");
        assert_eq!(response.status, 503);
        assert!(response.has("Dyno-Error: H21"));
    }
    let doubted = FromRouter::Doubted {
        dyno: "id-1".into(),
    };
    assert_eq!(fixture.hear(), doubted);
    assert!(fixture.told.try_recv().is_err());
    assert_eq!(foreign.next().head, "nothing");
    assert_eq!(foreign.connections(), 1);

    let dyno = Dyno::polite();
    fixture.set(&[BackendState::Up(before), dyno.up()]);
    for _ in 0..20 {
        assert_eq!(fixture.get("/").status, 200);
    }
    fixture.set(&[foreign.up()]);
    assert_eq!(fixture.ask(&get("/")).status, 503);
    assert!(
        foreign
            .seen
            .iter()
            .take(1)
            .all(|seen| seen.head == "nothing")
    );
}

#[test]
fn a_snapshot_disturbs_nothing_in_flight() {
    let gate = Arc::new(Mutex::new(()));
    let held = gate.clone();
    let slow = Dyno::start(move |server| {
        while server.request().is_some() {
            server.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
            drop(held.lock().unwrap());
            server.send("world");
        }
    });
    let fixture = Fixture::with(quick(), &slow);
    let mut client = fixture.connect();
    let closed = gate.lock().unwrap();
    client.send(get("/"));
    slow.next();
    fixture.set(&[slow.up()]);
    fixture.set(&[]);
    fixture.set_route(None);
    assert_eq!(fixture.get("/").status, 404);
    drop(closed);
    assert_eq!(client.response("GET").body, "helloworld");
    client.send(get("/"));
    assert_eq!(client.response("GET").status, 404);
}

#[test]
fn nobody_is_let_in_before_the_router_knows_every_app() {
    let dyno = Dyno::polite();
    let fixture = Fixture::that_knows_nothing(quick());
    let mut early = fixture.connect();
    early.send(get("/"));
    fixture.set(&[]);
    fixture.set(&[dyno.up()]);
    fixture.router().send(ToRouter::Ready);
    assert_eq!(early.response("GET").status, 200);
    // Said twice, it is as true.
    fixture.router().send(ToRouter::Ready);
    assert_eq!(fixture.get("/").status, 200);
}

#[test]
fn a_router_that_leaves_gives_the_answers_that_are_on_their_way_and_lets_nobody_in() {
    let (go, wait) = unbounded::<()>();
    let dyno = Dyno::start(move |server| {
        while let Some(seen) = server.request() {
            if seen.head.starts_with("GET /slow") {
                wait.recv_timeout(PATIENCE).unwrap();
            }
            server.send(HELLO);
        }
    });
    let settings = RouterSettings {
        leave_time: PATIENCE,
        ..quick()
    };
    let mut fixture = Fixture::with(settings, &dyno);
    let address = fixture.router().address();
    let (mut idle, mut slow) = (fixture.connect(), fixture.connect());
    idle.send(get("/"));
    assert_eq!(idle.response("GET").status, 200);
    slow.send(get("/slow"));
    dyno.next();
    dyno.next();
    fixture.router().leave(Leave::ForGood);
    // That is how it shows that it has begun.
    assert_eq!(idle.rest(), "");
    assert!(std::net::TcpStream::connect(address).is_err());
    // The next dyno can have the address already.
    drop(TcpListener::bind(address).unwrap());
    go.send(()).unwrap();
    assert_eq!(slow.response("GET").body, "hello");
    assert_eq!(slow.rest(), "");
    fixture.router.take().unwrap().stop();
    assert_eq!(fixture.log(2).len(), 2);
}

#[test]
fn a_router_that_leaves_cuts_off_what_has_no_end_at_once_and_the_rest_in_time() {
    let dyno = Dyno::start(|server| {
        let seen = server.request().unwrap();
        if seen.head.starts_with("GET /events") {
            server.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
        }
        if seen.head.starts_with("GET /half") {
            server.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        }
        if server.wait_for_end() {
            server.tell("closed");
        }
    });
    let settings = RouterSettings {
        leave_time: Duration::from_millis(300),
        ..quick()
    };
    let mut fixture = Fixture::with(settings, &dyno);
    let (mut events, mut half, mut none) =
        (fixture.connect(), fixture.connect(), fixture.connect());
    events.send(get("/events"));
    events.bytes(60);
    half.send(get("/half"));
    half.bytes(60);
    none.send(get("/none"));
    while !dyno.next().head.starts_with("GET /none") {}
    fixture.router.take().unwrap().stop();
    for _ in 0..3 {
        assert_eq!(dyno.next().head, "closed");
    }
    events.rest();
    half.rest();
    assert_eq!(none.response("GET").status, 503);
    let lines = fixture.log(3);
    let of = |path: &str| lines.iter().find(|line| line.contains(path)).unwrap();
    assert!(of("/events").starts_with("at=info") && of("/events").contains(" status=200 "));
    for path in ["/half", "/none"] {
        assert!(
            of(path).starts_with("at=error code=H99 desc=\"Platform error\""),
            "{lines:?}"
        );
    }
}

#[test]
fn no_request_fails_while_dynos_are_replaced_one_after_the_other() {
    let fixture = Fixture::new(quick());
    let route = |number: usize, state: BackendState| Backend {
        dyno: format!("id-{number}"),
        name: "web.1".into(),
        state,
        door: None,
    };
    let mut dyno = Dyno::polite();
    let set = |backends: Vec<Backend>| {
        fixture.set_route(Some(Route {
            backends,
            ..fixture.route(&[])
        }));
    };
    set(vec![route(0, dyno.up())]);
    let stop = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let (fixture, stop) = (&fixture, &stop);
                scope.spawn(move || {
                    let post =
                        "POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 3\r\n\r\nabc";
                    let request = if number % 2 == 0 {
                        get("/")
                    } else {
                        post.into()
                    };
                    let (mut asked, mut client) = (0, fixture.connect());
                    while !stop.load(Ordering::Relaxed) {
                        client.send(&request);
                        let response = client.response("GET");
                        assert_eq!(response.status, 200, "{response:?}");
                        asked += 1;
                        if number > 1 {
                            client = fixture.connect();
                        }
                    }
                    asked
                })
            })
            .collect();
        for number in 1..=30 {
            let next = Dyno::polite();
            set(vec![
                route(number - 1, dyno.draining()),
                route(number, next.up()),
            ]);
            let id = format!("id-{}", number - 1);
            assert_eq!(fixture.hear(), FromRouter::Drained { dyno: id });
            // Some of the requests that the new one gets are there before the old one has gone.
            next.next();
            dyno = next;
        }
        stop.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum::<usize>()
    });
    assert!(asked > 30, "{asked}");
    assert_eq!(fixture.log(asked).len(), asked);
}

#[test]
fn a_client_that_leaves_the_queue_takes_nobodys_turn() {
    let dyno = Dyno::polite();
    let fixture = Fixture::new(quick());
    fixture.set(&[BackendState::Starting]);
    let mut leaving = fixture.connect();
    leaving.send(get("/leaving"));
    let mut staying = fixture.connect();
    staying.send(get("/staying"));
    drop(leaving);
    let line = fixture.line();
    assert!(
        line.contains("code=H27") && line.contains("path=\"/leaving\"") && line.contains(" dyno= "),
        "{line}"
    );
    fixture.set(&[dyno.up()]);
    assert_eq!(staying.response("GET").status, 200);
    assert!(dyno.next().head.starts_with("GET /staying "));
    assert!(dyno.seen.try_recv().is_err());
}
