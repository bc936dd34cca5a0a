//! Decides what to do so that an app's dynos follow its formation: which dynos to start, which to retire, and when to
//! look again.
//!
//! Pure: [`plan`] compares what is wanted with the present dynos, at a given time. It has no memory, so a server that
//! was killed at any moment goes on by calling it again. The server performs the plan; one-off dynos matter only for
//! the limit on dynos. Figures are those of the Heroku Dev Center ("Dyno Restarts", "Dyno Crash Restart Policy").

use std::collections::HashMap;
use std::time::Duration;

use crate::model::dyno::DynoName;
use crate::model::dyno::life::StopReason;
use crate::model::formation::Wanted;

/// Time since 1970.
pub type Moment = Duration;

/// The pauses before a crashed dyno is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// From the second crash in a row to the restart; after the first crash, the dyno is restarted at once.
    pub second: Duration,
    /// From the third crash in a row to the restart. Each later pause is twice as long.
    pub third: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// If a dyno lived for this long, its crash counts as the first again.
    pub recovery: Duration,
}

/// From a crash that does not count to the restart: the first and the longest pause; each is twice the one before.
const BESIDE_OTHERS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));

/// The end of other dynos that a crashed dyno waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// The end of the dyno of its name that it replaced.
    Predecessor,
    /// The end of all retired dynos of its type.
    Others,
}

/// Whether retired dynos of its type were still alive while a dyno lived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// None: the crash counts.
    Nobody,
    /// Some, which have ended by now.
    Ended,
    /// Some, which are still alive.
    Alive(Awaited),
}

impl Beside {
    /// Decides from the names of the retired dynos of its type that lived beside a dyno, and whether each has ended by now.
    pub fn of(name: &DynoName, others: &[(DynoName, bool)]) -> Self {
        let mut alive = others.iter().filter(|(_, ended)| !ended).peekable();
        match (others.is_empty(), alive.peek().is_none()) {
            (true, _) => Self::Nobody,
            (false, true) => Self::Ended,
            (false, false) => match alive.any(|(other, _)| other == name) {
                true => Self::Alive(Awaited::Predecessor),
                false => Self::Alive(Awaited::Others),
            },
        }
    }
}

/// The crashes in a row of the dynos with one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crashes {
    /// How many of them count.
    pub count: u32,
    /// When the dyno is restarted, at the latest.
    pub again_at: Moment,
    /// The dynos at whose end it is restarted earlier.
    pub awaits: Option<Awaited>,
    /// How many crashes after the last that counts do not count.
    uncounted: u32,
}

impl Crashes {
    /// The crashes after one more, at `now`, of a dyno that lived for `lived`, beside retired dynos or not.
    ///
    /// What two dynos cannot have at once, such as a fixed port or a lock, is free when the retired ones have ended. So
    /// a crash beside them does not count, and the dyno is restarted when they have ended, and now and then before,
    /// since they may free it earlier. That is bounded: each retired dyno ends once.
    pub fn after(
        before: Option<Self>,
        beside: Beside,
        lived: Duration,
        now: Moment,
        back_off: &BackOff,
    ) -> Self {
        let before = before.filter(|_| lived < back_off.recovery);
        let (count, uncounted) = before.map_or((0, 0), |it| (it.count, it.uncounted));
        let awaits = match beside {
            Beside::Alive(awaited) => Some(awaited),
            Beside::Ended | Beside::Nobody => None,
        };
        if beside == Beside::Nobody || lived >= back_off.recovery {
            let count = count.saturating_add(1);
            return Self {
                count,
                again_at: now + wait(count, back_off),
                awaits: None,
                uncounted: 0,
            };
        }
        let (first, longest) = BESIDE_OTHERS;
        let pause = match awaits {
            Some(_) => first.saturating_mul(1 << uncounted.min(31)).min(longest),
            None => Duration::ZERO,
        };
        Self {
            count,
            again_at: now + pause,
            awaits,
            uncounted: uncounted.saturating_add(1),
        }
    }

    /// Whether the dyno is to be restarted now, while retired dynos with the names in `leaving` are alive.
    pub fn is_due(&self, name: &DynoName, leaving: &[DynoName], now: Moment) -> bool {
        if self.again_at <= now {
            return true;
        }
        let mut leaving = leaving.iter();
        match self.awaits {
            None => false,
            Some(Awaited::Predecessor) => !leaving.any(|it| it == name),
            Some(Awaited::Others) => !leaving.any(|it| it.process_type == name.process_type),
        }
    }
}

