//! The formation: how many dynos of each process type an app shall have, and of which size.
//!
//! What a new release and what `ps:scale` make of it, and the words in which people write it down; dynos are
//! made to follow it elsewhere. Called by the store, the API and the command line.

mod scale;
mod turns;
mod words;

use jiff::Timestamp;

use crate::model::dyno::ONE_OFF;
use crate::model::release::ProcessTypes;
use crate::model::size;

pub use scale::{Refusal, Update, scaled};
pub use turns::{Turn, turns};
pub use words::{Resize, parse_amount, parse_resize, parse_scale, words};

/// What is wanted of one process type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The process type.
    pub process_type: String,
    /// How many dynos.
    pub quantity: u32,
    /// Their size, by name.
    pub size: String,
}

/// One process type of a formation as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// A uuid.
    pub id: String,
    /// What is wanted.
    pub wanted: Wanted,
    /// What the current release runs for it.
    pub command: String,
    /// When the process type came.
    pub created_at: Timestamp,
    /// When its quantity or size last changed.
    pub updated_at: Timestamp,
}

/// Whether a process type may have dynos of a formation. The others are those of one-offs, whose names are never used
/// twice as `web.1` is: `run`, and Heroku's `release`, which runs once for each release.
pub fn is_scalable(process_type: &str) -> bool {
    process_type != ONE_OFF && process_type != scale::RELEASE
}

impl Entry {
    /// Whether this is the entry that `which` names: a process type, or an id.
    pub fn is(&self, which: &str) -> bool {
        self.wanted.process_type == which || self.id == which
    }
}

/// The formation after a release with these process types.
///
/// As on Heroku: what is known keeps its quantity and size; what is gone leaves; what is new starts
/// at none, except that the first release that somebody asked for gets one `web`. `before` has what earlier releases had,
/// too: a process type that was gone and is back, as by a rollback, is scaled as it was.
pub fn after_release(before: &[Wanted], types: &ProcessTypes, first_deploy: bool) -> Vec<Wanted> {
    types
        .iter()
        .map(|(process_type, _)| {
            let known = before
                .iter()
                .find(|wanted| wanted.process_type == process_type)
                .filter(|_| !(first_deploy && process_type == "web"));
            known.cloned().unwrap_or_else(|| Wanted {
                process_type: process_type.to_owned(),
                quantity: u32::from(first_deploy && process_type == "web"),
                size: size::DEFAULT.to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(process_type: &str, quantity: u32, size: &str) -> Wanted {
        Wanted {
            process_type: process_type.into(),
            quantity,
            size: size.into(),
        }
    }

    #[test]
    fn a_first_deploy_gets_one_web() {
        let types = ProcessTypes::from_iter([("worker", "w"), ("web", "x")]);
        assert_eq!(
            after_release(&[], &types, true),
            [wanted("worker", 0, "1X"), wanted("web", 1, "1X")]
        );
    }

    #[test]
    fn what_nobody_has_asked_for_is_not_started_until_somebody_deploys() {
        let types = ProcessTypes::from_iter([("web", "x")]);
        let none = [wanted("web", 0, "1X")];
        assert_eq!(after_release(&[], &types, false), none);
        assert_eq!(after_release(&none, &types, true), [wanted("web", 1, "1X")]);
    }

    #[test]
    fn a_later_release_keeps_adds_and_drops() {
        let before = [wanted("worker", 3, "Standard-2X"), wanted("clock", 1, "1X")];
        let types = ProcessTypes::from_iter([("web", "x"), ("worker", "w")]);
        assert_eq!(
            after_release(&before, &types, false),
            [wanted("web", 0, "1X"), wanted("worker", 3, "Standard-2X")]
        );
    }
}
