//! Heroku's page on one-off dynos, transcript by transcript, with `dyno` in place of `heroku`. The app (`tests/apps/page`)
//! has stand-ins for Ruby's `rake` and `rails`, which print what the page's do.

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Host, eventually, lacks};
use crate::terminal::{CTRL_C, Terminal};

/// The page's app, deployed.
fn widgets(host: &Host) -> PathBuf {
    let app = host.folder_as("page", "widgets");
    host.dyno(&app, &["deploy", "--no-web"]).finish().succeeds();
    app
}

/// What the API says of a dyno.
fn dyno(host: &Host, name: &str) -> Value {
    let (status, body) = host.request("GET", &format!("/apps/widgets/dynos/{name}"), &json!(null));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// `2013/03/13 15:38:08 (~ 1s ago)` as `TIME`.
fn timeless(text: &str) -> String {
    let line = |line: &str| match (line.find(" 20"), line.find(" ago)")) {
        (Some(from), Some(to)) => format!("{} TIME{}", &line[..from], &line[to + 5..]),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// "An example one-off dyno", and after it: "the deleted files won't change your running application".
#[test]
fn an_example_one_off_dyno() {
    let host = Host::new();
    let app = widgets(&host);
    let terminal = Terminal::run(&host, &app, &["bash"]);
    terminal.wait_for_prompt();
    assert_eq!(
        terminal.screen().trim_end(),
        "Running bash attached to terminal... up, run.1\n~ $"
    );
    terminal.type_keys("ls\r");
    terminal.wait_for("the files", |screen| {
        let names = ["Procfile", "project.clj", "src", "bin"];
        let shown = screen.contents();
        let listed = |line: &str| {
            names
                .iter()
                .all(|name| line.split_whitespace().any(|it| it == *name))
        };
        shown.lines().any(listed)
    });
    terminal.type_keys("echo \"Hi there\"\r");
    terminal.wait_for_line("Hi there");
    // Without walls, the app is in a folder of the dyno's own.
    if !host.in_folders() {
        terminal.type_keys("pwd\r");
        terminal.wait_for_line("/app");
    }
    terminal.type_keys("bin/do-work\r");
    terminal.wait_for_line("the work is done");
    terminal.type_keys("rm Procfile project.clj\r");
    terminal.type_keys("ls | wc -l\r");
    terminal.wait_for_line("3");
    terminal.type_keys("exit\r");
    terminal.exits(0);
    terminal.is_restored();
    host.run(&app, &["-q", "ls Procfile project.clj"])
        .finish()
        .succeeds()
        .prints("Procfile\nproject.clj\n");
}

/// "It is never shared with any other dyno": a filesystem of its own for each.
#[test]
fn each_dyno_has_its_own_ephemeral_filesystem() {
    let host = Host::new();
    let app = widgets(&host);
    let first = host
        .run(&app, &["-q", "echo mine >new; cat new; cat"])
        .open_input()
        .start();
    first.wait_for_output("mine\n");
    host.run(&app, &["-q", "ls new"]).finish().exits(2);
    first.finish_input().succeeds();
}

/// "Since STDOUT is going to your terminal, the only thing recorded in the app's logs is the startup and shutdown."
#[test]
fn of_an_attached_dyno_only_startup_and_shutdown_are_logged() {
    let host = Host::new();
    let app = widgets(&host);
    host.run(&app, &["-q", "bin/do-work"])
        .finish()
        .prints("the work is done\n");
    host.wait_for_log("heroku[run.1]: State changed from up to complete");
    let lines = host.log_lines();
    let start = lines
        .iter()
        .position(|line| line.starts_with("app[api]: Starting process"))
        .unwrap();
    assert_eq!(
        lines[start..],
        [
            "app[api]: Starting process with command `bin/do-work` by user dyno@localhost",
            "heroku[run.1]: Awaiting client",
            "heroku[run.1]: Starting process with command `bin/do-work`",
            "heroku[run.1]: State changed from starting to up",
            "heroku[run.1]: Process exited with status 0",
            "heroku[run.1]: State changed from up to complete",
        ]
    );
}

/// "One-off dynos terminate as soon as you press Ctrl-C or otherwise disconnect", and "never automatically restart".
#[test]
fn a_one_off_ends_at_ctrl_c_and_is_not_restarted() {
    let host = Host::new();
    let app = widgets(&host);
    let terminal = Terminal::run(&host, &app, &["echo ready; exec sleep 1000"]);
    terminal.wait_for_line("ready");
    terminal.type_keys(CTRL_C);
    terminal.exits(130);
    let other = host
        .run(&app, &["-q", "echo ready; exec sleep 1000"])
        .open_input()
        .start();
    other.wait_for_output("ready\n");
    other.signal(Signal::KILL);
    other.finish();
    host.wait_for_log("heroku[run.2]: State changed from up to complete");
    host.wait_until_clean();
    host.dyno(&app, &["ps"])
        .finish()
        .succeeds()
        .holds("no run.N", |listed| !listed.contains("run."));
}

/// "One-off dyno execution syntax".
#[test]
fn a_command_or_a_process_type_with_additional_arguments() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = widgets(&host);
    for (words, printed) in [
        (&["python", "dowork.py"][..], "working on\n"),
        (&["myworker", "42"], "working on 42\n"),
        (
            &["rake --help"],
            "rake [-f rakefile] {options} targets...\n",
        ),
    ] {
        host.run(&app, &[&["-q"], words].concat())
            .finish()
            .succeeds()
            .prints(printed);
    }
}

const MIGRATION: [&str; 6] = [
    "(in /app)",
    "Migrating to CreateWidgets (20110204210157)",
    "==  CreateWidgets: migrating ==================================================",
    "-- create_table(:widgets)",
    "   -> 0.0497s",
    "==  CreateWidgets: migrated (0.0498s) =========================================",
];

/// "Types of one-off dynos": a migration, and a console.
#[test]
fn a_migration_and_a_console() {
    let host = Host::new();
    let app = widgets(&host);
    host.run(&app, &["rake", "db:migrate"])
        .finish()
        .succeeds()
        .prints(&(MIGRATION.join("\n") + "\n"))
        .says("Running rake db:migrate attached to terminal... up, run.1\n");
    let terminal = Terminal::run(&host, &app, &["rails", "console"]);
    terminal.wait_for_line("Running rails console attached to terminal... up, run.2");
    terminal.wait_for_line("Loading production environment (Rails 3.0.3)");
    terminal.wait_for_text("irb(main):001:0> ");
    terminal.type_keys("Widget.create :name => 'Test'\r");
    terminal.wait_for_line("irb(main):001:0> Widget.create :name => 'Test'");
    terminal.wait_for_line("=> #<Widget id: 1, name: \"Test\", size: nil>");
    terminal.wait_for_text("irb(main):002:0> ");
    terminal.type_keys("exit\r");
    terminal.exits(0);
}

/// "Running tasks in background".
#[test]
fn a_task_in_the_background() {
    let host = Host::new();
    let app = widgets(&host);
    host.run(&app, &["-q", "true"]).finish().succeeds();
    let terminal = Terminal::open(&host, &app, &["run:detached", "rake", "db:migrate"]);
    terminal.exits(0);
    assert_eq!(
        terminal.screen().trim_end(),
        "Running rake db:migrate... up, run.2\nUse 'dyno logs -p run.2' to view the log output."
    );
    host.wait_for_log("heroku[run.2]: State changed from up to complete");
    let logs = host.dyno(&app, &["logs", "-p", "run.2"]).finish();
    let logs = logs.succeeds().text();
    let output: Vec<_> = logs
        .lines()
        .filter_map(|line| Some(line.split_once(" app[run.2]: ")?.1))
        .collect();
    // Without walls, the app is elsewhere.
    assert_eq!(output[1..], MIGRATION[1..]);
    assert!(output[0].starts_with("(in /"), "{output:?}");
}

/// "Stopping one-off dynos".
#[test]
fn listing_stopping_and_restarting() {
    let host = Host::new();
    let app = widgets(&host);
    let request = json!({"command": "bash", "attach": true});
    // Until its client comes, it is starting.
    assert_eq!(host.request("POST", "/apps/widgets/dynos", &request).0, 201);
    let listed = host.dyno(&app, &["ps"]).finish().succeeds().text();
    let one_offs = listed.split("\n\n").next().unwrap();
    assert_eq!(
        timeless(one_offs),
        "=== run: one-off processes\nrun.1: starting TIME: `bash`"
    );
    // "A one-off dyno will not stop if you issue `heroku ps:restart` on your application."
    host.dyno(&app, &["run:detached", "-q", "sleep 1000"])
        .finish()
        .prints("run.2\n");
    host.dyno(&app, &["ps:restart"]).finish().succeeds();
    assert_eq!(dyno(&host, "run.2")["state"], "up");
    for name in ["run.1", "run.2"] {
        host.dyno(&app, &["ps:stop", name])
            .finish()
            .succeeds()
            .says(&format!("Stopping {name} process... done\n"));
        assert_eq!(dyno(&host, name)["end_reason"], "stopped");
    }
    host.wait_until_clean();
}

/// "It is possible to trap SIGHUP and cause your dyno to continue running even when the connection is closed."
#[test]
fn who_traps_sighup_goes_on() {
    let host = Host::with(&[("DYNO_HANGUP_INTERVAL", "0.2")]);
    let app = widgets(&host);
    let running = host
        .run(
            &app,
            &["-q", "trap '' HUP; echo ready; sleep 1; echo still here"],
        )
        .open_input()
        .start();
    running.wait_for_output("ready\n");
    running.signal(Signal::KILL);
    running.finish();
    host.wait_for_log("app[run.1]: still here");
    host.wait_for_log("heroku[run.1]: Process exited with status 0");
}

/// "Connections to one-off dynos will be closed after one hour of inactivity … the dyno will be sent SIGHUP." Here after a
/// second. "Detached dynos have no connection, so they have no timeout."
#[test]
fn an_idle_connection_is_closed_and_a_detached_dyno_has_none() {
    let host = Host::with(&[("DYNO_IDLE_TIMEOUT", "1")]);
    let app = widgets(&host);
    let detached = ["run:detached", "-q", "sleep 2.5; echo not timed out"];
    host.dyno(&app, &detached).finish().succeeds();
    let terminal = Terminal::run(&host, &app, &["bash"]);
    terminal.wait_for_prompt();
    terminal.exits(129);
    terminal.is_restored();
    host.wait_for_log("heroku[run.2]: Client connection closed. Sending SIGHUP to all processes");
    host.wait_for_log("heroku[run.2]: State changed from up to complete");
    host.wait_for_log("app[run.1]: not timed out");
}

/// "Like all dynos, one-off dynos are cycled every 24 hours." Here every second.
#[test]
fn a_one_off_is_cycled_and_does_not_come_back() {
    let host = Host::with(&[("DYNO_LIFETIME", "1"), ("DYNO_LIFETIME_SPREAD", "0")]);
    let app = widgets(&host);
    host.dyno(&app, &["run:detached", "-q", "sleep 1000"])
        .finish()
        .succeeds();
    let end = eventually("its end", || {
        let dyno = dyno(&host, "run.1");
        (!dyno["ended_at"].is_null()).then_some(dyno)
    });
    assert_eq!(
        (&end["state"], &end["exit_signal"]),
        (&json!("complete"), &json!(15))
    );
    host.wait_until_clean();
    host.dyno(&app, &["ps"])
        .finish()
        .succeeds()
        .holds("no run.N", |listed| !listed.contains("run."));
}

/// "One-off dyno size".
#[test]
fn sizes() {
    let host = Host::new();
    let app = widgets(&host);
    for (number, (option, size)) in [
        (None, "1X"),
        (Some("--size=2X"), "2X"),
        (Some("--size=PX"), "PX"),
    ]
    .into_iter()
    .enumerate()
    {
        let words: Vec<_> = option.into_iter().chain(["rake", "heavy:job"]).collect();
        host.run(&app, &words).finish().succeeds().prints("done\n");
        assert_eq!(dyno(&host, &format!("run.{}", number + 1))["size"], size);
    }
}

/// "Timeout awaiting process".
#[test]
fn timeout_awaiting_process() {
    let mut host = Host::with(&[("DYNO_ATTACH_TIMEOUT", "1")]);
    let app = widgets(&host);
    let unreachable = crate::server::unreachable(&host);
    host.set("DYNO_HOME", unreachable);
    let terminal = Terminal::run(&host, &app, &["rails", "console"]);
    terminal.exits(125);
    let screen = terminal.screen();
    let lines: Vec<_> = screen.lines().map(str::trim_end).collect();
    assert!(
        lines[0].starts_with("Running rails console attached to terminal..."),
        "{screen}"
    );
    assert_eq!(lines[1], "error: Timeout awaiting process", "{screen}");
}
