//! `heroku run`, `run:detached` and `run:inside` between pipes.

use rustix::process::Signal;

use super::{Heroku, PATIENCE};
use crate::formation::wait_for_states;

const PROCFILE: &str =
    "web: exec python3 -m http.server $PORT\nworker: sleep 1000\ngreet: echo \"hello, $WHO\"\n";

#[test]
fn a_command_runs_with_its_output_its_status_and_its_variables() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    heroku.app("shop", PROCFILE);
    let run = |args: &[&str]| heroku.run(&[&["run", "-a", "shop"], args].concat());
    let plain = run(&["--", "echo", "one two", "and", "three"]);
    plain.succeeds().prints("one two and three\n");
    let said = plain.errors();
    let story = "Running echo \"one two\" and three on shop... ";
    let states: Vec<_> = said.split(story).map(str::trim).collect();
    let expected = ["", "starting, run.1", "connecting, run.1", "up, run.1"];
    assert_eq!(states, expected, "{said}");
    // Its own status only with -x; one argument is text for the shell.
    run(&["exit 3"]).succeeds().prints("");
    let status = run(&["-x", "echo out; echo err >&2; exit 3"]);
    status.exits(3).prints("out\nerr\n");
    status.mentions("Error: Process exited with code 3");
    run(&["-x", "printf no-line-feed"])
        .succeeds()
        .holds("what was printed", |text| text.starts_with("no-line-feed"));
    run(&["-x", "kill -9 $$"]).exits(137);
    // A process type, with further arguments, and variables that go before config.
    heroku
        .run(&["config:set", "-a", "shop", "WHO=nobody"])
        .succeeds();
    run(&["greet", "you"])
        .succeeds()
        .prints("hello, nobody you\n");
    run(&["-x", "-e", "WHO=Ada;A=b c", "--", "greet", "you", "$A"])
        .succeeds()
        .prints("hello, Ada you b c\n");
    let sized = run(&[
        "-s",
        "standard-2x",
        "--type",
        "job",
        "--",
        "echo $DYNO $TERM",
    ]);
    sized
        .succeeds()
        .prints("job.1 xterm\n")
        .mentions("up, job.1");
    let wrong = run(&["-s", "huge", "true"]);
    wrong.exits(2).prints("").mentions("no such size as `huge`");
    heroku
        .run(&["run", "-a", "shop"])
        .exits(1)
        .mentions("Usage: heroku run COMMAND");
    heroku
        .run(&["run", "-a", "nobody", "true"])
        .exits(2)
        .mentions("no app named `nobody`");
}

#[test]
fn the_words_of_a_command_are_taken_apart_as_the_client_puts_them_together() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    heroku.app("shop", PROCFILE);
    let run = |args: &[&str]| heroku.run(&[&["run"], args].concat());
    // Words that stand elsewhere on the line come along once more: a mistake of this version of the client.
    run(&["-a", "shop", "echo", "run"])
        .succeeds()
        .holds("`run echo run` was expected", |text| {
            text.contains("run: command not found")
        });
    run(&["-a", "shop", "--", "bash", "-c", "echo \"a b\""])
        .succeeds()
        .prints("a b\n");
    run(&["-a", "shop", "--", "echo", "$HOME"])
        .succeeds()
        .prints("/app\n");
}

#[test]
fn input_from_a_pipe_arrives_with_its_end() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    heroku.app("shop", PROCFILE);
    let text: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    for more in [&[][..], &["--no-tty"]] {
        let args = [&["run", "-a", "shop", "-x"], more, &["cat"]].concat();
        let copied = heroku.command(&args).input(text.clone()).finish();
        copied.succeeds().prints(&text);
    }
    let counted = heroku
        .command(&[
            "run",
            "-a",
            "shop",
            "-x",
            "--no-tty",
            "wc -c; test -t 0 || echo pipe",
        ])
        .input(text.clone())
        .finish();
    counted
        .succeeds()
        .prints(&format!("{}\npipe\n", text.len()));
}

#[test]
fn a_client_that_is_interrupted_hangs_up_on_its_dyno() {
    let Some(heroku) = Heroku::with(&[("DYNO_HANGUP_INTERVAL", "0.2")]) else {
        return;
    };
    heroku.app("shop", PROCFILE);
    let running = heroku
        .command(&["run", "-a", "shop", "--", "echo begun; exec sleep 1000"])
        .open_input()
        .start();
    running.wait_for_output("begun\n");
    running.signal(Signal::TERM);
    running.finish();
    heroku
        .host
        .wait_for_log("heroku[run.1]: Client connection closed. Sending SIGHUP to all processes");
    heroku
        .host
        .wait_for_log("heroku[run.1]: State changed from up to complete");
}

#[test]
fn a_detached_dyno_is_started_and_its_log_followed() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    let app = heroku.app("shop", PROCFILE);
    let detached = heroku.run(&[
        "run:detached",
        "-a",
        "shop",
        "-e",
        "WHO=Ada",
        "--",
        "greet",
        "run",
    ]);
    detached
        .succeeds()
        .prints("Run heroku logs --app shop --dyno run.1 to view the output.\n\n")
        .says("Running greet run on shop... done, run.1\n");
    heroku.host.wait_for_log("app[run.1]: hello, Ada run");
    let tail = heroku
        .command(&[
            "run:detached",
            "-a",
            "shop",
            "-t",
            "--",
            "seq 1 3; exec sleep 1000",
        ])
        .start();
    tail.wait_for_output("app[run.2]: 3\n");
    wait_for_states(&heroku.host, &app, &["run.2 up", "web.1 up"]);
    // As Heroku's, it stays when its dyno has ended.
    heroku
        .host
        .dyno(&app, &["ps:stop", "run.2"])
        .finish()
        .succeeds();
    tail.wait_for_output("heroku[run.2]: State changed from up to complete\n");
    tail.signal(Signal::INT);
    let tail = tail.finish();
    let text = tail.text();
    let printed = text.lines().filter(|line| line.contains(" app[run.2]: "));
    assert_eq!(printed.count(), 3, "{text}");
}

#[test]
fn a_second_command_runs_inside_of_a_dyno() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    let app = heroku.app("shop", PROCFILE);
    wait_for_states(&heroku.host, &app, &["web.1 up"]);
    let inside = |args: &[&str]| {
        let all = [&["run:inside", "-a", "shop"], args].concat();
        heroku.command(&all).patience(PATIENCE).finish()
    };
    inside(&["web.1", "--", "touch seen; echo $DYNO"])
        .succeeds()
        .prints("web.1\n");
    inside(&["-x", "web.1", "--", "ls seen; exit 4"])
        .exits(4)
        .prints("seen\n");
    inside(&["web.9", "true"]).exits(2).mentions("web.9");
}
