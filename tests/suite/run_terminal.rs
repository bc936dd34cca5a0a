//! `dyno run` on a terminal: what a person types, sees and gets back.

use rustix::process::Signal;

use crate::harness::{self, Host, lacks};
use crate::terminal::{CTRL_C, CTRL_D, CTRL_Z, LEFT, Terminal, UP};

#[test]
fn bash_begins_with_the_status_line_and_the_prompt_and_no_warning() {
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["bash"]);
    terminal.wait_for_prompt();
    assert_eq!(
        terminal.screen().trim_end(),
        "Running bash attached to terminal... up, run.1\n~ $"
    );
    terminal.type_keys("exit\r");
    terminal.exits(0);
    terminal.is_restored();
    host.wait_until_clean();
}

#[test]
fn the_status_line_is_live() {
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["true"]);
    terminal.exits(0);
    terminal.wait_for_line("Running true attached to terminal... up, run.1");
    let drawn = String::from_utf8(terminal.bytes()).unwrap();
    let at = |text: &str| {
        let text = format!("Running true attached to terminal... {text}");
        drawn
            .find(&text)
            .unwrap_or_else(|| panic!("no {text:?} in {drawn:?}"))
    };
    assert!(at("starting, run.1") < at("up, run.1\r\n"), "{drawn:?}");
    assert_eq!(terminal.screen().trim_end().lines().count(), 1);
}

#[test]
fn the_terminal_inside_is_one_that_exists_there() {
    if lacks("ps") {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let command = "tty; test -c \"$(tty)\" && echo a device; echo $TERM; stty size; env | grep -E \"^(COLUMNS|LINES)=\"; \
                   test -t 0 && test -t 1 && test -t 2 && echo three times; ps -o tty= -p $$";
    let terminal = Terminal::run(&host, &app, &[command]);
    terminal.exits(0);
    for line in ["a device", "xterm", "24 80", "three times"] {
        terminal.wait_for_line(line);
    }
    // They would go stale at the first resize.
    assert!(!terminal.screen().contains("COLUMNS=8"));
    if host.in_folders() {
        terminal.wait_for_text("/dev/pts/");
    } else {
        // The first of the dyno's own.
        terminal.wait_for_line("/dev/pts/0");
        terminal.wait_for_line("pts/0");
    }
}

#[test]
fn an_input_that_ends_ends_a_program_on_a_terminal_whether_its_last_line_does_or_not() {
    let host = Host::new();
    let app = host.plain_app();
    for (input, read) in [
        ("abc", "abc"),
        ("abc\n", "abc\n"),
        ("", ""),
        ("a\nb", "a\nb"),
    ] {
        let command = "stty -echo -onlcr; echo ready; cat";
        let mut running = host
            .run(&app, &["-q", "--tty", command])
            .open_input()
            .start();
        running.wait_for_output("ready\n");
        running.write(input);
        running
            .finish_input()
            .succeeds()
            .prints(&format!("ready\n{read}"));
    }
}

#[test]
fn keys_are_shown_once() {
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["bash"]);
    terminal.wait_for_prompt();
    terminal.type_keys("echo hello");
    terminal.wait_for_line("~ $ echo hello");
    terminal.type_keys("\r");
    terminal.wait_for_line("hello");
    terminal.wait_for_prompt();
    terminal.type_keys("sh -c 'echo rea''dy; exec cat'\r");
    terminal.wait_for_line("ready");
    terminal.type_keys("typed\r");
    // Once as it was typed, once by cat.
    terminal.wait_for("two lines `typed`", |screen| {
        let contents = screen.contents();
        contents.lines().filter(|line| *line == "typed").count() == 2
    });
    terminal.type_keys(CTRL_D);
    terminal.wait_for_prompt();
    terminal.type_keys(CTRL_D);
    terminal.exits(0);
    terminal.is_restored();
}

