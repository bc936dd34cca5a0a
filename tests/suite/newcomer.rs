//! What people meet who come from elsewhere: words of other tools, names that are misspelt, what an app was called before,
//! and one clear line for each.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::{Host, eventually, lacks, write};
use crate::terminal::Terminal;

/// An app with a release command, which fails as long as `A` is `bad`.
fn choosy(host: &Host) -> PathBuf {
    let procfile = "release: echo chose ${A:-nothing}; test \"$A\" != bad\nworker: sleep 1000\n";
    let folder = host.folder_of("choosy", &[("Procfile", procfile)]);
    host.dyno(&folder, &["deploy", "--no-web"])
        .finish()
        .succeeds();
    folder
}

#[test]
fn words_of_other_tools_lead_to_the_command_that_does_it_here() {
    let host = Host::new();
    let app = host.plain_app();
    for (words, error, hint) in [
        (&["stop", "web.1"][..], "`stop`", "`dyno ps:stop web.1`"),
        (&["exec", "web.1", "bash"], "`exec`", "`dyno run:inside"),
        (&["up", "-d"], "`up`", "`dyno start`"),
        (
            &["config", "set", "A=b c"],
            "`set`",
            "`dyno config:set 'A=b c'`?",
        ),
        (&["apps", "create", "x"], "`create`", "`dyno apps:create x`"),
        (&["logs", "-f"], "`-f`", "`dyno logs -t`"),
        (&["ps", "-a"], "-a takes", "`dyno ps --all`"),
        (&["confg"], "`confg`", "`dyno config`"),
        (&["zebra"], "`zebra`", "`dyno help`"),
    ] {
        host.dyno(&app, words).finish().fails_with(2, error, hint);
    }
    for (words, hint) in [
        (&["run", "-it", "bash"][..], "`dyno run bash`"),
        (&["run", "--rm", "bash"], "`dyno run bash`"),
        (&["run", "-d", "ls"], "`dyno run:detached"),
    ] {
        host.dyno(&app, words)
            .finish()
            .fails_with(125, "has no option", hint);
    }
    host.dyno(&app, &["ps", "scale"])
        .finish()
        .fails_with(1, "`scale`", "`dyno ps:scale`");
}

#[test]
fn herokus_short_forms_are_commands() {
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(&app, &["info"]).finish().succeeds();
    host.dyno(&app, &["scale"]).finish().succeeds();
    host.dyno(&app, &["restart"]).finish().succeeds();
    host.dyno(&app, &["ps:kill", "run.7"])
        .finish()
        .fails_with(1, "run.7", "dyno ps");
    host.dyno(&app, &["apps:create", "other"])
        .finish()
        .succeeds();
    host.dyno(&app, &["destroy", "-a", "other", "--confirm", "other"])
        .finish()
        .succeeds();
}

#[test]
fn a_renamed_app_keeps_all_that_is_its_own() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let git = |args: &[&str]| {
        let done = host.program_of(Path::new("git"), &app, args).finish();
        done.succeeds().text()
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    let author = ["-c", "user.name=x", "-c", "user.email=x@localhost"];
    git(&[&author[..], &["commit", "-qm", "one"]].concat());
    host.dyno(&app, &["git:remote"]).finish().succeeds();
    let before = git(&["remote", "get-url", "dyno"]);
    git(&[
        "config",
        "remote.other.url",
        "https://example.org/plain.git",
    ]);
    git(&["config", "remote.other.pushurl", before.trim_end()]);

    host.dyno(&app, &["apps:rename", "finer"])
        .finish()
        .succeeds()
        .mentions("Renaming plain to finer... done")
        .mentions("the git remote dyno follows")
        .mentions("the git remote other follows");
    host.dyno(&app, &["apps"]).finish().prints("finer\n");
    host.dyno(&app, &["logs", "-n", "1000"])
        .finish()
        .holds("the log from the beginning on", |log| {
            log.contains("Initial release") && log.contains("Renamed from plain to finer")
        });
    assert_eq!(
        git(&["remote", "get-url", "dyno"]),
        before.replace("plain.git", "finer.git")
    );
    assert_eq!(
        git(&["remote", "get-url", "--push", "other"]),
        before.replace("plain.git", "finer.git")
    );
    assert_eq!(
        git(&["remote", "get-url", "other"]),
        "https://example.org/plain.git\n"
    );
    host.program_of(Path::new("git"), &app, &["push", "-q", "dyno", "main"])
        .finish()
        .succeeds();
    host.run(&app, &["-q", "echo", "there"])
        .finish()
        .prints("there\n");

    // The name is free again, and what comes under it is another app.
    let elsewhere = host.folder("profile");
    host.dyno(&elsewhere, &["create", "plain"])
        .finish()
        .succeeds();
    host.dyno(&elsewhere, &["apps:rename", "finer"])
        .finish()
        .fails_with(1, "finer", "");
    host.dyno(&app, &["apps"]).finish().prints("finer\nplain\n");
    let (status, _) = host.request("PATCH", "/apps/plain", &json!({"name": "Not A Name"}));
    assert_eq!(status, 422);
    let (status, renamed) = host.request("PATCH", "/apps/plain", &json!({"name": "third"}));
    assert!(status == 200 && renamed.contains("third"), "{renamed}");
}

