//! One session: a client's stream on one side, a dyno on the other, and about one piece of unsent bytes for each.
//!
//! [`drive`](BridgeSession::drive) goes on as far as both sides allow, within its budget. Nothing is read that the other side
//! has no room for, so a slow client blocks only its own command, and a slow command only its client.

mod timing;

use std::io;
use std::time::{Duration, Instant};

use super::client_requests::ClientRequests;
use super::dyno::{DynoEvent, DynoSide};
use super::piece::{BEFORE, PIECE};
use super::protocol::{Protocol, SessionOutcome};
use crate::model::window::WindowSize;
use crate::wire::frame::AttachRefusal;
use crate::wire::reactor::{Reactor, Token};
use crate::wire::stream::{RECORD, Stream};

/// How long a client may take to close its side after the end of the session.
const LINGER: Duration = Duration::from_secs(10);

/// How long a client may take none of the last output, where connections may be idle for ever.
const LONGEST_STALL: Duration = Duration::from_secs(3600);

/// The most unsent pieces with which more is still read from the client, as each of its frames may need a reply.
const MOST_UNSENT: usize = 16;

/// What the loop lends to a session for one turn.
pub(super) struct SessionTurn<'a> {
    /// The time at which the turn began.
    pub now: Instant,
    /// Where the session registers its descriptors and deadline.
    pub reactor: &'a mut Reactor,
    /// The buffer that reads fill: [`BEFORE`] bytes and a piece.
    pub scratch: &'a mut [u8],
    /// How many pieces may still be moved in this turn.
    pub budget: u32,
}

/// What a session does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionStep {
    /// It waits for the next event.
    Wait,
    /// It has more to do, in the next turn.
    Again,
    /// It has ended.
    Over,
}

/// One session: see the [module](self).
#[derive(Debug)]
pub(super) struct BridgeSession {
    client: Stream,
    /// The client has ended its side; some bytes may still be unread.
    client_ended: bool,
    /// The dyno's side; None once it is closed.
    dyno: Option<DynoSide>,
    protocol: Protocol,
    phase: Phase,
    /// Bytes for the command.
    stdin: Vec<u8>,
    /// Whether the input ends after these.
    input_ends: bool,
    /// The window's size, if the client sent it before there was a terminal.
    window: Option<WindowSize>,
    /// Bytes for the client: each piece is a TLS record of its own, the last one first.
    unsent: Vec<Vec<u8>>,
    outcome: Option<SessionOutcome>,
    /// When bytes last went through.
    moved: Instant,
    idle_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The command does not run yet; it must by then.
    Starting { by: Instant },
    /// The command runs, or some of its output is still to come.
    Up,
    /// The client is being told how the command ended.
    Parting,
    /// All is sent; what the client still sends is read and discarded, so that the connection is not reset.
    Lingering { until: Instant },
    /// The session has ended.
    Over,
}

impl BridgeSession {
    /// A session with an authenticated client. Bytes that it has already sent are to be passed to [`take`](Self::take).
    pub fn new(
        client: Stream,
        dyno: DynoSide,
        protocol: Protocol,
        start_by: Instant,
        now: Instant,
    ) -> Self {
        let opening = protocol.opening();
        Self {
            client,
            client_ended: false,
            dyno: Some(dyno),
            protocol,
            phase: Phase::Starting { by: start_by },
            stdin: Vec::new(),
            window: None,
            input_ends: false,
            unsent: Vec::from_iter((!opening.is_empty()).then_some(opening)),
            outcome: None,
            moved: now,
            idle_timeout: LONGEST_STALL,
        }
    }

    /// The client's stream.
    pub fn client(&self) -> &Stream {
        &self.client
    }

    /// Stores the readiness that the kernel reported for the client's socket.
    pub fn note_client(&mut self, readable: bool, writable: bool, end: bool) {
        self.client.note(readable, writable);
        self.client_ended |= end;
    }

    /// Stores the readiness that the kernel reported for one of the dyno's descriptors.
    pub fn note_dyno(&mut self, token: Token, readable: bool, writable: bool) {
        if let Some(dyno) = &mut self.dyno {
            dyno.note(token, readable, writable);
        }
    }

