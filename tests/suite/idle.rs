//! A connection that nobody uses is closed; one in use, and a dyno without one, are not.

use crate::harness::Host;
use crate::terminal::Terminal;

const CLOSED: &str = "heroku[run.1]: Client connection closed. Sending SIGHUP to all processes";

#[test]
fn a_connection_without_a_byte_either_way_is_closed() {
    let host = Host::with(&[("DYNO_IDLE_TIMEOUT", "1")]);
    let app = host.plain_app();
    let running = host
        .run(&app, &["-q", "echo up; sleep 1000"])
        .open_input()
        .start();
    running.wait_for_output("up\n");
    running
        .finish()
        .exits(129)
        .mentions("the connection was closed after 1 s without input or output");
    host.wait_for_log(CLOSED);
    host.wait_for_log("heroku[run.1]: Process exited with status 129");
    host.wait_until_clean();
}

#[test]
fn a_terminal_is_given_back_when_its_connection_was_idle() {
    let host = Host::with(&[("DYNO_IDLE_TIMEOUT", "1")]);
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["bash"]);
    terminal.wait_for_prompt();
    terminal.exits(129);
    terminal.is_restored();
    terminal.wait_for_text("error: the connection was closed after 1 s without input or output");
    host.wait_until_clean();
}

#[test]
fn input_or_output_keeps_it_open() {
    let host = Host::with(&[("DYNO_IDLE_TIMEOUT", "2")]);
    let app = host.plain_app();
    // Both last for longer than the connection may be idle.
    host.run(
        &app,
        &[
            "-q",
            "for n in 1 2 3 4 5 6 7 8; do sleep 0.5; echo $n; done",
        ],
    )
    .finish()
    .succeeds()
    .prints("1\n2\n3\n4\n5\n6\n7\n8\n");
    let input = host
        .run(
            &app,
            &["-q", "dd bs=1 count=8 of=/dev/null status=none; exit 4"],
        )
        .open_input()
        .start();
    let mut input = input;
    for _ in 0..8 {
        std::thread::sleep(std::time::Duration::from_millis(500));
        input.write("x");
    }
    input.finish().exits(4);
}

#[test]
fn zero_switches_it_off_and_a_detached_dyno_is_never_idle() {
    let host = Host::with(&[("DYNO_IDLE_TIMEOUT", "0")]);
    let app = host.plain_app();
    host.run(&app, &["-q", "sleep 1.5; exit 6"])
        .finish()
        .exits(6);
    let host = Host::with(&[("DYNO_IDLE_TIMEOUT", "0.2")]);
    let app = host.plain_app();
    host.dyno(&app, &["run:detached", "-q", "sleep 1; exit 6"])
        .finish()
        .succeeds();
    host.wait_for_log("heroku[run.1]: Process exited with status 6");
    assert!(!host.log_lines().iter().any(|line| line == CLOSED));
}

#[test]
fn a_connection_to_a_command_inside_is_closed_too() {
    let host = Host::with(&[("DYNO_IDLE_TIMEOUT", "1")]);
    let app = host.plain_app();
    host.dyno(&app, &["run:detached", "-q", "sleep 1000"])
        .finish()
        .succeeds();
    host.dyno(&app, &["run:inside", "-q", "run.1", "sleep 1000"])
        .open_input()
        .start()
        .finish()
        .exits(129)
        .mentions("without input or output");
}
