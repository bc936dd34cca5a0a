//! `dyno server:status` and `dyno server:stop`, on servers that were started in every way.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Host, Running, binary, eventually, free_port, lacks, root, write};

/// `echo up`, then whatever comes on standard input.
fn cat<'a>(host: &'a Host, app: &Path) -> Running<'a> {
    let running = host.run(app, &["-q", "echo up; cat"]).open_input().start();
    running.wait_for_output("up\n");
    running
}

fn status(host: &Host) -> Value {
    let told = host
        .dyno(&host.path(), &["server:status", "--json"])
        .finish();
    serde_json::from_str(&told.succeeds().text()).unwrap()
}

#[test]
fn no_server_is_a_status_too_and_none_is_started() {
    let host = Host::new();
    let here = host.path();
    host.dyno(&here, &["server:status"])
        .finish()
        .exits(3)
        .prints(&format!(
            "no server runs for `{}`\n",
            host.state().display()
        ));
    host.dyno(&here, &["server:status", "--json"])
        .finish()
        .exits(3)
        .prints("{\"running\":false}\n");
    for args in [&["server:stop"][..], &["server:stop", "--all"]] {
        host.dyno(&here, args)
            .finish()
            .succeeds()
            .mentions("no server runs");
    }
    assert!(host.server().is_none());
}

#[test]
fn a_running_one_tells_all_about_itself() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = host.plain_app();
    let running = [cat(&host, &app), cat(&host, &app)];
    let server = host.server().unwrap().pid;
    let told = host.dyno(&host.path(), &["server:status"]).finish();
    let text = told.succeeds().text();
    let state = host.state();
    for line in [
        format!("server:       running (process {server})\n"),
        "started by:   a command;".to_owned(),
        format!("state:        {}\n", state.display()),
        format!("socket:       {}/api.sock\n", state.display()),
        "dynos:        2 alive: 2 of plain\n".to_owned(),
        format!(
            "isolation:    {}",
            match host.in_folders() {
                true => "tempdir",
                false => "namespaces",
            }
        ),
    ] {
        assert!(text.contains(&line), "no {line:?} in\n{text}");
    }
    let status = status(&host);
    assert_eq!(status["running"], true);
    assert_eq!(status["pid"], server);
    assert_eq!(status["started_by"], "command");
    assert_eq!(status["dynos"]["plain"], 2);
    assert!(status["memory"].as_u64().unwrap() > 1 << 20);
    assert!(status["descriptors"].as_u64() < status["max_descriptors"].as_u64());
    for running in running {
        running.finish_input().succeeds();
    }
    host.wait_until_clean();
}

#[test]
fn stopping_it_stops_no_dyno() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = host.plain_app();
    let mut running = cat(&host, &app);
    let server = host.server().unwrap();
    host.dyno(&host.path(), &["server:stop"])
        .finish()
        .succeeds()
        .mentions(&format!(
            "Stopping the server (process {})... done\n",
            server.pid
        ))
        .mentions("dynos that go on: run.1 of plain\n");
    // It is gone when the command is.
    assert!(host.server().is_none());
    running.write("still there\n");
    running.wait_for_output("still there\n");
    host.dyno(&host.path(), &["server:status"])
        .finish()
        .exits(3);
    host.dyno(&host.path(), &["apps"]).finish().succeeds();
    assert_eq!(status(&host)["dynos"]["plain"], 1);
    running.finish_input().succeeds();
    host.wait_until_clean();
}

#[test]
fn with_all_the_dynos_end_first() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60"), ("DYNO_STOP_GRACE", "1")]);
    let app = host.plain_app();
    let polite = cat(&host, &app);
    let stubborn = host
        .run(
            &app,
            &["-q", "trap '' TERM; echo up; while :; do sleep 0.1; done"],
        )
        .start();
    stubborn.wait_for_output("up\n");
    host.dyno(&host.path(), &["server:stop", "--all"])
        .finish()
        .succeeds()
        .mentions("Ending run.1, run.2 of plain with SIGTERM, after 1s with SIGKILL\n")
        .mentions("... done\n");
    assert!(host.server().is_none());
    polite.finish().exits(143);
    stubborn.finish().exits(137);
    host.wait_until_clean();
    // The ends were noted.
    let shown = host.dyno(&app, &["apps:info"]).finish().succeeds().text();
    assert!(!shown.contains("run."), "{shown}");
}

