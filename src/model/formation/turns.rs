//! Process types whose dynos end because a release does not have the type any more, or start because it has the type again.

use std::fmt;

use crate::model::release::ProcessTypes;

/// What happens to the dynos of one process type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeChange {
    /// They end: the release has no such process type.
    Ends {
        /// The process type.
        process_type: String,
        /// The number of dynos.
        quantity: u32,
    },
    /// They start again, in the quantity that an earlier release had.
    Returns {
        /// The process type.
        process_type: String,
        /// The number of dynos.
        quantity: u32,
    },
}

impl fmt::Display for TypeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dynos = |quantity: u32| match quantity {
            1 => "1 dyno".to_owned(),
            _ => format!("{quantity} dynos"),
        };
        match self {
            Self::Ends {
                process_type,
                quantity,
            } => {
                let verb = if *quantity == 1 { "ends" } else { "end" };
                let dynos = dynos(*quantity);
                write!(
                    f,
                    "this release has no `{process_type}`: its {dynos} {verb}, and will be back when a release has it again"
                )
            }
            Self::Returns {
                process_type,
                quantity,
            } => {
                let dynos = dynos(*quantity);
                write!(
                    f,
                    "`{process_type}` is back, with {dynos} as it was scaled before"
                )
            }
        }
    }
}

/// Compares the quantity of each process type `before` with that `after` (empty if not known yet) a release with these
/// `types`. Returns nothing for a first deploy.
pub fn turns(
    before: &[(String, u32)],
    after: &[(String, u32)],
    types: &ProcessTypes,
) -> Vec<TypeChange> {
    let ends = before
        .iter()
        .filter(|(name, quantity)| *quantity > 0 && types.get(name).is_none())
        .map(|(process_type, quantity)| TypeChange::Ends {
            process_type: process_type.clone(),
            quantity: *quantity,
        });
    let was_there = |name: &String| before.iter().any(|(known, _)| known == name);
    let returns = after
        .iter()
        .filter(|(name, quantity)| !before.is_empty() && *quantity > 0 && !was_there(name))
        .map(|(process_type, quantity)| TypeChange::Returns {
            process_type: process_type.clone(),
            quantity: *quantity,
        });
    ends.chain(returns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(before: &[(&str, u32)], after: &[(&str, u32)], types: &[&str]) -> Vec<String> {
        let owned = |list: &[(&str, u32)]| -> Vec<(String, u32)> {
            let list = list
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count));
            list.collect()
        };
        let types = types.iter().map(|name| (*name, "true")).collect();
        let turns = turns(&owned(before), &owned(after), &types);
        turns.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_ends_and_what_comes_back_is_told() {
        let ends = "this release has no `worker`: its 3 dynos end, and will be back when a release has it again";
        let one = "this release has no `clock`: its 1 dyno ends, and will be back when a release has it again";
        let back = "`worker` is back, with 3 dynos as it was scaled before";
        let before = [("web", 1), ("worker", 3), ("clock", 1), ("old", 0)];
        assert_eq!(
            told(&before, &[("web", 1), ("jobs", 0)], &["web", "jobs"]),
            [ends, one]
        );
        assert_eq!(told(&before[..2], &[], &["web"]), [ends]);
        assert_eq!(told(&before[..1], &before[..2], &["web", "worker"]), [back]);
    }

    #[test]
    fn of_what_stays_begins_or_was_scaled_to_nothing_there_is_nothing_to_tell() {
        for (before, after, types) in [
            (&[("web", 1)][..], &[("web", 1)][..], &["web"][..]),
            (&[], &[("web", 1)], &["web"]),
            (&[("web", 1), ("worker", 0)], &[("web", 1)], &["web"]),
            (
                &[("web", 1)],
                &[("web", 1), ("worker", 0)],
                &["web", "worker"],
            ),
        ] {
            assert_eq!(told(before, after, types), [""; 0]);
        }
    }
}
