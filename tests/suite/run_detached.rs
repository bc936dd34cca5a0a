//! `dyno run:detached`: nobody is attached, and the log has it all.

use crate::harness::Host;

#[test]
fn a_detached_run_prints_its_name_and_writes_its_output_into_the_log() {
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(
        &app,
        &["run:detached", "echo out; echo err >&2; printf end; exit 3"],
    )
    .finish()
    .succeeds()
    .prints("Use 'dyno logs -p run.1' to view the log output.\n")
    .says("Running echo out; echo err >&2; printf end; exit 3... up, run.1\n");
    host.wait_until_clean();
    let lines = host.log_lines();
    let start = lines
        .iter()
        .position(|line| line.starts_with("app[api]: Starting process"))
        .unwrap();
    assert_eq!(
        lines[start + 1..],
        [
            "heroku[run.1]: Starting process with command `echo out; echo err >&2; printf end; exit 3`",
            "heroku[run.1]: State changed from starting to up",
            "app[run.1]: out",
            "app[run.1]: err",
            "app[run.1]: end",
            "heroku[run.1]: Process exited with status 3",
            "heroku[run.1]: State changed from up to complete",
        ]
    );
}

#[test]
fn with_t_the_log_is_followed_to_the_dynos_end_and_its_status_is_ours() {
    let host = Host::new();
    let app = host.plain_app();
    // Another dyno's lines are not this one's.
    host.dyno(
        &app,
        &[
            "run:detached",
            "-q",
            "while :; do echo noise; sleep 0.01; done",
        ],
    )
    .finish()
    .succeeds();
    let followed = host
        .dyno(
            &app,
            &[
                "run:detached",
                "-t",
                "for n in 1 2 3; do echo $n; sleep 0.2; done; exit 42",
            ],
        )
        .finish();
    let lines = followed.exits(42).text();
    let lines: Vec<_> = lines
        .lines()
        .map(|line| line.split_once(' ').unwrap().1)
        .collect();
    assert_eq!(
        lines,
        [
            "heroku[run.2]: Starting process with command `for n in 1 2 3; do echo $n; sleep 0.2; done; exit 42`",
            "heroku[run.2]: State changed from starting to up",
            "app[run.2]: 1",
            "app[run.2]: 2",
            "app[run.2]: 3",
            "heroku[run.2]: Process exited with status 42",
            "heroku[run.2]: State changed from up to complete",
        ]
    );
}

#[test]
fn following_goes_on_when_the_server_is_killed() {
    let host = Host::new();
    let app = host.plain_app();
    let followed = host
        .dyno(
            &app,
            &[
                "run:detached",
                "-t",
                "echo begun; sleep 1; seq 1000; exit 9",
            ],
        )
        .start();
    host.wait_for_log("app[run.1]: begun");
    host.kill_server();
    let text = followed.finish().exits(9).text();
    let numbers: Vec<u32> = text
        .lines()
        .filter_map(|line| line.split_once("app[run.1]: ")?.1.parse().ok())
        .collect();
    assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
}

#[test]
fn with_wait_only_the_status_comes_back() {
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(
        &app,
        &[
            "run:detached",
            "--wait",
            "-q",
            "echo out; sleep 0.3; kill -9 $$",
        ],
    )
    .finish()
    .exits(137)
    .prints("run.1\n")
    .says("");
}

#[test]
fn a_script_gets_the_name_alone() {
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(&app, &["run:detached", "-q", "true"])
        .finish()
        .succeeds()
        .prints("run.1\n")
        .says("");
}

#[test]
fn a_process_type_takes_arguments_and_nothing_is_there_to_read() {
    let host = Host::new();
    let app = host.folder_of("typed", &[("Procfile", "greet: echo hello\n")]);
    host.dyno(&app, &["run:detached", "-q", "greet", "the world"])
        .finish()
        .succeeds();
    host.wait_for_log("app[run.1]: hello the world");
    host.dyno(&app, &["run:detached", "-q", "cat; tty; echo read it"])
        .input("not for you")
        .finish()
        .succeeds();
    host.wait_for_log("app[run.2]: not a tty");
    host.wait_for_log("app[run.2]: read it");
}

#[test]
fn a_time_to_live_ends_it() {
    let host = Host::with(&[("DYNO_STOP_GRACE", "5")]);
    let app = host.plain_app();
    // Without walls, `sleep` may be asked before its shell is.
    host.dyno(
        &app,
        &[
            "run:detached",
            "-q",
            "--ttl",
            "1s",
            "trap 'echo asked to go; exit 0' TERM; while :; do sleep 1000 & wait; done",
        ],
    )
    .finish()
    .succeeds();
    host.wait_until_clean();
    let lines = host.log_lines();
    let over = lines
        .iter()
        .position(|line| line == "heroku[run.1]: Time to live is over")
        .unwrap();
    assert_eq!(
        lines[over + 1..],
        [
            "heroku[run.1]: Stopping all processes with SIGTERM",
            "app[run.1]: asked to go",
            "heroku[run.1]: Process exited with status 0",
            "heroku[run.1]: State changed from up to complete",
        ]
    );
}

#[test]
fn a_day_is_the_longest_that_any_dyno_lives() {
    let host = Host::with(&[
        ("DYNO_LIFETIME", "1"),
        ("DYNO_LIFETIME_SPREAD", "0.5"),
        ("DYNO_STOP_GRACE", "1"),
    ]);
    let app = host.plain_app();
    // The second does not go when it is told to.
    for command in ["sleep 1000", "trap '' TERM; while :; do sleep 0.05; done"] {
        host.dyno(&app, &["run:detached", "-q", command])
            .finish()
            .succeeds();
    }
    let attached = host
        .run(&app, &["-q", "echo up; sleep 1000"])
        .open_input()
        .start();
    attached.wait_for_output("up\n");
    attached.finish().exits(143);
    host.wait_until_clean();
    let of = |dyno: &str| {
        let source = format!("heroku[{dyno}]: ");
        let lines: Vec<_> = host
            .log_lines()
            .iter()
            .filter_map(|line| line.strip_prefix(&source).map(str::to_owned))
            .collect();
        let cycling = lines.iter().position(|line| line == "Cycling").unwrap();
        lines[cycling..].to_vec()
    };
    let in_order = [
        "Cycling",
        "State changed from up to complete",
        "Stopping all processes with SIGTERM",
        "Process exited with status 143",
    ];
    assert_eq!(of("run.1"), in_order);
    assert_eq!(of("run.3"), in_order);
    assert_eq!(
        of("run.2"),
        [
            "Cycling",
            "State changed from up to complete",
            "Stopping all processes with SIGTERM",
            "Error R12 (Exit timeout) -> At least one process failed to exit within 1 seconds of SIGTERM",
            "Stopping remaining processes with SIGKILL",
            "Process exited with status 137",
        ]
    );
}

#[test]
fn a_time_to_live_that_makes_no_sense_is_refused() {
    let host = Host::new();
    let app = host.plain_app();
    for (ttl, message) in [
        ("25h", "a time to live of 25h is out of bounds"),
        ("0s", "a time to live of 0s is out of bounds"),
        ("soon", "`soon` is not a length of time"),
    ] {
        host.dyno(&app, &["run:detached", "--ttl", ttl, "true"])
            .finish()
            .exits(125)
            .mentions(message);
    }
}
