//! From a folder, or a tarball made elsewhere, to a release; and what must not come of a bad one.

use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::harness::{Host, eventually, lacks, leave_out, write};
use crate::small_disk::{can_fill_a_disk, on_a_small_disk};

/// The names in the state's `slugs` folder.
fn slugs(host: &Host) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(host.state().join("slugs"))
        .map(|entries| {
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

fn tarballs(host: &Host) -> Vec<String> {
    slugs(host)
        .into_iter()
        .filter(|name| name.ends_with(".tgz"))
        .collect()
}

/// The versions of an app's releases, newest first.
fn versions(host: &Host, app: &Path) -> Vec<u64> {
    let json = host
        .dyno(app, &["releases", "--json"])
        .finish()
        .succeeds()
        .text();
    let releases: Value = serde_json::from_str(&json).unwrap();
    let releases = releases.as_array().unwrap().iter();
    releases
        .map(|release| release["version"].as_u64().unwrap())
        .collect()
}

fn date(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let times = FileTimes::new().set_modified(time);
    File::open(path).unwrap().set_times(times).unwrap();
}

#[test]
fn a_deploy_says_which_release_it_made() {
    let host = Host::new();
    let app = host.folder("plain");
    let idle = "no dyno runs: `dyno ps:scale nothing=1 -a plain` starts one\n";
    host.dyno(&app, &["deploy"])
        .finish()
        .succeeds()
        .prints("")
        .says(&format!(
            "Creating plain... done\nDeploying to plain... done, v2\n{idle}"
        ));
    host.dyno(&app, &["deploy"])
        .finish()
        .succeeds()
        .says(&format!("Deploying to plain... done, v3\n{idle}"));
    host.dyno(&host.path(), &["deploy", "apps/plain"])
        .finish()
        .succeeds()
        .says(&format!("Deploying to plain... done, v4\n{idle}"));
    assert_eq!(versions(&host, &app), [4, 3, 2, 1]);
}

#[test]
fn the_same_tree_is_the_same_slug() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let (one, two) = (
        host.folder_as("many-types", "one"),
        host.folder_as("many-types", "two"),
    );
    // Times of files are part of it, those of folders are not.
    for (folder, name, seconds) in [
        (&one, "Procfile", 1_000_000),
        (&one, "bin/say", 1_000_000),
        (&two, "Procfile", 1_000_000),
        (&two, "bin/say", 1_000_000),
        (&two, "bin", 2_000_000),
    ] {
        date(&folder.join(name), seconds);
    }
    write(&two.join(".git/HEAD"), "never packed");
    for folder in [&one, &two] {
        host.dyno(folder, &["deploy"]).finish().succeeds();
    }
    assert_eq!(tarballs(&host).len(), 1, "{:?}", slugs(&host));
    write(&two.join("bin/say"), "#!/bin/sh\necho other\n");
    host.dyno(&two, &["deploy"]).finish().succeeds();
    assert_eq!(tarballs(&host).len(), 2);
    // One app's slug is not the other's.
    host.run(&one, &["-q", "bin/say x"]).finish().prints("x\n");
    host.run(&two, &["-q", "bin/say x"])
        .finish()
        .prints("other\n");
}

#[test]
fn a_file_keeps_its_time_and_a_changed_one_gets_a_newer_one() {
    let host = Host::new();
    let app = host.folder_of(
        "times",
        &[
            ("Procfile", "x: true\n"),
            ("kept", "k"),
            ("within-a-second", "a"),
            ("older", "a"),
            ("touched", "t"),
        ],
    );
    for name in ["Procfile", "kept", "within-a-second", "older", "touched"] {
        date(&app.join(name), 1_500_000_000);
    }
    let times = || {
        let names = "kept within-a-second older touched";
        let command = format!("stat -c %Y {names}");
        host.run(&app, &["-q", &command]).finish().succeeds().text()
    };
    host.dyno(&app, &["deploy"]).finish().succeeds();
    assert_eq!(times(), "1500000000\n".repeat(4));
    write(&app.join("within-a-second"), "b");
    date(&app.join("within-a-second"), 1_500_000_000);
    write(&app.join("older"), "and longer");
    date(&app.join("older"), 1_400_000_000);
    date(&app.join("touched"), 1_400_000_000);
    host.dyno(&app, &["deploy"]).finish().succeeds();
    let after = "1500000000\n1500000001\n1500000001\n1500000000\n";
    assert_eq!(times(), after);
    assert_eq!(tarballs(&host).len(), 2);
    // What has changed in nothing is stored once.
    host.dyno(&app, &["deploy"]).finish().succeeds();
    assert_eq!(times(), after);
    assert_eq!(tarballs(&host).len(), 2);
}

#[test]
fn bytecode_that_was_deployed_belongs_to_its_source() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = host.folder_of(
        "bytecode",
        &[("Procfile", "x: true\n"), ("lib/m.py", "x = 1\n")],
    );
    let compiled = Command::new("python3")
        .args(["-m", "compileall", "-q", "lib"])
        .current_dir(&app)
        .status();
    assert!(compiled.unwrap().success());
    for _ in 0..2 {
        host.dyno(&app, &["deploy"]).finish().succeeds();
        host.run(
            &app,
            &["-q", "python3 -v -c 'import lib.m' 2>&1 | grep lib/m"],
        )
        .finish()
        .succeeds()
        .mentions("")
        .holds("the bytecode matches", |text| {
            text.contains("matches") && !text.contains("stale")
        });
    }
}

