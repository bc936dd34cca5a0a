//! Handlers of config vars.

use jiff::Timestamp;

use crate::api::ask::ConfigAsk;
use crate::api::config_vars::parse_change;
use crate::model::log_line::Story;
use crate::server::records::{Answer, Host};
use crate::wire::http::Response;

/// Answers what is asked about the config vars of an app.
pub fn answer(host: &mut Host, ask: &ConfigAsk, body: &[u8], now: Timestamp) -> Answer {
    match ask {
        ConfigAsk::Info { app } => info(host, app),
        ConfigAsk::Change { app } => change(host, app, body, now),
    }
}

/// `GET /apps/A/config-vars`
fn info(host: &Host, app: &str) -> Answer {
    let app = host.store.app(app)?;
    Ok(Response::json(200, &host.store.config(&app.id)?))
}

/// `PATCH /apps/A/config-vars`: answers with all of them, and by then there is a release if anything
/// has changed.
fn change(host: &mut Host, app: &str, body: &[u8], now: Timestamp) -> Answer {
    let change = parse_change(body)?;
    let app = host.store.app(app)?;
    let (config, release) = host
        .store
        .change_config(&app.id, &change, &host.account.email, now)?;
    if let Some(release) = release {
        host.log(&app.id, Story::parse(&release.description));
        host.log(&app.id, Story::ReleaseCreated(release.version));
        host.released.push(app.id);
    }
    Ok(Response::json(200, &config))
}
