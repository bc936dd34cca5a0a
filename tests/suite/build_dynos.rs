//! Builds that install what a source depends on, in a dyno of their own: what they may do, and how they end.
//!
//! What is built is a package of npm's without dependencies, whose build script does what the test is about.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::builds::{again, build, output, shop, source, upload};
use crate::git_push::Checkout;
use crate::harness::{Host, eventually, lacks, lacks_walls};

pub const LOCK: &str = r#"{"name":"shop","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{"":{"name":"shop","version":"1.0.0"}}}"#;

pub const SERVER: &str =
    "require('http').createServer((_, answer) => answer.end('hi\\n')).listen(process.env.PORT);\n";

/// A manifest with this build script.
pub fn manifest(script: &str) -> String {
    let script = Value::from(script);
    format!(
        r#"{{"name":"shop","version":"1.0.0","scripts":{{"start":"node server.js","build":{script}}}}}"#
    )
}

/// Builds a source with this build script, and waits for the end; the build, and its log.
pub fn built(host: &Host, script: &str, more: &[(&str, &str)]) -> (Value, String) {
    let pending = begun(host, script, more);
    let log = output(host, &pending);
    (again(host, &pending), log)
}

fn begun(host: &Host, script: &str, more: &[(&str, &str)]) -> Value {
    let manifest = manifest(script);
    let files = [
        &[
            ("package.json", &*manifest),
            ("package-lock.json", LOCK),
            ("server.js", SERVER),
        ],
        more,
    ]
    .concat();
    build(host, "shop", &upload(host, &source(&files)))
}

pub fn cannot_build() -> bool {
    lacks_walls() || lacks("node") || lacks("npm")
}

/// What is left of builds beside their logs.
pub fn left(host: &Host) -> Vec<String> {
    let entries = fs::read_dir(host.state().join("builds")).unwrap();
    let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with(".log")).collect()
}

fn fails(host: &Host, script: &str, why: &str) -> String {
    let (built, log) = built(host, script, &[]);
    assert_eq!(built["status"], "failed", "{log}");
    assert!(log.contains(&format!(" !     {why}\n")), "{log}");
    assert!(left(host).is_empty(), "{:?}", left(host));
    assert_eq!(
        host.request("GET", "/apps/shop/releases/v2", &Value::Null)
            .0,
        404
    );
    log
}

