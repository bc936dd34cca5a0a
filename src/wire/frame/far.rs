//! The frames between the bridge and a client elsewhere: the bytes of the command's streams, beside the supervisor's frames.
//!
//! Each has the head of [`Frame`](super::Frame)s: a kind (u8) and a length (u32, big-endian). A stream has the number
//! that it has in the command. The reader of a stream bounds how many of its bytes may be unread: [`WINDOW`] to begin
//! with, and as many more as it says that it has passed on. So a stream whose reader is slow holds up no other stream
//! or frame, and neither side has to keep more than that.
//!
//! | kind | from | payload | meaning |
//! |---|---|---|---|
//! | `0` | client | bytes | the command's input |
//! | `1`, `2` | bridge | bytes | its output (with a terminal, all that it shows), its error output |
//! | `e` | both | number (u8) | nothing follows in this stream |
//! | `c` | both | number (u8), bytes (u32) | so many more bytes of this stream may be sent |
//! | `w` | client | columns, lines (u16 each) | the window's size |
//! | `x` | client | number (u8) | this output is not read any more |
//! | `j` | client | `c` or `z` | [`CONTINUE`](super::CONTINUE) or [`STOP_TYPED`](super::STOP_TYPED), for the supervisor |
//! | `U`, `S`, `X`, `E` | bridge | JSON | as [`Frame`](super::Frame) has them |

use super::{BadFrame, CONTINUE, Frame, HEADER, MAX_PAYLOAD, STOP_TYPED};
use crate::model::window::WindowSize;

/// The protocol's name in `Upgrade:`.
pub const PROTOCOL: &str = "dyno-streams/1";

/// How many bytes of a stream may be sent before the reader grants more.
pub const WINDOW: usize = 128 * 1024;

/// The longest payload of a frame that has neither a stream's bytes nor a supervisor's frame, in bytes.
const LONGEST_WORD: usize = 8;

/// A frame that carries no bytes of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamFrame {
    /// Nothing follows in this stream.
    End(u8),
    /// So many more bytes of this stream may be sent.
    Credit(u8, u32),
    /// The window has this size.
    Window(WindowSize),
    /// This output is not read any more.
    Unread(u8),
    /// The stopped command is to be continued.
    Continue,
    /// Ctrl-Z was typed.
    StopTyped,
    /// A frame of the supervisor.
    Frame(Frame),
}

impl StreamFrame {
    /// The bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Self::Frame(frame) => return frame.encode(),
            Self::End(number) => (b'e', vec![*number]),
            Self::Unread(number) => (b'x', vec![*number]),
            Self::Continue => (b'j', vec![CONTINUE]),
            Self::StopTyped => (b'j', vec![STOP_TYPED]),
            Self::Credit(number, bytes) => (b'c', [&[*number][..], &bytes.to_be_bytes()].concat()),
            Self::Window(WindowSize { columns, rows }) => {
                (b'w', [columns.to_be_bytes(), rows.to_be_bytes()].concat())
            }
        };
        let mut bytes = head(kind, payload.len()).to_vec();
        bytes.extend(payload);
        bytes
    }
}

/// The head of a frame with `length` bytes of stream `number`; [`MAX_PAYLOAD`] at most.
pub fn data_head(number: u8, length: usize) -> [u8; HEADER] {
    head(number.saturating_add(b'0'), length)
}

fn head(kind: u8, length: usize) -> [u8; HEADER] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [kind, a, b, c, d]
}

/// What [`Decoder::next`] found in the received bytes.
#[derive(Debug, PartialEq)]
pub enum StreamPiece<'a> {
    /// Bytes of a stream; more of the same frame may follow.
    Data(u8, &'a [u8]),
    /// A frame that is no stream's bytes, whole.
    Word(StreamFrame),
}

/// Takes the received bytes apart. Keeps nothing but the beginning of a [`StreamFrame`].
#[derive(Debug, Default)]
pub struct Decoder {
    held: Vec<u8>,
    /// The stream whose bytes are coming, and how many are still to come.
    data: Option<(u8, usize)>,
}

