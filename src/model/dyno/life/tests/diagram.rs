//! The state machine as a document: `docs/life.md` is made by trying every event in every state that can be reached,
//! and this test fails when the document says something else than the code does.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;
use std::time::Duration;

use super::super::events::DynoSignal;
use super::super::*;

/// Set to have the document written anew instead of compared.
const REWRITE: &str = "DYNO_REWRITE_DOCS";

const RULES: Rules = Rules {
    attached: true,
    attach_timeout: Duration::from_secs(30),
    hangup_interval: Duration::from_secs(5),
    hangup_count: 3,
    idle_timeout: Duration::from_secs(3600),
    lifetime: Duration::from_secs(24 * 3600),
    time_to_live: None,
    stop_grace: Duration::from_secs(30),
    formation: None,
    memory: MemoryRule {
        quota: 512 << 20,
        limit: 1536 << 20,
    },
};

/// Everything that can happen, as a reader would say it.
fn events() -> Vec<(Event, &'static str)> {
    let grace = |seconds| Event::StopRequested {
        grace: Duration::from_secs(seconds),
        why: StopReason::Restarted,
        drain: Duration::from_secs(if seconds == 0 { 0 } else { 10 }),
    };
    vec![
        (Event::SandboxReady, "sandbox ready"),
        (
            Event::StartFailed {
                message: "REASON".to_owned(),
            },
            "start failed",
        ),
        (
            Event::Broken {
                message: "REASON".to_owned(),
            },
            "platform failed",
        ),
        (Event::ClientAttached, "client attached"),
        (Event::ClientActive, "a byte went through"),
        (Event::ClientGone, "client gone"),
        (Event::Started, "command started"),
        (Event::Listening, "port accepts"),
        (Event::Exited(Exit::Status(0)), "command ended"),
        (Event::InitGone, "PID 1 gone"),
        (Event::Drained, "output read to its end"),
        (grace(30), "stop requested"),
        (grace(0), "stop without grace"),
        (
            Event::MemoryMeasured(600 << 20),
            "more memory than its quota",
        ),
        (
            Event::MemoryExhausted(1536 << 20),
            "more memory than its limit",
        ),
        (
            Event::DiskExhausted {
                written: 1100 << 20,
                limit: 1024 << 20,
            },
            "more on disk than its limit",
        ),
        (Event::Deadline(Timer::Phase), "time is up"),
        (Event::Deadline(Timer::Idle), "idle for too long"),
        (Event::Deadline(Timer::Lifetime), "lifetime over"),
    ]
}

fn name(life: &Life) -> &'static str {
    match &life.phase {
        Phase::Building => "Building",
        Phase::AwaitingClient => "AwaitingClient",
        Phase::Launching => "Launching",
        Phase::Booting => "Booting",
        Phase::Up(Running::Attended) => "Up",
        Phase::Up(Running::Draining { .. }) => "Draining",
        Phase::Up(Running::HungUp { .. }) => "HungUp",
        Phase::Up(Running::LeftAlone) => "LeftAlone",
        Phase::Up(Running::Stopping { .. }) => "Stopping",
        Phase::Up(Running::Killed) => "Killed",
        Phase::Ending { .. } => "Ending",
        Phase::Failed { .. } => "Failed",
        Phase::Over => "Over",
    }
}

/// What is done, in short; timers and reports are bookkeeping.
fn summary(actions: &[Action]) -> Vec<String> {
    let mut said = Vec::new();
    for action in actions {
        said.push(match action {
            Action::Log(story) => {
                let line = story.to_string();
                match line.contains('`') {
                    true => format!("logs ``{line} ``"),
                    false => format!("logs `{line}`"),
                }
            }
            Action::StartCommand => "starts the command".to_owned(),
            Action::HandOver => "hands the streams over".to_owned(),
            Action::TakeOutput => "reads the output into the log".to_owned(),
            Action::SignalAll(DynoSignal::Hup) => "SIGHUP to all".to_owned(),
            Action::SignalAll(DynoSignal::Term) => "SIGTERM to all".to_owned(),
            Action::KillAll => "kills PID 1".to_owned(),
            Action::TellExit(..) => "tells the client the status".to_owned(),
            Action::TellError(_) => "tells the client why".to_owned(),
            Action::AwaitPort => "looks whether it listens on its port".to_owned(),
            Action::CloseIdle => "closes the connection".to_owned(),
            Action::Record(_) => "writes the exit record".to_owned(),
            Action::Finish(record) => match record.reason.as_str() {
                Some(reason) => format!("leaves ({reason})"),
                None => "leaves".to_owned(),
            },
            Action::Report(_) | Action::SetDeadline(..) => continue,
        });
    }
    said
}

