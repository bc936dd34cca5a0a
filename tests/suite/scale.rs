//! `dyno ps:scale`, `ps:type`, `maintenance`, `open`: what is wanted of an app's dynos, and who may visit them.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::Host;

/// An app with `web`, `worker` and a `clock-2`, deployed.
fn shop(host: &Host) -> PathBuf {
    let procfile = "worker: sleep 1000\nweb: exec sleep 1000 # $PORT\nclock-2: sleep 1000\n";
    let folder = host.folder_of("shop", &[("Procfile", procfile)]);
    host.dyno(&folder, &["deploy", "--no-wait"])
        .finish()
        .succeeds();
    folder
}

/// What `ps:scale` prints.
fn scaled(host: &Host, app: &Path) -> String {
    let printed = host.dyno(app, &["ps:scale"]).finish();
    printed.succeeds().says("").text().trim_end().to_owned()
}

fn get(host: &Host, target: &str) -> (u16, Value) {
    let (status, body) = host.request("GET", target, &json!(null));
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn a_first_deploy_wants_one_web_and_scaling_changes_it() {
    let host = Host::new();
    let app = shop(&host);
    assert_eq!(scaled(&host, &app), "clock-2=0:1X web=1:1X worker=0:1X");
    host.dyno(&app, &["ps:scale", "web=2", "worker+1:standard-2x"])
        .finish()
        .succeeds()
        .prints("")
        .says("Scaling dynos... done, now running worker at 1:Standard-2X, web at 2:1X\n");
    host.wait_for_log(
        "app[api]: Scaled to clock-2@0:1X web@2:1X worker@1:Standard-2X by user dyno@localhost",
    );
    let (_, formation) = get(&host, "/apps/shop/formation");
    let quantities: Vec<_> = formation
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            (
                it["type"].as_str().unwrap(),
                it["quantity"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(quantities, [("worker", 1), ("web", 2), ("clock-2", 0)]);
    host.dyno(&app, &["ps:scale", "clock-2+1", "web-1:2X"])
        .finish()
        .succeeds()
        .says("Scaling dynos... done, now running web at 1:2X, clock-2 at 1:1X\n");
    assert_eq!(
        scaled(&host, &app),
        "clock-2=1:1X web=1:2X worker=1:Standard-2X"
    );
}

#[test]
fn what_scale_prints_it_takes_back_and_a_crash_changes_nothing() {
    let host = Host::new();
    let app = shop(&host);
    host.dyno(&app, &["ps:scale", "web=3:px", "worker=1:eco"])
        .finish()
        .succeeds();
    let printed = scaled(&host, &app);
    assert_eq!(printed, "clock-2=0:1X web=3:PX worker=1:Eco");
    host.dyno(&app, &["ps:scale", "web=0:1X", "worker=0:1X"])
        .finish()
        .succeeds();
    let words: Vec<_> = std::iter::once("ps:scale")
        .chain(printed.split(' '))
        .collect();
    host.dyno(&app, &words).finish().succeeds();
    if let Some(server) = host.server() {
        server.signal(Signal::KILL);
        server.wait_for_end();
    }
    assert_eq!(scaled(&host, &app), printed);
    // A release keeps what it knows.
    host.dyno(&app, &["config:set", "A=1"]).finish().succeeds();
    host.dyno(&app, &["deploy", "--no-wait"])
        .finish()
        .succeeds();
    assert_eq!(scaled(&host, &app), printed);
}

#[test]
fn scaling_that_makes_no_sense_changes_nothing() {
    let host = Host::with(&[("DYNO_MAX_DYNOS", "5"), ("DYNO_IDLE_LINGER", "60")]);
    let app = shop(&host);
    let scalings = || {
        let lines = host.log_lines();
        lines.iter().filter(|line| line.contains("Scaled")).count()
    };
    let before = scalings();
    for (words, error, hint) in [
        (&["web"][..], "`web` scales nothing", "`web=2`"),
        (
            &["web=2x"],
            "`web=2x` scales nothing",
            "`dyno ps:type web=2x`",
        ),
        (
            &["web=2", "job=1"],
            "no process type `job`",
            "`shop` has clock-2, web, worker",
        ),
        (&["web=2", "web+1"], "`web` is named twice", "once"),
        (
            &["web=2:3X"],
            "no such size as `3X`",
            "the sizes are 1X, 2X",
        ),
        (
            &["web-2"],
            "`web` has 1 dyno, and cannot have 2 fewer",
            "ps:scale web=0",
        ),
        (
            &["web=4", "worker=2"],
            "6 dynos are more than the 5",
            "`max_dynos`",
        ),
        (
            &["web=10001"],
            "`10001` dynos are more than an app can have",
            "10000",
        ),
    ] {
        host.dyno(&app, &[&["ps:scale"], words].concat())
            .finish()
            .fails_with(1, error, hint);
    }
    for (words, error, hint) in [
        (&["3X"][..], "no such size as `3X`", "the sizes are 1X, 2X"),
        (&["web=2"], "no such size as `2`", "`dyno ps:scale web=2`"),
        (
            &["2X", "web=1X"],
            "`2X` gives nothing a size",
            "`web=Standard-2X`",
        ),
        (
            &["job=2X"],
            "no process type `job`",
            "`shop` has clock-2, web, worker",
        ),
    ] {
        host.dyno(&app, &[&["ps:type"], words].concat())
            .finish()
            .fails_with(1, error, hint);
    }
    assert_eq!(scaled(&host, &app), "clock-2=0:1X web=1:1X worker=0:1X");
    assert_eq!(scalings(), before);

    let empty = host.folder_of("empty", &[("file", "")]);
    host.dyno(&empty, &["create"]).finish().succeeds();
    for command in ["ps:scale", "ps:type"] {
        host.dyno(&empty, &[command]).finish().fails_with(
            1,
            "no process types on `empty`",
            "dyno deploy",
        );
    }
    host.dyno(&empty, &["ps:scale", "web=1"])
        .finish()
        .fails_with(1, "no process type `web`", "dyno deploy");
}

#[test]
fn types_that_are_those_of_one_offs_cannot_be_scaled() {
    let host = Host::new();
    let procfile = "run: sleep 1000\nrelease: true\n";
    let app = host.folder_of("odd", &[("Procfile", procfile)]);
    host.dyno(&app, &["deploy"]).finish().succeeds();
    for (word, hint) in [
        ("run=1", "another name"),
        ("release=1", "once for each release"),
    ] {
        host.dyno(&app, &["ps:scale", word]).finish().fails_with(
            1,
            "are one-offs: it cannot be scaled",
            hint,
        );
    }
    host.dyno(&app, &["ps:type", "release=2x"])
        .finish()
        .succeeds();
    assert_eq!(scaled(&host, &app), "release=0:2X run=0:1X");
}

#[test]
fn sizes_are_those_of_all_types_or_of_some() {
    let host = Host::new();
    let app = shop(&host);
    let table = "=== Process Types\n\
                 \n\
                 type     size         qty\n\
                 ───────  ───────────  ───\n\
                 clock-2  1X           0\n\
                 web      Standard-2X  1\n\
                 worker   PX           0\n\
                 \n\
                 === Dyno Totals\n\
                 \n\
                 type         total\n\
                 ───────────  ─────\n\
                 1X           0\n\
                 Standard-2X  1\n\
                 PX           0\n";
    host.dyno(&app, &["ps:type", "web=standard-2x", "worker=px"])
        .finish()
        .succeeds()
        .prints(table)
        .says("");
    host.dyno(&app, &["ps:resize"])
        .finish()
        .succeeds()
        .prints(table);
    host.dyno(&app, &["ps:resize", "standard-1x"])
        .finish()
        .succeeds();
    assert_eq!(
        scaled(&host, &app),
        "clock-2=0:Standard-1X web=1:Standard-1X worker=0:Standard-1X"
    );
    host.wait_for_log(
        "app[api]: Scaled to clock-2@0:Standard-1X web@1:Standard-1X worker@0:Standard-1X by user dyno@localhost",
    );
}

#[test]
fn maintenance_is_switched_and_shown() {
    let host = Host::new();
    let app = shop(&host);
    let shows = |text: &str| {
        host.dyno(&app, &["maintenance"])
            .finish()
            .succeeds()
            .prints(text);
        let (_, app) = get(&host, "/apps/shop");
        assert_eq!(app["maintenance"], json!(text == "on\n"));
    };
    shows("off\n");
    for (on, off) in [
        (&["maintenance", "on"][..], &["maintenance", "off"][..]),
        (&["maintenance:on"], &["maintenance:off"]),
    ] {
        host.dyno(&app, on)
            .finish()
            .succeeds()
            .prints("")
            .says("Enabling maintenance mode for shop... done\n");
        shows("on\n");
        host.dyno(&app, off)
            .finish()
            .succeeds()
            .prints("")
            .says("Disabling maintenance mode for shop... done\n");
        shows("off\n");
    }
    host.wait_for_log_lines("app[api]: Maintenance mode on by user dyno@localhost", 2);
    host.wait_for_log_lines("app[api]: Maintenance mode off by user dyno@localhost", 2);
    host.dyno(&app, &["maintenance", "maybe"])
        .finish()
        .fails_with(2, "invalid value 'maybe'", "dyno maintenance --help");
}

#[test]
fn without_a_router_no_address_is_made_up() {
    let host = Host::with(&[("DYNO_ROUTER", "off")]);
    let app = shop(&host);
    let status = host.dyno(&app, &["server:status"]).finish();
    let status = status.succeeds().text();
    assert!(status.contains("\nrouter:       none\n"), "{status}");
    host.dyno(&app, &["open", "/login"])
        .finish()
        .prints("")
        .fails_with(
            1,
            "no router runs, so `shop` cannot be visited",
            "dyno server:status",
        );
}

#[test]
fn an_app_that_is_not_there_can_neither_be_scaled_nor_opened() {
    let host = Host::new();
    for command in [
        &["ps:scale"][..],
        &["ps:scale", "web=1"],
        &["ps:type", "2X"],
        &["maintenance", "on"],
        &["open"],
    ] {
        host.dyno(&host.path(), &[command, &["-a", "nobody"]].concat())
            .finish()
            .fails_with(1, "no app named `nobody`", "dyno apps");
    }
}
