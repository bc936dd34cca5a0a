//! Bounds, as a user meets them who passes one: docs/limits.md lists them all.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{DEADLINE, Host, root, write};

#[test]
fn what_is_typed_has_bounds() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = host.plain_app();
    let command = |length: usize| format!("true {}", "x".repeat(length - "true ".len()));
    // An argument of a program has 128 KiB at most, on the way to dyno too.
    host.run(&app, &["-q", &command(120 * 1024)])
        .finish()
        .succeeds();
    host.run(&app, &["-q", &command(120 * 1024 + 1)])
        .finish()
        .fails_with(
            125,
            "the command is 122881 bytes long",
            "there is room for 122880",
        );
    let value = |length: usize| format!("A={}", "x".repeat(length - 1));
    host.run(&app, &["-q", "-e", &value(64 * 1024), "true"])
        .finish()
        .succeeds();
    host.run(&app, &["-q", "-e", &value(64 * 1024 + 1), "true"])
        .finish()
        .fails_with(125, "65537 bytes", "65536");
    host.dyno(&app, &["config:set", &value(64 * 1024 + 1)])
        .finish()
        .fails_with(1, "65537 bytes", "65536");
    let name = "x".repeat(257);
    host.dyno(&app, &["config:set", &format!("{name}=1")])
        .finish()
        .fails_with(1, "is too long", "256");
    host.dyno(&app, &["create", "-a", &"x".repeat(31)])
        .finish()
        .fails_with(1, "cannot be the name of an app", "3 to 30");
    host.run(&app, &["--ttl", "25h", "true"])
        .finish()
        .fails_with(125, "a time to live of 25h", "`24h`");
    host.dyno(&app, &["logs", "-n", "4294967296"])
        .finish()
        .fails_with(2, "4294967296 is not in", "--help");
}

#[test]
fn files_of_an_app_have_bounds() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60"), ("DYNO_SLUG_LIMIT", "1")]);
    let deploy = |folder| host.dyno(folder, &["deploy"]).finish();
    let long = host.folder_of("long", &[("Procfile", &"#".repeat(64 * 1024))]);
    deploy(&long).succeeds();
    write(&long.join("Procfile"), &"#".repeat(64 * 1024 + 1));
    deploy(&long).fails_with(1, "more than the 65536 bytes", "scripts");
    let types: String = (0..129)
        .map(|number| format!("t{number}: true\n"))
        .collect();
    write(&long.join("Procfile"), &types);
    deploy(&long).fails_with(1, "more than the 128 process types", "dyno run");
    fs::remove_file(long.join("Procfile")).unwrap();
    // Nobody writes to it, and nobody waits for that.
    assert!(
        Command::new("mkfifo")
            .arg(long.join("Procfile"))
            .status()
            .unwrap()
            .success()
    );
    deploy(&long).fails_with(1, "there is no Procfile", "it says what the app runs");
    fs::remove_file(long.join("Procfile")).unwrap();
    write(&long.join("Procfile"), "x: true\n");

    write(&long.join(".slugignore"), &"#".repeat((1 << 20) + 1));
    deploy(&long).fails_with(1, "`.slugignore` is larger than 1048576 bytes", "folders");
    fs::remove_file(long.join(".slugignore")).unwrap();

    let mut noise = vec![0; 3 << 20];
    fs::File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut noise)
        .unwrap();
    fs::write(long.join("noise"), &noise).unwrap();
    deploy(&long).fails_with(1, "slug too large", "slug_limit");
}

/// What the API answers to these bytes.
fn answer(host: &Host, request: &[u8]) -> String {
    let mut socket = UnixStream::connect(host.state().join("api.sock")).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    // It may answer and hang up before the end.
    let _ = socket.write_all(request);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn requests_have_bounds_and_the_answer_names_them() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    host.dyno(&host.path(), &["apps"]).finish().succeeds();
    let request = |path: &str, fields: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: dyno\r\nConnection: close\r\n{fields}\r\n")
    };
    let long = "x".repeat(8 * 1024);
    let post = "POST /apps HTTP/1.1\r\nHost: dyno\r\nConnection: close\r\n";
    let chunk = format!("{post}Transfer-Encoding: chunked\r\n\r\n100001\r\n");
    let chunk = [chunk.as_bytes(), &vec![b' '; 0x10_0001]].concat();
    for (bytes, status, why) in [
        (
            request(&format!("/{long}"), "").into_bytes(),
            414,
            "bytes in a line: 8192 at most",
        ),
        (
            request(&format!("/apps?q={long}"), "").into_bytes(),
            414,
            "8192 at most",
        ),
        (
            request("/apps", &format!("X: {long}\r\n")).into_bytes(),
            431,
            "8192 at most",
        ),
        (
            request("/apps", &"X: y\r\n".repeat(99)).into_bytes(),
            431,
            "header lines: 100 at most",
        ),
        (
            request("/apps", &format!("X: {}\r\n", &long[..8000]).repeat(9)).into_bytes(),
            431,
            "bytes in a head: 65536 at most",
        ),
        (
            format!("{post}Content-Length: 1048577\r\n\r\n").into_bytes(),
            413,
            "bytes in the body: 1048576 at most",
        ),
        (chunk, 413, "bytes in the body: 1048576 at most"),
    ] {
        let answer = answer(&host, &bytes);
        let line = answer.lines().next().unwrap_or_default();
        assert!(
            line.starts_with(&format!("HTTP/1.1 {status} ")),
            "{line}: {why}"
        );
        assert!(answer.contains(why), "{why}: {answer}");
    }
    // All of that is the client's trouble alone.
    assert!(answer(&host, request("/apps", "").as_bytes()).starts_with("HTTP/1.1 200"));
}

