//! Every route, and what is decided of it before it is answered.

use super::permission::{About, Needs};
use super::policy::AskBody::{self, Upload, Whole};
use super::policy::OverTcp::{self, Refused, Unversioned, Versioned};
use super::*;
use crate::api::ErrorKind;

/// A request, what it wants, whether it may come over TCP, how its body is taken, and which scope it needs. (The suite
/// reads this table, too, and asks for each.)
type Row = (&'static str, &'static str, OverTcp, AskBody, &'static str);

#[rustfmt::skip]
const ROUTES: &[Row] = &[
    ("GET /apps", "Apps(List)", Versioned, Whole, "read"),
    ("GET /users/~/apps", r#"Apps(ListOfUser { user: "~" })"#, Versioned, Whole, "read"),
    ("POST /apps", "Apps(Create)", Versioned, Whole, "admin of all"),
    ("GET /apps/shop", r#"Apps(Info { app: "shop" })"#, Versioned, Whole, "read"),
    ("PATCH /apps/shop", r#"Apps(Update { app: "shop" })"#, Versioned, Whole, "admin"),
    ("DELETE /apps/shop", r#"Apps(Destroy { app: "shop" })"#, Versioned, Whole, "admin"),
    ("GET /links?path=/src%20x", r#"Links(Find { path: Some("/src x") })"#, Refused, Whole, "socket"),
    ("GET /links", "Links(Find { path: None })", Refused, Whole, "socket"),
    ("GET /links/moved?path=/src", r#"Links(FindMoved { path: Some("/src") })"#, Refused, Whole, "socket"),
    ("PUT /links", "Links(Link)", Refused, Whole, "socket"),
    ("DELETE /links?path=/src", r#"Links(Unlink { path: Some("/src") })"#, Refused, Whole, "socket"),
    ("GET /apps/shop/config-vars", r#"Config(Info { app: "shop" })"#, Versioned, Whole, "read-protected"),
    ("PATCH /apps/shop/config-vars", r#"Config(Change { app: "shop" })"#, Versioned, Whole, "deploy"),
    ("POST /apps/shop/slugs", r#"Slugs(Create { app: "shop" })"#, Versioned, Whole, "deploy"),
    ("GET /apps/shop/slugs/s", r#"Slugs(Info { app: "shop", slug: "s" })"#, Versioned, Whole, "read"),
    ("PUT /apps/shop/slugs/s/blob", r#"Slugs(Upload { app: "shop", slug: "s" })"#, Versioned, Upload, "deploy"),
    ("GET /apps/shop/slugs/s/blob", r#"Slugs(Download { app: "shop", slug: "s" })"#, Versioned, Whole, "read"),
    ("POST /sources", "Sources(Create)", Versioned, Whole, "deploy"),
    ("POST /apps/shop/sources", "Sources(Create)", Versioned, Whole, "deploy"),
    ("PUT /sources/s/blob", r#"Sources(Upload { source: "s" })"#, Versioned, Upload, "deploy"),
    ("GET /sources/s/blob", r#"Sources(Download { source: "s" })"#, Versioned, Whole, "deploy"),
    ("DELETE /sources/s", r#"Sources(Forget { source: "s" })"#, Versioned, Whole, "deploy"),
    ("GET /apps/shop/builds", r#"Builds(List { app: "shop" })"#, Versioned, Whole, "read"),
    ("POST /apps/shop/builds", r#"Builds(Create { app: "shop" })"#, Versioned, Whole, "deploy"),
    ("GET /apps/shop/builds/b", r#"Builds(Info { app: "shop", build: "b" })"#, Versioned, Whole, "read"),
    ("DELETE /apps/shop/builds/b", r#"Builds(Cancel { app: "shop", build: "b" })"#, Versioned, Whole, "deploy"),
    ("GET /apps/shop/builds/b/result", r#"Builds(Result { app: Some("shop"), build: "b" })"#, Versioned, Whole, "read"),
    ("GET /builds/b/result", r#"Builds(Result { app: None, build: "b" })"#, Versioned, Whole, "read"),
    ("GET /apps/shop/builds/b/output?from=7", r#"Builds(Output { app: "shop", build: "b", from: Some("7") })"#, Versioned, Whole, "read"),
    ("GET /apps/shop/releases", r#"Releases(List { app: "shop" })"#, Versioned, Whole, "read"),
    ("POST /apps/shop/releases", r#"Releases(Create { app: "shop" })"#, Versioned, Whole, "deploy"),
    ("GET /apps/shop/releases/v2", r#"Releases(Info { app: "shop", release: "v2" })"#, Versioned, Whole, "read"),
    ("GET /apps/shop/releases/v2/config-vars", r#"Releases(Config { app: "shop", release: "v2" })"#, Versioned, Whole, "read-protected"),
    ("GET /apps/shop/releases/v2/output", r#"Releases(Output { app: "shop", release: "v2" })"#, Versioned, Whole, "read"),
    ("GET /apps/shop/formation", r#"Formation(List { app: "shop" })"#, Versioned, Whole, "read"),
    ("PATCH /apps/shop/formation", r#"Formation(Scale { app: "shop" })"#, Versioned, Whole, "deploy"),
    ("GET /apps/shop/formation/web", r#"Formation(Info { app: "shop", process_type: "web" })"#, Versioned, Whole, "read"),
    ("PATCH /apps/shop/formation/web", r#"Formation(ScaleOne { app: "shop", process_type: "web" })"#, Versioned, Whole, "deploy"),
    ("GET /apps/shop/dynos", r#"Dynos(List { app: "shop", ended: false, extended: false })"#, Versioned, Whole, "read"),
    ("GET /apps/shop/dynos?ended=true&extended=1", r#"Dynos(List { app: "shop", ended: true, extended: true })"#, Versioned, Whole, "read"),
    ("POST /apps/shop/dynos", r#"Dynos(Create { app: "shop" })"#, Versioned, Whole, "run"),
    ("GET /apps/shop/dynos/run.1", r#"Dynos(Info { app: "shop", dyno: "run.1" })"#, Versioned, Whole, "read"),
    ("GET /apps/shop/dynos/run.1/end?seconds=2", r#"Dynos(End { app: "shop", dyno: "run.1", seconds: Some("2") })"#, Versioned, Whole, "read"),
    ("POST /apps/shop/dynos/run.1/actions/stop", r#"Dynos(Stop { app: "shop", dyno: "run.1" })"#, Versioned, Whole, "run or deploy"),
    ("DELETE /apps/shop/dynos/run.1", r#"Dynos(Restart { app: "shop", dyno: "run.1" })"#, Versioned, Whole, "run or deploy"),
    ("DELETE /apps/shop/dynos", r#"Dynos(RestartAll { app: "shop" })"#, Versioned, Whole, "deploy"),
    ("DELETE /apps/shop/formations/web", r#"Dynos(RestartType { app: "shop", process_type: "web" })"#, Versioned, Whole, "deploy"),
    ("POST /apps/shop/formations/web/actions/stop", r#"Dynos(RestartType { app: "shop", process_type: "web" })"#, Versioned, Whole, "deploy"),
    ("GET /apps/shop/dynos/run.1/attach", r#"Dynos(Attach { app: "shop", dyno: "run.1" })"#, Versioned, Whole, "run or deploy"),
    ("POST /apps/shop/dynos/run.1/inside", r#"Dynos(RunInside { app: "shop", dyno: "run.1" })"#, Versioned, Whole, "run or deploy"),
    ("POST /apps/shop/dynos/run.1", r#"Dynos(MeetInside { app: "shop", dyno: "run.1" })"#, Versioned, Whole, "run or deploy"),
    ("GET /apps/shop/logs?tail=true", r#"Logs(Read { app: "shop", query: Query([("tail", "true")]) })"#, Versioned, Whole, "read"),
    ("POST /apps/shop/log-sessions", r#"Logs(CreateSession { app: "shop" })"#, Versioned, Whole, "read"),
    ("GET /apps/shop/log-stream?end=1:2", r#"Logs(ReadSession { app: "shop", query: Query([("end", "1:2")]) })"#, Versioned, Whole, "read"),
    ("POST /apps/shop/repository", r#"Git(Locate { app: "shop" })"#, Refused, Whole, "socket"),
    ("GET /shop.git/info/refs?service=git-upload-pack", r#"Git(Refs { app: "shop", service: Upload })"#, Unversioned, Whole, "read"),
    ("GET /shop.git/info/refs?service=git-receive-pack", r#"Git(Refs { app: "shop", service: Receive })"#, Unversioned, Whole, "deploy"),
    ("POST /shop.git/git-upload-pack", r#"Git(Serve { app: "shop", service: Upload })"#, Unversioned, Upload, "read"),
    ("POST /shop.git/git-receive-pack", r#"Git(Serve { app: "shop", service: Receive })"#, Unversioned, Upload, "deploy"),
    ("POST /sessions", "Sessions(Create)", Refused, Whole, "socket"),
    ("POST /sessions/s/actions/stop", r#"Sessions(Stop { session: "s" })"#, Refused, Whole, "socket"),
    ("GET /oauth/authorizations", "Authorizations(List)", Versioned, Whole, "admin"),
    ("POST /oauth/authorizations", "Authorizations(Create)", Versioned, Whole, "admin"),
    ("DELETE /oauth/authorizations/t", r#"Authorizations(Revoke { id: "t" })"#, Versioned, Whole, "admin"),
    ("GET /account", "Platform(Account)", Versioned, Whole, "any"),
    ("GET /users/~", r#"Platform(AccountOfUser { user: "~" })"#, Versioned, Whole, "any"),
    ("GET /account/rate-limits", "RateLimits", Versioned, Whole, "any"),
    ("GET /dyno-sizes", "Platform(DynoSizes)", Versioned, Whole, "any"),
    ("GET /dyno-sizes/eco", r#"Platform(DynoSize { size: "eco" })"#, Versioned, Whole, "any"),
    ("GET /regions", "Platform(Regions)", Versioned, Whole, "any"),
    ("GET /regions/us", r#"Platform(Region { region: "us" })"#, Versioned, Whole, "any"),
    ("GET /stacks", "Platform(Stacks)", Versioned, Whole, "any"),
    ("GET /stacks/host", r#"Platform(Stack { stack: "host" })"#, Versioned, Whole, "any"),
    ("GET /usage", "Platform(Usage)", Versioned, Whole, "read"),
    ("GET /account/features", "Platform(EmptyList)", Versioned, Whole, "read"),
    ("GET /account/keys", "Platform(EmptyList)", Versioned, Whole, "read"),
    ("GET /addons", "Platform(EmptyList)", Versioned, Whole, "read"),
    ("GET /pipelines", "Platform(EmptyList)", Versioned, Whole, "read"),
    ("GET /teams", "Platform(EmptyList)", Versioned, Whole, "read"),
    ("GET /apps/shop/available-dyno-sizes", r#"Platform(DynoSizesOfApp { app: "shop" })"#, Versioned, Whole, "read"),
    ("GET /apps/shop/available-stacks", r#"Platform(StacksOfApp { app: "shop" })"#, Versioned, Whole, "read"),
    ("GET /apps/shop/collaborators", r#"Platform(Collaborators { app: "shop" })"#, Versioned, Whole, "read"),
    ("GET /apps/shop/collaborators/me", r#"Platform(Collaborator { app: "shop", user: "me" })"#, Versioned, Whole, "read"),
    ("GET /apps/shop/pipeline-couplings", r#"Platform(PipelineCoupling { app: "shop" })"#, Versioned, Whole, "read"),
    ("GET /apps/shop/buildpack-installations", r#"Apps(Buildpacks { app: "shop" })"#, Versioned, Whole, "read"),
    ("PUT /apps/shop/buildpack-installations", r#"Apps(SetBuildpacks { app: "shop" })"#, Versioned, Whole, "deploy"),
    ("DELETE /apps/shop/build-cache", r#"Builds(PurgeCache { app: "shop" })"#, Versioned, Whole, "deploy"),
    ("POST /apps/shop/addons", r#"Platform(CreateAddon { app: "shop" })"#, Versioned, Whole, "deploy"),
    ("GET /apps/shop/features", r#"Apps(Features { app: "shop" })"#, Versioned, Whole, "read"),
    ("GET /apps/shop/features/f", r#"Apps(Feature { app: "shop", feature: "f" })"#, Versioned, Whole, "read"),
    ("PATCH /apps/shop/features/f", r#"Apps(UpdateFeature { app: "shop", feature: "f" })"#, Versioned, Whole, "admin"),
    ("GET /apps/shop/addons", r#"Platform(EmptyListOfApp { app: "shop" })"#, Versioned, Whole, "read"),
    ("GET /apps/shop/domains", r#"Platform(EmptyListOfApp { app: "shop" })"#, Versioned, Whole, "read"),
    ("GET /apps/shop/webhooks", r#"Platform(EmptyListOfApp { app: "shop" })"#, Versioned, Whole, "read"),
    ("GET /server", "Server(Info)", Versioned, Whole, "any"),
    ("GET /server/status", "Server(Status)", Versioned, Whole, "admin of all"),
    ("GET /server/settings", "Server(Settings)", Versioned, Whole, "admin of all"),
    ("POST /server/actions/listen", "Server(Listen)", Refused, Whole, "socket"),
    ("POST /server/actions/stop", "Server(Stop)", Refused, Whole, "socket"),
    ("POST /server/actions/replace", "Server(Replace)", Refused, Whole, "socket"),
];

fn parse(request: &str) -> Result<Ask, ApiError> {
    let (method, target) = request.split_once(' ').unwrap();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    Ask::parse(method, path, query)
}

#[test]
fn every_route_is_read_and_decided_upon() {
    for (request, wanted, over_tcp, body, scope) in ROUTES {
        let ask = parse(request).unwrap_or_else(|error| panic!("{request}: {error}"));
        assert_eq!(format!("{ask:?}"), *wanted, "{request}");
        assert_eq!(ask.over_tcp(), *over_tcp, "{request}");
        assert_eq!(ask.body(), *body, "{request}");
        let needed = match ask.needs() {
            Needs::TheSocket => "socket".to_owned(),
            Needs::AnyToken => "any".to_owned(),
            Needs::Scope(scope) => scope.name().to_owned(),
            Needs::AllApps(scope) => format!("{} of all", scope.name()),
            Needs::OfDyno(dyno) => {
                assert_eq!(dyno, "run.1");
                "run or deploy".to_owned()
            }
        };
        assert_eq!(needed, *scope, "{request}");
        assert_eq!(needed == "socket", *over_tcp == Refused, "{request}");
        let of_shop = [" /apps/shop", " /shop.git"]
            .iter()
            .any(|it| request.contains(it));
        let about = match of_shop && !request.contains("/sources") {
            true => About::App("shop"),
            false if request.contains(" /builds/") => About::AppOfBuild("b"),
            false => About::NoApp,
        };
        assert_eq!(ask.about(), about, "{request}");
    }
}

#[test]
fn what_is_no_route_is_not_found() {
    for request in [
        "GET /",
        "OPTIONS *",
        "GET /nothing",
        "HEAD /apps",
        "PUT /apps/shop",
        "DELETE /apps",
        "GET /apps/shop/nothing",
        "GET /apps/shop/slugs",
        "DELETE /apps/shop/dynos/run.1/end",
        "GET /sessions",
        "POST /server",
        "GET /server/actions/stop",
    ] {
        let error = parse(request).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{request}");
        assert_eq!(error.message, format!("there is no {request}"));
    }
    let error = parse("PUT /apps/a%20b?x=1").unwrap_err();
    assert_eq!(error.message, "there is no PUT /apps/a%20b");
}

#[test]
fn below_a_repository_only_git_is_answered() {
    for request in [
        "GET /shop.git",
        "GET /shop.git/HEAD",
        "GET /shop.git/info/refs",
        "GET /shop.git/info/refs?service=git-x",
        "PUT /shop.git/git-receive-pack",
    ] {
        let error = parse(request).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Forbidden, "{request}");
    }
}

#[test]
fn a_name_is_decoded_and_a_slash_at_the_end_means_nothing() {
    let app = |app: &str| Ask::Apps(AppAsk::Info { app: app.into() });
    for (request, wanted) in [
        ("GET /apps/a%20b", "a b"),
        ("GET /apps/a%2Fb", "a/b"),
        ("GET /apps/caf%C3%A9/", "café"),
        ("GET /apps/100%", "100%"),
    ] {
        assert_eq!(parse(request).unwrap(), app(wanted));
    }
    for (target, about) in [
        ("/apps/a%20b/dynos?x=1", Some("a b")),
        ("/apps/shop?x=1", Some("shop")),
        ("/apps", None),
        ("/links?path=/apps/shop", None),
    ] {
        assert_eq!(Ask::app_of(target).as_deref(), about, "{target}");
    }
}

#[test]
fn of_a_parameter_that_comes_twice_the_first_one_counts() {
    let query = Query::parse("a=1&b&a=2&c=x%20y&d=%zz");
    assert_eq!(query.get("a"), Some("1"));
    assert_eq!(query.get("b"), None);
    let pairs: Vec<_> = query.pairs().collect();
    let all = [("a", "1"), ("a", "2"), ("c", "x y"), ("d", "%zz")];
    assert_eq!(pairs, all);
}

#[test]
fn percent_signs_are_resolved_where_they_mean_something() {
    for (text, meant) in [
        ("plain", "plain"),
        ("/home/ada%20l/caf%C3%A9", "/home/ada l/café"),
        ("%2f%2F", "//"),
        ("100%", "100%"),
        ("%zz", "%zz"),
        ("%ff", "%ff"),
        ("a+b", "a+b"),
    ] {
        assert_eq!(decoded(text), meant);
    }
}
