//! The times of an app's files as web servers tell them: a visitor who comes back is never told that a page is as it was
//! when it is another, whichever way the release came about.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::harness::{Host, lacks, write};

/// An app that serves its folder, and compares nothing but dates.
const PROCFILE: (&str, &str) = ("Procfile", "web: exec python3 -m http.server $PORT\n");

/// What a visitor sees who has been there.
struct Visitor<'a> {
    address: String,
    page: &'a str,
    since: Option<String>,
}

impl<'a> Visitor<'a> {
    fn new(host: &Host, app: &Path, page: &'a str) -> Self {
        let address = host.dyno(app, &["open"]).finish().succeeds().text();
        Self {
            address: address.trim().to_owned(),
            page,
            since: None,
        }
    }

    /// The status, and the page as a browser would show it, which keeps it if it is told to.
    fn comes_back(&mut self) -> (u16, String) {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-i", "--max-time", "30"]);
        if let Some(since) = &self.since {
            curl.args(["-H", &format!("If-Modified-Since: {since}")]);
        }
        let url = format!("{}/{}", self.address.trim_end_matches('/'), self.page);
        let said = curl.arg(url).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let modified = said
            .lines()
            .find_map(|it| it.strip_prefix("Last-Modified: "));
        if let Some(modified) = modified {
            self.since = Some(modified.trim().to_owned());
        }
        let status = said.split(' ').nth(1).and_then(|it| it.parse().ok());
        let body = said.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status.unwrap_or_default(), body.to_owned())
    }

    fn sees(&mut self, page: &str) {
        assert_eq!(self.comes_back(), (200, page.to_owned()));
        assert_eq!(self.comes_back().0, 304, "it is as it was");
    }
}

fn is_old(file: &Path, seconds: u64) {
    let file = std::fs::File::options().write(true).open(file).unwrap();
    let time = SystemTime::now() - Duration::from_secs(seconds);
    file.set_modified(time).unwrap();
}

fn deploys(host: &Host, app: &Path) {
    host.dyno(app, &["deploy"]).finish().succeeds();
}

#[test]
fn a_visitor_sees_the_page_that_a_rollback_brings_back() {
    if lacks("python3") || lacks("curl") {
        return;
    }
    let host = Host::new();
    let app = host.folder_of("back", &[PROCFILE, ("a.html", "one\n"), ("same.html", "x")]);
    is_old(&app.join("same.html"), 1000);
    deploys(&host, &app);
    let mut visitor = Visitor::new(&host, &app, "a.html");
    let mut same = Visitor::new(&host, &app, "same.html");
    visitor.sees("one\n");
    same.sees("x");
    write(&app.join("a.html"), "two\n");
    deploys(&host, &app);
    visitor.sees("two\n");
    for (version, page) in [("v2", "one\n"), ("v3", "two\n"), ("v2", "one\n")] {
        host.dyno(&app, &["rollback", version]).finish().succeeds();
        host.dyno(&app, &["ps:wait"]).finish().succeeds();
        visitor.sees(page);
        assert_eq!(same.comes_back().0, 304, "{version}");
    }
}

#[test]
fn a_visitor_sees_a_page_that_was_gone_and_is_back_as_another() {
    if lacks("python3") || lacks("curl") {
        return;
    }
    let host = Host::new();
    let app = host.folder_of("gone", &[PROCFILE, ("a.html", "one\n")]);
    deploys(&host, &app);
    let mut visitor = Visitor::new(&host, &app, "a.html");
    visitor.sees("one\n");
    let page = app.join("a.html");
    std::fs::remove_file(&page).unwrap();
    deploys(&host, &app);
    assert_eq!(visitor.comes_back().0, 404);
    write(&page, "two\n");
    is_old(&page, 1000);
    deploys(&host, &app);
    visitor.sees("two\n");
}

#[test]
fn a_visitor_sees_what_a_symlink_leads_to_now() {
    if lacks("python3") || lacks("curl") {
        return;
    }
    let host = Host::new();
    let files = [
        PROCFILE,
        ("v1/a.html", "one\n"),
        ("v2/a.html", "two\n"),
        ("three.html", "three\n"),
    ];
    let app = host.folder_of("linked", &files);
    is_old(&app.join("v2/a.html"), 1000);
    is_old(&app.join("three.html"), 2000);
    let link = |target: &str, at: &str| {
        let at = app.join(at);
        let _ = std::fs::remove_file(&at);
        std::os::unix::fs::symlink(target, at).unwrap();
    };
    link("v1", "now");
    link("now/a.html", "page.html");
    deploys(&host, &app);
    let mut visitor = Visitor::new(&host, &app, "page.html");
    visitor.sees("one\n");
    // Without walls there is no /app.
    let whole = if host.in_folders() { "v2" } else { "/app/v2" };
    link(whole, "now");
    deploys(&host, &app);
    visitor.sees("two\n");
    link("three.html", "page.html");
    deploys(&host, &app);
    visitor.sees("three\n");
}

#[test]
fn a_visitor_sees_the_page_of_a_tarball_whose_files_all_have_one_time() {
    if lacks("python3") || lacks("curl") {
        return;
    }
    let host = Host::new();
    let app = host.folder_of("packed", &[PROCFILE]);
    let tree = host.folder_of("tree", &[]).join("app");
    for (name, text) in [PROCFILE, (".slugignore", "kept\n"), ("kept", "k")] {
        write(&tree.join(name), text);
    }
    let release = |page: &str, more: &[&str]| {
        write(&tree.join("a.html"), page);
        let packed = Command::new("tar")
            .args(["-czf", "slug.tgz", "--mtime=@1000000000", "./app"])
            .current_dir(tree.parent().unwrap())
            .status();
        assert!(packed.unwrap().success());
        let slug = tree.parent().unwrap().join("slug.tgz");
        let slug = slug.to_str().unwrap();
        let deploy = [&["deploy", "--slug", slug][..], more].concat();
        host.dyno(&app, &deploy).finish().succeeds();
    };
    host.dyno(&app, &["create", "packed"]).finish().succeeds();
    release("one\n", &[]);
    let mut visitor = Visitor::new(&host, &app, "a.html");
    let mut kept = Visitor::new(&host, &app, "kept");
    visitor.sees("one\n");
    kept.sees("k");
    release("two\n", &[]);
    visitor.sees("two\n");
    assert_eq!(
        kept.comes_back().0,
        304,
        "it is as it was, whatever .slugignore says"
    );
}

#[test]
fn bytecode_stays_good_for_a_source_that_comes_with_an_old_time() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = host.folder_of("compiled", &[("Procfile", "x: true\n")]);
    deploys(&host, &app);
    // As an installer does it that copies sources with their times.
    write(&app.join("pkg/__init__.py"), "x = 1\n");
    is_old(&app.join("pkg/__init__.py"), 100_000);
    let compile = Command::new("python3")
        .args(["-m", "compileall", "-q", "pkg"])
        .current_dir(&app)
        .status();
    assert!(compile.unwrap().success());
    deploys(&host, &app);
    let import = "python3 -v -c 'import pkg' 2>&1 | grep -E '(stale|matches).*pkg'";
    host.run(&app, &["-q", import])
        .finish()
        .succeeds()
        .holds("the bytecode is used", |text| {
            text.contains("matches") && !text.contains("stale")
        });
}
