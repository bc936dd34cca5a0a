use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
const SPREAD: Duration = Duration::from_secs(216 * 60);
const BACK_OFF: BackOff = BackOff {
    second: Duration::from_secs(45),
    third: Duration::from_secs(600),
    longest: LIFETIME,
    recovery: HOUR,
};

fn seconds(n: u64) -> Moment {
    Duration::from_secs(n)
}

fn name(process_type: &str, number: u32) -> DynoName {
    DynoName {
        process_type: process_type.to_owned(),
        number,
    }
}

fn wanted(process_type: &str, quantity: u32) -> Wanted {
    Wanted {
        process_type: process_type.to_owned(),
        quantity,
        size: "1X".to_owned(),
    }
}

fn present(process_type: &str, number: u32) -> Present {
    Present {
        id: format!("{process_type}.{number}"),
        name: name(process_type, number),
        release: "r1".to_owned(),
        size: "1X".to_owned(),
        cycle_at: LIFETIME,
    }
}

fn planned(wanted: &[Wanted], present: &[Present], now: Moment) -> FormationPlan {
    let situation = Situation {
        wanted,
        release: "r1",
        present,
        leaving: &[],
        crashes: &HashMap::new(),
        room: 100,
    };
    plan(&situation, now)
}

fn start(process_type: &str, number: u32) -> FormationChange {
    FormationChange::Start {
        name: name(process_type, number),
        size: "1X".to_owned(),
    }
}

fn retire(id: &str, why: StopReason) -> FormationChange {
    FormationChange::Retire {
        id: id.to_owned(),
        why,
    }
}

#[test]
fn what_is_missing_starts_and_the_highest_numbers_go() {
    let there = [present("web", 2)];
    let up = planned(&[wanted("web", 3), wanted("worker", 0)], &there, seconds(0));
    assert_eq!(up.changes, [start("web", 1), start("web", 3)]);
    let there = [1, 2, 3].map(|number| present("web", number));
    let mut down = planned(&[wanted("web", 1)], &there, seconds(0));
    down.changes.sort_by_key(|change| format!("{change:?}"));
    let gone = ["web.2", "web.3"].map(|id| retire(id, StopReason::ScaledDown));
    assert_eq!(down.changes, gone);
    assert_eq!(down.look_at, Some(LIFETIME));
    // A type that the release does not have any more.
    let gone = planned(&[], &[present("clock", 1)], seconds(0));
    assert_eq!(gone.changes, [retire("clock.1", StopReason::ScaledDown)]);
}

#[test]
fn a_release_a_size_and_age_have_a_successor_take_the_place() {
    for (change, why) in [
        (
            (|dyno| dyno.release = "r0".to_owned()) as fn(&mut Present),
            StopReason::Restarted,
        ),
        (|dyno| dyno.size = "PX".to_owned(), StopReason::Restarted),
        (|dyno| dyno.cycle_at = HOUR, StopReason::Cycled),
    ] {
        let mut dyno = present("web", 1);
        change(&mut dyno);
        let plan = planned(&[wanted("web", 1)], &[dyno], HOUR);
        assert_eq!(plan.changes, [retire("web.1", why), start("web", 1)]);
    }
}

/// A crash of one that lived for a second.
fn crash(before: Option<Crashes>, beside: Beside) -> Crashes {
    Crashes::after(before, beside, seconds(1), HOUR, &BACK_OFF)
}

