//! kill -9, of everything there is: what must go on goes on, what must end ends, all of it and at once, and it is told.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Host, Process, eventually, lacks};
use crate::small_disk::{can_fill_a_disk, on_a_small_disk};
use crate::terminal::{CTRL_C, Terminal};
use crate::upgrade::build;

/// How long the processes of a dyno may be there after its supervisor: the kernel ends them. Without walls they are
/// looked for, while there are always new ones.
fn at_once() -> Duration {
    match std::env::var_os("DYNO_TEST_ISOLATION") {
        Some(_) => Duration::from_secs(10),
        None => Duration::from_secs(1),
    }
}

const LOST: &str =
    "heroku[run.1]: Error R99 (Platform error) -> The dyno was lost: its supervisor is gone";
const CRASHED: &str = "heroku[run.1]: State changed from up to crashed";

/// What the API says of a dyno of the app `plain`, alive or ended.
fn dyno(host: &Host, name: &str) -> Value {
    let (status, body) = host.request("GET", &format!("/apps/plain/dynos/{name}"), &json!(null));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Waits until the server has written down that a dyno is over.
fn ended(host: &Host, name: &str) -> Value {
    eventually("the end of the dyno", || {
        let dyno = dyno(host, name);
        (!dyno["ended_at"].is_null()).then_some(dyno)
    })
}

/// A job that prints numbered lines until a process listens on a port, which [`Job::end`] does; then it ends with status
/// 9. (There is no other way to tell a detached dyno something: only the network is the host's.)
struct Job {
    port: u16,
}

impl Job {
    fn start(host: &Host, app: &Path) -> Self {
        // Free a moment ago, and of the range that nobody is given by chance.
        let port = eventually("a free port", || {
            let port = 10_000 + u16::from_ne_bytes(rand()) % 9_000;
            TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
        });
        let command = format!(
            "n=0; until (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null; do n=$((n + 1)); echo line $n; sleep 0.01; \
             done; echo over; exit 9"
        );
        host.dyno(app, &["run:detached", "-q", &command])
            .finish()
            .succeeds();
        Self { port }
    }

    fn end(self) -> TcpListener {
        TcpListener::bind(("127.0.0.1", self.port)).unwrap()
    }
}

fn rand() -> [u8; 2] {
    let mut bytes = [0; 2];
    let mut random = fs::File::open("/dev/urandom").unwrap();
    std::io::Read::read_exact(&mut random, &mut bytes).unwrap();
    bytes
}

/// Fails unless the lines of `name`'s output are numbered from 1 on without a hole, up to the last, `over`.
#[track_caller]
fn no_line_is_missing(host: &Host, name: &str) {
    let prefix = format!("app[{name}]: ");
    let lines = host.log_lines();
    let output = lines.iter().filter_map(|line| line.strip_prefix(&prefix));
    let output: Vec<_> = output.collect();
    let (last, numbered) = output.split_last().expect("some output");
    assert_eq!(*last, "over");
    let expected = (1..=numbered.len()).map(|n| format!("line {n}"));
    assert!(
        expected.eq(numbered.iter().map(|line| (*line).to_owned())),
        "{numbered:?}"
    );
}

/// A session on a terminal and a job in the background, of which nothing is to be missing in the end, whatever happens
/// in `between`.
fn session_and_job_go_on(host: &Host, between: impl Fn(&Host, &Path)) {
    let app = host.plain_app();
    let job = Job::start(host, &app);
    host.wait_for_log("app[run.1]: line 3");
    let terminal = Terminal::run(host, &app, &["bash"]);
    terminal.wait_for_prompt();
    // (Without noflsh, the terminal throws away what is on its way when Ctrl-C is typed.)
    let count = "stty noflsh; bash -c 'trap s=1 INT; n=0; until [ $s ]; do echo line $((n += 1)); sleep 0.002; done; echo that is $n'";
    terminal.type_keys(&format!("{count}\r"));
    terminal.wait_for_line("line 9");
    between(host, &app);
    terminal.type_keys(CTRL_C);
    let is_last = |line: &str| line.trim_start_matches("^C").starts_with("that is ");
    terminal.wait_for("the last line", |screen| {
        screen.contents().lines().any(is_last)
    });
    terminal.wait_for_prompt();

    let info = host.dyno(&app, &["apps:info"]).finish().succeeds().text();
    assert!(info.contains("run.1 up, run.2 up\n"), "{info}");

    terminal.type_keys("exit 5\r");
    terminal.exits(5);
    terminal.is_restored();
    let drawn = String::from_utf8(terminal.bytes()).unwrap();
    let drawn = drawn.replace("^C", "");
    let (_, drawn) = drawn.split_once("line 1\r\n").unwrap();
    let (lines, rest) = drawn.split_once("that is ").unwrap();
    let last = lines.lines().zip(2..).fold(1, |_, (line, n)| {
        assert_eq!(line, format!("line {n}"));
        n
    });
    assert!(rest.starts_with(&format!("{last}\r\n")), "{last}: {rest}");

    let listening = job.end();
    for (name, status) in [("run.1", 9), ("run.2", 5)] {
        let end = ended(host, name);
        assert_eq!(
            (&end["state"], &end["exit_status"]),
            (&json!("complete"), &json!(status))
        );
        for line in [
            format!("heroku[{name}]: Process exited with status {status}"),
            format!("heroku[{name}]: State changed from up to complete"),
        ] {
            is_logged_once(host, &line);
        }
    }
    drop(listening);
    no_line_is_missing(host, "run.1");
    host.wait_until_clean();
}

#[track_caller]
fn is_logged_once(host: &Host, line: &str) {
    host.wait_for_log(line);
    let lines = host.log_lines();
    let count = lines.iter().filter(|found| *found == line).count();
    assert_eq!(count, 1, "`{line}` in\n{}", lines.join("\n"));
}

#[test]
fn a_session_and_a_job_outlive_their_server() {
    session_and_job_go_on(&Host::new(), |host, app| {
        for _ in 0..3 {
            host.kill_server();
            let lines = || {
                host.log_lines()
                    .iter()
                    .filter(|line| line.starts_with("app[run.1]"))
                    .count()
            };
            let before = lines();
            eventually("output without a server", || {
                (lines() > before).then_some(())
            });
            let info = host.dyno(app, &["apps:info"]).finish().succeeds().text();
            assert!(info.contains("run.1 up, run.2 up\n"), "{info}");
        }
    });
}

#[test]
fn a_session_and_a_job_outlive_a_server_that_was_told_to_stop() {
    session_and_job_go_on(&Host::new(), |host, app| {
        let server = host.server().unwrap();
        server.signal(Signal::TERM);
        // It may be answered by that one still.
        host.dyno(app, &["apps"]).finish().succeeds();
        server.wait_for_end();
        host.dyno(app, &["apps"]).finish().succeeds();
    });
}

#[test]
fn a_session_and_a_job_outlive_the_program_that_runs_them() {
    let host = Host::new();
    let program = build(&host, 1);
    host.set_program(&program);
    session_and_job_go_on(&host, |host, app| {
        let older = host.server().unwrap();
        let newer = build(host, 2);
        fs::rename(&newer, host.program()).unwrap();
        // The older server gives way by itself.
        host.dyno(app, &["apps"]).finish().succeeds();
        older.wait_for_end();
        let server = host.server().unwrap();
        let runs = fs::metadata(format!("/proc/{}/exe", server.pid)).unwrap();
        assert_eq!(runs.ino(), fs::metadata(host.program()).unwrap().ino());
        // And one that is killed while there is a newer program is succeeded by that.
        fs::rename(build(host, 3), host.program()).unwrap();
        host.kill_server();
        host.dyno(app, &["apps"]).finish().succeeds();
    });
}

/// All processes of the host's dynos but their supervisors are gone at once.
#[track_caller]
fn all_end_at_once(host: &Host, since: Instant, known: &[Process]) {
    for process in known {
        assert!(
            process.ended_by(since + at_once()),
            "process {} is still there",
            process.pid
        );
    }
    // Those that were started meanwhile, too.
    loop {
        let left: Vec<_> = host.inhabitants().iter().map(|it| it.pid).collect();
        if left.is_empty() {
            return;
        }
        assert!(since.elapsed() < at_once(), "{left:?}");
    }
}

/// Daemons, a stopped process, and a process that never stops making new ones.
const HARD_TO_KILL: &str = "\
    setsid sleep 1000 & setsid sh -c 'trap \"\" HUP TERM INT; sleep 1000; sleep 1000' & sh -c 'kill -STOP $$' & \
    (while :; do sleep 0.01 & done) & sleep 0.2; echo up; cat";

#[test]
fn a_dyno_ends_with_its_supervisor_all_of_it_at_once() {
    let host = Host::new();
    let app = host.plain_app();
    let running = host.run(&app, &["-q", HARD_TO_KILL]).open_input().start();
    running.wait_for_output("up\n");
    let supervisor = host.wait_for_supervisor();
    let known = host.inhabitants();
    assert!(known.len() > 4, "{known:?}");
    let began = Instant::now();
    supervisor.signal(Signal::KILL);
    all_end_at_once(&host, began, &known);
    running.finish().prints("up\n").fails_with(
        125,
        "`run.1` was lost: its supervisor is gone",
        "log",
    );
    let end = ended(&host, "run.1");
    assert_eq!(
        (&end["state"], &end["end_reason"], &end["exit_status"]),
        (&json!("crashed"), &json!("lost"), &json!(null))
    );
    is_logged_once(&host, LOST);
    is_logged_once(&host, CRASHED);
    host.wait_until_clean();
    // The next server has nothing to add.
    host.kill_server();
    host.run(&app, &["-q", "echo $DYNO"])
        .finish()
        .prints("run.2\n");
    is_logged_once(&host, CRASHED);
}

#[test]
fn a_terminal_is_restored_when_the_supervisor_is_killed() {
    if lacks("vi") {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["bash"]);
    terminal.wait_for_prompt();
    terminal.type_keys("vi\r");
    terminal.wait_for_text("VIM - Vi IMproved");
    host.wait_for_supervisor().signal(Signal::KILL);
    terminal.wait_for_text("error: `run.1` was lost: its supervisor is gone");
    terminal.exits(125);
    terminal.is_restored();
    host.wait_until_clean();
}

#[test]
fn the_next_server_tells_of_a_lost_dyno_once() {
    // It is killed, and does not leave before.
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = host.plain_app();
    let running = host
        .run(&app, &["-q", "echo up; touch here; cat"])
        .open_input()
        .start();
    running.wait_for_output("up\n");
    let supervisor = host.wait_for_supervisor();
    host.kill_server();
    supervisor.signal(Signal::KILL);
    running.finish().exits(125);
    assert!(!host.log_lines().iter().any(|line| line == CRASHED));
    for _ in 0..2 {
        let info = host.dyno(&app, &["apps:info"]).finish().succeeds().text();
        assert!(!info.contains("run.1"), "{info}");
        is_logged_once(&host, LOST);
        is_logged_once(&host, CRASHED);
        assert_eq!(dyno(&host, "run.1")["end_reason"], "lost");
        host.wait_until_clean();
        host.kill_server();
    }
}

#[test]
fn a_killed_init_is_a_killed_command() {
    let host = Host::new();
    let app = host.plain_app();
    let running = host.run(&app, &["-q", HARD_TO_KILL]).open_input().start();
    running.wait_for_output("up\n");
    let known = host.inhabitants();
    let [init] = &host.inits()[..] else {
        panic!("one init was expected")
    };
    let began = Instant::now();
    init.signal(Signal::KILL);
    all_end_at_once(&host, began, &known);
    running.finish().exits(137);
    let end = ended(&host, "run.1");
    assert_eq!(
        (&end["state"], &end["exit_signal"]),
        (&json!("complete"), &json!(9))
    );
    is_logged_once(&host, "heroku[run.1]: Process exited with status 137");
    host.wait_until_clean();
}

#[test]
fn everything_may_be_killed_at_once() {
    let host = Host::new();
    let app = host.plain_app();
    Job::start(&host, &app);
    let running: Vec<_> = (0..3)
        .map(|_| host.run(&app, &["-q", HARD_TO_KILL]).open_input().start())
        .collect();
    for running in &running {
        running.wait_for_output("up\n");
    }
    let known = host.inhabitants();
    let inits = host.inits();
    assert_eq!(inits.len(), 4);
    let supervisors = host.supervisors();
    let (server, spare) = (host.server().unwrap(), host.spare());
    let began = Instant::now();
    for process in [&server]
        .into_iter()
        .chain(&spare)
        .chain(&supervisors)
        .chain(&inits)
    {
        process.signal(Signal::KILL);
    }
    for running in running {
        running.signal(Signal::KILL);
        running.finish();
    }
    // Without walls, it takes the next server to find them.
    if !host.in_folders() {
        all_end_at_once(&host, began, &known);
    }

    let info = host.dyno(&app, &["apps:info"]).finish().succeeds().text();
    assert!(!info.contains("run."), "{info}");
    host.wait_until_clean();
    for n in 1..=4 {
        let name = format!("run.{n}");
        assert_eq!(dyno(&host, &name)["end_reason"], "lost");
        is_logged_once(
            &host,
            &format!("heroku[{name}]: State changed from up to crashed"),
        );
    }
    host.run(&app, &["-q", "echo $DYNO"])
        .finish()
        .prints("run.5\n");
}

/// A running dyno, and with it a supervisor that waits for the next one and does not move.
fn stopped_spare<'a>(host: &'a Host, app: &Path) -> (crate::harness::Running<'a>, Process) {
    let running = host.run(app, &["-q", "echo up; cat"]).open_input().start();
    running.wait_for_output("up\n");
    let spare = eventually("a waiting supervisor", || host.spare());
    spare.signal(Signal::STOP);
    (running, spare)
}