impl Decoder {
    /// Takes the next piece off the front of `bytes`; None when they are used up.
    ///
    /// # Errors
    /// When they cannot become a frame whatever follows.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<StreamPiece<'a>>, BadFrame> {
        loop {
            if let Some((number, left)) = self.data {
                let length = left.min(bytes.len());
                if length == 0 {
                    return Ok(None);
                }
                let (data, rest) = bytes.split_at(length);
                *bytes = rest;
                let left = left.checked_sub(length).filter(|left| *left > 0);
                self.data = left.map(|left| (number, left));
                return Ok(Some(StreamPiece::Data(number, data)));
            }
            if !self.hold(bytes, HEADER) {
                return Ok(None);
            }
            let Some(&[kind, ref length @ ..]) = self.held.first_chunk::<HEADER>() else {
                return Err(BadFrame("no head"));
            };
            let length = u32::from_be_bytes(*length) as usize;
            if length > MAX_PAYLOAD {
                return Err(BadFrame("longer than 64 KiB"));
            }
            if let Some(number @ 0..=2) = kind.checked_sub(b'0') {
                self.held.clear();
                self.data = (length > 0).then_some((number, length));
                continue;
            }
            match kind {
                b'U' | b'S' | b'X' | b'E' => {}
                b'e' | b'c' | b'w' | b'x' | b'j' if length <= LONGEST_WORD => {}
                b'e' | b'c' | b'w' | b'x' | b'j' => {
                    return Err(BadFrame("too long for what it is"));
                }
                _ => return Err(BadFrame("unknown kind")),
            }
            if !self.hold(bytes, HEADER.saturating_add(length)) {
                return Ok(None);
            }
            let word = word(kind, &self.held)?;
            self.held.clear();
            return Ok(Some(StreamPiece::Word(word)));
        }
    }

    /// Takes bytes until `wanted` are held; false if there are fewer.
    fn hold(&mut self, bytes: &mut &[u8], wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.held.len()).min(bytes.len());
        let (taken, rest) = bytes.split_at(missing);
        self.held.extend_from_slice(taken);
        *bytes = rest;
        self.held.len() >= wanted
    }
}

fn word(kind: u8, frame: &[u8]) -> Result<StreamFrame, BadFrame> {
    match (kind, frame.get(HEADER..).unwrap_or_default()) {
        (b'e', [number @ 0..=2]) => Ok(StreamFrame::End(*number)),
        (b'x', [number @ 1..=2]) => Ok(StreamFrame::Unread(*number)),
        (b'c', [number @ 0..=2, a, b, c, d]) => Ok(StreamFrame::Credit(
            *number,
            u32::from_be_bytes([*a, *b, *c, *d]),
        )),
        (b'w', [a, b, c, d]) => Ok(StreamFrame::Window(WindowSize {
            columns: u16::from_be_bytes([*a, *b]),
            rows: u16::from_be_bytes([*c, *d]),
        })),
        (b'j', [CONTINUE]) => Ok(StreamFrame::Continue),
        (b'j', [STOP_TYPED]) => Ok(StreamFrame::StopTyped),
        (b'U' | b'S' | b'X' | b'E', _) => match Frame::decode(frame)? {
            Some((frame, _)) => Ok(StreamFrame::Frame(frame)),
            None => Err(BadFrame("cut off")),
        },
        _ => Err(BadFrame("unknown kind")),
    }
}

/// The reader's side of one stream's window: how much the other side may still send, and when it is granted more.
#[derive(Debug)]
pub struct ReceiveWindow {
    left: usize,
    passed_on: usize,
}

impl Default for ReceiveWindow {
    fn default() -> Self {
        Self {
            left: WINDOW,
            passed_on: 0,
        }
    }
}

impl ReceiveWindow {
    /// Counts `bytes` that were received.
    ///
    /// # Errors
    /// When the other side sent more than was granted.
    pub fn take(&mut self, bytes: usize) -> Result<(), BadFrame> {
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or(BadFrame("more than was granted"))?;
        Ok(())
    }

    /// Counts `bytes` that were passed on; returns the [`StreamFrame::Credit`] to send when enough have gathered.
    pub fn pass_on(&mut self, number: u8, bytes: usize) -> Option<StreamFrame> {
        self.passed_on = self.passed_on.saturating_add(bytes);
        if self.passed_on < WINDOW / 2 {
            return None;
        }
        let credit = std::mem::take(&mut self.passed_on);
        self.left = self.left.saturating_add(credit);
        Some(StreamFrame::Credit(number, credit as u32))
    }
}

