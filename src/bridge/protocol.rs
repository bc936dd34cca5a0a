//! The protocol of a session with its client: one interface for the rendezvous and for frames.

use std::time::Instant;

use super::client_requests::ClientRequests;
use super::framed::FramedProtocol;
use super::piece::PIECE;
use super::rendezvous::{GREETING, RendezvousProtocol, marker};
use crate::error::EXIT_DYNO_FAILED;
use crate::wire::frame::{AttachRefusal, BadFrame, CommandEnd, Frame, Up};
use crate::wire::stream::RECORD;

/// How a session ends, as its client is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum SessionOutcome {
    /// The command has ended.
    Exit(CommandEnd),
    /// There is no command, or none any more.
    Error(AttachRefusal),
}

/// The protocol of one session.
#[derive(Debug)]
pub(super) enum Protocol {
    /// That of Heroku's CLI.
    Rendezvous {
        /// Its state, from the greeting on.
        session: Option<RendezvousProtocol>,
        /// Whether the client wants the command's exit status.
        wants_status: bool,
    },
    /// That of dyno's own command line.
    Framed(FramedProtocol),
}

impl Protocol {
    /// The first bytes for the client.
    pub fn opening(&self) -> Vec<u8> {
        match self {
            Self::Rendezvous { .. } => Vec::new(),
            Self::Framed(_) => FramedProtocol::opening(),
        }
    }

    /// Whether to read from the client even before the command runs and while it takes no input: true if the protocol
    /// bounds the input that has to be kept.
    pub fn is_always_heard(&self) -> bool {
        matches!(self, Self::Framed(_))
    }

    /// The bytes that tell the client that the command runs.
    pub fn up(&mut self, up: &Up, now: Instant) -> Vec<u8> {
        match self {
            Self::Rendezvous { session, .. } => {
                *session = Some(RendezvousProtocol::new(up.terminal, now));
                GREETING.to_vec()
            }
            Self::Framed(_) => FramedProtocol::up(up),
        }
    }

    /// Takes bytes from the client; those for the command are appended to `stdin`.
    ///
    /// # Errors
    /// When they are not valid.
    pub fn input(
        &mut self,
        bytes: &[u8],
        now: Instant,
        stdin: &mut Vec<u8>,
    ) -> Result<ClientRequests, BadFrame> {
        match self {
            Self::Rendezvous { session, .. } => {
                if let Some(session) = session {
                    session.input(bytes, now, stdin);
                }
                // What it asks for shows only after a pause.
                Ok(ClientRequests::default())
            }
            Self::Framed(framed) => framed.input(bytes, stdin),
        }
    }

    /// The bytes that grant the client more input, after `bytes` were written to the command or discarded.
    pub fn given(&mut self, bytes: usize) -> Vec<u8> {
        match self {
            Self::Rendezvous { .. } => Vec::new(),
            Self::Framed(framed) => framed.given(bytes),
        }
    }

    /// Takes bytes from the client when there is no command for them any more.
    pub fn late_input(&mut self, bytes: &[u8]) {
        if let Self::Rendezvous {
            session: Some(session),
            ..
        } = self
        {
            session.note_end(bytes);
        }
    }

    /// Until when the session must not end, even if all is sent.
    pub fn settles_at(&self) -> Option<Instant> {
        match self {
            Self::Rendezvous { session, .. } => session.as_ref()?.settles_at(),
            Self::Framed(_) => None,
        }
    }

    /// How many bytes of an output may be read from the command.
    pub fn room(&self, number: u8) -> usize {
        match self {
            Self::Rendezvous { .. } => PIECE,
            Self::Framed(framed) => framed.room(number),
        }
    }

    /// Whether the client takes nothing of some output at present.
    pub fn is_held_up(&self) -> bool {
        match self {
            Self::Rendezvous { .. } => false,
            Self::Framed(framed) => framed.is_held_up(),
        }
    }

