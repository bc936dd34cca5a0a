//! The ports of the API, the router and the rendezvous: no dyno ever gets one, whether a server runs, has stopped or was
//! killed, and a port that another process has keeps nobody from the commands that need none.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::api_tcp::Remote;
use super::harness::{DEADLINE, Host, eventually, free_port, is_root, lacks, leave_out};

/// Tries again and again to listen on the ports that it is given, on each address by which `localhost` may be reached, in each
/// way that the kernel has; says what it has got, and every now and then that it still tries.
const THIEF: &str = r#"
import socket, sys, time
from itertools import product
ports, rounds, kept = [int(port) for port in sys.argv[1:]], 0, []
places = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::")]
print("begun", flush=True)
while True:
    for port, (family, host), address, ports_too, only in product(ports, places, (0, 1), (0, 1), (0, 1)):
        s = socket.socket(family)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, address)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, ports_too)
        if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        try:
            s.bind((host, port)); s.listen(); kept.append(s); print("TOOK", host, port, flush=True)
        except OSError: s.close()
    rounds += 1
    if rounds % 20 == 0: print("round", rounds, flush=True)
    time.sleep(.001)
"#;

/// A host whose server listens at three ports of the loopback interface, and an app with a thief in it.
struct Kept {
    host: Host,
    app: PathBuf,
    /// Of router, API and rendezvous.
    ports: [u16; 3],
}

fn has_no_v6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err()
}

fn at(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

impl Kept {
    fn new() -> Self {
        let ports = [(); 3].map(|()| free_port());
        let [router, listen, rendezvous] = ports.map(at);
        let host = Host::with(&[
            ("DYNO_IDLE_LINGER", "60"),
            ("DYNO_ROUTER", &router),
            ("DYNO_LISTEN", &listen),
            ("DYNO_RENDEZVOUS", &rendezvous),
        ]);
        let app = host.folder_of("evil", &[("Procfile", "job: true\n"), ("thief.py", THIEF)]);
        host.dyno(&app, &["deploy", "--no-web"]).finish().succeeds();
        Self { host, app, ports }
    }

    /// A dyno that tries to get the ports.
    fn begin_to_steal(&self) {
        let [router, listen, rendezvous] = self.ports;
        let command = format!("python3 thief.py {router} {listen} {rendezvous}");
        self.host
            .dyno(&self.app, &["run:detached", &command])
            .finish()
            .succeeds();
        self.host.wait_for_log("app[run.1]: begun");
    }

    /// How often the thief has said that it still tries.
    fn rounds(&self) -> usize {
        let lines = self.host.log_lines();
        let rounds = lines.iter();
        rounds
            .filter(|line| line.starts_with("app[run.1]: round "))
            .count()
    }

    /// Waits until the thief has tried every way some twenty times more.
    fn let_it_try(&self) {
        let before = self.rounds();
        eventually("another round of the thief", || {
            (self.rounds() > before + 1).then_some(())
        });
    }

    fn took(&self) -> Vec<String> {
        let mut lines = self.host.log_lines();
        lines.retain(|line| line.contains("TOOK"));
        lines
    }

    fn status(&self) -> Value {
        let status = self
            .host
            .dyno(&self.app, &["server:status", "--json"])
            .finish();
        serde_json::from_str(&status.succeeds().text()).unwrap()
    }

    /// Has the next server start, and sees that it listens where the one before did.
    fn serves_again(&self) {
        self.host.dyno(&self.app, &["ps"]).finish().succeeds();
        let status = self.status();
        let [router, listen, rendezvous] = self.ports.map(at);
        assert_eq!(
            (&status["router"], &status["api"], &status["rendezvous"]),
            (&router.into(), &listen.into(), &rendezvous.into())
        );
        assert_eq!(status["missing"], serde_json::json!([]));
        for port in self.ports {
            for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
                if ip == Ipv6Addr::LOCALHOST && has_no_v6() {
                    continue;
                }
                TcpStream::connect(SocketAddr::new(ip, port)).unwrap();
            }
        }
    }
}

