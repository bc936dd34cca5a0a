//! Dynos in folders of their own, without walls: where they live, who is theirs, and that nobody else is touched.
//! (`.ci/run` has the tests of everything that is promised there, too, run with this isolation.)

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{self, Host, Process, Running, eventually, is_root, lacks, lacks_walls, pids};
use crate::terminal::Terminal;

fn host() -> Host {
    host_with(&[])
}

fn host_with(settings: &[(&str, &str)]) -> Host {
    Host::with(&[&[("DYNO_ISOLATION", "tempdir")], settings].concat())
}

/// A number of seconds that no other process sleeps for, so that one can be told by it: of processes that have nothing
/// else to be told by.
fn own_nap(number: u32) -> String {
    format!("100000.{}{number}", std::process::id())
}

/// The processes that sleep for `nap` seconds.
fn sleepers(nap: &str) -> Vec<Process> {
    let command_line = format!("sleep\0{nap}\0");
    let sleeps = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.ends_with(command_line.as_bytes()))
    };
    pids().filter(sleeps).filter_map(Process::find).collect()
}

/// Waits for the one process that sleeps for `nap` seconds.
fn sleeper(nap: &str) -> Process {
    eventually("a sleeping process", || sleepers(nap).pop())
}

/// A process of the tests' own user which is no dyno's.
struct Stranger(Child);

impl Stranger {
    fn with(variable: (&str, &str)) -> Self {
        let mut sleep = Command::new("/bin/sleep");
        sleep.arg("1000").env_clear().env(variable.0, variable.1);
        Self(sleep.stdin(Stdio::null()).spawn().unwrap())
    }

    fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A dyno whose command has said `up` and stays until its input ends.
fn stays<'a>(host: &'a Host, app: &Path, before: &str) -> Running<'a> {
    let command = format!("{before} echo up; exec cat");
    let running = host.run(app, &["-q", &command]).open_input().start();
    running.wait_for_output("up\n");
    running
}

fn dyno_folders(host: &Host) -> Vec<PathBuf> {
    let folders = fs::read_dir(host.state().join("dynos")).unwrap();
    folders.map(|folder| folder.unwrap().path()).collect()
}

#[test]
fn home_is_a_folder_of_the_dynos_own_and_goes_with_it() {
    let host = host();
    let app = host.app("many-types");
    let command = "pwd; echo $HOME; echo $DYNO; [ $TMPDIR = ${HOME%/*}/tmp ] && mktemp | grep -c ^$TMPDIR/; ls; \
                   stat -c %a bin/say; echo more >> Procfile; touch new; bin/say ran";
    for name in ["run.1", "run.2"] {
        host.run(&app, &["-q", command])
            .finish()
            .succeeds()
            .says("")
            .prints(&format!("/app\n/app\n{name}\n1\nProcfile\nbin\n755\nran\n"));
    }
    host.wait_until_clean();
}

#[test]
fn the_command_has_no_privilege_and_is_not_root_where_it_can_be_helped() {
    let host = host();
    let app = host.plain_app();
    let command = "id -u; grep -E '^(CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs)' /proc/self/status; \
                   stat -c %u . Procfile; umask; cat /etc/shadow 2>&1 >/dev/null | grep -c denied";
    let text = host.run(&app, &["-q", command]).finish().text();
    let lines: Vec<_> = text.lines().collect();
    let uid: u32 = lines[0].parse().unwrap();
    match is_root() {
        true => assert!(uid > 100_000, "{text}"),
        false => assert_eq!(uid, rustix::process::geteuid().as_raw()),
    }
    for line in &lines[1..=4] {
        assert!(line.ends_with("\t0000000000000000"), "{text}");
    }
    assert_eq!(lines[5], "NoNewPrivs:\t1");
    assert_eq!(lines[6..], [lines[0], lines[0], "0022", "1"], "{text}");
}

#[test]
fn dynos_of_a_root_server_are_others_than_each_other_and_get_no_further() {
    let host = host();
    let app = host.plain_app();
    if !is_root() {
        return;
    }
    let first = stays(&host, &app, "id -u;");
    let look = "id -u; ls ../../.. 2>&1; ls ../../../.. 2>&1; cat ../../../../state.db 2>&1 | head -c 100; \
                cat ../../exit.json 2>&1; ls ../.. 2>&1";
    let text = host.run(&app, &["-q", look]).finish().text();
    let mut lines = text.lines();
    let second = lines.next().unwrap();
    assert!(lines.clone().count() == 5, "{text}");
    assert!(
        lines.all(|line| line.contains("ermission denied") || line.contains("No such file")),
        "{text}"
    );
    let outcome = first.finish_input();
    assert_ne!(outcome.text().lines().next(), Some(second));
    host.wait_until_clean();
}

