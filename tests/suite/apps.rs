//! Which app a command means, how apps come about, and how they go.

use std::fs;

use crate::harness::{Host, write};

#[test]
fn the_first_run_makes_the_app_and_says_so() {
    let host = Host::new();
    let app = host.folder_as("plain", "My Shop_1");
    host.run(&app, &["echo $DYNO"])
        .finish()
        .succeeds()
        .prints("run.1\n")
        .says(
            "Creating my-shop-1... done\nDeploying to my-shop-1... done, v2\n\
             Running echo $DYNO attached to terminal... up, run.1\n",
        );
    host.run(&app, &["true"])
        .finish()
        .succeeds()
        .says("Running true attached to terminal... up, run.2\n");
    host.dyno(&app, &["apps"])
        .finish()
        .succeeds()
        .prints("my-shop-1\n");
}

#[test]
fn a_taken_name_gets_a_number() {
    let host = Host::new();
    for name in ["a/shop", "b/shop", "c/shop"] {
        let folder = host.path().join("apps").join(name);
        write(&folder.join("Procfile"), "nothing: true\n");
        host.run(&folder, &["true"]).finish().succeeds();
    }
    host.dyno(&host.path(), &["apps"])
        .finish()
        .succeeds()
        .prints("shop\nshop-2\nshop-3\n");
}

#[test]
fn odd_folder_names_become_legal_app_names() {
    let host = Host::new();
    for name in [
        "1st",
        "Ünï",
        "a",
        "ends-",
        "x".repeat(80).as_str(),
        "...",
        "UPPER.case",
    ] {
        let folder = host.folder_of(name, &[("Procfile", "nothing: true\n")]);
        host.run(&folder, &["-q", "true"]).finish().succeeds();
    }
    let names = host.dyno(&host.path(), &["apps"]).finish().text();
    assert_eq!(names.lines().count(), 7, "{names}");
    for name in names.lines() {
        let letters = name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        assert!(
            letters
                && (3..=30).contains(&name.len())
                && name.as_bytes()[0].is_ascii_lowercase()
                && !name.ends_with('-'),
            "{name}"
        );
    }
}

#[test]
fn a_folder_and_those_below_are_linked() {
    let host = Host::new();
    let app = host.app("many-types");
    fs::create_dir_all(app.join("deep/er")).unwrap();
    for folder in [app.clone(), app.join("bin"), app.join("deep/er")] {
        host.run(&folder, &["-q", "echo $PWD"])
            .finish()
            .succeeds()
            .prints("/app\n");
    }
    host.dyno(&app, &["apps"]).finish().prints("many-types\n");
    // By another way to the same folder, too.
    let way = host.path().join("way");
    std::os::unix::fs::symlink(&app, &way).unwrap();
    host.run(&way, &["-q", "true"]).finish().succeeds();
    host.dyno(&app, &["apps"]).finish().prints("many-types\n");
}

#[test]
fn the_nearest_linked_folder_counts() {
    let host = Host::new();
    let outer = host.app("many-types");
    let inner = outer.join("inner");
    write(&inner.join("Procfile"), "nothing: true\n");
    host.dyno(&inner, &["create", "inner"]).finish().succeeds();
    host.dyno(&inner, &["deploy"]).finish().succeeds();
    host.run(&inner, &["-q", "ls"])
        .finish()
        .prints("Procfile\n");
    host.run(&outer, &["-q", "ls bin"])
        .finish()
        .prints("count-arguments\nsay\n");
}

#[test]
fn no_file_appears_in_the_users_folder() {
    let host = Host::new();
    let app = host.folder("plain");
    host.run(&app, &["-q", "true"]).finish().succeeds();
    let names: Vec<_> = fs::read_dir(&app)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["Procfile"]);
}

#[test]
fn another_folder_at_the_same_path_is_not_linked() {
    let host = Host::new();
    let app = host.app("plain");
    let aside = host.path().join("apps/aside");
    fs::rename(&app, &aside).unwrap();
    let other = host.folder_of("plain", &[("Procfile", "other: true\n")]);
    // The old one is kept, so that the new one cannot have its inode.
    host.run(&other, &["true"])
        .finish()
        .succeeds()
        .mentions("Creating plain-2... done\n");
}

#[test]
fn an_app_can_be_named() {
    let mut host = Host::new();
    let one = host.app("plain");
    let two = host.folder_of("two", &[("Procfile", "x: true\n"), ("two", "")]);
    host.dyno(&two, &["deploy"]).finish().succeeds();
    for args in [
        &["-a", "two", "run", "-q", "ls two"][..],
        &["run", "-a", "two", "-q", "ls two"],
        &["run", "--app", "two", "-q", "ls", "two"],
        &["run", "--app=two", "-q", "ls", "two"],
        &["-C", "../two", "run", "-q", "ls two"],
        &["run", "-C", "../two", "-q", "ls two"],
    ] {
        host.dyno(&one, args).finish().succeeds().prints("two\n");
    }
    host.run(&one, &["-q", "ls two"])
        .env("DYNO_APP", "two")
        .finish()
        .succeeds()
        .prints("two\n");
    host.set("DYNO_APP", "two");
    host.run(&one, &["-a", "plain", "-q", "ls two 2>/dev/null"])
        .finish()
        .exits(2);
    host.set("DYNO_APP", "");
    host.run(&one, &["-q", "ls"]).finish().prints("Procfile\n");
}

