//! Settings: where they come from, what is said of nonsense, and what a running server makes of a change.

use std::fs;

use serde_json::Value;

use crate::harness::Host;

fn configure(host: &Host, text: &str) {
    fs::write(host.state().join("config.toml"), text).unwrap();
}

/// The setting `name` as `dyno settings --json` has it.
fn setting(host: &Host, name: &str) -> Value {
    let shown = host.dyno(&host.path(), &["settings", "--json"]).finish();
    let shown: Vec<Value> = serde_json::from_str(&shown.succeeds().text()).unwrap();
    let found = shown.into_iter().find(|setting| setting["name"] == name);
    found.unwrap_or_else(|| panic!("no setting {name}"))
}

#[test]
fn they_are_shown_with_their_source_and_without_a_server() {
    let host = Host::with(&[("DYNO_STOP_GRACE", "2"), ("DYNO_KEPT_DYNOS", "7")]);
    configure(&host, "stop_grace = 1\nlifetime = \"2h\"\n");
    let shown = host.dyno(&host.path(), &["settings"]).finish();
    let text = shown.succeeds().text();
    for row in [
        ["stop_grace", "2s", "environment"],
        ["kept_dynos", "7", "environment"],
        ["lifetime", "2h", "config.toml"],
        ["slug_limit", "500MiB", "default"],
    ] {
        let found = text
            .lines()
            .any(|line| line.split_whitespace().eq(row.iter().copied()));
        assert!(found, "no {row:?} in\n{text}");
    }
    assert!(host.server().is_none());
    let lifetime = setting(&host, "lifetime");
    assert_eq!(lifetime["default"], "24h");
    assert_eq!(lifetime["variable"], "DYNO_LIFETIME");
}

#[test]
fn a_running_server_tells_its_own() {
    let mut host = Host::with(&[("DYNO_IDLE_LINGER", "60"), ("DYNO_STOP_GRACE", "2")]);
    host.dyno(&host.path(), &["apps"]).finish().succeeds();
    assert!(setting(&host, "stop_grace").get("here").is_none());
    host.set("DYNO_STOP_GRACE", "3");
    configure(&host, "lifetime = 60\n");
    let shown = host.dyno(&host.path(), &["settings"]).finish();
    shown
        .succeeds()
        .mentions("started with other settings")
        .mentions("server:stop");
    let text = shown.text();
    assert!(text.contains("(here: 3s, environment)"), "{text}");
    let stop_grace = setting(&host, "stop_grace");
    assert_eq!(
        (&stop_grace["value"], &stop_grace["here"]["value"]),
        (&"2s".into(), &"3s".into())
    );
    let lifetime = setting(&host, "lifetime");
    assert_eq!(
        (&lifetime["value"], &lifetime["source"]),
        (&"24h".into(), &"default".into())
    );
    assert_eq!(lifetime["here"]["source"], "config.toml");
    // What a command reads for itself is this shell's.
    host.set("DYNO_SLUG_LEVEL", "1");
    assert_eq!(setting(&host, "slug_level")["value"], "1");
}

#[test]
fn the_server_keeps_to_the_file() {
    let host = Host::new();
    configure(&host, "ports = \"23400-23409\" # ten\n");
    let app = host.plain_app();
    let ran = host.run(&app, &["-q", "echo $PORT"]).finish();
    ran.succeeds()
        .holds("a port of the ten", |port| port.starts_with("2340"));
}

#[test]
fn nonsense_in_the_file_starts_no_server_and_stops_none() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let here = host.path();
    let place = format!("`{}` line 2", host.state().join("config.toml").display());
    configure(&host, "# mine\nslug_levle = 3\n");
    for command in ["apps", "settings", "server"] {
        host.dyno(&here, &[command])
            .finish()
            .fails_with(1, &place, "did you mean `slug_level`?");
    }
    host.run(&here, &["true"])
        .finish()
        .fails_with(125, &place, "slug_level");
    host.dyno(&here, &["doctor"])
        .finish()
        .holds("the place", |text| text.contains(&place));
    assert!(host.server().is_none());

    configure(&host, "");
    let app = host.plain_app();
    let server = host.server().expect("a server").pid;
    configure(&host, "\nslug_level = 30\n");
    host.run(&app, &["echo fine"])
        .finish()
        .succeeds()
        .prints("fine\n")
        .mentions("slug_level = 30")
        .mentions("goes on with the settings it has");
    assert_eq!(setting(&host, "slug_level")["value"], "6");
    assert_eq!(host.server().map(|server| server.pid), Some(server));
}

#[test]
fn a_file_too_long_or_no_file_is_told() {
    let host = Host::new();
    let (here, path) = (host.path(), host.state().join("config.toml"));
    configure(&host, &"#".repeat(65 * 1024));
    host.dyno(&here, &["apps"])
        .finish()
        .fails_with(1, "more than 64 KiB", "correct or remove");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    host.dyno(&here, &["apps"])
        .finish()
        .fails_with(1, path.to_str().unwrap(), "correct or remove");
}
