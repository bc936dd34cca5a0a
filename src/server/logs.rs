//! An app's log for those who read it: `GET /apps/A/logs`.
//!
//! Where the reading begins is found by a worker, since it may have to look through all of a log. From there on the
//! loop reads, a piece at a time, whenever the client has taken the last one (`Application::more`). A reader that has
//! seen everything costs nothing until the kernel says that its log's folder has changed (`logs/changes.rs`). What one
//! reader is given is decided in `logs/tail.rs`.

mod changes;
mod form;
pub mod keeper;
mod output;
mod session;
mod start;
mod tail;
#[cfg(test)]
mod tests;

pub use output::read_output;
pub use session::{create_session, read_session, wants_events};

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::api::ApiError;
use crate::api::ask::Query;
use crate::api::logs::LogQuery;
use crate::log_file::Cursor;
use crate::server::api_loop::application::{Application, Ctx, More, Recipient, Reply, Ticket};
use crate::server::records::{Records, response, worker_error};
use crate::store::Store;
use crate::wire::http::Response;
use crate::wire::reactor::{Event, Token};
use changes::Changes;
pub use form::LogForm;
pub use start::{Found, LogStart};
use tail::{Tail, Until, Wanted};

/// How many may read logs at once; each takes a connection and two descriptors.
const MOST_READERS: usize = 200;

/// All readers of logs.
pub struct Logs {
    most: usize,
    tails: HashMap<Ticket, Tail>,
    changes: Changes,
    /// How often those hear something who wait for events.
    keep_alive_every: Duration,
    /// Its deadline is when they are to, if there are any.
    keep_alive: Option<Token>,
}

impl Logs {
    /// No client reads yet. Of `connections` that the server may have, half are left for other requests.
    pub fn new(connections: usize, keep_alive_every: Duration) -> Self {
        Self {
            most: MOST_READERS.min(connections / 2),
            tails: HashMap::new(),
            changes: Changes::new(),
            keep_alive_every,
            keep_alive: None,
        }
    }

    /// Refuses one reader too many.
    fn have_room(&self) -> Result<(), ApiError> {
        match self.tails.len() < self.most {
            true => Ok(()),
            false => Err(ApiError::too_many(format!(
                "{} read logs of this server already",
                self.most
            ))
            .hint("end one of them, then try again")),
        }
    }

    /// Begins to answer a reader, from what was found for it.
    pub fn begin<A: Application>(
        &mut self,
        reader: LogReader,
        found: io::Result<Found>,
        records: &Records,
        ctx: &mut Ctx<A>,
    ) -> Reply<A> {
        let (ticket, form) = (reader.to.ticket, reader.form);
        let tail = found
            .map_err(|error| worker_error(error.into()))
            .and_then(|found| reader.tail(found, records));
        match tail {
            Ok(tail) => {
                self.add(ticket, tail, ctx);
                let head = Response::new(200).with("Content-Type", form.content_type());
                Reply::Stream(match form.ends_with_connection() {
                    true => head.until_closed(),
                    false => head,
                })
            }
            Err(error) => Reply::Now(response(Err(error))),
        }
    }

    fn add<A: Application>(&mut self, ticket: Ticket, tail: Tail, ctx: &mut Ctx<A>) {
        if tail.waits_for_more() {
            // Before the first look, so that nothing falls between the two.
            self.changes
                .watch(&tail.app_id, &tail.folder, ctx.reactor());
            if tail.wants_keep_alive() && self.keep_alive.is_none() {
                let token = ctx.reactor().token();
                self.keep_alive = Some(token);
                let at = Instant::now() + self.keep_alive_every;
                ctx.reactor().set_deadline(token, at);
            }
        }
        self.tails.insert(ticket, tail);
    }

    /// The next piece for a reader.
    pub fn more<A: Application>(&mut self, ticket: Ticket, ctx: &mut Ctx<A>) -> More {
        let Some(tail) = self.tails.get_mut(&ticket) else {
            return More::End;
        };
        let more = tail.more();
        if more == More::End {
            self.leave(ticket, ctx);
        }
        more
    }

    /// A reader has gone, or has all it wanted.
    pub fn leave<A: Application>(&mut self, ticket: Ticket, ctx: &mut Ctx<A>) {
        if let Some(tail) = self.tails.remove(&ticket)
            && !self.tails.values().any(|other| other.app_id == tail.app_id)
        {
            self.changes.forget(&tail.app_id, ctx.reactor());
        }
    }

    /// Whether this event was that a log has changed. Those who wait for it are given what is new.
    pub fn came<A: Application>(&mut self, event: Event, ctx: &mut Ctx<A>) -> bool {
        if matches!(event, Event::Deadline(token) if self.keep_alive == Some(token)) {
            self.keep_alive(ctx);
            return true;
        }
        let Some(changed) = self.changes.came(event, ctx.reactor()) else {
            return false;
        };
        for (ticket, tail) in &mut self.tails {
            if tail.waiting && changed.concerns(&tail.app_id) {
                tail.waiting = false;
                ctx.resume(*ticket);
            }
        }
        true
    }