#[test]
fn config_vars_are_edited_as_a_whole_and_nothing_that_was_written_is_lost() {
    let mut host = Host::new();
    let app = host.plain_app();
    host.dyno(&app, &["config:set", "A=1", "B=two words", "C=3"])
        .finish()
        .succeeds();
    let releases = |host: &Host| {
        let text = host.dyno(&app, &["releases", "--json"]).finish().text();
        text.matches("\"version\"").count()
    };
    let before = releases(&host);

    host.set("VISUAL", "true");
    host.dyno(&app, &["config:edit"])
        .finish()
        .succeeds()
        .mentions("No changes");
    assert_eq!(releases(&host), before);

    host.set(
        "VISUAL",
        r#"sed -i -e "\$aD='d d'" -e /^C=/d -e s/^A=1/A=one/"#,
    );
    host.dyno(&app, &["config:edit"])
        .finish()
        .succeeds()
        .mentions("Setting A, C, D on plain... done");
    host.dyno(&app, &["config"])
        .finish()
        .prints("=== plain Config Vars\nA: one\nB: two words\nD: d d\n");
    assert_eq!(releases(&host), before + 1);

    host.set("VISUAL", "printf 'changed\\n' >");
    host.dyno(&app, &["config:edit", "B"]).finish().succeeds();
    host.dyno(&app, &["config:get", "B"])
        .finish()
        .prints("changed\n");

    // Its last line feed is a value's own.
    host.dyno(&app, &["config:set", "B=one\ntwo\n"])
        .finish()
        .succeeds();
    host.set("VISUAL", "sed -i s/two/TWO/");
    host.dyno(&app, &["config:edit", "B"]).finish().succeeds();
    host.dyno(&app, &["config:get", "B"])
        .finish()
        .prints("one\nTWO\n\n");
    // Keys are the editor's.
    host.set(
        "VISUAL",
        "sh -c 'trap : INT QUIT; kill -INT 0; kill -QUIT 0; echo E=5 >>\"$1\"' x",
    );
    let terminal = Terminal::open(&host, &app, &["config:edit"]);
    terminal.exits(0);
    drop(terminal);
    host.dyno(&app, &["config:get", "E"]).finish().prints("5\n");

    host.set("VISUAL", "echo no sense >>");
    let refused = host.dyno(&app, &["config:edit"]).finish();
    refused.fails_with(1, "no `=`", "what you wrote is in `");
    let errors = refused.errors();
    let path = errors
        .split("is in `")
        .nth(1)
        .unwrap()
        .split('`')
        .next()
        .unwrap();
    assert!(
        fs::read_to_string(path).unwrap().contains("no sense"),
        "{path}"
    );
    fs::remove_dir_all(Path::new(path).parent().unwrap()).unwrap();

    host.set("VISUAL", "false");
    host.dyno(&app, &["config:edit"]).finish().fails_with(
        1,
        "the editor `false` failed",
        "$EDITOR",
    );
    assert_eq!(releases(&host), before + 5);
}

#[test]
fn what_a_release_command_printed_is_the_releases_output() {
    let host = Host::new();
    let app = choosy(&host);
    host.dyno(&app, &["config:set", "A=good"])
        .finish()
        .succeeds();
    host.wait_for_log("app[release.2]: chose good");
    host.dyno(&app, &["ps:wait"]).finish().succeeds();
    host.dyno(&app, &["releases:output"])
        .finish()
        .prints("chose good\n");
    host.dyno(&app, &["releases:output", "v2"])
        .finish()
        .prints("chose nothing\n");
    host.dyno(&app, &["releases:output", "v1"])
        .finish()
        .succeeds()
        .says("Release v1 has no release output available.\n");
}

