//! Releases: one for each change, with Heroku's words, and back to an earlier one.

use serde_json::{Value, json};

use crate::harness::{Host, write};

/// Version and description of each release, newest first.
fn told(host: &Host, app: &std::path::Path) -> Vec<String> {
    let text = host.dyno(app, &["releases"]).finish().succeeds().text();
    text.lines()
        .skip(1)
        .map(|line| {
            let (told, _) = line.split_once("  dyno@localhost  ").expect(line);
            let mut told = told.split_whitespace().collect::<Vec<_>>().join(" ");
            if let Some(start) = told.find("Deploy ") {
                let digest = &told[start + 7..];
                assert!(
                    digest.len() == 8 && digest.bytes().all(|b| b.is_ascii_hexdigit()),
                    "{told}"
                );
                told.truncate(start + 6);
            }
            told
        })
        .collect()
}

#[test]
fn descriptions_are_herokus() {
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(&app, &["config:set", "B=1", "A=1"])
        .finish()
        .succeeds();
    host.dyno(&app, &["config:unset", "A"]).finish().succeeds();
    write(&app.join("file"), "new");
    host.dyno(&app, &["deploy"]).finish().succeeds();
    host.dyno(&app, &["rollback", "v3"])
        .finish()
        .succeeds()
        .says("Rolling back plain to v3... done, v6\n");
    assert_eq!(
        told(&host, &app),
        [
            "v6 Rollback to v3",
            "v5 Deploy",
            "v4 Remove A config vars",
            "v3 Set A, B config vars",
            "v2 Deploy",
            "v1 Initial release"
        ]
    );
    let text = host.dyno(&app, &["releases", "-n", "2"]).finish().text();
    assert!(
        text.starts_with("=== plain Releases - Current: v6\nv6 "),
        "{text}"
    );
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn a_description_is_one_line_that_no_terminal_obeys() {
    let host = Host::new();
    let app = host.plain_app();
    let releases = host.request("GET", "/apps/plain/releases", &Value::Null);
    let releases: Value = serde_json::from_str(&releases.1).unwrap();
    let slug = &releases[1]["slug"]["id"];
    let wish = json!({"slug": slug, "description": "One\nv9    \u{1b}[2J"});
    let made = host.request("POST", "/apps/plain/releases", &wish);
    assert_eq!(made.0, 201, "{}", made.1);
    for args in [&["releases"][..], &["releases:info"], &["apps:info"]] {
        let text = host.dyno(&app, args).finish().succeeds().text();
        assert!(
            text.contains("One\u{fffd}v9    \u{fffd}[2J"),
            "{args:?}: {text}"
        );
    }
}

#[test]
fn a_long_description_is_cut_in_the_list_and_whole_in_the_release() {
    let host = Host::new();
    let app = host.plain_app();
    let vars: Vec<String> = (0..300)
        .map(|number| format!("VAR_{number:03}=x"))
        .collect();
    let mut command = vec!["config:set"];
    command.extend(vars.iter().map(String::as_str));
    host.dyno(&app, &command).finish().succeeds();
    let listed = host.dyno(&app, &["releases"]).finish();
    listed.succeeds();
    for line in listed.text().lines() {
        assert!(line.chars().count() < 150, "{line}");
    }
    assert!(listed.text().contains("VAR_001, VAR_002"));
    for command in [&["releases:info"][..], &["releases", "--json"]] {
        host.dyno(&app, command)
            .finish()
            .succeeds()
            .holds("the last var", |text| text.contains("VAR_298, VAR_299"));
    }
}

#[test]
fn a_rollback_brings_slug_and_config_back() {
    let host = Host::new();
    let app = host.folder_of(
        "shop",
        &[("Procfile", "show: cat file; echo $A\n"), ("file", "one\n")],
    );
    host.dyno(&app, &["deploy"]).finish().succeeds();
    host.dyno(&app, &["config:set", "A=first"])
        .finish()
        .succeeds();
    write(&app.join("file"), "two\n");
    write(&app.join("Procfile"), "other: true\n");
    host.dyno(&app, &["deploy"]).finish().succeeds();
    host.dyno(&app, &["config:set", "A=second"])
        .finish()
        .succeeds();
    host.run(&app, &["-q", "show 2>/dev/null"])
        .finish()
        .exits(127);

    host.dyno(&app, &["releases:rollback", "v3"])
        .finish()
        .succeeds();
    host.run(&app, &["-q", "show"])
        .finish()
        .prints("one\nfirst\n");
    // Without a version: the release before.
    host.dyno(&app, &["releases:rollback"])
        .finish()
        .succeeds()
        .says("Rolling back shop to v5... done, v7\n");
    host.run(&app, &["-q", "cat file; echo $A"])
        .finish()
        .prints("two\nsecond\n");
    // The version may be written without its letter.
    host.dyno(&app, &["releases:rollback", "3"])
        .finish()
        .succeeds()
        .says("Rolling back shop to v3... done, v8\n");
}

#[test]
fn a_release_can_be_looked_at() {
    let host = Host::new();
    let app = host.app("many-types");
    host.dyno(&app, &["config:set", "A=1"]).finish().succeeds();
    let text = host
        .dyno(&app, &["releases:info"])
        .finish()
        .succeeds()
        .text();
    for line in [
        "=== Release v3",
        "Change:        Set A config vars",
        "By:            dyno@localhost",
        "=== Process types",
        "myworker:  sh bin/count-arguments",
        "=== Config vars",
        "A: 1",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "no `{line}` in\n{text}"
        );
    }
    let earlier = host
        .dyno(&app, &["releases:info", "v2"])
        .finish()
        .succeeds()
        .text();
    assert!(
        earlier.starts_with("=== Release v2\nChange:        Deploy ") && !earlier.contains("A: 1"),
        "{earlier}"
    );
    let json = host
        .dyno(&app, &["releases:info", "--json", "v3"])
        .finish()
        .succeeds()
        .text();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["version"], 3);
    assert_eq!(json["current"], true);
    assert_eq!(json["status"], "succeeded");
}

#[test]
fn what_is_not_there_cannot_be_gone_back_to() {
    let host = Host::new();
    let app = host.plain_app();
    for bad in ["v99", "99", "v0", "x", "-1"] {
        let outcome = host.dyno(&app, &["releases:rollback", "--", bad]).finish();
        outcome.exits(1).mentions("error: ");
    }
    host.dyno(&app, &["releases:rollback", "v99"])
        .finish()
        .fails_with(1, "no release `v99`", "dyno releases");
    host.dyno(&app, &["releases:info", "v99"])
        .finish()
        .fails_with(1, "no release `v99`", "dyno releases");
    // v1 has no slug: there is nothing to run in it.
    host.dyno(&app, &["releases:rollback"])
        .finish()
        .fails_with(1, "", "dyno releases");
    assert_eq!(told(&host, &app).len(), 2);
}
