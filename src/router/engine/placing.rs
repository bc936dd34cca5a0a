//! Finds a dyno for a request and a connection to it, and another dyno if that one refuses.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::clients::Client;
use super::{Engine, Holder, Lent, Step, TICK, Token};
use crate::kernel::listener::Listener;
use crate::router::FromRouter;
use crate::router::doors::{DoorState, Heard, Taken};
use crate::router::exchange::{Exchange, Stage};
use crate::router::failure::Failure;
use crate::router::pool::DynoConnection;
use crate::router::table::{Choice, DynoKey, Wait};
use crate::router::wire::Wire;
use crate::wire::reactor::Interest;

impl Engine {
    /// Looks for a dyno for a request.
    pub(super) fn place(
        &mut self,
        token: Token,
        client: &mut Client,
        exchange: &mut Exchange,
        lent: &mut Lent,
    ) -> Step {
        let Some(app) = exchange.app.clone() else {
            return self.fail(client, exchange, Failure::NoApp);
        };
        if exchange.tried.len() >= self.settings.tries {
            return self.fail(client, exchange, not_taken(exchange));
        }
        let (most, random) = (self.settings.active_per_dyno, self.random());
        let table = &self.state.table;
        let mut choice = table.choose(&app, &exchange.tried, most, self.now, random);
        let is_new = exchange.woken.is_none() && !exchange.fresh && exchange.tried.is_empty();
        if is_new && matches!(choice, Choice::Dyno(_)) && table.has_waiting(&app) {
            choice = Choice::Wait(Wait::Busy);
        }
        match choice {
            Choice::Dyno(dyno) => self.go_to(token, client, exchange, dyno, lent),
            Choice::Wait(why) => self.wait(token, client, exchange, why),
            Choice::Fail(Failure::H21) => self.fail(client, exchange, not_taken(exchange)),
            Choice::Fail(failure) => self.fail(client, exchange, failure),
        }
    }

    fn wait(
        &mut self,
        token: Token,
        client: &mut Client,
        exchange: &mut Exchange,
        why: Wait,
    ) -> Step {
        let since = match exchange.woken.take() {
            Some((before, since)) if before == why => since,
            _ => self.now,
        };
        let front = std::mem::replace(&mut exchange.queued, true);
        self.state.put_back |= front;
        let most = self.settings.waiting_per_app;
        let app = exchange.app.as_deref().unwrap_or_default();
        if !self.state.table.wait(app, token, front, most) {
            return self.fail(client, exchange, Failure::H11);
        }
        exchange.stage = Stage::Waiting { why, since };
        // A dyno that refused is tried again after a while, without an event.
        self.reactor.set_deadline(self.tick, self.now + TICK);
        Step::Wait
    }

    fn go_to(
        &mut self,
        token: Token,
        client: &mut Client,
        exchange: &mut Exchange,
        dyno: DynoKey,
        lent: &mut Lent,
    ) -> Step {
        let Some(listener) = self.state.table.listener(dyno) else {
            return self.fail(client, exchange, Failure::H99);
        };
        self.state.table.take(dyno);
        exchange.held = Some(dyno);
        exchange.dyno = self.state.table.name(dyno).map(|name| (dyno, name.clone()));
        exchange.woken = None;
        exchange.progress = self.now;
        if !exchange.fresh
            && let Some(mut link) = self.pooled(dyno, exchange)
        {
            self.links.insert(link.token, Holder::Client(token));
            link.since = self.now;
            exchange.connect = Some(Duration::ZERO);
            exchange.stage = Stage::Relaying(link);
            return self.send_request(client, exchange, lent);
        }
        if self.state.table.door(dyno).is_some() {
            exchange.stage = Stage::Entering {
                listener,
                since: self.now,
                refused: false,
            };
            return Step::Go;
        }
        let connected = open(listener.address);
        match self.connecting(token, exchange, connected, dyno, (listener, self.now)) {
            Err(
                Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL,
            ) => self.fail(client, exchange, Failure::H99),
            Err(_) => {
                self.turned_away(exchange);
                Step::Go
            }
            Ok(()) => Step::Wait,
        }
    }

