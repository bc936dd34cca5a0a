//! The apps and their web dynos, and the choice of the dyno for a request. No I/O: time and random numbers are passed in.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use super::failure::Failure;
use super::{BackendState, Route};
use crate::kernel::listener::Listener;
use crate::wire::door::Door;
use crate::wire::reactor::Token;

/// The number of a dyno within one router; never reused.
pub(super) type DynoKey = u64;

/// The apps and their web dynos: see the [module](self).
#[derive(Debug, Default)]
pub(super) struct Table {
    apps: HashMap<Rc<str>, App>,
    dynos: HashMap<DynoKey, Dyno>,
    last_key: DynoKey,
}

#[derive(Debug)]
struct App {
    maintenance: bool,
    blank: bool,
    dynos: Vec<DynoKey>,
    /// Clients whose requests wait, in their order.
    waiting: VecDeque<Token>,
}

#[derive(Debug)]
struct Dyno {
    id: String,
    name: Rc<str>,
    app: Rc<str>,
    /// None if it is in no route any more, but has requests in flight.
    state: Option<BackendState>,
    /// Where sockets of its own network come from.
    door: Option<Door>,
    /// Requests in flight.
    active: u32,
    /// It refused a connection, and gets no requests until then.
    refused_until: Option<Instant>,
    /// Another process has its port.
    doubted: bool,
    /// Whether the server was told that it is drained.
    reported_drained: bool,
}

/// Why a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// No dyno is up yet.
    Boot,
    /// All dynos have as many requests as allowed.
    Busy,
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Dyno(DynoKey),
    Wait(Wait),
    Fail(Failure),
}

/// What is to be done after a new snapshot.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TableChanges {
    /// Dynos whose idle connections are to be closed.
    pub purge: Vec<DynoKey>,
    /// Ids of draining dynos that have no requests.
    pub drained: Vec<String>,
}

/// What is to be done after a request of a dyno has ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RequestEnd {
    /// The dyno's id, if it is drained now.
    pub drained: Option<String>,
    /// Whether the dyno is in no route and has no request any more, so that its connections are to be closed.
    pub gone: bool,
}

impl Table {
    /// Replaces what is known of an app by a new snapshot.
    pub fn update(&mut self, app: &Rc<str>, route: Option<&Route>) -> TableChanges {
        let mut changes = TableChanges::default();
        let before = self.apps.remove(app);
        let (known, waiting) = before.map_or_else(Default::default, |app| (app.dynos, app.waiting));
        let mut dynos = Vec::new();
        for backend in route.into_iter().flat_map(|route| &route.backends) {
            let same = |key: &&DynoKey| {
                self.dynos
                    .get(key)
                    .is_some_and(|dyno| dyno.id == backend.dyno)
            };
            let key = known.iter().find(same).copied().unwrap_or_else(|| {
                self.last_key += 1;
                self.last_key
            });
            let dyno = self.dynos.entry(key).or_insert_with(|| Dyno {
                id: backend.dyno.clone(),
                name: backend.name.as_str().into(),
                app: app.clone(),
                state: None,
                door: None,
                active: 0,
                refused_until: None,
                doubted: false,
                reported_drained: false,
            });
            if *dyno.name != *backend.name {
                dyno.name = backend.name.as_str().into();
            }
            let up = |state| match state {
                Some(BackendState::Up(listener)) => Some(listener),
                _ => None,
            };
            if up(dyno.state) != up(Some(backend.state)) || dyno.door != backend.door {
                changes.purge.push(key);
                dyno.refused_until = None;
            }
            if std::mem::take(&mut dyno.doubted) {
                dyno.refused_until = None;
            }
            dyno.state = Some(backend.state);
            dyno.door.clone_from(&backend.door);
            dyno.reported_drained &= matches!(backend.state, BackendState::Draining(_));
            changes.drained.extend(dyno.tell_drained());
            dynos.push(key);
        }
        for key in known {
            if !dynos.contains(&key) {
                changes.purge.push(key);
                self.remove(key);
            }
        }
        if let Some(route) = route {
            let app_state = App {
                maintenance: route.maintenance,
                blank: route.blank,
                dynos,
                waiting,
            };
            self.apps.insert(app.clone(), app_state);
        }
        changes
    }

    fn remove(&mut self, key: DynoKey) {
        if let Some(dyno) = self.dynos.get_mut(&key) {
            dyno.state = None;
            if dyno.active == 0 {
                self.dynos.remove(&key);
            }
        }
    }

