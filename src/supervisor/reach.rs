//! Services of the host that a dyno with a network of its own reaches (the setting `reach`): at the address of each, a socket
//! listens in the dyno's network, and what connects to it is connected to the service outside, byte by byte.
//!
//! The bytes go through the supervisor, which is the host's to the service. A side that sends no more is passed on as that; an
//! error on one side is a reset on the other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mio::{Interest, Token};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt,
};

use super::names;
use crate::wire::reactor::{Event, Reactor};
use crate::wire::unsent::Unsent;

/// The most connections at a time; others wait to be accepted.
const MOST: usize = 256;

/// How many bytes are read at once, and the most that wait for a slow side.
const PIECE: usize = 32 * 1024;

/// How many pieces go one way in a turn.
const PIECES: usize = 16;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Reach {
    entrances: Vec<Entrance>,
    /// Which connection a token is for, and which side of it.
    tokens: HashMap<Token, (u64, Place)>,
    connections: HashMap<u64, Connection>,
    last: u64,
    /// Where bytes are read to, while there are connections.
    scratch: Vec<u8>,
}

/// A socket in the dyno's network, at the address of a service outside.
#[derive(Debug)]
struct Entrance {
    listener: OwnedFd,
    token: Token,
    service: Service,
}

/// What is reached at a place in the dyno's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// What listens on this host at an address.
    At(SocketAddr),
    /// The first of the host's name servers.
    Names,
}

/// Which side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Inside,
    Outside,
}

#[derive(Debug)]
struct Connection {
    inside: Side,
    outside: Side,
}

/// One side of a connection.
#[derive(Debug)]
struct Side {
    socket: OwnedFd,
    token: Token,
    readable: bool,
    writable: bool,
    /// It sends no more.
    ended: bool,
    /// It was told that the other side sends no more.
    told: bool,
    unsent: Unsent,
}

impl Reach {
    /// Serves these sockets of the dyno's network, each for a service outside.
    ///
    /// # Errors
    /// When they cannot be watched.
    pub fn open(
        &mut self,
        listeners: Vec<(Service, OwnedFd)>,
        reactor: &mut Reactor,
    ) -> std::io::Result<()> {
        for (service, listener) in listeners {
            let token = reactor.token();
            rustix::io::ioctl_fionbio(&listener, true)?;
            reactor.register(&listener, token, Interest::READABLE)?;
            self.entrances.push(Entrance {
                listener,
                token,
                service,
            });
        }
        Ok(())
    }

    /// Whether `token` is for [`hear`](Self::hear).
    pub fn knows(&self, token: Token) -> bool {
        self.tokens.contains_key(&token) || self.entrances.iter().any(|it| it.token == token)
    }

    /// Takes an event.
    pub fn hear(&mut self, event: Event, reactor: &mut Reactor) {
        let (Event::Ready { token, .. } | Event::Again(token) | Event::Deadline(token)) = event
        else {
            return;
        };
        let Some((number, place)) = self.tokens.get(&token).copied() else {
            return self.accept(reactor);
        };
        let Some(mut connection) = self.connections.remove(&number) else {
            return;
        };
        if let Event::Ready {
            readable, writable, ..
        } = event
        {
            let side = match place {
                Place::Inside => &mut connection.inside,
                Place::Outside => &mut connection.outside,
            };
            side.readable |= readable;
            side.writable |= writable;
        }
        self.scratch.resize(PIECE, 0);
        match connection.relay(&mut self.scratch) {
            Ok(Relayed::Over) => self.close(connection, reactor),
            Err(_) => {
                connection.reset();
                self.close(connection, reactor);
            }
            Ok(relayed) => {
                if relayed == Relayed::Unfinished {
                    reactor.again(token);
                }
                self.connections.insert(number, connection);
            }
        }
    }

    /// Accepts what has connected to the services' places in the dyno's network, as far as there is room.
    fn accept(&mut self, reactor: &mut Reactor) {
        for place in 0..self.entrances.len() {
            while self.connections.len() < MOST
                && let Some(entrance) = self.entrances.get(place)
                && let Some(inside) = accepted(&entrance.listener)
            {
                let service = match entrance.service {
                    Service::At(address) => Ok(address),
                    Service::Names => {
                        let first = names::servers().into_iter().next();
                        first.ok_or(Errno::ADDRNOTAVAIL)
                    }
                };
                // A service that is not there is one that hangs up.
                let connection = service.and_then(connect).and_then(|outside| {
                    let inside = Side::watched(inside, true, reactor)?;
                    let outside = Side::watched(outside, false, reactor)?;
                    Ok(Connection { inside, outside })
                });
                if let Ok(connection) = connection {
                    self.last += 1;
                    let tokens = [
                        (connection.inside.token, Place::Inside),
                        (connection.outside.token, Place::Outside),
                    ];
                    for (token, place) in tokens {
                        self.tokens.insert(token, (self.last, place));
                    }
                    self.connections.insert(self.last, connection);
                }
            }
        }
    }

    fn close(&mut self, connection: Connection, reactor: &mut Reactor) {
        for side in [&connection.inside, &connection.outside] {
            self.tokens.remove(&side.token);
            reactor.forget(side.token);
        }
        drop(connection);
        if self.connections.is_empty() {
            self.scratch = Vec::new();
        }
        // There may be some who waited for room.
        self.accept(reactor);
    }
}