fn said_by(address: SocketAddr, host: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut said = String::new();
    let _ = socket.read_to_string(&mut said);
    said
}

#[test]
fn no_dyno_gets_a_port_of_the_servers_while_it_runs_or_after_it_stopped_or_was_killed() {
    if lacks("python3") {
        return;
    }
    let kept = Kept::new();
    kept.begin_to_steal();
    kept.let_it_try();
    kept.host
        .dyno(&kept.app, &["server:stop"])
        .finish()
        .succeeds();
    kept.let_it_try();
    kept.serves_again();
    kept.host.kill_server();
    kept.let_it_try();
    kept.serves_again();
    // The sockets that were taken back are kept again.
    kept.host.kill_server();
    kept.let_it_try();
    assert_eq!(kept.took(), Vec::<String>::new());
}

#[test]
fn a_client_that_comes_while_there_is_no_server_waits_and_is_turned_away_after_a_while() {
    let kept = Kept::new();
    kept.host
        .dyno(&kept.app, &["run:detached", "sleep 1000"])
        .finish()
        .succeeds();
    kept.host
        .wait_for_log("heroku[run.1]: State changed from starting to up");
    kept.host.kill_server();
    let [router, listen, _] = kept.ports;
    // One that comes at once is served by the next server.
    let request = b"GET / HTTP/1.1\r\nHost: nothing.localhost\r\nConnection: close\r\n\r\n";
    let mut early = TcpStream::connect((Ipv4Addr::LOCALHOST, router)).unwrap();
    early.set_read_timeout(Some(DEADLINE)).unwrap();
    early.write_all(request).unwrap();
    kept.serves_again();
    let mut answer = String::new();
    early.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    // Without a next server it is told within some ten seconds, and what it has sent is read by nobody.
    kept.host.kill_server();
    let began = Instant::now();
    for port in [router, listen] {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.write_all(request).unwrap();
        let turned_away = client.read(&mut [0]).unwrap_err();
        assert_eq!(turned_away.kind(), ErrorKind::ConnectionReset);
    }
    assert!(began.elapsed() > Duration::from_secs(5));
    kept.serves_again();
    // Once no dyno lives and no server runs, the ports are anybody's.
    kept.host
        .dyno(&kept.app, &["server:stop", "--all"])
        .finish()
        .succeeds();
    kept.host.wait_until_clean();
    for port in kept.ports {
        eventually("a port that nobody keeps", || {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
        });
    }
}

#[test]
fn an_address_that_the_settings_do_not_name_any_more_is_closed() {
    let mut kept = Kept::new();
    kept.host
        .dyno(&kept.app, &["run:detached", "sleep 1000"])
        .finish()
        .succeeds();
    kept.host
        .dyno(&kept.app, &["server:stop"])
        .finish()
        .succeeds();
    let (before, now) = (kept.ports[0], free_port());
    kept.ports[0] = now;
    kept.host.set("DYNO_ROUTER", at(now));
    kept.serves_again();
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        eventually("an address that nobody listens on", || {
            TcpListener::bind(SocketAddr::new(ip, before))
                .map(drop)
                .or_else(|_| if has_no_v6() { Ok(()) } else { Err(()) })
                .ok()
        });
    }
}

