//! Handlers of config vars.

use jiff::Timestamp;

use super::host::{Answer, Host};
use crate::api::config_vars::parse_change;
use crate::wire::http::Response;

/// `GET /apps/A/config-vars`
pub fn info(host: &Host, app: &str) -> Answer {
    let app = host.store.app(app)?;
    Ok(Response::json(200, &host.store.config(&app.id)?))
}

/// `PATCH /apps/A/config-vars`: answers with all of them, and by then there is a release if anything
/// has changed.
pub fn change(host: &mut Host, app: &str, body: &[u8], now: Timestamp) -> Answer {
    let change = parse_change(body)?;
    let app = host.store.app(app)?;
    let (config, release) = host
        .store
        .change_config(&app.id, &change, &host.account.email, now)?;
    if let Some(release) = release {
        host.log(&app.id, &release.description);
        host.log(&app.id, &format!("Release {} created", release.version));
        host.released.push(app.id);
    }
    Ok(Response::json(200, &config))
}
