//! What ends with a token that was revoked or has expired, and what a token is good for.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::api_tcp::{Remote, VERSION_3, address_of_its_own};
use super::harness::{DEADLINE, Host, root};
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

/// The scopes, each of which includes those before it.
const SCOPES: [&str; 6] = [
    "identity",
    "read",
    "read-protected",
    "run",
    "deploy",
    "admin",
];

/// A token of each scope.
fn one_of_each(host: &Host, remote: &Remote) -> Vec<(&'static str, Remote)> {
    let of = |scope| with_token(host, remote, &["--scope", scope, "--name", scope]);
    SCOPES.map(|scope| (scope, of(scope))).into()
}

/// Every route, and the scope that it needs, as the program's own table has them.
fn routes() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("src/api/ask/tests.rs")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let row = line.trim().strip_prefix("(\"")?.strip_suffix("\"),")?;
        let (request, rest) = row.split_once("\", ")?;
        let (_, scope) = rest.rsplit_once(", \"")?;
        Some((request.to_owned(), scope.to_owned()))
    });
    rows.collect()
}

#[test]
fn every_route_is_closed_to_a_token_whose_scope_is_too_weak_and_open_to_others() {
    let (host, remote) = listening();
    let tokens = one_of_each(&host, &remote);
    let routes = routes();
    assert!(routes.len() > 90, "{} routes", routes.len());
    for (request, needed) in &routes {
        // Of an app that does not exist: what is allowed changes nothing.
        let request = request
            .replace("/apps/shop", "/apps/none")
            .replace("/shop.git", "/none.git");
        let least = match needed.as_str() {
            "socket" => None,
            "any" => Some(0),
            "run or deploy" => Some(3),
            scope => SCOPES
                .iter()
                .position(|it| scope.split(' ').next() == Some(it)),
        };
        assert!(least.is_some() || needed == "socket", "{needed}");
        for (place, (scope, remote)) in tokens.iter().enumerate() {
            let told = remote.ask(&request, &Value::Null);
            let is_refused = told.status == 403;
            assert_ne!(told.status, 401, "{request} {scope}");
            let is_too_weak = least.is_none_or(|least| place < least);
            assert_eq!(is_refused, is_too_weak, "{request} {scope}: {told:?}");
            if let (true, Some(least)) = (is_refused, least) {
                let told = told.json();
                assert_eq!(told["id"], "forbidden");
                let said = format!(
                    "the token `{scope}` has the scope `{scope}`, and this needs `{}`",
                    SCOPES[least]
                );
                assert_eq!(told["message"], said, "{request}");
            }
        }
    }
}

#[test]
fn an_address_that_needs_no_token_allows_no_more_than_the_one_that_asked_for_it() {
    let (host, remote) = listening();
    let reader = with_token(&host, &remote, &["--scope", "read", "--name", "reader"]);
    let wish = json!({"process_types": {"job": "true"}});
    let slug = remote.ask("POST /apps/plain/slugs", &wish).json();
    let info = format!("GET /apps/plain/slugs/{}", slug["id"].as_str().unwrap());
    let put = |by: &Remote| {
        let url = by.ask(&info, &Value::Null).json()["blob"]["url"].clone();
        let put = format!("PUT {}", target(by, &url));
        by.send(&put, &[], "a tarball")
    };
    let told = put(&reader);
    assert_eq!(told.status, 403, "{told:?}");
    assert!(told.body.contains("this needs `deploy`"), "{told:?}");
    assert_eq!(put(&remote).status, 200);
}

