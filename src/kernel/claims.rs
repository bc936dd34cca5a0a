//! Ports, host uids and pairs of interfaces that the servers of one user have given to dynos: no other of that user's servers gives them away as
//! long as the dyno lives.
//!
//! A claim is a lock on one byte of a file, held by the server and then by the dyno's supervisor. The files are in a folder of
//! the user's own, which no dyno sees: an abstract socket with the number in its name, say, is any process's to take.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::sys::lock::lock_byte;

/// The claims of this user: see the [module](self).
#[derive(Debug, Clone)]
pub struct Claims {
    folder: PathBuf,
}

impl Claims {
    /// Those in the folder of this user's servers: `/run/dyno` of root's, `dyno` in `$XDG_RUNTIME_DIR` or `/run/user/UID` of
    /// another user's, else `/tmp/dyno-UID`; or in `state`, for its server alone, where there is none of these.
    pub fn of_user(state: &Path) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let folders = match uid {
            0 => vec![PathBuf::from("/run")],
            _ => runtime
                .into_iter()
                .chain([PathBuf::from(format!("/run/user/{uid}"))])
                .collect(),
        };
        let folders = folders.into_iter().filter(|folder| folder.is_absolute());
        let own = folders.map(|folder| folder.join("dyno"));
        let own = own.chain([PathBuf::from(format!("/tmp/dyno-{uid}"))]);
        let folder = own.into_iter().find(|folder| is_private(folder, uid));
        Self {
            folder: folder.unwrap_or_else(|| state.to_owned()),
        }
    }

    #[cfg(test)]
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Claims a port, until the last copy of the descriptor is closed. A program takes a while to listen on the port it was
    /// given, and until then the port looks free.
    ///
    /// # Errors
    /// `AddrInUse` while it is claimed, or a program listens on it; else when the file cannot be made.
    pub fn port(&self, port: u16) -> io::Result<OwnedFd> {
        let claim = self.claim("ports", port.into())?;
        for ip in [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Ipv6Addr::UNSPECIFIED.into(),
        ] {
            match TcpListener::bind((ip, port)) {
                Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(error),
                // A host may be without IPv6.
                _ => {}
            }
        }
        Ok(claim)
    }

    /// Claims a host uid, until the last copy of the descriptor is closed.
    ///
    /// # Errors
    /// `AddrInUse` while it is claimed; else when the file cannot be made.
    pub fn uid(&self, uid: u32) -> io::Result<OwnedFd> {
        self.claim("uids", uid)
    }

    /// Claims one of the pairs of interfaces by which networks of dynos' own are connected, until the last copy of the descriptor is
    /// closed.
    ///
    /// # Errors
    /// `AddrInUse` while it is claimed; else when the file cannot be made.
    pub fn pair(&self, number: u16) -> io::Result<OwnedFd> {
        self.claim("pairs", number.into())
    }

    /// The file whose lock is held while rules of networks change.
    pub fn network_lock(&self) -> PathBuf {
        self.folder.join("network.lock")
    }

    fn claim(&self, file: &str, number: u32) -> io::Result<OwnedFd> {
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(self.folder.join(file))?;
        match lock_byte(&file, number) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::AddrInUse.into()),
            // A kernel without such locks has one server, most likely.
            _ => Ok(file.into()),
        }
    }
}

/// Whether the folder is there, or can be made, and is this user's alone to change. In a container it may be part of an image that
/// is mounted read-only.
fn is_private(folder: &Path, uid: u32) -> bool {
    let _ = DirBuilder::new().mode(0o700).create(folder);
    folder
        .symlink_metadata()
        .is_ok_and(|it| it.is_dir() && it.uid() == uid && it.mode() & 0o022 == 0)
        && rustix::fs::access(folder, Access::WRITE_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_to_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims::in_folder(folder.path());
        let in_use = |port| claims.port(port).unwrap_err().kind() == ErrorKind::AddrInUse;
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        assert!(in_use(port));
        drop(free);
        let claim = claims.port(port).unwrap();
        assert!(in_use(port));
        // Whoever has it may listen.
        drop(TcpListener::bind(("127.0.0.1", port)).unwrap());
        drop(claim);
        // A process that another test is just starting has a copy of every descriptor for a moment.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while claims.port(port).is_err() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_uid_is_given_to_one_at_a_time_and_is_no_port() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (
            Claims::in_folder(folder.path()),
            Claims::in_folder(folder.path()),
        );
        let _claim = one.uid(0x7800_0001).unwrap();
        let error = other.uid(0x7800_0001).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let _next = other.uid(0x7800_0002).unwrap();
        assert!(is_private(
            &folder.path().join("dyno"),
            rustix::process::geteuid().as_raw()
        ));
        assert!(!is_private(Path::new("/proc"), 1));
    }
}