#[test]
fn a_folder_without_a_procfile_is_not_deployed_and_ends_nothing() {
    let host = Host::new();
    let app = host.folder_of("silent", &[("Procfile", "worker: sleep 1000\n")]);
    host.dyno(&app, &["deploy"]).finish().succeeds();
    host.dyno(&app, &["ps:scale", "worker=2"])
        .finish()
        .succeeds();
    let message = format!("there is no Procfile in `{}`", app.display());
    let refused = |hint: &str| {
        for args in [&["deploy"][..], &["run", "--deploy", "true"]] {
            let code = if args[0] == "run" { 125 } else { 1 };
            host.dyno(&app, args)
                .finish()
                .fails_with(code, &message, hint);
        }
    };
    fs::remove_file(app.join("Procfile")).unwrap();
    refused("it says what the app runs: a line like `web: python3 -m http.server $PORT`");
    write(&app.join("backend/Procfile"), "worker: true\n");
    refused(
        "there is one in `backend`: `dyno deploy backend` deploys that folder, `dyno create` in it makes it an app of its own",
    );
    write(&app.join("procfile"), "worker: true\n");
    refused("there is a `procfile`: rename it, the name is `Procfile`");
    assert_eq!(versions(&host, &app), [2, 1]);
    let scaled = host.dyno(&app, &["ps:scale"]).finish().text();
    assert_eq!(scaled, "worker=2:1X\n");
    // One that nobody has deployed to yet gets nothing either; a tarball is no different.
    let bare = host.folder_of("bare", &[("a", "")]);
    host.dyno(&bare, &["deploy"]).finish().fails_with(
        1,
        &format!("there is no Procfile in `{}`", bare.display()),
        "it says what the app runs: a line like `web: python3 -m http.server $PORT`",
    );
    let apps = host.dyno(&bare, &["apps"]).finish().text();
    assert!(!apps.contains("bare"), "{apps}");
}

#[test]
fn a_deploy_and_a_rollback_say_whose_dynos_end_and_whose_come_back() {
    let host = Host::new();
    let app = host.folder_of(
        "shrink",
        &[("Procfile", "worker: sleep 1000\nclock: sleep 1000\n")],
    );
    host.dyno(&app, &["deploy"]).finish().succeeds();
    host.dyno(&app, &["ps:scale", "worker=2", "clock=1"])
        .finish()
        .succeeds();
    let (ends, back) = (
        "warning: this release has no `worker`: its 2 dynos end, and will be back when a release has it again\n",
        "`worker` is back, with 2 dynos as it was scaled before\n",
    );
    write(
        &app.join("Procfile"),
        "jobs: sleep 1000\nclock: sleep 1000\n",
    );
    host.dyno(&app, &["deploy"])
        .finish()
        .succeeds()
        .mentions(&format!("Deploying to shrink... done, v3\n{ends}"));
    let scaled = || host.dyno(&app, &["ps:scale"]).finish().text();
    assert_eq!(scaled(), "clock=1:1X jobs=0:1X\n");
    host.dyno(&app, &["releases:rollback"])
        .finish()
        .succeeds()
        .mentions(&format!("done, v4\n{back}"));
    assert_eq!(scaled(), "clock=1:1X worker=2:1X\n");
    host.dyno(&app, &["ps:wait"]).finish().succeeds();
    host.dyno(&app, &["releases:rollback", "v3"])
        .finish()
        .succeeds()
        .mentions(&format!("done, v5\n{ends}"));
    // Of a release phase, that is known when it has succeeded.
    write(
        &app.join("Procfile"),
        "release: true\nworker: sleep 1000\njobs: sleep 1000\n",
    );
    host.dyno(&app, &["deploy"])
        .finish()
        .succeeds()
        .mentions("has no `clock`: its 1 dyno ends")
        .mentions("once the release command has succeeded");
    assert_eq!(scaled(), "jobs=0:1X release=0:1X worker=2:1X\n");
}