    /// Has something be said to those who wait.
    fn keep_alive<A: Application>(&mut self, ctx: &mut Ctx<A>) {
        let mut any = false;
        for (ticket, tail) in &mut self.tails {
            if tail.wants_keep_alive() {
                any = true;
                tail.keep_alive = tail.waiting;
                if tail.waiting {
                    ctx.resume(*ticket);
                }
            }
        }
        match (any, self.keep_alive) {
            (true, Some(token)) => {
                let at = Instant::now() + self.keep_alive_every;
                ctx.reactor().set_deadline(token, at);
            }
            _ => self.keep_alive = None,
        }
    }

    /// These dynos have ended, and their last lines are in the log.
    pub fn dynos_ended<A: Application>(&mut self, dynos: &[String], ctx: &mut Ctx<A>) {
        for (ticket, tail) in &mut self.tails {
            if let Until::DynoEnds { id, ended } = &mut tail.until
                && dynos.contains(id)
            {
                *ended = true;
                ctx.resume(*ticket);
            }
        }
    }

    /// These tokens are good no more: their readers are told so, and given the end.
    pub fn tokens_ended<A: Application>(&mut self, tokens: &[String], ctx: &mut Ctx<A>) {
        for (ticket, tail) in &mut self.tails {
            if tail.to.came_with(tokens) {
                tail.refused = true;
                ctx.resume(*ticket);
            }
        }
    }

    /// An app is no more: its readers are given what is left, and then the end.
    pub fn app_destroyed<A: Application>(&mut self, app_id: &str, ctx: &mut Ctx<A>) {
        for (ticket, tail) in &mut self.tails {
            if tail.app_id == app_id {
                tail.destroyed = true;
                ctx.resume(*ticket);
            }
        }
    }
}

/// What a target's parameters ask for.
///
/// # Errors
/// When one is not valid.
pub fn read_query(query: &Query) -> Result<LogQuery, ApiError> {
    LogQuery::read(query.pairs(), Timestamp::now())
}

/// A place in a log, as the parameter `name` has it in a request.
fn place(name: &str, text: &str) -> Result<Cursor, ApiError> {
    text.parse()
        .map_err(|_| ApiError::invalid(format!("`{name}={text}` is not a place in a log")))
}

/// A request for a log that may be answered.
pub enum Reading {
    /// A reader that knows where it begins.
    Begins(LogReader, Found),
    /// A reader for which that must be looked for in the log, which is work for a worker.
    Searches(LogReader, LogStart),
    /// The reader has everything already, or there is nothing to read: the whole response.
    Ended(Response),
}

/// `GET /apps/A/logs`
///
/// # Errors
/// When the dyno is not known, the query is not valid, or too many clients read logs already.
pub fn read(
    records: &Records,
    logs: &Logs,
    to: Recipient,
    app_id: String,
    query: LogQuery,
    form: LogForm,
) -> Result<Reading, ApiError> {
    let cursor = query.cursor.as_deref();
    let cursor = cursor.map(|text| place("cursor", text)).transpose()?;
    let dyno = match (query.until_ended, &query.dyno) {
        (true, Some(dyno)) => Some(records.store.dyno(&app_id, dyno)?),
        _ => None,
    };
    let folder = records.log_folder(&app_id);
    logs.have_room()?;
    let start = LogStart::of(&query, cursor, dyno.as_ref().map(|dyno| dyno.created_at));
    let reader = LogReader {
        to,
        query,
        app_id,
        dyno_id: dyno.map(|dyno| dyno.id),
        folder,
        form,
    };
    Ok(match start.known() {
        // A client that goes on after its server was killed need not wait for a worker.
        Some(found) if reader.waits() => Reading::Begins(reader, found),
        _ => Reading::Searches(reader, start),
    })
}

/// A reader that is about to begin.
pub struct LogReader {
    to: Recipient,
    query: LogQuery,
    app_id: String,
    dyno_id: Option<String>,
    folder: PathBuf,
    form: LogForm,
}

impl LogReader {
    /// Looks in the log for where it begins. May take long.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn find(&self, start: &LogStart) -> io::Result<Found> {
        start.find(&self.folder, &self.query.filter())
    }

    /// Whether it waits for what is still to be written.
    fn waits(&self) -> bool {
        self.query.tail || self.dyno_id.is_some()
    }

    /// The state of the app, of the dyno and of the token is looked at only now: a change from here on is told.
    fn tail(self, found: Found, records: &Records) -> Result<Tail, ApiError> {
        records.store.app(&self.app_id)?;
        let token = self.to.token.as_deref();
        records.access.check_still(token, Timestamp::now())?;
        let until = match self.dyno_id {
            Some(id) => Until::DynoEnds {
                ended: has_ended(&records.store, &self.app_id, &id),
                id,
            },
            None if self.query.tail => Until::Destroyed,
            None => Until::Reached {
                end: found.end,
                lines: found.lines,
            },
        };
        let filter = self.query.filter();
        let wanted = Wanted {
            to: self.to,
            app_id: self.app_id,
            folder: self.folder,
            filter,
            until,
            form: self.form,
        };
        Tail::open(wanted, found.begin).map_err(|error| worker_error(error.into()))
    }
}

/// Whether a dyno has ended. One that is not remembered any more has ended, too.
fn has_ended(store: &Store, app_id: &str, dyno_id: &str) -> bool {
    store
        .dyno(app_id, dyno_id)
        .map_or(true, |dyno| dyno.ended.is_some())
}
