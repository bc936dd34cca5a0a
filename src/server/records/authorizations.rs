//! Handlers of tokens, which Heroku calls authorizations.

use jiff::Timestamp;

use crate::api::ask::AuthorizationAsk;
use crate::api::authorization::{Authorization, CreateAuthorization};
use crate::server::records::{Answer, Host};
use crate::wire::http::Response;

/// Answers what is asked about tokens.
pub fn answer(host: &mut Host, ask: &AuthorizationAsk, body: &[u8], now: Timestamp) -> Answer {
    match ask {
        AuthorizationAsk::List => list(host, now),
        AuthorizationAsk::Create => create(host, body, now),
        AuthorizationAsk::Revoke { id } => revoke(host, id, now),
    }
}

/// `GET /oauth/authorizations`
fn list(host: &Host, now: Timestamp) -> Answer {
    let tokens = host.store.tokens()?;
    let good = tokens.iter().filter(|token| token.is_good(now));
    let all: Vec<_> = good
        .map(|token| Authorization::new(token, None, &host.account, now))
        .collect();
    Ok(Response::json(200, &all))
}

/// `POST /oauth/authorizations`: only this answer has the token itself.
fn create(host: &mut Host, body: &[u8], now: Timestamp) -> Answer {
    let request = CreateAuthorization::parse(body)?;
    let description = request.description.as_deref().unwrap_or("dyno");
    let expires_at = request.expires_at(now);
    let (token, secret) = host.store.create_token(description, expires_at, now)?;
    host.access.reload(&host.store)?;
    let shown = Authorization::new(&token, Some(secret.as_str()), &host.account, now);
    Ok(Response::json(201, &shown))
}

/// `DELETE /oauth/authorizations/ID`
fn revoke(host: &mut Host, id: &str, now: Timestamp) -> Answer {
    let token = host.store.revoke_token(id)?;
    host.access.reload(&host.store)?;
    Ok(Response::json(
        200,
        &Authorization::new(&token, None, &host.account, now),
    ))
}
