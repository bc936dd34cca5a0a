//! Applies a change of quantities and sizes to a formation.

use std::fmt;

use super::{Entry, Wanted, is_scalable};
use crate::error::shown;
use crate::model::procfile::MAX_NAME;

/// The most dynos of one process type that can be asked for, and the greatest value of the setting `max_dynos`.
pub const MAX_QUANTITY: u32 = 10_000;

/// The process type that runs once for each release, in a one-off dyno (Heroku's).
pub(super) const RELEASE: &str = "release";

/// A new quantity of a process type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// This many: `web=2`.
    Exactly(u32),
    /// This many more than before: `web+1`.
    More(u32),
    /// This many fewer than before: `web-1`.
    Fewer(u32),
}

/// As text in the API: `2`, `+1`, `-1`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(quantity) => write!(f, "{quantity}"),
            Self::More(more) => write!(f, "+{more}"),
            Self::Fewer(fewer) => write!(f, "-{fewer}"),
        }
    }
}

/// A change of one process type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The process type, or the id of its entry.
    pub which: String,
    /// The new quantity; None: unchanged.
    pub amount: Option<Amount>,
    /// The name of the new size; None: unchanged.
    pub size: Option<String>,
}

/// Why a change of a formation is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScaleRefusal {
    /// The app has no such process type.
    NoType {
        /// The process type that was named.
        named: String,
        /// The app's process types.
        types: Vec<String>,
    },
    /// One process type is named twice.
    Twice(String),
    /// There are fewer dynos than are to be removed.
    TooFew {
        /// The process type.
        process_type: String,
        /// Its present quantity.
        quantity: u32,
        /// How many were to be removed.
        fewer: u32,
    },
    /// Dynos of this process type are one-off dynos.
    OneOff(String),
    /// The app would have more dynos than allowed.
    TooMany {
        /// The number it would have.
        wanted: u64,
        /// The number that is allowed.
        limit: u32,
    },
}

/// The new quantities and sizes of all `entries`, in their order, after all `updates`. At most `limit` dynos in all,
/// unless there were more before.
///
/// # Errors
/// The first update that is refused; then none is applied.
pub fn scaled(
    entries: &[Entry],
    updates: &[Update],
    limit: u32,
) -> Result<Vec<Wanted>, ScaleRefusal> {
    let mut after: Vec<Wanted> = entries.iter().map(|entry| entry.wanted.clone()).collect();
    let mut touched = vec![false; after.len()];
    for update in updates {
        let place = entries
            .iter()
            .position(|entry| entry.is(&update.which))
            .ok_or_else(|| ScaleRefusal::no_type(&update.which, entries))?;
        let wanted = &mut after[place];
        if std::mem::replace(&mut touched[place], true) {
            return Err(ScaleRefusal::Twice(wanted.process_type.clone()));
        }
        if let Some(amount) = update.amount {
            wanted.quantity = quantity(wanted, amount)?;
        }
        if let Some(size) = &update.size {
            wanted.size.clone_from(size);
        }
    }
    let (before, wanted) = (total(entries.iter().map(|it| &it.wanted)), total(&after));
    // After the limit was lowered, a step towards it is allowed.
    match wanted > u64::from(limit) && wanted > before {
        true => Err(ScaleRefusal::TooMany { wanted, limit }),
        false => Ok(after),
    }
}

fn quantity(wanted: &Wanted, amount: Amount) -> Result<u32, ScaleRefusal> {
    let (process_type, before) = (&wanted.process_type, wanted.quantity);
    let quantity = match amount {
        Amount::Exactly(quantity) => quantity,
        Amount::More(more) => before.saturating_add(more),
        Amount::Fewer(fewer) => before
            .checked_sub(fewer)
            .ok_or_else(|| ScaleRefusal::TooFew {
                process_type: process_type.clone(),
                quantity: before,
                fewer,
            })?,
    };
    match quantity == 0 || is_scalable(process_type) {
        true => Ok(quantity),
        false => Err(ScaleRefusal::OneOff(process_type.clone())),
    }
}

fn total<'a>(wanted: impl IntoIterator<Item = &'a Wanted>) -> u64 {
    wanted.into_iter().map(|it| u64::from(it.quantity)).sum()
}

impl ScaleRefusal {
    /// The refusal for a process type that this formation does not have.
    pub fn no_type(named: &str, entries: &[Entry]) -> Self {
        let mut types: Vec<_> = entries
            .iter()
            .map(|entry| entry.wanted.process_type.clone())
            .collect();
        types.sort();
        Self::NoType {
            named: named.to_owned(),
            types,
        }
    }

    /// The hint what to do next, for the app with this name.
    pub fn hint(&self, app: &str) -> String {
        match self {
            Self::NoType { types, .. } if types.is_empty() => format!(
                "`{app}` has no process types: `dyno deploy -a {app}` in its folder releases those of the Procfile"
            ),
            Self::NoType { types, .. } => format!("`{app}` has {}", types.join(", ")),
            Self::Twice(_) => "name each process type once".to_owned(),
            Self::TooFew { process_type, .. } => {
                format!("`dyno ps:scale {process_type}=0 -a {app}` ends them all")
            }
            Self::OneOff(process_type) if process_type == RELEASE => {
                "it runs once for each release".to_owned()
            }
            Self::OneOff(process_type) => {
                format!(
                    "give the process type another name; `dyno run {process_type}` runs it once"
                )
            }
            Self::TooMany { .. } => "the setting `max_dynos` moves the limit".to_owned(),
        }
    }
}