#[test]
fn bash_has_the_prompt_of_a_dyno() {
    let host = host();
    let app = host.plain_app();
    let terminal = Terminal::run(&host, &app, &["bash"]);
    terminal.wait_for_prompt();
    terminal.type_keys("bash\r");
    terminal.wait_for_prompt();
    terminal.type_keys("PS1='mine: '\r");
    terminal.wait_for_line("mine:");
    terminal.type_keys("exit\r");
    terminal.wait_for_prompt();
    terminal.type_keys("exit 3\r");
    terminal.exits(3);
    terminal.is_restored();
    host.wait_until_clean();
}

#[test]
fn whoever_was_left_behind_ends_with_the_dyno() {
    let host = host();
    let app = host.plain_app();
    let naps: Vec<String> = (0..4).map(own_nap).collect();
    // Another session; twice forked; without its environment; deep below one without it.
    let command = format!(
        "setsid sleep {} & (setsid sh -c 'sleep {} &' &); env -i setsid /bin/sleep {} & \
         env -i setsid /bin/sh -c '(/bin/sh -c \"/bin/sleep {} & wait\" &)' & echo up; exec cat",
        naps[0], naps[1], naps[2], naps[3]
    );
    let running = host.run(&app, &["-q", &command]).open_input().start();
    running.wait_for_output("up\n");
    let left: Vec<Process> = naps.iter().map(|nap| sleeper(nap)).collect();
    running.finish_input().succeeds();
    for process in left {
        process.wait_for_end();
    }
    host.wait_until_clean();
}

#[test]
fn a_command_that_keeps_forking_ends_with_its_dyno() {
    let host = host();
    let app = host.plain_app();
    let command = "for n in 1 2 3; do (while :; do (exec setsid sh -c '(sleep 0.01 &) ; :') & wait; done) & done; \
                   echo up; exec cat";
    let running = host.run(&app, &["-q", command]).open_input().start();
    running.wait_for_output("up\n");
    running.finish_input().succeeds();
    host.wait_until_clean();
}

#[test]
fn a_signal_to_all_reaches_every_session_and_sigkill_who_ignores_it() {
    let host = host_with(&[("DYNO_STOP_GRACE", "1")]);
    let app = host.plain_app();
    let (told, deaf) = (own_nap(10), own_nap(11));
    let command = format!(
        "setsid sh -c 'trap \"echo told; exit\" TERM; env -i /bin/sleep {told} & : >one; while :; do sleep 0.05; done' & \
         setsid sh -c 'trap \"\" TERM; : >two; exec sleep {deaf}' & trap '' TERM; \
         until [ -e one ] && [ -e two ]; do sleep 0.01; done; echo up; while :; do sleep 0.05; done"
    );
    let running = host.run(&app, &["-q", &command]).open_input().start();
    running.wait_for_output("up\n");
    let (told, deaf) = (sleeper(&told), sleeper(&deaf));
    host.dyno(&app, &["ps:stop", "run.1"]).finish().succeeds();
    running.wait_for_output("told\n");
    told.wait_for_end();
    deaf.wait_for_end();
    running.finish().exits(137);
    let r12 = "heroku[run.1]: Error R12 (Exit timeout)";
    assert!(host.log_lines().iter().any(|line| line.starts_with(r12)));
    host.wait_until_clean();
}

#[test]
fn nobody_else_is_touched() {
    let host = host();
    let app = host.plain_app();
    let other = stays(&host, &app, "");
    let dyno = dyno_folders(&host).pop().unwrap();
    let id = dyno.file_name().unwrap().to_str().unwrap().to_owned();
    let mut strangers = [
        Stranger::with(("DYNO_ID", &id[1..])),
        Stranger::with(("DYNO_ID", &format!("{id}0"))),
        Stranger::with(("MY_DYNO_ID", &id)),
        Stranger::with(("HOME", "/")),
    ];
    let second = stays(&host, &app, "sleep 1000 &");
    second.finish_input().succeeds();
    let mut third = stays(&host, &app, "sleep 1000 &");
    host.dyno(&app, &["ps:stop", "run.3"]).finish().succeeds();
    third.close_input();
    third.finish().is_ended();
    other.finish_input().succeeds();
    host.wait_until_clean();
    assert!(strangers.iter_mut().all(Stranger::is_alive));
}

