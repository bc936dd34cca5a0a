//! Holding the short-lived app: the connection that it hangs on, made anew when a server is killed or replaced.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::api::session::{CreateSession, Session};
use crate::cli::client::{Streamed, is_lost, is_unavailable};
use crate::cli::context::Context;
use crate::error::UserError;

/// How long a server that is gone is waited for before another is started: whoever replaces it has that much time. Less than
/// it takes a server to give the app up.
const COMES_BACK: Duration = Duration::from_secs(2);

/// For how long starting one is tried in vain, and the app of one who was just killed is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two tries; doubled from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// The longest answer, in bytes, before the line of JSON ends.
const LONGEST: usize = 1 << 20;

/// A connection that an app hangs on.
#[derive(Debug)]
pub struct Hold {
    stream: Streamed,
    bytes: Vec<u8>,
}

/// Asks for a session. One in the same folder that is just coming to its end is waited for.
///
/// # Errors
/// What the server has against it.
pub fn begin(context: &mut Context, request: &CreateSession) -> Result<(Hold, Session)> {
    let (began, mut pause) = (Instant::now(), PAUSES.0);
    loop {
        match ask(context, request) {
            Err(error) if is_unavailable(&error) && began.elapsed() < PATIENCE => {}
            asked => return asked,
        }
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
}

fn ask(context: &mut Context, request: &CreateSession) -> Result<(Hold, Session)> {
    let mut hold = Hold {
        stream: context.client()?.stream_with("/sessions", request)?,
        bytes: Vec::new(),
    };
    loop {
        if let Some(end) = memchr::memchr(b'\n', &hold.bytes) {
            let session = serde_json::from_slice(&hold.bytes[..end])?;
            hold.bytes.clear();
            return Ok((hold, session));
        }
        if hold.bytes.len() > LONGEST || !hold.stream.read(&mut hold.bytes)? {
            return Err(anyhow!("the server's answer makes no sense"));
        }
    }
}

/// Holds the app until it is destroyed, from server to server. Each is told whether the end was asked for.
///
/// # Errors
/// When it cannot be held any more: another server has given it up, or there is none.
pub fn keep(
    mut hold: Hold,
    context: &mut Context,
    request: &mut CreateSession,
    stopping: &AtomicBool,
) -> Result<()> {
    loop {
        hold.bytes.clear();
        match hold.stream.read(&mut hold.bytes) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) if is_lost(&error) => {
                hold = again(context, request, stopping)?;
            }
            Err(error) => return Err(error),
        }
    }
}

fn again(
    context: &mut Context,
    request: &mut CreateSession,
    stopping: &AtomicBool,
) -> Result<Hold> {
    let (gone, mut pause) = (Instant::now(), PAUSES.0);
    loop {
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
        let waited = gone.elapsed();
        let connected = match waited >= COMES_BACK {
            true => context.connect_again(),
            false => Ok(()),
        };
        request.stopping = stopping.load(Ordering::Relaxed);
        match connected.and_then(|()| ask(context, request)) {
            Ok((hold, _)) => return Ok(hold),
            Err(error) if waited < COMES_BACK + PATIENCE => {
                let settled = error.downcast_ref::<UserError>().is_some();
                if settled && !is_unavailable(&error) && !is_lost(&error) {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
}