/// As [`stopped_spare`], with `run.2` for the supervisor to begin with: a detached dyno with this command.
fn given_spare<'a>(
    host: &'a Host,
    app: &Path,
    command: &str,
) -> (crate::harness::Running<'a>, Process) {
    let both = stopped_spare(host, app);
    let body = json!({"command": command, "attach": false});
    let (status, _) = host.request("POST", "/apps/plain/dynos", &body);
    assert_eq!(status, 201);
    both
}

#[test]
fn the_supervisor_that_waits_may_be_killed() {
    let host = Host::new();
    let app = host.plain_app();
    let (running, spare) = stopped_spare(&host, &app);
    spare.signal(Signal::KILL);
    spare.wait_for_end();
    host.run(&app, &["-q", "echo $DYNO"])
        .finish()
        .succeeds()
        .prints("run.2\n");
    running.finish_input().succeeds();
    // None of the server's children is left for it to collect.
    let server = host.server().unwrap();
    eventually("no zombie", || {
        let children = format!("/proc/{0}/task/{0}/children", server.pid);
        let children = fs::read_to_string(children).unwrap();
        let mut children = children.split_whitespace();
        let zombie = |pid: &str| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.contains("State:\tZ")
        };
        (!children.any(zombie)).then_some(())
    });
}

