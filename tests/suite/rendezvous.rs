//! Heroku's CLI and its dyno meet: the bytes that it sends and reads, the ways in which it leaves, and those who should not
//! have come.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api_tcp::address_of_its_own;
use super::harness::{DEADLINE, Host, eventually, lacks};
use super::heroku_client::{
    END, GREETING, HerokuClient, ask_for, asking_for_status, config, marker, no_window, parts,
    window, wish,
};

const DYNOS: &str = "/apps/plain/dynos";

/// A host with a rendezvous, an app, and the server that has both.
struct Meeting {
    host: Host,
}

impl Meeting {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(settings: &[(&str, &str)]) -> Self {
        let settings = [&[("DYNO_RENDEZVOUS", "127.0.0.1:0")], settings].concat();
        let host = Host::with(&settings);
        host.plain_app();
        Self { host }
    }

    fn url(&self, wish: &Value) -> String {
        ask_for(&self.host, DYNOS, wish)
    }

    fn meet(&self, wish: &Value) -> HerokuClient {
        HerokuClient::meet(&config(&self.host), &self.url(wish))
    }

    fn port(&self) -> u16 {
        parts(&self.url(&wish("true", no_window()))).0
    }

    fn ended(&self, dyno: &str, status: u8) {
        self.host.wait_for_log(&format!(
            "heroku[{dyno}]: Process exited with status {status}"
        ));
    }
}

#[test]
fn a_command_with_pipes_gets_its_input_and_its_outputs_come_in_order() {
    let meeting = Meeting::new();
    let mut client = meeting.meet(&wish(
        "cat; echo one; echo two >&2; echo three",
        no_window(),
    ));
    client.say(b"line1\n");
    client.say("grün\0\x04\n".as_bytes());
    client.say(END);
    let chunks = client.chunks();
    assert_eq!(chunks[0], GREETING);
    let output = String::from_utf8(chunks[1..].concat()).unwrap();
    assert_eq!(output, "line1\ngrün\0\x04\none\ntwo\nthree\n");
    meeting.ended("run.1", 0);
    meeting.host.wait_until_clean();
}

/// Whether `tty` says that there is one: the first of the dyno's own, behind walls.
fn is_terminal(line: &str) -> bool {
    line.starts_with("/dev/pts/") && line.ends_with("\r\n")
}

#[test]
fn no_tty_means_pipes_whatever_the_window_and_a_window_means_a_terminal() {
    let meeting = Meeting::new();
    let mut wish = wish("tty; stty size", window());
    let output = meeting.meet(&wish).output();
    assert!(
        is_terminal(output.strip_suffix("30 100\r\n").unwrap()),
        "{output}"
    );
    wish["force_no_tty"] = true.into();
    wish["command"] = "tty; echo \"[$COLUMNS]\"".into();
    let mut client = meeting.meet(&wish);
    client.say(END);
    assert_eq!(client.output(), "not a tty\n[100]\n");
}

#[test]
fn a_shell_at_a_terminal_takes_keys() {
    let meeting = Meeting::new();
    let mut client = meeting.meet(&wish("bash --norc", window()));
    assert_eq!(client.chunk().unwrap(), GREETING);
    client.read_until("$ ");
    // What is typed before the shell has given the terminal up would be the shell's.
    client.say(b"echo re''ady; cat\r");
    client.read_until("ready\r\n");
    client.say(b"abc\r");
    client.read_until("abc\r\nabc\r\n");
    client.say(b"\x03");
    client.read_until("$ ");
    client.say(b"echo \"[$?]\"\r");
    // A key that comes before the shell reads keys again would be the terminal's.
    if !client.read_until("[130]\r\n").ends_with("$ ") {
        client.read_until("$ ");
    }
    client.say(b"\x04");
    let end = client.chunks().concat();
    assert!(String::from_utf8_lossy(&end).contains("exit"));
    meeting.ended("run.1", 0);
}