#[test]
fn whatever_the_dyno_wrote_is_swept() {
    let host = host();
    let app = host.plain_app();
    let command = "mkdir -p a/b c d/e; touch a/b/f c/g d/e/h; chmod 000 a/b a; chmod 555 c; chmod 400 c/g; chmod 100 d; \
                   ln -s / root; ln -s nowhere there; mkfifo pipe; touch $TMPDIR/x; chmod 500 $TMPDIR; chmod 000 .";
    host.run(&app, &["-q", command]).finish().succeeds();
    host.wait_until_clean();
    // A dyno that takes its own folder away.
    host.run(&app, &["-q", "rm -rf \"$HOME\"; (setsid sleep 1000 &)"])
        .finish()
        .succeeds();
    host.wait_until_clean();
}

/// All that has anything to do with the one live dyno of a host.
fn processes_of(host: &Host) -> (Process, Process) {
    let supervisor = host.wait_for_supervisor();
    let init = eventually("an init", || host.inits().pop());
    (supervisor, init)
}

#[test]
fn a_killed_init_takes_the_dyno_with_it() {
    let host = host();
    let app = host.plain_app();
    let nap = own_nap(20);
    let running = stays(&host, &app, &format!("env -i setsid /bin/sleep {nap} &"));
    let (_, init) = processes_of(&host);
    let left = sleeper(&nap);
    init.signal(Signal::KILL);
    running.finish().exits(137);
    left.wait_for_end();
    host.wait_until_clean();
    host.wait_for_log("heroku[run.1]: Process exited with status 137");
}

#[test]
fn a_killed_supervisor_takes_the_dyno_with_it() {
    let host = host();
    let app = host.plain_app();
    let nap = own_nap(30);
    let running = stays(&host, &app, &format!("env -i setsid /bin/sleep {nap} &"));
    let (supervisor, _) = processes_of(&host);
    let left = sleeper(&nap);
    supervisor.signal(Signal::KILL);
    running
        .finish()
        .fails_with(125, "`run.1` was lost", "ended");
    assert!(left.ended_by(Instant::now() + Duration::from_secs(5)));
    host.wait_until_clean();
}

#[test]
fn when_all_are_killed_at_once_the_next_server_ends_whoever_is_left() {
    let host = host();
    let app = host.plain_app();
    let (marked, cleared) = (own_nap(40), own_nap(41));
    let command = format!("setsid sleep {marked} & env -i setsid /bin/sleep {cleared} &");
    let running = stays(&host, &app, &command);
    let (marked, cleared) = (sleeper(&marked), sleeper(&cleared));
    let (supervisor, init) = processes_of(&host);
    let server = host.server().unwrap();
    // None of them can do anything any more when the last is killed.
    for process in [&server, &init, &supervisor] {
        process.signal(Signal::STOP);
    }
    for process in [&server, &supervisor, &init] {
        process.signal(Signal::KILL);
        process.wait_for_end();
    }
    running.finish().exits(125);
    assert!(!marked.ended_by(Instant::now()));
    host.dyno(&app, &["apps"]).finish().succeeds();
    marked.wait_for_end();
    host.wait_until_clean();
    // Without parents and without its environment it is out of reach, as the documents say.
    assert!(!cleared.ended_by(Instant::now()));
    cleared.signal(Signal::KILL);
    cleared.wait_for_end();
}

#[test]
fn a_server_that_lives_on_sweeps_after_a_supervisor_and_its_init() {
    let host = host();
    let app = host.plain_app();
    let nap = own_nap(50);
    let running = stays(&host, &app, &format!("setsid sleep {nap} &"));
    let left = sleeper(&nap);
    let (supervisor, init) = processes_of(&host);
    init.signal(Signal::STOP);
    supervisor.signal(Signal::STOP);
    init.signal(Signal::KILL);
    supervisor.signal(Signal::KILL);
    running.finish().exits(125);
    left.wait_for_end();
    host.wait_until_clean();
}

