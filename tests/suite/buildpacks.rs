//! Buildpacks that are named: whose they are, what they are given, and how they are listed and shown.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::build_dynos::{built, cannot_build, left};
use crate::builds::{again, build, output, shop, source, upload};
use crate::harness::{Host, lacks, lacks_walls};

/// A buildpack that says what it is given, by its scripts.
pub fn pack(host: &Host, name: &str, scripts: &[(&str, &str)]) -> std::path::PathBuf {
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
pub fn set_buildpacks(host: &Host, packs: &[&std::path::Path]) {
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
