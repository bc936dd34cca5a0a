//! Another build takes over, or the server stops: nobody who comes meanwhile is refused, or cut off.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{AtEnd, DEADLINE, Host, binary, eventually, own_router};
use crate::routing::{router, shop};

/// A program of the tested one's version whose sources were changed so many seconds later; with 0 a copy.
pub fn build(host: &Host, later: u64) -> PathBuf {
    const MARK: &[u8] = b"dyno-built-at=";
    // The note: the lengths of its name and of the hash, its type, its name.
    const NOTE: &[u8] = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
    let mut bytes = fs::read(binary()).unwrap();
    let places = |mark: &[u8]| -> Vec<usize> {
        let found = memchr::memmem::find_iter(&bytes, mark);
        found.map(|at| at + mark.len()).collect()
    };
    let (times, notes) = (places(MARK), places(NOTE));
    assert!(notes.len() == 1, "{notes:?}");
    if later > 0 {
        let mut changed = 0;
        for at in times {
            let digits = &mut bytes[at..at + 12];
            if let Some(time) = str::from_utf8(digits)
                .ok()
                .and_then(|digits| digits.parse::<u64>().ok())
            {
                digits.copy_from_slice(format!("{:012}", time + later).as_bytes());
                changed += 1;
            }
        }
        assert!(changed > 0);
        for byte in &mut bytes[notes[0]..notes[0] + 8] {
            *byte = byte.wrapping_add(later as u8);
        }
    }
    let program = host.path().join(format!("dyno-{later}"));
    // By a process of its own: a descriptor of ours, open for writing, would for a moment be every program's that another
    // test is just starting, and as long as anybody has one, the copy is busy and cannot be run.
    let mut copy = Command::new("sh");
    copy.args(["-c", r#"cat >"$0" && chmod 755 "$0""#]);
    let mut copy = copy.arg(&program).stdin(Stdio::piped()).spawn().unwrap();
    copy.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(copy.wait().unwrap().success());
    program
}

fn server_pid(host: &Host) -> i64 {
    let status = host
        .dyno(&host.path(), &["server:status", "--json"])
        .finish();
    let status: Value = serde_json::from_str(&status.succeeds().text()).unwrap();
    status["pid"].as_i64().unwrap()
}

/// Visitors who ask as fast as they are answered.
#[derive(Default)]
struct Visitors {
    stop: AtomicBool,
    answered: AtomicUsize,
    /// Had no connection, and knew it.
    refused: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

/// How an answer ended.
enum Ended {
    Open(BufReader<TcpStream>),
    Closed,
}

fn ask(mut connection: BufReader<TcpStream>) -> Result<Ended, String> {
    let request = b"GET /dyno HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    let failed = |error: std::io::Error| error.to_string();
    connection.get_mut().write_all(request).map_err(failed)?;
    let (mut head, mut length, mut open) = (String::new(), 0, true);
    while !head.ends_with("\r\n\r\n") {
        let mut line = String::new();
        if connection.read_line(&mut line).map_err(failed)? == 0 {
            return Err(format!("the end after {head:?}"));
        }
        let field = line.to_ascii_lowercase();
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        open &= field.trim_end() != "connection: close";
        head += &line;
    }
    connection
        .read_exact(&mut vec![0; length])
        .map_err(failed)?;
    match (head.starts_with("HTTP/1.1 200 "), open) {
        (true, true) => Ok(Ended::Open(connection)),
        (true, false) => Ok(Ended::Closed),
        (false, _) => Err(head),
    }
}

impl Visitors {
    fn come(&self, router: SocketAddr, keep: bool) {
        let mut kept = None;
        while !self.stop.load(Ordering::SeqCst) {
            let connection = match kept.take() {
                Some(open) => open,
                None => match TcpStream::connect(router) {
                    Ok(stream) => {
                        stream.set_read_timeout(Some(DEADLINE)).unwrap();
                        BufReader::new(stream)
                    }
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                        self.refused.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        continue;
                    }
                    Err(error) => {
                        self.wrong.lock().unwrap().push(error.to_string());
                        continue;
                    }
                },
            };
            match ask(connection) {
                Ok(ended) => {
                    self.answered.fetch_add(1, Ordering::SeqCst);
                    if let (Ended::Open(open), true) = (ended, keep) {
                        kept = Some(open);
                    }
                }
                Err(error) => self.wrong.lock().unwrap().push(error),
            }
        }
    }

    fn wait_for(&self, more: usize) {
        let wanted = self.answered.load(Ordering::SeqCst) + more;
        eventually("more answers", || {
            (self.answered.load(Ordering::SeqCst) >= wanted).then_some(())
        });
    }

    /// Lets some of each kind come while `change` happens.
    fn while_they_come(router: SocketAddr, change: impl FnOnce(&Self)) -> Self {
        let visitors = Self::default();
        thread::scope(|scope| {
            let _over = AtEnd(|| visitors.stop.store(true, Ordering::SeqCst));
            for number in 0..6 {
                let visitors = &visitors;
                scope.spawn(move || visitors.come(router, number % 2 == 0));
            }
            change(&visitors);
        });
        let wrong = visitors.wrong.lock().unwrap();
        assert!(
            wrong.is_empty(),
            "{} of {:?}: {wrong:?}",
            wrong.len(),
            visitors.answered
        );
        drop(wrong);
        visitors
    }
}

/// The web dyno noticed nothing of what happened to servers.
#[track_caller]
fn web_was_started_once(host: &Host) {
    let log = host.log_lines();
    let starts = log
        .iter()
        .filter(|line| line.starts_with("heroku[web.1]: Starting process"));
    assert_eq!(starts.count(), 1);
}

#[test]
fn a_copy_of_the_program_is_the_same_build() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let (program, copy) = (host.program(), build(&host, 0));
    host.dyno(&host.path(), &["apps"]).finish().succeeds();
    let pid = server_pid(&host);
    for program in [&copy, &program, &copy] {
        host.set_program(program);
        host.dyno(&host.path(), &["apps"])
            .finish()
            .succeeds()
            .says("");
        assert_eq!(server_pid(&host), pid);
    }
}

#[test]
fn a_newer_build_takes_over_under_load_and_refuses_nobody() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60"), ("DYNO_ROUTER", &own_router())]);
    let app = shop(&host, "web");
    let address = router(&host);
    let oldest = host.program();
    let newer: Vec<PathBuf> = [100, 200].map(|later| build(&host, later)).into();
    let mut pid = server_pid(&host);
    // Before, after and between two upgrades; `DYNO_TEST_VISITORS=10000` is how the figure of docs/server.md was made.
    let all = std::env::var("DYNO_TEST_VISITORS").ok();
    let all: usize = all.and_then(|all| all.parse().ok()).unwrap_or(250);
    let each = all.div_ceil(5);
    let visitors = Visitors::while_they_come(address, |visitors| {
        for program in &newer {
            visitors.wait_for(each);
            host.set_program(program);
            let says = "has made room for one of this build";
            host.dyno(&app, &["ps"]).finish().succeeds().mentions(says);
            let next = server_pid(&host);
            assert_ne!(next, pid);
            pid = next;
            visitors.wait_for(each);
            // An older one goes on with it, as often as it likes.
            for program in [&oldest, program] {
                host.set_program(program);
                host.dyno(&app, &["ps"]).finish().succeeds().says("");
                assert_eq!(server_pid(&host), pid);
            }
        }
        visitors.wait_for(each);
    });
    assert_eq!(visitors.refused.load(Ordering::SeqCst), 0);
    assert_eq!(router(&host), address);
    host.set_program(&oldest);
    let status = host.dyno(&app, &["server:status"]).finish();
    assert!(
        status
            .text()
            .contains(", of a newer build than this command\n"),
        "{}",
        status.text()
    );
    web_was_started_once(&host);
}

