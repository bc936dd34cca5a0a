//! Serves a site: connections, and the files that [`answer`](super::answer) has chosen.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;

use super::answer::{Answer, Asked, Found, answer};
use super::config::{CONFIG, SiteConfig};
use super::validators::{Sent, Version, sent};
use crate::error::{UserError, tell};
use crate::kernel::beneath::{self, Links};
use crate::wire::http::message::WriteOptions;
use crate::wire::http::{Framing, HeadLimits, HeadReader, RequestHead, Response};

/// Connections that are served at a time; others wait to be taken.
const THREADS: usize = 32;

/// The stack of each.
const STACK: usize = 256 * 1024;

/// How long a connection may be without a request, and a client without taking anything.
const IDLE: Duration = Duration::from_secs(20);
const SLOW: Duration = Duration::from_secs(60);

/// What is said where there is no page for it.
const NOTHING: &str = "There is nothing at this address.\n";

/// A site: its folder, and what it says of itself.
#[derive(Debug)]
pub struct Site {
    root: OwnedFd,
    config: SiteConfig,
}

impl Site {
    /// The site in `folder`: by its `static.json`, if it has one.
    ///
    /// # Errors
    /// There is no such folder, or the file is not valid.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let no_folder = |error: io::Error, folder: &Path| {
            UserError::new(format!("cannot serve `{}`: {error}", folder.display()))
                .hint("name the folder of the site's files; in static.json, that is its `root`")
        };
        let open = |path: &Path| -> io::Result<OwnedFd> {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?)
        };
        let top = open(folder).map_err(|error| no_folder(error, folder))?;
        let text = beneath::read(&top, CONFIG.0, CONFIG.1)
            .map_err(|error| UserError::new(format!("cannot read `static.json`: {error}")))?;
        let config = text.map_or_else(
            || Ok(SiteConfig::default()),
            |text| SiteConfig::parse(&text),
        )?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let root = match &config.root {
            Some(root) if !root.is_empty() => beneath::open(&top, root, flags, Links::Followed)
                .map_err(|error| no_folder(error, &folder.join(root)))?,
            _ => top,
        };
        Ok(Self { root, config })
    }

    /// What it says of itself.
    pub fn config(&self) -> &SiteConfig {
        &self.config
    }

    /// Whether there is a file at a path below its folder.
    pub fn has(&self, path: &str) -> bool {
        self.found(path) == Some(Found::File)
    }

    /// What is at a path below its folder. Nothing outside of that is.
    fn found(&self, path: &str) -> Option<Found> {
        let path = if path.is_empty() { "." } else { path };
        let fd = beneath::open(&self.root, path, OFlags::PATH, Links::Followed).ok()?;
        let kind = File::from(fd).metadata().ok()?.file_type();
        match (kind.is_file(), kind.is_dir()) {
            (true, _) => Some(Found::File),
            (_, true) => Some(Found::Folder),
            _ => None,
        }
    }

    /// The file at a path below its folder. A FIFO is not waited for.
    fn file(&self, path: &str) -> io::Result<(File, Version)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(beneath::open(&self.root, path, flags, Links::Followed)?);
        let found = file.metadata()?;
        let version = Version::new(found.modified()?, found.len());
        Ok((file, version))
    }
}

/// Serves the site at this port of all addresses, for as long as the process lives.
///
/// # Errors
/// The port is taken, or threads cannot be started.
pub fn serve(site: Site, port: u16) -> anyhow::Result<()> {
    let any = [
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        SocketAddr::from(([0, 0, 0, 0], port)),
    ];
    let listener = TcpListener::bind(&any[..]).map_err(|error| {
        UserError::new(format!("cannot listen on port {port}: {error}"))
            .hint("the variable PORT has another")
    })?;
    tell!("serving the site on port {port}");
    let shared = Arc::new((site, listener, AtomicUsize::new(0)));
    let work = || {
        let shared = Arc::clone(&shared);
        move || take_turns(&shared.0, &shared.1, &shared.2)
    };
    for _ in 1..THREADS {
        thread::Builder::new().stack_size(STACK).spawn(work())?;
    }
    work()();
    Ok(())
}

