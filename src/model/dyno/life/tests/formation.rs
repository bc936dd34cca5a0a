//! A dyno of the formation: up when it listens, crashed when it ends by itself, and replaced.

use super::*;

fn of_formation(boot_timeout: Option<u64>) -> Life {
    let rules = Rules {
        attached: false,
        formation: Some(OfFormation {
            boot_timeout: boot_timeout.map(seconds),
        }),
        ..RULES
    };
    Life::new(rules, "serve".to_owned())
}

fn web() -> Life {
    of_formation(Some(60))
}

/// Its command has been started.
fn started(mut life: Life) -> Life {
    let _ = life.step(Event::SandboxReady, seconds(0));
    let _ = life.step(Event::Started, seconds(1));
    life
}

fn serving() -> Life {
    let mut life = started(web());
    let _ = life.step(Event::Listening, seconds(2));
    life
}

fn retire(why: StopReason, drain: u64) -> Event {
    Event::StopRequested {
        grace: seconds(30),
        why,
        drain: seconds(drain),
    }
}

/// The lines of its end, and its record.
fn end(life: &mut Life, exit: Exit) -> (Vec<String>, ExitRecord) {
    let mut actions = life.step(Event::Exited(exit), seconds(100));
    actions.extend(life.step(Event::InitGone, seconds(100)));
    actions.extend(life.step(Event::Drained, seconds(100)));
    let record = match actions.last() {
        Some(Action::Finish(record)) => record.clone(),
        other => panic!("not over: {other:?}"),
    };
    assert!(actions.contains(&Action::Record(record.clone())));
    let lines = logged(&actions);
    (lines, record)
}

#[test]
fn a_web_dyno_is_up_when_it_listens_and_others_when_they_run() {
    let mut life = web();
    let _ = life.step(Event::SandboxReady, seconds(0));
    let booting = life.step(Event::Started, seconds(1));
    assert_eq!(
        booting,
        [
            Action::TakeOutput,
            Action::AwaitPort,
            Action::SetDeadline(Timer::Phase, Some(seconds(61)))
        ]
    );
    assert!(life.is_up(), "commands may run in it");
    let up = life.step(Event::Listening, seconds(9));
    assert_eq!(
        up,
        [
            Action::SetDeadline(Timer::Phase, None),
            Action::Log(Story::state_changed(DynoState::Starting, DynoState::Up)),
            Action::Report(DynoState::Up)
        ]
    );
    assert_eq!(life.step(Event::Listening, seconds(10)), []);

    let mut worker = of_formation(None);
    let _ = worker.step(Event::SandboxReady, seconds(0));
    let up = worker.step(Event::Started, seconds(1));
    assert!(up.contains(&Action::Report(DynoState::Up)));
    assert!(!up.contains(&Action::AwaitPort));
}

#[test]
fn what_does_not_listen_in_time_is_killed_and_has_crashed() {
    let mut life = started(web());
    let killed = life.step(Event::Deadline(Timer::Phase), seconds(61));
    assert_eq!(
        logged(&killed),
        [
            "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within 60 seconds of launch",
            "Stopping process with SIGKILL",
        ]
    );
    assert!(killed.contains(&Action::KillAll));
    assert_eq!(
        life.step(Event::Listening, seconds(61)),
        [],
        "that is too late"
    );
    let (lines, record) = end(&mut life, Exit::Signal(9));
    assert_eq!(
        lines,
        [
            "Process exited with status 137",
            "State changed from starting to crashed"
        ]
    );
    assert_eq!(
        (record.state, record.reason),
        (DynoState::Crashed, EndReason::BootTimeout)
    );
}

#[test]
fn an_exit_by_itself_is_a_crash_whatever_its_status() {
    for (mut life, before) in [
        (serving(), "up"),
        (started(of_formation(None)), "up"),
        (started(web()), "starting"),
    ] {
        let (lines, record) = end(&mut life, Exit::Status(0));
        assert_eq!(
            lines,
            [
                "Process exited with status 0".to_owned(),
                format!("State changed from {before} to crashed")
            ]
        );
        assert_eq!(
            (record.state, record.reason),
            (DynoState::Crashed, EndReason::Exited)
        );
    }
}

