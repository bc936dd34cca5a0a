//! Unix sockets: listening and connecting at paths of any length, who is at the other end, and
//! file descriptors sent along with bytes.
//!
//! Only what `std` and `mio` do not offer. Used for the API, for the supervisors' control sockets and for attach, where
//! the server passes a client's connection to the supervisor, and the supervisor passes the command's pipes to the
//! client.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, sockopt,
};

pub use rustix::net::SocketType;

/// File descriptors that [`send`] and [`receive`] take at once.
pub const MAX_FDS: usize = 16;

/// Bytes of `sockaddr_un.sun_path`, with the zero at its end.
const MAX_PATH: usize = 108;

/// A pair of connected sockets that keep messages apart.
///
/// # Errors
/// When there are no descriptors left.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        kind,
        flags,
        None,
    )?)
}

/// Listens at `path`, where no file may exist. The socket is non-blocking.
///
/// # Errors
/// `EADDRINUSE` if a file exists there, even a socket that no process listens on any more.
pub fn listen(path: &Path, kind: SocketType, backlog: i32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    with_address(path, |address| rustix::net::bind(&socket, address))?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket)
}

/// The next connection of a [`listen`]ing socket, non-blocking.
///
/// # Errors
/// `WouldBlock` if there is none.
pub fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::accept_with(listener, flags)?)
}

/// Connects to `path`. The socket is blocking; `patience` is how long to wait while the listener's
/// backlog is full.
///
/// # Errors
/// `NotFound` if there is no file at `path`, `ConnectionRefused` if no process listens on it any more,
/// `WouldBlock` if patience ran out.
pub fn connect(path: &Path, kind: SocketType, patience: Duration) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    // connect(2) on a Unix socket waits as long as a send may.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(patience))?;
    with_address(path, |address| rustix::net::connect(&socket, address))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, None)?;
    Ok(socket)
}

/// Sends `bytes`, with `fds` attached to the first of them; returns how many bytes went. The
/// descriptors go whole or not at all.
///
/// # Errors
/// `InvalidInput` for more than [`MAX_FDS`], or for descriptors without bytes: a stream would lose
/// them. Else as `sendmsg(2)`; a closed peer is `BrokenPipe`, without a signal.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > MAX_FDS || (bytes.is_empty() && !fds.is_empty()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let slices = [IoSlice::new(bytes)];
    loop {
        match rustix::net::sendmsg(&socket, &slices, &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Receives into `buffer`; descriptors that come along are appended to `fds`, close-on-exec.
/// Returns 0 at the end. On a stream, one call never goes past bytes that carry descriptors. What the peer said last is
/// received even if the peer left something unread.
///
/// # Errors
/// `InvalidData` if more than [`MAX_FDS`] came at once, `ConnectionReset` after the last message of a peer that left something
/// unread. Else as `recvmsg(2)`.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    past_reset(|| receive_once(&socket, buffer, fds))
}

/// Bytes of the next message on a socket that keeps messages apart, which stays to be received; 0 at the end.
///
/// # Errors
/// As for [`receive`].
pub fn next_length(socket: impl AsFd) -> io::Result<usize> {
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
    past_reset(|| {
        let (_, length) = rustix::net::recv(&socket, &mut [0u8; 0][..], flags)?;
        Ok(length)
    })
}

/// Has `receive` tried again after a reset: sockets that keep messages apart tell of it once, and before the messages that came
/// ahead of it.
fn past_reset(mut receive: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    match receive() {
        Err(reset) if reset.kind() == io::ErrorKind::ConnectionReset => match receive()? {
            0 => Err(reset),
            length => Ok(length),
        },
        result => result,
    }
}

fn receive_once(socket: impl AsFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(buffer)];
    let received = loop {
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(&socket, &mut slices, &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result?,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "too many descriptors at once",
        ));
    }
    Ok(received.bytes)
}

/// Calls `act` with the address of `path`. A path too long for an address goes by way of its
/// folder, opened: `/proc/self/fd/N/NAME`.
fn with_address<T>(
    path: &Path,
    act: impl FnOnce(&SocketAddrUnix) -> rustix::io::Result<T>,
) -> io::Result<T> {
    if path.as_os_str().len() < MAX_PATH {
        return Ok(act(&SocketAddrUnix::new(path)?)?);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let short = Path::new("/proc/self/fd")
        .join(folder.as_raw_fd().to_string())
        .join(name);
    Ok(act(&SocketAddrUnix::new(short)?)?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_path_may_be_longer_than_an_address() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("api.sock");
        let missing = connect(&path, SocketType::STREAM, Duration::from_secs(1)).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let listener = listen(&path, SocketType::STREAM, 1).unwrap();
        assert_eq!(
            accept(&listener).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        let ours = connect(&path, SocketType::STREAM, Duration::from_secs(1)).unwrap();
        let theirs = accept(&listener).unwrap();
        for end in [&ours, &theirs] {
            let peer = super::super::sys::socket::peer(end).unwrap();
            assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
            assert_eq!(peer.pid.unsigned_abs(), std::process::id());
        }
        assert_eq!(send(&ours, b"hi", &[]).unwrap(), 2);
        assert_eq!(receive(&theirs, &mut [0; 8], &mut Vec::new()).unwrap(), 2);
        drop(listener);
        let stale = connect(&path, SocketType::STREAM, Duration::from_secs(1)).unwrap_err();
        assert_eq!(stale.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn last_words_are_heard_of_a_peer_that_left_something_unread() {
        let (ours, theirs) = pair().unwrap();
        for words in [b"first", b"last!"] {
            send(&theirs, words, &[]).unwrap();
        }
        send(&ours, b"unread", &[]).unwrap();
        drop(theirs);
        let mut buffer = [0; 8];
        for words in [b"first", b"last!"] {
            assert_eq!(next_length(&ours).unwrap(), words.len());
            let length = receive(&ours, &mut buffer, &mut Vec::new()).unwrap();
            assert_eq!(&buffer[..length], words);
        }
        assert_eq!(next_length(&ours).unwrap(), 0);
        assert_eq!(receive(&ours, &mut buffer, &mut Vec::new()).unwrap(), 0);
    }

    #[test]
    fn descriptors_arrive_with_their_bytes() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        ours.write_all(b"before").unwrap();
        assert_eq!(
            send(&ours, b"with", &[file.as_fd(), file.as_fd()]).unwrap(),
            4
        );
        ours.write_all(b"after").unwrap();
        let (mut bytes, mut fds, mut buffer) = (Vec::new(), Vec::new(), [0; 64]);
        while bytes.len() < 15 {
            let length = receive(&theirs, &mut buffer, &mut fds).unwrap();
            bytes.extend_from_slice(&buffer[..length]);
        }
        assert_eq!(bytes, b"beforewithafter");
        assert_eq!(fds.len(), 2);
        let received = File::from(fds.remove(0));
        assert_eq!(
            received.metadata().unwrap().ino(),
            file.metadata().unwrap().ino()
        );
        assert!(
            rustix::io::fcntl_getfd(&received)
                .unwrap()
                .contains(rustix::io::FdFlags::CLOEXEC)
        );
        assert!(send(&ours, b"", &[file.as_fd()]).is_err());
        drop(theirs);
        assert_eq!(
            send(&ours, b"x", &[]).unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