#[test]
fn with_all_dynos_without_a_server_end_too() {
    let host = Host::with(&[("DYNO_STOP_GRACE", "5")]);
    let app = host.plain_app();
    let running = cat(&host, &app);
    host.kill_server();
    host.dyno(&host.path(), &["server:stop", "--all"])
        .finish()
        .succeeds()
        .mentions("Ending run.1 of plain");
    running.finish().exits(143);
    assert!(host.server().is_none());
    host.wait_until_clean();
}

#[test]
fn one_started_by_hand_is_stopped_as_well() {
    let host = Host::new();
    let here = host.path();
    let server = host.dyno(&here, &["server"]).start();
    eventually("a server", || host.server());
    eventually("its answer", || {
        let told = host.dyno(&here, &["server:status"]).finish();
        told.text().contains("by:   hand").then_some(())
    });
    host.dyno(&here, &["server:stop"]).finish().succeeds();
    server.finish().succeeds();
}

/// A server as systemd starts it: the variable names the process that becomes the server.
fn under_systemd(host: &Host) -> Child {
    let here = host.path();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "SYSTEMD_EXEC_PID=$$ exec \"$0\" server"]);
    command.arg(binary()).current_dir(&here).env_clear();
    let server = command.envs(host.env()).spawn().unwrap();
    eventually("its answer", || {
        let told = host.dyno(&here, &["server:status"]).finish();
        told.text().contains("by:   systemd, as `").then_some(())
    });
    server
}

/// An app with a formation of one.
fn formation(host: &Host) -> PathBuf {
    let app = host.folder_of("shop", &[("Procfile", "worker: sleep 1000\n")]);
    host.dyno(&app, &["create", "shop"]).finish().succeeds();
    host.dyno(&app, &["deploy"]).finish().succeeds();
    host.dyno(&app, &["ps:scale", "worker=1"])
        .finish()
        .succeeds();
    app
}

#[test]
fn what_was_ended_under_systemd_stays_down_when_it_starts_the_server_again() {
    let host = Host::new();
    let mut server = under_systemd(&host);
    let app = formation(&host);
    host.dyno(&app, &["server:stop", "--all"])
        .finish()
        .succeeds()
        .mentions("systemd starts it again")
        .mentions("formations stay down until they are told to come back")
        .mentions(".service` for all\n");
    assert!(server.wait().unwrap().success());
    // By itself.
    let mut server = under_systemd(&host);
    host.dyno(&app, &["ps"])
        .finish()
        .succeeds()
        .mentions("`server:stop --all` has ended the formation of shop");
    host.dyno(&app, &["server:stop"]).finish().succeeds();
    assert!(server.wait().unwrap().success());
    // Since a command asked for it.
    let mut server = under_systemd(&host);
    host.dyno(&app, &["ps"])
        .finish()
        .succeeds()
        .does_not_mention("has ended the formation");
    host.dyno(&app, &["server:stop", "--all"])
        .finish()
        .succeeds();
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_dyno_whose_client_has_left_is_not_told_to_end_nor_a_formation_that_is_none() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = host.plain_app();
    for _ in 0..5 {
        host.run(&app, &["-q", "true"]).finish().succeeds();
        host.dyno(&app, &["server:stop", "--all"])
            .finish()
            .succeeds()
            .does_not_mention("Ending")
            .does_not_mention("formations");
    }
}

