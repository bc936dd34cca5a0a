//! Handlers of what belongs to no app, and of what Heroku's clients look for around one: accounts, sizes, regions,
//! stacks, collaborators. Of what there is none of here (add-ons, domains, teams, …) the list is empty.

use jiff::Timestamp;

use super::host::{Answer, Host};
use crate::api::account::Account;
use crate::api::dyno_size::DynoSize;
use crate::api::platform::{Collaborator, Region, Stack};
use crate::api::usage::Usage;
use crate::api::{ApiError, Time};
use crate::error::shown;
use crate::model::size;
use crate::wire::http::Response;

/// Lists that have nothing in them, of the host.
const NONE_OF_HOST: &[&str] = &[
    "addon-attachments",
    "addons",
    "enterprise-accounts",
    "pipeline-couplings",
    "pipelines",
    "spaces",
    "teams",
];

/// Lists that have nothing in them, of an app.
const NONE_OF_APP: &[&str] = &[
    "addon-attachments",
    "addons",
    "buildpack-installations",
    "domains",
    "features",
    "log-drains",
    "sni-endpoints",
    "webhooks",
];

/// Answers a request, if it is for one of the handlers here.
pub fn route(host: &Host, method: &str, path: &[&str], now: Timestamp) -> Option<Answer> {
    Some(match (method, path) {
        ("GET", ["account"]) => account(host),
        ("GET", ["users", user]) => of_user(host, user, account),
        ("GET", ["account", "features" | "keys"]) => none(),
        ("GET", ["dyno-sizes"]) => dyno_sizes(),
        ("GET", ["dyno-sizes", which]) => dyno_size(which),
        ("GET", ["apps", app, "available-dyno-sizes"]) => of_app(host, app, |_| dyno_sizes()),
        ("GET", ["regions"]) => json(&[Region::new(Time(host.since))]),
        ("GET", ["regions", which]) => match Region::new(Time(host.since)) {
            region if [&*region.id, &region.name].contains(which) => json(&region),
            _ => no("region", which),
        },
        ("GET", ["stacks"]) => json(&[Stack::new(Time(host.since))]),
        ("GET", ["stacks", which]) => match Stack::new(Time(host.since)) {
            stack if [&*stack.id, &stack.name].contains(which) => json(&stack),
            _ => no("stack", which),
        },
        ("GET", ["apps", app, "available-stacks"]) => {
            of_app(host, app, |_| json(&[Stack::new(Time(host.since))]))
        }
        ("GET", ["apps", app, "collaborators"]) => of_app(host, app, |app| {
            json(&[Collaborator::owner(app, &host.account)])
        }),
        ("GET", ["apps", app, "collaborators", who]) => of_app(host, app, |app| {
            let owner = Collaborator::owner(app, &host.account);
            let identity = &owner.user.identity;
            match [&*owner.id, &identity.id, &identity.email].contains(who) {
                true => json(&owner),
                false => no("collaborator", who),
            }
        }),
        // Heroku has one object here, not a list.
        ("GET", ["apps", app, "pipeline-couplings"]) => of_app(host, app, |_| json(&())),
        ("PUT", ["apps", app, "buildpack-installations"]) => of_app(host, app, |_| {
            let warning = "there are no buildpacks here: a slug is the folder as it is";
            let response = json(&NOTHING)?;
            Ok(response.with("X-Heroku-Warning", warning))
        }),
        ("GET", [list]) if NONE_OF_HOST.contains(list) => none(),
        ("GET", ["apps", app, list]) if NONE_OF_APP.contains(list) => of_app(host, app, |_| none()),
        ("POST", ["apps", app, "addons"]) => of_app(host, app, |_| {
            Err(ApiError::invalid("there are no add-ons here").hint(
                "`heroku config:set` gives the app the address of a service that runs elsewhere",
            ))
        }),
        ("GET", ["usage"]) => usage(host, now),
        _ => return None,
    })
}

/// No members of a list.
const NOTHING: [(); 0] = [];

fn none() -> Answer {
    json(&NOTHING)
}

fn json(value: &impl serde::Serialize) -> Answer {
    Ok(Response::json(200, value))
}

fn no(what: &str, which: &str) -> Answer {
    let which = shown(which.as_bytes(), 100);
    Err(ApiError::not_found(format!("no {what} `{which}`")))
}

fn of_app(
    host: &Host,
    app: &str,
    answer: impl FnOnce(&crate::model::app::App) -> Answer,
) -> Answer {
    answer(&host.store.app(app)?)
}

/// Whoever `user` means, if that is the one account: `~`, its id, or its address.
pub fn of_user(host: &Host, user: &str, answer: impl FnOnce(&Host) -> Answer) -> Answer {
    match ["~", &host.account.id, &host.account.email].contains(&user) {
        true => answer(host),
        false => no("account", user),
    }
}

fn account(host: &Host) -> Answer {
    json(&Account::new(host.account.clone(), Time(host.since)))
}

fn dyno_sizes() -> Answer {
    let sizes: Vec<_> = size::ALL.iter().map(DynoSize::new).collect();
    json(&sizes)
}

fn dyno_size(which: &str) -> Answer {
    let mut sizes = size::ALL.iter().map(DynoSize::new);
    match sizes.find(|size| size.id == which || size.name.eq_ignore_ascii_case(which)) {
        Some(size) => json(&size),
        None => no("dyno size", which),
    }
}

/// `GET /usage`, ours: dyno time by app, process type and size.
fn usage(host: &Host, now: Timestamp) -> Answer {
    let usage: Vec<_> = host.store.usage(now)?.iter().map(Usage::new).collect();
    json(&usage)
}
