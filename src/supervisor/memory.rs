//! How much memory the dyno has: measured now and then, and noticed at once when it is at its limit.
//!
//! By its control group, where the host gives one: then the kernel holds the limit. Elsewhere its processes are looked
//! at, more often the more they have; a dyno that fills memory faster than that may pass its limit before it is killed.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use mio::{Interest, Token};
use rustix::process::Pid;

use super::Supervisor;
use super::folder::GROUPS;
use crate::error::tell;
use crate::kernel::cgroup::{Group, GroupParent, LimitWatch};
use crate::kernel::fail_point;
use crate::kernel::open_files::seen;
use crate::kernel::processes;
use crate::model::dyno::Spent;
use crate::model::dyno::life::{Event, MemoryRule};
use crate::model::runtime_metrics::MemorySample;
use crate::wire::control::DynoSpec;
use crate::wire::reactor::Reactor;

/// The pauses between two looks at the processes of a dyno without a control group: when they have much, and when little.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// The memory of the dyno: see the [module](self).
#[derive(Debug)]
pub(super) struct Memory {
    group: Option<Group>,
    watch: Option<LimitWatch>,
    rule: MemoryRule,
    /// The most that it was found to have, in bytes.
    peak: u64,
    /// How often the log says that it is too much.
    interval: Duration,
    /// When it is to say so next.
    next_report: Option<Instant>,
    watch_token: Token,
    timer_token: Token,
}

impl Memory {
    /// The memory of a dyno that has no process yet.
    pub fn new(spec: &DynoSpec, reactor: &mut Reactor) -> Self {
        Self {
            group: None,
            watch: None,
            rule: spec.rules.memory,
            peak: 0,
            interval: spec.measure_interval,
            next_report: None,
            watch_token: reactor.token(),
            timer_token: reactor.token(),
        }
    }

    /// The token of events and deadlines at which [`Supervisor::look_at_memory`] is to be called.
    pub fn knows(&self, token: Token) -> bool {
        [self.watch_token, self.timer_token].contains(&token)
    }

    /// Begins with a dyno that is in this control group. Without one, the processes are looked at.
    pub fn begin(&mut self, group: Option<Group>, reactor: &mut Reactor) {
        self.group = group;
        self.watch = self.group.as_ref().and_then(|group| group.watch().ok());
        if let Some(watch) = &self.watch {
            let interest = match watch.is_priority() {
                true => Interest::PRIORITY,
                false => Interest::READABLE,
            };
            let _ = reactor.register(watch.fd(), self.watch_token, interest);
        }
        let first = match self.group {
            Some(_) => self.interval,
            None => PAUSES.0.min(self.interval),
        };
        reactor.set_deadline(self.timer_token, Instant::now() + first);
    }

