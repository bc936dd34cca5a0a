//! Heads as they are passed on: which fields are added and left out, and which app a request is for.
//!
//! Header fields about one connection are not passed on (RFC 9110 section 7.6.1), nor are those that `Connection`
//! names. Fields that only the router may set are removed from a client's request, also with `_` in place of `-`, which
//! look alike to programs that get CGI variables.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

use crate::wire::http::head::HttpVersion;
use crate::wire::http::{Framing, RequestHead, ResponseHead};

use super::forwarded::Forwarded;

/// The longest `X-Request-Id` of a client that is kept, in bytes (Heroku's figure).
const MAX_REQUEST_ID: usize = 200;
/// `Via` with the name of Heroku's router, by which programs know that they are behind it.
const VIA: &[u8] = b"Via: 1.1 vegur\r\n";

/// What the router adds to a request.
#[derive(Debug)]
pub struct Added<'a> {
    /// Where the request comes from.
    pub forwarded: &'a Forwarded,
    /// The `X-Request-ID` of the request.
    pub request_id: &'a str,
    /// When the request came, as milliseconds since 1970.
    pub start: u128,
    /// How long it took to connect to the dyno.
    pub connect: Duration,
    /// The time since the request came.
    pub total: Duration,
}

/// What is done with a header field of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    Drop,
}

fn is(name: &str, other: &str) -> bool {
    name.eq_ignore_ascii_case(other)
}

/// Whether a field is about one connection only.
fn is_hop_by_hop(name: &str) -> bool {
    match name.len() {
        2 => is(name, "te"),
        7 => is(name, "upgrade") || is(name, "trailer"),
        10 => is(name, "connection") || is(name, "keep-alive"),
        14 => is(name, "http2-settings"),
        16 => is(name, "proxy-connection"),
        17 => is(name, "transfer-encoding"),
        18 => is(name, "proxy-authenticate"),
        19 => is(name, "proxy-authorization"),
        _ => false,
    }
}

/// Whether the router itself writes this field of a request, in any spelling that programs cannot tell apart.
fn is_ours(name: &str) -> bool {
    match name.len() {
        12 => same(name, "connect-time") || same(name, "x-request-id"),
        14 => same(name, "content-length"),
        15 => same(name, "x-forwarded-for") || same(name, "x-request-start"),
        16 => same(name, "x-forwarded-port") || same(name, "total-route-time"),
        17 => same(name, "x-forwarded-proto") || same(name, "transfer-encoding"),
        _ => false,
    }
}

/// Like [`is`], with `_` for `-`.
fn same(name: &str, other: &str) -> bool {
    let folded = |byte: u8| match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    name.bytes().map(folded).eq(other.bytes())
}

/// Whether `Connection` names the field for removal. Fields that say where a message ends, and which host it is for, stay.
fn is_named(connection: &[&[u8]], name: &str) -> bool {
    let named = connection
        .iter()
        .flat_map(|value| value.split(|byte| *byte == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(name.as_bytes()));
    named && !is(name, "host") && !is(name, "content-length")
}

fn fate(name: &str, connection: &[&[u8]], of_request: bool) -> Fate {
    let dropped = is_hop_by_hop(name)
        || (of_request && is_ours(name))
        || (!connection.is_empty() && is_named(connection, name));
    match dropped {
        true => Fate::Drop,
        false => Fate::Pass,
    }
}

/// Whether the request may upgrade the connection. Not to HTTP/2, whose requests the router could not see.
pub fn upgrades(head: &RequestHead) -> bool {
    let http2 = |value: &[u8]| {
        value
            .split(|byte| *byte == b',')
            .any(|item| item.trim_ascii().to_ascii_lowercase().starts_with(b"h2"))
    };
    head.upgrade && head.framing == Framing::None && !head.fields.all("upgrade").any(http2)
}

/// Appends the head of the request for the dyno.
pub fn write_request(head: &RequestHead, added: &Added<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method().as_bytes());
    out.push(b' ');
    out.extend_from_slice(origin_form(head).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let connection: Vec<&[u8]> = head.fields.all("connection").collect();
    for (name, value) in head.fields.iter() {
        if fate(name, &connection, true) == Fate::Pass && added.forwarded.passes(name, value) {
            put(out, name, value);
        }
    }
    match head.framing {
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::Length(length) => number(out, "Content-Length: ", length.into()),
        _ if head.fields.all("content-length").next().is_some() => {
            number(out, "Content-Length: ", 0);
        }
        _ => {}
    }
    if upgrades(head) {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
        for value in head.fields.all("upgrade") {
            put(out, "Upgrade", value);
        }
    }
    put(out, "X-Request-Id", added.request_id.as_bytes());
    let forwarded = added.forwarded;
    put(out, "X-Forwarded-For", forwarded.chain.as_bytes());
    put(out, "X-Forwarded-Proto", forwarded.scheme().as_bytes());
    number(out, "X-Forwarded-Port: ", forwarded.port.into());
    out.extend_from_slice(VIA);
    number(out, "X-Request-Start: ", added.start);
    number(out, "Connect-Time: ", added.connect.as_millis());
    number(out, "Total-Route-Time: ", added.total.as_millis());
    out.extend_from_slice(b"\r\n");
}

/// How a response's body is sent to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As the bytes that came.
    Raw,
    /// In new chunks.
    Chunks,
    /// The data alone, which ends with the connection.
    Data,
}