#[test]
fn the_exit_status_is_told_in_a_record_of_its_own_however_the_command_ends() {
    let meeting = Meeting::new();
    for (command, status, output) in [
        ("printf partial", 0, "partial"),
        ("echo a; exit 7", 7, "a\n"),
        ("kill -9 $$", 137, ""),
        ("echo \"", 2, "unexpected EOF"),
        ("no-such-program", 127, "not found"),
        ("nothing 42", 0, ""),
    ] {
        for env in [window(), no_window()] {
            let client = meeting.meet(&wish(&asking_for_status(command), env));
            let chunks = client.chunks();
            let (last, before) = chunks.split_last().unwrap();
            assert_eq!(*last, marker(status), "{command}");
            let before = String::from_utf8_lossy(&before.concat()).replace('\r', "");
            assert!(before.contains(output), "{command}: {before}");
        }
    }
    // What a person sees of it is the command as it was typed.
    let log = meeting.host.log_lines();
    let typed = "app[api]: Starting process with command `echo a; exit 7` by user dyno@localhost";
    assert!(log.iter().any(|line| line == typed), "{log:?}");
    assert!(!log.iter().any(|line| line.contains("heroku-command")));
}

#[test]
fn a_process_type_is_found_before_what_asks_for_the_status() {
    let host = Host::with(&[("DYNO_RENDEZVOUS", "127.0.0.1:0")]);
    let app = host.folder_of("typed", &[("Procfile", "worker: printf '[%s]'\n")]);
    host.dyno(&app, &["deploy", "--no-web"]).finish().succeeds();
    let wish = wish(&asking_for_status("worker 42"), no_window());
    let (status, body) = host.request("POST", "/apps/typed/dynos", &wish);
    assert_eq!(status, 201, "{body}");
    let dyno: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(dyno["command"], "worker 42");
    let client = HerokuClient::meet(&config(&host), dyno["attach_url"].as_str().unwrap());
    let chunks = client.chunks();
    assert_eq!(chunks[1..], [b"[42]".to_vec(), marker(0)]);
}

#[test]
fn keys_without_a_terminal_interrupt_and_end() {
    let meeting = Meeting::new();
    // `heroku run cat > file` at a keyboard.
    let mut client = meeting.meet(&wish(&asking_for_status("cat"), no_window()));
    assert_eq!(client.chunk().unwrap(), GREETING);
    for key in [b"h", b"i", b"\r"] {
        client.say(key);
    }
    client.read_until("hi\n");
    client.say(END);
    assert_eq!(client.chunks(), [marker(0)]);

    let trap = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.01; done";
    let mut client = meeting.meet(&wish(&asking_for_status(trap), no_window()));
    client.read_until("ready");
    client.say(b"\x03");
    assert_eq!(
        client.chunks().concat(),
        [&b"caught\n"[..], &marker(5)].concat()
    );
}

#[test]
fn a_pipe_into_a_terminal_ends_though_its_last_line_does_not() {
    let meeting = Meeting::new();
    let mut client = meeting.meet(&wish("cat", window()));
    assert_eq!(client.chunk().unwrap(), GREETING);
    client.say(b"no line feed");
    client.say(END);
    client.read_until("no line feed");
    meeting.ended("run.1", 0);
    client.chunks();
}

#[test]
fn no_record_ends_between_the_two_bytes_of_a_terminals_line_feed() {
    let meeting = Meeting::new();
    let client = meeting.meet(&wish("seq 200000", window()));
    let chunks = client.chunks();
    for chunk in &chunks {
        assert!(chunk.len() <= 16 * 1024 && !chunk.ends_with(b"\r"));
    }
    let lines: String = (1..=200_000)
        .map(|number| format!("{number}\r\n"))
        .collect();
    assert!(chunks[1..].concat() == lines.as_bytes());
}

#[test]
fn a_client_that_leaves_hangs_its_dyno_up() {
    let meeting = Meeting::new();
    for (number, leave) in [(1, true), (2, false)] {
        let mut client = meeting.meet(&wish("echo on; sleep 1000", window()));
        client.read_until("on\r\n");
        // In order, as on SIGINT, and cut off, as on SIGKILL.
        if leave {
            let began = Instant::now();
            client.leave();
            assert!(began.elapsed() < Duration::from_secs(4));
        }
        drop(client);
        meeting.ended(&format!("run.{number}"), 129);
    }
    // One whose input nobody reads, and that has not read all that there is.
    let mut client = meeting.meet(&wish("echo on; seq 10000; sleep 1000", no_window()));
    client.read_until("on\n");
    client.flood();
    drop(client);
    meeting.ended("run.3", 129);
    let hung_up = "heroku[run.3]: Client connection closed. Sending SIGHUP to all processes";
    meeting.host.wait_for_log(hung_up);
    meeting.host.wait_until_clean();
}

