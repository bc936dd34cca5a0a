//! The port of a web dyno: whether a socket of the dyno's own listens on it.
//!
//! A program does not announce that it listens, so the supervisor looks, often at first, then less often. Which process
//! has the socket can only be seen from inside, so init is asked.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mio::Token;

use crate::kernel::listener::{Listener, Listeners};
use crate::wire::reactor::Reactor;

/// How many addresses the boot time-out's message names at most.
const MOST_SHOWN: usize = 5;

/// The first and the longest pause between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// The port of a web dyno: see the [module](self).
#[derive(Debug)]
pub struct Port {
    number: u16,
    token: Token,
    listeners: Option<Listeners>,
    /// The process in whose network it is, and the kernel's socket service there; None: it is the host's.
    network: Option<(i32, Option<OwnedFd>)>,
    pause: Duration,
    /// The socket that was found last, about which init has not answered yet.
    asked: Option<Listener>,
    /// The dyno's own socket.
    listener: Option<Listener>,
}

impl Port {
    /// The port with this number, not watched yet.
    pub fn new(number: u16, reactor: &mut Reactor) -> Self {
        Self {
            number,
            token: reactor.token(),
            listeners: None,
            network: None,
            pause: PAUSES.0,
            asked: None,
            listener: None,
        }
    }

    /// The token of the deadlines at which [`look`](Self::look) is to be called.
    pub fn token(&self) -> Token {
        self.token
    }

    /// The socket that listens on the port, if it is the dyno's.
    pub fn listener(&self) -> Option<Listener> {
        self.listener
    }

    /// Has the port be one of the network of `process`, with the kernel's socket service there, if there is one.
    pub fn be_in(&mut self, process: i32, service: Option<OwnedFd>) {
        self.network = Some((process, service));
    }

    /// The process in whose network it is; None: it is the host's.
    pub fn process(&self) -> Option<i32> {
        self.network.as_ref().map(|(process, _)| *process)
    }

    /// Begins to look for the dyno's own socket.
    pub fn watch(&mut self, reactor: &mut Reactor) {
        self.listeners.get_or_insert_with(|| match &self.network {
            None => Listeners::open(),
            Some((process, service)) => {
                let service = service.as_ref().and_then(|it| it.try_clone().ok());
                Listeners::of_process(*process, service)
            }
        });
        self.pause = PAUSES.0;
        self.look_later(reactor);
    }

    /// Stops looking.
    pub fn leave(&mut self, reactor: &mut Reactor) {
        self.listeners = None;
        reactor.cancel_deadline(self.token);
    }

    /// Looks at the port; returns the inode of a socket about which init is to be asked.
    pub fn look(&mut self, reactor: &mut Reactor) -> Option<u64> {
        let listeners = self.listeners.as_ref()?;
        // After an error, the port counts as free, and the boot time-out ends the wait.
        self.asked = listeners.on_port(self.number).ok().flatten();
        if self.asked.is_none() {
            self.listener = None;
            self.look_later(reactor);
        }
        self.asked.map(|listener| listener.inode)
    }

    /// Takes init's answer; true if the dyno listens on its port.
    pub fn answered(&mut self, inode: u64, ours: bool, reactor: &mut Reactor) -> bool {
        let asked = self.asked.take_if(|asked| asked.inode == inode);
        if asked.is_none() {
            return false;
        }
        self.listener = asked.filter(|_| ours);
        match self.listener {
            Some(_) => self.leave(reactor),
            None => self.look_later(reactor),
        }
        self.listener.is_some()
    }

    /// The text about where the dyno listens instead, given the addresses of its sockets, for the message of a boot time-out.
    pub fn elsewhere(&self, own: &[SocketAddr]) -> String {
        let number = self.number;
        let list = |addresses: &[&SocketAddr]| {
            let shown = addresses
                .iter()
                .take(MOST_SHOWN)
                .map(|it| format!("`{it}`"));
            let more = addresses.len().saturating_sub(MOST_SHOWN);
            let more = (more > 0).then(|| format!("{more} more"));
            shown.chain(more).collect::<Vec<_>>().join(", ")
        };
        let (on_port, others): (Vec<_>, Vec<_>) = own.iter().partition(|it| it.port() == number);
        match (on_port.is_empty(), others.is_empty()) {
            (true, true) => {
                format!("No process of the dyno listens on any TCP port; $PORT is {number}")
            }
            (false, _) => format!(
                "The dyno listens on {}, where requests to 127.0.0.1 or ::1 do not arrive: listen on 0.0.0.0 or [::]",
                list(&on_port)
            ),
            (true, false) => format!(
                "The dyno listens on {}, and not on $PORT, which is {number}",
                list(&others)
            ),
        }
    }

    fn look_later(&mut self, reactor: &mut Reactor) {
        reactor.set_deadline(self.token, Instant::now() + self.pause);
        self.pause = (self.pause * 3 / 2).min(PAUSES.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_time_out_says_where_the_dyno_listens() {
        let port = Port::new(20_001, &mut Reactor::new().unwrap());
        let said = |own: &[&str]| {
            let own: Vec<SocketAddr> = own.iter().map(|it| it.parse().unwrap()).collect();
            port.elsewhere(&own)
        };
        assert_eq!(
            said(&[]),
            "No process of the dyno listens on any TCP port; $PORT is 20001"
        );
        assert_eq!(
            said(&["127.0.0.1:3000", "[::]:9394"]),
            "The dyno listens on `127.0.0.1:3000`, `[::]:9394`, and not on $PORT, which is 20001"
        );
        assert!(
            said(&["10.0.0.7:20001", "0.0.0.0:3000"])
                .starts_with("The dyno listens on `10.0.0.7:20001`, where requests to 127.0.0.1")
        );
        let many: Vec<_> = (1..=7).map(|n| format!("0.0.0.0:{n}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert!(said(&many).contains("`0.0.0.0:5`, 2 more, and not"));
    }
}
