//! What has happened, in order, for a reader who has to find out why something is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::harness::FailPoints;
use crate::harness::fail_points::Hit;

/// What may be killed, or fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Client,
    Supervisor,
    Init,
    Spare,
    Server,
    /// A call of the server's, or of a dyno's supervisor.
    Call,
    /// Everything that takes a descriptor of the server's.
    Descriptors,
}

/// See the [module](self).
#[derive(Debug)]
pub struct History {
    began: Instant,
    /// The same in microseconds of the monotonic clock.
    began_micros: i64,
    points: Option<FailPoints>,
    inner: Mutex<Inner>,
}

/// How long a server may be troubled by what is over.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// How long a server that takes over may take for it, and stays.
const TAKES_OVER: Duration = Duration::from_secs(5);

/// How long after a dyno was killed another may not have taken its place.
const REPLACED: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
struct Inner {
    lines: Vec<String>,
    killed: BTreeMap<Part, u64>,
    /// Which parts of which dynos, by their ids.
    disturbed: BTreeMap<String, BTreeSet<Part>>,
    clients: BTreeSet<usize>,
    /// The command lines of jobs, by their processes, and when they began: a number is used again within seconds.
    processes: BTreeMap<(i32, Duration), usize>,
    /// When a server was killed, or told to stop.
    servers: Vec<Duration>,
    /// When one began to take over.
    successors: Vec<Duration>,
    /// When a call of a server's was made to fail, or it could have no more descriptors: from and to.
    troubles: Vec<(Duration, Duration)>,
    /// Those of them in which it was short of descriptors.
    starved: Vec<(Duration, Duration)>,
    /// The processes of commands that were killed at a fail point, and when.
    commands: Vec<(Duration, i32)>,
    /// When a dyno was killed.
    dynos: Vec<Duration>,
    /// How many of the hits of fail points are in here already.
    hits: usize,
    /// How often a server could not write to a log.
    unlogged: usize,
}

