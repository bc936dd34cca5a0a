//! What a request for a site's files is answered with.

use super::config::{Redirect, SiteConfig};
use crate::api::target::{decode, encode};

/// What the answer depends on.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// The path of the target, percent-encoded.
    pub path: &'a str,
    /// What follows its `?`.
    pub query: Option<&'a str>,
    /// The host that was asked for.
    pub host: Option<&'a str>,
    /// Whether it came to the router over HTTPS; None if nobody says.
    pub https: Option<bool>,
}

/// What is at a path below the site's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A file.
    File,
    /// A folder.
    Folder,
}

/// The answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// This file, with this status.
    File {
        /// Its path below the site's folder.
        path: String,
        /// 200, or 404 for the page that says that there is none.
        status: u16,
    },
    /// It is elsewhere.
    Elsewhere(Redirect),
    /// There is nothing, and no page that says so.
    Nothing,
    /// Nothing but `GET` and `HEAD` is answered.
    NotAllowed,
}

/// The usual page that says that there is nothing.
const NOTHING: &str = "404.html";

/// The answer; `look` says what is at a path below the site's folder. Also the path that was asked for, decoded, for header fields.
pub fn answer(
    config: &SiteConfig,
    asked: &Asked<'_>,
    look: &dyn Fn(&str) -> Option<Found>,
) -> (Answer, String) {
    let Some(segments) = segments(asked.path) else {
        return (missing(config, look), "/".to_owned());
    };
    let is_folder = asked.path.ends_with('/');
    let mut path = format!("/{}", segments.join("/"));
    if is_folder && path != "/" {
        path.push('/');
    }
    (of_path(config, asked, &segments, &path, look), path)
}

fn of_path(
    config: &SiteConfig,
    asked: &Asked<'_>,
    segments: &[String],
    path: &str,
    look: &dyn Fn(&str) -> Option<Found>,
) -> Answer {
    if !matches!(asked.method, "GET" | "HEAD") {
        return Answer::NotAllowed;
    }
    // Written anew, so that `//host` is no host.
    let encoded: Vec<_> = segments.iter().map(|it| encode(it)).collect();
    let encoded = format!("/{}", encoded.join("/"));
    let query = asked.query.map(|query| format!("?{query}"));
    let query = query.unwrap_or_default();
    let slash = if path.len() > 1 && path.ends_with('/') {
        "/"
    } else {
        ""
    };
    let host = asked.host.unwrap_or_default();
    let canonical = config.canonical_host.as_deref();
    let is_other_host = canonical.is_some_and(|it| !it.eq_ignore_ascii_case(host));
    if config.https_only && asked.https == Some(false) || is_other_host {
        let host = canonical.unwrap_or(host);
        let scheme = match config.https_only || asked.https == Some(true) {
            true => "https",
            false => "http",
        };
        return moved(format!("{scheme}://{host}{encoded}{slash}{query}"));
    }
    let mut redirects = config.redirects.iter();
    if let Some((_, to)) =
        redirects.find(|(from, _)| from.trim_end_matches('/') == path.trim_end_matches('/'))
    {
        return Answer::Elsewhere(to.clone());
    }
    let file = |path: &str| Answer::File {
        path: path.to_owned(),
        status: 200,
    };
    let is_file = |path: &str| look(path) == Some(Found::File);
    let relative = path.trim_matches('/');
    let index = match relative {
        "" => "index.html".to_owned(),
        _ => format!("{relative}/index.html"),
    };
    match look(relative) {
        Some(Found::File) if !path.ends_with('/') => return file(relative),
        Some(Found::Folder) if is_file(&index) => {
            return match path.ends_with('/') {
                true => file(&index),
                // Its page names what is beside it by paths that begin there.
                false => moved(format!("{encoded}/{query}")),
            };
        }
        _ => {}
    }
    let clean = format!("{relative}.html");
    if config.clean_urls && is_file(&clean) {
        return file(&clean);
    }
    let route = config.routes.iter().find(|(pattern, _)| pattern.fits(path));
    if let Some((_, target)) = route.filter(|(_, target)| is_file(target)) {
        return file(target);
    }
    missing(config, look)
}