#[test]
fn each_reason_to_retire_has_its_own_words_and_none_is_a_crash() {
    for (why, words, reason) in [
        (
            StopReason::Restarted,
            &["Restarting", "State changed from up to starting"][..],
            EndReason::Restarted,
        ),
        (
            StopReason::Cycled,
            &["Cycling", "State changed from up to starting"],
            EndReason::Cycled,
        ),
        (
            StopReason::ScaledDown,
            &["State changed from up to down"],
            EndReason::ScaledDown,
        ),
        (
            StopReason::Stopped,
            &["State changed from up to down"],
            EndReason::Stopped,
        ),
    ] {
        let mut life = serving();
        let actions = life.step(retire(why, 0), seconds(9));
        let stopping = ["Stopping all processes with SIGTERM"];
        assert_eq!(logged(&actions), [words, &stopping].concat(), "{why:?}");
        assert!(actions.contains(&Action::Report(DynoState::Down)));
        assert!(actions.contains(&Action::SignalAll(DynoSignal::Term)));
        assert!(!life.is_up());
        // Told once: a second request hastens nothing, and only the first reason counts.
        assert_eq!(life.step(retire(StopReason::Cycled, 0), seconds(9)), []);
        let (lines, record) = end(&mut life, Exit::Signal(15));
        assert_eq!(lines, ["Process exited with status 143"]);
        assert_eq!((record.state, record.reason), (DynoState::Down, reason));
    }
}

#[test]
fn one_that_serves_answers_its_requests_before_sigterm() {
    let mut life = serving();
    let actions = life.step(retire(StopReason::Restarted, 10), seconds(20));
    assert_eq!(
        logged(&actions),
        ["Restarting", "State changed from up to starting"]
    );
    let until = Action::SetDeadline(Timer::Phase, Some(seconds(30)));
    assert!(actions.contains(&until));
    let mut answered = life.clone();
    for (life, event) in [
        (&mut life, Event::Deadline(Timer::Phase)),
        (&mut answered, retire(StopReason::Restarted, 0)),
    ] {
        let stopped = life.step(event, seconds(30));
        assert_eq!(logged(&stopped), ["Stopping all processes with SIGTERM"]);
        let kill = Action::SetDeadline(Timer::Phase, Some(seconds(60)));
        assert!(stopped.contains(&kill));
        let killed = life.step(Event::Deadline(Timer::Phase), seconds(60));
        assert!(logged(&killed)[0].starts_with("Error R12 (Exit timeout)"));
        let (_, record) = end(life, Exit::Signal(9));
        assert_eq!(record.state, DynoState::Down);
    }
    // One that ends while it drains has not crashed; one that does not serve has nothing to wait for.
    let mut life = serving();
    let _ = life.step(retire(StopReason::ScaledDown, 10), seconds(20));
    assert_eq!(end(&mut life, Exit::Status(0)).1.state, DynoState::Down);
    let stopped = started(web()).step(retire(StopReason::Restarted, 10), seconds(20));
    assert!(stopped.contains(&Action::SignalAll(DynoSignal::Term)));
    assert_eq!(
        logged(&stopped),
        ["Restarting", "Stopping all processes with SIGTERM"]
    );
}

#[test]
fn one_whose_command_has_not_begun_goes_without_a_process_that_exits() {
    for (why, words) in [
        (StopReason::Restarted, "Restarting"),
        (
            StopReason::ScaledDown,
            "State changed from starting to down",
        ),
    ] {
        let mut life = web();
        let actions = life.step(retire(why, 10), seconds(0));
        assert_eq!(logged(&actions), [words]);
        assert!(actions.contains(&Action::KillAll));
        assert!(
            matches!(actions.last(), Some(Action::Finish(record)) if record.state == DynoState::Down)
        );
    }
}

#[test]
fn without_a_server_it_is_cycled_by_itself() {
    let mut life = serving();
    let actions = life.step(Event::Deadline(Timer::Lifetime), seconds(86_400));
    assert_eq!(
        logged(&actions),
        [
            "Cycling",
            "State changed from up to starting",
            "Stopping all processes with SIGTERM"
        ]
    );
    let (_, record) = end(&mut life, Exit::Signal(15));
    assert_eq!(
        (record.state, record.reason),
        (DynoState::Down, EndReason::Cycled)
    );
}

#[test]
fn one_that_cannot_be_started_has_crashed() {
    let mut life = web();
    let message = "no space left".to_owned();
    let actions = life.step(Event::StartFailed { message }, seconds(0));
    assert_eq!(
        logged(&actions),
        [
            "Error R99 (Platform error) -> Failed to launch the dyno: no space left",
            "State changed from starting to crashed"
        ]
    );
    assert!(
        matches!(actions.last(), Some(Action::Finish(record)) if record.state == DynoState::Crashed)
    );
}
