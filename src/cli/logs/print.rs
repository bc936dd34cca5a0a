//! Prints log lines: unchanged into a pipe or file, with colours on a terminal, or as JSON.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

use super::paint::Painter;
use crate::cli::output::not_printed;
use crate::cli::terminal;
use crate::kernel::sys::signal::unless_ignored;
use crate::model::log_line;

/// How many bytes are formatted before they are written.
const BATCH: usize = 16 * 1024;

/// How long Ctrl-C waits for the line that is being written.
const LAST_LINE: Duration = Duration::from_millis(100);

/// The exit code after Ctrl-C, as of a shell.
const INTERRUPTED: i32 = 130;

/// Prints log lines: see the [module](self).
#[derive(Debug)]
pub struct Printer {
    form: Form,
    out: String,
    /// Held while lines are written.
    writing: Arc<Mutex<()>>,
}

#[derive(Debug)]
enum Form {
    /// Every byte unchanged.
    Plain,
    Painted(Painter),
    Json,
}

impl Printer {
    /// A printer for standard output. From here on Ctrl-C ends the process silently between two lines, so that the
    /// terminal is not left in a colour.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn of_process(json: bool) -> io::Result<Self> {
        let terminal = terminal::is_terminal(rustix::stdio::stdout());
        let form = match (json, terminal) {
            (true, _) => Form::Json,
            (false, true) => Form::Painted(Painter::new(terminal::wants_colors())),
            (false, false) => Form::Plain,
        };
        let writing = Arc::new(Mutex::new(()));
        end_at_interrupt(Arc::clone(&writing))?;
        Ok(Self {
            form,
            out: String::new(),
            writing,
        })
    }

    /// Prints whole lines.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn print(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Form::Plain = self.form {
            return self.write(lines);
        }
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            match &mut self.form {
                Form::Painted(painter) => painter.paint(line, &mut self.out),
                Form::Json | Form::Plain => put_json(line, &mut self.out)?,
            }
            if self.out.len() >= BATCH {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        let written = self.write(out.as_bytes());
        self.out = out;
        self.out.clear();
        written
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
        written.map_err(not_printed)
    }
}

/// Ends the process at SIGINT once no line is being written, or after [`LAST_LINE`].
fn end_at_interrupt(writing: Arc<Mutex<()>>) -> io::Result<()> {
    let mut signals = Signals::new(unless_ignored([SIGINT]))?;
    let wait = move || {
        if signals.forever().next().is_some() {
            let give_up = Instant::now() + LAST_LINE;
            let mut written = writing.try_lock();
            while written.is_err() && Instant::now() < give_up {
                thread::sleep(Duration::from_millis(1));
                written = writing.try_lock();
            }
            std::process::exit(INTERRUPTED);
        }
    };
    thread::Builder::new()
        .name("interrupt".to_owned())
        .spawn(wait)?;
    Ok(())
}

/// A line as JSON. A line without the usual format is all text.
#[derive(Debug, Serialize)]
struct JsonLine<'a> {
    at: Option<&'a str>,
    source: Option<&'static str>,
    dyno: Option<&'a str>,
    text: &'a str,
}

fn put_json(line: &[u8], out: &mut String) -> io::Result<()> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let parts = log_line::parse(line);
    let text = parts.map_or(line, |parts| parts.text);
    let json = serde_json::to_string(&JsonLine {
        at: parts.and_then(|parts| str::from_utf8(parts.time).ok()),
        source: parts.map(|parts| parts.source.as_str()),
        dyno: parts.and_then(|parts| str::from_utf8(parts.process).ok()),
        text: &String::from_utf8_lossy(text),
    })?;
    // JSON does not escape all control characters.
    for c in json.chars() {
        match terminal::is_obeyed(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_object() {
        let json = |line: &[u8]| {
            let mut out = String::new();
            put_json(line, &mut out).unwrap();
            out
        };
        assert_eq!(
            json(b"2022-05-05T11:15:40.779338+00:00 app[run.1]: \"\x1b\xff\xc2\x9b\n"),
            "{\"at\":\"2022-05-05T11:15:40.779338+00:00\",\"source\":\"app\",\"dyno\":\"run.1\",\
             \"text\":\"\\\"\\u001b\u{fffd}\\u009b\"}\n"
        );
        assert_eq!(
            json(b"torn"),
            "{\"at\":null,\"source\":null,\"dyno\":null,\"text\":\"torn\"}\n"
        );
    }
}
