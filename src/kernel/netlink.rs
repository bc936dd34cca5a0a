//! Network interfaces of one network namespace, asked of the kernel by netlink (rtnetlink(7)): the namespace in which the
//! socket was made, whoever has it.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Constants of the kernel (linux/netlink.h, linux/rtnetlink.h, linux/if.h).
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const IFF_UP: u32 = 1;

/// The size of `struct nlmsghdr`, in bytes.
const HEADER: usize = 16;

/// The number of the loopback interface in every network namespace.
pub const LOOPBACK: u32 = 1;

/// A socket by which the interfaces of a network namespace are changed.
#[derive(Debug)]
pub struct Interfaces(OwnedFd);

impl Interfaces {
    /// Those of the caller's network namespace.
    ///
    /// # Errors
    /// When the kernel makes no such socket.
    pub fn open() -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0.
        let (kind, flags) = (SocketType::RAW, SocketFlags::CLOEXEC);
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, kind, flags, None)?;
        Ok(Self(socket))
    }

    /// Switches an interface on.
    ///
    /// # Errors
    /// When the caller may not, or there is none of this number.
    pub fn switch_on(&self, number: u32) -> io::Result<()> {
        let mut body = Body::default();
        // struct ifinfomsg: family and type, which are any; the interface; flags, and which of them are meant.
        body.put(&[0; 4]);
        body.put(&number.to_ne_bytes());
        body.put(&IFF_UP.to_ne_bytes());
        body.put(&IFF_UP.to_ne_bytes());
        self.ask(RTM_NEWLINK, 0, &body)
    }

    /// Sends a request, and waits until the kernel has done it.
    fn ask(&self, kind: u16, flags: u16, body: &Body) -> io::Result<()> {
        let mut message = Vec::with_capacity(HEADER + body.0.len());
        let length = u32::try_from(HEADER + body.0.len()).map_err(io::Error::other)?;
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        // Sequence number and sender, which are not used: there is one answer to each request.
        message.extend([0; 8]);
        message.extend(&body.0);
        rustix::net::send(&self.0, &message, SendFlags::empty())?;
        let mut answer = [0u8; 1024];
        let (_, length) = rustix::net::recv(&self.0, &mut answer[..], RecvFlags::empty())?;
        let number = |from: usize| {
            let bytes = answer.get(from..from + 4).filter(|_| from + 4 <= length)?;
            Some(i32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let kind = answer
            .get(4..6)
            .map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
        match (kind, number(HEADER)) {
            (Some(NLMSG_ERROR), Some(0)) => Ok(()),
            (Some(NLMSG_ERROR), Some(errno)) => Err(io::Error::from_raw_os_error(-errno)),
            _ => Err(io::Error::new(
                ErrorKind::InvalidData,
                "no answer of rtnetlink",
            )),
        }
    }
}

impl AsFd for Interfaces {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Interfaces {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

/// The body of a request, which grows.
#[derive(Debug, Default)]
struct Body(Vec<u8>);

impl Body {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        let interfaces = Interfaces::open().unwrap();
        let error = interfaces.switch_on(u32::MAX >> 1).unwrap_err();
        let errno = error.raw_os_error();
        let refused = [Some(libc::ENODEV), Some(libc::EPERM)];
        assert!(refused.contains(&errno), "{error}");
    }
}
