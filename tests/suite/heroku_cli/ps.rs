//! `heroku ps`, `ps:scale`, `ps:type`, `ps:stop`, `ps:restart`, `ps:wait`.

use std::net::TcpListener;

use serde_json::Value;

use super::{Heroku, squeezed, told, without_time};
use crate::api_tcp::address_of_its_own;
use crate::formation::{id_of, wait_for_states, wait_for_successor};

const PROCFILE: &str =
    "web: exec python3 -m http.server $PORT\nworker: sleep 1000\nclock: sleep 1001\n";

#[test]
fn the_formation_is_scaled_resized_and_shown() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    let app = heroku.app("shop", PROCFILE);
    let ps = |args: &[&str]| heroku.run(&[args, &["-a", "shop"]].concat());
    ps(&["ps:scale"])
        .succeeds()
        .says("")
        .prints("clock=0:1X web=1:1X worker=0:1X\n");
    ps(&["ps:scale", "web=2", "worker+1:standard-2x", "nonsense"])
        .succeeds()
        .prints("")
        .says("Scaling dynos... done, now running web at 2:1X, worker at 1:Standard-2X\n");
    let nothing = ps(&["ps:scale", "nothing=1"]);
    nothing.exits(2).prints("");
    let said = told(&nothing.errors());
    assert!(
        said.starts_with("Scaling dynos... ! Error: no process type `nothing`"),
        "{said}"
    );
    ps(&["scale", "web-1"])
        .succeeds()
        .says("Scaling dynos... done, now running web at 1:1X\n");

    let types = ps(&["ps:type", "worker=basic"]);
    types.succeeds().says("Scaling dynos on shop... done\n");
    assert_eq!(
        squeezed(&types.text()),
        [
            "=== Process Types",
            "type size qty cost/hour max cost/month",
            "clock 1X 0 ~$0.050 $0",
            "web 1X 1 ~$0.050 $36",
            "worker Basic 1 ~$0.010 $7",
            "=== Dyno Totals",
            "type total",
            "1X 1",
            "Basic 1",
        ]
    );
    let all = ps(&["ps:resize", "standard-1x"]);
    all.succeeds();
    assert!(
        squeezed(&all.text()).contains(&"Standard-1X 2".to_owned()),
        "{}",
        all.text()
    );
    ps(&["ps:type", "nothing=basic"])
        .exits(1)
        .mentions("Types: ");
    wait_for_states(&heroku.host, &app, &["web.1 up", "worker.1 up"]);

    let detached = heroku
        .host
        .dyno(&app, &["run:detached", "-q", "sleep 1002"]);
    detached.finish().succeeds();
    let listed = ["run.1 up", "web.1 up", "worker.1 up"];
    wait_for_states(&heroku.host, &app, &listed);
    let table = |args: &[&str]| -> Vec<String> {
        let listed = ps(args);
        listed.succeeds().says("");
        listed.text().lines().map(without_time).collect()
    };
    assert_eq!(
        table(&["ps"]),
        [
            "=== run: one-off processes (1)",
            "",
            "run.1 (1X): up TIME: sleep 1002",
            "",
            "=== web (Standard-1X): exec python3 -m http.server $PORT (1)",
            "",
            "web.1: up TIME",
            "",
            "=== worker (Standard-1X): sleep 1000 (1)",
            "",
            "worker.1: up TIME",
            "",
        ]
    );
    assert_eq!(
        table(&["ps", "worker"]),
        [
            "=== worker (Standard-1X): sleep 1000 (1)",
            "",
            "worker.1: up TIME",
            "",
        ]
    );
    let none = ps(&["ps", "clock"]);
    none.exits(1).prints("").mentions("No clock dynos on shop");

    let json: Value = serde_json::from_str(&ps(&["ps", "--json"]).text()).unwrap();
    let names: Vec<_> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(names, ["run.1", "web.1", "worker.1"]);
    let extended = squeezed(&ps(&["ps", "-x"]).text()).join("\n");
    for text in [
        "Process State",
        "127.0.0.1",
        "exec python3 -m http.server $PORT",
        "run.1 up",
    ] {
        assert!(extended.contains(text), "{extended}");
    }

    let empty = heroku.host.folder_of("empty", &[]);
    heroku
        .host
        .dyno(&empty, &["create", "empty"])
        .finish()
        .succeeds();
    heroku
        .run(&["ps", "-a", "empty"])
        .succeeds()
        .prints("No dynos on empty\n");
    heroku
        .run(&["ps:scale", "-a", "empty"])
        .exits(1)
        .mentions("No process types on empty.");
}

