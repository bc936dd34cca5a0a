//! How the server shares out the descriptors that it may open, so that it never runs out of them in the middle of
//! something: so many clients, so many dynos, and some for itself.

use crate::error::UserError;
use crate::kernel::open_files;

/// For the server itself: its state, its log, the loop, the workers with what they unpack, supervisors that wait.
const OWN: u64 = 64;
/// With fewer than this nothing useful can be done.
const FEWEST: u64 = 96;
/// Most clients at once that have a descriptor besides their connection: those who read a log have two.
const READERS: u64 = 200;

/// Most connections that the router has with clients.
const MOST_VISITORS: u64 = 10_000;

/// Most sessions that go by way of the bridge, and what each may have open: its client, its supervisor, three streams; and
/// for each there may be a client that has only just come.
const MOST_SESSIONS: u64 = 1_000;
const PER_SESSION: u64 = 6;

/// What may be open at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// The limit on all of them.
    pub limit: u64,
    /// Clients of the API.
    pub connections: usize,
    /// Live dynos: one for each.
    pub dynos: usize,
    /// Connections that the router has with clients; each may have one with a dyno.
    pub visitors: usize,
    /// Sessions that go by way of the bridge.
    pub sessions: usize,
    /// What the limit was before the server raised it. Its dynos' commands get that again: some programs look at every
    /// descriptor that they might have, and `select(2)` knows 1,024.
    pub original: u64,
}

impl Descriptors {
    /// Raises this process's limit to what it may be raised to. At most `connections` clients will be served, and
    /// visitors if there is a router.
    ///
    /// # Errors
    /// When there are too few to work with.
    pub fn raise(connections: usize, router: bool) -> anyhow::Result<Self> {
        let (original, all) = open_files::limits();
        open_files::set_soft_limit(all)?;
        let shares = share(all, connections, router).ok_or_else(|| {
            UserError::new(format!(
                "the server may have {all} files open, and needs {FEWEST} at least"
            ))
            .hint("`ulimit -Hn` shows the limit; a service has `LimitNOFILE=`")
        })?;
        Ok(Self { original, ..shares })
    }
}

fn share(limit: u64, connections: usize, router: bool) -> Option<Descriptors> {
    let free = limit.checked_sub(OWN).filter(|_| limit >= FEWEST)?;
    // Half of them at most if all read logs.
    let clients = (free / 6).min(connections as u64);
    let rest = free - clients - 2 * clients.min(READERS);
    // Each may need a connection to a dyno, too.
    let visitors = match router {
        true => (rest / 4).min(MOST_VISITORS),
        false => 0,
    };
    // A fifth of what is left.
    let rest = rest - 2 * visitors;
    let sessions = (rest / 5 / PER_SESSION).min(MOST_SESSIONS);
    let dynos = rest - PER_SESSION * sessions;
    Some(Descriptors {
        limit,
        connections: clients.try_into().unwrap_or(usize::MAX),
        dynos: dynos.try_into().unwrap_or(usize::MAX),
        visitors: visitors.try_into().unwrap_or(usize::MAX),
        sessions: sessions.try_into().unwrap_or(usize::MAX),
        original: limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_dynos_and_visitors_share_what_there_is() {
        for (limit, connections, dynos, visitors, sessions) in [
            (96, 5, 9, 4, 0),
            (1024, 160, 192, 120, 8),
            (4096, 672, 1186, 740, 49),
            (524_288, 1024, 496_800, 10_000, 1_000),
        ] {
            let shares = share(limit, 1024, true).unwrap();
            assert_eq!(
                (
                    shares.connections,
                    shares.dynos,
                    shares.visitors,
                    shares.sessions
                ),
                (connections, dynos, visitors, sessions),
                "{limit}"
            );
            let readers = shares.connections.min(200);
            let all = OWN as usize + connections + 2 * readers + dynos + 2 * visitors;
            let all = all + PER_SESSION as usize * sessions;
            assert!(all <= limit as usize);
        }
        assert_eq!(share(96, 1024, false).unwrap().dynos, 17);
        assert_eq!(share(95, 1024, true), None);
        assert_eq!(share(u64::MAX, 1024, true).unwrap().connections, 1024);
    }
}
