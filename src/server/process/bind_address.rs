//! Takes the addresses that a part of the server listens on.
//!
//! `localhost` is 127.0.0.1 to one program and `::1` to another. So who listens on one of them listens at the same port of
//! the other, too, its *twin*: otherwise any process of the host, a dyno as well, could listen there and get clients and
//! their tokens.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::net::{AddressFamily, sockopt};

use crate::error::{UserError, tell};
use crate::kernel::listener::{Listeners, who_has};
use crate::model::settings::Listen;
use crate::wire::handover::{Handover, Part};

/// A part of the server that listens.
#[derive(Debug)]
pub struct BindAddress {
    /// Its socket among those that are handed over.
    pub socket: Part,
    /// `the router`.
    pub part: &'static str,
    /// The option that says where it listens, without its dashes.
    pub option: &'static str,
    /// The file that says where it listened last: an address that a person has seen stays true.
    pub memory: PathBuf,
}

/// What happens when the address that was asked for is taken, or is not this host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unless {
    /// The server does not start: a person who waits for it has typed the address.
    Fails,
    /// The server starts without it, and tries again.
    TriesAgain,
}

/// The sockets of an address, as far as they were free.
#[derive(Debug, Default)]
pub struct Taken {
    /// The sockets, the main one first; none if there is none to be.
    pub sockets: Vec<(Part, TcpListener)>,
    /// The address that was taken, or is not this host's.
    pub missing: Option<Missing>,
}

/// An address that was taken, or is not this host's, and is tried again.
#[derive(Debug, Clone)]
pub struct Missing {
    /// The socket that is missing.
    pub socket: Part,
    /// `the router`.
    pub part: &'static str,
    /// The address.
    pub address: SocketAddr,
    error: ErrorKind,
}

impl Missing {
    /// `the router cannot listen on 127.0.0.1:8080: process 4711 (nginx) has that port`
    pub fn message(&self) -> String {
        let Self { part, address, .. } = self;
        let why = match self.error {
            ErrorKind::AddrInUse => format!("{} has that port", who_has(address.port())),
            other => other.to_string(),
        };
        format!("{part} cannot listen on `{address}`: {why}")
    }
}

impl Taken {
    /// The main socket's address; None if there is none.
    pub fn address(&self) -> Option<SocketAddr> {
        self.sockets.first()?.1.local_addr().ok()
    }
}

impl BindAddress {
    /// Listens where `wish` says. `left` has the sockets of an earlier server: they are taken if they listen there.
    ///
    /// # Errors
    /// When the address that was asked for is taken, and `unless` says so.
    pub fn take(&self, wish: Listen, left: &mut Handover, unless: Unless) -> Result<Taken> {
        let twin_part = self.socket.twin();
        let (main, twin) = (
            left.take(self.socket),
            twin_part.and_then(|part| left.take(part)),
        );
        if let Some(main) = main.and_then(|main| listening(main, wish)) {
            return Ok(self.with_twin(main, twin, PASSING));
        }
        let address = match wish {
            Listen::Off => return Ok(Taken::default()),
            Listen::At(address) => {
                return match bind(address, PASSING) {
                    Ok(main) => Ok(self.with_twin(main, twin, PASSING)),
                    Err(error) => {
                        let missing = self.missing(self.socket, address, &error);
                        if unless == Unless::TriesAgain {
                            return Ok(Taken {
                                missing: Some(missing),
                                ..Taken::default()
                            });
                        }
                        let option = self.option;
                        let hint = format!(
                            "`--{option} auto` takes a port that is free, `--{option} off` goes without"
                        );
                        Err(UserError::new(missing.message()).hint(hint).into())
                    }
                };
            }
            Listen::Auto(address) => address,
        };
        let before = self.before().filter(|before| before.ip() == address.ip());
        let any = SocketAddr::new(address.ip(), 0);
        let mut last = None;
        let wishes = before.into_iter().chain([address]).chain([any; FREE_TRIES]);
        for address in wishes {
            match bind(address, PASSING) {
                Ok(main) => {
                    let taken = self.with_twin(main, None, Duration::ZERO);
                    // Another one has the twin: clients of `localhost` would come to that.
                    if taken.missing.is_none() {
                        return Ok(taken);
                    }
                }
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
        Ok(Taken::default())
    }

    /// Tries again to listen at an address that was taken.
    pub fn try_again(&self, missing: &Missing) -> Taken {
        match bind(missing.address, Duration::ZERO) {
            Ok(main) if missing.socket == self.socket => self.with_twin(main, None, Duration::ZERO),
            Ok(twin) => Taken {
                sockets: vec![(missing.socket, twin)],
                missing: None,
            },
            Err(error) => Taken {
                sockets: Vec::new(),
                missing: Some(self.missing(missing.socket, missing.address, &error)),
            },
        }
    }

    /// A main socket with its twin, which may have been left.
    fn with_twin(&self, main: TcpListener, left: Option<OwnedFd>, patience: Duration) -> Taken {
        let mut taken = Taken {
            missing: None,
            sockets: Vec::new(),
        };
        let address = main.local_addr().ok().and_then(twin_of);
        if let (Some(address), Some(part)) = (address, self.socket.twin()) {
            let left = left.and_then(|left| listening(left, Listen::At(address)));
            match left.map_or_else(|| bind(address, patience), Ok) {
                Ok(twin) => taken.sockets.push((part, twin)),
                Err(error) if is_no_address_here(&error) => {}
                Err(error) => taken.missing = Some(self.missing(part, address, &error)),
            }
        }
        taken.sockets.insert(0, (self.socket, main));
        taken
    }

    fn missing(&self, socket: Part, address: SocketAddr, error: &io::Error) -> Missing {
        Missing {
            socket,
            part: self.part,
            address,
            error: error.kind(),
        }
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

/// How many free ports are tried until one is free on both loopback addresses.
const FREE_TRIES: usize = 8;

/// How long a connection in passing may have the port.
const PASSING: Duration = Duration::from_secs(2);

/// The address that `localhost` may lead to, too, when a part listens on this one. An IPv6 socket for all addresses has
/// IPv4's as well; at any other address nobody comes by the name `localhost`.
fn twin_of(address: SocketAddr) -> Option<SocketAddr> {
    let ip: IpAddr = match address.ip() {
        IpAddr::V4(Ipv4Addr::LOCALHOST | Ipv4Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Ipv4Addr::LOCALHOST.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, address.port()))
}

/// Whether the host does not have the address: one without IPv6.
fn is_no_address_here(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT)
    )
}

/// Listens there. A port that no socket listens on may be a client's for a moment: the kernel gives it to any that connects, and
/// one that asks again and again while there is no server comes to be connected to itself.
fn bind(address: SocketAddr, patience: Duration) -> io::Result<TcpListener> {
    let give_up = Instant::now() + patience;
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

    use rustix::net::SocketType;

    use super::*;

    #[test]
    fn a_port_that_a_client_has_in_passing_is_waited_for() {
        // From an address that nobody else connects from, so that no other client gets its port next.
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = SocketAddr::from(([127, 1, 2, 3], 0));
        let client = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&client, &own).unwrap();
        rustix::net::connect(&client, &other.local_addr().unwrap()).unwrap();
        let client = TcpStream::from(client);
        let address = client.local_addr().unwrap();
        assert!(TcpListener::bind(address).is_err());
        let passing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            // Closed by the other side first, which has the port of its own to wait for.
            drop(other.accept().unwrap());
            thread::sleep(Duration::from_millis(50));
            drop(client);
        });
        assert_eq!(
            bind(address, PASSING).unwrap().local_addr().unwrap(),
            address
        );
        passing.join().unwrap();
        // Where another process listens, that is said at once.
        let began = Instant::now();
        let there = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(bind(there.local_addr().unwrap(), PASSING).is_err());
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