/// A user namespace in which no other can be made, as a container's, with this user as its root.
struct Container {
    shell: Child,
}

impl Container {
    fn start() -> Self {
        let mut shell = Command::new("unshare");
        shell.args(["--user", "--map-root-user", "sh", "-c"]);
        shell
            .arg("echo 0 >/proc/sys/user/max_user_namespaces && echo there && exec cat >/dev/null");
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut word = [0; 5];
        shell
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut word)
            .unwrap();
        Self { shell }
    }

    fn dyno(&self, host: &Host, folder: &Path, args: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        let pid = self.shell.id().to_string();
        command.args(["--user", "--preserve-credentials", "--target", &pid]);
        command.arg(harness::binary()).args(args);
        command.current_dir(folder).env_clear().envs(host.env());
        command.stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[test]
fn where_there_are_no_namespaces_a_folder_is_taken_and_said_once() {
    if lacks_walls() {
        return;
    }
    if lacks("unshare") || lacks("nsenter") {
        return;
    }
    let container = Container::start();
    let host = Host::with(&[("DYNO_ISOLATION", "auto"), ("DYNO_IDLE_LINGER", "0")]);
    let app = host.folder("plain");
    let run = |args: &[&str]| {
        let output = container.dyno(&host, &app, args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let said = "dyno: isolation is tempdir";
    let (status, out, err) = run(&["run", "-q", "echo $DYNO; exit 3"]);
    assert_eq!(
        (status, out.as_str(), err.as_str()),
        (Some(3), "run.1\n", "")
    );
    let (status, _, err) = run(&["run", "true"]);
    assert_eq!(status, Some(0), "{err}");
    assert!(err.starts_with(said), "{err}");
    let (status, _, err) = run(&["run", "true"]);
    assert!(status == Some(0) && !err.contains(said), "{err}");
    assert!(host.server_log().contains("isolation is tempdir: "));

    let (status, out, _) = run(&["doctor"]);
    assert_eq!(status, Some(0));
    for text in [
        "isolation:   tempdir\n",
        "dynos are:   root, without any of its privileges\n",
        "  user namespaces     no: ",
        "max_user_namespaces is 0: as root, sysctl",
    ] {
        assert!(out.contains(text), "no {text:?} in\n{out}");
    }
    host.wait_until_clean();
    eventually("the server leaves", || {
        host.server().is_none().then_some(())
    });

    let mut insisting = host.env().clone();
    insisting.insert("DYNO_ISOLATION".into(), "namespaces".into());
    let host = Host::with(&[("DYNO_ISOLATION", "namespaces")]);
    let output = container.dyno(&host, &app, &["apps"]);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("this host allows no namespaces: "), "{err}");
}

#[test]
fn the_option_of_the_server_goes_before_the_environment() {
    let host = Host::with(&[("DYNO_ISOLATION", "namespaces")]);
    host.dyno(&host.path(), &["server", "--isolation", "best"])
        .finish()
        .fails_with(1, "`--isolation best` is not valid", "`tempdir`");
    let server = host
        .dyno(&host.path(), &["server", "--isolation", "tempdir"])
        .start();
    let status = eventually("a server that answers", || {
        host.server()?;
        let outcome = host.dyno(&host.path(), &["server:status"]).finish();
        let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
        text.contains("isolation:").then_some(text)
    });
    assert!(status.contains("isolation:    tempdir"), "{status}");
    server.signal(Signal::TERM);
    server.finish();
}

#[test]
fn ports_and_ids_of_live_dynos_are_their_own() {
    let host = host();
    let app = host.plain_app();
    let running: Vec<_> = (0..3)
        .map(|_| stays(&host, &app, "echo $PORT $(id -u) $DYNO_ID;"))
        .collect();
    let lines: Vec<String> = running
        .into_iter()
        .map(|running| running.finish_input().text())
        .collect();
    let of = |index: usize| -> BTreeSet<&str> {
        lines
            .iter()
            .filter_map(|line| line.split_whitespace().nth(index))
            .collect()
    };
    assert_eq!((of(0).len(), of(2).len()), (3, 3), "{lines:?}");
    assert_eq!(of(1).len(), if is_root() { 3 } else { 1 }, "{lines:?}");
}
