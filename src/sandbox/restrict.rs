//! What is taken from a dyno's processes beside its walls: quotas of the kernel, limits, system calls, ports, what others
//! listen on, and the order in which the kernel ends processes when memory runs out.
//!
//! Not every kernel has all of it, and a container may refuse it. A dyno starts all the same; what it lacks then is a
//! [`Gap`], which `dyno doctor` shows with what a hostile dyno can do by it.
//!
//! PID 1 calls this while it sets itself up ([`quotas`]) and before it starts a command ([`Restrictions::take`]), and so
//! does each process that is about to become one ([`Restrictions::limit`]).

mod filter;
mod landlock;
pub mod quotas;

use std::fmt;
use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::CapabilitySet;

/// How much more of all memory the kernel takes a dyno's process to use when it chooses which one to end, in thousandths. So
/// a dyno goes before the server, and before whatever else does not fill most of the memory. Below 1,000, so that programs
/// inside can still say which of their own processes are to go first.
const MEMORY_HANDICAP: i32 = 800;

/// The hard and soft limit on core dumps, in bytes. Not 0, at which a handler of the host's to which dumps are piped runs all
/// the same, as root, on what a dyno made (core(5)). At 1 the kernel starts none, and writes no file, which would be too short.
const CORE_DUMP: u64 = 1;

/// What the kernel counts for the server's user, too, whatever the dyno's own user is: root on the host cannot make a timer while one dyno has
/// all of root's pending signals. Of each a dyno has a quarter of what the server may have.
const SHARED: [Resource; 3] = [Resource::Sigpending, Resource::Msgqueue, Resource::Memlock];

/// How many parts the server's limit on open files has, of which a dyno's processes may have one. The kernel lets a process pass on a descriptor
/// as long as those under way of its user's are no more than its own limit. So the server and supervisors still can when an ordinary
/// user's dyno no more can.
const PARTS_OF_OPEN_FILES: u64 = 2;

/// Something that is taken from a dyno's processes beside its walls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restriction {
    /// They make no system calls that only root needs.
    Calls,
    /// They reach no abstract Unix socket of others.
    Sockets,
    /// They signal no process of others. Walls do that, too.
    Signals,
    /// They listen on no port but the dyno's own, and free ones.
    Ports,
    /// They make no namespaces.
    Namespaces,
    /// They have a share of the host's file watches.
    Watches,
    /// They are as many as the dyno's size allows.
    Processes,
    /// They go first when memory runs out.
    MemoryOrder,
}

impl Restriction {
    /// All of them, in the order in which people see them.
    pub const ALL: [Self; 8] = [
        Self::Calls,
        Self::Sockets,
        Self::Signals,
        Self::Ports,
        Self::Namespaces,
        Self::Watches,
        Self::Processes,
        Self::MemoryOrder,
    ];

    /// What it keeps a hostile dyno from.
    pub fn attack(self) -> &'static str {
        match self {
            Self::Calls => "reaching parts of the kernel that are for root, and past walls in it",
            Self::Sockets => {
                "talking to the host's programs at abstract Unix sockets (some of D-Bus and X), as their user"
            }
            Self::Signals => "signalling processes that are not its own",
            Self::Ports => "listening where the host's programs or other dynos do or will",
            Self::Namespaces => {
                "making user namespaces, and in them reaching parts of the kernel that are for root"
            }
            Self::Watches => {
                "taking all file watches (inotify) of the server's user, so that nothing else can watch files"
            }
            Self::Processes => "starting processes until nobody can start any",
            Self::MemoryOrder => {
                "having the kernel end the server, or dynos that use little, when memory runs out"
            }
        }
    }
}

/// A restriction that is not to be had here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Which one.
    pub restriction: Restriction,
    /// Why it is not.
    pub why: String,
}

impl Gap {
    /// A gap, and why it is there.
    pub fn new(restriction: Restriction, why: impl fmt::Display) -> Self {
        Self {
            restriction,
            why: why.to_string(),
        }
    }
}

/// What is taken from the commands of one dyno.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// How many processes and threads the dyno may have. None where the kernel would count others, too.
    pub processes: Option<u32>,
    /// The only TCP port, beside free ones that the kernel chooses, on which they may listen. None: any.
    pub port: Option<u16>,
}

impl Restrictions {
    /// Takes from the calling process, which is the dyno's init, and from all that it will start, what init does without
    /// itself. To be called once, with `no_new_privs`. Commands must share what this makes: they could not signal each other else.
    pub fn take(self) -> Vec<Gap> {
        // First, as the filter only pretends to change this limit.
        let _ = set(Resource::Core, CORE_DUMP, CORE_DUMP);
        let filtered = filter::install();
        let gap = filtered.err().map(|why| Gap::new(Restriction::Calls, why));
        let gaps = landlock::restrict(self.port);
        gaps.into_iter().chain(gap).collect()
    }

    /// Limits the calling process, which is about to become a command, and all that it will start. Init itself has no
    /// limits, so that it can start a command of `run:inside` in a dyno that has all the processes it may have.
    ///
    /// # Errors
    /// When the kernel refuses to lower a limit.
    pub fn limit(self) -> io::Result<()> {
        if let Some(processes) = self.processes {
            // PID 1 counts, too.
            let most = u64::from(processes) + 1;
            let soft = getrlimit(Resource::Nproc).current.unwrap_or(u64::MAX);
            set(Resource::Nproc, soft.min(most), most)?;
        }
        for resource in SHARED {
            share(resource, 4)?;
        }
        share(Resource::Nofile, PARTS_OF_OPEN_FILES)
    }
}

/// Makes ahead what each dyno's init needs, so that a start need not wait for it.
pub fn prepare() {
    filter::prepare();
}

/// Lowers a limit to one of so many parts of it. None is none.
fn share(resource: Resource, parts: u64) -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(resource);
    match maximum {
        Some(maximum) => set(resource, current.unwrap_or(u64::MAX), maximum / parts),
        None => Ok(()),
    }
}

/// Sets the limits, neither above the hard limit that was.
fn set(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum.unwrap_or(u64::MAX).min(hard);
    let limit = Rlimit {
        current: Some(soft.min(hard)),
        maximum: Some(hard),
    };
    Ok(setrlimit(resource, limit)?)
}

/// Has the kernel end a process before others when memory runs out; `process` is its folder in `/proc`. What it starts
/// inherits that. Not every kernel lets this be written: see [`order_gap`].
pub fn end_first(process: &str) {
    let file = format!("{process}/oom_score_adj");
    if handicap(&file) < MEMORY_HANDICAP {
        let _ = fs::write(&file, MEMORY_HANDICAP.to_string());
    }
}

fn handicap(file: &str) -> i32 {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.trim_end().parse().unwrap_or(0)
}

/// Whether a process of a dyno can change what [`end_first`] did, asked by a dyno's init.
pub fn order_gap(changeable: bool) -> Option<Gap> {
    let gap = |why| Some(Gap::new(Restriction::MemoryOrder, why));
    match handicap("/proc/self/oom_score_adj") < MEMORY_HANDICAP {
        true => gap("the kernel does not let it be said"),
        false if changeable => {
            gap("a process can take it back, as the server has no CAP_SYS_RESOURCE on the host")
        }
        false => None,
    }
}

/// Whether what [`end_first`] does can be taken back by whom it is done to: the kernel heeds only a caller that has
/// CAP_SYS_RESOURCE on the host, and not in a container's user namespace.
pub fn can_be_taken_back() -> bool {
    let whole = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let on_the_host = whole.split_whitespace().eq(["0", "0", "4294967295"]);
    let may = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE));
    !(on_the_host && may)
}
