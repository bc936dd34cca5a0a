//! How many dynos there may be, and how much time they have had: both outlive the server.

use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::Host;
use crate::ps::detached;

#[test]
fn more_dynos_than_the_limits_allow_are_refused_whatever_becomes_of_the_server() {
    let host = Host::with(&[
        ("DYNO_MAX_DYNOS", "4"),
        ("DYNO_MAX_ONE_OFFS", "2"),
        ("DYNO_MAX_LARGE_ONE_OFFS", "1"),
    ]);
    let app = host.plain_app();
    let refused = |size: &str, has: &str, hint: &str| {
        host.dyno(&app, &["run:detached", "-s", size, "true"])
            .finish()
            .fails_with(125, &format!("`plain` has {has}, which is the limit"), hint);
    };
    for size in ["1X", "1X", "Eco"] {
        detached(&host, &app, &["-s", size, "sleep 1000"]);
    }
    for _ in 0..2 {
        refused("1X", "2 one-off dynos of size `1X`", "`max_one_offs`");
        refused("eco", "1 one-off dyno of size `Eco`", "dyno ps -a plain");
        host.kill_server();
    }
    detached(&host, &app, &["-s", "px", "sleep 1000"]);
    refused("PX", "1 one-off dyno of size `PX`", "`max_large_one_offs`");
    refused("2X", "4 dynos", "`max_dynos`");
    host.kill_server();
    refused("2X", "4 dynos", "`max_dynos`");
    host.dyno(&app, &["ps:stop", "run.3"]).finish().succeeds();
    // A number that was refused was not used.
    assert_eq!(detached(&host, &app, &["-s", "2X", "sleep 1000"]), "run.5");
    // One whose supervisor is lost while there is no server counts no more, either.
    host.kill_server();
    for supervisor in host.supervisors() {
        supervisor.signal(Signal::KILL);
        supervisor.wait_for_end();
    }
    for _ in 0..2 {
        detached(&host, &app, &["sleep 1000"]);
    }
    refused("1X", "2 one-off dynos of size `1X`", "`max_one_offs`");
}

/// The lines of `dyno usage` with `TIME` for the time, and without what dynos took.
fn usage(host: &Host, app: &Path) -> String {
    let text = host.dyno(app, &["usage"]).finish().succeeds().text();
    let lines = text.lines().map(|line| match line.split_once(": ") {
        None => line.to_owned(),
        Some((what, sum)) => {
            let (time, dynos) = sum.trim_start().split_once(' ').unwrap();
            assert!(time.ends_with('s') || time.ends_with('m'), "{line}");
            // What they took is behind it.
            let dynos = dynos.split_inclusive(')').next().unwrap();
            format!("{what}: TIME {dynos}")
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn usage_counts_what_runs_has_run_and_is_forgotten() {
    let host = Host::with(&[("DYNO_KEPT_DYNOS", "1")]);
    let app = host.plain_app();
    host.dyno(&app, &["usage"])
        .finish()
        .succeeds()
        .prints("No dyno has run yet.\n");
    for _ in 0..3 {
        host.run(&app, &["-q", "true"]).finish().succeeds();
    }
    let name = detached(&host, &app, &["-s", "PX", "sleep 1000"]);
    detached(&host, &app, &["--type", "job", "sleep 1000"]);
    host.dyno(&app, &["ps:stop", &name]).finish().succeeds();
    let shown = "=== plain\n\
                 job (1X): TIME (1 dyno, 1 alive)\n\
                 run (1X): TIME (3 dynos)\n\
                 run (PX): TIME (1 dyno)";
    assert_eq!(usage(&host, &app), shown);
    host.kill_server();
    assert_eq!(usage(&host, &app), shown);

    let other = host.folder_as("plain", "other");
    host.dyno(&other, &["deploy"]).finish().succeeds();
    host.run(&other, &["-q", "true"]).finish().succeeds();
    host.dyno(&app, &["apps:destroy", "--confirm", "plain"])
        .finish()
        .succeeds();
    let all = usage(&host, &app);
    assert!(
        all.starts_with(
            "=== other\nrun (1X): TIME (1 dyno)\n\n=== plain (destroyed)\njob (1X): TIME (1 dyno)\n"
        ) && all.contains("\n\n=== All apps\n"),
        "{all}"
    );
    let json = host
        .dyno(&other, &["usage", "--json", "-a", "other"])
        .finish();
    let json: serde_json::Value = serde_json::from_str(&json.succeeds().text()).unwrap();
    assert_eq!(
        (
            &json[0]["app"]["name"],
            &json[0]["dynos"],
            &json[0]["alive"],
            &json[1]
        ),
        (&json!("other"), &json!(1), &json!(0), &json!(null))
    );
    assert!(json[0]["seconds"].as_f64().unwrap() > 0.0);
}
