//! Tells the program which build it is: the commit that it is made of, and a time that orders builds of one version.
//!
//! Both are the sources', so that the same sources give the same program: the time is that of the commit, or, of sources
//! that were changed since, that of the latest change. `SOURCE_DATE_EPOCH` says another. A packed crate knows its commit and
//! no time: there is one build of each version.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::UNIX_EPOCH;

/// What the program is made of.
const SOURCES: [&str; 5] = ["src", "migrations", "build.rs", "Cargo.toml", "Cargo.lock"];

fn main() {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    // A hash of its contents is in the program, whatever the linker does by itself.
    println!("cargo::rustc-link-arg=-Wl,--build-id=sha1");
    let (commit, time) = packed().or_else(checked_out).unwrap_or_default();
    let asked = std::env::var("SOURCE_DATE_EPOCH");
    let time = asked
        .ok()
        .and_then(|asked| asked.parse().ok())
        .unwrap_or(time);
    println!("cargo::rustc-env=DYNO_COMMIT={commit}");
    println!("cargo::rustc-env=DYNO_BUILT_AT={time:012}");
}

/// Of a crate that was packed by cargo.
fn packed() -> Option<(String, u64)> {
    let info = fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let hash = info.split("\"sha1\"").nth(1)?.split('"').nth(1)?;
    let changed = info.contains("\"dirty\": true") || info.contains("\"dirty\":true");
    Some((named(hash, changed)?, 0))
}

/// Of a git checkout, which is not some other repository's above this folder.
fn checked_out() -> Option<(String, u64)> {
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if fs::canonicalize(top).ok()? != fs::canonicalize(".").ok()? {
        return None;
    }
    // A test build need not be made anew for each commit: that what it is made of was changed since the one before is as true.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release")
        && let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
    {
        println!("cargo::rerun-if-changed={log}");
    }
    let last = git(&["log", "-1", "--format=%H %ct"])?;
    let (hash, committed) = last.split_once(' ')?;
    let status = [&["status", "--porcelain", "--"], &SOURCES[..]].concat();
    let changed = git(&status).is_none_or(|changes| !changes.is_empty());
    let committed = committed.parse().ok()?;
    let time = match changed {
        true => SOURCES
            .iter()
            .filter_map(|source| latest(Path::new(source)))
            .fold(committed, u64::max),
        false => committed,
    };
    Some((named(hash, changed)?, time))
}

/// What people call a commit.
fn named(hash: &str, changed: bool) -> Option<String> {
    let short = hash
        .get(..7)
        .filter(|short| short.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    Some(format!("{short}{}", if changed { "+" } else { "" }))
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}

/// When a file, or any below a folder, was last changed, in seconds since 1970.
fn latest(path: &Path) -> Option<u64> {
    let about = fs::symlink_metadata(path).ok()?;
    if about.is_dir() {
        return fs::read_dir(path)
            .ok()?
            .flatten()
            .filter_map(|entry| latest(&entry.path()))
            .max();
    }
    Some(
        about
            .modified()
            .ok()?
            .duration_since(UNIX_EPOCH)
            .ok()?
            .as_secs(),
    )
}
