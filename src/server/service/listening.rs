//! The API over TCP: where it is reached, if somebody asked for that.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::super::application::Ctx;
use super::super::host::Answer;
use super::super::place::Place;
use super::Service;
use crate::api::ApiError;
use crate::api::server::Listening;
use crate::http::Response;
use crate::settings::{self, Listen, Settings};

/// The name of the file in the state folder that says where the API listened. It is there from when somebody asked for that,
/// so the next server listens, too.
const ADDRESS: &str = "listen";

/// The API's place among addresses.
fn place(home: &Path) -> Place {
    Place {
        part: "the API over TCP",
        option: "listen",
        memory: home.join(ADDRESS),
    }
}

/// Listens where the settings say, or where a server before was asked to.
///
/// # Errors
/// When the address that was asked for cannot be had.
pub(super) fn begin(
    home: &Path,
    settings: &Settings,
    ctx: &mut Ctx<Service>,
) -> Result<Option<SocketAddr>> {
    let place = place(home);
    match (settings.listen, place.before()) {
        (Listen::Off, Some(before)) => listen_again(&place, Listen::Auto(before), ctx),
        (wish, _) => listen(&place, wish, ctx),
    }
}

/// Listens, and has the next server listen, too.
fn listen_again(place: &Place, wish: Listen, ctx: &mut Ctx<Service>) -> Result<Option<SocketAddr>> {
    let address = listen(place, wish, ctx)?;
    address
        .into_iter()
        .for_each(|address| place.remember(address));
    Ok(address)
}

fn listen(place: &Place, wish: Listen, ctx: &mut Ctx<Service>) -> Result<Option<SocketAddr>> {
    let Some(listener) = place.take(wish)? else {
        return Ok(None);
    };
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    ctx.listen(listener);
    Ok(Some(address))
}

impl Service {
    /// `POST /server/actions/listen`: listens from now on, where the settings would have it, and says where. Servers after
    /// this one will, too.
    pub(super) fn listen(&mut self, ctx: &mut Ctx<Self>) -> Answer {
        if self.listening.is_none() {
            let usual = Listen::Auto(settings::API_ADDRESS);
            let begun = listen_again(&place(&self.home), usual, ctx);
            let begun = begun.map_err(super::super::host::worker_error)?;
            self.listens_at(begun);
        }
        self.want_rendezvous(ctx)?;
        match self.listening {
            Some(api) => Ok(Response::json(
                200,
                &Listening {
                    api: api.to_string(),
                    rendezvous: self.rendezvous().map(|address| address.to_string()),
                },
            )),
            None => Err(ApiError::new(
                "unavailable",
                "no address is free for the API",
            )),
        }
    }

    /// Notes where it listens.
    pub(super) fn listens_at(&mut self, address: Option<SocketAddr>) {
        self.listening = address;
        self.host.public = address.map(|address| format!("http://{address}"));
    }
}
