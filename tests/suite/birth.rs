//! What a command is born with, however its dyno is kept apart: ports, signals, descriptors, and no trace of a secret.

use std::fs;

use crate::harness::Host;

/// The output of `command` in a fresh dyno of a plain app.
fn inside(command: &str) -> String {
    let host = Host::new();
    let app = host.plain_app();
    host.run(&app, &["-q", command]).finish().succeeds().text()
}

#[test]
fn two_live_dynos_have_different_ports() {
    let host = Host::new();
    let app = host.plain_app();
    let mut first = host
        .run(&app, &["-q", "echo $PORT; cat"])
        .open_input()
        .start();
    first.wait_for_output("\n");
    let second = host.run(&app, &["-q", "echo $PORT"]).finish().text();
    first.close_input();
    let outcome = first.finish();
    assert_ne!(outcome.text(), second);
}

#[test]
fn standard_signals_are_at_their_defaults() {
    // Whatever the tests' own caller does with them.
    let text = inside("cat /proc/self/status");
    for name in ["SigBlk", "SigIgn", "SigCgt"] {
        let set = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}:")))
            .unwrap();
        let set = u64::from_str_radix(set.trim(), 16).unwrap();
        assert_eq!(set & 0x7fff_ffff, 0, "{name} {set:x}");
    }
}

#[test]
fn no_descriptor_is_left_open() {
    let text = inside("ls /proc/self/fd | tr '\\n' ' '; ls -l /proc/self/fd >&2");
    // The last one is the listing's own.
    assert_eq!(text, "0 1 2 3 ");
}

#[test]
fn setting_a_secret_leaves_no_trace_on_command_lines() {
    let host = Host::new();
    let app = host.plain_app();
    let mut running = host
        .run(&app, &["-q", "echo up; exec cat"])
        .open_input()
        .start();
    running.wait_for_output("up");
    for process in host.supervisors() {
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{}/{file}", process.pid)).unwrap();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert!(
                !text.contains("exec cat") && !text.contains("PORT"),
                "{text}"
            );
        }
    }
    running.close_input();
    running.finish().succeeds();
}
