//! The server: starts by itself, leaves by itself, is killed, is in nobody's way, and cannot be started.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use crate::harness::{DEADLINE, Host, Process, binary, eventually, is_root};

/// A state folder whose server is `host`'s, but for dynos: a client that attaches to one waits for ever.
pub fn unreachable(host: &Host) -> PathBuf {
    let folder = host.path().join("unreachable");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let listener = UnixListener::bind(folder.join("api.sock")).unwrap();
    let behind = host.state().join("api.sock");
    thread::spawn(move || {
        for connection in listener.incoming() {
            let behind = behind.clone();
            thread::spawn(move || drop(relay(connection.unwrap(), &behind)));
        }
    });
    folder
}

/// Passes requests on one by one, but answers an attach by itself, and says no more.
fn relay(mut client: UnixStream, behind: &std::path::Path) -> std::io::Result<()> {
    let mut server = UnixStream::connect(behind)?;
    let (mut requests, mut answers) = (
        BufReader::new(client.try_clone()?),
        BufReader::new(server.try_clone()?),
    );
    while let Some((head, body)) = message(&mut requests)? {
        if head
            .lines()
            .next()
            .is_some_and(|line| line.contains("/attach "))
        {
            client.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: dyno-attach/1\r\n\r\n",
            )?;
            // Until the client has left.
            return client.read_to_end(&mut Vec::new()).map(drop);
        }
        server.write_all(head.as_bytes())?;
        server.write_all(&body)?;
        let Some((head, body)) = message(&mut answers)? else {
            break;
        };
        client.write_all(head.as_bytes())?;
        client.write_all(&body)?;
    }
    Ok(())
}

/// The next message's head, and its body by Content-Length.
fn message(from: &mut impl BufRead) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        head += &line;
        let field = line.to_ascii_lowercase();
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(Some((head, body)))
}

#[test]
fn it_starts_by_itself_and_leaves_when_there_is_nothing_to_do() {
    let host = Host::new();
    assert!(host.server().is_none());
    host.dyno(&host.path(), &["apps"]).finish().succeeds();
    let server = host.server().expect("a server");
    // DYNO_IDLE_LINGER is a second.
    server.wait_for_end();
    host.dyno(&host.path(), &["apps"]).finish().succeeds();
    assert_eq!(host.server_log(), "");
}

#[test]
fn it_stays_as_long_as_a_dyno_lives() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "0")]);
    let app = host.plain_app();
    let running = host.run(&app, &["-q", "echo up; cat"]).open_input().start();
    running.wait_for_output("up\n");
    let server = host.server().expect("a server");
    host.dyno(&app, &["apps"]).finish().succeeds();
    assert_eq!(host.server().map(|again| again.pid), Some(server.pid));
    running.finish_input().succeeds();
    server.wait_for_end();
    host.wait_until_clean();
}

#[test]
fn many_commands_at_once_start_one() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let here = host.path();
    let running: Vec<_> = (0..20)
        .map(|_| host.dyno(&here, &["apps"]).start())
        .collect();
    for running in running {
        running.finish().succeeds().says("");
    }
    let server = host.server().expect("a server").pid;
    // The others that were started have left again, and none in trouble.
    eventually("one server alone", || {
        (host.servers() == [server]).then_some(())
    });
    assert_eq!(host.server_log(), "");
}

