//! Whole messages through the parser and back, hostile ones above all.

use std::time::SystemTime;

use proptest::prelude::*;

use super::head::HttpVersion;
use super::message::WriteOptions;
use super::*;

const SMALL: HeadLimits = HeadLimits {
    line: 64,
    head: 256,
    fields: 4,
};

fn request(bytes: &[u8]) -> Result<Option<(RequestHead, usize)>, HttpRefusal> {
    HeadReader::new(HeadLimits::API).request(bytes)
}

fn head(bytes: &[u8]) -> RequestHead {
    request(bytes).expect("refused").expect("incomplete").0
}

#[test]
fn a_request_says_what_it_wants() {
    let bytes = b"POST /apps/shop?dry=1&x HTTP/1.1\r\nHost: dyno\r\nContent-Length: 12\r\n\
                  Expect: 100-continue\r\nX-Name:  caf\xc3\xa9 \r\n\r\nbody";
    let (head, length) = request(bytes).unwrap().unwrap();
    assert_eq!(&bytes[length..], b"body");
    assert_eq!(
        (head.method(), head.target()),
        ("POST", "/apps/shop?dry=1&x")
    );
    assert_eq!((head.path(), head.query()), ("/apps/shop", Some("dry=1&x")));
    assert_eq!(head.version, HttpVersion::Http11);
    assert_eq!(head.framing, Framing::Length(12));
    assert!(head.keep_alive && head.expect_continue && !head.upgrade);
    assert_eq!(head.fields.get("x-name"), Some("café"));
    assert_eq!(head.fields.get("host"), Some("dyno"));
}

