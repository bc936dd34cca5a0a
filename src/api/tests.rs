//! Responses against Heroku's published schema, requests against what its client sends.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::account::{Account, Identity};
use super::app::{CreateApp, UpdateApp};
use super::build::{Build, BuildResult, CreateBuild, source_path};
use super::buildpack::UpdateBuildpacks;
use super::config_vars::parse_change;
use super::dyno::CreateDyno;
use super::formation::{ScaleFormation, parse_update};
use super::release::{CreateRelease, Deploy, PackedFolder};
use super::slug::CreateSlug;
use super::source::Source;
use super::*;
use crate::error::UserError;
use crate::model::app::{AppName, Folder};
use crate::model::buildpack::address::Buildpack;
use crate::model::config_var::Config;
use crate::model::dyno::{Attach, DynoEnd, DynoName, DynoState, Exit, Spent};
use crate::model::formation::{Entry, Update, Wanted};
use crate::model::network::{DynoNetwork, NetworkChoice};
use crate::model::release::{ProcessTypes, ReleaseStatus, Toolchains, Version};
use crate::model::size::{Size, Sizes};

const ID: &str = "01234567-89ab-4def-8123-456789abcdef";

fn schema() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/platform-api.json")).unwrap()
}

/// Checks a response against Heroku's definition of `resource`: nothing of another type, and,
/// unless it says otherwise, nothing missing.
fn conforms(resource: &str, response: &impl Serialize, complete: bool) {
    let definition = &schema()[resource];
    let response = serde_json::to_value(response).unwrap();
    let validator = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true)
        .build(definition)
        .unwrap();
    let errors: Vec<_> = validator
        .iter_errors(&response)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{resource}: {errors:#?}");
    if complete {
        for name in definition["properties"].as_object().unwrap().keys() {
            assert!(response.get(name).is_some(), "{resource} has no {name}");
        }
    }
}

fn identity() -> Identity {
    Identity {
        id: ID.into(),
        email: "ada@example.org".into(),
    }
}

const NOW: Time = Time(Timestamp::UNIX_EPOCH);

fn places() -> app::Places {
    app::Places {
        router: Some("127.0.0.1:8080".parse().unwrap()),
        git: Some("http://localhost:5001".into()),
    }
}

fn app_of_store() -> crate::model::app::App {
    crate::model::app::App {
        buildpacks: Vec::new(),
        id: ID.into(),
        name: AppName::parse("shop").unwrap(),
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        released_at: Timestamp::UNIX_EPOCH,
        slug_size: Some(5),
        folder: Some("/src/shop".into()),
        maintenance: false,
        builder: crate::model::builder::Builder::Auto,
        network: None,
        runtime_metrics: false,
    }
}