#[test]
fn a_token_goes_to_no_dyno_that_listens_in_the_clear() {
    if lacks("python3") {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    if host.in_folders() && !is_root() {
        return leave_out("without walls, a user's dyno is that user");
    }
    let listener = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); \
                    print('at', s.getsockname()[1], flush=True); \
                    c, _ = s.accept(); c.settimeout(1); print('GOT', c.recv(4000), flush=True)";
    let app = host.folder_of(
        "evil",
        &[("Procfile", "job: true\n"), ("listen.py", listener)],
    );
    host.dyno(&app, &["deploy", "--no-web"]).finish().succeeds();
    host.dyno(&app, &["run:detached", "python3 listen.py"])
        .finish()
        .succeeds();
    let port = eventually("a dyno that listens", || {
        let lines = host.log_lines();
        let line = lines
            .iter()
            .find(|line| line.starts_with("app[run.1]: at "));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u16>().ok())
    });
    for name in ["localhost", "127.0.0.1"] {
        host.dyno(&app, &["apps"])
            .env("DYNO_HOST", format!("http://{name}:{port}"))
            .env("DYNO_API_KEY", "dyno_secret")
            .finish()
            .fails_with(
                1,
                &format!("listens at `127.0.0.1:{port}`; the token was not sent"),
                "with `https://` its certificate says whose it is",
            );
    }
    assert!(!host.log_lines().iter().any(|line| line.contains("GOT")));
    // The server's own socket gets it, by either name.
    let remote = Remote::of(&host);
    for name in ["localhost", "127.0.0.1"] {
        let port = remote.address.port();
        let apps = host
            .dyno(&app, &["apps"])
            .env("DYNO_HOST", format!("http://{name}:{port}"))
            .env("DYNO_API_KEY", &remote.token)
            .finish();
        assert!(apps.succeeds().text().contains("evil"));
    }
}

#[test]
fn both_loopback_addresses_lead_to_the_server() {
    if has_no_v6() {
        return leave_out("this host has no IPv6");
    }
    let kept = Kept::new();
    kept.serves_again();
    let [router, listen, _] = kept.ports;
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let answer = said_by(SocketAddr::new(ip, router), "none.localhost");
        assert!(answer.starts_with("HTTP/1.1 404 "), "{ip}: {answer}");
        let answer = said_by(SocketAddr::new(ip, listen), "localhost");
        assert!(answer.starts_with("HTTP/1.1 401 "), "{ip}: {answer}");
    }
}

#[test]
fn a_server_starts_without_a_port_that_is_taken_and_has_it_when_it_is_free() {
    let taken = eventually("a port that is free on both addresses", || {
        let port = free_port();
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
    });
    let address = taken.local_addr().unwrap();
    let host = Host::with(&[
        ("DYNO_IDLE_LINGER", "60"),
        ("DYNO_ROUTER", &address.to_string()),
        ("DYNO_LISTEN", &address.to_string()),
    ]);
    let app = host.plain_app();
    host.dyno(&app, &["run:detached", "sleep 1000"])
        .finish()
        .succeeds();
    let cannot = format!("the router cannot listen on `{address}`: process ");
    let words = format!("{cannot}{} (", std::process::id());
    let status = host.dyno(&app, &["server:status"]).finish();
    let status = status.succeeds().text();
    for missing in [
        &words,
        &format!("the API over TCP cannot listen on `{address}`: "),
    ] {
        assert!(
            status.contains(&format!("missing:      {missing}")),
            "{status}"
        );
    }
    // At that moment a process that another test was just starting may have had a copy.
    assert!(host.server_log().contains(&cannot));
    // What a user does about it needs no port.
    host.dyno(&app, &["ps"]).finish().succeeds();
    host.dyno(&app, &["ps:stop", "run.1"]).finish().succeeds();
    host.dyno(&app, &["run:detached", "sleep 1000"])
        .finish()
        .succeeds();
    host.kill_server();
    host.dyno(&app, &["server:stop", "--all"])
        .finish()
        .succeeds();
    host.wait_until_clean();
    host.dyno(&app, &["ps"]).finish().succeeds();
    drop(taken);
    // One of the two gets it, and the other one goes on to ask.
    eventually("a router at the port that has become free", || {
        let status = host.dyno(&app, &["server:status", "--json"]).finish();
        let status: Value = serde_json::from_str(&status.succeeds().text()).unwrap();
        let missing = status["missing"].as_array().unwrap().len();
        (status["router"] == address.to_string() && missing == 1).then_some(())
    });
    assert!(
        host.server_log()
            .contains(&format!("the router listens on `{address}` now"))
    );
    host.server().unwrap().signal(Signal::TERM);
}
