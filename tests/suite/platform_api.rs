//! The Platform API as programs written for Heroku's use it: every response that its published schema describes
//! satisfies it, resources go by id or name, lists come in the parts that are asked for, and what Heroku's clients merely
//! look for has an answer.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::builds;
use crate::harness::{DEADLINE, Host, eventually, lacks, root};

/// A response.
struct Answer {
    what: String,
    status: u16,
    fields: BTreeMap<String, String>,
    body: Value,
}

impl Answer {
    #[track_caller]
    fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}: {}", self.what, self.body);
        self
    }

    /// It is an error of this kind.
    #[track_caller]
    fn fails(self, status: u16, id: &str) -> Self {
        let answer = self.is(status);
        assert_eq!(answer.body["id"], id, "{}: {}", answer.what, answer.body);
        let message = answer.body["message"].as_str();
        assert!(
            message.is_some_and(|text| !text.is_empty()),
            "{}",
            answer.what
        );
        answer
    }

    /// The ids or versions of a list's members.
    fn each(&self, field: &str) -> Vec<&Value> {
        let list = self.body.as_array().expect("a list");
        list.iter().map(|member| &member[field]).collect()
    }
}

/// A client of the API.
struct Api<'a> {
    host: &'a Host,
    schema: Value,
}

impl<'a> Api<'a> {
    fn of(host: &'a Host) -> Self {
        let schema = root().join("tests/fixtures/platform-api.json");
        let schema = std::fs::read_to_string(schema).unwrap();
        Self {
            host,
            schema: serde_json::from_str(&schema).unwrap(),
        }
    }

