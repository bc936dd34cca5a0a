//! Who is at the other end of a Unix socket of ours, and whether it may be.
//!
//! The sockets of server and supervisors are for the server's own user, and root. To the host a dyno of an ordinary user's
//! server is that user, too. So the user namespace is looked at as well: a process of another one than this process's is
//! never let in, be it a dyno's, of this server or another, or a container's.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::PollFlags;
use rustix::process::{Pid, PidfdFlags};

use super::sys::socket;
use super::wait;

/// Whether the process that made the other end of a connection is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is the server's user, or root, and in no namespace of a dyno's.
    Welcome,
    /// It is another user.
    OtherUser,
    /// It is in another user namespace, or in one that this process may not know, or has ended.
    OtherNamespace,
}

/// Looks at the process that connected `socket`, even if the connection has been passed on since.
///
/// # Errors
/// When `socket` is not a connected Unix socket.
pub fn admission(socket: impl AsFd) -> io::Result<Admission> {
    let peer = socket::peer(&socket)?;
    let ours = rustix::process::geteuid().as_raw();
    if peer.uid != ours {
        // A dyno is never root to the host, but where root has no other ids: then its uid is the server's.
        return Ok(match peer.uid {
            0 => Admission::Welcome,
            _ => Admission::OtherUser,
        });
    }
    let Some(own) = namespace_of("self") else {
        // A kernel without user namespaces, or a host without `/proc`.
        return Ok(Admission::Welcome);
    };
    let Some(pid) = Pid::from_raw(peer.pid) else {
        // It is outside of this PID namespace, whose processes all have numbers here; dynos are inside.
        return Ok(Admission::Welcome);
    };
    let held = hold(&socket, pid);
    let theirs = namespace_of(&pid.as_raw_nonzero().to_string());
    // A number that was looked at may have been another process's by then, unless it still has its process.
    let alive = match held {
        Some(pidfd) => {
            wait::until(&pidfd, PollFlags::IN, Some(std::time::Instant::now()))?.is_none()
        }
        None => theirs.is_some(),
    };
    Ok(match theirs {
        Some(theirs) if alive && theirs == own => Admission::Welcome,
        _ => Admission::OtherNamespace,
    })
}

/// A pidfd of the peer: from the socket itself (Linux 6.5), or by its number. None if it has ended, or where pidfds are
/// refused.
fn hold(socket: impl AsFd, pid: Pid) -> Option<OwnedFd> {
    match socket::peer_pidfd(socket) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
            rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()
        }
        held => held.ok(),
    }
}

/// The user namespace of a process, as `user:[4026531837]`; None if this process may not know it.
fn namespace_of(process: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/user")).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn this_process_is_welcome() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert_eq!(admission(&ours).unwrap(), Admission::Welcome);
        drop(theirs);
        let file = tempfile::tempfile().unwrap();
        assert!(admission(&file).is_err());
    }

    #[test]
    fn the_peers_pidfd_is_that_of_its_process() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let pid = Pid::from_raw(socket::peer(&ours).unwrap().pid).unwrap();
        assert_eq!(pid, rustix::process::getpid());
        // A kernel before 6.5 has none.
        if let Ok(pidfd) = socket::peer_pidfd(&ours) {
            assert!(
                rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::CONT).is_ok()
            );
        }
    }
}
