//! Config vars: set, shown, removed, and a release for each change.

use crate::harness::Host;
use crate::terminal::Terminal;

const NASTY: &str = "two\nlines, \"quoted\" 'both' ways, $HOME `id` \\n é";

#[test]
fn what_is_set_is_shown_and_given_to_dynos() {
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(&app, &["config:set", "B=2", "A=x=y", "EMPTY="])
        .finish()
        .succeeds()
        .prints("A: x=y\nB: 2\nEMPTY: \n")
        .says("Setting A, B, EMPTY on plain... done, v3\n");
    host.dyno(&app, &["config"])
        .finish()
        .succeeds()
        .prints("=== plain Config Vars\nA:     x=y\nB:     2\nEMPTY: \n");
    host.dyno(&app, &["config:get", "B", "NOPE", "A"])
        .finish()
        .succeeds()
        .prints("2\n\nx=y\n");
    host.run(&app, &["-q", "echo \"$A $B ${EMPTY-unset}\""])
        .finish()
        .prints("x=y 2 \n");
    host.dyno(&app, &["config:unset", "A", "EMPTY"])
        .finish()
        .succeeds()
        .says("Unsetting A, EMPTY on plain... done, v4\n");
    host.run(&app, &["-q", "echo \"${A-unset} $B\""])
        .finish()
        .prints("unset 2\n");
}

#[test]
fn nothing_in_a_value_is_lost() {
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(&app, &["config:set", &format!("NASTY={NASTY}"), "PLAIN=x"])
        .finish()
        .succeeds();
    host.dyno(&app, &["config:get", "NASTY"])
        .finish()
        .prints(&format!("{NASTY}\n"));
    host.run(&app, &["-q", "printf %s \"$NASTY\""])
        .finish()
        .prints(NASTY);
    let json = host.dyno(&app, &["config", "--json"]).finish().text();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json, serde_json::json!({ "NASTY": NASTY, "PLAIN": "x" }));
    // A shell reads back what `-s` prints.
    let shell = host.dyno(&app, &["config", "-s"]).finish().text();
    let script = format!("{shell}\nprintf '%s|%s' \"$NASTY\" \"$PLAIN\"");
    for program in ["sh", "bash"] {
        let output = std::process::Command::new(program)
            .args(["-c", &script])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("{NASTY}|x"),
            "{program}"
        );
    }
}

#[test]
fn no_change_is_no_release() {
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(&app, &["config:set", "A=1"]).finish().succeeds();
    host.dyno(&app, &["config:set", "A=1"])
        .finish()
        .succeeds()
        .mentions("v3");
    host.dyno(&app, &["config:unset", "NOPE"])
        .finish()
        .succeeds()
        .mentions("v3");
    let releases = host.dyno(&app, &["releases"]).finish().text();
    assert!(
        releases.starts_with("=== plain Releases - Current: v3\n"),
        "{releases}"
    );
}

#[test]
fn bad_names_set_nothing() {
    let host = Host::new();
    let app = host.plain_app();
    for bad in ["1A=x", "A-B=x", "=x", "A B=x", "é=x"] {
        host.dyno(&app, &["config:set", "GOOD=1", bad])
            .finish()
            .fails_with(1, "", "");
    }
    host.dyno(&app, &["config:set", "x"])
        .finish()
        .fails_with(1, "`x` sets nothing", "NAME=value");
    host.dyno(&app, &["config"])
        .finish()
        .prints("=== plain Config Vars\n");
}

#[test]
fn config_outlives_a_killed_server() {
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(&app, &["config:set", "A=kept"])
        .finish()
        .succeeds();
    host.kill_server();
    host.dyno(&app, &["config:get", "A"])
        .finish()
        .succeeds()
        .prints("kept\n");
}

#[test]
fn secrets_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(&app, &["config:set", "A=secret"])
        .finish()
        .succeeds();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&host.state()), host.state_mode());
    let server = host.server().unwrap();
    for file in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("/proc/{}/{file}", server.pid)).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("secret"));
    }
    assert!(!host.server_log().contains("secret"));
    assert!(!host.log_lines().join("\n").contains("secret"));
}

#[test]
fn a_value_is_obeyed_by_no_terminal() {
    let host = Host::new();
    let app = host.plain_app();
    let value = "TITLE=a\u{1b}]52;c;eA==\u{7}\nFORGED: b\u{9b}2J";
    host.dyno(&app, &["config:set", value]).finish().succeeds();
    let program = host.program();
    for args in [
        &["config"][..],
        &["config", "--shell"],
        &["config:get", "TITLE"],
        &["releases:info"],
    ] {
        let words = [&[program.to_str().unwrap()], args].concat();
        let terminal = Terminal::start(&host, &app, &words);
        terminal.exits(0);
        let bytes = terminal.bytes();
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.contains("\\u{1b}]52;c;eA==\\u{7}"),
            "{args:?}: {text:?}"
        );
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{9b}']), "{text:?}");
        // What makes a table makes no line of its own.
        let is_table = matches!(args, ["config"] | ["releases:info"]);
        assert_eq!(text.contains("\nFORGED"), !is_table, "{args:?}: {text:?}");
    }
}