#[test]
fn the_scope_run_is_for_one_off_dynos_alone() {
    let (host, remote) = listening();
    let app = host.folder_of("forms", &[("Procfile", "clock: echo tick; sleep 1000\n")]);
    host.dyno(&app, &["deploy"]).finish().succeeds();
    host.dyno(&app, &["ps:scale", "clock=1"])
        .finish()
        .succeeds();
    host.wait_for_log("app[clock.1]: tick");
    let run = with_token(
        &host,
        &remote,
        &["--scope", "run", "--name", "runner", "-a", "forms"],
    );
    let attached = run
        .ask("POST /apps/forms/dynos", &wish("cat; env", no_window()))
        .json();
    let url = attached["attach_url"]
        .as_str()
        .unwrap()
        .replace("127.0.0.1", "localhost");
    let mut client = HerokuClient::meet(&config(&host), &url);
    client.say(b"there\n");
    client.read_until("there\n");
    for dyno in ["clock.1", "release.1"] {
        for request in [
            format!("POST /apps/forms/dynos/{dyno}/actions/stop"),
            format!("DELETE /apps/forms/dynos/{dyno}"),
            format!("POST /apps/forms/dynos/{dyno}"),
            format!("POST /apps/forms/dynos/{dyno}/inside"),
            format!("GET /apps/forms/dynos/{dyno}/attach"),
        ] {
            let told = run.ask(&request, &json!({"command": "true"}));
            match dyno {
                "clock.1" => {
                    assert_eq!(told.status, 403, "{request}: {told:?}");
                    assert!(told.body.contains("this needs `deploy`"), "{told:?}");
                }
                // It is none.
                _ => assert_eq!(told.status, 404, "{request}: {told:?}"),
            }
        }
    }
    let stopped = run.ask("POST /apps/forms/dynos/run.1/actions/stop", &Value::Null);
    assert_eq!(stopped.status, 202, "{stopped:?}");
    host.wait_for_log("heroku[run.1]: Process exited with status 143");
}

#[test]
fn a_token_for_one_app_knows_of_no_other() {
    let (host, remote) = listening();
    let other = host.folder_of("other", &[("Procfile", "clock: sleep 1000\n")]);
    host.dyno(&other, &["deploy"]).finish().succeeds();
    host.dyno(&other, &["run", "true"]).finish().succeeds();
    let mine = with_token(&host, &remote, &["--scope", "admin", "-a", "plain"]);
    let ask = |request: &str| mine.ask(request, &Value::Null);
    let names = |told: Value| -> Vec<String> {
        let named = told.as_array().unwrap().iter();
        named
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(ask("GET /apps").json()), ["plain"]);
    assert_eq!(names(ask("GET /users/~/apps").json()), ["plain"]);
    assert!(!ask("GET /usage").body.contains("other"));
    assert_eq!(ask("GET /apps/plain").status, 200);
    // It is as if there were none.
    for (there, nowhere) in [
        ("GET /apps/other", "GET /apps/wrong"),
        ("GET /apps/other/config-vars", "GET /apps/wrong/config-vars"),
        (
            "POST /apps/other/log-sessions",
            "POST /apps/wrong/log-sessions",
        ),
        ("DELETE /apps/other", "DELETE /apps/wrong"),
        (
            "POST /apps/other/dynos/run.1/actions/stop",
            "POST /apps/wrong/dynos/run.1/actions/stop",
        ),
        (
            "GET /other.git/info/refs?service=git-upload-pack",
            "GET /wrong.git/info/refs?service=git-upload-pack",
        ),
    ] {
        let (there, nowhere) = (ask(there), ask(nowhere));
        assert_eq!(there.status, 404, "{there:?}");
        assert_eq!(there.body, nowhere.body.replace("wrong", "other"));
    }
    let id = remote.ask("GET /apps/other", &Value::Null).json()["id"].clone();
    assert_eq!(
        ask(&format!("GET /apps/{}", id.as_str().unwrap())).status,
        404
    );
    // Nor is what belongs to the other to be had by way of its own.
    let release = remote
        .ask("GET /apps/other/releases/2", &Value::Null)
        .json();
    let slug = release["slug"]["id"].as_str().unwrap();
    for request in [
        format!("GET /apps/plain/slugs/{slug}"),
        format!("GET /apps/plain/slugs/{slug}/blob"),
        format!("PUT /apps/plain/slugs/{slug}/blob"),
    ] {
        assert_eq!(ask(&request).status, 404, "{request}");
    }
    let taken = mine.ask("POST /apps/plain/releases", &json!({"slug": slug}));
    assert_eq!(taken.status, 404, "{taken:?}");
    let own = remote
        .ask("GET /apps/plain/releases/2", &Value::Null)
        .json();
    let own = format!(
        "GET /apps/plain/slugs/{}",
        own["slug"]["id"].as_str().unwrap()
    );
    assert_eq!(ask(&own).status, 200);
    // What is about all apps is not for it.
    for request in ["POST /apps", "GET /server/status", "GET /server/settings"] {
        let told = ask(request);
        assert_eq!(told.status, 403, "{request}");
        assert!(told.body.contains("is for some apps alone"), "{told:?}");
    }
    // When its app is gone, it is for none.
    host.dyno(
        &host.path(),
        &["apps:destroy", "--confirm", "plain", "-a", "plain"],
    )
    .finish()
    .succeeds();
    assert_eq!(names(ask("GET /apps").json()), Vec::<String>::new());
    assert_eq!(ask("GET /apps/other").status, 404);
}

