//! Slugs, sources and builds over the API, as deploy clients that were written for Heroku use them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{DEADLINE, Host, eventually};

/// A request with any body, as a client sends it that knows nothing of chunks; the answer's status and body.
fn send(host: &Host, method: &str, target: &str, fields: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut socket = UnixStream::connect(host.state().join("api.sock")).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let length = body.len();
    write!(
        socket,
        "{method} {target} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n{fields}\r\n"
    )
    .unwrap();
    socket.write_all(body).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let body = answer.split_off(end + 4);
    let head = String::from_utf8(answer).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

fn json(answer: &(u16, String)) -> Value {
    serde_json::from_str(&answer.1).unwrap_or_else(|_| panic!("{answer:?}"))
}

/// A tarball as a code host makes it.
pub fn source(files: &[(&str, &str)]) -> Vec<u8> {
    tarball("ada-shop-1234abc/", files)
}

fn tarball(folder: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        let name = format!("{folder}{name}");
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A host with an app `shop`, whose server stays.
pub fn shop(settings: &[(&str, &str)]) -> Host {
    let host = Host::with(&[&[("DYNO_IDLE_LINGER", "60")], settings].concat());
    host.dyno(&host.path(), &["create", "-a", "shop"])
        .finish()
        .succeeds();
    host
}

/// Uploads a source; its URL.
pub fn upload(host: &Host, tarball: &[u8]) -> String {
    let place = json(&host.request("POST", "/sources", &Value::Null));
    let url = |which: &str| place["source_blob"][which].as_str().unwrap().to_owned();
    let (status, answer) = send(host, "PUT", &url("put_url"), "Content-Type:\r\n", tarball);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    url("get_url")
}

pub fn build(host: &Host, app: &str, url: &str) -> Value {
    let request = json!({ "source_blob": { "url": url, "version": "1234abcd5678" } });
    let answer = host.request("POST", &format!("/apps/{app}/builds"), &request);
    assert_eq!(answer.0, 201, "{answer:?}");
    json(&answer)
}

/// All of a build's log, read as it is written.
pub fn output(host: &Host, build: &Value) -> String {
    let url = build["output_stream_url"].as_str().unwrap();
    let (status, text) = send(host, "GET", url, "", b"");
    let text = String::from_utf8(text).unwrap();
    assert_eq!(status, 200, "{text}");
    text
}

pub fn again(host: &Host, build: &Value) -> Value {
    let target = format!(
        "/apps/{}/builds/{}",
        build["app"]["id"].as_str().unwrap(),
        build["id"].as_str().unwrap()
    );
    json(&host.request("GET", &target, &Value::Null))
}

const PLAIN: &[(&str, &str)] = &[("Procfile", "worker: true\n"), ("file", "text\n")];

#[test]
fn a_source_becomes_a_release_and_the_log_says_how() {
    let host = shop(&[]);
    let files = &[
        ("Procfile", "worker: true\nrelease: echo migrates\n"),
        (".slugignore", "*.md\n"),
        ("README.md", ""),
        ("file", "text\n"),
    ];
    let url = upload(&host, &source(files));
    let built = build(&host, "shop", &url);
    assert_eq!(built["status"], "pending");
    let log = output(&host, &built);
    let address = json(&host.request("GET", "/apps/shop", &Value::Null))["web_url"].clone();
    let address = address.as_str().unwrap();
    assert_eq!(
        log,
        format!(
            "-----> Building on the host's own stack\n\
             -----> Deleting 1 files matching .slugignore patterns.\n\
             -----> Discovering process types\n       Procfile declares types -> worker, release\n\n\
             -----> Compressing...\n       Done: 1K\n\
             -----> Launching...\n \
             !     Release command declared: this new release will not be available until the command succeeds.\n\
             \x20      Released v2\n       {address} deployed to dyno\n\n"
        )
    );
    let built = again(&host, &built);
    assert_eq!(built["status"], "succeeded");
    assert_eq!(output(&host, &built), log, "once more, afterwards");
    for path in [
        format!("/builds/{}/result", built["id"].as_str().unwrap()),
        format!("/apps/shop/builds/{}/result", built["id"].as_str().unwrap()),
    ] {
        let result = json(&host.request("GET", &path, &Value::Null));
        assert_eq!(result["exit_code"], 0);
        let lines = result["lines"].as_array().unwrap().iter();
        let lines: String = lines.map(|it| it["line"].as_str().unwrap()).collect();
        assert_eq!(lines, log);
    }
    let release = json(&host.request("GET", "/apps/shop/releases/v2", &Value::Null));
    assert_eq!(release["id"], built["release"]["id"]);
    assert_eq!(release["description"], "Deploy 1234abcd");
    let slug = format!("/apps/shop/slugs/{}", built["slug"]["id"].as_str().unwrap());
    let slug = json(&host.request("GET", &slug, &Value::Null));
    assert_eq!(slug["commit"], "1234abcd5678");
    host.wait_for_log("app[release.1]: migrates");
    let folder = host.path();
    host.dyno(&folder, &["ps:wait", "-a", "shop"])
        .finish()
        .succeeds();
    host.run(&folder, &["-q", "-a", "shop", "ls -A"])
        .finish()
        .prints(".slugignore\nProcfile\nfile\n");
    let list = json(&host.request("GET", "/apps/shop/builds", &Value::Null));
    let ids: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["id"])
        .collect();
    assert_eq!(ids, [&built["id"]]);
    for line in [
        "app[api]: Build started by user dyno@localhost",
        "app[api]: Deploy 1234abcd by user dyno@localhost",
        "app[api]: Build succeeded",
    ] {
        host.wait_for_log(line);
    }
}

#[test]
fn a_source_that_makes_no_sense_is_a_failed_build_and_no_release() {
    let host = shop(&[]);
    for (tarball, words) in [
        (
            source(&[("file", "")]),
            " !     there is no Procfile at the root of the source\n !     hint: it says what",
        ),
        (source(&[("Procfile", "web x\n")]), "hint: "),
        (
            b"no tarball".to_vec(),
            " !     bad source: it is not gzipped\n",
        ),
        (
            tarball("", &[("Procfile", "web: x\n"), (".slugignore", "a\0\n\0")]),
            " !     `.slugignore` is not UTF-8",
        ),
    ] {
        let built = build(&host, "shop", &upload(&host, &tarball));
        let log = output(&host, &built);
        assert!(log.contains(words), "{log}");
        assert!(log.ends_with(" !     Build failed\n\n"), "{log}");
        let built = again(&host, &built);
        assert_eq!(built["status"], "failed");
        assert_eq!(
            (&built["release"], &built["slug"]),
            (&Value::Null, &Value::Null)
        );
    }
    let releases = json(&host.request("GET", "/apps/shop/releases", &Value::Null));
    assert_eq!(releases.as_array().unwrap().len(), 1);
    let left = |folder: &str| fs::read_dir(host.state().join(folder)).unwrap().count();
    assert_eq!(left("slugs"), 0);
    assert_eq!(left("builds"), 4, "their logs");
}

#[test]
fn what_is_asked_of_sources_and_builds_has_to_make_sense() {
    let host = shop(&[]);
    let refused = |blob: Value, status, words: &str| {
        let request = json!({ "source_blob": blob });
        let answer = host.request("POST", "/apps/shop/builds", &request);
        assert_eq!(answer.0, status, "{answer:?}");
        assert!(answer.1.contains(words), "{answer:?}");
    };
    let elsewhere = json!({ "url": "https://github.com/ada/shop/archive/main.tar.gz" });
    refused(elsewhere, 422, "is not a source of this server");
    refused(
        json!({ "url": "/sources/none/blob" }),
        404,
        "no source `none`",
    );
    let place = json(&host.request("POST", "/apps/shop/sources", &Value::Null));
    let url = &place["source_blob"]["get_url"];
    refused(json!({ "url": url }), 422, "has not arrived");
    let tarball = source(PLAIN);
    let url = upload(&host, &tarball);
    let checksum = |digest: &str| json!({ "url": url, "checksum": format!("SHA256:{digest}") });
    refused(checksum(&"ab".repeat(32)), 422, "instead of");
    refused(checksum("x"), 422, "64 hexadecimal digits");
    // What is there is what was uploaded, and stays that.
    assert_eq!(send(&host, "GET", &url, "", b""), (200, tarball.clone()));
    let (status, answer) = send(&host, "PUT", &url, "", &source(&[("other", "")]));
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        status == 422 && answer.contains("checksum mismatch"),
        "{answer}"
    );
    let request = json!({ "source_blob": checksum(&sha256(&tarball)) });
    let built = json(&host.request("POST", "/apps/shop/builds", &request));
    output(&host, &built);
    assert_eq!(again(&host, &built)["status"], "succeeded");
    let (source, _) = url.split_once("/blob").unwrap();
    assert_eq!(host.request("DELETE", source, &Value::Null).0, 200);
    assert_eq!(send(&host, "GET", &url, "", b"").0, 404);
    eventually("the tarball to be removed", || {
        let mut left = fs::read_dir(host.state().join("sources")).unwrap();
        left.next().is_none().then_some(())
    });
    let id = built["id"].as_str().unwrap();
    let answer = host.request("DELETE", &format!("/apps/shop/builds/{id}"), &Value::Null);
    assert!(answer.1.contains("has ended already"), "{answer:?}");
    host.dyno(&host.path(), &["create", "-a", "other"])
        .finish()
        .succeeds();
    let answer = host.request("GET", &format!("/apps/other/builds/{id}"), &Value::Null);
    assert_eq!(answer.0, 404, "another app's: {answer:?}");
}

