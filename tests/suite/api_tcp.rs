//! The API over TCP, as any HTTP client sees it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::{Value, json};

use super::harness::{DEADLINE, Host, eventually};
use super::heroku_client::config_of;

#[test]
fn nothing_is_taken_from_whom_nobody_knows() {
    let host = Host::new();
    let remote = Remote::of(&host);
    let expired = "/sources/1/blob?expires=1&signature=0";
    let wrong = "Authorization: Bearer dyno_wrong";
    for (target, field) in [
        ("POST /apps", VERSION_3),
        ("POST /apps", wrong),
        (&*format!("PUT {expired}"), VERSION_3),
    ] {
        let mut socket = TcpStream::connect(remote.address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        // Only the head comes, and the body is not waited for.
        write!(
            socket,
            "{target} HTTP/1.1\r\nHost: x\r\n{field}\r\nContent-Length: 1000000\r\n\r\n"
        )
        .unwrap();
        let mut answer = [0; 13];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 401 ", "{target} {field}");
    }
}

#[test]
fn a_browser_changes_nothing_for_another_page_and_is_asked_for_no_token() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let remote = Remote::of(&host);
    let asked = |target: &str, fields: &str| {
        let mut socket = TcpStream::connect(remote.address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(
            socket,
            "{target} HTTP/1.1\r\nHost: {}\r\n{VERSION_3}\r\nConnection: close\r\nContent-Length: 0\r\n{fields}\r\n",
            remote.address
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    };
    let token = format!("Authorization: Bearer {}\r\n", remote.token);
    for (fields, status) in [
        ("Sec-Fetch-Site: cross-site\r\n", "403"),
        ("Origin: http://evil.example\r\n", "403"),
        ("", "201"),
    ] {
        let answer = asked("POST /apps", &format!("{token}{fields}"));
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
    let asks = |answer: &str| answer.to_ascii_lowercase().contains("www-authenticate");
    let answer = asked("GET /apps", "");
    assert!(
        answer.starts_with("HTTP/1.1 401 ") && !asks(&answer),
        "{answer}"
    );
    let answer = asked("GET /shop.git/info/refs?service=git-upload-pack", "");
    assert!(
        answer.starts_with("HTTP/1.1 401 ") && asks(&answer),
        "{answer}"
    );
}

#[test]
fn slow_uploads_from_a_network_keep_nobody_on_the_host_waiting() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let remote = Remote::of(&host);
    let uploads: Vec<_> = (0..8)
        .map(|_| {
            let source = remote.ask("POST /sources", &Value::Null).json();
            let url = source["source_blob"]["put_url"].as_str().unwrap();
            let (_, target) = url.split_once(&remote.address.to_string()).unwrap();
            let mut socket = TcpStream::connect(remote.address).unwrap();
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            write!(
                socket,
                "PUT {target} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
            )
            .unwrap();
            let mut answer = [0; 13];
            socket.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 100 ");
            socket
        })
        .collect();
    let app = host.plain_app();
    host.run(&app, &["echo hello"]).finish().prints("hello\n");
    drop(uploads);
}

/// What a client is told.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Told {
    /// A header field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(": ")?;
            known.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A connection over TLS, checked against the CA in the host's state folder. Its end is to be said, as TLS has it.
pub fn over_tls(
    host: &Host,
    socket: TcpStream,
    address: SocketAddr,
) -> StreamOwned<ClientConnection, TcpStream> {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let config = config_of(&host.state().join("tls/ca.pem"));
    let name = ServerName::IpAddress(address.ip().into());
    let connection = ClientConnection::new(config, name).unwrap();
    StreamOwned::new(connection, socket)
}

/// One that asks over TCP.
#[derive(Debug, Clone)]
pub struct Remote {
    pub address: SocketAddr,
    pub token: String,
}

pub const VERSION_3: &str = "Accept: application/vnd.heroku+json; version=3";

impl Remote {
    /// A host whose server listens, with a token for it.
    pub fn of(host: &Host) -> Self {
        let listening = host.request("POST", "/server/actions/listen", &Value::Null);
        let listening: Value = serde_json::from_str(&listening.1).unwrap();
        let made = host.dyno(&host.path(), &["auth:token"]).finish();
        Self {
            address: listening["api"].as_str().unwrap().parse().unwrap(),
            token: made.succeeds().text().trim().to_owned(),
        }
    }

    /// Sends a request with these header lines, and nothing else but `Host` and the body's length.
    pub fn send(&self, request: &str, fields: &[&str], body: &str) -> Told {
        let socket = TcpStream::connect(self.address).unwrap();
        self.exchange(socket, request, fields, body)
    }

    /// The same over TLS, to a server that the CA of this host vouches for.
    pub fn send_tls(&self, host: &Host, request: &str, fields: &[&str], body: &str) -> Told {
        let socket = TcpStream::connect(self.address).unwrap();
        self.exchange(over_tls(host, socket, self.address), request, fields, body)
    }

    fn exchange(
        &self,
        mut stream: impl Read + Write,
        request: &str,
        fields: &[&str],
        body: &str,
    ) -> Told {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let request = format!(
            "{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let mut told = Told {
            status: status.expect("a status"),
            head: head.to_owned(),
            body: body.to_owned(),
        };
        if told.field("Transfer-Encoding") == Some("chunked") {
            told.body = whole(&told.body);
        }
        told
    }

    /// As Heroku's clients ask.
    pub fn ask(&self, request: &str, body: &Value) -> Told {
        let token = format!("Authorization: Bearer {}", self.token);
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.send(request, &[VERSION_3, &token], &body)
    }
}

/// An address that no other server of the tests takes while this one's is away: below those of dynos, and of those that
/// the kernel hands out.
pub fn address_of_its_own() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = std::process::id() * 8 + NEXT.fetch_add(1, Ordering::Relaxed);
        let address = format!("127.0.0.1:{}", 10_000 + next % 9_000);
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

/// A body that came in chunks.
fn whole(mut chunks: &str) -> String {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n").expect("a chunk");
        let size = usize::from_str_radix(size, 16).expect("its size");
        if size == 0 {
            return body;
        }
        body += &rest[..size];
        chunks = &rest[size + 2..];
    }
}

#[test]
fn only_a_good_token_opens_the_door() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    host.plain_app();
    let remote = Remote::of(&host);
    assert_eq!(remote.ask("GET /apps", &Value::Null).status, 200);
    let basic = |password: &str| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(format!(":{password}"));
        format!("Authorization: Basic {text}")
    };
    for (field, status) in [
        (basic(&remote.token), 200),
        (format!("Authorization: bearer {}", remote.token), 200),
        (basic("wrong"), 401),
        (format!("Authorization: Bearer {}x", remote.token), 401),
        ("Authorization: Bearer ".to_owned(), 401),
        ("X-Authorization: none".to_owned(), 401),
    ] {
        let told = remote.send("GET /apps", &[VERSION_3, &field], "");
        assert_eq!(told.status, status, "{field}: {told:?}");
        if status == 401 {
            assert_eq!(told.json()["id"], "unauthorized");
            // A browser that was asked would keep the token, and send it along for any page.
            assert_eq!(told.field("www-authenticate"), None);
        }
    }
    // Nobody is told more than that: not even what there is.
    let told = remote.send("GET /nothing", &[VERSION_3], "");
    assert_eq!(told.status, 401);
    // Only the hash of a token is in the state.
    let state = std::fs::read(host.state().join("state.db")).unwrap();
    let wal = std::fs::read(host.state().join("state.db-wal")).unwrap_or_default();
    for file in [state, wal] {
        assert!(memchr(&file, remote.token.as_bytes()).is_none());
    }
}

