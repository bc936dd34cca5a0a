//! Errors a person can act on: `error:` and `hint:`, each once, and an exit code that cannot be taken for the command's.

use std::fs;
use std::path::Path;

use crate::harness::{Host, write};

#[test]
fn run_fails_with_125_and_says_what_to_do() {
    let host = Host::new();
    let app = host.plain_app();
    let elsewhere = host.path();
    for (folder, args, error, hint) in [
        (&elsewhere, &["true"][..], "which app?", "-a NAME"),
        (
            &app,
            &["-a", "nope", "true"],
            "no app named `nope`",
            "dyno create nope",
        ),
        (
            &app,
            &["-s", "huge", "true"],
            "no such size as `huge`",
            "Standard-1X",
        ),
        (&app, &["-e", "1A=x", "true"], "`1A`", ""),
        (
            &app,
            &["-e", "x", "true"],
            "`x` is not a variable",
            "-e NAME=VALUE",
        ),
        (&app, &[" "], "no command", "dyno run bash"),
        (&app, &["--no-such-option", "true"], "--no-such-option", ""),
        (
            &app,
            &["-C", "/no/such/folder", "true"],
            "/no/such/folder",
            "-C",
        ),
    ] {
        let outcome = host.run(folder, args).finish();
        outcome.fails_with(125, error, hint).prints("");
        outcome.does_not_mention("Running");
    }
    host.run(&app, &[]).finish().exits(125).mentions("error: ");
}

#[test]
fn other_commands_fail_with_1() {
    let host = Host::new();
    let app = host.plain_app();
    let elsewhere = host.path();
    let plain = |args: &[&str], folder: &Path, error: &str, hint: &str| {
        host.dyno(folder, args).finish().fails_with(1, error, hint);
    };
    plain(&["config"], &elsewhere, "which app?", "-a NAME");
    plain(
        &["releases", "-a", "nope"],
        &app,
        "no app named `nope`",
        "dyno apps",
    );
    plain(&["apps:info", "-a", "Not A Name"], &app, "Not A Name", "");
    plain(
        &["create", "plain"],
        &elsewhere,
        "`plain` is taken",
        "dyno apps",
    );
    plain(
        &["create", "Bad_Name"],
        &elsewhere,
        "`Bad_Name`",
        "bad-name",
    );
    plain(
        &["-C", "/no/such/folder", "apps"],
        &app,
        "/no/such/folder",
        "-C",
    );
}

#[test]
fn an_app_without_a_release_is_told() {
    let host = Host::new();
    let here = host.path();
    host.dyno(&here, &["create", "empty"]).finish().succeeds();
    let elsewhere = host.folder_of("elsewhere", &[("file", "")]);
    host.run(&elsewhere, &["-a", "empty", "true"])
        .finish()
        .fails_with(125, "empty", "dyno deploy");
}

#[test]
fn a_process_type_that_is_not_there_is_the_shells_to_report() {
    let host = Host::new();
    let app = host.plain_app();
    host.run(&app, &["-q", "wroker"])
        .finish()
        .exits(127)
        .mentions("wroker: command not found");
}

#[test]
fn a_bad_procfile_line_is_shown_with_its_number() {
    let host = Host::new();
    for (number, (procfile, line, words)) in [
        ("web: true\nno colon here\n", "line 2", "no colon here"),
        ("# one\n\nbad name!: true\n", "line 3", "bad name!"),
        ("web:\n", "line 1", "web"),
    ]
    .into_iter()
    .enumerate()
    {
        let app = host.folder_of(&format!("bad-{number}"), &[("Procfile", procfile)]);
        host.dyno(&app, &["deploy"])
            .finish()
            .fails_with(1, line, "");
        host.run(&app, &["true"])
            .finish()
            .fails_with(125, line, "")
            .mentions(words);
    }
    // Nothing was made.
    host.dyno(&host.path(), &["apps"])
        .finish()
        .prints("You have no apps.\n");
}

