//! Cuts a stream of bytes into the texts of lines.

use memchr::memchr_iter;

use super::{MAX_TEXT, first_piece};

/// Cuts a stream of bytes into lines, and lines that are too long into pieces, without cutting UTF-8 characters. Holds
/// the beginning of a line, of little more than [`MAX_TEXT`] bytes.
#[derive(Debug, Default)]
pub struct Splitter {
    partial: Vec<u8>,
}

impl Splitter {
    /// Takes more bytes; calls `line` with each line that they complete, without its line feed and a carriage return
    /// before it, and with the pieces of lines that are too long.
    pub fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        let mut begin = 0;
        for end in memchr_iter(b'\n', bytes) {
            let text = &bytes[begin..end];
            begin = end + 1;
            if self.partial.is_empty() {
                whole(text, &mut line);
            } else {
                self.keep(text, &mut line);
                self.finish(&mut line);
            }
        }
        self.keep(&bytes[begin..], &mut line);
    }

    /// Ends the output: what is left is the last line.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            whole(&self.partial, &mut line);
            self.partial.clear();
        }
    }

    /// Takes bytes of a line whose end has not come. A piece is passed on only once there are more bytes than a line
    /// and a carriage return may have, since a full piece may be a whole line.
    fn keep(&mut self, mut text: &[u8], line: &mut impl FnMut(&[u8])) {
        while self.partial.len() + text.len() > MAX_TEXT + 1 {
            if self.partial.is_empty() {
                let (piece, rest) = text.split_at(first_piece(text));
                line(piece);
                text = rest;
            } else {
                // One byte more than a piece shows whether the piece would end inside of a character.
                let taken = text
                    .len()
                    .min((MAX_TEXT + 1).saturating_sub(self.partial.len()));
                self.partial.extend_from_slice(&text[..taken]);
                text = &text[taken..];
                let length = first_piece(&self.partial);
                line(&self.partial[..length]);
                self.partial.drain(..length);
            }
        }
        self.partial.extend_from_slice(text);
    }
}

fn whole(text: &[u8], line: &mut impl FnMut(&[u8])) {
    let mut text = text.strip_suffix(b"\r").unwrap_or(text);
    while text.len() > MAX_TEXT {
        let (piece, rest) = text.split_at(first_piece(text));
        line(piece);
        text = rest;
    }
    line(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(parts: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
        for part in parts {
            splitter.feed(part, |line| lines.push(line.to_vec()));
            assert!(splitter.partial.len() <= MAX_TEXT + 1);
        }
        splitter.finish(|line| lines.push(line.to_vec()));
        lines
    }

    /// What the splitter is to give, said plainly: of all bytes at once.
    fn split_at_once(text: &[u8]) -> Vec<Vec<u8>> {
        let mut lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
        if lines.last().is_some_and(|last| last.is_empty()) {
            lines.pop();
        }
        let mut pieces = Vec::new();
        for line in lines {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                pieces.push(Vec::new());
            }
            match std::str::from_utf8(line) {
                Ok(line) => pieces.extend(of_whole_characters(line)),
                Err(_) => pieces.extend(line.chunks(MAX_TEXT).map(<[u8]>::to_vec)),
            }
        }
        pieces
    }

    fn of_whole_characters(line: &str) -> Vec<Vec<u8>> {
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        for character in line.chars() {
            match pieces.last_mut() {
                Some(piece) if piece.len() + character.len_utf8() <= MAX_TEXT => {
                    piece.extend(character.to_string().bytes());
                }
                _ => pieces.push(character.to_string().into_bytes()),
            }
        }
        pieces
    }

    #[test]
    fn partial_lines_wait_and_the_last_one_counts() {
        assert_eq!(
            split(&[b"a", b"b\nc", b"\r\n\nd"]),
            [&b"ab"[..], b"c", b"", b"d"]
        );
    }

    #[test]
    fn long_lines_are_cut_at_ten_thousand_bytes() {
        let long = vec![b'x'; 2 * MAX_TEXT];
        let lengths = |parts: &[&[u8]]| split(parts).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(&[&long, b"\n"]), [MAX_TEXT; 2]);
        assert_eq!(lengths(&[&long, b"\r\n"]), [MAX_TEXT; 2]);
        assert_eq!(lengths(&[&long, b"\r", b"\n"]), [MAX_TEXT; 2]);
        let longer = vec![b'x'; MAX_TEXT + 1];
        assert_eq!(lengths(&[&longer, b"\nz"]), [MAX_TEXT, 1, 1]);
    }

    #[test]
    fn a_long_line_is_cut_before_a_character_and_bytes_that_are_none_anywhere() {
        for character in ["é", "€", "🚀"] {
            for offset in 0..4 {
                let line = format!("{}{}", "x".repeat(offset), character.repeat(MAX_TEXT));
                let pieces = split(&[line.as_bytes(), b"\n"]);
                assert_eq!(pieces, of_whole_characters(&line), "{character} {offset}");
                // However it comes.
                let (a, b) = line.as_bytes().split_at(MAX_TEXT - 1);
                let (b, c) = b.split_at(2);
                assert_eq!(split(&[a, b, c]), pieces);
            }
        }
        for byte in [0x80, 0xbf, 0xc3, 0xe2, 0xf0, 0xff] {
            let lengths: Vec<_> = split(&[&vec![byte; 2 * MAX_TEXT + 1]]);
            let lengths: Vec<_> = lengths.iter().map(Vec::len).collect();
            assert_eq!(lengths, [MAX_TEXT, MAX_TEXT, 1], "{byte:#x}");
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            cut in 0usize..200,
        ) {
            let cut = cut.min(text.len());
            prop_assert_eq!(split(&[&text[..cut], &text[cut..]]), split_at_once(&text));
        }

        /// Runs of about as many bytes as a line may have, in parts of about as many.
        #[test]
        fn nor_does_it_matter_where_long_lines_are_split(
            runs in proptest::collection::vec((0usize..3, -2i64..3, prop_oneof![Just("\n"), Just("\r\n"), Just("\r")]), 1..6),
            parts in proptest::collection::vec((0usize..3, -2i64..3), 1..8),
        ) {
            let about = |(times, off): (usize, i64)| (times as i64 * MAX_TEXT as i64 + off).max(0) as usize;
            let mut text = Vec::new();
            for (times, off, end) in runs {
                text.resize(text.len() + about((times, off)), b'x');
                text.extend_from_slice(end.as_bytes());
            }
            let (mut rest, mut cut) = (&text[..], Vec::new());
            for part in parts {
                let (now, later) = rest.split_at(about(part).min(rest.len()));
                cut.push(now);
                rest = later;
            }
            cut.push(rest);
            prop_assert_eq!(split(&cut), split_at_once(&text));
        }
    }
}
