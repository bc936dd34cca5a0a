//! The Unix socket that the API is reached at.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use crate::unix_socket::{self, SocketType};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 256;

/// A socket that clients connect to; gone from its folder when dropped.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Listens at `path`, in the place of whatever is there: the caller holds the server's lock, so
    /// nobody listens on that any more.
    ///
    /// # Errors
    /// When the folder is not there or not writable.
    pub fn bind(path: PathBuf) -> io::Result<Self> {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = unix_socket::listen(&path, SocketType::STREAM, BACKLOG)?;
        Ok(Self { socket, path })
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next connection of somebody who may use the API: the server's own user, or root. Others
    /// are hung up on; the folder's mode keeps them out in the first place.
    pub(super) fn accept(&self) -> io::Result<Option<OwnedFd>> {
        let socket = unix_socket::accept(&self.socket)?;
        let uid = unix_socket::peer_uid(&socket)?;
        let welcome = uid == 0 || uid == rustix::process::geteuid().as_raw();
        Ok(welcome.then_some(socket))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
