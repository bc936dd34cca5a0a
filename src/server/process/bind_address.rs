//! Takes the address that a part of the server listens on.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::net::{AddressFamily, sockopt};

use crate::error::{UserError, tell};
use crate::kernel::listener::{Listeners, who_has};
use crate::model::settings::Listen;

/// A part of the server that listens.
#[derive(Debug)]
pub struct BindAddress {
    /// `the router`.
    pub part: &'static str,
    /// The option that says where it listens, without its dashes.
    pub option: &'static str,
    /// The file that says where it listened last: an address that a person has seen stays true.
    pub memory: PathBuf,
}

impl BindAddress {
    /// Listens where `wish` says; None if it says nowhere, or if there need not be one and all addresses are taken. `left` is
    /// the socket of an earlier server, if it has left one: that is it, if it listens there.
    ///
    /// # Errors
    /// When the address that was asked for is taken, or is not this host's.
    pub fn take(&self, wish: Listen, left: Option<OwnedFd>) -> Result<Option<TcpListener>> {
        if let Some(listener) = left.and_then(|left| listening(left, wish)) {
            return Ok(Some(listener));
        }
        let address = match wish {
            Listen::Off => return Ok(None),
            Listen::At(address) => {
                let Self { part, option, .. } = self;
                let listener = bind(address).map_err(|error| {
                    let why = match error.kind() {
                        ErrorKind::AddrInUse => {
                            format!("{} has that port", who_has(address.port()))
                        }
                        _ => error.to_string(),
                    };
                    UserError::new(format!("{part} cannot listen on `{address}`: {why}"))
                        .hint(format!("`--{option} auto` takes a port that is free, `--{option} off` goes without"))
                })?;
                return Ok(Some(listener));
            }
            Listen::Auto(address) => address,
        };
        let before = self.before().filter(|before| before.ip() == address.ip());
        let any = SocketAddr::new(address.ip(), 0);
        let mut last = None;
        for address in before.into_iter().chain([address, any]) {
            match bind(address) {
                Ok(listener) => return Ok(Some(listener)),
                Err(error) => last = Some(error),
            }
        }
        // A host without the interface still runs dynos.
        if let Some(error) = last {
            tell!(
                "{} is not there: it cannot listen on {address}: {error}",
                self.part
            );
        }
        Ok(None)
    }

    /// Where it listened last.
    pub fn before(&self) -> Option<SocketAddr> {
        fs::read_to_string(&self.memory).ok()?.trim().parse().ok()
    }

    /// Has the next server listen there, if it can.
    pub fn remember(&self, address: SocketAddr) {
        let _ = fs::write(&self.memory, address.to_string());
    }
}

/// How long a connection in passing may have the port.
const PASSING: Duration = Duration::from_secs(2);

/// Listens there. A port that no socket listens on may be a client's for a moment: the kernel gives it to any that connects, and
/// one that asks again and again while there is no server comes to be connected to itself.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let give_up = Instant::now() + PASSING;
    loop {
        match TcpListener::bind(address) {
            Err(error)
                if error.kind() == ErrorKind::AddrInUse
                    && address.port() != 0
                    && Instant::now() < give_up
                    && matches!(Listeners::open().on_port(address.port()), Ok(None)) =>
            {
                thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// A socket of an earlier server, if it listens where this one is to.
fn listening(left: OwnedFd, wish: Listen) -> Option<TcpListener> {
    let domain = sockopt::socket_domain(&left).ok()?;
    let is_tcp = matches!(domain, AddressFamily::INET | AddressFamily::INET6);
    if !is_tcp || sockopt::socket_acceptconn(&left) != Ok(true) {
        return None;
    }
    let listener = TcpListener::from(left);
    let there = listener.local_addr().ok()?;
    let fits = match wish {
        Listen::Off => false,
        Listen::At(address) => there == address,
        Listen::Auto(address) => there.ip() == address.ip(),
    };
    fits.then_some(listener)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_port_that_a_client_has_in_passing_is_waited_for() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(other.local_addr().unwrap()).unwrap();
        let address = client.local_addr().unwrap();
        assert!(TcpListener::bind(address).is_err());
        let passing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            // Closed by the other side first, which has the port of its own to wait for.
            drop(other.accept().unwrap());
            thread::sleep(Duration::from_millis(50));
            drop(client);
        });
        assert_eq!(bind(address).unwrap().local_addr().unwrap(), address);
        passing.join().unwrap();
        // Where another process listens, that is said at once.
        let began = Instant::now();
        let there = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(bind(there.local_addr().unwrap()).is_err());
        assert!(began.elapsed() < PASSING);
    }

    #[test]
    fn a_socket_that_was_left_is_taken_if_it_listens_where_it_should() {
        let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = |wish: fn(SocketAddr) -> Listen| {
            let left = listener();
            let address = left.local_addr().unwrap();
            let taken = listening(left.into(), wish(address));
            taken.is_some_and(|taken| taken.local_addr().unwrap() == address)
        };
        assert!(taken(Listen::At));
        // Whichever port it had found free.
        assert!(taken(|_| Listen::Auto("127.0.0.1:8080".parse().unwrap())));
        assert!(!taken(|_| Listen::Auto("[::1]:8080".parse().unwrap())));
        assert!(!taken(|_| Listen::At("127.0.0.1:9".parse().unwrap())));
        assert!(!taken(|_| Listen::Off));
        let wish = Listen::Auto("127.0.0.1:8080".parse().unwrap());
        let file = tempfile::tempfile().unwrap();
        assert!(listening(file.into(), wish).is_none());
        let held = listener();
        let client = std::net::TcpStream::connect(held.local_addr().unwrap()).unwrap();
        assert!(listening(client.into(), wish).is_none());
    }
}
