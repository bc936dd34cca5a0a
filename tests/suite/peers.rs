//! Who may use the sockets of server and supervisors: no process of a dyno may, although to the host a dyno of an ordinary
//! user's server is that user, and may reach a socket that lies in a folder it is shown.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::harness::{Host, STARTING, is_root, lacks, leave_out};

/// Asks for the apps at each API socket that it is given, and opens each socket of a supervisor.
const ASKS: &str = r#"
import glob, socket, sys
for path in glob.glob(sys.argv[1] + "/api.sock"):
    s = socket.socket(socket.AF_UNIX)
    try:
        s.connect(path); s.settimeout(5)
        s.sendall(b"GET /apps HTTP/1.1\r\nHost: x\r\nAccept: application/vnd.heroku+json; version=3\r\nConnection: close\r\n\r\n")
    except OSError as error: print("api", error, flush=True)
    try: print("api", s.recv(4000).split(b"\r\n")[0].decode() or "hung up", flush=True)
    except OSError as error: print("api", error, flush=True)
for path in glob.glob(sys.argv[1] + "/dynos/*/sock"):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try: s.connect(path); s.settimeout(5); print("supervisor", s.recv(4000).decode()[:20] or "hung up", flush=True)
    except OSError as error: print("supervisor", error, flush=True)
print("asked", flush=True)
"#;

#[test]
fn a_dyno_that_sees_a_state_folder_is_let_in_at_none_of_its_sockets() {
    if lacks("python3") {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    if host.in_folders() {
        return leave_out("without walls, a dyno reaches what its user may");
    }
    let folder = host.folder_of(
        "evil",
        &[
            ("Procfile", "job: python3 asks.py /app/state; sleep 1000\n"),
            ("asks.py", ASKS),
        ],
    );
    // Another server's state, below the folder of a `dyno start`.
    let mut other = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let state = folder.join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    other.set("DYNO_HOME", &state);
    let app = other.plain_app();
    other
        .dyno(&app, &["run:detached", "sleep 1000"])
        .finish()
        .succeeds();
    other.wait_for_log("heroku[run.1]: State changed from starting to up");
    let start = host.dyno(&folder, &["start"]).start();
    host.wait_for_log("app[job.1]: asked");
    let lines = host.log_lines();
    let said = |what: &str| -> Vec<&str> {
        let begin = format!("app[job.1]: {what} ");
        lines
            .iter()
            .filter_map(|line| line.strip_prefix(&begin))
            .collect()
    };
    let (api, supervisor) = (said("api"), said("supervisor"));
    // As root the folder's mode keeps the dyno out already.
    if !is_root() {
        assert_eq!(api.last(), Some(&"HTTP/1.1 403 Forbidden"), "{lines:#?}");
        assert!(!supervisor.is_empty(), "{lines:#?}");
    }
    assert!(!api.iter().any(|it| it.contains(" 200 ")), "{lines:#?}");
    assert!(
        !supervisor.iter().any(|it| it.starts_with('{')),
        "{lines:#?}"
    );
    start.signal(rustix::process::Signal::INT);
    start.finish();
}

#[test]
fn a_folder_that_has_the_servers_own_state_in_it_is_not_shown_to_a_dyno() {
    let mut host = Host::new();
    let folder = host.folder_of("above", &[("Procfile", "job: ls -a /app/.dyno\n")]);
    let state = folder.join(".dyno");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    host.set("DYNO_HOME", &state);
    // As it is, and by way of a link that leads to it.
    let link = host.path().join("link");
    std::os::unix::fs::symlink(&folder, &link).unwrap();
    for folder in [&folder, &link] {
        host.dyno(folder, &["start"]).finish().fails_with(
            1,
            "the state folder is inside of `",
            "set DYNO_HOME to a folder outside",
        );
    }
    host.dyno(&folder, &["deploy"])
        .finish()
        .mentions("is inside of the app's folder");
}

#[test]
fn a_process_of_another_user_namespace_is_told_to_come_over_tcp() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    host.dyno(&host.path(), &["apps"]).finish().succeeds();
    let output = {
        let _starting = STARTING.read().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-current-user", "--"]);
        command.arg(host.program()).arg("apps");
        command.env_clear().envs(host.env());
        command.output().unwrap()
    };
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if errors.contains("unshare failed") || errors.contains("unshare: ") {
        return leave_out("this host lets this user make no user namespace");
    }
    assert!(!output.status.success());
    assert!(
        errors.contains("processes of another user namespace")
            && errors.contains("dyno auth:token"),
        "{errors}"
    );
}
