//! Special files of an app's directory: sockets, named pipes and devices. A slug holds files, directories and symlinks alone,
//! so packing leaves these out, with a warning each.

use rustix::fs::FileType;

use super::messages::shown;
use super::walk::TreeEntry;

/// Whether a slug cannot hold `entry`.
pub(super) fn is_special(entry: &TreeEntry) -> bool {
    !matches!(
        entry.file_type(),
        FileType::RegularFile | FileType::Directory | FileType::Symlink
    )
}

/// The warning that the special file `entry` is left out.
pub(super) fn left_out(entry: &TreeEntry) -> String {
    let kind = match entry.file_type() {
        FileType::Socket => "socket",
        FileType::Fifo => "named pipe",
        _ => "device",
    };
    format!("`{}` is a {kind} and left out", shown(&entry.path))
}
