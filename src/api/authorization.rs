//! The authorization resource: a token, in Heroku's words.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::account::Identity;
use super::{ApiError, BodyFields, Named, Time};
use crate::error::shown;
use crate::model::token::{Scope, Token};

/// The longest time that a token may be good, in seconds: a hundred years.
const LONGEST: u64 = 100 * 365 * 24 * 3600;

/// What lets a client use the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorization {
    /// A uuid.
    pub id: String,
    /// What it is for.
    pub description: String,
    /// What it allows: one of our [scopes](Scope), of which each includes the ones before it. As on Heroku, `global` is all.
    pub scope: Vec<String>,
    /// The apps that it is for; none: all of them. Ours.
    #[serde(default)]
    pub apps: Option<Vec<Named>>,
    /// Its token.
    pub access_token: Option<AccessToken>,
    /// Whose it is.
    pub user: Identity,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed: when it was made.
    pub updated_at: Time,
    /// When it was last used, to the minute. Ours.
    #[serde(default)]
    pub used_at: Option<Time>,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessToken {
    /// The id of its authorization.
    pub id: String,
    /// In how many seconds it is good no more; none: never.
    pub expires_in: Option<i64>,
    /// Itself, in the answer to the request that made it, and stars later.
    pub token: String,
}

impl Authorization {
    /// The resource of a token that is for `apps`, as seen at `now`; with the secret, or with stars in its place.
    pub fn new(
        token: &Token,
        apps: Option<Vec<Named>>,
        secret: Option<&str>,
        user: &Identity,
        now: Timestamp,
    ) -> Self {
        let expires_in = token
            .expires_at
            .map(|at| at.duration_since(now).as_secs().max(0));
        Self {
            id: token.id.clone(),
            description: token.description.clone(),
            scope: vec![name_of(token.grant.scope).to_owned()],
            apps,
            access_token: Some(AccessToken {
                id: token.id.clone(),
                expires_in,
                token: secret.unwrap_or("********").to_owned(),
            }),
            user: user.clone(),
            created_at: Time(token.created_at),
            updated_at: Time(token.created_at),
            used_at: token.used_at.map(Time),
        }
    }
}

/// `POST /oauth/authorizations`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CreateAuthorization {
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// For how many seconds it is good; none: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    /// What it allows: of several the strongest; none: as much as the token that it is asked for with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Vec<String>>,
    /// The names or ids of the apps that it is for; none: those of the token that it is asked for with. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apps: Option<Vec<String>>,
}

/// A scope as the API has it.
fn name_of(scope: Scope) -> &'static str {
    match scope {
        Scope::Admin => "global",
        other => other.name(),
    }
}

impl CreateAuthorization {
    /// Reads a body.
    ///
    /// # Errors
    /// When a field is wrong.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let fields = BodyFields::parse(body)?;
        let scope: Option<Vec<String>> = fields.optional("scope")?;
        strongest(scope.as_deref())?;
        let apps: Option<Vec<String>> = fields.optional("apps")?;
        if apps.as_ref().is_some_and(Vec::is_empty) {
            let error =
                ApiError::invalid("`apps` is not valid: a token for no app is good for nothing");
            return Err(error.hint("leave it out for a token that is for all apps"));
        }
        let expires_in: Option<u64> = fields.optional("expires_in")?;
        if expires_in.is_some_and(|seconds| !(1..=LONGEST).contains(&seconds)) {
            return Err(ApiError::invalid(format!(
                "`expires_in` is not valid: it takes seconds, from 1 to {LONGEST}"
            )));
        }
        Ok(Self {
            description: fields.text("description")?,
            expires_in,
            scope,
            apps,
        })
    }

    /// What is asked for it to allow.
    pub fn wanted_scope(&self) -> Option<Scope> {
        strongest(self.scope.as_deref()).ok().flatten()
    }

    /// When a token of that is good no more.
    pub fn expires_at(&self, now: Timestamp) -> Option<Timestamp> {
        let span = SignedDuration::try_from(Duration::from_secs(self.expires_in?)).ok()?;
        now.checked_add(span).ok()
    }
}

/// The strongest of some scopes, if there are any.
fn strongest(names: Option<&[String]>) -> Result<Option<Scope>, ApiError> {
    let mut all = Vec::new();
    for name in names.unwrap_or_default() {
        all.push(Scope::of_name(name).ok_or_else(|| unknown(name))?);
    }
    match (names, all.into_iter().max()) {
        (Some(_), None) => Err(ApiError::invalid("`scope` is not valid: it is empty")),
        (_, scope) => Ok(scope),
    }
}

fn unknown(name: &str) -> ApiError {
    let name = shown(name.as_bytes(), 60);
    let error = ApiError::invalid(format!("`scope` is not valid: there is no `{name}`"));
    let ours = Scope::ALL.map(|scope| format!("`{}`", name_of(scope)));
    error.hint(match &*name {
        // Whoever may run code sees the config vars, here as there.
        "write" | "write-protected" => "`run` or `deploy` is what there is instead".to_owned(),
        _ => format!("there are {}", ours.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_a_scope_and_for_a_time_within_bounds() {
        let parse = |body: &str| CreateAuthorization::parse(body.as_bytes());
        let now = Timestamp::from_second(1_000).unwrap();
        assert_eq!(parse("").unwrap().expires_at(now), None);
        let hour = parse(r#"{"description":"CI","scope":["global"],"expires_in":3600}"#).unwrap();
        assert_eq!(hour.description.as_deref(), Some("CI"));
        assert_eq!(hour.expires_at(now).unwrap().as_second(), 4_600);
        assert_eq!(hour.wanted_scope(), Some(Scope::Admin));
        assert_eq!(parse("").unwrap().wanted_scope(), None);
        let two = parse(r#"{"scope":["identity","run","read"]}"#).unwrap();
        assert_eq!(two.wanted_scope(), Some(Scope::Run));
        for (body, named) in [
            (r#"{"scope":["write"]}"#, "`scope`"),
            (r#"{"scope":["read","root"]}"#, "`scope`"),
            (r#"{"scope":[]}"#, "`scope`"),
            (r#"{"scope":"read"}"#, "`scope`"),
            (r#"{"apps":[]}"#, "`apps`"),
            (r#"{"apps":"shop"}"#, "`apps`"),
            (r#"{"expires_in":0}"#, "`expires_in`"),
            (r#"{"expires_in":-1}"#, "`expires_in`"),
            (r#"{"expires_in":9999999999}"#, "`expires_in`"),
            (r#"{"description":7}"#, "`description`"),
        ] {
            let error = parse(body).unwrap_err();
            assert!(error.message.starts_with(named), "{error}");
        }
    }
}