#[test]
fn a_crash_beside_one_that_ends_is_tried_again_when_that_has_ended_and_does_not_count() {
    let (web, other) = (name("web", 1), name("web", 2));
    let beside = |others: &[(&DynoName, bool)]| {
        let others = others.iter().map(|(name, ended)| ((*name).clone(), *ended));
        Beside::of(&web, &others.collect::<Vec<_>>())
    };
    assert_eq!(beside(&[]), Beside::Nobody);
    assert_eq!(beside(&[(&web, true), (&other, true)]), Beside::Ended);
    let own = beside(&[(&other, false), (&web, false)]);
    assert_eq!(own, Beside::Alive(Awaited::Predecessor));
    let others = beside(&[(&web, true), (&other, false)]);
    assert_eq!(others, Beside::Alive(Awaited::Others));

    let first = crash(None, own);
    assert_eq!(first.count, 0);
    let [both, one] = [vec![web.clone(), other.clone()], vec![other.clone()]];
    assert!(!first.is_due(&web, &both, HOUR));
    assert!(first.is_due(&web, &one, HOUR));
    // The pauses until then are short, and do not get long.
    let mut crashes = None;
    let mut pauses = Vec::new();
    for _ in 0..5 {
        crashes = Some(crash(crashes, own));
        pauses.push((crashes.unwrap().again_at - HOUR).as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 8]);
    // Its own is gone, another of the type is not.
    let second = crash(Some(first), others);
    assert!(!second.is_due(&web, &one, HOUR) && second.is_due(&web, &[name("worker", 1)], HOUR));
    // All are gone, but it may have met them: once more.
    let third = crash(Some(second), Beside::Ended);
    assert_eq!((third.count, third.again_at), (0, HOUR));
    // What counted before it counts still.
    let twice = crash(Some(crash(None, Beside::Nobody)), Beside::Nobody);
    let met = crash(Some(twice), Beside::Ended);
    assert_eq!((met.count, met.again_at), (2, HOUR));
    assert_eq!(crash(Some(met), Beside::Nobody).count, 3);
}

#[test]
fn a_crash_is_tried_again_at_once_then_later_and_later() {
    let mut crashes = None;
    let mut waits = Vec::new();
    for _ in 0..12 {
        let next = crash(crashes, Beside::Nobody);
        waits.push((next.again_at - HOUR).as_secs());
        crashes = Some(next);
    }
    assert_eq!(
        waits,
        [
            0, 45, 600, 1200, 2400, 4800, 9600, 19_200, 38_400, 76_800, 86_400, 86_400
        ]
    );
    let recovered = Crashes::after(crashes, Beside::Nobody, HOUR, HOUR, &BACK_OFF);
    assert_eq!((recovered.count, recovered.again_at), (1, HOUR));
    let never_ends = Crashes {
        count: u32::MAX,
        ..recovered
    };
    let next = crash(Some(never_ends), Beside::Nobody);
    assert_eq!(next.again_at, HOUR + LIFETIME);
}

#[test]
fn what_waits_after_a_crash_is_looked_at_when_its_time_has_come() {
    let again_at = seconds(50);
    let twice = Crashes {
        count: 2,
        again_at,
        ..crash(None, Beside::Nobody)
    };
    let crashes = HashMap::from([(name("web", 1), twice)]);
    let situation = Situation {
        wanted: &[wanted("web", 2)],
        release: "r1",
        present: &[],
        leaving: &[],
        crashes: &crashes,
        room: 100,
    };
    let waiting = plan(&situation, seconds(49));
    assert_eq!(waiting.changes, [start("web", 2)]);
    assert_eq!(waiting.look_at, Some(again_at));
    assert_eq!(
        plan(&situation, again_at).changes,
        [start("web", 1), start("web", 2)]
    );
}

#[test]
fn there_are_never_more_than_there_is_room_for() {
    let mut old = present("web", 1);
    old.release = "r0".to_owned();
    let situation = Situation {
        wanted: &[wanted("web", 5)],
        release: "r1",
        present: &[old],
        leaving: &[],
        crashes: &HashMap::new(),
        room: 1,
    };
    let planned = plan(&situation, seconds(0));
    assert_eq!(
        planned.changes,
        [
            retire("web.1", StopReason::Restarted),
            start("web", 1),
            start("web", 2)
        ]
    );
    assert!(planned.short);
    let room = 4;
    assert!(!plan(&Situation { room, ..situation }, seconds(0)).short);
}

/// One dyno of the made-up world.
#[derive(Debug, Clone)]
struct Dyno {
    present: Present,
    one_off: bool,
    /// It was told to end, and does so then.
    leaves_at: Option<Moment>,
    born: Moment,
}

/// A host that does what the scheduler says, and where things happen.
#[derive(Debug)]
struct World {
    now: Moment,
    max: u32,
    wanted: Vec<Wanted>,
    release: u32,
    dynos: Vec<Dyno>,
    crashes: HashMap<DynoName, Crashes>,
    /// How long one that is told to end takes.
    grace: Duration,
    /// Those that were told to end, and when they had ended.
    left: Vec<(DynoName, Moment)>,
    born: u64,
    one_offs: u32,
    /// The names of one-offs that there have been.
    used: BTreeSet<String>,
    oldest: Duration,
    starts: u64,
    /// The processor time that planning took.
    planning: Duration,
}

