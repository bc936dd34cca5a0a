//! `heroku releases`, `releases:info`, `releases:rollback`, `releases:output`.

use super::{Heroku, squeezed, told, without_time};
use crate::harness::eventually;

const NO_ADDONS: &str =
    "Warning: Rollback affects code and config vars; it doesn't add or remove addons.";

#[test]
fn releases_are_listed_shown_and_brought_back() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    let app = heroku.app("shop", "worker: sleep 1000\n");
    let deploy = heroku
        .host
        .dyno(&app, &["releases", "-n", "1"])
        .finish()
        .text();
    let deploy = deploy
        .split_whitespace()
        .skip_while(|word| *word != "Deploy");
    let deploy: Vec<_> = deploy.take(2).collect();
    let deploy = deploy.join(" ");
    heroku
        .host
        .dyno(&app, &["config:set", "A=1"])
        .finish()
        .succeeds();
    heroku
        .host
        .dyno(&app, &["config:set", "A=2"])
        .finish()
        .succeeds();

    let releases = |args: &[&str]| heroku.run(&[args, &["-a", "shop"]].concat());
    let table = |args: &[&str]| -> Vec<String> {
        let listed = releases(args);
        listed.succeeds().says("");
        let lines = squeezed(&listed.text());
        lines.iter().map(|line| without_time(line)).collect()
    };
    assert_eq!(
        table(&["releases"]),
        [
            "=== shop Releases - Current: v4",
            "v description user created_at",
            "v4 Set A config vars dyno@localhost TIME",
            "v3 Set A config vars dyno@localhost TIME",
            &format!("v2 {deploy} dyno@localhost TIME"),
            "v1 Initial release dyno@localhost TIME",
        ]
    );
    assert_eq!(
        table(&["releases", "-n", "1"])[2..],
        ["v4 Set A config vars dyno@localhost TIME"]
    );
    let info = releases(&["releases:info", "v3"]);
    info.succeeds().says("");
    let lines = squeezed(&info.text());
    assert_eq!(
        (&lines[..4], &lines[5..]),
        (
            &[
                "=== Release v3".to_owned(),
                "By: dyno@localhost".to_owned(),
                "Change: Set A config vars".to_owned(),
                "Eligible for Rollback?: Yes".to_owned(),
            ][..],
            &["=== v3 Config vars".to_owned(), "A: 1".to_owned()][..]
        )
    );
    let newest = releases(&["releases:info"]);
    assert!(newest.succeeds().text().starts_with("=== Release v4\n"));
    let first = releases(&["releases:info", "1"]);
    first.holds("v1 cannot be gone back to", |text| {
        text.contains("Eligible for Rollback?: No\n")
    });

    let back = |args: &[&str], story: &str, undo: &str| {
        let outcome = releases(args);
        outcome.succeeds().prints("");
        let undo = format!("Warning: To undo, run: heroku rollback {undo}");
        assert_eq!(
            told(&outcome.errors()),
            format!("{story} {NO_ADDONS} {undo}")
        );
    };
    back(
        &["releases:rollback", "v2"],
        "Rolling back shop to v2... done, v5",
        "v4",
    );
    // Without a release it is the one before.
    back(&["rollback"], "Rolling back shop to v4... done, v6", "v5");
    heroku
        .run(&["config:get", "A", "-a", "shop"])
        .succeeds()
        .prints("2\n");
    let never = releases(&["releases:rollback", "v1"]);
    never.exits(2);
    assert!(
        told(&never.errors()).contains("invalid_params"),
        "{}",
        never.errors()
    );
    let none = releases(&["releases:output"]);
    none.succeeds().prints("");
    assert_eq!(
        told(&none.errors()),
        "Warning: Release v6 has no release output available."
    );
}

#[test]
fn what_a_release_phase_prints_is_shown_as_it_runs_and_later() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    let procfile = "release: echo migrating $A; sleep 1; echo 'no  change' >&2; test \"$A\" != fails\nworker: sleep 1000\n";
    let app = heroku.app("shop", procfile);
    let releases = |args: &[&str]| heroku.run(&[args, &["-a", "shop"]].concat());
    releases(&["releases:output", "v2"])
        .succeeds()
        .says("")
        .prints("migrating\nno  change\n");
    releases(&["releases:output", "v1"])
        .succeeds()
        .prints("")
        .mentions("has no release output");
    heroku
        .host
        .dyno(&app, &["config:set", "A=fails"])
        .finish()
        .succeeds();
    eventually("v3 to fail", || {
        let listed = heroku.host.dyno(&app, &["releases"]).finish().text();
        listed.contains("(release command failed)").then_some(())
    });
    let listed = squeezed(&releases(&["releases"]).text());
    assert!(listed[0].ends_with("Current: v2"), "{listed:?}");
    assert!(
        listed[2].starts_with("v3 Set A config vars release command failed"),
        "{listed:?}"
    );
    releases(&["releases:output"])
        .succeeds()
        .prints("migrating fails\nno  change\n");
    // Of the release that is being made, until its phase is over.
    let back = releases(&["releases:rollback", "v2"]);
    back.exits(2);
    heroku
        .host
        .dyno(&app, &["config:unset", "A"])
        .finish()
        .succeeds();
    heroku
        .host
        .wait_for_log_lines("heroku[release.3]: State changed from up to complete", 1);
    let back = releases(&["releases:rollback", "v2"]);
    back.succeeds()
        .mentions("Rolling back shop to v2... done, v5")
        .prints("Running release command...\nmigrating\nno  change\n");
}
