//! What a client of the bridge sends: the line with its secret, then the rendezvous of Heroku's CLI or the frames of dyno's own
//! command line. No byte for the command is lost, doubled or moved, whatever pieces come with whatever pauses; no record ends
//! between CR and LF; and no more waits than was granted.

#![no_main]

use std::time::{Duration, Instant};

use dyno::bounds::within;
use dyno::bridge::first_line::{FirstLine, Heard, LONGEST_LINE};
use dyno::bridge::framed::FramedProtocol;
use dyno::bridge::piece::BEFORE;
use dyno::bridge::rendezvous::RendezvousProtocol;
use dyno::pieces::{first, pieces};
use dyno::wire::frame::far::WINDOW;
use libfuzzer_sys::fuzz_target;

fn heard<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Option<Vec<u8>>, Vec<u8>) {
    let (mut line, mut rest): (FirstLine, Vec<u8>) = Default::default();
    let mut found = None;
    for piece in pieces {
        if found.is_some() {
            rest.extend_from_slice(piece);
            continue;
        }
        match line.take(piece) {
            Heard::Line { line, rest: after } => (found, rest) = (Some(line), after),
            Heard::Again => {}
            Heard::Leave | Heard::Wait => return (None, rest),
        }
    }
    match line.end() {
        Heard::Line { line, rest } if found.is_none() => (Some(line), rest),
        _ => (found, rest),
    }
}

fn first_line(seed: u8, bytes: &[u8]) {
    let whole = heard(bytes.chunks(LONGEST_LINE));
    // A secret that is followed by more at once may have come alone before: then it stands for itself.
    let again = heard(pieces(seed, bytes));
    // One that is too long may come to its end at once, or not.
    if bytes.iter().take(LONGEST_LINE).any(|byte| *byte == b'\n') || bytes.len() <= LONGEST_LINE {
        assert_eq!(again, whole);
    }
    if let (Some(line), rest) = whole {
        assert!(line.len() <= 2 * LONGEST_LINE && bytes.ends_with(&rest));
        assert!(!line.contains(&b'\n') && !line.contains(&b'?'));
    }
}

/// Input with pauses: a byte of the pieces' seed says after which.
fn input(terminal: bool, seed: u8, bytes: &[u8]) {
    let mut now = Instant::now();
    let mut protocol = RendezvousProtocol::new(terminal, now);
    let (mut stdin, mut sent) = (Vec::new(), 0);
    // What has been taken otherwise after a pause: how many bytes, and what came in their place.
    let mut state = seed;
    for piece in pieces(seed, bytes) {
        protocol.input(piece, now, &mut stdin);
        sent += piece.len();
        if terminal {
            // A terminal gets every byte at once.
            assert_eq!(&stdin[..], &bytes[..sent]);
        } else {
            assert!(bytes[..sent].starts_with(&stdin));
            let waits = &bytes[stdin.len()..sent];
            assert!(
                waits
                    .iter()
                    .all(|byte| matches!(byte, 3 | 4 | b'\r') && *byte == waits[0])
            );
            assert_eq!(protocol.deadline().is_some(), !waits.is_empty());
        }
        state = state.wrapping_mul(5).wrapping_add(1);
        now += Duration::from_millis((state % 8).into());
        if protocol.deadline().is_some_and(|deadline| deadline <= now) || state.is_multiple_of(64) {
            break;
        }
    }
    let Some(deadline) = protocol.deadline() else {
        return;
    };
    let before = stdin.len();
    let (output, asked) = protocol.pause_over(deadline, true, &mut stdin);
    assert!(output.is_empty() && protocol.deadline().is_none() && stdin.len() <= before + 1);
    // With pipes each of these is one thing alone; a terminal reads its end once more.
    let kinds = usize::from(asked.end) + usize::from(asked.interrupt) + (stdin.len() - before);
    assert_eq!(kinds, 1);
    assert!(!terminal || stdin.ends_with(&[4]));
}

fn output(seed: u8, bytes: &[u8]) {
    let now = Instant::now();
    let mut protocol = RendezvousProtocol::new(false, now);
    let (mut all, mut buffer) = (Vec::new(), [0; BEFORE + 64]);
    for piece in pieces(seed, bytes) {
        buffer[BEFORE..][..piece.len()].copy_from_slice(piece);
        let record = protocol.output(&mut buffer, piece.len(), now);
        assert!(
            !(all.ends_with(b"\r") && record.starts_with(b"\n")),
            "a record ends in between"
        );
        all.extend_from_slice(record);
    }
    all.extend_from_slice(protocol.last_output());
    assert_eq!(all, bytes);
}

/// The bytes for the command, what was asked for, and whether it was refused.
fn framed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, String, bool) {
    let (mut protocol, mut stdin) = (FramedProtocol::default(), Vec::new());
    let (mut window, mut asked) = (None, [false; 6]);
    for piece in pieces {
        let requests = protocol.input(piece, &mut stdin);
        assert!(stdin.len() <= WINDOW);
        let Ok(it) = requests else {
            // What came before in the same piece is lost with the session.
            return (Vec::new(), String::new(), true);
        };
        window = it.window.or(window);
        let now = [
            it.end,
            it.interrupt,
            it.go_on,
            it.watch_for_stop,
            it.unread[0],
            it.unread[1],
        ];
        asked = std::array::from_fn(|at| asked[at] | now[at]);
        assert!(protocol.room(1) <= WINDOW && protocol.room(2) <= WINDOW);
    }
    (stdin, format!("{window:?} {asked:?}"), false)
}

fuzz_target!(|data: &[u8]| {
    let Some((how, rest)) = first(data) else {
        return;
    };
    let Some((seed, bytes)) = first(rest) else {
        return;
    };
    match how % 5 {
        0 => first_line(seed, bytes),
        1 => input(false, seed, bytes),
        2 => input(true, seed, bytes),
        3 => output(seed, bytes),
        _ => {
            let whole = within(4 * bytes.len() + 300 * 1024, || {
                framed(std::iter::once(bytes))
            });
            assert_eq!(framed(pieces(seed, bytes)), whole);
        }
    }
});
