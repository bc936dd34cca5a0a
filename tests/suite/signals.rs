//! Signals that a command line was started to ignore, and processes of a dyno that are stopped.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::{Host, Running, eventually, write};
use crate::terminal::{CTRL_C, CTRL_Z, Terminal};

/// `dyno ARGS` of a shell that ignores the signals of this name, as `nohup` and a script's `&` do.
fn ignoring<'a>(host: &'a Host, folder: &Path, names: &str, args: &[&str]) -> Running<'a> {
    let script = format!("trap '' {names}; exec \"$0\" \"$@\"");
    let program = host.program();
    let words = [&["-c", &script, program.to_str().unwrap()], args].concat();
    host.program_of("/bin/sh".as_ref(), folder, &words)
        .open_input()
        .start()
}

#[test]
fn a_signal_that_was_ignored_from_the_start_ends_no_session() {
    let host = Host::new();
    let app = host.plain_app();
    let command = "echo ready; read -r line; echo $line";
    let mut running = ignoring(&host, &app, "HUP INT QUIT TERM", &["run", "-q", command]);
    running.wait_for_output("ready\n");
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM] {
        running.signal(signal);
    }
    running.write("finished\n");
    running.finish().succeeds().prints("ready\nfinished\n");
    // One that is not ignored counts.
    let running = ignoring(&host, &app, "HUP", &["run", "-q", command]);
    running.wait_for_output("ready\n");
    running.signal(Signal::HUP);
    running.signal(Signal::TERM);
    running.finish().exits(143);
    host.wait_until_clean();
}

#[test]
fn nor_does_it_end_a_command_inside_a_tail_or_a_wait() {
    let host = Host::new();
    let app = host.plain_app();
    let first = host.run(&app, &["-q", "echo up; cat"]).open_input().start();
    first.wait_for_output("up\n");
    let args = [
        "run:inside",
        "-q",
        "run.1",
        "echo ready; read -r line; echo $line",
    ];
    let mut inside = ignoring(&host, &app, "HUP", &args);
    inside.wait_for_output("ready\n");
    inside.signal(Signal::HUP);
    inside.write("inside\n");
    inside.finish().succeeds().prints("ready\ninside\n");

    let command = "echo begins; until test -e go; do sleep 0.1; done; echo ends; exit 3";
    let args = ["run:detached", "-q", "--tail", command];
    let tail = ignoring(&host, &app, "HUP INT", &args);
    tail.wait_for_output("begins");
    let wait = ignoring(&host, &app, "HUP INT", &["ps:wait", "run.2"]);
    let logs = ignoring(&host, &app, "INT", &["logs", "-t", "-d", "run.2"]);
    logs.wait_for_output("begins");
    for signal in [Signal::HUP, Signal::INT] {
        tail.signal(signal);
        wait.signal(signal);
    }
    logs.signal(Signal::INT);
    host.dyno(&app, &["run:inside", "-q", "run.2", "touch go"])
        .finish()
        .succeeds();
    tail.wait_for_output("ends");
    tail.finish().exits(3);
    wait.finish().exits(3);
    logs.wait_for_output("ends");
    logs.signal(Signal::TERM);
    logs.finish().dies_of(Signal::TERM);
    first.finish_input().succeeds();
}

#[test]
fn children_are_heard_of_though_their_end_was_to_be_ignored() {
    let host = Host::new();
    let app = host.folder("plain");
    let running = ignoring(
        &host,
        &app,
        "CHLD",
        &["run", "-q", "sh -c 'exit 4'; echo $?"],
    );
    running.finish().succeeds().prints("4\n");
    host.wait_until_clean();
}

/// Stops itself, and would then sleep for long.
const STOPS: &str = "echo $$ >pid; echo ready; kill -STOP $$; sleep 1000";

/// Waits until the process that has written its number down is stopped.
fn wait_for_a_stop(host: &Host, app: &Path, dyno: &str) {
    let look = "grep -q '^State:.T (stopped)' /proc/$(cat pid)/status";
    eventually("a stopped process", || {
        let looked = host.dyno(app, &["run:inside", "-q", dyno, look]).finish();
        (looked.code() == Some(0)).then_some(())
    });
}

#[test]
fn a_stopped_process_takes_notice_of_the_hang_up_and_of_sigterm() {
    let host = Host::new();
    let app = host.plain_app();
    let running = host.run(&app, &["-q", STOPS]).open_input().start();
    running.wait_for_output("ready\n");
    wait_for_a_stop(&host, &app, "run.1");
    running.signal(Signal::KILL);
    host.wait_for_log("heroku[run.1]: Process exited with status 129");

    host.dyno(&app, &["run:detached", "-q", STOPS])
        .finish()
        .succeeds();
    wait_for_a_stop(&host, &app, "run.2");
    host.dyno(&app, &["ps:stop", "run.2"]).finish().succeeds();
    host.wait_for_log("heroku[run.2]: Process exited with status 143");

    // Of a job that is not the command's own.
    let jobs =
        "set -m; sh -c 'echo $$ >pid; kill -STOP $$; sleep 1000' & echo ready; wait; sleep 1000";
    host.dyno(&app, &["run:detached", "-q", jobs])
        .finish()
        .succeeds();
    wait_for_a_stop(&host, &app, "run.3");
    host.dyno(&app, &["ps:stop", "run.3"]).finish().succeeds();
    host.wait_until_clean();
}

