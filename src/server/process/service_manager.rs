//! What a service manager is told: that the server is ready, that it leaves, and in a few words what it does; and the sockets
//! that it is to keep for the next server, so that clients wait for that one instead of being refused.
//!
//! The protocol is `sd_notify(3)`: datagrams to the socket that `$NOTIFY_SOCKET` names, by a path or, after an `@`, by a
//! name without one. What cannot be said is dropped.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::error::tell;
use crate::kernel::unix_socket;
use crate::wire::handover::{Handover, Part};

/// Where to say it.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    dynos: Option<usize>,
    leaving: bool,
    /// What it was given to keep; None before it was told anything of that.
    kept: Option<Vec<Part>>,
}

impl ServiceManager {
    /// The one that has started this process; one that hears nothing, if there is none.
    pub fn of_process() -> Self {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        Self {
            socket: name.and_then(|name| {
                let socket = connect(&name);
                let shown = name.display();
                socket
                    .inspect_err(|error| tell!("cannot tell `{shown}` how it goes: {error}"))
                    .ok()
            }),
            ..Self::default()
        }
    }

    /// The server can be used.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// Tells what is new: how many dynos are alive, and once that the server leaves.
    pub fn update(&mut self, dynos: usize, leaving: bool) {
        if self.socket.is_none() {
            return;
        }
        if self.dynos.replace(dynos) != Some(dynos) {
            self.say(&format!("STATUS=dynos alive: {dynos}"));
        }
        if leaving && !std::mem::replace(&mut self.leaving, true) {
            self.say("STOPPING=1");
        }
    }

    /// Whether there is one, which is given the sockets to keep.
    pub fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// Has it keep the sockets of `estate`, as far as it has not been told of them. What it has kept for this server and is not
    /// used any more goes. A service that may keep none (`FileDescriptorStoreMax=`) is as well off as before.
    pub fn keep(&mut self, estate: &Handover) {
        let Some(socket) = &self.socket else { return };
        let is_first = self.kept.is_none();
        let kept = self.kept.get_or_insert_default();
        for part in Part::SOCKETS {
            let name = part.name();
            let left = estate.get(part);
            if is_first {
                let _ = socket.send(format!("FDSTOREREMOVE=1\nFDNAME={name}").as_bytes());
            }
            if let Some(left) = left
                && !kept.contains(&part)
            {
                let what = format!("FDSTORE=1\nFDNAME={name}");
                let _ = unix_socket::send(socket, what.as_bytes(), &[left.as_fd()]);
                kept.push(part);
            }
        }
    }

    fn say(&self, what: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(what.as_bytes());
        }
    }
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // The server must never wait for it.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(name: &OsStr) -> ServiceManager {
        ServiceManager {
            socket: Some(connect(name).unwrap()),
            ..ServiceManager::default()
        }
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn each_news_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut manager = manager(path.as_os_str());
        manager.ready();
        assert_eq!(heard(&socket), "READY=1");
        manager.update(2, false);
        manager.update(2, false);
        assert_eq!(heard(&socket), "STATUS=dynos alive: 2");
        manager.update(2, true);
        manager.update(2, true);
        assert_eq!(heard(&socket), "STOPPING=1");
        assert!(socket.recv(&mut [0; 9]).is_err());
        // The manager does not listen any more, or not fast enough.
        drop(socket);
        manager.update(3, true);
        ServiceManager::default().update(1, true);
    }

    #[test]
    fn each_socket_is_given_to_keep_once_and_what_was_kept_before_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut manager = manager(path.as_os_str());
        let mut estate = Handover::default();
        let put = |estate: &mut Handover, part| {
            estate.put(part, std::fs::File::open("/dev/null").unwrap().into());
        };
        put(&mut estate, Part::Router);
        put(&mut estate, Part::Lock);
        manager.keep(&estate);
        manager.keep(&estate);
        put(&mut estate, Part::Api);
        manager.keep(&estate);
        let (mut told, mut fds) = (Vec::new(), Vec::new());
        let mut buffer = [0; 100];
        while let Ok(length) = unix_socket::receive(&socket, &mut buffer, &mut fds) {
            told.push(String::from_utf8_lossy(&buffer[..length]).replace('\n', " "));
        }
        let expected = [
            "FDSTOREREMOVE=1 FDNAME=api",
            "FDSTOREREMOVE=1 FDNAME=router",
            "FDSTORE=1 FDNAME=router",
            "FDSTOREREMOVE=1 FDNAME=listen",
            "FDSTOREREMOVE=1 FDNAME=rendezvous",
            "FDSTOREREMOVE=1 FDNAME=router-twin",
            "FDSTOREREMOVE=1 FDNAME=listen-twin",
            "FDSTOREREMOVE=1 FDNAME=rendezvous-twin",
            "FDSTORE=1 FDNAME=api",
        ];
        assert_eq!(told, expected);
        assert_eq!(fds.len(), 2);
        ServiceManager::default().keep(&estate);
    }

    #[test]
    fn a_name_without_a_path_will_do() {
        let name = format!("dyno-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        manager(format!("@{name}").as_ref()).ready();
        assert_eq!(heard(&socket), "READY=1");
        assert!(connect("relative".as_ref()).is_err());
        assert!(connect(format!("/{}", "x".repeat(200)).as_ref()).is_err());
    }
}
