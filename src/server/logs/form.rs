//! In what form a reader is given lines.

use std::time::Duration;

use crate::api::logs::{EVENT_STREAM, put_record};
use crate::log_file::Cursor;
use crate::model::log_line;

/// How soon a client may come again, when it has got all that it asked for. Heroku's stays for just that time.
const AT_ONCE: Duration = Duration::from_millis(1);

/// How soon a client may come again that has lost a tail: by then the next server should be there, since Heroku's client
/// gives up if it is not. Its own default, too.
const AFTER_RESTART: Duration = Duration::from_secs(3);

/// What says nothing, so that neither end takes the other for dead.
pub const KEEP_ALIVE: &[u8] = b": ping\n\n";

/// See the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForm {
    /// [Records](crate::api::logs), each with the place behind it.
    Records,
    /// Server-sent events (HTML Standard, section 9.2): a line each, its id the place behind it.
    Events {
        /// More will come when the log grows.
        tail: bool,
    },
    /// As they are in the log.
    Lines,
    /// Their texts alone.
    Texts,
}

impl LogForm {
    /// For `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Records => "application/octet-stream",
            Self::Events { .. } => EVENT_STREAM,
            Self::Lines | Self::Texts => "text/plain; charset=utf-8",
        }
    }

    /// Whether the end of the connection is the end of the body, and nothing else is. A client of events takes a body
    /// that breaks off for an error; this one does not even when the server is killed.
    pub fn ends_with_connection(self) -> bool {
        matches!(self, Self::Events { .. })
    }

    /// What comes first, before it was looked into the log. Empty if that is nothing.
    pub fn greeting(self, begin: Cursor) -> Vec<u8> {
        match self {
            Self::Records => self.record(begin, &[]),
            Self::Events { tail } => {
                let retry = if tail { AFTER_RESTART } else { AT_ONCE };
                format!("retry: {}\n\n", retry.as_millis()).into_bytes()
            }
            Self::Lines | Self::Texts => Vec::new(),
        }
    }

    /// Appends a whole line of the log, behind which it goes on at `after`.
    pub fn put(self, line: &[u8], after: Cursor, out: &mut Vec<u8>) {
        match self {
            Self::Records | Self::Lines => out.extend_from_slice(line),
            Self::Texts => {
                let text = log_line::parse(line).map_or(line, |line| line.text);
                out.extend_from_slice(text.strip_suffix(b"\n").unwrap_or(text));
                out.push(b'\n');
            }
            Self::Events { .. } => {
                out.extend_from_slice(format!("id: {after}\n").as_bytes());
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                // To a client of events a carriage return ends a line, too.
                for piece in line
                    .strip_suffix(b"\r")
                    .unwrap_or(line)
                    .split(|&byte| byte == b'\r')
                {
                    out.extend_from_slice(b"data: ");
                    out.extend_from_slice(piece);
                    out.push(b'\n');
                }
                out.push(b'\n');
            }
        }
    }

    /// What was [put](Self::put) together, as a piece that ends at `after`.
    pub fn piece(self, after: Cursor, put: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Records => self.record(after, &put),
            _ => put,
        }
    }

    /// What tells how far it was read, where nothing was found. Empty if there is no way to say so.
    pub fn reminder(self, at: Cursor) -> Vec<u8> {
        match self {
            Self::Records => self.record(at, &[]),
            _ => Vec::new(),
        }
    }

    fn record(self, after: Cursor, lines: &[u8]) -> Vec<u8> {
        let mut record = Vec::with_capacity(lines.len() + 32);
        put_record(after, lines, &mut record);
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Cursor = Cursor {
        segment: 3,
        offset: 70,
    };

    fn put(form: LogForm, line: &[u8]) -> String {
        let mut out = Vec::new();
        form.put(line, AFTER, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_a_line_and_the_place_behind_it() {
        let events = LogForm::Events { tail: true };
        assert_eq!(put(events, b"a b\n"), "id: 3:70\ndata: a b\n\n");
        // What would end the field early, and its rest be lost.
        assert_eq!(
            put(events, b"10%\r20%\r\n"),
            "id: 3:70\ndata: 10%\ndata: 20%\n\n"
        );
        assert_eq!(events.greeting(AFTER), b"retry: 3000\n\n");
        let now = LogForm::Events { tail: false };
        assert_eq!(now.greeting(AFTER), b"retry: 1\n\n");
    }

    #[test]
    fn a_text_is_a_line_without_who_wrote_it_and_when() {
        let line = b"2022-05-05T11:15:40.779338+00:00 app[release.1]: migrated\n";
        assert_eq!(put(LogForm::Texts, line), "migrated\n");
        assert_eq!(put(LogForm::Texts, b"torn\n"), "torn\n");
        assert_eq!(put(LogForm::Lines, line).as_bytes(), line);
    }
}