    /// The app of this name.
    pub fn app(&self, name: &str) -> Option<&Rc<str>> {
        self.apps.get_key_value(name).map(|(name, _)| name)
    }

    /// Chooses the dyno for a request for `app` that the dynos in `tried` have not accepted. `most` is the limit on
    /// requests of one dyno.
    pub fn choose(
        &self,
        app: &str,
        tried: &[DynoKey],
        most: u32,
        now: Instant,
        random: u64,
    ) -> Choice {
        let Some(app) = self.apps.get(app) else {
            return Choice::Fail(Failure::NoApp);
        };
        if app.maintenance {
            return Choice::Fail(Failure::H80);
        }
        if app.blank {
            return Choice::Fail(Failure::H81);
        }
        let dynos = || {
            app.dynos
                .iter()
                .filter_map(|key| self.dynos.get(key).map(|dyno| (*key, dyno)))
        };
        let free = || {
            dynos().filter(|(key, dyno)| {
                dyno.is_up() && !dyno.is_refusing(now) && !tried.contains(key)
            })
        };
        let pick = |count: usize| (random % count.max(1) as u64) as usize;
        let room = || free().filter(|(_, dyno)| dyno.active < most);
        if let Some((key, _)) = room().nth(pick(room().count())) {
            return Choice::Dyno(key);
        }
        if free().next().is_some() {
            return Choice::Wait(Wait::Busy);
        }
        let any = |wanted: fn(&Dyno) -> bool| dynos().any(|(_, dyno)| wanted(dyno));
        if any(|dyno| dyno.state == Some(BackendState::Starting)) {
            return Choice::Wait(Wait::Boot);
        }
        // All dynos that are up refused lately. Rather than fail at once, one is tried again early; but never one whose
        // port another process has.
        let again = || {
            dynos().filter(|(key, dyno)| {
                dyno.is_up() && !dyno.doubted && dyno.active < most && !tried.contains(key)
            })
        };
        if let Some((key, _)) = again().nth(pick(again().count())) {
            return Choice::Dyno(key);
        }
        Choice::Fail(if any(Dyno::is_up) {
            Failure::H21
        } else if any(|dyno| dyno.state == Some(BackendState::Crashed)) {
            Failure::H10
        } else {
            Failure::H14
        })
    }

    /// The listener of a dyno that is up.
    pub fn listener(&self, key: DynoKey) -> Option<Listener> {
        match self.dynos.get(&key)?.state? {
            BackendState::Up(listener) => Some(listener),
            _ => None,
        }
    }

    /// The door of a dyno in a network of its own.
    pub fn door(&self, key: DynoKey) -> Option<&Door> {
        self.dynos.get(&key)?.door.as_ref()
    }

    /// The name of a dyno.
    pub fn name(&self, key: DynoKey) -> Option<&Rc<str>> {
        self.dynos.get(&key).map(|dyno| &dyno.name)
    }

    /// The app of a dyno.
    pub fn app_of(&self, key: DynoKey) -> Option<&Rc<str>> {
        self.dynos.get(&key).map(|dyno| &dyno.app)
    }

    /// Counts a new request of a dyno.
    pub fn take(&mut self, key: DynoKey) {
        if let Some(dyno) = self.dynos.get_mut(&key) {
            dyno.active += 1;
        }
    }

    /// Counts the end of a request of a dyno.
    pub fn release(&mut self, key: DynoKey) -> RequestEnd {
        let Some(dyno) = self.dynos.get_mut(&key) else {
            return RequestEnd::default();
        };
        dyno.active = dyno.active.saturating_sub(1);
        let drained = dyno.tell_drained();
        let gone = dyno.state.is_none() && dyno.active == 0;
        if gone {
            self.dynos.remove(&key);
        }
        RequestEnd { drained, gone }
    }

    /// Notes that a dyno refused a connection: it gets no requests until then.
    pub fn refused(&mut self, key: DynoKey, until: Instant) {
        if let Some(dyno) = self.dynos.get_mut(&key) {
            dyno.refused_until = Some(until);
        }
    }

    /// Notes that another process has a dyno's port; returns the dyno's id if that was not known.
    pub fn doubt(&mut self, key: DynoKey) -> Option<String> {
        let dyno = self.dynos.get_mut(&key)?;
        dyno.refused_until = None;
        (!std::mem::replace(&mut dyno.doubted, true)).then(|| dyno.id.clone())
    }

