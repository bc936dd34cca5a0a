//! Who kills: now this, now that, of this soak's own processes alone.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::harness::fail_points::{Fault, POINTS};
use crate::harness::{DEADLINE, FailPoints, Host, Process, nothing, parent_of};
use crate::history::{History, Part};
use crate::random::Random;

/// The command lines that run, by the numbers of their jobs.
pub type Clients = Mutex<BTreeMap<usize, Process>>;

/// Kills until it is told to stop.
pub fn rage(
    host: &Host,
    clients: &Clients,
    history: &History,
    mut random: Random,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::SeqCst) {
        if is_quiet(history) {
            integrity(host);
            while is_quiet(history) && !stop.load(Ordering::SeqCst) {
                thread::park_timeout(LOOK_AGAIN);
            }
        }
        // Not a guess at how long something takes: this is how often it strikes.
        thread::sleep(Duration::from_millis(random.below(60)));
        match random.below(100) {
            0..25 => kill_client(clients, history, &mut random),
            25..55 => kill_supervisor(host, history, &mut random),
            55..80 => kill_init(host, history, &mut random),
            80..93 => kill_server(host, history, &mut random),
            93..97 => kill_spare(host, history),
            97..99 => starve(host, history, &mut random),
            _ => kill_all(host, clients, history),
        }
    }
}

/// How often nothing is struck for a while, and for how long: what takes several requests comes to its end then.
const QUIET: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(2));

/// Between two looks whether it is quiet still.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Whether nothing is to be struck now.
fn is_quiet(history: &History) -> bool {
    let now = history.elapsed().as_millis() % QUIET.0.as_millis();
    now >= (QUIET.0 - QUIET.1).as_millis()
}

/// The state is whole, by SQLite's own check.
pub fn integrity(host: &Host) {
    let state = host.state().join("state.db");
    let connection = Connection::open_with_flags(state, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.busy_timeout(DEADLINE).unwrap();
    let check = |pragma: &str| -> Vec<String> {
        let mut statement = connection.prepare(pragma).unwrap();
        let rows = statement.query_map([], |row| row.get_ref(0).map(|it| format!("{it:?}")));
        rows.unwrap().map(Result::unwrap).collect()
    };
    let whole = check("PRAGMA integrity_check");
    assert_eq!(whole, [format!("{:?}", ValueRef::Text(b"ok"))]);
    assert_eq!(check("PRAGMA foreign_key_check"), [""; 0]);
}

fn kill_client(clients: &Clients, history: &History, random: &mut Random) {
    let clients = clients.lock().unwrap();
    let numbers: Vec<_> = clients.keys().copied().collect();
    if !numbers.is_empty() {
        let number = *random.one_of(&numbers);
        history.kill_of_client(number);
        clients[&number].signal(Signal::KILL);
    }
}

fn kill_supervisor(host: &Host, history: &History, random: &mut Random) {
    let supervisors = host.supervisors();
    if !supervisors.is_empty() {
        let supervisor = random.one_of(&supervisors);
        if let Some(dyno) = host.dyno_of(supervisor.pid) {
            history.kill_of_dyno(Part::Supervisor, &dyno);
            supervisor.signal(Signal::KILL);
        }
    }
}

fn kill_init(host: &Host, history: &History, random: &mut Random) {
    let inits = host.inits();
    if !inits.is_empty() {
        let init = random.one_of(&inits);
        // What an init has open is nobody's to see; but its supervisor has the same folder open.
        let dyno = parent_of(init.pid).and_then(|supervisor| host.dyno_of(supervisor));
        if let Some(dyno) = dyno {
            history.kill_of_dyno(Part::Init, &dyno);
            init.signal(Signal::KILL);
        }
    }
}

fn kill_server(host: &Host, history: &History, random: &mut Random) {
    if let Some(server) = host.server() {
        let (signal, how) = match random.below(4) {
            0 => (Signal::TERM, "by SIGTERM"),
            _ => (Signal::KILL, "by SIGKILL"),
        };
        history.kill_of_server(Part::Server, how);
        server.signal(signal);
    }
}

fn kill_spare(host: &Host, history: &History) {
    if let Some(spare) = host.spare() {
        // It may be given a dyno this very moment, whose id nobody knows; `unknown` is any.
        history.kill_of_dyno(Part::Spare, UNKNOWN);
        spare.signal(Signal::KILL);
    }
}

/// The dyno of a spare supervisor that was killed, if it had got one.
pub const UNKNOWN: &str = "unknown";

/// Has something happen at fail points, now at this, now at that, until it is told to stop.
pub fn arm_points(history: &History, mut random: Random, stop: &AtomicBool) {
    let Some(points) = history.points() else {
        return;
    };
    while !stop.load(Ordering::SeqCst) {
        // Not a guess at how long something takes: this is how often it strikes.
        thread::sleep(Duration::from_millis(random.below(250)));
        match is_quiet(history) {
            true => points.disarm(),
            false => arm(points, &mut random),
        }
    }
    points.disarm();
}

/// Has servers of another kind take over, again and again, until it is told to stop: one in the foreground is left the sockets
/// and the lock by the one before. Returns how many were started.
pub fn take_over(host: &Host, history: &History, mut random: Random, stop: &AtomicBool) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) {
        // Neither is a guess at how long something takes: this is how often one comes, and how long it stays.
        thread::sleep(Duration::from_millis(random.below(3000)));
        let said = fs::File::options()
            .append(true)
            .create(true)
            .open(host.state().join("server.log"))
            .unwrap();
        history.takes_over();
        // Not into pipes: what it starts goes on when it has ended, and has them, too.
        let next = host.dyno(&host.path(), &["server"]);
        let next = next.stdout(nothing()).stderr(said).start();
        thread::sleep(Duration::from_millis(random.below(2000)));
        history.kill_of_server(Part::Server, "that took over");
        let signal = *random.one_of(&[Signal::TERM, Signal::KILL]);
        next.signal(signal);
        next.finish();
        count += 1;
    }
    count
}

