//! The attempts of `tests/escape` to break out of a dyno: each that docs/security.md promises to be in vain is. What is not
//! promised is in `tests/escape/gaps`, by name; `.ci/escape` tries that, too, and other sandboxes.

use std::process::Command;

use serde_json::Value;

use crate::harness::{Host, binary, lacks, lacks_walls, leave_out, root};

/// The attempts cannot be fewer than this here.
const AT_LEAST: usize = 180;

#[test]
fn no_attempt_gets_what_dynos_are_kept_from() {
    if lacks("python3") || lacks_walls() {
        return;
    }
    if !cfg!(target_arch = "x86_64") {
        return leave_out("attempts to break out: their system calls are those of x86-64");
    }
    let host = Host::new();
    let outcome = Command::new("/usr/bin/python3")
        .arg("-B")
        .arg(root().join("tests/escape/outside.py"))
        .args(["dyno", "--promised"])
        .current_dir(host.path())
        .env("HOME", host.path().join("home"))
        .env("DYNO_BIN", binary())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success(), "{said}");
    let rows: Vec<Value> = serde_json::from_slice(&outcome.stdout).unwrap();
    let of = |verdict: &str| -> Vec<String> {
        let of_it = rows.iter().filter(|row| row["verdict"] == verdict);
        let shown = of_it.map(|row| format!("{}: {}: {}", row["id"], row["rule"], row["why"]));
        shown.collect()
    };
    for bad in ["broken", "fault"] {
        assert_eq!(of(bad), [""; 0], "{bad}");
    }
    let held = of("held").len();
    assert!(held >= AT_LEAST, "{held} attempts were made: {rows:#?}");
}
