//! Handlers of tokens, which Heroku calls authorizations.
//!
//! A token that is for some apps alone knows of itself and of those that were made with it, of no others.

use jiff::Timestamp;

use crate::api::ask::AuthorizationAsk;
use crate::api::authorization::{Authorization, CreateAuthorization};
use crate::api::{ApiError, Named};
use crate::model::token::{Scope, Token, TokenGrant, made_with};
use crate::server::records::{Answer, Records};
use crate::store::{NewToken, StoreError};
use crate::wire::http::Response;

/// How many tokens there may be of which each was made with the one before.
const LONGEST_CHAIN: usize = 8;

/// Answers what is asked about tokens, with the token `own` or at the Unix socket.
pub fn answer(
    records: &mut Records,
    ask: &AuthorizationAsk,
    body: &[u8],
    own: Option<&Token>,
    now: Timestamp,
) -> Answer {
    match ask {
        AuthorizationAsk::List => list(records, own, now),
        AuthorizationAsk::Create => create(records, body, own, now),
        AuthorizationAsk::Revoke { id } => revoke(records, id, own, now),
    }
}

/// `GET /oauth/authorizations`
fn list(records: &Records, own: Option<&Token>, now: Timestamp) -> Answer {
    let tokens = known(records, own)?;
    let good = tokens.iter().filter(|token| token.is_good(now));
    let all: Vec<_> = good
        .map(|token| resource(records, token, None, now))
        .collect();
    Ok(Response::json(200, &all))
}

/// `POST /oauth/authorizations`: only this answer has the token itself.
fn create(records: &mut Records, body: &[u8], own: Option<&Token>, now: Timestamp) -> Answer {
    let request = CreateAuthorization::parse(body)?;
    let grant = grant(records, &request, own)?;
    if let Some(own) = own
        && made_with(&records.store.tokens()?, own).count() >= LONGEST_CHAIN
    {
        let message = format!(
            "{LONGEST_CHAIN} tokens were made one with the other, which is as long as it may go on"
        );
        return Err(ApiError::invalid(message).hint("make it with an earlier one"));
    }
    let ends = [request.expires_at(now), own.and_then(|own| own.expires_at)];
    let new = NewToken {
        description: request.description.as_deref().unwrap_or("dyno"),
        grant,
        // None outlives the token that it was made with.
        expires_at: ends.into_iter().flatten().min(),
        parent: own.map(|own| &*own.id),
    };
    let (token, secret) = records.store.create_token(new, now)?;
    records.access.reload(&records.store)?;
    let shown = resource(records, &token, Some(secret.as_str()), now);
    Ok(Response::json(201, &shown))
}

/// What a new token is good for: as much as its maker unless less is asked for, and never more.
fn grant(
    records: &Records,
    request: &CreateAuthorization,
    own: Option<&Token>,
) -> Result<TokenGrant, ApiError> {
    let everything = TokenGrant {
        scope: Scope::Admin,
        apps: None,
    };
    let own = own.map_or(&everything, |own| &own.grant);
    let apps = match &request.apps {
        None => own.apps.clone(),
        Some(names) => {
            let mut ids = Vec::new();
            for name in names {
                let app = records.store.app(name)?;
                if !own.is_for(&app.id) {
                    return Err(StoreError::NoApp(name.clone()).into());
                }
                ids.push(app.id);
            }
            Some(ids)
        }
    };
    let scope = request.wanted_scope().unwrap_or(own.scope);
    let grant = TokenGrant { scope, apps };
    match own.includes(&grant) {
        true => Ok(grant),
        false => Err(ApiError::forbidden(
            "a token makes none that is good for more than itself",
        )),
    }
}

/// `DELETE /oauth/authorizations/ID`: with it go those that were made with it.
fn revoke(records: &mut Records, id: &str, own: Option<&Token>, now: Timestamp) -> Answer {
    let is_known = known(records, own)?.iter().any(|token| token.id == id);
    if !is_known {
        return Err(StoreError::NoToken(id.to_owned()).into());
    }
    let token = records.store.revoke_token(id)?;
    records.access.reload(&records.store)?;
    Ok(Response::json(200, &resource(records, &token, None, now)))
}

/// The tokens that are there for the one that asks.
fn known(records: &Records, own: Option<&Token>) -> Result<Vec<Token>, StoreError> {
    let all = records.store.tokens()?;
    let Some(own) = own.filter(|own| own.grant.apps.is_some()) else {
        return Ok(all);
    };
    let is_known = |token: &Token| made_with(&all, token).any(|maker| maker.id == own.id);
    Ok(all
        .iter()
        .filter(|token| is_known(token))
        .cloned()
        .collect())
}

fn resource(
    records: &Records,
    token: &Token,
    secret: Option<&str>,
    now: Timestamp,
) -> Authorization {
    let apps = token.grant.apps.as_ref().map(|ids| {
        let apps = ids.iter().filter_map(|id| records.store.app(id).ok());
        let named = apps.map(|app| Named {
            id: app.id,
            name: app.name.to_string(),
        });
        named.collect()
    });
    Authorization::new(token, apps, secret, &records.account, now)
}