    /// Queues a client's request, with `front` before all others; false if `most` wait already.
    pub fn wait(&mut self, app: &str, client: Token, front: bool, most: usize) -> bool {
        let Some(app) = self.apps.get_mut(app) else {
            return false;
        };
        if front {
            app.waiting.push_front(client);
        } else if app.waiting.len() < most {
            app.waiting.push_back(client);
        } else {
            return false;
        }
        true
    }

    /// Whether requests of this app wait.
    pub fn has_waiting(&self, app: &str) -> bool {
        self.apps
            .get(app)
            .is_some_and(|app| !app.waiting.is_empty())
    }

    /// Apps with waiting requests.
    pub fn apps_with_waiting(&self) -> Vec<Rc<str>> {
        let waited_for = self.apps.iter().filter(|(_, app)| !app.waiting.is_empty());
        waited_for.map(|(name, _)| name.clone()).collect()
    }

    /// Takes the client whose request is first out of the queue.
    pub fn next_waiting(&mut self, app: &str) -> Option<Token> {
        self.apps.get_mut(app)?.waiting.pop_front()
    }

    /// Takes a client's request out of the queue.
    pub fn stop_waiting(&mut self, app: &str, client: Token) {
        if let Some(app) = self.apps.get_mut(app)
            && let Some(at) = app.waiting.iter().position(|other| *other == client)
        {
            app.waiting.remove(at);
        }
    }

    /// Takes all of an app's requests out of the queue.
    pub fn all_waiting(&mut self, app: &str) -> Vec<Token> {
        self.apps
            .get_mut(app)
            .map(|app| app.waiting.drain(..).collect())
            .unwrap_or_default()
    }
}

impl Dyno {
    fn is_up(&self) -> bool {
        matches!(self.state, Some(BackendState::Up(_)))
    }

    fn is_refusing(&self, now: Instant) -> bool {
        self.doubted || self.refused_until.is_some_and(|until| now < until)
    }

