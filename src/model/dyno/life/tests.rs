mod diagram;
mod formation;

use super::events::DynoSignal;
use super::*;
use crate::model::dyno::{ExitRecord, Spent};

use proptest::prelude::*;

const RULES: Rules = Rules {
    attached: true,
    attach_timeout: Duration::from_secs(30),
    hangup_interval: Duration::from_secs(5),
    hangup_count: 3,
    idle_timeout: Duration::from_secs(3600),
    lifetime: Duration::from_secs(86_400),
    time_to_live: None,
    stop_grace: Duration::from_secs(30),
    formation: None,
    memory: MemoryRule {
        quota: 512 << 20,
        limit: 1536 << 20,
    },
};

fn stop(grace: Duration) -> Event {
    Event::StopRequested {
        grace,
        why: StopReason::Stopped,
        drain: Duration::ZERO,
    }
}

fn seconds(n: u64) -> Moment {
    Duration::from_secs(n)
}

fn attached() -> Life {
    Life::new(RULES, "bash".to_owned())
}

fn running() -> Life {
    let mut life = attached();
    let _ = life.step(Event::SandboxReady, seconds(0));
    let _ = life.step(Event::ClientAttached, seconds(0));
    let _ = life.step(Event::Started, seconds(0));
    life
}

fn logged(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .filter_map(|a| {
            if let Action::Log(story) = a {
                Some(story.to_string())
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn an_attached_run_waits_for_its_client_and_ends_with_its_command() {
    let mut life = attached();
    let waiting = life.step(Event::SandboxReady, seconds(0));
    assert_eq!(
        waiting,
        [
            Action::Log(Story::AwaitingClient),
            Action::SetDeadline(Timer::Phase, Some(seconds(30)))
        ]
    );
    let starting = life.step(Event::ClientAttached, seconds(1));
    assert!(starting.contains(&Action::StartCommand));
    assert_eq!(logged(&starting), ["Starting process with command `bash`"]);
    let up = life.step(Event::Started, seconds(1));
    assert!(up.contains(&Action::HandOver));
    let exited = life.step(Event::Exited(Exit::Status(3)), seconds(9));
    assert!(exited.contains(&Action::TellExit(Exit::Status(3), None)));
    let gone = life.step(Event::InitGone, seconds(9));
    assert_eq!(
        logged(&gone),
        [
            "Process exited with status 3",
            "State changed from up to complete"
        ]
    );
    assert!(matches!(gone.last(), Some(Action::Finish(ended)) if ended.exit == Exit::Status(3)));
    assert_eq!(life.step(Event::ClientGone, seconds(9)), []);
}

#[test]
fn a_client_that_comes_first_is_not_waited_for() {
    let mut life = attached();
    assert_eq!(life.step(Event::ClientAttached, seconds(0)), []);
    assert!(
        life.step(Event::SandboxReady, seconds(0))
            .contains(&Action::StartCommand)
    );
}

#[test]
fn nobody_comes() {
    let mut life = attached();
    let _ = life.step(Event::SandboxReady, seconds(0));
    let actions = life.step(Event::Deadline(Timer::Phase), seconds(30));
    assert_eq!(
        logged(&actions)[0],
        "Error R13 (Attach error) -> Failed to attach to process"
    );
    assert!(actions.contains(&Action::KillAll));
    assert!(
        matches!(actions.last(), Some(Action::Finish(e)) if e.reason == EndReason::AttachTimeout)
    );
}

#[test]
fn a_lost_client_is_three_hang_ups_and_then_left_alone() {
    let mut life = running();
    let mut actions = life.step(Event::ClientGone, seconds(100));
    assert_eq!(actions[0], Action::TakeOutput);
    for hangup in 0..3 {
        assert!(
            actions.contains(&Action::SignalAll(DynoSignal::Hup)),
            "{hangup}"
        );
        let due = seconds(105 + 5 * hangup);
        assert_eq!(
            actions.last(),
            Some(&Action::SetDeadline(Timer::Phase, Some(due)))
        );
        actions = life.step(Event::Deadline(Timer::Phase), due);
    }
    assert!(logged(&actions)[0].starts_with("Error R16 (Detached)"));
    assert!(!actions.contains(&Action::KillAll));
    // It may go on for hours, and its output is still read before its end is told.
    assert_eq!(
        life.step(Event::Exited(Exit::Status(0)), seconds(9000)),
        [
            Action::SetDeadline(Timer::Phase, None),
            Action::SetDeadline(Timer::Idle, None),
            Action::SetDeadline(Timer::Lifetime, None),
            Action::Record(ExitRecord {
                state: DynoState::Complete,
                exit: Exit::Status(0),
                reason: EndReason::Exited,
                message: None,
                at_us: None,
                spent: Spent::default(),
            }),
            Action::Report(DynoState::Complete),
        ]
    );
    assert_eq!(
        life.step(Event::InitGone, seconds(9000)),
        [Action::SetDeadline(Timer::Phase, Some(seconds(9010)))]
    );
    let end = life.step(Event::Drained, seconds(9001));
    assert!(matches!(end.last(), Some(Action::Finish(_))));
}

#[test]
fn a_client_lost_while_the_command_starts_is_a_hang_up() {
    let mut life = attached();
    let _ = life.step(Event::SandboxReady, seconds(0));
    let _ = life.step(Event::ClientAttached, seconds(0));
    assert_eq!(life.step(Event::ClientGone, seconds(0)), []);
    let actions = life.step(Event::Started, seconds(0));
    assert!(actions.contains(&Action::SignalAll(DynoSignal::Hup)));
    assert!(actions.contains(&Action::TakeOutput));
}

#[test]
fn a_sandbox_that_fails_tells_its_client_now_or_later() {
    let failed = || Event::StartFailed {
        message: "no room".into(),
    };
    let mut early = attached();
    let _ = early.step(Event::ClientAttached, seconds(0));
    assert!(
        early
            .step(failed(), seconds(0))
            .contains(&Action::TellError("no room".into()))
    );
    let mut late = attached();
    assert!(
        !late
            .step(failed(), seconds(0))
            .iter()
            .any(|a| matches!(a, Action::Finish(_)))
    );
    let told = late.step(Event::ClientAttached, seconds(1));
    assert_eq!(told[0], Action::TellError("no room".into()));
    assert!(matches!(told[1], Action::Finish(_)));
}

#[test]
fn stopping_is_term_then_kill() {
    let mut life = running();
    let actions = life.step(stop(seconds(30)), seconds(0));
    assert!(actions.contains(&Action::SignalAll(DynoSignal::Term)));
    let actions = life.step(Event::Deadline(Timer::Phase), seconds(30));
    assert!(logged(&actions)[0].starts_with("Error R12 (Exit timeout)"));
    assert!(actions.contains(&Action::KillAll));
    let actions = life.step(Event::InitGone, seconds(30));
    assert!(actions.contains(&Action::TellExit(
        Exit::Signal(9),
        Some("The dyno was stopped".to_owned())
    )));
    assert_eq!(logged(&actions)[0], "Process exited with status 137");
}

#[test]
fn output_that_ends_before_its_command_is_not_waited_for() {
    let mut life = running();
    let _ = life.step(Event::ClientGone, seconds(1));
    assert_eq!(life.step(Event::Drained, seconds(1)), []);
    let _ = life.step(Event::Exited(Exit::Signal(1)), seconds(1));
    let end = life.step(Event::InitGone, seconds(1));
    assert!(matches!(end.last(), Some(Action::Finish(record)) if record.exit == Exit::Signal(1)));
}

#[test]
fn a_stop_without_grace_kills_at_once() {
    let mut life = running();
    let actions = life.step(stop(Duration::ZERO), seconds(0));
    assert_eq!(logged(&actions), ["Stopping all processes with SIGKILL"]);
    assert!(actions.contains(&Action::KillAll));
}

#[test]
fn a_killed_init_is_an_exit_by_sigkill() {
    let mut life = running();
    let actions = life.step(Event::InitGone, seconds(5));
    assert!(actions.contains(&Action::TellExit(Exit::Signal(9), None)));
    assert!(matches!(actions.last(), Some(Action::Finish(_))));
}

#[test]
fn a_connection_without_a_byte_for_an_hour_is_closed_as_if_the_client_had_left() {
    let mut life = attached();
    let _ = life.step(Event::SandboxReady, seconds(0));
    let _ = life.step(Event::ClientAttached, seconds(0));
    let idle = |at| Action::SetDeadline(Timer::Idle, Some(seconds(at)));
    assert_eq!(
        life.step(Event::Started, seconds(1)).last(),
        Some(&idle(3601))
    );
    assert_eq!(life.step(Event::ClientActive, seconds(100)), [idle(3700)]);
    let closed = life.step(Event::Deadline(Timer::Idle), seconds(3700));
    assert_eq!(closed[..2], [Action::CloseIdle, Action::TakeOutput]);
    assert!(closed.contains(&Action::SignalAll(DynoSignal::Hup)));
    assert_eq!(life.step(Event::ClientActive, seconds(3701)), []);
}

#[test]
fn a_detached_dyno_and_one_without_the_limit_are_never_idle() {
    let never = |rules| {
        let mut life = Life::new(rules, "bash".to_owned());
        let _ = life.step(Event::SandboxReady, seconds(0));
        let _ = life.step(Event::ClientAttached, seconds(0));
        let up = life.step(Event::Started, seconds(0));
        !up.iter()
            .any(|action| matches!(action, Action::SetDeadline(Timer::Idle, Some(_))))
    };
    assert!(never(Rules {
        attached: false,
        ..RULES
    }));
    assert!(never(Rules {
        idle_timeout: Duration::ZERO,
        ..RULES
    }));
}

#[test]
fn a_one_off_is_cycled_after_a_day_and_says_so_as_heroku_does() {
    let mut life = running();
    assert_eq!(
        life.begin(),
        [Action::SetDeadline(Timer::Lifetime, Some(seconds(86_400)))]
    );
    let cycled = life.step(Event::Deadline(Timer::Lifetime), seconds(86_400));
    assert_eq!(
        logged(&cycled),
        [
            "Cycling",
            "State changed from up to complete",
            "Stopping all processes with SIGTERM"
        ]
    );
    let _ = life.step(Event::Exited(Exit::Signal(15)), seconds(86_401));
    let end = life.step(Event::InitGone, seconds(86_401));
    assert_eq!(logged(&end), ["Process exited with status 143"]);
    assert!(
        matches!(end.last(), Some(Action::Finish(record)) if record.reason == EndReason::Cycled)
    );
}

#[test]
fn a_time_to_live_ends_a_dyno_before_its_day_is_over() {
    let rules = Rules {
        time_to_live: Some(seconds(600)),
        ..RULES
    };
    let mut life = Life::new(rules, "sleep 1d".to_owned());
    assert_eq!(
        life.begin(),
        [Action::SetDeadline(Timer::Lifetime, Some(seconds(600)))]
    );
    let actions = life.step(Event::Deadline(Timer::Lifetime), seconds(600));
    assert!(
        matches!(actions.last(), Some(Action::Finish(record)) if record.reason == EndReason::TimeToLive)
    );
}

#[test]
fn a_stop_without_grace_hastens_one_with() {
    let mut life = running();
    let _ = life.step(stop(seconds(30)), seconds(0));
    assert!(
        life.step(stop(Duration::ZERO), seconds(1))
            .contains(&Action::KillAll)
    );
}

#[test]
fn nobody_can_attach_to_what_another_client_has_left() {
    let mut life = attached();
    assert!(life.awaits_client());
    let _ = life.step(Event::SandboxReady, seconds(0));
    let _ = life.step(Event::ClientAttached, seconds(0));
    let _ = life.step(Event::Started, seconds(0));
    let _ = life.step(Event::ClientGone, seconds(1));
    assert!(!life.awaits_client());
}

/// What a supervisor may meet, in any order; what cannot be at that moment is left out.
fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::SandboxReady),
        Just(Event::StartFailed {
            message: "no".into()
        }),
        Just(Event::ClientAttached),
        Just(Event::ClientActive),
        Just(Event::ClientGone),
        Just(Event::Started),
        (0u8..3).prop_map(|status| Event::Exited(Exit::Status(status))),
        Just(Event::InitGone),
        Just(Event::Drained),
        (0u64..60).prop_map(|grace| stop(Duration::from_secs(grace))),
        (0u64..60, 0u64..20).prop_map(|(grace, drain)| Event::StopRequested {
            grace: seconds(grace),
            why: StopReason::Restarted,
            drain: seconds(drain),
        }),
        Just(Event::Listening),
    ]
}

proptest! {
    /// Whatever happens: one end at most and nothing after it; deadlines lie ahead; and a dyno whose supervisor
    /// does as it is told is killed, or over, by the end of its lifetime, the longest time to drain and the longest grace
    /// period.
    #[test]
    fn every_history_comes_to_its_end(
        happenings in proptest::collection::vec((any_event(), 0u64..20_000), 0..40),
        is_attached in any::<bool>(),
        ttl in proptest::option::of(1u64..86_400),
        formation in proptest::option::of(proptest::option::of(1u64..100)),
    ) {
        let formation = formation.map(|boot| OfFormation { boot_timeout: boot.map(seconds) });
        let rules = Rules {
            attached: is_attached && formation.is_none(),
            time_to_live: ttl.filter(|_| formation.is_none()).map(Duration::from_secs),
            formation,
            ..RULES
        };
        let mut life = Life::new(rules, "c".to_owned());
        let mut run = Run { deadlines: std::collections::HashMap::new(), killed: false, over: false };
        run.take(life.begin(), Duration::ZERO)?;
        let mut now = Duration::ZERO;
        let mut happenings = happenings.into_iter();
        let last_moment = rules.lifetime + Duration::from_secs(20 + 61);
        while now <= last_moment && !run.over {
            let next = happenings.next().map(|(event, pause)| (event, now + Duration::from_secs(pause)));
            let timer = run.deadlines.iter().min_by_key(|(_, at)| **at).map(|(timer, at)| (*timer, *at));
            match (next, timer) {
                (next, Some((timer, at))) if next.as_ref().is_none_or(|(_, then)| at <= *then) => {
                    run.deadlines.remove(&timer);
                    now = now.max(at);
                    run.take(life.step(Event::Deadline(timer), now), now)?;
                    // An event that would have come later is not looked at any more: histories are random anyway.
                }
                (Some((event, then)), _) => {
                    now = then;
                    let possible = match event {
                        Event::ClientAttached => life.awaits_client(),
                        Event::ClientGone | Event::ClientActive => life.client,
                        _ => true,
                    };
                    if possible {
                        run.take(life.step(event, now), now)?;
                    }
                }
                (None, Some(_)) => unreachable!("a timer without a next event is due"),
                (None, None) => break,
            }
        }
        let ending = matches!(life.phase, Phase::Ending { .. });
        prop_assert!(run.killed || run.over || ending, "lives on: {life:?}");
    }
}

struct Run {
    deadlines: std::collections::HashMap<Timer, Moment>,
    killed: bool,
    over: bool,
}

impl Run {
    fn take(&mut self, actions: Vec<Action>, now: Moment) -> Result<(), TestCaseError> {
        prop_assert!(
            !self.over || actions.is_empty(),
            "after the end: {actions:?}"
        );
        for action in actions {
            prop_assert!(!self.over, "after the end: {action:?}");
            match action {
                Action::SetDeadline(timer, Some(at)) => {
                    prop_assert!(at >= now);
                    self.deadlines.insert(timer, at);
                }
                Action::SetDeadline(timer, None) => {
                    self.deadlines.remove(&timer);
                }
                Action::KillAll => self.killed = true,
                Action::Finish(_) => self.over = true,
                _ => {}
            }
        }
        Ok(())
    }
}

#[test]
fn output_that_somebody_else_keeps_open_is_not_waited_for_for_ever() {
    let mut life = Life::new(
        Rules {
            attached: false,
            ..RULES
        },
        "hand it over".to_owned(),
    );
    let _ = life.step(Event::SandboxReady, seconds(0));
    let _ = life.step(Event::Started, seconds(0));
    let _ = life.step(Event::Exited(Exit::Status(0)), seconds(1));
    let waiting = life.step(Event::InitGone, seconds(1));
    assert_eq!(
        waiting,
        [Action::SetDeadline(Timer::Phase, Some(seconds(11)))]
    );
    let end = life.step(Event::Deadline(Timer::Phase), seconds(11));
    assert!(matches!(end.last(), Some(Action::Finish(_))));
}

fn broken() -> Event {
    Event::Broken {
        message: "panic: why".to_owned(),
    }
}

#[test]
fn a_failure_of_the_platform_is_never_the_commands_status() {
    let mut life = running();
    let actions = life.step(broken(), seconds(1));
    let [
        Action::Record(record),
        Action::KillAll,
        Action::Log(why),
        Action::Log(change),
        Action::TellError(told),
        Action::Finish(last),
    ] = &actions[..]
    else {
        panic!("{actions:?}");
    };
    assert_eq!(record, last);
    assert_eq!(record, &lost_by("panic: why".to_owned()));
    assert_eq!(told, "panic: why");
    assert_eq!(
        why.to_string(),
        "Error R99 (Platform error) -> The dyno was lost: panic: why"
    );
    assert_eq!(change.to_string(), "State changed from up to crashed");
    assert_eq!(life.step(Event::InitGone, seconds(1)), []);
}

#[test]
fn a_failure_before_the_command_is_a_failed_launch_and_one_after_it_changes_nothing() {
    let mut life = attached();
    let actions = life.step(broken(), seconds(0));
    assert_eq!(
        actions[0],
        Action::Record(start_failed("panic: why".to_owned()))
    );
    // The client is still to be told; a second failure does not wait for it.
    let second = life.step(broken(), seconds(0));
    assert_eq!(
        second,
        [Action::Finish(start_failed("panic: why".to_owned()))]
    );

    let mut life = running();
    let _ = life.step(Event::Exited(Exit::Status(3)), seconds(1));
    let actions = life.step(broken(), seconds(1));
    assert!(logged(&actions).contains(&"Process exited with status 3".to_owned()));
    let Some(Action::Finish(record)) = actions.last() else {
        panic!("{actions:?}");
    };
    assert_eq!(record.exit, Exit::Status(3));
}

#[test]
fn more_memory_than_the_quota_is_said_and_more_than_the_limit_kills() {
    let mut life = running();
    let logged = |actions: &[Action]| -> Vec<String> {
        let texts = actions.iter().filter_map(|action| match action {
            Action::Log(story) => Some(story.to_string()),
            _ => None,
        });
        texts.collect()
    };
    assert_eq!(life.step(Event::MemoryMeasured(512 << 20), seconds(1)), []);
    let actions = life.step(Event::MemoryMeasured(528 << 20), seconds(20));
    let said = [
        "Process running mem=528M(103.1%)",
        "Error R14 (Memory quota exceeded)",
    ];
    assert_eq!(logged(&actions), said);
    assert!(life.is_up(), "it goes on");
    let actions = life.step(Event::MemoryExhausted(1536 << 20), seconds(21));
    let said = [
        "Process running mem=1536M(300.0%)",
        "Error R15 (Memory quota vastly exceeded)",
        "Stopping process with SIGKILL",
    ];
    assert_eq!(logged(&actions), said);
    assert!(actions.contains(&Action::KillAll));
    // Said once, however often it is noticed.
    assert_eq!(
        life.step(Event::MemoryExhausted(1536 << 20), seconds(21)),
        []
    );
    assert_eq!(
        life.step(Event::MemoryMeasured(1536 << 20), seconds(21)),
        []
    );
    let actions = life.step(Event::Exited(Exit::Signal(9)), seconds(22));
    let told = actions.iter().find_map(|action| match action {
        Action::TellExit(exit, why) => Some((*exit, why.clone().unwrap_or_default())),
        _ => None,
    });
    let (exit, why) = told.unwrap();
    assert_eq!(exit, Exit::Signal(9));
    assert!(why.contains("1536 MB (R15)"), "{why}");
}

#[test]
fn more_on_disk_than_the_limit_kills_and_is_explained() {
    let mut life = running();
    let full = Event::DiskExhausted {
        written: 70 << 20,
        limit: 64 << 20,
    };
    let actions = life.step(full.clone(), seconds(1));
    let text = "The dyno had 70 MB of files on disk, and its size allows 64 MB";
    assert_eq!(
        actions,
        [
            Action::Log(Story::Other(text.to_owned())),
            Action::Log(Story::KillingProcess),
            Action::KillAll,
        ]
    );
    assert_eq!(life.step(full, seconds(2)), []);
    let actions = life.step(Event::Exited(Exit::Signal(9)), seconds(2));
    let told = Action::TellExit(Exit::Signal(9), Some(text.to_owned()));
    assert!(actions.contains(&told), "{actions:?}");
    let recorded = actions.iter().any(
        |action| matches!(action, Action::Record(record) if record.reason == EndReason::OutOfDisk),
    );
    assert!(recorded, "{actions:?}");
}

#[test]
fn a_dyno_of_the_formation_that_had_too_much_memory_has_crashed() {
    let rules = Rules {
        attached: false,
        formation: Some(OfFormation { boot_timeout: None }),
        ..RULES
    };
    let mut life = Life::new(rules, "leak".to_owned());
    for event in [Event::SandboxReady, Event::Started] {
        let _ = life.step(event, seconds(0));
    }
    let _ = life.step(Event::MemoryMeasured(2 << 30), seconds(1));
    for event in [Event::Exited(Exit::Signal(9)), Event::Drained] {
        let _ = life.step(event, seconds(2));
    }
    let actions = life.step(Event::InitGone, seconds(2));
    let Some(Action::Finish(record)) = actions.last() else {
        panic!("{actions:?}");
    };
    assert_eq!(record.state, DynoState::Crashed);
    assert_eq!(record.reason, EndReason::OutOfMemory);
}