#[test]
fn a_command_that_reads_nothing_holds_up_its_client_alone() {
    let meeting = Meeting::new();
    let mut client = meeting.meet(&wish("echo on; read line; echo \"$line\"", no_window()));
    client.read_until("on\n");
    client.say(b"first\n");
    // The rest of its input nobody wants; it is no reason to lose what was printed.
    let mut input = vec![b'x'; 4 << 20];
    input.push(b'\n');
    let chunks = client.converse(&input, |_| None);
    assert_eq!(chunks.concat(), b"first\n");
    client.leave();
}

#[test]
fn a_command_inside_a_dyno_has_a_meeting_of_its_own() {
    let meeting = Meeting::new();
    let mut first = meeting.meet(&wish("echo on; cat; echo over", no_window()));
    first.read_until("on\n");
    let inside = json!({
        "command": asking_for_status("echo $DYNO$GREETING >&2; exit 3"),
        "env": { "TERM": "xterm", "GREETING": "!" },
    });
    let url = ask_for(&meeting.host, &format!("{DYNOS}/run.1"), &inside);
    let chunks = HerokuClient::meet(&config(&meeting.host), &url).chunks();
    assert_eq!(chunks[0], GREETING);
    let output = String::from_utf8_lossy(&chunks[1..].concat()).into_owned();
    assert!(output.starts_with("run.1!\n"), "{output}");
    assert_eq!(chunks.last().unwrap(), &marker(3));
    let with_window = json!({ "command": "tty", "env": window() });
    let url = ask_for(&meeting.host, &format!("{DYNOS}/run.1"), &with_window);
    let output = HerokuClient::meet(&config(&meeting.host), &url).output();
    assert!(is_terminal(&output), "{output}");
    first.say(END);
    assert_eq!(first.chunks().concat(), b"over\n");
}

#[test]
fn a_secret_is_good_once_for_a_while_and_only_as_it_is() {
    let meeting = Meeting::with(&[("DYNO_ATTACH_TIMEOUT", "2")]);
    let url = meeting.url(&wish("echo on; read line", no_window()));
    let (port, secret) = parts(&url);
    assert_eq!(secret.len(), 64);
    let config = config(&meeting.host);
    let mut client = HerokuClient::meet(&config, &url);
    client.read_until("on\n");
    for wrong in [
        secret,
        &secret[..63],
        "",
        "GET / HTTP/1.1",
        &"x".repeat(5000),
    ] {
        let mut stranger = HerokuClient::come(&config, port);
        stranger.say(format!("{wrong}\r\n").as_bytes());
        assert_eq!(stranger.chunk(), None, "{wrong}");
    }
    client.say(b"\n\x04");
    client.chunks();

    // Nobody comes: R13, and the secret is worth nothing any more.
    let url = meeting.url(&wish("echo never", no_window()));
    let r13 = "heroku[run.2]: Error R13 (Attach error) -> Failed to attach to process";
    meeting.host.wait_for_log(r13);
    assert_eq!(HerokuClient::meet(&config, &url).chunk(), None);
    meeting.host.wait_until_clean();
}

#[test]
fn a_secret_without_the_end_of_its_line_is_enough() {
    let meeting = Meeting::new();
    let config = config(&meeting.host);
    let come = |command: &str| {
        let url = meeting.url(&wish(command, no_window()));
        let (port, secret) = parts(&url);
        (HerokuClient::come(&config, port), secret.to_owned())
    };
    // It waits for the dyno, as one library does.
    let (mut client, secret) = come("echo met");
    client.say(secret.as_bytes());
    assert_eq!(client.output(), "met\n");
    // In pieces, and as a path.
    let (mut client, secret) = come("echo met");
    client.say(b"/");
    client.say(&secret.as_bytes()[..40]);
    client.say(&secret.as_bytes()[40..]);
    assert_eq!(client.output(), "met\n");
    // What comes after it is the command's, and the end of its line, which may come later, is not.
    let (mut client, secret) = come("cat");
    client.say(secret.as_bytes());
    client.say(b"\r\n");
    client.say(b"mine\n");
    client.read_until("mine\n");
    client.say(END);
    let all = client.chunks().concat();
    assert!(!all.windows(2).any(|two| two == b"\n\n"), "{all:?}");
}

