//! What tests need of the host: programs, and walls for dynos. A test that has not got it leaves itself out, and that is
//! said once for each thing, past the test harness, which shows only what failed.
//!
//! Where `CI` is set, a program that is missing is a failure: `.ci/needs` installs them all. Walls cannot be installed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use super::binary;

/// Whether the programs of this list are not all there. A test that needs them is over then, and this has said so.
///
/// Tests ask at their beginning: `if lacks("vim") { return }`. Dynos have system folders alone, so a program counts
/// only there.
#[must_use]
pub fn lacks(program: &str) -> bool {
    let there = ["/usr/local/bin", "/usr/bin", "/bin"]
        .iter()
        .any(|folder| Path::new(folder).join(program).exists());
    if there {
        return false;
    }
    let in_ci = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty());
    assert!(
        !in_ci,
        "this test needs `{program}` in a system folder: `.ci/needs` installs it"
    );
    leave_out(&format!(
        "tests that need `{program}`: it is in no system folder; `.ci/needs` installs it"
    ));
    true
}

/// Whether dynos have no walls here. A test of what only walls promise is over then, and this has said so.
#[must_use]
pub fn lacks_walls() -> bool {
    if isolation().is_none() {
        return false;
    }
    leave_out(
        "tests that need walls around dynos: here they run in folders (`dyno doctor` says why)",
    );
    true
}

/// What the tests' hosts are told of isolation, unless a test says it itself: nothing where dynos have walls, else
/// that they run in folders. `DYNO_TEST_ISOLATION=tempdir` has them run so where they could have walls.
pub fn isolation() -> Option<OsString> {
    static ISOLATION: LazyLock<Option<OsString>> = LazyLock::new(|| {
        if let Some(isolation) = std::env::var_os("DYNO_TEST_ISOLATION") {
            return Some(isolation);
        }
        let home = tempfile::tempdir().unwrap();
        let doctor = Command::new(binary())
            .arg("doctor")
            .env("DYNO_HOME", home.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
        let offered = said
            .lines()
            .find_map(|line| line.strip_prefix("isolation: "))
            .map(str::trim);
        match offered {
            Some("namespaces") => None,
            Some("tempdir") => Some("tempdir".into()),
            _ => panic!("`dyno doctor` does not say what it offers:\n{said}"),
        }
    });
    ISOLATION.clone()
}

/// Says what is left out, if that was not said before.
pub fn leave_out(what: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap().insert(what.to_owned()) {
        let _ = std::io::stderr().write_all(format!("left out: {what}\n").as_bytes());
    }
}
