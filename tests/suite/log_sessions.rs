//! Log sessions and what release phases print, as Heroku's clients read them: at addresses that need no token, over TCP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::api_tcp::{Remote, Told, address_of_its_own};
use crate::harness::{DEADLINE, Host, eventually};

/// A host with the app `plain` whose server listens.
fn listening(settings: &[(&str, &str)]) -> (Host, Remote) {
    let mut host = Host::with(settings);
    host.set("DYNO_LISTEN", address_of_its_own());
    host.plain_app();
    let remote = Remote::of(&host);
    (host, remote)
}

/// The target of a session on the log of `plain`.
fn session(remote: &Remote, wanted: Value) -> String {
    let told = remote.ask("POST /apps/plain/log-sessions", &wanted);
    assert_eq!(told.status, 201, "{told:?}");
    target(remote, told.json()["logplex_url"].as_str().unwrap())
}

/// What is behind the host in an address of this server.
fn target(remote: &Remote, url: &str) -> String {
    let base = format!("http://{}", remote.address);
    url.strip_prefix(&base).expect(url).to_owned()
}

/// One client of events.
struct Events {
    stream: BufReader<TcpStream>,
    retry: String,
    last_id: Option<String>,
}

impl Events {
    /// Asks at `target`, as one who has seen the event of this id.
    fn open(remote: &Remote, target: &str, last_id: Option<&str>) -> Self {
        let mut socket = TcpStream::connect(remote.address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let last = last_id.map(|id| format!("Last-Event-ID: {id}\r\n"));
        write!(
            socket,
            "GET {target} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n{}\r\n",
            remote.address,
            last.unwrap_or_default()
        )
        .unwrap();
        let mut stream = BufReader::new(socket);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut head).unwrap() > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("Content-Type: text/event-stream"), "{head}");
        // What breaks off is an error to the client of Heroku's CLI; so nothing says where the end is to be.
        assert!(head.contains("Connection: close\r\n"), "{head}");
        assert!(!head.contains("Transfer-Encoding"), "{head}");
        let mut events = Self {
            stream,
            retry: String::new(),
            last_id: last_id.map(str::to_owned),
        };
        events.retry = events.block().expect("how soon to come again");
        events
    }

    /// The next block of lines; None at the end of the connection.
    fn block(&mut self) -> Option<String> {
        let mut block = String::new();
        while !block.ends_with("\n\n") {
            match self.stream.read_line(&mut block) {
                Ok(1..) => {}
                // Killed in the middle of a block; that counts for nothing.
                Ok(0) => return None,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error} after {block:?}"),
            }
        }
        Some(block.trim_end().to_owned())
    }

    /// The data of the next event.
    fn next(&mut self) -> Option<String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let block = self.block()?;
            if block.starts_with(':') {
                assert!(
                    Instant::now() < deadline,
                    "no event after {:?}",
                    self.last_id
                );
                continue;
            }
            let mut data = Vec::new();
            for line in block.lines() {
                match line.split_once(": ").expect(line) {
                    ("id", id) => self.last_id = Some(id.to_owned()),
                    ("data", text) => data.push(text),
                    _ => panic!("{block}"),
                }
            }
            return Some(data.join("\n"));
        }
    }

    fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

/// The text of each line that `app` dynos have printed.
fn texts(lines: &[String]) -> Vec<&str> {
    let texts = lines.iter().filter_map(|line| {
        let (who, text) = line.split_once("]: ")?;
        who.contains(" app[run.").then_some(text)
    });
    texts.collect()
}

/// Runs `command` in a detached dyno to its end.
fn detached(host: &Host, app: &Path, command: &str) {
    let started = host
        .dyno(app, &["run:detached", "--wait", command])
        .finish();
    started.succeeds();
}

fn plain(host: &Host) -> std::path::PathBuf {
    host.path().join("apps/plain")
}