fn memchr(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len())
        .position(|window| window == needle)
}

#[test]
fn what_is_about_this_host_is_asked_at_the_unix_socket_alone() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    host.plain_app();
    let remote = Remote::of(&host);
    for request in [
        "GET /links?path=%2Ftmp",
        "PUT /links",
        "POST /sessions",
        "POST /server/actions/stop",
        "POST /server/actions/replace",
        "POST /server/actions/listen",
    ] {
        let told = remote.ask(request, &Value::Null);
        assert_eq!(
            (told.status, &told.json()["id"]),
            (403, &json!("forbidden")),
            "{request}"
        );
    }
    assert!(host.server().is_some());
}

#[test]
fn nobody_from_afar_has_a_folder_of_this_host_shown_to_a_dyno() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    host.plain_app();
    let remote = Remote::of(&host);
    let place = json!({"path": "/etc", "device": 1, "inode": 2});
    let slug = remote
        .ask("GET /apps/plain/releases/2", &Value::Null)
        .json()["slug"]["id"]
        .clone();
    let toolchains = json!({"path": ["/root"], "folders": ["/root"], "env": {}});
    for (request, body) in [
        ("POST /apps", json!({"name": "linked", "folder": place})),
        (
            "POST /apps/plain/releases",
            json!({"slug": slug, "toolchains": toolchains}),
        ),
        (
            "POST /apps/plain/releases",
            json!({"slug": slug, "folder": place}),
        ),
    ] {
        let told = remote.ask(request, &body);
        assert_eq!(
            (told.status, &told.json()["id"]),
            (403, &json!("forbidden")),
            "{body}"
        );
    }
    let told = remote.ask("POST /apps/plain/releases", &json!({ "slug": slug }));
    assert_eq!(told.status, 201);
    // Config vars may be called so.
    let vars = json!({"folder": "a", "toolchains": "b"});
    let told = remote.ask("PATCH /apps/plain/config-vars", &vars);
    assert_eq!((told.status, told.json()), (200, vars));
}

