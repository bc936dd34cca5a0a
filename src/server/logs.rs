//! An app's log for those who read it: `GET /apps/A/logs`.
//!
//! Where the reading begins is found by a worker, since it may have to look through all of a log. From there on the
//! loop reads, a piece at a time, whenever the client has taken the last one (`Application::more`). A reader that has
//! seen everything costs nothing until the kernel says that its log's folder has changed (`logs/changes.rs`). What one
//! reader is given is decided in `logs/tail.rs`.

mod changes;
mod start;
mod tail;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use super::application::{Application, Ctx, More, Reply, Request, Ticket};
use super::host::{Host, response, worker_error};
use super::routes::parameters;
use crate::api::ApiError;
use crate::api::logs::LogQuery;
use crate::http::Response;
use crate::log_file::Cursor;
use crate::reactor::Event;
use crate::store::Store;
use changes::Changes;
use start::{Found, Start};
use tail::{Tail, Until};

/// How many may read logs at once; each takes a connection and two descriptors.
const MOST_READERS: usize = 200;

/// All readers of logs.
pub struct Logs {
    most: usize,
    tails: HashMap<Ticket, Tail>,
    changes: Changes,
}

impl Logs {
    /// Nobody reads yet. Of `connections` that the server may have, half are left to those who want something else.
    pub fn new(connections: usize) -> Self {
        Self {
            most: MOST_READERS.min(connections / 2),
            tails: HashMap::new(),
            changes: Changes::new(),
        }
    }

    fn begin<A: Application>(&mut self, ticket: Ticket, tail: Tail, ctx: &mut Ctx<A>) {
        if tail.waits_for_more() {
            // Before the first look, so that nothing falls between the two.
            self.changes
                .watch(&tail.app_id, &tail.folder, ctx.reactor());
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

/// `GET /apps/A/logs`
///
/// # Errors
/// When the query makes no sense, the app or the dyno is not known, or too many read logs already.
pub fn read<A>(
    app: &mut A,
    request: &Request,
    name: &str,
    ctx: &mut Ctx<A>,
) -> Result<Reply<A>, ApiError>
where
    A: Application + AsMut<Host> + AsMut<Logs>,
{
    let parameters: Vec<_> = parameters(&request.head).collect();
    let parameters = parameters.iter().map(|(name, value)| (*name, &**value));
    let query = LogQuery::read(parameters, Timestamp::now())?;
    let cursor =
        match &query.cursor {
            Some(text) => Some(text.parse::<Cursor>().map_err(|_| {
                ApiError::invalid(format!("`cursor={text}` is not a place in a log"))
            })?),
            None => None,
        };
    let host: &mut Host = app.as_mut();
    let app_id = host.store.app(name)?.id;
    let dyno = match (query.until_ended, &query.dyno) {
        (true, Some(dyno)) => Some(host.store.dyno(&app_id, dyno)?),
        _ => None,
    };
    let folder = host.log_folder(&app_id);
    let logs: &mut Logs = app.as_mut();
    if logs.tails.len() >= logs.most {
        let message = format!("{} read logs of this server already", logs.most);
        return Err(ApiError::too_many(message).hint("end one of them, then try again"));
    }
    let start = Start::of(&query, cursor, dyno.as_ref().map(|dyno| dyno.created_at));
    let reader = Reader {
        ticket: request.ticket,
        query,
        app_id,
        dyno_id: dyno.map(|dyno| dyno.id),
        folder,
    };
    Ok(match start.known() {
        // Whoever goes on after its server was killed need not wait for a worker.
        Some(found) if reader.waits() => reader.begin(Ok(found), app, ctx),
        _ => Reply::worker(move |_| {
            let found = start.find(&reader.folder, &reader.query.filter());
            move |app: &mut A, ctx: &mut Ctx<A>| reader.begin(found, app, ctx)
        }),
    })
}

/// Who is about to read, and what.
struct Reader {
    ticket: Ticket,
    query: LogQuery,
    app_id: String,
    dyno_id: Option<String>,
    folder: PathBuf,
}

impl Reader {
    /// Whether it waits for what is still to be written.
    fn waits(&self) -> bool {
        self.query.tail || self.dyno_id.is_some()
    }

    fn begin<A>(self, found: io::Result<Found>, app: &mut A, ctx: &mut Ctx<A>) -> Reply<A>
    where
        A: Application + AsMut<Host> + AsMut<Logs>,
    {
        let ticket = self.ticket;
        let tail = found
            .map_err(|error| worker_error(error.into()))
            .and_then(|found| self.tail(found, app.as_mut()));
        match tail {
            Ok(tail) => {
                AsMut::<Logs>::as_mut(app).begin(ticket, tail, ctx);
                let head = Response::new(200).with("Content-Type", "application/octet-stream");
                Reply::Stream(head)
            }
            Err(error) => Reply::Now(response(Err(error))),
        }
    }

    /// The state of the app and the dyno is looked at only now: a change from here on is told.
    fn tail(self, found: Found, host: &mut Host) -> Result<Tail, ApiError> {
        host.store.app(&self.app_id)?;
        let until = match self.dyno_id {
            Some(id) => Until::DynoEnds {
                ended: has_ended(&host.store, &self.app_id, &id),
                id,
            },
            None if self.query.tail => Until::Destroyed,
            None => Until::Reached {
                end: found.end,
                lines: found.lines,
            },
        };
        let filter = self.query.filter();
        Tail::open(self.app_id, self.folder, found.begin, filter, until)
            .map_err(|error| worker_error(error.into()))
    }
}

/// One that is not remembered any more has ended, too.
fn has_ended(store: &Store, app_id: &str, dyno_id: &str) -> bool {
    store
        .dyno(app_id, dyno_id)
        .map_or(true, |dyno| dyno.ended.is_some())
}
