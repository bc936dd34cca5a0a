//! The server's side of the [bridge](crate::bridge): where Heroku's CLI meets the dynos that it runs, and whom it may meet.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use crossbeam_channel::{Receiver, unbounded};

use super::Service;
use super::routing::bequeathed;
use crate::api::ApiError;
use crate::bridge::{
    self, Bridge, FromBridge, RendezvousAddress, SessionRequest, ToBridge, secrets,
};
use crate::error::tell;
use crate::model::settings::{self, Listen};
use crate::server::api_loop::application::{Caller, Ctx};
use crate::server::api_loop::via::Via;
use crate::server::process::bind_address::{BindAddress, Taken, Unless};
use crate::server::records::worker_error;
use crate::wire::control::ToSupervisor;
use crate::wire::handover::Part;
use crate::wire::stream::Stream;
use crate::wire::tls::{self, Certificate};

/// The name of the file in the state folder that says where the rendezvous was. It is there from when a user asked for
/// one, so the next server has it, too.
const ADDRESS: &str = "rendezvous";

/// The bridge, what it says, and where clients come to it.
pub struct Bridging {
    bridge: Bridge,
    inbox: Receiver<FromBridge>,
    rendezvous: Option<SocketAddr>,
}

/// How a client is to come to a dyno that it has asked for.
pub(super) struct Meeting {
    /// The whole address, for the client.
    pub url: String,
    /// The id of the token with which it was asked for.
    pub token: Option<String>,
    secret: String,
    until: Instant,
}

pub(super) fn place(home: &Path) -> BindAddress {
    BindAddress {
        socket: Part::Rendezvous,
        part: "the rendezvous",
        option: "rendezvous",
        memory: home.join(ADDRESS),
    }
}

impl Service {
    /// Begins a rendezvous where the settings say, or where a server before was asked to.
    ///
    /// # Errors
    /// When the address that was asked for is taken, or the certificate is not valid.
    pub(super) fn begin_rendezvous(&mut self, unless: Unless, ctx: &mut Ctx<Self>) -> Result<()> {
        let before = place(&self.this.home).before();
        match (self.records.settings.rendezvous, before) {
            (Listen::Off, Some(before)) => self.meet_at(Listen::Auto(before), true, unless, ctx),
            (wish, _) => self.meet_at(wish, false, unless, ctx),
        }
    }

    /// A user wants to use Heroku's CLI: there is a rendezvous from now on, where the settings would have it, and in
    /// the servers after this one.
    pub(super) fn want_rendezvous(&mut self, ctx: &mut Ctx<Self>) -> Result<(), ApiError> {
        if self.rendezvous().is_some() {
            return Ok(());
        }
        self.check_not_missing(Part::Rendezvous)?;
        let usual = Listen::Auto(settings::RENDEZVOUS_ADDRESS);
        self.meet_at(usual, true, Unless::TriesAgain, ctx)
            .map_err(worker_error)
    }

    fn meet_at(
        &mut self,
        wish: Listen,
        remember: bool,
        unless: Unless,
        ctx: &mut Ctx<Self>,
    ) -> Result<()> {
        let place = place(&self.this.home);
        let mut taken = place.take(wish, &mut ctx.inherited, unless)?;
        self.try_later(taken.missing.take(), ctx);
        if let Some(address) = self.meet_with(taken, ctx)?.filter(|_| remember) {
            place.remember(address);
        }
        Ok(())
    }

    /// Begins with the rendezvous, or goes on with one more socket of it.
    ///
    /// # Errors
    /// When the certificate is not valid.
    pub(super) fn meet_with(
        &mut self,
        taken: Taken,
        ctx: &mut Ctx<Self>,
    ) -> Result<Option<SocketAddr>> {
        let Some(address) = taken.address() else {
            return Ok(None);
        };
        let certificate = Certificate::chosen(&self.records.settings)?;
        let tls = tls::server_config(&self.this.home, &certificate)?;
        let listeners = bequeathed(taken, ctx)?;
        let bridging = self.bridging(ctx)?;
        bridging.rendezvous.get_or_insert(address);
        for listener in listeners {
            let tls = Arc::clone(&tls);
            let address = RendezvousAddress { listener, tls };
            bridging.bridge.send(ToBridge::Open(address));
        }
        Ok(Some(address))
    }

    /// The bridge, started if there is none.
    fn bridging(&mut self, ctx: &mut Ctx<Self>) -> Result<&mut Bridging> {
        if self.ports.bridging.is_none() {
            let (sender, inbox) = unbounded();
            let waker = ctx.reactor().waker();
            let tell = move |news| {
                let _ = sender.send(news);
                waker.wake();
            };
            let settings = bridge::BridgeSettings {
                sessions: self.ports.max_sessions,
                start_time: self.records.settings.attach_timeout,
                ..bridge::BridgeSettings::default()
            };
            self.ports.bridging = Some(Bridging {
                bridge: Bridge::start(settings, tell)?,
                inbox,
                rendezvous: None,
            });
        }
        let made = self.ports.bridging.as_mut();
        made.ok_or_else(|| anyhow::anyhow!("there is no bridge"))
    }

    /// Where the rendezvous is, if there is one.
    pub(super) fn rendezvous(&self) -> Option<SocketAddr> {
        self.ports.bridging.as_ref()?.rendezvous
    }

