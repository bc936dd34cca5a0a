//! The handlers behind the API's loop, asked over its socket.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use jiff::Timestamp;

use crate::api::ask::policy::AskBody;
use crate::api::ask::{AppAsk, Ask, FormationAsk, ReleaseAsk, SlugAsk};
use crate::api::{ApiError, Sender};
use crate::model::settings::Settings;
use crate::server::api_loop::ApiLoop;
use crate::server::api_loop::application::{Application, BodyPlan, Ctx, Reply, Request};
use crate::server::api_loop::connection_limits::ConnectionLimits;
use crate::server::api_loop::listener::ApiSocket;
use crate::server::api_loop::via::Via;
use crate::server::records::apps;
use crate::server::records::config;
use crate::server::records::formation;
use crate::server::records::platform;
use crate::server::records::releases;
use crate::server::records::slugs;
use crate::server::records::{self, Records};
use crate::slug::{self, PackProgress};
use crate::wire::handover::Handover;
use crate::wire::http::RequestHead;

/// A server that knows no dynos.
struct Without(Records);

impl Without {
    fn answer(&mut self, request: &Request) -> Result<Reply<Self>, ApiError> {
        let (records, body, now) = (&mut self.0, &request.body[..], Timestamp::now());
        let asker = records.asker(request.caller());
        let head = &request.head;
        let answer = match Ask::parse(head.method(), head.path(), head.query())? {
            Ask::Apps(AppAsk::List) => apps::list(records, request.range(), &asker),
            Ask::Apps(AppAsk::ListOfUser { user }) => {
                platform::check_user(records, &user)?;
                apps::list(records, request.range(), &asker)
            }
            Ask::Apps(AppAsk::Create) => apps::create(records, body, Sender::ThisHost, now),
            Ask::Apps(AppAsk::Info { app }) => apps::info(records, &app),
            Ask::Apps(AppAsk::Update { app }) => apps::update(records, &app, body, now),
            Ask::Apps(AppAsk::Destroy { app }) => apps::destroy(records, &app),
            Ask::Links(ask) => apps::answer_links(records, &ask, body, now),
            Ask::Config(ask) => config::answer(records, &ask, body, now),
            Ask::Platform(ask) => platform::answer(records, &ask, &asker, now),
            Ask::Slugs(SlugAsk::Create { app }) => slugs::create(records, &app, body, &asker, now),
            Ask::Slugs(SlugAsk::Info { app, slug }) => slugs::info(records, &app, &slug, &asker),
            Ask::Slugs(SlugAsk::Upload { app, slug }) => {
                return Ok(
                    slugs::upload(records, &app, &slug, &asker)?.reply(|it: &mut Self| &mut it.0)
                );
            }
            Ask::Releases(ReleaseAsk::List { app }) => {
                releases::list(records, &app, request.range(), &asker)
            }
            Ask::Releases(ReleaseAsk::Info { app, release }) => {
                releases::info(records, &app, &release, &asker)
            }
            Ask::Releases(ReleaseAsk::Config { app, release }) => {
                releases::config(records, &app, &release)
            }
            Ask::Releases(ReleaseAsk::Create { app }) => {
                let slow = releases::create(records, &app, body, Sender::ThisHost, asker)?;
                return Ok(slow.reply(|it: &mut Self| &mut it.0));
            }
            Ask::Formation(FormationAsk::List { app }) => formation::list(records, &app),
            Ask::Formation(FormationAsk::Info { app, process_type }) => {
                formation::info(records, &app, &process_type)
            }
            Ask::Formation(FormationAsk::Scale { app }) => {
                formation::scale(records, &app, body, now)
            }
            Ask::Formation(FormationAsk::ScaleOne { app, process_type }) => {
                formation::scale_one(records, &app, &process_type, body, now)
            }
            _ => Err(ApiError::not_found("not here")),
        };
        answer.map(Reply::Now)
    }
}

impl Application for Without {
    fn body_plan(&mut self, head: &RequestHead, _: Via) -> BodyPlan {
        let ask = Ask::parse(head.method(), head.path(), head.query());
        match ask.map(|ask| ask.body()) {
            Ok(AskBody::Upload) => BodyPlan::Stream {
                limit: self.0.settings.slug_limit,
            },
            _ => BodyPlan::Memory,
        }
    }

    fn request(&mut self, request: Request, ctx: &mut Ctx<Self>) -> Reply<Self> {
        if request.head.path() == "/stop" {
            ctx.stop();
        }
        records::reply(self.answer(&request))
    }
}