#[test]
fn those_who_do_not_speak_are_cut_off_and_those_who_do_are_served() {
    let meeting = Meeting::new();
    let mut client = meeting.meet(&wish("cat", no_window()));
    assert_eq!(client.chunk().unwrap(), GREETING);
    let port = meeting.port();
    // Far more than there is room for: half of a handshake, nothing at all, and what is no TLS.
    let mut strangers: Vec<TcpStream> = Vec::new();
    for number in 0..600 {
        let mut stranger = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let said: &[u8] = match number % 3 {
            0 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            1 => b"",
            _ => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        };
        let _ = stranger.write_all(said);
        strangers.push(stranger);
        if number % 50 == 0 {
            let began = Instant::now();
            client.say(b"still here\n");
            client.read_until("still here\n");
            assert!(began.elapsed() < Duration::from_secs(5));
        }
    }
    // A client that has the secret comes in all the same.
    let other = meeting.meet(&wish("echo served", no_window()));
    assert_eq!(other.output(), "served\n");
    // The oldest have been sent away.
    let mut gone = 0;
    for stranger in &mut strangers[..300] {
        stranger.set_read_timeout(Some(DEADLINE)).unwrap();
        gone += usize::from(
            !matches!(stranger.read(&mut [0; 64]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
        );
    }
    assert_eq!(gone, 300);
    client.say(END);
    client.chunks();
}

#[test]
fn the_silent_are_sent_away_in_time() {
    let meeting = Meeting::new();
    let port = meeting.port();
    let mut silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
    silent.set_read_timeout(Some(DEADLINE)).unwrap();
    let began = Instant::now();
    // There may be a word of TLS before the end.
    let mut said = Vec::new();
    let _ = silent.read_to_end(&mut said);
    assert!(said.len() < 64);
    assert!(began.elapsed() > Duration::from_secs(5));
}

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let meeting = Meeting::with(&[("DYNO_IDLE_TIMEOUT", "1")]);
    let busy = "for i in $(seq 25); do echo $i; sleep 0.1; done";
    let busy = meeting.meet(&wish(&asking_for_status(busy), no_window()));
    let idle = meeting.meet(&wish(&asking_for_status("sleep 1000"), no_window()));
    let said = idle.chunks();
    assert_eq!(said.last().unwrap(), &marker(129));
    let words = String::from_utf8_lossy(&said[1]).into_owned();
    assert!(
        words.starts_with("error: the connection was closed after 1 s"),
        "{words}"
    );
    assert_eq!(busy.chunks().last().unwrap(), &marker(0));
}

#[test]
fn a_dyno_that_is_lost_or_cannot_start_is_told_of() {
    let meeting = Meeting::new();
    let mut client = meeting.meet(&wish(
        &asking_for_status("echo on; sleep 1000"),
        no_window(),
    ));
    client.read_until("on\n");
    meeting
        .host
        .wait_for_supervisor()
        .signal(rustix::process::Signal::KILL);
    let said = client.chunks();
    assert_eq!(said.last().unwrap(), &marker(125));
    assert_eq!(
        said[0],
        b"error: the dyno was lost: its supervisor is gone\r\n"
    );

    // It ends before its client comes.
    let url = meeting.url(&wish(&asking_for_status("true"), no_window()));
    meeting
        .host
        .request("POST", &format!("{DYNOS}/run.2/actions/stop"), &Value::Null);
    meeting
        .host
        .wait_for_log("heroku[run.2]: State changed from starting to complete");
    let said = HerokuClient::meet(&config(&meeting.host), &url).chunks();
    assert_eq!(said[0], GREETING);
    assert_eq!(said.last().unwrap(), &marker(125));
}

#[test]
fn a_session_ends_with_the_server_and_says_so() {
    let meeting = Meeting::new();
    let mut client = meeting.meet(&wish(
        &asking_for_status("echo on; sleep 1000"),
        no_window(),
    ));
    client.read_until("on\n");
    let app = meeting.host.path().join("apps/plain");
    meeting
        .host
        .dyno(&app, &["server:stop"])
        .finish()
        .succeeds();
    // It does not wait for long until it has been read.
    let said = client.rest();
    assert_eq!(said.last().unwrap(), &marker(129));
    let words = String::from_utf8_lossy(&said[0]).into_owned();
    assert!(words.contains("the server is stopping"), "{words}");
    meeting.ended("run.1", 129);
}

#[test]
fn a_local_command_is_attached_as_ever_while_there_is_a_rendezvous() {
    let meeting = Meeting::new();
    let app = meeting.host.path().join("apps/plain");
    let run = meeting.host.run(
        &app,
        &["--no-tty", "--", "sh", "-c", "cat; echo err >&2; exit 3"],
    );
    let outcome = run.input("in").finish();
    assert_eq!((outcome.code(), outcome.text().as_str()), (Some(3), "in"));
    assert!(outcome.errors().contains("err"));
}

#[test]
fn a_server_that_has_a_rendezvous_stays_and_the_next_one_has_it_too() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "0")]);
    let app = host.plain_app();
    eventually("no server", || host.server().is_none().then_some(()));
    // Where a server before had one, as a command asked for it.
    let address = address_of_its_own();
    std::fs::write(host.state().join("rendezvous"), &address).unwrap();
    let met = |word: &str| {
        let url = ask_for(&host, DYNOS, &wish(&format!("echo {word}"), no_window()));
        assert!(address.ends_with(&format!(":{}", parts(&url).0)), "{url}");
        let output = HerokuClient::meet(&config(&host), &url).output();
        assert_eq!(output, format!("{word}\n"));
    };
    met("one");
    let ca = std::fs::read(host.state().join("tls/ca.pem")).unwrap();
    let server = host.server().unwrap();
    assert!(!server.ended_by(Instant::now() + Duration::from_millis(300)));
    let status = host
        .dyno(&app, &["server:status"])
        .finish()
        .succeeds()
        .text();
    assert!(
        status.contains(&format!("rendezvous:   {address}")),
        "{status}"
    );
    host.kill_server();
    met("two");
    assert_eq!(std::fs::read(host.state().join("tls/ca.pem")).unwrap(), ca);
}

