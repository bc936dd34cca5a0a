//! Network interfaces of one network namespace, asked of the kernel by netlink (rtnetlink(7)): the namespace in which the
//! socket was made, whoever has it.

use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Constants of the kernel (linux/netlink.h, linux/rtnetlink.h, linux/if.h).
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const AF_INET: u8 = 2;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
const RTN_PROHIBIT: u8 = 8;

/// The size of `struct nlmsghdr`, in bytes.
const HEADER: usize = 16;

/// The number of the loopback interface in every network namespace.
pub const LOOPBACK: u32 = 1;

/// The number of the interface that [`Interfaces::make_pair`] makes in the other network.
pub const OTHER_END: u32 = 2;

/// An IPv4 network: an address, and how many of its bits count.
pub type Ipv4Network = (Ipv4Addr, u8);

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

    /// Makes two interfaces that are connected with each other: `name` in this network, `other` as [`OTHER_END`] in that of a
    /// process. Both are off.
    ///
    /// # Errors
    /// When the caller may not, the name is taken, or the kernel has no such interfaces (veth).
    pub fn make_pair(&self, name: &str, other: &str, process: i32) -> io::Result<()> {
        let mut peer = Body::default();
        peer.put(&[0; 4]);
        peer.put(&OTHER_END.to_ne_bytes());
        peer.put(&[0; 8]);
        peer.attribute(IFLA_IFNAME, &c_name(other));
        peer.attribute(IFLA_NET_NS_PID, &process.to_ne_bytes());
        let (mut data, mut info) = (Body::default(), Body::default());
        data.attribute(VETH_INFO_PEER, &peer.0);
        info.attribute(IFLA_INFO_KIND, b"veth");
        info.attribute(IFLA_INFO_DATA, &data.0);
        let mut body = Body::default();
        body.put(&[0; 16]);
        body.attribute(IFLA_IFNAME, &c_name(name));
        body.attribute(IFLA_LINKINFO, &info.0);
        self.ask(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &body)
    }

    /// Removes an interface, and the one that is connected with it.
    ///
    /// # Errors
    /// When the caller may not, or there is none of this name.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let mut body = Body::default();
        body.put(&[0; 16]);
        body.attribute(IFLA_IFNAME, &c_name(name));
        self.ask(RTM_DELLINK, 0, &body)
    }

    /// Gives an interface the address `own`, with `peer` at its other end.
    ///
    /// # Errors
    /// When the caller may not, or it has that address.
    pub fn add_address(&self, number: u32, own: Ipv4Addr, peer: Ipv4Addr) -> io::Result<()> {
        let mut body = Body::default();
        // struct ifaddrmsg: family, bits of the network, flags, scope; the interface.
        body.put(&[AF_INET, 32, 0, 0]);
        body.put(&number.to_ne_bytes());
        body.attribute(IFA_LOCAL, &own.octets());
        body.attribute(IFA_ADDRESS, &peer.octets());
        self.ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body)
    }

    /// Has everything that has no route of its own go to `gateway`, which is at the other end of an interface.
    ///
    /// # Errors
    /// When the caller may not, or there is such a route.
    pub fn add_default_route(&self, number: u32, gateway: Ipv4Addr) -> io::Result<()> {
        let mut body = Body::default();
        body.put(&[
            AF_INET,
            0,
            0,
            0,
            RT_TABLE_MAIN,
            RTPROT_STATIC,
            0,
            RTN_UNICAST,
        ]);
        body.put(&[0; 4]);
        body.attribute(RTA_GATEWAY, &gateway.octets());
        body.attribute(RTA_OIF, &number.to_ne_bytes());
        self.ask(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &body)
    }

    /// Has a network be out of reach, but for what has a longer route.
    ///
    /// # Errors
    /// When the caller may not.
    pub fn prohibit(&self, (address, bits): Ipv4Network) -> io::Result<()> {
        let mut body = Body::default();
        body.put(&[
            AF_INET,
            bits,
            0,
            0,
            RT_TABLE_MAIN,
            RTPROT_STATIC,
            0,
            RTN_PROHIBIT,
        ]);
        body.put(&[0; 4]);
        body.attribute(RTA_DST, &address.octets());
        match self.ask(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &body) {
            // It is so already.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            done => done,
        }
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

/// A name as the kernel takes it.
fn c_name(name: &str) -> Vec<u8> {
    name.bytes().chain([0]).collect()
}

/// The number of an interface in the caller's network.
///
/// # Errors
/// When there is none of this name.
pub fn number_of(name: &str) -> io::Result<u32> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    Ok(rustix::net::netdevice::name_to_index(&socket, name)?)
}

/// The IPv4 addresses of the caller's own network, without those of the loopback interface, by its table of routes.
pub fn own_addresses() -> Vec<Ipv4Addr> {
    let table = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    addresses_in(&table)
}

/// In the table, an address is followed by a line that says what it is: `|-- 192.0.2.2`, `/32 host LOCAL`.
fn addresses_in(table: &str) -> Vec<Ipv4Addr> {
    let (mut last, mut found) = (None, Vec::new());
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found.retain(|address: &Ipv4Addr| !address.is_loopback());
    found
}

/// The body of a request, which grows.
#[derive(Debug, Default)]
struct Body(Vec<u8>);

impl Body {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Appends a `struct rtattr` with its value, up to the next multiple of four bytes.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = 4 + value.len();
        // Values are names, addresses and a few of those together.
        self.put(&u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
        self.put(&kind.to_ne_bytes());
        self.put(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_table_of_routes() {
        let table = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.2
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
Local:
     |-- 127.0.0.1
        /32 host LOCAL
        |-- 192.0.2.2
           /32 host LOCAL
";
        assert_eq!(addresses_in(table), [Ipv4Addr::new(192, 0, 2, 2)]);
        assert!(addresses_in("/32 host LOCAL\n|-- x\n").is_empty());
    }

    #[test]
    fn attributes_have_their_length_and_room_to_the_next_word() {
        let mut body = Body::default();
        body.attribute(IFLA_IFNAME, &c_name("eth0"));
        let length = 9u16.to_ne_bytes();
        let kind = IFLA_IFNAME.to_ne_bytes();
        assert_eq!(body.0[..4], [length, kind].concat());
        assert_eq!(&body.0[4..], b"eth0\0\0\0\0");
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        let interfaces = Interfaces::open().unwrap();
        let error = interfaces.switch_on(u32::MAX >> 1).unwrap_err();
        let errno = error.raw_os_error();
        let refused = [Some(libc::ENODEV), Some(libc::EPERM)];
        assert!(refused.contains(&errno), "{error}");
    }
}