    fn tell_drained(&mut self) -> Option<String> {
        let drained = matches!(self.state, Some(BackendState::Draining(_))) && self.active == 0;
        (drained && !std::mem::replace(&mut self.reported_drained, true)).then(|| self.id.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Backend;
    use super::*;

    const LISTENER: Listener = Listener {
        address: std::net::SocketAddr::new(
            std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            5000,
        ),
        inode: 1,
        apart: false,
    };
    const UP: BackendState = BackendState::Up(LISTENER);

    fn route(states: &[BackendState]) -> Route {
        Route {
            app: "shop".into(),
            logs: "/".into(),
            log_limits: Default::default(),
            maintenance: false,
            blank: false,
            backends: (1..)
                .zip(states)
                .map(|(n, state)| Backend {
                    dyno: format!("id-{n}"),
                    name: format!("web.{n}"),
                    state: *state,
                    door: None,
                })
                .collect(),
        }
    }

    fn table(states: &[BackendState]) -> Table {
        let mut table = Table::default();
        table.update(&"shop".into(), Some(&route(states)));
        table
    }

    fn choose(table: &Table, random: u64) -> Choice {
        table.choose("shop", &[], 2, Instant::now(), random)
    }

    #[test]
    fn each_dyno_that_is_up_gets_its_share_and_no_other_any() {
        use BackendState::{Crashed, Draining, Starting};
        let table = table(&[Starting, UP, Crashed, UP, Draining(LISTENER), UP]);
        let chosen: Vec<_> = (0..6).map(|random| choose(&table, random)).collect();
        let expected = [2, 4, 6, 2, 4, 6].map(Choice::Dyno);
        assert_eq!(chosen, expected);
    }

    #[test]
    fn without_a_dyno_that_is_up_it_is_said_why() {
        use BackendState::{Crashed, Draining, Starting};
        let of = |states: &[BackendState]| choose(&table(states), 0);
        assert_eq!(of(&[Starting, Crashed]), Choice::Wait(Wait::Boot));
        assert_eq!(of(&[Crashed, Crashed]), Choice::Fail(Failure::H10));
        assert_eq!(of(&[]), Choice::Fail(Failure::H14));
        assert_eq!(of(&[Draining(LISTENER)]), Choice::Fail(Failure::H14));
        assert_eq!(
            Table::default().choose("shop", &[], 2, Instant::now(), 0),
            Choice::Fail(Failure::NoApp)
        );
        let mut table = table(&[UP]);
        let maintained = Route {
            maintenance: true,
            blank: true,
            ..route(&[UP])
        };
        table.update(&"shop".into(), Some(&maintained));
        assert_eq!(choose(&table, 0), Choice::Fail(Failure::H80));
        let blank = Route {
            maintenance: false,
            ..maintained
        };
        table.update(&"shop".into(), Some(&blank));
        assert_eq!(choose(&table, 0), Choice::Fail(Failure::H81));
    }

    #[test]
    fn a_dyno_with_all_hands_full_gets_nothing_more() {
        let mut table = table(&[UP]);
        table.take(1);
        assert_eq!(choose(&table, 7), Choice::Dyno(1));
        table.take(1);
        assert_eq!(choose(&table, 7), Choice::Wait(Wait::Busy));
        table.release(1);
        assert_eq!(choose(&table, 7), Choice::Dyno(1));
    }

    #[test]
    fn a_dyno_that_refuses_is_passed_over_for_a_while() {
        let mut table = table(&[UP, UP]);
        let now = Instant::now();
        table.refused(1, now + Duration::from_secs(5));
        let choose = |table: &Table, tried: &[DynoKey], after: u64| {
            table.choose("shop", tried, 2, now + Duration::from_secs(after), 0)
        };
        assert_eq!(choose(&table, &[], 4), Choice::Dyno(2));
        assert_eq!(choose(&table, &[], 5), Choice::Dyno(1));
        // Better one that refused a moment ago than none.
        assert_eq!(choose(&table, &[2], 4), Choice::Dyno(1));
        assert_eq!(choose(&table, &[1, 2], 4), Choice::Fail(Failure::H21));
    }

    #[test]
    fn a_doubted_dyno_gets_nothing_until_the_next_snapshot_and_is_told_of_once() {
        let mut table = table(&[UP]);
        assert_eq!(table.doubt(1), Some("id-1".into()));
        assert_eq!(table.doubt(1), None);
        assert_eq!(choose(&table, 0), Choice::Fail(Failure::H21));
        table.update(&"shop".into(), Some(&route(&[UP])));
        assert_eq!(choose(&table, 0), Choice::Dyno(1));
    }

    #[test]
    fn a_dyno_is_drained_once_its_last_request_is_answered() {
        let draining = route(&[BackendState::Draining(LISTENER)]);
        let mut table = table(&[UP]);
        let shop = "shop".into();
        table.take(1);
        table.take(1);
        let changes = table.update(&shop, Some(&draining));
        assert_eq!((changes.purge, changes.drained), (vec![1], vec![]));
        assert_eq!(table.release(1), RequestEnd::default());
        assert_eq!(
            table.update(&shop, Some(&draining)),
            TableChanges::default()
        );
        assert_eq!(table.release(1).drained, Some("id-1".into()));
        assert_eq!(
            table.update(&shop, Some(&draining)),
            TableChanges::default()
        );

        table.update(&shop, Some(&route(&[UP])));
        let again = table.update(&shop, Some(&draining));
        assert_eq!(again.drained, ["id-1"]);
    }

    #[test]
    fn a_dyno_that_left_the_route_is_forgotten_after_its_last_request() {
        let mut table = table(&[UP, UP]);
        table.take(2);
        let changes = table.update(&"shop".into(), Some(&route(&[UP])));
        assert_eq!(changes.purge, [2]);
        assert_eq!(table.name(2).map(|name| &**name), Some("web.2"));
        assert!(table.release(2).gone);
        assert_eq!(table.name(2), None);
        table.update(&"shop".into(), None);
        assert!(table.dynos.is_empty() && table.apps.is_empty());
    }

    #[test]
    fn those_who_wait_are_served_in_their_order() {
        let mut table = table(&[]);
        let [a, b, c] = [1, 2, 3].map(Token);
        assert!(table.wait("shop", a, false, 2) && table.wait("shop", b, false, 2));
        assert!(!table.wait("shop", c, false, 2));
        assert_eq!(table.next_waiting("shop"), Some(a));
        assert!(table.wait("shop", a, true, 2));
        table.stop_waiting("shop", a);
        assert_eq!(table.next_waiting("shop"), Some(b));
        assert!(!table.has_waiting("shop"));
    }
}
