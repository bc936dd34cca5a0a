//! `dyno run:inside`: a second command in a dyno that runs, as good as the first.

use rustix::process::Signal;

use crate::harness::{Host, Running, eventually, lacks};
use crate::terminal::{CTRL_C, Terminal};

/// A dyno that says `up` and lives until its input ends.
fn running<'a>(host: &'a Host, app: &std::path::Path) -> Running<'a> {
    let running = host
        .run(
            app,
            &["-q", "-e", "MINE=yes", "echo up >said; echo up; cat"],
        )
        .open_input()
        .start();
    running.wait_for_output("up\n");
    running
}

#[test]
fn a_command_inside_sees_the_dynos_files_processes_and_variables() {
    if lacks("ps") {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let first = running(&host, &app);
    host.dyno(
        &app,
        &[
            "run:inside",
            "-e",
            "OURS=too",
            "run.1",
            "cat said; echo $DYNO $MINE $OURS; pwd; pgrep -x cat >/dev/null && echo there; exit 9",
        ],
    )
    .finish()
    .exits(9)
    .prints("up\nrun.1 yes too\n/app\nthere\n")
    .says(
        "Running cat said; echo $DYNO $MINE $OURS; pwd; pgrep -x cat >/dev/null && echo there; \
         exit 9 attached to terminal... up, run.1\n",
    );
    first.finish_input().exits(0);
    host.wait_until_clean();
}

#[test]
fn its_streams_are_apart_binary_and_end_when_they_should() {
    let host = Host::new();
    let app = host.plain_app();
    let first = running(&host, &app);
    let bytes: Vec<u8> = (0..100_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let outcome = host
        .dyno(
            &app,
            &["run:inside", "-q", "run.1", "cat; echo err >&2; kill -9 $$"],
        )
        .input(bytes.clone())
        .finish();
    outcome.exits(137).says("err\n");
    assert!(outcome.stdout == bytes);
    first.finish_input().exits(0);
}

#[test]
fn it_gets_a_terminal_of_its_own() {
    let host = Host::new();
    let app = host.plain_app();
    let first = running(&host, &app);
    let terminal = Terminal::open(&host, &app, &["run:inside", "run.1", "bash"]);
    terminal.wait_for_prompt();
    terminal.resize(40, 100);
    terminal.type_keys("until stty size | grep '40 100'; do sleep 0.01; done; tty; sh -c 'echo begun; exec sleep 1000'\r");
    terminal.wait_for_line("40 100");
    terminal.wait_for_text("/dev/pts/");
    // Ctrl-C between two commands of its own is lost on bash.
    terminal.wait_for_line("begun");
    terminal.type_keys(CTRL_C);
    terminal.wait_for_prompt();
    terminal.type_keys("exit 4\r");
    terminal.exits(4);
    terminal.is_restored();
    first.finish_input().exits(0);
}

#[test]
fn it_ends_with_its_dyno() {
    let host = Host::new();
    let app = host.plain_app();
    let first = running(&host, &app);
    let inside = host
        .dyno(&app, &["run:inside", "-q", "run.1", "echo in; sleep 1000"])
        .open_input()
        .start();
    inside.wait_for_output("in\n");
    first.finish_input().exits(0);
    inside.finish().exits(137).prints("in\n");
    host.wait_until_clean();
}

#[test]
fn a_client_that_leaves_hangs_up_its_own_command_only() {
    let host = Host::new();
    let app = host.plain_app();
    let first = running(&host, &app);
    for signal in [Signal::KILL, Signal::TERM] {
        let inside = host
            .dyno(
                &app,
                &[
                    "run:inside",
                    "-q",
                    "run.1",
                    "rm -f hup; trap 'echo hung up >hup; exit' HUP; echo in; while :; do sleep 1000 & wait; done",
                ],
            )
            .open_input()
            .start();
        inside.wait_for_output("in\n");
        inside.signal(signal);
        inside.finish();
        eventually("the trap of the command inside", || {
            let said = host
                .dyno(&app, &["run:inside", "-q", "run.1", "cat hup 2>/dev/null"])
                .finish()
                .text();
            (said == "hung up\n").then_some(())
        });
    }
    first.finish_input().exits(0).prints("up\n");
}

#[test]
fn there_must_be_a_dyno_that_runs() {
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(&app, &["run:inside", "run.7", "ls"])
        .finish()
        .fails_with(125, "no dyno `run.7`", "`dyno ps` lists those that run");
    host.run(&app, &["-q", "true"]).finish().succeeds();
    host.wait_until_clean();
    host.dyno(&app, &["run:inside", "run.1", "ls"])
        .finish()
        .exits(125)
        .mentions("`run.1` has ended");
}

#[test]
fn it_outlives_the_server() {
    let host = Host::new();
    let app = host.plain_app();
    let first = running(&host, &app);
    let mut inside = host
        .dyno(&app, &["run:inside", "-q", "run.1", "echo in; cat"])
        .open_input()
        .start();
    inside.wait_for_output("in\n");
    host.kill_server();
    inside.write("still there\n");
    inside.finish_input().succeeds().prints("in\nstill there\n");
    host.dyno(&app, &["run:inside", "-q", "run.1", "echo again"])
        .finish()
        .succeeds()
        .prints("again\n");
    first.finish_input().exits(0);
}