#[test]
fn bash_has_job_control() {
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["bash"]);
    terminal.wait_for_prompt();
    terminal.type_keys("sleep 1000 &\r");
    terminal.wait_for_text("[1] ");
    terminal.wait_for_prompt();
    terminal.type_keys("jobs\r");
    terminal.wait_for_text("Running                 sleep 1000 &");
    terminal.wait_for_prompt();
    // What a program prints shows that it has the terminal; the shell's own words come before.
    let job =
        "bash -c 'trap \"echo conti\"nued CONT; echo rea\"\"dy; while :; do sleep 0.05; done'";
    terminal.type_keys(&format!("{job}\r"));
    terminal.wait_for_line("ready");
    terminal.type_keys(CTRL_Z);
    terminal.wait_for_text("[2]+  Stopped");
    terminal.wait_for_prompt();
    terminal.type_keys("fg\r");
    terminal.wait_for_line("continued");
    terminal.type_keys(CTRL_C);
    terminal.wait_for_prompt();
    let drawn = String::from_utf8(terminal.bytes()).unwrap();
    for warning in ["no job control", "cannot set terminal", "warning"] {
        assert!(!drawn.contains(warning), "{drawn}");
    }
    terminal.type_keys("exit 4\r");
    terminal.exits(4);
    host.wait_until_clean();
}

#[test]
fn ctrl_c_interrupts_the_program_and_not_the_session() {
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["bash"]);
    terminal.wait_for_prompt();
    terminal.type_keys("sh -c 'echo g''o; exec sleep 1000'\r");
    terminal.wait_for_line("go");
    terminal.type_keys(CTRL_C);
    terminal.wait_for_prompt();
    terminal.type_keys("echo status $?\r");
    terminal.wait_for_line("status 130");
    terminal.type_keys("exit\r");
    terminal.exits(0);
    assert!(
        !host
            .log_lines()
            .iter()
            .any(|line| line.contains("connection closed")),
        "{:?}",
        host.log_lines()
    );
}

#[test]
fn ctrl_c_ends_a_command_as_in_a_shell() {
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["echo g''o; exec sleep 1000"]);
    terminal.wait_for_line("go");
    terminal.type_keys(CTRL_C);
    terminal.exits(130);
    terminal.is_restored();
    host.wait_for_log("heroku[run.1]: Process exited with status 130");
    host.wait_until_clean();
}

#[test]
fn the_size_is_right_at_the_start_and_on_every_resize() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = host.app("sizes");
    let terminal = Terminal::run(&host, &app, &["sizes"]);
    terminal.wait_for_line("24 rows, 80 columns");
    for (rows, columns) in [(50, 132), (10, 40), (30, 100)] {
        terminal.resize(rows, columns);
        terminal.wait_for_line(&format!("{rows} rows, {columns} columns"));
    }
    terminal.type_keys(CTRL_C);
    // What is echoed may come before the end of the line above.
    terminal.wait_for_text("bye");
    terminal.exits(0);
}

#[test]
fn stty_reads_the_size() {
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["bash"]);
    terminal.wait_for_prompt();
    terminal.type_keys("stty size\r");
    terminal.wait_for_line("24 80");
    terminal.wait_for_prompt();
    terminal.resize(33, 77);
    terminal.type_keys("until [ \"$(stty size)\" = '33 77' ]; do :; done; echo resi''zed\r");
    terminal.wait_for_line("resized");
    terminal.type_keys("exit\r");
    terminal.exits(0);
}

#[test]
fn vim_edits_and_saves_a_file() {
    if lacks("vim") {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["bash"]);
    terminal.wait_for_prompt();
    terminal.type_keys("vim note.txt\r");
    terminal.wait_for_text("\"note.txt\" [New");
    terminal.type_keys("ihello from vim");
    terminal.wait_for_line("hello from vim");
    terminal.type_keys("\x1b");
    terminal.wait_for("the end of insert mode", |screen| {
        !screen.contents().contains("-- INSERT --")
    });
    terminal.type_keys(":wq\r");
    terminal.wait_for_prompt();
    terminal.type_keys("clear; cat note.txt\r");
    terminal.wait_for("the file's text", |screen| {
        screen.contents().trim_end() == "hello from vim\n~ $"
    });
    terminal.type_keys("exit\r");
    terminal.exits(0);
    terminal.is_restored();
}

#[test]
fn less_pages() {
    if lacks("less") {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["seq 1 500 > numbers; less numbers"]);
    terminal.wait_for("the first page", |screen| {
        screen.contents().starts_with("1\n2\n3\n") && screen.contents().contains("23\n")
    });
    terminal.type_keys("G");
    terminal.wait_for_line("500");
    terminal.type_keys("q");
    terminal.exits(0);
    terminal.is_restored();
}