#[test]
fn fields_of_requests_have_bounds_and_the_answer_shows_little_of_what_came() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    host.plain_app();
    let flood = "x".repeat(500_000);
    let dyno = |field: &str, value: Value| {
        let mut body = json!({"command": "true"});
        body[field] = value;
        body
    };
    for (target, body, why) in [
        ("/apps", json!({"name": flood}), "3 to 30"),
        (
            "/apps/plain/dynos",
            dyno("command", flood.clone().into()),
            "122880",
        ),
        (
            "/apps/plain/dynos",
            dyno("type", flood.clone().into()),
            "1 to 128",
        ),
        (
            "/apps/plain/dynos",
            dyno("size", flood.clone().into()),
            "no such size",
        ),
        (
            "/apps/plain/dynos",
            dyno("time_to_live", 86_401.into()),
            "from 1 to 86400",
        ),
        (
            "/apps/plain/dynos",
            dyno("env", json!({"A": flood})),
            "65536",
        ),
        (
            "/apps/plain/slugs",
            json!({"process_types": {"a": flood}}),
            "122880",
        ),
        (
            "/apps/plain/slugs",
            json!({"process_types": {flood.clone(): "a"}}),
            "cannot be one",
        ),
        (
            "/apps/plain/slugs",
            json!({"process_types": {}, "commit": flood}),
            "may have 1000",
        ),
        (
            "/apps/plain/releases",
            json!({"slug": "x", "description": flood}),
            "may have 1000",
        ),
    ] {
        let (status, answer) = host.request("POST", target, &body);
        assert!((400..500).contains(&status), "{target} {why}: {status}");
        assert!(answer.contains(why), "{target} {why}: {answer}");
        assert!(
            answer.len() < 1000,
            "{target} {why}: {} bytes",
            answer.len()
        );
    }
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep: String = format!("{{\"command\": \"true\", \"env\": {deep}}}");
    let head = "POST /apps/plain/dynos HTTP/1.1\r\nHost: dyno\r\nConnection: close\r\n";
    let head = format!(
        "{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        deep.len()
    );
    let answer = answer(&host, (head + &deep).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[test]
fn so_many_commands_may_run_inside_a_dyno() {
    const MOST: usize = 64;
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60"), ("DYNO_ATTACH_TIMEOUT", "30")]);
    let app = host.plain_app();
    let dyno = host.run(&app, &["-q", "echo up; cat"]).open_input().start();
    dyno.wait_for_output("up\n");
    let cat = ["run:inside", "run.1", "echo up; cat"];
    let inside: Vec<_> = (0..MOST)
        .map(|_| host.dyno(&app, &cat).open_input().start())
        .collect();
    inside.iter().for_each(|one| one.wait_for_output("up\n"));
    host.dyno(&app, &["run:inside", "run.1", "true"])
        .finish()
        .fails_with(
            125,
            "64 commands run inside this dyno, which is the limit",
            "end one",
        );
    for one in inside {
        one.finish_input().succeeds();
    }
    host.dyno(&app, &["run:inside", "run.1", "true"])
        .finish()
        .succeeds();
    dyno.finish_input().succeeds();
    host.wait_until_clean();
}

#[test]
fn every_test_that_the_document_names_exists() {
    fn texts(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => texts(&path, all),
                Some(extension) if extension == "rs" => *all += &fs::read_to_string(path).unwrap(),
                _ => {}
            }
        }
    }
    let mut all = String::new();
    texts(&root().join("src"), &mut all);
    texts(&root().join("tests"), &mut all);
    let document = fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let named: Vec<&str> = document
        .lines()
        .filter_map(|line| line.strip_suffix('|')?.rsplit_once('|'))
        .flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2))
        .collect();
    assert!(named.len() > 30, "{named:?}");
    for name in named {
        assert!(all.contains(&format!("fn {name}(")), "no test named {name}");
    }
}

/// The kernel bounds what all pipes of one user hold; beyond it new ones are small, and none may grow.
#[test]
fn a_user_whose_pipes_hold_all_they_may_starts_dynos_with_the_largest_environment() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = host.plain_app();
    let mut pipes = Vec::new();
    // Root has no such bound: 72 of 1 MiB are beyond the usual 64 MiB.
    for _ in 0..72 {
        let pipe = std::io::pipe().unwrap();
        let _ = rustix::pipe::fcntl_setpipe_size(&pipe.0, 1 << 20);
        pipes.push(pipe);
    }
    let large = format!("A={}", "x".repeat(64 * 1024 - 1));
    let command = ["-q", "-e", &large, "head -c 1M /dev/zero; echo ${#A} >&2"];
    let outcome = host.run(&app, &command).finish();
    assert_eq!(outcome.stdout.len(), 1 << 20);
    outcome.succeeds().mentions("65535");
}
