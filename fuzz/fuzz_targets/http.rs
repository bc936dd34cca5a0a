//! Any bytes, read as requests and as responses, in any pieces: nothing panics, and pieces read as the whole does.
//!
//! The first byte says into how large pieces the rest is cut, and whether it is read as a client or as a server does.

#![no_main]

use dyno::wire::http::{BodyDecoder, Decoded, HeadLimits, HeadReader};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits {
    line: 256,
    head: 2048,
    fields: 16,
};

/// The end of what was read: how many messages, how many bytes of bodies, and whether it was refused.
fn read(pieces: &mut dyn Iterator<Item = &[u8]>, responses: bool) -> (usize, usize, bool) {
    let mut reader = HeadReader::new(LIMITS);
    let (mut buffer, mut messages, mut bytes) = (Vec::new(), 0, 0);
    let mut body: Option<BodyDecoder> = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            if let Some(decoder) = &mut body {
                let mut rest = &buffer[..];
                let ended = loop {
                    match decoder.decode(&mut rest) {
                        Ok(Decoded::Data(data)) => bytes += data.len(),
                        Ok(other) => break other == Decoded::End,
                        Err(_) => return (messages, bytes, true),
                    }
                };
                assert_eq!(decoder.is_complete(), ended);
                let left = rest.len();
                buffer.drain(..buffer.len() - left);
                if !ended {
                    break;
                }
                body = None;
            } else {
                let head = match responses {
                    true => reader.response(&buffer, "GET").map(|found| {
                        found.map(|(head, length)| {
                            assert!(!head.reason().contains(&b'\r'));
                            (head.framing, length)
                        })
                    }),
                    false => reader
                        .request(&buffer)
                        .map(|found| found.map(|(head, length)| (head.framing, length))),
                };
                match head {
                    Ok(Some((framing, length))) => {
                        buffer.drain(..length);
                        messages += 1;
                        body = Some(BodyDecoder::new(framing));
                    }
                    Ok(None) => break,
                    Err(_) => return (messages, bytes, true),
                }
            }
        }
    }
    (messages, bytes, false)
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, bytes)) = data.split_first() else {
        return;
    };
    let (responses, size) = (first & 1 == 1, usize::from(first >> 1) + 1);
    let whole = read(&mut std::iter::once(bytes), responses);
    assert_eq!(read(&mut bytes.chunks(size), responses), whole);
});
