//! The rendezvous protocol of Heroku's CLI: raw bytes both ways after one line of greeting. No I/O; time is passed in.
//!
//! What the client does, and what follows from it:
//!
//! - It discards the first TLS record, whatever is in it. So the greeting is a record of its own.
//! - It looks for the exit marker in each record, and removes a line that is nothing else. So the marker is a record
//!   of its own, too, and needs no line feed before it.
//! - It turns each `\r\n` within a record into `\n`, if its output is no terminal. So no record ends between the two: a
//!   `\r` at the end waits a moment for what follows.
//! - It fails if it still has to send a byte after the bridge has closed: most likely its 0x04, which it sends right
//!   after the greeting. So the session of a quick command does not end before that byte has come, or could have. (At a
//!   status other than 0 it leaves at once.)
//! - It has no way to say that its input has ended but the byte 0x04, which it sends once. So with pipes, a 0x04 after
//!   which nothing comes for a moment is the end, and any other is data. A terminal reads it as the end only at the
//!   beginning of a line; after text that came from a pipe it gets it twice.
//! - It does not say whether its input is a keyboard, which it may be though its output is no terminal. With pipes, a
//!   Ctrl-C after which nothing comes for a moment interrupts the command, and such an Enter is a line feed.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

use std::time::{Duration, Instant};

use super::client_requests::ClientRequests;
use super::piece::BEFORE;
use crate::model::command_line::STATUS_MARKER;

/// The greeting, which the client discards.
pub const GREETING: &[u8] = b"rendezvous\r\n";

/// Ctrl-C and Ctrl-D, as a terminal in raw mode sends them.
const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;

/// How long a byte waits for what may follow it. Bytes that are sent together arrive almost together.
pub const PAUSE: Duration = Duration::from_millis(50);

/// How long after the greeting a session lasts at least, unless the client has said that its input has ended. A client
/// on a terminal most likely has a keyboard and does not say so.
pub const SETTLE: Duration = Duration::from_secs(1);
pub const SETTLE_TERMINAL: Duration = Duration::from_millis(250);

/// The state of one session's protocol, from the greeting on.
#[derive(Debug)]
pub struct RendezvousProtocol {
    terminal: bool,
    /// When the greeting was sent; None once the client's input has ended.
    greeted: Option<Instant>,
    /// Since when a `\r` of the command waits.
    held: Option<Instant>,
    /// The client's last bytes, if they have a meaning when nothing follows.
    tail: Option<Tail>,
    /// Whether the command's input has ended.
    over: bool,
    /// When the client's last bytes came, and how many came without a pause until then.
    burst: Option<(Instant, usize)>,
    /// The last byte that was written to the terminal.
    typed: Option<u8>,
}

/// The client's last bytes, and since when they are the last.
#[derive(Debug, Clone, Copy)]
struct Tail {
    byte: u8,
    count: usize,
    since: Instant,
}

impl RendezvousProtocol {
    /// The protocol for a command with a terminal or with pipes. Begins with the [`GREETING`].
    pub fn new(terminal: bool, now: Instant) -> Self {
        Self {
            terminal,
            greeted: Some(now),
            held: None,
            tail: None,
            over: false,
            burst: None,
            typed: None,
        }
    }

    /// Takes bytes from the client; those for the command are appended to `stdin`.
    pub fn input(&mut self, bytes: &[u8], now: Instant, stdin: &mut Vec<u8>) {
        self.note_end(bytes);
        let Some(&last) = bytes.last().filter(|_| !self.over) else {
            return;
        };
        let before = self.tail.take();
        if self.terminal {
            return self.type_in(bytes, last, now, stdin);
        }
        if let Some(tail) = before {
            // More bytes have followed, so it was data.
            stdin.extend(std::iter::repeat_n(tail.byte, tail.count));
        }
        let count = match last {
            INTERRUPT => bytes.iter().rev().take_while(|byte| **byte == last).count(),
            END | b'\r' => 1,
            _ => 0,
        };
        stdin.extend_from_slice(&bytes[..bytes.len() - count]);
        if count > 0 {
            self.tail = Some(Tail {
                byte: last,
                count,
                since: now,
            });
        }
    }

    /// Looks whether bytes that are otherwise discarded say that the client's input has ended.
    pub fn note_end(&mut self, bytes: &[u8]) {
        if bytes.ends_with(&[END]) {
            self.greeted = None;
        }
    }

    /// Until when the session must not end.
    pub fn settles_at(&self) -> Option<Instant> {
        let settle = if self.terminal {
            SETTLE_TERMINAL
        } else {
            SETTLE
        };
        self.greeted.map(|greeted| greeted + settle)
    }

    /// Takes bytes for a terminal, which gets every byte at once.
    fn type_in(&mut self, bytes: &[u8], last: u8, now: Instant, stdin: &mut Vec<u8>) {
        stdin.extend_from_slice(bytes);
        let burst = match self.burst {
            Some((at, burst)) if now.duration_since(at) < PAUSE => burst + bytes.len(),
            _ => bytes.len(),
        };
        self.burst = Some((now, burst));
        let before = match bytes {
            [.., before, _] => Some(*before),
            _ => self.typed,
        };
        self.typed = Some(last);
        // From a keyboard it comes alone, and the terminal interprets it.
        let is_piped = burst > 2;
        if last == END && is_piped && !matches!(before, Some(b'\n' | b'\r' | END)) {
            self.tail = Some(Tail {
                byte: END,
                count: 1,
                since: now,
            });
        }
    }

