//! Handlers of tokens, which Heroku calls authorizations.

use jiff::Timestamp;

use crate::api::ask::AuthorizationAsk;
use crate::api::authorization::{Authorization, CreateAuthorization};
use crate::server::records::{Answer, Records};
use crate::wire::http::Response;

/// Answers what is asked about tokens.
pub fn answer(
    records: &mut Records,
    ask: &AuthorizationAsk,
    body: &[u8],
    now: Timestamp,
) -> Answer {
    match ask {
        AuthorizationAsk::List => list(records, now),
        AuthorizationAsk::Create => create(records, body, now),
        AuthorizationAsk::Revoke { id } => revoke(records, id, now),
    }
}

/// `GET /oauth/authorizations`
fn list(records: &Records, now: Timestamp) -> Answer {
    let tokens = records.store.tokens()?;
    let good = tokens.iter().filter(|token| token.is_good(now));
    let all: Vec<_> = good
        .map(|token| Authorization::new(token, None, &records.account, now))
        .collect();
    Ok(Response::json(200, &all))
}

/// `POST /oauth/authorizations`: only this answer has the token itself.
fn create(records: &mut Records, body: &[u8], now: Timestamp) -> Answer {
    let request = CreateAuthorization::parse(body)?;
    let description = request.description.as_deref().unwrap_or("dyno");
    let expires_at = request.expires_at(now);
    let (token, secret) = records.store.create_token(description, expires_at, now)?;
    records.access.reload(&records.store)?;
    let shown = Authorization::new(&token, Some(secret.as_str()), &records.account, now);
    Ok(Response::json(201, &shown))
}

/// `DELETE /oauth/authorizations/ID`
fn revoke(records: &mut Records, id: &str, now: Timestamp) -> Answer {
    let token = records.store.revoke_token(id)?;
    records.access.reload(&records.store)?;
    Ok(Response::json(
        200,
        &Authorization::new(&token, None, &records.account, now),
    ))
}
