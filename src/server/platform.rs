//! Handlers of what belongs to no app: the account, the sizes, the usage.

use jiff::Timestamp;

use super::host::{Answer, Host};
use crate::api::account::Account;
use crate::api::dyno_size::DynoSize;
use crate::api::usage::Usage;
use crate::http::Response;
use crate::size;

/// `GET /account`
pub fn account(host: &Host) -> Answer {
    Ok(Response::json(200, &Account::new(host.account.clone())))
}

/// `GET /dyno-sizes`
pub fn dyno_sizes() -> Answer {
    let sizes: Vec<_> = size::ALL.iter().map(DynoSize::new).collect();
    Ok(Response::json(200, &sizes))
}

/// `GET /usage`, ours: dyno time by app, process type and size.
pub fn usage(host: &Host, now: Timestamp) -> Answer {
    let usage: Vec<_> = host.store.usage(now)?.iter().map(Usage::new).collect();
    Ok(Response::json(200, &usage))
}