#[test]
fn top_draws_the_dynos_processes() {
    if lacks("top") {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["top"]);
    terminal.wait_for_text("Tasks:");
    terminal.wait_for_text("COMMAND");
    terminal.type_keys("q");
    terminal.exits(0);
    terminal.is_restored();
}

#[test]
fn the_python_repl_has_history_and_arrow_keys() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["python3"]);
    terminal.wait_for_text(">>> ");
    terminal.type_keys("print(6 * 7)\r");
    terminal.wait_for_line("42");
    terminal.type_keys(UP);
    terminal.wait_for("the line once more", |screen| {
        screen.contents().matches(">>> print(6 * 7)").count() == 2
    });
    terminal.type_keys(&format!("{LEFT}0\r"));
    terminal.wait_for_line("420");
    terminal.wait_for("python's prompt", |screen| {
        screen.contents().trim_end().ends_with("420\n>>>")
    });
    terminal.type_keys(CTRL_D);
    terminal.exits(0);
    terminal.is_restored();
}

#[test]
fn four_ctrl_c_within_a_second_disconnect_by_force() {
    let host = Host::with(&[("DYNO_HANGUP_INTERVAL", "1")]);
    let app = host.app("ignores-int");
    let terminal = Terminal::run(&host, &app, &["stubborn"]);
    terminal.wait_for_line("ready");
    terminal.type_keys(CTRL_C);
    terminal.type_keys("still here\r");
    terminal.wait_for_text("heard still here");
    terminal.type_keys(&CTRL_C.repeat(4));
    terminal.exits(130);
    terminal.wait_for_text("forcing dyno disconnect");
    terminal.is_restored();
    host.wait_for_log("heroku[run.1]: Client connection closed. Sending SIGHUP to all processes");
    host.wait_until_clean();
}

#[test]
fn a_closed_window_hangs_the_dyno_up() {
    let host = Host::new();
    let app = host.app("ignores-int");
    let mut terminal = Terminal::run(&host, &app, &["stubborn"]);
    terminal.wait_for_line("ready");
    terminal.close();
    terminal.process.wait_for_end();
    host.wait_for_log("heroku[run.1]: Client connection closed. Sending SIGHUP to all processes");
    host.wait_for_log("heroku[run.1]: Process exited with status 129");
    host.wait_until_clean();
}

#[test]
fn the_terminal_is_given_back_when_a_signal_ends_the_command_line() {
    let host = Host::new();
    let app = host.plain_app();
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)] {
        let terminal = Terminal::run(&host, &app, &["echo g''o; exec sleep 1000"]);
        terminal.wait_for_line("go");
        assert_ne!(
            format!("{:?}", terminal.settings()),
            format!("{:?}", terminal.before)
        );
        terminal.signal(signal);
        terminal.exits(code);
        terminal.is_restored();
    }
    host.wait_until_clean();
}

#[test]
fn the_terminal_is_given_back_when_the_supervisor_is_killed() {
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["bash"]);
    terminal.wait_for_prompt();
    host.wait_for_supervisor().signal(Signal::KILL);
    terminal.exits(125);
    terminal.wait_for_text("error: `run.1` was lost");
    terminal.wait_for_text("hint: ");
    terminal.is_restored();
    host.wait_until_clean();
}

#[test]
fn a_session_goes_on_when_the_server_is_killed() {
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["bash"]);
    terminal.wait_for_prompt();
    host.kill_server();
    terminal.type_keys("echo still; stty size\r");
    terminal.wait_for_line("still");
    terminal.wait_for_line("24 80");
    terminal.resize(40, 90);
    terminal.type_keys("until [ \"$(stty size)\" = '40 90' ]; do :; done; exit 23\r");
    terminal.exits(23);
    terminal.is_restored();
    // The next server takes up what this one left.
    host.run(&app, &["-q", "echo $DYNO"])
        .finish()
        .prints("run.2\n");
    host.wait_until_clean();
}

#[test]
fn output_to_a_pipe_means_no_terminal_inside() {
    let host = Host::new();
    let app = host.plain_app();
    let binary = harness::binary();
    let line = format!("'{}' run 'tty; echo done' | cat", binary.display());
    let terminal = Terminal::start(&host, &app, &["/bin/sh", "-c", &line]);
    terminal.wait_for_line("not a tty");
    terminal.wait_for_line("done");
    terminal.exits(0);
    terminal.is_restored();
}