#[test]
fn a_procfile_broken_later_releases_nothing() {
    let host = Host::new();
    let app = host.plain_app();
    write(&app.join("Procfile"), "broken\n");
    host.dyno(&app, &["deploy"])
        .finish()
        .fails_with(1, "line 1, `broken`", "TYPE: COMMAND");
    host.run(&app, &["-q", "cat Procfile"])
        .finish()
        .succeeds()
        .prints("nothing: true\n");
}

#[test]
fn a_setting_that_makes_no_sense_is_named() {
    let host = Host::new();
    for (name, value) in [
        ("DYNO_SLUG_LEVEL", "10"),
        ("DYNO_ATTACH_TIMEOUT", "soon"),
        ("DYNO_PORTS", "1-2"),
    ] {
        host.dyno(&host.path(), &["apps"])
            .env(name, value)
            .finish()
            .fails_with(1, &format!("`{name}={value}`"), "it takes");
    }
}

#[test]
fn an_unknown_command_is_refused_and_help_is_no_error() {
    let host = Host::new();
    let here = host.path();
    host.dyno(&here, &["frobnicate"])
        .finish()
        .exits(2)
        .mentions("error: ");
    for args in [
        &["--help"][..],
        &["help"],
        &["run", "--help"],
        &["--version"],
    ] {
        let outcome = host.dyno(&here, args).finish();
        outcome.succeeds().says("");
        assert!(!outcome.stdout.is_empty());
    }
    let version = host.dyno(&here, &["--version"]).finish().text();
    let is_told = format!("dyno {} (", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(&is_told), "{version}");
    assert!(
        version.contains("build ") && version.ends_with(")\n"),
        "{version}"
    );
    // None of these needs a server.
    assert!(host.server().is_none());
}

#[test]
fn a_reader_that_leaves_is_nobodys_error() {
    let host = Host::new();
    let app = host.plain_app();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    host.dyno(&app, &["releases"])
        .stdout(writer)
        .finish()
        .succeeds()
        .says("");
}

#[test]
fn an_output_that_cannot_be_written_is_told() {
    let host = Host::new();
    let app = host.plain_app();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    host.run(&app, &["-q", "echo lost"])
        .stdout(full)
        .finish()
        .exits(125)
        .mentions("error: ");
    host.wait_until_clean();
}

#[test]
fn what_a_command_prints_and_cannot_is_told_with_the_place() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = host.plain_app();
    host.run(&app, &["-q", "true"]).finish().succeeds();
    for command in [
        &["apps"][..],
        &["releases", "--json"],
        &["releases"],
        &["logs"],
        &["server:status"],
        &["config:set", "A=b"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        host.dyno(&app, command)
            .stdout(full.unwrap())
            .finish()
            .fails_with(
                1,
                "cannot write to standard output (`/dev/full`): No space left on device",
                "send it elsewhere, or make room there",
            );
    }
}

#[test]
fn a_file_that_the_state_cannot_have_is_told_with_its_path_and_advice() {
    let host = Host::new();
    let told = |file: &str, command: &str| {
        let path = host.state().join(file);
        fs::create_dir(&path).unwrap();
        let message = format!("cannot write `{}`: Is a directory", path.display());
        host.dyno(&host.path(), &[command]).finish().fails_with(
            1,
            &message,
            "make it writable and make room, or set DYNO_HOME to another folder",
        );
        fs::remove_dir(&path).unwrap();
    };
    told("server.log", "apps");
    told("server.lock", "server");
}

#[test]
fn doctor_says_what_this_host_offers() {
    let host = Host::new();
    let text = host
        .dyno(&host.path(), &["doctor"])
        .finish()
        .succeeds()
        .text();
    let isolation = match host.in_folders() {
        true => "tempdir",
        false => "namespaces",
    };
    for word in [
        "kernel:",
        "state:",
        &format!("isolation:   {isolation}\n"),
        "What `namespaces` needs of this host:\n  user namespaces ",
        &format!("What `{isolation}` promises:\n"),
        &format!("What `{isolation}` does not promise:\n"),
        "What else a hostile dyno is kept from:\n",
        " starting processes until nobody can start any",
    ] {
        assert!(text.contains(word), "no {word:?} in\n{text}");
    }
}
