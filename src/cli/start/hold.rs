//! Holds the app of `dyno start`: the connection that keeps it alive, made again when a server is killed or replaced.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow};

use crate::api::session::{CreateSession, Session};
use crate::cli::client::patience::{COMES_BACK, HOLD};
use crate::cli::client::{Streamed, is_lost, is_unavailable};
use crate::cli::context::Context;
use crate::error::UserError;

/// The longest line of JSON at the beginning of the response, in bytes.
const LONGEST: usize = 1 << 20;

/// A connection that keeps an app alive.
#[derive(Debug)]
pub struct Hold {
    stream: Streamed,
    bytes: Vec<u8>,
}

/// Creates the app. If one that is just ending still has the folder, waits for its end.
///
/// # Errors
/// Why the server refuses.
pub fn begin(context: &mut Context, request: &CreateSession) -> Result<(Hold, Session)> {
    let mut tries = HOLD.tries();
    loop {
        match ask(context, request) {
            Err(error) if is_unavailable(&error) && tries.again() => {}
            asked => return asked,
        }
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
            return Err(anyhow!("the server's answer is not valid"));
        }
    }
}

/// Holds the app until it is destroyed, across restarts of the server. Each server is told whether the end was asked for.
///
/// # Errors
/// When the app cannot be held any more: a server has given it up, or there is none.
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
                hold = again(context, request, stopping, error)?;
            }
            Err(error) => return Err(error),
        }
    }
}

fn again(
    context: &mut Context,
    request: &mut CreateSession,
    stopping: &AtomicBool,
    mut gone: anyhow::Error,
) -> Result<Hold> {
    let mut tries = HOLD.and(COMES_BACK).tries();
    while tries.again() {
        let connected = match tries.waited() >= COMES_BACK {
            true => context.connect_again(),
            false => Ok(()),
        };
        request.stopping = stopping.load(Ordering::Relaxed);
        match connected.and_then(|()| ask(context, request)) {
            Ok((hold, _)) => return Ok(hold),
            Err(error) => {
                let settled = error.downcast_ref::<UserError>().is_some();
                if settled && !is_unavailable(&error) && !is_lost(&error) {
                    return Err(error);
                }
                gone = error;
            }
        }
    }
    Err(gone)
}
