//! `tests/data/hostile_requests.txt`, sent to the router with a dyno behind it that tells all that it gets.

use super::support::*;

struct Case {
    name: String,
    status: u16,
    goes_on: bool,
    bytes: Vec<u8>,
}

fn cases() -> Vec<Case> {
    let text = include_str!("../../../tests/data/hostile_requests.txt");
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("== ") {
            let (status, name) = title.split_once(' ').unwrap();
            cases.push(Case {
                name: name.into(),
                status: status.trim_start_matches('=').parse().unwrap(),
                goes_on: status.starts_with('='),
                bytes: Vec::new(),
            });
        } else if let Some(case) = cases.last_mut() {
            case.bytes.extend(unescape(&repeat(line)));
        }
    }
    cases
}

/// Writes out `{N*TEXT}`, the inner ones first.
fn repeat(line: &str) -> String {
    let mut line = line.to_owned();
    while let Some(end) = line.find('}') {
        let begin = line[..end].rfind('{').unwrap();
        let (count, text) = line[begin + 1..end].split_once('*').unwrap();
        let repeated = text.repeat(count.parse().unwrap());
        line.replace_range(begin..=end, &repeated);
    }
    line
}

fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend(c.to_string().bytes());
            continue;
        }
        bytes.push(match chars.next().unwrap() {
            'r' => b'\r',
            'n' => b'\n',
            't' => b'\t',
            '0' => 0,
            'x' => {
                let digits: String = chars.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16).unwrap()
            }
            other => other as u8,
        });
    }
    bytes
}

fn send(fixture: &Fixture, case: &Case, pieces: usize) {
    let mut client = fixture.connect();
    for piece in case.bytes.chunks(case.bytes.len().div_ceil(pieces)) {
        // It may have been refused before its end.
        let _ = std::io::Write::write_all(&mut client.stream, piece);
    }
    let name = &case.name;
    let response = client.response("GET");
    assert_eq!(response.status, case.status, "{name}: {response:?}");
    if case.goes_on {
        client.send("GET /after HTTP/1.1\r\nHost: shop.localhost\r\n\r\n");
        assert_eq!(client.response("GET").status, 200, "{name}");
    } else if case.status != 404 {
        assert!(response.has("Connection: close"), "{name}: {response:?}");
        assert_eq!(client.rest(), "", "{name}");
    }
}

#[test]
fn hostile_requests_are_refused_and_nothing_is_smuggled_with_them() {
    let dyno = Dyno::polite();
    let fixture = Fixture::with(quick(), &dyno);
    let cases = cases();
    assert!(cases.len() >= 80, "{}", cases.len());
    for pieces in [1, 3] {
        for case in &cases {
            send(&fixture, case, pieces);
            let name = &case.name;
            let seen: Vec<_> = dyno.seen.try_iter().collect();
            let expected = match (case.status, case.goes_on) {
                (200, true) => 2,
                (200, false) => 1,
                _ => 0,
            };
            assert_eq!(seen.len(), expected, "{name}: {seen:?}");
            for request in &seen {
                assert!(!request.head.contains("smuggled"), "{name}: {request:?}");
                for hidden in ["Transfer_", "Content_", "HTTP2-Settings", "h2c"] {
                    assert!(!request.head.contains(hidden), "{name}: {request:?}");
                }
            }
            if case.goes_on {
                assert!(seen[1].head.starts_with("GET /after "), "{name}: {seen:?}");
            }
        }
    }
    assert_eq!(fixture.get("/").status, 200);
}
