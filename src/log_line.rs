//! The format of a log line, and the cutting of output into lines. Heroku's, to the letter
//! (heroku-facts sections 1 and 6): `2022-05-05T11:15:40.779338+00:00 app[run.1]: text`.

use jiff::Timestamp;

/// The longest text of one line in bytes; a longer one is cut into pieces, each a line (Heroku's figure).
pub const MAX_TEXT: usize = 10_000;

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The app's own output, and what its users did through the API.
    App,
    /// The platform: dyno manager and router.
    Heroku,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Heroku => "heroku",
        }
    }
}

/// Appends one whole line, line feed included, to `out`. Of `text`, what would make more than a line of it is cut
/// off, and a line feed in it is a blank.
pub fn append(out: &mut Vec<u8>, at: Timestamp, source: Source, process: &str, text: &[u8]) {
    let at = at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00");
    out.extend(format!("{at} {}[{process}]: ", source.as_str()).as_bytes());
    let text = &text[..text.len().min(MAX_TEXT)];
    out.extend(
        text.iter()
            .map(|&byte| if byte == b'\n' { b' ' } else { byte }),
    );
    out.push(b'\n');
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Splitter {
    partial: Vec<u8>,
}

impl Splitter {
    /// Takes more bytes; calls `line` with each line that they complete, without its line feed or the
    /// carriage return that a terminal puts before it.
    pub fn feed(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = MAX_TEXT - self.partial.len();
            let window = &bytes[..bytes.len().min(room + 1)];
            match window.iter().position(|&byte| byte == b'\n') {
                Some(end) => {
                    let (text, rest) = (&bytes[..end], &bytes[end + 1..]);
                    bytes = rest;
                    if self.partial.is_empty() {
                        line(trim(text));
                    } else {
                        self.partial.extend_from_slice(text);
                        line(trim(&self.partial));
                        self.partial.clear();
                    }
                }
                None => {
                    let taken = bytes.len().min(room);
                    self.partial.extend_from_slice(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    // Only what follows says whether a full piece is a whole line.
                    if self.partial.len() == MAX_TEXT && !bytes.is_empty() {
                        line(&self.partial);
                        self.partial.clear();
                    }
                }
            }
        }
    }

    /// The output has ended: what is left is a line, too.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            line(trim(&self.partial));
            self.partial.clear();
        }
    }
}

fn trim(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\r").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(parts: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
        for part in parts {
            splitter.feed(part, |line| lines.push(line.to_vec()));
        }
        splitter.finish(|line| lines.push(line.to_vec()));
        lines
    }

    #[test]
    fn a_line_looks_like_herokus() {
        let at: Timestamp = "2022-05-05T11:15:40.779338Z".parse().unwrap();
        let mut out = Vec::new();
        append(&mut out, at, Source::App, "run.1", b"hello");
        assert_eq!(out, b"2022-05-05T11:15:40.779338+00:00 app[run.1]: hello\n");
    }

    #[test]
    fn a_command_of_many_lines_is_one_line_in_the_log() {
        let mut out = Vec::new();
        let long = "x\n".repeat(MAX_TEXT);
        append(
            &mut out,
            Timestamp::UNIX_EPOCH,
            Source::Heroku,
            "run.1",
            long.as_bytes(),
        );
        assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);
        assert!(out.len() < MAX_TEXT + 100);
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
        assert_eq!(
            split(&[&long, b"\n"])
                .iter()
                .map(Vec::len)
                .collect::<Vec<_>>(),
            [MAX_TEXT; 2]
        );
        let longer = vec![b'x'; MAX_TEXT + 1];
        let lengths: Vec<_> = split(&[&longer, b"\nz"]).iter().map(Vec::len).collect();
        assert_eq!(lengths, [MAX_TEXT, 1, 1]);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            cut in 0usize..200,
        ) {
            let cut = cut.min(text.len());
            prop_assert_eq!(split(&[&text[..cut], &text[cut..]]), split(&[&text]));
        }
    }
}
