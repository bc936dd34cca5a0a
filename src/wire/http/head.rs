//! The head of a request or response: its lines, and the facts on framing and connection that
//! follow from them.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use super::fields::{Fields, Span};
use super::lines::{Extent, LineScanner};
use super::{HeadLimits, HttpRefusal};

/// The version of a message; all others are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HttpVersion {
    /// HTTP/1.0: no chunks, no `100 Continue`, closes by default.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// That many bytes, at least one.
    Length(u64),
    /// Chunks, the last one empty.
    Chunked,
    /// Everything until the connection ends; responses only.
    UntilClose,
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// Its version.
    pub version: HttpVersion,
    /// Its header fields.
    pub fields: Fields,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the client would send another request after this one.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// Whether the client asks for another protocol, which `Upgrade` names.
    pub upgrade: bool,
    method: Span,
    target: Span,
}

impl RequestHead {
    /// The method, as it came: methods are case-sensitive.
    pub fn method(&self) -> &str {
        self.method.text(&self.fields.head)
    }

    /// The target as it came: `/apps?x=1`, `http://host/apps`, or `*` for `OPTIONS`.
    pub fn target(&self) -> &str {
        self.target.text(&self.fields.head)
    }

    /// The path of the target, still percent-encoded.
    pub fn path(&self) -> &str {
        split_query(without_authority(self.target())).0
    }

    /// The target without scheme and authority.
    pub fn path_and_query(&self) -> &str {
        without_authority(self.target())
    }

    /// What follows the `?` of the target, still percent-encoded.
    pub fn query(&self) -> Option<&str> {
        split_query(without_authority(self.target())).1
    }

    fn parse(head: &[u8], extent: &Extent) -> Result<Self, HttpRefusal> {
        let mut storage = vec![httparse::EMPTY_HEADER; extent.fields];
        let mut request = httparse::Request::new(&mut storage);
        match request.parse(head).map_err(|error| refusal(error, head))? {
            httparse::Status::Complete(length) if length == head.len() => {}
            _ => return Err(HttpRefusal::bad("malformed head")),
        }
        let method = request.method.unwrap_or_default();
        let target = request.path.unwrap_or_default();
        check_target(method, target)?;
        let version = version(request.version);
        let (method, target) = (
            Span::of(method.as_bytes(), head),
            Span::of(target.as_bytes(), head),
        );
        let fields = Fields::new(head, request.headers);
        check_host(&fields, version, target.text(head))?;
        Ok(Self {
            framing: request_framing(&fields, version)?,
            keep_alive: keep_alive(&fields, version),
            expect_continue: expect_continue(&fields, version)?,
            upgrade: version == HttpVersion::Http11
                && fields.has_token("connection", "upgrade")
                && fields.all("upgrade").next().is_some(),
            version,
            fields,
            method,
            target,
        })
    }
}

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// Its version.
    pub version: HttpVersion,
    /// Its status, 100 to 999.
    pub status: u16,
    /// Its header fields.
    pub fields: Fields,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the connection can be used again after it.
    pub keep_alive: bool,
}

impl ResponseHead {
    /// What follows the status in the first line, for people who read along.
    pub fn reason(&self) -> &[u8] {
        // After `HTTP/1.1 200`, which the parser has checked.
        let rest = self.fields.head.get(12..).unwrap_or_default();
        let end = memchr::memchr(b'\r', rest).unwrap_or(0);
        rest.get(..end).unwrap_or_default().trim_ascii_start()
    }

    /// Whether another response to the same request follows. `101` is the last one: after it the
    /// connection speaks the other protocol.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    fn parse(head: &[u8], extent: &Extent, method: &str) -> Result<Self, HttpRefusal> {
        let mut storage = vec![httparse::EMPTY_HEADER; extent.fields];
        let mut response = httparse::Response::new(&mut storage);
        match response.parse(head).map_err(|error| refusal(error, head))? {
            httparse::Status::Complete(length) if length == head.len() => {}
            _ => return Err(HttpRefusal::bad("malformed head")),
        }
        let status = response.code.unwrap_or_default();
        if status < 100 {
            return Err(HttpRefusal::bad("malformed status"));
        }
        let version = version(response.version);
        let fields = Fields::new(head, response.headers);
        let framing = response_framing(&fields, version, status, method)?;
        Ok(Self {
            version,
            status,
            framing,
            keep_alive: keep_alive(&fields, version) && framing != Framing::UntilClose,
            fields,
        })
    }
}

