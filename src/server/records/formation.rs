//! Handlers of an app's formation.

use jiff::Timestamp;

use crate::api::ApiError;
use crate::api::formation::{Formation, ScaleFormation, parse_update};
use crate::model::app::App;
use crate::model::dyno::MostDynos;
use crate::model::formation::{Entry, ScaleRefusal, Update};
use crate::model::log_line::Story;
use crate::server::records::{Answer, Records};
use crate::store::StoreError;
use crate::wire::http::Response;

/// `GET /apps/A/formation`
pub fn list(records: &Records, app: &str) -> Answer {
    let app = records.store.app(app)?;
    let entries = records.store.formation(&app.id)?;
    Ok(Response::json(200, &resources(&entries, &app)))
}

/// `GET /apps/A/formation/T`: T is a process type, or the id of its entry.
pub fn info(records: &Records, app: &str, process_type: &str) -> Answer {
    let app = records.store.app(app)?;
    let entries = records.store.formation(&app.id)?;
    one(&entries, &app, process_type)
}

/// `PATCH /apps/A/formation`: all that is asked for, or nothing.
pub fn scale(records: &mut Records, app: &str, body: &[u8], now: Timestamp) -> Answer {
    let app = records.store.app(app)?;
    let ScaleFormation { updates } = ScaleFormation::parse(body, &records.settings.sizes)?;
    let entries = perform(records, &app, &updates, now)?;
    Ok(Response::json(200, &resources(&entries, &app)))
}

/// `PATCH /apps/A/formation/T`
pub fn scale_one(
    records: &mut Records,
    app: &str,
    process_type: &str,
    body: &[u8],
    now: Timestamp,
) -> Answer {
    let app = records.store.app(app)?;
    let update = parse_update(process_type, body, &records.settings.sizes)?;
    let entries = perform(records, &app, &[update], now)?;
    one(&entries, &app, process_type)
}

/// The formation afterwards.
fn perform(
    records: &mut Records,
    app: &App,
    updates: &[Update],
    now: Timestamp,
) -> Result<Vec<Entry>, ApiError> {
    let limits = MostDynos::of(&records.settings);
    let (_, after) = records.store.scale(&app.id, updates, limits, now)?;
    records.log(&app.id, scaled(&after));
    Ok(after)
}

/// Whether any dyno is wanted.
pub fn is_wanted(records: &Records, app_id: &str) -> bool {
    let entries = records.store.formation(app_id).unwrap_or_default();
    entries.iter().any(|entry| entry.wanted.quantity > 0)
}

/// How many dynos of each process type are wanted.
pub fn quantities(records: &Records, app_id: &str) -> Vec<(String, u32)> {
    let entries = records.store.formation(app_id).unwrap_or_default();
    let wanted = entries.into_iter().map(|entry| entry.wanted);
    wanted.map(|it| (it.process_type, it.quantity)).collect()
}

/// After the release that brought the app its first dynos: logs the formation, as Heroku does.
pub fn log_first(records: &Records, app_id: &str, were_wanted: bool) {
    if !were_wanted && is_wanted(records, app_id) {
        let entries = records.store.formation(app_id).unwrap_or_default();
        records.log(app_id, scaled(&entries));
    }
}

/// What Heroku's log says: every process type, in alphabetical order.
fn scaled(entries: &[Entry]) -> Story {
    let mut formation: Vec<_> = entries.iter().map(|entry| entry.wanted.clone()).collect();
    formation.sort_by(|a, b| a.process_type.cmp(&b.process_type));
    Story::Scaled(formation)
}

fn resources(entries: &[Entry], app: &App) -> Vec<Formation> {
    entries
        .iter()
        .map(|entry| Formation::new(entry, app))
        .collect()
}

fn one(entries: &[Entry], app: &App, which: &str) -> Answer {
    let entry = entries
        .iter()
        .find(|entry| entry.is(which))
        .ok_or_else(|| {
            StoreError::Formation(app.name.clone(), ScaleRefusal::no_type(which, entries))
        })?;
    Ok(Response::json(200, &Formation::new(entry, app)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::formation::Wanted;

    #[test]
    fn the_log_names_every_process_type_in_alphabetical_order() {
        let entry = |process_type: &str, quantity| Entry {
            id: String::new(),
            wanted: Wanted {
                process_type: process_type.into(),
                quantity,
                size: "Standard-1X".into(),
            },
            command: String::new(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(
            scaled(&[entry("worker", 0), entry("web-2", 2), entry("web", 1)]).to_string(),
            "Scaled to web@1:Standard-1X web-2@2:Standard-1X worker@0:Standard-1X"
        );
    }
}
