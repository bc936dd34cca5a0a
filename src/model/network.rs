//! The networks that a dyno can have: the host's, or one of its own.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{UserError, shown};

/// The longest text of a network that is repeated in an error, in bytes.
const LONGEST: usize = 40;

/// The network of an app's dynos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DynoNetwork {
    /// The host's.
    Host,
    /// One of each dyno's own. Visitors come by the router; what of the host the setting `reach` names is reached, and other
    /// hosts where this one has the means.
    Private,
    /// One of each dyno's own, out of which nothing is reached. Visitors come by the router.
    None,
}

impl DynoNetwork {
    /// All of them, by their names.
    pub const NAMED: &[(&'static str, Self)] = &[
        ("host", Self::Host),
        ("private", Self::Private),
        ("none", Self::None),
    ];

    /// The network of this name.
    ///
    /// # Errors
    /// When there is none; the hint lists them.
    pub fn parse(name: &str) -> Result<Self, UserError> {
        let found = Self::NAMED.iter().find(|(known, _)| *known == name);
        found.map(|(_, network)| *network).ok_or_else(|| {
            let given = shown(name.as_bytes(), LONGEST);
            UserError::new(format!("there is no network `{given}`"))
                .hint("a dyno's is `host`, `private` or `none`")
        })
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        let found = Self::NAMED.iter().find(|(_, network)| *network == self);
        found.map_or("", |(name, _)| name)
    }
}

impl fmt::Display for DynoNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is asked for an app's dynos.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkChoice {
    /// This one, whatever the setting `network` says.
    Own(DynoNetwork),
    /// What the setting says.
    Default,
}

impl NetworkChoice {
    /// The word for what the setting says.
    const DEFAULT: &str = "default";

    /// The choice of this name.
    ///
    /// # Errors
    /// When there is none; the hint lists them.
    pub fn parse(name: &str) -> Result<Self, UserError> {
        if name == Self::DEFAULT {
            return Ok(Self::Default);
        }
        DynoNetwork::parse(name).map(Self::Own).map_err(|error| {
            error.hint(
                "it is `host`, `private`, `none`, or `default`: what the setting `network` says",
            )
        })
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own(network) => network.as_str(),
            Self::Default => Self::DEFAULT,
        }
    }
}

impl Serialize for NetworkChoice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a dyno with a network of its own can reach beside its own processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnNetwork {
    /// Addresses of the host's loopback interface.
    pub reach: Vec<SocketAddr>,
    /// How other hosts are; None: not.
    pub outbound: Option<Outbound>,
}

/// How other hosts are reached from a dyno's own network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outbound {
    /// By a pair of interfaces, and a rule by which connections are the host's own to others. For a root server.
    Pair {
        /// Which pair it is: no other live dyno has it.
        number: u16,
        /// The program `nft`.
        nft: PathBuf,
        /// The file whose lock is held while the rules change.
        lock: PathBuf,
    },
    /// By the program `pasta`, which makes the connections as its user.
    Pasta(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_known_by_its_name() {
        for (name, network) in DynoNetwork::NAMED {
            assert_eq!(DynoNetwork::parse(name).unwrap(), *network);
            assert_eq!(network.to_string(), *name);
            assert_eq!(
                serde_json::to_string(network).unwrap(),
                format!("\"{name}\"")
            );
        }
        let error = DynoNetwork::parse("Host\n").unwrap_err();
        assert!(error.to_string().contains("no network `Host"), "{error}");
        let choice = |name| NetworkChoice::parse(name).unwrap();
        assert_eq!(choice("default"), NetworkChoice::Default);
        assert_eq!(choice("none"), NetworkChoice::Own(DynoNetwork::None));
        assert!(NetworkChoice::parse("Default").is_err());
    }
}