    /// The bytes to send for an output: of `length` bytes in `buffer`, from [`BEFORE`](super::piece::BEFORE) on. Empty if they are to wait for more.
    pub fn output<'a>(
        &mut self,
        number: u8,
        buffer: &'a mut [u8],
        length: usize,
        now: Instant,
    ) -> &'a [u8] {
        match self {
            Self::Rendezvous { session, .. } => session
                .as_mut()
                .map_or(&[], |session| session.output(buffer, length, now)),
            Self::Framed(framed) => framed.output(number, buffer, length),
        }
    }

    /// The bytes that tell the client that the command has stopped; None if the protocol cannot say so.
    pub fn stopped(&self) -> Option<Vec<u8>> {
        match self {
            Self::Rendezvous { .. } => None,
            Self::Framed(_) => Some(Frame::Stopped.encode()),
        }
    }

    /// The bytes that tell the client that an output has ended.
    pub fn output_ended(&self, number: u8) -> Vec<u8> {
        match self {
            Self::Rendezvous { .. } => Vec::new(),
            Self::Framed(_) => FramedProtocol::output_ended(number),
        }
    }

    /// When [`pause_over`](Self::pause_over) is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Rendezvous { session, .. } => session.as_ref()?.deadline(),
            Self::Framed(_) => None,
        }
    }

    /// Called when no bytes have come for a while: returns what is to be sent, and what the client asked for.
    /// `canonical` says that the command's terminal is in canonical mode.
    pub fn pause_over(
        &mut self,
        now: Instant,
        canonical: bool,
        stdin: &mut Vec<u8>,
    ) -> (&'static [u8], ClientRequests) {
        match self {
            Self::Rendezvous {
                session: Some(session),
                ..
            } => session.pause_over(now, canonical, stdin),
            Self::Rendezvous { session: None, .. } | Self::Framed(_) => {
                (&[], ClientRequests::default())
            }
        }
    }

    /// The last bytes for the client, in pieces that are TLS records of their own.
    pub fn end(&mut self, outcome: &SessionOutcome, now: Instant) -> Vec<Vec<u8>> {
        match self {
            Self::Rendezvous {
                session,
                wants_status,
            } => {
                let mut last = Vec::new();
                match session {
                    Some(session) => last.push(session.last_output().to_vec()),
                    // The client discards the first record, whatever it is.
                    None => {
                        *session = Some(RendezvousProtocol::new(false, now));
                        last.push(GREETING.to_vec());
                    }
                }
                let status = match outcome {
                    SessionOutcome::Exit(CommandEnd { exit, why }) => {
                        last.extend(why.as_ref().map(|why| note(why).into_bytes()));
                        exit.code()
                    }
                    SessionOutcome::Error(refusal) => {
                        last.push(in_words(refusal).into_bytes());
                        refusal.exit_code.unwrap_or(EXIT_DYNO_FAILED)
                    }
                };
                if *wants_status {
                    last.push(marker(status));
                }
                last.retain(|record| !record.is_empty());
                last
            }
            Self::Framed(_) => {
                let frame = match outcome {
                    SessionOutcome::Exit(exit) => Frame::Exit(exit.clone()),
                    SessionOutcome::Error(refusal) => Frame::Error(refusal.clone()),
                };
                vec![frame.encode()]
            }
        }
    }
}

/// An error as the command line prints it, for a terminal that may be in raw mode.
fn in_words(refusal: &AttachRefusal) -> String {
    let mut words = format!("error: {}\r\n", refusal.message);
    if let Some(hint) = &refusal.hint {
        words += &format!("hint: {hint}\r\n");
    }
    one_record(&words)
}

/// The command line's note about why a command ended, for a terminal that may be in raw mode.
fn note(why: &str) -> String {
    one_record(&format!("dyno: {why}\r\n"))
}

fn one_record(words: &str) -> String {
    words.chars().take(RECORD / 4).collect()
}
