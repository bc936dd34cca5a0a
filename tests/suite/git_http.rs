//! `git push`, `git fetch` and `git clone` over the API's address, with the git of this host.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{FlockOperation, flock};

use crate::api_tcp::Remote;
use crate::git_push::{Checkout, finish, start};
use crate::harness::{DEADLINE, Host, eventually, lacks};

/// A checkout whose remote `http` is its app's at the API's address; with the token in it.
struct Afar<'a> {
    checkout: Checkout<'a>,
    remote: Remote,
}

impl<'a> Afar<'a> {
    fn of_app(host: &'a Host) -> Self {
        let checkout = Checkout::of_app(host, "shop");
        let remote = Remote::of(host);
        let afar = Self { checkout, remote };
        let url = afar.url("http", &afar.remote.token);
        afar.checkout
            .git(&["remote", "add", "http", &url])
            .succeeds();
        afar
    }

    fn url(&self, scheme: &str, token: &str) -> String {
        format!("{scheme}://git:{token}@{}/shop.git", self.remote.address)
    }
}

#[test]
fn an_app_is_pushed_to_fetched_and_cloned_over_http_and_https() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let Afar { checkout, remote } = &Afar::of_app(&host);
    let afar = Afar {
        checkout: Checkout {
            host: &host,
            folder: checkout.folder.clone(),
        },
        remote: remote.clone(),
    };
    let done = checkout.git(&["push", "http", "main"]).succeeds();
    let remote = done.remote();
    assert!(
        remote.starts_with("Compressing source files... done.\n"),
        "{remote}"
    );
    assert!(remote.contains("Released v2\n"), "{remote}");
    assert!(remote.contains("Verifying deploy... done."), "{remote}");
    checkout
        .git(&["push", "http", "main"])
        .succeeds()
        .mentions("Everything up-to-date");
    let ca = host.state().join("tls/ca.pem");
    let traced = [
        ("GIT_SSL_CAINFO", ca.to_str().unwrap()),
        ("GIT_TRACE_CURL", "1"),
    ];
    let tls = &traced[..1];
    let url = afar.url("https", &afar.remote.token);
    let clone = host.path().join("apps/clone");
    let clone = Checkout {
        host: &host,
        folder: clone,
    };
    let target = clone.folder.to_str().unwrap();
    checkout
        .git_with(&["clone", "--quiet", &url, target], tls)
        .succeeds();
    assert_eq!(clone.head(), checkout.head());
    // A pack that git does not hold in memory comes in chunks, and a body that is long gzipped.
    fs::write(clone.folder.join("noise"), noise(600_000)).unwrap();
    clone.commit("Is bigger");
    clone
        .git_with(
            &["-c", "http.postBuffer=1000", "push", "origin", "main"],
            &traced,
        )
        .succeeds()
        .mentions("Transfer-Encoding: chunked")
        .mentions("Released v3");
    for n in 0..60 {
        checkout.commit(&format!("Local {n}"));
    }
    checkout
        .git_with(&["fetch", "--quiet", "http"], &traced)
        .succeeds()
        .mentions("Content-Encoding: gzip");
    let fetched = checkout.git(&["rev-parse", "http/main"]).succeeds().text();
    assert_eq!(fetched, clone.head());
    // The build is refused here as there.
    clone.write("Procfile", "worker true\n");
    clone.commit("Forgets the colon");
    clone
        .git_with(&["push", "origin", "main"], tls)
        .fails_with("! [remote rejected] main -> main (the build failed)");
    let url = format!("https://{}/shop.git", afar.remote.address);
    host.dyno(&checkout.folder, &["git:remote", "--https"])
        .finish()
        .succeeds()
        .prints(&format!("set git remote dyno to {url}\n"));
    // It knows the CA and where the token is, and keeps no token.
    let token = [("HEROKU_API_KEY", afar.remote.token.as_str())];
    checkout
        .git_with(&["fetch", "--quiet", "dyno"], &token)
        .succeeds();
    let config = fs::read_to_string(checkout.folder.join(".git/config")).unwrap();
    let dyno = config.split("[remote \"http\"]").nth(1).unwrap();
    let (_, dyno) = dyno.split_once("[remote").unwrap_or_default();
    assert!(!dyno.contains(&afar.remote.token), "{config}");
    let places = checkout
        .host
        .request("GET", "/apps/shop", &serde_json::Value::Null);
    let git_url = format!("\"git_url\":\"https://{}/shop.git\"", afar.remote.address);
    assert!(places.1.contains(&git_url), "{}", places.1);
}

fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn without_a_good_token_git_gets_nothing() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let afar = Afar::of_app(&host);
    let checkout = &afar.checkout;
    for scheme in ["http", "https"] {
        let ca = host.state().join("tls/ca.pem");
        let env = [
            ("GIT_SSL_CAINFO", ca.to_str().unwrap()),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "/bin/false"),
        ];
        checkout
            .git_with(&["push", &afar.url(scheme, "wrong"), "main"], &env)
            .fails_with("Authentication failed");
        let bare = format!("{scheme}://{}/shop.git", afar.remote.address);
        checkout
            .git_with(&["ls-remote", &bare], &env)
            .fails_with("could not read Username");
    }
    checkout
        .git(&[
            "push",
            &afar.url("http", &afar.remote.token).replace("shop", "none"),
            "main",
        ])
        .fails_with("not found");
    assert_eq!(checkout.descriptions().len(), 1);
}