fn release_of_store() -> crate::model::release::Release {
    crate::model::release::Release {
        id: ID.into(),
        app_id: ID.into(),
        app_name: AppName::parse("shop").unwrap(),
        version: Version(3),
        status: ReleaseStatus::Succeeded,
        current: true,
        description: "Deploy 01234567".into(),
        user: "bob@example.org".into(),
        slug_id: Some(ID.into()),
        digest: Some("ab".repeat(32)),
        process_types: ProcessTypes::from_iter([("web", "./web")]),
        toolchains: Toolchains::default(),
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn dyno_of_store() -> crate::model::dyno::Dyno {
    crate::model::dyno::Dyno {
        id: ID.into(),
        app_id: ID.into(),
        app_name: AppName::parse("shop").unwrap(),
        release_id: ID.into(),
        release_version: Version(3),
        name: DynoName {
            process_type: "run".into(),
            number: 1,
        },
        command: "bash".into(),
        size: "1X".into(),
        state: DynoState::Up,
        attach: Attach::Terminal,
        formation: false,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        ended: None,
    }
}

fn slug_of_store() -> crate::model::release::Slug {
    crate::model::release::Slug {
        id: ID.into(),
        digest: Some("ab".repeat(32)),
        size: Some(5),
        uploaded: true,
        process_types: ProcessTypes::from_iter([("web", "./web")]),
        commit: None,
        commit_description: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn create_app(body: &[u8]) -> Result<CreateApp, ApiError> {
    CreateApp::parse(body, Sender::ThisHost)
}

fn create_release(body: &[u8]) -> Result<CreateRelease, ApiError> {
    CreateRelease::parse(body, Sender::ThisHost)
}

#[test]
fn an_app_is_visited_by_its_name_at_the_routers_port() {
    let of = |router: &str| {
        let router = Some(router.parse().unwrap());
        let places = app::Places { router, git: None };
        places.web_url("shop").unwrap()
    };
    assert_eq!(of("127.0.0.1:8080"), "http://shop.localhost:8080/");
    assert_eq!(of("127.0.0.1:80"), "http://shop.localhost/");
    assert_eq!(of("[::1]:5001"), "http://shop.localhost:5001/");
    let nowhere = app::App::new(&app_of_store(), &identity(), &app::Places::default());
    assert_eq!((nowhere.web_url, &*nowhere.git_url), (None, ""));
}

#[test]
fn an_app_conforms() {
    let mut app = app_of_store();
    conforms("app", &app::App::new(&app, &identity(), &places()), true);
    (app.slug_size, app.folder, app.maintenance) = (None, None, true);
    let closed = app::App::new(&app, &identity(), &places());
    conforms("app", &closed, true);
    assert!(closed.maintenance);
}

#[test]
fn a_feature_conforms() {
    let feature = feature::AppFeature::runtime_metrics(&app_of_store());
    conforms("app-feature", &feature, true);
    assert!(feature.is("log-runtime-metrics") && feature.is(&feature.id) && !feature.is("x"));
    let read = |body: &str| feature::UpdateFeature::parse(body.as_bytes());
    assert!(read(r#"{"enabled":true}"#).unwrap().enabled);
    assert_eq!(read("{}").unwrap_err().message, "`enabled` is missing");
}

#[test]
fn a_release_conforms() {
    let mut release = release_of_store();
    conforms(
        "release",
        &release::Release::new(&release, &identity()),
        true,
    );
    release.slug_id = None;
    let initial = release::Release::new(&release, &identity());
    conforms("release", &initial, true);
    assert!(initial.artifacts.is_empty() && !initial.eligible_for_rollback);
    assert_eq!(initial.user.email, "bob@example.org");
}

#[test]
fn a_dyno_conforms_and_tells_how_it_ended() {
    let mut dyno = dyno_of_store();
    conforms(
        "dyno",
        &dyno::Dyno::new(&dyno, Some("rendezvous://host:5000/x".into())),
        true,
    );
    for (exit, status, signal) in [
        (Exit::Status(3), json!(3), json!(null)),
        (Exit::Signal(9), json!(null), json!(9)),
        (Exit::Unknown, json!(null), json!(null)),
    ] {
        dyno.state = DynoState::Complete;
        dyno.ended = Some(DynoEnd {
            at: Timestamp::UNIX_EPOCH,
            exit,
            reason: None,
            message: None,
            spent: Spent::default(),
        });
        let response = serde_json::to_value(dyno::Dyno::new(&dyno, None)).unwrap();
        conforms("dyno", &response, true);
        assert_eq!(
            (&response["exit_status"], &response["exit_signal"]),
            (&status, &signal)
        );
        assert_eq!(response["ended_at"], "1970-01-01T00:00:00Z");
    }
}

#[test]
fn a_slug_conforms() {
    let mut slug = slug_of_store();
    let url = "/apps/shop/slugs/1/blob".to_owned();
    let response = slug::Slug::new(&slug, url.clone());
    conforms("slug", &response, true);
    assert_eq!(response.blob.method, "get");
    assert_eq!(
        response.checksum,
        Some(format!("SHA256:{}", "ab".repeat(32)))
    );
    (slug.uploaded, slug.digest, slug.size) = (false, None, None);
    let response = slug::Slug::new(&slug, url);
    conforms("slug", &response, true);
    assert_eq!(response.blob.method, "put");
}

#[test]
fn a_formation_conforms() {
    let entry = Entry {
        id: ID.into(),
        wanted: Wanted {
            process_type: "web".into(),
            quantity: 1,
            size: "1X".into(),
        },
        command: "./web".into(),
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    };
    conforms(
        "formation",
        &formation::Formation::new(&entry, &app_of_store()),
        true,
    );
    assert_eq!(
        formation::Formation::new(&entry, &app_of_store()).wanted(),
        entry.wanted
    );
}

/// `web=2:1X` for each update; `web` alone if nothing is said.
fn updates(body: &str) -> Vec<String> {
    let request = ScaleFormation::parse(body.as_bytes(), &Sizes::default()).unwrap();
    let show = |update: &Update| {
        let amount = update.amount.map(|amount| format!(" {amount}"));
        let size = update.size.as_ref().map(|size| format!(":{size}"));
        let (amount, size) = (amount.unwrap_or_default(), size.unwrap_or_default());
        format!("{}{amount}{size}", update.which)
    };
    request.updates.iter().map(show).collect()
}

#[test]
fn updates_of_a_formation_are_read_in_every_spelling() {
    let body = r#"{"updates":[
        {"quantity":"3","type":"web"}, {"quantity":"+1","size":"standard-2x","type":"worker"},
        {"process":"a","quantity":7}, {"id":"b","quantity":"-2"}, {"type":"c","quantity":null},
        {"type":"d","dyno_size":{"name":"px"}}, {"type":"e","dyno_size":"eco"}]}"#;
    assert_eq!(
        updates(body),
        [
            "web 3",
            "worker +1:Standard-2X",
            "a 7",
            "b -2",
            "c",
            "d:PX",
            "e:Eco"
        ]
    );
    let id = fixed_id("dyno-size", "2X");
    let body = format!(r#"{{"updates":[{{"type":"web","dyno_size":{{"id":"{id}"}}}}]}}"#);
    assert_eq!(updates(&body), ["web:2X"]);
    assert!(updates(r#"{"updates":[]}"#).is_empty());
    let one = parse_update("web", br#"{"quantity":2}"#, &Sizes::default()).unwrap();
    let amount = one.amount.map(|amount| amount.to_string());
    assert_eq!((&*one.which, amount.as_deref()), ("web", Some("2")));
}

#[test]
fn updates_of_a_formation_have_bounds() {
    let many = |count| {
        let update = json!({"type": "web"});
        json!({ "updates": vec![update; count] }).to_string()
    };
    assert_eq!(updates(&many(128)).len(), 128);
    for (body, message) in [
        (
            many(129),
            "`updates` is not valid: it has 129 entries, and may have 128",
        ),
        ("{}".into(), "`updates` is missing"),
        (
            r#"{"updates":[1]}"#.into(),
            "`updates` is not valid: one is no JSON object",
        ),
        (
            r#"{"updates":[{"quantity":1}]}"#.into(),
            "`type` of an update is missing",
        ),
        (
            r#"{"updates":[{"type":"web","quantity":-1}]}"#.into(),
            "`quantity` is not valid: expected a number that is not negative, or a string",
        ),
        (
            r#"{"updates":[{"type":"web","quantity":10001}]}"#.into(),
            "`10001` dynos are more than an app can have",
        ),
        (
            r#"{"updates":[{"type":"web","quantity":"x"}]}"#.into(),
            "`x` is no quantity",
        ),
        (
            r#"{"updates":[{"type":"web","size":"3X"}]}"#.into(),
            "no such size as `3X`",
        ),
        (
            r#"{"updates":[{"type":"web","dyno_size":{"id":"0"}}]}"#.into(),
            "no such size as `0`",
        ),
    ] {
        let error = ScaleFormation::parse(body.as_bytes(), &Sizes::default()).unwrap_err();
        assert_eq!((error.status(), &*error.message), (422, message));
    }
}

#[test]
fn of_an_app_maintenance_and_name_can_be_changed() {
    let parse = |body: &str| UpdateApp::parse(body.as_bytes());
    for (maintenance, texts) in [
        (true, ["true", "1", "\"true\"", "\"1\""]),
        (false, ["false", "0", "\"false\"", "\"0\""]),
    ] {
        for text in texts {
            let body = format!(r#"{{"maintenance": {text} }}"#);
            assert_eq!(
                parse(&body),
                Ok(UpdateApp {
                    maintenance: Some(maintenance),
                    ..UpdateApp::default()
                }),
                "{text}"
            );
        }
    }
    for (body, message) in [
        (
            "{}",
            "`maintenance`, `name`, `network` or `builder` is missing",
        ),
        (r#"{"network":"lan"}"#, "there is no network `lan`"),
        (
            r#"{"maintenance":2}"#,
            "`maintenance` is not valid: invalid type: integer `2`, expected a boolean",
        ),
        (
            r#"{"maintenance":null}"#,
            "`maintenance`, `name`, `network` or `builder` is missing",
        ),
        (
            r#"{"maintenance":true,"build_stack":"other"}"#,
            "`build_stack` of an app cannot be changed",
        ),
    ] {
        let error = parse(body).unwrap_err();
        assert_eq!((error.status(), &*error.message), (422, message));
    }
}

#[test]
fn sizes_account_and_config_conform() {
    for size in &crate::model::size::ALL {
        conforms("dyno-size", &dyno_size::DynoSize::new(size), true);
    }
    conforms("account", &Account::new(identity(), NOW), true);
    conforms("region", &platform::Region::new(NOW), true);
    conforms("stack", &platform::Stack::new(NOW), true);
    let owner = platform::Collaborator::owner(&app_of_store(), &identity());
    conforms("collaborator", &owner, true);
    conforms(
        "config-vars",
        &Config::from([("A".into(), "1".into())]),
        false,
    );
}

#[test]
fn the_client_reads_what_the_server_writes() {
    fn through<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(
        value: &T,
    ) {
        let json = serde_json::to_string(value).unwrap();
        assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value, "{json}");
    }
    through(&app::App::new(&app_of_store(), &identity(), &places()));
    through(&release::Release::new(&release_of_store(), &identity()));
    through(&dyno::Dyno::new(&dyno_of_store(), None));
    through(&slug::Slug::new(&slug_of_store(), "/x".into()));
    through(&usage::Usage::new(&crate::model::dyno::Usage {
        app_id: ID.into(),
        app_name: AppName::parse("shop").unwrap(),
        destroyed: true,
        process_type: "run".into(),
        size: "1X".into(),
        dynos: 2,
        alive: 1,
        time: std::time::Duration::from_millis(1500),
        spent: Spent::default(),
    }));
    through(&dyno_size::DynoSize::new(Size::default_size()));
    through(&Account::new(identity(), NOW));
    let packed_at = Some(Timestamp::from_microsecond(1_500_000_000_123_456).unwrap());
    let link = crate::model::app::Link {
        app: app_of_store(),
        path: "/src".into(),
        packed_at,
    };
    let link = link::Link::new(&link, &identity(), &places());
    through(&link);
    assert_eq!(link.packed_at.map(|time| time.0), packed_at);
}

#[test]
fn an_error_has_herokus_shape_and_a_hint() {
    let error = ApiError::from(UserError::new("no such size as `3X`").hint("the sizes are …"));
    assert_eq!(error.status(), 422);
    let json = serde_json::to_value(&error).unwrap();
    let expected = json!({
        "id": "invalid_params", "message": "no such size as `3X`", "hint": "the sizes are …"
    });
    assert_eq!(json, expected);
    let read: ApiError =
        serde_json::from_str(r#"{"id":"not_found","message":"gone","url":"x"}"#).unwrap();
    assert_eq!(UserError::from(read), UserError::new("gone"));
    assert_eq!(
        serde_json::to_value(ApiError::not_found("x"))
            .unwrap()
            .get("hint"),
        None
    );
}

#[test]
fn what_herokus_client_sends_for_a_run_is_understood() {
    let create_dyno = |body: &[u8]| CreateDyno::parse(body, &Sizes::default());
    let request = create_dyno(
        br#"{"attach":true,"command":"bash","env":{"TERM":"xterm","COLUMNS":80,"LINES":24},
             "size":"standard-2x","some":"thing new","type":null}"#,
    )
    .unwrap();
    assert_eq!(request.kind(), Attach::Terminal);
    assert_eq!(
        (&*request.size, request.r#type.as_str()),
        ("Standard-2X", "run")
    );
    assert_eq!(request.env["COLUMNS"], "80");
    let request = create_dyno(br#"{"command":"x","attach":true,"force_no_tty":true}"#).unwrap();
    assert_eq!((request.kind(), &*request.size), (Attach::Pipes, "1X"));
    let request = create_dyno(br#"{"command":"x"}"#).unwrap();
    assert_eq!(request.kind(), Attach::Detached);
}

/// What `parse` says about `body`: status and message.
fn refusal<T: std::fmt::Debug>(
    parse: fn(&[u8]) -> Result<T, ApiError>,
    body: impl AsRef<[u8]>,
) -> (u16, String) {
    let error = parse(body.as_ref()).unwrap_err();
    (error.status(), error.message)
}

#[test]
fn a_wrong_field_is_named() {
    for (body, start) in [
        ("{}", "`command` is missing"),
        (
            r#"{"command":["ls"]}"#,
            "`command` is not valid: invalid type: sequence, expected a string",
        ),
        (
            r#"{"command":"ls","attach":"yes"}"#,
            "`attach` is not valid: invalid type: string",
        ),
        (
            r#"{"command":"ls","env":{"A":{}}}"#,
            "`env` is not valid: expected a string or a number",
        ),
        (
            r#"{"command":"ls","env":{"1A":"x"}}"#,
            "`1A` cannot be the name of a variable",
        ),
        (r#"{"command":"ls","size":"3X"}"#, "no such size as `3X`"),
        (r#"{"command":"ls","size":3}"#, "`size` is not valid"),
        (
            r#"{"command":"ls","time_to_live":0}"#,
            "`time_to_live` is not valid",
        ),
        (r#"{"command":" "}"#, "there is no command"),
    ] {
        let (status, message) = refusal(|body| CreateDyno::parse(body, &Sizes::default()), body);
        assert!(
            status == 422 && message.starts_with(start),
            "{body}: {status} {message}"
        );
        assert!(!message.contains(" at line "), "{message}");
    }
    for body in ["[]", "{", "\"x\"", "{\"a\":1}}", "\u{1}"] {
        assert_eq!(
            refusal(|body| CreateDyno::parse(body, &Sizes::default()), body).0,
            400,
            "{body}"
        );
    }
    assert!(
        refusal(create_app, r#"{"name":"X"}"#)
            .1
            .starts_with("`X` cannot be the name")
    );
    assert!(
        refusal(create_app, r#"{"folder":{"path":"/"}}"#)
            .1
            .contains("`folder` is not valid: missing field `device`")
    );
    assert!(
        refusal(create_release, "{}")
            .1
            .starts_with("`slug` or `release` is missing")
    );
    assert!(
        refusal(parse_change, r#"{"A":1}"#)
            .1
            .starts_with("`A` is not valid")
    );
    for body in [
        r#"{"process_types":{"a b":"x"}}"#,
        r#"{"process_types":{"web":""}}"#,
        r#"{"process_types":{"web":1}}"#,
        r#"{"process_types":{},"checksum":"MD5:1"}"#,
    ] {
        assert!(
            refusal(CreateSlug::parse, body).1.contains("is not valid"),
            "{body}"
        );
    }
}

#[test]
fn texts_and_paths_of_others_have_bounds() {
    let parse = |field: &str, value: Value| {
        let mut body = json!({"slug": ID, "process_types": {}, "app": "shop"});
        body[field] = value;
        let body = serde_json::to_vec(&body).unwrap();
        let errors = [
            CreateSlug::parse(&body).err(),
            create_release(&body).err(),
            crate::api::link::CreateLink::parse(&body).err(),
        ];
        let missing = |error: &ApiError| error.message.contains("`folder` is missing");
        errors.into_iter().flatten().find(|error| !missing(error))
    };
    let text = |length: usize| Value::from("x".repeat(length));
    for field in ["commit", "commit_description", "description"] {
        assert_eq!(parse(field, text(MAX_TEXT)), None);
        let error = parse(field, text(MAX_TEXT + 1)).unwrap();
        let expected = format!("`{field}` is not valid: it has 1001 bytes, and may have 1000");
        assert_eq!(error.message, expected);
    }
    let folder = |path: String| {
        let now = "2026-01-01T00:00:00Z";
        json!({"path": path, "device": 1, "inode": 2, "packed_at": now})
    };
    let path = |length: usize| format!("/{}", "x".repeat(length - 1));
    assert_eq!(parse("folder", folder(path(4095))), None);
    let error = parse("folder", folder(path(4096))).unwrap();
    assert_eq!(error.message, "the path of the folder has 4096 bytes");
    assert_eq!(error.hint.as_deref(), Some("it may have 4095"));
    assert!(parse("folder", folder("relative".into())).is_some());

    let toolchains = |folders: Vec<String>| json!({"folders": folders});
    assert_eq!(parse("toolchains", toolchains(vec![path(4095); 64])), None);
    let error = parse("toolchains", toolchains(vec![path(9); 65])).unwrap();
    assert_eq!(error.message, "the toolchains have 65 folders");
    for bad in ["relative".to_owned(), "/a:b".to_owned(), path(4096)] {
        let error = parse("toolchains", toolchains(vec![bad])).unwrap();
        assert!(error.message.ends_with("is no folder of a toolchain"));
        assert!(error.message.len() < 500);
    }
    assert!(parse("toolchains", json!({"env": {"1A": "x"}})).is_some());
}

#[test]
fn an_app_may_be_asked_for_without_a_word() {
    assert_eq!(create_app(b"").unwrap(), CreateApp::default());
    assert_eq!(create_app(b"{}").unwrap(), CreateApp::default());
}

#[test]
fn null_removes_a_config_var() {
    let change = parse_change(br#"{"A":"1","B":null}"#).unwrap();
    assert_eq!(
        change,
        BTreeMap::from([("A".into(), Some("1".into())), ("B".into(), None)])
    );
}

#[test]
fn the_server_reads_what_the_client_writes() {
    fn body(request: &impl Serialize) -> Vec<u8> {
        serde_json::to_vec(request).unwrap()
    }
    let folder = Folder {
        path: "/src".into(),
        device: u64::MAX,
        inode: 2,
    };
    let app_wanted = CreateApp {
        name: Some(AppName::parse("shop").unwrap()),
        folder: Some(LocalField::new(folder.clone())),
        unless_linked: true,
    };
    assert_eq!(create_app(&body(&app_wanted)).unwrap(), app_wanted);

    let sizes = Sizes::default();
    let mut create_dyno = CreateDyno::new("echo 'a b'".into());
    create_dyno.env = BTreeMap::from([("A".into(), "1".into())]);
    create_dyno.time_to_live = Some(60);
    assert_eq!(
        CreateDyno::parse(&body(&create_dyno), &sizes).unwrap(),
        create_dyno
    );

    let scale = ScaleFormation {
        updates: crate::model::formation::parse_scale(&["web=2:2X", "worker+1", "clock-3"])
            .unwrap(),
    };
    assert_eq!(ScaleFormation::parse(&body(&scale), &sizes).unwrap(), scale);
    let update_app = UpdateApp {
        maintenance: Some(true),
        name: Some(AppName::parse("shop").unwrap()),
        network: Some(NetworkChoice::Own(DynoNetwork::None)),
        builder: Some(crate::model::builder::Builder::None),
    };
    assert_eq!(UpdateApp::parse(&body(&update_app)).unwrap(), update_app);

    let create_slug = CreateSlug {
        process_types: ProcessTypes::from_iter([("web", "./web"), ("a", "b")]),
        digest: Some("0f".repeat(32)),
        ..CreateSlug::default()
    };
    assert_eq!(CreateSlug::parse(&body(&create_slug)).unwrap(), create_slug);

    let deploy = CreateRelease::Deploy(Deploy {
        slug: ID.into(),
        origin: super::release::Origin {
            folder: Some(LocalField::new(PackedFolder {
                folder,
                packed_at: ExactTime(
                    Timestamp::from_nanosecond(1_234_567_890_123_456_789).unwrap(),
                ),
            })),
            toolchains: Some(LocalField::new(Toolchains {
                path: vec!["/home/ada/.cargo/bin".into()],
                env: BTreeMap::from([("CARGO_HOME".into(), "/home/ada/.cargo".into())]),
                folders: vec!["/home/ada/.cargo".into()],
                app: Some("/home/ada/shop".into()),
            })),
            ..Default::default()
        },
        ..Deploy::default()
    });
    assert_eq!(create_release(&body(&deploy)).unwrap(), deploy);
    let rollback = CreateRelease::Rollback {
        release: "v3".into(),
    };
    assert_eq!(create_release(&body(&rollback)).unwrap(), rollback);
}

#[test]
fn fixed_ids_are_uuids_of_their_own() {
    let ids: Vec<_> = crate::model::size::ALL
        .iter()
        .map(|size| fixed_id("dyno-size", &size.name))
        .collect();
    assert!(
        ids.iter()
            .all(|id| id.len() == 36 && ids.iter().filter(|other| id == *other).count() == 1)
    );
    assert_eq!(ids[0], fixed_id("dyno-size", "1X"));
}

fn build_of_store() -> crate::model::release::build::Build {
    crate::model::release::build::Build {
        buildpacks: Vec::new(),
        id: ID.into(),
        app_id: ID.into(),
        status: crate::model::release::build::BuildStatus::Pending,
        user: "ada@example.org".into(),
        source: crate::model::release::build::BuildSource {
            id: ID.into(),
            url: source_path(ID),
            ..Default::default()
        },
        slug_id: None,
        release_id: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn sources_and_builds_are_herokus() {
    conforms(
        "source",
        &Source::new(source_path(ID), source_path(ID)),
        true,
    );
    let mut build = build_of_store();
    conforms("build", &Build::new(&build, &identity(), "/x".into()), true);
    build.status = crate::model::release::build::BuildStatus::Failed;
    build.source.commit = Some("1234abcd".into());
    build.source.digest = Some("ab".repeat(32));
    build.slug_id = Some(ID.into());
    build.release_id = Some(ID.into());
    let resource = Build::new(&build, &identity(), "/x".into());
    conforms("build", &resource, true);
    let result = serde_json::to_value(BuildResult::new(resource, "a\nb\n")).unwrap();
    assert_eq!(result["exit_code"], 1);
    assert_eq!(
        result["lines"],
        json!([{"line": "a\n", "stream": "STDOUT"}, {"line": "b\n", "stream": "STDOUT"}])
    );
}

#[test]
fn what_is_built_is_a_source_of_this_server() {
    let parse = |blob: Value| {
        let body = json!({ "source_blob": blob }).to_string();
        CreateBuild::parse(body.as_bytes(), Sender::ThisHost).map(|(source, ..)| source)
    };
    for url in [
        "/sources/1-a/blob",
        "https://127.0.0.1:5001/sources/1-a/blob?signature=x",
    ] {
        let source = parse(json!({
            "url": url,
            "version": "1234abcd",
            "checksum": format!("SHA256:{}", "AB".repeat(32)),
        }))
        .unwrap();
        assert_eq!((source.id.as_str(), source.url.as_str()), ("1-a", url));
        assert_eq!(source.commit.as_deref(), Some("1234abcd"));
        assert_eq!(source.digest, Some("ab".repeat(32)));
    }
    for url in [
        "https://github.com/ada/shop/archive/main.tar.gz",
        "/sources//blob",
        "/sources/a/b/blob",
        "file:///etc/passwd",
        "",
    ] {
        let error = parse(json!({ "url": url })).unwrap_err();
        assert_eq!(error.status(), 422, "{url}");
        assert!(error.message.contains("is not a source"), "{error}");
        assert!(error.hint.unwrap().contains("POST /sources"));
    }
    let long = format!("/sources/{}/blob", "x".repeat(4_000));
    let long = parse(json!({ "url": long })).unwrap_err();
    assert!(long.message.contains("bytes"), "{long}");
    for wrong in [json!(null), json!("x"), json!({}), json!({ "url": 1 })] {
        assert_eq!(parse(wrong.clone()).unwrap_err().status(), 422, "{wrong}");
    }
    let text = json!({ "url": "/sources/1/blob", "version": "x".repeat(1_001) });
    assert!(parse(text).is_err());
}

#[test]
fn a_request_from_elsewhere_names_no_folder_of_this_host() {
    for body in [r#"{"folder":{"path":"/etc"}}"#, r#"{"folder":1,"name":2}"#] {
        let refused = CreateApp::parse(body.as_bytes(), Sender::Afar).unwrap_err();
        assert_eq!(refused.status(), 403, "{refused}");
    }
    for body in [
        r#"{"slug":"1","folder":{}}"#,
        r#"{"slug":"1","toolchains":{}}"#,
    ] {
        let refused = CreateRelease::parse(body.as_bytes(), Sender::Afar).unwrap_err();
        assert_eq!(refused.status(), 403, "{refused}");
    }
    let body = br#"{"source_blob":{"url":"/sources/1/blob"},"toolchains":{}}"#;
    let refused = CreateBuild::parse(body, Sender::Afar).unwrap_err();
    assert_eq!(refused.status(), 403, "{refused}");
    let body = br#"{"source_blob":{"url":"/sources/1/blob"},"buildpacks":[{"url":"/opt/pack"}]}"#;
    let refused = CreateBuild::parse(body, Sender::Afar).unwrap_err();
    assert_eq!(refused.status(), 403, "{refused}");
    let body = br#"{"updates":[{"buildpack":"heroku/go"},{"buildpack":"/opt/pack"}]}"#;
    let refused = UpdateBuildpacks::parse(body, Sender::Afar, &[]).unwrap_err();
    assert_eq!(refused.status(), 403, "{refused}");
    assert!(UpdateBuildpacks::parse(body, Sender::ThisHost, &[]).is_ok());
    // What is there stays, as its owner has named it.
    let before = ["/opt/pack", "https://u:p@a/b.git"].map(str::to_owned);
    let body =
        br#"{"updates":[{"buildpack":"https://REDACTED@a/b.git"},{"buildpack":"/opt/pack"}]}"#;
    let packs = UpdateBuildpacks::parse(body, Sender::Afar, &before).unwrap();
    let urls: Vec<_> = packs.iter().map(Buildpack::url).collect();
    assert_eq!(urls, [before[1].as_str(), &before[0]]);
    assert!(CreateApp::parse(br#"{"name":"shop"}"#, Sender::Afar).is_ok());
}
