//! What is said to a client, and what it says: one interface for those who do it differently.

use std::time::Instant;

use super::framed::Framed;
use super::rendezvous::{GREETING, Rendezvous, marker};
use crate::error::EXIT_DYNO_FAILED;
use crate::pty::Size;
use crate::wire::frame::{BadFrame, Ended, Frame, Refusal, Up};
use crate::wire::stream::RECORD;

/// Bytes that are left free before those that were read of the command, for what is said about them.
pub(super) const BEFORE: usize = 5;

/// The most that is read at a time: with what is said about it, one record.
pub(super) const PIECE: usize = RECORD - BEFORE;

/// What the client wants, beside the bytes that are the command's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wishes {
    /// Nothing follows: with pipes, the command's input is to be closed once it has all before.
    pub end: bool,
    /// The command is to be interrupted, as by Ctrl-C.
    pub interrupt: bool,
    /// The command, which has stopped, is to go on.
    pub go_on: bool,
    /// What stops programs was typed.
    pub watch_for_stop: bool,
    /// The window has another size.
    pub window: Option<Size>,
    /// It does not read these outputs any more: the first, the second.
    pub unread: [bool; 2],
}

/// How a session ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    /// The command has.
    Exit(Ended),
    /// There is none, or none any more.
    Error(Refusal),
}

/// How one client is spoken to.
#[derive(Debug)]
pub(super) enum Protocol {
    /// As Heroku's CLI wants it.
    Rendezvous {
        /// From the greeting on.
        session: Option<Rendezvous>,
        /// It wants the command's exit status.
        wants_status: bool,
    },
    /// As our own wants it.
    Framed(Framed),
}

impl Protocol {
    /// What is said at once.
    pub fn opening(&self) -> Vec<u8> {
        match self {
            Self::Rendezvous { .. } => Vec::new(),
            Self::Framed(_) => Framed::opening(),
        }
    }

    /// Whether the client's words are to be heard before the command runs, and while it takes no input: what is for the
    /// command is bounded then by what the client may send.
    pub fn is_always_heard(&self) -> bool {
        matches!(self, Self::Framed(_))
    }

    /// The command runs: what the client is told.
    pub fn up(&mut self, up: &Up, now: Instant) -> Vec<u8> {
        match self {
            Self::Rendezvous { session, .. } => {
                *session = Some(Rendezvous::new(up.terminal, now));
                GREETING.to_vec()
            }
            Self::Framed(_) => Framed::up(up),
        }
    }

    /// Takes what the client has sent; what is for the command is appended to `stdin`.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn input(
        &mut self,
        bytes: &[u8],
        now: Instant,
        stdin: &mut Vec<u8>,
    ) -> Result<Wishes, BadFrame> {
        match self {
            Self::Rendezvous { session, .. } => {
                if let Some(session) = session {
                    session.input(bytes, now, stdin);
                }
                // Only a pause tells what it wants.
                Ok(Wishes::default())
            }
            Self::Framed(framed) => framed.input(bytes, stdin),
        }
    }

    /// The command, or nobody, has taken so much of its input: what the client is told.
    pub fn given(&mut self, bytes: usize) -> Vec<u8> {
        match self {
            Self::Rendezvous { .. } => Vec::new(),
            Self::Framed(framed) => framed.given(bytes),
        }
    }

    /// Takes what the client has sent when there is no command for it any more.
    pub fn late_input(&mut self, bytes: &[u8]) {
        if let Self::Rendezvous {
            session: Some(session),
            ..
        } = self
        {
            session.note_end(bytes);
        }
    }

    /// Until when the session must not end, though all is said.
    pub fn settles_at(&self) -> Option<Instant> {
        match self {
            Self::Rendezvous { session, .. } => session.as_ref()?.settles_at(),
            Self::Framed(_) => None,
        }
    }

    /// How much of an output of the command's may be read.
    pub fn room(&self, number: u8) -> usize {
        match self {
            Self::Rendezvous { .. } => PIECE,
            Self::Framed(framed) => framed.room(number),
        }
    }

    /// Whether the client takes nothing of some output at the moment.
    pub fn is_held_up(&self) -> bool {
        match self {
            Self::Rendezvous { .. } => false,
            Self::Framed(framed) => framed.is_held_up(),
        }
    }

    /// What the client is sent of an output: `length` bytes in `buffer`, from [`BEFORE`] on. Empty if that is to wait for
    /// more.
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

    /// The command has stopped: what the client is told, if it knows of that.
    pub fn stopped(&self) -> Option<Vec<u8>> {
        match self {
            Self::Rendezvous { .. } => None,
            Self::Framed(_) => Some(Frame::Stopped.encode()),
        }
    }

    /// An output has ended: what the client is told.
    pub fn output_ended(&self, number: u8) -> Vec<u8> {
        match self {
            Self::Rendezvous { .. } => Vec::new(),
            Self::Framed(_) => Framed::output_ended(number),
        }
    }

    /// When [`pause_over`](Self::pause_over) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Rendezvous { session, .. } => session.as_ref()?.deadline(),
            Self::Framed(_) => None,
        }
    }

    /// Nothing has come for a while: what is to be sent, and what the client wants. `canonical`: the command's terminal
    /// reads lines.
    pub fn pause_over(
        &mut self,
        now: Instant,
        canonical: bool,
        stdin: &mut Vec<u8>,
    ) -> (&'static [u8], Wishes) {
        match self {
            Self::Rendezvous {
                session: Some(session),
                ..
            } => session.pause_over(now, canonical, stdin),
            Self::Rendezvous { session: None, .. } | Self::Framed(_) => (&[], Wishes::default()),
        }
    }

    /// The last that is said, in pieces that are records of their own.
    pub fn end(&mut self, outcome: &Outcome, now: Instant) -> Vec<Vec<u8>> {
        match self {
            Self::Rendezvous {
                session,
                wants_status,
            } => {
                let mut last = Vec::new();
                match session {
                    Some(session) => last.push(session.last_output().to_vec()),
                    // The first record is thrown away, whatever it is.
                    None => {
                        *session = Some(Rendezvous::new(false, now));
                        last.push(GREETING.to_vec());
                    }
                }
                let status = match outcome {
                    Outcome::Exit(Ended { exit, why }) => {
                        last.extend(why.as_ref().map(|why| told(why).into_bytes()));
                        exit.code()
                    }
                    Outcome::Error(refusal) => {
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
                    Outcome::Exit(exit) => Frame::Exit(exit.clone()),
                    Outcome::Error(refusal) => Frame::Error(refusal.clone()),
                };
                vec![frame.encode()]
            }
        }
    }
}

/// An error as the command line prints it, for a terminal that may be raw.
fn in_words(refusal: &Refusal) -> String {
    let mut words = format!("error: {}\r\n", refusal.message);
    if let Some(hint) = &refusal.hint {
        words += &format!("hint: {hint}\r\n");
    }
    one_record(&words)
}

/// What the command line says of an end, for the same terminal.
fn told(why: &str) -> String {
    one_record(&format!("dyno: {why}\r\n"))
}

fn one_record(words: &str) -> String {
    words.chars().take(RECORD / 4).collect()
}