#[test]
fn create_links_and_names() {
    let host = Host::new();
    let folder = host.folder("plain");
    host.dyno(&folder, &["create", "shop"])
        .finish()
        .succeeds()
        .prints("")
        .says("Creating shop... done\n");
    host.run(&folder, &["true"])
        .finish()
        .succeeds()
        .mentions("Deploying to shop... done, v2\n");
    host.wait_until_clean();
    let info = host
        .dyno(&folder, &["apps:info"])
        .finish()
        .succeeds()
        .text();
    for line in [
        "=== shop",
        "Process types:  nothing",
        "Dynos:          none",
        &format!(
            "Folder:         {}",
            folder.canonicalize().unwrap().display()
        ),
    ] {
        assert!(
            info.lines().any(|found| found == line),
            "no `{line}` in\n{info}"
        );
    }
}

#[test]
fn no_apps_is_said() {
    let host = Host::new();
    host.dyno(&host.path(), &["apps"])
        .finish()
        .succeeds()
        .prints("You have no apps.\n");
}

#[test]
fn destroying_needs_the_name_once_more() {
    let host = Host::new();
    let app = host.plain_app();
    for args in [
        &["apps:destroy"][..],
        &["apps:destroy", "--confirm", "other"],
        &["apps:destroy", "-a", "plain"],
    ] {
        host.dyno(&app, args).finish().fails_with(
            1,
            "plain",
            "dyno apps:destroy -a plain --confirm plain",
        );
    }
    host.run(&app, &["-q", "true"]).finish().succeeds();
}

#[test]
fn destroying_ends_the_dynos_and_leaves_nothing() {
    let host = Host::new();
    let app = host.app("many-types");
    let other = host.plain_app();
    host.dyno(&app, &["config:set", "A=1"]).finish().succeeds();
    let running = host.run(&app, &["-q", "echo up; cat"]).open_input().start();
    running.wait_for_output("up\n");
    host.dyno(&app, &["apps:destroy", "--confirm", "many-types"])
        .finish()
        .succeeds()
        .says("Destroying many-types... done\n");
    // No input ends it; the destroyer does.
    running.finish().is_ended().prints("up\n");
    host.wait_until_clean();
    host.dyno(&app, &["apps"]).finish().prints("plain\n");
    let slugs = || fs::read_dir(host.state().join("slugs")).unwrap().count();
    let logs = || fs::read_dir(host.state().join("logs")).unwrap().count();
    // Those of the other app: tarball and tree, and one log.
    crate::harness::eventually("nothing of the app is left", || {
        (slugs() <= 2 && logs() <= 1).then_some(())
    });
    host.run(&other, &["-q", "ls"])
        .finish()
        .prints("Procfile\n");
    // The name and the folder are free again; numbers begin anew.
    host.run(&app, &["echo $DYNO"])
        .finish()
        .succeeds()
        .prints("run.1\n")
        .mentions("Creating many-types... done\n");
}

#[test]
fn a_folder_can_be_linked_and_unlinked() {
    let host = Host::new();
    let app = host.plain_app();
    let other = host.folder_of("other", &[("file", "")]);
    host.dyno(&other, &["link", "-a", "plain"])
        .finish()
        .succeeds();
    host.run(&other, &["-q", "ls"])
        .finish()
        .succeeds()
        .prints("Procfile\n");
    host.dyno(&other, &["unlink"]).finish().succeeds();
    host.run(&other, &["ls"])
        .finish()
        .fails_with(125, "which app?", "dyno link");
    host.dyno(&other, &["link", "-a", "nope"])
        .finish()
        .fails_with(1, "no app named `nope`", "");
    host.dyno(&app, &["link", "-a", "plain"])
        .finish()
        .succeeds();
    host.run(&app, &["-q", "ls"]).finish().succeeds();
}

#[test]
fn an_app_that_cannot_be_destroyed_keeps_its_log() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = host.plain_app();
    host.run(&app, &["-q", "true"]).finish().succeeds();
    let lines = host.log_lines().len();
    assert!(lines > 0);
    let state = rusqlite::Connection::open(host.state().join("state.db")).unwrap();
    let refuse =
        "CREATE TRIGGER refuse BEFORE DELETE ON apps BEGIN SELECT RAISE(ABORT, 'refused'); END";
    state.execute_batch(refuse).unwrap();
    let destroy = ["apps:destroy", "-a", "plain", "--confirm", "plain"];
    let failed = host.dyno(&app, &destroy).finish();
    assert_ne!(failed.code(), Some(0));
    state.execute_batch("DROP TRIGGER refuse").unwrap();
    host.dyno(&app, &["ps"]).finish().succeeds();
    assert!(host.log_lines().len() >= lines);
    host.dyno(&app, &destroy).finish().succeeds();
}