    /// Moves bytes as far as possible within the turn's budget.
    pub fn drive(&mut self, turn: &mut SessionTurn<'_>) -> SessionStep {
        loop {
            match self.go_on(turn) {
                Ok(true) if turn.budget == 0 => {
                    self.report(turn.now);
                    return SessionStep::Again;
                }
                Ok(true) => {}
                Ok(false) if self.is_over(turn.now) => return SessionStep::Over,
                Ok(false) => {
                    self.report(turn.now);
                    return SessionStep::Wait;
                }
                // The client's connection has failed.
                Err(_) => return SessionStep::Over,
            }
        }
    }

    /// Ends the session, and tells the client why.
    pub fn cut_off(&mut self, why: &str, turn: &mut SessionTurn<'_>) {
        if self.outcome.is_none() {
            let refusal = AttachRefusal {
                exit_code: Some(128 + 1),
                ..AttachRefusal::new(why)
            };
            self.outcome = Some(SessionOutcome::Error(refusal));
        }
        if matches!(self.phase, Phase::Starting { .. } | Phase::Up) {
            self.part(turn);
        }
        self.drive(turn);
    }

    /// Ends the session; the dyno's command is hung up if it still runs.
    pub fn end(&mut self, reactor: &mut Reactor) {
        if let Some(dyno) = self.dyno.take() {
            dyno.leave(reactor);
        }
    }

    /// Tries each thing once; true if anything was done.
    fn go_on(&mut self, turn: &mut SessionTurn<'_>) -> io::Result<bool> {
        let mut moved = self.hear_dyno(turn);
        moved |= self.send(turn.now)?;
        moved |= self.give_input(turn);
        moved |= self.take_input(turn)?;
        moved |= self.take_output(turn)?;
        moved |= self.end_pause(turn)?;
        moved |= self.look_at_time(turn);
        Ok(moved)
    }

    /// Handles the supervisor's messages.
    fn hear_dyno(&mut self, turn: &mut SessionTurn<'_>) -> bool {
        let Some(dyno) = &mut self.dyno else {
            return false;
        };
        let Some(news) = dyno.hear(turn.reactor) else {
            return false;
        };
        match news {
            DynoEvent::Up(up) if matches!(self.phase, Phase::Starting { .. }) => {
                self.phase = Phase::Up;
                let said = self.protocol.up(&up, turn.now);
                self.unsent.insert(0, said);
                if !self.protocol.is_always_heard() {
                    let early = std::mem::take(&mut self.stdin);
                    // The first bytes of the protocol are always valid.
                    let _ = self.take(&early, turn.now, turn.reactor);
                }
                let window = self.window.take();
                self.grant(
                    ClientRequests {
                        window,
                        ..ClientRequests::default()
                    },
                    turn.reactor,
                );
                let idle = self.dyno.as_ref().and_then(DynoSide::idle_timeout);
                self.idle_timeout = idle.unwrap_or(LONGEST_STALL);
            }
            // Too late: the client has been told that it does not run.
            DynoEvent::Up(_) => {}
            DynoEvent::Stopped => match self.protocol.stopped() {
                Some(said) => self.unsent.insert(0, said),
                None => dyno.go_on(),
            },
            DynoEvent::Exit(exit) => self.conclude(SessionOutcome::Exit(exit), turn.now),
            DynoEvent::Error(refusal) => self.conclude(SessionOutcome::Error(refusal), turn.now),
            DynoEvent::Lost => {
                let refusal = AttachRefusal::new("the dyno was lost: its supervisor is gone");
                self.conclude(SessionOutcome::Error(refusal), turn.now);
            }
        }
        true
    }

    /// Sets how the session ends; only the first call counts.
    fn conclude(&mut self, outcome: SessionOutcome, now: Instant) {
        if self.outcome.is_none() {
            self.outcome = Some(outcome);
            self.moved = now;
        }
    }

