//! The signals that stop a server in order: SIGTERM, SIGINT, and SIGHUP, which a terminal sends that is closed; and the
//! one by which a client that does not find the server's socket asks for it, SIGCONT.
//!
//! The process that starts the server may have had the latter two ignored, with `nohup` or as a job of a script's in the
//! background. Then they stay ignored.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM};

use crate::kernel::sys::signal::unless_ignored;
use crate::wire::reactor::{Event, Interest, Reactor, Token};

/// Turns the one into an event of the loop's. For the life of the process: the handler stays.
#[derive(Debug)]
pub struct Reminders(StopSignals);

impl Reminders {
    /// Catches the signal from now on.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn catch(reactor: &mut Reactor) -> io::Result<Self> {
        StopSignals::of(&[SIGCONT], reactor).map(Self)
    }

    /// Whether `event` means that it has come.
    pub fn came(&mut self, event: Event) -> bool {
        self.0.came(event)
    }
}

/// Turns those that stop into an event of the loop's. For the life of the process: the handlers stay.
#[derive(Debug)]
pub struct StopSignals {
    pipe: UnixStream,
    token: Token,
}

impl StopSignals {
    /// Catches the signals from now on.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn catch(reactor: &mut Reactor) -> io::Result<Self> {
        let others = unless_ignored([SIGINT, SIGHUP]);
        let signals: Vec<_> = [SIGTERM].into_iter().chain(others).collect();
        Self::of(&signals, reactor)
    }

    fn of(signals: &[i32], reactor: &mut Reactor) -> io::Result<Self> {
        let (pipe, writer) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        for signal in signals {
            signal_hook::low_level::pipe::register(*signal, writer.try_clone()?)?;
        }
        let token = reactor.token();
        reactor.register(&pipe, token, Interest::READABLE)?;
        Ok(Self { pipe, token })
    }

    /// Whether `event` means that one of them has come.
    pub fn came(&mut self, event: Event) -> bool {
        matches!(event, Event::Ready { token, .. } if token == self.token)
            && self.pipe.read(&mut [0; 64]).is_ok_and(|length| length > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_an_event() {
        let mut reactor = Reactor::new().unwrap();
        let mut signals = StopSignals::catch(&mut reactor).unwrap();
        signal_hook::low_level::raise(SIGTERM).unwrap();
        let mut events = Vec::new();
        reactor.poll(&mut events).unwrap();
        assert!(events.iter().any(|event| signals.came(*event)));
        assert!(!signals.came(Event::Woken));
    }
}
