//! The frames of an attachment: those of a supervisor, and those with the bytes of streams, as the bridge and a client
//! elsewhere send them. Pieces read as the whole does, what was read is written as it was meant, and no more is kept than a
//! frame may have.

#![no_main]

use dyno::bounds::within;
use dyno::pieces::{first, pieces};
use dyno::wire::frame::attachment::Attachment;
use dyno::wire::frame::far::{Decoder, StreamFrame, StreamPiece, data_head};
use dyno::wire::frame::{Frame, MAX_PAYLOAD};
use libfuzzer_sys::fuzz_target;

/// What an attachment gets: its frames, and whether it was refused.
fn attached<'a>(pieces: impl Iterator<Item = &'a [u8]>, head: bool) -> (Vec<Frame>, bool) {
    let mut attachment = match head {
        true => Attachment::before_response(),
        false => Attachment::default(),
    };
    let mut frames = Vec::new();
    for piece in pieces {
        attachment.receive(piece);
        loop {
            match attachment.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
        // The times that it may be idle are any that JSON can write.
        let now = std::time::Instant::now();
        let _ = attachment.report(now, now);
        let _ = attachment.report_at(now);
    }
    (frames, false)
}

/// What comes over streams: the words, the bytes of each stream, and whether it was refused.
fn streamed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<StreamFrame>, [Vec<u8>; 3], bool) {
    let (mut decoder, mut words, mut data) =
        (Decoder::default(), Vec::new(), [const { Vec::new() }; 3]);
    for mut piece in pieces {
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(StreamPiece::Data(number, bytes))) => {
                    assert!(!bytes.is_empty());
                    data[usize::from(number)].extend_from_slice(bytes);
                }
                Ok(Some(StreamPiece::Word(word))) => words.push(word),
                Ok(None) => break,
                Err(_) => return (words, data, true),
            }
        }
        assert!(piece.is_empty());
    }
    (words, data, false)
}

/// Whether it is read from its own bytes.
fn comes_back(word: &StreamFrame) {
    let bytes = word.encode();
    let mut rest = &bytes[..];
    let Ok(Some(StreamPiece::Word(mut again))) = Decoder::default().next(&mut rest) else {
        panic!("{word:?} is not read again");
    };
    // The last digits of a number with a point are not kept.
    if let (StreamFrame::Frame(Frame::Up(again)), StreamFrame::Frame(Frame::Up(up))) =
        (&mut again, word)
        && (again.idle_timeout / up.idle_timeout - 1.0).abs() < 1e-9
    {
        again.idle_timeout = up.idle_timeout;
    }
    assert_eq!((&again, rest), (word, &[][..]));
}

fuzz_target!(|data: &[u8]| {
    let Some((how, rest)) = first(data) else {
        return;
    };
    let Some((seed, bytes)) = first(rest) else {
        return;
    };
    if how & 1 == 0 {
        let head = how & 2 == 2;
        let whole = within(32 * bytes.len() + 4 * MAX_PAYLOAD, || {
            attached(std::iter::once(bytes), head)
        });
        assert_eq!(attached(pieces(seed, bytes), head), whole);
        for frame in &whole.0 {
            comes_back(&StreamFrame::Frame(frame.clone()));
        }
        return;
    }
    let whole = within(32 * bytes.len() + 4 * MAX_PAYLOAD, || {
        streamed(std::iter::once(bytes))
    });
    assert_eq!(streamed(pieces(seed, bytes)), whole);
    let (words, data, _) = whole;
    words.iter().for_each(comes_back);
    for (number, bytes) in (0..).zip(&data) {
        let bytes = &bytes[..bytes.len().min(MAX_PAYLOAD)];
        let sent = [&data_head(number, bytes.len())[..], bytes].concat();
        let again = streamed(pieces(seed, &sent));
        assert_eq!((&again.1[usize::from(number)][..], again.2), (bytes, false));
    }
});
