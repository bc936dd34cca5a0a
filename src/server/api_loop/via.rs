//! The way on which a client has come: over the Unix socket, or from a network.

use std::net::SocketAddr;

use crate::api::Sender;

/// The way on which a client has come to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Over the Unix socket: it is the server's own user, or root.
    Socket,
    /// From a network, this host's own perhaps.
    Tcp {
        /// From where.
        peer: SocketAddr,
        /// Whether no host on the way can read what is sent.
        tls: bool,
    },
}

impl Via {
    /// Whether the request may name folders of this host.
    pub fn sender(self) -> Sender {
        match self {
            Self::Socket => Sender::ThisHost,
            Self::Tcp { .. } => Sender::Afar,
        }
    }

    /// Whether the client may be on another host, or be another user.
    pub fn is_remote(self) -> bool {
        self != Self::Socket
    }
}