/// The writer's side of one stream's window.
#[derive(Debug, Clone, Copy)]
pub struct SendWindow(usize);

impl Default for SendWindow {
    fn default() -> Self {
        Self(WINDOW)
    }
}

impl SendWindow {
    /// How many bytes may be sent.
    pub fn left(self) -> usize {
        self.0
    }

    /// Counts bytes that were sent.
    pub fn spend(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(bytes);
    }

    /// Adds what the reader granted; the sum never exceeds [`WINDOW`].
    pub fn grant(&mut self, bytes: u32) {
        self.0 = self.0.saturating_add(bytes as usize).min(WINDOW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dyno::Exit;
    use crate::wire::frame::Up;

    fn words() -> Vec<StreamFrame> {
        vec![
            StreamFrame::Frame(Frame::Up(Up {
                terminal: false,
                one_output: true,
                job_control: false,
                idle_timeout: 3600.0,
            })),
            StreamFrame::Window(WindowSize {
                columns: 132,
                rows: 50,
            }),
            StreamFrame::Credit(2, 70_000),
            StreamFrame::Unread(1),
            StreamFrame::StopTyped,
            StreamFrame::Frame(Frame::Stopped),
            StreamFrame::Continue,
            StreamFrame::End(0),
            StreamFrame::Frame(Frame::Exit(Exit::Status(3).into())),
        ]
    }

    #[test]
    fn streams_and_words_survive_any_split() {
        let mut bytes = Vec::new();
        for word in words() {
            bytes.extend(data_head(1, 5));
            bytes.extend(b"hello");
            bytes.extend(data_head(2, 0));
            bytes.extend(word.encode());
        }
        for size in 1..bytes.len() {
            let (mut decoder, mut got, mut data) = (Decoder::default(), Vec::new(), Vec::new());
            for mut piece in bytes.chunks(size) {
                while let Some(found) = decoder.next(&mut piece).unwrap() {
                    match found {
                        StreamPiece::Data(1, bytes) => data.extend_from_slice(bytes),
                        StreamPiece::Data(..) => panic!("nothing was sent there"),
                        StreamPiece::Word(word) => got.push(word),
                    }
                }
                assert!(piece.is_empty());
            }
            assert_eq!((got, data.len()), (words(), 5 * words().len()), "{size}");
        }
    }

    #[test]
    fn garbage_is_an_error_and_nothing_long_is_kept() {
        for bad in [
            &b"G\0\0\0\0"[..],
            b"3\0\0\0\x01",
            b"0\0\x01\0\x01",
            b"w\0\0\0\x09",
            b"w\0\0\0\x03abc",
            b"x\0\0\0\x01\0",
            b"j\0\0\0\x01x",
            b"e\0\0\0\x01\x03",
            b"X\0\0\0\x02{}",
        ] {
            let mut bytes = bad;
            assert!(Decoder::default().next(&mut bytes).is_err(), "{bad:?}");
        }
        let mut decoder = Decoder::default();
        let mut bytes = &data_head(0, MAX_PAYLOAD)[..];
        assert_eq!(decoder.next(&mut bytes), Ok(None));
        let piece = vec![b'x'; 1000];
        for _ in 0..65 {
            let mut bytes = &piece[..];
            assert_eq!(
                decoder.next(&mut bytes),
                Ok(Some(StreamPiece::Data(0, &piece)))
            );
        }
        assert!(decoder.held.is_empty());
    }

    #[test]
    fn no_more_is_on_its_way_than_the_reader_has_allowed() {
        let (mut reader, mut writer) = (ReceiveWindow::default(), SendWindow::default());
        let mut total = 0;
        for round in 0..100 {
            let sent = writer.left().min(10_000 + round);
            writer.spend(sent);
            reader.take(sent).unwrap();
            total += sent;
            if let Some(StreamFrame::Credit(1, bytes)) = reader.pass_on(1, sent) {
                writer.grant(bytes);
            }
        }
        assert!(total > 5 * WINDOW);
        assert_eq!(
            reader.take(WINDOW + 1),
            Err(BadFrame("more than was granted"))
        );
        // Nor than there is room for, whatever is said.
        writer.grant(u32::MAX);
        assert_eq!(writer.left(), WINDOW);
    }
}