#[test]
fn a_supervisor_may_be_killed_before_it_begins() {
    let host = Host::new();
    let app = host.plain_app();
    let (running, spare) = stopped_spare(&host, &app);
    let next = host.run(&app, &["-q", "echo never"]).start();
    eventually("its row", || {
        let (status, _) = host.request("GET", "/apps/plain/dynos/run.2", &json!(null));
        (status == 200).then_some(())
    });
    spare.signal(Signal::KILL);
    next.finish()
        .prints("")
        .fails_with(125, "`run.2` was lost: its supervisor is gone", "");
    assert_eq!(ended(&host, "run.2")["end_reason"], "lost");
    is_logged_once(
        &host,
        "heroku[run.2]: State changed from starting to crashed",
    );
    running.finish_input().succeeds();
    host.wait_until_clean();
}

#[test]
fn a_run_goes_on_when_the_server_is_killed_before_its_supervisor_begins() {
    let host = Host::new();
    let app = host.plain_app();
    let (running, spare) = stopped_spare(&host, &app);
    let next = host.run(&app, &["-q", "echo fine"]).start();
    eventually("its row", || {
        let (status, _) = host.request("GET", "/apps/plain/dynos/run.2", &json!(null));
        (status == 200).then_some(())
    });
    host.kill_server();
    spare.signal(Signal::CONT);
    next.finish().succeeds().prints("fine\n");
    running.finish_input().succeeds();
    host.run(&app, &["-q", "true"]).finish().succeeds();
    host.wait_until_clean();
}