#[test]
fn a_folder_with_a_procfile_of_its_own_is_not_the_one_above() {
    let host = Host::new();
    let above = host.folder_of(
        "playground",
        &[("passwords", "secret"), ("Procfile", "x: true\n")],
    );
    host.dyno(&above, &["create", "-a", "playground"])
        .finish()
        .succeeds();
    let shop = above.join("shop");
    write(&shop.join("Procfile"), "x: true\n");
    let message = format!(
        "`{}` has a Procfile of its own, but it is `{}`, above it, that is linked to `playground`",
        shop.display(),
        above.display()
    );
    let hint = |place| {
        format!(
            "`dyno create` {place} makes it an app of its own; `-a playground` means the one above"
        )
    };
    let deep = shop.join("lib/deep");
    fs::create_dir_all(&deep).unwrap();
    for (folder, args, code) in [
        (&shop, &["deploy"][..], 1),
        (&shop, &["run", "true"], 125),
        (&shop, &["run", "--deploy", "true"], 125),
        (&shop, &["run:detached", "true"], 125),
        (&above, &["deploy", "shop"], 1),
        (&shop, &["config:set", "A=1"], 1),
        (&shop, &["ps:scale", "x=1"], 1),
        (&shop, &["apps:rename", "other"], 1),
        (&shop, &["maintenance:on"], 1),
        (&shop, &["rollback", "v1"], 1),
        (&deep, &["deploy"], 1),
        (&deep, &["run", "true"], 125),
        (&above, &["deploy", "shop/lib"], 1),
    ] {
        let place = match folder == &shop || args[0] == "deploy" && args.last() == Some(&"shop") {
            true => "here",
            false => "there",
        };
        host.dyno(folder, args)
            .finish()
            .fails_with(code, &message, &hint(place));
    }
    assert_eq!(versions(&host, &above), [1]);
    // Once the user says what is meant, that is it; a folder without one belongs to what is above it.
    host.dyno(&shop, &["create"]).finish().succeeds();
    host.run(&shop, &["-q", "ls"])
        .finish()
        .prints("Procfile\nlib\n");
    let lib = above.join("lib");
    write(&lib.join("a"), "");
    host.run(&lib, &["-q", "ls"])
        .finish()
        .succeeds()
        .holds("it is the folder above that was deployed", |text| {
            text.contains("lib\npasswords\nshop\n")
        });
}

#[test]
fn a_folder_that_was_linked_again_is_known_to_have_changed() {
    let host = Host::new();
    let old = host.folder_of("before", &[("Procfile", "x: echo one\n")]);
    host.run(&old, &["-q", "x"]).finish().prints("one\n");
    let new = host.path().join("after");
    fs::rename(&old, &new).unwrap();
    host.dyno(&new, &["link", "-a", "before"])
        .finish()
        .succeeds();
    host.run(&new, &["x"])
        .finish()
        .does_not_mention("has changed")
        .does_not_mention("was linked");
    write(&new.join("Procfile"), "x: echo two\n");
    host.run(&new, &["x"])
        .finish()
        .mentions("has changed since before was deployed; `dyno run --deploy` deploys it first");
    // Of another folder nothing is known, and that is said until it is deployed.
    let copy = host.folder_of("copy", &[("Procfile", "x: echo copy\n")]);
    host.dyno(&copy, &["link", "-a", "before"])
        .finish()
        .succeeds();
    host.run(&copy, &["x"])
        .finish()
        .prints("one\n")
        .mentions("was linked to before after its last deploy, which is what runs");
    host.run(&copy, &["--deploy", "x"])
        .finish()
        .prints("copy\n");
    host.run(&copy, &["x"])
        .finish()
        .prints("copy\n")
        .does_not_mention("was linked");
}