    fn router(folder: &tempfile::TempDir) -> BindAddress {
        BindAddress {
            socket: Part::Router,
            part: "the router",
            option: "router",
            memory: folder.path().join("router"),
        }
    }

    fn take(wish: Listen, unless: Unless) -> Result<Taken> {
        let folder = tempfile::tempdir().unwrap();
        router(&folder).take(wish, &mut Handover::default(), unless)
    }

    #[test]
    fn both_loopback_addresses_are_taken_at_one_port() {
        let taken = take(
            Listen::Auto("127.0.0.1:0".parse().unwrap()),
            Unless::TriesAgain,
        )
        .unwrap();
        let addresses = taken.sockets.iter().map(|(_, it)| it.local_addr().unwrap());
        let addresses: Vec<_> = addresses.collect();
        if TcpListener::bind("[::1]:0").is_ok() {
            assert_eq!(addresses[1], twin_of(addresses[0]).unwrap());
            assert_eq!(taken.sockets[1].0, Part::RouterTwin);
        }
        for other in ["127.1.2.3:80", "192.0.2.1:80", "[::]:80", "[fe80::1]:80"] {
            assert_eq!(twin_of(other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn an_address_that_is_taken_is_an_error_or_tried_again() {
        let there = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = there.local_addr().unwrap();
        let error = take(Listen::At(address), Unless::Fails).unwrap_err();
        let words = format!("the router cannot listen on `{address}`: process ");
        assert!(error.to_string().starts_with(&words), "{error}");
        let taken = take(Listen::At(address), Unless::TriesAgain).unwrap();
        assert!(taken.sockets.is_empty());
        let missing = taken.missing.unwrap();
        let folder = tempfile::tempdir().unwrap();
        assert!(router(&folder).try_again(&missing).missing.is_some());
        rustix::net::shutdown(&there, rustix::net::Shutdown::Both).unwrap();
        drop(there);
        // A process that another test is just starting has a copy of every descriptor for a moment.
        let deadline = Instant::now() + Duration::from_secs(30);
        let had = loop {
            let taken = router(&folder).try_again(&missing);
            if taken.address() == Some(address) {
                break taken;
            }
            assert!(Instant::now() < deadline);
            thread::yield_now();
        };
        assert_eq!(had.sockets[0].0, Part::Router);
    }

    #[test]
    fn one_that_has_the_twin_keeps_no_server_from_its_port_and_has_no_free_one_taken() {
        let Ok(twin) = TcpListener::bind("[::1]:0") else {
            return;
        };
        let address = SocketAddr::new(
            Ipv4Addr::LOCALHOST.into(),
            twin.local_addr().unwrap().port(),
        );
        let taken = take(Listen::At(address), Unless::Fails).unwrap();
        assert_eq!(taken.address(), Some(address));
        let missing = taken.missing.as_ref().unwrap();
        assert_eq!(missing.socket, Part::RouterTwin);
        drop(taken);
        let taken = take(Listen::Auto(address), Unless::Fails).unwrap();
        assert_ne!(taken.address(), Some(address));
        assert!(taken.missing.is_none() && taken.sockets.len() == 2);
    }
}