#[test]
fn connection_facts() {
    let facts = |version: &str, fields: &str| {
        let head = head(format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n").as_bytes());
        (head.keep_alive, head.upgrade)
    };
    assert_eq!(facts("1.1", ""), (true, false));
    assert_eq!(facts("1.1", "Connection: foo, Close\r\n"), (false, false));
    assert_eq!(facts("1.0", ""), (false, false));
    assert_eq!(facts("1.0", "Connection: keep-alive\r\n"), (true, false));
    assert_eq!(
        facts("1.1", "Connection: Upgrade\r\nUpgrade: x/1\r\n"),
        (true, true)
    );
    assert_eq!(facts("1.1", "Upgrade: x/1\r\n"), (true, false));
    assert_eq!(
        facts("1.0", "Connection: Upgrade\r\nUpgrade: x/1\r\n"),
        (false, false)
    );
}

#[test]
fn targets_of_every_form() {
    let absolute = head(b"GET http://a:80/x?y HTTP/1.1\r\nHost: a:80\r\n\r\n");
    assert_eq!((absolute.path(), absolute.query()), ("/x", Some("y")));
    let bare = head(b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((bare.path(), bare.query()), ("/", None));
    let query = head(b"GET http://a?b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((query.path(), query.query()), ("/", Some("b")));
    assert_eq!(head(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path(), "*");
    // Any character beyond ASCII, a control character as well: it is the app's to understand.
    let beyond = head("GET /caf\u{e9}\u{85} HTTP/1.1\r\nHost: a\r\n\r\n".as_bytes());
    assert_eq!(beyond.path(), "/caf\u{e9}\u{85}");
}

#[test]
fn one_empty_line_before_a_request_is_ignored() {
    let (head, length) = request(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap()
        .unwrap();
    assert_eq!((head.path(), length), ("/", 29));
}

#[test]
fn pipelined_requests_come_one_by_one() {
    let bytes = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut reader = HeadReader::new(HeadLimits::API);
    let (first, length) = reader.request(bytes).unwrap().unwrap();
    let (second, rest) = reader.request(&bytes[length..]).unwrap().unwrap();
    assert_eq!((first.path(), second.path()), ("/1", "/2"));
    assert_eq!(length + rest, bytes.len());
}

/// Requests that two parties could read differently, and what they are answered.
#[test]
fn hostile_requests_are_refused() {
    let with = |field: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let host = |value: &str| format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n");
    let line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n");
    let table: Vec<(u16, String)> = vec![
        // Two lengths.
        (
            400,
            post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        ),
        (
            400,
            post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"),
        ),
        (400, post("Content-Length: 5\r\nContent-Length: 6\r\n")),
        (400, post("Content-Length: 5\r\nContent-Length: 5\r\n")),
        (400, post("Content-Length: 5, 5\r\n")),
        // Lengths that are no numbers.
        (400, post("Content-Length:\r\n")),
        (400, post("Content-Length: +5\r\n")),
        (400, post("Content-Length: -5\r\n")),
        (400, post("Content-Length: 0x5\r\n")),
        (400, post("Content-Length: 5 5\r\n")),
        (400, post("Content-Length: 5.0\r\n")),
        (400, post("Content-Length: 99999999999999999999\r\n")),
        (400, post("Content-Length: \u{0665}\r\n")),
        // Transfer codings that are not one exact `chunked`.
        (400, post("Transfer-Encoding: gzip, chunked\r\n")),
        (400, post("Transfer-Encoding: chunked, chunked\r\n")),
        (
            400,
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ),
        (
            400,
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ),
        (400, post("Transfer-Encoding: identity\r\n")),
        (400, post("Transfer-Encoding: xchunked\r\n")),
        (400, post("Transfer-Encoding: \"chunked\"\r\n")),
        (400, post("Transfer-Encoding: chunked;q=1\r\n")),
        (400, post("Transfer-Encoding: chunked \u{b}\r\n")),
        (400, post("Transfer-Encoding:\r\n")),
        (400, post("Transfer-Encoding : chunked\r\n")),
        (400, post("Transfer-Encoding\u{b}: chunked\r\n")),
        (
            400,
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
        ),
        // Line ends.
        (400, "GET / HTTP/1.1\nHost: a\n\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a\r\n\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a\rX: 1\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\rHost: a\r\n\r\n".into()),
        (400, "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (400, "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        // Folded lines, names that are none.
        (400, with("X: 1\r\n folded")),
        (400, with("X: 1\r\n\tfolded")),
        (400, with(" X: 1")),
        (400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n".into()),
        (400, with("X : 1")),
        (400, with("X\t: 1")),
        (400, with(": 1")),
        (400, with("X")),
        (400, with("X(y): 1")),
        (400, with("X\u{e9}: 1")),
        // Control characters.
        (400, with("X: a\0b")),
        (400, with("X: a\u{1b}[31m")),
        (400, with("X: a\u{7f}")),
        (400, with("X\0: 1")),
        (400, line("GET /\0 HTTP/1.1")),
        (400, line("GET\t/\tHTTP/1.1")),
        // First lines.
        (400, line("GET  / HTTP/1.1")),
        (400, line("GET /  HTTP/1.1")),
        (400, line("GET / HTTP/1.1 ")),
        (400, line(" GET / HTTP/1.1")),
        (400, line("GET /")),
        (400, line("G(T / HTTP/1.1")),
        (400, line("GET apps HTTP/1.1")),
        (400, line("GET * HTTP/1.1")),
        (400, line("GET /a#b HTTP/1.1")),
        (400, line("GET ftp://a/ HTTP/1.1")),
        (400, line("GET http:///x HTTP/1.1")),
        (400, line("GET / http/1.1")),
        (505, line("GET / HTTP/2.0")),
        (505, line("GET / HTTP/1.2")),
        (505, line("GET / HTTP/0.9")),
        (405, line("CONNECT a:443 HTTP/1.1")),
        (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        (400, "\u{16}\u{3}\u{1}\u{2}".into()),
        // Hosts.
        (400, "GET / HTTP/1.1\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n".into()),
        (400, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".into()),
        (400, "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (400, host("")),
        (400, host(":80")),
        (400, host("a b")),
        (400, host("a,b")),
        (400, host("a/b")),
        (400, host("a@b")),
        (400, host("a?b")),
        (400, host("a%00")),
        (400, host("a:b")),
        (400, host("a:+80")),
        (400, host("a:80:80")),
        (400, host("a:65536")),
        (400, host("[::1")),
        (400, host("[::1]a")),
        (400, host("[]")),
        (400, host("[a\\b]")),
        // Sizes.
        (
            414,
            line(&format!("GET /{} HTTP/1.1", "a".repeat(8 * 1024))),
        ),
        (431, with(&format!("X: {}", "a".repeat(8 * 1024)))),
        (431, with(&vec!["X: 1"; 100].join("\r\n"))),
        (
            431,
            with(&vec![format!("X: {}", "a".repeat(8000)); 9].join("\r\n")),
        ),
        (417, with("Expect: 200-ok")),
    ];
    for (status, bytes) in table {
        let refusal = request(bytes.as_bytes()).expect_err(&format!("taken: {bytes:?}"));
        assert_eq!(refusal.status, status, "{refusal:?} for {bytes:?}");
    }
}

#[test]
fn odd_but_honest_requests_are_taken() {
    let table = [
        "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n",
        "GET / HTTP/1.1\r\nhost:my_app.local\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0007\r\n\r\n",
        "M-SEARCH /%00|\"' HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t a\tb \t\r\n\r\n",
    ];
    for bytes in table {
        assert!(
            matches!(request(bytes.as_bytes()), Ok(Some(_))),
            "{bytes:?}"
        );
    }
}

#[test]
fn limits_are_the_callers() {
    let mut tight = HeadReader::new(SMALL);
    let fields = "X: 1\r\n".repeat(4);
    let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    assert_eq!(tight.request(bytes.as_bytes()).unwrap_err().status, 431);
    let line = "a".repeat(64 - 3);
    let exact = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {line}\r\n\r\n");
    assert!(
        HeadReader::new(SMALL)
            .request(exact.as_bytes())
            .unwrap()
            .is_some()
    );
    let over = format!("GET / HTTP/1.1\r\nHost: a\r\nX: a{line}\r\n\r\n");
    assert_eq!(
        HeadReader::new(SMALL)
            .request(over.as_bytes())
            .unwrap_err()
            .status,
        431
    );
}

#[test]
fn responses_and_their_framing() {
    let framing = |method: &str, rest: &str| {
        let bytes = format!("HTTP/1.1 {rest}\r\n\r\n");
        let (head, _) = HeadReader::new(HeadLimits::API)
            .response(bytes.as_bytes(), method)?
            .unwrap();
        Ok::<_, HttpRefusal>((head.framing, head.keep_alive))
    };
    assert_eq!(
        framing("GET", "200 OK\r\nContent-Length: 3"),
        Ok((Framing::Length(3), true))
    );
    assert_eq!(
        framing("HEAD", "200 OK\r\nContent-Length: 3"),
        Ok((Framing::None, true))
    );
    assert_eq!(framing("GET", "204 "), Ok((Framing::None, true)));
    assert_eq!(
        framing("GET", "304 x\r\nContent-Length: 3"),
        Ok((Framing::None, true))
    );
    assert_eq!(
        framing("GET", "101 x\r\nUpgrade: y"),
        Ok((Framing::None, true))
    );
    assert_eq!(
        framing("GET", "200 OK\r\nTransfer-Encoding: chunked"),
        Ok((Framing::Chunked, true))
    );
    assert_eq!(framing("GET", "200 OK"), Ok((Framing::UntilClose, false)));
    assert_eq!(
        framing("GET", "200 OK\r\nContent-Length: 0\r\nConnection: close"),
        Ok((Framing::None, false))
    );
    assert!(
        framing(
            "GET",
            "200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked"
        )
        .is_err()
    );
    assert!(framing("GET", "99 OK").is_err());
}

/// A complete body, and what follows it.
type BodyAndRest = (Vec<u8>, Vec<u8>);

fn decode(framing: Framing, mut bytes: &[u8]) -> Result<Option<BodyAndRest>, HttpRefusal> {
    let (mut decoder, mut body) = (BodyDecoder::new(framing), Vec::new());
    loop {
        match decoder.decode(&mut bytes)? {
            Decoded::Data(data) => body.extend_from_slice(data),
            Decoded::NeedMore => return Ok(None),
            Decoded::End => return Ok(Some((body, bytes.to_vec()))),
        }
    }
}

#[test]
fn bodies_end_where_they_should() {
    let whole = |framing, bytes: &str| {
        let (body, rest) = decode(framing, bytes.as_bytes())
            .unwrap()
            .expect("incomplete");
        (
            String::from_utf8(body).unwrap(),
            String::from_utf8(rest).unwrap(),
        )
    };
    let both = |body: &str, rest: &str| (body.to_owned(), rest.to_owned());
    assert_eq!(whole(Framing::None, "GET"), both("", "GET"));
    assert_eq!(whole(Framing::Length(3), "abcdef"), both("abc", "def"));
    assert_eq!(
        whole(
            Framing::Chunked,
            "3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\nGET"
        ),
        both("abc0123456789", "GET")
    );
    assert_eq!(
        whole(Framing::Chunked, "000\r\nX-Sum: 1\r\nY:\r\n\r\nGET"),
        both("", "GET")
    );
    assert_eq!(decode(Framing::Length(3), b"ab"), Ok(None));
    assert_eq!(decode(Framing::UntilClose, b"ab"), Ok(None));
    assert!(BodyDecoder::new(Framing::UntilClose).ends_at_close());
    assert!(!BodyDecoder::new(Framing::Chunked).ends_at_close());
}

#[test]
fn hostile_chunks_are_refused() {
    let long_extension = format!("1;{}\r\n", "a".repeat(257));
    let long_trailers = format!("0\r\n{}\r\n", "X: 1\r\n".repeat(2000));
    for bytes in [
        "\r\n",
        "g\r\n",
        "0x1\r\n",
        "-1\r\n",
        "+1\r\n",
        " 1\r\n",
        "1 \r\n",
        "1 ;a\r\n",
        ";a\r\n",
        "1\na\r\n",
        "1\r\na\n",
        "1\r\rna",
        "1\r\nab\r\n",
        "1\r\na\r\r\n",
        "00000000000000001\r\n",
        "1;a\nb\r\n",
        "1;a\0\r\n",
        "1;\u{e9}\r\n",
        "0\r\n\n",
        "0\r\nX\r\n\r\n",
        "0\r\n: 1\r\n\r\n",
        "0\r\nX : 1\r\n\r\n",
        "0\r\n X: 1\r\n\r\n",
        "0\r\nX: 1\n\r\n",
        "0\r\nX: \0\r\n\r\n",
        "0\r\n\rX",
        &long_extension,
        &long_trailers,
    ] {
        assert!(
            decode(Framing::Chunked, bytes.as_bytes()).is_err(),
            "taken: {bytes:?}"
        );
    }
}

#[test]
fn a_response_is_written_once_and_whole() {
    let options = WriteOptions {
        now: SystemTime::UNIX_EPOCH,
        close: false,
        head_only: false,
    };
    let write = |response: &Response, options| {
        let mut out = Vec::new();
        response.write(options, &mut out);
        String::from_utf8(out).unwrap()
    };
    let response = Response::json(201, &["a"]).with("Location", "/x\r\nEvil: 1");
    assert_eq!(
        write(&response, options),
        "HTTP/1.1 201 Created\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
         Content-Type: application/json\r\nLocation: /x  Evil: 1\r\nContent-Length: 5\r\n\r\n[\"a\"]"
    );
    let closing = WriteOptions {
        close: true,
        head_only: true,
        ..options
    };
    assert!(write(&response, closing).ends_with("Content-Length: 5\r\nConnection: close\r\n\r\n"));
    assert!(!write(&Response::new(204), options).contains("Content-Length"));
}

#[test]
fn the_reason_is_what_stands_in_the_line_and_nothing_of_the_next() {
    let reason = |line: &str| {
        let bytes = format!("{line}\r\nX: 1\r\n\r\n");
        let read = HeadReader::new(HeadLimits::API).response(bytes.as_bytes(), "GET");
        String::from_utf8(read.unwrap().unwrap().0.reason().to_vec()).unwrap()
    };
    assert_eq!(reason("HTTP/1.1 200 Fine so far"), "Fine so far");
    assert_eq!(reason("HTTP/1.1 204 "), "");
    assert_eq!(reason("HTTP/1.1 204"), "");
}

#[test]
fn a_request_line_cannot_be_broken_out_of() {
    let bytes = RequestLine::new("GET", "/a b\r\nX: 1", "dyno")
        .with("X-A", "1\r\nY: 2")
        .finish();
    let head = head(&bytes);
    assert_eq!(head.target(), "/a?b??X:?1");
    assert_eq!(head.fields.iter().count(), 2);
}

/// What any caller sees of a stream of messages, whichever pieces it comes in.
fn read_all<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<String>, HttpRefusal> {
    let mut reader = HeadReader::new(SMALL);
    let (mut buffer, mut seen) = (Vec::new(), Vec::new());
    let mut body: Option<(BodyDecoder, Vec<u8>)> = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            if let Some((decoder, data)) = &mut body {
                let mut rest = &buffer[..];
                let decoded = loop {
                    match decoder.decode(&mut rest)? {
                        Decoded::Data(piece) => data.extend_from_slice(piece),
                        other => break other,
                    }
                };
                let used = buffer.len() - rest.len();
                let ended = decoded == Decoded::End;
                buffer.drain(..used);
                if !ended {
                    break;
                }
                seen.push(format!("{:?}", body.take().unwrap().1));
            } else if let Some((head, length)) = reader.request(&buffer)? {
                buffer.drain(..length);
                body = Some((BodyDecoder::new(head.framing), Vec::new()));
                seen.push(format!("{head:?}"));
            } else {
                break;
            }
        }
    }
    Ok(seen)
}

/// Bytes that look like HTTP often enough to get far.
fn almost_http() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a HTTP/1.1\r\n",
        "Host: a\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "\r\n",
        "abc",
        "3\r\nabc\r\n",
        "0\r\n\r\n",
        "X: ",
        "\r",
        "\n",
        ":",
        " ",
        "1;a=b\r\nz\r\n",
        "Connection: close\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
    ]);
    let piece = prop_oneof![
        6 => pieces.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// What a client sees of a stream of responses to `GET`, whichever pieces it comes in.
fn read_responses<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<String>, HttpRefusal> {
    let mut reader = HeadReader::new(SMALL);
    let (mut buffer, mut seen) = (Vec::new(), Vec::new());
    let mut body: Option<(BodyDecoder, Vec<u8>)> = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            if let Some((decoder, data)) = &mut body {
                let mut rest = &buffer[..];
                let ended = loop {
                    match decoder.decode(&mut rest)? {
                        Decoded::Data(piece) => data.extend_from_slice(piece),
                        other => break other == Decoded::End,
                    }
                };
                assert_eq!(decoder.is_complete(), ended);
                let used = buffer.len() - rest.len();
                buffer.drain(..used);
                if !ended {
                    break;
                }
                seen.push(format!("{:?}", body.take().unwrap().1));
            } else if let Some((head, length)) = reader.response(&buffer, "GET")? {
                buffer.drain(..length);
                assert!(!head.reason().contains(&b'\r') && !head.reason().contains(&b'\n'));
                body = Some((BodyDecoder::new(head.framing), Vec::new()));
                seen.push(format!("{head:?}"));
            } else {
                break;
            }
        }
    }
    seen.extend(body.map(|(_, data)| format!("{data:?} and on")));
    Ok(seen)
}

/// Bytes that look like responses often enough to get far.
fn almost_responses() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 404 \r\n",
        "HTTP/1.1 204\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "\r\n",
        "abc",
        "3\r\nabc\r\n",
        "0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "\r",
        "\n",
    ]);
    let piece = prop_oneof![
        6 => pieces.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_of_responses_reads_the_same(
        bytes in almost_responses(),
        cuts in prop::collection::vec(0usize..400, 0..12),
    ) {
        let whole = read_responses([&bytes[..]].into_iter());
        prop_assert_eq!(&read_responses(bytes.chunks(1)), &whole);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        prop_assert_eq!(&read_responses(cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]])), &whole);
    }

    #[test]
    fn any_split_of_the_bytes_reads_the_same(
        bytes in almost_http(),
        cuts in prop::collection::vec(0usize..400, 0..12),
    ) {
        let whole = read_all([&bytes[..]].into_iter());
        prop_assert_eq!(&read_all(bytes.chunks(1)), &whole);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        prop_assert_eq!(&read_all(cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]])), &whole);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = request(&bytes);
        let _ = HeadReader::new(SMALL).response(&bytes, "GET");
        let _ = decode(Framing::Chunked, &bytes);
    }

    #[test]
    fn chunks_come_back_as_they_went(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
    ) {
        let mut bytes = Vec::new();
        parts.iter().for_each(|part| chunk::encode(part, &mut bytes));
        bytes.extend_from_slice(chunk::LAST);
        bytes.extend_from_slice(b"next");
        prop_assert_eq!(
            decode(Framing::Chunked, &bytes),
            Ok(Some((parts.concat(), b"next".to_vec())))
        );
    }

    #[test]
    fn responses_come_back_as_they_went(status in 200u16..600, body: Vec<u8>, value in "[ -~]{0,20}") {
        let mut bytes = Vec::new();
        let options = WriteOptions { now: SystemTime::UNIX_EPOCH, close: false, head_only: false };
        Response::new(status).with("X-V", value.clone()).body(body.clone()).write(options, &mut bytes);
        let (head, length) = HeadReader::new(HeadLimits::API).response(&bytes, "GET").unwrap().unwrap();
        prop_assert_eq!(head.status, status);
        prop_assert_eq!(head.fields.get("x-v"), Some(value.trim_matches(' ')));
        if !matches!(status, 204 | 304) {
            prop_assert_eq!(decode(head.framing, &bytes[length..]), Ok(Some((body, Vec::new()))));
        }
    }
}