/// A build's slug, held so that a build of the same source cannot come to its end.
fn hold(host: &Host, tarball: &[u8]) -> File {
    let built = build(host, "shop", &upload(host, tarball));
    output(host, &built);
    let built = again(host, &built);
    let slug = format!("/apps/shop/slugs/{}", built["slug"]["id"].as_str().unwrap());
    let slug = json(&host.request("GET", &slug, &Value::Null));
    let digest = slug["checksum"].as_str().unwrap();
    let digest = digest.strip_prefix("SHA256:").unwrap();
    let slug = host.state().join("slugs").join(format!("{digest}.tgz"));
    let slug = File::open(slug).unwrap();
    flock(&slug, FlockOperation::LockExclusive).unwrap();
    slug
}

/// Waits until a build that cannot come to its end has come as far as it can.
fn wait_until_held(host: &Host, build: &Value) {
    let log = host.state().join("builds");
    let log = log.join(format!("{}.log", build["id"].as_str().unwrap()));
    eventually("a build that packs", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.ends_with("-----> Compressing...\n").then_some(())
    });
}

#[test]
fn builds_of_one_app_run_one_after_the_other_and_those_of_others_beside_them() {
    let host = shop(&[]);
    host.dyno(&host.path(), &["create", "-a", "other"])
        .finish()
        .succeeds();
    let tarball = source(PLAIN);
    let held = hold(&host, &tarball);
    let url = upload(&host, &tarball);
    let first = build(&host, "shop", &url);
    wait_until_held(&host, &first);
    let second_url = upload(&host, &source(&[("Procfile", "worker: false\n")]));
    let second = build(&host, "shop", &second_url);
    let beside = build(&host, "other", &second_url);
    output(&host, &beside);
    assert_eq!(again(&host, &beside)["status"], "succeeded");
    let third = build(&host, "shop", &url);
    let cancelled = format!("/apps/shop/builds/{}", third["id"].as_str().unwrap());
    let cancelled = json(&host.request("DELETE", &cancelled, &Value::Null));
    assert_eq!(cancelled["status"], "failed");
    assert!(output(&host, &third).contains(" !     the build was cancelled\n"));
    assert_eq!(again(&host, &second)["status"], "pending");
    drop(held);
    let log = output(&host, &second);
    assert!(
        log.starts_with("-----> Waiting for another build of shop to end...\n-----> Building on"),
        "{log}"
    );
    assert!(log.contains("Released v4"), "{log}");
    assert!(output(&host, &first).contains("Released v3"));
}

