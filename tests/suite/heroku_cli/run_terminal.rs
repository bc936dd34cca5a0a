//! `heroku run` and `run:inside` on a terminal.

use super::Heroku;
use crate::formation::wait_for_states;
use crate::terminal::{CTRL_C, CTRL_D};

const PROCFILE: &str = "web: exec python3 -m http.server $PORT\nworker: sleep 1000\n";

#[test]
fn a_shell_on_a_terminal_is_one() {
    let Some(mut heroku) = Heroku::new() else {
        return;
    };
    heroku.host.set("TERM", "xterm-256color");
    heroku.app("shop", PROCFILE);
    let terminal = heroku.terminal(&["run", "-a", "shop", "bash"]);
    terminal.wait_for_prompt();
    let screen = terminal.screen();
    // Where there are colours enough, an app has its sign.
    assert!(
        screen.contains("Running bash on ⬢ shop... up, run.1"),
        "{screen}"
    );
    terminal.type_keys("tty; stty size; echo $DYNO $TERM $COLUMNS $LINES\r");
    for line in ["24 80", "run.1 xterm-256color 80 24"] {
        terminal.wait_for_line(line);
    }
    terminal.wait_for_text("\n/dev/pts/");
    // What is typed before its prompt is there, a shell may find in another mode of the terminal.
    terminal.wait_for_prompt();
    // Once it has said something it is what the terminal's keys are for.
    terminal.type_keys("sh -c 'echo begun; exec sleep 1000'\r");
    terminal.wait_for_line("begun");
    terminal.type_keys(CTRL_C);
    terminal.wait_for_text("^C");
    terminal.wait_for_prompt();
    terminal.type_keys("echo $?\r");
    terminal.wait_for_line("130");
    terminal.wait_for_prompt();
    terminal.type_keys(CTRL_D);
    terminal.exits(0);
    terminal.is_restored();
    heroku
        .host
        .wait_for_log("heroku[run.1]: State changed from up to complete");
}

#[test]
fn the_status_of_a_command_on_a_terminal_is_the_clients() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    heroku.app("shop", PROCFILE);
    let terminal = heroku.terminal(&[
        "run",
        "-a",
        "shop",
        "-x",
        "--",
        "read name; echo \"hello, $name\"; exit 5",
    ]);
    terminal.wait_for_text("up, run.1");
    terminal.type_keys("Ada\r");
    terminal.wait_for_line("hello, Ada");
    terminal.exits(5);
    terminal.is_restored();
    let screen = terminal.screen();
    assert!(!screen.contains("heroku-command-exit-status"), "{screen}");
}

#[test]
fn a_shell_inside_of_a_dyno_is_on_a_terminal() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    let app = heroku.app("shop", PROCFILE);
    wait_for_states(&heroku.host, &app, &["web.1 up"]);
    let terminal = heroku.terminal(&["run:inside", "-a", "shop", "web.1", "bash"]);
    terminal.wait_for_prompt();
    terminal.type_keys("echo $DYNO; stty size\r");
    terminal.wait_for_line("web.1");
    terminal.wait_for_line("24 80");
    terminal.wait_for_prompt();
    terminal.type_keys("exit 0\r");
    terminal.exits(0);
    wait_for_states(&heroku.host, &app, &["web.1 up"]);
}
