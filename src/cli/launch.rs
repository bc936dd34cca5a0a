//! Waits until a release runs: until its release phase has ended, and its dynos are up.
//!
//! Polls the server, so that it works across restarts of the server.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::context::{Context, app_path};
use super::logs;
use super::notices::stopped_with_server;
use crate::api::app::App;
use crate::api::dyno::Dyno;
use crate::api::formation::Formation;
use crate::api::release::Release;
use crate::cli::client::patience::{LAUNCH, Tries};
use crate::error::{UserError, tell, tell_part};
use crate::model::dyno::{DynoState, Exit};
use crate::model::release::{RELEASE_PHASE, ReleaseStatus};

/// The first and the longest pause between two requests.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// A crash after which the dyno is restarted within this time is not reported; the first restart is at once.
const SOON: Duration = Duration::from_millis(700);

/// How long a dyno may be down before its crash is reported, although a restart is near.
const DOWN: Duration = Duration::from_secs(5);

/// How long a dyno may wait for the end of its predecessor before that is reported.
const PREDECESSOR: Duration = Duration::from_secs(3);

/// How long a dyno may not begin, while all others are up, before that is reported: the app may have reached its limit
/// on dynos.
const UNBEGUN: Duration = Duration::from_secs(5);

/// The text for a release that another one has replaced before its dynos were up, which is no failure.
const SUPERSEDED: &str = "a newer release has taken its place";

/// Waits until the release phase of `release` has ended; what it prints goes to standard output.
///
/// # Errors
/// When it failed; the release before stays current.
pub fn until_released(context: &mut Context, app: &str, release: Release) -> Result<Release> {
    let release = match release.status {
        ReleaseStatus::Pending => follow_phase(context, app, &release, logs::follow_dyno)?,
        _ => release,
    };
    check_released(context, app, release)
}

/// Waits until the release phase of `release` has ended, if it has one; prints its output on standard error, as Heroku does.
///
/// # Errors
/// When it failed; the release before stays current.
pub fn until_released_as_heroku(
    context: &mut Context,
    app: &str,
    release: Release,
) -> Result<Release> {
    if release.process_types.get(RELEASE_PHASE).is_none() {
        return check_released(context, app, release);
    }
    let now = follow_phase(context, app, &release, |context, dyno| {
        tell!("");
        logs::follow_output(context, dyno)
    })?;
    let how = match now.status {
        ReleaseStatus::Failed => "failed",
        _ => "done",
    };
    tell!("Waiting for release.... {how}.");
    check_released(context, app, now)
}

fn check_released(context: &mut Context, app: &str, release: Release) -> Result<Release> {
    if release.status == ReleaseStatus::Failed {
        let then = match is_first(context, app, &release) {
            true => "nothing runs",
            false => "what ran before goes on",
        };
        let message = format!(
            "the release command of v{} of `{app}` failed; {then}",
            release.version
        );
        return Err(UserError::new(message)
            .hint(format!(
                "`dyno logs -a {app} -d {RELEASE_PHASE}` shows all of it"
            ))
            .into());
    }
    Ok(release)
}

/// Whether the app has no earlier release with a slug; false also after an error.
fn is_first(context: &mut Context, app: &str, release: &Release) -> bool {
    let releases = context
        .client()
        .and_then(|client| client.get_list(&app_path(app, "/releases")));
    releases.is_ok_and(|releases: Vec<Release>| {
        let mut earlier = releases.iter().filter(|it| it.version < release.version);
        !earlier.any(|it| it.eligible_for_rollback)
    })
}

/// Waits for the end of the release phase, whose dyno's output `follow` prints; returns the release.
fn follow_phase(
    context: &mut Context,
    app: &str,
    release: &Release,
    follow: impl Fn(&mut Context, &Dyno) -> Result<()>,
) -> Result<Release> {
    tell!("Running release command...");
    let target = app_path(app, &format!("/releases/{}", release.id));
    let mut followed = false;
    let mut patient = Patient::new();
    loop {
        let now: Release = patient.ask(context, &target)?;
        let over = now.status != ReleaseStatus::Pending;
        if !followed {
            // It may have ended already.
            let which = if over { "/dynos?ended=true" } else { "/dynos" };
            let dynos: Vec<Dyno> = patient.ask_list(context, &app_path(app, which))?;
            let version = release.version;
            let of_phase =
                |dyno: &&Dyno| dyno.r#type == RELEASE_PHASE && dyno.release.version == version;
            if let Some(dyno) = dynos.iter().find(of_phase) {
                followed = true;
                follow(context, dyno)?;
                patient = Patient::new();
            }
        }
        if over {
            return Ok(now);
        }
        patient.pause();
    }
}

/// The progress of one dyno of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaunchState {
    /// It has been up for long enough.
    Launched,
    /// It is starting, or has just come up.
    Begins,
    /// It crashed beside its predecessor, and is restarted when that has ended.
    AwaitsPredecessor,
    /// It crashed, and is restarted in a moment.
    BeginsAgain,
    /// It crashed, and is restarted only later.
    Crashed,
}