/// Has something happen at a fail point, to the process that comes there next.
fn arm(points: &FailPoints, random: &mut Random) {
    let (point, fault) = random.one_of(POINTS);
    let errnos = [Errno::IO, Errno::NOSPC, Errno::MFILE, Errno::NOMEM];
    let errno = match (fault, random.below(3)) {
        (Fault::Killed, _) | (_, 0) => None,
        _ => Some(*random.one_of(&errnos)),
    };
    points.arm(point, errno);
}

/// Lets the server have hardly any more descriptors for a moment.
fn starve(host: &Host, history: &History, random: &mut Random) {
    let Some(server) = host.server() else { return };
    let Some(pid) = Pid::from_raw(server.pid) else {
        return;
    };
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid)).map_or(0, Iterator::count);
    let few = Rlimit {
        current: Some(open as u64 + random.below(4)),
        ..getrlimit(Resource::Nofile)
    };
    let time = Duration::from_millis(random.below(300));
    history.starves(time);
    if let Ok(before) = prlimit(Some(pid), Resource::Nofile, few) {
        // Not a guess at how long something takes: this is how long it lasts.
        thread::sleep(time);
        let _ = prlimit(Some(pid), Resource::Nofile, before);
    }
}

/// Everything at once.
fn kill_all(host: &Host, clients: &Clients, history: &History) {
    history.note("everything at once");
    let clients = clients.lock().unwrap();
    let (mut supervisors, mut inits) = (host.supervisors(), host.inits());
    let (server, spare) = (host.server(), host.spare());
    for number in clients.keys() {
        history.kill_of_client(*number);
    }
    supervisors.retain(|supervisor| {
        let dyno = host.dyno_of(supervisor.pid);
        if let Some(dyno) = &dyno {
            history.kill_of_dyno(Part::Supervisor, dyno);
        }
        dyno.is_some()
    });
    inits.retain(|init| {
        let dyno = parent_of(init.pid).and_then(|supervisor| host.dyno_of(supervisor));
        if let Some(dyno) = &dyno {
            history.kill_of_dyno(Part::Init, dyno);
        }
        dyno.is_some()
    });
    if server.is_some() {
        history.kill_of_server(Part::Server, "by SIGKILL");
    }
    if spare.is_some() {
        history.kill_of_dyno(Part::Spare, UNKNOWN);
    }
    let clients = clients.values();
    for process in supervisors
        .iter()
        .chain(&inits)
        .chain(&server)
        .chain(&spare)
        .chain(clients)
    {
        process.signal(Signal::KILL);
    }
}