    /// The next record with the command's output: of `length` bytes in `buffer`, from [`BEFORE`] on. Empty if they are
    /// to wait for more.
    pub fn output<'a>(&mut self, buffer: &'a mut [u8], length: usize, now: Instant) -> &'a [u8] {
        let mut begin = BEFORE;
        let mut end = BEFORE + length;
        if length == 0 {
            return &[];
        }
        if self.held.take().is_some() {
            begin -= 1;
            buffer[begin] = b'\r';
        }
        if buffer[end - 1] == b'\r' {
            end -= 1;
            self.held = Some(now);
        }
        &buffer[begin..end]
    }

    /// The rest of the command's output when it has ended.
    pub fn last_output(&mut self) -> &'static [u8] {
        match self.held.take() {
            Some(_) => b"\r",
            None => b"",
        }
    }

    /// When [`pause_over`](Self::pause_over) is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let tail = self.tail.map(|tail| tail.since);
        let since = [self.held, tail].into_iter().flatten().min();
        since.map(|since| since + PAUSE)
    }

    /// Called when no bytes have come for a while: returns what is to be sent, and what the client asked for.
    /// `canonical` says that the command's terminal is in canonical mode.
    pub fn pause_over(
        &mut self,
        now: Instant,
        canonical: bool,
        stdin: &mut Vec<u8>,
    ) -> (&'static [u8], ClientRequests) {
        let is_over = |since: Instant| now.duration_since(since) >= PAUSE;
        let mut requests = ClientRequests::default();
        if let Some(tail) = self.tail.take_if(|tail| is_over(tail.since)) {
            match tail.byte {
                END if self.terminal => stdin.extend(canonical.then_some(END)),
                END => (self.over, requests.end) = (true, true),
                INTERRUPT => requests.interrupt = true,
                _ => stdin.push(b'\n'),
            }
        }
        let output: &[u8] = match self.held.take_if(|since| is_over(*since)) {
            Some(_) => b"\r",
            None => b"",
        };
        (output, requests)
    }
}