/// How far a relay got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relayed {
    /// Until a side had no more to give or to take for now.
    AllForNow,
    /// There may be more at once.
    Unfinished,
    /// Both sides have ended.
    Over,
}

impl Connection {
    /// Passes on what there is, both ways.
    fn relay(&mut self, scratch: &mut [u8]) -> Result<Relayed, Errno> {
        let there = pass(&mut self.inside, &mut self.outside, scratch)?;
        let back = pass(&mut self.outside, &mut self.inside, scratch)?;
        Ok(match self.inside.told && self.outside.told {
            true => Relayed::Over,
            false if there || back => Relayed::Unfinished,
            false => Relayed::AllForNow,
        })
    }

    /// Has both sides see a reset instead of an orderly end.
    fn reset(&self) {
        for side in [&self.inside, &self.outside] {
            let _ = sockopt::set_socket_linger(&side.socket, Some(Duration::ZERO));
        }
    }
}

/// Passes on what one side has sent; true if there may be more at once.
fn pass(from: &mut Side, to: &mut Side, scratch: &mut [u8]) -> Result<bool, Errno> {
    for _ in 0..PIECES {
        to.flush()?;
        if !to.unsent.is_empty() {
            return Ok(false);
        }
        if from.ended && !to.told && to.writable {
            to.told = true;
            match rustix::net::shutdown(&to.socket, Shutdown::Write) {
                Ok(()) | Err(Errno::NOTCONN) => {}
                Err(error) => return Err(error),
            }
        }
        // Before the other side is connected, nothing is taken from this one.
        if from.ended || !from.readable || !to.writable {
            return Ok(false);
        }
        match rustix::net::recv(&from.socket, &mut *scratch, RecvFlags::empty()) {
            Ok((_, 0)) => from.ended = true,
            Ok((_, length)) => to.unsent.buffer().extend_from_slice(&scratch[..length]),
            Err(Errno::AGAIN) => from.readable = false,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

impl Side {
    fn watched(socket: OwnedFd, connected: bool, reactor: &mut Reactor) -> Result<Self, Errno> {
        let token = reactor.token();
        let interest = Interest::READABLE | Interest::WRITABLE;
        reactor
            .register(&socket, token, interest)
            .map_err(|_| Errno::NFILE)?;
        Ok(Self {
            socket,
            token,
            readable: false,
            writable: connected,
            ended: false,
            told: false,
            unsent: Unsent::default(),
        })
    }

    /// Writes what waits, as far as the socket takes it.
    fn flush(&mut self) -> Result<(), Errno> {
        let mut unsent = std::mem::take(&mut self.unsent);
        let flushed = unsent.flush(|bytes| {
            while self.writable {
                match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                    Ok(length) => return Ok(length),
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => self.writable = false,
                    Err(error) => return Err(error),
                }
            }
            Ok(0)
        });
        self.unsent = unsent;
        flushed.map(drop)
    }
}

/// The next connection, if there is one.
fn accepted(listener: &OwnedFd) -> Option<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::accept_with(listener, flags).ok()?;
    let _ = sockopt::set_tcp_nodelay(&socket, true);
    Some(socket)
}

/// Begins a connection to a service of the host.
fn connect(service: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match service {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &service) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;
    use std::time::Instant;

    use super::*;

    /// Relays until `stop` is connected to.
    fn relay(entrance: TcpListener, service: SocketAddr, until: Instant) {
        let mut reactor = Reactor::new().unwrap();
        let mut reach = Reach::default();
        reach
            .open(vec![(Service::At(service), entrance.into())], &mut reactor)
            .unwrap();
        let end = reactor.token();
        reactor.set_deadline(end, until);
        let mut events = Vec::new();
        loop {
            reactor.poll(&mut events).unwrap();
            for event in &events {
                if *event == Event::Deadline(end) {
                    return;
                }
                reach.hear(*event, &mut reactor);
            }
        }
    }

    #[test]
    fn bytes_and_ends_go_both_ways_and_a_service_that_is_not_there_hangs_up() {
        let service = TcpListener::bind("127.0.0.1:0").unwrap();
        let (there, entrance) = (
            service.local_addr().unwrap(),
            TcpListener::bind("127.0.0.1:0").unwrap(),
        );
        let place = entrance.local_addr().unwrap();
        let until = Instant::now() + Duration::from_secs(5);
        let relaying = thread::spawn(move || relay(entrance, there, until));
        // All that a client sends comes back once it has said that this was all.
        let serving = thread::spawn(move || {
            let (mut client, _) = service.accept().unwrap();
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            client.write_all(&all).unwrap();
        });
        let sent: Vec<u8> = (0..=255u8).cycle().take(3 << 20).collect();
        let mut client = TcpStream::connect(place).unwrap();
        client.write_all(&sent).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert!(back == sent, "{} of {} bytes", back.len(), sent.len());
        serving.join().unwrap();
        // Nobody listens any more.
        let mut late = TcpStream::connect(place).unwrap();
        assert!(matches!(late.read(&mut [0; 1]), Err(_) | Ok(0)));
        relaying.join().unwrap();
    }
}