/// What the app lacks or has, for the message: ``no process type `job` ``.
impl fmt::Display for ScaleRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoType { named, .. } => {
                write!(f, "no process type `{}`", shown(named.as_bytes(), MAX_NAME))
            }
            Self::Twice(process_type) => write!(f, "`{process_type}` is named twice"),
            Self::TooFew {
                process_type,
                quantity,
                fewer,
            } => {
                let s = if *quantity == 1 { "" } else { "s" };
                write!(
                    f,
                    "`{process_type}` has {quantity} dyno{s}, and cannot have {fewer} fewer"
                )
            }
            Self::OneOff(process_type) => {
                write!(
                    f,
                    "dynos of type `{process_type}` are one-offs: it cannot be scaled"
                )
            }
            Self::TooMany { wanted, limit } => {
                let s = if *wanted == 1 { "" } else { "s" };
                write!(
                    f,
                    "{wanted} dyno{s} are more than the {limit} that an app may have"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::settings::Sourced;

    fn entry(process_type: &str, quantity: u32) -> Entry {
        Entry {
            id: format!("id of {process_type}"),
            wanted: Wanted {
                process_type: process_type.into(),
                quantity,
                size: "1X".into(),
            },
            command: "true".into(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn update(which: &str, amount: Option<Amount>, size: Option<&str>) -> Update {
        Update {
            which: which.into(),
            amount,
            size: size.map(str::to_owned),
        }
    }

    fn shop() -> Vec<Entry> {
        [
            entry("web", 2),
            entry("worker", 0),
            entry("run", 0),
            entry("release", 0),
        ]
        .into()
    }

    /// `web=2:1X worker=0:1X`, without the types that cannot be scaled.
    fn outcome(updates: &[Update], limit: u32) -> Result<String, ScaleRefusal> {
        let after = scaled(&shop(), updates, limit)?;
        let words: Vec<_> = after[..2]
            .iter()
            .map(|it| format!("{}={}:{}", it.process_type, it.quantity, it.size))
            .collect();
        Ok(words.join(" "))
    }

    #[test]
    fn quantities_and_sizes_change_where_they_are_named() {
        use Amount::{Exactly, Fewer, More};
        for (updates, after) in [
            (&[][..], "web=2:1X worker=0:1X"),
            (
                &[update("web", Some(Exactly(5)), None)],
                "web=5:1X worker=0:1X",
            ),
            (
                &[update("id of web", Some(Fewer(2)), None)],
                "web=0:1X worker=0:1X",
            ),
            (
                &[
                    update("worker", Some(More(3)), Some("Standard-2X")),
                    update("web", None, Some("PX")),
                ],
                "web=2:PX worker=3:Standard-2X",
            ),
            (
                &[update("worker", Some(Fewer(0)), None)],
                "web=2:1X worker=0:1X",
            ),
        ] {
            assert_eq!(outcome(updates, 5).as_deref(), Ok(after));
        }
    }

    #[test]
    fn what_is_not_possible_is_refused_with_advice() {
        use Amount::{Exactly, Fewer, More};
        for (updates, message, hint) in [
            (
                &[
                    update("web", Some(Exactly(1)), None),
                    update("job", None, None),
                ][..],
                "no process type `job`",
                "`shop` has release, run, web, worker",
            ),
            (
                &[update("web", None, None), update("id of web", None, None)],
                "`web` is named twice",
                "once",
            ),
            (
                &[update("web", Some(Fewer(3)), None)],
                "`web` has 2 dynos, and cannot have 3 fewer",
                "`dyno ps:scale web=0 -a shop`",
            ),
            (
                &[update("web", Some(Exactly(6)), None)],
                "6 dynos are more than the 5 that an app may have",
                "`max_dynos`",
            ),
            (
                &[update("worker", Some(More(u32::MAX)), None)],
                "4294967297 dynos are more than the 5 that an app may have",
                "`max_dynos`",
            ),
            (
                &[update("run", Some(Exactly(1)), None)],
                "dynos of type `run` are one-offs: it cannot be scaled",
                "another name",
            ),
            (
                &[update("release", Some(More(1)), None)],
                "dynos of type `release` are one-offs: it cannot be scaled",
                "once for each release",
            ),
        ] {
            let refusal = outcome(updates, 5).unwrap_err();
            assert_eq!(refusal.to_string(), message);
            assert!(
                refusal.hint("shop").contains(hint),
                "{}",
                refusal.hint("shop")
            );
        }
        let sized = [update("release", None, Some("2X"))];
        assert_eq!(scaled(&shop(), &sized, 5).unwrap()[3].size, "2X");
        let refusal = scaled(&[], &[update("web", None, None)], 5).unwrap_err();
        assert!(refusal.hint("shop").contains("dyno deploy"));
    }

    #[test]
    fn the_largest_quantity_is_the_largest_limit() {
        let limit = |limit: u32| {
            let variable = |name: &str| (name == "DYNO_MAX_DYNOS").then(|| limit.to_string());
            Sourced::read(None, variable).map(|it| it.settings.max_dynos)
        };
        assert_eq!(limit(MAX_QUANTITY).unwrap(), MAX_QUANTITY);
        assert!(limit(MAX_QUANTITY + 1).is_err());
    }

    #[test]
    fn a_limit_that_was_lowered_does_not_stop_a_step_towards_it() {
        let entries = [entry("web", 9)];
        let to = |amount| scaled(&entries, &[update("web", Some(amount), None)], 5).is_ok();
        assert!(to(Amount::Fewer(1)) && to(Amount::Exactly(9)));
        assert!(!to(Amount::More(1)));
    }
}
