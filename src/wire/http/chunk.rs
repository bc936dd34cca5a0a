//! Chunked transfer coding (RFC 9112 section 7.1).
//!
//! Stricter than the RFC where leniency has been used to smuggle requests: every line ends with
//! CRLF, there is no white space around the size, extensions and trailers are bounded. Both are
//! checked and thrown away.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::io::Write;

use super::HttpRefusal;

/// Hexadecimal digits of a chunk's size; that many always fit in a `u64`.
const MAX_SIZE_DIGITS: u8 = 16;
/// Bytes of one chunk's extension. No client needs them; a chunk of one byte could carry kilobytes.
const MAX_EXTENSION: u16 = 256;
/// Bytes of all trailer lines.
const MAX_TRAILERS: u16 = 8 * 1024;

/// What a decoder found at the front of its input: [`ChunkDecoder::decode`], and that of [bodies](super::BodyDecoder) of any
/// framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A piece of the body, never empty.
    Data(&'a [u8]),
    /// All input is used up; more is needed.
    NeedMore,
    /// The body is complete. What is left of the input belongs to the next message.
    End,
}

/// Takes chunked bodies apart, whatever pieces the bytes come in.
#[derive(Debug, Clone)]
pub struct ChunkDecoder {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the size, with so many digits read.
    Size { digits: u8, size: u64 },
    /// In the extension, with so many bytes read.
    Extension { length: u16, size: u64 },
    /// The CR after size or extension was read.
    SizeLf { size: u64 },
    /// In the data.
    Data { left: u64 },
    /// All data was read.
    DataCr,
    /// The CR after it too.
    DataLf,
    /// In the trailers, with so many bytes read.
    Trailers { length: u16, part: TrailerPart },
    /// The last LF was read.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TrailerPart {
    /// At the beginning of a line.
    Start,
    /// In the name of a field.
    Name,
    /// After its colon.
    Value,
    /// The CR of a line with a field was read.
    Lf,
    /// The CR of the empty line was read.
    LastLf,
}

impl ChunkDecoder {
    /// At the beginning of a body.
    pub fn new() -> Self {
        Self {
            state: State::Size { digits: 0, size: 0 },
        }
    }

    /// Takes the next piece from the front of `input`, without copying data.
    ///
    /// # Errors
    /// A malformed body; the connection is of no further use.
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Decoded<'a>, HttpRefusal> {
        loop {
            match &mut self.state {
                State::End => return Ok(Decoded::End),
                State::Data { left: 0 } => self.state = State::DataCr,
                State::Data { left } if !input.is_empty() => {
                    let length = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(input.len());
                    let (data, rest) = input.split_at(length);
                    *left = left.saturating_sub(length as u64);
                    *input = rest;
                    return Ok(Decoded::Data(data));
                }
                state => {
                    let Some((byte, rest)) = input.split_first() else {
                        return Ok(Decoded::NeedMore);
                    };
                    *state = state.after(*byte)?;
                    *input = rest;
                }
            }
        }
    }

    /// Whether the last line of the body was read.
    pub fn is_complete(&self) -> bool {
        self.state == State::End
    }
}

impl Default for ChunkDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// The state after one byte of framing.
    fn after(self, byte: u8) -> Result<Self, HttpRefusal> {
        match (self, byte) {
            (Self::Size { digits, size }, byte) if byte.is_ascii_hexdigit() => {
                if digits == MAX_SIZE_DIGITS {
                    return Err(HttpRefusal::over(
                        400,
                        "digits in a chunk size",
                        MAX_SIZE_DIGITS,
                    ));
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Ok(Self::Size {
                    digits: digits.saturating_add(1),
                    size: size << 4 | u64::from(digit),
                })
            }
            (Self::Size { digits: 1.., size }, b'\r') => Ok(Self::SizeLf { size }),
            (Self::Size { digits: 1.., size }, b';') => Ok(Self::Extension { length: 0, size }),
            (Self::Size { .. }, _) => Err(HttpRefusal::bad("malformed chunk size")),

            (Self::Extension { size, .. }, b'\r') => Ok(Self::SizeLf { size }),
            (Self::Extension { length, size }, b'\t' | b' '..=b'~') => {
                if length == MAX_EXTENSION {
                    return Err(HttpRefusal::over(
                        400,
                        "bytes in a chunk extension",
                        MAX_EXTENSION,
                    ));
                }
                Ok(Self::Extension {
                    length: length.saturating_add(1),
                    size,
                })
            }
            (Self::Extension { .. }, _) => Err(HttpRefusal::bad("malformed chunk extension")),

            (Self::SizeLf { size: 0 }, b'\n') => Ok(Self::Trailers {
                length: 0,
                part: TrailerPart::Start,
            }),
            (Self::SizeLf { size }, b'\n') => Ok(Self::Data { left: size }),
            (Self::DataCr, b'\r') => Ok(Self::DataLf),
            (Self::DataLf, b'\n') => Ok(Self::Size { digits: 0, size: 0 }),
            (Self::SizeLf { .. } | Self::DataLf, _) => {
                Err(HttpRefusal::bad("CR without LF in a chunk"))
            }
            (Self::DataCr, _) => Err(HttpRefusal::bad("chunk longer than its size")),

            (
                Self::Trailers {
                    part: TrailerPart::LastLf,
                    ..
                },
                b'\n',
            ) => Ok(Self::End),
            (Self::Trailers { length, part }, byte) => {
                if length == MAX_TRAILERS {
                    return Err(HttpRefusal::over(
                        400,
                        "bytes in the trailers",
                        MAX_TRAILERS,
                    ));
                }
                Ok(Self::Trailers {
                    length: length.saturating_add(1),
                    part: part.after(byte)?,
                })
            }
            (Self::Data { .. } | Self::End, _) => Ok(self),
        }
    }
}

impl TrailerPart {
    fn after(self, byte: u8) -> Result<Self, HttpRefusal> {
        match (self, byte) {
            (Self::Start, b'\r') => Ok(Self::LastLf),
            (Self::Start | Self::Name, byte) if is_token(byte) => Ok(Self::Name),
            (Self::Name, b':') => Ok(Self::Value),
            (Self::Value, b'\r') => Ok(Self::Lf),
            (Self::Value, b'\t' | b' '..=b'~' | 0x80..) => Ok(Self::Value),
            (Self::Lf, b'\n') => Ok(Self::Start),
            _ => Err(HttpRefusal::bad("malformed trailer")),
        }
    }
}

/// Whether `byte` may stand in a name (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Appends `data` as one chunk. No data is no chunk: an empty one would end the body.
pub fn encode(data: &[u8], out: &mut Vec<u8>) {
    if !data.is_empty() {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{:x}\r\n", data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// The end of a chunked body, without trailers.
pub const LAST: &[u8] = b"0\r\n\r\n";
