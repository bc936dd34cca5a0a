//! Git's packets: what was read comes from as many bytes as it says, is read again from what is written of it, and makes
//! nothing larger than a packet.

#![no_main]

use dyno::bounds::within;
use dyno::wire::pkt_line::{FLUSH, packet, read, read_section};
use libfuzzer_sys::fuzz_target;

/// The most packets of a section.
const MOST: usize = 32;

fuzz_target!(|data: &[u8]| {
    // A packet of 64 KiB may be announced with four bytes; a section takes no more than came, and one more.
    let most = 4 * data.len() + 2 * 65_520 + 4096;
    let mut rest = data;
    let section = within(most, || read_section(&mut rest, MOST));
    let Ok(section) = section else {
        return;
    };
    assert!(section.len() <= MOST);
    let taken = data.len() - rest.len();
    assert!(data[..taken].ends_with(FLUSH));
    let mut again = Vec::new();
    for payload in &section {
        // With the line feed that may stand at the end of each.
        again.extend(packet(&[payload, &b"\n"[..]].concat()));
    }
    again.extend_from_slice(FLUSH);
    let mut again = &again[..];
    assert_eq!(read_section(&mut again, MOST).ok(), Some(section));
    assert!(again.is_empty());
    let cut = packet(data);
    let expected = &data[..data.len().min(65_516)];
    let expected = expected.strip_suffix(b"\n").unwrap_or(expected);
    assert_eq!(read(&mut &cut[..]).ok(), Some(Some(expected.to_vec())));
});
