//! Who listens on a TCP port of this host: which socket gets a connection that is made to it now. A port does not say
//! which program listens on it: a program of the host may be quicker than the dyno that was given the port. So a dyno
//! is up, and gets requests, only if a process of the dyno has the socket behind its port open. The kernel is asked for
//! just that socket (`NETLINK_SOCK_DIAG`, about 5 µs, measured), or, where it has no such service, `/proc/net/tcp` is
//! read, which lists the listening sockets first.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::shown;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// Constants of the kernel (linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, net/tcp_states.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const TCP_LISTEN: u8 = 10;

/// Sizes in bytes of `struct nlmsghdr`, `struct inet_diag_sockid` and `struct inet_diag_msg`, and the offsets of the
/// state and the inode in the last.
const HEADER: usize = 16;
const SOCKET_ID: usize = 48;
const ANSWER: usize = 72;
const STATE_AT: usize = 1;
const UID_AT: usize = 64;
const INODE_AT: usize = 68;
const QUESTION: usize = HEADER + 8 + SOCKET_ID;

/// How much of a process's title is read, in bytes.
const LONGEST_TITLE: usize = 200;

/// Every state a socket can be in.
const ANY_STATE: u32 = 0xffff_ffff;

/// The socket that listens at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Where to connect to.
    pub address: SocketAddr,
    /// The socket's inode: `socket:[INODE]` in `/proc/PID/fd`.
    pub inode: u64,
    /// Whether it is in a network of the dyno's own, where only sockets that are made there get to.
    #[serde(default)]
    pub apart: bool,
}

/// A way to ask which sockets listen: the kernel's socket service, or `/proc`.
#[derive(Debug)]
pub struct Listeners {
    /// None: by reading `/proc`.
    socket: Option<OwnedFd>,
    /// The process of another network whose listening sockets these are; None: those of the caller's.
    process: Option<i32>,
}

impl Listeners {
    /// Finds out which of the two this host offers.
    pub fn open() -> Self {
        let asked = || -> io::Result<Self> {
            let kind = SocketType::RAW;
            let protocol = Some(netlink::SOCK_DIAG);
            let flags = SocketFlags::CLOEXEC;
            let socket = rustix::net::socket_with(AddressFamily::NETLINK, kind, flags, protocol)?;
            let asking = Self {
                socket: Some(socket),
                process: None,
            };
            // "No such socket" and "no such service" are one answer, so the kernel is asked for a socket that exists.
            let known = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            match asking.at(known.local_addr()?)? {
                Some(_) => Ok(asking),
                None => Err(ErrorKind::Unsupported.into()),
            }
        };
        asked().unwrap_or(Self {
            socket: None,
            process: None,
        })
    }

    /// The kernel's socket service in the caller's network, if it is there: for [`of_process`](Self::of_process) in another.
    pub fn into_socket(self) -> Option<OwnedFd> {
        self.socket
    }

    /// Those of another network: `process` is in it, and `socket` comes from [`into_socket`](Self::into_socket) there.
    pub fn of_process(process: i32, socket: Option<OwnedFd>) -> Self {
        Self {
            socket,
            process: Some(process),
        }
    }

    /// The socket that gets connections to this port of the loopback interface, over IPv4 or else over IPv6.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn on_port(&self, port: u16) -> io::Result<Option<Listener>> {
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        for ip in loopback {
            let address = SocketAddr::new(ip, port);
            if let Some(inode) = self.at(address)? {
                let apart = self.process.is_some();
                return Ok(Some(Listener {
                    address,
                    inode,
                    apart,
                }));
            }
        }
        Ok(None)
    }

    /// Whether a process of this host still has the socket open that is connected from `from` to `to`. A socket that
    /// was only shut down for writing is open; one that was closed is not, although its peer sees the same end of file
    /// in both cases.
    ///
    /// # Errors
    /// When the kernel does not answer, or there is only `/proc` to ask.
    pub fn is_open(&self, from: SocketAddr, to: SocketAddr) -> io::Result<bool> {
        let socket = self.socket.as_ref().ok_or(ErrorKind::Unsupported)?;
        let answer = exchange(socket, &request(from, Some(to), ANY_STATE))?;
        let found = understand(&answer).ok_or(ErrorKind::InvalidData)?;
        Ok(found.is_some_and(|found| found.inode != 0))
    }

    /// The inode of the socket that gets connections to `address`.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn at(&self, address: SocketAddr) -> io::Result<Option<u64>> {
        Ok(self.found_at(address)?.map(|found| found.inode))
    }

    /// Whose the socket is that gets connections to `address`; None if no socket does.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn owner_at(&self, address: SocketAddr) -> io::Result<Option<Owner>> {
        let Some(Found { inode, uid, .. }) = self.found_at(address)? else {
            return Ok(None);
        };
        let ours = namespace_of(Path::new("/proc/self"));
        let socket = link_to(inode);
        let mut sandboxed = None;
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let number = process.file_name().to_str().and_then(|it| it.parse().ok());
            let path = process.path();
            if let Some(number) = number
                && has_open(&path, &socket)
                && namespace_of(&path) != ours
            {
                let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
                sandboxed = Some((number, shown(name.trim_end().as_bytes(), LONGEST_TITLE)));
                break;
            }
        }
        Ok(Some(Owner {
            inode,
            uid,
            sandboxed,
        }))
    }

    fn found_at(&self, address: SocketAddr) -> io::Result<Option<Found>> {
        match &self.socket {
            Some(socket) => ask(socket, address),
            None => read_tables(self.process, address),
        }
    }
}