#[test]
fn whoever_has_the_address_of_a_session_reads_the_log_and_nothing_else() {
    let (host, remote) = listening(&[]);
    detached(&host, &plain(&host), "seq 1 5");
    let target = session(&remote, json!({"lines": 100, "tail": false}));
    let mut events = Events::open(&remote, &target, None);
    // Heroku's client stays for so long after the end.
    assert_eq!(events.retry, "retry: 1");
    let all = events.rest();
    assert_eq!(texts(&all), ["1", "2", "3", "4", "5"]);
    assert_eq!(all.len(), host.log_lines().len());

    // Without being asked for events, as lines.
    let told = remote.send(&format!("GET {target}"), &[], "");
    let lines: Vec<_> = told.body.lines().collect();
    assert_eq!(
        (told.status, lines),
        (200, all.iter().map(|it| &**it).collect())
    );
    assert_eq!(
        told.field("Content-Type"),
        Some("text/plain; charset=utf-8")
    );

    // An empty log is a stream as well; but a client that has everything is not to come again.
    let none = session(&remote, json!({"dyno": "web"}));
    assert!(Events::open(&remote, &none, None).rest().is_empty());
    let last = format!("Last-Event-ID: {}", events.last_id.unwrap());
    let accept = "Accept: text/event-stream";
    let over = remote.send(&format!("GET {target}"), &[accept, &last], "");
    assert_eq!(over.status, 204);

    let without = target.split("&expires").next().unwrap();
    for other in [
        without.to_owned(),
        target.replace("lines=100", "lines=1000"),
        target.replace("/log-stream", "/config-vars"),
    ] {
        let told = remote.send(&format!("GET {other}"), &[accept], "");
        assert_eq!(told.status, 401, "{other}");
    }
    let told = remote.send(&format!("DELETE {target}"), &[], "");
    assert_eq!(told.status, 401);
    // It is of no use for those who may come anyway, either.
    assert_eq!(
        remote
            .ask(&format!("GET {without}&tail=1"), &Value::Null)
            .status,
        422
    );
}

#[test]
fn a_session_picks_in_every_spelling() {
    let (host, remote) = listening(&[]);
    let app = plain(&host);
    detached(&host, &app, "echo one");
    detached(&host, &app, "seq 11 20");
    let read = |wanted: Value| {
        let target = session(&remote, wanted);
        Events::open(&remote, &target, None).rest()
    };
    for wanted in [
        json!({"dyno": "run.1", "source": "app"}),
        json!({"dyno_name": "run.1", "source": "app", "lines": 100}),
    ] {
        assert_eq!(texts(&read(wanted)), ["one"]);
    }
    for wanted in [
        json!({"dyno": "run", "source": "app", "lines": 3, "tail": false}),
        json!({"type": "run", "source": "app", "lines": 3}),
    ] {
        assert_eq!(texts(&read(wanted)), ["18", "19", "20"]);
    }
    let api = read(json!({"dyno": "api"}));
    assert!(
        api.iter().all(|line| line.contains(" app[api]: ")),
        "{api:?}"
    );
    assert!(!api.is_empty());
    for (wanted, field) in [
        (json!({"source": "nginx"}), "source"),
        (json!({"lines": -1}), "lines"),
        (json!({"tail": "maybe"}), "tail"),
        (json!({"dyno": "x".repeat(1_001)}), "dyno"),
    ] {
        let told: Told = remote.ask("POST /apps/plain/log-sessions", &wanted);
        let message = told.json()["message"].as_str().unwrap().to_owned();
        assert_eq!(told.status, 422, "{message}");
        assert!(message.contains(field), "{message}");
    }
    let told = remote.ask("POST /apps/nobody/log-sessions", &json!({}));
    assert_eq!(told.status, 404);
}

#[test]
fn a_tail_sees_every_line_once_though_its_server_is_killed_and_stopped() {
    let (host, remote) = listening(&[]);
    let app = plain(&host);
    let target = session(
        &remote,
        json!({"dyno": "run.1", "source": "app", "tail": true}),
    );
    let mut events = Events::open(&remote, &target, None);
    assert_eq!(events.retry, "retry: 3000");
    // More than lies about in the buffers of sockets.
    let total = 100_000;
    let command = format!("seq 1 {total}");
    host.dyno(&app, &["run:detached", &command])
        .finish()
        .succeeds();
    let mut seen: Vec<String> = Vec::new();
    for round in 0..4 {
        let some = (seen.len() + 1_000 * (round + 1)).min(total);
        while seen.len() < some {
            seen.push(events.next().expect("more lines"));
        }
        if round % 2 == 0 {
            host.kill_server();
        } else {
            let server = host.server().unwrap();
            host.dyno(&app, &["server:stop"]).finish().succeeds();
            server.wait_for_end();
        }
        // What was on its way arrives, and then the connection ends; not with an error.
        seen.extend(events.rest());
        host.dyno(&app, &["apps"]).finish().succeeds();
        events = Events::open(&remote, &target, events.last_id.as_deref());
    }
    while seen.len() < total {
        seen.push(events.next().expect("more lines"));
    }
    let expected: Vec<_> = (1..=total).map(|number| number.to_string()).collect();
    assert_eq!(texts(&seen), expected);
    // Nothing more comes, and it stays: what is logged now is the next event.
    host.dyno(&app, &["run:detached", "--wait", "true"])
        .finish()
        .succeeds();
    let api = session(&remote, json!({"dyno": "api", "tail": true, "lines": 1}));
    let mut api = Events::open(&remote, &api, None);
    assert!(
        api.next()
            .unwrap()
            .contains("Starting process with command `true`")
    );
    host.dyno(&app, &["config:set", "A=1"]).finish().succeeds();
    assert!(api.next().unwrap().contains("Set A config vars"));
}

