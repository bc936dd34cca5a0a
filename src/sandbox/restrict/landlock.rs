//! Landlock rules of a dyno's processes: which TCP ports they may listen on, and that they reach no abstract Unix socket and no
//! process but their own.
//!
//! Rules of ports name what is allowed, one by one: all but a few would be 65,000 rules, which take 150 ms and some megabytes
//! for each dyno (measured). So either the dyno's own port and free ones are allowed, or all.

use super::{Gap, Restriction};
use crate::kernel::sys::landlock::{Ruleset, landlock_version};

/// The version of Landlock that knows ports, and the kernel that has it.
const PORTS: (u32, &str) = (4, "6.7");

/// The version of Landlock that knows abstract sockets and signals, and the kernel that has it.
const OTHERS: (u32, &str) = (6, "6.12");

/// Takes from the calling process and all that it will start what the kernel has rules for. `port` is the only one, beside
/// free ones that the kernel chooses, that they may listen on; None: they may listen on any.
pub fn restrict(port: Option<u16>) -> Vec<Gap> {
    let version = landlock_version();
    let missing = |(least, kernel): (u32, &str)| match &version {
        Ok(version) if *version >= least => None,
        Ok(_) => Some(format!("Landlock of Linux {kernel} is needed")),
        Err(error) => Some(format!(
            "Landlock (of Linux {kernel}) is not to be had: {error}"
        )),
    };
    let (no_ports, no_others) = (missing(PORTS), missing(OTHERS));
    let ports = port.filter(|_| no_ports.is_none());
    let refused = in_force(ports, no_others.is_none())
        .err()
        .map(|error| error.to_string());
    let gap = |restriction, missing: Option<String>| {
        let why = missing.or_else(|| refused.clone())?;
        Some(Gap::new(restriction, why))
    };
    let gaps = [
        gap(Restriction::Ports, no_ports),
        gap(Restriction::Sockets, no_others.clone()),
        gap(Restriction::Signals, no_others),
    ];
    gaps.into_iter().flatten().collect()
}

fn in_force(port: Option<u16>, others: bool) -> std::io::Result<()> {
    if port.is_none() && !others {
        return Ok(());
    }
    let rules = Ruleset::new(port.is_some(), others)?;
    for port in port.into_iter().chain(port.map(|_| 0)) {
        rules.allow_port(port)?;
    }
    rules.put_in_force()
}
