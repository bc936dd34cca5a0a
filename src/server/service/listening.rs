//! The API over TCP: where it is reached, if a user asked for that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rustls::ServerConfig;

use super::Service;
use crate::api::ApiError;
use crate::api::server::Listening;
use crate::model::settings::{self, Listen, Settings};
use crate::server::api_loop::application::Ctx;
use crate::server::api_loop::listener::ApiListener;
use crate::server::process::bind_address::{BindAddress, Taken, Unless};
use crate::server::records::{Answer, worker_error};
use crate::wire::handover::{Handover, Part};
use crate::wire::http::Response;
use crate::wire::tls::{self, Certificate};

/// The name of the file in the state folder that says where the API listened. It is there from when a user asked for that,
/// so the next server listens, too.
const ADDRESS: &str = "listen";

/// The API's place among addresses.
pub(super) fn place(home: &Path) -> BindAddress {
    BindAddress {
        socket: Part::Listen,
        part: "the API over TCP",
        option: "listen",
        memory: home.join(ADDRESS),
    }
}

/// What clients that speak TLS are shown.
fn tls(home: &Path, settings: &Settings) -> Result<Arc<ServerConfig>> {
    Ok(tls::server_config(home, &Certificate::chosen(settings)?)?)
}

/// Takes the sockets where the settings say, or where a server before was asked to.
///
/// # Errors
/// When the address that was asked for is taken, and `unless` says so.
pub(super) fn take(
    home: &Path,
    settings: &Settings,
    left: &mut Handover,
    unless: Unless,
) -> Result<Taken> {
    let place = place(home);
    match (settings.listen, place.before()) {
        (Listen::Off, None) => Ok(Taken::default()),
        (Listen::Off, Some(before)) => {
            let taken = place.take(Listen::Auto(before), left, unless)?;
            remember(&place, taken.address());
            Ok(taken)
        }
        (wish, _) => place.take(wish, left, unless),
    }
}

/// Listens with these sockets.
///
/// # Errors
/// When the certificate is not valid.
pub(super) fn listen(
    home: &Path,
    settings: &Settings,
    taken: Taken,
    ctx: &mut Ctx<Service>,
) -> Result<Option<SocketAddr>> {
    let address = taken.address();
    if address.is_some() {
        let tls = tls(home, settings)?;
        for (part, socket) in taken.sockets {
            socket.set_nonblocking(true)?;
            ctx.bequeath(part, &socket)?;
            let tls = Arc::clone(&tls);
            ctx.listen(ApiListener::Tcp { part, socket, tls });
        }
    }
    Ok(address)
}

/// How what listens there is reached from this host: an address that stands for all is none to go to.
fn from_here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

fn remember(place: &BindAddress, address: Option<SocketAddr>) {
    if let Some(address) = address {
        place.remember(address);
    }
}

impl Service {
    /// `POST /server/actions/listen`: listens from now on, and says where. Servers after this one will, too.
    pub(super) fn listen(&mut self, ctx: &mut Ctx<Self>) -> Answer {
        if self.ports.api.is_none() {
            self.check_not_missing(Part::Listen)?;
            let (home, place) = (&self.this.home, place(&self.this.home));
            let usual = Listen::Auto(settings::API_ADDRESS);
            let settings = &self.records.settings;
            let begun = place
                .take(usual, &mut ctx.inherited, Unless::TriesAgain)
                .and_then(|taken| listen(home, settings, taken, ctx))
                .map_err(worker_error)?;
            remember(&place, begun);
            self.listens_at(begun);
        }
        self.want_rendezvous(ctx)?;
        let Some(api) = self.ports.api else {
            let message = "no address is free for the API";
            return Err(ApiError::unavailable(message));
        };
        let listening = Listening {
            api: api.to_string(),
            rendezvous: self.rendezvous().map(|address| address.to_string()),
        };
        Ok(Response::json(200, &listening))
    }

    /// Notes where it listens.
    pub(super) fn listens_at(&mut self, address: Option<SocketAddr>) {
        self.ports.api = address;
        let address = address.map(from_here);
        // In the clear no further than this host.
        self.records.public = address.map(|address| match address.ip().is_loopback() {
            true => format!("http://{address}"),
            false => format!("https://{address}"),
        });
        // Git sends the token only to whom it can be sure of.
        self.records.places.git = address.map(|address| format!("https://{address}"));
    }
}