/// How the client gets the body of this response.
pub fn coding(framing: Framing, client: HttpVersion) -> Coding {
    match (framing, client) {
        (Framing::None | Framing::Length(_), _) => Coding::Raw,
        (Framing::Chunked, HttpVersion::Http11) => Coding::Raw,
        (Framing::UntilClose, HttpVersion::Http11) => Coding::Chunks,
        (Framing::Chunked | Framing::UntilClose, HttpVersion::Http10) => Coding::Data,
    }
}

/// Appends the head of a response for the client. With `close`, the connection is closed after it.
pub fn write_response(head: &ResponseHead, client: HttpVersion, close: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    number_alone(out, head.status.into());
    out.push(b' ');
    out.extend_from_slice(head.reason());
    out.extend_from_slice(b"\r\n");
    let connection: Vec<&[u8]> = head.fields.all("connection").collect();
    let no_length = head.status < 200 || head.status == 204;
    for (name, value) in head.fields.iter() {
        if fate(name, &connection, false) == Fate::Pass
            && !(no_length && is(name, "content-length"))
        {
            put(out, name, value);
        }
    }
    if head.status == 101 {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
        for value in head.fields.all("upgrade") {
            put(out, "Upgrade", value);
        }
    }
    let chunked = match coding(head.framing, client) {
        Coding::Raw => head.framing == Framing::Chunked,
        Coding::Chunks => true,
        Coding::Data => false,
    };
    if chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        for value in head.fields.all("trailer") {
            put(out, "Trailer", value);
        }
    }
    if head.status >= 200 {
        out.extend_from_slice(VIA);
        match (close, client) {
            (true, _) => out.extend_from_slice(b"Connection: close\r\n"),
            (false, HttpVersion::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (false, HttpVersion::Http11) => {}
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn put(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.reserve(name.len().saturating_add(value.len()).saturating_add(4));
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn number(out: &mut Vec<u8>, name: &str, value: u128) {
    out.extend_from_slice(name.as_bytes());
    number_alone(out, value);
    out.extend_from_slice(b"\r\n");
}

fn number_alone(out: &mut Vec<u8>, value: u128) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{value}");
}

/// The target in origin form, as it is sent to a server.
fn origin_form(head: &RequestHead) -> Cow<'_, str> {
    let target = head.target();
    if target.starts_with('/') || target == "*" {
        return target.into();
    }
    // An absolute target; that its authority equals `Host` was checked when the head was read.
    let rest = target.split_once("://").map_or("", |(_, rest)| rest);
    match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('/') => rest[at..].into(),
        Some(at) => format!("/{}", &rest[at..]).into(),
        None if head.method() == "OPTIONS" => "*".into(),
        None => "/".into(),
    }
}

/// The host that the request is for, without its port.
pub fn host(head: &RequestHead) -> &str {
    let host = head.fields.get("host").unwrap_or_default();
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// The app that a host name means, in lower case: the label before `domain`.
pub fn app<'a>(host: &'a str, domain: &str) -> Option<Cow<'a, str>> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let at = host.len().checked_sub(domain.len())?.checked_sub(1)?;
    let (name, rest) = host.split_at_checked(at)?;
    if name.is_empty() || !rest.starts_with('.') || !is(&rest[1..], domain) {
        return None;
    }
    Some(match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => name.to_ascii_lowercase().into(),
        false => name.into(),
    })
}