#[test]
fn a_session_on_a_pipe_goes_on_while_a_newer_build_takes_over() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let (app, newer) = (host.plain_app(), build(&host, 100));
    let mut running = host.run(&app, &["-q", "echo up; cat"]).open_input().start();
    running.wait_for_output("up\n");
    let pid = server_pid(&host);
    host.set_program(&newer);
    host.dyno(&app, &["ps"]).finish().succeeds();
    assert_ne!(server_pid(&host), pid);
    running.write("more\n");
    running.wait_for_output("more\n");
    running.finish_input().succeeds();
}

#[test]
fn a_server_in_the_foreground_takes_over_from_one_of_a_command_and_refuses_nobody() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60"), ("DYNO_ROUTER", &own_router())]);
    let app = shop(&host, "web");
    let address = router(&host);
    let before = server_pid(&host);
    let visitors = Visitors::while_they_come(address, |visitors| {
        visitors.wait_for(50);
        let server = host.dyno(&app, &["server"]).start();
        server.wait_for_errors(&format!(
            "the server that a command had started (process {before}) has made room for this one; its dynos go on\n"
        ));
        server.wait_for_errors(&format!(
            "the server (process {}) serves `{}`, web dynos at http://{address}\n",
            server.process.pid,
            host.state().display()
        ));
        visitors.wait_for(50);
        assert_eq!(server_pid(&host), i64::from(server.process.pid));
        // That one stays.
        host.dyno(&app, &["server"]).finish().fails_with(
            1,
            &format!(
                "a server (process {}) already runs for `{}`",
                server.process.pid,
                host.state().display()
            ),
            "`dyno server:stop` ends it; its dynos go on",
        );
        visitors.wait_for(50);
        server.signal(rustix::process::Signal::TERM);
        server.finish().succeeds();
        host.dyno(&app, &["ps"]).finish().succeeds();
        visitors.wait_for(50);
    });
    assert!(visitors.answered.load(Ordering::SeqCst) >= 200);
    web_was_started_once(&host);
}

