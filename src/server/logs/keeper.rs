//! Keeps the apps' logs within their limits where no writer does: those that are not written to, or only now and then.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::tell;
use crate::log_file;
use crate::model::log_limits::LogLimits;
use crate::server::api_loop::application::{Application, Ctx};
use crate::wire::reactor::{Event, Reactor, Token};

/// How many times a line is looked at before it is too old.
const TIMES: u32 = 24;

/// The shortest and the longest time between two looks.
const BETWEEN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// See the [module](self).
#[derive(Debug)]
pub struct LogKeeper {
    logs: PathBuf,
    limits: LogLimits,
    token: Token,
}

impl LogKeeper {
    /// For the folders in `logs`; the first look is due at once.
    pub fn new(logs: PathBuf, limits: LogLimits, reactor: &mut Reactor) -> Self {
        let token = reactor.token();
        reactor.set_deadline(token, Instant::now());
        Self {
            logs,
            limits,
            token,
        }
    }

    /// Whether `event` means that it is time to [`look`](Self::look).
    pub fn came(&self, event: Event) -> bool {
        event == Event::Deadline(self.token)
    }

    /// Has a worker see to every log.
    pub fn look<A: Application>(&self, ctx: &mut Ctx<A>) {
        let pause = (self.limits.age / TIMES).clamp(BETWEEN.0, BETWEEN.1);
        ctx.reactor()
            .set_deadline(self.token, Instant::now() + pause);
        let (logs, limits) = (self.logs.clone(), self.limits);
        ctx.work_and_forget(move || {
            for folder in fs::read_dir(logs).into_iter().flatten().flatten() {
                if let Err(error) = log_file::enforce(&folder.path(), limits) {
                    tell!(
                        "cannot clear up the log `{}`: {error}",
                        folder.path().display()
                    );
                }
            }
        });
    }
}