#[test]
fn a_tail_that_breaks_before_its_first_line_begins_where_it_was_asked_for() {
    let (host, remote) = listening(&[]);
    let app = plain(&host);
    let wanted = json!({"dyno": "run", "source": "app", "tail": true, "lines": 2});
    let target = session(&remote, wanted);
    drop(Events::open(&remote, &target, None));
    // More than the two lines of a backlog.
    detached(&host, &app, "seq 1 5");
    host.kill_server();
    host.dyno(&app, &["apps"]).finish().succeeds();
    let mut events = Events::open(&remote, &target, None);
    let seen: Vec<_> = (0..5).map(|_| events.next().unwrap()).collect();
    assert_eq!(texts(&seen), ["1", "2", "3", "4", "5"]);
}

#[test]
fn a_tail_without_a_line_is_kept_alive() {
    let (_host, remote) = listening(&[("DYNO_LOG_KEEP_ALIVE", "0.1s")]);
    let target = session(&remote, json!({"dyno": "web", "tail": true}));
    let mut events = Events::open(&remote, &target, None);
    for _ in 0..3 {
        assert_eq!(events.block().as_deref(), Some(": ping"));
    }
}

#[test]
fn a_line_with_carriage_returns_loses_nothing() {
    let (host, remote) = listening(&[]);
    detached(&host, &plain(&host), "printf '10%%\\r20%%\\r30%%\\n'");
    let target = session(&remote, json!({"source": "app", "dyno": "run"}));
    let all = Events::open(&remote, &target, None).rest();
    assert_eq!(all.len(), 1);
    assert!(all[0].ends_with("]: 10%\n20%\n30%"), "{all:?}");
}

#[test]
fn what_a_release_phase_prints_can_be_watched_and_read_later() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let procfile =
        "release: echo begun; test -z \"$SLOW\" || sleep 1000; echo 'a b'; echo done >&2\n";
    let app = host.folder_of("plain", &[("Procfile", procfile)]);
    host.dyno(&app, &["deploy"]).finish().succeeds();
    let remote = Remote::of(&host);
    let output = |version: u32| {
        let told = remote.ask(&format!("GET /apps/plain/releases/{version}"), &Value::Null);
        let url = told.json()["output_stream_url"].clone();
        url.as_str().map(|url| target(&remote, url))
    };
    // The first has no slug.
    assert_eq!(output(1), None);
    let told = remote.send(&format!("GET {}", output(2).unwrap()), &[], "");
    assert_eq!((told.status, &*told.body), (200, "begun\na b\ndone\n"));

    // While it runs, it is there line by line.
    let told = remote.ask("PATCH /apps/plain/config-vars", &json!({"SLOW": "1"}));
    assert_eq!(told.status, 200);
    let target = output(3).unwrap();
    host.wait_for_log_lines("app[release.2]: begun", 1);
    let mut socket = TcpStream::connect(remote.address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let address = remote.address;
    write!(
        socket,
        "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut stream = BufReader::new(socket);
    let mut so_far = String::new();
    while !so_far.contains("begun\n") {
        assert!(stream.read_line(&mut so_far).unwrap() > 0, "{so_far}");
    }
    assert!(!so_far.contains("a b"), "{so_far}");
    let stop = host.request(
        "POST",
        "/apps/plain/dynos/release.2/actions/stop",
        &Value::Null,
    );
    assert_eq!(stop.0, 202);
    stream.read_to_string(&mut so_far).unwrap();
    assert!(so_far.ends_with("0\r\n\r\n"), "{so_far}");
    eventually("the release to fail", || {
        let told = remote.ask("GET /apps/plain/releases/3", &Value::Null);
        (told.json()["status"] == "failed").then_some(())
    });
}