#[test]
fn whoever_has_the_server_listen_for_herokus_cli_gets_a_rendezvous_too() {
    let host = Host::new();
    host.plain_app();
    let (status, body) = host.request("POST", "/server/actions/listen", &Value::Null);
    assert_eq!(status, 200, "{body}");
    let listening: Value = serde_json::from_str(&body).unwrap();
    let url = ask_for(&host, DYNOS, &wish("echo on", no_window()));
    let port = format!(":{}", parts(&url).0);
    assert!(listening["rendezvous"].as_str().unwrap().ends_with(&port));
    assert_eq!(HerokuClient::meet(&config(&host), &url).output(), "on\n");
}

#[test]
fn openssl_by_hand_is_a_client_too() {
    if lacks("openssl") {
        return;
    }
    let meeting = Meeting::new();
    let url = meeting.url(&wish("cat", window()));
    let (port, secret) = parts(&url);
    let mut openssl = Command::new("openssl")
        .args([
            "s_client",
            "-quiet",
            "-verify_return_error",
            "-servername",
            "localhost",
        ])
        .args(["-connect", &format!("localhost:{port}"), "-CAfile"])
        .arg(meeting.host.state().join("tls/ca.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut keyboard = openssl.stdin.take().unwrap();
    // Line by line, without carriage returns, as a person types there.
    writeln!(keyboard, "{secret}").unwrap();
    writeln!(keyboard, "hello").unwrap();
    keyboard.write_all(END).unwrap();
    let mut said = String::new();
    openssl
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said, "rendezvous\r\nhello\r\nhello\r\n");
    assert!(openssl.wait().unwrap().success());
}