/// The processor time of this thread, which no neighbour's work counts into.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

/// What may happen, to whom it may concern.
#[derive(Debug, Clone)]
enum Happening {
    Crash(prop::sample::Index),
    Leave(prop::sample::Index),
    Scale(usize, u32),
    Release,
    Restart(prop::sample::Index),
    OneOff,
    Wait(u64),
    ServerKilled,
}

const TYPES: [&str; 3] = ["web", "worker", "clock"];

impl World {
    fn new(max: u32) -> Self {
        Self {
            now: HOUR,
            max,
            wanted: TYPES
                .map(|word| wanted(word, u32::from(word == "web")))
                .into(),
            release: 1,
            dynos: Vec::new(),
            crashes: HashMap::new(),
            grace: Duration::ZERO,
            left: Vec::new(),
            born: 0,
            one_offs: 0,
            used: BTreeSet::new(),
            oldest: Duration::ZERO,
            starts: 0,
            planning: Duration::ZERO,
        }
    }

    fn alive(&self) -> u32 {
        self.dynos
            .iter()
            .filter(|dyno| dyno.leaves_at.is_none())
            .count() as u32
    }

    fn plan(&mut self) -> FormationPlan {
        let present: Vec<_> = self
            .dynos
            .iter()
            .filter(|dyno| dyno.leaves_at.is_none() && !dyno.one_off)
            .map(|dyno| dyno.present.clone())
            .collect();
        let leaving: Vec<_> = self
            .dynos
            .iter()
            .filter(|dyno| dyno.leaves_at.is_some())
            .map(|dyno| dyno.present.name.clone())
            .collect();
        let situation = Situation {
            wanted: &self.wanted,
            release: &format!("r{}", self.release),
            present: &present,
            leaving: &leaving,
            crashes: &self.crashes,
            room: self.max.saturating_sub(self.alive()),
        };
        let since = thread_time();
        let planned = plan(&situation, self.now);
        self.planning += thread_time() - since;
        planned
    }

    fn add(&mut self, name: DynoName, one_off: bool) {
        self.born += 1;
        // As the server spreads them: by something that is as good as random.
        let share = (self.born * 7919 % 1000) as u32;
        let dyno = Dyno {
            present: Present {
                id: self.born.to_string(),
                name,
                release: format!("r{}", self.release),
                size: "1X".to_owned(),
                cycle_at: self.now + LIFETIME + SPREAD * share / 1000,
            },
            one_off,
            leaves_at: None,
            born: self.now,
        };
        self.dynos.push(dyno);
    }

    /// Does what is planned, and looks at what must always hold.
    fn perform(&mut self) -> Option<Moment> {
        let plan = self.plan();
        for change in plan.changes {
            match change {
                FormationChange::Start { name, .. } => {
                    self.starts += 1;
                    self.add(name, false);
                }
                FormationChange::Retire { id, .. } => {
                    let known = self.dynos.iter_mut().find(|dyno| dyno.present.id == id);
                    let dyno = known.expect("only what is there is retired");
                    assert!(!dyno.one_off && dyno.leaves_at.is_none(), "{dyno:?}");
                    dyno.leaves_at = Some(self.now + self.grace);
                }
            }
        }
        self.check();
        plan.look_at
    }

    fn check(&mut self) {
        let mut names = BTreeMap::new();
        for dyno in self.dynos.iter().filter(|dyno| dyno.leaves_at.is_none()) {
            let name = &dyno.present.name;
            *names.entry((&name.process_type, name.number)).or_insert(0) += 1;
            self.oldest = self.oldest.max(self.now - dyno.born);
        }
        assert!(names.values().all(|count| *count == 1), "{names:?}");
        assert!(self.alive() <= self.max, "{} alive", self.alive());
        assert!(self.oldest <= LIFETIME + SPREAD, "{:?}", self.oldest);
    }