fn missing(config: &SiteConfig, look: &dyn Fn(&str) -> Option<Found>) -> Answer {
    let pages = config.error_page.as_deref().into_iter().chain([NOTHING]);
    let mut there = pages.filter(|page| look(page) == Some(Found::File));
    match there.next() {
        Some(page) => Answer::File {
            path: page.to_owned(),
            status: 404,
        },
        None => Answer::Nothing,
    }
}

fn moved(url: String) -> Answer {
    Answer::Elsewhere(Redirect { url, status: 301 })
}

/// The names in a path, decoded; None if there can be nothing: names that lead elsewhere, and hidden ones, which are no pages.
fn segments(path: &str) -> Option<Vec<String>> {
    let mut segments = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let segment = decode(segment)?;
        let is_hidden = segment.starts_with('.') && segment != ".well-known";
        if is_hidden || segment.contains(['/', '\0']) {
            return None;
        }
        segments.push(segment);
    }
    Some(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &[&str] = &[
        "index.html",
        "about.html",
        "docs/index.html",
        "a b.txt",
        "404.html",
        "img/x.png",
        ".env",
        ".well-known/x",
    ];

    fn look(path: &str) -> Option<Found> {
        if FILES.contains(&path) {
            return Some(Found::File);
        }
        let folder = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        FILES
            .iter()
            .any(|file| file.starts_with(&folder))
            .then_some(Found::Folder)
    }

    fn asked(config: &str, method: &str, target: &str) -> String {
        let config = SiteConfig::parse(config.as_bytes()).unwrap();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let asked = Asked {
            method,
            path,
            query,
            host: Some("a.test"),
            https: Some(false),
        };
        match answer(&config, &asked, &look).0 {
            Answer::File { path, status } => format!("{status} {path}"),
            Answer::Elsewhere(to) => format!("{} {}", to.status, to.url),
            Answer::Nothing => "404".to_owned(),
            Answer::NotAllowed => "405".to_owned(),
        }
    }

    #[test]
    fn a_path_is_a_file_or_a_folders_page_or_nothing() {
        for (target, answer) in [
            ("/", "200 index.html"),
            ("/about.html", "200 about.html"),
            ("/a%20b.txt", "200 a b.txt"),
            ("/docs/", "200 docs/index.html"),
            ("/docs?a=b", "301 /docs/?a=b"),
            ("//docs", "301 /docs/"),
            ("/img", "404 404.html"),
            ("/about", "404 404.html"),
            ("/about.html/", "404 404.html"),
            ("/.env", "404 404.html"),
            ("/%2eenv", "404 404.html"),
            ("/../index.html", "404 404.html"),
            ("/docs/%2e%2e/index.html", "404 404.html"),
            ("/docs%2findex.html", "404 404.html"),
            ("/%ff", "404 404.html"),
            ("/.well-known/x", "200 .well-known/x"),
        ] {
            assert_eq!(asked("{}", "GET", target), answer, "{target}");
        }
        assert_eq!(asked("{}", "POST", "/"), "405");
        assert_eq!(asked("{}", "HEAD", "/"), "200 index.html");
    }

    #[test]
    fn a_site_says_what_is_answered_otherwise() {
        let config = r#"{"clean_urls":true,"routes":{"/app/**":"index.html","/gone/*":"none.html"},
            "redirects":{"/old/":{"url":"/about"},"/about.html":{"url":"https://b.test/","status":308}},"error_page":"docs/index.html"}"#;
        for (target, answer) in [
            ("/about", "200 about.html"),
            ("/app/any/thing", "200 index.html"),
            ("/old", "302 /about"),
            ("/about.html", "308 https://b.test/"),
            ("/nothing", "404 docs/index.html"),
            ("/gone/a", "404 docs/index.html"),
        ] {
            assert_eq!(asked(config, "GET", target), answer, "{target}");
        }
        assert_eq!(
            asked(r#"{"https_only":true}"#, "GET", "/docs/?x"),
            "301 https://a.test/docs/?x"
        );
        assert_eq!(
            asked(r#"{"canonical_host":"b.test"}"#, "GET", "/a%20b.txt"),
            "301 http://b.test/a%20b.txt"
        );
    }
}