#[test]
fn a_stopped_command_inside_ends_with_its_client() {
    let host = Host::new();
    let app = host.plain_app();
    let first = host.run(&app, &["-q", "echo up; cat"]).open_input().start();
    first.wait_for_output("up\n");
    let args = ["run:inside", "-q", "run.1", STOPS];
    let inside = host.dyno(&app, &args).open_input().start();
    inside.wait_for_output("ready\n");
    wait_for_a_stop(&host, &app, "run.1");
    inside.signal(Signal::KILL);
    eventually("its end", || {
        let look = ["run:inside", "-q", "run.1", "! test -e /proc/$(cat pid)"];
        (host.dyno(&app, &look).finish().code() == Some(0)).then_some(())
    });
    first.finish_input().succeeds();
}

/// A program with a Ctrl-Z of its own: it stops itself, and says when it goes on.
fn with_its_own_ctrl_z(host: &Host) -> PathBuf {
    let script = "trap 'echo stopping; kill -STOP $$' TSTP\ntrap 'echo continued' CONT\ntrap 'echo over; exit 7' INT\n\
                  echo ready\nwhile :; do sleep 0.05; done\n";
    host.folder_of(
        "stops",
        &[("Procfile", "web: true\n"), ("stops.sh", script)],
    )
}

#[test]
fn a_program_that_stops_itself_goes_on_where_no_shell_could_make_it() {
    let host = Host::new();
    let app = with_its_own_ctrl_z(&host);
    // The terminal's first process is no job of a shell's. The program is the dyno's command, and a child of it.
    for command in ["exec sh stops.sh", "sh stops.sh; exit $?"] {
        let terminal = Terminal::run(&host, &app, &["-q", command]);
        terminal.wait_for_line("ready");
        for times in 1..3 {
            terminal.type_keys(CTRL_Z);
            terminal.wait_for("that it goes on", |screen| {
                screen.contents().matches("continued").count() == times
            });
        }
        terminal.type_keys(CTRL_C);
        terminal.exits(7);
        terminal.is_restored();
    }
    host.wait_until_clean();
}

#[test]
fn the_command_line_stops_with_its_command_and_both_go_on() {
    let host = Host::new();
    let app = with_its_own_ctrl_z(&host);
    let program = host.program();
    for command in ["exec sh stops.sh", "sh stops.sh; exit $?"] {
        let terminal = Terminal::start(&host, &app, &["bash", "--norc", "--noediting", "-i"]);
        terminal.type_keys("PS1='here> '\r");
        terminal.wait_for("the prompt", |screen| {
            screen.contents().trim_end().ends_with("here>")
        });
        let line = format!("{} run -q '{command}'\r", program.display());
        terminal.type_keys(&line);
        terminal.wait_for_line("ready");
        terminal.type_keys(CTRL_Z);
        terminal.wait_for_text("Stopped");
        terminal.wait_for("the prompt", |screen| {
            screen.contents().trim_end().ends_with("here>")
        });
        terminal.type_keys("echo my own sh''ell\r");
        terminal.wait_for_line("my own shell");
        assert!(!terminal.screen().contains("continued"));
        terminal.type_keys("fg\r");
        terminal.wait_for_line("continued");
        // Its keys are the program's again.
        terminal.type_keys(CTRL_C);
        // The echo may come before the end of the line above.
        terminal.wait_for("the program's last word", |screen| {
            let contents = screen.contents();
            let mut lines = contents.lines().map(str::trim_end);
            lines.any(|line| line == "over" || line == "^Cover")
        });
        terminal.wait_for("the prompt", |screen| {
            screen.contents().trim_end().ends_with("here>")
        });
        terminal.type_keys("echo status $?\r");
        terminal.wait_for_line("status 7");
        terminal.type_keys("exit\r");
        terminal.exits(0);
    }
    host.wait_until_clean();
}

#[test]
fn a_child_that_stops_by_itself_or_by_a_key_of_the_users_own_stops_the_session() {
    let host = Host::new();
    let app = with_its_own_ctrl_z(&host);
    write(&app.join("once.sh"), "kill -STOP $$\n");
    let program = host.program();
    let terminal = Terminal::start(&host, &app, &["bash", "--norc", "--noediting", "-i"]);
    let prompt = || {
        terminal.wait_for("the prompt", |screen| {
            screen.contents().trim_end().ends_with("here>")
        });
    };
    terminal.type_keys("stty susp ^Y; PS1='here> '\r");
    prompt();
    let run = |command: &str| {
        terminal.type_keys(&format!(
            "clear; {} run -q '{command}'\r",
            program.display()
        ));
    };
    run("sh once.sh; echo aft\"\"er");
    terminal.wait_for_text("Stopped");
    prompt();
    terminal.type_keys("fg\r");
    terminal.wait_for_line("after");
    prompt();
    run("sh stops.sh; exit $?");
    terminal.wait_for_line("ready");
    terminal.type_keys("\x19");
    terminal.wait_for_text("Stopped");
    prompt();
    terminal.type_keys("fg\r");
    terminal.wait_for_line("continued");
    terminal.type_keys(CTRL_C);
    prompt();
    terminal.type_keys("exit\r");
    terminal.exits(7);
    host.wait_until_clean();
}
