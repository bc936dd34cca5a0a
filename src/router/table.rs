//! What is known of apps and their web dynos, and which dyno gets a request. No I/O: time and chance are passed in.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use super::failure::Failure;
use super::{BackendState, Route};
use crate::kernel::listener::Listener;
use crate::wire::reactor::Token;

/// A dyno, for as long as the router runs.
pub(super) type DynoKey = u64;

/// See the [module](self).
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
    /// Clients whose requests wait, in the order they came.
    waiting: VecDeque<Token>,
}

#[derive(Debug)]
struct Dyno {
    id: String,
    name: Rc<str>,
    app: Rc<str>,
    /// None: it is in no route any more, but has requests in flight.
    state: Option<BackendState>,
    /// Requests in flight.
    active: u32,
    /// It did not accept connections, and is passed over until then.
    refused_until: Option<Instant>,
    /// Somebody else has its port.
    doubted: bool,
    /// It was said that it is drained.
    told: bool,
}

/// Why a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// For a dyno to be up.
    Boot,
    /// For a dyno to have less to do.
    Busy,
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Dyno(DynoKey),
    Wait(Wait),
    Fail(Failure),
}

/// What a new snapshot asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Dynos whose idle connections are of no use any more.
    pub purge: Vec<DynoKey>,
    /// Ids of those that are drained already.
    pub drained: Vec<String>,
}

/// What a dyno that has one request less asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Released {
    /// Its id, if it is drained now.
    pub drained: Option<String>,
    /// It is in no route, and has no request any more: nothing of it is to be kept.
    pub gone: bool,
}

impl Table {
    /// Takes a snapshot in.
    pub fn update(&mut self, app: &Rc<str>, route: Option<&Route>) -> Changes {
        let mut changes = Changes::default();
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
                active: 0,
                refused_until: None,
                doubted: false,
                told: false,
            });
            if *dyno.name != *backend.name {
                dyno.name = backend.name.as_str().into();
            }
            let up = |state| match state {
                Some(BackendState::Up(listener)) => Some(listener),
                _ => None,
            };
            if up(dyno.state) != up(Some(backend.state)) {
                changes.purge.push(key);
                dyno.refused_until = None;
            }
            if std::mem::take(&mut dyno.doubted) {
                dyno.refused_until = None;
            }
            dyno.state = Some(backend.state);
            dyno.told &= matches!(backend.state, BackendState::Draining(_));
            changes.drained.extend(dyno.tell_drained());
            dynos.push(key);
        }
        for key in known {
            if !dynos.contains(&key) {
                changes.purge.push(key);
                self.part_with(key);
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

    fn part_with(&mut self, key: DynoKey) {
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

    /// Where a request for `app` goes that has been to `tried` in vain. `most`: requests that one dyno has at once.
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
        // All of those that are up are passed over. Rather than to fail unseen, one is tried before its time; but never
        // one whose port somebody else has.
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

    /// Name of a dyno.
    pub fn name(&self, key: DynoKey) -> Option<&Rc<str>> {
        self.dynos.get(&key).map(|dyno| &dyno.name)
    }

    /// App of a dyno.
    pub fn app_of(&self, key: DynoKey) -> Option<&Rc<str>> {
        self.dynos.get(&key).map(|dyno| &dyno.app)
    }

    /// A dyno has one request more.
    pub fn take(&mut self, key: DynoKey) {
        if let Some(dyno) = self.dynos.get_mut(&key) {
            dyno.active += 1;
        }
    }

    /// A dyno has one request less.
    pub fn release(&mut self, key: DynoKey) -> Released {
        let Some(dyno) = self.dynos.get_mut(&key) else {
            return Released::default();
        };
        dyno.active = dyno.active.saturating_sub(1);
        let drained = dyno.tell_drained();
        let gone = dyno.state.is_none() && dyno.active == 0;
        if gone {
            self.dynos.remove(&key);
        }
        Released { drained, gone }
    }

    /// A dyno did not accept a connection.
    pub fn refused(&mut self, key: DynoKey, until: Instant) {
        if let Some(dyno) = self.dynos.get_mut(&key) {
            dyno.refused_until = Some(until);
        }
    }

    /// A dyno's port is somebody else's. Its id, if that is news.
    pub fn doubt(&mut self, key: DynoKey) -> Option<String> {
        let dyno = self.dynos.get_mut(&key)?;
        dyno.refused_until = None;
        (!std::mem::replace(&mut dyno.doubted, true)).then(|| dyno.id.clone())
    }

    /// Lets a client's request wait, if not `most` do; `front`: before the others.
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

    /// Apps for which requests wait.
    pub fn apps_with_waiting(&self) -> Vec<Rc<str>> {
        let waited_for = self.apps.iter().filter(|(_, app)| !app.waiting.is_empty());
        waited_for.map(|(name, _)| name.clone()).collect()
    }

    /// The client whose request has waited longest; it waits no more.
    pub fn next_waiting(&mut self, app: &str) -> Option<Token> {
        self.apps.get_mut(app)?.waiting.pop_front()
    }

    /// A client waits no more.
    pub fn stop_waiting(&mut self, app: &str, client: Token) {
        if let Some(app) = self.apps.get_mut(app)
            && let Some(at) = app.waiting.iter().position(|other| *other == client)
        {
            app.waiting.remove(at);
        }
    }

    /// All that wait for this app, to be told that it is gone.
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
        (drained && !std::mem::replace(&mut self.told, true)).then(|| self.id.clone())
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
        assert_eq!(table.release(1), Released::default());
        assert_eq!(table.update(&shop, Some(&draining)), Changes::default());
        assert_eq!(table.release(1).drained, Some("id-1".into()));
        assert_eq!(table.update(&shop, Some(&draining)), Changes::default());

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