#[test]
fn a_supervisor_that_begins_after_its_servers_death_has_its_dyno_all_the_same() {
    let host = Host::new();
    let app = host.plain_app();
    let (running, spare) = given_spare(&host, &app, "echo late");
    host.kill_server();
    // The lock of its folder was sent along, so the next server can tell that a supervisor may begin.
    let info = host.dyno(&app, &["apps:info"]).finish().succeeds().text();
    assert!(info.contains("run.1 up, run.2 starting\n"), "{info}");
    spare.signal(Signal::CONT);
    host.wait_for_log("heroku[run.2]: State changed from up to complete");
    running.finish_input().succeeds();
    host.wait_until_clean();
    is_logged_once(&host, "app[run.2]: late");
}

#[test]
fn a_dyno_whose_supervisor_is_killed_before_it_begins_is_lost() {
    let host = Host::new();
    let app = host.plain_app();
    let (running, spare) = given_spare(&host, &app, "echo never");
    host.kill_server();
    spare.signal(Signal::KILL);
    spare.wait_for_end();
    let info = host.dyno(&app, &["apps:info"]).finish().succeeds().text();
    assert!(info.contains("run.1 up\n"), "{info}");
    assert_eq!(dyno(&host, "run.2")["end_reason"], "lost");
    running.finish_input().succeeds();
    host.wait_until_clean();
    is_logged_once(
        &host,
        "heroku[run.2]: State changed from starting to crashed",
    );
}

