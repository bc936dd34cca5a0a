//! Waits for a dyno's end, across restarts of the server, and turns it into an exit code.

use std::time::Duration;

use anyhow::Result;

use super::context::{Context, app_path};
use crate::api::dyno::Dyno;
use crate::cli::client::patience::DYNO_END;
use crate::error::{EXIT_DYNO_FAILED, UserError};
use crate::model::dyno::EndReason;

/// How long a server may take to answer: a request waits up to a minute for the dyno's end, and the server may be busy.
const LONGEST_ANSWER: Duration = Duration::from_secs(90);

/// Waits until the dyno has ended. A server that is killed or replaced meanwhile is found again, or another one is
/// started; the dyno itself needs none.
///
/// # Errors
/// When there is no such dyno, or no server for a minute.
pub fn until_ended(context: &mut Context, app: &str, dyno: &str) -> Result<Dyno> {
    loop {
        let known = ended_within(context, app, dyno, None)?;
        if known.ended_at.is_some() {
            return Ok(known);
        }
    }
}

/// As [`until_ended`], but returns the dyno as it is after `time`; a minute at most, and if there is none.
///
/// # Errors
/// As [`until_ended`].
pub fn ended_within(
    context: &mut Context,
    app: &str,
    dyno: &str,
    time: Option<Duration>,
) -> Result<Dyno> {
    let seconds = time.map_or_else(String::new, |time| {
        format!("?seconds={:.3}", time.as_secs_f64())
    });
    ask(
        context,
        &app_path(app, &format!("/dynos/{dyno}/end{seconds}")),
    )
}

/// The dyno's present state.
///
/// # Errors
/// As [`until_ended`].
pub fn now(context: &mut Context, app: &str, dyno: &str) -> Result<Dyno> {
    ask(context, &app_path(app, &format!("/dynos/{dyno}")))
}

/// Asks the server, or, if it has gone, its successor.
fn ask(context: &mut Context, target: &str) -> Result<Dyno> {
    context.again(&mut DYNO_END.tries(), |client| {
        client.set_patience(Some(LONGEST_ANSWER))?;
        client.get(target)
    })
}

/// The exit code of a command that waited for this dyno: its status, or 128 + the number of the signal that ended it.
///
/// # Errors
/// With [`EXIT_DYNO_FAILED`] when it could not be started, or its exit is not known.
pub fn exit_code(dyno: &Dyno) -> Result<u8> {
    let name = &dyno.name;
    let failed = |message: String, hint: String| {
        let error = UserError::new(message).hint(hint);
        Err(error.exit_code(EXIT_DYNO_FAILED).into())
    };
    match dyno.ended() {
        None => failed(
            format!("`{name}` has not ended"),
            format!("`dyno ps:wait {name}` waits for it"),
        ),
        Some(ended) if ended.is_for(EndReason::StartFailed) => failed(
            match ended.message {
                Some(message) => format!("`{name}` could not be started: {message}"),
                None => format!("`{name}` could not be started"),
            },
            "`dyno doctor` says what this host offers, and how to get more".to_owned(),
        ),
        Some(ended) if ended.is_for(EndReason::Lost) => failed(
            format!("`{name}` was lost: its supervisor is gone"),
            "the dyno and everything in it has ended; its exit status is not known".to_owned(),
        ),
        Some(ended) => Ok(ended.exit.code()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ended(status: Option<u8>, signal: Option<u8>, reason: Option<&str>) -> Dyno {
        serde_json::from_value(json!({
            "id": "1", "name": "run.1", "type": "run", "command": "true", "size": "1X",
            "state": "complete", "attach_url": null, "app": {"id": "2", "name": "shop"},
            "release": {"id": "3", "version": 1}, "created_at": "2012-01-01T12:00:00Z",
            "updated_at": "2012-01-01T12:00:00Z", "ended_at": "2012-01-01T12:00:00Z",
            "exit_status": status, "exit_signal": signal, "end_reason": reason,
        }))
        .unwrap()
    }

    #[test]
    fn a_dynos_end_is_the_exit_code_of_whoever_waited() {
        for (dyno, code) in [
            (ended(Some(0), None, None), 0),
            (ended(Some(7), None, Some("stopped")), 7),
            (ended(None, Some(15), Some("stopped")), 143),
            (ended(Some(128), None, Some("R13")), 128),
        ] {
            assert_eq!(exit_code(&dyno).unwrap(), code);
        }
        for reason in ["R99", "lost"] {
            let error = exit_code(&ended(None, None, Some(reason))).unwrap_err();
            let error = error.downcast::<UserError>().unwrap();
            assert_eq!(error.exit_code, Some(EXIT_DYNO_FAILED));
        }
        let alive = Dyno {
            ended_at: None,
            ..ended(None, None, None)
        };
        assert!(exit_code(&alive).is_err());
    }
}