#[test]
fn a_formation_that_was_ended_with_the_server_comes_back_by_type_and_by_dyno() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = formation(&host);
    for name in ["worker", "worker.1"] {
        host.dyno(&app, &["server:stop", "--all"])
            .finish()
            .succeeds();
        for (unknown, says) in [
            ("web", "`shop` has no dyno of type `web`"),
            ("worker.2", "worker.2"),
        ] {
            host.dyno(&app, &["ps:restart", unknown])
                .finish()
                .fails_with(1, says, "");
        }
        host.dyno(&app, &["ps:restart", name])
            .finish()
            .succeeds()
            .mentions(
                "`server:stop --all` had ended the formation of shop; all of it comes back\n",
            );
        host.dyno(&app, &["ps:wait"]).finish().succeeds();
        host.dyno(&app, &["ps"])
            .finish()
            .succeeds()
            .holds("the worker", |listed| listed.contains("worker.1: up"));
    }
    // By the API, as Heroku's clients do.
    host.dyno(&app, &["server:stop", "--all"])
        .finish()
        .succeeds();
    host.dyno(&app, &["ps"]).finish().succeeds();
    let (status, _) = host.request("DELETE", "/apps/shop/dynos/worker.1", &Value::Null);
    assert_eq!(status, 202);
    host.dyno(&app, &["ps:wait"]).finish().succeeds();
    host.dyno(&app, &["ps:scale", "worker=0"])
        .finish()
        .succeeds();
}

#[test]
fn one_under_systemd_says_that_it_will_come_back() {
    let host = Host::new();
    let here = host.path();
    let mut server = under_systemd(&host);
    host.dyno(&here, &["server"]).finish().fails_with(
        1,
        "a server by systemd, as `",
        ".service` ends it; its dynos go on",
    );
    host.dyno(&here, &["server:stop"])
        .finish()
        .succeeds()
        .mentions("systemd starts it again; `systemctl ")
        .mentions(".service` stops it for good\n");
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_port_that_another_states_server_has_is_told_with_that_state() {
    let (host, other) = (Host::new(), Host::new());
    let address = format!("127.0.0.1:{}", free_port());
    let first = host
        .dyno(&host.path(), &["server", "--router", &address])
        .start();
    first.wait_for_errors(&format!("web dynos at http://{address}\n"));
    let title = format!(
        "process {} (dyno: server {}) has that port",
        first.process.pid,
        host.state().display()
    );
    other
        .dyno(&other.path(), &["server", "--router", &address])
        .finish()
        .fails_with(1, &title, "`--router auto`");
    first.signal(Signal::TERM);
    first.finish().succeeds();
}

#[test]
fn one_that_does_not_answer_is_asked_by_a_signal() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    host.dyno(&host.path(), &["apps"]).finish().succeeds();
    let server = host.server().unwrap();
    server.signal(Signal::STOP);
    let stop = host.dyno(&host.path(), &["server:stop"]).start();
    stop.wait_for_errors("does not answer. Sending SIGTERM...");
    // It hears when it goes on.
    server.signal(Signal::CONT);
    stop.finish().succeeds().mentions("done");
    assert!(host.server().is_none());
}

#[test]
fn systemd_understands_the_unit_files() {
    let host = Host::new();
    let analyze = |file: &str, user: &[&str]| {
        let unit = fs::read_to_string(root().join("examples").join(file)).unwrap();
        // What is to be started must be there.
        let unit = unit.replace("/usr/local/bin/dyno", "/bin/true");
        let unit = unit.replace("%h/.local/bin/dyno", "/bin/true");
        write(&host.path().join(file), &unit);
        let mut command = Command::new("systemd-analyze");
        command.args(user).arg("verify").arg(host.path().join(file));
        command.env("XDG_RUNTIME_DIR", host.path()).output()
    };
    for (file, user) in [
        ("dyno.service", &[][..]),
        ("dyno-user.service", &["--user"]),
    ] {
        match analyze(file, user) {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(!said.contains(file), "{said}");
            }
            // Nothing else here needs systemd.
            Err(error) => eprintln!("not tried, without systemd-analyze: {error}"),
        }
    }
}

