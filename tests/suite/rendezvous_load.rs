//! Many sessions at the rendezvous at once, with much to say both ways and readers that take their time: no byte is lost or
//! comes to another client, no connection is reset, every exit marker is whole, and the server's memory is bounded.
//!
//! `DYNO_RENDEZVOUS_SESSIONS=1000 DYNO_RENDEZVOUS_BYTES=8388608` makes it the full thing, best on a release build
//! (`DYNO_TEST_BIN`) and with `--nocapture`, which shows the figures.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::harness::Host;
use super::heroku_client::{
    GREETING, HerokuClient, ask_for, asking_for_status, config, marker, no_window, window, wish,
};

/// Sessions at a time.
const AT_ONCE: usize = 64;

/// Every so many is one whose reader takes its time.
const SLOW: usize = 8;

/// By how much the server's memory may grow for all of them together, in KiB: each has some pieces of 16 KiB, and its
/// part of what TLS takes.
const MOST_GROWTH: u64 = 48 * 1024;

fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| text.parse().expect(variable))
}

/// Bytes that no other session has, in lines.
fn text(session: usize, length: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(length + 64);
    let mut line = 0;
    while text.len() < length {
        text.extend_from_slice(format!("session {session} line {line} \\u{{e9}}é\n").as_bytes());
        line += 1;
    }
    text.truncate(length - 1);
    text.push(b'\n');
    text
}

/// The most memory that a process has had, and what it has, in KiB.
fn memory(pid: i32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.unwrap().trim_start_matches(':').trim();
        kib.trim_end_matches(" kB").parse().unwrap()
    };
    (field("VmHWM"), field("VmRSS"))
}

#[test]
fn many_sessions_at_once_lose_nothing_and_the_server_stays_small() {
    let sessions = number("DYNO_RENDEZVOUS_SESSIONS", 24);
    let bytes = number("DYNO_RENDEZVOUS_BYTES", 1 << 20);
    let at_once = AT_ONCE.min(sessions);
    let host = Host::with(&[
        ("DYNO_RENDEZVOUS", "127.0.0.1:0"),
        ("DYNO_MAX_DYNOS", "1000"),
        ("DYNO_MAX_ONE_OFFS", "1000"),
    ]);
    host.plain_app();
    let config = config_when_there(&host);
    let server = host.server().unwrap();
    let before = memory(server.pid);
    let (next, began) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let session = next.fetch_add(1, Ordering::Relaxed);
                    if session >= sessions {
                        break;
                    }
                    converse(&host, &config, session, bytes);
                }
            });
        }
    });
    let (most, now) = memory(server.pid);
    let took = began.elapsed();
    println!(
        "{sessions} sessions, {at_once} at once, {bytes} bytes each way: {:.1} s, {:.0} MB/s in all; the server had {} \
         KiB before, {most} at most, {now} after",
        took.as_secs_f64(),
        (sessions * bytes * 2) as f64 / took.as_secs_f64() / 1e6,
        before.1
    );
    assert!(
        most - before.1 < MOST_GROWTH,
        "{most} KiB, and {} before",
        before.1
    );
    host.wait_until_clean();
    // Nobody has left anything open.
    let (status, body) = host.request("GET", "/server/status", &Value::Null);
    assert_eq!(status, 200);
    let status: Value = serde_json::from_str(&body).unwrap();
    assert!(status["descriptors"].as_u64().unwrap() < 64, "{status}");
}

fn config_when_there(host: &Host) -> Arc<rustls::ClientConfig> {
    // The first one also has the next supervisor wait, and everything that is made once made.
    let url = ask_for(host, "/apps/plain/dynos", &wish("true", no_window()));
    let config = config(host);
    HerokuClient::meet(&config, &url).chunks();
    config
}

fn converse(host: &Host, config: &Arc<rustls::ClientConfig>, session: usize, bytes: usize) {
    let status = u8::try_from(session % 256).unwrap();
    let command = asking_for_status(&format!("cat; exit {status}"));
    let mut wish = wish(
        &command,
        if session.is_multiple_of(3) {
            window()
        } else {
            no_window()
        },
    );
    wish["force_no_tty"] = true.into();
    let url = ask_for(host, "/apps/plain/dynos", &wish);
    let mut client = HerokuClient::meet(config, &url);
    assert_eq!(client.chunk().as_deref(), Some(GREETING), "{session}");
    let input = text(session, bytes);
    let mut pauses = 0;
    let chunks = client.converse(&input, |heard| {
        let due = session.is_multiple_of(SLOW) && heard / (128 * 1024) > pauses;
        pauses += usize::from(due);
        due.then_some(Duration::from_millis(20))
    });
    // Without a reset, whatever it was that came.
    client.leave();
    let (last, output) = chunks.split_last().unwrap();
    assert_eq!(*last, marker(status), "{session}");
    let output = output.concat();
    assert!(
        output == input,
        "session {session}: {} bytes of {}, different from {:?} on",
        output.len(),
        input.len(),
        output.iter().zip(&input).position(|(a, b)| a != b)
    );
}
