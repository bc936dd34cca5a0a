//! What has happened, in order, for a reader who has to find out why something is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What may be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Client,
    Supervisor,
    Init,
    Spare,
    Server,
}

/// See the [module](self).
#[derive(Debug)]
pub struct History {
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: Vec<String>,
    killed: BTreeMap<Part, u64>,
    /// Which parts of which dynos, by their ids.
    disturbed: BTreeMap<String, BTreeSet<Part>>,
    clients: BTreeSet<usize>,
    /// When a server was killed, or told to stop.
    servers: Vec<Duration>,
}

impl History {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            inner: Mutex::default(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn note(&self, what: &str) {
        let at = self.elapsed();
        let line = format!("{:9.4} {what}", at.as_secs_f64());
        self.inner.lock().unwrap().lines.push(line);
    }

    /// To be told before it is done.
    pub fn kill_of_dyno(&self, part: Part, dyno: &str) {
        self.count(part, dyno);
        let mut inner = self.inner.lock().unwrap();
        inner
            .disturbed
            .entry(dyno.to_owned())
            .or_default()
            .insert(part);
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

    fn count(&self, part: Part, whose: &str) {
        self.note(&format!("kill {part:?} {whose}"));
        *self.inner.lock().unwrap().killed.entry(part).or_default() += 1;
    }

    pub fn kills(&self) -> u64 {
        self.inner.lock().unwrap().killed.values().sum()
    }

    pub fn count_of(&self, part: Part) -> u64 {
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
        let inner = self.inner.lock().unwrap();
        inner.disturbed.get(dyno).cloned().unwrap_or_default()
    }

    pub fn client_was_killed(&self, job: usize) -> bool {
        self.inner.lock().unwrap().clients.contains(&job)
    }

    /// Whether a server was ended within this time.
    pub fn server_was_ended(&self, (from, to): (Duration, Duration)) -> bool {
        let inner = self.inner.lock().unwrap();
        inner.servers.iter().any(|at| (from..=to).contains(at))
    }

    /// All of it, or what is said of this word alone.
    pub fn text(&self, about: Option<&str>) -> String {
        let inner = self.inner.lock().unwrap();
        let wanted = |line: &&String| about.is_none_or(|word| line.contains(word));
        let lines: Vec<_> = inner.lines.iter().filter(wanted).cloned().collect();
        lines.join("\n")
    }
}
