//! Messages to be written: a server's response, the head of a client's request.

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
use std::time::SystemTime;

use serde::Serialize;

/// A response that is held in memory as a whole, or the head of one whose body is streamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    status: u16,
    fields: Vec<(Cow<'static, str>, String)>,
    body: Vec<u8>,
    until_closed: bool,
}

impl Response {
    /// A response without a body; `status` is 200 to 599.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            fields: Vec::new(),
            body: Vec::new(),
            until_closed: false,
        }
    }

    /// A response with `value` as its JSON body.
    ///
    /// A value without a JSON form (a map whose keys are no strings) is a bug of the caller, and becomes a 500 without a body.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::new(status)
                .with("Content-Type", "application/json")
                .body(body),
            Err(_) => Self::new(500),
        }
    }

    /// Adds a header field. `Content-Length`, `Date` and `Connection` are written anyway.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Replaces the body.
    #[must_use]
    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// Its body.
    pub fn content(&self) -> &[u8] {
        &self.body
    }

    /// Has a streamed body end with the connection instead of in chunks, even for a client that knows chunks, which
    /// then takes a body that breaks off for a complete one.
    #[must_use]
    pub fn until_closed(mut self) -> Self {
        self.until_closed = true;
        self
    }

    /// Whether [`Response::until_closed`] was asked for.
    pub fn is_until_closed(&self) -> bool {
        self.until_closed
    }

    /// Its status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Appends the message to `out`.
    pub fn write(&self, options: WriteOptions, out: &mut Vec<u8>) {
        let has_body = !matches!(self.status, 204 | 304);
        let framing = has_body.then(|| format!("Content-Length: {}\r\n", self.body.len()));
        self.put_head(options, framing.as_deref(), out);
        if !options.head_only && has_body {
            out.extend_from_slice(&self.body);
        }
    }

    /// Appends the head alone, of a message whose body is streamed: in [chunks](super::chunk), or else until the
    /// connection ends.
    pub fn write_head(&self, options: WriteOptions, chunked: bool, out: &mut Vec<u8>) {
        let framing = chunked.then_some("Transfer-Encoding: chunked\r\n");
        self.put_head(options, framing, out);
    }

    fn put_head(&self, options: WriteOptions, framing: Option<&str>, out: &mut Vec<u8>) {
        let (status, date) = (self.status, httpdate::fmt_http_date(options.now));
        put(
            out,
            format_args!("HTTP/1.1 {status} {}\r\nDate: {date}\r\n", phrase(status)),
        );
        for (name, value) in &self.fields {
            put_field(out, name, value);
        }
        out.extend_from_slice(framing.unwrap_or_default().as_bytes());
        if options.close {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// What the bytes of a response depend on, beside the response itself.
#[derive(Debug, Clone, Copy)]
pub struct WriteOptions {
    /// For `Date`.
    pub now: SystemTime,
    /// The connection is closed after the response.
    pub close: bool,
    /// It answers a `HEAD`: the body is left out.
    pub head_only: bool,
}

/// The head of a request, written field by field.
#[derive(Debug)]
pub struct RequestLine {
    head: Vec<u8>,
}

impl RequestLine {
    /// A head that begins with `METHOD TARGET HTTP/1.1` and `Host`. Control characters are replaced, so that none can
    /// end a line.
    pub fn new(method: &str, target: &str, host: &str) -> Self {
        let mut head = Vec::with_capacity(256);
        let target: String = target
            .chars()
            .map(|c| if c.is_ascii_graphic() { c } else { '?' })
            .collect();
        put(&mut head, format_args!("{method} {target} HTTP/1.1\r\n"));
        put_field(&mut head, "Host", host);
        Self { head }
    }

    /// Adds a header field.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        put_field(&mut self.head, name, value);
        self
    }

    /// The bytes of the head, to be followed by the body.
    pub fn finish(mut self) -> Vec<u8> {
        self.head.extend_from_slice(b"\r\n");
        self.head
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

/// Appends a field. A value may hold what a user typed: a control character in it must not begin a new line.
fn put_field(out: &mut Vec<u8>, name: &str, value: &str) {
    put(out, format_args!("{name}: "));
    out.extend(
        value
            .bytes()
            .map(|byte| if byte.is_ascii_control() { b' ' } else { byte }),
    );
    out.extend_from_slice(b"\r\n");
}

/// The reason phrase of a status, for people; programs must not rely on it.
fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Unknown",
    }
}
