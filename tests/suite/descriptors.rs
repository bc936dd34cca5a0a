//! Descriptors: the server raises its limit, its dynos do not see that, and with few of them it waits and refuses in
//! words rather than to fail in the middle of something.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use rustix::process::Signal;

use crate::harness::{Host, Process, binary, eventually};

/// Shell text that ends in the server, with this `ulimit` before.
fn server(host: &Host, ulimit: &str) -> Child {
    let mut command = Command::new("/bin/sh");
    let script = format!("ulimit {ulimit} && exec \"$0\" server");
    command.args(["-c", &script]).arg(binary());
    command.current_dir(host.path()).env_clear();
    command.envs(host.env()).spawn().unwrap()
}

fn wait_until_it_answers(host: &Host) {
    eventually("its answer", || {
        let told = host.dyno(&host.path(), &["server:status"]).finish();
        told.text().contains("running").then_some(())
    });
}

fn stop(mut server: Child) {
    let process = Process::find(server.id() as i32).unwrap();
    process.signal(Signal::TERM);
    process.wait_for_end();
    assert!(server.wait().unwrap().success());
}

/// Soft and hard limit of a shell as `ulimit` prints them.
fn limits(text: &str) -> (String, String) {
    let mut lines = text.lines().map(str::to_owned);
    (lines.next().unwrap(), lines.next().unwrap())
}

#[test]
fn commands_have_the_limit_that_the_server_was_started_with() {
    let host = Host::new();
    let server = server(&host, "-Sn 200");
    wait_until_it_answers(&host);
    let app = host.plain_app();
    let running = host
        .run(&app, &["-q", "ulimit -Sn; ulimit -Hn; cat"])
        .open_input()
        .start();
    running.wait_for_output("200\n");
    // The same inside, for another command.
    let inside = host.dyno(&app, &["run:inside", "run.1", "ulimit -Sn; ulimit -Hn"]);
    let (soft, hard) = limits(&inside.finish().succeeds().text());
    assert_eq!(soft, "200");
    assert_ne!(hard, "200");

    let shown = host
        .dyno(&app, &["server:status", "--json"])
        .finish()
        .succeeds()
        .text();
    let status: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let all = status["max_descriptors"].as_u64().unwrap();
    // Processes of dynos may raise theirs to half of what the server may have.
    assert_eq!(hard, (all / 2).to_string());
    // A supervisor's is the hard one: by it the kernel says whether it may pass a descriptor on while others are under way.
    let supervisor = host.wait_for_supervisor();
    let of_supervisor = fs::read_to_string(format!("/proc/{}/limits", supervisor.pid)).unwrap();
    let open_files = of_supervisor
        .lines()
        .find(|line| line.starts_with("Max open files"));
    assert!(
        open_files.is_some_and(|line| line.matches(&format!(" {all} ")).count() == 2),
        "{of_supervisor}"
    );
    running.finish_input().succeeds();
    host.wait_until_clean();
    stop(server);
}

/// With 96 descriptors the server has clients use 5 and dynos 17 of them, if there is no router.
const FEW: &str = "-n 96";

#[test]
fn dynos_beyond_the_servers_descriptors_are_refused() {
    let host = Host::with(&[("DYNO_STOP_GRACE", "5"), ("DYNO_ROUTER", "off")]);
    let server = server(&host, FEW);
    wait_until_it_answers(&host);
    let app = host.plain_app();
    for _ in 0..17 {
        host.dyno(&app, &["run:detached", "-q", "sleep 1000"])
            .finish()
            .succeeds();
    }
    host.dyno(&app, &["run:detached", "sleep 1000"])
        .finish()
        .fails_with(125, "17 dynos are alive", "LimitNOFILE");
    // All else goes on, and there is room again when one has ended.
    host.dyno(&app, &["run:inside", "run.3", "true"])
        .finish()
        .succeeds();
    host.dyno(&app, &["ps:stop", "run.1"]).finish().succeeds();
    host.run(&app, &["-q", "echo room"])
        .finish()
        .succeeds()
        .prints("room\n");
    host.dyno(&app, &["server:stop", "--all"])
        .finish()
        .succeeds();
    let mut server = server;
    assert!(server.wait().unwrap().success());
    host.wait_until_clean();
}

#[test]
fn clients_beyond_the_servers_descriptors_wait() {
    let host = Host::new();
    let server = server(&host, FEW);
    wait_until_it_answers(&host);
    let connect = || {
        let mut socket = UnixStream::connect(host.state().join("api.sock")).unwrap();
        socket
            .write_all(b"GET /server HTTP/1.1\r\nHost: dyno\r\n\r\n")
            .unwrap();
        socket
    };
    let answered = |socket: &mut UnixStream, patience: Duration| {
        socket.set_read_timeout(Some(patience)).unwrap();
        match socket.read(&mut [0; 1024]) {
            Ok(length) => length > 0,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        }
    };
    let long = Duration::from_secs(30);
    let mut clients: Vec<_> = (0..5).map(|_| connect()).collect();
    assert!(clients.iter_mut().all(|client| answered(client, long)));
    let mut sixth = connect();
    // That nothing happens can only be seen by waiting a little.
    assert!(!answered(&mut sixth, Duration::from_millis(300)));
    clients.pop();
    assert!(answered(&mut sixth, long));
    drop((clients, sixth));
    stop(server);
}

#[test]
fn a_server_with_too_few_to_work_with_says_so() {
    let host = Host::new();
    let mut server = Command::new("/bin/sh");
    server
        .args(["-c", "ulimit -n 50 && exec \"$0\" server"])
        .arg(binary());
    let output = server.env_clear().envs(host.env()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors.contains("may have 50 files open, and needs 96"),
        "{errors}"
    );
    assert!(errors.contains("hint: `ulimit -Hn`"), "{errors}");

    // The same when a command starts it.
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "ulimit -n 50 && exec \"$0\" apps"])
        .arg(binary());
    let output = command.env_clear().envs(host.env()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("did not start: the server may have 50 files open"),
        "{errors}"
    );
    assert_eq!(errors.matches("hint: ").count(), 1, "{errors}");
}

#[test]
fn no_dyno_is_given_up_for_want_of_descriptors() {
    let host = Host::new();
    let dynos = host.state().join("dynos");
    fs::create_dir(&dynos).unwrap();
    fs::write(host.state().join("server.log"), "").unwrap();
    // Supervisors of dynos that live: it takes a while until they say a word.
    let listening: Vec<_> = (0..120)
        .map(|number| {
            let folder = dynos.join(number.to_string());
            fs::create_dir(&folder).unwrap();
            let lock = fs::File::create(folder.join("lock")).unwrap();
            flock(&lock, FlockOperation::LockExclusive).unwrap();
            (lock, listen_at(&folder.join("sock")))
        })
        .collect();
    let mut server = Command::new("/bin/sh");
    server
        .args(["-c", "ulimit -n 96 && exec \"$0\" server"])
        .arg(binary());
    let output = server.env_clear().envs(host.env()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("cannot take up more than"), "{errors}");
    assert_eq!(fs::read_dir(&dynos).unwrap().count(), listening.len());
}

fn listen_at(path: &Path) -> std::os::fd::OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&socket, 4).unwrap();
    socket
}
