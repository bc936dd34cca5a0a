//! What trusted proxies say about a request: the client's address, and whether it came over TLS.
//!
//! A client could claim anything, so these header fields count only from trusted proxies. Fields of other names that
//! programs read for the purpose are passed on only if they agree.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::net::{IpAddr, SocketAddr};

use crate::model::settings::Network;
use crate::wire::http::RequestHead;

/// Where a request comes from: see the [module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The value of `X-Forwarded-For`. Its last address is the client's: the first from the right that is no trusted proxy.
    pub chain: String,
    /// Whether the client speaks TLS.
    pub is_https: bool,
    /// The port that the client connected to.
    pub port: u16,
    /// Whether the request came from a trusted proxy.
    is_trusted: bool,
}

impl Forwarded {
    /// Where a request comes from that `peer` has sent to the router's `port`.
    pub fn of(head: &RequestHead, peer: IpAddr, port: u16, trusted: &[Network]) -> Self {
        let is_proxy = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
        let peer = peer.to_canonical();
        let is_trusted = is_proxy(peer);
        let elements = if is_trusted {
            elements(head)
        } else {
            Vec::new()
        };
        let mut hops: Vec<String> = list(head, "x-forwarded-for");
        if hops.is_empty() {
            hops = elements.iter().filter_map(|it| it.of("for")).collect();
        }
        let before = hops.len();
        hops.push(peer.to_string());
        // The first hop from the right that is not trusted.
        let client = hops
            .iter()
            .rposition(|hop| !address(hop).is_some_and(is_proxy));
        let client = client.unwrap_or(0);
        hops.truncate(client.saturating_add(1));
        // Each proxy adds a word about the hop before it. The client's counts if there are as many words as hops.
        let said = |words: &[String]| {
            let of_client = words.get(client).filter(|_| words.len() == before);
            of_client.or(words.last()).cloned()
        };
        let mut result = Self {
            chain: hops.join(", "),
            is_https: false,
            port,
            is_trusted,
        };
        if is_trusted {
            let of_elements = |name| {
                elements
                    .iter()
                    .filter_map(|it| it.of(name))
                    .collect::<Vec<_>>()
            };
            let scheme = said(&list(head, "x-forwarded-proto")).and_then(|word| is_https(&word));
            let scheme = scheme.or_else(|| is_https(&said(&of_elements("proto"))?));
            let scheme = scheme.or_else(|| {
                let mut others = ALIASES.iter().flat_map(|name| list(head, name));
                others.find_map(|word| is_https(&word))
            });
            if let Some(is_https) = scheme {
                result.is_https = is_https;
                result.port = if is_https { 443 } else { 80 };
            }
            let port = said(&list(head, "x-forwarded-port")).and_then(|port| port.parse().ok());
            result.port = port.filter(|port| *port > 0).unwrap_or(result.port);
        }
        result
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        match self.is_https {
            true => "https",
            false => "http",
        }
    }

    /// Whether a header field that the router does not write itself is passed on.
    pub fn passes(&self, name: &str, value: &[u8]) -> bool {
        // Quick test: most fields are none of these.
        let first = name.as_bytes().first().map(u8::to_ascii_lowercase);
        if !matches!(first, Some(b'x' | b'f')) {
            return true;
        }
        let name = name.to_ascii_lowercase().replace('_', "-");
        let value = String::from_utf8_lossy(value);
        match &*name {
            "x-forwarded-host" | "x-forwarded-server" => self.is_trusted,
            "forwarded" => {
                let says = elements_of(&value)
                    .iter()
                    .filter_map(|it| it.of("proto"))
                    .next_back();
                let agrees = says.and_then(|proto| is_https(&proto));
                self.is_trusted && agrees.unwrap_or(self.is_https) == self.is_https
            }
            name if ALIASES.contains(&name) => is_https(value.trim()) == Some(self.is_https),
            _ => true,
        }
    }
}

