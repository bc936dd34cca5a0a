//! The order of a command's output and errors, where both go to one file.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::harness::{Command, Host};

/// Writes to both in turn; a line to each in every round.
const IN_TURN: &str = "for i in $(seq 300); do echo step $i; echo error $i >&2; done";

fn in_turn() -> String {
    (1..=300)
        .map(|i| format!("step {i}\nerror {i}\n"))
        .collect()
}

/// What `dyno` writes into one pipe.
fn into_a_pipe(dyno: Command<'_>) -> String {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let running = dyno
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .start();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    running.finish().succeeds();
    text
}

/// What `dyno` writes into one file.
fn into_a_file(dyno: Command<'_>, path: &Path) -> String {
    let file = File::create(path).unwrap();
    dyno.stdout(file.try_clone().unwrap())
        .stderr(file)
        .finish()
        .succeeds();
    fs::read_to_string(path).unwrap()
}

#[test]
fn it_stays_into_a_file_and_into_a_pipe() {
    let host = Host::new();
    let app = host.plain_app();
    let file = host.path().join("both");
    for _ in 0..3 {
        assert_eq!(into_a_pipe(host.run(&app, &["-q", IN_TURN])), in_turn());
        assert_eq!(
            into_a_file(host.run(&app, &["-q", IN_TURN]), &file),
            in_turn()
        );
    }
    host.wait_until_clean();
}

#[test]
fn it_stays_for_a_command_inside_of_a_dyno() {
    let host = Host::new();
    let app = host.plain_app();
    let first = host.run(&app, &["-q", "echo up; cat"]).open_input().start();
    first.wait_for_output("up\n");
    let inside = || host.dyno(&app, &["run:inside", "-q", "run.1", IN_TURN]);
    for _ in 0..3 {
        assert_eq!(into_a_pipe(inside()), in_turn());
    }
    first.finish_input().succeeds();
}

#[test]
fn what_is_said_of_the_run_comes_before_all_of_it() {
    let host = Host::new();
    let app = host.plain_app();
    let text = into_a_pipe(host.run(&app, &["echo out; echo err >&2"]));
    assert!(text.ends_with("... up, run.1\nout\nerr\n"), "{text}");
}

#[test]
fn a_reader_of_both_that_leaves_is_a_broken_pipe_to_both() {
    let host = Host::new();
    let app = host.plain_app();
    for command in ["yes", "yes >&2"] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let dyno = host.run(&app, &["-q", command]);
        let running = dyno
            .stdout(writer.try_clone().unwrap())
            .stderr(writer)
            .start();
        reader.read_exact(&mut [0; 20]).unwrap();
        drop(reader);
        running.finish().exits(141);
    }
    host.wait_until_clean();
}

#[test]
fn different_files_get_what_is_theirs() {
    let host = Host::new();
    let app = host.plain_app();
    host.run(
        &app,
        &[
            "-q",
            "echo out; echo err >&2; ls -l /proc/$$/fd/1 /proc/$$/fd/2 >/dev/null",
        ],
    )
    .finish()
    .succeeds()
    .prints("out\n")
    .says("err\n");
}
