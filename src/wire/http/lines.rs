//! Where the head of a message ends, byte by byte, and whether its lines are lines.
//!
//! Works on a growing buffer and looks at each byte once, so a head that trickles in costs no more
//! than one that comes at once, and is refused for the same reason at the same byte.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

use super::{HeadLimits, HttpRefusal};

/// The position up to which a buffer has been scanned.
#[derive(Debug, Default)]
pub(super) struct LineScanner {
    /// Bytes seen.
    seen: usize,
    /// Where the current line begins.
    line_start: usize,
    /// Where the message begins: after the one empty line that may precede it.
    message_start: usize,
    /// Lines that ended, without the empty ones.
    lines: usize,
}

/// A head that is complete: the range of its bytes, and how many header lines it has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Its first byte: empty lines may come before it.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
    /// Its header lines.
    pub fields: usize,
}

impl Extent {
    /// Its bytes of the buffer that was scanned.
    pub fn of<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        buffer.get(self.start..self.end).unwrap_or_default()
    }
}

impl LineScanner {
    /// Scans what is new in `buffer`, which holds everything since the last message.
    pub fn scan(
        &mut self,
        buffer: &[u8],
        limits: HeadLimits,
    ) -> Result<Option<Extent>, HttpRefusal> {
        for (at, &byte) in buffer.iter().enumerate().skip(self.seen) {
            self.seen = at + 1;
            if at - self.message_start >= limits.head {
                return Err(self.too_long("bytes in a head", limits.head));
            }
            let after_cr = at > self.line_start && buffer[at - 1] == b'\r';
            match byte {
                b'\n' if after_cr => {
                    if let Some(extent) = self.end_line(at, limits)? {
                        return Ok(Some(extent));
                    }
                }
                b'\n' => return Err(HttpRefusal::bad("line ends without CR")),
                _ if after_cr => return Err(HttpRefusal::bad("CR inside a line")),
                b'\r' => {}
                _ => self.check_byte(at, byte, limits)?,
            }
        }
        Ok(None)
    }

    fn end_line(
        &mut self,
        newline: usize,
        limits: HeadLimits,
    ) -> Result<Option<Extent>, HttpRefusal> {
        let empty = newline - self.line_start == 1;
        let end = newline + 1;
        self.line_start = end;
        if !empty {
            self.lines += 1;
            return Ok(None);
        }
        if self.lines > 0 {
            let fields = self.lines - 1;
            if fields > limits.fields {
                return Err(HttpRefusal::over(431, "header lines", limits.fields));
            }
            return Ok(Some(Extent {
                start: self.message_start,
                end,
                fields,
            }));
        }
        // RFC 9112 section 2.2: a server ignores one empty line before the request line.
        if self.message_start > 0 {
            return Err(HttpRefusal::bad("empty lines before the message"));
        }
        self.message_start = end;
        Ok(None)
    }

    fn check_byte(&self, at: usize, byte: u8, limits: HeadLimits) -> Result<(), HttpRefusal> {
        if at - self.line_start >= limits.line {
            return Err(self.too_long("bytes in a line", limits.line));
        }
        if at == self.line_start {
            if matches!(byte, b' ' | b'\t') {
                return Err(HttpRefusal::bad("line begins with white space"));
            }
            if self.lines > limits.fields {
                return Err(HttpRefusal::over(431, "header lines", limits.fields));
            }
        }
        if (byte < b' ' && byte != b'\t') || byte == 0x7f {
            return Err(HttpRefusal::bad("control character in the head"));
        }
        Ok(())
    }

    fn too_long(&self, what: &str, most: usize) -> HttpRefusal {
        HttpRefusal::over(if self.lines == 0 { 414 } else { 431 }, what, most)
    }
}
