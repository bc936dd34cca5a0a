//! Git's packet lines (gitprotocol-common(5)): four hexadecimal digits that say how long the packet is, with themselves,
//! and then its bytes. `0000` is a flush, which ends a section.
//!
//! Git and its `proc-receive` hook talk in such packets, and a repository's refs over HTTP begin with one.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::io::{self, ErrorKind, Read};

/// The longest packet, with its length.
const LONGEST: usize = 65_520;

/// The bytes of the length.
const HEAD: usize = 4;

const LONGEST_PAYLOAD: usize = LONGEST - HEAD;

/// What ends a section.
pub const FLUSH: &[u8] = b"0000";

/// `payload` as a packet, cut to what one packet can hold.
pub fn packet(payload: &[u8]) -> Vec<u8> {
    let payload = payload.get(..LONGEST_PAYLOAD).unwrap_or(payload);
    let mut packet = format!("{:04x}", payload.len().saturating_add(HEAD)).into_bytes();
    packet.extend_from_slice(payload);
    packet
}

/// The payload of the next packet, without a line feed at its end; None for a flush.
///
/// # Errors
/// When the bytes are no packet, or end before it is complete.
pub fn read(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; HEAD];
    from.read_exact(&mut length)?;
    let malformed = || {
        io::Error::new(
            ErrorKind::InvalidData,
            "git sent something else than packets",
        )
    };
    let length = length.iter().try_fold(0, |sum, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(sum << 4 | digit as usize)
    });
    match length.ok_or_else(malformed)? {
        0 => Ok(None),
        length @ HEAD..=LONGEST => {
            let mut payload = vec![0; length.saturating_sub(HEAD)];
            from.read_exact(&mut payload)?;
            if payload.last() == Some(&b'\n') {
                payload.pop();
            }
            Ok(Some(payload))
        }
        _ => Err(malformed()),
    }
}

/// The payloads of a section, up to its flush, of at most `most` packets.
///
/// # Errors
/// As [`read`], and when the section has more packets.
pub fn read_section(from: &mut impl Read, most: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut section = Vec::new();
    while let Some(payload) = read(from)? {
        if section.len() == most {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "git sent too many packets",
            ));
        }
        section.push(payload);
    }
    Ok(section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_back_as_they_were() {
        assert_eq!(packet(b"a\n"), b"0006a\n");
        assert_eq!(packet(b""), b"0004");
        assert_eq!(packet(&[b'x'; 70_000]).len(), LONGEST);
        let mut bytes = &b"0006a\n0004000bgh\0i\n\n\n0000rest"[..];
        let section = read_section(&mut bytes, 3).unwrap();
        assert_eq!(section, [&b"a"[..], b"", b"gh\0i\n\n"]);
        assert_eq!(bytes, b"rest");
    }

    #[test]
    fn what_is_no_packet_is_an_error() {
        for bad in ["", "00", "0001", "0003", "zzzz", "+0a1", "fff1", "0009abc"] {
            assert!(read(&mut bad.as_bytes()).is_err(), "{bad}");
        }
        let mut many = &b"0005a0005b0000"[..];
        assert!(read_section(&mut many, 1).is_err());
    }
}
