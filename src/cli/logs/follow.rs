//! Reads a log over the API, and goes on where it broke off when the server was killed or replaced.

use std::io;

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::api::app::App;
use crate::api::logs::{LogQuery, Record};
use crate::api::target;
use crate::cli::client::patience::{COMES_BACK, LOG};
use crate::cli::client::{Streamed, is_lost};
use crate::cli::context::{Context, app_path};
use crate::error::{UserError, tell};

/// How a stream ended.
enum End {
    /// The server has no more.
    Complete,
    /// The server is gone.
    Lost(anyhow::Error),
}

/// A function that takes whole lines.
pub type Take<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// Passes the lines that `query` selects to `take`.
///
/// # Errors
/// When there is no such app, or it was destroyed; when there is no server; when the output cannot be written.
pub fn read(context: &mut Context, app: &str, query: LogQuery, take: Take<'_>) -> Result<()> {
    // By its id, since another app may get its name.
    let app_id = context.client()?.get::<App>(&app_path(app, ""))?.id;
    read_of(context, &app_id, app, query, take)
}

/// As [`read`], for an app whose id is known.
///
/// # Errors
/// As [`read`].
pub fn read_of(
    context: &mut Context,
    app_id: &str,
    app: &str,
    mut query: LogQuery,
    take: Take<'_>,
) -> Result<()> {
    let mut stream = go_on(context, app_id, &query)?;
    loop {
        match pass_on(&mut stream, &mut query.cursor, take)? {
            End::Complete if !query.tail => return Ok(()),
            End::Complete => {
                still_there(context, app_id, app)?;
                // The server could not read on at the moment.
                LOG.rest();
            }
            End::Lost(error) if !query.tail && !query.until_ended => return Err(error),
            End::Lost(_) => {}
        }
        stream = match go_on(context, app_id, &query) {
            Ok(stream) => stream,
            Err(error) => {
                still_there(context, app_id, app)?;
                return Err(error);
            }
        };
    }
}

fn open(context: &mut Context, app_id: &str, query: &LogQuery) -> Result<Streamed> {
    let parameters: Vec<String> = query
        .parameters()
        .iter()
        .map(|(name, value)| format!("{name}={}", target::encode(value)))
        .collect();
    let target = app_path(app_id, &format!("/logs?{}", parameters.join("&")));
    context.client()?.stream(&target)
}

/// Takes record after record. `cursor` is always the position after the last one that was taken.
fn pass_on(stream: &mut Streamed, cursor: &mut Option<String>, take: Take<'_>) -> Result<End> {
    let mut bytes = Vec::new();
    loop {
        wait(stream)?;
        let more = match stream.read(&mut bytes) {
            Ok(more) => more,
            Err(error) if is_lost(&error) => return Ok(End::Lost(error)),
            Err(error) => return Err(error),
        };
        let mut used = 0;
        while let Some((record, length)) = Record::first(&bytes[used..])? {
            take(record.lines)?;
            *cursor = Some(record.cursor.to_owned());
            used += length;
        }
        bytes.drain(..used);
        if !more {
            return Ok(End::Complete);
        }
    }
}

/// Waits until there is something to read, and notices if the reader of this command's output leaves meanwhile.
fn wait(stream: &mut Streamed) -> Result<()> {
    let Some(socket) = stream.waits_for() else {
        return Ok(());
    };
    let stdout = rustix::stdio::stdout();
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(socket, PollFlags::IN),
            PollFd::from_borrowed_fd(stdout, PollFlags::empty()),
        ];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            polled => polled?,
        };
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
        if fds[1].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        }
    }
}

/// Opens the log again from the cursor on, as soon as there is a server.
fn go_on(context: &mut Context, app_id: &str, query: &LogQuery) -> Result<Streamed> {
    let mut gone = match open(context, app_id, query) {
        Err(error) if is_lost(&error) => error,
        opened => return opened,
    };
    tell!("the server is gone; the log goes on when it is there again");
    let mut tries = LOG.and(COMES_BACK).tries();
    while tries.again() {
        if tries.waited() >= COMES_BACK
            && let Err(error) = context.connect_again()
        {
            gone = error;
            continue;
        }
        match open(context, app_id, query) {
            Err(error) if is_lost(&error) => gone = error,
            opened => return opened,
        }
    }
    Err(gone)
}

/// Checks that the app was not destroyed meanwhile.
///
/// # Errors
/// When it was.
fn still_there(context: &mut Context, app_id: &str, app: &str) -> Result<()> {
    let apps = context.client()?.get_list::<App>("/apps")?;
    match apps.iter().any(|other| other.id == app_id) {
        true => Ok(()),
        false => Err(UserError::new(format!("the app `{app}` was destroyed"))
            .hint("`dyno apps` lists those that are there")
            .into()),
    }
}
