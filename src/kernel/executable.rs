//! This program's own file: which build it is, the path to start it again by, and the words by which a server tells the
//! //! process that started it how the start went. A server that a command started has one end of a pair of sockets as
//! its standard input. From it the server takes what an earlier server handed over (see
//! [`handover`](crate::wire::handover)), and on it says, in one word, how the start went. A pair that ends without a
//! word means that the start failed; the log says why.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::api::server::Build;
use crate::model::uuid::hex;

/// The file that this process runs, even if another file has been put in its place since.
pub const PATH: &str = "/proc/self/exe";

/// The process title of the server of this state folder.
pub fn server_title(home: &Path) -> String {
    format!("dyno: server {}", home.display())
}

/// The path of this program's file, for other processes to run it. If a newer file has been put there since, that one is run.
///
/// # Errors
/// When `/proc` is not there.
pub fn program() -> io::Result<PathBuf> {
    let path = std::fs::read_link(PATH)?;
    let text = path.as_os_str().as_bytes();
    // What the kernel adds to the name of a file that was removed (proc_pid_exe(5)).
    let text = text.strip_suffix(b" (deleted)").unwrap_or(text);
    Ok(OsStr::from_bytes(text).into())
}

/// The server's word for "I am listening".
pub const READY: &[u8] = b"ready";
/// The server's word for "another server holds the lock".
pub const HELD: &[u8] = b"held";

/// When the sources of this build were last changed, as `build.rs` found; digits alone, so that it can be found in the file.
static BUILT_AT: &str = concat!("dyno-built-at=", env!("DYNO_BUILT_AT"), ";");

/// This build: what it is made of, and what tells it from others. A copy of the file is the same build.
pub fn build() -> Build {
    // Without a build id from the linker, version and time have to do.
    let id = crate::kernel::sys::image::build_id().unwrap_or_default();
    let digits = std::hint::black_box(BUILT_AT)
        .trim_start_matches(|char: char| !char.is_ascii_digit())
        .trim_end_matches(';');
    Build {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        id: hex(&id),
        commit: env!("DYNO_COMMIT").to_owned(),
        built_at: digits.parse().unwrap_or_default(),
    }
}

/// What `dyno --version` says after the name.
pub fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| build().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_knows_what_it_is_made_of() {
        let build = build();
        assert_eq!(build.id.len(), 40, "{build:?}");
        assert_eq!(build, super::build());
        let version = version();
        assert!(version.starts_with(env!("CARGO_PKG_VERSION")), "{version}");
        assert!(version.contains(&build.id[..12]), "{version}");
    }
}