#[test]
fn a_server_may_be_killed_between_row_and_folder() {
    let host = Host::new();
    let app = host.plain_app();
    let (running, spare) = given_spare(&host, &app, "echo never");
    let id = dyno(&host, "run.2")["id"].as_str().unwrap().to_owned();
    host.kill_server();
    spare.signal(Signal::KILL);
    // What a server leaves that has not come any further.
    fs::remove_dir_all(host.state().join("dynos").join(id)).unwrap();
    host.dyno(&app, &["apps"]).finish().succeeds();
    assert_eq!(dyno(&host, "run.2")["end_reason"], "lost");
    is_logged_once(
        &host,
        "heroku[run.2]: State changed from starting to crashed",
    );
    running.finish_input().succeeds();
    host.run(&app, &["-q", "echo $DYNO"])
        .finish()
        .prints("run.3\n");
    host.wait_until_clean();
}

#[test]
fn a_dyno_keeps_its_port_for_itself_when_another_server_takes_over() {
    let host = Host::with(&[("DYNO_PORTS", "23460-23461")]);
    let app = host.plain_app();
    // Neither listens on its own, so only the servers know that it is taken.
    host.dyno(&app, &["run:detached", "-q", "sleep 1000"])
        .finish()
        .succeeds();
    let port = |dyno: &str| {
        host.dyno(&app, &["run:inside", "-q", dyno, "echo $PORT"])
            .finish()
            .succeeds()
            .text()
    };
    let first = port("run.1");
    for next in ["run.2", "run.3", "run.4"] {
        host.kill_server();
        let other = host
            .dyno(
                &app,
                &["run:detached", "--wait", "-q", "sleep 0.1; echo $PORT >&2"],
            )
            .finish();
        other.succeeds().prints(&format!("{next}\n"));
        let told = format!("app[{next}]: ");
        let line = host
            .log_lines()
            .iter()
            .find_map(|line| line.strip_prefix(&told).map(|port| format!("{port}\n")));
        assert!(
            line.is_some() && line.as_ref() != Some(&first),
            "{line:?} {first}"
        );
    }
}

/// The room for the exit record is taken while there is some.
#[test]
fn how_a_dyno_ended_is_known_though_the_disk_was_full_and_no_server_there() {
    if lacks("python3") {
        return;
    }
    if !can_fill_a_disk() {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "1")]);
    let app = host.plain_app();
    let script = r#"
        set -e
        mkfifo in
        "$0" run -q 'echo up; read x; exit 7' <in >out &
        exec 3>in
        until grep -q up out; do sleep 0.02; done
        kill -KILL "$("$0" server:status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["pid"])')"
        ! head -c 10M /dev/zero >"$DYNO_HOME/filler"
        echo go >&3
        status=0; wait $! || status=$?
        # Until supervisor and init are gone.
        flock -w 30 "$DYNO_HOME"/dynos/*/lock true
        rm "$DYNO_HOME/filler"
        echo "the client $status"
        "$0" ps:wait run.1 2>&1 || echo "the record $?"
    "#;
    let (printed, errors) = on_a_small_disk(&host, &app, script);
    assert_eq!(
        printed, "the client 7\nWaiting for run.1... exit 7\nthe record 7\n",
        "{errors}"
    );
}
