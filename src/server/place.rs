//! Takes the address that a part of the server listens on.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::Result;

use crate::error::{UserError, tell};
use crate::settings::Listen;

/// A part of the server that listens.
#[derive(Debug)]
pub struct Place {
    /// `the router`.
    pub part: &'static str,
    /// The option that says where it listens, without its dashes.
    pub option: &'static str,
    /// The file that says where it listened last: an address that a person has seen stays true.
    pub memory: PathBuf,
}

impl Place {
    /// Listens where `wish` says; None if it says nowhere, or, of one that need not be, if no address can be had.
    ///
    /// # Errors
    /// When the address that was asked for cannot be had.
    pub fn take(&self, wish: Listen) -> Result<Option<TcpListener>> {
        let address = match wish {
            Listen::Off => return Ok(None),
            Listen::At(address) => {
                let Self { part, option, .. } = self;
                let listener = TcpListener::bind(address).map_err(|error| {
                    UserError::new(format!("{part} cannot listen on `{address}`: {error}"))
                        .hint(format!("`--{option} auto` takes a port that is free, `--{option} off` goes without"))
                })?;
                return Ok(Some(listener));
            }
            Listen::Auto(address) => address,
        };
        let before = self.before().filter(|before| before.ip() == address.ip());
        let any = SocketAddr::new(address.ip(), 0);
        let mut last = None;
        for address in before.into_iter().chain([address, any]) {
            match TcpListener::bind(address) {
                Ok(listener) => return Ok(Some(listener)),
                Err(error) => last = Some(error),
            }
        }
        // A host without the interface still runs dynos.
        if let Some(error) = last {
            tell!(
                "{} is not there: it cannot listen on {address}: {error}",
                self.part
            );
        }
        Ok(None)
    }

    /// Where it listened last.
    pub fn before(&self) -> Option<SocketAddr> {
        fs::read_to_string(&self.memory).ok()?.trim().parse().ok()
    }

    /// Has the next server listen there, if it can.
    pub fn remember(&self, address: SocketAddr) {
        let _ = fs::write(&self.memory, address.to_string());
    }
}