#[test]
fn a_push_builds_what_the_manifest_names() {
    if cannot_build() || lacks("git") {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let checkout = Checkout::of_app(&host, "shop");
    checkout.write(
        "package.json",
        &manifest("pwd > built; echo made $GREETING"),
    );
    checkout.write("package-lock.json", LOCK);
    checkout.write("server.js", SERVER);
    checkout.write(".slugignore", "node_modules\n");
    checkout.write("node_modules/stale", "of another machine\n");
    checkout.git(&["rm", "-q", "Procfile"]).succeeds();
    checkout.commit("Builds");
    host.dyno(&checkout.folder, &["config:set", "GREETING=here"])
        .finish()
        .succeeds();
    let remote = checkout.push().succeeds().remote();
    for line in [
        "-----> Node.js app detected",
        "-----> Installing dependencies: npm ci --include=dev",
        "-----> Running build",
        "made here",
        "       Procfile declares types -> (none)",
        "       Default types for buildpack -> web",
    ] {
        assert!(remote.contains(line), "{line}: {remote}");
    }
    // It was at its place in every later dyno.
    let ask = "cat built; echo $NODE_ENV; ls -d node_modules || echo none";
    host.run(&checkout.folder, &["-q", ask])
        .finish()
        .prints("/app\nproduction\nnone\n");
    host.wait_for_log("heroku[web.1]: State changed from starting to up");
    host.wait_for_log("app[build.1]: made here");
    host.wait_for_log("heroku[build.1]: State changed from up to complete");
    assert!(left(&host).is_empty(), "{:?}", left(&host));
}

#[test]
fn a_build_that_fails_releases_nothing_and_says_why() {
    if cannot_build() {
        return;
    }
    let host = shop(&[]);
    let why = "the script `build` of package.json failed";
    let log = fails(&host, "echo the last words; exit 3", why);
    assert!(log.contains("the last words\n"), "{log}");
    // A daemon does not outlive it, and holds nobody up.
    fails(&host, "(setsid sleep 1000 &); exit 1", why);
    // Endless output is not kept.
    let log = fails(&host, "yes $(seq 30) | head -n 60000; exit 1", why);
    assert!(log.len() < 2 << 20, "{}", log.len());
    host.wait_until_clean();
}

#[test]
fn a_build_has_a_bounded_time_and_can_be_cancelled_whatever_it_ignores() {
    if cannot_build() {
        return;
    }
    let deaf = "trap '' TERM HUP INT; echo ready; while :; do sleep 1; done";
    let host = shop(&[("DYNO_BUILD_TIMEOUT", "4")]);
    let (built, log) = built(&host, deaf, &[]);
    assert_eq!(built["status"], "failed", "{log}");
    assert!(log.contains("the build took longer than the 4s"), "{log}");
    host.wait_until_clean();
    let host = shop(&[]);
    let pending = begun(&host, deaf, &[]);
    host.wait_for_log("app[build.1]: ready");
    let target = format!("/apps/shop/builds/{}", pending["id"].as_str().unwrap());
    assert_eq!(host.request("DELETE", &target, &Value::Null).0, 200);
    let log = output(&host, &pending);
    assert!(log.contains(" !     the build was cancelled\n"), "{log}");
    host.wait_until_clean();
    assert!(left(&host).is_empty(), "{:?}", left(&host));
}

#[test]
fn a_build_fails_with_its_server_and_leaves_nothing() {
    if cannot_build() {
        return;
    }
    let host = shop(&[]);
    let script = "trap '' TERM HUP; echo ready; while :; do mkdir -p /app/many/$(date +%N)/a; done";
    let pending = begun(&host, script, &[]);
    host.wait_for_log("app[build.1]: ready");
    host.kill_server();
    assert_eq!(again(&host, &pending)["status"], "failed");
    host.wait_until_clean();
    eventually("its folder gone", || left(&host).is_empty().then_some(()));
    let dynos = host.request("GET", "/apps/shop/dynos", &Value::Null).1;
    assert_eq!(dynos.trim(), "[]");
}

#[test]
fn what_a_build_plants_is_in_no_slug() {
    if cannot_build() {
        return;
    }
    let host = shop(&[]);
    let script = "cp /bin/true tool; chmod 6755 tool; ln -s /etc/shadow out; mkfifo pipe; \
                  ln -s ../../../../../etc/passwd up";
    let (built, log) = built(&host, script, &[]);
    assert_eq!(built["status"], "succeeded", "{log}");
    let ask = "stat -c %a tool; find . -perm /6000; readlink out; ls pipe || echo no pipe";
    host.run(&host.path(), &["-q", "-a", "shop", ask])
        .finish()
        .prints("755\n/etc/shadow\nno pipe\n");
    assert!(log.contains("`up` is a symlink out of the folder"), "{log}");
}

#[test]
fn a_cache_is_kept_from_builds_that_succeeded_and_goes_with_the_app() {
    if cannot_build() {
        return;
    }
    let host = shop(&[]);
    let mark = "cat /build/cache/marks; echo $(cat word) >> /build/cache/marks; test ! -e wrong";
    let log = |word: &str, more: &[(&str, &str)]| {
        let files = [&[("word", word)], more].concat();
        built(&host, mark, &files).1
    };
    assert!(!log("one", &[]).contains("\none\n"));
    assert!(log("two", &[("wrong", "")]).contains("\none\n"));
    let third = log("three", &[]);
    assert!(
        third.contains("\none\n") && !third.contains("two\n"),
        "{third}"
    );
    let caches = host.state().join("caches");
    assert_eq!(fs::read_dir(&caches).unwrap().count(), 1);
    host.dyno(
        &host.path(),
        &["apps:destroy", "-a", "shop", "--confirm", "shop"],
    )
    .finish()
    .succeeds();
    eventually("its cache gone", || {
        (fs::read_dir(&caches).unwrap().count() == 0).then_some(())
    });
}

#[test]
fn what_a_build_leaves_in_place_of_a_file_holds_nobody_up() {
    if cannot_build() {
        return;
    }
    let host = shop(&[]);
    let plant =
        "rm -f Procfile; mkfifo Procfile /build/out/release; truncate -s 10T /build/cache/sparse";
    for _ in 0..2 {
        let (built, log) = built(&host, plant, &[("Procfile", "web: true\n")]);
        assert_eq!(built["status"], "failed", "{log}");
        assert!(log.contains(" !     Build failed\n"), "{log}");
    }
    let sparse = "truncate -s 10T /build/cache/sparse";
    for _ in 0..2 {
        let (built, log) = built(&host, sparse, &[]);
        assert_eq!(built["status"], "succeeded", "{log}");
        assert!(log.contains("and is not kept"), "{log}");
    }
    // Where a build was refused for want of walls, or has failed, its app can be destroyed.
    host.dyno(
        &host.path(),
        &["apps:destroy", "-a", "shop", "--confirm", "shop"],
    )
    .finish()
    .succeeds();
    host.wait_until_clean();
}

#[test]
fn without_a_builder_the_files_are_the_slug() {
    let host = shop(&[]);
    let folder = host.path();
    host.dyno(&folder, &["builder", "-a", "shop"])
        .finish()
        .prints("auto\n");
    host.dyno(&folder, &["builder", "-a", "shop", "none"])
        .finish()
        .mentions("Setting the builder of shop to none... done");
    host.dyno(&folder, &["builder", "-a", "shop", "kaniko"])
        .finish()
        .fails_with(
            1,
            "there is no builder `kaniko`",
            "`auto`, `native`, `buildpacks` or `none`",
        );
    let (built, log) = built(&host, "exit 1", &[("Procfile", "worker: true\n")]);
    assert_eq!(built["status"], "succeeded", "{log}");
    assert!(!log.contains("detected"), "{log}");
}

#[test]
fn a_manifest_that_nothing_builds_is_an_error() {
    let host = shop(&[]);
    let files = source(&[
        ("pom.xml", "<project/>"),
        ("Procfile", "web: java -jar a.jar\n"),
    ]);
    let pending = build(&host, "shop", &upload(&host, &files));
    let log = output(&host, &pending);
    assert!(log.contains("nothing here builds Java (Maven)"), "{log}");
    assert!(log.contains("dyno builder none"), "{log}");
    assert_eq!(again(&host, &pending)["status"], "failed");
}

#[test]
fn where_dynos_are_in_folders_a_build_says_what_it_needs() {
    if lacks("node") {
        return;
    }
    let host = shop(&[("DYNO_ISOLATION", "tempdir")]);
    let (built, log) = built(&host, "true", &[]);
    assert_eq!(built["status"], "failed", "{log}");
    assert!(
        log.contains("a build needs a root tree of its own"),
        "{log}"
    );
}

/// A folder of this host that a build is to make an app of, with this build script.
fn needy(host: &Host, script: &str) -> std::path::PathBuf {
    host.folder_of(
        "needy",
        &[
            ("package.json", &manifest(script)),
            ("package-lock.json", LOCK),
            ("server.js", SERVER),
            ("node_modules/stale", "of another machine\n"),
            ("venv/here", "of the source\n"),
        ],
    )
}

#[test]
fn a_deploy_of_a_folder_builds_what_its_manifest_names() {
    if cannot_build() {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = needy(&host, "cat node_modules/* venv/*; echo built > built");
    host.dyno(&app, &["build", "--dry-run"])
        .finish()
        .prints(
            "App:           a new one, named after the folder\n\
             Builder:       auto\n\
             Build:         nodejs, for package.json, if its bin/detect agrees; `dyno buildpacks:eject nodejs` writes out what is run\n\
             Not sent:      node_modules, which is made anew; what .slugignore names\n\
             Procfile:      none: the process types are those of the buildpack\n",
        );
    host.dyno(&app, &["deploy"])
        .finish()
        .succeeds()
        .mentions("Creating needy... done\nUploading needy... done\n")
        .mentions("-----> Node.js app detected\n")
        .mentions("Default types for buildpack -> web\n")
        .mentions("needy is at http://")
        .mentions("of the source\n")
        .does_not_mention("of another machine");
    // It is linked, and known to be as new as the folder.
    host.run(&app, &["-q", "cat built"])
        .finish()
        .prints("built\n");
    host.wait_for_log("heroku[web.1]: State changed from starting to up");
    let builds = host.dyno(&app, &["builds"]).finish().succeeds().text();
    assert!(builds.contains("succeeded  v2 "), "{builds}");
    host.dyno(&app, &["builds:info"])
        .finish()
        .succeeds()
        .holds("its status", |text| text.contains("Status:     succeeded"));
    host.dyno(&app, &["builds:output"])
        .finish()
        .succeeds()
        .holds("what it printed", |text| {
            text.contains("-----> Running build\n")
        });
    host.dyno(&app, &["builds:info", "nosuch"])
        .finish()
        .fails_with(
            1,
            "there is no build `nosuch` of needy",
            "dyno builds -a needy",
        );
    let caches = host.state().join("caches");
    assert_eq!(fs::read_dir(&caches).unwrap().count(), 1);
    host.dyno(&app, &["builds:cache:purge"]).finish().succeeds();
    assert_eq!(fs::read_dir(&caches).unwrap().count(), 0);
    // Without a builder it is what it was.
    host.dyno(&app, &["builder", "none"]).finish().succeeds();
    host.dyno(&app, &["deploy", "--dry-run"])
        .finish()
        .holds("why there is no build", |text| {
            text.starts_with("App:           needy\n")
                && text.contains("Build:         none: the builder is `none`; ")
        });
    host.dyno(&app, &["deploy"]).finish().fails_with(
        1,
        "there is no Procfile",
        "it says what the app runs",
    );
}

#[test]
fn the_first_deploy_of_a_run_is_a_build_too() {
    if cannot_build() {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = needy(&host, "echo the last words; test ! -e wrong");
    fs::write(app.join("Procfile"), "job: true\n").unwrap();
    fs::write(app.join("wrong"), "").unwrap();
    // What was not shown is, when it fails.
    host.run(&app, &["-q", "true"])
        .finish()
        .exits(125)
        .mentions("the last words\n")
        .mentions("needy stays, for `dyno deploy`")
        .mentions("the build of needy failed");
    fs::remove_file(app.join("wrong")).unwrap();
    host.run(&app, &["-q", "ls package.json"])
        .finish()
        .says("")
        .prints("package.json\n");
}

#[test]
fn who_leaves_a_build_ends_it() {
    if cannot_build() {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = needy(&host, "echo ready; sleep 1000");
    host.dyno(&app, &["create"]).finish().succeeds();
    let deploying = host.dyno(&app, &["deploy"]).start();
    host.wait_for_log("app[build.1]: ready");
    deploying.signal(Signal::INT);
    deploying
        .finish()
        .exits(130)
        .mentions("the build was cancelled");
    let deploying = host.dyno(&app, &["deploy"]).start();
    host.wait_for_log("app[build.2]: ready");
    host.dyno(&app, &["builds:cancel"])
        .finish()
        .succeeds()
        .mentions("Cancelling build ");
    deploying
        .finish()
        .fails_with(1, "the build of needy failed", "nothing was released");
    host.wait_until_clean();
}

#[test]
fn a_build_that_forks_without_end_ends_and_leaves_nothing() {
    if cannot_build() {
        return;
    }
    let host = shop(&[("DYNO_BUILD_TIMEOUT", "10s")]);
    // Each of them waits, so that what is tried is the number of processes and not the processor.
    let bomb = "node -e 'const {spawn} = require(\"child_process\"); const go = () => { for (let i = 0; i < 50; i++) \
                spawn(\"sleep\", [\"1000\"], {stdio: \"ignore\"}).on(\"error\", () => {}); }; setInterval(go, 1)'";
    let (built, log) = built(&host, bomb, &[]);
    assert_eq!(built["status"], "failed", "{log}");
    let last: Vec<_> = log
        .lines()
        .filter(|line| line.starts_with(" !     "))
        .collect();
    assert!(last.len() == 1 || last.len() == 2, "{log}");
    host.wait_until_clean();
    assert!(left(&host).is_empty(), "{:?}", left(&host));
}

#[test]
fn a_build_that_fills_its_disk_fails_by_that() {
    if cannot_build() {
        return;
    }
    let host = shop(&[("DYNO_DISK_SIZE", "64MiB"), ("DYNO_BUILD_TIMEOUT", "60s")]);
    let (built, log) = built(&host, "head -c 1G /dev/zero > big; sleep 1000", &[]);
    assert_eq!(built["status"], "failed", "{log}");
    assert!(
        log.contains(" MB of files on disk, and its size allows 64 MB\n"),
        "{log}"
    );
    host.wait_until_clean();
    assert!(left(&host).is_empty(), "{:?}", left(&host));
}