/// The client's `X-Request-Id`, if it can be kept.
pub fn request_id(head: &RequestHead) -> Option<&str> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+/=.".contains(&byte);
    head.fields
        .get("x-request-id")
        .filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(valid))
}

/// What is known of a request that was refused, for the log line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Guess<'a> {
    /// The first word of the request; empty if there is none.
    pub method: &'a str,
    /// The second word, with the query; empty if there is none.
    pub path: &'a str,
    /// The host without its port; empty if there is none, or more than one.
    pub host: &'a str,
}

/// Finds out what it can from the bytes of a request.
pub fn guess(bytes: &[u8]) -> Guess<'_> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default().trim_ascii();
    let mut words = first.split(|byte| *byte == b' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let mut hosts = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(5)?;
        name.eq_ignore_ascii_case(b"host:")
            .then(|| value.trim_ascii())
    });
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => text(host),
        _ => "",
    };
    Guess {
        method: text(method),
        path: text(path),
        host: host.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::{HeadLimits, HeadReader};

    fn request(text: &str) -> RequestHead {
        let (head, _) = HeadReader::new(HeadLimits::API)
            .request(text.as_bytes())
            .unwrap()
            .unwrap();
        head
    }

    fn passed_on(text: &str) -> String {
        let head = request(text);
        let mut out = Vec::new();
        let peer = "192.0.2.7".parse().unwrap();
        let added = Added {
            forwarded: &Forwarded::of(&head, peer, 8080, &[]),
            request_id: request_id(&head).unwrap_or("made"),
            start: 1_700_000_000_123,
            connect: Duration::from_millis(1),
            total: Duration::from_millis(2),
        };
        write_request(&head, &added, &mut out);
        String::from_utf8(out).unwrap()
    }

    const ADDED: &str = "X-Request-Id: made\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n\
        X-Forwarded-Port: 8080\r\nVia: 1.1 vegur\r\nX-Request-Start: 1700000000123\r\nConnect-Time: 1\r\n\
        Total-Route-Time: 2\r\n\r\n";

    #[test]
    fn a_request_gets_herokus_headers() {
        assert_eq!(
            passed_on("GET /a?b HTTP/1.0\r\nHost: a\r\nAccept: */*\r\n\r\n"),
            format!("GET /a?b HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n{ADDED}")
        );
        let kept = passed_on(
            "GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: abc/1=\r\nX-Forwarded-For: 10.0.0.1\r\n\
             x-forwarded-for: 10.0.0.2\r\nX-Forwarded-Proto: https\r\nVia: 1.0 x\r\n\r\n",
        );
        assert!(kept.contains("\r\nX-Request-Id: abc/1=\r\n"));
        assert!(kept.contains("\r\nX-Forwarded-For: 10.0.0.1, 10.0.0.2, 192.0.2.7\r\n"));
        assert_eq!(kept.to_lowercase().matches("x-forwarded-for").count(), 1);
        assert!(!kept.contains("https"));
        assert!(kept.contains("\r\nVia: 1.0 x\r\n") && kept.contains("\r\nVia: 1.1 vegur\r\n"));
    }

    #[test]
    fn what_is_about_the_connection_stops_here() {
        let text = passed_on(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Secret, Host, Content-Length\r\nX-Secret: 1\r\n\
             Keep-Alive: 1\r\nTE: trailers\r\nTrailer: x\r\nProxy-Authorization: x\r\nProxy-Connection: x\r\n\
             Upgrade: websocket\r\nContent-Length: 007\r\nX_Forwarded-For: 1\r\nContent_Length: 3\r\n\
             Transfer_Encoding: chunked\r\n\r\n",
        );
        assert_eq!(
            text,
            format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n{ADDED}")
        );
    }

    #[test]
    fn an_upgrade_is_passed_on_unless_it_hides_requests() {
        let text = |to: &str| {
            passed_on(&format!(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: {to}\r\n\r\n"
            ))
        };
        assert!(text("websocket").contains("Connection: Upgrade\r\nUpgrade: websocket\r\n"));
        assert!(!text("h2c").contains("Upgrade"));
        assert!(!text("x, H2C").contains("Upgrade"));
    }

    #[test]
    fn an_absolute_target_is_made_a_path() {
        for (target, path) in [
            ("http://a/x?y", "/x?y"),
            ("http://a?y", "/?y"),
            ("http://a", "/"),
            ("/x", "/x"),
        ] {
            let text = passed_on(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(
                text.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
                "{text}"
            );
        }
        assert!(
            passed_on("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("OPTIONS * ")
        );
    }

    #[test]
    fn the_first_label_is_the_app() {
        let of = |host: &'static str| app(host, "localhost");
        assert_eq!(of("shop.localhost").as_deref(), Some("shop"));
        assert_eq!(of("Shop.LOCALHOST").as_deref(), Some("shop"));
        assert_eq!(of("shop.localhost.").as_deref(), Some("shop"));
        for host in [
            "",
            "localhost",
            ".localhost",
            "shoplocalhost",
            "shop.localhost.evil",
            "é",
        ] {
            assert_eq!(app(host, "localhost"), None, "{host}");
        }
        assert_eq!(of("a.shop.localhost").as_deref(), Some("a.shop"));
        assert_eq!(
            host(&request("GET / HTTP/1.1\r\nHost: a.b:80\r\n\r\n")),
            "a.b"
        );
        assert_eq!(
            host(&request("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n")),
            "::1"
        );
    }

    #[test]
    fn request_ids_that_are_none_are_replaced() {
        let id = |value: &str| {
            request_id(&request(&format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: {value}\r\n\r\n"
            )))
            .map(str::to_owned)
        };
        assert_eq!(id("a-b_1"), Some("a-b_1".into()));
        for value in ["", "a b", "a\"b", &"a".repeat(201)] {
            assert_eq!(id(value), None, "{value}");
        }
    }

    #[test]
    fn a_refused_request_is_known_by_what_there_is_of_it() {
        let known = guess(b"GET /x HTTP/1.1\r\nhost: shop.localhost:80\r\nX");
        assert_eq!(
            (known.method, known.path, known.host),
            ("GET", "/x", "shop.localhost")
        );
        let two = guess(b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n");
        assert_eq!(two.host, "");
        assert_eq!(guess(b"\x16\x03\xff"), Guess::default());
        assert_eq!(guess(b""), Guess::default());
    }

    fn response(text: &str, client: HttpVersion, close: bool) -> String {
        let (head, _) = HeadReader::new(HeadLimits::API)
            .response(text.as_bytes(), "GET")
            .unwrap()
            .unwrap();
        let mut out = Vec::new();
        write_response(&head, client, close, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_response_is_framed_as_the_client_knows_it() {
        let chunked = "HTTP/1.1 200 Fine so far\r\nTransfer-Encoding: chunked\r\nConnection: x\r\nX: 1\r\n\r\n";
        assert_eq!(
            response(chunked, HttpVersion::Http11, false),
            "HTTP/1.1 200 Fine so far\r\nTransfer-Encoding: chunked\r\nVia: 1.1 vegur\r\n\r\n"
        );
        assert_eq!(
            response(chunked, HttpVersion::Http10, true),
            "HTTP/1.1 200 Fine so far\r\nVia: 1.1 vegur\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            response("HTTP/1.0 200 OK\r\n\r\n", HttpVersion::Http11, false),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nVia: 1.1 vegur\r\n\r\n"
        );
        assert_eq!(
            response(
                "HTTP/1.1 204\r\nContent-Length: 0\r\n\r\n",
                HttpVersion::Http10,
                false
            ),
            "HTTP/1.1 204 \r\nVia: 1.1 vegur\r\nConnection: keep-alive\r\n\r\n"
        );
        assert_eq!(
            response(
                "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
                HttpVersion::Http11,
                true
            ),
            "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
        );
    }
}
