//! A network of a dyno's own: a namespace with nothing but the loopback interface.
//!
//! The process that is becoming PID 1 moves itself into it, while it has the privilege of its user namespace. What a process
//! outside then needs of the inside are sockets, each of which stays in the namespace that it was made in.

use anyhow::{Context, Result};

use crate::kernel::netlink::{Interfaces, LOOPBACK};
use crate::kernel::sys::process::leave_network;

/// Leaves the host's network for one of the caller's own, with its loopback interface on.
///
/// # Errors
/// When the kernel has no network namespaces, or refuses one.
pub fn enter() -> Result<()> {
    leave_network().context("cannot make a network namespace")?;
    let interfaces = Interfaces::open().context("cannot reach the dyno's network")?;
    interfaces
        .switch_on(LOOPBACK)
        .context("cannot switch the dyno's loopback interface on")
}
