//! Where the API is reached: its Unix socket, and addresses that were asked for.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::net::{AddressFamily, sockopt};
use rustls::ServerConfig;

use crate::api::ApiError;
use crate::kernel::peer::{self, Admission};
use crate::kernel::unix_socket::{self, SocketType};
use crate::wire::handover::Part;
use crate::wire::http::Response;
use crate::wire::http::message::WriteOptions;
use crate::wire::stream::Stream;

use crate::server::api_loop::via::Via;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 256;

/// After how long without a byte the kernel asks whether a client on a network is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// What clients connect to.
#[derive(Debug)]
pub enum ApiListener {
    /// The Unix socket.
    Socket(ApiSocket),
    /// An address, where clients speak TLS or not.
    Tcp {
        /// Which of the server's sockets it is.
        part: Part,
        /// Non-blocking.
        socket: TcpListener,
        /// For those who speak it.
        tls: Arc<ServerConfig>,
    },
}

/// A client that has just come.
#[derive(Debug)]
pub struct NewClient {
    /// Its connection.
    pub stream: Stream,
    /// The way on which it has come.
    pub via: Via,
}

impl ApiListener {
    /// The listening socket, to be watched.
    pub fn socket(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(listener) => listener.socket.as_fd(),
            Self::Tcp { socket, .. } => socket.as_fd(),
        }
    }

    /// The file that clients on this host connect to, if it is that socket.
    pub fn place(&self) -> Option<SocketFile> {
        match self {
            Self::Socket(listener) => Some(listener.place.clone()),
            Self::Tcp { .. } => None,
        }
    }

    /// Which part of a server it is.
    pub fn part(&self) -> Part {
        match self {
            Self::Socket(_) => Part::Api,
            Self::Tcp { part, .. } => *part,
        }
    }

    /// Another server goes on with the socket: it stays where it is when this one is dropped.
    pub fn leave(&mut self) {
        if let Self::Socket(listener) = self {
            listener.is_left = true;
        }
    }

    /// Whether clients come from a network.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }

    /// The next connection of a client that may try to use the API. At the Unix socket that is the server's own user, or
    /// root, outside of all dynos. Others are hung up on; the folder's mode keeps them out in the first place.
    pub fn accept(&self) -> io::Result<Option<NewClient>> {
        match self {
            Self::Socket(listener) => {
                let socket = unix_socket::accept(&listener.socket)?;
                Ok(match peer::admission(&socket) {
                    Ok(Admission::Welcome) => Some(NewClient {
                        stream: Stream::plain(socket),
                        via: Via::Socket,
                    }),
                    Ok(Admission::OtherNamespace) => {
                        refuse(&socket);
                        None
                    }
                    Ok(Admission::OtherUser) | Err(_) => None,
                })
            }
            Self::Tcp { socket, tls, .. } => {
                let (socket, peer) = socket.accept()?;
                socket.set_nonblocking(true)?;
                // Answers are written whole: nothing is gained by waiting for more to send along.
                socket.set_nodelay(true)?;
                // A client whose machine was switched off is noticed some day.
                sockopt::set_socket_keepalive(&socket, true)?;
                sockopt::set_tcp_keepidle(&socket, KEEPALIVE)?;
                let via = Via::Tcp { peer, tls: false };
                let stream = Stream::accept_either(socket.into(), Arc::clone(tls));
                Ok(Some(NewClient { stream, via }))
            }
        }
    }
}

/// Tells a process of a dyno or a container that it may not use the API. It is hung up on next.
fn refuse(socket: &OwnedFd) {
    let error = ApiError::forbidden(
        "processes of another user namespace, as those of dynos and containers, may not use this socket",
    )
    .hint("over TCP a token is all that counts: see `dyno auth:token` and DYNO_HOST");
    let options = WriteOptions {
        now: SystemTime::now(),
        close: true,
        head_only: false,
    };
    let mut bytes = Vec::new();
    Response::json(error.status(), &error).write(options, &mut bytes);
    // It fits into the socket's buffer, which is empty.
    let _ = unix_socket::send(socket, &bytes, &[]);
}

/// A socket that clients connect to; gone from its folder when dropped, unless it was left to another server.
#[derive(Debug)]
pub struct ApiSocket {
    socket: OwnedFd,
    place: SocketFile,
    is_left: bool,
}

/// Where a socket is in its folder. Its file's number is no other's as long as the socket lives.
#[derive(Debug, Clone)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn at(path: PathBuf) -> io::Result<Self> {
        let there = std::fs::symlink_metadata(&path)?;
        Ok(Self {
            path,
            device: there.dev(),
            inode: there.ino(),
        })
    }

    /// Whether clients still find the socket: it was not removed, and nothing else was put there.
    pub fn is_there(&self) -> bool {
        std::fs::symlink_metadata(&self.path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (self.device, self.inode))
    }
}

impl ApiSocket {
    /// The socket that an earlier server has left, as long as clients find it at `path`; else a new one.
    ///
    /// # Errors
    /// When the folder is not there or not writable.
    pub fn take(left: Option<OwnedFd>, path: PathBuf) -> io::Result<Self> {
        match left.filter(|socket| is_found_at(socket, &path)) {
            Some(socket) => Ok(Self {
                socket,
                place: SocketFile::at(path)?,
                is_left: false,
            }),
            None => Self::bind(path),
        }
    }

    /// Listens at `path`, in the place of whatever is there: the caller holds the server's lock, so
    /// no process listens on that any more.
    ///
    /// # Errors
    /// When the folder is not there or not writable, or what is there is a folder itself.
    pub fn bind(path: PathBuf) -> io::Result<Self> {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = unix_socket::listen(&path, SocketType::STREAM, BACKLOG)?;
        Ok(Self {
            socket,
            place: SocketFile::at(path)?,
            is_left: false,
        })
    }
}

/// Whether clients that connect to `path` come to this socket: it listens, and what is there is a socket. It is this one, since
/// only who has the server's lock puts one there.
fn is_found_at(socket: &OwnedFd, path: &Path) -> bool {
    sockopt::socket_acceptconn(socket) == Ok(true)
        && sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX)
        && std::fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket())
        && rustix::io::ioctl_fionbio(socket, true).is_ok()
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        if !self.is_left && self.place.is_there() {
            let _ = std::fs::remove_file(&self.place.path);
        }
    }
}

impl From<ApiSocket> for ApiListener {
    fn from(socket: ApiSocket) -> Self {
        Self::Socket(socket)
    }
}