/// Other header fields that programs read like `X-Forwarded-Proto`.
const ALIASES: [&str; 6] = [
    "x-forwarded-ssl",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-url-scheme",
    "x-scheme",
    "front-end-https",
];

/// Whether a word means TLS; None if it says nothing about that.
fn is_https(word: &str) -> Option<bool> {
    match &*word.to_ascii_lowercase() {
        "https" | "wss" | "on" | "ssl" | "1" => Some(true),
        "http" | "ws" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// The list items of all fields of this name.
fn list(head: &RequestHead, name: &str) -> Vec<String> {
    let values = head
        .fields
        .all(name)
        .filter_map(|value| str::from_utf8(value).ok());
    let words = values.flat_map(|value| value.split(',')).map(str::trim);
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The address in a hop, which may have a port.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(hop);
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse().ok().or_else(with_port)
}

/// One proxy's element of `Forwarded` (RFC 7239).
struct Element<'a>(Vec<(&'a str, &'a str)>);

impl Element<'_> {
    fn of(&self, name: &str) -> Option<String> {
        let found = self
            .0
            .iter()
            .find(|(there, _)| there.eq_ignore_ascii_case(name));
        found.map(|(_, value)| (*value).to_owned())
    }
}

fn elements_of(value: &str) -> Vec<Element<'_>> {
    value.split(',').map(element).collect()
}

fn element(text: &str) -> Element<'_> {
    let pairs = text.split(';').filter_map(|pair| pair.split_once('='));
    let bare = pairs.map(|(name, value)| (name.trim(), value.trim().trim_matches('"')));
    Element(bare.collect())
}