/// Reads heads off the front of a growing buffer, one after the other.
#[derive(Debug)]
pub struct HeadReader {
    limits: HeadLimits,
    scanner: LineScanner,
}

impl HeadReader {
    /// For messages within `limits`.
    pub fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            scanner: LineScanner::default(),
        }
    }

    /// The request at the front of `buffer`, and how many bytes its head took; None if more bytes
    /// are needed. The caller takes those bytes away before the next call, and none before.
    ///
    /// # Errors
    /// A request to be refused; the reader is of no further use.
    pub fn request(&mut self, buffer: &[u8]) -> Result<Option<(RequestHead, usize)>, HttpRefusal> {
        let Some(extent) = self.next(buffer)? else {
            return Ok(None);
        };
        let head = RequestHead::parse(extent.of(buffer), &extent)?;
        Ok(Some((head, extent.end)))
    }

    /// The response at the front of `buffer` to a request with `method`, on which its framing depends; else as
    /// [`request`](Self::request).
    ///
    /// # Errors
    /// A malformed response; the reader and the connection are of no further use.
    pub fn response(
        &mut self,
        buffer: &[u8],
        method: &str,
    ) -> Result<Option<(ResponseHead, usize)>, HttpRefusal> {
        let Some(extent) = self.next(buffer)? else {
            return Ok(None);
        };
        let head = ResponseHead::parse(extent.of(buffer), &extent, method)?;
        Ok(Some((head, extent.end)))
    }

    fn next(&mut self, buffer: &[u8]) -> Result<Option<Extent>, HttpRefusal> {
        let extent = self.scanner.scan(buffer, self.limits)?;
        if extent.is_some() {
            self.scanner = LineScanner::default();
        }
        Ok(extent)
    }
}

fn refusal(error: httparse::Error, head: &[u8]) -> HttpRefusal {
    let first_line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    match error {
        httparse::Error::HeaderName => HttpRefusal::bad("malformed header name"),
        httparse::Error::HeaderValue => HttpRefusal::bad("malformed header value"),
        httparse::Error::TooManyHeaders => HttpRefusal::new(431, "too many header lines"),
        httparse::Error::Version if names_another_version(first_line) => {
            HttpRefusal::new(505, "not HTTP/1.1")
        }
        _ => HttpRefusal::bad("malformed first line"),
    }
}

/// Whether the line is a request of another version of HTTP, rather than no request at all.
fn names_another_version(line: &[u8]) -> bool {
    match line {
        [.., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor] => {
            let digits = major.is_ascii_digit() && minor.is_ascii_digit();
            digits && (*major, *minor) != (b'1', b'0') && (*major, *minor) != (b'1', b'1')
        }
        _ => false,
    }
}

/// httparse knows no other minor version than 0 and 1.
fn version(minor: Option<u8>) -> HttpVersion {
    if minor == Some(0) {
        HttpVersion::Http10
    } else {
        HttpVersion::Http11
    }
}

fn keep_alive(fields: &Fields, version: HttpVersion) -> bool {
    match version {
        HttpVersion::Http11 => !fields.has_token("connection", "close"),
        HttpVersion::Http10 => {
            fields.has_token("connection", "keep-alive") && !fields.has_token("connection", "close")
        }
    }
}

fn expect_continue(fields: &Fields, version: HttpVersion) -> Result<bool, HttpRefusal> {
    let mut expectations = fields.all("expect");
    match (expectations.next(), expectations.next()) {
        (None, _) => Ok(false),
        (Some(one), None) if one.eq_ignore_ascii_case(b"100-continue") => {
            Ok(version == HttpVersion::Http11)
        }
        _ => Err(HttpRefusal::new(417, "unknown expectation")),
    }
}

