//! Addresses that the server is to listen on and that are taken, or are not this host's: they are tried again every second.
//!
//! A process that holds one, a dyno of this server's perhaps, must not keep the user from the commands that end it.

use std::time::{Duration, Instant};

use super::Service;
use super::{bridging, listening, routing};
use crate::api::ApiError;
use crate::error::tell;
use crate::server::api_loop::application::Ctx;
use crate::server::process::bind_address::{Missing, Taken};
use crate::wire::handover::Part;
use crate::wire::reactor::{Event, Reactor, Token};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// The addresses that are missing: see the [module](self).
#[derive(Debug)]
pub(super) struct MissingAddresses {
    missing: Vec<Missing>,
    token: Token,
}

impl MissingAddresses {
    /// None yet.
    pub fn new(reactor: &mut Reactor) -> Self {
        Self {
            missing: Vec::new(),
            token: reactor.token(),
        }
    }

    /// Whether it is time for the next try.
    pub fn came(&self, event: Event) -> bool {
        event == Event::Deadline(self.token)
    }

    /// What is missing, in words.
    pub fn messages(&self) -> Vec<String> {
        self.missing.iter().map(Missing::message).collect()
    }
}

impl Service {
    /// Has an address that was taken tried again, and says so.
    pub(super) fn try_later(&mut self, missing: Option<Missing>, ctx: &mut Ctx<Self>) {
        if let Some(missing) = missing {
            tell!("{}; it is tried again every second", missing.message());
            self.await_address(missing, ctx);
        }
    }

    fn await_address(&mut self, missing: Missing, ctx: &mut Ctx<Self>) {
        self.ports.missing.missing.push(missing);
        let token = self.ports.missing.token;
        ctx.reactor().set_deadline(token, Instant::now() + PAUSE);
    }

    /// Refuses to listen elsewhere while the address of the settings is taken.
    ///
    /// # Errors
    /// Says which address that is, and who has it.
    pub(super) fn check_not_missing(&self, socket: Part) -> Result<(), ApiError> {
        let missing = self.ports.missing.missing.iter();
        match missing.into_iter().find(|it| it.socket == socket) {
            None => Ok(()),
            Some(missing) => Err(ApiError::unavailable(missing.message())
                .hint("it is tried again every second; `config.toml` may name another address")),
        }
    }

    /// Tries again to listen at what is missing.
    pub(super) fn take_missing(&mut self, ctx: &mut Ctx<Self>) {
        if ctx.is_stopping() {
            return;
        }
        for missing in std::mem::take(&mut self.ports.missing.missing) {
            let home = &self.this.home;
            let place = match missing.socket {
                Part::Router | Part::RouterTwin => routing::place(home),
                Part::Listen | Part::ListenTwin => listening::place(home),
                _ => bridging::place(home),
            };
            let mut taken = place.try_again(&missing);
            if let Some(address) = taken.address() {
                tell!("{} listens on `{address}` now", missing.part);
            }
            if let Some(still) = taken.missing.take() {
                match still.socket == missing.socket {
                    true => self.await_address(still, ctx),
                    // The socket is here, its twin is not.
                    false => self.try_later(Some(still), ctx),
                }
            }
            if let Err(error) = self.go_on_with(missing.socket, taken, ctx) {
                tell!("{} cannot listen: {error:#}", missing.part);
            }
        }
    }

    /// Has a part of the server serve sockets that were missing.
    fn go_on_with(
        &mut self,
        socket: Part,
        taken: Taken,
        ctx: &mut Ctx<Self>,
    ) -> anyhow::Result<()> {
        if taken.sockets.is_empty() {
            return Ok(());
        }
        match socket {
            Part::Router | Part::RouterTwin => self.begin_routing(taken, ctx),
            Part::Listen | Part::ListenTwin => {
                let (home, settings) = (&self.this.home, &self.records.settings);
                let address = listening::listen(home, settings, taken, ctx)?;
                if socket == Part::Listen {
                    self.listens_at(address);
                }
            }
            _ => {
                self.meet_with(taken, ctx)?;
            }
        }
        Ok(())
    }
}