    /// Has a request wait until this socket is connected.
    fn connecting(
        &mut self,
        token: Token,
        exchange: &mut Exchange,
        connected: Result<OwnedFd, Errno>,
        dyno: DynoKey,
        (listener, since): (Listener, Instant),
    ) -> Result<(), Errno> {
        let socket = connected?;
        let link = self.reactor.token();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.reactor
            .register(&socket, link, interest)
            .map_err(|_| Errno::NFILE)?;
        self.links.insert(link, Holder::Client(token));
        exchange.stage = Stage::Connecting {
            link: DynoConnection {
                wire: Wire::connecting(socket),
                token: link,
                dyno,
                used: false,
                since: self.now,
                armed: false,
            },
            listener,
            since,
        };
        Ok(())
    }

    /// Goes on when a socket of the dyno's own network may have come.
    pub(super) fn enter(&mut self, token: Token, exchange: &mut Exchange) -> Step {
        let (
            Stage::Entering {
                listener,
                since,
                refused,
            },
            Some(dyno),
        ) = (&exchange.stage, exchange.held)
        else {
            return Step::Wait;
        };
        let (listener, since, refused) = (*listener, *since, *refused);
        if self.state.table.listener(dyno) != Some(listener) {
            // Meanwhile the dyno is to get no requests any more, or has another socket.
            exchange.stage = Stage::Placing;
            self.let_go(exchange);
            return Step::Go;
        }
        let socket = match refused {
            true => None,
            false => match self.socket_of(dyno, listener.address.is_ipv6(), token) {
                Taken::Later => return Step::Wait,
                Taken::Socket(socket) => Some(socket),
                Taken::Never => None,
            },
        };
        let begun = socket.ok_or(Errno::CONNREFUSED).and_then(|socket| {
            let connected = connect(socket, listener.address);
            self.connecting(token, exchange, connected, dyno, (listener, since))
        });
        match begun {
            Ok(()) => Step::Wait,
            Err(_) => {
                self.turned_away(exchange);
                Step::Go
            }
        }
    }

    /// A socket of a dyno's own network, out of those that have come; else the client hears when there are some.
    fn socket_of(&mut self, dyno: DynoKey, v6: bool, client: Token) -> Taken {
        let Some(door) = self.state.table.door(dyno).cloned() else {
            return Taken::Never;
        };
        if !self.state.doors.know(dyno) {
            let token = self.reactor.token();
            if self
                .reactor
                .register(&door, token, Interest::READABLE)
                .is_err()
            {
                return Taken::Never;
            }
            self.links.insert(token, Holder::Door(dyno));
            self.state.doors.open(dyno, door, token);
        }
        self.state.doors.take(dyno, v6, client)
    }

    /// Sockets have come out of a dyno's door, or it was closed.
    pub(super) fn hear_door(&mut self, dyno: DynoKey) {
        let Heard { waiting, state } = self.state.doors.hear(dyno);
        for client in &waiting {
            if state != DoorState::Open
                && let Some(client) = self.clients.get_mut(client)
            {
                client.is_refused();
            }
        }
        if state == DoorState::Closed {
            self.close_door(dyno);
        }
        for client in waiting {
            self.drive(client);
        }
    }

    /// Closes a dyno's door on this side, with what came out of it; returns those that waited there.
    pub(super) fn close_door(&mut self, dyno: DynoKey) -> Vec<Token> {
        let Some((door, token, waiting)) = self.state.doors.close(dyno) else {
            return Vec::new();
        };
        self.links.remove(&token);
        let _ = self.reactor.deregister(&door, token);
        waiting
    }

    /// An idle connection to this dyno. A request that must not be sent twice gets only one that was in use a moment
    /// ago and that the dyno has not closed.
    fn pooled(&mut self, dyno: DynoKey, exchange: &Exchange) -> Option<DynoConnection> {
        let repeatable = exchange.is_repeatable();
        let age = (!repeatable).then_some(self.settings.pooled_fresh_time);
        let link = self.state.pool.take(dyno, self.now, age)?;
        if repeatable || link.wire.is_silent() {
            return Some(link);
        }
        self.close_link(link);
        None
    }