/// Serves from a folder of its own until it is dropped.
struct Server {
    folder: TempDir,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = ApiSocket::bind(folder.path().join("api.sock")).unwrap();
        let home = folder.path().to_owned();
        let thread = std::thread::spawn(move || {
            let email = "ada@host".to_owned();
            let make = |_: &mut Ctx<Without>| {
                Records::open(&home, Settings::default(), email, None).map(Without)
            };
            ApiLoop::new(
                listener,
                None,
                Handover::default(),
                ConnectionLimits::default(),
                make,
            )
            .unwrap()
            .serve()
            .unwrap();
        });
        Self {
            folder,
            thread: Some(thread),
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("api.sock")
    }

    fn send(&self, method: &str, path: &str, more: &str, body: &[u8]) -> (u16, Value) {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {length}\r\n{more}\r\n"
        )
        .unwrap();
        stream.write_all(body).unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        let response = String::from_utf8(response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, "", b"")
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send("POST", path, "", body.to_string().as_bytes())
    }

    /// What is in an app's log.
    fn log(&self, app: &str) -> String {
        let (_, app) = self.get(&format!("/apps/{app}"));
        let folder = self
            .folder
            .path()
            .join("logs")
            .join(app["id"].as_str().unwrap());
        let mut segments: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        segments.sort();
        let text = |path| std::fs::read_to_string(path).unwrap();
        segments.iter().map(text).collect()
    }

    fn create(&self, name: &str) -> Value {
        let (status, app) = self.post("/apps", &json!({"name": name}));
        assert_eq!(status, 201, "{app}");
        app
    }

    /// Announces a slug and sends its tarball.
    fn upload(&self, app: &str, announced: &Value, tarball: &[u8]) -> (String, (u16, Value)) {
        let (status, slug) = self.post(&format!("/apps/{app}/slugs"), announced);
        assert_eq!(
            (status, &slug["blob"]["method"]),
            (201, &json!("put")),
            "{slug}"
        );
        let url = slug["blob"]["url"].as_str().unwrap();
        let id = slug["id"].as_str().unwrap().to_owned();
        (id, self.send("PUT", url, "", tarball))
    }

    fn deploy(&self, app: &str, content: &str) -> Value {
        let types = json!({"process_types": {"web": "./web", "worker": "./work"}});
        let (slug, (status, _)) = self.upload(app, &types, &tarball(content));
        assert_eq!(status, 200);
        let (status, release) = self.post(&format!("/apps/{app}/releases"), &json!({"slug": slug}));
        assert_eq!(status, 201, "{release}");
        release
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.get("/stop");
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

/// A slug with one file.
fn tarball(content: &str) -> Vec<u8> {
    let tree = tempfile::tempdir().unwrap();
    std::fs::write(tree.path().join("file"), content).unwrap();
    let mut tarball = Vec::new();
    let packed = pack(tree.path(), &mut tarball);
    packed.unwrap();
    tarball
}

fn pack(tree: &Path, tarball: &mut Vec<u8>) -> anyhow::Result<slug::Packed> {
    slug::pack(
        tree,
        tarball,
        1,
        &slug::SlugLimits::default(),
        &mut |_: PackProgress| {},
    )
}

#[test]
fn an_app_comes_and_goes() {
    let server = Server::start();
    let app = server.create("shop");
    assert_eq!(
        (&app["name"], &app["owner"]["email"]),
        (&json!("shop"), &json!("ada@host"))
    );
    let (status, error) = server.post("/apps", &json!({"name": "shop"}));
    assert_eq!((status, &error["id"]), (422, &json!("invalid_params")));
    assert_eq!(error["message"], "the name `shop` is taken");
    let (status, unnamed) = server.post("/apps", &json!({}));
    assert_eq!(status, 201);
    let (_, apps) = server.get("/apps");
    assert_eq!(apps.as_array().unwrap().len(), 2);
    assert_eq!(server.get("/users/~/apps").1, apps);
    assert_eq!(server.get("/apps/shop").1, app);
    assert_eq!(
        server
            .get(&format!("/apps/{}", unnamed["id"].as_str().unwrap()))
            .1,
        unnamed
    );
    let (status, error) = server.get("/apps/other");
    assert_eq!((status, &error["id"]), (404, &json!("not_found")));
    assert_eq!(
        error["hint"],
        "`dyno apps` lists yours; `dyno create other` makes it"
    );
    assert_eq!(server.send("DELETE", "/apps/shop", "", b"").0, 200);
    assert_eq!(server.get("/apps/shop").0, 404);
    assert_eq!(server.get("/apps/shop/unknown").0, 404);
}

#[test]
fn a_folder_names_and_finds_its_app() {
    let server = Server::start();
    let above = tempfile::tempdir().unwrap();
    let src = above.path().canonicalize().unwrap().join("My Shop");
    std::fs::create_dir_all(src.join("bin")).unwrap();
    let metadata = src.metadata().unwrap();
    let folder = json!({"path": src, "device": metadata.dev(), "inode": metadata.ino()});
    let (_, app) = server.post("/apps", &json!({"folder": folder}));
    assert_eq!(
        (&app["name"], &app["folder"]),
        (&json!("my-shop"), &json!(src))
    );
    let ask = |path: PathBuf| {
        let path = path.to_str().unwrap().replace(' ', "%20");
        server.get(&format!("/links?path={path}"))
    };
    for path in [src.clone(), src.join("bin"), src.join("not/there")] {
        let (status, link) = ask(path);
        assert_eq!(
            (status, &link["app"]["name"], &link["path"]),
            (200, &json!("my-shop"), &json!(src))
        );
    }
    assert_eq!(ask(above.path().to_owned()), (200, json!(null)));
    assert_eq!(server.get("/links").0, 422);
    assert_eq!(server.get("/links?path=bin").0, 422);
}

#[test]
fn a_deploy_goes_from_the_tarball_to_the_formation() {
    let server = Server::start();
    server.create("shop");
    let release = server.deploy("shop", "one");
    assert_eq!(
        (&release["version"], &release["current"]),
        (&json!(2), &json!(true))
    );
    assert!(
        release["description"]
            .as_str()
            .unwrap()
            .starts_with("Deploy ")
    );
    let slug = release["slug"]["id"].as_str().unwrap();
    let (_, slug) = server.get(&format!("/apps/shop/slugs/{slug}"));
    let digest = slug["checksum"]
        .as_str()
        .unwrap()
        .strip_prefix("SHA256:")
        .unwrap();
    // The tree is there before anybody needs it.
    let tree = server.folder.path().join("slugs").join(digest);
    assert_eq!(std::fs::read_to_string(tree.join("file")).unwrap(), "one");
    let (_, formation) = server.get("/apps/shop/formation");
    assert_eq!(
        (&formation[0]["type"], &formation[0]["quantity"]),
        (&json!("web"), &json!(1))
    );
    assert_eq!(
        (&formation[1]["type"], &formation[1]["quantity"]),
        (&json!("worker"), &json!(0))
    );
}

#[test]
fn what_is_no_slug_is_never_released() {
    let server = Server::start();
    server.create("shop");
    let (slug, (status, _)) = server.upload("shop", &json!({"process_types": {}}), b"no gzip");
    assert_eq!(status, 200);
    let (status, error) = server.post("/apps/shop/releases", &json!({"slug": slug}));
    assert_eq!(status, 422, "{error}");
    assert_eq!(
        server
            .get("/apps/shop/releases")
            .1
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let announced = json!({
        "process_types": {}, "checksum": format!("SHA256:{}", "ab".repeat(32))
    });
    let (slug, (status, error)) = server.upload("shop", &announced, &tarball("x"));
    assert_eq!(status, 422);
    assert!(
        error["message"].as_str().unwrap().contains("checksum"),
        "{error}"
    );
    let (status, error) = server.post("/apps/shop/releases", &json!({"slug": slug}));
    assert_eq!(status, 422);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("has not arrived"),
        "{error}"
    );
    assert_eq!(
        server.send("PUT", "/apps/shop/slugs/x/blob", "", b"x").0,
        404
    );
}

#[test]
fn config_and_rollback_make_releases() {
    let server = Server::start();
    server.create("shop");
    server.deploy("shop", "one");
    let path = "/apps/shop/config-vars";
    let (status, config) = server.send("PATCH", path, "", br#"{"A":"1","B":"2"}"#);
    assert_eq!((status, &config), (200, &json!({"A": "1", "B": "2"})));
    server.send("PATCH", path, "", br#"{"A":null}"#);
    server.deploy("shop", "two");
    assert_eq!(server.get(path).1, json!({"B": "2"}));
    let (status, error) = server.send("PATCH", path, "", br#"{"PORT":"80"}"#);
    assert_eq!(
        (status, &error["message"]),
        (422, &json!("`PORT` cannot be a config var"))
    );

    let (status, release) = server.post("/apps/shop/releases", &json!({"release": "v3"}));
    assert_eq!(
        (status, &release["description"]),
        (201, &json!("Rollback to v3"))
    );
    assert_eq!(server.get(path).1, json!({"A": "1", "B": "2"}));
    assert_eq!(
        server.get("/apps/shop/releases/4/config-vars").1,
        json!({"B": "2"})
    );
    assert_eq!(server.get("/apps/shop/releases/v6").1, release);
    for (named, message) in [
        ("v1", "`shop` cannot go back to `v1`"),
        ("v6", "`v6` is what `shop` runs already"),
        ("v9", "`shop` has no release `v9`"),
    ] {
        let (_, error) = server.post("/apps/shop/releases", &json!({"release": named}));
        assert_eq!(error["message"], message);
    }

    let versions = |range: &str| -> Vec<u64> {
        let (_, releases) = server.send("GET", "/apps/shop/releases", range, b"");
        let releases = releases.as_array().unwrap().iter();
        releases
            .map(|release| release["version"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(versions(""), [1, 2, 3, 4, 5, 6]);
    assert_eq!(versions("Range: version ..; max=2, order=desc\r\n"), [6, 5]);
    assert_eq!(versions("Range: version ..; order=desc,max=1;\r\n"), [6]);
}

#[test]
fn account_and_sizes_are_told() {
    let server = Server::start();
    let (status, account) = server.get("/account");
    assert_eq!((status, &account["email"]), (200, &json!("ada@host")));
    assert_eq!(server.get("/dyno-sizes").1.as_array().unwrap().len(), 26);
}

#[test]
fn a_formation_is_scaled_whole_or_by_process_type() {
    let server = Server::start();
    server.create("shop");
    server.deploy("shop", "one");
    let patch = |path: &str, body: Value| {
        let path = format!("/apps/shop/formation{path}");
        server.send("PATCH", &path, "", body.to_string().as_bytes())
    };
    let show = |formation: &Value| {
        let one = |it: &Value| {
            assert_eq!(it["size"], it["dyno_size"]["name"]);
            format!("{}={}:{}", it["type"], it["quantity"], it["size"]).replace('"', "")
        };
        match formation.as_array() {
            Some(all) => all.iter().map(one).collect::<Vec<_>>().join(" "),
            None => one(formation),
        }
    };
    let updates = json!([
        {"type": "web", "quantity": "3"},
        {"type": "worker", "quantity": "+1", "size": "standard-2x"},
    ]);
    let (status, formation) = patch("", json!({ "updates": updates }));
    assert_eq!(
        (status, show(&formation)),
        (200, "web=3:1X worker=1:Standard-2X".into())
    );
    assert_eq!(server.get("/apps/shop/formation").1, formation);
    let (status, web) = patch("/web", json!({"quantity": 2, "dyno_size": {"name": "PX"}}));
    assert_eq!((status, show(&web)), (200, "web=2:PX".into()));
    let id = web["id"].as_str().unwrap();
    assert_eq!(patch(&format!("/{id}"), json!({"quantity": "+2"})).0, 200);
    let (_, web) = server.get("/apps/shop/formation/web");
    assert_eq!(show(&web), "web=4:PX");
    assert_eq!(server.get(&format!("/apps/shop/formation/{id}")).1, web);

    for (path, body, status, message) in [
        (
            "",
            json!({"updates": [{"type": "job", "quantity": 1}]}),
            404,
            "no process type `job`",
        ),
        ("/job", json!({"quantity": 1}), 404, "no process type `job`"),
        (
            "/web",
            json!({"quantity": 101}),
            422,
            "102 dynos are more than the 100",
        ),
        ("/web", json!({"size": "3X"}), 422, "no such size as `3X`"),
        ("", json!({}), 422, "`updates` is missing"),
    ] {
        let (actual, error) = patch(path, body);
        let said = error["message"].as_str().unwrap();
        assert!(
            actual == status && said.starts_with(message),
            "{actual} {error}"
        );
    }
    let (status, error) = server.get("/apps/shop/formation/job");
    assert_eq!(
        (status, &error["hint"]),
        (404, &json!("`shop` has web, worker"))
    );
    assert_eq!(
        show(&server.get("/apps/shop/formation").1),
        "web=4:PX worker=1:Standard-2X"
    );
    let said: Vec<_> = server
        .log("shop")
        .lines()
        .filter_map(|line| {
            let (_, said) = line.split_once(" app[api]: Scaled to ")?;
            Some(said.to_owned())
        })
        .collect();
    assert_eq!(
        said,
        [
            "web@1:1X worker@0:1X by user ada@host",
            "web@3:1X worker@1:Standard-2X by user ada@host",
            "web@2:PX worker@1:Standard-2X by user ada@host",
            "web@4:PX worker@1:Standard-2X by user ada@host",
        ]
    );
}

#[test]
fn an_app_is_closed_to_visitors_and_opened_again() {
    let server = Server::start();
    assert_eq!(server.create("shop")["maintenance"], false);
    for (maintenance, said) in [(true, "on"), (false, "off")] {
        let body = json!({ "maintenance": maintenance }).to_string();
        let (status, app) = server.send("PATCH", "/apps/shop", "", body.as_bytes());
        assert_eq!((status, &app["maintenance"]), (200, &json!(maintenance)));
        assert_eq!(server.get("/apps/shop").1, app);
        let said = format!(" app[api]: Maintenance mode {said} by user ada@host\n");
        assert!(server.log("shop").ends_with(&said));
    }
    assert_eq!(server.send("PATCH", "/apps/shop", "", b"{}").0, 422);
    assert_eq!(
        server
            .send("PATCH", "/apps/other", "", b"{\"maintenance\":true}")
            .0,
        404
    );
}
