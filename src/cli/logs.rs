//! `dyno logs`: the log of an app, as far as it goes or as it grows.

pub(super) mod follow;
mod last;
mod paint;
mod print;

use anyhow::Result;
use clap::Args;
use clap::builder::PossibleValuesParser;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::context::{Context, app_path};
use crate::api::dyno::Dyno;
use crate::api::formation::Formation;
use crate::api::logs::LogQuery;
use crate::error::{UserError, shown, tell};
use crate::model::log_line::{self, LogSource};
use crate::model::time_span;
pub(super) use last::print_last;
pub(super) use paint::show;
use print::Printer;

/// Show the app's log.
#[derive(Debug, Args)]
pub struct Logs {
    /// How many of the last lines, any number of them [default: 100, or all with --since]
    #[arg(short, long, value_name = "N")]
    num: Option<u32>,
    /// Go on with the lines that come, until Ctrl-C
    #[arg(short, long)]
    tail: bool,
    /// Only lines of this process type, or dyno
    #[arg(
        short,
        long,
        alias = "ps",
        value_name = "TYPE",
        conflicts_with = "dyno_name"
    )]
    process_type: Option<String>,
    /// Only lines of this dyno, or of all of a type; `api` and `router` are names, too
    #[arg(short, long, alias = "dyno", value_name = "NAME")]
    dyno_name: Option<String>,
    /// Only lines of the app, or of the platform
    #[arg(short, long, value_name = "SOURCE", value_parser = PossibleValuesParser::new(["app", "heroku"]))]
    source: Option<String>,
    /// Only lines since then: `10m`, `2h`, `3d`, or a time such as 2026-11-23T01:49:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// One JSON object per line: at, source, dyno, text
    #[arg(long)]
    json: bool,
}

impl Logs {
    /// Prints the lines.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let query = LogQuery {
            lines: self.num,
            tail: self.tail,
            source: self.source.and_then(|source| source.parse().ok()),
            dyno: self.process_type.or(self.dyno_name),
            since: match &self.since {
                Some(text) => Some(since(text, Timestamp::now())?),
                None => None,
            },
            ..LogQuery::default()
        };
        let app = context.app()?;
        let unknown = match query.dyno.clone() {
            Some(name) if !is_known(&name, &app, context)? => Some(name),
            _ => None,
        };
        let unknown = unknown.map(|name| unknown_to(&name, &app));
        if let (Some(error), true) = (&unknown, self.tail) {
            tell!("warning: {error}; waiting for the first line");
        }
        let (mut printer, mut printed) = (Printer::of_process(self.json)?, false);
        let tail = self.tail;
        follow::read(context, &app, query, &mut |lines| {
            printed |= !lines.is_empty();
            printer.print(lines)
        })?;
        // What is forgotten may have left lines.
        match unknown {
            Some(error) if !printed && !tail => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Whether a process type or a dyno of this name is the app's, or a name of the platform's.
fn is_known(name: &str, app: &str, context: &mut Context) -> Result<bool> {
    if ["api", "router", "run", "release"].contains(&name) {
        return Ok(true);
    }
    let client = context.client()?;
    let formation: Vec<Formation> = client.get_list(&app_path(app, "/formation"))?;
    if formation.iter().any(|entry| entry.r#type == name) {
        return Ok(true);
    }
    let dynos: Vec<Dyno> = client.get_list(&app_path(app, "/dynos?ended=true"))?;
    Ok(dynos
        .iter()
        .any(|dyno| dyno.name == name || dyno.r#type == name))
}

fn unknown_to(name: &str, app: &str) -> UserError {
    let what = match name.contains('.') {
        true => "dyno",
        false => "process type",
    };
    let name = shown(name.as_bytes(), 60);
    UserError::new(format!(
        "`{app}` has no {what} `{name}`, and no line of one in its log"
    ))
    .hint(format!(
        "`dyno ps --all -a {app}` lists the dynos, `dyno ps:scale -a {app}` the process types"
    ))
}

/// Prints what a dyno has written to the log and will write, from its first line to its last, and returns when
/// it has ended. It goes on if the server is killed meanwhile.
///
/// # Errors
/// When there is no such dyno, when the app is destroyed, or when no server can be started any more.
pub fn follow_dyno(context: &mut Context, dyno: &Dyno) -> Result<()> {
    let query = LogQuery {
        dyno: Some(dyno.name.clone()),
        until_ended: true,
        ..LogQuery::default()
    };
    let (app, mut printer) = (&dyno.app, Printer::of_process(false)?);
    follow::read_of(context, &app.id, &app.name, query, &mut |lines| {
        printer.print(lines)
    })
}

/// Tells on standard error what a dyno prints, without what the log says of each line, until it has ended.
///
/// # Errors
/// As [`follow_dyno`].
pub fn follow_output(context: &mut Context, dyno: &Dyno) -> Result<()> {
    let query = LogQuery {
        source: Some(LogSource::App),
        dyno: Some(dyno.name.clone()),
        until_ended: true,
        ..LogQuery::default()
    };
    let app = &dyno.app;
    follow::read_of(context, &app.id, &app.name, query, &mut |lines| {
        for line in lines.split(|byte| *byte == b'\n') {
            if let Some(line) = log_line::parse(line) {
                let mut text = String::new();
                show(line.text, &mut text);
                tell!("{text}");
            }
        }
        Ok(())
    })
}

/// The time that a person means: so long ago, an instant, or a time of the local clock.
fn since(text: &str, now: Timestamp) -> Result<Timestamp, UserError> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    if let Ok(local) = text.parse::<DateTime>()
        && let Ok(zoned) = local.to_zoned(TimeZone::system())
    {
        return Ok(zoned.timestamp());
    }
    time_span::parse(text)
        .ok()
        .and_then(|span| SignedDuration::try_from(span).ok())
        .and_then(|span| now.checked_sub(span).ok())
        .ok_or_else(|| {
            UserError::new(format!("`--since {text}` is not valid")).hint(
                "it takes a span like `10m`, `2h`, `3d`, or a time like `2026-11-23T01:49:00Z`",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_span_an_instant_or_a_local_time() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        for (text, time) in [
            ("10m", "2026-11-23T11:50:00Z"),
            ("1h30m", "2026-11-23T10:30:00Z"),
            ("3d", "2026-11-20T12:00:00Z"),
            ("90", "2026-11-23T11:58:30Z"),
            ("2026-11-23T01:49:12.5+02:00", "2026-11-22T23:49:12.5Z"),
        ] {
            assert_eq!(since(text, now).unwrap(), time.parse().unwrap(), "{text}");
        }
        let noon = DateTime::constant(2026, 11, 23, 12, 0, 0, 0);
        let noon = noon.to_zoned(TimeZone::system()).unwrap().timestamp();
        assert_eq!(since("2026-11-23 12:00", now).unwrap(), noon);
        for text in ["", "soon", "10", "-5m", "2026-13-01", "99999999d"] {
            let found = since(text, now);
            assert_eq!(found.is_err(), text != "10", "{text}: {found:?}");
        }
    }
}