#[test]
fn a_server_that_is_killed_in_the_middle_leaves_a_failed_build_and_nothing_else() {
    let host = shop(&[]);
    let tarball = source(PLAIN);
    let held = hold(&host, &tarball);
    let url = upload(&host, &tarball);
    let lost = build(&host, "shop", &url);
    wait_until_held(&host, &lost);
    let waiting = build(&host, "shop", &url);
    host.kill_server();
    drop(held);
    for lost in [lost, waiting] {
        assert_eq!(again(&host, &lost)["status"], "failed");
        let log = output(&host, &lost);
        assert!(
            log.contains("the server was stopped in the middle"),
            "{log}"
        );
    }
    let folders = fs::read_dir(host.state().join("builds")).unwrap();
    let folders = folders.filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(folders.count(), 0);
    // The source is still there, and so is all that it takes.
    let built = build(&host, "shop", &url);
    assert!(output(&host, &built).contains("Released v3"));
}

#[test]
fn a_build_of_an_app_that_is_destroyed_ends_and_leaves_nothing() {
    let host = shop(&[]);
    let tarball = source(PLAIN);
    let held = hold(&host, &tarball);
    let lost = build(&host, "shop", &upload(&host, &tarball));
    wait_until_held(&host, &lost);
    host.dyno(&host.path(), &["apps:destroy", "--confirm", "shop"])
        .finish()
        .succeeds();
    drop(held);
    eventually("everything to be removed", || {
        let count = |folder: &str| fs::read_dir(host.state().join(folder)).unwrap().count();
        (count("builds") == 0 && count("slugs") == 0).then_some(())
    });
}

