//! The account resource: the one user of this host's server.

use serde::{Deserialize, Serialize};

use super::{Named, Time};

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
    /// Always `null`.
    pub default_team: Option<Named>,
    /// Heroku's old word for a team.
    pub default_organization: Option<Named>,
    /// The country of the person: not known.
    pub country_of_residence: Option<String>,
    /// Their telephone: not known.
    pub sms_number: Option<String>,
    /// Their identity provider: none.
    pub identity_provider: Option<Named>,
    /// Since when they owe something: never.
    pub delinquent_at: Option<Time>,
    /// Since when they may do nothing: never.
    pub suspended_at: Option<Time>,
    /// When they last logged in: never, since the server has no login.
    pub last_login: Option<Time>,
    /// Since when it is there.
    pub created_at: Time,
    /// When it last changed.
    pub updated_at: Time,
}

impl Account {
    /// The account of this identity, which is there `since` then.
    pub fn new(identity: Identity, since: Time) -> Self {
        Self {
            identity,
            name: None,
            verified: true,
            two_factor_authentication: false,
            federated: false,
            beta: false,
            allow_tracking: false,
            default_team: None,
            default_organization: None,
            country_of_residence: None,
            sms_number: None,
            identity_provider: None,
            delinquent_at: None,
            suspended_at: None,
            last_login: None,
            created_at: since,
            updated_at: since,
        }
    }
}

/// How many requests may still come: `GET /account/rate-limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Of a token; at the Unix socket as many as ever.
    pub remaining: u32,
}
