//! The account resource: whoever uses this host.

use serde::{Deserialize, Serialize};

use super::Named;

/// An account as other resources name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// A uuid.
    pub id: String,
    /// An e-mail address, or what stands for one: `ada@host`.
    pub email: String,
}

/// The account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Who it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// The person's name.
    pub name: Option<String>,
    /// Whether they may do everything: always.
    pub verified: bool,
    /// Whether they have a second factor: never.
    pub two_factor_authentication: bool,
    /// Whether another service knows them: never.
    pub federated: bool,
    /// Whether they try what is new: never.
    pub beta: bool,
    /// Whether they may be watched: never.
    pub allow_tracking: bool,
    /// Nobody's.
    pub default_team: Option<Named>,
}

impl Account {
    /// The account of this identity.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            name: None,
            verified: true,
            two_factor_authentication: false,
            federated: false,
            beta: false,
            allow_tracking: false,
            default_team: None,
        }
    }
}