    /// Sessions that go by way of this server.
    pub(super) fn bridged_sessions(&self) -> usize {
        let bridging = self.ports.bridging.as_ref();
        bridging.map_or(0, |bridging| bridging.bridge.sessions())
    }

    /// How a client is to come to its dyno. None if there is no rendezvous.
    pub(super) fn arrange(&self, caller: Caller<'_>) -> Result<Option<Meeting>, ApiError> {
        let Some((bridging, address)) = self
            .ports
            .bridging
            .as_ref()
            .and_then(|bridging| Some((bridging, bridging.rendezvous?)))
        else {
            return Ok(None);
        };
        if !bridging.bridge.has_room() {
            return match caller.via {
                // It may be a client that is handed the streams themselves.
                Via::Socket => Ok(None),
                Via::Tcp { .. } => Err(too_many(self.ports.max_sessions)),
            };
        }
        let secret = secrets::fresh().map_err(|error| ApiError::internal(error.to_string()))?;
        let host = match caller.via {
            Via::Socket => None,
            Via::Tcp { .. } => caller.host.and_then(host_name),
        };
        let (host, port) = (host.unwrap_or("localhost"), address.port());
        Ok(Some(Meeting {
            url: format!("rendezvous://{host}:{port}/{secret}"),
            token: caller.token.map(|token| token.id.clone()),
            secret,
            until: Instant::now() + self.records.settings.attach_timeout,
        }))
    }

    /// Has the bridge expect the client of a meeting that was arranged.
    pub(super) fn expect(&self, meeting: &Meeting, seat: SessionRequest) {
        if let Some(bridging) = &self.ports.bridging {
            bridging.bridge.send(ToBridge::Expect {
                secret: meeting.secret.clone(),
                until: meeting.until,
                request: seat,
            });
        }
    }

    /// Has the bridge pass a dyno's streams on to a client that has come over the API.
    pub(super) fn bridge_client(
        &mut self,
        client: Stream,
        early: Vec<u8>,
        seat: SessionRequest,
        ctx: &mut Ctx<Self>,
    ) {
        match self.bridging(ctx) {
            Ok(bridging) => bridging.bridge.send(ToBridge::Adopt {
                client,
                early,
                request: seat,
            }),
            Err(error) => tell!("cannot attach a client: {error:#}"),
        }
    }

    /// Whether there may be one more session that goes by way of this server.
    ///
    /// # Errors
    /// Says why not.
    pub(super) fn check_bridge(&self) -> Result<(), ApiError> {
        match self.bridged_sessions() < self.ports.max_sessions {
            true => Ok(()),
            false => Err(too_many(self.ports.max_sessions)),
        }
    }

    /// Takes what the bridge has said.
    pub(super) fn hear_bridge(&mut self, ctx: &mut Ctx<Self>) {
        let Some(bridging) = &self.ports.bridging else {
            return;
        };
        let mut ended = false;
        for news in bridging.inbox.try_iter() {
            match news {
                FromBridge::Arrived {
                    request: seat,
                    connection,
                } => {
                    // One that is not alive any more shows by the end of the connection.
                    if !self.dynos.pass_on(&seat.dyno, &seat.ask, &connection) {
                        tell!("{}: ended just before its client came", seat.dyno);
                    }
                }
                // The loop looks by itself whether there is anything left to do.
                FromBridge::Left => {}
                FromBridge::Ended => ended = true,
            }
        }
        if ended {
            let before = self.rendezvous();
            self.ports.bridging = None;
            ctx.inherit_own([Part::Rendezvous, Part::RendezvousTwin]);
            let again = before
                .map(|address| self.meet_at(Listen::At(address), false, Unless::TriesAgain, ctx));
            if let Some(Err(error)) = again {
                tell!("there is no rendezvous any more: {error:#}");
            }
        }
    }

    /// These tokens are good no more: the bridge ends the sessions that were asked for with them.
    pub(super) fn end_sessions_of(&self, tokens: &[String]) {
        if let Some(bridging) = &self.ports.bridging {
            bridging.bridge.send(ToBridge::EndOfTokens(tokens.to_vec()));
        }
    }

    /// The server is about to leave, and with it all sessions that go by way of it.
    pub(super) fn close_bridge(&self) {
        if let Some(bridging) = &self.ports.bridging {
            bridging.bridge.leave();
        }
    }
}

fn too_many(most: usize) -> ApiError {
    ApiError::too_many(format!(
        "{most} sessions go through this server, which is as many as it can have"
    ))
    .hint("end one of them first, or start the server with a higher `ulimit -n`")
}

/// The host in a `Host` header, with the brackets of an IPv6 address.
fn host_name(field: &str) -> Option<&str> {
    let end = match field.strip_prefix('[') {
        Some(_) => field.find(']')? + 1,
        None => field.find(':').unwrap_or(field.len()),
    };
    Some(&field[..end]).filter(|name| !name.is_empty())
}

/// What a supervisor is asked for a client that comes to the rendezvous.
pub(super) const ATTACH: ToSupervisor = ToSupervisor::Attach { merged: true };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_sent_to_the_host_that_it_knows() {
        for (field, name) in [
            ("localhost:5001", "localhost"),
            ("box.example", "box.example"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:5001", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(host_name(field), Some(name));
        }
        for field in ["", ":5001", "[::1"] {
            assert_eq!(host_name(field), None);
        }
    }
}
