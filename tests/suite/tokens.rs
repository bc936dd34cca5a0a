//! What ends with a token that was revoked or has expired, and what a token is good for.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::api_tcp::{Remote, VERSION_3, address_of_its_own};
use super::harness::{DEADLINE, Host};
use super::heroku_client::{HerokuClient, config, no_window, window, wish};

/// A host with the app `plain` whose server listens, and a token for everything.
fn listening() -> (Host, Remote) {
    let mut host = Host::new();
    host.set("DYNO_LISTEN", address_of_its_own());
    host.set("DYNO_RENDEZVOUS", "127.0.0.1:0");
    host.plain_app();
    let remote = Remote::of(&host);
    (host, remote)
}

/// The same server, asked with another token, made with these options.
fn with_token(host: &Host, remote: &Remote, options: &[&str]) -> Remote {
    let command = [&["auth:token"], options].concat();
    let made = host.dyno(&host.path(), &command).finish();
    Remote {
        token: made.succeeds().text().trim().to_owned(),
        ..remote.clone()
    }
}

fn revoke(host: &Host, name: &str) {
    host.dyno(&host.path(), &["auth:token", "--revoke", name])
        .finish()
        .succeeds();
}

/// What is behind the host in an address of this server.
fn target(remote: &Remote, url: &Value) -> String {
    let base = format!("http://{}", remote.address);
    let url = url.as_str().unwrap();
    url.strip_prefix(&base).expect(url).to_owned()
}

/// A response that is read as it comes.
struct Slow(BufReader<TcpStream>);

impl Slow {
    /// Asks, and reads the head.
    fn ask(remote: &Remote, target: &str, fields: &[&str]) -> Self {
        let asked = Self::only_ask(remote, target, fields);
        asked.begin()
    }

    /// Asks for what is answered later.
    fn only_ask(remote: &Remote, target: &str, fields: &[&str]) -> Self {
        let mut socket = TcpStream::connect(remote.address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        write!(
            socket,
            "GET {target} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n",
            remote.address
        )
        .unwrap();
        Self(BufReader::new(socket))
    }

    fn begin(mut self) -> Self {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        self
    }

    fn wait_for(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "no {text:?}");
        }
    }

    /// What comes until the body ends, as chunks say, or the connection does.
    fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let mut piece = vec![0; 64 << 10];
        while !rest.ends_with(b"\r\n0\r\n\r\n") {
            match self.0.read(&mut piece).unwrap() {
                0 => break,
                count => rest.extend_from_slice(&piece[..count]),
            }
        }
        rest
    }
}

/// What a reader of a log is told.
const LAST_WORDS: &str =
    "heroku[logplex]: This session has ended: its token was revoked, or has expired\n";

#[test]
fn what_was_asked_for_with_a_token_ends_when_it_is_revoked() {
    let (host, remote) = listening();
    let lent = with_token(&host, &remote, &["--name", "lent"]);
    let token = format!("Authorization: Bearer {}", lent.token);
    let mine = [VERSION_3, &token];
    host.dyno(
        &host.path().join("apps/plain"),
        &["run:detached", "echo ready; sleep 1000"],
    )
    .finish()
    .succeeds();
    host.wait_for_log("app[run.1]: ready");

    let session = lent.ask(
        "POST /apps/plain/log-sessions",
        &json!({"lines": 9, "tail": true}),
    );
    let session = target(&lent, &session.json()["logplex_url"]);
    let kept = remote.ask(
        "POST /apps/plain/log-sessions",
        &json!({"lines": 9, "tail": true}),
    );
    let kept = target(&remote, &kept.json()["logplex_url"]);
    let source = lent.ask("POST /sources", &Value::Null).json();
    let (put, get) = (
        target(&lent, &source["source_blob"]["put_url"]),
        target(&lent, &source["source_blob"]["get_url"]),
    );
    let much = "x".repeat(40 << 20);
    assert_eq!(lent.send(&format!("PUT {put}"), &[], &much).status, 200);

    let mut log = Slow::ask(&lent, "/apps/plain/logs?tail=true&lines=9", &mine);
    log.wait_for("ready");
    let mut lines = Slow::ask(&lent, &session, &[]);
    lines.wait_for("ready");
    let mut events = Slow::ask(&lent, &session, &["Accept: text/event-stream"]);
    events.wait_for("ready");
    let mut others = Slow::ask(&remote, &kept, &["Accept: text/event-stream"]);
    others.wait_for("ready");
    let mut file = Slow::ask(&lent, &get, &[]);
    file.wait_for("\r\n");
    let end = Slow::only_ask(&lent, "/apps/plain/dynos/run.1/end", &mine);

    revoke(&host, "lent");
    for (reader, which) in [(log, "log"), (lines, "lines"), (events, "events")] {
        let rest = String::from_utf8(reader.rest()).unwrap();
        assert!(rest.contains(LAST_WORDS), "{which}: {rest}");
        // The end of events is that of the connection.
        assert!(
            which == "events" || rest.ends_with("\r\n0\r\n\r\n"),
            "{which}: {rest}"
        );
    }
    // A file that is not whole does not look so.
    let file = file.rest();
    assert!(
        file.len() < much.len() && !file.ends_with(b"\r\n0\r\n\r\n"),
        "{}",
        file.len()
    );
    let mut answer = [0; 13];
    { end.0 }.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401 ");

    // And none of it begins again.
    for target in [&session, &get] {
        assert_eq!(
            lent.send(&format!("GET {target}"), &[], "").status,
            404,
            "{target}"
        );
    }
    assert_eq!(lent.send(&format!("PUT {put}"), &[], "x").status, 404);
    assert_eq!(lent.ask("GET /apps", &Value::Null).status, 401);
    // What others have asked for goes on.
    host.dyno(&host.path().join("apps/plain"), &["ps:stop", "run.1"])
        .finish()
        .succeeds();
    others.wait_for("Process exited");
}

#[test]
fn what_was_asked_for_with_a_token_ends_when_it_expires() {
    let (host, remote) = listening();
    let short = with_token(&host, &remote, &["--expires", "2s"]);
    let token = format!("Authorization: Bearer {}", short.token);
    let log = Slow::ask(&short, "/apps/plain/logs?tail=true", &[VERSION_3, &token]);
    let rest = String::from_utf8(log.rest()).unwrap();
    assert!(rest.contains(LAST_WORDS), "{rest}");
    assert_eq!(short.ask("GET /apps", &Value::Null).status, 401);
}

#[test]
fn a_session_at_the_rendezvous_ends_with_the_token_that_asked_for_it() {
    let (host, remote) = listening();
    let lent = with_token(&host, &remote, &["--name", "lent"]);
    let ask = |wish: Value| {
        let told = lent.ask("POST /apps/plain/dynos", &wish).json();
        let url = told["attach_url"].as_str().unwrap();
        url.replace("127.0.0.1", "localhost")
    };
    let mut client = HerokuClient::meet(&config(&host), &ask(wish("cat", window())));
    client.say(b"here\r");
    client.read_until("here\r\nhere\r\n");
    let not_yet = ask(wish("cat", no_window()));
    revoke(&host, "lent");
    let words = String::from_utf8(client.rest().concat()).unwrap();
    assert!(
        words.contains("the token of this session was revoked"),
        "{words}"
    );
    host.wait_for_log("heroku[run.1]: Process exited with status 129");
    // A secret that was not used yet lets nobody in.
    let mut late = HerokuClient::meet(&config(&host), &not_yet);
    assert_eq!(late.rest(), Vec::<Vec<u8>>::new());
}
