//! Idle connections to dynos.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::table::DynoKey;
use super::wire::Wire;
use crate::wire::reactor::Token;

/// A connection to a dyno.
#[derive(Debug)]
pub(super) struct DynoConnection {
    /// Its socket, and the output that waits for it.
    pub wire: Wire,
    /// By which the reactor names the socket.
    pub token: Token,
    /// The dyno at its other end.
    pub dyno: DynoKey,
    /// It has served a request before, so the dyno may be closing it.
    pub used: bool,
    /// Since when it is idle.
    pub since: Instant,
    /// Whether the reactor has a deadline for it.
    pub armed: bool,
}

/// The idle connections of each dyno. The one that was used last is taken first, so that superfluous ones expire.
#[derive(Debug, Default)]
pub(super) struct Pool(HashMap<DynoKey, Vec<DynoConnection>>);

impl Pool {
    /// Keeps a connection; returns it if there are `most` already.
    pub fn put(&mut self, link: DynoConnection, most: usize) -> Option<DynoConnection> {
        let links = self.0.entry(link.dyno).or_default();
        if links.len() >= most {
            return Some(link);
        }
        links.push(link);
        None
    }

    /// Takes a connection to `dyno`; with `age`, only one that was in use no longer ago than that.
    pub fn take(
        &mut self,
        dyno: DynoKey,
        now: Instant,
        age: Option<Duration>,
    ) -> Option<DynoConnection> {
        let links = self.0.get_mut(&dyno)?;
        let last = links.last()?;
        match age {
            Some(age) if now.saturating_duration_since(last.since) > age => None,
            _ => links.pop(),
        }
    }

    /// Takes the connection with this token out.
    pub fn remove(&mut self, dyno: DynoKey, token: Token) -> Option<DynoConnection> {
        let links = self.0.get_mut(&dyno)?;
        let at = links.iter().position(|link| link.token == token)?;
        Some(links.remove(at))
    }

    /// The connection with this token.
    pub fn get_mut(&mut self, dyno: DynoKey, token: Token) -> Option<&mut DynoConnection> {
        let mut links = self.0.get_mut(&dyno)?.iter_mut();
        links.find(|link| link.token == token)
    }

    /// Takes all connections to `dyno` out.
    pub fn purge(&mut self, dyno: DynoKey) -> Vec<DynoConnection> {
        self.0.remove(&dyno).unwrap_or_default()
    }

    /// The number of idle connections to `dyno`.
    #[cfg(test)]
    pub fn len(&self, dyno: DynoKey) -> usize {
        self.0.get(&dyno).map_or(0, Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn link(number: usize, since: Instant) -> DynoConnection {
        let (ours, _) = UnixStream::pair().unwrap();
        DynoConnection {
            wire: Wire::new(ours.into()),
            token: Token(number),
            dyno: 1,
            used: true,
            since,
            armed: false,
        }
    }

    #[test]
    fn the_last_used_is_taken_first_and_an_old_one_not_for_all() {
        let (mut pool, now) = (Pool::default(), Instant::now());
        for number in 1..=3 {
            let refused = pool.put(link(number, now), 2);
            assert_eq!(refused.is_some(), number == 3);
        }
        let later = now + Duration::from_secs(2);
        assert!(pool.take(1, later, Some(Duration::from_secs(1))).is_none());
        let taken = pool.take(1, now, Some(Duration::from_secs(1))).unwrap();
        assert_eq!(taken.token, Token(2));
        assert_eq!(pool.take(1, later, None).unwrap().token, Token(1));
        assert!(pool.take(1, later, None).is_none() && pool.take(2, later, None).is_none());
        assert_eq!(pool.len(1), 0);
    }

    #[test]
    fn any_is_found_by_its_token() {
        let (mut pool, now) = (Pool::default(), Instant::now());
        pool.put(link(1, now), 9);
        pool.put(link(2, now), 9);
        assert!(pool.get_mut(1, Token(1)).is_some());
        assert!(pool.remove(1, Token(1)).is_some());
        assert!(pool.remove(1, Token(1)).is_none());
        assert_eq!(pool.purge(1).len(), 1);
    }
}
