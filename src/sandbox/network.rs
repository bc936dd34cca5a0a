//! A network of a dyno's own: a namespace with nothing but the loopback interface.
//!
//! The process that is becoming PID 1 moves itself into it, while it has the privilege of its user namespace ([`enter`]). What the
//! supervisor then needs of the inside are descriptors, most of them sockets, each of which stays in the network that it was made
//! in: they are passed out ([`NetworkEnds`]).

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};

use crate::kernel::listener::Listeners;
use crate::kernel::netlink::{Interfaces, LOOPBACK};
use crate::kernel::sys::process::{Namespaces, enter_namespaces};
use crate::kernel::unix_socket;

use super::plan::NetworkPlan;

/// Where names are asked for in a network from which other hosts are reached.
pub const NAMES_AT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 53), 53);

/// A second address of the loopback interface, the dummy one of RFC 7600. The C library takes a network that has but 127.0.0.1 for
/// one without IPv4, and does not look names up in `/etc/hosts` for programs that ask for addresses they could use.
const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// The message that passes the ends out.
const ENDS: &[u8] = b"ends";

/// The message that passes out the sockets at [`NAMES_AT`].
const NAMES: &[u8] = b"name";

/// The message that passes out one of the sockets that listen for a service of the host.
const PLACE: &[u8] = b"place";

/// The longest of them, and one more byte.
const LONGEST: usize = 8;

/// What the supervisor has of a dyno's network.
#[derive(Debug)]
pub struct NetworkEnds {
    /// The namespace.
    pub network: OwnedFd,
    /// The user namespace that it belongs to.
    pub users: OwnedFd,
    /// Its interfaces.
    pub interfaces: Interfaces,
    /// The kernel's socket service, by which it is seen who listens there; None where the kernel has none.
    pub listeners: Option<OwnedFd>,
    /// Sockets of UDP and TCP where names are asked for.
    pub names: Option<(OwnedFd, OwnedFd)>,
    /// Sockets that listen where services of the host are reached, by their addresses.
    pub reach: Vec<(SocketAddr, OwnedFd)>,
}

impl NetworkEnds {
    /// Receives what [`enter`] has passed out.
    ///
    /// # Errors
    /// When it did not.
    pub fn receive(control: impl AsFd, network: &NetworkPlan) -> Result<Self> {
        let next = |wanted: &[u8]| -> Result<std::vec::IntoIter<OwnedFd>> {
            let (mut word, mut fds) = ([0u8; LONGEST], Vec::new());
            let length = unix_socket::receive(&control, &mut word, &mut fds)
                .context("cannot hear of the dyno's network")?;
            if &word[..length] != wanted {
                bail!("nothing was heard of the dyno's network");
            }
            Ok(fds.into_iter())
        };
        let missing = "a descriptor of the dyno's network is missing";
        let mut ends = next(ENDS)?;
        let mut all = Self {
            network: ends.next().context(missing)?,
            users: ends.next().context(missing)?,
            interfaces: ends.next().context(missing)?.into(),
            listeners: ends.next(),
            names: None,
            reach: Vec::new(),
        };
        if network.names {
            let mut sockets = next(NAMES)?;
            let both = sockets.next().zip(sockets.next());
            all.names = Some(both.context(missing)?);
        }
        for address in &network.reach {
            let listener = next(PLACE)?.next().context(missing)?;
            all.reach.push((*address, listener));
        }
        Ok(all)
    }
}

/// Leaves the host's network for one of the caller's own, with its loopback interface on, and passes its ends out.
///
/// # Errors
/// When the kernel has no network namespaces, or refuses one.
pub fn enter(network: &NetworkPlan, supervisor: BorrowedFd<'_>) -> Result<()> {
    enter_namespaces(Namespaces::NETWORK).context("cannot make a network namespace")?;
    let interfaces = Interfaces::open().context("cannot reach the dyno's network")?;
    interfaces
        .switch_on(LOOPBACK)
        .context("cannot switch the dyno's loopback interface on")?;
    interfaces
        .add_address(LOOPBACK, DUMMY, DUMMY)
        .context("cannot give the dyno's loopback interface an address")?;
    let tell = |word: &[u8], fds: &[BorrowedFd<'_>]| {
        let told = unix_socket::send(supervisor, word, fds);
        told.map(drop).context("the supervisor is gone")
    };
    let open = |name: &str| File::open(format!("/proc/self/ns/{name}")).map(OwnedFd::from);
    let namespaces = [open("net")?, open("user")?];
    let listeners = Listeners::open().into_socket();
    let fds = namespaces.iter().map(AsFd::as_fd);
    let fds = fds.chain([interfaces.as_fd()]);
    let fds: Vec<_> = fds.chain(listeners.iter().map(AsFd::as_fd)).collect();
    tell(ENDS, &fds)?;
    let not_there = |address| format!("cannot listen on {address} in the dyno's network");
    if network.names {
        let at = || not_there(SocketAddr::V4(NAMES_AT));
        let udp = UdpSocket::bind(NAMES_AT).with_context(at)?;
        let tcp = TcpListener::bind(NAMES_AT).with_context(at)?;
        tell(NAMES, &[udp.as_fd(), tcp.as_fd()])?;
    }
    for address in &network.reach {
        let listener = TcpListener::bind(address).with_context(|| not_there(*address))?;
        tell(PLACE, &[listener.as_fd()])?;
    }
    Ok(())
}
