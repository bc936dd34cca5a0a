//! This program's own file: which build it is, the path to start it again by, and the words that a
//! server it was started as says to its starter.
//!
//! Such a server has the writing end of a pipe as its standard input. On it the server says, in one
//! word, how the start went. The pipe's end without a word means that it failed; the log says why.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The file that this process runs, even if another was put in its place since.
pub const PATH: &str = "/proc/self/exe";

/// Where this program is, for others to run it. If another was put in its place since, that one is there.
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

/// The word for "I listen".
pub const READY: &[u8] = b"ready";
/// The word for "another server holds the lock".
pub const HELD: &[u8] = b"held";

/// Tells builds apart: the version, and size and time of the file. Two processes with the same build
/// id run the same file, or a copy that kept its time.
///
/// # Errors
/// When `/proc` is not there.
pub fn build_id() -> io::Result<String> {
    let file = std::fs::metadata(PATH)?;
    let (version, size) = (env!("CARGO_PKG_VERSION"), file.size());
    Ok(format!(
        "{version}-{size:x}-{:x}.{:x}",
        file.mtime(),
        file.mtime_nsec()
    ))
}
