//! `log-runtime-metrics`: what dynos take of processors and memory, in the log of an app that asks for it.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Host, eventually};
use crate::ps::detached;

fn log(host: &Host, app: &Path) -> String {
    host.dyno(app, &["logs", "-n", "1000"])
        .finish()
        .succeeds()
        .text()
}

/// The sample of this name in a line.
fn sample(line: &str, name: &str) -> Option<f64> {
    let word = format!("sample#{name}=");
    let value = line
        .split_whitespace()
        .find_map(|it| it.strip_prefix(&word))?;
    let number = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    Some(number.parse().unwrap_or_else(|_| panic!("{line}")))
}

#[test]
fn load_and_memory_are_logged_for_an_app_that_asks_for_it() {
    let host = Host::with(&[("DYNO_MEASURE_INTERVAL", "0.3s")]);
    let app = host.plain_app();
    let quiet = detached(&host, &app, &["sleep 1000"]);
    host.dyno(&app, &["labs:enable", "log-runtime-metrics"])
        .finish()
        .succeeds()
        .mentions("Enabling log-runtime-metrics for plain... done");
    let busy = "(head -c 100M /dev/zero; sleep 1000) | tail >/dev/null & while :; do :; done";
    let name = detached(&host, &app, &[busy]);
    let begin = format!("heroku[{name}]: source={name} dyno=heroku.");
    let of_dyno = |log: &str, what: &str| -> Vec<String> {
        let lines = log
            .lines()
            .filter(|it| it.contains(&begin) && it.contains(what));
        lines.map(str::to_owned).collect()
    };
    let load = eventually("a load", || {
        let log = log(&host, &app);
        let load = of_dyno(&log, "sample#load_avg_1m=").pop()?;
        (sample(&load, "load_avg_1m")? >= 0.02).then_some(load)
    });
    let averages = ["load_avg_1m", "load_avg_5m", "load_avg_15m"];
    let [one, five, fifteen] =
        averages.map(|it| sample(&load, it).unwrap_or_else(|| panic!("{load}")));
    assert!(one >= five && five >= fifteen, "{load}");
    let memory = eventually("100 MB", || {
        let lines = of_dyno(&log(&host, &app), "sample#memory_total=");
        lines
            .into_iter()
            .rev()
            .find(|it| sample(it, "memory_rss").is_some_and(|it| it >= 100.0))
    });
    let of = |name: &str| sample(&memory, name);
    assert_eq!(of("memory_quota"), Some(512.0), "{memory}");
    let parts = ["memory_rss", "memory_cache", "memory_swap"];
    let sum: f64 = parts.iter().filter_map(|it| of(it)).sum();
    assert!((of("memory_total").unwrap() - sum).abs() < 0.03, "{memory}");
    assert!(of("memory_rss").unwrap() < 300.0, "{memory}");
    // One that was started before has nothing of it.
    assert!(!log(&host, &app).contains(&format!("source={quiet} ")));

    host.dyno(&app, &["labs:disable", "log-runtime-metrics"])
        .finish()
        .succeeds();
    let labs = host.dyno(&app, &["labs"]).finish().succeeds().text();
    assert!(labs.contains("[ ] log-runtime-metrics"), "{labs}");
    host.dyno(&app, &["ps:stop", &name]).finish().succeeds();
    host.wait_for_log("app[api]: Disable log-runtime-metrics by user dyno@localhost");
}

#[test]
fn features_are_switched_by_the_api_as_on_heroku() {
    let host = Host::new();
    let app = host.plain_app();
    let ask = |method: &str, path: &str, body: &Value| {
        let (status, body) = host.request(method, path, body);
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    let one = "/apps/plain/features/log-runtime-metrics";
    let (status, list) = ask("GET", "/apps/plain/features", &json!({}));
    assert_eq!((status, &list[0]["enabled"]), (200, &json!(false)));
    let (status, changed) = ask("PATCH", one, &json!({"enabled": true}));
    assert_eq!((status, &changed["enabled"]), (200, &json!(true)));
    let by_id = format!("/apps/plain/features/{}", changed["id"].as_str().unwrap());
    let (status, shown) = ask("GET", &by_id, &json!({}));
    assert_eq!((status, &shown["enabled"]), (200, &json!(true)));
    assert_eq!(ask("PATCH", one, &json!({})).0, 422);
    assert_eq!(
        ask(
            "PATCH",
            "/apps/plain/features/nope",
            &json!({"enabled": true})
        )
        .0,
        404
    );
    // Heroku's client asks for one of the account's first.
    assert_eq!(
        ask("GET", "/account/features/log-runtime-metrics", &json!({})).0,
        404
    );
    host.dyno(&app, &["labs:enable", "nope"])
        .finish()
        .fails_with(1, "no feature `nope`", "log-runtime-metrics");
    host.kill_server();
    let labs = host
        .dyno(&app, &["labs:info", "log-runtime-metrics"])
        .finish();
    assert!(labs.succeeds().text().contains("Enabled:     true"));
}