/// The pause after the crash with this number.
fn wait(count: u32, back_off: &BackOff) -> Duration {
    match count {
        0 | 1 => Duration::ZERO,
        2 => back_off.second.min(back_off.longest),
        _ => {
            let doublings = (count - 3).min(31);
            back_off
                .third
                .saturating_mul(1 << doublings)
                .min(back_off.longest)
        }
    }
}

/// A dyno of the formation that is starting or up, and not retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: DynoName,
    /// The id of its release.
    pub release: String,
    /// Its size, by name.
    pub size: String,
    /// When it is to be replaced by a new one.
    pub cycle_at: Moment,
}

/// The present state of one app.
#[derive(Debug)]
pub struct Situation<'a> {
    /// Its formation.
    pub wanted: &'a [Wanted],
    /// The id of its current release.
    pub release: &'a str,
    /// Its dynos of the formation.
    pub present: &'a [Present],
    /// The names of retired dynos that have not ended yet.
    pub leaving: &'a [DynoName],
    /// The names of crashed dynos, and when each is restarted.
    pub crashes: &'a HashMap<DynoName, Crashes>,
    /// How many more live dynos the app may have.
    pub room: u32,
}

/// A change that the server performs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormationChange {
    /// Retire this dyno.
    Retire {
        /// The dyno's id.
        id: String,
        /// Why.
        why: StopReason,
    },
    /// Start a dyno.
    Start {
        /// Its name.
        name: DynoName,
        /// Its size, by name.
        size: String,
    },
}

/// The result of [`plan`].
#[must_use]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FormationPlan {
    /// The changes to perform now, in order.
    pub changes: Vec<FormationChange>,
    /// When to call [`plan`] again, if no event comes before.
    pub look_at: Option<Moment>,
    /// Whether the limit on dynos keeps the formation from being complete.
    pub short: bool,
}

/// The changes that make an app's dynos follow its formation.
///
/// A dyno that is replaced is retired in the same plan, before its successor starts: its name is free at once, while it
/// may still answer requests.
pub fn plan(situation: &Situation<'_>, now: Moment) -> FormationPlan {
    let mut plan = FormationPlan::default();
    let mut room = situation.room;
    let mut places: HashMap<&str, Vec<Option<&Present>>> = situation
        .wanted
        .iter()
        .map(|it| (&*it.process_type, vec![None; it.quantity as usize]))
        .collect();
    for dyno in situation.present {
        let of_type = places.get_mut(&*dyno.name.process_type);
        let index = (dyno.name.number as usize).wrapping_sub(1);
        match of_type.and_then(|places| places.get_mut(index)) {
            None => plan.retire(dyno, StopReason::ScaledDown, &mut room),
            Some(place) => {
                // Two dynos of one name are possible only if the state was changed by hand: the newer one stays.
                if let Some(older) = place.replace(dyno) {
                    plan.retire(older, StopReason::Restarted, &mut room);
                }
            }
        }
    }
    for wanted in situation.wanted {
        let places = places.get(&*wanted.process_type).into_iter().flatten();
        for (number, dyno) in (1..).zip(places) {
            if let Some(dyno) = dyno {
                let outdated = dyno.release != situation.release || dyno.size != wanted.size;
                match (outdated, dyno.cycle_at <= now) {
                    (true, _) => plan.retire(dyno, StopReason::Restarted, &mut room),
                    (_, true) => plan.retire(dyno, StopReason::Cycled, &mut room),
                    _ => {
                        plan.look_by(dyno.cycle_at);
                        continue;
                    }
                }
            }
            let name = DynoName {
                process_type: wanted.process_type.clone(),
                number,
            };
            match situation.crashes.get(&name) {
                Some(crashes) if !crashes.is_due(&name, situation.leaving, now) => {
                    plan.look_by(crashes.again_at);
                }
                _ if room == 0 => plan.short = true,
                _ => {
                    room -= 1;
                    let size = wanted.size.clone();
                    plan.changes.push(FormationChange::Start { name, size });
                }
            }
        }
    }
    plan
}

impl FormationPlan {
    fn retire(&mut self, dyno: &Present, why: StopReason, room: &mut u32) {
        *room = room.saturating_add(1);
        let id = dyno.id.clone();
        self.changes.push(FormationChange::Retire { id, why });
    }

    fn look_by(&mut self, at: Moment) {
        self.look_at = Some(self.look_at.map_or(at, |known| known.min(at)));
    }
}

#[cfg(test)]
mod tests;
