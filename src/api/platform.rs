//! What Heroku's clients look for around an app, and has one answer here: where it runs, on what, and whose it is.

use serde::{Deserialize, Serialize};

use super::account::Identity;
use super::{Named, Time, fixed_id};
use crate::model::app::App;

/// Where apps run: `GET /regions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// A uuid.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The country.
    pub country: String,
    /// A place in it.
    pub locale: String,
    /// For people.
    pub description: String,
    /// Whether it has private spaces: no.
    pub private_capable: bool,
    /// Whose machines they are.
    pub provider: Provider,
    /// Since when it is there.
    pub created_at: Time,
    /// When it last changed.
    pub updated_at: Time,
}

/// Whose machines a region has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Its name.
    pub name: String,
}

impl Region {
    /// The region as other resources name it. Heroku's client shows every other name than this one beside each app, and
    /// there is no other.
    pub fn here() -> Named {
        Named::fixed("region", "us")
    }

    /// The one region there is, `since` there was anything.
    pub fn new(since: Time) -> Self {
        let Named { id, name } = Self::here();
        Self {
            id,
            name,
            country: "this host".to_owned(),
            locale: "this host".to_owned(),
            description: "This host".to_owned(),
            private_capable: false,
            provider: Provider {
                name: "dyno".to_owned(),
            },
            created_at: since,
            updated_at: since,
        }
    }
}

/// What is under dynos: `GET /stacks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// A uuid.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `public`: anybody may use it.
    pub state: String,
    /// Whether a new app has it.
    pub default: bool,
    /// Since when it is there.
    pub created_at: Time,
    /// When it last changed.
    pub updated_at: Time,
}

impl Stack {
    /// The one stack there is.
    pub fn new(since: Time) -> Self {
        let Named { id, name } = Named::stack();
        Self {
            id,
            name,
            state: "public".to_owned(),
            default: true,
            created_at: since,
            updated_at: since,
        }
    }
}

/// Who may use an app: `GET /apps/A/collaborators`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collaborator {
    /// A uuid.
    pub id: String,
    /// The app.
    pub app: Named,
    /// Who it is.
    pub user: User,
    /// What they are to it.
    pub role: String,
    /// What they may do: everything.
    pub permissions: Vec<String>,
    /// Since when.
    pub created_at: Time,
    /// When that last changed.
    pub updated_at: Time,
}

/// An account as a collaborator names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Who it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// Whether another service knows them: never.
    pub federated: bool,
}

impl Collaborator {
    /// The owner of an app, who is its one collaborator.
    pub fn owner(app: &App, owner: &Identity) -> Self {
        Self {
            id: fixed_id("collaborator", &app.id),
            app: Named {
                id: app.id.clone(),
                name: app.name.to_string(),
            },
            user: User {
                identity: owner.clone(),
                federated: false,
            },
            role: "owner".to_owned(),
            permissions: Vec::new(),
            created_at: Time(app.created_at),
            updated_at: Time(app.created_at),
        }
    }
}