    fn end(&mut self, index: usize) {
        let dyno = self.dynos.remove(index);
        let name = dyno.present.name;
        if dyno.one_off {
            return;
        }
        if dyno.leaves_at.is_some() {
            self.left.push((name, self.now));
            return;
        }
        let leaving = self.dynos.iter().filter(|dyno| dyno.leaves_at.is_some());
        let leaving = leaving.map(|dyno| (dyno.present.name.clone(), false));
        let left = self.left.iter().filter(|(_, at)| *at > dyno.born);
        let left = left.map(|(name, _)| (name.clone(), true));
        let of_type = |(it, _): &(DynoName, bool)| it.process_type == name.process_type;
        let others: Vec<_> = leaving.chain(left).filter(of_type).collect();
        let crashes = Crashes::after(
            self.crashes.get(&name).copied(),
            Beside::of(&name, &others),
            self.now - dyno.born,
            self.now,
            &BACK_OFF,
        );
        self.crashes.insert(name, crashes);
    }

    /// Lets time pass where no dyno can live beside one of its type that was told to end: each that tries crashes at once.
    fn wait_exclusively(&mut self, time: Duration) {
        let until = self.now + time;
        let mut tries = 0;
        loop {
            let look_at = self.perform();
            let leavers: BTreeSet<_> = self
                .dynos
                .iter()
                .filter(|dyno| dyno.leaves_at.is_some())
                .map(|dyno| dyno.present.name.process_type.clone())
                .collect();
            let meets = |dyno: &Dyno| {
                dyno.leaves_at.is_none() && leavers.contains(&dyno.present.name.process_type)
            };
            let new = |dyno: &Dyno| dyno.born == self.now && meets(dyno);
            if let Some(index) = self.dynos.iter().position(new) {
                tries += 1;
                assert!(tries < 200, "it tries again and again");
                self.end(index);
                continue;
            }
            for wanted in self
                .wanted
                .iter()
                .filter(|it| !leavers.contains(&it.process_type))
            {
                for number in 1..=wanted.quantity {
                    let name = name(&wanted.process_type, number);
                    let there = |dyno: &Dyno| dyno.leaves_at.is_none() && dyno.present.name == name;
                    assert!(
                        self.dynos.iter().any(there),
                        "{name} waits for nobody: {self:?}"
                    );
                }
            }
            let leave_at = self.dynos.iter().filter_map(|dyno| dyno.leaves_at).min();
            let Some(next) = look_at
                .into_iter()
                .chain(leave_at)
                .min()
                .filter(|at| *at <= until)
            else {
                break;
            };
            if next > self.now {
                tries = 0;
            }
            self.now = next;
            let leaves = |dyno: &Dyno| dyno.leaves_at.is_some_and(|at| at <= next);
            if let Some(index) = self.dynos.iter().position(leaves) {
                self.end(index);
            }
        }
        self.now = until;
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Crash(which) if !self.dynos.is_empty() => {
                self.end(which.index(self.dynos.len()));
            }
            Happening::Leave(which) => {
                let leaving: Vec<_> = (0..self.dynos.len())
                    .filter(|&index| self.dynos[index].leaves_at.is_some())
                    .collect();
                if !leaving.is_empty() {
                    self.end(leaving[which.index(leaving.len())]);
                }
            }
            Happening::Scale(which, quantity) => self.wanted[*which].quantity = *quantity,
            Happening::Release => {
                self.release += 1;
                self.crashes.clear();
            }
            Happening::Restart(which) if !self.dynos.is_empty() => {
                let index = which.index(self.dynos.len());
                // A one-off that is restarted ends.
                match self.dynos[index].one_off {
                    true => drop(self.dynos.remove(index)),
                    false => self.dynos[index].leaves_at = Some(self.now + self.grace),
                }
            }
            Happening::OneOff if self.alive() < self.max => {
                self.one_offs += 1;
                let one_off = name("run", self.one_offs);
                assert!(self.used.insert(one_off.to_string()), "{one_off} twice");
                self.add(one_off, true);
            }
            Happening::Wait(time) => self.wait(seconds(*time)),
            // What the scheduler knows of crashes is then read back from the state; at worst it is forgotten.
            Happening::ServerKilled => self.crashes.clear(),
            _ => {}
        }
    }

    /// Lets time pass, from one look to the next.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.perform().filter(|at| *at <= until) {
            assert!(at > self.now, "it looks again and again");
            self.now = at;
            self.end_old_one_offs();
        }
        self.now = until;
        self.end_old_one_offs();
        let _ = self.perform();
    }

    /// Their own supervisors see to that.
    fn end_old_one_offs(&mut self) {
        let now = self.now;
        self.dynos
            .retain(|dyno| !dyno.one_off || dyno.present.cycle_at > now);
    }

    /// Whether there is exactly what is wanted, as far as there is room.
    fn has_converged(&self) -> bool {
        let there: BTreeSet<_> = self
            .dynos
            .iter()
            .filter(|dyno| !dyno.one_off && dyno.leaves_at.is_none())
            .map(|dyno| dyno.present.name.to_string())
            .collect();
        let wanted: BTreeSet<_> = self
            .wanted
            .iter()
            .flat_map(|wanted| {
                (1..=wanted.quantity).map(|n| format!("{}.{n}", wanted.process_type))
            })
            .collect();
        let current = format!("r{}", self.release);
        let current = self.dynos.iter().all(|dyno| {
            dyno.one_off || dyno.leaves_at.is_some() || dyno.present.release == current
        });
        current && there.is_subset(&wanted) && (there == wanted || self.alive() == self.max)
    }
}

