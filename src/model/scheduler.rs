//! What is to be done so that an app's formation is what was asked for: which dynos start, which are retired, and when
//! to look again.
//!
//! Pure: [`plan`] compares what is wanted with what is there, at a time it is given. It remembers nothing, so a server
//! that was killed at any moment goes on by looking again. The server performs what comes out
//! (`server/formations.rs`); one-off dynos are none of its business but for the room that they take. Figures are those of
//! the Heroku Dev Center ("Dyno Restarts", "Dyno Crash Restart Policy").

use std::collections::HashMap;
use std::time::Duration;

use crate::model::dyno::DynoName;
use crate::model::dyno::life::StopReason;
use crate::model::formation::Wanted;

/// Time since 1970.
pub type Moment = Duration;

/// How often what crashes is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// From the second crash in a row to the next try; the first is tried again at once.
    pub second: Duration,
    /// From the third crash in a row to the next try. Each later wait is twice as long.
    pub third: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// A dyno that lived for so long has recovered: its crash is the first again.
    pub recovery: Duration,
}

/// From a crash that does not count to the next try: at first and at most; each wait is twice the one before.
const BESIDE_OTHERS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));

/// What else a crashed dyno waits for, whatever the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// The end of the dyno whose place it took.
    Predecessor,
    /// The end of every dyno of its type that was told to end.
    Others,
}

/// Which dynos of its type that had been told to end were there while a dyno lived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// None: it has crashed by itself.
    Nobody,
    /// Some, which have ended by now.
    Ended,
    /// Some, which are still there.
    Alive(Awaited),
}

impl Beside {
    /// What a dyno of this name lived beside: names of others of its type that had been told to end, and whether each has
    /// ended.
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

/// The crashes in a row of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crashes {
    /// How many count.
    pub count: u32,
    /// When it is tried again, at the latest.
    pub again_at: Moment,
    /// Whose end has it tried again before.
    pub awaits: Option<Awaited>,
    /// How many after the last that counts do not.
    uncounted: u32,
}

impl Crashes {
    /// After a crash at `now` of a dyno that lived for so long, beside others or not.
    ///
    /// What two dynos cannot both have, a fixed port or a lock, is free when those that were told to end have ended. So a
    /// crash beside them does not count, and is tried again then; and now and then before, since they may give back
    /// what it needs long before they end. That is no loop without a pause: each of the others ends once.
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

    /// Whether it is tried again now, while those of the names in `leaving` have been told to end.
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

/// From the crash of this number to the next try.
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

/// A dyno of the formation that is starting or up. One that was retired is none of these.
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
    /// When another is to take its place.
    pub cycle_at: Moment,
}

/// One app as it is.
#[derive(Debug)]
pub struct Situation<'a> {
    /// What is wanted.
    pub wanted: &'a [Wanted],
    /// The id of the release that is to run.
    pub release: &'a str,
    /// What is there.
    pub present: &'a [Present],
    /// The names of those that were told to end and have not ended yet.
    pub leaving: &'a [DynoName],
    /// What has crashed, and when it is tried again.
    pub crashes: &'a HashMap<DynoName, Crashes>,
    /// How many dynos more the app may have alive than are there.
    pub room: u32,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Have this dyno end.
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

/// See [`plan`].
#[must_use]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is to be done now, in order.
    pub changes: Vec<Change>,
    /// When to look again, if nothing happens before.
    pub look_at: Option<Moment>,
    /// Something is wanted for which there is no room.
    pub short: bool,
}

/// What makes the formation what is wanted.
///
/// Where one dyno takes another's place, the other is retired in the same plan: its name is free at once, since a
/// retired dyno may still answer requests while its successor starts.
pub fn plan(situation: &Situation<'_>, now: Moment) -> Plan {
    let mut plan = Plan::default();
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
                // Two of one name can only come of a state that was changed by hand: the newer stays.
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
                    plan.changes.push(Change::Start { name, size });
                }
            }
        }
    }
    plan
}

impl Plan {
    fn retire(&mut self, dyno: &Present, why: StopReason, room: &mut u32) {
        *room = room.saturating_add(1);
        let id = dyno.id.clone();
        self.changes.push(Change::Retire { id, why });
    }

    fn look_by(&mut self, at: Moment) {
        self.look_at = Some(self.look_at.map_or(at, |known| known.min(at)));
    }
}

#[cfg(test)]
mod tests;