fn request_framing(fields: &Fields, version: HttpVersion) -> Result<Framing, HttpRefusal> {
    match (fields.chunked()?, fields.content_length()?) {
        (true, _) if version == HttpVersion::Http10 => {
            Err(HttpRefusal::bad("HTTP/1.0 has no Transfer-Encoding"))
        }
        (true, Some(_)) => Err(HttpRefusal::bad(
            "both Content-Length and Transfer-Encoding",
        )),
        (true, None) => Ok(Framing::Chunked),
        (false, None | Some(0)) => Ok(Framing::None),
        (false, Some(length)) => Ok(Framing::Length(length)),
    }
}

fn response_framing(
    fields: &Fields,
    version: HttpVersion,
    status: u16,
    method: &str,
) -> Result<Framing, HttpRefusal> {
    let (chunked, length) = (fields.chunked()?, fields.content_length()?);
    if chunked && (length.is_some() || version == HttpVersion::Http10) {
        return Err(HttpRefusal::bad("contradictory framing"));
    }
    let bodiless = method == "HEAD" || status < 200 || matches!(status, 204 | 304);
    Ok(match length {
        _ if bodiless => Framing::None,
        _ if chunked => Framing::Chunked,
        None => Framing::UntilClose,
        Some(0) => Framing::None,
        Some(length) => Framing::Length(length),
    })
}

/// The forms of RFC 9112 section 3.2, without `CONNECT`, which is not supported.
fn check_target(method: &str, target: &str) -> Result<(), HttpRefusal> {
    if method == "CONNECT" {
        return Err(HttpRefusal::new(405, "CONNECT is not supported"));
    }
    let known_form = target.starts_with('/')
        || authority(target).is_some()
        || (target == "*" && method == "OPTIONS");
    // The URI grammar has ASCII alone, but browsers and scripts send other characters, and servers accept them. The
    // parser has checked that they are UTF-8.
    if !known_form || target.chars().any(|c| c.is_ascii_control()) || target.contains('#') {
        return Err(HttpRefusal::bad("malformed request target"));
    }
    Ok(())
}

fn check_host(fields: &Fields, version: HttpVersion, target: &str) -> Result<(), HttpRefusal> {
    let mut hosts = fields.all("host");
    let host = match (hosts.next(), hosts.next()) {
        (None, _) if version == HttpVersion::Http10 => return Ok(()),
        (None, _) => return Err(HttpRefusal::bad("no Host")),
        (Some(_), Some(_)) => return Err(HttpRefusal::bad("more than one Host")),
        (Some(host), None) => host,
    };
    if !is_host(host) {
        return Err(HttpRefusal::bad("malformed Host"));
    }
    match authority(target) {
        Some(other) if !other.as_bytes().eq_ignore_ascii_case(host) => {
            Err(HttpRefusal::bad("Host differs from the request target"))
        }
        _ => Ok(()),
    }
}

/// A name or address, with a port or without. Names are what DNS and container networks use: letters, digits, `-`, `.`,
/// `_`; percent-encoding and the rest of the URI grammar only help to have two parties read two different names.
fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else {
                return false;
            };
            let (address, rest) = rest.split_at(end);
            if !address
                .iter()
                .all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte))
            {
                return false;
            }
            (address, rest.get(1..).unwrap_or_default())
        }
        _ => {
            let end = host
                .iter()
                .position(|byte| *byte == b':')
                .unwrap_or(host.len());
            let (name, port) = host.split_at(end);
            if !name
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte))
            {
                return false;
            }
            (name, port)
        }
    };
    let port = match port {
        // An empty port is the default port (RFC 3986, 3.2.3).
        [] | [b':'] => return !name.is_empty(),
        [b':', digits @ ..] => digits,
        _ => return false,
    };
    let number = std::str::from_utf8(port)
        .ok()
        .and_then(|port| port.parse::<u16>().ok());
    !name.is_empty() && port.iter().all(u8::is_ascii_digit) && number.is_some()
}

/// The authority of an absolute target.
fn authority(target: &str) -> Option<&str> {
    let rest = target
        .strip_prefix("http://")
        .or_else(|| target.strip_prefix("https://"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    Some(&rest[..end]).filter(|authority| !authority.is_empty())
}

fn without_authority(target: &str) -> &str {
    let rest =
        authority(target).and_then(|authority| target.split_once("://")?.1.strip_prefix(authority));
    match rest {
        Some("") => "/",
        Some(rest) => rest,
        None => target,
    }
}

fn split_query(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some(("", query)) => ("/", Some(query)),
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}
