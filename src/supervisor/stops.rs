//! What is done when a command on a terminal stops, as programs do that handle Ctrl-Z.
//!
//! Its process group is orphaned: no shell in the dyno could continue it. If its client runs under a shell, the client
//! is told, stops too, and says when both are continued. Otherwise the command is continued at once. A command with
//! pipes stays stopped: a signal stopped it, and another one can continue it.

use super::session::{ClientReport, ClientSession};
use crate::wire::command_streams::CommandStreams;
use crate::wire::control::ToInit;
use crate::wire::frame::Frame;

/// The state of one command: see the [module](self).
#[derive(Debug)]
pub struct Stops {
    /// Whether the client wants to be told.
    told: bool,
    /// Whether the client was told, and has not answered yet.
    waits: bool,
}

impl Stops {
    /// The state for a command whose client wants to be `told`, or not.
    pub fn new(told: bool) -> Self {
        Self { told, waits: false }
    }

    /// Whether the client is told about stops.
    pub fn are_told(&self) -> bool {
        self.told
    }

    /// Handles that command `id` has stopped. Returns a message for init if the client does not decide.
    pub fn stopped(
        &mut self,
        id: u32,
        streams: CommandStreams,
        client: Option<&mut ClientSession>,
    ) -> Option<ToInit> {
        let client = client.filter(|_| self.told);
        if !matches!(streams, CommandStreams::Terminal(_)) || (self.waits && client.is_some()) {
            return None;
        }
        self.waits = client.is_some_and(|client| client.tell(&Frame::Stopped, &[]).is_ok());
        (!self.waits).then_some(ToInit::Continue { id })
    }

    /// Handles what the client of command `id` has sent. Returns messages for init.
    pub fn hear(&mut self, id: u32, news: &ClientReport) -> impl Iterator<Item = ToInit> + use<> {
        if news.go_on || news.gone {
            self.waits = false;
        }
        let go_on = news.go_on.then_some(ToInit::Continue { id });
        let watch = (news.stop_typed && self.told).then_some(ToInit::WatchForStop { id });
        go_on.into_iter().chain(watch)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::model::window::WindowSize;

    const TERMINAL: CommandStreams = CommandStreams::Terminal(WindowSize {
        columns: 80,
        rows: 24,
    });

    fn session() -> (ClientSession, UnixStream) {
        let (mut client, ours) = UnixStream::pair().unwrap();
        let session = ClientSession::begin(ours.into()).unwrap();
        let _ = client.read(&mut [0; 4096]).unwrap();
        client.set_nonblocking(true).unwrap();
        (session, client)
    }

    #[test]
    fn a_client_that_wants_to_know_is_told_once_and_decides() {
        let (mut session, mut client) = session();
        let mut stops = Stops::new(true);
        for _ in 0..3 {
            assert!(stops.stopped(7, TERMINAL, Some(&mut session)).is_none());
        }
        let mut said = [0; 64];
        let length = client.read(&mut said).unwrap();
        assert_eq!(said[..length], Frame::Stopped.encode());
        let news = ClientReport {
            go_on: true,
            ..ClientReport::default()
        };
        let wishes: Vec<_> = stops.hear(7, &news).collect();
        assert!(matches!(wishes[..], [ToInit::Continue { id: 7 }]));
        assert!(stops.stopped(7, TERMINAL, Some(&mut session)).is_none());
        assert_eq!(client.read(&mut said).unwrap(), length);
    }

    #[test]
    fn without_such_a_client_a_command_goes_on_at_once() {
        let (mut session, _client) = session();
        for (told, client) in [(false, Some(&mut session)), (true, None)] {
            let go_on = Stops::new(told).stopped(7, TERMINAL, client);
            assert!(matches!(go_on, Some(ToInit::Continue { id: 7 })));
        }
        // Between pipes, a process sent the signal.
        assert!(
            Stops::new(false)
                .stopped(7, CommandStreams::Pipes, None)
                .is_none()
        );
    }
}