    /// Whether the kernel has killed a process of the dyno because its group was at the limit.
    fn has_killed(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.killed() > 0)
    }

    /// What the processes have now, in bytes.
    fn measure(&self, init: Pid) -> u64 {
        let of_group = self.group.as_ref().and_then(|group| group.memory().ok());
        match of_group {
            Some(memory) => memory.resident + memory.swap,
            None => processes::memory_below(init, self.rule.quota / 2),
        }
    }

    /// What the dyno has taken until now, those of its processes that have ended included. `init`: its init, if that has not
    /// been waited for.
    pub fn spent(&self, init: Option<Pid>) -> Spent {
        let of_group = self.group.as_ref().map(Group::spent);
        let io = processes::io_of_children().filter(|_| init.is_none());
        let of_processes = Spent {
            peak_memory: Some(self.peak).filter(|peak| *peak > 0),
            cpu_micros: Some(match init {
                Some(init) => processes::cpu_below(init),
                None => processes::cpu_of_children(),
            }),
            bytes_read: io.map(|(read, _)| read),
            bytes_written: io.map(|(_, written)| written),
        };
        of_group.unwrap_or_default().or(of_processes)
    }

    /// What the processes have now, for the log.
    pub fn sample(&self, init: Pid) -> MemorySample {
        let quota = self.rule.quota;
        match self.group.as_ref().and_then(|group| group.memory().ok()) {
            Some(memory) => MemorySample {
                resident: memory.resident,
                swap: memory.swap,
                cache: Some(memory.cache),
                paged: memory.paged,
                quota,
            },
            None => {
                let (resident, swap) = processes::rough_memory_below(init);
                MemorySample {
                    resident,
                    swap,
                    quota,
                    ..MemorySample::default()
                }
            }
        }
    }

    /// What this much memory means for the dyno, if it means anything now, and how long until the next look.
    fn judge(&mut self, used: u64, now: Instant) -> (Option<Event>, Duration) {
        let pause = match self.group {
            Some(_) => self.interval,
            None if used > self.rule.quota / 4 => PAUSES.0.min(self.interval),
            None => PAUSES.1.min(self.interval),
        };
        if used > self.rule.limit {
            return (Some(Event::MemoryExhausted(used)), pause);
        }
        let is_due = self.next_report.is_none_or(|at| at <= now);
        let event = (used > self.rule.quota && is_due).then(|| {
            self.next_report = Some(now + self.interval);
            Event::MemoryMeasured(used)
        });
        (event, pause)
    }

    /// Ends the group. All processes of the dyno must have been killed. The group of all dynos goes with a server; if there is
    /// none, with the last of them.
    pub fn end(&mut self, spec: &DynoSpec, is_alone: bool) {
        self.watch = None;
        if let Some(group) = self.group.take() {
            match group.remove() {
                Ok(()) if is_alone => spec.groups.iter().for_each(GroupParent::remove_if_empty),
                Ok(()) => {}
                Err(error) => tell!("{}: cannot remove its control group: {error}", spec.name),
            }
        }
    }
}

/// Makes the dyno's control group, if it is to have one and the kernel does not refuse it, and puts `init` into it, which
/// has started nothing yet.
pub(super) fn enter_group(spec: &DynoSpec, init: Pid) -> Option<Group> {
    fail_point::reach("supervisor.forked");
    let parent = spec.groups.as_ref()?;
    // Before there is one, for a server, if this process is killed.
    let place = serde_json::to_vec(parent).unwrap_or_default();
    let _ = fs::write(spec.folder.join(GROUPS), place);
    let group = parent.enter(&spec.id, spec.group_limits, init);
    fail_point::reach("supervisor.group_made");
    group
        .inspect_err(|error| tell!("{}: no control group: {error}", spec.name))
        .ok()
}

/// Removes the control group of the dyno in `folder`, whose supervisor was killed; its processes have ended.
///
/// # Errors
/// When this process cannot look where it is now.
pub(super) fn remove_group(folder: &Path) -> io::Result<()> {
    let place = seen(fs::read(folder.join(GROUPS)))?;
    let place = place.and_then(|place| serde_json::from_slice::<GroupParent>(&place).ok());
    let id = folder.file_name().and_then(|name| name.to_str());
    if let Some((parent, id)) = place.zip(id) {
        match parent.group(id).remove() {
            Ok(()) => parent.remove_if_empty(),
            Err(error) => tell!("{id}: cannot remove its control group: {error}"),
        }
    }
    Ok(())
}

impl Supervisor {
    /// An event or a deadline of the dyno's memory.
    pub(super) fn look_at_memory(&mut self) {
        if let Some(watch) = &self.memory.watch {
            watch.take();
        }
        self.tell_exhausted();
        let Some(sandbox) = &self.sandbox else { return };
        let (used, now) = (self.memory.measure(sandbox.pid), Instant::now());
        self.memory.peak = self.memory.peak.max(used);
        let (event, pause) = self.memory.judge(used, now);
        self.reactor
            .set_deadline(self.memory.timer_token, now + pause);
        event.into_iter().for_each(|event| self.step(event));
    }

    /// Tells the dyno's life if the kernel has killed a process of it for its memory. To be called before a command's
    /// end is told, which may have come of that.
    pub(super) fn tell_exhausted(&mut self) {
        if self.life.has_command() && self.memory.has_killed() {
            self.step(Event::MemoryExhausted(self.memory.rule.limit));
        }
    }
}