/// All transitions there are: from, event, to, what is done.
type Transitions =
    BTreeMap<(usize, &'static str, &'static str), BTreeMap<&'static str, Vec<String>>>;

/// In the order in which a dyno meets them.
const ORDER: [&str; 13] = [
    "Building",
    "AwaitingClient",
    "Launching",
    "Booting",
    "Up",
    "HungUp",
    "LeftAlone",
    "Draining",
    "Stopping",
    "Killed",
    "Ending",
    "Failed",
    "Over",
];

fn explore(attached: bool, formation: Option<OfFormation>) -> Transitions {
    let rules = Rules {
        attached,
        formation,
        ..RULES
    };
    let first = Life::new(rules, "COMMAND".to_owned());
    let (mut known, mut new) = (HashSet::from([first.clone()]), vec![first]);
    let mut transitions = Transitions::new();
    while let Some(life) = new.pop() {
        for (event, word) in events() {
            let possible = match event {
                Event::ClientAttached => life.awaits_client(),
                Event::ClientGone | Event::ClientActive => life.client,
                _ => true,
            };
            if !possible {
                continue;
            }
            let mut next = life.clone();
            let actions = next.step(event, Duration::ZERO);
            let (from, to) = (name(&life), name(&next));
            let mut done = summary(&actions);
            if from == "Ending" {
                // Whichever way it got there.
                for said in &mut done {
                    if said.contains("exited with status") {
                        *said = "logs `Process exited with status STATUS`".to_owned();
                    } else if said.starts_with("leaves") {
                        *said = "leaves".to_owned();
                    }
                }
            }
            if from != to || !done.is_empty() {
                let position = ORDER.iter().position(|known| *known == from).unwrap();
                let events = transitions.entry((position, from, to)).or_default();
                let known = events.entry(word).or_default();
                // The fullest of several ways to do it.
                if done.len() > known.len() {
                    *known = done;
                }
            }
            if known.insert(next.clone()) {
                new.push(next);
            }
        }
    }
    transitions
}

fn diagram(transitions: &Transitions) -> String {
    let mut text = "```mermaid\nstateDiagram-v2\n    [*] --> Building\n".to_owned();
    for ((_, from, to), events) in transitions {
        let words: Vec<_> = events.keys().copied().collect();
        writeln!(text, "    {from} --> {to}: {}", words.join(", ")).unwrap();
    }
    text + "    Over --> [*]\n```\n"
}

fn table(transitions: &Transitions) -> String {
    let mut text = "| in | event | what is done | then |\n|---|---|---|---|\n".to_owned();
    for ((_, from, to), events) in transitions {
        for (word, done) in events {
            let done = done.join("; ").replace('|', "\\|");
            writeln!(text, "| {from} | {word} | {done} | {to} |").unwrap();
        }
    }
    text
}

fn document() -> String {
    let web = OfFormation {
        boot_timeout: Some(Duration::from_secs(60)),
    };
    let (attached, detached) = (explore(true, None), explore(false, None));
    let web = explore(false, Some(web));
    let reached: BTreeSet<_> = [&attached, &detached, &web]
        .iter()
        .flat_map(|transitions| transitions.keys().map(|(_, _, to)| *to))
        .collect();
    // Building is where every dyno begins.
    assert_eq!(reached.len(), ORDER.len() - 1, "reached: {reached:?}");
    format!(
        "# The life of a dyno\n\n\
         A dyno that leaves has written its exit record, has told the server, and has removed what it wrote. \
         Made from the code's own rules (`src/model/dyno/life.rs`) by trying every event in every state that can be reached; \
         `{REWRITE}=1 cargo test --bin dyno diagram` makes it anew. The times are Heroku's, and settings.\n\n\
         ## Attached: `dyno run`\n\n{}\n{}\n\
         ## Detached: `dyno run:detached`\n\n{}\n{}\n\
         ## Of the formation: `web.1`\n\n\
         Another process type than `web` is up as soon as its command runs, and is not drained. A dyno that ends without \
         having been retired is crashed, whatever its status; the server starts another in its place, and a retired one's \
         successor when it is retired.\n\n{}\n{}",
        diagram(&attached),
        table(&attached),
        diagram(&detached),
        table(&detached),
        diagram(&web),
        table(&web),
    )
}

#[test]
fn the_document_says_what_the_code_does() {
    let root =
        std::env::var_os("DYNO_TEST_ROOT").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let path = std::path::Path::new(&root).join("docs/life.md");
    let document = document();
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == document,
        "docs/life.md is not what the code does: {REWRITE}=1 makes it anew"
    );
}
