//! What a build has installed is kept for the next, as a layer: taken over unchanged until a manifest says otherwise.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::build_dynos::left;
use crate::buildpacks::{pack, set_buildpacks};
use crate::builds::{again, build, output, shop, source, upload};
use crate::harness::{Host, lacks_walls};

/// A buildpack that installs what the file `lock` says, unless a build before has.
const COMPILE: &str = r#"#!/bin/sh
    key=$(cat "$1/lock")
    if [ "$key" = "$(cat /build/layer-key)" ]; then
        ln -s /build/layer/deps "$1/deps"
        echo "kept $(cat "$1/deps/a")"
        echo x 2>/dev/null > /build/layer/deps/a || echo "which cannot be written"
        rm "$1/deps"
        echo kept > /build/out/layer
    else
        mkdir -p "$1/deps/bin"
        echo "for $key" > "$1/deps/a"
        printf '#!/bin/sh\necho runs\n' > "$1/deps/bin/run"
        chmod 755 "$1/deps/bin/run"
        ln -s bin/run "$1/deps/link"
        printf '%s\ndeps\n' "$key" > /build/out/layer
        echo "installed for $key"
    fi
    [ ! -e "$1/fail" ]
"#;

fn built(host: &Host, files: &[(&str, &str)]) -> (Value, String) {
    let files = [&[("Procfile", "job: deps/link\n")], files].concat();
    let pending = build(host, "shop", &upload(host, &source(&files)));
    let log = output(host, &pending);
    (again(host, &pending), log)
}

fn runs(host: &Host, version: &str, deps: &str) {
    let command = "cat version deps/a; deps/link";
    host.run(&host.path(), &["-q", "-a", "shop", command])
        .finish()
        .prints(&format!("{version}{deps}\nruns\n"));
}

/// The inodes of the file that was installed in the trees of the slugs.
fn inodes(host: &Host) -> Vec<u64> {
    let trees = fs::read_dir(host.state().join("slugs")).unwrap();
    let files: Vec<PathBuf> = trees.map(|it| it.unwrap().path().join("deps/a")).collect();
    files
        .iter()
        .filter_map(|file| Some(fs::metadata(file).ok()?.ino()))
        .collect()
}

#[test]
fn what_is_installed_is_taken_over_until_a_manifest_says_otherwise() {
    if lacks_walls() {
        return;
    }
    let host = shop(&[]);
    set_buildpacks(
        &host,
        &[&pack(&host, "installs", &[("bin/compile", COMPILE)])],
    );
    let (first, log) = built(&host, &[("lock", "1"), ("version", "a")]);
    assert_eq!(first["status"], "succeeded", "{log}");
    assert!(log.contains("installed for 1\n"), "{log}");
    runs(&host, "a", "for 1");
    // A build that fails changes nothing of it.
    let (failed, log) = built(&host, &[("lock", "2"), ("version", "b"), ("fail", "")]);
    assert_eq!(failed["status"], "failed", "{log}");
    let (_, log) = built(&host, &[("lock", "1"), ("version", "c")]);
    assert!(
        log.contains("kept for 1\nwhich cannot be written\n"),
        "{log}"
    );
    runs(&host, "c", "for 1");
    // One file, by two names.
    let inodes = inodes(&host);
    assert!(inodes.len() == 2 && inodes[0] == inodes[1], "{inodes:?}");
    // The tarball is whole for whoever has no layer.
    let slugs = fs::read_dir(host.state().join("slugs")).unwrap();
    for slug in slugs.map(|it| it.unwrap().path()) {
        if slug.extension().is_some_and(|it| it == "tgz") {
            let listed = std::process::Command::new("tar")
                .arg("-tzf")
                .arg(&slug)
                .output()
                .unwrap();
            let listed = String::from_utf8(listed.stdout).unwrap();
            for name in ["./app/deps/a\n", "./app/deps/link\n", "./app/lock\n"] {
                assert!(listed.contains(name), "{name}: {listed}");
            }
        }
    }
    let (_, log) = built(&host, &[("lock", "2"), ("version", "d")]);
    assert!(log.contains("installed for 2\n"), "{log}");
    runs(&host, "d", "for 2");
    host.dyno(&host.path(), &["builds:cache:purge", "-a", "shop"])
        .finish()
        .succeeds();
    let (_, log) = built(&host, &[("lock", "2"), ("version", "e")]);
    assert!(log.contains("installed for 2\n"), "{log}");
    runs(&host, "e", "for 2");
    assert!(left(&host).is_empty(), "{:?}", left(&host));
    host.dyno(
        &host.path(),
        &["apps:destroy", "-a", "shop", "--confirm", "shop"],
    )
    .finish()
    .succeeds();
    crate::harness::eventually("the layer to be removed", || {
        (fs::read_dir(host.state().join("caches")).unwrap().count() == 0).then_some(())
    });
}

#[test]
fn a_layer_of_what_is_not_there_fails_the_build() {
    if lacks_walls() {
        return;
    }
    let host = shop(&[]);
    let compile = "#!/bin/sh\nln -s /etc \"$1/etc\"; printf 'k\\netc\\n' > /build/out/layer\n";
    set_buildpacks(&host, &[&pack(&host, "odd", &[("bin/compile", compile)])]);
    let (failed, log) = built(&host, &[]);
    assert_eq!(failed["status"], "failed", "{log}");
    assert!(
        log.contains(" !     there is no folder `etc` to be kept\n"),
        "{log}"
    );
    // What is no folder of the source is no layer.
    let compile = "#!/bin/sh\nprintf 'k\\n../../x\\n' > /build/out/layer\n";
    set_buildpacks(&host, &[&pack(&host, "out", &[("bin/compile", compile)])]);
    let (built, log) = built(&host, &[]);
    assert_eq!(built["status"], "succeeded", "{log}");
    assert!(left(&host).is_empty(), "{:?}", left(&host));
}
