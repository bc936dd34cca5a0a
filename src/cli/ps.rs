//! `dyno ps`: the live dynos, and with `--all` the ended ones, too.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::context::{Context, app_path};
use super::hints;
use super::notices::{stopped_with_server, tell_isolation};
use super::output::{say, say_json};
use super::ps_end::no_dynos_of;
use crate::api::app::App;
use crate::api::dyno::Dyno;
use crate::cli::terminal;
use crate::error::{UserError, tell};
use crate::model::dyno::{DynoName, Exit};
use crate::model::time_span;

/// The narrowest terminal to whose width lines are cut, in columns.
const NARROWEST: usize = 40;

/// List the dynos that are alive.
#[derive(Debug, Args)]
pub struct Ps {
    /// Also those that have ended
    #[arg(long)]
    all: bool,
    /// As a JSON array
    #[arg(long)]
    json: bool,
    /// Only dynos of these process types, or of these names
    #[arg(value_name = "TYPE|DYNO")]
    wanted: Vec<String>,
}

impl Ps {
    /// Prints the dynos in groups by process type.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let query = if self.all { "?ended=true" } else { "" };
        let target = app_path(&app, &format!("/dynos{query}"));
        let mut dynos: Vec<Dyno> = context.client()?.get_list(&target)?;
        tell_isolation(context);
        if !self.wanted.is_empty() {
            for wanted in &self.wanted {
                if !dynos.iter().any(|dyno| is_meant(dyno, wanted)) {
                    return Err(self.missing(wanted, &app).into());
                }
            }
            dynos.retain(|dyno| self.wanted.iter().any(|wanted| is_meant(dyno, wanted)));
        }
        dynos.sort_by_cached_key(|dyno| (dyno.r#type.clone(), number(dyno)));
        if self.json {
            return say_json(&dynos);
        }
        if !dynos.iter().any(|dyno| dyno.formation) {
            let known: App = context.client()?.get(&app_path(&app, ""))?;
            if known.asleep {
                tell!("{}", stopped_with_server(&app));
            }
        }
        if dynos.is_empty() {
            return Ok(say!("No dynos on {app}")?);
        }
        let width = terminal::is_terminal(rustix::stdio::stdout())
            .then(terminal::size)
            .flatten()
            .map(|size| usize::from(size.columns).max(NARROWEST));
        let page = Page {
            now: Timestamp::now(),
            zone: TimeZone::system(),
            width,
            all: self.all,
        };
        let (one_offs, formation): (Vec<_>, Vec<_>) =
            dynos.into_iter().partition(|dyno| !dyno.formation);
        say!("{}", page.text(&one_offs, &formation))?;
        if formation.iter().any(|dyno| dyno.crash.is_some()) {
            tell!(
                "the server restarts what crashed after a pause; `dyno ps:restart -a {app}` tries at once"
            );
        }
        Ok(())
    }

    fn missing(&self, wanted: &str, app: &str) -> UserError {
        let error = match wanted.parse::<DynoName>() {
            Ok(_) if self.all => UserError::new(format!("no dyno `{wanted}` on `{app}`")),
            Ok(_) => UserError::new(format!("no dyno `{wanted}` runs on `{app}`")),
            Err(_) => no_dynos_of(wanted, app),
        };
        if let Some(command) = hints::joined("ps", wanted) {
            return error.hint(format!("`dyno {command}` is a command"));
        }
        match self.all {
            true => error.hint("`dyno ps --all` lists those that are remembered"),
            false => error.hint("`dyno ps --all` lists also those that have ended"),
        }
    }
}

/// Whether a word on the command line is this dyno's name or process type.
fn is_meant(dyno: &Dyno, wanted: &str) -> bool {
    dyno.name == wanted || dyno.r#type == wanted
}

fn number(dyno: &Dyno) -> u32 {
    dyno.name.parse().map_or(0, |name: DynoName| name.number)
}

/// How a crashed dyno of the formation ended, how often, and when it is restarted, as of `now`.
pub fn crash_story(dyno: &Dyno, now: Timestamp) -> Option<String> {
    let (ended, crash) = (dyno.ended()?, dyno.crash.as_ref()?);
    let often = match crash.count {
        0 | 1 => String::new(),
        count => format!(", {count} times in a row"),
    };
    let wait = crash.next_try_at.0.duration_since(now);
    let next = match (crash.waits_for_predecessor, wait.is_positive()) {
        (true, _) => "when the one before it has ended".to_owned(),
        (false, true) => format!("in {}", time_span::rough(wait.unsigned_abs())),
        (false, false) => "now".to_owned(),
    };
    let how = match (&ended.reason, ended.exit) {
        // It should not have ended.
        (None, Exit::Status(0)) => "exit 0".to_owned(),
        _ => ended.to_string(),
    };
    Some(format!(": {how}{often}; next try {next}"))
}

/// The layout of the list.
struct Page {
    now: Timestamp,
    zone: TimeZone,
    /// The width of the terminal in columns, if it is one.
    width: Option<usize>,
    /// Whether ended dynos are listed, too.
    all: bool,
}

impl Page {
    /// The list: groups with headings, separated by blank lines, without the last line feed; one-off dynos first, as on
    /// Heroku. The dynos are passed in order.
    fn text(&self, one_offs: &[Dyno], formation: &[Dyno]) -> String {
        let mut groups: BTreeMap<(bool, String), Vec<String>> = BTreeMap::new();
        for dyno in one_offs {
            let group = (false, format!("{}: one-off processes", dyno.r#type));
            let begin = self.state(dyno) + ": ";
            let line = begin.clone() + &self.command(dyno, &begin);
            groups.entry(group).or_default().push(line);
        }
        for dyno in formation {
            // While a release replaces another, a process type may have two commands.
            let begin = format!("{}: ", dyno.r#type);
            let heading = begin.clone() + &self.command(dyno, &format!("=== {begin}"));
            groups
                .entry((true, heading))
                .or_default()
                .push(self.state(dyno));
        }
        let groups: Vec<String> = groups
            .into_iter()
            .map(|((_, heading), lines)| format!("=== {heading}\n{}", lines.join("\n")))
            .collect();
        groups.join("\n\n")
    }

    /// A dyno's name, state, and time.
    fn state(&self, dyno: &Dyno) -> String {
        match dyno.ended() {
            // A crashed dyno of the formation is listed until it is restarted.
            Some(ended) if dyno.formation && !self.all => {
                let (state, since) = (dyno.state.as_str(), self.since(ended.at, None));
                let how = crash_story(dyno, self.now).unwrap_or_default();
                format!("{}: {state} {since}{how}", dyno.name)
            }
            None => {
                let state = dyno.state.as_str();
                let since = self.since(dyno.updated_at.0, None);
                format!("{}: {state} {since}", dyno.name)
            }
            Some(ended) => {
                let ran = ended.at.duration_since(dyno.created_at.0).unsigned_abs();
                let since = self.since(ended.at, Some(ran));
                format!("{}: {ended} {since}", dyno.name)
            }
        }
    }

    /// A dyno's command in backquotes, cut to the rest of the line after `begin`.
    fn command(&self, dyno: &Dyno, begin: &str) -> String {
        let command = terminal::visible(&dyno.command);
        let room = self.width.map_or(usize::MAX, |width| {
            width.saturating_sub(begin.chars().count() + "``".len())
        });
        format!("`{}`", cut(&command, room))
    }

    /// A local time and how long ago it is; and how long the dyno ran.
    fn since(&self, at: Timestamp, ran: Option<Duration>) -> String {
        let local = at.to_zoned(self.zone.clone());
        let local = local.strftime("%Y/%m/%d %H:%M:%S");
        let ago = match self.now.duration_since(at).as_secs().max(0) {
            seconds @ 0..=60 => Some(format!("~ {seconds}s ago")),
            seconds @ 61..=3_600 => Some(format!("~ {}m ago", seconds / 60)),
            seconds @ 3_601..=90_000 => Some(format!("~ {}h ago", seconds / 3_600)),
            _ => None,
        };
        let ran = ran.map(|time| format!("ran {}", time_span::rough(time)));
        let more: Vec<String> = ago.into_iter().chain(ran).collect();
        match more.is_empty() {
            true => local.to_string(),
            false => format!("{local} ({})", more.join(", ")),
        }
    }
}

/// At most `room` characters; a longer text is cut and ends with an ellipsis.
fn cut(text: &str, room: usize) -> String {
    if text.chars().nth(room).is_none() {
        return text.to_owned();
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DAY: &str = "2013-03-13";

    fn dyno(name: &str, state: &str, updated: &str, more: Value) -> Dyno {
        let mut dyno = json!({
            "id": name, "name": name, "type": name.split('.').next(), "command": "bash",
            "size": "1X", "state": state, "attach_url": null,
            "app": {"id": "2", "name": "shop"}, "release": {"id": "3", "version": 1},
            "created_at": "2013-03-12T20:00:00Z", "updated_at": format!("{DAY}T{updated}Z"),
            "exit_status": null, "exit_signal": null, "ended_at": null, "end_reason": null,
        });
        for (key, value) in more.as_object().unwrap() {
            dyno[key] = value.clone();
        }
        serde_json::from_value(dyno).unwrap()
    }

    fn page(width: Option<usize>) -> Page {
        Page {
            now: format!("{DAY}T22:38:09Z").parse().unwrap(),
            zone: TimeZone::get("America/Los_Angeles").unwrap(),
            width,
            all: false,
        }
    }

    #[test]
    fn the_list_has_the_form_of_the_page() {
        let dynos = [
            dyno("run.7364", "starting", "22:38:08", json!({})),
            dyno(
                "run.10000",
                "up",
                "22:37:08",
                json!({"command": "rake db:migrate"}),
            ),
            dyno("scheduler.1", "up", "01:00:00", json!({})),
            dyno("scheduler.2", "up", "21:38:09", json!({})),
        ];
        assert_eq!(
            page(None).text(&dynos, &[]),
            "=== run: one-off processes\n\
             run.7364: starting 2013/03/13 15:38:08 (~ 1s ago): `bash`\n\
             run.10000: up 2013/03/13 15:37:08 (~ 1m ago): `rake db:migrate`\n\
             \n\
             === scheduler: one-off processes\n\
             scheduler.1: up 2013/03/12 18:00:00 (~ 21h ago): `bash`\n\
             scheduler.2: up 2013/03/13 14:38:09 (~ 60m ago): `bash`"
        );
    }

    #[test]
    fn a_formation_is_listed_after_the_one_offs_under_its_commands() {
        let web = |name, state, updated: &str, command: &str| {
            dyno(name, state, updated, json!({ "command": command }))
        };
        let thin = "bundle exec thin start -p $PORT";
        let mut ended = web("clock.3", "crashed", "00:00:00", "tick\n");
        ended.exit_status = Some(1);
        ended.ended_at = serde_json::from_value(json!("2013-03-13T22:38:00Z")).unwrap();
        ended.formation = true;
        let formation = [
            ended,
            web("web.1", "up", "22:08:07", thin),
            web("web.2", "starting", "22:38:07", "puma"),
            web("web.10", "crashed", "22:38:07", thin),
        ];
        assert_eq!(
            page(None).text(&[dyno("run.7364", "up", "22:38:08", json!({}))], &formation),
            "=== run: one-off processes\n\
             run.7364: up 2013/03/13 15:38:08 (~ 1s ago): `bash`\n\
             \n\
             === clock: `tick\\n`\n\
             clock.3: crashed 2013/03/13 15:38:00 (~ 9s ago)\n\
             \n\
             === web: `bundle exec thin start -p $PORT`\n\
             web.1: up 2013/03/13 15:08:07 (~ 30m ago)\n\
             web.10: crashed 2013/03/13 15:38:07 (~ 2s ago)\n\
             \n\
             === web: `puma`\n\
             web.2: starting 2013/03/13 15:38:07 (~ 2s ago)"
        );
        let mut loops = web("web.3", "crashed", "22:38:07", thin);
        loops.formation = true;
        loops.exit_status = Some(3);
        loops.ended_at = serde_json::from_value(json!("2013-03-13T22:38:07Z")).unwrap();
        let crash = |count: u32, waits: bool| {
            let next = json!({"count": count, "next_try_at": "2013-03-13T22:47:09Z", "wait": 542.0, "waits_for_predecessor": waits});
            serde_json::from_value(next).unwrap()
        };
        for (crash, story) in [
            (crash(3, false), "exit 3, 3 times in a row; next try in 9m"),
            (crash(1, false), "exit 3; next try in 9m"),
            (
                crash(0, true),
                "exit 3; next try when the one before it has ended",
            ),
        ] {
            loops.crash = Some(crash);
            assert_eq!(
                page(None)
                    .text(&[], std::slice::from_ref(&loops))
                    .lines()
                    .nth(1),
                Some(&*format!(
                    "web.3: crashed 2013/03/13 15:38:07 (~ 2s ago): {story}"
                ))
            );
        }
        let all = Page {
            all: true,
            ..page(None)
        };
        assert_eq!(
            all.text(&[], &formation[..1]),
            "=== clock: `tick\\n`\n\
             clock.3: exit 1 2013/03/13 15:38:00 (~ 9s ago, ran 1d2h)"
        );
        let text = page(Some(NARROWEST)).text(&[], &formation[1..2]);
        let heading = text.lines().next().unwrap();
        assert_eq!(heading, "=== web: `bundle exec thin start -p $P…`");
        assert_eq!(heading.chars().count(), NARROWEST);
    }

    #[test]
    fn what_has_ended_says_how_and_how_long_it_ran() {
        let end = |name, how: Value, at: &str| {
            let mut more = how;
            more["ended_at"] = json!(at);
            dyno(name, "complete", "00:00:00", more)
        };
        let dynos = [
            end("run.1", json!({"exit_status": 0}), "2013-03-13T22:08:09Z"),
            end("run.2", json!({"exit_status": 3}), "2013-03-12T20:00:07Z"),
            end("run.3", json!({"exit_signal": 9}), "2013-03-13T22:38:00Z"),
            end(
                "run.4",
                json!({"end_reason": "lost"}),
                "2013-03-13T22:38:30Z",
            ),
        ];
        assert_eq!(
            page(None).text(&dynos, &[]),
            "=== run: one-off processes\n\
             run.1: complete 2013/03/13 15:08:09 (~ 30m ago, ran 1d2h): `bash`\n\
             run.2: exit 3 2013/03/12 13:00:07 (ran 7s): `bash`\n\
             run.3: SIGKILL 2013/03/13 15:38:00 (~ 9s ago, ran 1d2h): `bash`\n\
             run.4: lost 2013/03/13 15:38:30 (~ 0s ago, ran 1d2h): `bash`"
        );
    }

    #[test]
    fn a_command_is_one_line_that_no_terminal_obeys_and_fits_on_it() {
        let long = json!({"command": "echo a\n\tb\u{1b}[2J \u{202e}and more than fits on a line"});
        let dynos = [dyno("run.1", "up", "22:38:08", long)];
        let line = |width| {
            let text = page(width).text(&dynos, &[]);
            text.lines().nth(1).unwrap().to_owned()
        };
        let begin = "run.1: up 2013/03/13 15:38:08 (~ 1s ago): ";
        let command = r"`echo a\n\tb\u{1b}[2J \u{202e}and more than fits on a line`";
        assert_eq!(line(None), format!("{begin}{command}"));
        assert_eq!(line(Some(200)), format!("{begin}{command}"));
        assert_eq!(line(Some(60)), format!(r"{begin}`echo a\n\tb\u{{1…`"));
        assert_eq!(line(Some(60)).chars().count(), 60);
        assert_eq!(line(Some(NARROWEST)), format!("{begin}`…`"));
        assert_eq!(cut("exact", 5), "exact");
    }
}