impl LaunchState {
    fn of(dyno: &Dyno) -> Self {
        match (dyno.state, &dyno.crash) {
            // An older server does not say whether it has settled.
            (DynoState::Up, _) => match dyno.settled {
                Some(false) => Self::Begins,
                Some(true) | None => Self::Launched,
            },
            (DynoState::Crashed, Some(crash)) if crash.waits_for_predecessor => {
                Self::AwaitsPredecessor
            }
            (DynoState::Crashed, Some(crash)) => match crash.wait > SOON.as_secs_f64() {
                true => Self::Crashed,
                false => Self::BeginsAgain,
            },
            (DynoState::Crashed, None) => Self::BeginsAgain,
            _ => Self::Begins,
        }
    }
}

/// Waits until all dynos of the formation run `release` and have been up for long enough; `story` is the text of the
/// progress line.
///
/// # Errors
/// When some have crashed; their output is shown.
pub fn until_up(context: &mut Context, app: &str, release: &Release, story: &str) -> Result<()> {
    let mut patient = Patient::new();
    let mut down: HashMap<String, Instant> = HashMap::new();
    let mut unbegun_since: Option<Instant> = None;
    let (mut told, mut told_of_predecessor) = (false, false);
    loop {
        if !patient.is_current(context, app, release)? {
            if !told {
                tell_part!("{story}... ");
            }
            tell!("{SUPERSEDED}");
            return Ok(());
        }
        let wanted: Vec<Formation> = patient.ask_list(context, &app_path(app, "/formation"))?;
        let dynos: Vec<Dyno> = patient.ask_list(context, &app_path(app, "/dynos"))?;
        let names = wanted.iter().flat_map(|wanted| {
            (1..=wanted.quantity).map(|number| format!("{}.{number}", wanted.r#type))
        });
        let names: Vec<String> = names.collect();
        if names.is_empty() {
            return Ok(());
        }
        if !told {
            tell_part!("{story}... ");
            told = true;
        }
        let (mut waits, mut crashed, mut unbegun) = (0, Vec::new(), Vec::new());
        for name in &names {
            let dyno = dynos
                .iter()
                .rfind(|dyno| dyno.name == *name && dyno.release.version == release.version);
            let Some(dyno) = dyno else {
                down.remove(name);
                unbegun.push(&**name);
                continue;
            };
            match LaunchState::of(dyno) {
                LaunchState::Launched => drop(down.remove(name)),
                LaunchState::Begins => {
                    down.remove(name);
                    waits += 1;
                }
                LaunchState::AwaitsPredecessor => {
                    let since = *down.entry(name.clone()).or_insert_with(Instant::now);
                    if !told_of_predecessor && since.elapsed() >= PREDECESSOR {
                        tell_part!("({name} waits for the one before it to end) ");
                        told_of_predecessor = true;
                    }
                    waits += 1;
                }
                LaunchState::Crashed => crashed.push(dyno),
                LaunchState::BeginsAgain => {
                    let since = *down.entry(name.clone()).or_insert_with(Instant::now);
                    match since.elapsed() >= DOWN {
                        true => crashed.push(dyno),
                        false => waits += 1,
                    }
                }
            }
        }
        if waits > 0 || unbegun.is_empty() {
            unbegun_since = None;
        }
        if !unbegun.is_empty() {
            waits += unbegun.len();
            let since = *unbegun_since.get_or_insert_with(Instant::now);
            if waits == unbegun.len() && since.elapsed() >= UNBEGUN {
                if !patient.is_current(context, app, release)? {
                    tell!("{SUPERSEDED}");
                    return Ok(());
                }
                tell!("failed");
                let known: App = patient.ask(context, &app_path(app, ""))?;
                if known.asleep {
                    let message = format!("the dynos of `{app}` are down");
                    return Err(UserError::new(message)
                        .hint(stopped_with_server(app))
                        .into());
                }
                return Err(not_begun(app, release, &unbegun).into());
            }
        }
        if waits == 0 {
            if crashed.is_empty() {
                tell!("done");
                return Ok(());
            }
            // These may have been the dynos of a newer release.
            if !patient.is_current(context, app, release)? {
                tell!("{SUPERSEDED}");
                return Ok(());
            }
            tell!("failed");
            return Err(tell_crashed(context, app, release, &crashed)?.into());
        }
        patient.pause();
    }
}

/// The error for dynos that have not begun, since the limit on dynos is reached.
fn not_begun(app: &str, release: &Release, names: &[&str]) -> UserError {
    const SHOWN: usize = 5;
    let mut shown: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    shown.truncate(SHOWN);
    if names.len() > SHOWN {
        shown.push(format!("{} more", names.len() - SHOWN));
    }
    let (count, version) = (names.len(), release.version);
    let word = if count == 1 { "dyno has" } else { "dynos have" };
    UserError::new(format!(
        "v{version} of `{app}` is released, but {count} {word} not begun: {}",
        shown.join(", ")
    ))
    .hint(format!(
        "there may be no room: one-offs count for `max_dynos`, too; `dyno ps -a {app}` lists what is alive"
    ))
}

/// Shows the output of crashed dynos, one of each process type, since the others usually print much the same.
fn tell_crashed(
    context: &mut Context,
    app: &str,
    release: &Release,
    crashed: &[&Dyno],
) -> Result<UserError> {
    let mut shown = HashSet::new();
    for dyno in crashed {
        if shown.insert(&dyno.r#type) {
            logs::print_last(context, app, &dyno.name)?;
        }
    }
    let how = |dyno: &&Dyno| match dyno.ended() {
        // An exit with 0 is a crash here, since the dyno should not have ended.
        Some(ended) if ended.reason.is_none() && ended.exit == Exit::Status(0) => {
            format!("`{}` (exit 0)", dyno.name)
        }
        Some(ended) => format!("`{}` ({ended})", dyno.name),
        None => format!("`{}`", dyno.name),
    };
    let names: Vec<_> = crashed.iter().map(how).collect();
    let (count, version) = (names.len(), release.version);
    let word = if count == 1 { "dyno" } else { "dynos" };
    let background = crashed.iter().find(|dyno| is_in_background(&dyno.command));
    let mut hint = match background {
        Some(dyno) => format!(
            "the command of `{}` puts itself into the background with `&`, so it ends at once: leave that out; ",
            dyno.r#type
        ),
        None => String::new(),
    };
    hint += &format!("the server keeps retrying; `dyno ps -a {app}` shows when");
    if !is_first(context, app, release) {
        hint += &format!(", `dyno releases:rollback -a {app}` goes back");
    }
    Ok(UserError::new(format!(
        "v{version} of `{app}` is released, but {count} {word} crashed: {}",
        names.join(", ")
    ))
    .hint(hint))
}

/// Whether a command's text ends with `&`, so that the shell does not wait for it.
fn is_in_background(command: &str) -> bool {
    let command = command.trim_end();
    command.ends_with('&') && !command.ends_with("&&") && !command.ends_with("\\&")
}

/// Repeats requests, across restarts of the server.
struct Patient {
    pause: Duration,
    tries: Tries,
}

impl Patient {
    fn new() -> Self {
        Self {
            pause: PAUSES.0,
            tries: LAUNCH.tries(),
        }
    }

    fn pause(&mut self) {
        thread::sleep(self.pause);
        self.pause = (self.pause * 3 / 2).min(PAUSES.1);
    }

    /// Whether a release is still the newest.
    fn is_current(&mut self, context: &mut Context, app: &str, release: &Release) -> Result<bool> {
        let target = app_path(app, &format!("/releases/{}", release.id));
        self.ask(context, &target).map(|it: Release| it.current)
    }

    fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        context: &mut Context,
        target: &str,
    ) -> Result<T> {
        context.again(&mut self.tries, |client| client.get(target))
    }

    fn ask_list<T: serde::de::DeserializeOwned>(
        &mut self,
        context: &mut Context,
        target: &str,
    ) -> Result<Vec<T>> {
        context.again(&mut self.tries, |client| client.get_list(target))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn dyno(state: &str, more: Value) -> Dyno {
        let mut dyno = json!({
            "id": "1", "name": "web.1", "type": "web", "command": "x", "size": "1X", "state": state,
            "attach_url": null, "app": {"id": "2", "name": "shop"}, "release": {"id": "3", "version": 1},
            "created_at": "2012-01-01T12:00:00Z", "updated_at": "2012-01-01T12:00:01Z",
            "exit_status": null, "exit_signal": null, "ended_at": null, "end_reason": null,
        });
        for (key, value) in more.as_object().unwrap() {
            dyno[key] = value.clone();
        }
        serde_json::from_value(dyno).unwrap()
    }

    #[test]
    fn a_command_that_ends_with_an_ampersand_is_not_waited_for() {
        for (command, expected) in [
            ("python3 -m http.server $PORT &", true),
            ("./serve& ", true),
            ("true && ./serve", false),
            ("echo \\&", false),
        ] {
            assert_eq!(is_in_background(command), expected, "{command}");
        }
    }

    #[test]
    fn a_launch_is_over_when_a_dyno_has_been_up_for_long_enough_or_is_not_tried_again_soon() {
        let crash = |wait: f64, waits: bool| {
            json!({
                "ended_at": "2012-01-01T12:00:01Z",
                "crash": {
                    "count": 1, "next_try_at": "2012-01-01T12:00:02Z", "wait": wait,
                    "waits_for_predecessor": waits,
                },
            })
        };
        for (dyno, standing) in [
            (dyno("starting", json!({})), LaunchState::Begins),
            (dyno("up", json!({"settled": false})), LaunchState::Begins),
            (dyno("up", json!({"settled": true})), LaunchState::Launched),
            (dyno("up", json!({})), LaunchState::Launched),
            (dyno("crashed", crash(0.2, false)), LaunchState::BeginsAgain),
            (dyno("crashed", crash(45.0, false)), LaunchState::Crashed),
            (
                dyno("crashed", crash(8.0, true)),
                LaunchState::AwaitsPredecessor,
            ),
            (dyno("crashed", json!({})), LaunchState::BeginsAgain),
        ] {
            assert_eq!(LaunchState::of(&dyno), standing, "{dyno:?}");
        }
    }
}