#[test]
fn a_service_manager_is_told_how_it_goes() {
    let path = Host::new();
    let named = Host::new();
    let name = format!("dyno-suite-{}", std::process::id());
    let by_path = path.path().join("notify");
    let sockets = [
        (
            &path,
            by_path.to_str().unwrap().to_owned(),
            UnixDatagram::bind(&by_path).unwrap(),
        ),
        (
            &named,
            format!("@{name}"),
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
        ),
    ];
    for (host, address, socket) in sockets {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let heard = || loop {
            let mut buffer = [0; 256];
            let length = socket.recv(&mut buffer).expect("a word of the server");
            let word = String::from_utf8_lossy(&buffer[..length]).into_owned();
            // What it is to keep for the next server is `upgrade`'s to test.
            if !word.starts_with("FDSTORE") {
                return word;
            }
        };
        let here = host.path();
        let server = host
            .dyno(&here, &["server"])
            .env("NOTIFY_SOCKET", &address)
            .start();
        assert_eq!(heard(), "READY=1");
        // From that word on it can be used.
        UnixStream::connect(host.state().join("api.sock")).unwrap();
        assert_eq!(heard(), "STATUS=dynos alive: 0");
        let app = host.plain_app();
        let running = host.run(&app, &["-q", "echo up; cat"]).open_input().start();
        running.wait_for_output("up\n");
        assert_eq!(heard(), "STATUS=dynos alive: 1");
        server.signal(Signal::TERM);
        assert_eq!(heard(), "STOPPING=1");
        // The dyno's supervisor writes to the same standard error.
        running.finish_input().succeeds();
        server.finish().succeeds();
    }
}

#[test]
fn a_closed_terminal_stops_it_in_order_unless_nohup_was_said() {
    for (before, signal, stops) in [
        ("", Signal::HUP, true),
        ("", Signal::INT, true),
        ("trap '' HUP; ", Signal::HUP, false),
        ("trap '' INT; ", Signal::INT, false),
    ] {
        let host = Host::new();
        let script = format!("{before}exec \"$0\" server");
        // Whatever started the tests may itself ignore these.
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP,INT", "/bin/sh", "-c", &script]);
        command.arg(binary());
        command
            .current_dir(host.path())
            .env_clear()
            .envs(host.env());
        let mut child = command.spawn().unwrap();
        let server = Process::find(child.id() as i32).unwrap();
        eventually("its answer", || {
            let told = host.dyno(&host.path(), &["server:status"]).finish();
            told.text().contains("running").then_some(())
        });
        server.signal(signal);
        if !stops {
            host.dyno(&host.path(), &["apps"]).finish().succeeds();
            assert_eq!(host.server().map(|it| it.pid), Some(server.pid));
            server.signal(Signal::TERM);
        }
        server.wait_for_end();
        assert!(child.wait().unwrap().success(), "{before}{signal:?}");
    }
}

#[test]
fn a_pipe_session_goes_on_when_it_is_killed() {
    let host = Host::new();
    let app = host.plain_app();
    let mut running = host
        .run(&app, &["-q", "echo up; cat; echo err >&2; exit 42"])
        .open_input()
        .start();
    running.wait_for_output("up\n");
    host.kill_server();
    running.write("after the server\n");
    running.wait_for_output("after the server\n");
    running
        .finish_input()
        .exits(42)
        .prints("up\nafter the server\n")
        .says("err\n");
    // The log tells the end though there was no server.
    host.wait_for_log("heroku[run.1]: Process exited with status 42");
    host.run(&app, &["-q", "echo $DYNO"])
        .finish()
        .prints("run.2\n");
    host.wait_until_clean();
}

#[test]
fn the_next_one_takes_up_what_a_killed_one_left() {
    let host = Host::new();
    let app = host.plain_app();
    let running = host
        .run(&app, &["-q", "echo up; cat; exit 7"])
        .open_input()
        .start();
    running.wait_for_output("up\n");
    host.kill_server();
    let info = host.dyno(&app, &["apps:info"]).finish().succeeds().text();
    assert!(info.contains("Dynos:          run.1 up\n"), "{info}");
    host.dyno(&app, &["apps:destroy", "--confirm", "plain"])
        .finish()
        .succeeds();
    running.finish().is_ended();
    host.wait_until_clean();
}

#[test]
fn it_ends_at_sigterm_and_dynos_go_on() {
    let host = Host::new();
    let app = host.plain_app();
    let mut running = host
        .run(&app, &["-q", "echo up; cat; exit 8"])
        .open_input()
        .start();
    running.wait_for_output("up\n");
    let server = host.server().unwrap();
    server.signal(Signal::TERM);
    server.wait_for_end();
    running.write("on\n");
    running.wait_for_output("on\n");
    running.finish_input().exits(8);
    host.run(&app, &["-q", "true"]).finish().succeeds();
    host.wait_until_clean();
}

