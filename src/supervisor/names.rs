//! Names that a dyno with a network of its own asks for: its name server is a socket in that network, and what comes there by UDP
//! is asked of the host's name servers, from the host. So it does not matter whether those are reached from the dyno's network:
//! they may be at the host's loopback interface, or change.
//!
//! A server that does not answer in a moment is followed by the next. (What comes by TCP is a service like others, see `reach`.)

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mio::{Interest, Token};

use crate::wire::reactor::{Event, Reactor};

/// The most questions that wait for an answer; more are dropped, and asked again by whoever asks.
const MOST: usize = 128;

/// The most questions that are taken in a turn.
const AT_ONCE: usize = 64;

/// The most servers that are asked, as the C library does.
const MOST_SERVERS: usize = 3;

/// How long a server may take before the next is asked, too.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest question, in bytes.
const LONGEST_QUESTION: usize = 4096;

/// The port of name servers.
const PORT: u16 = 53;

/// Where the host's name servers are named.
const FILE: &str = "/etc/resolv.conf";

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Names {
    inside: Option<(UdpSocket, Token)>,
    questions: HashMap<Token, Question>,
}

/// A question that waits for its answer.
#[derive(Debug)]
struct Question {
    /// Connected to the server that was asked last.
    outside: UdpSocket,
    /// Who asks.
    from: SocketAddr,
    bytes: Vec<u8>,
    /// Those that are left to be asked; the last comes first.
    servers: Vec<SocketAddr>,
}

impl Names {
    /// Answers what comes to this socket of the dyno's network.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn open(&mut self, inside: OwnedFd, reactor: &mut Reactor) -> std::io::Result<()> {
        let (inside, token) = (UdpSocket::from(inside), reactor.token());
        inside.set_nonblocking(true)?;
        reactor.register(&inside, token, Interest::READABLE)?;
        self.inside = Some((inside, token));
        Ok(())
    }

    /// Whether `token` is for [`hear`](Self::hear).
    pub fn knows(&self, token: Token) -> bool {
        self.questions.contains_key(&token)
            || self.inside.as_ref().is_some_and(|(_, own)| *own == token)
    }

    /// Takes an event.
    pub fn hear(&mut self, event: Event, reactor: &mut Reactor) {
        let (Event::Ready { token, .. } | Event::Again(token) | Event::Deadline(token)) = event
        else {
            return;
        };
        let Some(mut question) = self.questions.remove(&token) else {
            return self.take_questions(token, reactor);
        };
        reactor.forget(token);
        if !matches!(event, Event::Deadline(_)) {
            let mut answer = [0u8; u16::MAX as usize];
            match question.outside.recv(&mut answer) {
                Ok(length) => {
                    if let Some((inside, _)) = &self.inside {
                        // One that cannot be sent is one that was lost.
                        let _ = inside.send_to(&answer[..length], question.from);
                    }
                    return;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    reactor.set_deadline(token, Instant::now() + PATIENCE);
                    self.questions.insert(token, question);
                    return;
                }
                // Nobody is there.
                Err(_) => {}
            }
        }
        if let Some(outside) = ask(&mut question.servers, &question.bytes) {
            self.wait_for(
                Question {
                    outside,
                    ..question
                },
                reactor,
            );
        }
    }

    fn take_questions(&mut self, token: Token, reactor: &mut Reactor) {
        let mut bytes = [0u8; LONGEST_QUESTION];
        for _ in 0..AT_ONCE {
            let Some((inside, _)) = &self.inside else {
                return;
            };
            let Ok((length, from)) = inside.recv_from(&mut bytes) else {
                return;
            };
            if self.questions.len() >= MOST {
                continue;
            }
            let mut servers = servers();
            servers.reverse();
            if let Some(outside) = ask(&mut servers, &bytes[..length]) {
                let bytes = bytes[..length].to_vec();
                let question = Question {
                    outside,
                    from,
                    bytes,
                    servers,
                };
                self.wait_for(question, reactor);
            }
        }
        reactor.again(token);
    }

    fn wait_for(&mut self, question: Question, reactor: &mut Reactor) {
        let token = reactor.token();
        if reactor
            .register(&question.outside, token, Interest::READABLE)
            .is_ok()
        {
            reactor.set_deadline(token, Instant::now() + PATIENCE);
            self.questions.insert(token, question);
        }
    }
}

/// Asks the next server that can be asked, from a port that nobody can guess; None if there is none.
fn ask(servers: &mut Vec<SocketAddr>, bytes: &[u8]) -> Option<UdpSocket> {
    while let Some(server) = servers.pop() {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let asked = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.connect(server)?;
            socket.send(bytes)?;
            Ok(socket)
        });
        if let Ok(socket) = asked {
            return Some(socket);
        }
    }
    None
}

/// The host's name servers, in the order in which they are asked.
pub(super) fn servers() -> Vec<SocketAddr> {
    servers_in(&std::fs::read_to_string(FILE).unwrap_or_default())
}

fn servers_in(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver");
        let address = address.and_then(|_| words.next())?;
        // One with a zone is only known as an address with a port.
        let with_port = format!("[{address}]:{PORT}");
        let plain = address
            .parse::<IpAddr>()
            .map(|ip| SocketAddr::new(ip, PORT));
        plain.or_else(|_| with_port.parse()).ok()
    });
    let mut servers: Vec<_> = named.take(MOST_SERVERS).collect();
    if servers.is_empty() {
        // As the C library has it.
        servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_name_servers_are_read_as_the_c_library_does() {
        let read = |text: &str| -> Vec<String> {
            servers_in(text).iter().map(SocketAddr::to_string).collect()
        };
        assert_eq!(
            read(
                "# nameserver 192.0.2.9\n nameserver 127.0.0.53 # the stub\nnameserver ::1\nsearch a\nnameserver x\n"
            ),
            ["127.0.0.53:53", "[::1]:53"]
        );
        assert_eq!(read(""), ["127.0.0.1:53"]);
        let many = "nameserver 192.0.2.1\n".repeat(5);
        assert_eq!(read(&many).len(), MOST_SERVERS);
    }

    #[test]
    fn a_question_goes_on_to_the_next_server_when_nobody_is_there() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut servers = vec![server.local_addr().unwrap(), silent.local_addr().unwrap()];
        drop(silent);
        let mut reactor = Reactor::new().unwrap();
        let inside = UdpSocket::bind("127.0.0.1:0").unwrap();
        let place = inside.local_addr().unwrap();
        let mut names = Names::default();
        names.open(inside.into(), &mut reactor).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let outside = ask(&mut servers, b"who?").unwrap();
        let question = Question {
            outside,
            from: client.local_addr().unwrap(),
            bytes: b"who?".to_vec(),
            servers,
        };
        names.wait_for(question, &mut reactor);
        let mut events = Vec::new();
        server.set_nonblocking(true).unwrap();
        let (mut bytes, mut answered) = ([0; 16], false);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !answered || !names.questions.is_empty() {
            assert!(Instant::now() < deadline);
            let wake = reactor.token();
            reactor.set_deadline(wake, Instant::now() + Duration::from_millis(5));
            reactor.poll(&mut events).unwrap();
            for event in &events {
                let (Event::Ready { token, .. } | Event::Deadline(token)) = event else {
                    continue;
                };
                if names.knows(*token) {
                    names.hear(*event, &mut reactor);
                }
            }
            if let Ok((length, from)) = server.recv_from(&mut bytes) {
                assert_eq!(&bytes[..length], b"who?");
                server.send_to(b"me", from).unwrap();
                answered = true;
            }
        }
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let (length, from) = client.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes[..length], from), (&b"me"[..], place));
    }
}