#[test]
fn a_folder_that_was_moved_is_asked_about() {
    let host = Host::new();
    let old = host.folder_of("before", &[("Procfile", "x: true\n")]);
    // Where file systems do not say when a folder was made, it cannot be told from a new one.
    if fs::metadata(&old).unwrap().created().is_err() {
        leave_out("this file system knows no time of birth");
        return;
    }
    host.dyno(&old, &["deploy"]).finish().succeeds();
    let new = old.with_file_name("after");
    fs::rename(&old, &new).unwrap();
    let (new_at, old_at) = (new.display(), old.display());
    let message = format!("which app? `{new_at}` was `{old_at}` when it was linked to `before`");
    let hint = "in that folder, `dyno link -a before` links it again, and `dyno create` makes a new app of it";
    for (args, code) in [
        (&["deploy"][..], 1),
        (&["run", "true"], 125),
        (&["ps"], 1),
        (&["logs"], 1),
    ] {
        host.dyno(&new, args)
            .finish()
            .fails_with(code, &message, hint);
    }
    // Another folder in the old place is nobody's, nor is a new one with the number of one that is gone.
    let other = host.folder_of("before", &[("Procfile", "x: true\n")]);
    host.dyno(&other, &["deploy"])
        .finish()
        .succeeds()
        .mentions("Creating before-");
    let new = new.to_str().unwrap();
    host.dyno(&host.path(), &["-C", new, "link", "-a", "before"])
        .finish()
        .succeeds();
    host.dyno(Path::new(new), &["deploy"]).finish().succeeds();
    fs::remove_dir_all(new).unwrap();
    for number in 0..20 {
        let name = format!("fresh-{number}");
        let fresh = host.folder_of(&name, &[("Procfile", "x: true\n")]);
        host.dyno(&fresh, &["deploy"]).finish().succeeds();
    }
}

#[test]
fn a_first_deploy_that_fails_leaves_no_app() {
    let host = Host::with(&[("DYNO_TREE_LIMIT", "1MiB")]);
    let app = host.folder_of("large", &[("Procfile", "x: true\n")]);
    write(&app.join("data"), &"x".repeat(2_000_000));
    for (args, code) in [(&["deploy"][..], 1), (&["run", "true"], 125)] {
        host.dyno(&app, args)
            .finish()
            .exits(code)
            .mentions("Creating large... done")
            .mentions("too large")
            .mentions("nothing was released: large is removed again");
        let apps = host.dyno(&app, &["apps"]).finish();
        apps.prints("You have no apps.\n");
    }
}

#[test]
fn a_symlink_out_of_the_folder_is_told_of() {
    let host = Host::new();
    let app = host.folder_of("out", &[("Procfile", "x: true\n"), ("inside", "")]);
    write(&host.path().join("apps/lib/index.js"), "");
    fs::create_dir(app.join("node_modules")).unwrap();
    symlink("../../lib", app.join("node_modules/lib")).unwrap();
    symlink(app.join("inside"), app.join("absolute")).unwrap();
    symlink("../inside", app.join("node_modules/fine")).unwrap();
    symlink("/usr/bin/env", app.join("of-the-stack")).unwrap();
    symlink("../out/inside", app.join("by-its-name")).unwrap();
    symlink("/opt/none", app.join("none")).unwrap();
    symlink("/var/lib/mysql", app.join("mysql")).unwrap();
    symlink("/app/inside", app.join("also-fine")).unwrap();
    let inside = app.join("inside").display().to_string();
    let out = |path: &str, target: &str| {
        format!(
            "warning: `{path}` is a symlink out of the folder, to `{target}`, which no dyno has\n"
        )
    };
    host.dyno(&app, &["deploy"])
        .finish()
        .succeeds()
        .says(&format!(
            "Creating out... done\nDeploying to out... done, v2\n{}{}{}{}{}\
             no dyno runs: `dyno ps:scale x=1 -a out` starts one\n",
            out("absolute", &inside),
            out("by-its-name", "../out/inside"),
            out("mysql", "/var/lib/mysql"),
            out("node_modules/lib", "../../lib"),
            out("none", "/opt/none"),
        ));
}