fn elements(head: &RequestHead) -> Vec<Element<'_>> {
    let values = head
        .fields
        .all("forwarded")
        .filter_map(|value| str::from_utf8(value).ok());
    values.flat_map(elements_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::{HeadLimits, HeadReader};

    fn request(fields: &[&str]) -> RequestHead {
        let text = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n",
            fields.join("\r\n")
        );
        let text = text.replace("\r\n\r\n\r\n", "\r\n\r\n");
        let mut reader = HeadReader::new(HeadLimits::API);
        reader.request(text.as_bytes()).unwrap().unwrap().0
    }

    fn of(trusted: &str, peer: &str, fields: &[&str]) -> Forwarded {
        let sourced = crate::model::settings::networks_for_tests(trusted);
        Forwarded::of(&request(fields), peer.parse().unwrap(), 8080, &sourced)
    }

    fn told(trusted: &str, fields: &[&str]) -> (String, &'static str, u16) {
        let it = of(trusted, "127.0.0.1", fields);
        (it.chain.clone(), it.scheme(), it.port)
    }

    #[test]
    fn nobody_is_believed_unless_that_was_asked_for() {
        let fields = [
            "X-Forwarded-For: 203.0.113.9",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Port: 443",
            "Forwarded: for=192.0.2.1;proto=https",
        ];
        let plain = ("203.0.113.9, 127.0.0.1".to_owned(), "http", 8080);
        assert_eq!(told("none", &fields), plain);
        assert_eq!(told("192.0.2.0/24", &fields), plain);
        assert_eq!(
            told("loopback", &fields),
            ("203.0.113.9".to_owned(), "https", 443)
        );
        assert_eq!(
            told("loopback", &[]),
            ("127.0.0.1".to_owned(), "http", 8080)
        );
    }

    #[test]
    fn the_client_is_the_last_that_is_no_trusted_proxy() {
        let chain = |fields: &[&str]| told("loopback,10.0.0.0/8", fields).0;
        // What a client has made up stays on the left.
        assert_eq!(
            chain(&["X-Forwarded-For: 1.1.1.1, 203.0.113.9, 10.0.0.5"]),
            "1.1.1.1, 203.0.113.9"
        );
        assert_eq!(
            chain(&["X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 10.0.0.5"]),
            "203.0.113.9"
        );
        assert_eq!(chain(&["X-Forwarded-For: 10.0.0.7, 10.0.0.5"]), "10.0.0.7");
        assert_eq!(
            chain(&["X-Forwarded-For: unknown, 10.0.0.5:4711"]),
            "unknown"
        );
        assert_eq!(
            chain(&["X-Forwarded-For: 2001:db8::1, [::1]:80"]),
            "2001:db8::1"
        );
        assert_eq!(chain(&["X-Forwarded-For: ,"]), "127.0.0.1");
        assert_eq!(
            chain(&["Forwarded: for=\"[2001:db8::1]:4711\";proto=https"]),
            "[2001:db8::1]:4711"
        );
        let stranger = of(
            "loopback",
            "::ffff:203.0.113.9",
            &["X-Forwarded-For: 127.0.0.1"],
        );
        assert_eq!(stranger.chain, "127.0.0.1, 203.0.113.9");
    }

    #[test]
    fn of_several_words_the_clients_counts() {
        let scheme = |fields: &[&str]| told("loopback,10.0.0.0/8", fields).1;
        let hops = "X-Forwarded-For: 203.0.113.9, 10.0.0.5";
        assert_eq!(scheme(&[hops, "X-Forwarded-Proto: https, http"]), "https");
        let made_up = "X-Forwarded-For: 1.1.1.1, 203.0.113.9, 10.0.0.5";
        assert_eq!(
            scheme(&[made_up, "X-Forwarded-Proto: https, http, http"]),
            "http"
        );
        assert_eq!(
            scheme(&[
                "X-Forwarded-For: 203.0.113.9",
                "X-Forwarded-Proto: https, http"
            ]),
            "http"
        );
        assert_eq!(scheme(&["X-Forwarded-Proto: HTTPS"]), "https");
        assert_eq!(scheme(&["X-Forwarded-Proto: wss"]), "https");
        assert_eq!(scheme(&["X-Forwarded-Proto: gopher"]), "http");
        assert_eq!(scheme(&["Forwarded: for=203.0.113.9;Proto=https"]), "https");
        assert_eq!(scheme(&["X-Forwarded-Ssl: on"]), "https");
        assert_eq!(
            scheme(&["X-Forwarded-Proto: http", "X-Forwarded-Ssl: on"]),
            "http"
        );
    }

    #[test]
    fn the_port_is_the_one_that_was_said_or_the_usual_one() {
        let port = |fields: &[&str]| told("loopback", fields).2;
        assert_eq!(port(&["X-Forwarded-Proto: https"]), 443);
        assert_eq!(port(&["X-Forwarded-Proto: http"]), 80);
        assert_eq!(
            port(&["X-Forwarded-Proto: https", "X-Forwarded-Port: 8443"]),
            8443
        );
        for wrong in ["0", "65536", "x"] {
            assert_eq!(
                port(&[&format!("X-Forwarded-Port: {wrong}")]),
                8080,
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_says_something_else_under_another_name_stops_here() {
        let https = of("loopback", "127.0.0.1", &["X-Forwarded-Proto: https"]);
        let http = of("none", "127.0.0.1", &[]);
        for name in [
            "X-Forwarded-Ssl",
            "x_forwarded_ssl",
            "Front-End-Https",
            "X-Forwarded-Scheme",
        ] {
            assert!(
                https.passes(name, b"on") && !http.passes(name, b"on"),
                "{name}"
            );
            assert!(
                !https.passes(name, b"off") && http.passes(name, b"off"),
                "{name}"
            );
            assert!(!https.passes(name, b"perhaps"), "{name}");
        }
        for name in ["X-Forwarded-Host", "Forwarded"] {
            assert!(
                https.passes(name, b"host=shop.example") && !http.passes(name, b"host=x"),
                "{name}"
            );
        }
        assert!(!https.passes("Forwarded", b"for=1.2.3.4;proto=http"));
        assert!(https.passes("Forwarded", b"for=1.2.3.4;proto=https"));
        for name in ["X-Forwarded", "X-Real-Ip", "From", "Host", "Fetch"] {
            assert!(http.passes(name, b"on"), "{name}");
        }
    }
}