    fn send(&self, method: &str, target: &str, range: &str, body: &Value) -> Answer {
        let mut socket = UnixStream::connect(self.host.state().join("api.sock")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        write!(
            socket,
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Accept: application/vnd.heroku+json; version=3.sdk\r\n\
             Range: {range}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let fields = head.lines().skip(1).map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_lowercase(), value.to_owned())
        });
        Answer {
            what: format!("{method} {target}"),
            status,
            fields: fields.collect(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }

    fn get(&self, target: &str) -> Answer {
        self.send("GET", target, "", &Value::Null)
    }

    fn part(&self, target: &str, range: &str) -> Answer {
        self.send("GET", target, range, &Value::Null)
    }

    fn post(&self, target: &str, body: &Value) -> Answer {
        self.send("POST", target, "", body)
    }

    fn patch(&self, target: &str, body: &Value) -> Answer {
        self.send("PATCH", target, "", body)
    }

    /// An answer satisfies the schema of `resource`, with nothing missing; each member, if it is a list.
    #[track_caller]
    fn conforms(&self, resource: &str, answer: &Answer) {
        let definition = &self.schema[resource];
        let validator = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .should_validate_formats(true)
            .build(definition)
            .unwrap();
        let members = match &answer.body {
            Value::Array(members) => {
                assert!(!members.is_empty(), "{}: nothing to look at", answer.what);
                members.clone()
            }
            one => vec![one.clone()],
        };
        for member in members {
            let errors: Vec<_> = validator
                .iter_errors(&member)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{}: {errors:#?}", answer.what);
            let properties = definition["properties"].as_object();
            for name in properties.into_iter().flatten().map(|(name, _)| name) {
                let there = member.get(name).is_some();
                assert!(there, "{}: there is no `{name}`", answer.what);
            }
        }
    }
}

/// An app `shop` that is deployed, with nothing running.
fn shop(host: &Host) -> PathBuf {
    let procfile = "web: exec sleep 1000 # $PORT\nworker: sleep 1000\nclock: sleep 1000\n";
    let folder = host.folder_of("shop", &[("Procfile", procfile)]);
    host.dyno(&folder, &["deploy", "--no-web"])
        .finish()
        .succeeds();
    folder
}

#[test]
fn every_response_that_the_schema_describes_satisfies_it() {
    let host = Host::new();
    shop(&host);
    let api = Api::of(&host);
    let check = |resource: &str, answer: Answer| -> Value {
        api.conforms(resource, &answer);
        answer.body
    };

    let account = check("account", api.get("/account").is(200));
    let id = account["id"].as_str().unwrap();
    for user in ["~", id, "dyno@localhost"] {
        let same = check("account", api.get(&format!("/users/{user}")).is(200));
        assert_eq!(same, account);
        check("app", api.get(&format!("/users/{user}/apps")).is(200));
    }

    let made = api.post(
        "/apps",
        &json!({"name": "other", "region": "eu", "stack": "heroku-24"}),
    );
    let other = check("app", made.is(201));
    check("app", api.get("/apps").is(200));
    let id = other["id"].as_str().unwrap();
    for app in ["other", id] {
        check("app", api.get(&format!("/apps/{app}")).is(200));
    }
    let closed = api
        .patch("/apps/other", &json!({"maintenance": true}))
        .is(200);
    assert_eq!(check("app", closed)["maintenance"], true);
    // As other clients write it.
    for (maintenance, open) in [
        (json!(0), false),
        (json!("true"), true),
        (json!("0"), false),
    ] {
        let body = json!({ "maintenance": maintenance });
        let changed = api.patch("/apps/other", &body).is(200);
        assert_eq!(changed.body["maintenance"], open, "{body}");
    }
    check("release", api.get("/apps/other/releases").is(200));
    check(
        "app",
        api.send("DELETE", "/apps/other", "", &Value::Null).is(200),
    );
    api.get("/apps/other").fails(404, "not_found");

    let vars = api.patch("/apps/shop/config-vars", &json!({"A": "1", "B": "2"}));
    check("config-vars", vars.is(200));
    check("config-vars", api.get("/apps/shop/config-vars").is(200));
    let releases = check("release", api.get("/apps/shop/releases").is(200));
    assert_eq!(releases.as_array().unwrap().len(), 3);
    let id = releases[1]["id"].as_str().unwrap();
    for release in ["2", "v2", id] {
        let target = format!("/apps/shop/releases/{release}");
        assert_eq!(check("release", api.get(&target).is(200))["id"], id);
        check(
            "config-vars",
            api.get(&format!("{target}/config-vars")).is(200),
        );
    }
    let back = api
        .post("/apps/shop/releases", &json!({ "release": id }))
        .is(201);
    assert_eq!(check("release", back)["description"], "Rollback to v2");
    let slug = releases[1]["slug"]["id"].as_str().unwrap();
    check("slug", api.get(&format!("/apps/shop/slugs/{slug}")).is(200));
    let again = api.post(
        "/apps/shop/slugs",
        &json!({"process_types": {"web": "true"}}),
    );
    check("slug", again.is(201));
    let again = api.post(
        "/apps/shop/releases",
        &json!({"slug": slug, "description": "Again"}),
    );
    assert_eq!(check("release", again.is(201))["description"], "Again");

    check("formation", api.get("/apps/shop/formation").is(200));
    let updates = json!({"updates": [
        {"type": "worker", "quantity": "+1", "size": "standard-2x"}, {"type": "clock", "quantity": 1}
    ]});
    let scaled = check(
        "formation",
        api.patch("/apps/shop/formation", &updates).is(200),
    );
    assert_eq!(scaled[1]["size"], "Standard-2X");
    let id = scaled[1]["id"].as_str().unwrap();
    for formation in ["worker", id] {
        let target = format!("/apps/shop/formation/{formation}");
        check("formation", api.get(&target).is(200));
        check(
            "formation",
            api.patch(&target, &json!({"quantity": 1})).is(200),
        );
    }

    let run = api.post(
        "/apps/shop/dynos",
        &json!({"command": "sleep 1000", "attach": false}),
    );
    let run = check("dyno", run.is(201));
    check("dyno", api.get("/apps/shop/dynos").is(200));
    for dyno in ["run.1", run["id"].as_str().unwrap(), "worker.1"] {
        check("dyno", api.get(&format!("/apps/shop/dynos/{dyno}")).is(200));
    }

    for tail in [false, true] {
        let session = api.post(
            "/apps/shop/log-sessions",
            &json!({"lines": 10, "tail": tail}),
        );
        check("log-session", session.is(201));
    }

    check("source", api.post("/sources", &Value::Null).is(201));
    check(
        "source",
        api.post("/apps/shop/sources", &Value::Null).is(201),
    );
    let tarball = builds::source(&[("Procfile", "web: true\n")]);
    let source = builds::upload(&host, &tarball);
    let build = json!({ "source_blob": { "url": source, "version": "v1" } });
    let build = check("build", api.post("/apps/shop/builds", &build).is(201));
    check("build", api.get("/apps/shop/builds").is(200));
    let id = build["id"].as_str().unwrap();
    let build = eventually("the end of the build", || {
        let build = api.get(&format!("/apps/shop/builds/{id}")).is(200);
        (build.body["status"] != "pending").then_some(build)
    });
    assert_eq!(check("build", build)["status"], "succeeded");

    check("rate-limit", api.get("/account/rate-limits").is(200));
    check("dyno-size", api.get("/dyno-sizes").is(200));
    check("dyno-size", api.get("/dyno-sizes/standard-2x").is(200));
    check(
        "dyno-size",
        api.get("/apps/shop/available-dyno-sizes").is(200),
    );
    let region = check("region", api.get("/regions").is(200));
    for which in ["us", region[0]["id"].as_str().unwrap()] {
        check("region", api.get(&format!("/regions/{which}")).is(200));
    }
    let stack = check("stack", api.get("/stacks").is(200));
    for which in ["host", stack[0]["id"].as_str().unwrap()] {
        check("stack", api.get(&format!("/stacks/{which}")).is(200));
    }
    check("stack", api.get("/apps/shop/available-stacks").is(200));
    check("app-feature", api.get("/apps/shop/features").is(200));
    check("collaborator", api.get("/apps/shop/collaborators").is(200));
    let owner = api.get("/apps/shop/collaborators/dyno@localhost").is(200);
    check("collaborator", owner);
}

#[test]
fn what_clients_merely_look_for_has_an_answer() {
    let host = Host::new();
    shop(&host);
    let api = Api::of(&host);
    for target in [
        "/addons",
        "/teams",
        "/spaces",
        "/pipelines",
        "/enterprise-accounts",
        "/account/features",
        "/account/keys",
        "/apps/shop/addons",
        "/apps/shop/addon-attachments",
        "/apps/shop/buildpack-installations",
        "/apps/shop/domains",
        "/apps/shop/log-drains",
    ] {
        assert_eq!(api.get(target).is(200).body, json!([]), "{target}");
    }
    // Not a list: Heroku's client would take an empty one for a pipeline without a name.
    let coupling = api.get("/apps/shop/pipeline-couplings").is(200);
    assert_eq!(coupling.body, Value::Null);

    let buildpack = json!({"updates": [{"buildpack": "heroku/python"}]});
    let set = api.send("PUT", "/apps/shop/buildpack-installations", "", &buildpack);
    let python = json!({"name": "heroku/python", "url": "urn:buildpack:heroku/python"});
    let installed = json!([{"buildpack": python, "ordinal": 0}]);
    assert_eq!(set.is(200).body, installed);
    let path = "/apps/shop/buildpack-installations";
    assert_eq!(api.get(path).is(200).body, installed);
    // An app would miss the variables of an add-on: that cannot be passed over.
    api.post("/apps/shop/addons", &json!({"plan": "heroku-postgresql"}))
        .fails(422, "invalid_params");

    for target in [
        "/users/bob@example.org",
        "/users/bob@example.org/apps",
        "/dyno-sizes/huge",
        "/regions/eu",
        "/stacks/heroku-24",
        "/teams/acme",
        "/apps/shop/collaborators/bob@example.org",
        "/apps/nobody/addons",
        "/apps/nobody/pipeline-couplings",
        "/accounts/01234567-89ab-4def-8123-456789abcdef/actions/get-quota",
    ] {
        api.get(target).fails(404, "not_found");
    }
}

#[test]
fn releases_come_in_the_parts_that_are_asked_for() {
    let host = Host::new();
    shop(&host);
    let api = Api::of(&host);
    for value in ["1", "2", "3"] {
        let vars = json!({ "A": value });
        api.patch("/apps/shop/config-vars", &vars).is(200);
    }
    for range in [
        "version ..; max=2, order=desc",
        "version ..; order=desc,max=2",
        "version ..;order=desc;max=2;",
        "version ]..; order=desc,max=2;",
        "max=2; order=desc",
    ] {
        let newest = api.part("/apps/shop/releases", range).is(206);
        assert_eq!(newest.each("version"), [5, 4], "{range}");
        assert_eq!(newest.fields["content-range"], "version 5..4; max=2");
        assert_eq!(
            newest.fields["next-range"],
            "version ]4..; max=2, order=desc"
        );
    }
    let all = api.part("/apps/shop/releases", "version ..; order=desc,max=5");
    assert_eq!(all.is(200).each("version"), [5, 4, 3, 2, 1]);
    let oldest_first = api.get("/apps/shop/releases").is(200);
    assert_eq!(oldest_first.each("version"), [1, 2, 3, 4, 5]);

    let (mut range, mut seen) = ("version ..; max=2".to_owned(), Vec::new());
    loop {
        let part = api.part("/apps/shop/releases", &range);
        seen.extend(part.each("version").into_iter().cloned());
        match part.fields.get("next-range") {
            Some(next) => range.clone_from(next),
            None => break,
        }
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    api.part("/apps/shop/releases", "version nonsense")
        .fails(416, "requested_range_not_satisfiable");

    for name in ["apple", "zebra"] {
        api.post("/apps", &json!({ "name": name })).is(201);
    }
    let first = api.part("/apps", "name ..; max=2").is(206);
    assert_eq!(first.each("name"), ["apple", "shop"]);
    let rest = api.part("/apps", &first.fields["next-range"]).is(200);
    assert_eq!(rest.each("name"), ["zebra"]);
}

#[test]
fn a_process_type_is_stopped_as_a_whole_and_the_formation_is_made_up_again() {
    let host = Host::new();
    let app = shop(&host);
    let api = Api::of(&host);
    let updates = json!({"updates": [{"type": "worker", "quantity": 2}]});
    let entry = api.patch("/apps/shop/formation", &updates).is(200);
    let worker = entry.body.as_array().unwrap().iter();
    let worker = worker.clone().find(|it| it["type"] == "worker").unwrap();
    for _ in 0..2 {
        api.post("/apps/shop/dynos", &json!({"command": "sleep 1000"}))
            .is(201);
    }
    let up = ["run.1", "run.2", "worker.1", "worker.2"];
    let up = up.map(|name| format!("{name} up"));
    let up: Vec<_> = up.iter().map(String::as_str).collect();
    crate::formation::wait_for_states(&host, &app, &up);

    let id = crate::formation::id_of(&host, &app, "worker.1");
    let by_id = format!("/apps/shop/formations/{}", worker["id"].as_str().unwrap());
    api.post("/apps/shop/formations/run/actions/stop", &Value::Null)
        .is(202);
    crate::formation::wait_for_states(&host, &app, &["worker.1 up", "worker.2 up"]);
    assert_eq!(crate::formation::id_of(&host, &app, "worker.1"), id);
    api.send("DELETE", &by_id, "", &Value::Null).is(202);
    let id = crate::formation::wait_for_successor(&host, &app, "worker.1", &id);
    api.post("/apps/shop/formations/worker/actions/stop", &Value::Null)
        .is(202);
    crate::formation::wait_for_successor(&host, &app, "worker.1", &id);
    // None runs, but there may be some.
    api.post("/apps/shop/formations/web/actions/stop", &Value::Null)
        .is(202);
    api.post("/apps/shop/formations/nothing/actions/stop", &Value::Null)
        .fails(404, "not_found");
}

#[test]
fn where_a_dyno_listens_is_told_to_whoever_asks_for_it() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = host.folder("web");
    host.dyno(&app, &["deploy"]).finish().succeeds();
    let api = Api::of(&host);
    let dynos = api.get("/apps/web/dynos?extended=true").is(200);
    api.conforms("dyno", &dynos);
    let extended = &dynos.body[0]["extended"];
    let port = crate::formation::port_of(&host, &app, "web.1");
    assert_eq!(extended["port"], port, "{extended}");
    assert_eq!(extended["region"], "us", "{extended}");
    let usual = api.get("/apps/web/dynos").is(200);
    assert_eq!(usual.body[0].get("extended"), None);

    let app = api.get("/apps/web").is(200).body;
    let address = host.dyno(&host.path(), &["open", "-a", "web"]).finish();
    let address = address.succeeds().text();
    assert_eq!(app["web_url"], address.trim_end());
}
