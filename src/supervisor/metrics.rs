//! What the dyno takes of processors and memory, in the log, if its app has `log-runtime-metrics` switched on.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use mio::Token;
use rustix::process::Pid;

use super::Supervisor;
use crate::kernel::processes;
use crate::model::log_line::{self, LogSource};
use crate::model::runtime_metrics::{LoadAverages, MetricsSource};
use crate::wire::control::DynoSpec;
use crate::wire::reactor::Reactor;

/// How often it is looked how many threads run: as often as the kernel does it for the host.
const LOOK: Duration = Duration::from_secs(5);

/// The metrics of the dyno: see the [module](self).
#[derive(Debug)]
pub(super) struct Metrics {
    is_on: bool,
    /// How often the log has them.
    interval: Duration,
    load: LoadAverages,
    looked_at: Instant,
    logged_at: Instant,
    token: Token,
}

impl Metrics {
    pub fn new(spec: &DynoSpec, reactor: &mut Reactor) -> Self {
        let now = Instant::now();
        Self {
            is_on: spec.runtime_metrics,
            interval: spec.measure_interval,
            load: LoadAverages::default(),
            looked_at: now,
            logged_at: now,
            token: reactor.token(),
        }
    }

    /// The token of deadlines at which [`Supervisor::look_at_metrics`] is to be called.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Begins with a dyno that has just been built.
    pub fn begin(&mut self, reactor: &mut Reactor) {
        if self.is_on {
            let now = Instant::now();
            (self.looked_at, self.logged_at) = (now, now);
            reactor.set_deadline(self.token, now + LOOK.min(self.interval));
        }
    }

    /// Looks how many threads of the dyno run; whether the log is to have it now.
    fn look(&mut self, init: Pid, reactor: &mut Reactor) -> bool {
        let now = Instant::now();
        let running = processes::running_below(init);
        self.load.add(running, now - self.looked_at);
        self.looked_at = now;
        reactor.set_deadline(self.token, now + LOOK.min(self.interval));
        let is_due = now - self.logged_at >= self.interval;
        if is_due {
            self.logged_at = now;
        }
        is_due
    }
}

impl Supervisor {
    /// A deadline of the dyno's metrics.
    pub(super) fn look_at_metrics(&mut self) {
        let Some(sandbox) = &self.sandbox else { return };
        let init = sandbox.pid;
        if !self.metrics.look(init, &mut self.reactor) || !self.life.has_command() {
            return;
        }
        let source = MetricsSource {
            name: &self.spec.name,
            dyno: &self.spec.id,
            app: &self.spec.app_id,
        };
        let lines = [
            source.load(self.metrics.load),
            source.memory(self.memory.sample(init)),
        ];
        let (mut text, now) = (Vec::new(), Timestamp::now());
        for line in lines {
            log_line::append(
                &mut text,
                now,
                LogSource::Heroku,
                &self.spec.name,
                line.as_bytes(),
            );
        }
        // A full disk costs log lines, not the dyno.
        let _ = self.log.append(&text);
    }
}
