//! Prints the log lines of the last dyno of a name, from its start to its crash; the reason may be in its first or its
//! last lines.

use anyhow::Result;

use super::follow;
use super::print::Printer;
use crate::api::logs::LogQuery;
use crate::cli::context::Context;
use crate::error::tell;
use crate::model::log_line::{self, Line, LogSource, Story};

/// How many lines are searched for the start.
const SEARCHED: u32 = 2_000;

/// How many of the first and of the last lines are shown, if there are more than both together.
const SHOWN: (usize, usize) = (20, 20);

/// Prints what the last dyno of this name has written to the log.
///
/// # Errors
/// When the app was destroyed, or there is no server.
pub fn print_last(context: &mut Context, app: &str, dyno: &str) -> Result<()> {
    let query = LogQuery {
        dyno: Some(dyno.to_owned()),
        lines: Some(SEARCHED),
        ..LogQuery::default()
    };
    let mut log = Vec::new();
    follow::read(context, app, query, &mut |lines| {
        log.extend_from_slice(lines);
        Ok(())
    })?;
    let mut printer = Printer::of_process(false)?;
    let (first, left_out, last) = parts(&log);
    printer.print(&first.concat())?;
    if left_out > 0 {
        tell!("({left_out} lines more: `dyno logs -a {app} -d {dyno} -n {SEARCHED}`)");
    }
    Ok(printer.print(&last.concat())?)
}

/// The first and the last lines since the last start, and how many are between them. An earlier dyno of the name had
/// ended when the last one started, so all of them are its own.
fn parts(log: &[u8]) -> (Vec<&[u8]>, usize, Vec<&[u8]>) {
    let lines: Vec<_> = log.split_inclusive(|byte| *byte == b'\n').collect();
    let is_start = |line: Line<'_>| {
        let text = str::from_utf8(line.text).unwrap_or_default();
        line.source == LogSource::Heroku && matches!(Story::parse(text), Story::Starting { .. })
    };
    let starts = |line: &&[u8]| log_line::parse(line).is_some_and(is_start);
    let own = match lines.iter().rposition(starts) {
        Some(start) => &lines[start..],
        // If the start is not among them, the last lines are shown.
        None => &lines[lines.len().saturating_sub(SHOWN.1)..],
    };
    match own.len().checked_sub(SHOWN.0 + SHOWN.1) {
        None | Some(0) => (own.to_vec(), 0, Vec::new()),
        Some(left_out) => {
            let last = &own[own.len() - SHOWN.1..];
            (own[..SHOWN.0].to_vec(), left_out, last.to_vec())
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn log(lines: &[(LogSource, String)]) -> Vec<u8> {
        let mut log = Vec::new();
        for (source, text) in lines {
            log_line::append(
                &mut log,
                Timestamp::UNIX_EPOCH,
                *source,
                "web.1",
                text.as_bytes(),
            );
        }
        log
    }

    fn texts<'a>(lines: &[&'a [u8]]) -> Vec<&'a str> {
        let text = |line: &&'a [u8]| str::from_utf8(log_line::parse(line).unwrap().text).unwrap();
        lines.iter().map(text).collect()
    }

    #[test]
    fn it_is_what_the_last_dyno_of_the_name_said() {
        let start = (
            LogSource::Heroku,
            "Starting process with command `x`".to_owned(),
        );
        let app = |text: &str| (LogSource::App, text.to_owned());
        let log = log(&[
            app("farewell"),
            start.clone(),
            app("first try"),
            start,
            app("Starting process with command of its own"),
            app("reason"),
        ]);
        let (first, left_out, last) = parts(&log);
        let start = "Starting process with command `x`";
        let own = "Starting process with command of its own";
        assert_eq!(texts(&first), [start, own, "reason"]);
        assert_eq!((left_out, last.len()), (0, 0));
    }

    #[test]
    fn of_a_long_story_the_beginning_and_the_end_are_shown() {
        let lines: Vec<_> = (0..100)
            .map(|n| match n {
                0 => (
                    LogSource::Heroku,
                    "Starting process with command `x`".into(),
                ),
                n => (LogSource::App, format!("line {n}")),
            })
            .collect();
        let log = log(&lines);
        let (first, left_out, last) = parts(&log);
        assert_eq!((first.len(), left_out, last.len()), (20, 60, 20));
        assert_eq!(texts(&first)[1], "line 1");
        assert_eq!(texts(&last)[19], "line 99");
        // Without its start there is only an end.
        let after: Vec<u8> = log
            .split_inclusive(|byte| *byte == b'\n')
            .skip(1)
            .collect::<Vec<_>>()
            .concat();
        let (first, left_out, _) = parts(&after);
        assert_eq!((texts(&first)[0], left_out), ("line 80", 0));
        assert!(parts(b"").0.is_empty());
    }
}
