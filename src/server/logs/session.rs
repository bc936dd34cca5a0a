//! Log sessions, Heroku's way to a log: `POST /apps/A/log-sessions` gives an address that needs no token for some time, and
//! a client that asks there is given the lines.
//!
//! Where the session begins, and where it ends unless it is a tail, is found once, and is in the address. So it means the
//! same however often it is asked for, by whatever server: a client that lost its connection before the first line
//! begins there again, and one that has seen a line says which was the last (`Last-Event-ID`).

use std::time::Duration;

use jiff::Timestamp;

use super::form::LogForm;
use super::start::{Found, LogStart};
use super::{LogReader, Logs, Reading, place, read_query};
use crate::api::ApiError;
use crate::api::ask::Query;
use crate::api::log_session::{CreateLogSession, LogSession};
use crate::api::logs::{EVENT_STREAM, LogQuery};
use crate::api::target;
use crate::log_file::Cursor;
use crate::server::api_loop::application::Recipient;
use crate::server::records::{Asker, Outcome, Records, Slow, worker_error};
use crate::wire::http::Response;

/// How long the address of a session is good.
const GOOD_FOR: Duration = Duration::from_secs(5 * 60);

/// How long it is if it is a tail, whose client comes back to it after each break.
const TAIL_GOOD_FOR: Duration = Duration::from_secs(24 * 3600);

/// `POST /apps/A/log-sessions`
///
/// # Errors
/// When the request is not valid, or the app is not known.
pub fn create_session(
    records: &Records,
    app: &str,
    body: &[u8],
    asker: Asker,
) -> Result<Slow, ApiError> {
    let CreateLogSession(query) = CreateLogSession::parse(body)?;
    let app_id = records.store.app(app)?.id;
    let folder = records.log_folder(&app_id);
    Ok(Slow::new(move |_| {
        let found = LogStart::of(&query, None, None).find(&folder, &query.filter());
        move |records: &mut Records| {
            let answer = found
                .map_err(|error| worker_error(error.into()))
                .map(|found| {
                    let target = address(&app_id, &query, &found);
                    let now = Timestamp::now();
                    let good_for = if query.tail { TAIL_GOOD_FOR } else { GOOD_FOR };
                    let url = records.signed_url(&asker, "GET", &target, good_for);
                    Response::json(201, &LogSession::new(url, now))
                });
            Outcome::Answer(answer)
        }
    }))
}

/// The target of a session that has been found to begin and end there.
fn address(app_id: &str, query: &LogQuery, found: &Found) -> String {
    let query = LogQuery {
        cursor: Some(found.begin.to_string()),
        since: None,
        lines: found.lines.filter(|_| !query.tail),
        ..query.clone()
    };
    let mut parameters: Vec<_> = query.parameters();
    if !query.tail {
        parameters.push(("end", found.end.to_string()));
    }
    let parameters: Vec<_> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", target::encode(value)))
        .collect();
    format!("/apps/{app_id}/log-stream?{}", parameters.join("&"))
}

/// `GET /apps/A/log-stream`: the lines of a session. `last`: the last place that the client has seen (`Last-Event-ID`);
/// `events`: whether it wants events.
///
/// # Errors
/// When it is the address of no session, the app is not there any more, or too many read logs already.
pub fn read_session(
    records: &Records,
    logs: &Logs,
    to: Recipient,
    app: &str,
    parameters: &Query,
    last: Option<&str>,
    events: bool,
) -> Result<Reading, ApiError> {
    let query = read_query(parameters)?;
    let (begin, end) = match (&query.cursor, parameters.get("end"), query.tail) {
        (Some(begin), None, true) => (place("cursor", begin)?, Cursor::default()),
        (Some(begin), Some(end), false) => (place("cursor", begin)?, place("end", end)?),
        _ => return Err(ApiError::invalid("this is the address of no log session")),
    };
    let last: Option<Cursor> = last.and_then(|last| last.parse().ok());
    let found = match last {
        // By the standard, this has the client not come again. (One that has seen no line is given an empty stream.)
        Some(last) if events && !query.tail && last >= end => {
            return Ok(Reading::Ended(Response::new(204)));
        }
        Some(last) => Found {
            begin: last.max(begin),
            end,
            lines: None,
        },
        None => Found {
            begin,
            end,
            lines: query.lines,
        },
    };
    let app_id = records.store.app(app)?.id;
    logs.have_room()?;
    let reader = LogReader {
        to,
        folder: records.log_folder(&app_id),
        app_id,
        dyno_id: None,
        form: match events {
            true => LogForm::Events { tail: query.tail },
            false => LogForm::Lines,
        },
        query,
    };
    Ok(Reading::Begins(reader, found))
}

/// Whether an `Accept` asks for events.
pub fn wants_events(accept: Option<&str>) -> bool {
    accept.is_some_and(|accept| accept.contains(EVENT_STREAM))
}