#[test]
fn a_server_in_the_foreground_does_not_send_a_newer_build_away() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let (oldest, newer) = (host.program(), build(&host, 100));
    host.set_program(&newer);
    host.dyno(&host.path(), &["apps"]).finish().succeeds();
    host.set_program(&oldest);
    host.dyno(&host.path(), &["server"]).finish().fails_with(
        1,
        "a server of a newer build (process ",
        "`dyno server:stop` ends it",
    );
}

#[test]
fn a_server_that_stops_under_load_answers_those_who_have_a_connection() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60"), ("DYNO_ROUTER", &own_router())]);
    let app = shop(&host, "web");
    let address = router(&host);
    Visitors::while_they_come(address, |visitors| {
        for _ in 0..3 {
            visitors.wait_for(50);
            host.dyno(&app, &["server:stop"]).finish().succeeds();
            host.dyno(&app, &["ps"]).finish().succeeds();
            assert_eq!(router(&host), address);
            visitors.wait_for(50);
        }
    });
}

#[test]
fn visitors_wait_while_a_service_manager_starts_it_again() {
    let host = Host::new();
    let folder = host.path();
    let script = folder.join("service_manager.py");
    fs::write(&script, include_str!("../fixtures/service_manager.py")).unwrap();
    let mut manager = Command::new("python3")
        .arg(script)
        .arg(folder.join("notify"))
        .arg(host.program())
        .arg("server")
        .env_clear()
        .envs(host.env())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ask_it = manager.stdin.take().unwrap();
    let mut told = BufReader::new(manager.stdout.take().unwrap());
    let mut hear = || {
        let mut line = String::new();
        told.read_line(&mut line).unwrap();
        line
    };
    assert_eq!(hear(), "started\n");
    shop(&host, "web");
    let address = router(&host);
    let pid = server_pid(&host);
    let visitors = Visitors::while_they_come(address, |visitors| {
        visitors.wait_for(50);
        ask_it.write_all(b"\n").unwrap();
        assert_eq!(hear(), "stopped\n");
        // A command waits for the next one, too, and starts none.
        thread::scope(|scope| {
            let waits = scope.spawn(|| host.dyno(&folder, &["apps"]).finish().succeeds().text());
            ask_it.write_all(b"\n").unwrap();
            assert_eq!(hear(), "started\n");
            assert!(waits.join().unwrap().contains("shop"));
        });
        visitors.wait_for(50);
    });
    assert_eq!(visitors.refused.load(Ordering::SeqCst), 0);
    assert_eq!(router(&host), address);
    assert_ne!(server_pid(&host), pid);
    host.dyno(&folder, &["apps:destroy", "shop", "--confirm", "shop"])
        .finish();
    drop(ask_it);
    let patience = Duration::from_secs(60);
    let deadline = std::time::Instant::now() + patience;
    while manager.try_wait().unwrap().is_none() {
        assert!(std::time::Instant::now() < deadline);
        thread::park_timeout(Duration::from_millis(10));
    }
}