#[test]
fn no_tty_means_pipes_even_on_a_terminal() {
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["--no-tty", "tty; exit 6"]);
    terminal.exits(6);
    terminal.wait_for_line("not a tty");
    terminal.is_restored();
}

#[test]
fn tty_gives_a_terminal_between_pipes() {
    let host = Host::new();
    let app = host.plain_app();
    host.run(&app, &["-q", "--tty", "tty"])
        .finish()
        .succeeds()
        .holds("a terminal", |tty| {
            tty.starts_with("/dev/pts/") && tty.ends_with("\r\n")
        });
    // What is typed ends with the input.
    let outcome = host
        .run(
            &app,
            &["-q", "--tty", "stty -echo; echo ready; cat; exit 4"],
        )
        .input("")
        .finish();
    outcome.exits(4).prints("ready\r\n");
}

#[test]
fn without_a_terminal_ctrl_c_ends_the_session() {
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["--no-tty", "echo g''o; exec sleep 1000"]);
    terminal.wait_for_line("go");
    terminal.type_keys(CTRL_C);
    terminal.exits(130);
    terminal.is_restored();
    host.wait_for_log("heroku[run.1]: Process exited with status 129");
    host.wait_until_clean();
}

#[test]
fn stopped_and_brought_back_by_the_users_own_shell() {
    let host = Host::new();
    let app = host.plain_app();
    let binary = harness::binary();
    let terminal = Terminal::start(&host, &app, &["/bin/bash", "--norc", "-i"]);
    terminal.type_keys("PS1='outside> '; clear\r");
    terminal.wait_for("the shell's own prompt", |screen| {
        screen.contents().trim_end() == "outside>"
    });
    terminal.type_keys(&format!("'{}' run bash\r", binary.display()));
    terminal.wait_for_prompt();
    let children = format!(
        "/proc/{pid}/task/{pid}/children",
        pid = terminal.process.pid
    );
    let children = std::fs::read_to_string(children).unwrap();
    let session = harness::Process::find(children.trim().parse().unwrap()).unwrap();
    session.signal(Signal::STOP);
    terminal.wait_for_text("Stopped");
    terminal.type_keys("fg\r");
    terminal.wait_for("the command again", |screen| {
        let contents = screen.contents();
        contents
            .split_once("outside> fg")
            .is_some_and(|(_, after)| after.contains("run bash"))
    });
    terminal.type_keys("\r");
    terminal.wait_for_prompt();
    terminal.type_keys("echo ba''ck\r");
    terminal.wait_for_line("~ $ echo ba''ck");
    terminal.wait_for_line("back");
    terminal.type_keys("exit 3\r");
    terminal.wait_for("the shell's own prompt", |screen| {
        screen.contents().trim_end().ends_with("outside>")
    });
    terminal.type_keys("exit $?\r");
    terminal.exits(3);
    host.wait_until_clean();
}

#[test]
fn a_flood_on_the_terminal_arrives_to_the_last_byte() {
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["-q", "seq 1 100000; printf end"]);
    terminal.exits(0);
    terminal.wait_for_text("end");
    let drawn = String::from_utf8(terminal.bytes()).unwrap();
    let expected: String = (1..=100_000)
        .map(|number| format!("{number}\r\n"))
        .chain(["end".to_owned()])
        .collect();
    assert!(drawn == expected, "{} of {}", drawn.len(), expected.len());
}

#[test]
fn a_pasted_flood_does_not_lock_the_session() {
    let host = Host::new();
    let app = host.plain_app();
    // Nothing reads what is typed; what the dyno prints must come through all the same.
    let terminal = Terminal::run(
        &host,
        &app,
        &["stty -echo raw; echo rea''dy; until [ -e /tmp/never ]; do printf .; sleep 0.05; done"],
    );
    terminal.wait_for("the line `ready`", |screen| {
        screen.contents().contains("\nready")
    });
    let pasted = "x".repeat(3000);
    terminal.type_keys(&pasted);
    let seen = terminal.bytes().len();
    terminal.wait_for_more_than(seen + 3);
    terminal.signal(Signal::TERM);
    terminal.exits(143);
    terminal.is_restored();
    host.wait_until_clean();
}