impl History {
    pub fn new(points: Option<FailPoints>) -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        Self {
            began: Instant::now(),
            began_micros: now.tv_sec * 1_000_000 + now.tv_nsec / 1_000,
            points,
            inner: Mutex::default(),
        }
    }

    pub fn points(&self) -> Option<&FailPoints> {
        self.points.as_ref()
    }

    /// Takes in what has happened at fail points.
    fn catch_up(&self) {
        let Some(points) = &self.points else { return };
        let hits = points.hits();
        let mut inner = self.inner.lock().unwrap();
        for hit in &hits[inner.hits.min(hits.len())..] {
            let since = u64::try_from(hit.micros - self.began_micros).unwrap_or(0);
            inner.take(hit, Duration::from_micros(since));
            inner.hits += 1;
        }
    }

    /// This process, which was started after `began`, is the command line of a job.
    pub fn client_of(&self, job: usize, pid: i32, began: Duration) {
        let mut inner = self.inner.lock().unwrap();
        inner.processes.insert((pid, began), job);
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn note(&self, what: &str) {
        let line = line(self.elapsed(), what);
        self.inner.lock().unwrap().lines.push(line);
    }

    /// To be told before it is done.
    pub fn kill_of_dyno(&self, part: Part, dyno: &str) {
        self.count(part, dyno);
        let at = self.elapsed();
        let mut inner = self.inner.lock().unwrap();
        inner.disturb(part, dyno, at);
    }

    /// A server can have no more descriptors for so long. To be told before it is done.
    pub fn starves(&self, time: Duration) {
        self.count(Part::Descriptors, "of the server");
        let now = self.elapsed();
        let trouble = (now, now + time + AFTERWARDS);
        let mut inner = self.inner.lock().unwrap();
        inner.troubles.push(trouble);
        inner.starved.push(trouble);
    }

    /// Whether a server could have no more descriptors within this time: then it cannot write to a log either.
    pub fn server_starved(&self, (from, to): (Duration, Duration)) -> bool {
        let inner = self.inner.lock().unwrap();
        let mut starved = inner.starved.iter();
        starved.any(|(began, over)| *began <= to && *over >= from)
    }

    /// To be told before it is done.
    pub fn kill_of_client(&self, job: usize) {
        self.count(Part::Client, &format!("job-{job}"));
        self.inner.lock().unwrap().clients.insert(job);
    }

    /// To be told before it is done.
    pub fn kill_of_server(&self, part: Part, how: &str) {
        self.count(part, how);
        let at = self.elapsed();
        self.inner.lock().unwrap().servers.push(at);
    }

    /// A server takes over from the one before, which leaves in peace. To be told before it is done.
    pub fn takes_over(&self) {
        self.note("a server takes over");
        let at = self.elapsed();
        self.inner.lock().unwrap().successors.push(at);
    }

    fn count(&self, part: Part, whose: &str) {
        self.note(&format!("kill {part:?} {whose}"));
        *self.inner.lock().unwrap().killed.entry(part).or_default() += 1;
    }

    pub fn kills(&self) -> u64 {
        self.catch_up();
        self.inner.lock().unwrap().killed.values().sum()
    }

    pub fn count_of(&self, part: Part) -> u64 {
        self.catch_up();
        let inner = self.inner.lock().unwrap();
        inner.killed.get(&part).copied().unwrap_or(0)
    }

    pub fn summary(&self) -> String {
        let inner = self.inner.lock().unwrap();
        let parts = inner.killed.iter();
        let parts: Vec<_> = parts
            .map(|(part, count)| format!("{part:?} {count}"))
            .collect();
        parts.join(", ")
    }

    /// Which parts of this dyno were killed.
    pub fn disturbed(&self, dyno: &str) -> BTreeSet<Part> {
        self.catch_up();
        let inner = self.inner.lock().unwrap();
        inner.disturbed.get(dyno).cloned().unwrap_or_default()
    }

    pub fn client_was_killed(&self, job: usize) -> bool {
        self.catch_up();
        let inner = self.inner.lock().unwrap();
        let mut commands = inner.commands.iter();
        inner.clients.contains(&job) || commands.any(|killed| inner.job_of(killed) == Some(job))
    }

    /// Whether a server was ended within this time, or just before: it is there for a moment still.
    pub fn server_was_ended(&self, (from, to): (Duration, Duration)) -> bool {
        self.catch_up();
        let from = from.saturating_sub(AFTERWARDS);
        let inner = self.inner.lock().unwrap();
        inner.servers.iter().any(|at| (from..=to).contains(at))
    }

    /// Whether a server was ended within this time, or something that it did was made to fail.
    pub fn server_had_trouble(&self, (from, to): (Duration, Duration)) -> bool {
        let ended = self.server_was_ended((from, to));
        let inner = self.inner.lock().unwrap();
        let mut troubles = inner.troubles.iter();
        ended || troubles.any(|(began, over)| *began <= to && *over >= from)
    }

    /// Whether something was done within this time that explains why a command failed that is no job's.
    pub fn explains(&self, (from, to): (Duration, Duration)) -> bool {
        let trouble = self.server_had_trouble((from, to));
        let inner = self.inner.lock().unwrap();
        let mut commands = inner.commands.iter();
        trouble
            || commands
                .any(|killed| (from..=to).contains(&killed.0) && inner.job_of(killed).is_none())
    }

    /// Whether something was done within this time that explains why files were not taken whole: also by a server that left to
    /// another, which refuses no client, but waits for no upload.
    pub fn explains_a_cut_upload(&self, (from, to): (Duration, Duration)) -> bool {
        let explained = self.explains((from, to));
        let from = from.saturating_sub(TAKES_OVER);
        let inner = self.inner.lock().unwrap();
        explained || inner.successors.iter().any(|at| (from..=to).contains(at))
    }

    /// Whether a dyno that is started again and again may not have been there within this time.
    pub fn explains_a_missing_dyno(&self, (from, to): (Duration, Duration)) -> bool {
        self.catch_up();
        let from = from.saturating_sub(REPLACED);
        let inner = self.inner.lock().unwrap();
        inner.dynos.iter().any(|at| (from..=to).contains(at))
    }

    /// How often a server could not write to a log.
    pub fn unlogged(&self) -> usize {
        self.catch_up();
        self.inner.lock().unwrap().unlogged
    }

    /// All of it, in order, or what is said of this word alone.
    pub fn text(&self, about: Option<&str>) -> String {
        self.catch_up();
        let inner = self.inner.lock().unwrap();
        let wanted = |line: &&String| about.is_none_or(|word| line.contains(word));
        let mut lines: Vec<_> = inner.lines.iter().filter(wanted).cloned().collect();
        lines.sort();
        lines.join("\n")
    }
}

fn line(at: Duration, what: &str) -> String {
    format!("{:9.4} {what}", at.as_secs_f64())
}

impl Inner {
    /// The job whose command line was killed, if it may be one's: the last that began before with this process.
    fn job_of(&self, (at, pid): &(Duration, i32)) -> Option<usize> {
        let mut before = self.processes.range((*pid, Duration::ZERO)..=(*pid, *at));
        before.next_back().map(|(_, job)| *job)
    }

    fn disturb(&mut self, part: Part, dyno: &str, at: Duration) {
        let parts = self.disturbed.entry(dyno.to_owned()).or_default();
        parts.insert(part);
        self.dynos.push(at);
    }

    fn take(&mut self, hit: &Hit, at: Duration) {
        self.lines.push(line(at, &format!("{hit:?}")));
        let killed = hit.errno.is_none();
        let part = match (&*hit.whom, killed) {
            ("server", true) => {
                self.servers.push(at);
                Part::Server
            }
            ("server", false) => {
                self.troubles.push((at, at));
                self.unlogged += usize::from(hit.point == "log.appending");
                Part::Call
            }
            ("command", _) => {
                self.commands.push((at, hit.pid));
                Part::Client
            }
            (dyno, killed) => {
                let part = match (killed, hit.point.starts_with("init.")) {
                    (false, _) => Part::Call,
                    (true, true) => Part::Init,
                    (true, false) => Part::Supervisor,
                };
                self.disturb(part, dyno, at);
                part
            }
        };
        *self.killed.entry(part).or_default() += 1;
    }
}
