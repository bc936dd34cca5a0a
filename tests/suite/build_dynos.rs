//! Builds that install what a source depends on, in a dyno of their own: what they may do, and how they end.
//!
//! What is built is a package of npm's without dependencies, whose build script does what the test is about.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::builds::{again, build, output, shop, source, upload};
use crate::git_push::Checkout;
use crate::harness::{Host, eventually, lacks, lacks_walls};

const LOCK: &str = r#"{"name":"shop","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{"":{"name":"shop","version":"1.0.0"}}}"#;

const SERVER: &str =
    "require('http').createServer((_, answer) => answer.end('hi\\n')).listen(process.env.PORT);\n";

/// A manifest with this build script.
fn manifest(script: &str) -> String {
    let script = Value::from(script);
    format!(
        r#"{{"name":"shop","version":"1.0.0","scripts":{{"start":"node server.js","build":{script}}}}}"#
    )
}

/// Builds a source with this build script, and waits for the end; the build, and its log.
fn built(host: &Host, script: &str, more: &[(&str, &str)]) -> (Value, String) {
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

fn cannot_build() -> bool {
    lacks_walls() || lacks("node") || lacks("npm")
}

/// What is left of builds beside their logs.
fn left(host: &Host) -> Vec<String> {
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

/// A buildpack that says what it is given, by its scripts.
fn pack(host: &Host, name: &str, scripts: &[(&str, &str)]) -> std::path::PathBuf {
    let compile = "#!/bin/sh\necho \"compiles in $(pwd)\"\n";
    let usual = [
        ("bin/detect", "#!/bin/sh\necho Odd\n"),
        ("bin/compile", compile),
    ];
    let mut files: std::collections::BTreeMap<&str, &str> = usual.into();
    files.extend(scripts.iter().copied());
    let files: Vec<_> = files.into_iter().collect();
    host.folder_of(name, &files)
}

/// The buildpacks of the app `shop`.
fn set_buildpacks(host: &Host, packs: &[&std::path::Path]) {
    let folder = host.path();
    host.dyno(&folder, &["buildpacks:clear", "-a", "shop"])
        .finish()
        .succeeds();
    for pack in packs {
        let pack = pack.to_str().unwrap();
        host.dyno(&folder, &["buildpacks:add", "-a", "shop", pack])
            .finish()
            .succeeds();
    }
}

#[test]
fn buildpacks_of_others_have_what_their_contract_says() {
    if lacks_walls() || lacks("bash") || lacks("getconf") {
        return;
    }
    let host = shop(&[]);
    let folder = host.path();
    host.dyno(
        &folder,
        &["config:set", "-a", "shop", "SECRET=a b", "LINES=x"],
    )
    .finish()
    .succeeds();
    let compile = r#"#!/bin/sh
        case $1 in /tmp/build_*) echo "build dir fits";; esac
        cmp "$1/Procfile" - <<'X' && echo "source is there"
worker: true
X
        echo "home $HOME, $(ls -A /app | wc -l) files; app is writable: $(touch /app/x && echo yes)"
        echo "stack ${STACK%-*}, version $SOURCE_VERSION, request $REQUEST_ID" | sed 's/request .*-.*/request given/'
        echo "secret $(od -An -c "$3/SECRET" | tr -d ' '), mode $(stat -c %a "$3/SECRET"); env: ${SECRET-none}"
        mkdir -p "$1/.profile.d" "$2/kept"; echo 'export FROM_PACK=profile' > "$1/.profile.d/pack.sh"
        echo 'export FOR_LATER="from one"' > export
        rm "$1/.slugignored" 2>/dev/null
        echo progress >&2
    "#;
    let release =
        "#!/bin/sh\necho 'addons: []'\necho 'default_process_types:'\necho '  odd: true'\n";
    let one = pack(
        &host,
        "one",
        &[("bin/compile", compile), ("bin/release", release)],
    );
    let later = "#!/bin/sh\necho \"later has $FOR_LATER; cache $(ls $2)\"\n";
    let types = "#!/bin/sh\necho \"releases with ${FOR_LATER-none}\" >&2\n\
                 printf -- '---\\ndefault_process_types:\\n  worker: false\\n  clock: \"tick tock\"\\n'\n";
    let report = "#!/bin/sh\nexit 7\n";
    let two = pack(
        &host,
        "two",
        &[
            ("bin/compile", later),
            ("bin/release", types),
            ("bin/report", report),
        ],
    );
    set_buildpacks(&host, &[&one, &two]);
    let files = source(&[
        ("Procfile", "worker: true\n"),
        (".slugignore", "secret*\n"),
        ("secret.txt", ""),
        ("package.json", "{}"),
    ]);
    let pending = build(&host, "shop", &upload(&host, &files));
    let log = output(&host, &pending);
    for line in [
        "-----> Using buildpacks:",
        &format!("       1. {}", one.display()),
        "-----> Odd app detected",
        "build dir fits",
        "source is there",
        "home /app, 0 files; app is writable: yes",
        "secret ab, mode 600; env: none",
        "progress",
        "later has from one; cache kept",
        "       Procfile declares types -> worker",
        "       Default types for buildpack -> clock",
    ] {
        assert!(log.contains(&format!("{line}\n")), "{line}: {log}");
    }
    assert!(log.contains("stack heroku, version "), "{log}");
    assert!(log.contains("request given"), "{log}");
    let built = again(&host, &pending);
    assert_eq!(built["status"], "succeeded", "{log}");
    assert_eq!(built["buildpacks"][1]["url"], two.to_str().unwrap());
    host.run(
        &folder,
        &[
            "-q",
            "-a",
            "shop",
            "echo $FROM_PACK; ls -a | grep -c secret",
        ],
    )
    .finish()
    .holds("its profile", |text| text == "profile\n0\n");
    assert!(left(&host).is_empty(), "{:?}", left(&host));
}

#[test]
fn a_buildpack_that_is_named_must_take_the_source() {
    if lacks_walls() || lacks("getconf") {
        return;
    }
    let host = shop(&[]);
    let no = pack(
        &host,
        "no",
        &[("bin/detect", "#!/bin/sh\necho not mine >&2; exit 1\n")],
    );
    set_buildpacks(&host, &[&no]);
    let files = source(&[("Procfile", "worker: true\n")]);
    let pending = build(&host, "shop", &upload(&host, &files));
    let log = output(&host, &pending);
    assert!(log.contains("not mine\n"), "{log}");
    assert!(
        log.contains(" !     the buildpack no does not take this source\n"),
        "{log}"
    );
    let bad = pack(&host, "bad", &[("bin/compile", "#!/bin/sh\nexit 3\n")]);
    set_buildpacks(&host, &[&bad]);
    let pending = build(&host, "shop", &upload(&host, &files));
    let log = output(&host, &pending);
    assert!(
        log.contains("failed to compile Odd app (exit status 3)"),
        "{log}"
    );
}

#[test]
fn a_source_names_its_buildpacks_and_the_app_wins() {
    if lacks_walls() || lacks("git") || lacks("getconf") {
        return;
    }
    let host = shop(&[]);
    let names = |text: &str| {
        let files = source(&[("Procfile", "worker: true\n"), (".buildpacks", text)]);
        let pending = build(&host, "shop", &upload(&host, &files));
        output(&host, &pending)
    };
    // Nobody listens there.
    let log = names("https://127.0.0.1:1/pack.git#v1\n");
    assert!(
        log.contains("-----> Fetching https://127.0.0.1:1/pack.git#v1\n"),
        "{log}"
    );
    assert!(log.contains("cannot be fetched\n"), "{log}");
    let log = names("/etc\n");
    assert!(
        log.contains("the source names a folder of this host, `/etc`"),
        "{log}"
    );
    let one = pack(&host, "one", &[]);
    set_buildpacks(&host, &[&one]);
    let log = names("/etc\n");
    assert!(log.contains("compiles in /build/packs/00-one\n"), "{log}");
    // Native ones are used whatever is named.
    let folder = host.path();
    host.dyno(&folder, &["builder", "-a", "shop", "native"])
        .finish()
        .succeeds();
    assert!(!names("/etc\n").contains("Using buildpacks"));
    set_buildpacks(&host, &[]);
    host.dyno(&folder, &["builder", "-a", "shop", "buildpacks"])
        .finish()
        .succeeds();
    let log = names("# none\n");
    assert!(
        log.contains("the builder is `buildpacks`, and none is named"),
        "{log}"
    );
}

#[test]
fn the_buildpacks_of_an_app_are_listed_and_changed_in_herokus_words() {
    let host = shop(&[]);
    let folder = host.path();
    let dyno = |args: &[&str]| {
        host.dyno(&folder, &[args, &["-a", "shop"]].concat())
            .finish()
    };
    dyno(&["buildpacks"]).prints("shop has no Buildpacks.\n");
    dyno(&["buildpacks:add", "heroku/ruby"])
        .mentions("Buildpack added. Next release on shop will use heroku/ruby.\n");
    dyno(&["buildpacks"]).prints("=== shop Buildpack\nheroku/ruby\n");
    dyno(&["buildpacks:add", "heroku/nodejs", "-i", "1"]).mentions(
        "Buildpack added. Next release on shop will use:\n  1. heroku/nodejs\n  2. heroku/ruby\n",
    );
    dyno(&["buildpacks:add", "heroku/ruby"]).fails_with(
        1,
        "The buildpack heroku/ruby is already set on your app.",
        "lists them",
    );
    dyno(&["buildpacks:set", "https://example.org/a.git#v2", "-i", "2"])
        .mentions("  2. https://example.org/a.git#v2\n");
    dyno(&["buildpacks:remove", "heroku/nodejs"]).mentions(
        "Buildpack removed. Next release on shop will use https://example.org/a.git#v2.\n",
    );
    dyno(&["buildpacks:remove", "heroku/go"]).fails_with(
        1,
        "shop has no buildpack heroku/go",
        "it has",
    );
    dyno(&["buildpacks:add", "ruby"]).fails_with(1, "`ruby` is no buildpack", "NAMESPACE/NAME");
    let listed = host
        .request("GET", "/apps/shop/buildpack-installations", &Value::Null)
        .1;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["ordinal"], 0);
    assert_eq!(
        listed[0]["buildpack"]["url"],
        "https://example.org/a.git#v2"
    );
    dyno(&["config:set", "BUILDPACK_URL=heroku/go"]).succeeds();
    dyno(&["buildpacks:clear"])
        .mentions("Buildpacks cleared. Next release on shop will detect buildpacks normally.\n")
        .mentions("The BUILDPACK_URL config var is still set");
    dyno(&["buildpacks:eject", "python", "mine"]).succeeds();
    assert!(folder.join("mine/bin/compile").is_file());
    dyno(&["buildpacks:eject", "python", "mine"]).fails_with(
        1,
        "cannot make the folder `mine`",
        "not there yet",
    );
}