#[test]
fn config_says_which_vars_are_of_a_release_that_failed() {
    let host = Host::new();
    let app = choosy(&host);
    host.dyno(&app, &["config:set", "B=1"]).finish().succeeds();
    host.dyno(&app, &["ps:wait"]).finish().succeeds();
    host.dyno(&app, &["config"]).finish().succeeds().says("");
    host.dyno(&app, &["config:set", "A=bad"])
        .finish()
        .succeeds();
    host.dyno(&app, &["ps:wait"]).finish().exits(1);
    for words in [&["config"][..], &["config:get", "A"]] {
        host.dyno(&app, words).finish().succeeds().mentions(
            "warning: A as shown is of v4, whose release command failed; what runs is v3",
        );
    }
    host.dyno(&app, &["config:get", "B"])
        .finish()
        .succeeds()
        .says("");
}

#[test]
fn names_that_mean_nothing_are_told() {
    let mut host = Host::new();
    let app = host.plain_app();
    host.dyno(&app, &["logs", "-p", "wroker"])
        .finish()
        .fails_with(1, "no process type `wroker`", "`dyno ps");
    host.dyno(&app, &["logs", "-d", "web.9"])
        .finish()
        .fails_with(1, "no dyno `web.9`", "`dyno ps");
    for known in ["nothing", "api", "router", "run"] {
        host.dyno(&app, &["logs", "-p", known]).finish().succeeds();
    }
    host.dyno(&app, &["logs", "-n", "4000000000"])
        .finish()
        .succeeds();
    host.dyno(&app, &["usage", "-a", "nosuch"])
        .finish()
        .fails_with(1, "`nosuch`", "`dyno apps`");
    host.dyno(&app, &["usage"]).finish().succeeds();
    for command in ["apps", "start", "doctor", "settings", "server:status"] {
        host.dyno(&app, &[command, "-a", "plain"])
            .finish()
            .fails_with(2, &format!("no meaning for `dyno {command}`"), "");
    }
    host.set("DYNO_IDLE_LINGR", "5");
    host.dyno(&app, &["apps"])
        .finish()
        .prints("plain\n")
        .says("warning: there is no setting `DYNO_IDLE_LINGR`; did you mean `DYNO_IDLE_LINGER`?\n");
}

#[test]
fn a_run_that_its_time_to_live_ended_says_so() {
    let host = Host::with(&[("DYNO_STOP_GRACE", "5")]);
    let app = host.plain_app();
    host.run(&app, &["-q", "--ttl", "1s", "exec sleep 1000"])
        .finish()
        .is_ended()
        .says("dyno: Time to live (--ttl) is over\n");
    host.run(&app, &["-q", "--ttl", "1h", "exit 3"])
        .finish()
        .exits(3)
        .says("");
}

#[test]
fn old_releases_expire_and_what_they_took_is_freed() {
    let host = Host::with(&[("DYNO_KEEP_RELEASES", "2")]);
    let app = host.plain_app();
    let tarballs = || {
        let names = fs::read_dir(host.state().join("slugs")).unwrap();
        let names = names.map(|name| name.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".tgz")).count()
    };
    for text in ["one", "two", "three"] {
        write(&app.join("note"), text);
        host.dyno(&app, &["deploy", "--no-web"]).finish().succeeds();
    }
    // v4 and v5: what runs, and what a rollback would go to.
    eventually("the tarballs of v2 and v3 are gone", || {
        (tarballs() == 2).then_some(())
    });
    host.dyno(&app, &["logs", "-n", "1000"])
        .finish()
        .holds("what was freed", |log| {
            log.contains("Release v3 has expired (keep_releases is 2), and 1 kB of slugs")
        });
    host.dyno(&app, &["releases"])
        .finish()
        .holds("that it has expired", |list| list.contains("(expired)"));
    host.dyno(&app, &["releases:rollback", "v3"])
        .finish()
        .fails_with(1, "`v3` of `plain` has expired", "keep_releases");
    host.dyno(&app, &["releases:rollback"]).finish().succeeds();
    host.run(&app, &["-q", "cat note"]).finish().prints("two");
}
