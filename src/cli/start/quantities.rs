//! Which processes `dyno start` runs, and how many of each: foreman's `-m all=1,worker=2`, and names.

use std::collections::BTreeMap;

use crate::api::session::PORTS_OF_TYPE;
use crate::error::{UserError, shown};
use crate::model::formation::is_scalable;
use crate::model::release::ProcessTypes;

/// How many characters of an invalid word are shown.
const SHOWN: usize = 60;

/// The word in `-m` for every process type that it does not name.
const ALL: &str = "all";

/// The number of processes of each type of the Procfile: one of each by default; only of those in `named`, if there are
/// any; else as `formation` says, and 0 of types that it does not name. `release` and `run` are for one-off dynos, and
/// not part of "all".
///
/// # Errors
/// When a word is not valid or names no process type of `types`, or if nothing would run.
pub fn quantities(
    types: &ProcessTypes,
    formation: Option<&str>,
    named: &[String],
) -> Result<BTreeMap<String, u32>, UserError> {
    let known = |name: &str| {
        if types.get(name).is_none() {
            return Err(no_type(name, types));
        }
        if !is_scalable(name) {
            return Err(
                UserError::new(format!("`{name}` is the type of one-off dynos"))
                    .hint(format!("`dyno run {name}` runs it beside the others")),
            );
        }
        Ok(())
    };
    let mut said: BTreeMap<&str, u32> = BTreeMap::new();
    for word in formation.into_iter().flat_map(|it| it.split(',')) {
        let (name, quantity) = quantity(word.trim())?;
        if name != ALL || types.get(ALL).is_some() {
            known(name)?;
        }
        if said.insert(name, quantity).is_some() {
            return Err(not_understood(word, &format!("`{name}` is named twice")));
        }
    }
    for name in named {
        known(name)?;
    }
    let usual = match formation {
        Some(_) => said.get(ALL).copied().unwrap_or(0),
        None => 1,
    };
    let mut quantities = BTreeMap::new();
    for (name, _) in types.iter().filter(|(name, _)| is_scalable(name)) {
        let quantity = match named.iter().any(|it| it == name) {
            true => said.get(name).copied().unwrap_or(1),
            false if named.is_empty() => said.get(name).copied().unwrap_or(usual),
            false => 0,
        };
        quantities.insert(name.to_owned(), quantity);
    }
    match quantities.values().any(|quantity| *quantity > 0) {
        true => Ok(quantities),
        false => Err(UserError::new("there is nothing to start").hint(format!(
            "the Procfile has {}; `-m all=1` starts one of each",
            list(types)
        ))),
    }
}

fn quantity(word: &str) -> Result<(&str, u32), UserError> {
    let (name, number) = word
        .split_once('=')
        .ok_or_else(|| not_understood(word, "it has no `=`"))?;
    let number = Some(number.trim())
        .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|number| number.parse().ok())
        .filter(|number| *number <= PORTS_OF_TYPE);
    let bounds = format!("a number from 0 to {PORTS_OF_TYPE} follows the `=`");
    Ok((
        name.trim(),
        number.ok_or_else(|| not_understood(word, &bounds))?,
    ))
}

fn not_understood(word: &str, why: &str) -> UserError {
    let word = shown(word.as_bytes(), SHOWN);
    UserError::new(format!("`{word}` of the formation is not valid: {why}"))
        .hint("`-m web=1,worker=2` starts these, `-m all=1,worker=2` one of each other, too")
}

fn no_type(name: &str, types: &ProcessTypes) -> UserError {
    let name = shown(name.as_bytes(), SHOWN);
    UserError::new(format!("the Procfile has no `{name}`")).hint(format!("it has {}", list(types)))
}

fn list(types: &ProcessTypes) -> String {
    let names: Vec<_> = types.iter().map(|(name, _)| format!("`{name}`")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types() -> ProcessTypes {
        ["web", "worker", "release", "run"]
            .map(|name| (name, "x"))
            .into_iter()
            .collect()
    }

    fn of(formation: Option<&str>, named: &[&str]) -> Result<(u32, u32), UserError> {
        let named: Vec<_> = named.iter().map(|name| (*name).to_owned()).collect();
        let quantities = quantities(&types(), formation, &named)?;
        assert_eq!(quantities.len(), 2, "{quantities:?}");
        Ok((quantities["web"], quantities["worker"]))
    }

    #[test]
    fn one_of_each_runs_unless_something_else_is_said() {
        for (formation, named, wanted) in [
            (None, &[][..], (1, 1)),
            (Some("all=1"), &[], (1, 1)),
            (Some("all=1,worker=2"), &[], (1, 2)),
            (Some("worker=2, all=0,web = 3"), &[], (3, 2)),
            (Some("web=2"), &[], (2, 0)),
            (None, &["worker"], (0, 1)),
            (None, &["worker", "web"], (1, 1)),
            (Some("worker=2"), &["worker"], (0, 2)),
            (Some("worker=2"), &["web"], (1, 0)),
            (Some("web=100"), &[], (100, 0)),
        ] {
            assert_eq!(
                of(formation, named).unwrap(),
                wanted,
                "{formation:?} {named:?}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_an_error_with_a_hint() {
        for (formation, named, words) in [
            (Some("web"), &[][..], "no `=`"),
            (Some("web=x"), &[], "from 0 to 100"),
            (Some("web=101"), &[], "from 0 to 100"),
            (Some("web=-1"), &[], "from 0 to 100"),
            (Some(""), &[], "no `="),
            (Some("web=1,web=2"), &[], "twice"),
            (Some("clock=1"), &[], "has no `clock`"),
            (Some("release=1"), &[], "one-off"),
            (Some("all=0"), &[], "nothing to start"),
            (None, &["clock"], "has no `clock`"),
            (None, &["run"], "one-off"),
        ] {
            let error = of(formation, named).unwrap_err();
            assert!(
                error.message.contains(words) && error.hint.is_some(),
                "{error}"
            );
        }
    }
}