    /// Goes on when a connection to a dyno was made, or failed.
    pub(super) fn connect(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        lent: &mut Lent,
    ) -> Step {
        let (link, listener, since) = match std::mem::replace(&mut exchange.stage, Stage::Placing) {
            Stage::Connecting {
                link,
                listener,
                since,
            } => (link, listener, since),
            other => {
                exchange.stage = other;
                return Step::Wait;
            }
        };
        if !link.wire.is_writable() && !link.wire.is_hung_up() {
            exchange.stage = Stage::Connecting {
                link,
                listener,
                since,
            };
            return Step::Wait;
        }
        let dyno = link.dyno;
        let refused = match rustix::net::sockopt::socket_error(link.wire.socket()) {
            Ok(Ok(())) => link.wire.is_hung_up(),
            _ => true,
        };
        if refused {
            exchange.stage = Stage::Connecting {
                link,
                listener,
                since,
            };
            self.turned_away(exchange);
            return Step::Go;
        }
        if self.state.table.listener(dyno) != Some(listener) {
            // Meanwhile the dyno is to get no requests any more, or has another socket.
            self.close_link(link);
            self.let_go(exchange);
            return Step::Go;
        }
        if listener.apart {
            // Whoever listens in the dyno's own network is of the dyno.
            return self.connected(client, exchange, (link, since), lent);
        }
        // Checked only now: this socket has listened since before the connection was made, as an inode is not reused
        // while it exists.
        match self.listeners.at(listener.address) {
            Ok(Some(inode)) if inode == listener.inode => {}
            answer => {
                exchange.stage = Stage::Connecting {
                    link,
                    listener,
                    since,
                };
                self.turned_away(exchange);
                if answer.is_ok()
                    && let Some(dyno) = self.state.table.doubt(dyno)
                {
                    (self.tell)(FromRouter::Doubted { dyno });
                }
                return Step::Go;
            }
        }
        self.connected(client, exchange, (link, since), lent)
    }

    /// Sends the request over a new connection.
    fn connected(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        (link, since): (DynoConnection, Instant),
        lent: &mut Lent,
    ) -> Step {
        exchange.connect = Some(self.now.saturating_duration_since(since));
        exchange.progress = self.now;
        exchange.stage = Stage::Relaying(link);
        self.send_request(client, exchange, lent)
    }

    /// The dyno refused the connection: it gets no requests for a while, and the request goes to another.
    pub(super) fn turned_away(&mut self, exchange: &mut Exchange) {
        let dyno = exchange.held;
        self.abandon_link(exchange);
        exchange.stage = Stage::Placing;
        if let Some(dyno) = dyno {
            self.state
                .table
                .refused(dyno, self.now + self.settings.refused_time);
            exchange.tried.push(dyno);
        }
    }

    /// Places waiting requests, as far as dynos have room for them.
    pub(super) fn serve_waiting(&mut self) {
        while let Some(app) = self.state.released.pop() {
            self.state.put_back = false;
            while !self.state.put_back
                && let Some(client) = self.state.table.next_waiting(&app)
            {
                self.wake(client);
            }
        }
    }

    /// Looks at all waiting requests again, at each tick.
    pub(super) fn look_after_waiting(&mut self) {
        self.resume_accepting();
        let apps = self.state.table.apps_with_waiting();
        if !apps.is_empty() {
            self.reactor.set_deadline(self.tick, self.now + TICK);
        }
        self.state.released.extend(apps);
    }
}

/// The failure of a request that no dyno has accepted.
fn not_taken(exchange: &Exchange) -> Failure {
    match exchange.timed_out {
        true => Failure::H19,
        false => Failure::H21,
    }
}

/// Begins a non-blocking connection.
fn open(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
    connect(socket, address)
}

/// Has a non-blocking socket begin to connect.
fn connect(socket: OwnedFd, address: SocketAddr) -> Result<OwnedFd, Errno> {
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}