#[test]
fn what_is_not_gits_is_refused() {
    if lacks("git") {
        return;
    }
    let host = Host::with(&[("DYNO_SLUG_LIMIT", "1")]);
    let afar = Afar::of_app(&host);
    let token = format!("Authorization: Bearer {}", afar.remote.token);
    let ask = |request: &str, fields: &[&str], body: &str| {
        let fields = [&[&*token], fields].concat();
        afar.remote.send(request, &fields, body)
    };
    for request in [
        "GET /shop.git/info/refs",
        "GET /shop.git/info/refs?service=git-daemon",
        "GET /shop.git/HEAD",
        "GET /shop.git/objects/info/packs",
        "GET /shop.git/config",
        "DELETE /shop.git",
    ] {
        let told = ask(request, &[], "");
        assert_eq!(told.status, 403, "{request}: {}", told.body);
    }
    let told = ask("GET /none.git/info/refs?service=git-upload-pack", &[], "");
    assert_eq!(told.status, 404, "{}", told.body);
    let told = ask(
        "GET /..%2fshop.git/info/refs?service=git-upload-pack",
        &[],
        "",
    );
    assert_eq!(told.status, 404, "{}", told.body);
    let receive = "POST /shop.git/git-receive-pack";
    let content_type = "Content-Type: application/x-git-receive-pack-request";
    assert_eq!(
        ask(receive, &["Content-Type: text/plain"], "0000").status,
        415
    );
    let told = ask(receive, &[content_type, "Content-Encoding: br"], "0000");
    assert_eq!(told.status, 415);
    let told = ask(
        receive,
        &[content_type, "Content-Encoding: gzip"],
        "no gzip",
    );
    assert_eq!(told.status, 400, "{}", told.body);
    // As git probes whether it may push.
    let told = ask(receive, &[content_type], "0000");
    assert_eq!((told.status, &*told.body), (200, ""));
    // Little that becomes much.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&vec![b'0'; 6_000_000]).unwrap();
    let bomb = gzip.finish().unwrap();
    let mut socket = TcpStream::connect(afar.remote.address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(
        socket,
        "{receive} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{token}\r\n{content_type}\r\n\
         Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        afar.remote.address,
        bomb.len()
    )
    .unwrap();
    socket.write_all(&bomb).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    fs::write(afar.checkout.folder.join("noise"), noise(7_000_000)).unwrap();
    afar.checkout.commit("Is big");
    afar.checkout
        .git(&["push", "http", "main"])
        .fails_with("error: ");
    let told = ask("GET /shop.git/info/refs?service=git-upload-pack", &[], "");
    assert!(
        told.body.starts_with("001e# service=git-upload-pack\n0000"),
        "{}",
        told.body
    );
}

#[test]
fn a_push_whose_client_is_killed_goes_on_and_the_branch_says_so() {
    if lacks("git") {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let Afar { checkout, .. } = Afar::of_app(&host);
    checkout.git(&["push", "http", "main"]).succeeds();
    let held = checkout.hold();
    checkout.commit("One");
    let mut pushing = start(&mut checkout.command(&["push", "http", "main"]));
    checkout.wait_until_held();
    pushing.kill().unwrap();
    pushing.wait().unwrap();
    drop(held);
    eventually("the branch to move", || {
        (checkout.deployed() == checkout.head()).then_some(())
    });
    assert_eq!(checkout.descriptions().len(), 3);
}

#[test]
fn a_push_that_outlives_its_server_starts_no_other_with_its_own_bounds() {
    if lacks("git") {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let Afar { checkout, .. } = Afar::of_app(&host);
    checkout.git(&["push", "http", "main"]).succeeds();
    let before = checkout.deployed();
    let held = checkout.hold();
    checkout.commit("One");
    let pushing = start(&mut checkout.command(&["push", "http", "main"]));
    checkout.wait_until_held();
    host.kill_server();
    drop(held);
    finish(pushing, "push".into()).fails_with("unexpected disconnect");
    // The hook holds this for as long as it hopes for a server.
    let lock = host.state().join("git/shop.git/dyno.lock");
    let lock = fs::File::open(lock).unwrap();
    eventually("the push to end", || {
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()
    });
    assert!(host.server().is_none());
    drop(lock);
    assert_eq!(checkout.deployed(), before);
    checkout.push().succeeds();
    assert_eq!(checkout.deployed(), checkout.head());
}

#[test]
fn so_many_gits_run_at_once() {
    if lacks("git") {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let Afar { checkout, .. } = Afar::of_app(&host);
    checkout.git(&["push", "http", "main"]).succeeds();
    let held = checkout.hold();
    checkout.commit("One");
    let first = start(&mut checkout.command(&["push", "http", "main"]));
    checkout.wait_until_held();
    let mut others = Vec::new();
    let refused = eventually("a push that is refused", || {
        if others.len() < 30 {
            others.push(start(&mut checkout.command(&["push", "http", "main"])));
        }
        let ended = others
            .iter_mut()
            .position(|it| it.try_wait().unwrap().is_some())?;
        Some(others.remove(ended))
    });
    finish(refused, "push".into()).fails_with("503");
    drop(held);
    finish(first, "push".into()).succeeds();
    for other in others {
        let said = finish(other, "push".into()).said();
        let known = ["fetch first", "503", "Everything up-to-date"];
        assert!(known.iter().any(|it| said.contains(it)), "{said}");
    }
    assert_eq!(checkout.deployed(), checkout.head());
    assert_eq!(checkout.descriptions().len(), 3);
}
