//! A network of a dyno's own: a namespace with nothing but the loopback interface.
//!
//! The process that is becoming PID 1 moves itself into it, while it has the privilege of its user namespace ([`enter`]). What the
//! supervisor then needs of the inside are sockets, each of which stays in the network that it was made in: they are passed out
//! ([`NetworkEnds`]).

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};

use crate::kernel::listener::Listeners;
use crate::kernel::netlink::{Interfaces, LOOPBACK};
use crate::kernel::sys::process::leave_network;
use crate::kernel::unix_socket;
use crate::model::network::OwnNetwork;

/// The message that passes the ends out.
const ENDS: &[u8] = b"ends";

/// The message that passes out one of the sockets that listen for a service of the host.
const PLACE: &[u8] = b"at";

/// Sockets of a dyno's network, for the supervisor.
#[derive(Debug)]
pub struct NetworkEnds {
    /// The kernel's socket service, by which it is seen who listens there; None where the kernel has none.
    pub listeners: Option<OwnedFd>,
    /// Sockets that listen where services of the host are reached, by their addresses.
    pub reach: Vec<(SocketAddr, OwnedFd)>,
}

impl NetworkEnds {
    /// Receives what [`enter`] has passed out.
    ///
    /// # Errors
    /// When it did not.
    pub fn receive(control: impl AsFd, network: &OwnNetwork) -> Result<Self> {
        let (mut word, mut fds) = ([0u8; ENDS.len() + 1], Vec::new());
        let length = unix_socket::receive(&control, &mut word, &mut fds)
            .context("cannot hear of the dyno's network")?;
        if &word[..length] != ENDS {
            bail!("nothing was heard of the dyno's network");
        }
        let listeners = fds.pop();
        let mut reach = Vec::new();
        for address in &network.reach {
            let length = unix_socket::receive(&control, &mut word, &mut fds)
                .context("cannot hear of the dyno's network")?;
            let listener = fds.pop().filter(|_| &word[..length] == PLACE);
            let listener = listener.context("a place in the dyno's network is missing")?;
            reach.push((*address, listener));
        }
        Ok(Self { listeners, reach })
    }
}

/// Leaves the host's network for one of the caller's own, with its loopback interface on, and passes its ends out.
///
/// # Errors
/// When the kernel has no network namespaces, or refuses one.
pub fn enter(network: &OwnNetwork, supervisor: BorrowedFd<'_>) -> Result<()> {
    leave_network().context("cannot make a network namespace")?;
    let interfaces = Interfaces::open().context("cannot reach the dyno's network")?;
    interfaces
        .switch_on(LOOPBACK)
        .context("cannot switch the dyno's loopback interface on")?;
    let listeners = Listeners::open().into_socket();
    let fds: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
    unix_socket::send(supervisor, ENDS, &fds).context("the supervisor is gone")?;
    for address in &network.reach {
        let listener = TcpListener::bind(address)
            .with_context(|| format!("cannot listen on {address} in the dyno's network"))?;
        unix_socket::send(supervisor, PLACE, &[listener.as_fd()])
            .context("the supervisor is gone")?;
    }
    Ok(())
}