#[test]
fn dynos_are_stopped_and_restarted_one_by_one_by_type_and_all() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    let app = heroku.app("shop", PROCFILE);
    let host = &heroku.host;
    host.dyno(&app, &["ps:scale", "web=1", "worker=1"])
        .finish()
        .succeeds();
    for _ in 0..3 {
        host.dyno(&app, &["run:detached", "-q", "sleep 1002"])
            .finish()
            .succeeds();
    }
    let up = [
        "run.1 up",
        "run.2 up",
        "run.3 up",
        "web.1 up",
        "worker.1 up",
    ];
    wait_for_states(host, &app, &up);
    let ps = |args: &[&str], story: &str| {
        let outcome = heroku.run(&[args, &["-a", "shop"]].concat());
        outcome.succeeds().prints("");
        assert_eq!(told(&outcome.errors()), story);
    };
    let (web, worker) = (id_of(host, &app, "web.1"), id_of(host, &app, "worker.1"));

    ps(
        &["ps:stop", "-d", "run.1"],
        "Stopping dyno run.1 on shop... done",
    );
    wait_for_states(host, &app, &up[1..]);
    ps(
        &["ps:kill", "run.2"],
        "Warning: DYNO is a deprecated argument. Use --dyno-name or --process-type instead. \
         Stopping dyno run.2 on shop... done",
    );
    ps(
        &["ps:stop", "-p", "run"],
        "Stopping all run dynos on shop... done",
    );
    wait_for_states(host, &app, &up[3..]);
    // In the places of the formation's are others.
    assert_eq!(id_of(host, &app, "worker.1"), worker);
    ps(
        &["ps:stop", "-p", "worker"],
        "Stopping all worker dynos on shop... done",
    );
    let worker = wait_for_successor(host, &app, "worker.1", &worker);

    ps(
        &["ps:restart", "-d", "worker.1"],
        "Restarting dyno worker.1 on shop... done",
    );
    let worker = wait_for_successor(host, &app, "worker.1", &worker);
    assert_eq!(id_of(host, &app, "web.1"), web);
    ps(
        &["ps:restart", "-p", "web"],
        "Restarting all web dynos on shop... done",
    );
    let web = wait_for_successor(host, &app, "web.1", &web);
    assert_eq!(id_of(host, &app, "worker.1"), worker);
    host.dyno(&app, &["run:detached", "-q", "sleep 1002"])
        .finish()
        .succeeds();
    ps(&["restart"], "Restarting all dynos on shop... done");
    wait_for_successor(host, &app, "web.1", &web);
    wait_for_successor(host, &app, "worker.1", &worker);
    wait_for_states(host, &app, &["run.4 up", "web.1 up", "worker.1 up"]);

    let none = heroku.run(&["ps:stop", "-d", "web.7", "-a", "shop"]);
    none.exits(2).mentions("not_found").mentions("web.7");
}

#[test]
fn it_is_waited_for_a_release_to_run_everywhere() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    // It listens once another process does, if it is told where.
    let wait = "until (exec 3<>/dev/tcp/127.0.0.1/$GATE) 2>/dev/null; do sleep 0.1; done";
    let procfile = format!("web: test -z \"$GATE\" || {wait}; exec python3 -m http.server $PORT\n");
    let app = heroku.app("shop", &procfile);
    let wait = ["ps:wait", "-a", "shop"];
    heroku.run(&wait).succeeds().prints("").says("");

    let gate = address_of_its_own();
    let port = gate.split_once(':').unwrap().1;
    let var = format!("GATE={port}");
    heroku
        .host
        .dyno(&app, &["config:set", &var])
        .finish()
        .succeeds();
    let waiting = heroku.command(&wait).start();
    waiting.wait_for_errors("Waiting for every dyno to be running v3... 0 / 1");
    let _gate = TcpListener::bind(&gate).unwrap();
    let waited = waiting.finish();
    waited.succeeds().prints("");
    let said = told(&waited.errors());
    assert!(said.ends_with("1 / 1, done"), "{said}");
}