fn any_happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => any::<prop::sample::Index>().prop_map(Happening::Crash),
        3 => any::<prop::sample::Index>().prop_map(Happening::Leave),
        2 => (0..TYPES.len(), 0u32..6).prop_map(|(which, quantity)| Happening::Scale(which, quantity)),
        1 => Just(Happening::Release),
        1 => any::<prop::sample::Index>().prop_map(Happening::Restart),
        2 => Just(Happening::OneOff),
        2 => (0u64..200_000).prop_map(Happening::Wait),
        1 => Just(Happening::ServerKilled),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: one dyno of a name at most, no one-off started by the scheduler or its name
    /// used twice, no more dynos than allowed, none older than 27 h 36 min; and when nothing happens any more, what is
    /// wanted is there.
    #[test]
    fn every_history_ends_in_what_is_wanted(
        happenings in prop::collection::vec(any_happening(), 0..40),
        max in 1u32..12,
    ) {
        let mut world = World::new(max);
        for happening in &happenings {
            world.happen(happening);
            let _ = world.perform();
        }
        // The longest back-off, and the life of every one-off that takes room.
        world.wait(LIFETIME + LIFETIME);
        prop_assert!(world.has_converged(), "{world:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// Where two dynos of a type cannot live at once: whatever is restarted, released or scaled, and however long those that
    /// are told to end take, a type is there again in the moment in which the last of them has ended.
    #[test]
    fn what_cannot_live_beside_its_predecessor_is_there_when_that_has_ended(
        happenings in prop::collection::vec((any_change(), 0u64..100), 0..20),
        grace in 0u64..40,
    ) {
        let mut world = World::new(100);
        world.grace = seconds(grace);
        world.wait_exclusively(seconds(1));
        for (happening, pause) in &happenings {
            world.happen(happening);
            world.wait_exclusively(seconds(*pause));
        }
        world.wait_exclusively(seconds(40));
        prop_assert!(world.has_converged(), "{world:?}");
    }
}

/// What people do, and the time.
fn any_change() -> impl Strategy<Value = Happening> {
    prop_oneof![
        2 => (0..TYPES.len(), 0u32..4).prop_map(|(which, quantity)| Happening::Scale(which, quantity)),
        2 => Just(Happening::Release),
        3 => any::<prop::sample::Index>().prop_map(Happening::Restart),
    ]
}

/// A thousand dynos, each cycled seven times in a week, some of them crashing. All the planning is to take less than a
/// second; it does though nothing is optimized here (0.9 s). A slow machine that others use, too, gets ten: what grows
/// with the square of the dynos takes minutes.
#[test]
fn a_week_of_a_thousand_dynos_cycles_each_of_them() {
    let mut world = World::new(1000);
    world.wanted = vec![wanted("web", 1000)];
    for day in 0..7u32 {
        world.wait(LIFETIME);
        for index in 0..10usize {
            world.end(index * 7 + day as usize);
        }
        world.dynos.retain(|dyno| dyno.leaves_at.is_none());
    }
    assert!(world.starts > 6 * 1000, "{} starts", world.starts);
    assert_eq!(world.alive(), 1000);
    let planning = world.planning;
    assert!(planning < Duration::from_secs(10), "{planning:?}");
}