#[test]
fn a_token_makes_none_that_is_good_for_more_or_longer_than_itself() {
    let (host, remote) = listening();
    let other = host.folder_of("other", &[("Procfile", "clock: sleep 1000\n")]);
    host.dyno(&other, &["deploy"]).finish().succeeds();
    let mine = with_token(
        &host,
        &remote,
        &["--name", "mine", "-a", "plain", "--expires", "1h"],
    );
    let make = |by: &Remote, wish: Value| by.ask("POST /oauth/authorizations", &wish);
    for (wish, status) in [
        (json!({"apps": ["other"]}), 404),
        (json!({"apps": ["plain", "other"]}), 404),
        (json!({"scope": ["write"]}), 422),
        (json!({"apps": []}), 422),
    ] {
        assert_eq!(make(&mine, wish.clone()).status, status, "{wish}");
    }
    let made = make(
        &mine,
        json!({"description": "child", "expires_in": 9_000_000}),
    );
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    assert_eq!(made["scope"], json!(["global"]));
    assert_eq!(made["apps"][0]["name"], "plain");
    let left = made["access_token"]["expires_in"].as_i64().unwrap();
    assert!((3000..=3600).contains(&left), "{left}");
    let child = Remote {
        token: made["access_token"]["token"].as_str().unwrap().to_owned(),
        ..mine.clone()
    };
    // They share their requests.
    let remaining = |by: &Remote| -> u32 {
        let told = by.ask("GET /apps", &Value::Null);
        told.field("RateLimit-Remaining").unwrap().parse().unwrap()
    };
    let before = remaining(&mine);
    assert!(remaining(&child) < before);
    // Each knows of itself and of those below.
    let known = |by: &Remote| {
        let list = by.ask("GET /oauth/authorizations", &Value::Null).json();
        let list = list.as_array().unwrap().clone();
        let names = list
            .iter()
            .map(|it| it["description"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(known(&mine), ["mine", "child"]);
    assert_eq!(known(&child), ["child"]);
    let id_of = |name: &str| {
        let list = remote.ask("GET /oauth/authorizations", &Value::Null).json();
        let list = list.as_array().unwrap().clone();
        let found = list.iter().find(|it| it["description"] == name).unwrap();
        found["id"].as_str().unwrap().to_owned()
    };
    let revoke_parent = format!("DELETE /oauth/authorizations/{}", id_of("mine"));
    assert_eq!(child.ask(&revoke_parent, &Value::Null).status, 404);
    // A weaker one makes none at all.
    let reader = make(&mine, json!({"scope": ["read"], "description": "reader"})).json();
    let reader = Remote {
        token: reader["access_token"]["token"].as_str().unwrap().to_owned(),
        ..mine.clone()
    };
    assert_eq!(make(&reader, json!({"scope": ["read"]})).status, 403);
    // Those that were made with it go with it.
    assert_eq!(mine.ask(&revoke_parent, &Value::Null).status, 200);
    for gone in [&mine, &child, &reader] {
        assert_eq!(gone.ask("GET /apps", &Value::Null).status, 401);
    }
}

#[test]
fn the_command_line_makes_and_lists_tokens_for_less_than_everything() {
    let (host, _) = listening();
    let place = host.path();
    let make = |args: &[&str]| {
        host.dyno(&place, &[&["auth:token"], args].concat())
            .finish()
    };
    make(&["--scope", "deploy", "-a", "plain", "--name", "CI"]).succeeds();
    make(&["--scope", "read", "--name", "dashboard"]).succeeds();
    let list = make(&["--list"]).succeeds().text();
    assert!(list.contains("  CI  deploy for plain  made "), "{list}");
    assert!(list.contains("  dashboard  read  made "), "{list}");
    assert!(list.contains("  dyno  admin  made "), "{list}");
    make(&["--scope", "root"]).fails_with(1, "there is no `root`", "`read-protected`");
    make(&["-a", "nothing"]).fails_with(1, "`nothing`", "dyno apps");
    make(&["--list", "-a", "plain"]).fails_with(2, "-a says which app", "leave it out");
}
