//! Sites of files, which the buildpack `static` has this program serve.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{Host, eventually, lacks_walls, own_router};
use crate::routing::{get, router};

#[test]
fn a_site_of_files_is_served_without_a_procfile() {
    if lacks_walls() {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60"), ("DYNO_ROUTER", &own_router())]);
    let site = host.folder_of(
        "shop",
        &[
            ("static.json", r#"{"root":"dist","clean_urls":true,"headers":{"/*.css":{"Cache-Control":"max-age=60"}}}"#),
            ("dist/index.html", "<title>home</title>"),
            ("dist/about.html", "about"),
            ("dist/404.html", "no such page"),
            ("dist/a.css", "a{}"),
            ("secret", "not below the root"),
        ],
    );
    fs::create_dir_all(site.join("dist/docs")).unwrap();
    std::os::unix::fs::symlink("../secret", site.join("dist/out")).unwrap();
    host.dyno(&site, &["deploy"])
        .finish()
        .succeeds()
        .mentions("-----> Static app detected\n       serving dist\n")
        .mentions("Default types for buildpack -> web\n");
    let router = router(&host);
    eventually("the page", || {
        (get(router, "/") == (200, "<title>home</title>".to_owned())).then_some(())
    });
    let asked = |lines: &str| {
        let mut client = TcpStream::connect(router).unwrap();
        let request = format!("{lines}Host: shop.localhost\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    };
    let page = asked("GET /about HTTP/1.1\r\n");
    assert!(page.contains("\r\n\r\nabout"), "{page}");
    assert!(page.contains("text/html; charset=utf-8\r\n"), "{page}");
    let tag = page
        .lines()
        .find_map(|line| line.strip_prefix("ETag: "))
        .unwrap();
    let again = asked(&format!("GET /about HTTP/1.1\r\nIf-None-Match: {tag}\r\n"));
    assert!(again.starts_with("HTTP/1.1 304 "), "{again}");
    let part = asked("GET /a.css HTTP/1.1\r\nRange: bytes=1-1\r\n");
    assert!(part.starts_with("HTTP/1.1 206 "), "{part}");
    assert!(part.contains("Content-Range: bytes 1-1/3\r\n"), "{part}");
    assert!(part.contains("Cache-Control: max-age=60\r\n"), "{part}");
    assert!(part.ends_with("\r\n\r\n{"), "{part}");
    let head = asked("HEAD / HTTP/1.1\r\n");
    assert!(
        head.contains("Content-Length: 19\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    for gone in ["/out", "/secret", "/.git/config", "/%2e%2e/secret"] {
        let answer = asked(&format!("GET {gone} HTTP/1.1\r\n"));
        assert!(
            answer.starts_with("HTTP/1.1 404 ") && answer.ends_with("no such page"),
            "{gone}: {answer}"
        );
    }
    assert!(asked("GET /docs HTTP/1.1\r\n").starts_with("HTTP/1.1 404 "));
    // What would make another site is no release.
    fs::write(site.join("static.json"), r#"{"basic_auth":true}"#).unwrap();
    host.dyno(&site, &["deploy"]).finish().exits(1).mentions(
        " !     static.json has `basic_auth`, which dyno does not do: anybody would see the site\n",
    );
}