/// Whose a listening socket is, as far as this process may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The socket's inode.
    pub inode: u64,
    /// The user that made it.
    pub uid: u32,
    /// Pid and name of a process of another user namespace, as those of dynos are, that has it open.
    pub sandboxed: Option<(u32, String)>,
}

/// The user namespace of the process with this folder in `/proc`; None if this process may not know.
fn namespace_of(process: &Path) -> Option<std::path::PathBuf> {
    std::fs::read_link(process.join("ns/user")).ok()
}

fn ask(socket: &OwnedFd, address: SocketAddr) -> io::Result<Option<Found>> {
    let answer = exchange(socket, &request(address, None, 1 << TCP_LISTEN))?;
    let found = understand(&answer)
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "no answer of sock_diag"))?;
    Ok(found.filter(|found| found.state == TCP_LISTEN && found.inode != 0))
}

fn exchange(socket: &OwnedFd, question: &[u8; QUESTION]) -> io::Result<Vec<u8>> {
    rustix::net::send(socket, question, SendFlags::empty())?;
    let mut answer = [0u8; 1024];
    let (_, length) = rustix::net::recv(socket, &mut answer[..], RecvFlags::empty())?;
    Ok(answer.get(..length).unwrap_or_default().to_vec())
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`, for the socket at `source`, connected to `peer` if there is one.
fn request(source: SocketAddr, peer: Option<SocketAddr>, states: u32) -> [u8; QUESTION] {
    let mut bytes = [0; QUESTION];
    let mut at = 0;
    let mut put = |part: &[u8]| {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    };
    put(&(QUESTION as u32).to_ne_bytes());
    put(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(&NLM_F_REQUEST.to_ne_bytes());
    // Sequence number and sender, which are not used.
    put(&[0; 8]);
    let family = if source.is_ipv4() { AF_INET } else { AF_INET6 };
    put(&[family, IPPROTO_TCP, 0, 0]);
    put(&states.to_ne_bytes());
    put(&source.port().to_be_bytes());
    put(&peer.map_or(0, |peer| peer.port()).to_be_bytes());
    put(&octets(source.ip()));
    put(&peer.map_or([0; 16], |peer| octets(peer.ip())));
    // Any interface, any cookie.
    put(&[0; 4]);
    put(&[0xff; 8]);
    bytes
}

fn octets(ip: IpAddr) -> [u8; 16] {
    let mut octets = [0; 16];
    match ip {
        IpAddr::V4(ip) => octets[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => octets = ip.octets(),
    }
    octets
}

/// What the kernel says about a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    state: u8,
    /// 0 when no process has the socket open any more.
    inode: u64,
    /// The user that made the socket.
    uid: u32,
}

/// The socket in the kernel's answer, or `Some(None)` if there is no such socket; None if these bytes are no answer.
fn understand(answer: &[u8]) -> Option<Option<Found>> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let body = answer.get(HEADER..)?;
    if kind == NLMSG_ERROR {
        let errno = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
        return (errno == -libc::ENOENT).then_some(None);
    }
    if kind != SOCK_DIAG_BY_FAMILY || body.len() < ANSWER {
        return None;
    }
    let number = |at| Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?));
    Some(Some(Found {
        state: *body.get(STATE_AT)?,
        inode: number(INODE_AT)?.into(),
        uid: number(UID_AT)?,
    }))
}

/// The kernel's tables of sockets in the network of a process, IPv4 and IPv6; None: in that of the caller.
fn tables(process: Option<i32>) -> [String; 2] {
    let process = process.map_or_else(|| "self".to_owned(), |process| process.to_string());
    ["tcp", "tcp6"].map(|table| format!("/proc/{process}/net/{table}"))
}

fn read_tables(process: Option<i32>, address: SocketAddr) -> io::Result<Option<Found>> {
    // An IPv6 socket may accept IPv4 connections, too.
    for (table, of_v6) in tables(process).into_iter().zip([false, true]) {
        if address.is_ipv6() && !of_v6 {
            continue;
        }
        let file = match File::open(table) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file?,
        };
        for line in BufReader::new(file).lines().skip(1) {
            let line = line?;
            let Some((local, found)) = listening(&line) else {
                break;
            };
            if takes(local, address) {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// The sockets that listen in the network of a process, or in that of the caller, IPv4 and IPv6, `most` at most.
pub fn all(process: Option<i32>, most: usize) -> Vec<Listener> {
    let mut found = Vec::new();
    for table in tables(process) {
        let Ok(file) = File::open(table) else {
            continue;
        };
        let lines = BufReader::new(file).lines().skip(1).map_while(Result::ok);
        let sockets = lines.map_while(|line| listening(&line));
        found.extend(sockets.map(|(address, found)| Listener {
            address,
            inode: found.inode,
            apart: process.is_some(),
        }));
    }
    found.truncate(most);
    found
}

/// Address and socket of a line of `/proc/net/tcp` or `tcp6`; None for a socket that does not listen: all that follow do not.
fn listening(line: &str) -> Option<(SocketAddr, Found)> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    let (ip, port) = local.split_once(':')?;
    // Words of 32 bits in the host's byte order.
    let words = (0..ip.len() / 8)
        .map(|n| u32::from_str_radix(ip.get(8 * n..8 * n + 8)?, 16).ok())
        .collect::<Option<Vec<u32>>>()?;
    let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip: IpAddr = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        _ => <[u8; 16]>::try_from(bytes).ok()?.into(),
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    let found = Found {
        state: TCP_LISTEN,
        inode,
        uid,
    };
    (state == "0A").then_some((SocketAddr::new(ip, port), found))
}

/// Whether a socket that listens at `local` gets connections to `address`.
fn takes(local: SocketAddr, address: SocketAddr) -> bool {
    let plain = local.ip().to_canonical();
    local.port() == address.port() && (plain.is_unspecified() || plain == address.ip())
}

/// Whether a process listed in `processes`, where `/proc` is mounted, has the socket of this inode open. A process that
/// the caller may not inspect counts as not having it.
pub fn is_open_in(processes: &Path, inode: u64) -> bool {
    let wanted = link_to(inode);
    let entries = std::fs::read_dir(processes).into_iter().flatten().flatten();
    let numbered = entries.filter(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
    });
    numbered
        .map(|process| process.path())
        .any(|process| has_open(&process, &wanted))
}

/// Which process listens on this port of the loopback interface: its pid, and its name or, for a process of dyno, its
/// title. None if the caller may not see it.
pub fn process_on(port: u16) -> Option<(u32, String)> {
    let socket = link_to(Listeners::open().on_port(port).ok()??.inode);
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut numbered = processes.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, entry.path()))
    });
    let (number, process) = numbered.find(|(_, process)| has_open(process, &socket))?;
    // A process of dyno has its full title in its arguments; the kernel's short name has only the beginning.
    let line = File::open(process.join("cmdline"))
        .and_then(|line| {
            let mut bytes = Vec::new();
            line.take(LONGEST_TITLE as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        })
        .unwrap_or_default();
    let title = line.split(|byte| *byte == 0).next().unwrap_or_default();
    if title.starts_with(b"dyno: ") {
        return Some((number, shown(title, LONGEST_TITLE - 1)));
    }
    let name = std::fs::read_to_string(process.join("comm")).ok()?;
    Some((number, name.trim_end().to_owned()))
}

/// The process that has a port, for messages: `process 4711 (nginx)`, `process 4711 (dyno: server /home/ada/.dyno)`, or
/// `another program`.
pub fn who_has(port: u16) -> String {
    match process_on(port) {
        Some((number, name)) => format!("process {number} ({name})"),
        None => "another program".to_owned(),
    }
}

/// What `/proc/PID/fd` shows for the socket of this inode.
pub fn link_to(inode: u64) -> String {
    format!("socket:[{inode}]")
}

/// Whether the process with this folder in `/proc` has `socket:[INODE]` open.
pub fn has_open(process: &Path, socket: &str) -> bool {
    let open = std::fs::read_dir(process.join("fd"));
    open.into_iter()
        .flatten()
        .flatten()
        .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == socket))
}

/// The inode of a socket of our own.
#[cfg(test)]
pub fn inode_of(socket: OwnedFd) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(File::from(socket).metadata()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways() -> [Listeners; 2] {
        [
            Listeners::open(),
            Listeners {
                socket: None,
                process: None,
            },
        ]
    }

    fn inode(listener: &TcpListener) -> u64 {
        inode_of(listener.try_clone().unwrap().into()).unwrap()
    }

    #[test]
    fn who_has_a_port_is_told_by_name() {
        let ours = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = ours.local_addr().unwrap().port();
        let (number, name) = process_on(port).unwrap();
        assert_eq!(number, std::process::id());
        assert_eq!(who_has(port), format!("process {number} ({name})"));
        drop(ours);
    }

    #[test]
    fn whoever_listens_is_found_however_it_is_bound() {
        assert!(Listeners::open().socket.is_some(), "no sock_diag here");
        for ip in ["127.0.0.1", "0.0.0.0", "::", "::1"] {
            let Ok(listener) = TcpListener::bind((ip, 0)) else {
                assert!(ip.contains(':'), "{ip}");
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            for listeners in ways() {
                let found = listeners.on_port(port).unwrap().unwrap();
                assert_eq!(found.inode, inode(&listener), "{ip} {listeners:?}");
                assert_eq!(found.address.is_ipv6(), ip == "::1", "{ip} {listeners:?}");
                std::net::TcpStream::connect(found.address).unwrap();
            }
            let (processes, inode) = (Path::new("/proc"), inode(&listener));
            assert!(has_open(
                Path::new("/proc/self"),
                &format!("socket:[{inode}]")
            ));
            assert!(is_open_in(processes, inode));
            // A process that another test is just starting has a copy of every descriptor, which would go on listening.
            rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
            drop(listener);
            for listeners in ways() {
                let found = listeners.on_port(port).unwrap().map(|it| it.inode);
                assert_ne!(found, Some(inode), "{ip} {listeners:?}");
            }
        }
        assert!(!has_open(Path::new("/proc/self"), "socket:[0]"));
    }

    #[test]
    fn a_socket_of_ours_is_ours() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for listeners in ways() {
            let ours = Owner {
                inode: inode(&listener),
                uid: rustix::process::geteuid().as_raw(),
                sandboxed: None,
            };
            let owner = listeners.owner_at(address).unwrap();
            assert_eq!(owner, Some(ours), "{listeners:?}");
        }
    }

    #[test]
    fn a_closed_client_is_told_from_one_that_only_ended_its_request() {
        for ip in ["127.0.0.1", "::1"] {
            let Ok(listener) = TcpListener::bind((ip, 0)) else {
                assert!(ip.contains(':'), "{ip}");
                continue;
            };
            let to = listener.local_addr().unwrap();
            let client = std::net::TcpStream::connect(to).unwrap();
            let from = client.local_addr().unwrap();
            let _accepted = listener.accept().unwrap();
            let listeners = Listeners::open();
            assert!(listeners.is_open(from, to).unwrap(), "{ip}");
            client.shutdown(std::net::Shutdown::Write).unwrap();
            assert!(listeners.is_open(from, to).unwrap(), "{ip}");
            drop(client);
            // A process that another test is just starting has a copy of the client's descriptor for a moment.
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
            while listeners.is_open(from, to).unwrap() {
                assert!(std::time::Instant::now() < deadline, "{ip}");
                std::thread::yield_now();
            }
        }
        assert!(
            Listeners {
                socket: None,
                process: None
            }
            .is_open(
                "127.0.0.1:1".parse().unwrap(),
                "127.0.0.1:2".parse().unwrap()
            )
            .is_err()
        );
    }

    #[test]
    fn another_address_is_none_and_nonsense_no_answer() {
        let listener = TcpListener::bind("127.0.0.2:0").unwrap();
        for listeners in ways() {
            let port = listener.local_addr().unwrap().port();
            assert_eq!(listeners.on_port(port).unwrap(), None, "{listeners:?}");
        }
        assert_eq!(understand(&[]), None);
        assert_eq!(understand(&[0; 200]), None);
    }
}
