//! What the server remembers of each app's formation between two looks: what has crashed, and when to look again.
//!
//! Everything else is read anew at each look, from the state; and what is here can be read from there, too, by a server
//! that has just started. Called by the [service](crate::server::service), which performs what the scheduler plans.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use crate::model::dyno::{Dyno, DynoName, EndReason};
use crate::model::scheduler::{BackOff, Beside, Crashes, Moment};
use crate::model::settings::Settings;
use crate::wire::reactor::{Event, Reactor, Token};

/// What was lost sooner than this never lived.
const ALIVE: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Debug)]
pub struct Formations {
    /// Its deadline is the next look at a formation.
    token: Token,
    apps: HashMap<String, Memory>,
    /// The ids of releases whose slug's tree is being unpacked; then there is another look.
    unpacking: HashSet<String>,
}

/// What is remembered of one app.
#[derive(Debug, Default)]
pub struct Memory {
    /// The release that all this is about: with another one everything begins anew.
    release: String,
    /// The crashes in a row, by name.
    pub crashes: HashMap<DynoName, Crashes>,
    /// The ids of the dynos that crashed last, by name: they are listed as long as no others have taken their places.
    pub crashed: HashMap<DynoName, String>,
    /// When to look again.
    look_at: Option<Moment>,
}

/// What an event means for the formations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormationsDue {
    /// The server has just started: those of an earlier server are to be taken up.
    TakeUp,
    /// The time of a look has come.
    Look,
}

impl Formations {
    /// Nothing is remembered yet. [`FormationsDue::TakeUp`] comes in the next turn.
    pub fn new(reactor: &mut Reactor) -> Self {
        let token = reactor.token();
        reactor.again(token);
        Self {
            token,
            apps: HashMap::new(),
            unpacking: HashSet::new(),
        }
    }

    /// What `event` means for the formations, if anything.
    pub fn came(&self, event: Event) -> Option<FormationsDue> {
        match event {
            Event::Again(token) if token == self.token => Some(FormationsDue::TakeUp),
            Event::Deadline(token) if token == self.token => Some(FormationsDue::Look),
            _ => None,
        }
    }

    /// Sets the deadline to the next look.
    pub fn set_deadline(&self, reactor: &mut Reactor) {
        let next = self.next_look();
        let at = next.map(|at| Instant::now() + at.saturating_sub(now()));
        reactor.set_or_cancel_deadline(self.token, at);
    }

    /// What is remembered of an app whose current release this is. With a new one nothing has crashed yet; what crashed
    /// before is still in the list until others have taken the places.
    pub fn of(&mut self, app_id: &str, release: &str) -> &mut Memory {
        let memory = self.apps.entry(app_id.to_owned()).or_default();
        if memory.release != release {
            memory.release = release.to_owned();
            memory.crashes.clear();
        }
        memory
    }

    /// Notes that the tree of a release's slug is being unpacked. False if it was already.
    pub fn begin_unpacking(&mut self, release: &str) -> bool {
        self.unpacking.insert(release.to_owned())
    }

    /// Notes that the tree of a release's slug is not being unpacked any more.
    pub fn end_unpacking(&mut self, release: &str) {
        self.unpacking.remove(release);
    }

    /// Notes the crash of a dyno, which lived beside others that had been told to end, or did not. A dyno that was lost with
    /// its supervisor does not count as crashed, unless it never lived: one that is lost as soon as it starts would be started
    /// for ever without a pause.
    pub fn crashed(&mut self, dyno: &Dyno, beside: Beside, back_off: &BackOff) {
        let Some(ended) = &dyno.ended else { return };
        let lost = ended.is_for(EndReason::Lost);
        let lived = moment(ended.at).saturating_sub(moment(dyno.created_at));
        let memory = self.of(&dyno.app_id, &dyno.release_id);
        memory.crashed.insert(dyno.name.clone(), dyno.id.clone());
        if lost && lived >= ALIVE {
            return;
        }
        let before = memory.crashes.get(&dyno.name).copied();
        let now = moment(ended.at);
        let crashes = Crashes::after(before, beside, lived, now, back_off);
        memory.crashes.insert(dyno.name.clone(), crashes);
    }

    /// What is known of the crashes of a dyno that stands in a list for the one that will take its place.
    pub fn crashes_of(&self, dyno: &Dyno) -> Option<&Crashes> {
        let memory = self.apps.get(&dyno.app_id)?;
        let stands = memory.crashed.get(&dyno.name) == Some(&dyno.id);
        memory.crashes.get(&dyno.name).filter(|_| stands)
    }

    /// Has dynos that wait after a crash, and whose names are `meant`, be tried at once.
    pub fn forget_crashes(&mut self, app_id: &str, meant: impl Fn(&DynoName) -> bool) {
        if let Some(memory) = self.apps.get_mut(app_id) {
            memory.crashes.retain(|name, _| !meant(name));
        }
    }

    /// Whether this dyno of an app has crashed and no other has taken its place.
    pub fn is_crashed(&self, dyno: &Dyno) -> bool {
        let memory = self.apps.get(&dyno.app_id);
        memory.is_some_and(|memory| memory.crashed.get(&dyno.name) == Some(&dyno.id))
    }

    /// Forgets an app.
    pub fn forget(&mut self, app_id: &str) {
        self.apps.remove(app_id);
    }

    /// Sets when to look at an app again.
    pub fn look_at(&mut self, app_id: &str, at: Option<Moment>) {
        if let Some(memory) = self.apps.get_mut(app_id) {
            memory.look_at = at;
        }
    }

    /// When to look at any of them.
    pub fn next_look(&self) -> Option<Moment> {
        self.apps.values().filter_map(|memory| memory.look_at).min()
    }

    /// The apps to be looked at now.
    pub fn due(&self, now: Moment) -> Vec<String> {
        let due = |memory: &Memory| memory.look_at.is_some_and(|at| at <= now);
        let apps = self.apps.iter().filter(|(_, memory)| due(memory));
        apps.map(|(id, _)| id.clone()).collect()
    }

    /// The ids of dynos of this app that have crashed and whose places no others have taken.
    pub fn crashed_dynos(&self, app_id: &str) -> HashSet<&str> {
        let memory = self.apps.get(app_id);
        let ids = memory
            .into_iter()
            .flat_map(|memory| memory.crashed.values());
        ids.map(String::as_str).collect()
    }
}

/// What the settings say of crashes.
pub fn back_off(settings: &Settings) -> BackOff {
    BackOff {
        second: settings.crash_second_wait,
        third: settings.crash_third_wait,
        longest: settings.crash_longest_wait,
        recovery: settings.crash_recovery,
    }
}

/// A time as the scheduler has it.
pub fn moment(at: Timestamp) -> Moment {
    let micros = u64::try_from(at.as_microsecond()).unwrap_or(0);
    Duration::from_micros(micros)
}

/// A time of the scheduler's as others have it.
pub fn timestamp(at: Moment) -> Timestamp {
    let micros = i64::try_from(at.as_micros()).ok();
    micros
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .unwrap_or(Timestamp::MAX)
}

/// Now, as the scheduler has it.
pub fn now() -> Moment {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default()
}

/// When another dyno takes a dyno's place: not all at once. The time depends on the dyno's id alone, so that the next server
/// computes it too.
pub fn cycle_at(dyno: &Dyno, settings: &Settings) -> Moment {
    let digits: String = dyno
        .id
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(8)
        .collect();
    let share = f64::from(u32::from_str_radix(&digits, 16).unwrap_or(0)) / f64::from(u32::MAX);
    moment(dyno.created_at) + settings.lifetime + settings.lifetime_spread.mul_f64(share)
}