/// Serves one connection after the other.
fn take_turns(site: &Site, listener: &TcpListener, busy: &AtomicUsize) {
    loop {
        match listener.accept() {
            Ok((client, _)) => {
                // Those that wait for another request leave room for others.
                let others = busy.fetch_add(1, Ordering::Relaxed);
                // A client that goes away is no failure of the site's.
                let _ = talk(site, &client, others >= THREADS / 2);
                busy.fetch_sub(1, Ordering::Relaxed);
            }
            // No descriptor is left, or a client has gone already.
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn talk(site: &Site, mut client: &TcpStream, only_once: bool) -> io::Result<()> {
    client.set_read_timeout(Some(IDLE))?;
    client.set_write_timeout(Some(SLOW))?;
    client.set_nodelay(true)?;
    let (mut reader, mut buffer) = (HeadReader::new(HeadLimits::API), Vec::new());
    let mut bytes = [0; 8 * 1024];
    loop {
        let (head, length) = match reader.request(&buffer) {
            Ok(Some(found)) => found,
            Ok(None) => {
                match client.read(&mut bytes)? {
                    0 => return Ok(()),
                    read => buffer.extend_from_slice(&bytes[..read]),
                }
                continue;
            }
            Err(refusal) => {
                let response = Response::new(refusal.status);
                let mut out = Vec::new();
                response.write(options(true, false), &mut out);
                return client.write_all(&out);
            }
        };
        buffer.drain(..length);
        // No request here has a use for a body: where the next one begins is not looked for.
        let close = only_once || !head.keep_alive || head.framing != Framing::None;
        reply(site, &head, client, close)?;
        if close {
            return Ok(());
        }
    }
}

fn options(close: bool, head_only: bool) -> WriteOptions {
    WriteOptions {
        now: SystemTime::now(),
        close,
        head_only,
    }
}

/// Answers a request.
fn reply(site: &Site, head: &RequestHead, mut client: &TcpStream, close: bool) -> io::Result<()> {
    let asked = Asked {
        method: head.method(),
        path: head.path(),
        query: head.query(),
        host: head.fields.get("host"),
        https: head.fields.get("x-forwarded-proto").map(|it| it == "https"),
    };
    let options = options(close, head.method() == "HEAD");
    let (answer, path) = answer(&site.config, &asked, &|path| site.found(path));
    let plain = |status: u16, text: &str| {
        Response::new(status)
            .with("Content-Type", "text/plain; charset=utf-8")
            .body(text.into())
    };
    let (response, part) = match answer {
        Answer::File { path, status } => match site.file(&path) {
            Ok(found) => of_file(head, &path, status, found),
            Err(_) => (plain(404, NOTHING), None),
        },
        Answer::Elsewhere(to) => (Response::new(to.status).with("Location", to.url), None),
        Answer::Nothing => (plain(404, NOTHING), None),
        Answer::NotAllowed => (
            plain(405, "Only GET and HEAD are answered.\n").with("Allow", "GET, HEAD"),
            None,
        ),
    };
    let response = with_headers(&site.config, &path, response);
    let mut out = Vec::new();
    match part {
        None => response.write(options, &mut out),
        Some(_) => response.write_head(options, false, &mut out),
    }
    client.write_all(&out)?;
    if let Some((file, length)) = part.filter(|_| !options.head_only) {
        let sent = io::copy(&mut file.take(length), &mut client)?;
        if sent < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// The response that has a file, and what is sent of it: from where it stands, so many bytes.
fn of_file(
    head: &RequestHead,
    path: &str,
    status: u16,
    (mut file, version): (File, Version),
) -> (Response, Option<(File, u64)>) {
    let changed = httpdate::fmt_http_date(version.changed);
    let validated = |response: Response| {
        response
            .with("ETag", version.tag.clone())
            .with("Last-Modified", changed.clone())
            .with("Accept-Ranges", "bytes")
    };
    let with_length = |response: Response, length: u64| {
        let typed = validated(response).with("Content-Type", media_type(path));
        typed.with("Content-Length", length.to_string())
    };
    // A page that says that there is nothing is no version of what was asked for.
    let sent = match status {
        200 => sent(&head.fields, &version),
        _ => Sent::Whole,
    };
    match sent {
        Sent::NotModified => (validated(Response::new(304)), None),
        Sent::Unsatisfiable => {
            let range = format!("bytes */{}", version.length);
            (Response::new(416).with("Content-Range", range), None)
        }
        Sent::Part(range) => {
            let length = range.end.saturating_sub(range.start);
            if file.seek(SeekFrom::Start(range.start)).is_err() {
                return (Response::new(500), None);
            }
            let last = range.end.saturating_sub(1);
            let named = format!("bytes {}-{last}/{}", range.start, version.length);
            let response = Response::new(206).with("Content-Range", named);
            (with_length(response, length), Some((file, length)))
        }
        Sent::Whole => {
            let response = with_length(Response::new(status), version.length);
            (response, Some((file, version.length)))
        }
    }
}

/// The response with the fields that the site has for the path. A page without a word on that is asked for again each time, by its tag.
fn with_headers(config: &SiteConfig, path: &str, mut response: Response) -> Response {
    let fitting = config
        .headers
        .iter()
        .filter(|(pattern, _)| pattern.fits(path));
    let mut says_how_long = false;
    for (name, value) in fitting.flat_map(|(_, fields)| fields) {
        says_how_long |= name.eq_ignore_ascii_case("cache-control");
        response = response.with(name.clone(), value.clone());
    }
    match says_how_long {
        true => response,
        false => response.with("Cache-Control", "no-cache"),
    }
}

/// The media type of a file by its name; text is UTF-8. Those that sites have, as a match: the tables of crates, of a thousand types, are
/// addresses, which would cost each supervisor its own pages of memory, as all are one program.
fn media_type(path: &str) -> &'static str {
    let extension = Path::new(path).extension().unwrap_or_default();
    match &*extension.to_string_lossy().to_ascii_lowercase() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "ics" => "text/calendar; charset=utf-8",
        "vtt" => "text/vtt; charset=utf-8",
        "json" | "map" => "application/json; charset=utf-8",
        "jsonld" => "application/ld+json; charset=utf-8",
        "webmanifest" => "application/manifest+json; charset=utf-8",
        "xml" => "application/xml; charset=utf-8",
        "xhtml" => "application/xhtml+xml; charset=utf-8",
        "rss" => "application/rss+xml; charset=utf-8",
        "atom" => "application/atom+xml; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "apng" => "image/apng",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "bmp" => "image/bmp",
        "tif" | "tiff" => "image/tiff",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "eot" => "application/vnd.ms-fontobject",
        "mp3" => "audio/mpeg",
        "m4a" => "audio/mp4",
        "ogg" | "oga" | "opus" => "audio/ogg",
        "wav" => "audio/wav",
        "flac" => "audio/flac",
        "mp4" | "m4v" => "video/mp4",
        "webm" => "video/webm",
        "ogv" => "video/ogg",
        "mov" => "video/quicktime",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "epub" => "application/epub+zip",
        "zip" => "application/zip",
        "gz" | "tgz" => "application/gzip",
        "tar" => "application/x-tar",
        "7z" => "application/x-7z-compressed",
        "rtf" => "application/rtf",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_those_of_browsers() {
        for (path, expected) in [
            ("a.html", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("dir.d/a.MJS", "text/javascript; charset=utf-8"),
            ("a.json", "application/json; charset=utf-8"),
            ("a.svg", "image/svg+xml"),
            ("a.wasm", "application/wasm"),
            ("a.woff2", "font/woff2"),
            ("a.webp", "image/webp"),
            ("a.unknown", "application/octet-stream"),
        ] {
            assert_eq!(media_type(path), expected);
        }
    }
}