    /// Sends unsent bytes to the client.
    fn send(&mut self, now: Instant) -> io::Result<bool> {
        let mut moved = false;
        loop {
            match self.client.flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
                flushed => flushed?,
            }
            let Some(piece) = self.unsent.last_mut() else {
                return Ok(moved);
            };
            match self.client.write(piece) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
                Ok(length) if length < piece.len() => drop(piece.drain(..length)),
                Ok(_) => drop(self.unsent.pop()),
                Err(error) => return Err(error),
            }
            (moved, self.moved) = (true, now);
        }
    }

    /// Whether all bytes for the client are sent.
    fn has_room(&self) -> bool {
        self.unsent.is_empty() && self.client.is_flushed()
    }

    /// Writes the client's bytes to the command.
    fn give_input(&mut self, turn: &mut SessionTurn<'_>) -> bool {
        let (Some(dyno), Phase::Up) = (&mut self.dyno, self.phase) else {
            return false;
        };
        if self.unsent.len() > MOST_UNSENT {
            return false;
        }
        let mut given = 0;
        while given < self.stdin.len() {
            match dyno.write(&self.stdin[given..], turn.reactor) {
                0 => break,
                length => given += length,
            }
        }
        if given > 0 {
            self.moved = turn.now;
            self.stdin.drain(..given);
            let said = self.protocol.given(given);
            if !said.is_empty() {
                self.unsent.insert(0, said);
            }
        }
        if !self.stdin.is_empty() {
            return given > 0;
        }
        if self.input_ends && dyno.has_input() {
            dyno.close_input(turn.reactor);
        }
        given > 0
    }

    /// Reads from the client, if there is room.
    fn take_input(&mut self, turn: &mut SessionTurn<'_>) -> io::Result<bool> {
        let room = match self.phase {
            Phase::Starting { .. } | Phase::Up if self.protocol.is_always_heard() => PIECE,
            Phase::Starting { .. } => RECORD.saturating_sub(self.stdin.len()),
            Phase::Up if self.stdin.is_empty() => PIECE,
            Phase::Up => 0,
            Phase::Parting | Phase::Lingering { .. } => PIECE,
            Phase::Over => return Ok(false),
        };
        if room == 0 {
            // Its last bytes have no receiver; only its end matters.
            return match self.client_ended && self.dyno.is_some() {
                true => self.client_gone(turn),
                false => Ok(false),
            };
        }
        let buffer = &mut turn.scratch[..room.min(PIECE)];
        let length = match self.client.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                turn.budget = turn.budget.saturating_sub(1);
                return Ok(true);
            }
            read => read?,
        };
        turn.budget = turn.budget.saturating_sub(1);
        match self.phase {
            // The client has closed its side.
            Phase::Lingering { .. } if length == 0 => {
                self.phase = Phase::Over;
                return Ok(false);
            }
            _ if length == 0 => return self.client_gone(turn),
            Phase::Starting { .. } | Phase::Up => {
                self.take(&turn.scratch[..length], turn.now, turn.reactor)?;
                self.moved = turn.now;
            }
            Phase::Parting => self.protocol.late_input(&turn.scratch[..length]),
            Phase::Lingering { .. } | Phase::Over => {}
        }
        Ok(true)
    }

    /// Takes bytes from the client. Until the command runs they wait, unless the protocol has more than bytes.
    ///
    /// # Errors
    /// When they are not valid in the client's protocol.
    pub fn take(&mut self, bytes: &[u8], now: Instant, reactor: &mut Reactor) -> io::Result<()> {
        if matches!(self.phase, Phase::Starting { .. }) && !self.protocol.is_always_heard() {
            self.stdin.extend_from_slice(bytes);
            return Ok(());
        }
        let requests = self.protocol.input(bytes, now, &mut self.stdin);
        let requests = requests.map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
        self.grant(requests, reactor);
        Ok(())
    }

    fn grant(&mut self, requests: ClientRequests, reactor: &mut Reactor) {
        self.input_ends |= requests.end;
        if requests.window.is_some() {
            self.window = requests.window;
        }
        let (Some(dyno), Phase::Up) = (&mut self.dyno, self.phase) else {
            return;
        };
        if requests.interrupt {
            dyno.interrupt();
        }
        if requests.go_on {
            dyno.go_on();
        }
        if requests.watch_for_stop {
            dyno.watch_for_stop();
        }
        if let Some(size) = self.window.take() {
            dyno.resize(size);
        }
        for (number, unread) in (1..).zip(requests.unread) {
            if unread {
                dyno.leave_output(number, reactor);
            }
        }
    }

    /// Handles the end of the client's side, by which it leaves. It may wait for the bridge to close.
    fn client_gone(&mut self, turn: &mut SessionTurn<'_>) -> io::Result<bool> {
        self.end(turn.reactor);
        self.unsent.clear();
        self.linger(turn.now)?;
        Ok(true)
    }

    /// Reads from the command, if there is room, and sends it to the client.
    fn take_output(&mut self, turn: &mut SessionTurn<'_>) -> io::Result<bool> {
        let (Phase::Up, true) = (self.phase, self.has_room()) else {
            return Ok(false);
        };
        let Some(dyno) = &mut self.dyno else {
            return Ok(false);
        };
        let protocol = &self.protocol;
        let read = dyno.read(
            &mut turn.scratch[BEFORE..],
            |number| protocol.room(number),
            turn.reactor,
        );
        if let Some(number) = dyno.ended() {
            let said = self.protocol.output_ended(number);
            // The bytes that waited belong to another output, and go first.
            if !said.is_empty() {
                self.unsent.push(said);
            }
            if read.is_none() {
                return Ok(true);
            }
        }
        let Some((number, length)) = read else {
            if self.outcome.is_some() && !dyno.has_output() {
                self.part(turn);
                return Ok(true);
            }
            return Ok(false);
        };
        turn.budget = turn.budget.saturating_sub(1);
        self.moved = turn.now;
        let piece = self.protocol.output(number, turn.scratch, length, turn.now);
        if self.unsent.is_empty() {
            send_piece(&mut self.client, &mut self.unsent, piece)?;
        } else if !piece.is_empty() {
            self.unsent.insert(0, piece.to_vec());
        }
        Ok(true)
    }

    /// Handles the end of a pause that the protocol waits for.
    fn end_pause(&mut self, turn: &mut SessionTurn<'_>) -> io::Result<bool> {
        let due = self.protocol.deadline().is_some_and(|at| at <= turn.now);
        if self.phase != Phase::Up || !due {
            return Ok(false);
        }
        let canonical = self.dyno.as_ref().is_some_and(DynoSide::reads_lines);
        let (piece, requests) = self
            .protocol
            .pause_over(turn.now, canonical, &mut self.stdin);
        self.grant(requests, turn.reactor);
        if self.has_room() {
            send_piece(&mut self.client, &mut self.unsent, piece)?;
        } else if !piece.is_empty() {
            self.unsent.insert(0, piece.to_vec());
        }
        Ok(true)
    }

    /// Tells the client how the command ended, when there is no more output.
    fn part(&mut self, turn: &mut SessionTurn<'_>) {
        self.end(turn.reactor);
        (self.phase, self.moved) = (Phase::Parting, turn.now);
        if let Some(outcome) = &self.outcome {
            let last = self.protocol.end(outcome, turn.now);
            let before = std::mem::take(&mut self.unsent);
            self.unsent = last.into_iter().rev().chain(before).collect();
        }
    }

    fn linger(&mut self, now: Instant) -> io::Result<()> {
        let until = now + LINGER;
        self.phase = Phase::Lingering { until };
        match self.client.shut_down() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}

/// Sends a piece to the client; what its socket does not take waits.
fn send_piece(client: &mut Stream, unsent: &mut Vec<Vec<u8>>, piece: &[u8]) -> io::Result<()> {
    if piece.is_empty() {
        return Ok(());
    }
    let sent = match client.write(piece) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        sent => sent?,
    };
    if sent < piece.len() {
        unsent.push(piece[sent..].to_vec());
    }
    Ok(())
}
