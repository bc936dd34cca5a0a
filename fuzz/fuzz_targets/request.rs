//! A request as the router and the API read it. What the router passes on is one message, for the same host, with the same body,
//! and with no word of the client's in the fields that the router writes; what the API understands of targets, ranges, queries,
//! bodies and credentials is understood again from what is written of it; and no target is signed that was not.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use dyno::api::ApiError;
use dyno::api::BodyFields;
use dyno::api::ask::{Ask, Query};
use dyno::api::logs::{LogQuery, Record, put_record};
use dyno::api::range::{MOST, Range};
use dyno::api::target;
use dyno::model::settings::Sourced;
use dyno::model::token::credential;
use dyno::pieces::first;
use dyno::router::forwarded::Forwarded;
use dyno::router::headers::{self, Added};
use dyno::signed_url::Signer;
use dyno::wire::http::head::HttpVersion;
use dyno::wire::http::{HeadLimits, HeadReader};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fn fits<T>(result: Result<T, ApiError>) -> Option<T> {
    result
        .inspect_err(|error| assert!(error.message.len() < 16 * 1024 && error.status() < 500))
        .ok()
}

/// Fields that the router writes, each once.
const OURS: [&str; 7] = [
    "x-request-id",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-request-start",
    "connect-time",
    "total-route-time",
];

fn passed_on(bytes: &[u8], trusting: bool) {
    let guess = headers::guess(bytes);
    assert!(!guess.host.contains('\n') && !guess.path.contains(['\n', ' ']));
    let Ok(Some((head, _))) = HeadReader::new(HeadLimits::API).request(bytes) else {
        return;
    };
    // Without one, it is for no app.
    if headers::host(&head).is_empty() {
        return;
    }
    let trusted = match trusting {
        true => Sourced::read(None, |name| {
            (name == "DYNO_TRUSTED_PROXIES").then(|| "loopback".to_owned())
        }),
        false => Sourced::read(None, |_| None),
    };
    let trusted = trusted.expect("settings").settings.trusted_proxies;
    let forwarded = Forwarded::of(&head, IpAddr::V4(Ipv4Addr::LOCALHOST), 8080, &trusted);
    if !trusting {
        assert!(!forwarded.is_https && forwarded.port == 8080);
        assert!(forwarded.chain.ends_with("127.0.0.1"));
    }
    let added = Added {
        forwarded: &forwarded,
        request_id: headers::request_id(&head).unwrap_or("made-here"),
        start: 1,
        connect: Duration::ZERO,
        total: Duration::ZERO,
    };
    let mut written = Vec::new();
    headers::write_request(&head, &added, &mut written);
    let limits = HeadLimits {
        line: 1 << 20,
        head: 1 << 20,
        fields: 1000,
    };
    let read = HeadReader::new(limits)
        .request(&written)
        .expect("one that is read");
    let (again, length) = read.expect("a whole one");
    assert_eq!(length, written.len(), "more than one message");
    assert_eq!(
        (again.method(), again.framing, again.version),
        (head.method(), head.framing, HttpVersion::Http11)
    );
    // Without a path, `OPTIONS` is about the server.
    if again.target() != "*" {
        assert_eq!((again.path(), again.query()), (head.path(), head.query()));
    }
    assert_eq!(headers::host(&again), headers::host(&head));
    assert_eq!(again.upgrade, headers::upgrades(&head));
    for name in OURS {
        let like = |other: &str| {
            other.eq_ignore_ascii_case(name) || other.replace('_', "-").eq_ignore_ascii_case(name)
        };
        assert_eq!(
            again.fields.iter().filter(|(other, _)| like(other)).count(),
            1,
            "{name}"
        );
    }
    let app = headers::app(headers::host(&head), "localhost");
    assert!(
        app.is_none_or(|app| !app.is_empty() && !app.contains(|c: char| c.is_ascii_uppercase()))
    );
}