#[test]
fn it_runs_in_the_foreground_once() {
    let host = Host::new();
    let here = host.path();
    let server = host.dyno(&here, &["server"]).start();
    eventually("its socket", || {
        UnixStream::connect(host.state().join("api.sock")).ok()
    });
    host.dyno(&here, &["apps"]).finish().succeeds();
    assert_eq!(
        host.server().map(|known| known.pid),
        Some(server.process.pid)
    );
    host.dyno(&here, &["server"])
        .finish()
        .fails_with(1, &server.process.pid.to_string(), "");
    server.signal(Signal::TERM);
    server.finish().succeeds();
}

#[test]
fn a_stale_socket_is_in_nobodys_way() {
    let host = Host::new();
    drop(UnixListener::bind(host.state().join("api.sock")).unwrap());
    fs::write(host.state().join("server.lock"), "1\n").unwrap();
    host.dyno(&host.path(), &["apps"]).finish().succeeds();
}

#[test]
fn a_long_state_path_is_no_trouble() {
    let mut host = Host::new();
    let state = host.path().join("long-".repeat(30));
    fs::create_dir(&state).unwrap();
    host.set("DYNO_HOME", &state);
    let app = host.plain_app();
    host.run(&app, &["-q", "echo fine"])
        .finish()
        .succeeds()
        .prints("fine\n");
    host.wait_until_clean();
}

#[test]
fn a_lock_held_by_somebody_who_does_not_answer_is_told() {
    let host = Host::new();
    let mut lock = File::create(host.state().join("server.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    writeln!(lock, "{}", std::process::id()).unwrap();
    let holder = format!("process {} holds", std::process::id());
    host.dyno(&host.path(), &["apps"])
        .finish()
        .fails_with(1, &holder, "server.log");
    // The file must not be taken for a server's own.
    drop(lock);
    fs::remove_file(host.state().join("server.lock")).unwrap();
}

#[test]
fn a_server_that_hangs_is_told_with_its_process() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = host.plain_app();
    let server = host.server().unwrap();
    server.signal(Signal::STOP);
    let outcome = host.run(&app, &["true"]).finish();
    server.signal(Signal::CONT);
    outcome.fails_with(125, &format!("process {} holds", server.pid), "kill");
}

#[test]
fn a_state_folder_of_somebody_else_is_refused() {
    let mut host = Host::new();
    if is_root() {
        let state = host.state();
        std::os::unix::fs::chown(&state, Some(12_345), Some(12_345)).unwrap();
    } else {
        host.set("DYNO_HOME", "/usr");
    }
    let here = host.path();
    host.dyno(&here, &["apps"])
        .finish()
        .fails_with(1, "belongs to another user", "DYNO_HOME");
    host.dyno(&here, &["run", "true"]).finish().fails_with(
        125,
        "belongs to another user",
        "DYNO_HOME",
    );
}

#[test]
fn a_state_folder_that_cannot_be_made_is_told() {
    let mut host = Host::new();
    host.set("DYNO_HOME", "/proc/no-such-folder/state");
    host.dyno(&host.path(), &["apps"])
        .finish()
        .fails_with(1, "/proc/no-such-folder", "DYNO_HOME");
    let file = host.path().join("file");
    fs::write(&file, "").unwrap();
    host.set("DYNO_HOME", &file);
    host.dyno(&host.path(), &["apps"])
        .finish()
        .fails_with(1, file.to_str().unwrap(), "DYNO_HOME");
}

#[test]
fn a_state_that_is_no_database_is_told_with_the_log() {
    let host = Host::new();
    fs::write(
        host.state().join("state.db"),
        "this is no database, I am afraid".repeat(100),
    )
    .unwrap();
    host.dyno(&host.path(), &["apps"]).finish().fails_with(
        1,
        "the server did not start",
        "server.log",
    );
}

#[test]
fn a_wide_open_state_folder_is_closed() {
    let host = Host::new();
    fs::set_permissions(host.state(), fs::Permissions::from_mode(0o777)).unwrap();
    host.dyno(&host.path(), &["apps"]).finish().succeeds();
    let mode = fs::metadata(host.state()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, host.state_mode());
}
