//! Handlers of what belongs to no app, and of what Heroku's clients look for around one: accounts, sizes, regions,
//! stacks, collaborators. Of what there is none of here (add-ons, domains, teams, …) the list is empty.

use jiff::Timestamp;

use crate::api::account::Account;
use crate::api::ask::PlatformAsk;
use crate::api::dyno_size::{DynoSize, find};
use crate::api::platform::{Collaborator, Region, Stack};
use crate::api::usage::Usage;
use crate::api::{ApiError, Time};
use crate::error::shown;
use crate::server::records::{Answer, Asker, Records};
use crate::wire::http::Response;

/// Answers what is asked of the platform.
pub fn answer(records: &Records, ask: &PlatformAsk, asker: &Asker, now: Timestamp) -> Answer {
    match ask {
        PlatformAsk::Account => account(records),
        PlatformAsk::AccountOfUser { user } => {
            check_user(records, user)?;
            account(records)
        }
        PlatformAsk::DynoSizes => dyno_sizes(records),
        PlatformAsk::DynoSize { size } => dyno_size(records, size),
        PlatformAsk::Regions => json(&[Region::new(Time(records.since))]),
        PlatformAsk::Region { region: which } => match Region::new(Time(records.since)) {
            region if [&region.id, &region.name].contains(&which) => json(&region),
            _ => no("region", which),
        },
        PlatformAsk::Stacks => json(&[Stack::new(Time(records.since))]),
        PlatformAsk::Stack { stack: which } => match Stack::new(Time(records.since)) {
            stack if [&stack.id, &stack.name].contains(&which) => json(&stack),
            _ => no("stack", which),
        },
        PlatformAsk::Usage => usage(records, asker, now),
        PlatformAsk::EmptyList => none(),
        PlatformAsk::DynoSizesOfApp { app } => of_app(records, app, |_| dyno_sizes(records)),
        PlatformAsk::StacksOfApp { app } => {
            of_app(records, app, |_| json(&[Stack::new(Time(records.since))]))
        }
        PlatformAsk::Collaborators { app } => of_app(records, app, |app| {
            json(&[Collaborator::owner(app, &records.account)])
        }),
        PlatformAsk::Collaborator { app, user } => of_app(records, app, |app| {
            let owner = Collaborator::owner(app, &records.account);
            let identity = &owner.user.identity;
            match [&owner.id, &identity.id, &identity.email].contains(&user) {
                true => json(&owner),
                false => no("collaborator", user),
            }
        }),
        // Heroku has one object here, not a list.
        PlatformAsk::PipelineCoupling { app } => of_app(records, app, |_| json(&())),
        PlatformAsk::CreateAddon { app } => of_app(records, app, |_| {
            Err(ApiError::invalid("there are no add-ons here").hint(
                "`heroku config:set` gives the app the address of a service that runs elsewhere",
            ))
        }),
        PlatformAsk::EmptyListOfApp { app } => of_app(records, app, |_| none()),
    }
}

/// No members of a list.
const NOTHING: [(); 0] = [];

fn none() -> Answer {
    json(&NOTHING)
}

fn json(value: &impl serde::Serialize) -> Answer {
    Ok(Response::json(200, value))
}

fn unknown(what: &str, which: &str) -> ApiError {
    let which = shown(which.as_bytes(), 100);
    ApiError::not_found(format!("no {what} `{which}`"))
}

fn no(what: &str, which: &str) -> Answer {
    Err(unknown(what, which))
}

fn of_app(
    records: &Records,
    app: &str,
    answer: impl FnOnce(&crate::model::app::App) -> Answer,
) -> Answer {
    answer(&records.store.app(app)?)
}

/// Whether `user` means the one account: `~`, its id, or its address.
///
/// # Errors
/// `404` if not.
pub fn check_user(records: &Records, user: &str) -> Result<(), ApiError> {
    match ["~", &records.account.id, &records.account.email].contains(&user) {
        true => Ok(()),
        false => Err(unknown("account", user)),
    }
}

fn account(records: &Records) -> Answer {
    json(&Account::new(records.account.clone(), Time(records.since)))
}

fn dyno_sizes(records: &Records) -> Answer {
    let sizes = records.settings.sizes.all();
    json(&sizes.map(DynoSize::new).collect::<Vec<_>>())
}

fn dyno_size(records: &Records, which: &str) -> Answer {
    match find(&records.settings.sizes, which) {
        Ok(size) => json(&DynoSize::new(size)),
        Err(error) => Err(ApiError::not_found(error.message).hint(error.hint.unwrap_or_default())),
    }
}

/// `GET /usage`, ours: dyno time by app, process type and size.
fn usage(records: &Records, asker: &Asker, now: Timestamp) -> Answer {
    let usage = records.store.usage(now)?;
    let usage = usage.iter().filter(|it| asker.sees(&it.app_id));
    let usage: Vec<_> = usage.map(Usage::new).collect();
    json(&usage)
}