#[test]
fn a_buildpack_that_was_ejected_builds_as_it_did() {
    if cannot_build() {
        return;
    }
    let host = shop(&[]);
    let folder = host.path();
    host.dyno(&folder, &["buildpacks:eject", "nodejs", "mine"])
        .finish()
        .succeeds()
        .mentions("`dyno buildpacks:set ");
    let compile = folder.join("mine/bin/compile");
    let text = fs::read_to_string(&compile).unwrap();
    let changed = text.replacen('\n', "\necho \"mine, in $1, on $STACK\"\n", 1);
    fs::write(&compile, changed).unwrap();
    set_buildpacks(&host, &[&folder.join("mine")]);
    let (built, log) = built(&host, "echo built > built", &[]);
    assert_eq!(built["status"], "succeeded", "{log}");
    assert!(log.contains("\nmine, in /app, on host\n"), "{log}");
    host.run(&folder, &["-q", "-a", "shop", "cat built; type npm"])
        .finish()
        .succeeds()
        .holds("what was built", |text| text.starts_with("built\n"));
}

#[test]
fn a_password_of_a_buildpack_is_used_and_not_shown() {
    if lacks_walls() || lacks("git") || lacks("getconf") {
        return;
    }
    let host = shop(&[]);
    let folder = host.path();
    let dyno = |args: &[&str]| {
        host.dyno(&folder, &[args, &["-a", "shop"]].concat())
            .finish()
    };
    let shown = "http://REDACTED@127.0.0.1:1/pack.git";
    dyno(&["buildpacks:add", "http://me:pa55word@127.0.0.1:1/pack.git"])
        .succeeds()
        .mentions(&format!("will use {shown}."));
    dyno(&["buildpacks:add", "heroku/go"]).succeeds();
    dyno(&["buildpacks:remove", "heroku/go"]).succeeds();
    dyno(&["buildpacks"]).prints(&format!("=== shop Buildpack\n{shown}\n"));
    let files = source(&[("Procfile", "worker: true\n")]);
    let pending = build(&host, "shop", &upload(&host, &files));
    let log = output(&host, &pending);
    assert!(log.contains(&format!("-----> Fetching {shown}\n")), "{log}");
    let everything = [
        log,
        again(&host, &pending).to_string(),
        host.request("GET", "/apps/shop", &Value::Null).1,
        host.log_lines().concat(),
    ]
    .concat();
    assert!(!everything.contains("pa55word"), "{everything}");
    // The server has it still.
    let stored = Command::new("grep")
        .arg("-ac")
        .arg("me:pa55word@127.0.0.1:1/pack.git")
        .arg(host.state().join("state.db"))
        .arg(host.state().join("state.db-wal"))
        .output()
        .unwrap();
    assert!(stored.status.success(), "{stored:?}");
}

#[test]
fn a_folder_is_a_buildpack_by_what_is_in_it() {
    let host = shop(&[]);
    let folder = host.path();
    let add = |pack: &str| {
        host.dyno(&folder, &["buildpacks:add", "-a", "shop", pack])
            .finish()
    };
    add("/usr/nothing").fails_with(1, "`/usr/nothing` cannot be a buildpack", "name a folder");
    add("/etc").fails_with(1, "it has no bin/detect and bin/compile", "eject");
    let state = host.state();
    fs::create_dir_all(state.join("bin")).unwrap();
    for name in ["detect", "compile"] {
        fs::write(state.join("bin").join(name), "").unwrap();
    }
    add(state.to_str().unwrap()).fails_with(1, "dyno's own state is there", "of its own");
    let link = folder.join("link");
    std::os::unix::fs::symlink(pack(&host, "one", &[]), &link).unwrap();
    add(link.to_str().unwrap()).fails_with(1, "its path leads elsewhere", "name it so");
}
