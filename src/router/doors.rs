//! Sockets of dynos with networks of their own, as they come out of the dynos' doors, and who waits for them.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;

use super::table::DynoKey;
use crate::kernel::unix_socket;
use crate::wire::door::{Ask, Door, MOST_SOCKETS};
use crate::wire::reactor::Token;

/// How many sockets are asked for at a time: what is not used waits for the next request, and takes a descriptor.
const AT_ONCE: u8 = 4;

/// The open doors of all dynos.
#[derive(Debug, Default)]
pub(super) struct Doors(HashMap<DynoKey, Entrance>);

/// A door, and what came out of it.
#[derive(Debug)]
struct Entrance {
    door: Door,
    token: Token,
    /// Sockets that are not connected yet.
    stock: Vec<OwnedFd>,
    /// Whether those are for IPv6.
    v6: bool,
    /// Whether an answer is due.
    asked: bool,
    /// The clients whose requests wait for a socket.
    waiting: Vec<Token>,
}

/// What a request gets at a door.
#[derive(Debug)]
pub(super) enum Taken {
    Socket(OwnedFd),
    /// One is on its way, and the client is told when it is there.
    Later,
    /// The door is closed.
    Never,
}

/// How a door is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DoorState {
    Open,
    /// The dyno has no sockets to give now.
    Empty,
    /// Nothing comes out of it any more.
    Closed,
}

/// What came of [`Doors::hear`].
#[derive(Debug)]
pub(super) struct Heard {
    /// Clients that waited; in the order in which they came.
    pub waiting: Vec<Token>,
    /// How the door is.
    pub state: DoorState,
}

impl Doors {
    /// Whether a dyno's door is open.
    pub fn know(&self, dyno: DynoKey) -> bool {
        self.0.contains_key(&dyno)
    }

    /// Opens the door of a dyno, which is watched under this token.
    pub fn open(&mut self, dyno: DynoKey, door: Door, token: Token) {
        let entrance = Entrance {
            door,
            token,
            stock: Vec::new(),
            v6: false,
            asked: false,
            waiting: Vec::new(),
        };
        self.0.insert(dyno, entrance);
    }

    /// Closes the door of a dyno; returns it with its token, and the clients that waited.
    pub fn close(&mut self, dyno: DynoKey) -> Option<(Door, Token, Vec<Token>)> {
        let entrance = self.0.remove(&dyno)?;
        Some((entrance.door, entrance.token, entrance.waiting))
    }

    /// Takes a socket of a family for the request of this client.
    pub fn take(&mut self, dyno: DynoKey, v6: bool, client: Token) -> Taken {
        let Some(entrance) = self.0.get_mut(&dyno) else {
            return Taken::Never;
        };
        if entrance.v6 != v6 {
            entrance.v6 = v6;
            entrance.stock.clear();
        }
        if let Some(socket) = entrance.stock.pop() {
            return Taken::Socket(socket);
        }
        if !entrance.asked {
            let ask = Ask { v6, count: AT_ONCE };
            if unix_socket::send(&entrance.door, &ask.write(), &[]).is_err() {
                return Taken::Never;
            }
            entrance.asked = true;
        }
        if !entrance.waiting.contains(&client) {
            entrance.waiting.push(client);
        }
        Taken::Later
    }

    /// Takes what has come out of a door.
    pub fn hear(&mut self, dyno: DynoKey) -> Heard {
        let Some(entrance) = self.0.get_mut(&dyno) else {
            return Heard {
                waiting: Vec::new(),
                state: DoorState::Closed,
            };
        };
        let (mut state, mut answered) = (DoorState::Open, false);
        loop {
            let (mut word, mut fds) = ([0u8; Ask::LENGTH + 1], Vec::new());
            let received = unix_socket::receive(&entrance.door, &mut word, &mut fds);
            let answer = received.map(|length| Ask::read(&word[..length]));
            match answer {
                Ok(Some(ask)) => {
                    (entrance.asked, answered) = (false, true);
                    // An answer to what another router has asked may come first.
                    let useful = ask.v6 == entrance.v6 && entrance.stock.len() < MOST_SOCKETS;
                    if useful {
                        entrance.stock.extend(fds);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(None) | Err(_) => {
                    state = DoorState::Closed;
                    break;
                }
            }
        }
        if state == DoorState::Open && answered && entrance.stock.is_empty() {
            state = DoorState::Empty;
        }
        let waiting = match answered || state == DoorState::Closed {
            true => std::mem::take(&mut entrance.waiting),
            false => Vec::new(),
        };
        Heard { waiting, state }
    }
}
