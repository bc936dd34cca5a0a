//! A dyno's output as lines of a log. Pieces give the same lines as the whole, lines have all bytes but the ends and are no
//! longer than a line may be, none is cut inside of a character; what was written of a line is read; and what the platform
//! says is read as it was said.

#![no_main]

use dyno::bounds::within;
use dyno::model::log_line::{
    ByUser, Filter, LogSource, MAX_TEXT, Splitter, Story, append, parse, time,
};
use dyno::pieces::{first, pieces};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fn lines<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
    for piece in pieces {
        splitter.feed(piece, |line| lines.push(line.to_vec()));
    }
    splitter.finish(|line| lines.push(line.to_vec()));
    lines
}

/// The bytes, with runs: `0xff`, a byte and a length stand for about as many of it as a line may have.
fn with_runs(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut rest = bytes;
    while let Some((&byte, more)) = rest.split_first() {
        rest = more;
        match (byte, more) {
            (0xff, [repeated, length, more @ ..]) if text.len() < 2 * MAX_TEXT => {
                let length = MAX_TEXT - 128 + usize::from(*length);
                text.resize(text.len() + length, *repeated);
                rest = more;
            }
            _ => text.push(byte),
        }
    }
    text
}

fn split(seed: u8, text: &[u8]) {
    let whole = lines(std::iter::once(text));
    // Of long ones, too: the pieces of a connection are 64 KiB.
    if text.len() < MAX_TEXT {
        assert_eq!(lines(pieces(seed, text)), whole);
    }
    assert_eq!(
        lines(text.chunks(MAX_TEXT - 64 + usize::from(seed) / 2)),
        whole
    );
    let mut rest = text;
    for line in &whole {
        assert!(line.len() <= MAX_TEXT && !line.contains(&b'\n'));
        assert!(rest.starts_with(line));
        let end;
        (end, rest) = rest.split_at(line.len());
        let after = rest.strip_prefix(b"\r").unwrap_or(rest);
        match after.strip_prefix(b"\n") {
            Some(next) => rest = next,
            // The end, or a long line goes on.
            None if after.is_empty() => rest = after,
            None => assert!(line.len() > MAX_TEXT - 4),
        }
        let continues = !rest.is_empty() && std::ptr::eq(end.as_ptr_range().end, rest.as_ptr());
        let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
        if continues && is_text(text) {
            assert!(is_text(line));
        }
    }
    assert!(rest.is_empty());
}

fuzz_target!(|data: &[u8]| {
    let Some((seed, bytes)) = first(data) else {
        return;
    };
    let text = with_runs(bytes);
    within(4 * MAX_TEXT, || {
        let mut splitter = Splitter::default();
        let pieces = text.chunks(usize::from(seed) * 64 + 1);
        pieces.for_each(|piece| splitter.feed(piece, |_| {}));
    });
    split(seed, &text);

    // A client that has chosen the text writes one line, and no other.
    let (at, mut line) = (Timestamp::UNIX_EPOCH, Vec::new());
    append(&mut line, at, LogSource::Heroku, "run.1", &text);
    let read = parse(&line).expect("a line");
    assert_eq!(
        (read.time, read.source, read.process),
        (time(at).as_bytes(), LogSource::Heroku, &b"run.1"[..])
    );
    assert!(
        read.text.len() <= MAX_TEXT.min(text.len())
            && text.len().min(MAX_TEXT) <= read.text.len() + 3
    );
    let printed = String::from_utf8_lossy(read.text);
    assert!(!printed.contains(char::is_control));
    for (wanted, passes) in [
        ("run.1", true),
        ("run", true),
        ("run.", false),
        ("ru", false),
        ("api", false),
    ] {
        let filter = Filter {
            dyno: Some(wanted.to_owned()),
            source: None,
        };
        assert_eq!(filter.matches(&line), passes, "{wanted}");
    }

    // As it comes, it may be anything.
    if let Some(read) = parse(bytes) {
        assert!(!read.process.contains(&b']'));
    }
    let Ok(said) = std::str::from_utf8(bytes) else {
        return;
    };
    let story = Story::parse(said);
    assert_eq!(Story::parse(&story.to_string()), story);
    if let Some(deed) = ByUser::parse(said) {
        assert_eq!(
            ByUser::parse(&deed.to_string()).map(|again| again.to_string()),
            Some(deed.to_string())
        );
    }
});
