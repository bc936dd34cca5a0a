//! The buildpack installations of an app: which buildpacks its builds use.

use serde::{Deserialize, Serialize};

use super::{ApiError, BodyFields, Sender};
use crate::model::buildpack::address::{Buildpack, parse_all};

/// A buildpack by its name and its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedBuildpack {
    /// As people write it: `heroku/ruby`, or its URL.
    pub name: String,
    /// As programs do: `urn:buildpack:heroku/ruby`, or its URL, with `REDACTED` in place of a user and a password.
    pub url: String,
}

impl NamedBuildpack {
    /// That of this address, as stored. A password in it is not shown.
    pub fn of(address: &str) -> Self {
        match Buildpack::parse(address) {
            Ok(pack) => Self {
                name: pack.name(),
                url: pack.public_url(),
            },
            Err(_) => Self {
                name: address.to_owned(),
                url: address.to_owned(),
            },
        }
    }
}

/// An app's use of a buildpack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildpackInstallation {
    /// Which.
    pub buildpack: NamedBuildpack,
    /// Its place in the order, from 0.
    pub ordinal: usize,
}

impl BuildpackInstallation {
    /// Those of an app that has these addresses.
    pub fn all(addresses: &[String]) -> Vec<Self> {
        let each = addresses.iter().enumerate();
        let each = each.map(|(ordinal, address)| Self {
            buildpack: NamedBuildpack::of(address),
            ordinal,
        });
        each.collect()
    }
}

/// `PUT /apps/A/buildpack-installations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateBuildpacks {
    /// All of them, in their order.
    pub updates: Vec<UpdateBuildpack>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateBuildpack {
    /// Its name or address.
    pub buildpack: String,
}

impl UpdateBuildpacks {
    /// Reads the body of a request that came from there. One of the addresses `before`, as it is shown, stays as it is stored: with its
    /// password, and as a folder whoever sends it.
    ///
    /// # Errors
    /// When it is not valid, or names other folders of this host from elsewhere.
    pub fn parse(
        body: &[u8],
        sender: Sender,
        before: &[String],
    ) -> Result<Vec<Buildpack>, ApiError> {
        let updates: Vec<UpdateBuildpack> = BodyFields::parse(body)?.required("updates")?;
        let addresses: Vec<_> = updates.into_iter().map(|it| it.buildpack).collect();
        let before: Vec<_> = before.iter().flat_map(|it| Buildpack::parse(it)).collect();
        let packs = parse_all(&addresses).map_err(ApiError::from)?.into_iter();
        let packs = packs.map(|pack| {
            let stays = before.iter().find(|it| it.public_url() == pack.url());
            match stays {
                Some(stays) => Ok(stays.clone()),
                None => allowed(pack, sender),
            }
        });
        packs.collect()
    }
}

/// The buildpack, if whoever sent it may name it.
///
/// # Errors
/// When it is a folder of this host, and came from elsewhere.
pub(super) fn allowed(pack: Buildpack, sender: Sender) -> Result<Buildpack, ApiError> {
    match pack.folder() {
        Some(folder) if sender != Sender::ThisHost => {
            let message = format!("`{folder}` is a folder of this host");
            Err(ApiError::forbidden(message).hint("from elsewhere, name a URL"))
        }
        _ => Ok(pack),
    }
}
