//! What the shell cannot execute, and says little about: the platform adds why, in the log and where the command was given.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::formation::lines_of;
use crate::harness::Host;

const SAYS: &str = "The command could not be executed: ";

/// A program of another machine, as far as anybody looks.
fn foreign() -> Vec<u8> {
    let other: u16 = if cfg!(target_arch = "x86_64") {
        183
    } else {
        62
    };
    let mut bytes = vec![0; 256];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    bytes[16] = 2;
    bytes[18..20].copy_from_slice(&other.to_le_bytes());
    bytes
}

/// An app with files that cannot be executed, each for a reason of its own.
fn app(host: &Host, procfile: &str) -> PathBuf {
    let app = host.folder_of("shop", &[("Procfile", procfile), ("folder/file", "")]);
    for (name, mode, contents) in [
        ("misspelt", 0o755, &b"#!/usr/bin/env pyhton\n"[..]),
        ("missing", 0o755, b"#!/no/such/interpreter\n"),
        ("windows", 0o755, b"#!/bin/sh\r\necho hi\r\n"),
        ("windows-env", 0o755, b"#!/usr/bin/env sh\r\necho hi\r\n"),
        ("not-executable", 0o644, b"#!/bin/sh\n"),
        ("foreign", 0o755, &foreign()),
        ("right", 0o755, b"#!/bin/sh\nexit $1\n"),
    ] {
        let path = app.join(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    app
}

#[test]
fn a_command_that_cannot_be_executed_says_why_and_keeps_its_status() {
    let host = Host::new();
    let app = app(&host, "nothing: true\n");
    let mut runs = 0;
    for (command, why) in [
        (
            "./misspelt",
            "`./misspelt` asks in its first line for `pyhton`, which is not on the dyno's PATH",
        ),
        (
            "exec ./missing",
            "`./missing` asks in its first line for `/no/such/interpreter`, which is not there",
        ),
        (
            "./windows a b",
            "`./windows` has Windows line ends (CRLF), so its first line asks for `/bin/sh\\r`",
        ),
        (
            "A=1 ./windows-env",
            "`./windows-env` has Windows line ends (CRLF)",
        ),
        (
            "./not-executable",
            "`./not-executable` is not executable (`chmod +x` makes it so)",
        ),
        ("./foreign", "`./foreign` is a program for "),
        ("./folder", "`./folder` is a folder"),
        ("true && ./gone", "there is no file `./gone`"),
        (
            "pyhton3 web.py",
            "there is no program `pyhton3` on the dyno's PATH",
        ),
    ] {
        runs += 1;
        let outcome = host.run(&app, &["--no-tty", command]).finish();
        outcome.mentions(&format!("dyno: {SAYS}{why}"));
        assert!(
            matches!(outcome.code(), Some(126 | 127)),
            "{command}: {:?}",
            outcome.code()
        );
        let source = format!("heroku[run.{runs}]");
        host.wait_for_log(&format!("{source}: State changed from up to complete"));
        let logged = lines_of(&host, &source);
        let at = logged
            .iter()
            .position(|line| line.starts_with(&format!("{SAYS}{why}")));
        let at = at.unwrap_or_else(|| panic!("{command}: {logged:?}"));
        assert!(
            logged[at + 1].starts_with("Process exited with status 12"),
            "{logged:?}"
        );
    }
    // These are the command's own.
    for command in ["exit 127", "./right 126", "sh -c ./gone"] {
        let outcome = host.run(&app, &["--no-tty", command]).finish();
        assert!(
            matches!(outcome.code(), Some(126 | 127)),
            "{command}: {:?}",
            outcome.code()
        );
        outcome.does_not_mention(SAYS);
    }
    let other = host.run(&app, &["--no-tty", "cat"]).open_input().start();
    host.wait_for_log("heroku[run.13]: State changed from starting to up");
    for (command, status, why) in [
        (
            "./misspelt",
            127,
            "`./misspelt` asks in its first line for `pyhton`",
        ),
        (
            "./not-executable",
            126,
            "`./not-executable` is not executable",
        ),
    ] {
        host.dyno(&app, &["run:inside", "--no-tty", "run.13", command])
            .finish()
            .exits(status)
            .mentions(&format!("dyno: {SAYS}{why}"));
    }
    other.finish_input().exits(0);
    host.dyno(&app, &["run:detached", "--wait", "./misspelt"])
        .finish()
        .exits(127)
        .mentions("dyno: The command could not be executed: `./misspelt` asks");
}

#[test]
fn a_dyno_of_the_formation_that_cannot_be_executed_says_why_where_it_was_deployed() {
    let host = Host::with(&[("DYNO_CRASH_SECOND_WAIT", "1h")]);
    let app = app(&host, "web: ./windows\n");
    let why = format!("{SAYS}`./windows` has Windows line ends (CRLF)");
    host.dyno(&app, &["deploy"])
        .finish()
        .holds("why", |printed| printed.contains(&why))
        .fails_with(1, "1 dyno crashed: `web.1` (exit 12", "dyno ps");
    let ps = host
        .dyno(&app, &["ps", "--json"])
        .finish()
        .succeeds()
        .text();
    assert!(ps.contains("has Windows line ends (CRLF)"), "{ps}");
}