#[test]
fn a_socket_that_was_removed_is_made_again_and_every_command_goes_on() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = host.plain_app();
    let server = host.server().unwrap().pid;
    let state = host.state();
    let runs = format!("server:       running (process {server})\n");
    for (command, says) in [
        (&["server:status"][..], &*runs),
        (&["apps"], "plain\n"),
        (&["run", "-q", "--no-tty", "echo here"], "here\n"),
    ] {
        fs::remove_file(state.join("api.sock")).unwrap();
        host.dyno(&app, command)
            .finish()
            .succeeds()
            .holds("its answer", |printed| printed.contains(says));
        assert_eq!(host.server().unwrap().pid, server);
    }
    fs::remove_file(state.join("api.sock")).unwrap();
    host.dyno(&app, &["server:stop"])
        .finish()
        .succeeds()
        .mentions(&format!("Stopping the server (process {server})... done\n"));
    assert!(host.server().is_none());
    assert!(!state.join("api.sock").exists());
}

#[test]
fn what_was_put_in_the_place_of_the_socket_is_replaced_and_every_command_goes_on() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = host.plain_app();
    let server = host.server().unwrap().pid;
    let socket = host.state().join("api.sock");
    let runs = format!("server:       running (process {server})\n");
    let mut others: Vec<UnixListener> = Vec::new();
    let put: [&mut dyn FnMut(); 6] = [
        &mut || fs::write(&socket, "").unwrap(),
        &mut || drop(UnixListener::bind(&socket).unwrap()),
        &mut || drop(UnixDatagram::bind(&socket).unwrap()),
        &mut || symlink("api.sock", &socket).unwrap(),
        &mut || symlink("nowhere", &socket).unwrap(),
        // It takes clients, and never answers one.
        &mut || others.push(UnixListener::bind(&socket).unwrap()),
    ];
    for put in put {
        for (command, says) in [(["server:status"], &*runs), (["apps"], "plain\n")] {
            fs::remove_file(&socket).unwrap();
            put();
            host.dyno(&app, &command)
                .finish()
                .succeeds()
                .holds("its answer", |printed| printed.contains(says));
            assert_eq!(host.server().unwrap().pid, server);
        }
    }
    // A folder may have something of the user's in it.
    fs::remove_file(&socket).unwrap();
    fs::create_dir(&socket).unwrap();
    for command in ["server:status", "apps"] {
        host.dyno(&app, &[command]).finish().fails_with(
            1,
            "api.sock` is a folder, and the server's socket belongs there",
            "move it away",
        );
    }
    fs::remove_dir(&socket).unwrap();
    host.dyno(&app, &["apps"]).finish().succeeds();
    assert_eq!(host.server().unwrap().pid, server);
}

#[test]
fn a_server_does_not_remove_what_is_not_its_socket() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    host.plain_app();
    let (server, socket) = (host.server().unwrap(), host.state().join("api.sock"));
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "mine").unwrap();
    server.signal(Signal::TERM);
    server.wait_for_end();
    assert_eq!(fs::read_to_string(&socket).unwrap(), "mine");
    // The next one needs the place.
    host.dyno(&host.path(), &["apps"]).finish().succeeds();
}

#[test]
fn visitors_that_wait_from_now_on_are_told_of() {
    if lacks("python3") {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = host.folder("web");
    host.dyno(&app, &["deploy"]).finish().succeeds();
    let waiting = "visitors wait for the next server, ten seconds at most";
    host.dyno(&app, &["server:stop"])
        .finish()
        .succeeds()
        .mentions(waiting);
    host.dyno(&app, &["ps:scale", "web=0"]).finish().succeeds();
    host.wait_for_log("heroku[web.1]: Process exited with status 143");
    host.dyno(&app, &["server:stop"])
        .finish()
        .succeeds()
        .does_not_mention(waiting);
}