#[test]
fn what_nothing_has_installed_is_told_of() {
    let host = Host::new();
    let app = host.folder_of(
        "needy",
        &[
            ("Procfile", "x: true\n"),
            ("requirements.txt", "flask\n"),
            ("package.json", "{\"dependencies\": {\"express\": \"5\"}}"),
        ],
    );
    let words = "nothing is installed or built here; what it needs must be on the host, or in what is deployed";
    host.dyno(&app, &["create"]).finish().succeeds();
    host.dyno(&app, &["builder", "none"]).finish().succeeds();
    host.dyno(&app, &["deploy"])
        .finish()
        .succeeds()
        .mentions(&format!("warning: `requirements.txt`: {words}"))
        .mentions(&format!("warning: `package.json`: {words}"));
    // There, but not in what is deployed.
    write(&app.join("node_modules/express/index.js"), "");
    write(&app.join(".venv/pyvenv.cfg"), "");
    write(&app.join(".slugignore"), "node_modules\n.venv\n");
    host.dyno(&app, &["deploy"])
        .finish()
        .succeeds()
        .mentions(&format!("warning: `requirements.txt`: {words}"))
        .mentions(&format!("warning: `package.json`: {words}"));
    fs::remove_file(app.join(".slugignore")).unwrap();
    host.dyno(&app, &["deploy"])
        .finish()
        .succeeds()
        .does_not_mention("warning");
}

#[test]
fn a_deploy_with_web_dynos_says_where_they_are() {
    if lacks("python3") || lacks("curl") {
        return;
    }
    let host = Host::new();
    let app = host.folder_of(
        "site",
        &[
            ("Procfile", "web: exec python3 -m http.server $PORT\n"),
            ("index.html", "one\n"),
        ],
    );
    let deployed = host.dyno(&app, &["deploy"]).finish();
    let address = host.dyno(&app, &["open"]).finish().succeeds().text();
    deployed
        .succeeds()
        .mentions(&format!("site is at {address}"));
    host.dyno(&app, &["apps:info"])
        .finish()
        .succeeds()
        .holds("the address", |text| {
            text.contains(&format!("Web URL:        {address}"))
        });
    host.dyno(&app, &["apps"]).finish().prints("site\n");
    // A visitor who comes back after a deploy is not told that nothing has changed.
    let ask = |more: &[&str]| {
        let asked = Command::new("curl")
            .args(["-s", "-i", "--max-time", "30", address.trim()])
            .args(more)
            .output();
        String::from_utf8(asked.unwrap().stdout).unwrap()
    };
    let first = ask(&[]);
    let since = first
        .lines()
        .find_map(|line| line.strip_prefix("Last-Modified: "));
    let since = format!("If-Modified-Since: {}", since.unwrap());
    assert!(ask(&["-H", &since]).starts_with("HTTP/1.1 304"));
    write(&app.join("index.html"), "two\n");
    host.dyno(&app, &["deploy"]).finish().succeeds();
    let again = ask(&["-H", &since]);
    assert!(
        again.starts_with("HTTP/1.1 200") && again.ends_with("two\n"),
        "{again}"
    );
}

#[test]
fn what_slugignore_names_is_left_out() {
    let host = Host::new();
    let app = host.folder_of(
        "ignoring",
        &[
            ("Procfile", "nothing: true\n"),
            (
                ".slugignore",
                "# not needed there\n*.log\n/docs\nfixtures/\n",
            ),
            ("a.log", ""),
            ("deep/b.log", ""),
            ("docs/guide", ""),
            ("deep/docs/kept", ""),
            ("deep/fixtures/c", ""),
            (".git/config", ""),
            (".gitignore", ""),
        ],
    );
    host.run(&app, &["-q", "find . -type f | sort"])
        .finish()
        .succeeds()
        .holds("the ignored files and only they are left out", |text| {
            let files: Vec<_> = text
                .lines()
                .filter(|line| *line != "./.slugignore")
                .collect();
            files == ["./.gitignore", "./Procfile", "./deep/docs/kept"]
        });
}