fn answered(bytes: &[u8], client: HttpVersion, close: bool) {
    let Ok(Some((head, _))) = HeadReader::new(HeadLimits::API).response(bytes, "GET") else {
        return;
    };
    let mut written = Vec::new();
    headers::write_response(&head, client, close, &mut written);
    let limits = HeadLimits {
        line: 1 << 20,
        head: 1 << 20,
        fields: 1000,
    };
    let read = HeadReader::new(limits)
        .response(&written, "GET")
        .expect("one that is read");
    let (again, length) = read.expect("a whole one");
    assert_eq!((length, again.status), (written.len(), head.status));
    assert_eq!(again.reason(), head.reason());
    let raw = headers::coding(head.framing, client) == headers::Coding::Raw;
    assert!(
        !raw || again.framing == head.framing,
        "{:?} is {:?}",
        head.framing,
        again.framing
    );
}

fn api(text: &str) {
    let (path, query) = text
        .split_once('?')
        .map_or((text, None), |(path, query)| (path, Some(query)));
    for method in ["GET", "POST", "PATCH", "PUT", "DELETE"] {
        if let Some(ask) = fits(Ask::parse(method, path, query)) {
            assert_eq!(fits(Ask::parse(method, path, query)), Some(ask));
        }
    }
    let _ = Ask::app_of(text);
    assert_eq!(target::decode(&target::encode(text)).as_deref(), Some(text));
    if let Some(decoded) = target::decode(text) {
        assert_eq!(target::decode(&target::encode(&decoded)), Some(decoded));
    }
    let now = Timestamp::UNIX_EPOCH;
    let query = Query::parse(query.unwrap_or_default());
    if let Some(asked) = fits(LogQuery::read(query.pairs(), now)) {
        let parameters = asked.parameters();
        let parameters = parameters
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        assert_eq!(fits(LogQuery::read(parameters, now)), Some(asked));
    }
    let signer = Signer::new(b"key".to_vec());
    assert!(
        signer
            .check("GET", text, now)
            .is_none_or(|signed| signed.is_err())
    );
    let signed = signer.sign("GET", text, Some("t-1"), Duration::from_secs(9), now);
    assert!(
        signer
            .check("HEAD", &signed, now)
            .is_some_and(|it| it.is_ok())
    );
    assert!(
        signer
            .check("PUT", &signed, now)
            .is_some_and(|it| it.is_err())
    );
    if let Some(credential) = credential(text) {
        assert!(credential.len() <= 512);
    }
}

fn range(text: &str) {
    let Some(range) = fits(Range::parse(text)) else {
        return;
    };
    assert!((1..=MOST).contains(&range.max));
    let written = range.to_string();
    // What a bound is made of can be other than a name, and is shown as it came.
    if let Some(again) = fits(Range::parse(&written)) {
        assert_eq!(
            (again.max, again.descending),
            (range.max, range.descending),
            "{written}"
        );
    }
    if let Some((low, high)) = fits(range.numbers("version")) {
        let list: Vec<String> = (1..30).map(|n| format!("{n:02}")).collect();
        let (part, _) = range.select(list, |it| it);
        assert!(part.len() <= range.max);
        assert!(low <= high || part.len() <= 29);
    }
}

fn body(bytes: &[u8]) {
    if let Some(fields) = fits(BodyFields::parse(bytes)) {
        for name in fields.names().map(str::to_owned).collect::<Vec<_>>() {
            let _ = (
                fits(fields.flag(&name)),
                fits(fields.number(&name)),
                fits(fields.text(&name)),
            );
        }
    }
    if let Ok(Some((record, length))) = Record::first(bytes) {
        let mut again = Vec::new();
        put_record(record.cursor, record.lines, &mut again);
        assert!(length <= bytes.len());
        assert_eq!(Record::first(&again), Ok(Some((record, again.len()))));
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = first(data) else {
        return;
    };
    let text = std::str::from_utf8(bytes);
    match which % 8 {
        0 | 1 => passed_on(bytes, which & 1 == 1),
        2 => answered(bytes, HttpVersion::Http11, which & 16 == 16),
        3 => answered(bytes, HttpVersion::Http10, which & 16 == 16),
        4 | 5 => text.map_or((), api),
        6 => text.map_or((), range),
        _ => body(bytes),
    }
});