#[test]
fn responses_have_herokus_manners() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60"), ("DYNO_RATE_LIMIT", "40")]);
    host.plain_app();
    let remote = Remote::of(&host);
    let token = format!("Authorization: Bearer {}", remote.token);
    let first = remote.send(
        "GET /apps/plain",
        &[VERSION_3, &token, "Request-Id: a,b"],
        "",
    );
    assert_eq!(
        (first.status, first.field("Request-Id")),
        (200, Some("a,b"))
    );
    assert_eq!(first.field("RateLimit-Remaining"), Some("39"));
    let tag = first.field("ETag").unwrap().to_owned();
    let has = format!("If-None-Match: {tag}");
    let again = remote.send("GET /apps/plain", &[VERSION_3, &token, &has], "");
    assert_eq!((again.status, &*again.body), (304, ""));
    assert_eq!(again.field("Request-Id").unwrap().len(), 36);
    assert_ne!(again.field("Request-Id"), first.field("Request-Id"));
    let limits = remote.ask("GET /account/rate-limits", &Value::Null);
    let remaining = limits.json()["remaining"].to_string();
    assert_eq!(Some(&*remaining), limits.field("RateLimit-Remaining"));
    // Any variant of the version will do, and none will not.
    let variant = "Accept: application/vnd.heroku+json; version=3.run-inside";
    assert_eq!(remote.send("GET /apps", &[variant, &token], "").status, 200);
    let told = remote.send("GET /apps", &["Accept: */*", &token], "");
    assert_eq!(
        (told.status, &told.json()["id"]),
        (406, &json!("not_acceptable"))
    );
    for (request, body, status, id) in [
        ("GET /apps/nothing", "", 404, "not_found"),
        ("POST /apps", "{", 400, "bad_request"),
        ("POST /apps", r#"{"name":"plain"}"#, 422, "invalid_params"),
    ] {
        let told = remote.send(request, &[VERSION_3, &token], body);
        assert_eq!(
            (told.status, told.json()["id"].as_str()),
            (status, Some(id)),
            "{request}"
        );
        assert!(!told.json()["message"].as_str().unwrap().is_empty());
    }
    let last = eventually("an empty bucket", || {
        let told = remote.ask("GET /apps", &Value::Null);
        (told.status != 200).then_some(told)
    });
    assert_eq!(
        (last.status, &last.json()["id"]),
        (429, &json!("rate_limit"))
    );
    assert_eq!(last.field("RateLimit-Remaining"), Some("0"));
    // Another token has a bucket of its own; the Unix socket has none.
    let other = Remote::of(&host);
    assert_eq!(other.ask("GET /apps", &Value::Null).status, 200);
    for _ in 0..50 {
        assert_eq!(host.request("GET", "/apps", &Value::Null).0, 200);
    }
}

#[test]
fn a_server_that_listens_stays_and_its_successor_listens_at_the_same_place() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "0")]);
    host.plain_app();
    if let Some(server) = host.server() {
        server.wait_for_end();
    }
    // Where a server before has listened, and no other of the tests will.
    std::fs::write(host.state().join("listen"), address_of_its_own()).unwrap();
    let remote = Remote::of(&host);
    let server = host.server().unwrap();
    assert!(!server.ended_by(std::time::Instant::now() + std::time::Duration::from_millis(300)));
    host.kill_server();
    host.dyno(&host.path(), &["apps"]).finish().succeeds();
    assert_eq!(remote.ask("GET /apps", &Value::Null).status, 200);
    let status = host
        .dyno(&host.path(), &["server:status"])
        .finish()
        .succeeds()
        .text();
    assert!(
        status.contains(&format!("API over TCP: {}", remote.address)),
        "{status}"
    );
}

#[test]
fn clients_from_a_network_keep_nobody_at_the_socket_waiting() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    host.plain_app();
    let remote = Remote::of(&host);
    // More than may come from there; those beyond wait, and are forgotten when they leave.
    let silent: Vec<_> = (0..600)
        .map(|_| TcpStream::connect(remote.address).unwrap())
        .collect();
    for _ in 0..20 {
        assert_eq!(host.request("GET", "/apps", &Value::Null).0, 200);
    }
    drop(silent);
    assert_eq!(remote.ask("GET /apps", &Value::Null).status, 200);
}

#[test]
fn one_port_speaks_tls_and_not_as_the_client_likes() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    host.plain_app();
    let remote = Remote::of(&host);
    let token = format!("Authorization: Bearer {}", remote.token);
    for _ in 0..3 {
        let told = remote.send_tls(&host, "GET /apps/plain", &[VERSION_3, &token], "");
        assert_eq!((told.status, &told.json()["name"]), (200, &json!("plain")));
        let told = remote.send("GET /apps/plain", &[VERSION_3, &token], "");
        assert_eq!(told.status, 200);
    }
    // More than a record, both ways.
    let long = "x".repeat(60_000);
    let body = json!({ "LONG": long }).to_string();
    let request = "PATCH /apps/plain/config-vars";
    let told = remote.send_tls(&host, request, &[VERSION_3, &token], &body);
    assert_eq!(
        (told.status, told.json()["LONG"].as_str()),
        (200, Some(&*long))
    );
    // What begins like TLS and is none is cut off, and nobody else notices.
    let mut garbage = TcpStream::connect(remote.address).unwrap();
    garbage
        .write_all(b"\x16\x03\x01garbage garbage garbage")
        .unwrap();
    garbage.set_read_timeout(Some(DEADLINE)).unwrap();
    let _ = garbage.read_to_end(&mut Vec::new());
    assert_eq!(remote.ask("GET /apps", &Value::Null).status, 200);
}
