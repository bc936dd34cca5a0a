//! The buildpack installations of an app: which buildpacks its builds use.

use serde::{Deserialize, Serialize};

use super::{ApiError, BodyFields, Sender};
use crate::model::buildpack::{Buildpack, parse_all};

/// A buildpack by its name and its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedBuildpack {
    /// As people write it: `heroku/ruby`, or its URL.
    pub name: String,
    /// As programs do: `urn:buildpack:heroku/ruby`, or its URL.
    pub url: String,
}

impl NamedBuildpack {
    /// That of this address, as stored.
    pub fn of(address: &str) -> Self {
        let name = Buildpack::parse(address).map(|it| it.name());
        Self {
            name: name.unwrap_or_else(|_| address.to_owned()),
            url: address.to_owned(),
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
    /// Reads the body of a request that came from there.
    ///
    /// # Errors
    /// When it is not valid, or names folders of this host from elsewhere.
    pub fn parse(body: &[u8], sender: Sender) -> Result<Vec<Buildpack>, ApiError> {
        let updates: Vec<UpdateBuildpack> = BodyFields::parse(body)?.required("updates")?;
        let addresses: Vec<_> = updates.into_iter().map(|it| it.buildpack).collect();
        allowed(&addresses, sender)
    }
}

/// Reads addresses that came from there.
///
/// # Errors
/// When one is none, or a folder of this host from elsewhere.
pub(super) fn allowed(addresses: &[String], sender: Sender) -> Result<Vec<Buildpack>, ApiError> {
    let packs = parse_all(addresses).map_err(ApiError::from)?;
    let is_folder = |it: &Buildpack| matches!(it, Buildpack::Folder(_));
    match packs.iter().find(|it| is_folder(it)) {
        Some(folder) if sender != Sender::ThisHost => {
            let message = format!("`{}` is a folder of this host", folder.name());
            Err(ApiError::forbidden(message).hint("from elsewhere, name a URL"))
        }
        _ => Ok(packs),
    }
}