#[test]
fn a_slug_is_announced_uploaded_released_and_downloaded() {
    let host = shop(&[]);
    let tarball = tarball("./app/", PLAIN);
    let checksum = format!("SHA256:{}", sha256(&tarball));
    let announce = |checksum: &str| {
        let request = json!({
            "process_types": { "worker": "true" },
            "commit": "1234abcd5678",
            "commit_description": "Adds a cart",
            "checksum": checksum,
            "stack": "heroku-24",
            "buildpack_provided_description": "Ruby",
        });
        let answer = host.request("POST", "/apps/shop/slugs", &request);
        assert_eq!(answer.0, 201, "{answer:?}");
        json(&answer)
    };
    let slug = announce(&checksum);
    assert_eq!(slug["blob"]["method"], "put");
    let url = slug["blob"]["url"].as_str().unwrap();
    let damaged = [&tarball[..], b"x"].concat();
    let (status, answer) = send(&host, "PUT", url, "Content-Type:\r\n", &damaged);
    assert_eq!(status, 422, "{}", String::from_utf8_lossy(&answer));
    assert_eq!(
        send(&host, "PUT", url, "Content-Type:\r\n", &tarball).0,
        200
    );
    let id = slug["id"].as_str().unwrap();
    let slug = json(&host.request("GET", &format!("/apps/shop/slugs/{id}"), &Value::Null));
    assert_eq!(
        (&slug["blob"]["method"], &slug["checksum"]),
        (&json!("get"), &json!(checksum))
    );
    let url = slug["blob"]["url"].as_str().unwrap();
    assert_eq!(send(&host, "GET", url, "", b""), (200, tarball));
    let release = host.request("POST", "/apps/shop/releases", &json!({ "slug": id }));
    assert_eq!(release.0, 201, "{release:?}");
    assert_eq!(json(&release)["description"], "Deploy 1234abcd");
    host.run(&host.path(), &["-q", "-a", "shop", "cat file"])
        .finish()
        .prints("text\n");
}
