//! Handlers of config vars.

use jiff::Timestamp;

use crate::api::ask::ConfigAsk;
use crate::api::config_vars::parse_change;
use crate::model::log_line::Story;
use crate::server::records::{Answer, Records};
use crate::wire::http::Response;

/// Answers what is asked about the config vars of an app.
pub fn answer(records: &mut Records, ask: &ConfigAsk, body: &[u8], now: Timestamp) -> Answer {
    match ask {
        ConfigAsk::Info { app } => info(records, app),
        ConfigAsk::Change { app } => change(records, app, body, now),
    }
}

/// `GET /apps/A/config-vars`
fn info(records: &Records, app: &str) -> Answer {
    let app = records.store.app(app)?;
    Ok(Response::json(200, &records.store.config(&app.id)?))
}

/// `PATCH /apps/A/config-vars`: answers with all of them, and by then there is a release if anything
/// has changed.
fn change(records: &mut Records, app: &str, body: &[u8], now: Timestamp) -> Answer {
    let change = parse_change(body)?;
    let app = records.store.app(app)?;
    let (config, release) =
        records
            .store
            .change_config(&app.id, &change, &records.account.email, now)?;
    if let Some(release) = release {
        records.log(&app.id, Story::parse(&release.description));
        records.log(&app.id, Story::ReleaseCreated(release.version));
        records.released.push(app.id);
    }
    Ok(Response::json(200, &config))
}
