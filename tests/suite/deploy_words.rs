//! What a deploy says, and refuses, where nothing would run.

use std::fs;

use crate::harness::{Host, lacks, write};

#[test]
fn a_procfile_that_names_nothing_ends_no_dyno() {
    let host = Host::new();
    let app = host.folder_of("emptied", &[("Procfile", "worker: sleep 1000\n")]);
    host.dyno(&app, &["deploy"]).finish().succeeds();
    host.dyno(&app, &["ps:scale", "worker=1"])
        .finish()
        .succeeds();
    let slug = host.folder_of("slug", &[]);
    for procfile in ["", "\n# worker: sleep 1000\n", "release: true\n"] {
        write(&app.join("Procfile"), procfile);
        write(&slug.join("app/Procfile"), procfile);
        let packed = std::process::Command::new("tar")
            .args(["-czf", "../slug.tgz", "./app"])
            .current_dir(&slug)
            .status();
        assert!(packed.unwrap().success());
        for args in [
            &["deploy"][..],
            &["deploy", "--slug", "../slug.tgz"],
            &["run", "--deploy", "true"],
        ] {
            let code = if args[0] == "run" { 125 } else { 1 };
            host.dyno(&app, args).finish().fails_with(
                code,
                "the Procfile has no process types",
                "the dynos of `worker` would end; `dyno ps:scale TYPE=0 -a emptied` ends them",
            );
        }
    }
    host.dyno(&app, &["ps"])
        .finish()
        .succeeds()
        .holds("the worker is there", |text| text.contains("worker.1: up"));
    host.dyno(&app, &["ps:scale", "worker=0"])
        .finish()
        .succeeds();
    host.dyno(&app, &["deploy"]).finish().succeeds().mentions(
        "no dyno runs: the Procfile has no process types; a line of it is like `web: ./server -p $PORT`",
    );
}

#[test]
fn a_deploy_after_which_nothing_runs_says_how_something_would() {
    let host = Host::new();
    let worker = "`dyno ps:scale worker=1 -a plain` starts one";
    let web = "`dyno ps:scale Web=1 -a capital` starts one; there is `Web`, the name that gets requests is `web`";
    for (name, procfile, expected) in [
        ("plain", "worker: sleep 1000\n", worker),
        ("capital", "Web: sleep 1000\n", web),
    ] {
        let app = host.folder_of(name, &[("Procfile", procfile)]);
        host.dyno(&app, &["deploy"])
            .finish()
            .succeeds()
            .mentions(&format!("no dyno runs: {expected}\n"));
        host.dyno(
            &app,
            &[
                "ps:scale",
                &format!("{}=1", &procfile[..procfile.find(':').unwrap()]),
            ],
        )
        .finish()
        .succeeds();
        host.dyno(&app, &["deploy"])
            .finish()
            .succeeds()
            .does_not_mention("no dyno runs");
    }
}

#[test]
fn a_first_release_that_fails_is_not_said_to_follow_another() {
    let host = Host::new();
    let app = host.folder_of("typo", &[("Procfile", "web: pyhton3 server.py\n")]);
    let failed = host.dyno(&app, &["deploy"]).finish();
    failed
        .exits(1)
        .mentions("the server keeps retrying; `dyno ps -a typo` shows when\n")
        .does_not_mention("goes back");
    let app = host.folder_of("phase", &[("Procfile", "release: false\nworker: true\n")]);
    host.dyno(&app, &["deploy"])
        .finish()
        .mentions("the release command of v2 of `phase` failed; nothing runs\n")
        .does_not_mention("goes on");
    write(&app.join("Procfile"), "worker: true\n");
    host.dyno(&app, &["deploy"]).finish().succeeds();
    write(&app.join("Procfile"), "release: false\nworker: true\n");
    host.dyno(&app, &["deploy"])
        .finish()
        .mentions("the release command of v4 of `phase` failed; what ran before goes on\n");
}

#[test]
fn a_command_that_leaves_the_foreground_is_said_to_have_ended_for_that() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let procfile = "web: python3 -m http.server $PORT &\n";
    let app = host.folder_of("behind", &[("Procfile", procfile)]);
    host.dyno(&app, &["deploy"])
        .finish()
        .mentions("1 dyno crashed: `web.1` (exit 0)\n")
        .mentions("the command of `web` puts itself into the background with `&`, so it ends at once: leave that out");
}

#[test]
fn no_command_deploys_a_folder_without_a_procfile_on_its_way() {
    let host = Host::new();
    let app = host.folder_of("bare", &[("a", "")]);
    host.dyno(&app, &["create"]).finish().succeeds();
    let message = format!("there is no Procfile in `{}`", app.display());
    let hint = "there is a `procfile`: rename it, the name is `Procfile`";
    let refused = |hint: &str| {
        for args in [
            &["run", "ls"][..],
            &["run", "--deploy", "ls"],
            &["run:detached", "ls"],
        ] {
            host.dyno(&app, args)
                .finish()
                .mentions(&format!("error: {message}\nhint: {hint}\n"));
        }
    };
    refused("it says what the app runs: a line like `web: python3 -m http.server $PORT`");
    write(&app.join("procfile"), "x: true\n");
    refused(hint);
    // So it is where no app is.
    let fresh = host.folder_of("fresh", &[("procfile", "x: true\n")]);
    let of_fresh = format!("there is no Procfile in `{}`", fresh.display());
    host.dyno(&fresh, &["run", "ls"])
        .finish()
        .fails_with(125, &of_fresh, hint);
    host.dyno(&fresh, &["start"]).finish().fails_with(
        1,
        &format!("no Procfile in `{}`", fresh.display()),
        hint,
    );
    fs::rename(fresh.join("procfile"), fresh.join("Procfile")).unwrap();
    host.run(&fresh, &["-q", "ls"])
        .finish()
        .prints("Procfile\n");
}
