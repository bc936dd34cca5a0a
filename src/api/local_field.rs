//! Parts of a request that name folders of this host.

use serde::Serialize;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// A process of the server's own user on this host, or root: it came by the Unix socket.
    ThisHost,
    /// A client over TCP, which has a token for the apps and for nothing else of this host.
    Afar,
}

/// A field that names folders of this host: the folder that is linked to an app, or toolchains that dynos are shown. The
/// server reads one ([`BodyFields::local`](super::BodyFields::local)) only if the request came from this host: the holder of a token
/// could otherwise read any folder by having it mounted in a dyno.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct LocalField<T>(T);

impl<T> LocalField<T> {
    /// A field to be sent; or one that was read, by [`BodyFields`](super::BodyFields) alone.
    pub fn new(named: T) -> Self {
        Self(named)
    }

    /// What is named.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// What is named.
    pub fn into_inner(self) -> T {
        self.0
    }
}
