//! Messages between server, supervisor and init, as they come out of a socket: what is read is read again from what is written
//! of it, one is as long as it may be, memory has a bound; of descriptors that come along with a handover none stays open.

#![no_main]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use dyno::bounds::within;
use dyno::kernel::unix_socket;
use dyno::pieces::first;
use dyno::wire::control::{FromInit, FromSupervisor, ToInit, ToSupervisor, receive};
use dyno::wire::door::Ask;
use dyno::wire::handover::Handover;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The least number that no descriptor has.
fn free() -> i32 {
    let fd = rustix::io::dup(std::io::stderr()).expect("a descriptor");
    fd.as_raw_fd()
}

/// Whether both are the same, but for the last digits of numbers with a point.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let (a, b) = (one.as_f64(), other.as_f64());
            one == other || a.zip(b).is_some_and(|(a, b)| (a / b - 1.0).abs() < 1e-9)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, a)| other.get(key).is_some_and(|b| is_same(a, b)))
        }
        _ => one == other,
    }
}

fn message<M: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let (ours, theirs) = unix_socket::pair().expect("a pair");
    unix_socket::send(&ours, bytes, &[]).expect("room for a message");
    let read = within(64 * bytes.len() + 64 * 1024, || receive::<M>(&theirs));
    if let Ok(Some((message, fds))) = read {
        assert!(fds.is_empty());
        let written = serde_json::to_value(&message).expect("a message");
        let again: M = serde_json::from_value(written.clone()).expect("what was written is read");
        assert!(is_same(
            &serde_json::to_value(&again).expect("a message"),
            &written
        ));
    }
}

fn handover(count: u8, line: &[u8]) {
    let before = free();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let fds: Vec<OwnedFd> = (0..count % 12)
        .map(|_| rustix::io::dup(std::io::stderr()).expect("a descriptor"))
        .collect();
    let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    unix_socket::send(&ours, line, &borrowed).expect("room for a line");
    drop(ours);
    let received = Handover::receive(&theirs, Vec::new(), Vec::new());
    if let Ok(received) = received {
        let mut names: Vec<_> = received.parts().map(|(part, _)| part.name()).collect();
        assert!(names.len() <= fds.len());
        names.sort_unstable();
        assert!(
            names.is_sorted_by(|one, other| one < other),
            "a part is there twice"
        );
    }
    drop((theirs, fds));
    assert_eq!(free(), before, "a descriptor stays open");
}

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = first(data) else {
        return;
    };
    if bytes.is_empty() {
        return;
    }
    match which % 8 {
        0 => message::<ToSupervisor>(bytes),
        1 => message::<FromSupervisor>(bytes),
        2 => message::<ToInit>(bytes),
        3 => message::<FromInit>(bytes),
        4 => {
            if let Some(ask) = Ask::read(bytes) {
                assert_eq!(ask.write(), bytes);
            }
        }
        _ => handover(which >> 3, bytes),
    }
});