/// The exit marker, which must be a TLS record of its own.
pub fn marker(status: u8) -> Vec<u8> {
    format!("{STATUS_MARKER}{status}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::piece::PIECE;
    use super::*;
    use crate::wire::stream::RECORD;

    const MOMENT: Duration = Duration::from_millis(1);

    /// What a command gets of pieces, each so long after the one before, and what was wanted on the way.
    fn told(terminal: bool, pieces: &[(&[u8], Duration)]) -> (Vec<u8>, ClientRequests) {
        let (mut session, mut now) = (
            RendezvousProtocol::new(terminal, Instant::now()),
            Instant::now(),
        );
        let (mut stdin, mut all) = (Vec::new(), ClientRequests::default());
        let mut note = |requests: ClientRequests| {
            all.end |= requests.end;
            all.interrupt |= requests.interrupt;
        };
        for (bytes, after) in pieces {
            let at = now + *after;
            if let Some(due) = session.deadline().filter(|due| *due <= at) {
                note(session.pause_over(due, true, &mut stdin).1);
            }
            now = at;
            session.input(bytes, now, &mut stdin);
        }
        if let Some(due) = session.deadline() {
            note(session.pause_over(due - MOMENT, true, &mut stdin).1);
            note(session.pause_over(due, true, &mut stdin).1);
        }
        assert_eq!(session.deadline(), None);
        (stdin, all)
    }

    #[test]
    fn the_last_0x04_from_a_pipe_is_the_end_and_any_other_is_data() {
        let end = ClientRequests {
            end: true,
            ..ClientRequests::default()
        };
        for (pieces, stdin, requests) in [
            (&[(&b"a\x04"[..], MOMENT)][..], &b"a"[..], end),
            (&[(b"a", MOMENT), (b"\x04", MOMENT)], b"a", end),
            (&[(b"\x04", MOMENT)], b"", end),
            (&[(b"a\x04b", MOMENT)], b"a\x04b", ClientRequests::default()),
            (&[(b"a\x04", MOMENT), (b"b\x04", MOMENT)], b"a\x04b", end),
            (&[(b"\x04", MOMENT), (b"\x04", MOMENT)], b"\x04", end),
            // What comes after the end is nobody's.
            (&[(b"a\x04", MOMENT), (b"b", 2 * PAUSE)], b"a", end),
        ] {
            assert_eq!(
                told(false, pieces),
                (stdin.to_vec(), requests),
                "{pieces:?}"
            );
        }
    }

    #[test]
    fn what_nothing_follows_is_a_key() {
        let interrupt = ClientRequests {
            interrupt: true,
            ..ClientRequests::default()
        };
        let nothing = ClientRequests::default();
        for (pieces, stdin, requests) in [
            (
                &[(&b"l"[..], PAUSE), (b"s", PAUSE), (b"\r", PAUSE)][..],
                &b"ls\n"[..],
                nothing,
            ),
            (&[(b"ls\r", PAUSE), (b"x", PAUSE)], b"ls\nx", nothing),
            (&[(b"\x03", PAUSE)], b"", interrupt),
            (&[(b"l\x03\x03\x03", PAUSE)], b"l", interrupt),
            // Data that happens to have such bytes.
            (&[(b"a\x03b", PAUSE)], b"a\x03b", nothing),
            (
                &[(b"a\x03\x03", PAUSE), (b"b", MOMENT)],
                b"a\x03\x03b",
                nothing,
            ),
            (&[(b"a\r\n", PAUSE)], b"a\r\n", nothing),
            (&[(b"a\r", PAUSE), (b"\nb", MOMENT)], b"a\r\nb", nothing),
        ] {
            assert_eq!(
                told(false, pieces),
                (stdin.to_vec(), requests),
                "{pieces:?}"
            );
        }
    }

    #[test]
    fn a_terminal_gets_every_key_and_the_end_of_a_pipe_twice_after_text() {
        for (pieces, stdin) in [
            (
                &[(&b"\x03"[..], PAUSE), (b"\x04", PAUSE)][..],
                &b"\x03\x04"[..],
            ),
            (&[(b"l", PAUSE), (b"s", PAUSE), (b"\r", PAUSE)], b"ls\r"),
            // Ctrl-D after typed text is the terminal's business.
            (&[(b"l", PAUSE), (b"s", PAUSE), (b"\x04", PAUSE)], b"ls\x04"),
            // A pipe's last line with and without its end.
            (&[(b"line\n", PAUSE), (b"\x04", MOMENT)], b"line\n\x04"),
            (&[(b"line", PAUSE), (b"\x04", MOMENT)], b"line\x04\x04"),
            (&[(b"line\x04", PAUSE)], b"line\x04\x04"),
            (
                &[(b"line\x04", PAUSE), (b"more\n", MOMENT)],
                b"line\x04more\n",
            ),
        ] {
            let (got, requests) = told(true, pieces);
            assert_eq!(
                (got, requests),
                (stdin.to_vec(), ClientRequests::default()),
                "{pieces:?}"
            );
        }
        // A program that reads keys gets each once.
        let (mut session, mut stdin) = (RendezvousProtocol::new(true, Instant::now()), Vec::new());
        let now = Instant::now();
        session.input(b"line\x04", now, &mut stdin);
        session.pause_over(now + PAUSE, false, &mut stdin);
        assert_eq!(stdin, b"line\x04");
    }

    /// The records made of what was read, piece by piece.
    fn records(session: &mut RendezvousProtocol, pieces: &[&[u8]], now: Instant) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        for piece in pieces {
            let mut buffer = vec![0; BEFORE + piece.len()];
            buffer[BEFORE..].copy_from_slice(piece);
            records.push(session.output(&mut buffer, piece.len(), now).to_vec());
        }
        records
    }

    #[test]
    fn no_record_ends_between_cr_and_lf() {
        let now = Instant::now();
        let mut session = RendezvousProtocol::new(true, now);
        let pieces: [&[u8]; 6] = [b"a\r", b"\nb", b"\r", b"\r", b"c\r\n", b"d\r"];
        let got = records(&mut session, &pieces, now);
        let wanted: [&[u8]; 6] = [b"a", b"\r\nb", b"", b"\r", b"\rc\r\n", b"d"];
        assert_eq!(got, wanted);
        assert_eq!(session.last_output(), b"\r");
        assert_eq!(session.last_output(), b"");

        // A full piece and what was held before it are one record.
        let full = vec![b'x'; PIECE];
        let got = records(&mut session, &[b"\r", &full], now);
        assert_eq!(got[1].len(), 1 + PIECE);
        assert!(got[1].len() <= RECORD);
    }

    #[test]
    fn a_session_lasts_until_its_client_has_said_what_it_has_to_say() {
        let now = Instant::now();
        for (terminal, settle) in [(true, SETTLE_TERMINAL), (false, SETTLE)] {
            let mut session = RendezvousProtocol::new(terminal, now);
            session.input(b"a\x04b", now, &mut Vec::new());
            assert_eq!(session.settles_at(), Some(now + settle));
            session.note_end(b"c\x04");
            assert_eq!(session.settles_at(), None);
        }
    }

    #[test]
    fn a_progress_bar_is_not_held_up_for_long() {
        let now = Instant::now();
        let mut session = RendezvousProtocol::new(true, now);
        records(&mut session, &[b"50%\r"], now);
        assert_eq!(session.deadline(), Some(now + PAUSE));
        assert_eq!(session.pause_over(now, true, &mut Vec::new()).0, b"");
        assert_eq!(
            session.pause_over(now + PAUSE, true, &mut Vec::new()).0,
            b"\r"
        );
        assert_eq!(session.deadline(), None);
    }

    #[test]
    fn the_marker_is_as_a_shell_would_print_it() {
        assert_eq!(marker(7), b"\xef\xbf\xbf heroku-command-exit-status: 7\n");
    }
}
