//! The formation: how many dynos of each process type an app is to have, and of which size.
//!
//! How a new release and `ps:scale` change it, and its text form. `scheduler` makes dynos follow it. Called by the
//! store, the API and the command line.

mod scale;
mod text;
mod turns;

use jiff::Timestamp;

use crate::model::dyno::ONE_OFF;
use crate::model::release::ProcessTypes;
use crate::model::size;

pub use scale::{ScaleRefusal, Update, scaled};
pub use text::{Resize, parse_amount, parse_resize, parse_scale, words};
pub use turns::{TypeChange, turns};

/// Quantity and size that are wanted of one process type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The process type.
    pub process_type: String,
    /// How many dynos.
    pub quantity: u32,
    /// Their size, by name.
    pub size: String,
}

/// One process type of a formation, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// A uuid.
    pub id: String,
    /// Its quantity and size.
    pub wanted: Wanted,
    /// Its command in the current release.
    pub command: String,
    /// When the process type was first released.
    pub created_at: Timestamp,
    /// When its quantity or size last changed.
    pub updated_at: Timestamp,
}

/// Whether a process type can be scaled. `run` and Heroku's `release` cannot: they are one-off dynos, whose names are
/// never reused as `web.1` is.
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
/// As on Heroku: a known process type keeps its quantity and size; one that is gone leaves; a new one starts at 0,
/// except that the first deploy gets one `web`. `before` has the types of earlier releases, too: one that is back, as
/// by a rollback, is scaled as it was.
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
