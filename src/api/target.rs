//! Percent-encoding of the parts of a request's target (RFC 3986 section 2.1).

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::fmt::Write;

/// `text` as one segment of a path, or as a name or value of a query.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Undoes [`encode`]; None for a broken escape or bytes that are not UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (&[high, low], tail) = rest.split_first_chunk()?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        decoded.push((digit(high)? << 4 | digit(low)?) as u8);
        rest = tail;
    }
    String::from_utf8(decoded).ok()
}

/// The target in an address: `/logs?lines=5` of `https://localhost:5001/logs?lines=5`. A target is returned as it is.
pub fn of_url(url: &str) -> &str {
    let Some((_, rest)) = url.split_once("://").filter(|_| !url.starts_with('/')) else {
        return url;
    };
    rest.find('/').map_or("/", |slash| &rest[slash..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn broken_escapes_are_none() {
        for text in ["%", "%4", "%+1", "%zz", "%ff"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_means_a_target() {
        for (url, target) in [
            ("http://localhost:5001/a/b?c=://", "/a/b?c=://"),
            ("https://[::1]", "/"),
            ("/a/b?c=http://x/y", "/a/b?c=http://x/y"),
        ] {
            assert_eq!(of_url(url), target);
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text: String) {
            let encoded = encode(&text);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/'));
            prop_assert_eq!(decode(&encoded), Some(text));
        }
    }
}
