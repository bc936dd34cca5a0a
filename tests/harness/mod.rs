//! What tests of the real binary are made of: a [`Host`] of each test's own, and a [`Command`] on it under a deadline, whose
//! [`Outcome`] the test looks at. Nothing waits for a fixed time: it waits for what it needs, and gives up at [`DEADLINE`].

mod command;
pub mod fail_points;
mod files;
mod host;
mod needs;
mod outcome;
mod proc;
mod process;
mod wait;

use std::fs::File;
use std::path::PathBuf;
use std::sync::RwLock;

pub use command::{Command, Running};
pub use fail_points::FailPoints;
pub use files::{copy_tree, log_text, make_removable, write};
pub use host::{Host, free_port, own_router};
pub use needs::{isolation, lacks, lacks_walls, leave_out};
pub use outcome::Outcome;
pub use proc::{parent_of, pids};
pub use process::Process;
pub use wait::{AtEnd, DEADLINE, Watched, eventually, eventually_within};

/// Shared by threads that start a program, and held alone by one that opens a terminal: for a moment that is open to
/// every program which is just being started.
pub static STARTING: RwLock<()> = RwLock::new(());

/// The binary under test.
pub fn binary() -> PathBuf {
    std::env::var_os("DYNO_TEST_BIN").map_or_else(|| env!("CARGO_BIN_EXE_dyno").into(), Into::into)
}

/// Where the source tree with `tests/apps` is.
pub fn root() -> PathBuf {
    std::env::var_os("DYNO_TEST_ROOT").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), Into::into)
}

/// Whether the tests run as root: dynos then have host uids of their own.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A descriptor that reads as nothing.
pub fn nothing() -> File {
    File::open("/dev/null").unwrap()
}