#[test]
fn modes_links_and_odd_names_arrive() {
    let host = Host::new();
    let app = host.folder_of(
        "odd",
        &[
            ("Procfile", "x: true\n"),
            ("bin/run", "#!/bin/sh\necho ran\n"),
        ],
    );
    fs::set_permissions(app.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("bin/run", app.join("link")).unwrap();
    symlink("/nowhere", app.join("dangling")).unwrap();
    fs::create_dir(app.join("empty")).unwrap();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    write(&app.join(&long), "long\n");
    write(&app.join("a b\n'c\" é"), "odd\n");
    host.run(
        &app,
        &[
            "-q",
            &format!(
                "./link; readlink dangling; stat -c '%a %F' bin/run empty; cat {long}; cat a*"
            ),
        ],
    )
    .finish()
    .succeeds()
    .prints("ran\n/nowhere\n755 regular file\n755 directory\nlong\nodd\n");
}

#[test]
fn a_changed_tree_is_told_and_not_run() {
    let host = Host::new();
    let app = host.app("many-types");
    host.run(&app, &["true"])
        .finish()
        .succeeds()
        .does_not_mention("has changed");
    write(&app.join("new"), "new\n");
    host.run(&app, &["ls new"]).finish().exits(2).mentions(
        "has changed since many-types was deployed; `dyno run --deploy` deploys it first\n",
    );
    host.run(&app, &["-q", "ls new 2>/dev/null"])
        .finish()
        .exits(2)
        .says("");
    host.run(&app, &["--deploy", "cat new"])
        .finish()
        .succeeds()
        .prints("new\n")
        .mentions("Deploying to many-types... done, v3\n")
        .does_not_mention("has changed");
    host.run(&app, &["true"])
        .finish()
        .succeeds()
        .does_not_mention("has changed");
}

#[test]
fn a_running_dyno_keeps_its_release() {
    let host = Host::new();
    let app = host.folder_of(
        "keeps",
        &[
            ("Procfile", "show: cat version; echo $V\n"),
            ("version", "one\n"),
        ],
    );
    host.dyno(&app, &["deploy"]).finish().succeeds();
    let mut running = host
        .run(
            &app,
            &["-q", "echo up; read line; cat version; echo \"[$V]\""],
        )
        .open_input()
        .start();
    running.wait_for_output("up\n");
    write(&app.join("version"), "two\n");
    host.dyno(&app, &["deploy"]).finish().succeeds();
    host.dyno(&app, &["config:set", "V=2"]).finish().succeeds();
    host.run(&app, &["-q", "show"]).finish().prints("two\n2\n");
    running.write("go\n");
    running.close_input();
    running.finish().succeeds().prints("up\none\n[]\n");
}

/// A tarball that GNU tar makes of `./app`, as slug compilers do.
fn gnu_tarball(host: &Host, files: &[(&str, &str)]) -> PathBuf {
    let folder = host.path().join("made/app");
    for (path, text) in files {
        write(&folder.join(path), text);
    }
    let file = host.path().join("made.tgz");
    let made = Command::new("tar")
        .args(["-czf", file.to_str().unwrap(), "-C"])
        .arg(host.path().join("made"))
        .arg("./app")
        .status()
        .unwrap();
    assert!(made.success());
    file
}

#[test]
fn a_slug_made_by_gnu_tar_is_as_good() {
    let host = Host::new();
    let slug = gnu_tarball(
        &host,
        &[
            ("Procfile", "hello: sh deep/hello\n"),
            ("deep/hello", "echo hello from a tarball\n"),
        ],
    );
    let here = host.path();
    host.dyno(&here, &["create", "made"]).finish().succeeds();
    host.dyno(
        &here,
        &["-a", "made", "deploy", "--slug", slug.to_str().unwrap()],
    )
    .finish()
    .succeeds()
    .says(
        "Deploying to made... done, v2\n\
         no dyno runs: `dyno ps:scale hello=1 -a made` starts one\n",
    );
    host.dyno(&here, &["run", "-a", "made", "-q", "hello"])
        .finish()
        .succeeds()
        .prints("hello from a tarball\n");
}

/// Deploys a tarball that is no good onto an app that is, and sees that nothing comes of it.
#[track_caller]
fn is_refused(what: &str, bytes: &[u8]) {
    let host = Host::new();
    let app = host.plain_app();
    let (slugs_before, versions_before) = (slugs(&host), versions(&host, &app));
    let file = host.path().join("bad.tgz");
    fs::write(&file, bytes).unwrap();
    let outcome = host
        .dyno(&app, &["deploy", "--slug", file.to_str().unwrap()])
        .finish();
    outcome.exits(1);
    let errors = outcome.errors();
    let count = |prefix: &str| {
        errors
            .lines()
            .filter(|line| line.starts_with(prefix))
            .count()
    };
    assert!(
        count("error: ") == 1 && count("hint: ") <= 1,
        "{what}: {errors}"
    );
    assert!(!errors.contains("panicked"), "{what}: {errors}");
    assert_eq!(versions(&host, &app), versions_before, "{what}");
    assert_eq!(slugs(&host), slugs_before, "{what}: left behind\n{errors}");
    host.run(&app, &["-q", "echo fine"])
        .finish()
        .prints("fine\n");
    for escaped in ["escaped", "apps/escaped", "state/escaped"] {
        assert!(!host.path().join(escaped).exists(), "{what}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tarball with a Procfile and then members of these kinds, names, link targets, with whatever is in a name.
fn tarball(members: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |kind: tar::EntryType, name: &str, link: &str, text: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(text.len() as u64);
        // `set_path` would refuse what is to be tested.
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, text).unwrap();
    };
    add(tar::EntryType::Directory, "./app/", "", b"");
    add(tar::EntryType::Regular, "./app/Procfile", "", b"x: true\n");
    for (kind, name, link) in members {
        let text: &[u8] = if *kind == tar::EntryType::Regular {
            b"escaped"
        } else {
            b""
        };
        add(*kind, name, link, text);
    }
    gzip(&builder.into_inner().unwrap())
}

#[test]
fn a_tarball_that_leaves_its_folder_is_refused() {
    use tar::EntryType::{Link, Regular, Symlink};
    for (what, members) in [
        ("..", &[(Regular, "./app/../../../escaped", "")][..]),
        (
            "absolute",
            &[(Regular, "/tmp/../tmp/dyno-test-escaped", "")],
        ),
        (
            "through a link",
            &[
                (Symlink, "./app/out", "../../.."),
                (Regular, "./app/out/escaped", ""),
            ],
        ),
        (
            "through an absolute link",
            &[
                (Symlink, "./app/out", "/tmp"),
                (Regular, "./app/out/dyno-test-escaped", ""),
            ],
        ),
        (
            "a hard link to the host",
            &[(Link, "./app/passwd", "/etc/passwd")],
        ),
        (
            "a hard link upwards",
            &[(Link, "./app/up", "../../server.lock")],
        ),
    ] {
        is_refused(what, &tarball(members));
    }
    assert!(!Path::new("/tmp/dyno-test-escaped").exists());
}

#[test]
fn devices_in_a_tarball_are_refused() {
    use tar::EntryType::{Block, Char, Fifo};
    for kind in [Block, Char, Fifo] {
        is_refused("a device", &tarball(&[(kind, "./app/device", "")]));
    }
}

#[test]
fn a_broken_tarball_is_refused() {
    let good = tarball(&[(tar::EntryType::Regular, "./app/file", "")]);
    is_refused("empty", b"");
    is_refused(
        "no gzip",
        b"this is no tarball at all, though it is long enough for a head",
    );
    is_refused("no tar", &gzip(&[b'x'; 5000]));
    is_refused("cut in the head", &good[..8]);
    is_refused("cut in the middle", &good[..good.len() / 2]);
    is_refused("cut at the checksum", &good[..good.len() - 4]);
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    is_refused("a flipped byte", &flipped);
}

#[test]
fn a_bomb_is_refused_before_it_fills_the_disk() {
    let mut host = Host::new();
    host.set("DYNO_TREE_LIMIT", "1");
    let app = host.plain_app();
    let before = slugs(&host);
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(50 << 20);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "./app/zeros", &vec![0; 50 << 20][..])
        .unwrap();
    let file = host.path().join("bomb.tgz");
    fs::write(&file, gzip(&builder.into_inner().unwrap())).unwrap();
    host.dyno(&app, &["deploy", "--slug", file.to_str().unwrap()])
        .finish()
        .exits(1)
        .mentions("error: ");
    assert_eq!(slugs(&host), before);
    assert_eq!(versions(&host, &app).len(), 2);
}

#[test]
fn a_missing_tarball_is_named() {
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(&app, &["deploy", "--slug", "nowhere.tgz"])
        .finish()
        .fails_with(1, "nowhere.tgz", "--slug");
    host.dyno(&app, &["deploy", "nowhere"])
        .finish()
        .fails_with(1, "nowhere", "--slug");
}

#[test]
fn a_full_disk_releases_nothing_and_space_heals_it() {
    if !can_fill_a_disk() {
        return;
    }
    let host = Host::new();
    let app = host.folder("plain");
    let script = r#"
        set -u
        "$0" deploy || exit 98
        head -c 8000000 /dev/urandom > big
        "$0" deploy
        echo "status $?"
        ls "$DYNO_HOME/slugs" | grep -v '^[0-9a-f]*$' | grep -v '^[0-9a-f]*\.tgz$'
        "$0" releases --json | grep -c '"version"'
        rm big
        echo small > small
        "$0" deploy || exit 97
        "$0" run -q 'cat small' || exit 96
    "#;
    let (printed, errors) = on_a_small_disk(&host, &app, script);
    assert_eq!(printed, "status 1\n2\nsmall\n", "{errors}");
    assert_eq!(errors.matches("error: ").count(), 1, "{errors}");
    assert!(errors.contains("error: disk full"), "{errors}");
    assert!(errors.contains("hint: "), "{errors}");
    assert!(errors.contains("done, v3"), "{errors}");
}

#[test]
fn a_dyno_that_fills_the_disk_ends_and_takes_nothing_with_it() {
    if !can_fill_a_disk() {
        return;
    }
    let host = Host::new();
    let app = host.folder("plain");
    let script = r#"
        set -u
        "$0" run -q true || exit 98
        "$0" run -q 'head -c 20000000 /dev/zero >/app/x' 2>/dev/null
        echo "status $?"
        # The status comes first, and the room a moment later.
        until [ -z "$(ls "$DYNO_HOME/dynos")" ]; do sleep 0.01; done
        "$0" run -q 'head -c 20000000 /dev/zero >/app/x; echo full; cat' 2>/dev/null <fifo >out &
        exec 3>fifo
        until grep -q full out 2>/dev/null; do sleep 0.01; done
        kill -9 "$(cat "$DYNO_HOME/server.lock")"
        exec 3>&-
        wait
        "$0" apps || exit 97
        "$0" run -q 'echo fine' || exit 96
    "#;
    assert!(
        Command::new("mkfifo")
            .arg(app.join("fifo"))
            .status()
            .unwrap()
            .success()
    );
    let (printed, errors) = on_a_small_disk(&host, &app, script);
    assert_eq!(printed, "status 1\nplain\nfine\n", "{errors}");
}

#[test]
fn a_dyno_that_starts_while_slugs_make_room_has_its_tree() {
    // Every deploy removes the trees that nobody runs on.
    let host = Host::with(&[("DYNO_CACHE_LIMIT", "0")]);
    let app = host.plain_app();
    let other = host.folder_as("plain", "other");
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..10 {
                write(&other.join("new"), &n.to_string());
                host.dyno(&other, &["deploy"]).finish().succeeds();
            }
        });
        for _ in 0..20 {
            host.run(&app, &["-q", "cat Procfile"])
                .finish()
                .succeeds()
                .prints("nothing: true\n");
        }
    });
    // Nobody runs on these any more.
    host.wait_until_clean();
    host.dyno(&other, &["deploy"]).finish().succeeds();
    let trees = || {
        let slugs = fs::read_dir(host.state().join("slugs")).unwrap();
        let trees = slugs.filter(|slug| slug.as_ref().unwrap().file_type().unwrap().is_dir());
        trees.count()
    };
    eventually("room among the slugs", || (trees() <= 1).then_some(()));
}
