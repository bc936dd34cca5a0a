//! Who listens on a TCP port of this host: which socket gets a connection that is made to it now.
//!
//! A port says nothing about whose it is: the program that was given it may be slow, and another one quicker. So a
//! dyno is up, and gets requests, only if the socket behind its port is one that a process of the dyno has open. The
//! kernel is asked for just that socket (`NETLINK_SOCK_DIAG`, about 5 µs, measured), or, where it has no such
//! service, `/proc/net/tcp` is read, which has the listening sockets first.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// Numbers of the kernel's (linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, net/tcp_states.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const TCP_LISTEN: u8 = 10;

/// Bytes of `struct nlmsghdr`, `struct inet_diag_sockid` and `struct inet_diag_msg`, and where in the last the state
/// and the inode are.
const HEADER: usize = 16;
const SOCKET_ID: usize = 48;
const ANSWER: usize = 72;
const STATE_AT: usize = 1;
const INODE_AT: usize = 68;

/// The socket that listens at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// Where to connect to.
    pub address: SocketAddr,
    /// The socket's inode: `socket:[INODE]` in `/proc/PID/fd`.
    pub inode: u64,
}

/// A way to ask.
#[derive(Debug)]
pub struct Listeners {
    /// None: by reading `/proc`.
    socket: Option<OwnedFd>,
}

impl Listeners {
    /// Finds out which way there is.
    pub fn open() -> Self {
        let asked = || -> io::Result<Self> {
            let kind = SocketType::RAW;
            let protocol = Some(netlink::SOCK_DIAG);
            let flags = SocketFlags::CLOEXEC;
            let socket = rustix::net::socket_with(AddressFamily::NETLINK, kind, flags, protocol)?;
            let asking = Self {
                socket: Some(socket),
            };
            // "No such socket" and "no such service" are one answer; so it is asked for one that there is.
            let known = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            match asking.at(known.local_addr()?)? {
                Some(_) => Ok(asking),
                None => Err(ErrorKind::Unsupported.into()),
            }
        };
        asked().unwrap_or(Self { socket: None })
    }

    /// The socket that gets connections to this port of the loopback interface, of IPv4 or else of IPv6.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn on_port(&self, port: u16) -> io::Result<Option<Listener>> {
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        for ip in loopback {
            let address = SocketAddr::new(ip, port);
            if let Some(inode) = self.at(address)? {
                return Ok(Some(Listener { address, inode }));
            }
        }
        Ok(None)
    }

    /// The inode of the socket that gets connections to `address`.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn at(&self, address: SocketAddr) -> io::Result<Option<u64>> {
        match &self.socket {
            Some(socket) => ask(socket, address),
            None => read_tables(address),
        }
    }
}

fn ask(socket: &OwnedFd, address: SocketAddr) -> io::Result<Option<u64>> {
    rustix::net::send(socket, &request(address), SendFlags::empty())?;
    let mut answer = [0u8; 1024];
    let (_, length) = rustix::net::recv(socket, &mut answer[..], RecvFlags::empty())?;
    understand(answer.get(..length).unwrap_or_default())
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "no answer of sock_diag"))
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn request(address: SocketAddr) -> Vec<u8> {
    let length = HEADER + 8 + SOCKET_ID;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number and sender, which nobody looks at.
    bytes.extend([0; 8]);
    let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
    bytes.extend([family, IPPROTO_TCP, 0, 0]);
    bytes.extend((1u32 << TCP_LISTEN).to_ne_bytes());
    // Source port and destination port, source and destination: the listener is the source.
    bytes.extend(address.port().to_be_bytes());
    bytes.extend([0; 2]);
    let mut source = [0u8; 16];
    match address.ip() {
        IpAddr::V4(ip) => source[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => source = ip.octets(),
    }
    bytes.extend(source);
    bytes.extend([0; 16]);
    // Any interface, any cookie.
    bytes.extend([0; 4]);
    bytes.extend([0xff; 8]);
    bytes
}

/// None if this is no answer; within, the inode of the socket if there is one.
fn understand(answer: &[u8]) -> Option<Option<u64>> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let body = answer.get(HEADER..)?;
    if kind == NLMSG_ERROR {
        let errno = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
        return (errno == -libc::ENOENT).then_some(None);
    }
    if kind != SOCK_DIAG_BY_FAMILY || body.len() < ANSWER {
        return None;
    }
    let inode = u32::from_ne_bytes(body.get(INODE_AT..INODE_AT + 4)?.try_into().ok()?);
    let listens = *body.get(STATE_AT)? == TCP_LISTEN && inode != 0;
    Some(listens.then_some(u64::from(inode)))
}

fn read_tables(address: SocketAddr) -> io::Result<Option<u64>> {
    // A socket of IPv6 may get connections of IPv4, too.
    for (table, of_v6) in [("/proc/net/tcp", false), ("/proc/net/tcp6", true)] {
        if address.is_ipv6() && !of_v6 {
            continue;
        }
        let file = match File::open(table) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file?,
        };
        for line in BufReader::new(file).lines().skip(1) {
            let line = line?;
            let Some((local, inode)) = listening(&line) else {
                break;
            };
            if takes(local, address) {
                return Ok(Some(inode));
            }
        }
    }
    Ok(None)
}

/// Address and inode of a line of these tables; None when the listening ones are over.
fn listening(line: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    let (ip, port) = local.split_once(':')?;
    // Words of 32 bits as the host has them in memory.
    let words = (0..ip.len() / 8)
        .map(|n| u32::from_str_radix(ip.get(8 * n..8 * n + 8)?, 16).ok())
        .collect::<Option<Vec<u32>>>()?;
    let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip: IpAddr = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        _ => <[u8; 16]>::try_from(bytes).ok()?.into(),
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    (state == "0A").then_some((SocketAddr::new(ip, port), inode))
}

/// Whether a socket that listens at `local` gets connections to `address`.
fn takes(local: SocketAddr, address: SocketAddr) -> bool {
    let plain = local.ip().to_canonical();
    local.port() == address.port() && (plain.is_unspecified() || plain == address.ip())
}

/// Whether a process of `/proc` as it is mounted at `processes` has the socket of this inode open. What may not be
/// looked into has it not.
pub fn is_open_in(processes: &Path, inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    let entries = std::fs::read_dir(processes).into_iter().flatten().flatten();
    let numbered = entries.filter(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
    });
    numbered
        .map(|process| process.path())
        .any(|process| has_open(&process, &wanted))
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
///
/// # Errors
/// When it is no open descriptor.
pub fn inode_of(socket: OwnedFd) -> io::Result<u64> {
    Ok(File::from(socket).metadata()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways() -> [Listeners; 2] {
        [Listeners::open(), Listeners { socket: None }]
    }

    fn inode(listener: &TcpListener) -> u64 {
        inode_of(listener.try_clone().unwrap().into()).unwrap()
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
            drop(listener);
            for listeners in ways() {
                assert_eq!(listeners.on_port(port).unwrap(), None, "{ip} {listeners:?}");
            }
        }
        assert!(!has_open(Path::new("/proc/self"), "socket:[0]"));
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
